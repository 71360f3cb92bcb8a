//! How long to wait before something is tried again: any time up to a limit that doubles ("full jitter"), so that those who
//! failed together do not come back together.

use std::time::Duration;

use crate::store::StoreError;

/// How often an object that keeps changing, or a store that breaks off, is tried in all.
pub(super) const ATTEMPTS: u32 = 5;
/// How long to wait before the second attempt at most; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The waits between the attempts of one thing.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: Duration,
    longest: Duration,
}

impl Backoff {
    /// At most `first` before the second attempt, then twice as long each time, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { limit: first, longest }
    }

    /// The waits between the attempts to read or write one object.
    pub(super) fn of_one_object() -> Self {
        Backoff::new(FIRST_WAIT, LONGEST_WAIT)
    }

    /// Waits before the next attempt.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next(drawn())).await;
    }

    /// How long to wait if `drawn` was drawn.
    fn next(&mut self, drawn: u16) -> Duration {
        let wait = self.limit.mul_f64(f64::from(drawn) / f64::from(u16::MAX));
        self.limit = (self.limit * 2).min(self.longest);
        wait
    }
}

/// The attempts of reading one object.
#[derive(Debug)]
pub(crate) struct Patience {
    left: u32,
    backoff: Backoff,
}

impl Patience {
    /// As much as a copy has.
    pub(crate) fn of_one_object() -> Self {
        Patience { left: ATTEMPTS, backoff: Backoff::of_one_object() }
    }

    /// Whether to try again after `error`; waits until then.
    pub(crate) async fn again(&mut self, error: &StoreError) -> bool {
        self.left = self.left.saturating_sub(1);
        let again = self.left > 0 && matches!(error, StoreError::Unavailable { .. });
        if again {
            self.backoff.wait().await;
        }
        again
    }
}

/// Without chance all would wait as long; that is worse, and no reason to fail.
fn drawn() -> u16 {
    let mut bytes = [0xff; 2];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u16::from_le_bytes(bytes),
        Err(_) => u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_anything_up_to_a_limit_that_doubles() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let waits: Vec<u128> = [u16::MAX, 0, u16::MAX, u16::MAX].map(|drawn| backoff.next(drawn).as_millis()).into();
        assert_eq!(waits, [100, 0, 300, 300]);
    }
}
