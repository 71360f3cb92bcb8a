//! What a pass would do, without doing it: the source's listing held against the manifest. No object is read or written, and
//! nothing is locked, but that the listing of a store that does not sort is sorted in the state folder, one at a time.

use std::path::Path;

use futures_util::TryStreamExt;
use serde::Serialize;

use super::diff::{self, Change, Join, Met};
use super::list::{self, Order, Unlisted};
use super::manifest::Lines;
use super::{Kept, MirrorError, PassOptions, manifest_path};
use crate::durable::FileLock;
use crate::store::{Bucket, ReadOnly, Skipped, SourceVersion};

/// What a pass would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Objects of the source.
    pub listed: u64,
    /// Objects it would read, with the reason for each of the first thousand.
    pub copies: Kept<PlannedCopy>,
    /// The bytes of those. What the target has already, under another key, would not be sent.
    pub copied_bytes: u64,
    /// Objects it would leave alone.
    pub unchanged: u64,
    /// Objects of the last manifest that the source has no more.
    pub gone: u64,
    /// What could not be listed: of that it would leave everything as it is.
    pub unlisted: Kept<Unlisted>,
    /// What it could not mirror.
    pub skipped: Kept<Skipped>,
}

/// One object that would be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedCopy {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Why.
    pub why: PlannedWhy,
}

/// Why an object would be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedWhy {
    /// The last manifest has no object of that key.
    New,
    /// Its size, its tag or its time is another than at the last pass.
    Changed,
    /// It was written so shortly before the last pass that a change after it would not show.
    PerhapsChanged,
    /// The profile names a digest that is not known of it yet: it is read, and sent only if it is not what the target has.
    Digest,
}

/// What a pass from `source` to `target` would do now. The manifest in the folder `state` is read as it is: what a killed pass
/// has copied since is counted once more.
///
/// # Errors
/// When the source cannot be listed, or the manifest cannot be read; [`MirrorError::Busy`] while another one sorts.
pub async fn preview(
    source: &ReadOnly,
    target: &Bucket,
    state: &Path,
    options: &PassOptions,
) -> Result<Planned, MirrorError> {
    if Order::remembered(state)? == Order::Sorted {
        let planned = held_against(source, target, state, Order::Sorted, options).await;
        if !matches!(planned, Err(MirrorError::Unsorted { .. })) {
            return planned;
        }
    }
    // Apart from where a pass sorts: one may be running.
    let folder = state.join("preview");
    let failed = |source| MirrorError::State { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let note = format!("preview, process {}", std::process::id());
    let lock = FileLock::try_take(&folder.join("lock"), &note).map_err(failed)?;
    let _lock = lock.ok_or_else(|| MirrorError::Busy { path: folder.clone() })?;
    held_against(source, target, state, Order::Unsorted, options).await
}

/// The listing of the source, in the order `order`, held against the last manifest.
pub(super) async fn held_against(
    source: &ReadOnly,
    target: &Bucket,
    state: &Path,
    order: Order,
    options: &PassOptions,
) -> Result<Planned, MirrorError> {
    let manifest = manifest_path(state);
    let past = Lines::open(&manifest)?;
    let past = past.filter(|(pair, _)| pair.source == source.name() && pair.target == target.name());
    let mut join = Join::new(past.map(|(_, lines)| lines), options.digest.as_ref().map(|rule| rule.algorithm));
    let mut planned = Planned::default();
    let listing = list::entries(source, order, &options.limits, &state.join("preview"), &manifest);
    let mut all = std::pin::pin!(diff::joined(listing, &mut join, source.name(), |_, _| false));
    while let Some(met) = all.try_next().await? {
        match met {
            Met::Standing(stretch) => {
                planned.listed += stretch.rows;
                planned.unchanged += stretch.rows;
            }
            Met::Object { key, version, change } => planned.object(target, key, &version, &change),
            Met::Gone(_) => planned.gone += 1,
            Met::Skipped(skipped) => planned.skipped.push(skipped),
            Met::Unlisted(hole) => planned.unlisted.push(hole),
            Met::Unseen(_) => {}
        }
    }
    Ok(planned)
}

impl Planned {
    fn object(&mut self, target: &Bucket, key: String, version: &SourceVersion, change: &Change) {
        self.listed += 1;
        if let Err(error) = target.carries(&key) {
            self.skipped.push(Skipped { name: key, why: error.to_string() });
            return;
        }
        let why = match change {
            Change::Same(_) => {
                self.unchanged += 1;
                return;
            }
            Change::New => PlannedWhy::New,
            Change::Changed(row) if row.source == *version && row.racy => PlannedWhy::PerhapsChanged,
            Change::Changed(row) if row.source == *version => PlannedWhy::Digest,
            Change::Changed(_) => PlannedWhy::Changed,
        };
        self.copied_bytes += version.size;
        self.copies.push(PlannedCopy { key, bytes: version.size, why });
    }
}
