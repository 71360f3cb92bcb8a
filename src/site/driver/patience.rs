//! How long a takeover waits beside a live site that is well: not for ever. Weeks later that one may be started anew, and would be
//! taken over with the data of the day on which somebody gave the order.
//!
//! A live site that is lost renews nothing any more. One that has renewed later than its lease lasts after the order was not lost when
//! it was given: handing over is its own work.

use std::time::Duration;

use crate::site::lease::{BootInstant, Lease, Name, Side, Standing, Timing};

/// What a site has seen of the holder since it began to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Since when it is in its state.
    since: BootInstant,
    /// When it read the record last.
    read: Option<BootInstant>,
}

impl Patience {
    /// That of a site whose state began at `at`.
    pub fn new(at: BootInstant) -> Self {
        Patience { since: at, read: None }
    }

    /// Notes that the record was read at `at`. For how long the holder has gone on since then, once it is known to be well.
    pub fn read(&mut self, lease: &Lease, timing: Timing, at: BootInstant) -> Option<Duration> {
        let (seen, still) = lease.watched(at).filter(|_| lease.name() == Name::Waiting)?;
        let before = self.read.replace(at);
        // The renewal came between the two reads: the earlier one has to be late enough, for this one may have waited for the witness.
        let is_late = before.is_some_and(|before| before.since(self.since) > timing.wait_out(seen.ttl));
        let is_renewed = still.is_zero() && seen.standing == Standing::Held(Side::Them);
        (is_late && is_renewed).then(|| at.since(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::lease::{
        Action, Answer, Command, Done, Event, Nonce, Pace, Revision, Seen, Term, What, WitnessId, step,
    };

    const TTL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    /// A spare that is ordered to take over at second 10, and reads the record every ten seconds. The holder renews until second `lost`;
    /// from `cut` to `back` the witness does not answer. When its patience ends, if it does before it takes the lease.
    fn ends(lost: u64, cut: u64, back: u64) -> Option<u64> {
        let timing = Timing::new(TTL, Duration::from_secs(10), 100, Duration::from_secs(1)).unwrap();
        let mut lease = Lease::start(timing, None, at(0));
        let mut patience = Patience::new(at(0));
        let tell = |lease: &mut Lease, seconds: u64, what: What| {
            let (next, actions) = step(*lease, Event { at: at(seconds), fresh: Nonce(seconds.into()), what });
            *lease = next;
            actions
        };
        for seconds in (0..1_000).step_by(10) {
            let asked = tell(&mut lease, seconds, What::Tick);
            if lease.name() == Name::Acquiring {
                return None;
            }
            let id = asked.iter().find_map(|action| match action {
                Action::Read(id) => Some(*id),
                _ => None,
            });
            if let Some(id) = id.filter(|_| !(cut..back).contains(&seconds)) {
                let number = seconds.min(lost);
                let standing = Standing::Held(Side::Them);
                let (revision, nonce) = (Revision(number + 1), Nonce(u128::from(number)));
                let seen =
                    Seen { revision, witness: WitnessId(7), term: Term(1), standing, seq: number, nonce, ttl: TTL };
                tell(&mut lease, seconds, What::Answered(id, Answer::Record(seen)));
                if let Some(renewed) = patience.read(&lease, timing, at(seconds)) {
                    assert_eq!(renewed, Duration::from_secs(seconds - 10), "since the order");
                    return Some(seconds);
                }
            } else if let Some(id) = id {
                tell(&mut lease, seconds, What::Answered(id, Answer::Unknown));
            }
            if seconds == 10 {
                let acquire = Command::Acquire { if_term: None, pace: Pace::Wait };
                let orders =
                    [What::Command(Command::Join), What::Command(Command::Restore), What::Done(Done::Restored(None))];
                for what in orders.into_iter().chain([What::Command(acquire)]) {
                    tell(&mut lease, seconds, what);
                }
                assert_eq!(lease.name(), Name::Waiting);
                patience = Patience::new(at(10));
            }
        }
        Some(1_000)
    }

    #[test]
    fn a_takeover_ends_beside_a_site_that_is_well_and_goes_on_beside_one_that_is_not() {
        // 75 s after the order, and one read that is late enough for the renewal to have come after it.
        assert_eq!(ends(u64::MAX, 0, 0), Some(100));
        // Lost before the order, or soon after it: it is taken over.
        assert_eq!(ends(0, 0, 0), None);
        assert_eq!(ends(50, 0, 0), None);
        // The witness was away, and shows then what the holder did at once after the order: that says nothing of now.
        assert_eq!(ends(30, 30, 90), None);
        assert_eq!(ends(u64::MAX, 30, 90), Some(100));
    }
}
