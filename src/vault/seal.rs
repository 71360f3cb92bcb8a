//! Sealed epochs as readers see them: what a keeper says was the last of an epoch, and whom that binds.
//!
//! A seal that leaves honest headers out would make them vanish from every reader's sight. So a site's seal says
//! nothing of what that site wrote itself: the live site, which writes the epochs, cannot close them over its past.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};

use super::VaultError;
use super::layout::{EpochId, SnapshotId};
use super::reader::{Damaged, READS_AT_ONCE, VaultReader};
use super::v1::{SealedRecord, Signed, SnapshotHeader};
use crate::store::Read;

/// The seals of some epochs.
#[derive(Debug, Default)]
pub(super) struct Seals(BTreeMap<EpochId, SealedRecord>);

impl Seals {
    /// Why a header is to be ignored although its signature holds, if so.
    pub fn against(&self, id: SnapshotId, header: &SnapshotHeader) -> Option<String> {
        let seal = self.0.get(&id.epoch).filter(|seal| seal.writer != header.writer)?;
        let last = last_of(seal);
        (id.seq > last).then(|| format!("snapshot {id} was added after its epoch was sealed at number {last}"))
    }
}

/// The number of the last header a seal counts; 0 when the epoch has none.
pub(super) fn last_of(seal: &SealedRecord) -> u64 {
    seal.last.as_ref().map_or(0, |last| last.seq)
}

impl<R: Read> VaultReader<R> {
    /// The seal of an epoch, if it has one.
    ///
    /// # Errors
    /// When it is not to be believed, or the store fails.
    pub async fn seal(&self, id: EpochId) -> Result<Option<SealedRecord>, VaultError> {
        let key = self.layout.sealed(id);
        let signed: Signed<SealedRecord> = match self.record(&key, "sealed").await {
            Err(VaultError::Store(error)) if error.is_not_found() => return Ok(None),
            signed => signed?,
        };
        let record = signed.record;
        let itself = (record.system.as_str(), record.term, record.epoch, &record.writer);
        if itself != (self.system(), id.term, id.epoch, &signed.signer) {
            return Err(VaultError::Mismatch { key, what: "it names another epoch or writer".to_owned() });
        }
        Ok(Some(record))
    }

    /// The seals of `epochs`, and those that are not to be believed: they bind nobody.
    pub(super) async fn seals(
        &self,
        epochs: impl IntoIterator<Item = EpochId>,
    ) -> Result<(Seals, Vec<Damaged>), VaultError> {
        let (mut seals, mut damaged) = (Seals::default(), Vec::new());
        let read = |id: EpochId| async move { (id, self.seal(id).await) };
        let epochs: Vec<EpochId> = epochs.into_iter().collect();
        let mut reading = stream::iter(epochs).map(read).buffered(READS_AT_ONCE);
        while let Some((id, seal)) = reading.next().await {
            match seal {
                Ok(seal) => seals.0.extend(seal.map(|seal| (id, seal))),
                Err(VaultError::Store(error)) => return Err(error.into()),
                Err(error) => damaged.push(Damaged::of(&self.layout.sealed(id), error)),
            }
        }
        drop(reading);
        Ok((seals, damaged))
    }
}
