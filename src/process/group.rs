//! Programs that this process has started, each with everything it starts itself: they end with what waits for them, and with this process.
//!
//! Each leads a process group of its own, so that its limit can end all of it. Hence no signal to this process reaches it, from a
//! terminal or from a daemon that ends a run: whatever ends this process in order has to end them, too, and does so here.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process_group};

use super::is_run;

/// What a shell makes of a process that ended by signal n.
const ENDED_BY: i32 = 128;

/// For what is just being started to be known, when this process ends. A program on a disk that is gone never is.
const STARTING_MAX: Duration = Duration::from_secs(1);

static LIVING: Mutex<Living> = Mutex::new(Living { leaders: BTreeSet::new(), starting: 0, are_over: false });
static STARTED: Condvar = Condvar::new();

struct Living {
    leaders: BTreeSet<i32>,
    starting: usize,
    /// This process is ending: nothing is started any more.
    are_over: bool,
}

fn living() -> MutexGuard<'static, Living> {
    // Nobody leaves it half changed.
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that was started, and all it has started, unless that left its group. Dropped before [`Group::ended`], all of it is killed.
#[derive(Debug)]
pub struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// Starts a program that is waited for by blocking.
    ///
    /// # Errors
    /// When it cannot be started, or this process is ending.
    pub fn start(command: &mut std::process::Command) -> io::Result<(std::process::Child, Group)> {
        command.process_group(0);
        Group::of(|| command.spawn().map(|child| (Some(child.id()), child)))
    }

    /// Starts a program that is awaited.
    ///
    /// # Errors
    /// As [`Group::start`].
    pub fn spawn(command: &mut tokio::process::Command) -> io::Result<(tokio::process::Child, Group)> {
        command.process_group(0);
        Group::of(|| command.spawn().map(|child| (child.id(), child)))
    }

    fn of<C>(start: impl FnOnce() -> io::Result<(Option<u32>, C)>) -> io::Result<(C, Group)> {
        {
            let mut living = living();
            if living.are_over {
                return Err(io::Error::other("this process is ending"));
            }
            living.starting += 1;
        }
        let started = start();
        let mut living = living();
        living.starting -= 1;
        STARTED.notify_all();
        let (id, child) = started?;
        let leader = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        living.leaders.extend(leader.map(Pid::as_raw_pid));
        Ok((child, Group { leader }))
    }

    /// Its first process was waited for: from here on the number may belong to somebody else.
    pub fn ended(&mut self) {
        if let Some(leader) = self.leader.take() {
            living().leaders.remove(&leader.as_raw_pid());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            kill(leader);
        }
        self.ended();
    }
}

fn kill(leader: Pid) {
    match kill_process_group(leader, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => {
            let pid = leader.as_raw_nonzero().get();
            tracing::warn!(pid, %errno, "a program's processes may have stayed behind");
        }
    }
}

/// Kills all of them, and has nothing started any more: the last thing but one that a process does.
pub fn end_groups() {
    let leaders = {
        let mut living = living();
        living.are_over = true;
        let waited = STARTED.wait_timeout_while(living, STARTING_MAX, |living| living.starting > 0);
        let (mut living, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut living.leaders)
    };
    leaders.into_iter().filter_map(Pid::from_raw).for_each(kill);
}

/// From here on SIGTERM, and SIGINT where it is not ignored, end this process with everything it has started. A thread of its own waits for
/// them: they end it also while everything else waits for a disk that is gone.
///
/// # Errors
/// When the machine gives no thread, or no signals.
pub fn end_with_groups() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let is_interruptible = !is_ignored(Signal::INT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        let interrupt = is_interruptible.then(|| signal(SignalKind::interrupt())).transpose()?;
        (signal(SignalKind::terminate())?, interrupt)
    };
    let wait = move || {
        let interrupted = async {
            match &mut interrupt {
                Some(interrupt) => interrupt.recv().await,
                None => std::future::pending().await,
            }
        };
        let by = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Signal::TERM,
                _ = interrupted => Signal::INT,
            }
        });
        end_groups();
        // What a run has started in its own group is told as well: the one that began it may be gone and tell nobody.
        if is_run() && getpgrp() == getpid() {
            let _it_is_of_this_group_itself = kill_process_group(getpid(), Signal::TERM);
        }
        std::process::exit(ENDED_BY + by.as_raw());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether this process was started with `signal` ignored, as what a script begins in its background has SIGINT.
fn is_ignored(signal: Signal) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    Ok(ignored >> (signal.as_raw() - 1) & 1 == 1)
}
