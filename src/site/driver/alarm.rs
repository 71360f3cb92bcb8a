//! Waiting until an instant, so that a simulation can be the time.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::site::lease::BootInstant;

/// Wakes whoever waits.
pub trait Alarm: Send + Sync {
    /// Ready at `instant` by [`Clock::boot`], or somewhat later.
    fn at(&self, instant: BootInstant) -> BoxFuture<'static, ()>;
}

/// The machine's own. Its timers stand still while the machine sleeps; the gate does not depend on them.
#[derive(Clone)]
pub struct SystemAlarm(pub Arc<dyn Clock>);

impl Alarm for SystemAlarm {
    fn at(&self, instant: BootInstant) -> BoxFuture<'static, ()> {
        let left = instant.since(BootInstant(self.0.boot()));
        if left.is_zero() { future::ready(()).boxed() } else { tokio::time::sleep(left).boxed() }
    }
}

/// How far the wall clock may move against the time since boot: a leap second, and what a clock is set right by at boot. A
/// taker waits a second and a fifth of a lease longer than a holder believes, which is more.
const DRIFT_MAX: Duration = Duration::from_millis(1500);

/// Notices when one of the machine's two clocks was moved: somebody set the time, or a machine was stopped and moved in a way that
/// its time since boot knows nothing of.
#[derive(Clone, Copy, Debug)]
pub(super) struct TwoClocks {
    /// The wall clock less the time since boot, in nanoseconds.
    apart: i128,
}

impl TwoClocks {
    pub(super) fn new(wall: Timestamp, boot: Duration) -> Self {
        TwoClocks { apart: apart(wall, boot) }
    }

    /// Whether they moved against each other since they were looked at first, or said to have moved.
    pub(super) fn moved(&mut self, wall: Timestamp, boot: Duration) -> bool {
        let now = apart(wall, boot);
        let has_moved = now.abs_diff(self.apart) > DRIFT_MAX.as_nanos();
        if has_moved {
            self.apart = now;
        }
        has_moved
    }
}

fn apart(wall: Timestamp, boot: Duration) -> i128 {
    wall.as_nanosecond() - i128::try_from(boot.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_once_and_a_leap_second_is_not() {
        let at = |millis: i64| Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap();
        let boot = Duration::from_millis;
        let mut clocks = TwoClocks::new(at(0), boot(50_000));
        assert!(!clocks.moved(at(10_000), boot(60_000)));
        assert!(!clocks.moved(at(19_000), boot(70_000)), "a leap second");
        assert!(clocks.moved(at(20_000 + 3_600_000), boot(70_000)), "set forward");
        assert!(!clocks.moved(at(30_000 + 3_600_000), boot(80_000)), "told once");
        assert!(clocks.moved(at(40_000), boot(90_000)), "and back");
    }
}
