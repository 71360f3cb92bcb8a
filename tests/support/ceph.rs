//! A Ceph object gateway on loopback: monitor, one memory-backed disk, gateway, in a temporary folder.
//!
//! Ceph 16, Debian 12's own, forgives nothing, which makes it the S3 dialect to test against. The newest one comes from
//! Debian's next release, unpacked and not installed: it does what AWS does. `memstore` forgets everything when it is
//! killed. All tests of one process share one server of each, each in a bucket of its own; the daemons die with
//! that process, however it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::ports::free_port;

/// Key and secret of the one user, as the configuration writes them.
pub const CREDENTIALS: &str = "AKTEST:SKTEST";
/// The name that the servers know themselves by: the first label before it is a bucket.
pub const HOST: &str = "s3.warmspare.test";
const PATIENCE: Duration = Duration::from_secs(60);

/// The ARN by which a policy names a user of these servers.
pub fn arn(user: &str) -> String {
    format!("arn:aws:iam:::user/{user}")
}

/// What a server keeps its objects in.
const MEMORY: &str = "osd objectstore = memstore\nmemstore device bytes = 17179869184";
/// A file that grows as far as it is written to. What is compressed takes less of it.
const DISK: &str = "osd objectstore = bluestore\nbluestore block create = true\nbluestore block size = 34359738368\n\
                    bluestore fsck on mount = false\nbluestore compression mode = force\nosd memory target = 1073741824";

/// A running server.
pub struct Ceph {
    programs: Programs,
    disk: &'static str,
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
    watcher: Option<Child>,
    endpoint: String,
    tls_port: u16,
    users: Mutex<BTreeSet<String>>,
}

fn share(shared: &'static Mutex<Weak<Ceph>>, programs: fn() -> Programs) -> Arc<Ceph> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Ceph::start(programs(), MEMORY));
        *shared = Arc::downgrade(&started);
        started
    })
}

impl Ceph {
    /// The Ceph 16 that the tests running now share; started for the first, killed after the last.
    pub fn shared() -> Arc<Ceph> {
        static SHARED: Mutex<Weak<Ceph>> = Mutex::new(Weak::new());
        share(&SHARED, Programs::installed)
    }

    /// The newest Ceph, likewise. The first time on a machine it is downloaded (150 MB).
    pub fn newest() -> Arc<Ceph> {
        static SHARED: Mutex<Weak<Ceph>> = Mutex::new(Weak::new());
        share(&SHARED, Programs::newest)
    }

    /// One more of the newest, for whoever needs two.
    pub fn another_newest() -> Arc<Ceph> {
        static SHARED: Mutex<Weak<Ceph>> = Mutex::new(Weak::new());
        share(&SHARED, Programs::newest)
    }

    /// A Ceph 16 for objects that fit into no memory: they are on a disk, compressed.
    pub fn with_a_disk() -> Ceph {
        Ceph::start(Programs::installed(), DISK)
    }

    /// The CPU time that its daemons have taken so far.
    pub fn cpu_seconds(&self) -> f64 {
        let of = |daemon: &Child| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let ticks = |number: usize| fields.get(number).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            (ticks(11) + ticks(12)) / 100.0
        };
        self.daemons.iter().map(of).sum()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The port at which it speaks TLS, under the names `127.0.0.1`, [`HOST`] and `*.HOST`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The authority that its certificate is of.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Makes an empty bucket of a name that no other test has.
    pub fn bucket(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.owner("PUT", &name, None, &[]);
        name
    }

    /// Makes an empty bucket that keeps versions.
    pub fn versioned_bucket(&self) -> String {
        let name = self.bucket();
        self.set_versioning(&name, "Enabled");
        name
    }

    /// Has a bucket keep versions (`Enabled`), or no more of them (`Suspended`).
    pub fn set_versioning(&self, bucket: &str, status: &str) {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.owner("PUT", &format!("{bucket}?versioning="), Some(&body), &[]);
    }

    /// Makes an empty bucket that keeps versions, each for at least a day.
    pub fn locked_bucket(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("locked-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.owner("PUT", &name, None, &["x-amz-bucket-object-lock-enabled: true"]);
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        self.owner("PUT", &format!("{name}?object-lock="), Some(rule), &[]);
        name
    }

    /// Sets the policy of a bucket.
    pub fn set_policy(&self, bucket: &str, policy: &str) {
        self.owner("PUT", &format!("{bucket}?policy="), Some(policy), &[]);
    }

    /// Makes a user, unless there is one, and says its credentials as the configuration writes them.
    pub fn user(&self, name: &str) -> String {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.insert(name.to_owned()) {
            let (id, shown) = (format!("--uid={name}"), format!("--display-name={name}"));
            let (key, secret) = (format!("--access-key=AK{name}"), format!("--secret-key=SK{name}"));
            let mut admin = self.programs.command("radosgw-admin");
            run(admin.arg("-c").arg(self.conf()).args(["user", "create", &id, &shown, &key, &secret]));
        }
        format!("AK{name}:SK{name}")
    }

    /// Has the server make `key` of so many copies of `original`, one after the other, in one upload in parts.
    pub fn assemble(&self, bucket: &str, key: &str, original: &str, times: usize) {
        let ask = |method: &str, path: &str, body: &str, headers: &[&str]| {
            let (mut curl, _body) = self.request(CREDENTIALS, method, path, body, headers);
            run(curl.arg("--fail-with-body"))
        };
        let between = |text: &str, tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>")).expect(tag);
            rest.split_once("</").expect(tag).0.to_owned()
        };
        let begun = ask("POST", &format!("{bucket}/{key}?uploads="), "", &[]);
        let id = between(&begun, "UploadId");
        let source = format!("x-amz-copy-source: {bucket}/{original}");
        let part = |number: usize| {
            let path = format!("{bucket}/{key}?partNumber={number}&uploadId={id}");
            let etag = between(&ask("PUT", &path, "", &[&source, "Content-Length: 0"]), "ETag");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let parts: String = (1..=times).map(part).collect();
        let all = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let made = ask("POST", &format!("{bucket}/{key}?uploadId={id}"), &all, &[]);
        assert!(made.contains("CompleteMultipartUploadResult"), "{made}");
    }

    /// What another client than ours reads, block by block.
    pub fn read_plainly(&self, bucket: &str, key: &str, mut take: impl FnMut(&[u8])) {
        let (mut curl, _body) = self.request(CREDENTIALS, "GET", &format!("{bucket}/{key}"), "", &[]);
        let mut curl = curl.arg("--fail").stdout(Stdio::piped()).spawn().unwrap();
        let (mut output, mut block) = (curl.stdout.take().unwrap(), vec![0; 1 << 20]);
        loop {
            match output.read(&mut block).unwrap() {
                0 => break,
                length => take(&block[..length]),
            }
        }
        assert!(curl.wait().unwrap().success(), "{bucket}/{key}");
    }

    /// Everything in a bucket of a few objects with plain keys, as another client than ours lists and reads it.
    pub fn read_all_plainly(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let (mut curl, _body) = self.request(CREDENTIALS, "GET", &format!("{bucket}?list-type=2"), "", &[]);
        let listing = run(curl.arg("--fail-with-body"));
        assert!(listing.contains("<IsTruncated>false</IsTruncated>"), "{listing}");
        let keys = listing.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").expect("a key").0);
        keys.map(|key| {
            assert!(!key.contains(['&', '%', '+']), "{key} is no plain key");
            let mut content = Vec::new();
            self.read_plainly(bucket, &key.replace(' ', "%20"), |block| content.extend_from_slice(block));
            (key.to_owned(), content)
        })
        .collect()
    }

    /// Deletes a key without naming a version: on a versioned bucket that leaves a marker.
    pub fn plain_delete(&self, bucket: &str, key: &str) {
        self.owner("DELETE", &format!("{bucket}/{key}"), None, &[]);
    }

    /// The HTTP status that a request of `credentials` gets.
    pub fn status_of(&self, credentials: &str, method: &str, path: &str, body: &str) -> String {
        let (mut curl, _body) = self.request(credentials, method, path, body, &[]);
        run(curl.args(["-o", "/dev/null", "-w", "%{http_code}"]))
    }

    /// A request of the owner of all buckets.
    fn owner(&self, method: &str, path: &str, body: Option<&str>, headers: &[&str]) {
        let (mut curl, _body) = self.request(CREDENTIALS, method, path, body.unwrap_or_default(), headers);
        run(curl.arg("--fail-with-body"));
    }

    /// The request, and the file that holds its body for as long as it takes.
    fn request(
        &self,
        credentials: &str,
        method: &str,
        path: &str,
        body: &str,
        headers: &[&str],
    ) -> (Command, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let sum = run(Command::new("sha256sum").arg(file.path()));
        let digest = format!("x-amz-content-sha256: {}", sum.split(' ').next().unwrap());
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-X", method, "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", credentials, "-H", &digest]);
        curl.args(headers.iter().flat_map(|header| ["-H", header]));
        if !body.is_empty() {
            curl.args(["-H", "Content-Type: application/xml", "--data-binary"]);
            curl.arg(format!("@{}", file.path().display()));
        }
        curl.arg(format!("{}/{path}", self.endpoint));
        (curl, file)
    }

    fn start(programs: Programs, disk: &'static str) -> Ceph {
        let folder = tempfile::tempdir().unwrap();
        let (monitor_port, port, tls_port) = (free_port(), free_port(), free_port());
        let endpoint = format!("http://127.0.0.1:{port}");
        let users = Mutex::new(BTreeSet::new());
        let mut ceph = Ceph { programs, disk, folder, daemons: Vec::new(), watcher: None, endpoint, tls_port, users };
        ceph.prepare(monitor_port);
        ceph.certify();
        ceph.daemon("ceph-mon", &["-i", "a"]);
        ceph.add_disk();
        ceph.daemon("ceph-osd", &["-i", "0"]);
        await_that("the disk to come up", || ceph.ceph(&["osd", "stat"]).contains("1 up"));
        let (certificate, key) = (ceph.path("server.pem"), ceph.path("server.key"));
        let frontend = format!(
            "beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={} ssl_private_key={}",
            certificate.display(),
            key.display()
        );
        ceph.daemon("radosgw", &["-n", "client.rgw.1", "--rgw-frontends", &frontend]);
        await_that("the gateway to answer", || {
            let answer = Command::new("curl").args(["-s", "-o", "/dev/null", &ceph.endpoint]).status();
            answer.is_ok_and(|status| status.success())
        });
        let user = ["--uid=test", "--display-name=test", "--access-key=AKTEST", "--secret-key=SKTEST"];
        run(ceph.programs.command("radosgw-admin").arg("-c").arg(ceph.conf()).args(["user", "create"]).args(user));
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
            .replace("@DISK@", self.disk)
            .replace("@PLUGINS@", &self.programs.plugins())
            .replace("@FSID@", &fsid)
            .replace("@HOST@", HOST);
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
            let tool = &mut self.programs.command("ceph-authtool");
            run(tool.arg(&keyring).args(create).args(["--gen-key", "-n", name]).args(caps));
        }
        let (map, monitor) = (self.path("monmap"), format!("[v2:127.0.0.1:{monitor_port}]"));
        let tool = &mut self.programs.command("monmaptool");
        run(tool.args(["--create", "--clobber", "--fsid", &fsid, "--addv", "a", &monitor]).arg(&map));
        let monitor = &mut self.programs.command("ceph-mon");
        run(monitor
            .args(["-i", "a", "--mkfs", "-c"])
            .arg(self.conf())
            .arg("--monmap")
            .arg(map)
            .arg("--keyring")
            .arg(keyring));
    }

    /// Makes an authority, and a certificate of it for the server.
    fn certify(&self) {
        let names = format!("subjectAltName=IP:127.0.0.1,DNS:{HOST},DNS:*.{HOST}\n");
        fs::write(self.path("names"), names).unwrap();
        let openssl = |words: &str| run(Command::new("openssl").args(words.split(' ')).current_dir(self.folder.path()));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("req -x509 {key} -days 2 -subj /CN=ours -keyout ca.key -out ca.pem"));
        openssl(&format!("req {key} -subj /CN=s3 -keyout server.key -out server.csr"));
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
    }

    fn add_disk(&self) {
        let id = uuid();
        self.ceph(&["osd", "new", &id]);
        run(self.programs.command("ceph-osd").args(["-i", "0", "--mkfs", "--osd-uuid", &id, "-c"]).arg(self.conf()));
        self.ceph(&["osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h"]);
    }

    fn ceph(&self, words: &[&str]) -> String {
        run(self.programs.command("ceph").arg("-c").arg(self.conf()).args(["--connect-timeout", "20"]).args(words))
    }

    fn daemon(&mut self, program: &str, words: &[&str]) {
        let log = fs::File::create(self.path(&format!("log/{program}.out"))).unwrap();
        let mut command = self.programs.command(program);
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

/// The programs of one release: installed, or unpacked into a folder with the libraries they need.
struct Programs {
    unpacked: Option<PathBuf>,
}

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

impl Programs {
    fn installed() -> Self {
        Programs { unpacked: None }
    }

    fn newest() -> Self {
        let packages = ["ceph-mon", "ceph-osd", "radosgw", "ceph-common"];
        Programs { unpacked: Some(super::debs::unpacked("sid", "ceph", &packages)) }
    }

    fn command(&self, program: &str) -> Command {
        let Some(root) = &self.unpacked else { return Command::new(program) };
        let path = |part: &str| root.join(LIBRARIES).join(part).display().to_string();
        // Their own loader and C library: this machine's are older.
        let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
        command.args(["--library-path", &[path(""), path("ceph"), path("systemd")].join(":")]);
        if program == "ceph" {
            let bin = fs::read_dir(root.join("usr/bin")).unwrap().map(|entry| entry.unwrap().path());
            let named = |path: &PathBuf| {
                let version = path.file_name().and_then(|name| name.to_str()?.strip_prefix("python3."));
                version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
            };
            command.arg(bin.into_iter().find(named).expect("a python"));
            command.env("PYTHONHOME", root.join("usr")).env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"));
        }
        command.arg(root.join("usr/bin").join(program));
        command
    }

    /// Lines of the configuration that say where the plugins are.
    fn plugins(&self) -> String {
        let Some(root) = &self.unpacked else { return String::new() };
        let libraries = root.join(LIBRARIES);
        let libraries = libraries.display();
        format!(
            "osd class dir = {libraries}/rados-classes\nerasure code dir = {libraries}/ceph/erasure-code\n\
             plugin dir = {libraries}/ceph"
        )
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
