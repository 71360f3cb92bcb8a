//! 5 POINT: a recovery point, one snapshot of every source, taken in the order that makes them fit together.
//!
//! Bulk mirror (most of the bytes, while nothing is held) → exports → database snapshot → exports hashed again
//! (changed: captured once more) → delta mirror, no deletes → headers, then the point, last. Registries write
//! the artifact before its row, so whatever the database snapshot references is listed after it.

mod attics;
mod buckets;
mod changed;
mod direction;
mod error;
mod mend;
mod prune;
mod reload;
mod rescued;
mod scrub;
mod sources;
pub mod spare;
mod take;
pub mod vault;

pub use attics::{AtOnce, BucketKeeping};
pub use buckets::preview_mirrors;
pub use changed::{changed, followed};
pub use error::PointError;
pub use prune::{PruneFate, PruneReport, PruneRequest, hold, prune};
pub use rescued::{RescuedOf, RescuedRequest, rescued};
pub use scrub::{ScrubReport, ScrubRequest, Share, VerifyRequest, verify};
pub use sources::{PointSummary, SourceSummary};
pub use take::{Preview, mirror_now, preview, take, take_accepting};
pub use vault::{open_vault, open_vault_as_keeper};

use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::mirror::{Changed, Followed, Pass, Planned, PlannedWhy};

use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::store::Keys;
use crate::vault::layout::PointId;
use crate::vault::v1::ProofRecord;
use crate::vault::{Holds, ListedPoint, PointListing, SeenPoints, VaultReader};

/// The points of the system with their proofs, compared with what this site has seen before.
///
/// # Errors
/// When the vault cannot be read, or its tail was cut.
pub async fn list(here: &Here) -> Result<Points, Error> {
    let (_, reader) = open_vault(here).await?;
    let points = read(&reader).await?;
    SeenPoints::load(&here.vault_state())?.check(&points.listing, &here.config.system)?;
    Ok(points)
}

/// As [`list`], for who only looks: the state folder is read, and nothing is written to it.
///
/// # Errors
/// As [`list`].
pub async fn peek(here: &Here, reader: &VaultReader<Keys>) -> Result<Points, Error> {
    let points = read(reader).await?;
    SeenPoints::load(&here.vault_state())?.compare(&points.listing, &here.config.system)?;
    Ok(points)
}

async fn read(reader: &VaultReader<Keys>) -> Result<Points, Error> {
    let mut listing = reader.points().await?;
    let mut proofs: BTreeMap<PointId, Vec<ProofRecord>> = BTreeMap::new();
    let (believed, damaged) = reader.proofs().await?;
    for (point, proof) in believed {
        proofs.entry(point).or_default().push(proof);
    }
    listing.damaged.extend(damaged);
    let (holds, damaged) = reader.holds().await?;
    listing.damaged.extend(damaged);
    Ok(Points { listing, proofs, holds })
}

/// Every recovery point of a system and what was proven of it.
#[derive(Debug)]
pub struct Points {
    /// The points, and what should be one and is not.
    pub listing: PointListing,
    /// The proofs of each.
    pub proofs: BTreeMap<PointId, Vec<ProofRecord>>,
    /// Which of them are held.
    pub holds: Holds,
}

impl Points {
    /// The point called `id`, or the newest.
    ///
    /// # Errors
    /// When there is no such point.
    pub fn choose(&self, id: Option<PointId>) -> Result<&ListedPoint, PointError> {
        match id {
            None => {
                let last = self.listing.points.last();
                match self.listing.damaged_points.last() {
                    Some(&point) if last.is_none_or(|last| last.id < point) => {
                        self.refuse_newer(point)?;
                        Err(PointError::NewestDamaged { point, usable: last.map(|last| last.id) })
                    }
                    _ => last.ok_or(PointError::NoPoint),
                }
            }
            Some(id) if self.listing.damaged_points.contains(&id) => {
                self.refuse_newer(id)?;
                Err(PointError::Damaged { point: id })
            }
            Some(id) => {
                let found = self.listing.points.iter().find(|point| point.id == id);
                found.ok_or(PointError::UnknownPoint { point: id })
            }
        }
    }
}

impl Points {
    /// The newest point that `site` took.
    pub fn newest_of(&self, site: &str) -> Option<PointId> {
        let mut newest_first = self.listing.points.iter().rev();
        newest_first.find(|point| point.record.writer == site).map(|point| point.id)
    }

    fn refuse_newer(&self, point: PointId) -> Result<(), PointError> {
        match self.listing.unsupported_points.contains(&point) {
            true => Err(PointError::Newer { point }),
            false => Ok(()),
        }
    }
}

/// The clock of a command, shared with what it starts.
pub type SharedClock = Arc<dyn Clock>;
