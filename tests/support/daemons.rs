//! Two sites with a witness, their daemons as processes, and a client that asks both gates all the time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::bucket_sites::BucketSites;
use super::network::{self, Network};
use super::sites::{Sites, edit, shown};

const PATIENCE: Duration = Duration::from_secs(180);

/// Two sites with a witness, and a lease of six seconds.
pub struct Pair<S = BucketSites> {
    pub sites: S,
    gates: [SocketAddr; 2],
    /// Where each site has a place of its own.
    network: Option<Arc<Network>>,
}

/// The jobs of the built-in profile.
pub const JOBS: [&str; 5] = ["capture", "check", "prune", "rehearse", "verify"];

pub const NAMES: [&str; 2] = ["ams", "fra"];

/// Two sites with one configuration.
pub trait TwoSites {
    fn folder(&self) -> &Path;
    fn configuration_file(&self) -> PathBuf;
    fn binary(&self, site: &str, arguments: &[&str]) -> Command;
}

impl TwoSites for BucketSites {
    fn folder(&self) -> &Path {
        self.path()
    }

    fn configuration_file(&self) -> PathBuf {
        self.configuration()
    }

    fn binary(&self, site: &str, arguments: &[&str]) -> Command {
        self.command(site, arguments)
    }
}

impl TwoSites for Sites {
    fn folder(&self) -> &Path {
        self.path()
    }

    fn configuration_file(&self) -> PathBuf {
        self.configuration()
    }

    fn binary(&self, site: &str, arguments: &[&str]) -> Command {
        self.command(site, arguments)
    }
}

impl Pair {
    pub fn new() -> Pair {
        Pair::over(BucketSites::folders())
    }

    /// Each in its place of a network, with gates at port 7777. `witness` stands under `[witness]`, `way` in the braces of each
    /// site's `witness`, if there is one.
    pub fn apart(network: Arc<Network>, witness: &str, way: Option<&str>) -> Pair {
        let sites = BucketSites::folders();
        sites.edit_configuration("live = \"ams\"\n", &format!("[witness]\n{witness}\n"));
        let way = way.map(|way| format!("witness = {{ {way} }}\n")).unwrap_or_default();
        let gates = NAMES.map(|site| SocketAddr::new(network::address(site).parse().unwrap(), 7777));
        for (site, gate) in NAMES.iter().zip(gates) {
            let section = format!("[sites.{site}]\n");
            let gate = format!("gate = {{ listen = \"{gate}\" }}\n");
            sites.edit_configuration(&section, &format!("{section}{gate}{way}"));
        }
        switch_jobs_off(&sites.configuration_file());
        Pair { sites, gates, network: Some(network) }
    }
}

impl<S: TwoSites> Pair<S> {
    /// With a folder as witness.
    pub fn over(sites: S) -> Pair<S> {
        let gates = [free(), free()];
        let file = sites.configuration_file();
        let witness = format!("[witness]\nurl = \"{}\"\nttl = \"6s\"\n", sites.folder().join("witness").display());
        edit(&file, "live = \"ams\"\n", &witness);
        for (site, gate) in NAMES.iter().zip(gates) {
            let section = format!("[sites.{site}]\n");
            let gate = format!("gate = {{ listen = \"{gate}\", url = \"http://{gate}\" }}\n");
            edit(&file, &section, &format!("{section}{gate}"));
        }
        if !fs::read_to_string(&file).unwrap().contains("[jobs.") {
            switch_jobs_off(&file);
        }
        Pair { sites, gates, network: None }
    }

    pub fn witness(&self) -> PathBuf {
        self.sites.folder().join("witness")
    }

    /// Starts the daemon of a site, and waits until it can be asked.
    pub fn start(&self, site: &str) -> Daemon {
        let log = self.sites.folder().join(format!("{site}.log"));
        let daemon = Daemon::start(self.command(site, &["run"]), log);
        self.until(site, "can be asked", |status| !status["state"].is_null());
        daemon
    }

    pub fn command(&self, site: &str, arguments: &[&str]) -> Command {
        let command = self.sites.binary(site, arguments);
        self.network
            .as_ref()
            .map_or_else(|| self.sites.binary(site, arguments), |network| network.inside(site, &command))
    }

    /// Runs a command, which has to end well.
    pub fn does(&self, site: &str, arguments: &[&str]) -> Output {
        self.ended(site, arguments, 0)
    }

    fn ended(&self, site: &str, arguments: &[&str], code: i32) -> Output {
        let output = self.command(site, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} at {site}: {}", shown(&output));
        output
    }

    /// What a refused command says.
    pub fn refused(&self, site: &str, arguments: &[&str], code: i32) -> String {
        String::from_utf8(self.ended(site, arguments, code).stderr).unwrap()
    }

    pub fn status(&self, site: &str) -> Value {
        let output = self.command(site, &["lease", "status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until the status of a site is as it should be.
    pub fn until(&self, site: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status(site);
            if is(&status) {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.sites.folder().join(format!("{site}.log"))).unwrap_or_default();
                panic!("{site} never {what}: {status:#}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn until_state(&self, site: &str, state: &str) -> Value {
        self.until(site, &format!("is {state}"), |status| status["state"] == state)
    }

    /// What a balancer sees: the status code, if there is an answer.
    pub fn gate(&self, site: &str) -> Option<u16> {
        let number = NAMES.iter().position(|name| *name == site).unwrap();
        ask(self.gates[number])
    }

    /// What the gate of a site answers to a GET.
    pub fn page(&self, site: &str, path: &str) -> String {
        let number = NAMES.iter().position(|name| *name == site).unwrap();
        let mut stream = TcpStream::connect(self.gates[number]).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn balancer(&self) -> Balancer {
        Balancer::start(self.gates)
    }
}

/// What runs is what a test runs.
/// None of the jobs of the built-in profile runs.
pub fn switch_jobs_off(configuration: &Path) {
    let off = JOBS.map(|job| format!("\n[jobs.{job}]\nenabled = false\n")).concat();
    let text = fs::read_to_string(configuration).unwrap();
    fs::write(configuration, text + &off).unwrap();
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], super::ports::free_port()))
}

/// A balancer's check: whatever is no answer in time is none.
fn ask(gate: SocketAddr) -> Option<u16> {
    let patience = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&gate, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"HEAD /live HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A daemon, gone when this is.
pub struct Daemon {
    child: Child,
    pub log: PathBuf,
}

impl Daemon {
    /// Starts `warmspare run`; what it says goes to the end of the file `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Daemon {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Daemon { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Tells it to end, and waits until it has.
    pub fn end(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        let log = fs::read_to_string(&self.log).unwrap();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; a stopped one takes this signal, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks both gates all the time, as long as it lives.
pub struct Balancer {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    rounds: u64,
    open: [u64; 2],
    both: Vec<String>,
}

impl Balancer {
    fn start(gates: [SocketAddr; 2]) -> Balancer {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (stopped, writes) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                // One, the other, and the one again: open on both sides of the other's answer, it was open during it.
                let [one, other, again] = [0, 1, 0].map(|site: usize| ask(gates[site]) == Some(200));
                let mut seen = writes.lock().unwrap();
                seen.rounds += 1;
                seen.open[0] += u64::from(one);
                seen.open[1] += u64::from(other);
                if one && other && again {
                    seen.both.push(format!("{:.3?}", begun.elapsed()));
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Balancer { stop, seen, thread: Some(thread) }
    }

    /// Never were both open, and each was at some time.
    pub fn conclude(mut self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let seen = self.seen.lock().unwrap();
        assert!(seen.both.is_empty(), "both gates were open at {:?}", seen.both);
        assert!(seen.open.iter().all(|open| *open > 0), "each was open: {:?}", seen.open);
        format!("{} rounds, ams open in {}, fra in {}, both in none", seen.rounds, seen.open[0], seen.open[1])
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
