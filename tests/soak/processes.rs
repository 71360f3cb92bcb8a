//! What daemons have of their machine: memory, open files, processes that they have started.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a daemon that does the same all the time may have more in the second half of its life than in the first.
const MEMORY_KIB_MORE_MAX: u64 = 8 << 10;
const FILES_MORE_MAX: usize = 8;
/// The same between two jobs, when what a job opened is closed.
const FILES_AT_REST_MORE_MAX: usize = 1;
/// Fewer say nothing of a half.
const SAMPLES_MIN: usize = 6;
/// A process that was told to end has its time to.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a daemon has at one instant.
pub struct Sample {
    memory_kib: u64,
    files: usize,
    processes: usize,
}

/// One life of a daemon.
pub struct Life {
    site: &'static str,
    pid: u32,
    samples: Vec<Sample>,
    started: BTreeSet<Process>,
}

/// A process; a number is given again, when it began is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: u32,
    began: u64,
}

impl Life {
    pub fn new(site: &'static str, pid: u32) -> Life {
        Life { site, pid, samples: Vec::new(), started: BTreeSet::new() }
    }

    /// Looks once at a daemon that runs.
    pub fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory_kib = memory.trim().trim_end_matches(" kB").parse().unwrap();
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count();
        let processes = below(self.pid);
        self.samples.push(Sample { memory_kib, files, processes: processes.len() });
        self.started.extend(processes);
    }

    /// Nothing grows from the first half of its life to the second.
    pub fn is_flat(&self) {
        let (first, second) = self.samples.split_at(self.samples.len() / 2);
        if first.len() < SAMPLES_MIN {
            return;
        }
        let of = |samples: &[Sample]| {
            let memory = samples.iter().map(|sample| sample.memory_kib).max().unwrap();
            let files = |sample: &Sample| sample.files;
            let processes = samples.iter().map(|sample| sample.processes).min().unwrap();
            let (least, most) = (samples.iter().map(files).min().unwrap(), samples.iter().map(files).max().unwrap());
            (memory, least, most, processes)
        };
        let (before, after) = (of(first), of(second));
        println!(
            "the daemon of {} with process {}, {} samples; KiB, files at rest and at most, processes at rest: {before:?}, then {after:?}",
            self.site,
            self.pid,
            self.samples.len()
        );
        assert!(after.0 <= before.0 + MEMORY_KIB_MORE_MAX, "memory grows at {}: {before:?}, {after:?}", self.site);
        let is_at_rest = after.1 <= before.1 + FILES_AT_REST_MORE_MAX;
        assert!(is_at_rest, "files are left open at {}: {before:?}, {after:?}", self.site);
        assert!(after.2 <= before.2 + FILES_MORE_MAX, "files are left open at {}: {before:?}, {after:?}", self.site);
        assert!(after.3 <= before.3, "processes are left at {}: {before:?}, {after:?}", self.site);
    }

    /// Whatever it has started is gone, now that it has ended.
    pub fn has_left_nothing(&self) {
        let begun = Instant::now();
        while !self.left().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "the daemon of {} has left {:#?}", self.site, self.left());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it has started and is there still.
    fn left(&self) -> Vec<String> {
        let all = processes();
        self.started.iter().filter(|one| all.contains_key(one)).map(words).collect()
    }
}

/// Every process, with its parent.
fn processes() -> BTreeMap<Process, u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = pids.filter_map(|pid| {
        // Fields 4 and 22 of proc(5); the second, in brackets, may hold anything. What has ended meanwhile is none.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let field = |number: usize| fields.split_whitespace().nth(number - 3);
        Some((Process { pid, began: field(22)?.parse().ok()? }, field(4)?.parse().ok()?))
    });
    found.collect()
}

/// What this process has started, and what that has.
fn below(pid: u32) -> BTreeSet<Process> {
    let all = processes();
    let mut found: BTreeSet<Process> = BTreeSet::new();
    let mut parents = BTreeSet::from([pid]);
    while !parents.is_empty() {
        let children = all.iter().filter(|(_, parent)| parents.contains(parent)).map(|(process, _)| process.clone());
        let children: BTreeSet<Process> = children.filter(|process| !found.contains(process)).collect();
        parents = children.iter().map(|process| process.pid).collect();
        found.extend(children);
    }
    found
}

fn words(process: &Process) -> String {
    let words = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    format!("{}: {}", process.pid, String::from_utf8_lossy(&words).replace('\0', " "))
}

/// Processes that were told of this folder.
pub fn told_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let told = processes().keys().map(words).collect::<Vec<_>>();
    told.into_iter().filter(|words| words.contains(&folder) && words.contains("warmspare")).collect()
}

/// What the long test relies on: a process that keeps files, one that keeps memory, and one that leaves another behind are seen.
#[test]
fn a_process_that_keeps_what_it_opens_or_starts_is_seen() {
    let files = "import time\nkept = []\nwhile True:\n  kept.append(open('/dev/null'))\n  time.sleep(0.01)";
    let memory = "import time\nkept = []\nwhile True:\n  kept.append(b'x' * 1_000_000)\n  time.sleep(0.01)";
    let children = "import subprocess, time\nkept = []\nwhile True:\n  kept.append(subprocess.Popen(['/bin/sleep', '60']))\n  time.sleep(0.1)";
    let flat = "import time\ntime.sleep(60)";
    for (program, is_flat) in [(files, false), (memory, false), (children, false), (flat, true)] {
        let mut child = Command::new("/usr/bin/python3").args(["-c", program]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let mut life = Life::new("ams", child.id());
        for _ in 0..20 {
            life.look();
            std::thread::sleep(Duration::from_millis(50));
        }
        let found = std::panic::catch_unwind(|| life.is_flat());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.is_ok(), is_flat, "{program}");
        assert_eq!(life.left().is_empty(), program != children, "{program}: {:?}", life.left());
        for left in &life.started {
            let left = rustix::process::Pid::from_raw(left.pid.try_into().unwrap()).unwrap();
            rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
        }
    }
}
