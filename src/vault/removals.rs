//! What the keeper's passes have removed, as their signed records say: the only thing that explains a gap.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::layout::{self, EpochId, PointId};
use super::reader::{Damaged, READS_AT_ONCE, RECORD_BYTES_MAX, VaultReader};
use super::v1::{GcRecord, Signed};
use super::{VaultError, v1};
use crate::store::Read;

/// Everything that recorded passes name, whether or not they came to delete it.
#[derive(Clone, Debug, Default)]
pub struct Removals {
    /// BLAKE3 of the point objects. A number may be named twice: by two passes, or with another's bytes.
    points: BTreeSet<(PointId, String)>,
    headers: BTreeSet<String>,
    freed: BTreeSet<String>,
    epochs: BTreeSet<EpochId>,
    /// The highest number of a pass of any system.
    pub(super) last_pass: u64,
}

impl Removals {
    /// Whether a pass removed the point `id` whose object has that BLAKE3, in hexadecimal digits.
    pub fn explain_point(&self, id: PointId, blake3: &str) -> bool {
        self.points.contains(&(id, blake3.to_owned()))
    }

    /// Whether a pass removed a point of that number.
    pub fn name_point(&self, id: PointId) -> bool {
        self.points.range((id, String::new())..).next().is_some_and(|(found, _)| *found == id)
    }

    /// Whether a pass removed the header whose object has that BLAKE3, in hexadecimal digits.
    pub fn explain_header(&self, blake3: &str) -> bool {
        self.headers.contains(blake3)
    }

    /// Whether a pass removed a point that named the header whose object has that BLAKE3, in hexadecimal digits.
    pub fn free_header(&self, blake3: &str) -> bool {
        self.freed.contains(blake3)
    }

    /// Whether a pass removed what was left of an epoch.
    pub fn name_epoch(&self, id: EpochId) -> bool {
        self.epochs.contains(&id)
    }

    fn add(&mut self, record: GcRecord) {
        for v1::RemovedPoint { term, seq, blake3, headers } in record.points {
            self.points.insert((PointId { term, seq }, blake3));
            self.freed.extend(headers);
        }
        self.headers.extend(record.headers.into_iter().map(|header| header.blake3));
        let epoch = |epoch: v1::RemovedEpoch| EpochId { term: epoch.term, epoch: epoch.epoch };
        self.epochs.extend(record.epochs.into_iter().map(epoch));
    }
}

/// Read before the signature: the passes of other systems are signed by keys that are not pinned here.
#[derive(Deserialize)]
struct OfSystem {
    system: String,
}

impl<R: Read> VaultReader<R> {
    /// What recorded passes removed, and what should be such a record and is not to be believed: that explains nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn removals(&self) -> Result<(Removals, Vec<Damaged>), VaultError> {
        let (mut removals, mut damaged) = (Removals::default(), Vec::new());
        let mut passes = Vec::new();
        for listed in self.keys.list(layout::GC).await? {
            match layout::parse_gc(&listed.key) {
                Some(pass) => passes.push(pass),
                None => damaged.push(Damaged::new(&listed.key, "not the name of a pass's record")),
            }
        }
        removals.last_pass = passes.iter().copied().max().unwrap_or(0);
        let read = |pass: u64| async move { (pass, self.pass(pass).await) };
        let mut reading = stream::iter(passes).map(read).buffered(READS_AT_ONCE);
        while let Some((pass, record)) = reading.next().await {
            match record {
                Ok(record) => record.into_iter().for_each(|record| removals.add(record)),
                Err(VaultError::Store(error)) if !error.is_not_found() => return Err(error.into()),
                Err(error) => damaged.push(Damaged::of(&layout::gc(pass), error)),
            }
        }
        drop(reading);
        Ok((removals, damaged))
    }

    /// The record of one pass; `None` when it is of another system.
    async fn pass(&self, pass: u64) -> Result<Option<GcRecord>, VaultError> {
        let key = layout::gc(pass);
        let bytes = self.keys.get_limited(&key, RECORD_BYTES_MAX).await?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if serde_json::from_slice::<OfSystem>(line).is_ok_and(|of| of.system != self.system()) {
            return Ok(None);
        }
        let signed: Signed<GcRecord> = self.believed(&bytes, &key, "gc")?;
        let itself = (signed.record.system.as_str(), signed.record.pass, &signed.record.writer);
        if itself != (self.system(), pass, &signed.signer) {
            return Err(VaultError::Mismatch { key, what: "it names another pass or writer".to_owned() });
        }
        Ok(Some(signed.record))
    }
}
