//! A Ceph object gateway on loopback: monitor, one memory-backed disk, gateway, in a temporary folder.
//!
//! Ceph 16 forgives nothing, which makes it the S3 dialect to test against. `memstore` forgets everything when
//! it is killed. All tests of one process share one server, each in a bucket of its own; the three daemons
//! die with that process, however it ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Key and secret of the one user, as the configuration writes them.
pub const CREDENTIALS: &str = "AKTEST:SKTEST";
/// SHA-256 of nothing: what a signed request without a body says of it.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Ceph {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
    watcher: Option<Child>,
    endpoint: String,
}

impl Ceph {
    /// The server that the tests running now share; started for the first, killed after the last.
    pub fn shared() -> Arc<Ceph> {
        static SHARED: Mutex<Weak<Ceph>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Ceph::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes an empty bucket of a name that no other test has.
    pub fn bucket(&self) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/{name}", self.endpoint);
        let sigv4 = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", CREDENTIALS];
        let digest = format!("x-amz-content-sha256: {EMPTY_SHA256}");
        run(Command::new("curl").args(["-sS", "-f", "-X", "PUT", "-H", &digest]).args(sigv4).arg(url));
        name
    }

    fn start() -> Ceph {
        let folder = tempfile::tempdir().unwrap();
        let (monitor_port, port) = (free_port(), free_port());
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut ceph = Ceph { folder, daemons: Vec::new(), watcher: None, endpoint };
        ceph.prepare(monitor_port);
        ceph.daemon("ceph-mon", &["-i", "a"]);
        ceph.add_disk();
        ceph.daemon("ceph-osd", &["-i", "0"]);
        await_that("the disk to come up", || ceph.ceph(&["osd", "stat"]).contains("1 up"));
        let frontend = format!("beast endpoint=127.0.0.1:{port}");
        ceph.daemon("radosgw", &["-n", "client.rgw.1", "--rgw-frontends", &frontend]);
        await_that("the gateway to answer", || {
            let answer = Command::new("curl").args(["-s", "-o", "/dev/null", &ceph.endpoint]).status();
            answer.is_ok_and(|status| status.success())
        });
        let user = ["--uid=test", "--display-name=test", "--access-key=AKTEST", "--secret-key=SKTEST"];
        run(Command::new("radosgw-admin").arg("-c").arg(ceph.conf()).args(["user", "create"]).args(user));
        ceph
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("ceph.conf")
    }

    fn prepare(&self, monitor_port: u16) {
        for name in ["mon", "osd", "run", "log", "crash"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        let fsid = uuid();
        let conf = include_str!("ceph.conf")
            .replace("@FOLDER@", &self.folder.path().display().to_string())
            .replace("@MONITOR@", &monitor_port.to_string())
            .replace("@FSID@", &fsid);
        fs::write(self.conf(), conf).unwrap();
        let keyring = self.path("keyring");
        let all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
        for (name, caps) in [
            ("mon.", &all[..3]),
            ("client.admin", &all[..]),
            ("osd.0", &["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"][..]),
            ("client.rgw.1", &["--cap", "mon", "allow rw", "--cap", "osd", "allow rwx"][..]),
        ] {
            let create = if keyring.exists() { &[][..] } else { &["--create-keyring"][..] };
            let tool = &mut Command::new("ceph-authtool");
            run(tool.arg(&keyring).args(create).args(["--gen-key", "-n", name]).args(caps));
        }
        let (map, monitor) = (self.path("monmap"), format!("[v2:127.0.0.1:{monitor_port}]"));
        let tool = &mut Command::new("monmaptool");
        run(tool.args(["--create", "--clobber", "--fsid", &fsid, "--addv", "a", &monitor]).arg(&map));
        let monitor = &mut Command::new("ceph-mon");
        run(monitor
            .args(["-i", "a", "--mkfs", "-c"])
            .arg(self.conf())
            .arg("--monmap")
            .arg(map)
            .arg("--keyring")
            .arg(keyring));
    }

    fn add_disk(&self) {
        let id = uuid();
        self.ceph(&["osd", "new", &id]);
        run(Command::new("ceph-osd").args(["-i", "0", "--mkfs", "--osd-uuid", &id, "-c"]).arg(self.conf()));
        self.ceph(&["osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h"]);
    }

    fn ceph(&self, words: &[&str]) -> String {
        run(Command::new("ceph").arg("-c").arg(self.conf()).args(["--connect-timeout", "20"]).args(words))
    }

    fn daemon(&mut self, program: &str, words: &[&str]) {
        let log = fs::File::create(self.path(&format!("log/{program}.out"))).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(self.conf()).arg("-f").args(words);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(command.spawn().unwrap());
        if let Some(mut before) = self.watcher.replace(watcher(&self.daemons, self.folder.path())) {
            before.kill().unwrap();
            before.wait().unwrap();
        }
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        // The gateway first: one that outlives its monitor hangs. Signal 9: there is nothing to save.
        for daemon in self.watcher.iter_mut().chain(self.daemons.iter_mut().rev()) {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A shell that waits for this process to end, however it does, and then kills what it has started. (Linux's
/// own signal for that comes when the *thread* that started a child ends, and the threads of tests do.)
fn watcher(daemons: &[Child], folder: &Path) -> Child {
    let script = "cat >/dev/null; folder=$1; shift; kill -9 \"$@\"; rm -rf \"$folder\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "watcher"]).arg(folder).args(daemons.iter().map(|daemon| daemon.id().to_string()));
    // Its standard input ends with this process. Not in our group, where Ctrl-C would end it first.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn uuid() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/uuid")).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
