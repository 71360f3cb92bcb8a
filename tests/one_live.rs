//! Two daemons, a witness, and a balancer that asks both all the time: whatever is killed, stopped or cut, one site takes traffic.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;
use warmspare::durable::FileLock;

use crate::support::daemons::{Daemon, NAMES, Pair};
use crate::support::disk::Disk;

/// Both daemons up, ams live in term 1.
fn live() -> (Pair, [Daemon; 2]) {
    live_over(Pair::new())
}

fn live_over(pair: Pair) -> (Pair, [Daemon; 2]) {
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
    // A rehearsal takes a moment to end, and is waited for.
    let ends = rehearsal(&pair, "fra");
    spoil_journal(&pair, "fra");
    let taken = pair.does("fra", &["failover", "--yes", "fra"]);
    ends.join().unwrap();
    assert!(String::from_utf8_lossy(&taken.stderr).contains("this is not in the journal: "));
    pair.does("fra", &["lease", "status"]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("waiting for a rehearsal to end\n"));
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

/// Something that holds the lock of a site, and lets go of it after a second.
fn rehearsal(pair: &Pair, site: &str) -> std::thread::JoinHandle<()> {
    let held = FileLock::try_take(&pair.sites.state(site).join("operation.lock"), "a rehearsal").unwrap().unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        drop(held);
    })
}

/// A journal that can neither be read nor written stops nobody.
fn spoil_journal(pair: &Pair, site: &str) {
    let journal = pair.sites.state(site).join("operations.jsonl");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
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
    let term = "error: the term is 0, not 4\nnext:  Term 4 has not been yet: look at `warmspare lease status`, then decide again.";
    says("ams", &["failover", "--first", "--if-term", "4", "--yes", "ams"], 3, term);
    let spare =
        "error: ams is STANDBY: a handing over does not begin here\nnext:  It holds no lease: run it at the live site.";
    says("ams", &["switchover", "--to", "fra", "--yes", "ams"], 3, spare);
    says("ams", &["release", "--yes", "ams"], 3, spare);
    let same = "error: `ams` is not the other site of ams\nnext:  Name the site it is handed over to; it is run at the one that is live.";
    says("ams", &["switchover", "--to", "ams", "--yes", "ams"], 2, same);
    let lift = "error: ams refuses: this site is STANDBY: there is no fence to lift\nnext:  It is the spare. To make it live: `warmspare failover`.";
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
        "error: ams is LIVE: failover does not begin here\nnext:  Nothing to do: it is live already.",
    );
    let live = pair.refused("ams", &["restore"], 3);
    assert!(live.contains("ams is the live site"), "{live}");
    pair.does("ams", &["gate", "maintenance", "on", "--why", "upgrade"]);
    assert_eq!(pair.status("ams")["maintenance"]["why"], "upgrade");
    pair.does("ams", &["lease", "fence", "--yes", "ams", "--why", "a drill"]);
    assert_eq!(pair.gate("ams"), Some(503));
    let fenced = "error: ams is FENCED: failover does not begin here\nnext:  Find out why: `warmspare lease status`. Then `warmspare lease lift`, \
                  if it is to be live again, or `warmspare lease rejoin`, which makes it the spare.";
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

/// A live site ended because an operator said `gate maintenance on`, and did not come back.
#[test]
fn a_live_site_with_a_full_state_disk_refuses_maintenance_and_stays_live_and_a_spare_starts_with_one() {
    let pair = Pair::new();
    let disks = NAMES.map(|site| Disk::mount(pair.sites.state(site)));
    let [Some(ams_disk), Some(fra_disk)] = &disks else {
        println!("not root: the full disks were not tried");
        return;
    };
    let (pair, [ams, fra]) = live_over(pair);
    ams_disk.fill();
    let maintenance = |order: &str, code: i32| {
        let why: &[&str] = if order == "on" { &["--why", "upgrade"] } else { &[] };
        let output = pair.command("ams", &["gate", "maintenance", order]).args(why).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    let kept = |said: &str| {
        assert!(said.contains("ams refuses: nothing was changed, because it could not be kept: "), "{said}");
        assert!(said.contains("No space left on device") && said.contains("This site goes on as it is."), "{said}");
    };
    kept(&maintenance("on", 3));
    let writes = |code: &str| assert!(pair.page("ams", "/writes").starts_with(&format!("HTTP/1.1 {code} ")));
    let status = pair.status("ams");
    assert_eq!(
        (&status["state"], status["open"] == true, status["maintenance"].is_null()),
        (&"LIVE".into(), true, true)
    );
    writes("200");
    let before = status["record"]["seq"].as_u64();
    pair.until("ams", "renews its lease", |status| status["record"]["seq"].as_u64() > before);
    ams_disk.empty();
    maintenance("on", 0);
    writes("503");
    ams_disk.fill();
    kept(&maintenance("off", 3));
    writes("503");
    ams_disk.empty();
    maintenance("off", 0);
    writes("200");
    ams.end();

    fra_disk.fill();
    fra.end();
    let fra = pair.start("fra");
    pair.until_state("fra", "STANDBY");
    fra.end();
    drop(pair);
}

/// In this state, what each command is refused with.
fn refuses(pair: &Pair, site: &str, state: &str, refusals: &[(&[&str], &str)]) {
    pair.until_state(site, state);
    for (command, expected) in refusals {
        let arguments = [command, &["--yes", site][..]].concat();
        says(pair, site, &arguments, 3, &format!("error: {expected}"));
    }
}

const NOTHING_UNDER_WAY: &str = "nothing is under way that can be given up\n\
    next:  Nothing to do here; `warmspare lease status` at the other site says whether something is under way there.";
const NO_REJOIN: &str = "only a site that is FENCED or STALE rejoins\nnext:  ";

#[test]
fn every_step_is_refused_where_it_makes_no_sense_or_in_another_term() {
    let (pair, _daemons) = live();
    let orders: [&[&str]; 6] = [
        &["release"],
        &["switchover", "--to", "fra"],
        &["lease", "cancel"],
        &["lease", "fence"],
        &["lease", "lift"],
        &["lease", "rejoin"],
    ];
    for order in orders {
        let arguments = [order, &["--if-term", "7", "--yes", "ams"]].concat();
        let later = "error: the term is 1, not 7\nnext:  Term 7 has not been yet: look at `warmspare lease status`, then decide again.";
        says(&pair, "ams", &arguments, 3, later);
    }
    let faster = "error: the term is 1, not 0\nnext:  Somebody was faster: `warmspare lease status` says who is live in term 1. Then decide again.";
    says(&pair, "fra", &["failover", "--if-term", "0", "--yes", "fra"], 3, faster);
    // Maintenance makes a live site no spare.
    pair.does("ams", &["gate", "maintenance", "on", "--why", "upgrade"]);
    let live = |what: &str, next: &str| format!("ams refuses: this site is LIVE: {what}{next}");
    let refusals: [(&[&str], &str); 4] = [
        (&["failover"], "ams is LIVE: failover does not begin here\nnext:  Nothing to do: it is live already."),
        (&["lease", "cancel"], &live(NOTHING_UNDER_WAY, "")),
        (&["lease", "lift"], &live("there is no fence to lift\nnext:  ", "Nothing to do: it is live already.")),
        (
            &["lease", "rejoin"],
            &live(
                NO_REJOIN,
                "It is live. To make it the spare, hand over to the other site: `warmspare switchover --to SITE`.",
            ),
        ),
    ];
    refuses(&pair, "ams", "LIVE", &refusals);
    let spare = |what: &str, next: &str| format!("fra refuses: this site is STANDBY: {what}{next}");
    let no_lease =
        "fra is STANDBY: a handing over does not begin here\nnext:  It holds no lease: run it at the live site.";
    let no_fence = "it is not live, so there is nothing to fence\nnext:  ";
    let refusals: [(&[&str], &str); 5] = [
        (&["release"], no_lease),
        (&["switchover", "--to", "ams"], no_lease),
        (&["lease", "cancel"], &spare(NOTHING_UNDER_WAY, "")),
        (
            &["lease", "fence"],
            &spare(no_fence, "Nothing to do: its gate is closed, and stays so until a person makes this site live."),
        ),
        (
            &["lease", "rejoin"],
            &spare(NO_REJOIN, "Nothing to do: it is the spare. To make it live: `warmspare failover`."),
        ),
    ];
    refuses(&pair, "fra", "STANDBY", &refusals);
}

#[test]
fn a_handing_over_that_hangs_refuses_a_takeover_and_goes_on() {
    let (pair, _daemons) = live();
    // The final point cannot be taken: it goes on trying, until that is given up.
    let (vault, away) = (pair.sites.path().join("vault"), pair.sites.path().join("vault.away"));
    fs::rename(&vault, &away).unwrap();
    let mut releasing = pair.command("ams", &["release", "--yes", "ams"]).stderr(Stdio::null()).spawn().unwrap();
    let draining = "ams is DRAINING: failover does not begin here\n\
        next:  It is handing over: wait until it has ended, or give that up with `warmspare lease cancel`.";
    let lift = "ams refuses: this site is DRAINING: there is no fence to lift\n\
        next:  It is handing over: wait until it has ended, or give that up with `warmspare lease cancel`.";
    refuses(&pair, "ams", "DRAINING", &[(&["failover"], draining), (&["lease", "lift"], lift)]);
    fs::rename(&away, &vault).unwrap();
    assert!(releasing.wait().unwrap().success(), "it goes on where it was");
    pair.until_state("ams", "RELEASED");
    pair.does("ams", &["failover", "--yes", "ams"]);
}

#[test]
fn a_command_whose_daemon_is_killed_or_has_no_witness_says_what_to_do() {
    let (pair, [ams, fra]) = live();
    pair.sites.put("core/a.hart", b"first");
    pair.does("ams", &["capture"]);
    let mut waiting = pair.command("fra", &["failover", "--yes", "fra"]);
    let waiting = waiting.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let under_way =
        "A takeover is under way here: wait until it has ended, or give it up with `warmspare lease cancel`.";
    let rejoin = format!("fra refuses: this site is WAITING: {NO_REJOIN}{under_way}");
    refuses(&pair, "fra", "WAITING", &[(&["lease", "rejoin"], &rejoin)]);
    fra.signal(Signal::KILL);
    drop(fra);
    let ended = waiting.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    let gone = "error: the daemon of fra ended while this command waited for it\n\
        next:  See its log, start it again (`warmspare run`), and look where it stands (`warmspare lease status`). Run this again: it goes \
        on from there.\n";
    assert!(ended.status.code() == Some(1) && words.ends_with(gone), "{words}");

    // Started again where the record is gone, it knows of nobody who is live, and takes nothing.
    let empty = pair.sites.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let swap = || renameat_with(CWD, pair.witness(), CWD, &empty, RenameFlags::EXCHANGE).unwrap();
    swap();
    let fra = pair.start("fra");
    let lost = "error: the witness answers fra, and has no record\nnext:  If it is new, run `warmspare witness init`. If there was a record, \
                it is lost: fence both sites first, then give `--term` a number above every term there was.";
    says(&pair, "fra", &["failover", "--yes", "fra"], 5, lost);
    swap();
    pair.until("fra", "reads the witness", |status| status["record"]["term"] == 1);
    drop((ams, fra));
}

/// Somebody empties the place of the witness. Nobody is live by himself after that; what the documents say leads out.
#[test]
fn a_witness_that_lost_its_record_closes_the_live_site_and_is_set_up_anew_as_the_documents_say() {
    let (pair, [ams, fra]) = live();
    pair.sites.put("core/a.hart", b"first");
    pair.does("ams", &["capture"]);
    fs::remove_dir_all(pair.witness().join("lease")).unwrap();
    pair.until("ams", "is closed", |status| status["open"] == false);
    let told = "shows no record, but";
    for site in NAMES {
        pair.until(site, "tells it", |status| status.to_string().contains(told));
    }
    pair.does("ams", &["lease", "fence", "--yes", "ams", "--why", "the record is gone"]);
    pair.does("ams", &["witness", "init", "--term", "1"]);
    // Who has read the lost record believes no other.
    let spare = pair.until("fra", "goes on telling it", |status| status.to_string().contains("shows revision 1, but"));
    assert_eq!(spare["state"], "STANDBY", "{spare}");
    drop((ams, fra));
    let daemons = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STALE");
        pair.does(site, &["lease", "rejoin", "--yes", site]);
    }
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(503); 2], "nobody is live by itself");
    pair.does("fra", &["failover", "--yes", "fra"]);
    assert_eq!(NAMES.map(|site| pair.gate(site)), [Some(503), Some(200)]);
    assert_eq!(pair.status("fra")["term"], 2);
    drop(daemons);
}
