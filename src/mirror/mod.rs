//! 4 MIRROR: the spare bucket holds what the live one holds, and a manifest says what that is.
//!
//! A [`pass`] lists the source once, sorted, and joins the listing with the manifest of the pass before: what
//! the source says of an object is compared with what the *same* source said of it then. Only what differs is
//! read, hashed on the way, written to the target and confirmed there. The rows of the new manifest are
//! written in the order of their keys, so a killed pass goes on where it stopped.
//!
//! Promises: the source is never written to; nothing is ever deleted at the target; a row says what the target
//! holds; memory does not grow with the number of objects. What is left to others: whether the objects suit a
//! database (`point`), and whether the target still holds them (`verify`).

mod copy;
pub mod diff;
pub mod kept;
mod line;
pub mod manifest;
pub mod published;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::Semaphore;

use self::copy::{Copied, Copier};
use self::diff::{Change, Join, OutOfOrder};
use self::manifest::{ManifestError, Pair, Row, Writer};
use self::state::{Past, State};
use crate::clock::Clock;
use crate::error::{Class, Explain};
use crate::observe::{Meter, Progress};
use crate::store::{Bucket, Listed, Skipped, SourceVersion, StoreError};

pub use kept::Kept;
pub use published::{PublishedError, PublishedParser, PublishedRow, published_lines};
pub use state::manifest_path;

/// How far the listing may run ahead of the oldest copy under way, for each copy that may run at a time: one
/// large object must not hold up the small ones after it.
const AHEAD: usize = 32;
/// What a killed writer left behind is removed when nobody wrote to it for that long.
const LEFTOVERS_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// How a pass is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassOptions {
    /// How many objects are copied at a time; each holds up to about 10 MiB.
    pub concurrency: usize,
    /// Whether to believe that a source which had objects has none any more.
    pub allow_empty: bool,
}

impl Default for PassOptions {
    fn default() -> Self {
        PassOptions { concurrency: 8, allow_empty: false }
    }
}

/// An object that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedObject {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// What a pass did. Look at [`Pass::complete`] before relying on it.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pass {
    /// Objects of the source.
    pub listed: u64,
    /// Of those, copied.
    pub copied: u64,
    /// The bytes of those copied.
    pub copied_bytes: u64,
    /// Of those listed, already at the target.
    pub unchanged: u64,
    /// Of those unchanged, read and hashed again: they were written so shortly before the last pass that a change
    /// after it would not show in their version.
    pub reread: u64,
    /// Objects of the last manifest that the source has no more, and those removed from it while the pass ran.
    /// They stay at the target.
    pub gone: u64,
    /// Objects in the new manifest.
    pub rows: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// What is in the source and cannot be mirrored.
    pub skipped: Kept<Skipped>,
    /// What could be mirrored and was not. Of one that was mirrored before, the target has the older version.
    pub failed: Kept<FailedObject>,
}

impl Pass {
    /// Whether the target has every object of the source that can be mirrored.
    ///
    /// # Errors
    /// [`MirrorError::Incomplete`], naming the first that it lacks.
    pub fn complete(&self) -> Result<(), MirrorError> {
        match self.failed.first.first() {
            None => Ok(()),
            Some(first) => Err(MirrorError::Incomplete { failed: self.failed.total, first: first.clone() }),
        }
    }
}

/// A pass that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A bucket refused, and would for the other objects too.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The memory of the mirror is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The state folder is not usable.
    #[error("the mirror's state {path} cannot be used")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another pass is running.
    #[error("another pass of this mirror is running; it holds {path}")]
    Busy {
        /// The state folder.
        path: PathBuf,
    },
    /// A listing that is not sorted cannot be joined with the manifest.
    #[error("{bucket} lists {after:?} after {before:?}: the listing is not sorted")]
    Unsorted {
        /// The bucket.
        bucket: String,
        /// The first key.
        before: String,
        /// The second, which should be greater.
        after: String,
    },
    /// Everything is gone at once.
    #[error("{bucket} lists no object, and had {objects} at the last pass")]
    Empty {
        /// The bucket.
        bucket: String,
        /// How many objects it had.
        objects: u64,
        /// Where that is remembered.
        manifest: PathBuf,
    },
    /// What was mirrored is not there: most likely a disk that is not mounted.
    #[error("{bucket} lacks {key:?}, which the last pass left there")]
    TargetLost {
        /// The target.
        bucket: String,
        /// The first object of the manifest.
        key: String,
        /// Where that is remembered.
        manifest: PathBuf,
    },
    /// The pass ended, and the target lacks something.
    #[error("{failed} object(s) could not be mirrored; the first is {:?}: {}", first.key, first.why)]
    Incomplete {
        /// How many.
        failed: u64,
        /// The first.
        first: FailedObject,
    },
}

impl Explain for MirrorError {
    fn class(&self) -> Class {
        match self {
            MirrorError::Store(error) => error.class(),
            MirrorError::Manifest(error) => error.class(),
            MirrorError::State { .. } | MirrorError::Unsorted { .. } => Class::Failed,
            MirrorError::Busy { .. } | MirrorError::Empty { .. } | MirrorError::TargetLost { .. } => Class::Refused,
            MirrorError::Incomplete { .. } => Class::Incomplete,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            MirrorError::Store(error) => error.next_step(),
            MirrorError::Manifest(error) => error.next_step(),
            MirrorError::State { path, .. } => {
                Some(format!("Check owner, mode and free space of {}, then run it again.", path.display()))
            }
            MirrorError::Busy { .. } => Some("Wait until the other pass has ended, then run it again.".to_owned()),
            MirrorError::Unsorted { bucket, .. } => Some(format!(
                "Nothing was taken for deleted. Check what server {bucket} is: directory buckets of S3 list unsorted and cannot be mirrored yet."
            )),
            MirrorError::Empty { bucket, manifest, .. } => Some(format!(
                "Check that {bucket} is the right place and, if it is a folder, that its disk is mounted. The target was left as it is. \
                 If it is empty on purpose, remove {}, and run it again.",
                manifest.display()
            )),
            MirrorError::TargetLost { bucket, manifest, .. } => Some(format!(
                "Check that {bucket} is the right place and, if it is a folder, that its disk is mounted. Nothing was copied. If what it \
                 held is really lost, remove {}, and run it again: everything is copied anew.",
                manifest.display()
            )),
            MirrorError::Incomplete { .. } => Some(
                "Look at the reason given for each, mend it at the source, and run it again; the others are copied."
                    .to_owned(),
            ),
        }
    }
}

/// Brings `target` up to `source` and writes the manifest of it into the folder `state` ([`manifest_path`]).
///
/// # Errors
/// When the pass could not come to its end. What was confirmed until then is remembered: the next pass does
/// not copy it again. One object that cannot be copied does not fail the pass; it is in [`Pass::failed`].
pub async fn pass(
    source: &Bucket,
    target: &Bucket,
    state: &Path,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let started = clock.now();
    target.sweep(started.saturating_sub(LEFTOVERS_AFTER).unwrap_or(Timestamp::MIN)).await?;
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let manifest = manifest_path(state);
    let state = opened(state, pair).await?;
    refuse_lost(target, state.past()?.next().transpose()?, &manifest).await?;
    let meter: Arc<dyn Meter> = Arc::from(progress.begin("mirror", None));
    let run = Run {
        copier: Copier { source, target, meter: Arc::clone(&meter) },
        copying: Semaphore::new(options.concurrency.max(1)),
        started,
    };
    let mut join = Join::new(state.past()?);
    let mut tally = Tally { pass: Pass::default(), next: state.next()? };
    {
        let mut outcomes = std::pin::pin!(run.outcomes(&mut join, options.concurrency.max(1)));
        while let Some(outcome) = outcomes.try_next().await? {
            tally.take(outcome)?;
        }
    }
    let (known, gone) = join.end()?;
    if tally.pass.listed == 0 && known > 0 && !options.allow_empty {
        return Err(MirrorError::Empty { bucket: source.name().to_owned(), objects: known, manifest });
    }
    let Tally { mut pass, next } = tally;
    pass.gone += gone;
    finished(state, next).await?;
    meter.finish(&format!("{} copied, {} unchanged, {} gone", pass.copied, pass.unchanged, pass.gone));
    Ok(pass)
}

/// The manifest is believed for every object that did not change, so that a target which lost everything at once would not be
/// noticed: its first object stands for all.
async fn refuse_lost(target: &Bucket, first: Option<Row>, manifest: &Path) -> Result<(), MirrorError> {
    let Some(Row { key, .. }) = first else { return Ok(()) };
    match target.head(&key).await {
        Err(StoreError::NotFound { at }) if at.key.is_some() => {
            Err(MirrorError::TargetLost { bucket: target.name().to_owned(), key, manifest: manifest.to_owned() })
        }
        other => other.map(drop).map_err(Into::into),
    }
}

/// What became of one entry of the listing.
enum Outcome {
    Skipped(Skipped),
    Unchanged(Row),
    Reread(Row),
    /// And the row of the version that the target had before, if any.
    Copied(String, Copied, Option<Row>),
}

struct Run<'a> {
    copier: Copier<'a>,
    copying: Semaphore,
    started: Timestamp,
}

impl Run<'_> {
    /// One outcome per entry of the listing, in its order, however long each takes.
    fn outcomes<'a>(
        &'a self,
        join: &'a mut Join<Past>,
        concurrency: usize,
    ) -> impl Stream<Item = Result<Outcome, MirrorError>> + Send + 'a {
        let listing = self.copier.source.list(None);
        listing.map(move |listed| self.meet(join, listed)).buffered(concurrency.saturating_mul(AHEAD))
    }

    fn meet<'a>(
        &'a self,
        join: &mut Join<Past>,
        listed: Result<Listed, StoreError>,
    ) -> BoxFuture<'a, Result<Outcome, MirrorError>> {
        let ready = |outcome| std::future::ready(outcome).boxed();
        let (key, version) = match listed {
            Ok(Listed::Object { key, version }) => (key, version),
            Ok(Listed::Skipped(skipped)) => return ready(Ok(Outcome::Skipped(skipped))),
            Err(error) => return ready(Err(error.into())),
        };
        match join.meet(&key, &version) {
            Err(error) => ready(Err(error.into())),
            Ok(Err(OutOfOrder { before, after })) => {
                let bucket = self.copier.source.name().to_owned();
                ready(Err(MirrorError::Unsorted { bucket, before, after }))
            }
            Ok(Ok(Change::Same(row))) => ready(Ok(Outcome::Unchanged(row))),
            Ok(Ok(Change::New)) => self.copy(key, version, None).boxed(),
            Ok(Ok(Change::Changed(row))) => self.copy(key, version, Some(row)).boxed(),
        }
    }

    async fn copy(&self, key: String, listed: SourceVersion, before: Option<Row>) -> Result<Outcome, MirrorError> {
        // The semaphore is never closed; were it, the copy would only be one too many.
        let _copying = self.copying.acquire().await.ok();
        if let Some(row) = before.as_ref().filter(|row| row.racy && row.source == listed)
            && self.copier.is_as_recorded(row).await
        {
            let racy = self.copier.source.is_racy(&row.source, self.started);
            return Ok(Outcome::Reread(Row { racy, ..row.clone() }));
        }
        let mut copied = self.copier.copy(&key, &listed).await?;
        if let Copied::Done(row) = &mut copied {
            row.racy = self.copier.source.is_racy(&row.source, self.started);
        }
        Ok(Outcome::Copied(key, copied, before))
    }
}

/// Writes down what the pass does, in the order of the keys.
struct Tally {
    pass: Pass,
    next: Writer,
}

impl Tally {
    fn take(&mut self, outcome: Outcome) -> Result<(), ManifestError> {
        match outcome {
            Outcome::Skipped(skipped) => self.pass.skipped.push(skipped),
            Outcome::Unchanged(row) => {
                self.pass.listed += 1;
                self.pass.unchanged += 1;
                self.keep(&row)?;
            }
            Outcome::Reread(row) => {
                self.pass.reread += 1;
                self.take(Outcome::Unchanged(row))?;
            }
            Outcome::Copied(key, copied, before) => {
                self.pass.listed += 1;
                self.copied(key, copied, before)?;
            }
        }
        Ok(())
    }

    fn copied(&mut self, key: String, copied: Copied, before: Option<Row>) -> Result<(), ManifestError> {
        match copied {
            Copied::Done(row) => {
                self.pass.copied += 1;
                self.pass.copied_bytes += row.source.size;
                self.keep(&row)?;
                // A copy cost more than this write: a killed pass does not repeat it.
                self.next.flush()?;
                crate::failpoint::hit("mirror.row");
            }
            Copied::Vanished => self.pass.gone += 1,
            Copied::Skipped(skipped) => self.pass.skipped.push(skipped),
            Copied::Failed(why) => {
                self.pass.failed.push(FailedObject { key, why });
                // The target still has the version before.
                before.map_or(Ok(()), |row| self.keep(&row))?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, row: &Row) -> Result<(), ManifestError> {
        self.pass.rows += 1;
        self.pass.bytes += row.source.size;
        self.next.push(row)
    }
}

/// Merging what a killed pass left may read and write a whole manifest: not on a thread that others wait for.
async fn opened(folder: &Path, pair: Pair) -> Result<State, MirrorError> {
    let path = folder.to_owned();
    let opened = tokio::task::spawn_blocking({
        let path = path.clone();
        move || State::open(&path, pair)
    });
    opened.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })?
}

/// As above: the manifest is synced to the disk.
async fn finished(state: State, next: Writer) -> Result<(), MirrorError> {
    let finished = tokio::task::spawn_blocking(move || state.finish(next).map_err(MirrorError::from));
    finished.await.map_err(|stopped| MirrorError::State { path: PathBuf::from("manifest"), source: stopped.into() })?
}
