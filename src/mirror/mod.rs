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
//! Promises: the source is never written to (its type has no verb for it); a pass deletes nothing at the target, and overwrites
//! nothing there that it has not put into the [`attic`] before; what looks like a mistake ([`HeldBack`]) it does not follow; a row
//! says what the target holds; memory does not grow with the number of objects. What is left to others: whether the objects
//! suit a database (`point`), and whether the target still holds them (`verify`).

mod attempts;
pub mod attic;
mod audit;
mod beside;
mod breaker;
mod changed;
pub mod compare;
mod contents;
mod copy;
pub mod diff;
mod digest;
pub mod direction;
mod error;
mod expected;
mod followed;
pub mod hide;
mod index;
mod jitter;
pub mod kept;
pub mod let_go;
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
pub mod touched;
mod unmirrored;
mod width;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use self::attic::Attic;
use self::audit::Audit;
use self::breaker::Breaker;
use self::contents::Contents;
use self::copy::Copier;
use self::diff::Join;
use self::direction::{Reference, Rescue, Rescued, rescue_leftovers};
use self::list::Order;
use self::manifest::{Pair, Row};
use self::run::Run;
use self::state::State;
use self::tally::Tally;
use self::touched::Touched;
use self::width::Width;
use crate::clock::Clock;
use crate::config::DigestRule;
use crate::observe::{Meter, Progress};
use crate::store::{Bucket, ReadOnly, Skipped, StoreError};

pub(crate) use attempts::{Then, Trying};
pub use audit::PERIOD as AUDIT_PERIOD;
pub use beside::BesideDigest;
pub use breaker::HeldBack;
pub use changed::{Changed, changed};
pub(crate) use copy::told;
pub use digest::ContentDigest;
pub use error::MirrorError;
pub use followed::Followed;
pub use index::{Index, index};
pub(crate) use jitter::Patience;
pub use kept::Kept;
pub use limits::Limits;
pub use list::Unlisted;
pub use mend::{Fate, Fates, mend, suspect, suspected};
pub use preview::{Planned, PlannedCopy, PlannedWhy, preview};
pub use published::{PublishedError, PublishedParser, PublishedRow, published_lines, published_rows};
pub use replica::{Replica, compare};
pub use state::{followed, manifest_path};
pub use unmirrored::Unmirrored;

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
    /// How many overwrites, and how many deletes, a person has said are no mistake.
    pub accepted: u64,
    /// The application's digest of the objects, where the profile names one.
    pub digest: Option<DigestRule>,
}

impl Default for PassOptions {
    fn default() -> Self {
        PassOptions { concurrency: 8, limits: Arc::default(), accepted: 0, digest: None }
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
    /// The source, as a person knows it.
    pub source: String,
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
    /// after it would not show in their version, or the profile has named a digest since.
    pub reread: u64,
    /// Of those listed and not changed, the ones whose headers and tags were looked at all the same. Each is once in
    /// [`AUDIT_PERIOD`].
    pub audited: u64,
    /// Objects of the last manifest that the source has no more. They stay at the target until the keeper hides them.
    pub gone: u64,
    /// Objects that were listed and removed before they were read.
    pub vanished: u64,
    /// What was not followed because it looked like a mistake.
    pub held_back: HeldBack,
    /// What only the old live site had, found in the first pass after the roles were swapped.
    pub rescued: Kept<Rescued>,
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
    /// What is mirrored as it is, and is not what its key says: damaged at the source, or written there under a wrong name.
    pub misnamed: Kept<FailedObject>,
    /// What the manifest does not name although the source has it, or may have it.
    #[serde(skip)]
    pub unmirrored: Unmirrored,
}

impl Pass {
    /// Whether the target has every object of the source that can be mirrored, no change was held back, and each is what its key says.
    ///
    /// # Errors
    /// [`MirrorError::HeldBack`]; [`MirrorError::Unlisted`] or [`MirrorError::Incomplete`], naming the first that it lacks;
    /// [`MirrorError::Misnamed`].
    pub fn complete(&self) -> Result<(), MirrorError> {
        if self.held_back.is_any() {
            return Err(MirrorError::HeldBack { bucket: self.source.clone(), held: self.held_back.clone() });
        }
        if let Some(first) = self.unlisted.first.first() {
            return Err(MirrorError::Unlisted { holes: self.unlisted.total, first: first.clone() });
        }
        if let Some(first) = self.failed.first.first() {
            return Err(MirrorError::Incomplete { failed: self.failed.total, first: first.clone() });
        }
        match self.misnamed.first.first() {
            None => Ok(()),
            Some(first) => Err(MirrorError::Misnamed { objects: self.misnamed.total, first: first.clone() }),
        }
    }
}

/// Between what a pass runs.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// The live bucket.
    pub source: &'a ReadOnly,
    /// A key that is always there: without it nothing is overwritten, and nothing taken for deleted.
    pub canary: Option<&'a str>,
    /// The spare bucket.
    pub target: &'a Bucket,
    /// Where what is overwritten there goes.
    pub attic: &'a Attic,
}

/// As [`follow`], into a target of which nothing is kept.
///
/// # Errors
/// The same.
pub async fn pass(
    source: &ReadOnly,
    target: &Bucket,
    state: &Path,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let sides = Sides { source, canary: None, target, attic: &Attic::none() };
    follow(&sides, state, options, clock, progress).await
}

/// Brings the target up to the source and writes the manifest of it into the folder `state` ([`manifest_path`]).
///
/// # Errors
/// When the pass could not come to its end. What was confirmed until then is remembered: the next pass does
/// not copy it again. One object that cannot be copied does not fail the pass; it is in [`Pass::failed`].
pub async fn follow(
    sides: &Sides<'_>,
    state: &Path,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let (order, source) = (Order::remembered(state)?, sides.source);
    let listed = attempt(sides, state, order, options, clock, progress).boxed().await;
    match listed {
        Err(MirrorError::Unsorted { before, after, .. }) if order == Order::Sorted => {
            tracing::warn!("{} lists {after:?} after {before:?}: its keys are sorted here", source.name());
            Order::Unsorted.remember(state)?;
            attempt(sides, state, Order::Unsorted, options, clock, progress).boxed().await
        }
        listed => listed,
    }
}

/// A pass over a source that lists in the order `order`.
async fn attempt(
    sides: &Sides<'_>,
    state: &Path,
    order: Order,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Pass, MirrorError> {
    let (started, Sides { source, attic, .. }) = (clock.now(), *sides);
    let target = &sides.target.noting_uploads(&state.join("uploads"));
    let before = |age| started.saturating_sub(age).unwrap_or(Timestamp::MIN);
    target.sweep(before(LEFTOVERS_AFTER)).await?;
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let (folder, manifest) = (state, manifest_path(state));
    let returning = direction::is_returning(folder, &pair)?;
    let (state, contents) = opened(folder, pair, source).await?;
    let touched = Touched::read(attic.place(), state.touched(attic.place())?).boxed().await?;
    refuse_lost(target, first_untouched(&state, &touched)?, &manifest).await?;
    let known = state.known()?;
    let breaker = Breaker::new(known, options.accepted, is_lost(source, sides.canary).await?);
    // Asked only where it tells something: whether each new object has to be looked for at the target first.
    let may_be_fresh = (known == 0 || attic.has_to_look()) && !attic.has_older();
    let is_fresh = may_be_fresh && target.list(None).next().await.transpose()?.is_none();
    let counted = expected::Counted::new(progress.begin("mirror", None));
    let telling = expected::told(expected::Between::of(sides, folder, options), &counted, expected::AFTER);
    let limits = Arc::clone(&options.limits);
    let rescue = returning.then(|| Rescue::open(folder.to_owned(), target, attic, started)).transpose()?;
    let mut reference = returning.then(|| Reference::open(folder)).transpose()?;
    let (meter, refusals) = (counted.clone(), AtomicU64::new(0));
    let (digest, algorithm) = (options.digest.as_ref(), options.digest.as_ref().map(|rule| rule.algorithm));
    let run = Run {
        copier: Copier { source, target, attic, refusals, breaker, is_fresh, rescue, meter, limits, digest },
        contents,
        copying: Width::new(options.concurrency),
        started,
        may_not_look: AtomicBool::new(false),
        is_lost: (known == 0 || returning) && !is_fresh,
        touched,
        missing: AtomicU64::new(0),
    };
    let (mut join, mut audit) = (Join::new(state.lines()?, algorithm), Audit::open(folder, started)?);
    let (source_name, sorted_here) = (source.name().to_owned(), order == Order::Unsorted);
    let pass = Pass { source: source_name, sorted_here, ..Pass::default() };
    let mut tally = Tally { pass, digest, next: state.next()?, gone: 0 };
    for left in target.give_up_uploads(before(UPLOADS_AFTER)).await? {
        tally.pass.unaborted.push(left);
    }
    let listing = list::entries(source, order, &options.limits, folder, &manifest);
    {
        let mut outcomes =
            std::pin::pin!(run.outcomes(listing, &mut join, &mut audit, &mut reference, options.concurrency.max(1)));
        while let Some(outcome) = outcomes.try_next().await.map_err(|error| discarded(error, &state))? {
            tally.take(outcome)?;
        }
    }
    drop(telling);
    // It holds the lock.
    let (pass, rescue, _state) = ended(run, state, tally).await?;
    audit.finish(pass.rows)?;
    let pass = match rescue {
        Some(rescue) => returned(pass, rescue, target, folder, &options.limits).boxed().await?,
        None => pass,
    };
    counted.finish(&format!("{} copied, {} unchanged, {} gone", pass.copied, pass.unchanged, pass.gone));
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

/// Judges what a pass has found, and makes its rows the manifest.
async fn ended<'a>(
    run: Run<'a>,
    state: State,
    tally: Tally<'_>,
) -> Result<(Pass, Option<Rescue<'a>>, State), MirrorError> {
    let Run { copier, contents, touched, missing, .. } = run;
    let Tally { mut pass, next, gone, .. } = tally;
    pass.held_back = copier.breaker.judge(pass.listed, missing.into_inner(), gone);
    let is_held = pass.held_back.deletes > 0;
    pass.gone = if is_held { 0 } else { gone };
    // Whatever others have changed since the pass began it cannot vouch for.
    let meanwhile = Touched::read(copier.attic.place(), touched.last).boxed().await?;
    let without: HashSet<String> = meanwhile.again.into_iter().chain(meanwhile.busy).collect();
    let (settled, place) = (touched.settled, copier.attic.place().cloned());
    let (rows, judged) = (pass.rows, is_held || !without.is_empty());
    let changes = pass.copied + pass.adjusted + pass.gone;
    let finished = tokio::task::spawn_blocking(move || {
        let judged = if judged {
            Some(state.finish_judged(next, changes, is_held, &without)?)
        } else {
            state.finish(next, changes)?;
            None
        };
        let rows = judged.as_ref().map_or(rows, |judged| judged.rows);
        contents.finish(rows)?;
        state.set_touched(settled, place.as_ref())?;
        Ok::<_, MirrorError>((judged, state))
    });
    let path = PathBuf::from("manifest");
    let (judged, state) = finished.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })??;
    if let Some(judged) = judged {
        (pass.rows, pass.bytes) = (judged.rows, judged.bytes);
        for key in judged.left_out {
            pass.unmirrored.push_key(&key);
            let why = "at the spare it was hidden or restored while this pass ran; the next one copies it".to_owned();
            pass.failed.push(FailedObject { key, why });
        }
    }
    Ok((pass, copier.rescue, state))
}

/// The end of the first pass of a direction: what the target has besides is looked at, too. Where the source could not be listed
/// nobody knows what that is, and the next pass is the first again.
async fn returned(
    mut pass: Pass,
    rescue: Rescue<'_>,
    target: &Bucket,
    state: &Path,
    limits: &Arc<Limits>,
) -> Result<Pass, MirrorError> {
    if pass.unlisted.is_empty() {
        let unseen = rescue_leftovers(&rescue, target, state, limits).await?;
        // Only a first pass looks before it overwrites: it stays one while there is no attic for what was found, and while something
        // could not be looked at.
        if unseen.is_empty() && !rescue.is_in_place() {
            direction::settled(state)?;
        }
        unseen.into_iter().for_each(|object| pass.failed.push(object));
    }
    pass.rescued = rescue.found();
    Ok(pass)
}

/// Whether the canary is not where it always is.
async fn is_lost(source: &ReadOnly, canary: Option<&str>) -> Result<bool, StoreError> {
    let Some(canary) = canary else { return Ok(false) };
    match source.head(canary).await {
        Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(true),
        answer => answer.map(|_| false),
    }
}

/// The first row that nobody else has had to do with.
fn first_untouched(state: &State, touched: &Touched) -> Result<Option<Row>, MirrorError> {
    for row in state.past()? {
        let row = row?;
        if !touched.again.contains(&row.key) && !touched.busy.contains(&row.key) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The manifest is believed for every object that did not change, so that a target which lost everything at once would not be
/// noticed: its first object stands for all.
async fn refuse_lost(target: &Bucket, first: Option<Row>, manifest: &Path) -> Result<(), MirrorError> {
    let Some(Row { key, .. }) = first else { return Ok(()) };
    match target.head(&key).await {
        Err(StoreError::NotFound { at }) if at.key.is_some() => {
            Err(MirrorError::TargetLost { bucket: target.name().to_owned(), key, manifest: manifest.to_owned() })
        }
        // It is there, and rotten: a look at the bucket is what finds that.
        Err(error) if target.fails_alone(&key, &error).await => Ok(()),
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
            let contents = Contents::open(&path, &pair, &source, state.known()?, state.past()?)?;
            Ok((state, contents))
        }
    });
    opened.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })?
}
