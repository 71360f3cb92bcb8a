//! What systemd hears of a daemon (sd_notify(3)): that it is ready, how it stands, and that it lives, until the driver of its lease hangs.
#![cfg(feature = "failpoints")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::daemons::{Daemon, Pair};

/// As `WatchdogSec=` would say.
const WATCHDOG: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
/// In a shell that the driver waits for: as long as the daemon lives, and no longer.
const HANGS: &str = "site.save=while kill -0 $PPID; do sleep 0.1; done";

/// The end of the service manager.
struct Systemd(UnixDatagram);

impl Systemd {
    /// The next words, if any come within `most`.
    fn hears(&self, most: Duration) -> Option<String> {
        let mut words = [0; 1024];
        self.0.set_read_timeout(Some(most.max(Duration::from_millis(1)))).unwrap();
        match self.0.recv(&mut words) {
            Ok(length) => Some(String::from_utf8(words[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for these words, and gives back all that came before.
    fn until(&self, is: impl Fn(&str) -> bool) -> Vec<String> {
        let (begun, mut heard) = (Instant::now(), Vec::new());
        loop {
            assert!(begun.elapsed() < PATIENCE, "it was never told; heard: {heard:?}");
            match self.hears(Duration::from_secs(1)) {
                Some(words) if is(&words) => return heard,
                words => heard.extend(words),
            }
        }
    }
}

#[test]
fn a_daemon_tells_systemd_that_it_lives_until_the_driver_of_its_lease_hangs() {
    let pair = Pair::new();
    pair.does("ams", &["witness", "init"]);
    let first = pair.start("ams");
    pair.until_state("ams", "STANDBY");
    first.end();

    let path = pair.sites.path().join("notify");
    let systemd = Systemd(UnixDatagram::bind(&path).unwrap());
    let mut command = pair.command("ams", &["run"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    // It remembers all that there is; the next thing that the driver writes down is never written.
    command.env("WARMSPARE_FAILPOINT_RUN", HANGS);
    let daemon = Daemon::start(command, pair.sites.path().join("ams.log"));
    assert_eq!(systemd.until(|words| words == "READY=1"), [""; 0], "nothing comes before");
    systemd.until(|words| words.starts_with("STATUS=") && words.contains("STANDBY"));
    for _ in 0..4 {
        let since = Instant::now();
        systemd.until(|words| words == "WATCHDOG=1");
        assert!(since.elapsed() < WATCHDOG, "systemd would have killed it after {:?}", since.elapsed());
    }

    let mut order = pair.command("ams", &["gate", "maintenance", "on", "--why", "an upgrade"]);
    let mut order = order.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (begun, mut alive) = (Instant::now(), Instant::now());
    while alive.elapsed() < WATCHDOG {
        assert!(begun.elapsed() < PATIENCE, "the driver hangs, and systemd hears that all is well");
        if systemd.hears(WATCHDOG.saturating_sub(alive.elapsed())).as_deref() == Some("WATCHDOG=1") {
            alive = Instant::now();
        }
    }
    println!("systemd would kill it {:.1?} after the driver was made to hang", begun.elapsed());
    // It is the driver alone: the loop of the jobs goes on, and answers.
    let said = pair.command("ams", &["jobs", "run", "nonesuch"]).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("there is no job `nonesuch`"), "{said}");
    drop(daemon);
    order.wait().unwrap();
}
