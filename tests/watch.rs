//! Alarms by real daemons, told to a program that writes them down: what fails is told once and recalled once, a dead live site by the
//! spare, and a job that did not run is as loud as one that failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::daemons::{Daemon, JOBS, NAMES, Pair};
use crate::support::disk::Disk;
use crate::support::sites::{Sites, shown};
use crate::support::told::{of, sink, told, until_told, until_told_after};

const PATIENCE: Duration = Duration::from_secs(120);

/// Sites with these jobs and targets, whose daemons tell a file.
async fn sites(more: &str) -> Sites {
    let sites = Sites::filled().await;
    let off = JOBS.iter().filter(|job| !more.contains(&format!("[jobs.{job}]")));
    let off: String = off.map(|job| format!("[jobs.{job}]\nenabled = false\n")).collect();
    let text = fs::read_to_string(sites.configuration()).unwrap();
    fs::write(sites.configuration(), format!("{text}\n{more}\n{off}\n{}", sink(sites.path()))).unwrap();
    sites
}

fn start(sites: &Sites, site: &str) -> Daemon {
    Daemon::start(sites.command(site, ["run"]), sites.path().join(format!("{site}.log")))
}

#[tokio::test]
async fn what_fails_is_told_once_and_recalled_once_also_by_the_next_daemon() {
    let sites = sites("[jobs.capture]\nat = \"*/2 * * * * *\"\nretries = 0\n").await;
    let ams = start(&sites, "ams");
    let away: PathBuf = sites.path().join("away");
    let begun = Instant::now();
    while sites.points("ams").is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::rename(sites.root("ams").join("etc"), &away).unwrap();
    until_told(&sites, "ams", "job.capture.failed", "raised");
    // Another daemon knows what was told.
    ams.end();
    let ams = start(&sites, "ams");
    let failures = |sites: &Sites| {
        let jobs: Value = serde_json::from_str(&sites.run("ams", &["jobs", "--json"])).unwrap();
        jobs.as_array().unwrap().iter().find(|job| job["name"] == "capture").unwrap()["failures"].as_u64().unwrap()
    };
    let known = failures(&sites);
    let begun = Instant::now();
    while failures(&sites) < known + 3 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::rename(&away, sites.root("ams").join("etc")).unwrap();
    until_told(&sites, "ams", "job.capture.failed", "recovered");
    assert_eq!(of(&sites, "ams", "job.capture.failed"), ["raised", "recovered"]);

    sites.run("ams", &["jobs", "pause", "capture", "--until", "1h", "--why", "an upgrade"]);
    until_told(&sites, "ams", "job.capture.paused", "raised");
    let report = sites.run("ams", &["report"]);
    assert!(report.contains("job capture is PAUSED until ") && report.contains(": an upgrade"), "{report}");
    sites.run("ams", &["jobs", "resume", "capture"]);
    until_told(&sites, "ams", "job.capture.paused", "recovered");
    assert_eq!(of(&sites, "ams", "job.capture.paused"), ["raised", "recovered"]);
    ams.end();
}

/// Killed right after a sink has taken an alarm, and right after that was written down.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_daemon_killed_while_it_tells_an_alarm_tells_it_once_more_rather_than_never() {
    use std::os::unix::process::ExitStatusExt;

    // What was raised is written down before it is told, and what was told after.
    for (step, times) in [("notify.sent", 2), ("notify.memory:2", 1)] {
        let sites = sites("[jobs.capture]\nat = \"0 0 1 1 *\"\n").await;
        let killed = sites.command("ams", ["run"]).env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{step}: {}", shown(&killed));
        assert_eq!(of(&sites, "ams", "point.late"), ["raised"], "{step}");
        let ams = crate::jobs::start(&sites, "ams");
        // Of a later look than its first, by the same daemon.
        sites.run("ams", &["jobs", "pause", "capture", "--until", "1h", "--why", "an upgrade"]);
        until_told(&sites, "ams", "job.capture.paused", "raised");
        assert_eq!(of(&sites, "ams", "point.late"), vec!["raised"; times], "{step}");
        ams.end();
    }
}

/// What the daemon of a site remembers of alarms: their keys, and when it has last written them down, which every look does.
fn remembered(sites: &Sites, site: &str) -> (Vec<String>, SystemTime) {
    let file = sites.state(site).join("alarms.json");
    let memory: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let keys = memory["alarms"].as_object().unwrap().keys().cloned().collect();
    (keys, fs::metadata(&file).unwrap().modified().unwrap())
}

/// Waits until the daemon has looked so many times while that was, or was not, among its alarms.
fn until_looked(sites: &Sites, site: &str, times: usize, alarm: &str, stands: bool) {
    let (begun, mut looks) = (Instant::now(), BTreeSet::new());
    while looks.len() < times {
        let (keys, at) = remembered(sites, site);
        if keys.iter().any(|key| key == alarm) == stands {
            looks.insert(at);
        }
        assert!(begun.elapsed() < PATIENCE, "{keys:?}, {:?}", told(sites, site));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Of a vault that could not be read for one look the spare told that the live site was alive, while it lay dead.
#[tokio::test]
async fn while_the_vault_is_away_nothing_is_told_to_be_over_and_afterwards_nothing_is_told_anew() {
    let targets = "[targets]\npoint = \"10s\"\nsilent = \"20s\"\n";
    let sites = sites(&format!("[jobs.capture]\nat = \"0 0 1 1 *\"\n{targets}")).await;
    sites.run("ams", &["capture"]);
    let ams = start(&sites, "ams");
    let standing = ["point.late", "proof.late", "site.fra.silent"];
    standing.iter().for_each(|key| until_told(&sites, "ams", key, "raised"));
    let (known, away) = (told(&sites, "ams"), sites.path().join("away"));
    fs::rename(sites.vault(), &away).unwrap();
    until_looked(&sites, "ams", 4, "vault.unusable", true);
    fs::rename(&away, sites.vault()).unwrap();
    until_looked(&sites, "ams", 3, "vault.unusable", false);
    assert_eq!(told(&sites, "ams"), known, "nobody knew better meanwhile");

    // What stood all the time is over when that is seen.
    sites.run("fra", &["restore"]);
    ["proof.late", "site.fra.silent"].iter().for_each(|key| until_told(&sites, "ams", key, "recovered"));
    sites.run("ams", &["capture"]);
    until_told(&sites, "ams", "point.late", "recovered");
    for key in standing {
        assert_eq!(of(&sites, "ams", key)[..2], ["raised", "recovered"], "{key}");
    }
    ams.end();
}

/// Until its witness has answered a daemon that was started anew does not know its role, and so of no job whether it is to run.
#[tokio::test]
async fn a_job_that_fails_is_told_once_though_the_daemon_with_a_witness_is_started_anew() {
    let jobs = "[jobs.capture]\nat = \"*/2 * * * * *\"\nretries = 0\n[targets]\nsilent = \"20s\"\n";
    let pair = Pair::over(sites(jobs).await);
    pair.does("ams", &["witness", "init"]);
    let ams = pair.start("ams");
    pair.until_state("ams", "STANDBY");
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    let (sites, away) = (&pair.sites, pair.sites.path().join("away"));
    until_told(sites, "ams", "point.late", "recovered");
    fs::rename(sites.root("ams").join("etc"), &away).unwrap();
    until_told(sites, "ams", "job.capture.failed", "raised");
    let failures = || {
        let jobs: Value = serde_json::from_str(&sites.run("ams", &["jobs", "--json"])).unwrap();
        jobs.as_array().unwrap().iter().find(|job| job["name"] == "capture").unwrap()["failures"].as_u64().unwrap()
    };
    ams.end();
    // Its record cannot be read for a while; the newest has the lowest number.
    let records = fs::read_dir(pair.witness().join("lease")).unwrap().map(|entry| entry.unwrap().path());
    let (known, newest) = (failures(), records.min().unwrap());
    let record = fs::read(&newest).unwrap();
    fs::write(&newest, "{").unwrap();
    let ams = pair.start("ams");
    until_looked(sites, "ams", 3, "witness.unusable", true);
    fs::write(&newest, record).unwrap();
    let begun = Instant::now();
    while failures() < known + 3 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(of(sites, "ams", "job.capture.failed"), ["raised"], "it stood all the time");
    fs::rename(&away, sites.root("ams").join("etc")).unwrap();
    until_told(sites, "ams", "job.capture.failed", "recovered");
    assert_eq!(of(sites, "ams", "job.capture.failed"), ["raised", "recovered"]);
    ams.end();
}

/// As the operator's guide has it.
#[tokio::test]
async fn a_report_job_writes_what_would_be_lost_for_node_exporter() {
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("warmspare.prom");
    let arguments = format!("arguments = [\"--prometheus\", \"{}\"]", file.display());
    let sites = sites(&format!("[jobs.report]\nat = \"* * * * * *\"\n{arguments}\n")).await;
    sites.run("ams", &["capture"]);
    for name in ["new", "newer"] {
        sites.put_object(name, b"since");
    }
    let ams = crate::jobs::start(&sites, "ams");
    let begun = Instant::now();
    let counted = "warmspare_loss_objects{system=\"app\",target=\"point\"} 2\n";
    while !fs::read_to_string(&file).is_ok_and(|metrics| metrics.contains(counted)) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", fs::read_to_string(&file));
        std::thread::sleep(Duration::from_millis(100));
    }
    ams.end();
}

/// Of the test below, in seconds. A look comes four times within the shortest.
const SILENT: u64 = 20;
const POINT: u64 = 35;
const PROVEN: u64 = 60;
const LOOK: u64 = SILENT / 4;
/// A look and the telling take their time on a machine that is busy.
const SLACK: u64 = 3;

/// What the spare tells after so many other notices, and how long after `killed`: within the target and one look.
fn told_within(sites: &Sites, known: usize, key: &str, target: u64, killed: Instant) {
    until_told_after(sites, "fra", known, key, "raised");
    let took = killed.elapsed();
    println!("fra told of {key} {took:.1?} after ams was killed; its target is {target} s");
    let most = Duration::from_secs(target + LOOK + SLACK);
    assert!(
        took <= most,
        "fra told of {key} after {took:.1?}; its target is {target} s, and a look comes every {LOOK} s"
    );
}

#[tokio::test]
async fn a_dead_live_site_is_told_of_by_the_spare_within_the_target() {
    let jobs = "[jobs.capture]\nat = \"*/2 * * * * *\"\n[jobs.rehearse]\nat = \"*/3 * * * * *\"\n";
    let targets = format!("[targets]\npoint = \"{POINT}s\"\nproven = \"{PROVEN}s\"\nsilent = \"{SILENT}s\"\n");
    let mut sites = sites(&format!("{jobs}{targets}")).await;
    let [ams, fra] = NAMES.map(|site| start(&sites, site));
    let report = |sites: &Sites| -> Value { serde_json::from_str(&sites.run("fra", &["report", "--json"])).unwrap() };
    let begun = Instant::now();
    // The spare has proven a point and reads what ams says.
    while report(&sites)["verdict"] != "fresh" {
        assert!(begun.elapsed() < PATIENCE, "{:#}", report(&sites));
        std::thread::sleep(Duration::from_millis(200));
    }
    // What is told while nothing is there yet is over.
    let keys = ["site.ams.silent", "point.late", "proof.late"];
    for key in keys {
        let begun = Instant::now();
        while of(&sites, "fra", key).len() % 2 == 1 {
            assert!(begun.elapsed() < PATIENCE, "{key} stands: {:?}", told(&sites, "fra"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let known = told(&sites, "fra").len();
    ams.signal(Signal::KILL);
    drop(ams);
    let killed = Instant::now();
    told_within(&sites, known, "site.ams.silent", SILENT, killed);

    // Then all that was there: the server, the bucket, the state, the files and the keys.
    sites.live.halt();
    let (site, away) = (sites.path().join("ams"), sites.path().join("ams.away"));
    let (keys_of_it, keys_away) = (sites.path().join("ams-keys"), sites.path().join("ams-keys.away"));
    fs::rename(&site, &away).unwrap();
    fs::rename(&keys_of_it, &keys_away).unwrap();
    told_within(&sites, known, "point.late", POINT, killed);
    told_within(&sites, known, "proof.late", PROVEN, killed);
    seen_from_the_spare(&sites);
    assert!(!site.exists(), "nobody has made the folders of the dead site anew");

    fs::rename(&away, &site).unwrap();
    fs::rename(&keys_away, &keys_of_it).unwrap();
    sites.live.start_again();
    let ams = start(&sites, "ams");
    for key in keys {
        until_told_after(&sites, "fra", known, key, "recovered");
        let since: Vec<_> = told(&sites, "fra").split_off(known).into_iter().filter(|(told, _)| told == key).collect();
        assert_eq!(
            since.iter().map(|(_, change)| change.as_str()).collect::<Vec<_>>(),
            ["raised", "recovered"],
            "{key}"
        );
    }
    ams.end();
    fra.end();
}

/// A report where the live site is gone as a whole: what the vault says, by its age; of the rest, that it is not known here.
fn seen_from_the_spare(sites: &Sites) {
    assert!(sites.refused("fra", &["report", "--strict"], 4).is_empty());
    let text = sites.run("fra", &["report"]);
    for line in [
        "STALE  app: ",
        "lost if ams died now  at most what came after ",
        "; rows and objects are not counted here\n",
        " MISSED\n",
        "MISSED     ams has said nothing for ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let report: Value = serde_json::from_str(&sites.run("fra", &["report", "--json"])).unwrap();
    assert_eq!((&report["vault_read"], &report["newest"]["met"]), (&Value::Bool(true), &Value::Bool(false)));
    let loss = &report["loss"];
    assert_eq!((&loss["rows"], &loss["objects"]), (&Value::Null, &Value::Null), "{report:#}");
    assert!(loss["seconds"].as_u64().is_some_and(|seconds| seconds >= POINT), "bounded by its age: {report:#}");
}

#[tokio::test]
async fn the_gate_shows_metrics_and_a_job_that_never_ran_is_told() {
    let pair = Pair::over(sites("[jobs.capture]\nat = \"*/2 * * * * *\"\nlate_after = \"3s\"\n").await);
    pair.does("ams", &["witness", "init"]);
    let ams = pair.start("ams");
    pair.until_state("ams", "STANDBY");
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    // Something else holds the site: what is due does not begin.
    let lock = pair.sites.state("ams").join("operation.lock");
    let begun = Instant::now();
    let held = loop {
        // A capture may be under way.
        match warmspare::durable::FileLock::try_take(&lock, "a test").unwrap() {
            Some(held) => break held,
            None => assert!(begun.elapsed() < PATIENCE),
        }
    };
    until_told(&pair.sites, "ams", "job.capture.late", "raised");
    let page = pair.page("ams", "/metrics");
    assert!(page.contains("warmspare_job_late{") && page.contains("job=\"capture\"} 1\n"), "{page}");
    drop(held);
    until_told(&pair.sites, "ams", "job.capture.late", "recovered");
    ams.end();
}

#[tokio::test]
async fn a_full_state_disk_is_told_and_the_site_goes_on_when_there_is_room() {
    let sites = sites("[jobs.capture]\nat = \"*/2 * * * * *\"\nretries = 0\n").await;
    let Some(disk) = Disk::mount(sites.state("ams")) else {
        println!("not root: the full disk was not tried");
        return;
    };
    let ams = start(&sites, "ams");
    until_told(&sites, "ams", "point.late", "recovered");
    disk.fill();
    // Nothing that a run begins with can be written down, nor what is told.
    until_told(&sites, "ams", "job.capture.failed", "raised");
    disk.empty();
    until_told(&sites, "ams", "job.capture.failed", "recovered");
    assert_eq!(of(&sites, "ams", "job.capture.failed"), ["raised", "recovered"]);
    ams.end();
}

#[tokio::test]
async fn failures_that_are_allowed_wake_nobody_and_one_more_does() {
    let sites = sites("[jobs.capture]\nat = \"@yearly\"\nfailures_allowed = 2\n").await;
    let ams = crate::jobs::start(&sites, "ams");
    let (etc, away) = (sites.root("ams").join("etc"), sites.path().join("away"));
    fs::rename(&etc, &away).unwrap();
    for times in ["FAILED (2 allowed", "FAILED, 2 times in a row (2 allowed"] {
        sites.refused("ams", &["jobs", "run", "capture"], 1);
        let report = sites.run("ams", &["report"]);
        assert!(
            report.contains(&format!("NOTICE     job capture {times} in a row before it is an alarm): ")),
            "{report}"
        );
    }
    let jobs = sites.command("ams", ["jobs"]).output().unwrap();
    assert!(shown(&jobs).contains("(2 of 2 failures that are no alarm)"), "{}", shown(&jobs));
    sites.refused("ams", &["jobs", "run", "capture"], 1);
    until_told(&sites, "ams", "job.capture.failed", "raised");
    let told = fs::read_to_string(sites.path().join("told-ams")).unwrap();
    assert!(told.contains("job capture FAILED, 3 times in a row: "), "{told}");
    assert!(!told.contains("allowed"), "none before: {told}");
    fs::rename(&away, &etc).unwrap();
    sites.run("ams", &["jobs", "run", "capture"]);
    until_told(&sites, "ams", "job.capture.failed", "recovered");
    assert_eq!(of(&sites, "ams", "job.capture.failed"), ["raised", "recovered"]);
    ams.end();
}
