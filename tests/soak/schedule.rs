//! Twenty minutes of two daemons: a point every minute of a database under pgbench and a bucket under writes, and whatever happens to
//! machines meanwhile. `WARMSPARE_SOAK_SECONDS` makes it shorter; the vault is away for more than five minutes in any case, because nobody
//! is woken before.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use warmspare::clock::{Clock, SystemClock};

use super::processes::{Life, told_of};
use crate::support::daemons::Daemon;
use crate::support::postgres::PostgresServer;
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
/// From a fault to somebody being told: what cannot be known must stay so for five minutes, a job begins within one, and a look comes
/// every ten seconds.
const TOLD_MAX: Duration = Duration::from_secs(360);
/// From its end to the alarm being recalled: a job begins within three minutes and takes a while.
const RECALLED_MAX: Duration = Duration::from_secs(240);
/// For the server to be away, and be asked in vain.
const SERVER_AWAY: Duration = Duration::from_secs(4);

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

fn now() -> Timestamp {
    SystemClock.now()
}

struct Soak {
    sites: Sites,
    disturbed: Vec<Disturbance>,
    live: Option<Daemon>,
    spare: Daemon,
    /// Of the spare's daemon the first, then of each of the live one's.
    lives: Vec<Life>,
}

fn daemon(sites: &Sites, site: &str) -> Daemon {
    Daemon::start(sites.command(site, ["run"]), sites.path().join(format!("{site}.log")))
}

impl Soak {
    fn begin(sites: Sites) -> Soak {
        let spare = daemon(&sites, "fra");
        let lives = vec![Life::new("fra", spare.pid())];
        let mut soak = Soak { sites, disturbed: Vec::new(), live: None, spare, lives };
        soak.start_live();
        // Before its first point the vault is empty, and the spare cannot read it.
        soak.disturbed.push(Disturbance { what: "the beginning", from: now(), to: now() + AFTERMATH });
        soak
    }

    fn start_live(&mut self) {
        let live = daemon(&self.sites, "ams");
        self.lives.push(Life::new("ams", live.pid()));
        self.live = Some(live);
    }

    /// The live daemon ends that way, and leaves nothing.
    fn end_live(&mut self, end: impl FnOnce(Daemon)) {
        let live = self.live.take().unwrap();
        let life = self.lives.last_mut().unwrap();
        life.look();
        end(live);
        life.has_left_nothing();
    }

    /// Goes on for a while.
    fn go_on(&mut self, span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            std::thread::sleep(Duration::from_secs(2).min(span));
            let alive = self.live.is_some();
            let (spares, lives) = self.lives.split_at_mut(1);
            spares.iter_mut().chain(lives.last_mut().filter(|_| alive)).for_each(Life::look);
        }
    }

    /// How often each of these alarms was told of, by which site.
    fn times(&self, keys: &[(&str, &str)]) -> Vec<usize> {
        keys.iter().map(|(site, key)| of(&self.sites, site, key).len()).collect()
    }

    /// Goes on until each of these alarms was told of that often, and no longer than `most`.
    fn go_on_until_told(&mut self, keys: &[(&str, &str)], times: &[usize], most: Duration) {
        let begun = Instant::now();
        while self.times(keys).iter().zip(times).any(|(told, times)| told < times) {
            assert!(begun.elapsed() < most, "{keys:?}: told of {:?} times, not {times:?}", self.times(keys));
            self.go_on(Duration::from_secs(1));
        }
    }

    /// Goes on until each alarm that was raised is recalled.
    fn go_on_until_nothing_stands(&mut self) {
        let begun = Instant::now();
        let stands = |told: &[(String, String)]| {
            told.iter().any(|(key, _)| told.iter().filter(|(other, _)| other == key).count() % 2 == 1)
        };
        while ["ams", "fra"].iter().any(|site| stands(&told(&self.sites, site))) {
            let all = ["ams", "fra"].map(|site| told(&self.sites, site));
            assert!(begun.elapsed() < RECALLED_MAX, "something stands still: {all:#?}");
            self.go_on(Duration::from_secs(1));
        }
    }

    fn disturb<T>(&mut self, what: &'static str, act: impl FnOnce(&mut Self) -> T) -> T {
        let from = now();
        println!("{from}: {what}");
        let done = act(self);
        self.disturbed.push(Disturbance { what, from, to: now() });
        done
    }

    /// A place is away for a while, and until these alarms were told; when it is back, each is recalled. Neither is told twice.
    fn away(&mut self, what: &'static str, place: &Path, span: Duration, keys: &[(&str, &str)]) {
        self.go_on_until_nothing_stands();
        // The runs that fail from here on push others out of the records.
        self.runs_are_explained();
        let before = self.times(keys);
        let after = |more: usize| before.iter().map(|times| times + more).collect::<Vec<_>>();
        self.disturb(what, |soak| {
            let aside = place.with_extension("away");
            fs::rename(place, &aside).unwrap();
            soak.go_on(span);
            soak.go_on_until_told(keys, &after(1), TOLD_MAX);
            // What was made in its place meanwhile, by mistake, would show here.
            fs::rename(&aside, place).unwrap();
        });
        self.go_on_until_told(keys, &after(2), RECALLED_MAX);
        assert_eq!(self.times(keys), after(2), "{what}: {keys:?}");
        for ((site, key), before) in keys.iter().zip(before) {
            assert_eq!(of(&self.sites, site, key)[before..], ["raised", "recovered"], "{what}: {key} at {site}");
        }
        println!("{}: {what}: {keys:?} were told once each and recalled once each", now());
    }

    /// The live database's server is away for a moment, as at an upgrade.
    fn restart_server(&mut self) {
        self.sites.live.halt();
        self.go_on(SERVER_AWAY);
        self.sites.live.start_again();
    }

    /// A backend dies, and the server ends all others and recovers.
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

    /// Each run that is remembered and did not end well has its reason.
    fn runs_are_explained(&self) {
        let unexplained: Vec<String> = ["ams", "fra"].iter().flat_map(|site| self.unexplained(site)).collect();
        assert!(unexplained.is_empty(), "runs that nothing explains:\n{}", unexplained.join("\n"));
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
                match self.disturbed.iter().rev().find(is_explained) {
                    Some(by) => {
                        println!("{site} {}: {} ({}): {}", record["name"], run["verdict"], by.what, run["what"])
                    }
                    None => unexplained.push(format!("{site} {}: {run}", record["name"])),
                }
            }
        }
        unexplained
    }

    /// Every alarm was told once and recalled once, each time.
    fn alarms(&mut self) {
        self.go_on_until_nothing_stands();
        for site in ["ams", "fra"] {
            println!("{site} told of {:?}", told_and_recalled(&self.sites, site));
            let unusable = of(&self.sites, site, "vault.unusable");
            assert_eq!(unusable, ["raised", "recovered"], "of the vault that was away, by {site}");
        }
    }

    /// How long nothing was away.
    fn undisturbed(&self, begun: Timestamp) -> SignedDuration {
        let disturbed = self.disturbed.iter().map(|one| one.to.duration_since(one.from));
        disturbed.fold(now().duration_since(begun), |left, disturbed| left - disturbed)
    }

    fn done_captures(&self) -> usize {
        let record = fs::read(self.sites.state("ams").join("jobs/capture.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        record["runs"].as_array().unwrap().iter().filter(|run| run["verdict"] == "done").count()
    }
}

/// Waits until nobody is connected to the server, whose clients have nothing to do for a while now and then.
async fn until_nobody_is_connected(server: &PostgresServer, what: &str) {
    let of = |column: &str| {
        format!(
            "SELECT {column} FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    };
    let begun = Instant::now();
    while server.value("postgres", &of("count(*)::text")).await != "0" {
        if begun.elapsed() > Duration::from_secs(60) {
            let line = "coalesce(string_agg(format('%s %s in %s since %s: %s', pid, application_name, datname, \
                        backend_start, query), '; '), '')";
            panic!("{what}: connections are left: {}", server.value("postgres", &of(line)).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
    let (begun, begun_at) = (Instant::now(), now());
    let mut soak = Soak::begin(sites);
    soak.go_on(part * 3);
    soak.disturb("the live daemon is started anew", |soak| {
        soak.end_live(|live| drop(live.end()));
        soak.start_live();
    });
    soak.go_on(part * 2);
    soak.disturb("the live daemon is killed", |soak| {
        soak.end_live(|live| live.signal(Signal::KILL));
        soak.start_live();
    });
    soak.go_on(part * 2);
    let from = now();
    soak.crash_server().await;
    soak.disturbed.push(Disturbance { what: "a backend of the live database crashes", from, to: now() });
    soak.go_on(part);
    soak.disturb("the live database's server is started anew", Soak::restart_server);
    soak.go_on(part);
    let bucket = soak.sites.bucket("ams");
    soak.away("the live bucket is away", &bucket, part, &[("ams", "job.capture.failed")]);
    soak.go_on(part);
    let vault = soak.sites.vault();
    let keys = [("ams", "job.capture.failed"), ("ams", "vault.unusable"), ("fra", "vault.unusable")];
    soak.away("the vault is away", &vault, part, &keys);
    let left = Duration::from_secs(seconds.into()).saturating_sub(begun.elapsed());
    soak.go_on(left.max(part * 3));
    let undisturbed = soak.undisturbed(begun_at);
    let captures = soak.done_captures();
    drop(load);
    soak.alarms();
    for (server, what) in [(&soak.sites.live, "the live server"), (&soak.sites.spare, "the spare's server")] {
        until_nobody_is_connected(server, what).await;
    }
    soak.end_live(|live| drop(live.end()));
    soak.lives.iter().for_each(Life::is_flat);
    conclude(soak, captures, undisturbed.as_secs().unsigned_abs() / 60).await;
}

/// What is left when both daemons have ended.
async fn conclude(soak: Soak, captures: usize, minutes: u64) {
    soak.disturbed.iter().for_each(|one| println!("{} to {}: {}", one.from, one.to, one.what));
    soak.runs_are_explained();
    println!("{captures} captures in {minutes} minutes in which nothing was away");
    let Soak { sites, spare, lives, .. } = soak;
    spare.end();
    lives.iter().for_each(Life::has_left_nothing);
    assert!(captures as u64 + 4 >= minutes, "{captures} captures in {minutes} minutes");
    let points = sites.points("fra");
    assert!(points.len() >= captures, "{} points, {captures} captures", points.len());
    // The last one may have come after the last rehearsal.
    sites.run("fra", &["restore", "--if-new", "--json"]);
    sites.run("fra", &["verify", "--all"]);
    assert_eq!(told_of(sites.path()), Vec::<String>::new(), "processes are left");
    for (server, what) in [(&sites.live, "the live server"), (&sites.spare, "the spare's server")] {
        until_nobody_is_connected(server, what).await;
    }
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate";
    assert_eq!(sites.live.value("postgres", databases).await, "app postgres", "databases are left at the live site");
    let kept: Value = serde_json::from_str(&sites.run("fra", &["restore", "--kept", "--json"])).unwrap();
    let parts: BTreeSet<&str> = kept.as_array().unwrap().iter().filter_map(|one| one["part"].as_str()).collect();
    assert!(!parts.contains("unfinished") && !parts.contains("scratch"), "databases are left: {kept:#}");
    assert!(sites.spare_databases().await.len() <= 2, "{kept:#}");
}
