//! Leave to write to what both sites share: until when, and renewed or withdrawn by somebody else.
//!
//! A site that is live by a lease may write to the vault and to the other site's buckets only as long as the lease lasts; what it
//! has started then must have ended by its end. So a request asks right before it starts, and it may start only if it is over in
//! time however long it takes: each has a limit, and is given up at it. The instant is one of the clock that goes on while a
//! machine sleeps, and nobody can set ([`Clock::boot`]).
//!
//! Without a lease the [`Permit`] is unlimited. The half that renews is the [`Grant`]; when it is dropped, because its task died,
//! the permit is withdrawn.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::{Class, Explain};

/// Whether, and until when, writes may start. Clones are of the same leave.
#[derive(Clone, Default)]
pub struct Permit(Option<Limit>);

#[derive(Clone)]
struct Limit {
    clock: Arc<dyn Clock>,
    /// The instant by [`Clock::boot`]; nothing when it was withdrawn.
    until: watch::Receiver<Option<Duration>>,
    request: Duration,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Permit(unlimited)"),
            Some(limit) => write!(f, "Permit(until {:?})", *limit.until.borrow()),
        }
    }
}

/// Why a write may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withdrawn {
    /// Nobody may write any more.
    #[error("the permit to write was withdrawn")]
    Gone,
    /// It may take longer than the permit lasts.
    #[error("the permit to write ends in {left:.1?}, and this may take {longest:.1?}")]
    Ends {
        /// How long it lasts.
        left: Duration,
        /// How long the write may take.
        longest: Duration,
    },
}

impl Explain for Withdrawn {
    fn class(&self) -> Class {
        Class::Incomplete
    }

    fn next_step(&self) -> Option<String> {
        Some(
            "What was confirmed until then is remembered, nothing else is. Find out which site is live now; if it is this one, run it \
             again: it goes on where it stopped."
                .to_owned(),
        )
    }
}

impl Permit {
    /// Without an end.
    pub fn unlimited() -> Self {
        Permit(None)
    }

    /// One that nothing may be done with until it is granted. No request it allows takes longer than `request`.
    pub fn limited(clock: Arc<dyn Clock>, request: Duration) -> (Grant, Permit) {
        let (grant, until) = watch::channel(None);
        (Grant(grant), Permit(Some(Limit { clock, until, request })))
    }

    /// How long a request may take; without a limit of ours when absent.
    pub fn request_max(&self) -> Option<Duration> {
        self.0.as_ref().map(|limit| limit.request)
    }

    /// Whether a write may start that takes `longest` at most.
    ///
    /// # Errors
    /// [`Withdrawn`]: then it must not.
    pub fn may_start(&self, longest: Duration) -> Result<(), Withdrawn> {
        let Some(limit) = &self.0 else { return Ok(()) };
        let until = (*limit.until.borrow()).ok_or(Withdrawn::Gone)?;
        match until.checked_sub(limit.clock.boot()) {
            None | Some(Duration::ZERO) => Err(Withdrawn::Gone),
            Some(left) if left <= longest => Err(Withdrawn::Ends { left, longest }),
            Some(_) => Ok(()),
        }
    }

    /// Whether one request may start.
    ///
    /// # Errors
    /// As [`Permit::may_start`].
    pub fn may_request(&self) -> Result<(), Withdrawn> {
        self.0.as_ref().map_or(Ok(()), |limit| self.may_start(limit.request))
    }
}

/// The other half: who holds it says until when.
#[derive(Debug)]
pub struct Grant(watch::Sender<Option<Duration>>);

impl Grant {
    /// Writes may run until `instant`, by [`Clock::boot`]; also if it is earlier than what was said before.
    pub fn until(&self, instant: Duration) {
        self.0.send_replace(Some(instant));
    }

    /// Waits until nobody is left who could write under it.
    pub async fn unused(&self) {
        self.0.closed().await;
    }

    /// None may start from now on.
    pub fn withdraw(&self) {
        self.0.send_replace(None);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Duration>);

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn boot(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn a_write_starts_only_if_it_is_over_in_time() {
        let clock = Arc::new(Told::default());
        let at = |seconds| *clock.0.lock().unwrap() = Duration::from_secs(seconds);
        let (grant, permit) = Permit::limited(clock.clone(), Duration::from_secs(5));
        assert_eq!(permit.may_request(), Err(Withdrawn::Gone), "not granted yet");
        grant.until(Duration::from_secs(60));
        assert_eq!(permit.may_request(), Ok(()));
        at(54);
        assert_eq!(permit.clone().may_request(), Ok(()));
        assert!(permit.may_start(Duration::from_secs(6)).is_err());
        at(55);
        let [left, longest] = [Duration::from_secs(5); 2];
        assert_eq!(permit.may_request(), Err(Withdrawn::Ends { left, longest }));
        grant.until(Duration::from_secs(61));
        assert_eq!(permit.may_request(), Ok(()), "renewed");
        at(70);
        assert_eq!(permit.may_start(Duration::ZERO), Err(Withdrawn::Gone));
        grant.until(Duration::from_secs(100));
        drop(grant);
        assert_eq!(permit.may_request(), Err(Withdrawn::Gone), "whoever renews it is gone");
        assert_eq!(Permit::unlimited().may_start(Duration::MAX), Ok(()));
    }
}
