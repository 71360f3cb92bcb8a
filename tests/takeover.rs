//! A takeover that meets another one, a restart, a live site that is well, or a point that is not as it should be: what is opened is the
//! newest that can be had, or what a person named; and each refusal names a command that leads on.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::daemons::{Daemon, NAMES, Pair, TwoSites};
use crate::support::sites::{Sites, shown};

/// Both daemons up, ams live in term 1.
fn live_with<S: TwoSites>(pair: &Pair<S>) -> [Daemon; 2] {
    pair.does("ams", &["witness", "init"]);
    let daemons = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    daemons
}

/// The same, with one point.
fn live() -> (Pair, [Daemon; 2]) {
    let pair = Pair::new();
    let daemons = live_with(&pair);
    capture(&pair, "core/a.hart", "1-1");
    pair.until("fra", "sees term 1", |status| status["record"]["term"] == 1);
    (pair, daemons)
}

fn capture(pair: &Pair, key: &str, point: &str) {
    pair.sites.put(key, key.as_bytes());
    let taken = pair.does("ams", &["capture", "--json"]);
    let taken: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!(taken["point"], point, "{taken}");
}

/// A takeover at fra that was given up while it waited.
fn given_up<S: TwoSites>(pair: &Pair<S>, reason: &str) -> Value {
    let mut waiting = pair.command("fra", &["failover", "--yes", "fra", "--why", reason]).spawn().unwrap();
    pair.until_state("fra", "WAITING");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    pair.does("fra", &["lease", "cancel", "--yes", "fra", "--why", "ams is well"]);
    pair.until_state("fra", "READY")
}

fn go(pair: &Pair) -> PathBuf {
    pair.sites.path().join("go")
}

/// A failover at fra whose restore begins, and goes on when the file `go` is there.
fn held_up(pair: &Pair) -> Child {
    let waits = format!("restore.journal=while [ ! -e {} ]; do sleep 0.05; done", go(pair).display());
    let mut command = pair.command("fra", &["failover", "--yes", "fra", "--why", "the first"]);
    command.env("WARMSPARE_FAILPOINT_RUN", waits).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    pair.until_state("fra", "RESTORING");
    let journal = || {
        let restores = fs::read_dir(pair.sites.state("fra").join("restores")).into_iter().flatten();
        restores.flatten().any(|run| fs::metadata(run.path().join("journal.jsonl")).is_ok_and(|file| file.len() > 0))
    };
    let begun = Instant::now();
    while !journal() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the restore never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last words of a command that did not end well.
fn ends(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", shown(output));
    let words = words(output);
    let is_last = |line: &&str| line.starts_with("error: ") || line.starts_with("next:  ");
    words.lines().filter(is_last).collect::<Vec<_>>().join("\n")
}

/// Two at the same site, both awake: the one who came first had his restore thrown away after an hour, and was told that it was done.
#[test]
fn a_second_failover_leaves_the_restore_of_the_first_alone() {
    let (pair, [ams, fra]) = live();
    ams.signal(Signal::STOP);
    let first = held_up(&pair);
    let second = pair.command("fra", &["failover", "--yes", "fra", "--why", "the second"]).output().unwrap();
    let told = ends(&second, 3);
    assert!(told.starts_with("error: another operation is under way at fra: warmspare restore, process "), "{told}");
    assert!(told.ends_with("next:  Wait for it to end, then run the command again."), "{told}");
    assert_eq!(pair.status("fra")["state"], "RESTORING", "the restore of the first goes on");
    fs::write(go(&pair), "").unwrap();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", shown(&first));
    assert_eq!(pair.gate("fra"), Some(200));
    drop((ams, fra));
}

/// What ends while nobody awaits it any more is said to its operator, and running it again goes on.
#[test]
fn a_restore_that_was_given_up_or_outlived_its_daemon_says_so_and_is_run_again() {
    let (pair, [ams, mut fra]) = live();
    ams.signal(Signal::STOP);
    let given_up = held_up(&pair);
    pair.does("fra", &["lease", "cancel", "--yes", "fra", "--why", "wrong site"]);
    fs::write(go(&pair), "").unwrap();
    let told = ends(&given_up.wait_with_output().unwrap(), 3);
    assert!(
        told.starts_with("error: point 1-1 is restored and proven at fra, and fra is STANDBY: ")
            && told.contains(" gave this takeover up meanwhile (wrong site)\nnext:  Run `warmspare failover` again"),
        "{told}"
    );
    fs::remove_file(go(&pair)).unwrap();
    fs::remove_dir_all(pair.sites.state("fra").join("restores")).unwrap();
    let outlived = held_up(&pair);
    drop(fra);
    fra = pair.start("fra");
    fs::write(go(&pair), "").unwrap();
    let told = ends(&outlived.wait_with_output().unwrap(), 3);
    assert_eq!(
        told,
        "error: point 1-1 is restored and proven at fra, and fra is STANDBY: its daemon was started anew meanwhile\n\
         next:  Run `warmspare failover` again: it goes on with what is restored, which is proven once more."
    );
    pair.does("fra", &["failover", "--yes", "fra"]);
    assert_eq!(pair.gate("fra"), Some(200));
    drop((ams, fra));
}

/// A takeover that was given up left the site READY, with its data as they were; days later it was opened with them.
#[test]
fn what_was_ready_days_ago_is_not_opened_once_the_vault_has_more() {
    let (pair, [ams, fra]) = live();
    assert_eq!(given_up(&pair, "too early")["restored"], "1-1");
    capture(&pair, "core/b.hart", "1-2");
    let dry = words(&pair.does("fra", &["failover", "--dry-run"]));
    assert!(dry.contains("with point 1-2, captured ") && dry.contains(" ago"), "{dry}");
    assert!(dry.contains("what was written since is lost"), "{dry}");
    // Again to the same place, and by hand to an older one.
    assert_eq!(given_up(&pair, "too early again")["restored"], "1-2", "the newest");
    pair.does("fra", &["restore", "--point", "1-1"]);
    ams.signal(Signal::STOP);
    let taken = pair.does("fra", &["failover", "--yes", "fra", "--json"]);
    let told: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!(told["restored"]["point"], "1-2", "restored once more: {told}");
    assert!(words(&taken).contains("gives up what is restored here"), "{}", words(&taken));
    drop((ams, fra));
}

/// What is READY and still the newest is not restored twice: that may take an hour.
#[test]
fn what_is_ready_and_the_newest_is_opened_as_it_is() {
    let (pair, [ams, fra]) = live();
    given_up(&pair, "too early");
    ams.signal(Signal::STOP);
    let taken = pair.does("fra", &["failover", "--yes", "fra", "--json"]);
    let told: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!((&told["restored"], &told["point"]), (&Value::Null, &Value::from("1-1")), "{told}");
    drop((ams, fra));
}

/// Somebody puts another database in the place of the one that was restored: the site is READY still, and has nothing to be live with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_moved_away_from_a_ready_site_is_noticed() {
    let pair = Pair::over(Sites::filled().await);
    let daemons = live_with(&pair);
    pair.does("ams", &["capture"]);
    pair.until("fra", "sees term 1", |status| status["record"]["term"] == 1);
    given_up(&pair, "too early");
    let dry = || words(&pair.does("fra", &["failover", "--dry-run"]));
    let restored = ", which is restored and proven here; what was written since is lost";
    assert!(dry().contains(restored), "{}", dry());
    pair.sites.spare.sql("postgres", "ALTER DATABASE app RENAME TO mine").await;
    assert!(dry().contains("with point 1-1, ") && !dry().contains(restored), "{}", dry());
    pair.sites.spare.sql("postgres", "ALTER DATABASE mine RENAME TO app").await;
    assert!(dry().contains(restored), "{}", dry());
    pair.does("fra", &["restore", "--point", "1-1", "--only", "database.app"]);
    assert!(!dry().contains(restored), "what is not the whole point is not looked into: {}", dry());
    drop(daemons);
}

/// Weeks later the live site is rebooted for a minute: a takeover that nobody remembers must not be waiting for that.
#[test]
fn a_takeover_of_a_site_that_is_well_comes_to_an_end() {
    let (pair, [ams, fra]) = live();
    let refused = pair.command("fra", &["failover", "--yes", "fra", "--why", "too early"]).output().unwrap();
    let told = ends(&refused, 1);
    assert!(
        told.starts_with("error: failover came to nothing: fra is READY: ams is live: it renewed its lease "),
        "{told}"
    );
    assert!(told.contains("next:  Hand over from there: `warmspare switchover --to fra` at ams."), "{told}");
    let status = pair.until_state("fra", "READY");
    assert!(status["refusal"].as_str().unwrap().starts_with("ams is live: "), "{status}");
    let told = String::from_utf8(pair.does("fra", &["lease", "status"]).stdout).unwrap();
    assert!(told.contains("warmspare switchover --to fra") && told.contains("point 1-1"), "{told}");
    // And with nobody there any more.
    let mut waiting = pair.command("fra", &["failover", "--yes", "fra", "--why", "cut off"]).spawn().unwrap();
    pair.until_state("fra", "WAITING");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    pair.until_state("fra", "READY");
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(200), Some(503)]);
    drop((ams, fra));
}

/// Changes the record of the newest point in the vault.
fn spoil_newest(pair: &Pair) {
    let points = pair.sites.path().join("vault/systems/app/points");
    let newest = fs::read_dir(points).unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    let spoiled = fs::read_to_string(&newest).unwrap().replacen("captured_at", "captured_ad", 1);
    fs::write(&newest, spoiled).unwrap();
}

/// The vault burns with the live site: what is restored and proven here needs it no more.
#[test]
fn what_is_ready_is_opened_without_a_vault_when_a_person_names_it() {
    let (pair, [ams, fra]) = live();
    given_up(&pair, "too early");
    ams.signal(Signal::STOP);
    let dry = |arguments: &[&str], code: i32| {
        let arguments = [&["failover", "--dry-run"], arguments].concat();
        let output = pair.command("fra", &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", shown(&output));
        words(&output)
    };
    let vault = pair.sites.path().join("vault");
    let away = pair.sites.path().join("away");
    fs::rename(&vault, &away).unwrap();
    let untold = dry(&[], 1);
    assert!(untold.contains("error: which point is the newest cannot be told: "), "{untold}");
    assert!(
        untold.contains(
            "fra has restored and proven 1-1: without the vault `warmspare failover --point 1-1` goes on with that."
        ),
        "{untold}"
    );
    let named = dry(&["--point", "1-1"], 0);
    assert!(named.contains("with point 1-1, which is restored and proven here"), "{named}");
    fs::rename(&away, &vault).unwrap();
    spoil_newest(&pair);
    for arguments in [&[][..], &["--point", "1-1"]] {
        let damaged = dry(arguments, 0);
        assert!(damaged.contains("with point 1-1, which is restored and proven here"), "{damaged}");
    }
    pair.does("fra", &["failover", "--yes", "fra"]);
    assert_eq!(pair.gate("fra"), Some(200));
    drop((ams, fra));
}

/// The newest point is damaged and the live site is gone: no command made the spare live.
#[test]
fn an_older_point_is_taken_when_a_person_names_it_and_is_told_what_is_lost() {
    let (pair, [ams, fra]) = live();
    capture(&pair, "core/b.hart", "1-2");
    ams.signal(Signal::STOP);
    let unknown = ends(&pair.command("fra", &["failover", "--point", "1-7", "--yes", "fra"]).output().unwrap(), 2);
    assert_eq!(unknown, "error: there is no recovery point 1-7\nnext:  `warmspare points` lists those there are.");
    spoil_newest(&pair);
    let damaged = ends(&pair.command("fra", &["failover", "--yes", "fra"]).output().unwrap(), 3);
    assert_eq!(
        damaged,
        "error: the newest recovery point, 1-2, is damaged or not to be believed\n\
         next:  `warmspare points` says what is wrong with it. The newest that is whole: --point 1-1."
    );
    let dry = words(&pair.does("fra", &["failover", "--point", "1-1", "--dry-run"]));
    assert!(dry.contains("with point 1-1, captured ") && dry.contains("Point 1-2 is newer, and is not taken"), "{dry}");
    let taken = pair.does("fra", &["failover", "--point", "1-1", "--yes", "fra", "--json"]);
    let told: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!((&told["restored"]["point"], &told["state"]), (&Value::from("1-1"), &Value::from("LIVE")), "{told}");
    drop((ams, fra));
}

/// The final point of who let go is not negotiable: everything is in it.
#[test]
fn no_older_point_than_the_final_one_is_taken() {
    let (pair, daemons) = live();
    pair.does("ams", &["switchover", "--to", "fra", "--yes", "ams"]);
    pair.until("fra", "sees it released", |status| status["record"]["mode"] == "released");
    let refused = ends(&pair.command("fra", &["failover", "--point", "1-1", "--yes", "fra"]).output().unwrap(), 3);
    assert_eq!(
        refused,
        "error: the last live site let go with point 1-2, which has everything it had, and 1-1 was asked for\n\
         next:  Leave --point out: 1-2 is restored and proven here."
    );
    pair.does("fra", &["failover", "--yes", "fra"]);
    drop(daemons);
}

/// One object is lost, and with it the live site that had it: the rest is worth more than none.
#[test]
fn a_point_with_lost_objects_is_opened_when_a_person_accepts_so_many() {
    let (pair, [ams, fra]) = live();
    capture(&pair, "core/b.hart", "1-2");
    ams.signal(Signal::STOP);
    fs::remove_file(pair.sites.bucket("fra").join("core/a.hart")).unwrap();
    let told = ends(&pair.command("fra", &["failover", "--yes", "fra"]).output().unwrap(), 4);
    assert!(
        told.starts_with(
            "error: point 1-2 is restored and not proven equal: fra does not become live with it\nnext:  "
        ),
        "{told}"
    );
    for command in [
        "report.txt",
        "`warmspare restore --only bucket.artifacts --point 1-2 --replace`",
        "`warmspare failover --point ID`",
        "`warmspare failover --accept-different 1`",
    ] {
        assert!(told.contains(command), "{command}: {told}");
    }
    assert_eq!(pair.status("fra")["state"], "STANDBY");
    let few = ends(&pair.command("fra", &["failover", "--accept-different", "0", "--yes", "fra"]).output().unwrap(), 4);
    assert!(few.contains("not proven equal"), "{few}");
    let dry = words(&pair.does("fra", &["failover", "--accept-different", "1", "--dry-run"]));
    assert!(dry.contains("though up to 1 object of its buckets is missing or another"), "{dry}");
    let taken = pair.does("fra", &["failover", "--accept-different", "1", "--yes", "fra", "--json"]);
    let told: Value = serde_json::from_slice(&taken.stdout).unwrap();
    let restored = &told["restored"];
    assert_eq!(
        (&told["state"], &restored["verdict"], &restored["accepted"]),
        (&Value::from("LIVE"), &Value::from("different"), &Value::from(1)),
        "the proof stays red: {told}"
    );
    assert!(words(&taken).contains("live without 1 object that is missing or another: "), "{}", words(&taken));
    let told = String::from_utf8(pair.does("fra", &["lease", "status"]).stdout).unwrap();
    assert!(told.contains("failover --accept-different 1 by "), "it can be asked for later: {told}");
    drop((ams, fra));
}
