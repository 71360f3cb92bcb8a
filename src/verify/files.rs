//! Holds an export against the files it was restored to: every path that is not as captured, and how.
//!
//! Times are not compared: an application that touches its configuration has not lost it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::address::ExportAddress;
use crate::restore::steps::files::{self, Difference};
use crate::stream::Source;

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
    let different = files::differences(source, export, into).await?;
    let each = |(path, whats): (PathBuf, Vec<Difference>)| {
        whats.into_iter().map(move |what| FileDifference { path: path.clone(), what })
    };
    Ok(different.into_iter().flat_map(each).collect())
}
