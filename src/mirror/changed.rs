//! How much has changed in a source since a recovery point: what passes have followed since, and what they have not.
//!
//! The source is listed once and held against the manifest of the last pass, as in a preview. Nothing is written or locked, and of objects
//! only those are read of which the listing cannot tell: in a folder, what was written so shortly before the pass that a change after
//! it would not show. A pass that ends meanwhile puts another manifest in the place of the one that is open here, with its own count.
//!
//! The sum may be too large, never too small: what cannot be listed, or looks like a mistake, is an error. Headers and tags that no
//! listing shows are the exception; a pass looks at them once in [`AUDIT_PERIOD`](super::AUDIT_PERIOD), and counts what it finds.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;

use super::breaker::Breaker;
use super::diff::{self, Change, Join, Met};
use super::followed::Followed;
use super::list::{self, Order, Unlisted};
use super::manifest::{Lines, Row};
use super::{Kept, Limits, MirrorError, is_lost, manifest_path};
use crate::store::{Body, Bucket, ReadOnly, SourceVersion, StoreError};

/// What has changed in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What passes have followed, up to the last.
    pub followed: Followed,
    /// Objects that are new, changed or gone since.
    pub since_the_last: u64,
}

impl Changed {
    /// Objects written, changed or deleted since a point that recorded what passes had `followed`: as often as that was seen. Nothing
    /// where that count has nothing to do with this one.
    pub fn since(&self, followed: &Followed) -> Option<u64> {
        self.followed.since(followed)?.checked_add(self.since_the_last)
    }
}

/// What has changed in `source`, by the memory in the folder `state` of its mirror to `target`, which is not asked.
///
/// # Errors
/// When the source cannot be listed whole or the manifest not be read; [`MirrorError::HeldBack`] when so much is gone that a pass
/// would not believe it; [`MirrorError::Uncounted`] when nobody has counted up to now, or a listing would have to be sorted on disk.
pub async fn changed(
    source: &ReadOnly,
    canary: Option<&str>,
    target: &Bucket,
    state: &Path,
    limits: &Arc<Limits>,
) -> Result<Changed, MirrorError> {
    let uncounted = |why| MirrorError::Uncounted { bucket: source.name().to_owned(), why };
    let manifest = manifest_path(state);
    let past = Lines::open_with_end(&manifest)?;
    let past = past.filter(|(pair, ..)| pair.source == source.name() && pair.target == target.name());
    let (_, lines, end) = past.ok_or_else(|| uncounted("no pass of its mirror has come to its end here"))?;
    let followed = end.followed.ok_or_else(|| uncounted("the last pass of its mirror was an earlier release's"))?;
    if Order::remembered(state)? == Order::Unsorted {
        return Err(uncounted(
            "its server does not list its keys in order, and they are sorted on disk for a pass alone",
        ));
    }
    let breaker = Breaker::new(end.rows, 0, is_lost(source, canary).await?);
    let mut counting = Counting { source, target, limits, listed: 0, changed: 0, gone: 0, unlisted: Kept::default() };
    // Whatever digest the profile names: a version that stands has not changed.
    let mut join = Join::new(Some(lines), None);
    let listing = list::entries(source, Order::Sorted, limits, state, &manifest);
    let mut all = std::pin::pin!(diff::joined(listing, &mut join, source.name(), |_, _| false));
    while let Some(met) = all.try_next().await? {
        counting.meet(met).await?;
    }
    let Counting { listed, changed, gone, unlisted, .. } = counting;
    if let Some(first) = unlisted.first.first() {
        return Err(MirrorError::Unlisted { holes: unlisted.total, first: first.clone() });
    }
    let held = breaker.judge(listed, gone, gone);
    match held.is_any() {
        true => Err(MirrorError::HeldBack { bucket: source.name().to_owned(), held }),
        false => Ok(Changed { followed, since_the_last: changed + gone }),
    }
}

struct Counting<'a> {
    source: &'a ReadOnly,
    target: &'a Bucket,
    limits: &'a Limits,
    listed: u64,
    changed: u64,
    gone: u64,
    unlisted: Kept<Unlisted>,
}

impl Counting<'_> {
    async fn meet(&mut self, met: Met) -> Result<(), MirrorError> {
        match met {
            Met::Standing(stretch) => self.listed += stretch.rows,
            Met::Object { key, version, change } => {
                self.listed += 1;
                self.changed += u64::from(self.has_changed(&key, &version, change).await?);
            }
            Met::Gone(_) => self.gone += 1,
            Met::Unlisted(hole) => self.unlisted.push(hole),
            // What cannot be mirrored is in no point, since whenever.
            Met::Skipped(_) | Met::Unseen(_) => {}
        }
        Ok(())
    }

    async fn has_changed(&self, key: &str, version: &SourceVersion, change: Change) -> Result<bool, StoreError> {
        match change {
            Change::Same(_) => Ok(false),
            Change::New => Ok(self.target.carries(key).is_ok()),
            Change::Changed(row) if row.source == *version => Ok(!self.is_as_it_was(&row).await?),
            Change::Changed(_) => Ok(true),
        }
    }

    /// Reads an object that looks as it did, and may be another.
    async fn is_as_it_was(&self, row: &Row) -> Result<bool, StoreError> {
        match self.hash(row).await {
            Ok(hash) => Ok(hash == row.blake3),
            Err(StoreError::Changed { .. }) => Ok(false),
            Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn hash(&self, row: &Row) -> Result<blake3::Hash, StoreError> {
        let (_, body) = self.source.read(&row.key, Some(&row.source)).await?;
        let mut body: Body = body;
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = body.try_next().await? {
            self.limits.bytes(block.len() as u64).await;
            hasher.update(&block);
        }
        Ok(hasher.finalize())
    }
}
