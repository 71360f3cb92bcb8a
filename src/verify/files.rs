//! Holds an export against the files it was restored to: every path that is not as captured, and how.
//!
//! Times are not compared: an application that touches its configuration has not lost it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::capture::export::root::Root;
use crate::capture::export::stream_name;
use crate::config::address::ExportAddress;
use crate::observe::Progress;
use crate::stream::Source;

pub mod compare;
mod error;
pub mod feed;

pub use compare::Difference;
pub use error::Error;

use compare::compare;
use feed::read_blocking;

/// A path that is not as captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    /// As the application sees it.
    pub path: PathBuf,
    /// How it differs.
    pub what: Difference,
}

impl fmt::Display for FileDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.what)
    }
}

/// Compares the export of that name with what stands below its root, or below `into`. Empty when all is well.
///
/// # Errors
/// When the export or a file cannot be read; that a file is missing or wrong is no error but the answer.
pub async fn check<S: Source>(
    source: &S,
    export: &ExportAddress,
    into: Option<&Path>,
) -> Result<Vec<FileDifference>, crate::error::Error> {
    let path = into.unwrap_or(&export.root);
    let root = Root::open(path).map_err(Error::io(path, "opened"))?;
    let meter = Progress::silent().begin("", None);
    let stream = source.read(&stream_name(&export.name)).await?;
    let compared = read_blocking(stream, meter.as_ref(), move |blocks| compare(blocks, Some(&root))).await?;
    let each = |(path, whats): (PathBuf, Vec<Difference>)| {
        whats.into_iter().map(move |what| FileDifference { path: path.clone(), what })
    };
    Ok(by_seen_path(compared.different).into_iter().flat_map(each).collect())
}

/// Paths below the root become paths as the application sees them.
pub(crate) fn by_seen_path<T>(by_path: BTreeMap<PathBuf, T>) -> BTreeMap<PathBuf, T> {
    by_path.into_iter().map(|(path, value)| (Root::seen(&path), value)).collect()
}
