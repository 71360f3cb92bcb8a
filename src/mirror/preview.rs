//! What a pass would do, without doing it: the source's listing held against the manifest. Nothing is read, written or locked.

use std::path::Path;

use futures_util::TryStreamExt;
use serde::Serialize;

use super::diff::{Change, Join, OutOfOrder};
use super::manifest::Lines;
use super::{Kept, MirrorError, manifest_path};
use crate::store::{Bucket, Listed, ReadOnly, Skipped};

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
}

/// What a pass from `source` to `target` would do now. The manifest in the folder `state` is read as it is: what a killed pass
/// has copied since is counted once more.
///
/// # Errors
/// When the source cannot be listed, its listing is not sorted, or the manifest cannot be read.
pub async fn preview(source: &ReadOnly, target: &Bucket, state: &Path) -> Result<Planned, MirrorError> {
    let past = Lines::open(&manifest_path(state))?;
    let past = past.filter(|(pair, _)| pair.source == source.name() && pair.target == target.name());
    let mut join = Join::new(past.map(|(_, lines)| lines));
    let mut planned = Planned::default();
    let mut listing = source.list(None);
    while let Some(listed) = listing.try_next().await? {
        let (key, version) = match listed {
            Listed::Object { key, version } => (key, version),
            Listed::Skipped(skipped) => {
                planned.skipped.push(skipped);
                continue;
            }
        };
        planned.listed += 1;
        if let Err(error) = target.carries(&key) {
            planned.skipped.push(Skipped { name: key, why: error.to_string() });
            continue;
        }
        let change = join.meet(&key, &version)?;
        let why = match change {
            Err(OutOfOrder { before, after }) => {
                return Err(MirrorError::Unsorted { bucket: source.name().to_owned(), before, after });
            }
            Ok(Change::Same(_)) => {
                planned.unchanged += 1;
                continue;
            }
            Ok(Change::New) => PlannedWhy::New,
            Ok(Change::Changed(row)) if row.source == version => PlannedWhy::PerhapsChanged,
            Ok(Change::Changed(_)) => PlannedWhy::Changed,
        };
        planned.copied_bytes += version.size;
        planned.copies.push(PlannedCopy { key, bytes: version.size, why });
    }
    planned.gone = join.end()?.1;
    Ok(planned)
}
