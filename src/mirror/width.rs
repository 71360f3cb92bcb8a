//! How much is copied at a time: as many objects as make it faster, fewer when a server is asked too much, and no more than
//! fit into memory.
//!
//! More at a time are tried as long as more gets done in the same time; when it does not, it goes back to what did. Until that
//! happens for the first time it is twice as many each time, and then a quarter more. A server that says "slow down", or lets
//! requests time out, gets fewer at once (additive increase, multiplicative decrease).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many more there may be than there were to begin with.
const WIDEST: usize = 4;
/// What all copies under way may hold of their objects.
const BYTES_MAX: usize = 85 << 20;
/// What one holds at most: a part being sent, and the next one being read.
const COPY_BYTES_MAX: u64 = 17 << 20;
/// The grain in which that is counted.
const GRAIN_BYTES: u64 = 64 << 10;
/// How long is measured before anything is changed; while it is doubled, a short time tells enough.
const STEP: Duration = Duration::from_millis(500);
const FIRST_STEPS: Duration = Duration::from_millis(200);
/// So much more has to get done for a step up to have been worth it.
const WORTH: f64 = 1.03;
/// For so many steps it is left alone when a step up was not worth it.
const REST: u32 = 10;
/// An object costs as much as so many bytes of content.
const OBJECT_BYTES: u64 = 64 << 10;

/// The copies under way.
#[derive(Debug)]
pub(super) struct Width {
    turns: Semaphore,
    bytes: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    governor: Governor,
    /// Since when is measured.
    since: Instant,
    done: u64,
    /// How many turns are still to be taken away.
    owed: usize,
}

/// One copy's share.
pub(super) struct Turn<'a> {
    width: &'a Width,
    turn: Option<SemaphorePermit<'a>>,
    _bytes: Option<SemaphorePermit<'a>>,
    cost: u64,
}

impl Width {
    /// So many at a time to begin with.
    pub(super) fn new(first: usize) -> Self {
        let first = first.max(1);
        let governor = Governor::new(first, first.saturating_mul(WIDEST));
        Width {
            turns: Semaphore::new(first),
            bytes: Semaphore::new(BYTES_MAX / GRAIN_BYTES as usize),
            state: Mutex::new(State { governor, since: Instant::now(), done: 0, owed: 0 }),
        }
    }

    /// Waits until an object of so many bytes may be copied.
    pub(super) async fn enter(&self, bytes: u64) -> Turn<'_> {
        let grains = u32::try_from(bytes.min(COPY_BYTES_MAX).div_ceil(GRAIN_BYTES)).unwrap_or(u32::MAX);
        // Neither is ever closed; were it, the copy would only be one too many.
        let turn = self.turns.acquire().await.ok();
        let held = self.bytes.acquire_many(grains).await.ok();
        Turn { width: self, turn, _bytes: held, cost: bytes.saturating_add(OBJECT_BYTES) }
    }

    /// How much `pressure` was felt in all, when a copy has ended: time to look whether more at a time would be better, or fewer.
    pub(super) fn adjust(&self, pressure: u64) {
        let mut state = self.state();
        let elapsed = state.since.elapsed();
        if elapsed < state.governor.measured() {
            return;
        }
        let rate = state.done as f64 / elapsed.as_secs_f64();
        let (before, after) = (state.governor.width, state.governor.step(rate, pressure));
        (state.since, state.done) = (Instant::now(), 0);
        if after > before {
            let more = after - before;
            let kept = more.min(state.owed);
            state.owed -= kept;
            self.turns.add_permits(more - kept);
        } else {
            let fewer = before - after;
            state.owed += fewer - self.turns.forget_permits(fewer);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.width.state();
        state.done = state.done.saturating_add(self.cost);
        if state.owed > 0
            && let Some(turn) = self.turn.take()
        {
            state.owed -= 1;
            turn.forget();
        }
    }
}

/// Decides how many. Pure: what got done comes in.
#[derive(Debug)]
struct Governor {
    width: usize,
    most: usize,
    /// What got done at the width before the last step up, and that width.
    lower: Option<(usize, f64)>,
    pressure: u64,
    rest: u32,
    /// Whether more were always better until now.
    doubling: bool,
}

impl Governor {
    fn new(width: usize, most: usize) -> Self {
        Governor { width, most, lower: None, pressure: 0, rest: 0, doubling: true }
    }

    /// How long to measure before the next step.
    fn measured(&self) -> Duration {
        if self.doubling { FIRST_STEPS } else { STEP }
    }

    /// How many at a time from now on, after so much got done each second and so much pressure was felt in all.
    fn step(&mut self, rate: f64, pressure: u64) -> usize {
        let pressed = pressure > std::mem::replace(&mut self.pressure, pressure);
        if pressed {
            self.width = (self.width / 2).max(1);
            (self.lower, self.rest, self.doubling) = (None, REST, false);
        } else if self.rest > 0 {
            self.rest -= 1;
        } else if let Some((lower, _)) = self.lower.filter(|(_, before)| rate < before * WORTH) {
            self.width = lower;
            (self.lower, self.rest, self.doubling) = (None, REST, false);
        } else if self.width < self.most {
            self.lower = Some((self.width, rate));
            let more = if self.doubling { self.width } else { (self.width / 4).max(1) };
            self.width = (self.width + more).min(self.most);
        } else {
            (self.lower, self.doubling) = (None, false);
        }
        self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs so many steps against a server that does as much as `server` says; the widths.
    fn run(steps: usize, server: impl Fn(usize) -> (f64, bool)) -> Vec<usize> {
        let (mut governor, mut pressure) = (Governor::new(8, 32), 0);
        let mut step = || {
            let (rate, pressed) = server(governor.width);
            pressure += u64::from(pressed);
            governor.step(rate, pressure)
        };
        (0..steps).map(|_| step()).collect()
    }

    #[test]
    fn it_grows_as_long_as_more_gets_done_and_goes_back_when_it_does_not() {
        assert_eq!(run(2, |width| (width as f64, false)), [16, 32], "twice as many at first");
        let widths = run(100, |width| (width.min(12) as f64, false));
        assert!(widths.iter().all(|width| (8..=32).contains(width)), "{widths:?}");
        assert!(widths.iter().skip(3).all(|width| *width <= 20), "{widths:?}");
    }

    #[test]
    fn a_server_that_is_asked_too_much_gets_half_and_is_left_alone_for_a_while() {
        let widths = run(200, |width| (width as f64, width > 5));
        assert!(widths.iter().filter(|width| **width <= 5).count() > 180, "{widths:?}");
        assert_eq!(run(10, |_| (1.0, true)).last(), Some(&1));
    }

    #[tokio::test]
    async fn large_objects_wait_for_each_other() {
        let width = Width::new(8);
        let mut large = Vec::new();
        for _ in 0..BYTES_MAX as u64 / COPY_BYTES_MAX {
            large.push(width.enter(1 << 30).await);
        }
        let mut next = std::pin::pin!(width.enter(1 << 40));
        assert!(futures_util::poll!(&mut next).is_pending());
        large.pop();
        let next = next.await;
        drop((large, next));
        assert_eq!(width.turns.available_permits(), 8);
        assert_eq!(width.bytes.available_permits(), BYTES_MAX / GRAIN_BYTES as usize);
    }

    #[tokio::test]
    async fn what_is_taken_away_is_taken_from_those_who_come_back() {
        let width = Width::new(4);
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(width.enter(1).await);
        }
        width.state().since -= 2 * STEP;
        width.adjust(1);
        turns.truncate(2);
        assert_eq!(width.turns.available_permits(), 0);
        drop(turns);
        assert_eq!(width.turns.available_permits(), 2);
    }
}
