//! 9 TELL: if the live site died now, what would be lost, how long would it take, and how do we know?
//!
//! [`gather()`] reads the facts: signed clear records of the vault, and what this site remembers of its jobs. It decrypts nothing,
//! needs no identity, and writes nothing, so that it works at either site and at a third place that can only read the vault.
//! [`freshness`] judges them, purely; [`text`] and serde say the judgement to people and programs, [`metrics`] to Prometheus.

pub mod alarms;
mod count;
pub mod freshness;
mod gather;
pub mod metrics;
mod objects;
mod records;
#[cfg(test)]
pub(crate) mod sample;
pub mod subject;
pub mod text;
mod told;

pub use freshness::{Grade, Line, Others, Report, Verdict};
pub use gather::{OwnJobs, gather};
pub use records::Records;
pub use subject::{Subject, Unseen};

use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::config::Here;
use crate::durable;
use crate::error::Explain;

/// What is counted of what came after a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Rows, by the counters of the databases, which costs next to nothing.
    Rows,
    /// Objects, too, for which every bucket that is mirrored is listed.
    RowsAndObjects,
}

/// The report as this site can make it now: with how its jobs stand, and what `others` have to say.
///
/// At the live site the databases are asked how many rows were written since each point, and the buckets listed for how many objects. A
/// daemon does neither: it looks every few minutes, or seconds, and a listing of ten million keys is ten thousand requests.
pub async fn make(here: &Here, clock: &dyn Clock, jobs: OwnJobs, others: Vec<Line>, counting: Counting) -> Report {
    let mut facts = gather(here, clock.now(), jobs, others.into(), &mut Records::default()).await;
    if let Ok(vault) = &mut facts.vault {
        count::rows(here, &mut vault.points).await;
    }
    if counting == Counting::RowsAndObjects {
        objects::objects(here, &mut facts).await;
    }
    freshness::judge(&facts)
}

/// The metrics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be written to {path}")]
pub struct TextfileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl Explain for TextfileError {
    fn next_step(&self) -> Option<String> {
        let next = "Name a file that ends with .prom in the folder that node_exporter reads (--collector.textfile.directory), where this \
                    user may write.";
        Some(next.to_owned())
    }
}

/// Writes the metrics of a report to `file`, readable by everybody, whole or not at all.
///
/// # Errors
/// [`TextfileError`]; the old file is still there then.
pub fn write_metrics(report: &Report, file: &Path) -> Result<(), TextfileError> {
    let written = durable::publish(file, metrics::text(report).as_bytes());
    written.map_err(|source| TextfileError { path: file.to_owned(), source })
}
