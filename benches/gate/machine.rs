//! What the machine did meanwhile, as the kernel counts it: without that, a wait says nothing about who caused it.

use std::fs;
use std::time::Duration;

/// The counters at one moment.
#[derive(Clone, Copy)]
pub struct Counted {
    /// Of all cores together, in ticks since the machine was started.
    busy: u64,
    all: u64,
    /// Of the gate's thread: it ran, and it could have run and no core was free.
    ran: Duration,
    held_up: Duration,
}

impl Counted {
    /// Now, with no time of a gate that is not there.
    pub fn now() -> Counted {
        let text = fs::read_to_string("/proc/stat").expect("the kernel's count (proc_stat(5))");
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, waiting, interrupts, soft, stolen] = ticks[..] else { panic!("{first}") };
        let busy = user + nice + system + interrupts + soft + stolen;
        let (ran, held_up) = of_gate().unwrap_or_default();
        Counted { busy, all: busy + idle + waiting, ran, held_up }
    }

    /// Of the time of all cores since then, how much somebody used.
    pub fn busy_percent(&self, since: &Counted) -> u64 {
        (self.busy - since.busy) * 100 / (self.all - since.all).max(1)
    }

    /// For how long the gate's thread ran since then, and for how long it could have run and had no core.
    pub fn gate(&self, since: &Counted) -> (Duration, Duration) {
        (self.ran.saturating_sub(since.ran), self.held_up.saturating_sub(since.held_up))
    }
}

/// Of this process (Documentation/scheduler/sched-stats.rst of the kernel: /proc/PID/schedstat, in nanoseconds).
fn of_gate() -> Option<(Duration, Duration)> {
    let is_gate = |name: String| name.trim() == "gate";
    let tasks = fs::read_dir("/proc/self/task").expect("our threads").flatten().map(|task| task.path());
    let gate = tasks.into_iter().find(|task| fs::read_to_string(task.join("comm")).is_ok_and(is_gate))?;
    let text = fs::read_to_string(gate.join("schedstat")).ok()?;
    let mut spans = text.split_whitespace().map_while(|word| word.parse().ok()).map(Duration::from_nanos);
    Some((spans.next()?, spans.next()?))
}
