//! The numbers and names of the protocol, each a type of its own, so that none is taken for another.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::vault::layout::PointId;

/// The number of a grant of the lease. It grows by one at each change of the live site and never falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    pub(super) fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the witness tells one content of the record from another by: it differs after every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random number by which a writer knows its own write again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub u128);

/// The random number a witness was given when it was set up. Another one is another witness, whatever its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WitnessId(pub u128);

/// A reading of this machine's CLOCK_BOOTTIME: it goes on through suspend, and nobody sets it.
///
/// Two machines' readings have nothing to do with each other, and none outlives a boot; so it is never stored or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(pub Duration);

impl BootInstant {
    /// How long ago `earlier` was; nothing when it was not.
    pub fn since(self, earlier: BootInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// `span` earlier; the boot, when that was later.
    pub fn before(self, span: Duration) -> BootInstant {
        BootInstant(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for BootInstant {
    type Output = BootInstant;

    fn add(self, span: Duration) -> BootInstant {
        BootInstant(self.0.saturating_add(span))
    }
}

/// Tells one request of this process from another: late answers to requests given up are known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// One of the two sites, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This site.
    Us,
    /// The other one.
    Them,
}

/// Who holds the lease, by the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A site holds it.
    Held(Side),
    /// Nobody does: the holder of this term closed its gate and let go.
    Released {
        /// For whom, when it was for one of them.
        to: Option<Side>,
        /// The point that has everything the releaser had, when one was taken after its gate closed.
        point: Option<PointId>,
    },
}

/// The record in the witness, as one site reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Which content of the record it is.
    pub revision: Revision,
    /// Which witness says so.
    pub witness: WitnessId,
    /// The term.
    pub term: Term,
    /// Who holds it.
    pub standing: Standing,
    /// Counts the writes of a term.
    pub seq: u64,
    /// Of the last write.
    pub nonce: Nonce,
    /// For how long the holder believes itself after each renewal: *its* span, whatever ours is.
    pub ttl: Duration,
}

/// What a site asks the witness to write in place of a record it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The term.
    pub term: Term,
    /// Who shall hold it: this site, or nobody.
    pub standing: Standing,
    /// The write's number in its term.
    pub seq: u64,
    /// By which it is known again.
    pub nonce: Nonce,
    /// For how long the writer will believe itself.
    pub ttl: Duration,
}

/// The states of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Name {
    /// Never took part.
    Uninit,
    /// The spare.
    Standby,
    /// Restores, on an operator's word.
    Restoring,
    /// Restored and proven.
    Ready,
    /// Waits until nobody can believe to hold the lease any more.
    Waiting,
    /// Has asked for the next term.
    Acquiring,
    /// Holds the lease; the application is being started behind a closed gate.
    Starting,
    /// Takes traffic.
    Live,
    /// Closed its gate to hand over; takes the final point.
    Draining,
    /// Let go.
    Released,
    /// Was live and closed its gate: the lease could not be renewed in time, or this process was started anew.
    Closed,
    /// Lost the lease, or a person fenced it. A person decides what follows.
    Fenced,
    /// Held the lease once and has seen a later term: its data is behind. Needs `rejoin`.
    Stale,
}

impl fmt::Display for Name {
    /// In capitals, as messages and documents write them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Name::Uninit => "UNINIT",
            Name::Standby => "STANDBY",
            Name::Restoring => "RESTORING",
            Name::Ready => "READY",
            Name::Waiting => "WAITING",
            Name::Acquiring => "ACQUIRING",
            Name::Starting => "STARTING",
            Name::Live => "LIVE",
            Name::Draining => "DRAINING",
            Name::Released => "RELEASED",
            Name::Closed => "CLOSED",
            Name::Fenced => "FENCED",
            Name::Stale => "STALE",
        })
    }
}

/// What a site keeps on its disk: enough to know what it was, and nothing that could make it believe it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// The highest term it has seen.
    pub highest: Term,
    /// The state it was in.
    pub last: Name,
    /// The witness it has dealt with, once it has.
    pub witness: Option<WitnessId>,
}
