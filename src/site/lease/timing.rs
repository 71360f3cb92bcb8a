//! How long is how long: the spans of the protocol, and which of them fit together.

use std::time::Duration;

/// The spans one site runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    ttl: Duration,
    drain: Duration,
    drift_permille: u32,
    slack: Duration,
}

/// Spans that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Renewals come too late.
    #[error(
        "a lease of {ttl:?} leaves no time to renew it: a renewal every {renew:?} and two requests of {request:?} do not \
         end before the gate closes, {drain:?} ahead of the lease"
    )]
    NoTimeToRenew {
        /// The lease's span.
        ttl: Duration,
        /// From one renewal to the next.
        renew: Duration,
        /// The limit of one request.
        request: Duration,
        /// The margin at the end.
        drain: Duration,
    },
    /// No clock is that bad, and no wait would be long enough.
    #[error("clocks that differ by {permille} ‰ of their rate cannot be waited for; at most 499 ‰ can")]
    Drift {
        /// The rate.
        permille: u32,
    },
}

impl Default for Timing {
    /// A lease of a minute: the gate closes 50 s after the last good renewal, and a taker waits 74.4 s.
    fn default() -> Self {
        Timing {
            ttl: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            drift_permille: 100,
            slack: Duration::from_secs(1),
        }
    }
}

impl Timing {
    /// A lease of `ttl`, whose gate closes `drain` before it ends, between clocks whose rates are off by up to `drift_permille`
    /// each; a taker waits `slack` longer than it must.
    ///
    /// # Errors
    /// When the spans leave no time for a renewal, or no wait is long enough.
    pub fn new(ttl: Duration, drain: Duration, drift_permille: u32, slack: Duration) -> Result<Self, TimingError> {
        let timing = Timing { ttl, drain, drift_permille, slack };
        if drift_permille >= 500 {
            return Err(TimingError::Drift { permille: drift_permille });
        }
        let (renew, request) = (timing.renew_every(), timing.request_timeout());
        if renew + 2 * request >= ttl.saturating_sub(drain) {
            return Err(TimingError::NoTimeToRenew { ttl, renew, request, drain });
        }
        Ok(timing)
    }

    /// T: how long after the sending of a renewal the holder believes to hold the lease.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// D: how long before that its gate closes: load balancers notice, and what runs ends.
    pub fn drain(&self) -> Duration {
        self.drain
    }

    /// From one renewal to the next, and from one read of the witness to the next: T/6.
    pub fn renew_every(&self) -> Duration {
        self.ttl / 6
    }

    /// The limit of one request to the witness: T/12. No answer by then is [`Answer::Unknown`](super::Answer::Unknown).
    pub fn request_timeout(&self) -> Duration {
        self.ttl / 12
    }

    /// W: how long a record that says `ttl` must stay as it is before its holder cannot believe in it any more. The holder's
    /// clock may be slow by ρ and ours fast by ρ: W = T·(1+ρ)/(1−ρ) + ε, rounded up to a millisecond.
    pub fn wait_out(&self, ttl: Duration) -> Duration {
        let drift = u128::from(self.drift_permille.min(499));
        let wait_ms = (ttl.as_millis() * (1000 + drift)).div_ceil(1000 - drift);
        Duration::from_millis(u64::try_from(wait_ms).unwrap_or(u64::MAX)).saturating_add(self.slack)
    }
}

#[cfg(test)]
impl Timing {
    /// Spans of a few milliseconds, which nobody could run by, for the model.
    pub(super) const fn small(ttl_ms: u64, drain_ms: u64, drift_permille: u32) -> Self {
        let (ttl, drain) = (Duration::from_millis(ttl_ms), Duration::from_millis(drain_ms));
        Timing { ttl, drain, drift_permille, slack: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taker_waits_longer_than_the_slowest_clock_lets_a_holder_believe() {
        let timing = Timing::default();
        assert_eq!(timing.wait_out(timing.ttl()).as_millis(), 74_334);
        // Its clock runs at 0.9 and ours at 1.1: what is 60 s there are 73.4 s here.
        assert!(timing.wait_out(timing.ttl()) > Duration::from_secs(60).mul_f64(1.1 / 0.9));
        assert_eq!(timing.wait_out(Duration::from_secs(120)).as_millis(), 147_667, "the holder's span, not ours");
    }

    #[test]
    fn spans_that_leave_no_time_to_renew_are_refused() {
        let seconds = Duration::from_secs;
        let new = |ttl, drain| Timing::new(seconds(ttl), seconds(drain), 100, seconds(1));
        assert_eq!(new(60, 10), Ok(Timing::default()));
        assert!(new(6, 1).is_ok());
        let error = new(60, 40).unwrap_err();
        assert!(error.to_string().contains("leaves no time to renew"), "{error}");
        assert!(new(10, 10).is_err());
        assert_eq!(Timing::new(seconds(60), seconds(10), 500, seconds(1)), Err(TimingError::Drift { permille: 500 }));
    }
}
