//! The operator: does what a person may do in the state a site is in, sensible or not.

#![cfg(test)]

use super::super::Ordered;
use super::site::{Disk, Site};
use super::world::{Rng, SECOND, Shared, lock};
use crate::site::lease::{Command, Done, Name, Pace, Side, Term};

/// How a person behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Anything, and above all what leads to this state.
    Wants(Name),
    /// What the documents say, so that one site is live in the end.
    Mends,
}

/// What a person does now with `site`, if anything.
pub fn act(site: &mut Site, mood: Mood, rng: &mut Rng) {
    let Some(status) = site.status() else { return };
    let record = status.record.as_ref();
    let point = record.and_then(|record| record.recovery_point.as_ref()?.parse().ok());
    let is_whim = mood != Mood::Mends && rng.one_in(12);
    let release = Command::Release { to: Some(Side::Them).filter(|_| rng.one_in(2)) };
    let acquire = Command::Acquire { if_term: None, pace: Pace::Wait };
    let what = match status.lease.name() {
        Name::Standby => Ordered::Command(Command::Restore),
        Name::Restoring if is_whim => Ordered::Done(Done::RestoreFailed),
        Name::Restoring => Ordered::Done(Done::Restored(point)),
        // What was restored is not of the last term any more, says the refusal: from the beginning.
        Name::Ready if is_whim || status.refusal.is_some() => Ordered::Command(Command::Cancel),
        // Nobody here can prove that the other site is fenced: it leads nowhere, however often it is said.
        Name::Ready if mood != Mood::Mends && rng.one_in(6) => {
            let force = Command::Acquire { if_term: None, pace: Pace::Force };
            site.order(Ordered::Command(force));
            Ordered::Command(force)
        }
        Name::Ready => Ordered::Command(acquire),
        Name::Waiting if is_whim => Ordered::Command(Command::Cancel),
        Name::Live if mood == Mood::Wants(Name::Draining) => Ordered::Command(release),
        Name::Live if is_whim && rng.one_in(3) => Ordered::Command(Command::Fence),
        Name::Draining if is_whim => Ordered::Command(Command::Cancel),
        Name::Released if is_whim || mood == Mood::Mends => Ordered::Command(acquire),
        Name::Closed if is_whim => Ordered::Command(release),
        // Handed on before anything was started, and perhaps that given up, too.
        Name::Starting if mood == Mood::Wants(Name::Draining) => Ordered::Command(release),
        // It did not start: whoever has looked at it tries again.
        Name::Starting if status.work_error.is_some() => Ordered::Command(Command::Fence),
        Name::Fenced if rng.one_in(2) => Ordered::Command(Command::LiftFence),
        Name::Fenced | Name::Stale => Ordered::Command(Command::Rejoin),
        _ => return,
    };
    site.order(what);
}

/// Mends what is wrong with a site's disk, sooner or later.
pub fn look_at_disk(site: &mut Site, is_spoiled: bool, rng: &mut Rng) {
    let mut disk = site.disk.lock().unwrap();
    if disk.is_read_only && rng.one_in(6) {
        disk.is_read_only = false;
    }
    // Who is live is said by the witness, and only then is the file moved away: the site forgets what it has seen.
    if disk.is_torn && !is_spoiled && rng.one_in(3) {
        *disk = Disk::default();
    }
}

/// The record is gone, or an old one. Both sites are fenced before anything else; then the witness is set up, at least in the highest
/// term there was, and the daemons are started anew: these have read what is not there any more, and believe nothing else.
pub fn mend_witness(sites: &mut [Site; 2], world: &Shared, rng: &mut Rng) {
    let now = lock(world).now;
    let mut are_fenced = true;
    for site in &mut *sites {
        let may_be_live = !matches!(
            site.name(),
            None | Some(Name::Uninit | Name::Standby | Name::Restoring | Name::Ready)
                | Some(Name::Released | Name::Fenced | Name::Stale)
        );
        are_fenced &= !may_be_live;
        match site.name() {
            _ if !may_be_live => {}
            // It hangs: off with it.
            _ if site.is_away(now) => site.kill(now + rng.between(5, 60) * SECOND),
            Some(Name::Waiting) => site.order(Ordered::Command(Command::Cancel)),
            _ => site.order(Ordered::Command(Command::Fence)),
        }
    }
    if are_fenced {
        lock(world).set_up(None, Term(0));
        for site in sites {
            site.kill(now + rng.between(1, 10) * SECOND);
        }
    }
}
