//! A bucket whose store replicates it to the other site: what is not there yet, and since when.
//!
//! Its listing is held against the manifest, by key and size. Whether the content is right only reading it tells
//! (`verify --only`). Objects that the other site has besides are no difference.

use std::path::Path;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::manifest::{Row, Rows};
use super::{FailedObject, Kept, MirrorError, manifest_path};
use crate::store::{Listed, ReadOnly};

/// How far a replica is.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// Objects that it has of the manifest, in the size that is recorded.
    pub there: u64,
    /// What it lacks, or has in another size.
    pub lacking: Kept<FailedObject>,
    /// When the oldest of those was written at the source; the replica is that far behind.
    pub since: Option<Timestamp>,
}

impl Replica {
    /// How far it is behind at `now`.
    pub fn lag(&self, now: Timestamp) -> Option<SignedDuration> {
        self.since.map(|since| now.duration_since(since).max(SignedDuration::ZERO))
    }

    fn lacks(&mut self, row: &Row, why: String) {
        let written = Timestamp::from_nanosecond(row.source.modified_ns).ok();
        self.since = [self.since, written].into_iter().flatten().min();
        self.lacking.push(FailedObject { key: row.key.clone(), why });
    }
}

/// Holds the listing of `replica` against the manifest in the folder `state`.
///
/// # Errors
/// When either cannot be read, or the listing is not sorted.
pub async fn compare(state: &Path, replica: &ReadOnly) -> Result<Replica, MirrorError> {
    let path = manifest_path(state);
    let mut found = Replica::default();
    let Some((_, mut rows)) = Rows::open(&path)? else { return Ok(found) };
    let mut row = rows.next().transpose()?;
    let mut listing = replica.list(None);
    let mut last: Option<String> = None;
    while let Some(listed) = listing.try_next().await? {
        let Listed::Object { key, version } = listed else { continue };
        if let Some(before) = last.filter(|last| *last >= key) {
            return Err(MirrorError::Unsorted { bucket: replica.name().to_owned(), before, after: key });
        }
        while let Some(missing) = row.take_if(|row| row.key < key) {
            found.lacks(&missing, "it is not there".to_owned());
            row = rows.next().transpose()?;
        }
        if let Some(met) = row.take_if(|row| row.key == key) {
            let (size, expected) = (version.size, met.source.size);
            if size == expected {
                found.there += 1;
            } else {
                found.lacks(&met, format!("it has {size} bytes there instead of {expected}"));
            }
            row = rows.next().transpose()?;
        }
        last = Some(key);
    }
    while let Some(missing) = row {
        found.lacks(&missing, "it is not there".to_owned());
        row = rows.next().transpose()?;
    }
    Ok(found)
}
