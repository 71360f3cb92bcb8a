//! Programs of the operator that do not end: a secret's, an export's. They silence nobody, and none stays behind.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::jobs::start;
use crate::support::daemons::{Daemon, JOBS, Pair, switch_jobs_off};
use crate::support::sites::Sites;

const PATIENCE: Duration = Duration::from_secs(100);

/// A program that never ends, nor does what it starts; both say who they are.
struct Hanging {
    script: PathBuf,
    started: PathBuf,
}

impl Hanging {
    fn new(sites: &Sites) -> Hanging {
        let (script, started) = (sites.path().join("hang"), sites.path().join("started"));
        let text = format!("echo $$ >>{0}\nsleep 1000 &\necho $! >>{0}\nwait\n", started.display());
        fs::write(&script, text).unwrap();
        fs::write(&started, "").unwrap();
        Hanging { script, started }
    }

    /// Those of them that live.
    fn alive(&self) -> Vec<String> {
        // The folder may be gone before this is.
        let started = fs::read_to_string(&self.started).unwrap_or_default();
        let lives = |pid: &&str| {
            // A dead one whose parent is gone, too, is reaped by nobody in some containers.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        started.lines().filter(lives).map(str::to_owned).collect()
    }

    fn until_alive(&self, log: &Daemon) {
        until("the program runs", log, || self.alive().len() >= 2);
    }

    fn until_gone(&self, log: &Daemon) {
        until("nothing is left of the program", log, || self.alive().is_empty());
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        for pid in self.alive() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn until(what: &str, daemon: &Daemon, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "not so: {what}\n{}", fs::read_to_string(&daemon.log).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The credential of the vault came from a program that asked a server, and that server hung: for hours nobody was told anything.
#[tokio::test]
async fn a_secret_command_that_hangs_is_told_of_and_silences_nothing() {
    let sites = Sites::filled().await;
    let hanging = Hanging::new(&sites);
    let targets = "\n[targets]\npoint = \"35s\"\nproven = \"60s\"\nsilent = \"20s\"\n";
    let text = fs::read_to_string(sites.configuration()).unwrap();
    fs::write(sites.configuration(), text + targets).unwrap();
    let pair = Pair::over(sites);
    pair.does("ams", &["witness", "init"]);
    let ams = pair.start("ams");
    let page = || pair.page("ams", "/metrics");
    until("the vault is read", &ams, || page().contains("alarm=\"point.late\""));

    let place = format!("url = \"{}\"\nescrow", pair.sites.vault().display());
    pair.sites.edit_configuration(&place, "url = \"s3://vault/\"\nescrow");
    let secret = format!("command:/bin/sh {}", hanging.script.display());
    for site in ["ams", "fra"] {
        let head = format!("[sites.{site}]\n");
        let access = format!("vault = {{ endpoint = \"http://127.0.0.1:1\", credentials = \"{secret}\" }}\n");
        pair.sites.edit_configuration(&head, &format!("{head}{access}"));
    }
    ams.signal(Signal::HUP);
    hanging.until_alive(&ams);
    until("it is an alarm that the vault cannot be read", &ams, || page().contains("alarm=\"vault.unusable\""));
    // What is to be told, as soon as it has stood for long enough.
    let raised = fs::read_to_string(pair.sites.state("ams").join("alarms.json")).unwrap();
    let why = "the vault cannot be read: `vault.credentials` under [sites.ams]: secret command `/bin/sh` did not end within 30 s";
    assert!(raised.contains(why), "{raised}");
    let at = |page: &str| {
        let line = page.lines().find(|line| line.starts_with("warmspare_report_timestamp_seconds{")).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let first = at(&page());
    until("the metrics go on", &ams, || at(&page()) != first);
    ams.signal(Signal::TERM);
    hanging.until_gone(&ams);
}

/// The same of a file on a network disk that is gone: whoever opens it waits.
#[tokio::test]
async fn a_secret_file_that_never_answers_silences_nothing() {
    let sites = Sites::filled().await;
    let pipe = sites.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let targets = "\n[targets]\npoint = \"35s\"\nproven = \"60s\"\nsilent = \"20s\"\n";
    let text = fs::read_to_string(sites.configuration()).unwrap();
    fs::write(sites.configuration(), text + targets).unwrap();
    let pair = Pair::over(sites);
    pair.does("ams", &["witness", "init"]);
    let ams = pair.start("ams");
    let at = || {
        let page = pair.page("ams", "/metrics");
        let line = page.lines().find(|line| line.starts_with("warmspare_report_timestamp_seconds{")).map(str::to_owned);
        line.unwrap_or_default()
    };
    until("the metrics are shown", &ams, || !at().is_empty());
    let key = format!("file:{}", pair.sites.path().join("ams-keys").display());
    let text = fs::read_to_string(pair.sites.configuration()).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("signing_key = \"{key}"))).unwrap().to_owned();
    pair.sites.edit_configuration(&line, &format!("signing_key = \"file:{}\"", pipe.display()));
    ams.signal(Signal::HUP);
    until("it is read again", &ams, || fs::read_to_string(&ams.log).unwrap().contains("was read again"));
    for _ in 0..3 {
        let before = at();
        until("the metrics go on", &ams, || at() != before);
    }
    ams.end();
}

/// Sites whose captures hang in a command of an export, and a job that takes them.
async fn hanging_captures(timeout: &str) -> (Sites, Hanging) {
    let sites = Sites::filled().await;
    let hanging = Hanging::new(&sites);
    let words = format!("[\"sh\", \"{}\"]", hanging.script.display());
    sites.edit_configuration("[\"echo\", \"app 1.2.3\"]", &words);
    switch_jobs_off(&sites.configuration());
    let job = format!("[jobs.capture]\nat = \"@yearly\"\ntimeout = \"{timeout}\"\nretries = 0\n");
    sites.edit_configuration("[jobs.capture]\nenabled = false\n", &job);
    assert!(JOBS.contains(&"capture"));
    (sites, hanging)
}

#[tokio::test]
async fn at_its_timeout_a_run_ends_with_the_command_of_its_export() {
    let (sites, hanging) = hanging_captures("10s").await;
    let ams = start(&sites, "ams");
    let mut asked = sites.command("ams", ["jobs", "run", "capture", "--json"]);
    let asked = asked.stdout(std::process::Stdio::piped()).spawn().unwrap();
    hanging.until_alive(&ams);
    let ran: Value = serde_json::from_slice(&asked.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(ran["verdict"], "timed-out", "{ran:#}");
    hanging.until_gone(&ams);
    ams.end();
}

#[tokio::test]
async fn a_daemon_that_is_killed_takes_the_commands_of_its_runs_along() {
    let (sites, hanging) = hanging_captures("10m").await;
    let ams = start(&sites, "ams");
    let mut asked = sites.command("ams", ["jobs", "run", "capture"]).spawn().unwrap();
    hanging.until_alive(&ams);
    ams.signal(Signal::KILL);
    assert!(!asked.wait().unwrap().success());
    hanging.until_gone(&ams);
}

#[tokio::test]
async fn a_capture_that_is_interrupted_by_hand_leaves_no_command_behind() {
    let (sites, hanging) = hanging_captures("10m").await;
    for signal in [Signal::TERM, Signal::INT] {
        let log = sites.path().join("capture.log");
        // Whoever runs the tests may ignore SIGINT, as a shell has what it runs beside itself; a person's terminal does not.
        let mut capture = Command::new("env");
        let plain = sites.command("ams", ["capture"]);
        capture.arg("--default-signal=INT,TERM").arg(plain.get_program()).args(plain.get_args());
        capture.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let capture = Daemon::start(capture, log);
        hanging.until_alive(&capture);
        capture.signal(signal);
        hanging.until_gone(&capture);
    }
}
