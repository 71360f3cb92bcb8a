//! The whole job on one machine: two sites in one folder, two recovery points, a disaster, a proven restore.
//!
//! Nothing in it is special: it writes a configuration file, makes keys, and calls the rooms that the commands
//! call. Servers are ended and folders removed whatever happens, unless the folder is to be kept.

pub mod cluster;
mod registry;
mod sites;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::point::{self, PointSummary, SharedClock};
use crate::restore::{self, RestoreReport, RestoreRequest};
use crate::vault::v1::Verdict;
use registry::Counts;
use sites::Sites;

/// What the demo showed.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSummary {
    /// What the live site held when the first point was taken.
    pub before: Counts,
    /// The first recovery point.
    pub first: PointSummary,
    /// What the live site held when the second point was taken.
    pub changed: Counts,
    /// The second, after a change.
    pub second: PointSummary,
    /// What the live site held when it was destroyed.
    pub at_disaster: Counts,
    /// From the second point to the disaster.
    pub millis_at_risk: u64,
    /// What the restore said.
    pub restore: RestoreReport,
    /// From the start of the restore to its proof.
    pub restore_millis: u64,
    /// What the spare holds now.
    pub after: Counts,
    /// Where the restore's report is.
    pub report: PathBuf,
    /// How long it all took.
    pub millis: u64,
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder to keep it in is in use.
    #[error("the folder {path} is not empty")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the demo cannot be written.
    #[error("{path} cannot be written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody ended it.
    #[error("the demo was interrupted; its servers are ended")]
    Interrupted,
    /// The restore was found different: a defect.
    #[error("the restored spare differs from what was captured; the report is {report}")]
    Different {
        /// The report.
        report: PathBuf,
    },
}

impl Explain for DemoError {
    fn class(&self) -> Class {
        match self {
            DemoError::NotEmpty { .. } => Class::Usage,
            DemoError::File { .. } | DemoError::Interrupted => Class::Failed,
            DemoError::Different { .. } => Class::Incomplete,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            DemoError::NotEmpty { .. } => "Name a new or empty folder with --keep.".to_owned(),
            DemoError::Interrupted => "Run it again; only a folder named with --keep was left as it is.".to_owned(),
            DemoError::File { .. } => "Check the folder's rights and space.".to_owned(),
            DemoError::Different { .. } => {
                "This is a defect of warmspare: please report it with the report.".to_owned()
            }
        })
    }
}

pub(crate) fn wrong_file(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError + use<> {
    let path = path.to_owned();
    move |source| DemoError::File { path, source }
}

/// Runs the demo, unless Ctrl-C or SIGTERM ends it: then its servers are ended and a temporary folder is removed, with the keys
/// in it. `keep` is a new or empty folder to leave everything in; `tell` is given each sentence of the story.
///
/// # Errors
/// When PostgreSQL is not installed, the folder cannot be used, anything of the real job fails, or it is interrupted.
pub async fn run(
    keep: Option<PathBuf>,
    clock: SharedClock,
    progress: &Progress,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<DemoSummary, Error> {
    tokio::select! {
        // First, because the demo begins with seconds of work that do not look up.
        biased;
        () = interrupted() => Err(DemoError::Interrupted.into()),
        done = whole(keep, clock, progress, tell) => done,
    }
}

/// Returns at Ctrl-C or SIGTERM; never where they cannot be waited for.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The whole demo. `keep` is a new or empty folder to leave everything in; without it a temporary folder is
/// used and only the report stays. `tell` is given each sentence of the story as it happens.
///
/// # Errors
/// When PostgreSQL is not installed, the folder cannot be used, or anything of the real job fails.
async fn whole(
    keep: Option<PathBuf>,
    clock: SharedClock,
    progress: &Progress,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<DemoSummary, Error> {
    let begun = Instant::now();
    tell("Two sites on this machine, ams (live) and fra (spare): a PostgreSQL server and a bucket each, one vault.");
    let mut sites = Sites::build(keep, &*clock)?;
    sites.fill().await?;
    let before = sites.count(sites::LIVE).await?;
    tell(&format!("ams holds {before}."));

    let first = point::take(&sites.here(sites::LIVE)?, clock.clone(), progress).await?;
    tell(&format!("Recovery point {} taken: {}.", first.point, stored(&first)));
    sites.change().await?;
    let changed = sites.count(sites::LIVE).await?;
    let second = point::take(&sites.here(sites::LIVE)?, clock.clone(), progress).await?;
    tell(&format!("Some packages were published; recovery point {} taken: {}.", second.point, stored(&second)));
    let risk = Instant::now();
    sites.change_after_last_point().await?;
    let at_disaster = sites.count(sites::LIVE).await?;

    tell("ams is destroyed: its server killed; its data, bucket, secrets and state folder removed.");
    let millis_at_risk = millis(risk);
    sites.destroy_live()?;
    let restoring = Instant::now();
    let restore = restore::restore(&sites.here(sites::SPARE)?, &RestoreRequest::default(), &*clock, progress).await?;
    let restore_millis = millis(restoring);
    let report = sites.keep_report(&restore.folder)?;
    if restore.verdict == Verdict::Different {
        return Err(DemoError::Different { report }.into());
    }
    let after = sites.count(sites::SPARE).await?;
    sites.finish()?;
    Ok(DemoSummary {
        before,
        first,
        changed,
        second,
        at_disaster,
        millis_at_risk,
        restore,
        restore_millis,
        after,
        report,
        millis: millis(begun),
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn stored(point: &PointSummary) -> String {
    let sum = |of: fn(&point::SourceSummary) -> u64| crate::units::Bytes(point.sources.iter().map(of).sum());
    format!("{} captured, {} new in the vault", sum(|source| source.bytes), sum(|source| source.stored_bytes))
}
