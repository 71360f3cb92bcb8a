//! An address that follows the gate: two real keepalived, told what `gate config keepalived` prints, in networks of their own, with the
//! daemons of both sites and a witness.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemons::{NAMES, Pair};
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

fn keepalived(pair: &Pair, network: &Network, site: &str) -> Keepalived {
    let units = NAMES.map(|site| format!("{site}={}", address(site)));
    let asked = ["gate", "config", "keepalived", "--unit", &units[0], "--unit", &units[1], "--address", FLOATING];
    let printed = pair.does(site, &[&asked[..], &["--interface", "line"]].concat()).stdout;
    let path = |end: &str| pair.sites.path().join(format!("{site}.keepalived.{end}"));
    std::fs::write(path("conf"), printed).unwrap();
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console"]).arg("--use-file").arg(path("conf"));
    command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
    let mut inside = network.inside(site, &command);
    Keepalived(inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn an_address_is_at_the_site_whose_gate_is_open_and_at_no_other() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: keepalived was not tried");
        return;
    }
    let network = Arc::new(Network::start());
    let folder = tempfile::tempdir().unwrap();
    let witness = format!("url = \"{}\"\nttl = \"30s\"", folder.path().join("witness").display());
    let pair = Pair::apart(Arc::clone(&network), &witness, None);
    pair.does("ams", &["witness", "init"]);
    let [ams, _fra] = NAMES.map(|site| pair.start(site));
    let _keepalived = NAMES.map(|site| keepalived(&pair, &network, site));
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    println!("ams has it {:.1?} after it is live", until_held_by(&network, &["ams"]));

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
