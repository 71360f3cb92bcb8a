//! A bucket that is not mirrored, because both sites use the same one or because its store replicates it: listed, hashed,
//! written down. Nothing is copied anywhere.
//!
//! As in a pass of the mirror only what differs from its own past is read, and the manifest is written in the order of the
//! keys, so that a killed run goes on where it was. The listing is the mirror's, too: in many ranges at once, sorted here where
//! the store does not, and with holes where it fails. The manifest's two buckets are the same one.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::copy::alone;
use super::diff::{self, Change, Join, Met};
use super::digest::{self, Hasher, Hashes};
use super::jitter::{ATTEMPTS, Backoff};
use super::list::{self, Order, Unlisted};
use super::manifest::{Line, Pair, Row, Stretch, Writer};
use super::state::State;
use super::{FailedObject, Kept, MirrorError, PassOptions, discarded, manifest_path};
use crate::clock::Clock;
use crate::config::DigestRule;
use crate::observe::{Meter, Progress};
use crate::store::{Body, ReadOnly, Skipped, SourceVersion, StoreError};

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
    /// What could not be listed. The rows of the last run stay as they were.
    pub unlisted: Kept<Unlisted>,
    /// What is in the bucket and is no object.
    pub skipped: Kept<Skipped>,
    /// What could not be read; it is not in the manifest.
    pub failed: Kept<FailedObject>,
    /// What is not what its key says.
    pub misnamed: Kept<FailedObject>,
}

/// What came of one entry of the listing.
enum Outcome {
    Skipped(Skipped),
    Unlisted(Unlisted),
    /// A row where the listing has a hole: it stays.
    Unseen(Row),
    Standing(Stretch),
    /// One that stands, and is looked at all the same.
    Same(Row),
    Hashed(Row),
    /// It is not there, or was removed before it was read.
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
    let order = Order::remembered(state)?;
    let indexed = attempt(bucket, state, order, options, clock, progress).boxed().await;
    match indexed {
        Err(MirrorError::Unsorted { before, after, .. }) if order == Order::Sorted => {
            tracing::warn!("{} lists {after:?} after {before:?}: its keys are sorted here", bucket.name());
            Order::Unsorted.remember(state)?;
            attempt(bucket, state, Order::Unsorted, options, clock, progress).boxed().await
        }
        indexed => indexed,
    }
}

/// A run over a bucket that lists in the order `order`.
async fn attempt(
    bucket: &ReadOnly,
    state: &Path,
    order: Order,
    options: &PassOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Index, MirrorError> {
    let started = clock.now();
    let pair = Pair { source: bucket.name().to_owned(), target: bucket.name().to_owned() };
    let memory = opened(state, pair).await?;
    let (rule, algorithm) = (options.digest.as_ref(), options.digest.as_ref().map(|rule| rule.algorithm));
    let (mut join, mut next, mut index) = (Join::new(memory.lines()?, algorithm), memory.next()?, Index::default());
    let meter: Arc<dyn Meter> = Arc::from(progress.begin("hash objects", None));
    let hashing = Hashing { bucket, started, meter: Arc::clone(&meter), digest: rule };
    {
        let listing = list::entries(bucket, order, &options.limits, state, &manifest_path(state));
        // Of the objects that stand only those are looked at again which are not what their keys say.
        let is_misnamed =
            |key: &str, line: &Line| rule.zip(line.digest_hex()).is_some_and(|(rule, hex)| rule.is_misnamed(key, hex));
        let met = diff::joined(listing, &mut join, bucket.name(), is_misnamed).map(|met| hashing.meet(met));
        let mut outcomes = std::pin::pin!(met.buffered(options.concurrency.max(1).saturating_mul(AHEAD)));
        while let Some(outcome) = outcomes.try_next().await.map_err(|error| discarded(error, &memory))? {
            index.take(outcome, rule, &mut next)?;
        }
    }
    let (known, _) = join.end()?;
    if index.listed == 0 && index.unlisted.total == 0 && known > options.accepted {
        return Err(MirrorError::Empty { bucket: bucket.name().to_owned(), objects: known });
    }
    let changes = index.hashed + index.gone;
    let finished = tokio::task::spawn_blocking(move || memory.finish(next, changes).map_err(MirrorError::from));
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
    fn take(&mut self, outcome: Outcome, rule: Option<&DigestRule>, next: &mut Writer) -> Result<(), MirrorError> {
        match outcome {
            Outcome::Standing(stretch) => {
                self.listed += stretch.rows;
                self.rows += stretch.rows;
                self.bytes += stretch.bytes;
                next.push_all(&stretch)?;
            }
            Outcome::Hashed(row) => {
                self.listed += 1;
                self.hashed += 1;
                self.hashed_bytes += row.source.size;
                self.keep(&row, rule, next)?;
                // Reading it cost more than this write: a killed run does not repeat it.
                next.flush()?;
                crate::failpoint::hit("mirror.index.row");
            }
            Outcome::Same(row) => {
                self.listed += 1;
                self.keep(&row, rule, next)?;
            }
            Outcome::Unseen(row) => self.keep(&row, rule, next)?,
            Outcome::Unlisted(hole) => self.unlisted.push(hole),
            Outcome::Skipped(skipped) => self.skipped.push(skipped),
            Outcome::Vanished => self.gone += 1,
            Outcome::Failed(failed) => {
                self.listed += 1;
                self.failed.push(failed);
            }
        }
        Ok(())
    }

    fn keep(&mut self, row: &Row, rule: Option<&DigestRule>, next: &mut Writer) -> Result<(), MirrorError> {
        digest::misnamed(rule, row).into_iter().for_each(|object| self.misnamed.push(object));
        self.rows += 1;
        self.bytes += row.source.size;
        Ok(next.push(row)?)
    }
}

struct Hashing<'a> {
    bucket: &'a ReadOnly,
    started: Timestamp,
    meter: Arc<dyn Meter>,
    digest: Option<&'a DigestRule>,
}

impl Hashing<'_> {
    fn meet<'a>(&'a self, met: Result<Met, MirrorError>) -> BoxFuture<'a, Result<Outcome, MirrorError>> {
        let outcome = match met {
            Ok(Met::Object { key, version, change: Change::New | Change::Changed(_) }) => {
                return self.read(key, version).map(|outcome| outcome.map_err(Into::into)).boxed();
            }
            Ok(Met::Object { change: Change::Same(line), .. }) => line.row().map(Outcome::Same).map_err(Into::into),
            Ok(Met::Standing(stretch)) => Ok(Outcome::Standing(stretch)),
            Ok(Met::Gone(_)) => Ok(Outcome::Vanished),
            Ok(Met::Unseen(row)) => Ok(Outcome::Unseen(row)),
            Ok(Met::Unlisted(hole)) => Ok(Outcome::Unlisted(hole)),
            Ok(Met::Skipped(skipped)) => Ok(Outcome::Skipped(skipped)),
            Err(error) => Err(error),
        };
        std::future::ready(outcome).boxed()
    }

    async fn read(&self, key: String, listed: SourceVersion) -> Result<Outcome, StoreError> {
        let mut version = listed;
        let mut backoff = Backoff::of_one_object();
        for attempt in 1..=ATTEMPTS {
            match self.hash(&key, &version).await {
                Ok(Hashes { blake3, own: digest }) => {
                    let racy = self.bucket.is_racy(&version, self.started);
                    let (source, target_etag) = (version.clone(), version.etag);
                    return Ok(Outcome::Hashed(Row { key, source, blake3, target_etag, beside: None, digest, racy }));
                }
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Outcome::Vanished),
                Err(StoreError::Changed { .. }) => {}
                Err(StoreError::Unavailable { .. }) if attempt < ATTEMPTS => backoff.wait().await,
                Err(error) => return self.undelivered(key, error).await,
            }
            version = match self.bucket.head(&key).await {
                Ok(head) => head.version,
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Outcome::Vanished),
                Err(StoreError::Unavailable { .. }) if attempt < ATTEMPTS => version,
                Err(error) => return self.undelivered(key, error).await,
            };
        }
        Ok(failed(key, format!("it changed each of the {ATTEMPTS} times it was read")))
    }

    /// An object was not delivered: the others may be.
    async fn undelivered(&self, key: String, error: StoreError) -> Result<Outcome, StoreError> {
        match self.bucket.fails_alone(&key, &error).await {
            true => Ok(failed(key, alone(&error))),
            false => Err(error),
        }
    }

    async fn hash(&self, key: &str, version: &SourceVersion) -> Result<Hashes, StoreError> {
        let (_, body) = self.bucket.read(key, Some(version)).await?;
        let mut body: Body = body;
        let mut hasher = Hasher::new(self.digest);
        while let Some(block) = body.try_next().await? {
            self.meter.advance(block.len() as u64);
            hasher.update(&block);
        }
        Ok(hasher.finish())
    }
}

fn failed(key: String, why: String) -> Outcome {
    Outcome::Failed(FailedObject { key, why })
}
