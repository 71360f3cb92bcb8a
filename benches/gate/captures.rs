//! Captures of a registry, one after the other, as long as somebody looks: what the gate's answers are measured beside.
//!
//! The registry is a database of about 320 MB on a server of its own, whose processes are on the same cores, and a bucket of 2,000
//! objects of 64 KiB, in a folder. Each capture is from nothing: it has a vault, a state and a target bucket that are empty, so that
//! everything is read, hashed, compressed, sealed and written; all of it stays until the end, some gigabytes. Each is the release
//! binary with the command line that the daemon gives to a run of its job: in a process group of its own, with no other niceness,
//! scheduling class or control group. Only the role comes from `live`: a daemon whose witness hangs would refuse. Set
//! `WARMSPARE_BENCH_BINARY` to measure another build.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use warmspare::clock::SystemClock;
use warmspare::keygen;
use warmspare::process::PARENT;

use crate::postgres::PostgresServer;

const ROWS: u64 = 500_000;
const OBJECTS: u64 = 2_000;
const OBJECT_BYTES: usize = 64 << 10;
/// How long the first capture may take to begin, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Checksums and dependencies, as text that does not repeat.
const PACKAGES: &str = "CREATE TABLE packages (id bigint PRIMARY KEY, ident text NOT NULL UNIQUE, checksum text NOT NULL, deps text NOT NULL)";

/// The site that is captured.
pub struct Registry {
    // Before the folder: the server ends before its files go.
    server: PostgresServer,
    folder: tempfile::TempDir,
    /// The configuration but for the folders that a capture writes to.
    configuration: String,
}

/// A capture that came to a good end.
struct Run {
    begun: Instant,
    ended: Instant,
}

/// Captures under way.
pub struct Captures {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Run>>,
}

impl Registry {
    /// Starts the server, and fills it and the bucket.
    pub async fn fill() -> Registry {
        let server = PostgresServer::with(&["shared_buffers=256MB", "max_wal_size=4GB", "autovacuum=off"]);
        server.create("registry", PACKAGES).await;
        let rows = format!(
            "INSERT INTO packages SELECT n, 'origin' || n % 500 || '/package' || n, md5(n::text) || md5('x' || n), \
             (SELECT string_agg('origin' || i || '/' || md5(n || ' ' || i), ' ') FROM generate_series(1, 10) i) \
             FROM generate_series(1, {ROWS}) n"
        );
        server.sql("registry", &rows).await;
        server.sql("registry", "VACUUM ANALYZE packages").await;
        server.sql("postgres", "CHECKPOINT").await;
        let folder = tempfile::Builder::new().prefix("warmspare-bench-").tempdir().expect("a folder");
        let bucket = folder.path().join("bucket");
        fs::create_dir(&bucket).expect("a folder");
        let mut content = vec![0; OBJECT_BYTES];
        for number in 0..OBJECTS {
            blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
            fs::write(bucket.join(format!("package-{number}.hart")), &content).expect("an object");
        }
        let configuration = configuration(folder.path(), &server);
        Registry { server, folder, configuration }
    }

    /// Of the database.
    pub async fn size(&self) -> String {
        self.server.value("postgres", "SELECT pg_size_pretty(pg_database_size('registry'))").await
    }

    /// Begins to capture, and returns when the first capture is under way.
    pub fn capture(&self) -> Captures {
        let stop = Arc::new(AtomicBool::new(false));
        let first = Place::make(self, 0);
        let begun = first.state.join("operation.lock");
        let thread = std::thread::spawn({
            let (stop, folder, text) = (Arc::clone(&stop), self.folder.path().to_owned(), self.configuration.clone());
            move || {
                let (mut runs, mut place) = (vec![first.captured()], 1);
                while !stop.load(Ordering::Relaxed) {
                    runs.push(Place::at(&folder, &text, place).captured());
                    place += 1;
                }
                runs
            }
        });
        let deadline = Instant::now() + PATIENCE;
        while !begun.exists() {
            assert!(!thread.is_finished() && Instant::now() < deadline, "no capture begins");
            std::thread::sleep(Duration::from_millis(5));
        }
        Captures { stop, thread }
    }
}

impl Captures {
    /// Waits for the last one. In words: how many there were, having made sure that they ran from `begun` to `ended`, one after the
    /// other without a pause worth a word.
    pub fn end(self, begun: Instant, ended: Instant) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let runs = self.thread.join().expect("every capture ends well");
        let within = |run: &Run| run.ended.min(ended).saturating_duration_since(run.begun.max(begun));
        let all = ended - begun;
        let without = all.saturating_sub(runs.iter().map(within).sum());
        assert!(without < all / 100, "for {without:.2?} of {all:.2?} no capture ran");
        let longest = runs.iter().map(|run| run.ended - run.begun).max().unwrap_or_default();
        format!("{} captures, the longest {longest:.1?}, {without:.1?} in between", runs.len())
    }
}

/// What one capture writes to.
struct Place {
    file: PathBuf,
    state: PathBuf,
}

impl Place {
    fn make(registry: &Registry, number: usize) -> Place {
        Place::at(registry.folder.path(), &registry.configuration, number)
    }

    fn at(folder: &Path, configuration: &str, number: usize) -> Place {
        let folder = folder.join(number.to_string());
        for part in ["vault", "target"] {
            fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let (file, state) = (folder.join("warmspare.toml"), folder.join("state"));
        fs::write(&file, configuration.replace("PLACE", &folder.display().to_string())).expect("a file");
        Place { file, state }
    }

    /// Runs a capture to its end, which has to be a good one.
    fn captured(&self) -> Run {
        let built = env!("CARGO_BIN_EXE_warmspare").to_owned();
        let mut command = Command::new(std::env::var("WARMSPARE_BENCH_BINARY").unwrap_or(built));
        command.args(["--log", "json", "--config"]).arg(&self.file).args(["--site", "ams", "capture", "--json"]);
        command.env(PARENT, std::process::id().to_string()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let output = command.output().expect("the binary runs");
        let ended = Instant::now();
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Run { begun, ended }
    }
}

fn configuration(folder: &Path, server: &PostgresServer) -> String {
    let escrow = keygen::escrow(&folder.join("escrow.txt"), &SystemClock).expect("keys");
    let (mut signers, mut sections) = (Vec::new(), String::new());
    for (site, bucket) in [("ams", folder.join("bucket").display().to_string()), ("fra", "PLACE/target".to_owned())] {
        let keys = keygen::site(site, &folder.join(format!("{site}-keys"))).expect("keys");
        signers.push(format!("{site} = \"{}\"", keys.verifying_key));
        sections += &format!(
            "\n[sites.{site}]\nstate = \"PLACE/state\"\nrecipient = \"{}\"\nidentity = \"file:{}\"\nsigning_key = \"file:{}\"\n\
             databases.registry = {{ url = \"{}\", password = \"file:{}\" }}\nbuckets.artifacts = {{ url = \"{bucket}\" }}\n",
            keys.recipient,
            keys.identity_file.display(),
            keys.signing_key_file.display(),
            server.cluster().url("registry"),
            server.cluster().password_file().display(),
        );
    }
    format!(
        "system = \"registry\"\nlive = \"ams\"\nvault = {{ url = \"PLACE/vault\", escrow = [\"{}\"], signers = {{ {} }} }}\n{sections}",
        escrow.recipient,
        signers.join(", "),
    )
}
