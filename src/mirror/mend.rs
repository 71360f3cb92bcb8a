//! Mending: objects that the target has lost, or has not as the manifest says, are brought there again.
//!
//! Somebody names the keys: a check of the bucket, or the other site. He is not believed. While no pass can run, each
//! named object is read at the target once more and held against the manifest of *now*; so nothing is overwritten that a
//! pass has brought since. What is wrong then is copied from the source, if that still has the version and the content that
//! the manifest says, and read back. What cannot be mended leaves the manifest: it says only what the target holds, and the
//! next pass takes the object for a new one, if the source still has it.
//!
//! What stands at the target instead goes into the attic, as before every overwriting.
//!
//! The record of contents is removed before the manifest is written, and made anew from it: what was wrong must not be
//! copied for other objects.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::breaker::Breaker;
use super::copy::{Copied, Copier, alone};
use super::manifest::{ManifestError, Pair, Row, Rows};
use super::state::State;
use super::{Limits, MirrorError, Sides, manifest_path};
use crate::clock::Clock;
use crate::observe::{Meter, Progress};
use crate::store::{Body, StoreError};

/// Objects mended at a time.
const CONCURRENCY: usize = 4;
/// How many bytes of BLAKE3 tell one suspect from another.
const SUSPECT_BYTES: usize = 16;

/// What became of an object that was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is as the manifest says by now: it was brought since, or could not be read at the time.
    Sound,
    /// It was copied from the source again, and read back.
    Mended,
    /// The source has it no more: neither site has it as it was recorded.
    MissingAtSource,
    /// The source has another version of it: the next pass brings that one. Neither site has what was recorded.
    ChangedAtSource,
    /// The source's version is the recorded one and its content is not: it is damaged there, too.
    DamagedAtSource,
    /// It could not be copied; the next pass tries again.
    Failed {
        /// Why.
        why: String,
    },
}

/// What was done about the objects that were named, in the order of their keys.
pub type Fates = BTreeMap<String, Fate>;

/// Looks again at the objects called `keys` of `target`, and brings those that are not as the manifest in the folder
/// `state` says from `source`.
///
/// # Errors
/// [`MirrorError::Busy`] while a pass runs; when a bucket refuses or is away, or the state folder is not usable. What was
/// copied until then is as the manifest says.
pub async fn mend(
    sides: &Sides<'_>,
    state: &Path,
    keys: BTreeSet<String>,
    limits: &Arc<Limits>,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Fates, MirrorError> {
    let (started, Sides { source, target, attic, .. }) = (clock.now(), *sides);
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let opened = blocking(state, move |folder| {
        let state = State::open(&folder, pair)?;
        let rows = named(state.past()?, &keys)?;
        Ok((state, rows, keys))
    });
    let (memory, rows, keys) = opened.await?;
    let meter: Arc<dyn Meter> = Arc::from(progress.begin("mend objects", None));
    // Whoever named them has judged how many it may be.
    let breaker = Breaker::new(0, keys.len() as u64, false);
    let limits = Arc::clone(limits);
    let (refusals, is_fresh, rescue, digest) = (AtomicU64::new(0), false, None, None);
    let meter_of_copies = Arc::clone(&meter);
    let copier =
        Copier { source, target, attic, refusals, breaker, is_fresh, rescue, meter: meter_of_copies, limits, digest };
    let mending = Mending { copier };
    // What the manifest does not claim needs no mending.
    let mut fates: Fates = keys.into_iter().map(|key| (key, Fate::Sound)).collect();
    let mut changes = BTreeMap::new();
    {
        let mended = stream::iter(rows).map(|row| mending.one(row)).buffer_unordered(CONCURRENCY);
        let mut mended = std::pin::pin!(mended);
        while let Some((key, fate, row)) = mended.try_next().await? {
            if fate != Fate::Sound {
                let row = row.map(|row| Row { racy: source.is_racy(&row.source, started), ..row });
                changes.insert(key.clone(), row);
            }
            fates.insert(key, fate);
        }
    }
    if !changes.is_empty() {
        blocking(state, move |folder| amend(&folder, &memory, &changes)).await?;
    }
    let mended = fates.values().filter(|fate| **fate == Fate::Mended).count();
    meter.finish(&format!("{mended} of {} mended", fates.len()));
    Ok(fates)
}

/// The keys of the manifest in the folder `state` which `suspects` name, as [`suspect`] does.
///
/// # Errors
/// When the manifest cannot be read.
pub async fn suspected(state: &Path, suspects: BTreeSet<String>) -> Result<BTreeSet<String>, MirrorError> {
    blocking(state, move |folder| {
        let Some((_, rows)) = Rows::open(&manifest_path(&folder))? else { return Ok(BTreeSet::new()) };
        let mut keys = BTreeSet::new();
        for row in rows {
            let row = row?;
            if suspects.contains(&suspect(&row.key, &row.blake3)) {
                keys.insert(row.key);
            }
        }
        Ok(keys)
    })
    .await
}

/// How one site names an object to the other where others can read it: 32 hexadecimal digits of the BLAKE3 of its content's
/// BLAKE3 and its key. Who has not the content cannot tell which key it is.
pub fn suspect(key: &str, content: &blake3::Hash) -> String {
    let hash = blake3::Hasher::new().update(content.as_bytes()).update(key.as_bytes()).finalize();
    hash.as_bytes().iter().take(SUSPECT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Reading and writing a manifest is not for a thread that others wait for.
async fn blocking<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce(PathBuf) -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    let path = folder.to_owned();
    let done = tokio::task::spawn_blocking({
        let path = path.clone();
        move || work(path)
    });
    done.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })?
}

fn named(
    rows: impl Iterator<Item = Result<Row, ManifestError>>,
    keys: &BTreeSet<String>,
) -> Result<Vec<Row>, ManifestError> {
    rows.filter(|row| row.as_ref().map_or(true, |row| keys.contains(&row.key))).collect()
}

/// Writes the manifest with the rows of `changes`, and without those that they say are gone.
fn amend(folder: &Path, state: &State, changes: &BTreeMap<String, Option<Row>>) -> Result<(), MirrorError> {
    let contents = folder.join("contents.redb");
    match std::fs::remove_file(&contents) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(MirrorError::State { path: contents, source });
        }
        _ => {}
    }
    crate::failpoint::hit("mirror.mend.contents");
    let mut next = state.next()?;
    for row in state.past()? {
        let row = row?;
        match changes.get(&row.key) {
            None => next.push(&row)?,
            Some(Some(mended)) => next.push(mended)?,
            Some(None) => {}
        }
    }
    // What the source has no more no listing will miss.
    let forgotten = changes.values().filter(|mended| mended.is_none()).count() as u64;
    state.finish(next, forgotten)?;
    crate::failpoint::hit("mirror.mend");
    Ok(())
}

struct Mending<'a> {
    copier: Copier<'a>,
}

impl Mending<'_> {
    /// What became of the object of `row`, and its row from now on.
    async fn one(&self, row: Row) -> Result<(String, Fate, Option<Row>), StoreError> {
        let (fate, mended) = match self.is_held(&row).await? {
            true => (Fate::Sound, None),
            false => self.bring(&row).await?,
        };
        Ok((row.key, fate, mended))
    }

    async fn bring(&self, row: &Row) -> Result<(Fate, Option<Row>), StoreError> {
        let source = self.copier.source;
        match source.read(&row.key, Some(&row.source)).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok((Fate::MissingAtSource, None)),
            Err(StoreError::Changed { .. }) => return Ok((Fate::ChangedAtSource, None)),
            Err(error) => return self.undelivered(row, error).await,
            Ok((_, body)) => match hash(body).await {
                Ok(found) if found == row.blake3 => {}
                Ok(_) => return Ok((Fate::DamagedAtSource, None)),
                Err(StoreError::Changed { .. }) => return Ok((Fate::ChangedAtSource, None)),
                Err(error) => return self.undelivered(row, error).await,
            },
        }
        let failed = |why: String| Ok((Fate::Failed { why }, None));
        match self.copier.copy(&row.key, &row.source, None, None).await? {
            Copied::Done(mended, _) if !self.is_held(&mended).await? => {
                failed("the target has something else than it was sent".to_owned())
            }
            Copied::Done(mended, _) if mended.blake3 == row.blake3 => {
                Ok((Fate::Mended, Some(Row { digest: row.digest.clone(), ..mended })))
            }
            // It changed just now: what was recorded is nowhere any more.
            Copied::Done(mended, _) => Ok((Fate::ChangedAtSource, Some(mended))),
            Copied::Vanished => Ok((Fate::MissingAtSource, None)),
            Copied::Skipped(skipped) => failed(skipped.why),
            Copied::Failed(why) => failed(why),
            Copied::HeldBack => failed("too many objects would be overwritten at once".to_owned()),
        }
    }

    /// The source has not delivered the object of `row`: the others may be.
    async fn undelivered(&self, row: &Row, error: StoreError) -> Result<(Fate, Option<Row>), StoreError> {
        match self.copier.source.fails_alone(&row.key, &error).await {
            true => Ok((Fate::Failed { why: alone(&error) }, None)),
            false => Err(error),
        }
    }

    /// Whether the target has what `row` says, read to the end.
    async fn is_held(&self, row: &Row) -> Result<bool, StoreError> {
        let read = async {
            let (head, body) = self.copier.target.read(&row.key, None).await?;
            Ok(head.version.size == row.source.size && hash(body).await? == row.blake3)
        };
        match read.await {
            Err(error) if self.copier.target.fails_alone(&row.key, &error).await => Ok(false),
            answer => answer,
        }
    }
}

async fn hash(mut body: Body) -> Result<blake3::Hash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    while let Some(block) = body.try_next().await? {
        hasher.update(&block);
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_is_told_by_its_key_and_its_content() {
        let (one, other) = (blake3::hash(b"1"), blake3::hash(b"2"));
        let all: BTreeSet<String> = [("a", one), ("b", one), ("a", other)].map(|(key, c)| suspect(key, &c)).into();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|name| name.len() == 2 * SUSPECT_BYTES));
    }
}
