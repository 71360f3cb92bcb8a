//! The schedule, run by real daemons on real servers: what a site does by itself, and what happens to it when it is disturbed.

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::noise;
use crate::support::daemons::{Daemon, JOBS, NAMES, Pair, switch_jobs_off};
use crate::support::sites::Sites;

const PATIENCE: Duration = Duration::from_secs(90);

/// Sites whose only jobs are these.
async fn sites_with(jobs: &str) -> Sites {
    let sites = Sites::filled().await;
    set_jobs(&sites, jobs);
    sites
}

/// Only these jobs from here on.
fn set_jobs(sites: &Sites, jobs: &str) {
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let rest = text.split("\n# Jobs\n").next().unwrap().to_owned();
    let off = JOBS.iter().filter(|job| !jobs.contains(&format!("[jobs.{job}]")));
    let off: String = off.map(|job| format!("[jobs.{job}]\nenabled = false\n")).collect();
    fs::write(sites.configuration(), format!("{rest}\n# Jobs\n{jobs}\n{off}")).unwrap();
}

fn log(sites: &Sites, site: &str) -> PathBuf {
    sites.path().join(format!("{site}.log"))
}

/// A daemon that listens.
pub fn start(sites: &Sites, site: &str) -> Daemon {
    let daemon = Daemon::start(sites.command(site, ["run"]), log(sites, site));
    let says = |output: &Output| !String::from_utf8_lossy(&output.stderr).contains("no daemon runs");
    let begun = Instant::now();
    while !sites.command(site, ["jobs"]).output().is_ok_and(|output| output.status.success() && says(&output)) {
        assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(log(sites, site)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon
}

fn job(sites: &Sites, site: &str, name: &str) -> Value {
    let jobs: Value = serde_json::from_str(&sites.run(site, &["jobs", "--json"])).unwrap();
    jobs.as_array().unwrap().iter().find(|job| job["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a job stands as it should.
fn until(sites: &Sites, site: &str, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let job = job(sites, site, name);
        if is(&job) {
            return job;
        }
        let said = || fs::read_to_string(log(sites, site)).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{name} at {site} never {what}: {job:#}\n{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A capture that takes long enough to be disturbed.
fn slow_captures(sites: &Sites) {
    sites.edit_configuration("[\"echo\", \"app 1.2.3\"]", "[\"sh\", \"-c\", \"sleep 3; echo app 1.2.3\"]");
}

/// Waits until the site is held by this.
fn until_held(sites: &Sites, holder: &str) {
    let begun = Instant::now();
    while !fs::read_to_string(sites.state("ams").join("operation.lock")).is_ok_and(|note| note.contains(holder)) {
        assert!(begun.elapsed() < PATIENCE, "the site is not held by {holder}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn refused(sites: &Sites, site: &str, arguments: &[&str], code: i32, why: &str) {
    let said = sites.refused(site, arguments, code);
    assert!(said.contains(why), "{arguments:?}: {said}");
}

#[tokio::test]
async fn by_themselves_the_live_site_captures_and_the_spare_rehearses() {
    let sites = sites_with(
        "[jobs.capture]\nat = \"*/3 * * * * *\"\n[jobs.rehearse]\nat = \"* * * * * *\"\n[jobs.check]\nat = \"* * * * * *\"\non = \"spare\"\n",
    )
    .await;
    let daemons = ["ams", "fra"].map(|site| start(&sites, site));
    assert_eq!(job(&sites, "ams", "rehearse")["runs_here"], false);
    let number = |job: &Value| -> u64 {
        let point = job["last"]["point"].as_str().unwrap_or("0-0");
        point.split('-').nth(1).unwrap().parse().unwrap()
    };
    until(&sites, "fra", "rehearse", "proves a point", |job| number(job) > 0);
    sites.live.sql("app", "INSERT INTO public.origins VALUES ('late', 3)").await;
    // One may be under way that does not have it.
    let newest = number(&job(&sites, "ams", "capture")) + 2;
    until(&sites, "ams", "capture", "captures it", |job| number(job) >= newest);
    until(&sites, "fra", "rehearse", "brings it", |job| number(job) >= newest);
    until(&sites, "fra", "check", "looks beside it", |job| !job["last"].is_null());
    // Both have told the other how their jobs stand.
    let told = |site: &str| {
        let text =
            fs::read_to_string(sites.vault().join(format!("systems/app/status/{site}.json"))).unwrap_or_default();
        text.contains("runs_here")
    };
    let begun = Instant::now();
    while !(told("ams") && told("fra")) {
        assert!(begun.elapsed() < PATIENCE, "the status of a site never came");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for daemon in daemons {
        let said = daemon.end();
        assert!(!said.contains("panicked"), "{said}");
    }
    let session = sites.spare.session("app").await;
    let found =
        session.texts("looking for it", "SELECT count(*)::text FROM public.origins WHERE name = 'late'").await.unwrap();
    session.close().await;
    assert_eq!(found, ["1"], "what was written at the live site has come to the spare");
    // No two at a time: every point is there, and each has its own number.
    let points = sites.points("ams");
    assert!(points.len() >= 2, "{points:#?}");
}

#[tokio::test]
async fn a_daemon_that_is_killed_takes_its_run_along_and_the_next_one_makes_up_for_it() {
    let sites = sites_with("[jobs.capture]\nat = \"* * * * * *\"\nretry_after = \"1s\"\n").await;
    slow_captures(&sites);
    let daemon = start(&sites, "ams");
    until(&sites, "ams", "capture", "begins", |job| !job["running_since"].is_null());
    daemon.signal(Signal::KILL);
    drop(daemon);
    let begun = Instant::now();
    while sites.command("ams", ["capture", "--json"]).output().unwrap().status.code() == Some(3) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the run outlived its daemon and holds the site");
    }
    let left = job(&sites, "ams", "capture");
    assert!(!left["running_since"].is_null(), "it is written down before it begins: {left:#}");
    let _daemon = start(&sites, "ams");
    let lost = |job: &Value| job["last"]["verdict"] == "lost" || job["last"]["verdict"] == "done";
    until(&sites, "ams", "capture", "is known to be lost", lost);
    until(&sites, "ams", "capture", "is made up for", |job| job["last"]["verdict"] == "done" && job["failures"] == 0);
}

#[tokio::test]
async fn told_to_end_the_daemon_ends_its_run_and_says_so() {
    let sites = sites_with("[jobs.capture]\nat = \"* * * * * *\"\n").await;
    slow_captures(&sites);
    let daemon = start(&sites, "ams");
    until(&sites, "ams", "capture", "begins", |job| !job["running_since"].is_null());
    let said = daemon.end();
    assert!(said.contains("told to end by SIGTERM"), "{said}");
    let last = job(&sites, "ams", "capture");
    assert!(last["running_since"].is_null(), "{last:#}");
    assert_eq!(last["last"]["what"], "the daemon was told to end", "{last:#}");
    sites.run("ams", &["capture", "--json"]);
}

#[tokio::test]
async fn what_a_person_asks_for_is_run_joined_paused_and_resumed() {
    let sites = sites_with(
        "[jobs.capture]\nat = \"@yearly\"\n[jobs.check]\nat = \"@yearly\"\n[jobs.prune]\nat = \"@yearly\"\n",
    )
    .await;
    // Without a daemon it is run here, and remembered.
    let ran: Value = serde_json::from_str(&sites.run("ams", &["jobs", "run", "capture", "--json"])).unwrap();
    assert_eq!((ran["verdict"].as_str(), ran["point"].as_str()), (Some("done"), Some("0-1")), "{ran:#}");
    refused(&sites, "ams", &["jobs", "run", "prune"], 3, "job prune runs on spare, and ams is not that now");
    refused(
        &sites,
        "ams",
        &["jobs", "run", "captur"],
        2,
        "there is no job `captur` (there are: capture, check, prune)",
    );

    slow_captures(&sites);
    let daemon = start(&sites, "ams");
    assert_eq!(job(&sites, "ams", "capture")["last"]["point"], "0-1");
    refused(&sites, "ams", &["run"], 3, "a daemon of ams runs already: warmspare run, process");
    refused(&sites, "ams", &["jobs", "run", "prune"], 3, "job prune runs on spare, and this site is live");
    fs::remove_file(sites.state("ams").join("operation.lock")).unwrap();
    let one = sites.command("ams", ["jobs", "run", "capture"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    until(&sites, "ams", "capture", "begins", |job| !job["running_since"].is_null());
    until_held(&sites, "warmspare capture");
    refused(&sites, "ams", &["capture"], 3, "another operation is under way at ams: warmspare capture, process");
    let joined = sites.run("ams", &["jobs", "run", "capture"]);
    let one = one.wait_with_output().unwrap();
    assert_eq!(
        (String::from_utf8(one.stdout).unwrap(), joined.as_str()),
        (joined.clone(), "job capture is done: point 0-2\n")
    );

    refused(&sites, "ams", &["jobs", "pause", "capture", "--until", "40d", "--why", "x"], 2, "longer than 31 days");
    refused(&sites, "ams", &["jobs", "pause", "capture", "--until", "soon", "--why", "x"], 2, "`soon` says no time");
    sites.run("ams", &["jobs", "pause", "capture", "--until", "4h", "--why", "new disks"]);
    let paused = job(&sites, "ams", "capture");
    assert_eq!((paused["pause"]["why"].as_str(), paused["next_at"].is_null()), (Some("new disks"), true), "{paused:#}");
    assert!(sites.run("ams", &["jobs"]).contains(": new disks"), "seen by everybody");
    daemon.end();
    // It outlives the daemon, and is taken back without one.
    assert_eq!(job(&sites, "ams", "capture")["pause"]["why"], "new disks");
    sites.run("ams", &["jobs", "resume", "capture"]);
    assert!(job(&sites, "ams", "capture")["pause"].is_null());
}

#[tokio::test]
async fn a_job_waits_for_what_a_person_has_begun_and_says_for_what() {
    let sites = sites_with("[jobs.capture]\nat = \"* * * * * *\"\n").await;
    slow_captures(&sites);
    let mut person = sites.command("ams", ["capture", "--json"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    until_held(&sites, &format!("warmspare capture, process {}", person.id()));
    let _daemon = start(&sites, "ams");
    let waits =
        until(&sites, "ams", "capture", "waits", |job| !job["waits_for"].is_null() || !job["done_at"].is_null());
    let why = waits["waits_for"].as_str().unwrap_or_default();
    assert!(why.starts_with("another operation is under way: warmspare capture, process"), "{waits:#}");
    assert!(person.wait().unwrap().success());
    until(&sites, "ams", "capture", "runs after it", |job| !job["done_at"].is_null());
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_and_a_good_one_is_taken_up_without_a_restart() {
    let sites = sites_with("[jobs.check]\nat = \"@yearly\"\n").await;
    let daemon = start(&sites, "ams");
    let said = |what: &str| {
        let begun = Instant::now();
        while !fs::read_to_string(&daemon.log).unwrap().contains(what) {
            assert!(begun.elapsed() < PATIENCE, "never said: {what}\n{}", fs::read_to_string(&daemon.log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    set_jobs(&sites, "[jobs.check]\nat = \"0 0 30 2 *\"\n");
    daemon.signal(Signal::HUP);
    said("no month has such a day");
    said("what was read before holds");
    set_jobs(&sites, "[jobs.check]\nat = \"* * * * * *\"\n");
    daemon.signal(Signal::HUP);
    said("the configuration was read again");
    until(&sites, "ams", "check", "runs by its new line", |job| !job["last"].is_null());
    sites.edit_configuration("system = \"app\"", "system = \"other\"");
    daemon.signal(Signal::HUP);
    said("changes the system, the names of the sites, the witness, the gate or the state folder");
    sites.edit_configuration("system = \"other\"", "system = \"app\"");
    // What runs is given what was read before, whatever is in the file.
    fs::write(sites.configuration(), "spoilt = 1\n").unwrap();
    daemon.signal(Signal::HUP);
    said("unknown key `spoilt`");
    let state = sites.state("ams").join("jobs/check.json");
    let done = || -> Value { serde_json::from_slice(&fs::read(&state).unwrap()).unwrap() };
    let (before, begun) = (done()["done_at"].clone(), Instant::now());
    while done()["done_at"] == before || done()["failures"] != 0 {
        assert!(begun.elapsed() < PATIENCE, "{:#}", done());
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.end();
}

/// A limit meant for the day must not hold for the night, too, because the first copy takes longer than that.
#[tokio::test]
async fn a_limit_that_is_lifted_holds_for_the_capture_that_the_daemon_runs() {
    let sites = BucketSites::folders();
    switch_jobs_off(&sites.configuration());
    sites.edit_configuration("[jobs.capture]\nenabled = false\n", "[jobs.capture]\nat = \"@yearly\"\n");
    sites.edit_configuration("live = \"ams\"\n", "live = \"ams\"\nmirror = { limits = [\"64 KiB/s\"] }\n");
    // Four minutes at this rate.
    sites.put("k", &noise(1, 16 << 20));
    let daemon = Daemon::start(sites.command("ams", &["run"]), sites.path().join("ams.log"));
    let said = |what: &str| {
        let (begun, log) = (Instant::now(), || fs::read_to_string(&daemon.log).unwrap());
        while !log().contains(what) {
            assert!(begun.elapsed() < PATIENCE, "never said: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    said("capture on live");
    let asked = sites.command("ams", &["jobs", "run", "capture", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    said("it begins");
    // A run that does not listen yet is not ended by it.
    daemon.signal(Signal::HUP);
    said("the configuration was read again");
    said("hold from now on");
    sites.edit_configuration("64 KiB/s", "900 MiB/s");
    let lifted = Instant::now();
    daemon.signal(Signal::HUP);
    let ran: Value = serde_json::from_slice(&asked.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((ran["verdict"].as_str(), ran["point"].as_str()), (Some("done"), Some("0-1")), "{ran:#}");
    assert!(lifted.elapsed() < Duration::from_secs(60), "{:?}", lifted.elapsed());
    let log = daemon.end();
    assert_eq!(log.matches("hold from now on").count(), 2, "{log}");
    assert!(!log.contains("listens_for"), "that is between the daemon and its run: {log}");
}

/// Without a witness a person says who is live, in the file; a daemon that went on as before would capture at the wrong site.
#[tokio::test]
async fn who_is_live_is_taken_from_the_file_at_once() {
    let sites = sites_with("[jobs.capture]\nat = \"* * * * * *\"\n[jobs.rehearse]\nat = \"* * * * * *\"\n").await;
    let daemon = start(&sites, "ams");
    until(&sites, "ams", "capture", "captures", |job| !job["done_at"].is_null());
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    until(&sites, "ams", "capture", "ends", |job| job["runs_here"] == false && job["running_since"].is_null());
    assert_eq!(job(&sites, "ams", "rehearse")["runs_here"], true);
    sites.edit_configuration("live = \"fra\"", "live = \"ams\"");
    until(&sites, "ams", "capture", "captures again", |job| job["runs_here"] == true);
    daemon.end();
}

#[tokio::test]
async fn a_state_folder_that_takes_no_records_is_told_and_nothing_runs_unnoticed() {
    let sites = sites_with("[jobs.check]\nat = \"@yearly\"\n").await;
    let daemon = start(&sites, "ams");
    let records = sites.state("ams").join("jobs");
    fs::remove_dir_all(&records).unwrap();
    fs::write(&records, "no folder").unwrap();
    refused(&sites, "ams", &["jobs", "run", "check"], 1, "");
    let failed = job(&sites, "ams", "check");
    let what = failed["last"]["what"].as_str().unwrap_or_default();
    assert!(what.starts_with("the record of job check at "), "{failed:#}");
    daemon.end();
}

/// A job that brings the buckets over, and takes no point.
#[tokio::test]
async fn between_two_captures_the_mirror_runs_by_itself_and_takes_no_point() {
    let sites = sites_with("[jobs.capture]\nat = \"@yearly\"\n[jobs.mirror]\nat = \"* * * * * *\"\n").await;
    let _daemon = start(&sites, "ams");
    until(&sites, "ams", "mirror", "brings the objects", |job| !job["done_at"].is_null());
    assert_eq!(fs::read(sites.bucket("fra").join("core/a.hart")).unwrap(), b"xxxxxxxxxx");
    assert_eq!(sites.points("ams").len(), 0);
    sites.run("ams", &["jobs", "run", "capture"]);
    assert_eq!(sites.points("ams").len(), 1);
    refused(&sites, "fra", &["mirror", "run"], 3, "");
}

/// A point that was found different says so at every rehearsal, and is not restored again and again.
#[tokio::test]
async fn a_rehearsal_does_nothing_twice_whatever_came_of_it() {
    let sites = sites_with("[jobs.rehearse]\nat = \"@yearly\"\n").await;
    let rehearse = |code: i32| sites.refused("fra", &["restore", "--if-new", "--json"], code);
    assert!(rehearse(0).contains("nothing new: there is no recovery point yet"));
    sites.run("ams", &["capture"]);
    rehearse(0);
    assert!(rehearse(0).contains("nothing new: point 0-1 is proven here"), "proven once");
    let runs = || {
        fs::read_dir(sites.state("fra").join("restores"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("0-"))
            .count()
    };
    assert_eq!(runs(), 1);
    sites.run("ams", &["capture"]);
    // What is compared has changed since it came.
    let lose = format!("restore.loaded=rm {}", sites.bucket("fra").join("core/a.hart").display());
    let output = sites.command("fra", ["restore", "--if-new"]).env("WARMSPARE_FAILPOINT_RUN", lose).output().unwrap();
    assert_eq!((output.status.code(), runs()), (Some(4), 2), "{}", String::from_utf8_lossy(&output.stderr));
    let said = rehearse(4);
    assert!(said.contains("point 0-2 was restored here and found different; it is not tried again"), "{said}");
    assert_eq!(runs(), 2);
    let run = sites.refused("fra", &["jobs", "run", "rehearse"], 4);
    assert!(!run.contains("error: the"), "{run}");
    let stands = job(&sites, "fra", "rehearse");
    assert_eq!(
        (stands["last"]["verdict"].as_str(), stands["failures"].as_u64()),
        (Some("incomplete"), Some(1)),
        "{stands:#}"
    );
}

/// Killed right after a run was written down, and right after its end was.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_daemon_killed_at_its_durable_steps_loses_no_run_unnoticed() {
    let sites = sites_with("[jobs.check]\nat = \"* * * * * *\"\nretry_after = \"1s\"\n").await;
    let lost = || {
        let record = fs::read_to_string(sites.state("ams").join("jobs/check.json")).unwrap();
        record.matches("\"lost\"").count()
    };
    for (step, is_under_way) in [("daemon.begin", true), ("daemon.ended", false)] {
        let mut command = sites.command("ams", ["run"]);
        let output = command.env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert!(!output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
        let left = job(&sites, "ams", "check");
        assert_eq!(!left["running_since"].is_null(), is_under_way, "{step}: {left:#}");
        let before = lost();
        let daemon = start(&sites, "ams");
        until(&sites, "ams", "check", "runs again", |job| job["last"]["verdict"] == "done" && job["failures"] == 0);
        assert_eq!(lost() - before, usize::from(is_under_way), "{step}");
        daemon.end();
    }
}

/// With a witness the lease decides which site runs what, and a change of roles changes that.
#[test]
fn with_a_witness_jobs_follow_the_lease() {
    let pair = Pair::new();
    let off =
        |job: &str, at: &str| (format!("[jobs.{job}]\nenabled = false\n"), format!("[jobs.{job}]\nat = \"{at}\"\n"));
    for (job, at) in [("capture", "*/2 * * * * *"), ("rehearse", "* * * * * *")] {
        let (from, to) = off(job, at);
        pair.sites.edit_configuration(&from, &to);
    }
    pair.does("ams", &["witness", "init"]);
    let _daemons = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    let job = |site: &str, name: &str| -> Value {
        let output = pair.does(site, &["jobs", "--json"]);
        let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
        jobs.as_array().unwrap().iter().find(|job| job["name"] == name).cloned().unwrap()
    };
    let until = |site: &str, name: &str, what: &str, is: &dyn Fn(&Value) -> bool| {
        let begun = Instant::now();
        while !is(&job(site, name)) {
            let said = fs::read_to_string(pair.sites.path().join(format!("{site}.log"))).unwrap();
            assert!(begun.elapsed() < PATIENCE, "{name} at {site} never {what}: {:#}\n{said}", job(site, name));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert!(NAMES.iter().all(|site| job(site, "capture")["last"].is_null()), "nobody is live");
    pair.sites.put("core/a.hart", b"first");
    pair.does("ams", &["failover", "--first", "--yes", "ams", "--why", "the first"]);
    let term = |number: &'static str| {
        move |job: &Value| job["last"]["point"].as_str().is_some_and(|point| point.starts_with(number))
    };
    until("ams", "capture", "captures in term 1", &term("1-"));
    until("fra", "rehearse", "proves a point of term 1", &term("1-"));
    assert_eq!(job("fra", "capture")["runs_here"], false);

    pair.sites.put("core/b.hart", b"second");
    let hand_over = ["switchover", "--to", "fra", "--yes", "ams", "--why", "drill"];
    pair.does("ams", &hand_over);
    let begun = Instant::now();
    while !pair.command("fra", &["failover", "--yes", "fra"]).output().unwrap().status.success() {
        assert!(begun.elapsed() < PATIENCE, "a rehearsal must not hold up a failover for long");
    }
    assert_eq!(fs::read(pair.sites.bucket("fra").join("core/b.hart")).unwrap(), b"second");
    until("fra", "capture", "captures in term 2", &term("2-"));
    assert_eq!(job("ams", "capture")["runs_here"], false);
    assert_eq!(job("fra", "rehearse")["runs_here"], false);
}

#[test]
fn systemd_takes_the_unit() {
    let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd/warmspare.service");
    let folder = tempfile::tempdir().unwrap();
    // The program it names is looked for, too.
    let text = fs::read_to_string(unit).unwrap().replace("/usr/local/bin/warmspare", env!("CARGO_BIN_EXE_warmspare"));
    let copy = folder.path().join("warmspare.service");
    fs::write(&copy, text).unwrap();
    let Ok(output) = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output()
    else {
        return eprintln!("systemd-analyze is not on this machine");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("warmspare.service:"), "{said}");
}

#[tokio::test]
async fn a_rehearsal_is_not_found_different_because_the_live_site_went_on() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    // The next capture has begun: its mirror has overwritten what the newest point names.
    sites.put_object("core/a.hart", b"published once more");
    sites.run("ams", &["mirror", "run"]);
    let report = sites.run("fra", &["restore", "--if-new"]);
    assert!(report.contains("3 objects re-read (") && report.contains("1 of them in the attic"), "{report}");
    let words = sites.refused("fra", &["restore"], 4);
    assert!(words.contains("DIFFERS") || words.contains("differ"), "whoever takes over must know: {words}");
    // What is not kept anywhere is a difference in a rehearsal, too.
    sites.run("ams", &["capture"]);
    fs::remove_file(sites.bucket("fra").join("core/b.hart")).unwrap();
    assert!(!sites.refused("fra", &["restore", "--if-new"], 4).is_empty());
}
