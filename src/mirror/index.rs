//! A bucket that is not mirrored, because both sites use the same one or because its store replicates it: listed, hashed,
//! written down. Nothing is copied anywhere.
//!
//! As in a pass of the mirror only what differs from its own past is read, and the manifest is written in the order of the
//! keys, so that a killed run goes on where it was. The manifest's two buckets are the same one.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::copy::told;
use super::diff::{Change, Join, OutOfOrder};
use super::manifest::{Pair, Row, Writer};
use super::state::State;
use super::{FailedObject, Kept, MirrorError, PassOptions, manifest_path};
use crate::clock::Clock;
use crate::observe::{Meter, Progress};
use crate::store::{Body, Listed, ReadOnly, Skipped, SourceVersion, StoreError};

/// How often an object that keeps changing is read.
const ATTEMPTS: u32 = 5;
/// How many entries of the listing are met ahead of the one written down, for each object read at a time.
const AHEAD: usize = 4;

/// What a run did.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Index {
    /// Objects of the bucket.
    pub listed: u64,
    /// Of those, read and hashed: new, changed, or perhaps changed.
    pub hashed: u64,
    /// The bytes of those.
    pub hashed_bytes: u64,
    /// Objects of the last manifest that the bucket has no more.
    pub gone: u64,
    /// Objects in the new manifest.
    pub rows: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// What is in the bucket and is no object.
    pub skipped: Kept<Skipped>,
    /// What could not be read; it is not in the manifest.
    pub failed: Kept<FailedObject>,
}

/// What came of one entry of the listing.
enum Outcome {
    Skipped(Skipped),
    Unchanged(Row),
    Hashed(Row),
    Vanished,
    Failed(FailedObject),
}

/// Writes the manifest of `bucket` as it is now into the folder `state`.
///
/// # Errors
/// As those of [`super::pass`]; one object that cannot be read is in [`Index::failed`].
pub async fn index(
    bucket: &ReadOnly,
    state: &Path,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Index, MirrorError> {
    let started = clock.now();
    let pair = Pair { source: bucket.name().to_owned(), target: bucket.name().to_owned() };
    let memory = opened(state, pair).await?;
    let (mut join, mut next, mut index) = (Join::new(memory.lines()?), memory.next()?, Index::default());
    let meter: Arc<dyn Meter> = Arc::from(progress.begin("hash objects", None));
    let hashing = Hashing { bucket, started, meter: Arc::clone(&meter) };
    {
        let met = bucket.list(None).map(|listed| hashing.meet(&mut join, listed));
        let mut outcomes = std::pin::pin!(met.buffered(options.concurrency.max(1).saturating_mul(AHEAD)));
        while let Some(outcome) = outcomes.try_next().await? {
            index.take(outcome, &mut next)?;
        }
    }
    let (known, gone) = join.end()?;
    if index.listed == 0 && known > options.accepted {
        return Err(MirrorError::Empty { bucket: bucket.name().to_owned(), objects: known });
    }
    index.gone += gone;
    let finished = tokio::task::spawn_blocking(move || memory.finish(next).map_err(MirrorError::from));
    finished.await.map_err(|stopped| MirrorError::State { path: manifest_path(state), source: stopped.into() })??;
    meter.finish(&format!("{} hashed, {} unchanged", index.hashed, index.listed.saturating_sub(index.hashed)));
    Ok(index)
}

async fn opened(folder: &Path, pair: Pair) -> Result<State, MirrorError> {
    let path = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || State::open(&path, pair));
    opened.await.map_err(|stopped| MirrorError::State { path: folder.to_owned(), source: stopped.into() })?
}

impl Index {
    fn take(&mut self, outcome: Outcome, next: &mut Writer) -> Result<(), MirrorError> {
        let (row, is_hashed) = match outcome {
            Outcome::Unchanged(row) => (row, false),
            Outcome::Hashed(row) => (row, true),
            Outcome::Skipped(skipped) => {
                self.skipped.push(skipped);
                return Ok(());
            }
            Outcome::Vanished => {
                self.gone += 1;
                return Ok(());
            }
            Outcome::Failed(failed) => {
                self.listed += 1;
                self.failed.push(failed);
                return Ok(());
            }
        };
        self.listed += 1;
        self.rows += 1;
        self.bytes += row.source.size;
        next.push(&row)?;
        if is_hashed {
            self.hashed += 1;
            self.hashed_bytes += row.source.size;
            // Reading it cost more than this write: a killed run does not repeat it.
            next.flush()?;
            crate::failpoint::hit("mirror.index.row");
        }
        Ok(())
    }
}

struct Hashing<'a> {
    bucket: &'a ReadOnly,
    started: Timestamp,
    meter: Arc<dyn Meter>,
}

impl Hashing<'_> {
    fn meet<'a>(
        &'a self,
        join: &mut Join,
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
                let bucket = self.bucket.name().to_owned();
                ready(Err(MirrorError::Unsorted { bucket, before, after }))
            }
            Ok(Ok(Change::Same(line))) => ready(line.row().map(Outcome::Unchanged).map_err(Into::into)),
            Ok(Ok(Change::New | Change::Changed(_))) => self.read(key, version).map(|o| o.map_err(Into::into)).boxed(),
        }
    }

    async fn read(&self, key: String, listed: SourceVersion) -> Result<Outcome, StoreError> {
        let mut version = listed;
        for _ in 0..ATTEMPTS {
            match self.hash(&key, &version).await {
                Ok(blake3) => {
                    let racy = self.bucket.is_racy(&version, self.started);
                    let target_etag = version.etag.clone();
                    return Ok(Outcome::Hashed(Row { key, source: version, blake3, target_etag, beside: None, racy }));
                }
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Outcome::Vanished),
                Err(StoreError::Changed { .. }) => {}
                Err(error) if error.is_of_object() => return Ok(failed(key, told(&error))),
                Err(error) => return Err(error),
            }
            version = match self.bucket.head(&key).await {
                Ok(head) => head.version,
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Outcome::Vanished),
                Err(error) => return Err(error),
            };
        }
        Ok(failed(key, format!("it changed each of the {ATTEMPTS} times it was read")))
    }

    async fn hash(&self, key: &str, version: &SourceVersion) -> Result<blake3::Hash, StoreError> {
        let (_, body) = self.bucket.read(key, Some(version)).await?;
        let mut body: Body = body;
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = body.try_next().await? {
            self.meter.advance(block.len() as u64);
            hasher.update(&block);
        }
        Ok(hasher.finalize())
    }
}

fn failed(key: String, why: String) -> Outcome {
    Outcome::Failed(FailedObject { key, why })
}
