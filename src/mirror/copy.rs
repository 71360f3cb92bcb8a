//! Bringing one object to the target: read under the condition of its version, hash in flight, write, confirm.
//!
//! What is recorded is what was read, and only after the target said that it has it. An object that changes
//! while it is read is read again; where versions are kept that very version is read. If the target probably has the
//! content already it is read and hashed first, and sent only if it is another one after all.
//!
//! One object that a store does not deliver, or does not take, ends no pass: once it was tried often enough the same store is asked for
//! something else, and only if that fails, too, is it the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;

use super::MirrorError;
use super::attic::{Attic, Standing};
use super::beside::Beside;
use super::breaker::Breaker;
use super::contents::Known;
use super::digest::{Hasher, Hashes};
use super::direction::{Rescue, Stood};
use super::jitter::{ATTEMPTS, Backoff};
use super::limits::Limits;
use super::manifest::Row;
use crate::config::DigestRule;
use crate::observe::Meter;
use crate::store::{Body, Bucket, Head, Original, Place, ReadOnly, Skipped, SourceVersion, StoreError, WriteError};

/// What writing takes besides one request: one for each part of a large object, and for some looking at what came of it.
const PART_BYTES: u64 = 8 << 20;
/// What asking a server for something else takes, once an object has failed.
const OTHERS_REQUESTS: u64 = 2;
/// After so many objects that the target has refused it is asked again whether it takes any.
const ASKED_AFTER: u64 = 32;
/// What having the target copy takes: looking before and after, and the copy.
const REUSE_REQUESTS: u64 = 3;

/// What came of one object.
#[derive(Debug)]
pub(super) enum Copied {
    /// The target has it.
    Done(Row, How),
    /// It was removed from the source before it could be read.
    Vanished,
    /// The target cannot carry it.
    Skipped(Skipped),
    /// It could not be copied; the others may.
    Failed(String),
    /// The target has an older version, which is not overwritten: too much changed at once.
    HeldBack,
}

/// How the target came to have an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It had it, with everything beside it.
    Had,
    /// It had its content; what stands beside it was brought up to date.
    Adjusted,
    /// It copied the content from another of its objects.
    Duplicated,
    /// It was sent.
    Sent(Sent),
}

/// What went with sending an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Why it had to be sent although the target has its content.
    pub(super) refused: Option<String>,
    /// Why it has not the tags of the source.
    pub(super) unsettled: Option<String>,
}

/// Whose fault one attempt was.
enum Fault {
    Source(StoreError),
    Target(StoreError),
    /// The target has something else than was sent.
    Unconfirmed(String),
    /// What stands at the target could not be put into the attic.
    NotKept(String),
    /// It is not to be overwritten.
    HeldBack,
    /// What this site itself has to remember it cannot.
    Own(StoreError),
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Body(error) => Fault::Source(error),
            WriteError::Store(error) => Fault::Target(error),
        }
    }
}

/// Which version of an object is to be read.
struct Wanted {
    version: SourceVersion,
    /// Where versions are kept: its id, by which it is read whatever is written over it.
    id: Option<String>,
}

/// The two buckets, who is told how many bytes were read, and what may be taken of the line.
pub(super) struct Copier<'a> {
    pub(super) source: &'a ReadOnly,
    pub(super) target: &'a Bucket,
    pub(super) attic: &'a Attic,
    /// How many objects the target has refused.
    pub(super) refusals: AtomicU64,
    pub(super) breaker: Breaker,
    /// Whether the target held nothing when the pass began: then nothing can be overwritten there.
    pub(super) is_fresh: bool,
    /// In the first pass of a direction.
    pub(super) rescue: Option<Rescue<'a>>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) limits: Arc<Limits>,
    /// The application's digest of the objects, where the profile names one.
    pub(super) digest: Option<&'a DigestRule>,
}

impl Copier<'_> {
    /// How often either server asked for fewer requests.
    pub(super) fn pressure(&self) -> u64 {
        self.source.pressure() + self.target.pressure()
    }

    /// Copies the object that was listed as `listed`. `known` is an object of the target that probably has its content,
    /// `before` the row of the version that the target had.
    ///
    /// # Errors
    /// What would fail for every other object too: the target takes none, is full or away, the source is away.
    pub(super) async fn copy(
        &self,
        key: &str,
        listed: &SourceVersion,
        known: Option<&Known>,
        before: Option<&Row>,
    ) -> Result<Copied, StoreError> {
        if let Err(error) = self.target.carries(key) {
            return Ok(Copied::Skipped(Skipped { name: key.to_owned(), why: error.to_string() }));
        }
        let mut wanted = Wanted { version: listed.clone(), id: None };
        let mut backoff = Backoff::of_one_object();
        for attempt in 1..=ATTEMPTS {
            let fault = match self.attempt(key, &wanted, known, before).await {
                Ok((row, how)) => return Ok(Copied::Done(row, how)),
                Err(fault) => fault,
            };
            let is_last = attempt == ATTEMPTS;
            match fault {
                Fault::Source(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Copied::Vanished),
                Fault::Target(StoreError::BadKey { why, .. }) => {
                    return Ok(Copied::Skipped(Skipped { name: key.to_owned(), why }));
                }
                // The requests were tried again already; a server that was restarted needs longer.
                Fault::Target(StoreError::Unavailable { .. }) if !is_last => {
                    backoff.wait().await;
                    continue;
                }
                Fault::Source(StoreError::Changed { .. } | StoreError::Unavailable { .. }) if !is_last => {}
                Fault::Source(StoreError::Changed { .. }) => break,
                Fault::Source(error) => return self.undelivered(key, error).await,
                Fault::Target(error) => return self.refused(error).await,
                Fault::Unconfirmed(why) | Fault::NotKept(why) => return Ok(Copied::Failed(why)),
                Fault::HeldBack => return Ok(Copied::HeldBack),
                Fault::Own(error) => return Err(error),
            }
            backoff.wait().await;
            self.limits.request().await;
            wanted = match self.source.head(key).await {
                Ok(head) => Wanted { version: head.version, id: head.id },
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Copied::Vanished),
                // The next attempt tells.
                Err(StoreError::Unavailable { .. }) => wanted,
                Err(error) => return self.undelivered(key, error).await,
            };
        }
        Ok(Copied::Failed(format!("it changed each of the {ATTEMPTS} times it was read")))
    }

    /// The source has not delivered an object: the others may be.
    async fn undelivered(&self, key: &str, error: StoreError) -> Result<Copied, StoreError> {
        match error {
            StoreError::NotFound { .. } => Err(error),
            StoreError::Unavailable { .. } => {
                self.limits.requests(OTHERS_REQUESTS).await;
                match self.source.fails_alone(key, &error).await {
                    true => Ok(Copied::Failed(alone(&error))),
                    false => Err(error),
                }
            }
            error => Ok(Copied::Failed(told(&error))),
        }
    }

    /// The target has not taken an object: it may take the others. Whether it does is asked each time it gave no answer, and for one of
    /// many refusals: where everything is refused the pass ends soon.
    async fn refused(&self, error: StoreError) -> Result<Copied, StoreError> {
        let is_asked = match error {
            StoreError::Withdrawn { .. } | StoreError::NoSpace { .. } => return Err(error),
            StoreError::NotFound { ref at } if at.key.is_none() => return Err(error),
            StoreError::Unavailable { .. } => true,
            _ => self.refusals.fetch_add(1, Ordering::Relaxed).is_multiple_of(ASKED_AFTER),
        };
        if is_asked {
            self.limits.requests(OTHERS_REQUESTS).await;
            match self.target.takes_others().await {
                Ok(()) => {}
                Err(
                    of_all @ (StoreError::Withdrawn { .. }
                    | StoreError::Denied { .. }
                    | StoreError::NoSpace { .. }
                    | StoreError::NotFound { .. }),
                ) => return Err(of_all),
                Err(_) => return Err(error),
            }
        }
        Ok(Copied::Failed(alone(&error)))
    }

    async fn attempt(
        &self,
        key: &str,
        wanted: &Wanted,
        known: Option<&Known>,
        before: Option<&Row>,
    ) -> Result<(Row, How), Fault> {
        let Some(known) = known else { return self.send(key, wanted, before, None).await };
        match self.reuse(key, wanted, known, before).await? {
            Reused::Done(row, how) => Ok((*row, how)),
            Reused::No => self.send(key, wanted, before, None).await,
            Reused::Refused(why) => self.send(key, wanted, before, Some(why)).await,
        }
    }

    /// Makes sure that what stands under `key` may be overwritten, and stays reachable when it is.
    async fn make_way(&self, key: &str, known: Option<&Known>, before: Option<&Row>) -> Result<(), Fault> {
        if before.is_some() && !self.breaker.may_overwrite() {
            return Err(Fault::HeldBack);
        }
        if self.is_fresh && before.is_none() {
            return Ok(());
        }
        let own = before.and_then(Known::of).or_else(|| known.filter(|known| known.key == key).cloned());
        let believed = own.as_ref().map(|own| (own.blake3, own.original()));
        let stood = self.rescue(key, believed).await?;
        let believed = stood.as_ref().map(|stood| stood.believed(key)).or(believed);
        match self.attic.keep(self.target, key, believed).await {
            Ok(Standing::Kept) if before.is_none() && !self.breaker.may_overwrite() => Err(Fault::HeldBack),
            Ok(Standing::Kept | Standing::Nothing) => Ok(()),
            // The attic is of the same server: it is away for every other object, too.
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Withdrawn { .. })) => Err(Fault::Target(error)),
            Err(error) => Err(Fault::NotKept(format!("what it would replace could not be kept: {}", told(&error)))),
        }
    }

    /// In the first pass of a direction: makes sure that what stands under `key` is in a point, or rescued.
    async fn rescue(&self, key: &str, believed: Option<(blake3::Hash, Original<'_>)>) -> Result<Option<Stood>, Fault> {
        let Some(rescue) = &self.rescue else { return Ok(None) };
        match rescue.before(key, believed).await {
            Ok(stood) => Ok(stood),
            Err(MirrorError::Store(error @ (StoreError::Unavailable { .. } | StoreError::Withdrawn { .. }))) => {
                Err(Fault::Target(error))
            }
            Err(MirrorError::Store(error)) => {
                Err(Fault::NotKept(format!("what only the other site has there could not be kept: {}", told(&error))))
            }
            Err(error) => {
                let at = Place::key(self.target.name(), key, "rescue what stands under");
                Err(Fault::Own(StoreError::Other { at, source: error.into() }))
            }
        }
    }

    /// Has the target make the object from `known`, if that has its content.
    async fn reuse(&self, key: &str, wanted: &Wanted, known: &Known, before: Option<&Row>) -> Result<Reused, Fault> {
        let (head, body) = self.open(key, wanted).await.map_err(Fault::Source)?;
        if head.version.size != known.size {
            return Ok(Reused::No);
        }
        let hashes = self.hash(body).await.map_err(Fault::Source)?;
        if hashes.blake3 != known.blake3 {
            return Ok(Reused::No);
        }
        let beside = Beside::of(self.source, key, &head, false).await.map_err(Fault::Source)?;
        self.limits.requests(REUSE_REQUESTS).await;
        let original = known.original();
        let made = match before {
            Some(row) if known.is_what(row) && row.beside == Some(beside.digest()) => {
                Ok((How::Had, row.target_etag.clone()))
            }
            // One that was gone and comes back is written anew though it may still be there: the keeper may be about to hide it.
            // In the first pass of a direction that cannot be, if the keeper goes by a point that names it.
            _ if known.key == key && (before.is_some() || self.stays(key)) => {
                let settled = beside.settle(self.target, self.attic, original).await;
                settled.map(|(adjusted, etag)| (if adjusted { How::Adjusted } else { How::Had }, etag))
            }
            _ => {
                // Onto itself it destroys nothing that stands there.
                if known.key != key || self.attic.has_older() {
                    self.make_way(key, Some(known), before).await?;
                }
                let copied = self.target.copy(original, key, &beside.attributes, &beside.tags).await;
                copied.map(|made| (How::Duplicated, made.version.etag))
            }
        };
        let made = match made {
            // The target has something else there by now; what it had may be in the attic.
            Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => {
                match self.take_from_attic(key, known, before, &beside).await? {
                    Some(made) => made.map(|made| (How::Duplicated, made.version.etag)),
                    None => return Ok(Reused::No),
                }
            }
            made => made,
        };
        match made {
            Ok((how, target_etag)) => {
                let row = row(key, wanted, head, hashes, &beside, target_etag);
                Ok(Reused::Done(Box::new(row), how))
            }
            Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => Ok(Reused::No),
            Err(error @ StoreError::Withdrawn { .. }) => Err(Fault::Target(error)),
            Err(error) => Ok(Reused::Refused(told(&error))),
        }
    }

    /// Has the target make the object from what the attic has of its content; `None` when it has it not.
    async fn take_from_attic(
        &self,
        key: &str,
        known: &Known,
        before: Option<&Row>,
        beside: &Beside,
    ) -> Result<Option<Result<Head, StoreError>>, Fault> {
        let found = self.attic.find(&known.blake3, known.size).await.map_err(Fault::Target)?;
        let (Some(place), Some((name, version))) = (self.attic.place(), found.into_iter().next()) else {
            return Ok(None);
        };
        self.make_way(key, Some(known), before).await?;
        let original = Original { key: &name, etag: version.etag.as_deref(), size: version.size };
        Ok(Some(self.target.copy_from(place, original, key, &beside.attributes, &beside.tags).await))
    }

    fn stays(&self, key: &str) -> bool {
        self.rescue.as_ref().is_some_and(|rescue| rescue.stays(key))
    }

    async fn send(
        &self,
        key: &str,
        wanted: &Wanted,
        before: Option<&Row>,
        refused: Option<String>,
    ) -> Result<(Row, How), Fault> {
        // Before the source is opened: copying a large object into the attic may take longer than a server waits for its reader.
        self.make_way(key, None, before).await?;
        let (head, body) = self.open(key, wanted).await.map_err(Fault::Source)?;
        let size = head.version.size;
        let beside = Beside::of(self.source, key, &head, false).await.map_err(Fault::Source)?;
        let (body, hasher) = self.hashed(body);
        let layout = self.source.layout(&head.version);
        self.limits.requests(1 + size / PART_BYTES).await;
        let written = self.target.write_in_parts(key, &beside.attributes, size, layout, body).await?;
        if written.was_looked_up {
            self.limits.request().await;
        }
        let hashes = hasher.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if written.size != size {
            let found = written.size;
            return Err(Fault::Unconfirmed(format!("{size} bytes were sent and the target says it has {found}")));
        }
        let mut row = row(key, wanted, head, hashes, &beside, written.etag);
        let mut sent = Sent { refused, unsettled: None };
        // The content is there and counts; that the tags are not is told, and the audit tries again.
        if !beside.tags.is_empty()
            && let Err(error) = self.target.write_tags(key, &beside.tags).await
        {
            row.beside = None;
            sent.unsettled = Some(told(&error));
        }
        Ok((row, How::Sent(sent)))
    }

    async fn open(&self, key: &str, wanted: &Wanted) -> Result<(Head, Body), StoreError> {
        self.limits.request().await;
        let Some(id) = &wanted.id else { return self.source.read(key, Some(&wanted.version)).await };
        match self.source.read_version(key, id).await {
            // That version was removed; the object may be there.
            Err(StoreError::NotFound { at }) if at.key.is_some() => Err(StoreError::Changed { at }),
            answer => answer,
        }
    }

    async fn hash(&self, mut body: Body) -> Result<Hashes, StoreError> {
        let mut hasher = Hasher::new(self.digest);
        while let Some(block) = body.next().await {
            let block = block?;
            self.meter.advance(block.len() as u64);
            self.limits.bytes(block.len() as u64).await;
            hasher.update(&block);
        }
        Ok(hasher.finish())
    }

    /// The same body, paid for, and what will be its hashes when it has passed.
    fn hashed(&self, body: Body) -> (Body, Arc<Mutex<Hasher>>) {
        let hasher = Arc::new(Mutex::new(Hasher::new(self.digest)));
        let (filling, meter, limits) = (Arc::clone(&hasher), Arc::clone(&self.meter), Arc::clone(&self.limits));
        let body = body.then(move |block| {
            if let Ok(block) = &block {
                filling.lock().unwrap_or_else(PoisonError::into_inner).update(block);
                meter.advance(block.len() as u64);
            }
            let limits = Arc::clone(&limits);
            async move {
                if let Ok(block) = &block {
                    limits.bytes(block.len() as u64).await;
                }
                block
            }
        });
        (body.boxed(), hasher)
    }
}

/// Whether the target made an object from one that it had.
enum Reused {
    Done(Box<Row>, How),
    /// It has not the content.
    No,
    /// It has the content and would not: why.
    Refused(String),
}

fn row(key: &str, wanted: &Wanted, head: Head, hashes: Hashes, beside: &Beside, target_etag: Option<String>) -> Row {
    // A HEAD tells the time in whole seconds and a listing in finer ones: of one version, keep what listings say.
    let same = head.version.etag == wanted.version.etag && head.version.size == wanted.version.size;
    let source = if same { wanted.version.clone() } else { head.version };
    let (Hashes { blake3, own: digest }, beside) = (hashes, Some(beside.digest()));
    Row { key: key.to_owned(), source, blake3, target_etag, beside, digest, racy: false }
}

/// What is said of an object that failed where others do not: an error of the whole store would be misread.
pub(super) fn alone(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { at, source } => {
            format!("cannot {at}, which answers otherwise: {source}")
        }
        error => told(error),
    }
}

/// An error with its causes in one line, for the list of what failed.
pub(crate) fn told(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
