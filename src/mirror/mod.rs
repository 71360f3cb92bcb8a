//! 4 MIRROR: the spare bucket holds what the live one holds, and a manifest says what that is.
//!
//! A [`pass`] lists the source once, sorted, and joins the listing with the manifest of the pass before: what
//! the source says of an object is compared with what the *same* source said of it then. Only what differs is
//! read, hashed on the way, written to the target and confirmed there. The rows of the new manifest are
//! written in the order of their keys, so a killed pass goes on where it stopped.
//!
//! What the target has already, under another key, it is told to copy: renames and duplicates send no content, and that it
//! *is* the content BLAKE3 says, not a tag. Headers, user metadata and tags go with each object; changes of them that no
//! listing shows are found by an audit that looks at every object once a week.
//!
//! Promises: the source is never written to (its type has no verb for it); nothing is ever deleted at the target; a row
//! says what the target holds; memory does not grow with the number of objects. What is left to others: whether the objects
//! suit a database (`point`), and whether the target still holds them (`verify`).

mod audit;
mod beside;
mod contents;
mod copy;
pub mod diff;
mod error;
mod index;
mod jitter;
pub mod kept;
mod limits;
mod line;
mod list;
pub mod manifest;
mod mend;
mod preview;
pub mod published;
mod replica;
mod run;
mod state;
mod tally;
mod width;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::{FutureExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use self::audit::Audit;
use self::contents::Contents;
use self::copy::Copier;
use self::diff::Join;
use self::list::Order;
use self::manifest::{Pair, Row, Writer};
use self::run::Run;
use self::state::State;
use self::tally::Tally;
use self::width::Width;
use crate::clock::Clock;
use crate::observe::{Meter, Progress};
use crate::store::{Bucket, ReadOnly, Skipped, StoreError};

pub use audit::PERIOD as AUDIT_PERIOD;
pub use beside::BesideDigest;
pub use error::MirrorError;
pub use index::{Index, index};
pub use kept::Kept;
pub use limits::Limits;
pub use list::Unlisted;
pub use mend::{Fate, Fates, mend, suspect, suspected};
pub use preview::{Planned, PlannedCopy, PlannedWhy, preview};
pub use published::{PublishedError, PublishedParser, PublishedRow, published_lines, published_rows};
pub use replica::{Replica, compare};
pub use state::manifest_path;

/// What a killed writer left behind is removed when nobody wrote to it for that long.
const LEFTOVERS_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// An upload in parts that nobody has gone on with for that long is aborted.
const UPLOADS_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How a pass is to run.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// How many objects are copied at a time to begin with: more when that is faster, fewer when a server asks for it.
    pub concurrency: usize,
    /// What the copies may take of the line and the servers.
    pub limits: Arc<Limits>,
    /// Whether to believe that a source which had objects has none any more.
    pub allow_empty: bool,
}

impl Default for PassOptions {
    fn default() -> Self {
        PassOptions { concurrency: 8, limits: Arc::default(), allow_empty: false }
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
    /// Of those, copied: sent, or copied at the target.
    pub copied: u64,
    /// The bytes of those copied.
    pub copied_bytes: u64,
    /// The bytes that were sent to the target.
    pub sent_bytes: u64,
    /// Of those copied, the ones that were not sent, because the target had their content under another key.
    pub duplicated: u64,
    /// Of those listed, the ones of which only headers, metadata or tags had changed.
    pub adjusted: u64,
    /// Of those adjusted, the ones whose change no listing shows: the audit found it.
    pub adjusted_unseen: u64,
    /// The bytes of content that was read, found at the target and not sent.
    pub saved_bytes: u64,
    /// Of those listed, already at the target.
    pub unchanged: u64,
    /// Of those unchanged, read and hashed again: they were written so shortly before the last pass that a change
    /// after it would not show in their version.
    pub reread: u64,
    /// Of those listed and not changed, the ones whose headers and tags were looked at all the same. Each is once in
    /// [`AUDIT_PERIOD`].
    pub audited: u64,
    /// Objects of the last manifest that the source has no more, and those removed from it while the pass ran.
    /// They stay at the target.
    pub gone: u64,
    /// Objects in the new manifest.
    pub rows: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Whether the source gave its keys out of order, so that they were sorted here.
    pub sorted_here: bool,
    /// What could not be listed. The rows of the last pass stay as they were; new objects there are not mirrored.
    pub unlisted: Kept<Unlisted>,
    /// What is in the source and cannot be mirrored.
    pub skipped: Kept<Skipped>,
    /// What could be mirrored and was not. Of one that was mirrored before, the target has the older version.
    pub failed: Kept<FailedObject>,
    /// What was sent although the target has its content, because it would not copy it.
    pub not_duplicated: Kept<FailedObject>,
    /// Unfinished uploads of a week ago that could not be aborted at the target. A rule of its server's has to remove them.
    pub unaborted: Kept<Skipped>,
    /// What is mirrored, but its headers or tags could not be looked at, or not be brought over. Where the right to look at
    /// tags is missing it is the first such object only.
    pub unsettled: Kept<FailedObject>,
}

impl Pass {
    /// Whether the target has every object of the source that can be mirrored.
    ///
    /// # Errors
    /// [`MirrorError::Unlisted`] or [`MirrorError::Incomplete`], naming the first that it lacks.
    pub fn complete(&self) -> Result<(), MirrorError> {
        if let Some(first) = self.unlisted.first.first() {
            return Err(MirrorError::Unlisted { holes: self.unlisted.total, first: first.clone() });
        }
        match self.failed.first.first() {
            None => Ok(()),
            Some(first) => Err(MirrorError::Incomplete { failed: self.failed.total, first: first.clone() }),
        }
    }
}

/// Brings `target` up to `source` and writes the manifest of it into the folder `state` ([`manifest_path`]).
///
/// # Errors
/// When the pass could not come to its end. What was confirmed until then is remembered: the next pass does
/// not copy it again. One object that cannot be copied does not fail the pass; it is in [`Pass::failed`].
pub async fn pass(
    source: &ReadOnly,
    target: &Bucket,
    state: &Path,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let order = Order::remembered(state)?;
    let listed = attempt(source, target, state, order, options, clock, progress).boxed().await;
    match listed {
        Err(MirrorError::Unsorted { before, after, .. }) if order == Order::Sorted => {
            tracing::warn!("{} lists {after:?} after {before:?}: its keys are sorted here", source.name());
            Order::Unsorted.remember(state)?;
            attempt(source, target, state, Order::Unsorted, options, clock, progress).boxed().await
        }
        listed => listed,
    }
}

/// A pass over a source that lists in the order `order`.
async fn attempt(
    source: &ReadOnly,
    target: &Bucket,
    state: &Path,
    order: Order,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let started = clock.now();
    let target = target.noting_uploads(&state.join("uploads"));
    let before = |age| started.saturating_sub(age).unwrap_or(Timestamp::MIN);
    target.sweep(before(LEFTOVERS_AFTER)).await?;
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let (folder, manifest) = (state, manifest_path(state));
    let (state, contents) = opened(folder, pair, source).await?;
    refuse_lost(&target, state.past()?.next().transpose()?, &manifest).await?;
    let meter: Arc<dyn Meter> = Arc::from(progress.begin("mirror", None));
    let limits = Arc::clone(&options.limits);
    let run = Run {
        copier: Copier { source, target: &target, meter: Arc::clone(&meter), limits },
        contents,
        copying: Width::new(options.concurrency),
        started,
        may_not_look: AtomicBool::new(false),
    };
    let (mut join, mut audit) = (Join::new(state.past()?), Audit::open(folder, started)?);
    let pass = Pass { sorted_here: order == Order::Unsorted, ..Pass::default() };
    let mut tally = Tally { pass, next: state.next()? };
    for left in target.give_up_uploads(before(UPLOADS_AFTER)).await? {
        tally.pass.unaborted.push(left);
    }
    let listing = list::entries(source, order, &options.limits, folder, &manifest);
    {
        let mut outcomes = std::pin::pin!(run.outcomes(listing, &mut join, &mut audit, options.concurrency.max(1)));
        while let Some(outcome) = outcomes.try_next().await.map_err(|error| discarded(error, &state))? {
            tally.take(outcome)?;
        }
    }
    let (known, gone) = join.end()?;
    if tally.pass.listed == 0 && known > 0 && !options.allow_empty {
        return Err(MirrorError::Empty { bucket: source.name().to_owned(), objects: known, manifest });
    }
    let Tally { mut pass, next } = tally;
    pass.gone += gone;
    finished(state, next, run.contents, pass.rows).await?;
    audit.finish(pass.rows)?;
    meter.finish(&format!("{} copied, {} unchanged, {} gone", pass.copied, pass.unchanged, pass.gone));
    Ok(pass)
}

/// The rows of a pass over an unsorted listing do not stand for all keys up to the last of them: they are not gone on from. What
/// was copied is found again by its content.
fn discarded(error: MirrorError, state: &State) -> MirrorError {
    match error {
        MirrorError::Unsorted { .. } => state.discard().err().unwrap_or(error),
        error => error,
    }
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

/// Merging what a killed pass left may read and write a whole manifest, and so may making the record of contents: not on a
/// thread that others wait for.
async fn opened(folder: &Path, pair: Pair, source: &ReadOnly) -> Result<(State, Contents), MirrorError> {
    let path = folder.to_owned();
    let opened = tokio::task::spawn_blocking({
        let (path, source) = (path.clone(), source.clone());
        move || {
            let state = State::open(&path, pair.clone())?;
            let contents = Contents::open(&path, &pair, &source, state.past()?)?;
            Ok((state, contents))
        }
    });
    opened.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })?
}

/// As above: the manifest is synced to the disk.
async fn finished(state: State, next: Writer, contents: Contents, rows: u64) -> Result<(), MirrorError> {
    let finished = tokio::task::spawn_blocking(move || {
        state.finish(next)?;
        contents.finish(rows)
    });
    finished.await.map_err(|stopped| MirrorError::State { path: PathBuf::from("manifest"), source: stopped.into() })?
}
