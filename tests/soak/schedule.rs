//! Twenty minutes of two daemons: a point every minute of a database under pgbench and a bucket under writes, and whatever happens to
//! machines meanwhile. `WARMSPARE_SOAK_SECONDS` makes it shorter.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use warmspare::clock::{Clock, SystemClock};

use crate::support::daemons::Daemon;
use crate::support::sites::Sites;
use crate::support::told::{of, sink, told, told_and_recalled};

const JOBS: &str = "
[jobs.capture]
at = \"0 * * * * *\"
retry_after = \"5s\"

[jobs.rehearse]
at = \"*/10 * * * * *\"
retry_after = \"5s\"

[jobs.check]
at = \"30 * * * * *\"

[jobs.verify]
at = \"15 */2 * * * *\"
on = \"spare\"

[jobs.prune]
at = \"45 */3 * * * *\"
";
const TARGETS: &str = "
[targets]
point  = \"150s\"
proven = \"5m\"
silent = \"40s\"

";
/// After a disturbance has ended, what it did to a run may still show for so long.
const AFTERMATH: SignedDuration = SignedDuration::from_secs(75);
/// What a daemon that does the same all the time may have more in its last quarter than before it.
const MEMORY_KIB_MORE_MAX: u64 = 8 << 10;
const FILES_MORE_MAX: usize = 8;

/// Something that happens to the machines, and until when.
struct Disturbance {
    what: &'static str,
    from: Timestamp,
    to: Timestamp,
}

/// Work that goes on beside, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(sites: &Sites) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let bench = || {
            let mut command = sites.live.program("pgbench", "app");
            command.args(["-n", "-c", "4", "-R", "40", "-T", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let (mut command, stopped) = (bench(), Arc::clone(&stop));
        // Second by second, so that a server that is away ends none but its own.
        let transactions = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if !command.status().is_ok_and(|status| status.success()) {
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        });
        let (bucket, stopped) = (sites.bucket("ams"), Arc::clone(&stop));
        let objects = std::thread::spawn(move || {
            for number in 0u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                put(&bucket, number);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Load { stop, threads: vec![transactions, objects] }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// A new object, and every fifth time one that is there is overwritten; nothing while the bucket is away.
fn put(bucket: &Path, number: u64) {
    let key = if number.is_multiple_of(5) { number / 50 } else { number };
    let folder = bucket.join("core");
    let new = bucket.join(format!("core/.{key}"));
    let written = folder.is_dir() && fs::write(&new, vec![b'a' + (number % 26) as u8; 20_000]).is_ok();
    if written {
        let _away = fs::rename(&new, folder.join(format!("{key}.hart")));
    }
}

/// What a daemon has of its machine.
struct Sample {
    memory_kib: u64,
    files: usize,
}

fn sample(pid: u32) -> Sample {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory_kib = memory.trim().trim_end_matches(" kB").parse().unwrap();
    Sample { memory_kib, files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() }
}

fn now() -> Timestamp {
    SystemClock.now()
}

struct Soak {
    sites: Sites,
    disturbed: Vec<Disturbance>,
    samples: Vec<Sample>,
    spare: Daemon,
}

impl Soak {
    fn daemon(sites: &Sites, site: &str) -> Daemon {
        Daemon::start(sites.command(site, ["run"]), sites.path().join(format!("{site}.log")))
    }

    /// Goes on for a while.
    fn go_on(&mut self, span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            std::thread::sleep(Duration::from_secs(2).min(span));
            self.samples.push(sample(self.spare.pid()));
        }
    }

    fn disturb<T>(&mut self, what: &'static str, act: impl FnOnce(&mut Self) -> T) -> T {
        let from = now();
        println!("{from}: {what}");
        let done = act(self);
        self.disturbed.push(Disturbance { what, from, to: now() });
        done
    }

    fn away(&mut self, place: PathBuf, span: Duration) {
        let aside = place.with_extension("away");
        fs::rename(&place, &aside).unwrap();
        self.go_on(span);
        // What was made in its place meanwhile, by mistake, would show here.
        fs::rename(&aside, &place).unwrap();
    }

    /// A backend dies, and the server starts all over.
    async fn crash_server(&mut self) {
        let pid = self.sites.live.value("app", "SELECT pg_backend_pid()::text").await;
        let sleeper: Child =
            self.sites.live.program("psql", "app").args(["-c", "SELECT pg_sleep(60)"]).spawn().unwrap();
        let sql =
            "SELECT pid::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
        let begun = Instant::now();
        let victim = loop {
            let session = self.sites.live.session("app").await;
            let found = session.texts("looking for a backend", sql).await.unwrap();
            session.close().await;
            if let Some(found) = found.first() {
                break found.clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no backend to kill beside {pid}");
        };
        let victim = rustix::process::Pid::from_raw(victim.parse().unwrap()).unwrap();
        rustix::process::kill_process(victim, Signal::KILL).unwrap();
        sleeper.wait_with_output().unwrap();
    }

    /// The runs of a job that did not end well, each with why.
    fn unexplained(&self, site: &str) -> Vec<String> {
        let folder = self.sites.state(site).join("jobs");
        let mut unexplained = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let record: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
            for run in record["runs"].as_array().unwrap().iter().filter(|run| run["verdict"] != "done") {
                let instant = |key: &str| -> Timestamp { run[key].as_str().unwrap().parse().unwrap() };
                let is_explained =
                    |by: &&Disturbance| instant("ended_at") >= by.from && instant("started_at") <= by.to + AFTERMATH;
                match self.disturbed.iter().find(is_explained) {
                    Some(by) => {
                        println!("{site} {}: {} ({}): {}", record["name"], run["verdict"], by.what, run["what"])
                    }
                    None => unexplained.push(format!("{site} {}: {run}", record["name"])),
                }
            }
        }
        unexplained
    }

    /// Every alarm was told once and recalled once, each time; what the outages did was told.
    fn alarms(&self) {
        // What the last minute has raised has its time to be over.
        for site in ["ams", "fra"] {
            let begun = Instant::now();
            let stands = |alarms: &[(String, String)]| {
                alarms.iter().any(|(key, _)| alarms.iter().filter(|(other, _)| other == key).count() % 2 == 1)
            };
            while stands(&told(&self.sites, site)) && begun.elapsed() < Duration::from_secs(180) {
                std::thread::sleep(Duration::from_secs(1));
            }
            println!("{site} told of {:?}", told_and_recalled(&self.sites, site));
        }
        let failed = of(&self.sites, "ams", "job.capture.failed");
        assert!(failed.len() >= 2, "nobody was told that captures fail while the bucket is away: {failed:?}");
    }

    fn done_captures(&self) -> usize {
        let record = fs::read(self.sites.state("ams").join("jobs/capture.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        record["runs"].as_array().unwrap().iter().filter(|run| run["verdict"] == "done").count()
    }
}

/// Processes that were told of this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let told = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let told = told.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
    told.filter(|words| words.contains(&folder) && words.contains("warmspare")).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn through_restarts_kills_and_outages_every_point_is_good_and_nothing_is_left_behind() {
    let seconds: u32 = std::env::var("WARMSPARE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_200);
    let part = Duration::from_secs(1) * seconds / 20;
    let sites = Sites::filled().await;
    let text = fs::read_to_string(sites.configuration()).unwrap();
    fs::write(sites.configuration(), text + JOBS + TARGETS + &sink(sites.path())).unwrap();
    let filled = sites.live.program("pgbench", "app").args(["-i", "-q", "-s", "2"]).output().unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let load = Load::on(&sites);
    let (mut live, spare) = (Soak::daemon(&sites, "ams"), Soak::daemon(&sites, "fra"));
    let mut soak = Soak { sites, disturbed: Vec::new(), samples: Vec::new(), spare };
    // Before its first point the vault is empty, and the spare cannot read it.
    soak.disturbed.push(Disturbance { what: "the beginning", from: now(), to: now() + AFTERMATH });

    soak.go_on(part * 3);
    live = soak.disturb("the live daemon is started anew", |soak| {
        live.end();
        Soak::daemon(&soak.sites, "ams")
    });
    soak.go_on(part * 2);
    live = soak.disturb("the live daemon is killed", |soak| {
        live.signal(Signal::KILL);
        drop(live);
        Soak::daemon(&soak.sites, "ams")
    });
    soak.go_on(part * 2);
    soak.disturb("the live database's server is started anew", |_| ());
    soak.crash_server().await;
    soak.go_on(part * 2);
    let bucket = soak.sites.bucket("ams");
    soak.disturb("the live bucket is away", |soak| soak.away(bucket, part));
    soak.go_on(part * 2);
    let vault = soak.sites.vault();
    soak.disturb("the vault is away", |soak| soak.away(vault, part));
    soak.go_on(part * 7);

    let half = soak.samples.len() / 2;
    let most = |samples: &[Sample]| samples.iter().map(|sample| (sample.memory_kib, sample.files)).max().unwrap();
    let ((before, files_before), (after, files_after)) = (most(&soak.samples[..half]), most(&soak.samples[half..]));
    println!("the spare's daemon: {before} KiB and {files_before} files, then {after} KiB and {files_after} files");
    assert!(after <= before + MEMORY_KIB_MORE_MAX, "memory grows: {before} KiB, then {after} KiB");
    assert!(files_after <= files_before + FILES_MORE_MAX, "files are left open: {files_before}, then {files_after}");
    let captures = soak.done_captures();
    drop(load);
    soak.alarms();
    live.end();
    conclude(soak, captures, u64::from(seconds) / 60).await;
}

/// What is left when both daemons have ended.
async fn conclude(soak: Soak, captures: usize, minutes: u64) {
    soak.disturbed.iter().for_each(|one| println!("{} to {}: {}", one.from, one.to, one.what));
    let unexplained: Vec<String> = ["ams", "fra"].iter().flat_map(|site| soak.unexplained(site)).collect();
    assert!(unexplained.is_empty(), "runs that nothing explains:\n{}", unexplained.join("\n"));
    println!("{captures} captures in {minutes} minutes");
    let Soak { sites, spare, .. } = soak;
    spare.end();
    assert!(captures as u64 + 4 >= minutes, "{captures} captures in {minutes} minutes");
    let points = sites.points("fra");
    assert!(points.len() >= captures, "{} points, {captures} captures", points.len());
    // The last one may have come after the last rehearsal.
    sites.run("fra", &["restore", "--if-new", "--json"]);
    sites.run("fra", &["verify", "--all"]);
    assert_eq!(processes_of(sites.path()), Vec::<String>::new(), "processes are left");
    for server in [&sites.live, &sites.spare] {
        let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        assert_eq!(server.value("postgres", sql).await, "0", "connections are left");
    }
    let kept: Value = serde_json::from_str(&sites.run("fra", &["restore", "--kept", "--json"])).unwrap();
    let parts: BTreeSet<&str> = kept.as_array().unwrap().iter().filter_map(|one| one["part"].as_str()).collect();
    assert!(!parts.contains("unfinished") && !parts.contains("scratch"), "databases are left: {kept:#}");
    assert!(sites.spare_databases().await.len() <= 2, "{kept:#}");
}
