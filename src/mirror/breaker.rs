//! The breakers: what a pass would destroy of the spare's state is not done when it looks like a mistake.
//!
//! New objects go on being copied; what is overwritten or gone beyond the limit stays at the spare, and in the manifest, as it
//! was, and the pass says so. A person who looked and means it types how much he accepts, for one run.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// So many objects may always be overwritten, or be gone, in one pass.
const ALWAYS: u64 = 1_000;
/// And of large buckets this share: one of so many.
const ONE_OF: u64 = 100;
/// From so many objects on, a listing that lacks more than half of them is not believed.
const MANY: u64 = 10;

/// What a pass did not do because it looked like a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    /// Changed objects of which the spare still has the older version.
    pub overwrites: u64,
    /// Changed objects in all, if not every one was overwritten.
    pub changed: u64,
    /// Objects that the listing lacks and that count as there.
    pub deletes: u64,
    /// Why, in words; empty when nothing was held back.
    pub why: String,
}

impl HeldBack {
    /// Whether anything was.
    pub fn is_any(&self) -> bool {
        !self.why.is_empty()
    }

    /// What to do about it.
    pub fn next_step(&self, bucket: &str) -> String {
        match self.to_accept() {
            0 => format!(
                "Check that {bucket} is the right place and whole; if its canary was removed on purpose, name another."
            ),
            count => format!(
                "Check that {bucket} is the right place and whole (a folder: that its disk is mounted). If it is meant to be \
                 so, let it through once: `warmspare capture --accept-changes {count}`."
            ),
        }
    }

    /// What a person has to type to let all of it through, once.
    pub fn to_accept(&self) -> u64 {
        self.changed.max(self.deletes)
    }
}

/// Counts what a pass is about to destroy.
#[derive(Debug)]
pub(super) struct Breaker {
    known: u64,
    limit: u64,
    accepted: u64,
    canary_lost: bool,
    overwritten: AtomicU64,
    held: AtomicU64,
}

impl Breaker {
    /// For a manifest of `known` rows, and `accepted` changes by a person.
    pub(super) fn new(known: u64, accepted: u64, canary_lost: bool) -> Self {
        let limit = ALWAYS.max(known / ONE_OF).max(accepted);
        Breaker { known, limit, accepted, canary_lost, overwritten: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    /// Whether one more object may be overwritten. One that may not is counted.
    pub(super) fn may_overwrite(&self) -> bool {
        let may = self.overwritten.fetch_add(1, Ordering::Relaxed) < self.limit && !self.canary_lost;
        if !may {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// Whether it is already clear that deletes are not believed, when `gone` objects were found gone.
    pub(super) fn is_beyond(&self, gone: u64) -> bool {
        self.canary_lost || gone > self.limit
    }

    /// What is held back of a pass that listed `listed` objects, did not list `unlisted` of those known, and found `gone` of
    /// them gone.
    pub(super) fn judge(&self, listed: u64, unlisted: u64, gone: u64) -> HeldBack {
        let overwrites = self.held.load(Ordering::Relaxed);
        let changed = if overwrites > 0 { self.overwritten.load(Ordering::Relaxed) } else { 0 };
        let (known, limit) = (self.known, self.limit);
        // Beyond the limit nobody has asked for them one by one.
        let missing = unlisted.max(gone);
        let unbelieved = missing > self.accepted && missing > 0;
        let why = match () {
            () if self.canary_lost => {
                "the canary is not there: this is not the right bucket, or not all of it".to_owned()
            }
            () if unbelieved && listed == 0 => format!("it lists no object, and had {known} at the last pass"),
            () if missing > limit => {
                format!("{missing} of {known} objects are gone, more than the {limit} that are believed")
            }
            () if unbelieved && known >= MANY && missing.saturating_mul(2) > known => {
                format!("{missing} of {known} objects are gone: more than half")
            }
            () if overwrites > 0 => {
                let why = format!("{changed} of {known} objects changed, more than the {limit} that are overwritten");
                return HeldBack { overwrites, changed, deletes: 0, why };
            }
            () => return HeldBack::default(),
        };
        HeldBack { overwrites, changed, deletes: gone, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(known: u64, accepted: u64, listed: u64, gone: u64) -> (u64, String) {
        let held = Breaker::new(known, accepted, false).judge(listed, gone, gone);
        (held.deletes, held.why)
    }

    #[test]
    fn what_looks_like_a_mistake_is_held_back_and_what_was_accepted_is_not() {
        let none = (0, String::new());
        assert_eq!(judged(5, 0, 4, 1), none);
        assert_eq!(judged(9, 0, 1, 8), none, "too few to tell");
        assert_eq!(judged(10, 0, 4, 6).1, "6 of 10 objects are gone: more than half");
        assert_eq!(judged(10, 6, 4, 6), none);
        assert_eq!(judged(1, 0, 0, 1), (1, "it lists no object, and had 1 at the last pass".to_owned()));
        assert_eq!(judged(1, 1, 0, 1), none);
        assert_eq!(judged(0, 0, 0, 0), none);
        assert_eq!(judged(50_000, 0, 49_000, 1_000), none);
        assert_eq!(judged(50_000, 0, 48_999, 1_001).0, 1_001);
        assert_eq!(judged(50_000, 1_000, 48_999, 1_001).0, 1_001, "fewer were accepted than there are");
        let found_when_asked = Breaker::new(50_000, 0, false).judge(48_500, 1_500, 499);
        assert_eq!(found_when_asked.deletes, 499, "the rest nobody has asked for");
        assert_eq!(judged(1_000_000, 0, 990_000, 10_000), none, "one of a hundred");
        assert_eq!(judged(1_000_000, 0, 989_999, 10_001).0, 10_001);
    }

    #[test]
    fn overwriting_ends_at_the_limit_and_without_the_canary_it_does_not_begin() {
        let breaker = Breaker::new(20, 0, false);
        assert_eq!((0..1_003).filter(|_| breaker.may_overwrite()).count(), 1_000);
        let held = breaker.judge(20, 0, 0);
        assert_eq!((held.overwrites, held.to_accept()), (3, 1_003));
        let lost = Breaker::new(20, 0, true);
        assert!(!lost.may_overwrite() && lost.is_beyond(0));
        assert!(lost.judge(20, 0, 0).why.starts_with("the canary is not there"));
    }
}
