//! The keeper: seals epochs that are over and removes what no recovery point needs. The only code that deletes from
//! the vault.
//!
//! A pass looks at everything, plans, writes its plan down (`gc/<pass>.json`, signed) and only then deletes: points
//! with their proofs and holds, then headers, bodies, packs, at last what is left of an epoch. Killed anywhere it
//! leaves a vault in which every listed point is whole; the next pass plans anew from what is there and trusts the
//! record for nothing but which gaps are no damage.
//!
//! When in doubt it keeps: what is damaged, or of a newer format, or cannot be opened, is alarmed and never removed,
//! and neither is anything it may name. The open epoch is never touched, because its writer dedupes against it.

mod delete;
mod plan;
mod sealing;
mod store_clock;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::VaultError;
use super::hold::Holds;
use super::layout::{EpochId, PointId};
use super::reader::{Damaged, PointListing};
use super::retention::{FromTheFuture, Reason};
use super::v1::{Link, PointSnapshot, ProofRecord, RemovedPoint};
use crate::config::{RetentionConfig, SourceName};
use crate::error::{Class, Explain};
use crate::keys::Identity;
use crate::units::{Bytes, Percent};

pub use delete::{Removed, remove};
pub use plan::plan;
pub use sealing::seal;
pub use store_clock::store_now;

/// So many objects go in one pass, and its record stays small enough to be read; the rest waits for the next.
const OBJECTS_MAX: u64 = 50_000;
/// The keeper's clock and the store's may differ by so much; beyond it nothing is sealed or removed.
const CLOCKS_APART_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Packs of a sealed epoch stay for so long after its sealing, by the store's clock.
const PACKS_STAY: SignedDuration = SignedDuration::from_hours(24);

/// Why the keeper does not work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The vault cannot be read or written.
    #[error("the keeper")]
    Vault(#[from] VaultError),
    /// This host's clock and the store's differ.
    #[error("the keeper: the store's clock says {store}, this site's {here}")]
    ClocksApart {
        /// The store's.
        store: Timestamp,
        /// This site's.
        here: Timestamp,
    },
    /// The newest point lies ahead of this site's clock.
    #[error("the keeper: point {} is from the future: {} says {}, this site's clock {now}", newest.point, newest.whose, newest.at)]
    Future {
        /// Which, and who says so.
        newest: FromTheFuture,
        /// This site's clock.
        now: Timestamp,
    },
    /// More would go than one pass may remove.
    #[error("the keeper: this pass would remove {going} of {all}, more than {share}")]
    Share {
        /// What would go.
        going: String,
        /// Of how much.
        all: String,
        /// The share allowed.
        share: Percent,
    },
    /// A point is held that was not when the pass was planned.
    #[error("the keeper: point {point} was held after the pass was planned; nothing was removed")]
    HeldMeanwhile {
        /// The point.
        point: PointId,
    },
}

impl Explain for KeeperError {
    fn class(&self) -> Class {
        match self {
            KeeperError::Vault(error) => error.class(),
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            KeeperError::Vault(error) => return error.next_step(),
            KeeperError::ClocksApart { .. } => "Set whichever of the two clocks is wrong, then run it again.",
            KeeperError::Future { .. } => {
                "Set the clock that is wrong. If it was the live site's, take a new point with the right one: it tells \
                 what the other's time cannot be."
            }
            KeeperError::Share { .. } => {
                "Look at `warmspare prune --dry-run`. If that is what you mean, say so: `warmspare prune --share 100%`."
            }
            KeeperError::HeldMeanwhile { .. } => "Run it again.",
        };
        Some(text.to_owned())
    }
}

/// What the keeper knows besides the vault's objects.
pub struct Keeping<'a> {
    /// This site.
    pub site: &'a str,
    /// Which points stay.
    pub rules: &'a RetentionConfig,
    /// What opens the bodies.
    pub identity: &'a Identity,
    /// All points.
    pub listing: &'a PointListing,
    /// What was proven of them.
    pub proofs: &'a BTreeMap<PointId, Vec<ProofRecord>>,
    /// Which are held.
    pub holds: &'a Holds,
    /// This site's clock.
    pub now: Timestamp,
    /// The store's clock.
    pub store_now: Timestamp,
}

/// What becomes of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointFate {
    /// The point.
    pub id: PointId,
    /// When it was captured, as its writer claims.
    pub captured_at: Timestamp,
    /// When it was stored, by the store's clock.
    pub stored_at: Timestamp,
    /// Why it stays; empty when it goes.
    pub reasons: BTreeSet<Reason>,
}

/// An epoch to be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSeal {
    /// The epoch.
    pub epoch: EpochId,
    /// Its last header.
    pub last: Option<Link>,
}

/// A point that goes, with what belongs to it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoingPoint {
    /// As the record names it.
    pub point: RemovedPoint,
    /// Keys of its proofs and holds.
    pub attached: Vec<String>,
}

/// A header that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoingHeader {
    /// As the record names it.
    pub header: PointSnapshot,
    /// Its source.
    pub source: SourceName,
    /// Whether its body is there.
    pub has_body: bool,
}

/// What a pass does. Everything is in the order in which it is done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Every point that is whole.
    pub fates: Vec<PointFate>,
    /// Epochs that are over.
    pub seals: Vec<PlannedSeal>,
    /// Points that go.
    pub points: Vec<GoingPoint>,
    /// Headers of sealed epochs that no point names.
    pub headers: Vec<GoingHeader>,
    /// Keys of what nobody names.
    pub leftovers: Vec<String>,
    /// Packs of sealed epochs that no header names, by epoch.
    pub packs: BTreeMap<EpochId, Vec<blake3::Hash>>,
    /// Their size.
    pub pack_bytes: u64,
    /// The size of all packs there are.
    pub pack_bytes_all: u64,
    /// Epochs of which nothing is left, with the keys of their records and secrets.
    pub epochs: Vec<(EpochId, Vec<String>)>,
    /// Objects that have to wait for the next pass.
    pub waiting: u64,
    /// What is wrong with the vault, and was therefore left alone.
    pub alarms: Vec<Damaged>,
    /// What a person may wonder about.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether the pass deletes nothing.
    pub fn removes_nothing(&self) -> bool {
        let none = self.points.is_empty() && self.headers.is_empty() && self.leftovers.is_empty();
        none && self.packs.is_empty() && self.epochs.is_empty()
    }

    /// Refuses a pass that would remove more than `share` of the points or of the packs' bytes.
    ///
    /// # Errors
    /// [`KeeperError::Share`].
    pub fn check_share(&self, share: Percent) -> Result<(), KeeperError> {
        let (going, all) = (self.points.len() as u64, self.fates.len() as u64);
        if share.is_exceeded(going, all) {
            return Err(KeeperError::Share { going: format!("{going}"), all: format!("{all} points"), share });
        }
        if share.is_exceeded(self.pack_bytes, self.pack_bytes_all) {
            let (going, all) = (Bytes(self.pack_bytes).to_string(), format!("{} of packs", Bytes(self.pack_bytes_all)));
            return Err(KeeperError::Share { going, all, share });
        }
        Ok(())
    }
}

/// Refuses to work while the two clocks that everything is decided by differ.
///
/// # Errors
/// [`KeeperError::ClocksApart`].
pub fn check_clocks(store: Timestamp, here: Timestamp) -> Result<(), KeeperError> {
    let apart = store.duration_since(here).abs();
    if apart > CLOCKS_APART_MAX { Err(KeeperError::ClocksApart { store, here }) } else { Ok(()) }
}
