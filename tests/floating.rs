//! An address that follows the gate: two real keepalived, told what `gate config keepalived` prints, in networks of their own, with the
//! daemons of both sites and a witness.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemons::{Daemon, NAMES, Pair};
use crate::support::network::{Network, address};

const FLOATING: &str = "10.77.0.100/24";
/// D with a lease of 30 s.
const DRAIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// The sites whose host has the address now.
fn holders(network: &Network) -> Vec<&'static str> {
    let has = |site: &&str| network.says(site, &["ip", "-brief", "-4", "address", "show"]).contains(FLOATING);
    NAMES.into_iter().filter(|site| has(site)).collect()
}

/// Until these have it; never do both.
fn until_held_by(network: &Network, expected: &[&str]) -> Duration {
    let begun = Instant::now();
    loop {
        let holders = holders(network);
        assert!(holders.len() < 2, "both hosts have the address");
        if holders == expected {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{holders:?} has the address, not {expected:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Told to end, it ends its child, too; killed, it leaves it behind, with the address.
struct Keepalived(Child);

impl Drop for Keepalived {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

/// The configuration of the host of a site, as it is printed.
fn printed(pair: &Pair, site: &str) -> String {
    let units = NAMES.map(|site| format!("{site}={}", address(site)));
    let asked = ["gate", "config", "keepalived", "--unit", &units[0], "--unit", &units[1], "--address", FLOATING];
    String::from_utf8(pair.does(site, &[&asked[..], &["--interface", "line"]].concat()).stdout).unwrap()
}

/// What is in the value of a setting, without its quotes.
fn setting<'a>(printed: &'a str, name: &str) -> &'a str {
    let values = printed.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
    let values: Vec<&str> = values.collect();
    assert_eq!(values.len(), 1, "{name} in {printed}");
    values[0].trim_matches('"')
}

/// Runs the check as keepalived would, but patiently: its exit code (124 when it did not end by itself), and how long it took.
fn checked(network: &Network, site: &str, script: &str) -> (Option<i32>, Duration) {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups", "timeout", "20"]).args(script.split(' '));
    let begun = Instant::now();
    let status = network.inside(site, &command).status().unwrap();
    (status.code(), begun.elapsed())
}

fn keepalived(pair: &Pair, network: &Network, site: &str) -> Keepalived {
    let path = |end: &str| pair.sites.path().join(format!("{site}.keepalived.{end}"));
    std::fs::write(path("conf"), printed(pair, site)).unwrap();
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console"]).arg("--use-file").arg(path("conf"));
    command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
    let mut inside = network.inside(site, &command);
    Keepalived(inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Two sites with their daemons, and both keepalived; ams is live and has the address.
fn ams_has_it(network: &Arc<Network>, folder: &Path) -> (Pair, [Daemon; 2], [Keepalived; 2]) {
    let witness = format!("url = \"{}\"\nttl = \"30s\"", folder.join("witness").display());
    let pair = Pair::apart(Arc::clone(network), &witness, None);
    pair.does("ams", &["witness", "init"]);
    let daemons = NAMES.map(|site| pair.start(site));
    let keepalived = NAMES.map(|site| keepalived(&pair, network, site));
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    println!("ams has it {:.1?} after it is live", until_held_by(network, &["ams"]));
    (pair, daemons, keepalived)
}

#[test]
fn an_address_is_at_the_site_whose_gate_is_open_and_at_no_other() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: keepalived was not tried");
        return;
    }
    let network = Arc::new(Network::start());
    let folder = tempfile::tempdir().unwrap();
    let (pair, [ams, _fra], _keepalived) = ams_has_it(&network, folder.path());

    // Each hears nobody: the one whose gate is closed does not take what it believes to be free.
    network.cut("ams", "fra");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        until_held_by(&network, &["ams"]);
        std::thread::sleep(Duration::from_millis(50));
    }
    network.heal("ams");

    ams.signal(Signal::KILL);
    drop(ams);
    let took = until_held_by(&network, &[]);
    println!("nobody has it {took:.1?} after the daemon was killed");
    assert!(took < DRAIN, "{took:?}");
    let _ams = pair.start("ams");
    until_held_by(&network, &["ams"]);

    pair.does("ams", &["switchover", "--to", "fra", "--yes", "ams"]);
    assert!(holders(&network).is_empty(), "what is released has no address any more");
    pair.does("fra", &["failover", "--replace", "--yes", "fra"]);
    println!("fra has it {:.1?} after it is live", until_held_by(&network, &["fra"]));
}

#[test]
fn a_gate_that_hangs_costs_its_host_the_address_in_time() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: keepalived was not tried");
        return;
    }
    let network = Arc::new(Network::start());
    let folder = tempfile::tempdir().unwrap();
    let (pair, [ams, _fra], _keepalived) = ams_has_it(&network, folder.path());
    let printed = printed(&pair, "ams");
    let seconds = |name: &str| Duration::from_secs(setting(&printed, name).parse().unwrap());
    let (every, timeout, script) = (seconds("interval"), seconds("timeout"), setting(&printed, "script"));
    assert_eq!(checked(&network, "ams", script).0, Some(0), "an open gate");

    // The kernel goes on taking connections for it: the check is neither refused nor answered.
    ams.signal(Signal::STOP);
    let took = until_held_by(&network, &[]);
    println!("nobody has it {took:.1?} after the gate hung");
    assert!(took < DRAIN, "{took:?}");
    // It does not take keepalived to end it: curl gives up by itself (28).
    let (code, took) = checked(&network, "ams", script);
    println!("a check takes {took:.1?} and ends with {code:?}; its timeout is {timeout:?}, every {every:?}");
    assert_eq!(code, Some(28), "the check does not end by itself");
    assert!(took < timeout + every / 2, "{took:?}");

    // Its lease has not run out: nothing but the gate hung.
    ams.signal(Signal::CONT);
    println!("ams has it again {:.1?} after that", until_held_by(&network, &["ams"]));
}
