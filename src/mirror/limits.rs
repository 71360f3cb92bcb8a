//! What the copies may take of the line and of the servers, changed while they run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};
use crate::config::{Limit, LimitsConfig};

/// What was not used is made up for as far back as this.
const BURST: Duration = Duration::from_millis(100);
/// Nobody sleeps longer before looking again what is allowed: a limit that was lifted must not hold up anybody for long.
const NAP: Duration = Duration::from_millis(250);

/// The limits at work; whoever copies pays here.
pub struct Limits {
    clock: Arc<dyn Clock>,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    config: LimitsConfig,
    /// How far all bytes that were taken are paid for, counted from the beginning.
    bytes: Duration,
    requests: Duration,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Default for Limits {
    /// None.
    fn default() -> Self {
        Limits::configured(LimitsConfig::default())
    }
}

/// What is paid for.
#[derive(Clone, Copy)]
enum Paid {
    Bytes(u64),
    Requests(u64),
}

impl Limits {
    /// These limits, at the times of this machine.
    pub fn configured(config: LimitsConfig) -> Self {
        Limits::new(config, Arc::new(SystemClock))
    }

    /// These limits, at the times of this clock.
    pub fn new(config: LimitsConfig, clock: Arc<dyn Clock>) -> Self {
        let state = State { config, bytes: Duration::ZERO, requests: Duration::ZERO };
        Limits { clock, begun: Instant::now(), state: Mutex::new(state) }
    }

    /// Has others hold from now on.
    pub fn set(&self, config: LimitsConfig) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.begun.elapsed();
        // What was owed under the old ones is forgiven.
        *state = State { config, bytes: state.bytes.min(now), requests: state.requests.min(now) };
    }

    /// Waits until so many bytes, which have just been read, are paid for.
    pub(super) async fn bytes(&self, bytes: u64) {
        self.pay(Paid::Bytes(bytes)).await;
    }

    /// Waits until a request may be sent.
    pub(super) async fn request(&self) {
        self.requests(1).await;
    }

    /// Waits until so many may be sent, one after the other.
    pub(super) async fn requests(&self, count: u64) {
        self.pay(Paid::Requests(count)).await;
    }

    async fn pay(&self, paid: Paid) {
        let Some(mut until) = self.due(paid) else { return };
        loop {
            let now = self.begun.elapsed();
            let Some(wait) = until.checked_sub(now).filter(|wait| !wait.is_zero()) else { return };
            tokio::time::sleep(wait.min(NAP)).await;
            // Others may hold by now.
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            until = until.min(match paid {
                Paid::Bytes(_) => state.bytes,
                Paid::Requests(_) => state.requests,
            });
        }
    }

    /// Until when to wait; `None` when nothing is limited.
    fn due(&self, paid: Paid) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.config.is_empty() {
            return None;
        }
        let Limit { bytes, requests } = state.config.at(self.clock.now().as_second());
        let now = self.begun.elapsed();
        let (taken, (amount, a_second)) = match paid {
            Paid::Bytes(amount) => (&mut state.bytes, (amount, bytes?)),
            Paid::Requests(count) => (&mut state.requests, (count, requests?)),
        };
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(a_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *taken = (*taken).max(now.saturating_sub(BURST)).saturating_add(cost);
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(lines: &str) -> LimitsConfig {
        LimitsConfig::parse(&[lines]).unwrap()
    }

    #[tokio::test]
    async fn requests_and_bytes_are_paid_for() {
        let paid = Limits::new(limits("1000 requests/s, 1 MiB/s"), Arc::new(SystemClock));
        let begun = Instant::now();
        for _ in 0..300 {
            paid.request().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
        let begun = Instant::now();
        paid.bytes(512 << 10).await;
        assert!(begun.elapsed() >= Duration::from_millis(350), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_limit_that_is_lifted_holds_up_nobody() {
        let slow = Arc::new(Limits::new(limits("64 KiB/s"), Arc::new(SystemClock)));
        let waiting = tokio::spawn({
            let slow = Arc::clone(&slow);
            async move { slow.bytes(1 << 30).await }
        });
        tokio::task::yield_now().await;
        slow.set(LimitsConfig::default());
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        slow.bytes(1 << 40).await;
    }
}
