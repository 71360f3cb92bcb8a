//! Two daemons, a witness, and a balancer that asks both all the time: whatever is killed, stopped or cut, one site takes traffic.

use std::fs;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use crate::support::daemons::{Daemon, NAMES, Pair};

/// Both daemons up, ams live in term 1.
fn live() -> (Pair, [Daemon; 2]) {
    let pair = Pair::new();
    pair.does("ams", &["witness", "init"]);
    let daemons = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(503); 2], "nobody is live by itself");
    pair.does("ams", &["failover", "--first", "--yes", "ams", "--why", "the first"]);
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(200), Some(503)]);
    pair.until("fra", "sees term 1", |status| status["record"]["term"] == 1);
    (pair, daemons)
}

#[test]
fn a_planned_switch_loses_nothing_and_a_killed_daemon_comes_back_closed() {
    let (pair, [ams, fra]) = live();
    let balancer = pair.balancer();
    pair.sites.put("core/a.hart", b"first");
    let point = pair.does("ams", &["capture", "--json"]);
    assert!(String::from_utf8_lossy(&point.stdout).contains("\"point\": \"1-1\""), "the term is in the point");
    // Somebody wants fra now, and is cut off while it waits: the daemon goes on, and so does the next one who asks.
    let mut waiting = pair.command("fra", &["failover", "--yes", "fra", "--why", "too early"]).spawn().unwrap();
    pair.until_state("fra", "WAITING");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    let told = pair.does("fra", &["lease", "status"]).stdout;
    assert!(String::from_utf8_lossy(&told).contains("(too early), "), "{}", String::from_utf8_lossy(&told));
    // One step back each time: what was restored is ready still.
    for _ in 0..2 {
        pair.does("fra", &["lease", "cancel", "--yes", "fra", "--why", "ams is well"]);
    }
    assert_eq!(
        operations(&pair, "fra"),
        [
            "failover begun STANDBY",
            "failover restored READY",
            "failover ordered WAITING",
            "lease cancel begun WAITING",
            "lease cancel done READY",
            "lease cancel begun READY",
            "lease cancel done STANDBY"
        ]
    );
    let refused = pair.refused("fra", &["capture"], 3);
    assert!(
        refused.contains("error: fra is STANDBY in term 1: nothing may be captured or mirrored here\nnext:"),
        "{refused}"
    );
    pair.sites.put("core/b.hart", b"written after the last point");

    pair.does("ams", &["switchover", "--to", "fra", "--if-term", "1", "--yes", "ams", "--why", "drill"]);
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(503); 2], "closed before it is released");
    let status = pair.status("fra");
    let released = pair.until("fra", "sees it released", |status| status["record"]["mode"] == "released");
    assert_eq!(
        (released["record"]["to"].as_str(), released["record"]["recovery_point"].as_str()),
        (Some("fra"), Some("1-2")),
        "{status}"
    );
    let begun = Instant::now();
    pair.does("fra", &["failover", "--yes", "fra"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "what is released is not waited for");
    assert_eq!(fs::read(pair.sites.bucket("fra").join("core/b.hart")).unwrap(), b"written after the last point");
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(503), Some(200)]);
    pair.until_state("ams", "STANDBY");

    fra.signal(Signal::KILL);
    drop(fra);
    assert_eq!(pair.gate("fra"), None, "its port is gone with it");
    let fra = pair.start("fra");
    let back = pair.until("fra", "is open again", |status| status["open"] == true);
    assert_eq!(back["term"], 2, "in the same term");
    println!("{}", balancer.conclude());
    let log = fra.end();
    assert!(log.contains("told to end by SIGTERM") && log.contains("the lease is left to run out, 6 s after"), "{log}");
    drop(ams);
}

/// What the journal of a site has.
fn operations(pair: &Pair, site: &str) -> Vec<String> {
    let text = fs::read_to_string(pair.sites.state(site).join("operations.jsonl")).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    entries.map(|entry| ["operation", "step", "state"].map(|key| word(&entry[key])).join(" ")).collect()
}

#[test]
fn a_stopped_or_cut_off_site_is_closed_before_the_other_opens_and_stays_so() {
    let (pair, [ams, fra]) = live();
    let balancer = pair.balancer();
    pair.sites.put("core/a.hart", b"first");
    pair.does("ams", &["capture"]);

    // The witness is gone for both: within T the live site is closed, and it comes back with the witness.
    let away = pair.sites.path().join("away");
    fs::write(&away, "no folder").unwrap();
    // At once: a folder that is not there any more would be made again by the next write.
    let swap = || renameat_with(CWD, pair.witness(), CWD, &away, RenameFlags::EXCHANGE).unwrap();
    swap();
    let cut = Instant::now();
    while pair.gate("ams") != Some(503) {
        assert!(cut.elapsed() < Duration::from_secs(6), "open longer than its lease");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("closed {:.1?} after the witness was cut", cut.elapsed());
    let status = pair.status("ams");
    assert!(!status["witness_error"].is_null(), "{status}");
    swap();
    pair.until("ams", "is open again", |status| status["open"] == true);

    ams.signal(Signal::STOP);
    let stopped = Instant::now();
    pair.does("fra", &["failover", "--yes", "fra", "--why", "ams does not answer"]);
    println!("fra is live {:.1?} after ams was stopped", stopped.elapsed());
    assert!(stopped.elapsed() > Duration::from_secs(7), "it has to be waited out");
    assert_eq!(pair.gate("fra"), Some(200));
    ams.signal(Signal::CONT);
    let stale = pair.until_state("ams", "STALE");
    assert_eq!(stale["why"], "another site took over (term 2)");
    assert_eq!(pair.gate("ams"), Some(503));
    pair.does("ams", &["lease", "rejoin", "--yes", "ams"]);
    pair.until_state("ams", "STANDBY");
    println!("{}", balancer.conclude());
    drop((ams, fra));
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let pair = Pair::new();
    let no_daemon = "error: with a witness the role of ams is that of its daemon, and none runs here\n\
                     next:  Start it: `warmspare run`. What the witness itself says is shown by `warmspare witness status`.\n";
    for command in [&["capture"][..], &["restore"], &["prune"], &["lease", "status"], &["failover", "--yes", "ams"]] {
        assert_eq!(pair.refused("ams", command, 3), no_daemon, "{command:?}");
    }
    pair.does("ams", &["points"]);
    pair.does("ams", &["witness", "init"]);
    let (ams, fra) = (pair.start("ams"), pair.start("fra"));
    pair.until_state("ams", "STANDBY");
    let says = |site: &str, arguments: &[&str], code: i32, expected: &str| says(&pair, site, arguments, code, expected);
    let nobody = "error: this changes who takes traffic, and nobody is here to confirm it\nnext:  Run it on a terminal, or add --yes ams.";
    says("ams", &["failover", "--first"], 3, nobody);
    let other =
        "error: this is ams, and `fra` was typed: nothing was done\nnext:  Type ams, if this is the site you mean.";
    says("ams", &["failover", "--first", "--yes", "fra"], 3, other);
    let term = "error: the term is 0, not 4\nnext:  Somebody was faster. Find out who is live in term 0 before you decide again.";
    says("ams", &["failover", "--first", "--if-term", "4", "--yes", "ams"], 3, term);
    let spare =
        "error: ams is STANDBY: a handing over does not begin here\nnext:  It holds no lease: run it at the live site.";
    says("ams", &["switchover", "--to", "fra", "--yes", "ams"], 3, spare);
    says("ams", &["release", "--yes", "ams"], 3, spare);
    let same = "error: `ams` is not the other site of ams\nnext:  Name the site it is handed over to; it is run at the one that is live.";
    says("ams", &["switchover", "--to", "ams", "--yes", "ams"], 2, same);
    let lift = "error: refused: this site is STANDBY\nnext:  Restore a point here first.";
    says("ams", &["lease", "lift", "--yes", "ams"], 3, lift);
    let running = pair.refused("ams", &["run"], 3);
    assert!(
        running.contains("error: a daemon of ams runs already: warmspare run, process ")
            && running.contains("two would fight"),
        "{running}"
    );

    drop((ams, fra));
}

/// The words a refused command ends with.
fn says(pair: &Pair, site: &str, arguments: &[&str], code: i32, expected: &str) {
    let said = pair.refused(site, arguments, code);
    let is_last = |line: &&str| line.starts_with("error: ") || line.starts_with("next:  ");
    assert_eq!(said.lines().filter(is_last).collect::<Vec<_>>().join("\n"), expected, "{arguments:?} at {site}");
}

#[test]
fn what_a_person_decided_outlives_the_daemon_and_a_live_site_refuses_what_would_hurt_it() {
    let (pair, [ams, fra]) = live();
    let says = |site: &str, arguments: &[&str], code: i32, expected: &str| says(&pair, site, arguments, code, expected);
    let first = "error: fra would not be the first: the witness has term 1, written by ";
    assert!(pair.refused("fra", &["failover", "--first", "--yes", "fra"], 3).contains(first));
    says(
        "ams",
        &["failover", "--yes", "ams"],
        3,
        "error: ams is LIVE: failover does not begin here\nnext:  It is live already.",
    );
    let live = pair.refused("ams", &["restore"], 3);
    assert!(live.contains("ams is the live site"), "{live}");
    pair.does("ams", &["gate", "maintenance", "on", "--why", "upgrade"]);
    assert_eq!(pair.status("ams")["maintenance"]["why"], "upgrade");
    pair.does("ams", &["lease", "fence", "--yes", "ams", "--why", "a drill"]);
    assert_eq!(pair.gate("ams"), Some(503));
    let fenced = "error: ams is FENCED: failover does not begin here\nnext:  Find out why. Then `warmspare lease lift`, if it is to be live again, \
                  or `warmspare lease rejoin`.";
    says("ams", &["failover", "--yes", "ams"], 3, fenced);
    drop(ams);
    let ams = pair.start("ams");
    let after = pair.until_state("ams", "FENCED");
    assert_eq!(after["maintenance"]["why"], "upgrade", "both outlive the daemon");
    pair.does("ams", &["lease", "lift", "--yes", "ams"]);
    pair.until("ams", "is open again", |status| status["open"] == true);
    pair.does("ams", &["gate", "maintenance", "off"]);
    drop(ams);
    fs::write(pair.sites.state("ams").join("lease.json"), "{").unwrap();
    let torn = pair.refused("ams", &["run"], 3);
    assert!(
        torn.contains("does not say what this site was") && torn.contains("Find out who is live by the witness"),
        "{torn}"
    );
    pair.sites.edit_configuration("[sites.ams]\ngate", "[sites.ams]\n# gate");
    let gate = "error: `gate` is not set under [sites.ams]\n\
                next:  Write under [sites.ams] where load balancers reach this host: gate = { listen = \"10.1.0.2:7777\" }.";
    says("ams", &["run"], 2, gate);
    drop(fra);
}
