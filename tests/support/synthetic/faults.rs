//! What can be wrong with a server, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::objects::key_of;

/// One thing that is wrong.
#[derive(Debug)]
pub enum Fault {
    /// Of so many requests one is told to come back later, after so many seconds if it says when.
    SlowDown { of: u64, retry_after: Option<u64>, seen: AtomicU64 },
    /// More than so many requests at a time: the rest are told to come back later.
    SlowDownAbove(u64),
    /// So many requests fail with a 500.
    Fails(AtomicU64),
    /// So many writes are told that somebody else is at that object just now.
    Conflicts(AtomicU64),
    /// Reading the object of this number, or asking for it, fails with a 500, however often: its shards are lost.
    Lost(u64),
    /// The content of the object of this number ends in the middle, however often it is read: its disk is rotten there.
    CutsBody(u64),
    /// Writes to keys that begin so are refused with this status and code.
    Refuses(&'static str, u16, &'static str),
    /// Every answer takes that long.
    Slow(Duration),
    /// A listing that comes to the key of this number fails with a 500, however often it is asked.
    ListingFailsAt(u64),
    /// A page that begins behind the key of this number, or ends with it, fails: what Ceph does at a control character.
    Wedged(u64),
    /// The page with the key of this number has two keys exchanged.
    Swaps(u64),
    /// Pages are sorted, and come in an order of their own, as in a directory bucket.
    Unsorted,
    /// The page that begins at or after the key of this number comes back without keys, and says that there is more.
    EmptyPage(u64),
    /// Every listing is empty, as of another bucket under the same name.
    Empty,
    /// Listings begin at the first key, wherever they are told to begin.
    IgnoresStartAfter,
}

/// What a fault makes of a request.
pub(super) enum Refusal {
    Error,
    Conflict,
    SlowDown(Option<u64>),
    Told(u16, &'static str),
}

impl Fault {
    /// So many requests fail, then no more.
    pub fn fails(times: u64) -> Fault {
        Fault::Fails(AtomicU64::new(times))
    }

    pub fn slow_down(of: u64, retry_after: Option<u64>) -> Fault {
        Fault::SlowDown { of, retry_after, seen: AtomicU64::new(0) }
    }

    pub fn conflicts(times: u64) -> Fault {
        Fault::Conflicts(AtomicU64::new(times))
    }

    /// Whether it cuts the content of the object `key`.
    pub(super) fn cuts(&self, key: &str) -> bool {
        matches!(self, Fault::CutsBody(number) if key_of(*number) == key)
    }

    /// Whether it refuses a request about `key`, which writes or does not, while so many are under way.
    pub(super) fn refuses(&self, under_way: u64, is_write: bool, key: &str) -> Option<Refusal> {
        let one_less = |left: &AtomicU64| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        match self {
            Fault::SlowDown { of, retry_after, seen } => {
                let turn = seen.fetch_add(1, Ordering::Relaxed) % of == 0;
                turn.then_some(Refusal::SlowDown(*retry_after))
            }
            Fault::SlowDownAbove(max) => (under_way > *max).then_some(Refusal::SlowDown(None)),
            Fault::Fails(left) => one_less(left).then_some(Refusal::Error),
            Fault::Lost(number) => (!is_write && key_of(*number) == key).then_some(Refusal::Error),
            Fault::Refuses(start, status, code) => {
                (is_write && key.starts_with(start)).then_some(Refusal::Told(*status, code))
            }
            Fault::Conflicts(left) => (is_write && one_less(left)).then_some(Refusal::Conflict),
            _ => None,
        }
    }
}
