//! Which way the mirror runs, and since when: what was remembered before the roles swapped is not believed after it.
//!
//! While the other site was live its applications wrote to what is our target now, and nobody told this site. So the first pass of
//! a direction proves what it believes. A row of the manifest stays only if the target still answers with the tag that our write
//! left there; the content of everything else at the target is read and hashed there. What is at the target and in no recovery
//! point that either site knows is *rescued* before anything is put in its place (`rescue`): it was written at the old live
//! site after its last point, and is nowhere else.
//!
//! A direction is told by two things: the newest point that the other site took before it, and how often this site has been the
//! spare.
//!
//! ```text
//! direction.json    since when this direction holds, and whether its first pass has come to its end
//! returned/past     the manifest as it was when the roles swapped
//! returned/point    what the other site's newest point says of the bucket
//! rescued.jsonl     what was rescued, one object a line
//! ```

mod leftovers;
mod reference;
mod rescue;
mod rescued;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::list::{self, Order, Part, Unlisted};
use super::manifest::{Pair, Row, Rows};
use super::state::{Past, State};
use super::{Limits, MirrorError, Sides, manifest_path};
use crate::durable;
use crate::store::{Bucket, Listed, ReadOnly, SourceVersion};
use crate::vault::layout::PointId;

pub use reference::keep_point;
pub use rescued::{Lies, Record, Rescued, records, release, rescued_here};

pub(super) use leftovers::rescue_leftovers;
pub(super) use reference::{Named, Reference};
pub(super) use rescue::{Expected, Rescue, Stood};

/// What tells one direction from the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The newest point that the other site had taken.
    pub point: Option<String>,
    /// How often this site had been the spare, as its state folder says.
    pub spare: Option<String>,
}

impl Since {
    /// The point, if the other site has taken it since `before`. One that has expired since then is not newer.
    pub fn newer_than(&self, before: &Since) -> Option<PointId> {
        let id = |since: &Since| since.point.as_ref().and_then(|point| point.parse::<PointId>().ok());
        id(self).filter(|point| id(before).is_none_or(|before| *point > before))
    }
}

/// How far the first pass of a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    /// What was remembered is being held against the target.
    Turning,
    /// The first pass runs, or was killed.
    Returning,
    /// It has come to its end.
    Settled,
}

/// `direction.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateFile {
    source: String,
    target: String,
    since: Since,
    stage: Stage,
}

/// What a mirror's memory has to do with the direction of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is of this direction, and its first pass has come to its end.
    Settled,
    /// It is of this direction, and its first pass has not.
    Returning,
    /// It is of another one, or there is none and the other site was live before: [`turn`] comes first.
    Turned,
}

/// What the memory in the folder `state` has to do with a direction from `source` to `target` that holds `since`.
///
/// # Errors
/// When the state folder cannot be read.
pub fn standing(state: &Path, source: &ReadOnly, target: &Bucket, since: &Since) -> Result<Standing, MirrorError> {
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let Some(known) = remembered(state)?.filter(|known| known.is_of(&pair)) else {
        let has_manifest = Rows::open(&manifest_path(state))?.is_some_and(|(its, _)| its == pair);
        // Nobody else was live: the manifest is that of an earlier release, or there is none yet.
        let is_first = since.point.is_none() && (since.spare.is_none() || !has_manifest);
        return Ok(if is_first { Standing::Settled } else { Standing::Turned });
    };
    Ok(match known.stage {
        _ if known.since.spare != since.spare || since.newer_than(&known.since).is_some() => Standing::Turned,
        Stage::Turning => Standing::Turned,
        Stage::Returning => Standing::Returning,
        Stage::Settled => Standing::Settled,
    })
}

/// Whether the first pass of the direction that is remembered has not come to its end.
pub(super) fn is_returning(state: &Path, pair: &Pair) -> Result<bool, MirrorError> {
    Ok(remembered(state)?.is_some_and(|known| known.is_of(pair) && known.stage != Stage::Settled))
}

/// Remembers that a direction holds `since`, with nothing to prove first.
///
/// # Errors
/// When the state folder cannot be written.
pub fn settle(state: &Path, source: &ReadOnly, target: &Bucket, since: &Since) -> Result<(), MirrorError> {
    let (source, target) = (source.name().to_owned(), target.name().to_owned());
    let file = StateFile { source, target, since: since.clone(), stage: Stage::Settled };
    match remembered(state)? {
        Some(known) if known == file => Ok(()),
        // A point of the other site that has expired since is still the one it began after.
        Some(known) if (&known.source, &known.target, known.stage) == (&file.source, &file.target, file.stage) => {
            Ok(())
        }
        _ => file.write(state),
    }
}

/// The first pass has come to its end.
pub(super) fn settled(state: &Path) -> Result<(), MirrorError> {
    if let Some(known) = remembered(state)? {
        StateFile { stage: Stage::Settled, ..known }.write(state)?;
        crate::failpoint::hit("mirror.direction.settled");
    }
    for name in ["past", "point"] {
        remove(&reference::folder(state).join(name))?;
    }
    Ok(())
}

/// Begins a direction: what is remembered of an earlier one is held against what the target says now, and only what it proves
/// stays. The next passes prove the rest, until one has come to its end.
///
/// # Errors
/// [`MirrorError::TargetLost`] when the target has nothing of what was remembered, [`MirrorError::Busy`] while a pass runs; when
/// the target cannot be listed or the state folder not be used. Run again, it goes on.
pub async fn turn(sides: &Sides<'_>, state: &Path, since: &Since, limits: &Arc<Limits>) -> Result<(), MirrorError> {
    let pair = Pair { source: sides.source.name().to_owned(), target: sides.target.name().to_owned() };
    let memory = opened(state, pair.clone()).await?;
    let begun = StateFile { source: pair.source, target: pair.target, since: since.clone(), stage: Stage::Turning };
    if remembered(state)?.as_ref() != Some(&begun) {
        reference::keep_past(state)?;
        begun.write(state)?;
        crate::failpoint::hit("mirror.direction.turning");
    }
    let proven = proven(sides.target, &memory, state, limits).boxed().await?;
    let folder = state.to_owned();
    let finished = tokio::task::spawn_blocking(move || {
        let written = memory.finish_anew(proven);
        ["contents.redb", "audit.json"].iter().try_for_each(|name| remove(&folder.join(name)))?;
        Ok::<_, MirrorError>(written?)
    });
    finished.await.map_err(|stopped| MirrorError::State { path: state.to_owned(), source: stopped.into() })??;
    StateFile { stage: Stage::Returning, ..begun }.write(state)?;
    crate::failpoint::hit("mirror.direction.returning");
    Ok(())
}

async fn opened(folder: &Path, pair: Pair) -> Result<State, MirrorError> {
    let path = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || State::open(&path, pair));
    opened.await.map_err(|stopped| MirrorError::State { path: folder.to_owned(), source: stopped.into() })?
}

/// The rows whose objects the target still answers with the tag that our write left there.
async fn proven(
    target: &Bucket,
    memory: &State,
    folder: &Path,
    limits: &Arc<Limits>,
) -> Result<super::manifest::Writer, MirrorError> {
    match proven_in(target, memory, folder, limits, Order::Sorted).await {
        Err(MirrorError::Unsorted { .. }) => proven_in(target, memory, folder, limits, Order::Unsorted).await,
        proven => proven,
    }
}

async fn proven_in(
    target: &Bucket,
    memory: &State,
    folder: &Path,
    limits: &Arc<Limits>,
    order: Order,
) -> Result<super::manifest::Writer, MirrorError> {
    let (mut past, mut proven, mut kept) = (memory.past()?.peekable(), memory.next()?, 0_u64);
    let Some(first) = past.peek() else { return Ok(proven) };
    let first = first.as_ref().map_or_else(|_| String::new(), |row| row.key.clone());
    let mut listing = listed(target, folder, limits, order);
    let mut last: Option<String> = None;
    while let Some(entry) = listing.try_next().await? {
        // What could not be listed is not proven.
        let Entry::Listed(Listed::Object { key, version }) = entry else { continue };
        if let Some(before) = last.filter(|last| *last >= key) {
            return Err(MirrorError::Unsorted { bucket: target.name().to_owned(), before, after: key });
        }
        if let Some(row) = row_at(&mut past, &key)?
            && is_what_we_left(&row, &version)
        {
            // Of what stands beside it the tag says nothing: the first pass looks.
            proven.push(&Row { beside: None, ..row })?;
            kept += 1;
        }
        last = Some(key);
    }
    if kept == 0 && last.is_none() {
        let (bucket, manifest) = (target.name().to_owned(), manifest_path(folder));
        return Err(MirrorError::TargetLost { bucket, key: first, manifest });
    }
    Ok(proven)
}

fn is_what_we_left(row: &Row, found: &SourceVersion) -> bool {
    row.target_etag.is_some() && row.target_etag == found.etag && row.source.size == found.size
}

/// One entry of a listing, or a hole in it.
enum Entry {
    Listed(Listed),
    Unlisted(Unlisted),
}

/// The listing of the target, in the order of its keys.
fn listed(
    target: &Bucket,
    folder: &Path,
    limits: &Arc<Limits>,
    order: Order,
) -> BoxStream<'static, Result<Entry, MirrorError>> {
    let target = ReadOnly::new(target.clone());
    let parts = list::entries(&target, order, limits, &reference::folder(folder), &manifest_path(folder));
    let entries = |part| match part {
        Part::Listed(listed) => listed.into_iter().map(Entry::Listed).collect(),
        Part::Unlisted(hole) => vec![Entry::Unlisted(hole)],
    };
    parts.map_ok(move |part| stream::iter(entries(part).into_iter().map(Ok))).try_flatten().boxed()
}

/// The row of `key`, after those before it were left behind. To be asked in the order of the keys.
fn row_at(past: &mut std::iter::Peekable<Past>, key: &str) -> Result<Option<Row>, MirrorError> {
    while past.next_if(|row| row.as_ref().is_ok_and(|row| row.key.as_str() < key)).is_some() {}
    Ok(past.next_if(|row| row.as_ref().map_or(true, |row| row.key == key)).transpose()?)
}

impl StateFile {
    fn is_of(&self, pair: &Pair) -> bool {
        (&self.source, &self.target) == (&pair.source, &pair.target)
    }

    fn write(&self, state: &Path) -> Result<(), MirrorError> {
        let path = path(state);
        let failed = |source: io::Error| MirrorError::State { path: path.clone(), source };
        let content = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        std::fs::create_dir_all(state).map_err(failed)?;
        durable::replace(&path, &content).map_err(failed)
    }
}

/// What is remembered; nothing when there is no such file.
fn remembered(state: &Path) -> Result<Option<StateFile>, MirrorError> {
    let path = path(state);
    let content = durable::read(&path).map_err(|source| MirrorError::State { path: path.clone(), source })?;
    Ok(match content.map(|content| serde_json::from_slice(&content)) {
        Some(Err(error)) => {
            tracing::warn!("{} is damaged; what is at the other site is looked at anew: {error}", path.display());
            None
        }
        Some(Ok(known)) => Some(known),
        None => None,
    })
}

fn path(state: &Path) -> PathBuf {
    state.join("direction.json")
}

fn remove(path: &Path) -> Result<(), MirrorError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(MirrorError::State { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
