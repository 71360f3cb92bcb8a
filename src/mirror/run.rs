//! One pass under way: each entry of the listing meets its row and becomes an outcome, many at a time, in their order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use super::attic::hash_patiently;
use super::audit::Audit;
use super::beside::Beside;
use super::contents::{self, Contents, Known};
use super::copy::{Copied, Copier, How, alone, told};
use super::diff::{self, Change, Join, Met};
use super::direction::{Expected, Reference};
use super::list::{Part, Unlisted};
use super::manifest::{Line, ManifestError, Row, Stretch};
use super::touched::Touched;
use super::width::Width;
use super::{FailedObject, MirrorError};
use crate::store::{Found, Original, Skipped, SourceVersion, StoreError};

/// How far the listing may run ahead of the oldest copy under way, for each copy that may run at a time: one
/// large object must not hold up the small ones after it.
const AHEAD: usize = 32;

/// What became of one entry of the listing.
pub(super) enum Outcome {
    Skipped(Skipped),
    /// Objects side by side that are as they were.
    Standing(Stretch),
    /// What could not be listed.
    Unlisted(Unlisted),
    /// A row in it: it stays, whatever became of its object.
    Unseen(Row),
    Unchanged(Row),
    /// Of one that the listing shows unchanged: the row, and what looking beside it came to.
    Audited(Row, Audited),
    Copied(Box<OneCopy>),
    /// The source has it no more.
    Gone(Row),
    /// The source has it, though its listing does not show it, or something else has its place: why it stays.
    LeftOut(Row, String),
    /// The same, of one that others have changed at the target: it was copied again.
    Recopied(Box<OneCopy>),
    /// Of one that others have changed at the target, and that could not be copied again: its row is not believed.
    Doubted(FailedObject),
}

/// What came of copying one object.
pub(super) struct OneCopy {
    pub(super) key: String,
    pub(super) copied: Copied,
    /// The row of the version that the target had before, if any.
    pub(super) before: Option<Row>,
}

/// What looking at the headers and tags of an unchanged object came to.
pub(super) enum Audited {
    /// They are as recorded, or the target has them.
    Settled,
    /// They had changed unseen; the target has the new ones.
    Adjusted,
    /// They could not be looked at, or not be brought to the target.
    Unsettled(String),
}

/// Of what the keeper or a restore is at.
const BUSY: &str = "at the spare it is being hidden or restored, or was until that was killed";

fn doubted(row: Row, why: &str) -> Outcome {
    Outcome::Doubted(FailedObject { key: row.key, why: why.to_owned() })
}

fn replaced(what: &str) -> String {
    format!("nobody has deleted it, and it is no object any more: {what}")
}

pub(super) struct Run<'a> {
    pub(super) copier: Copier<'a>,
    pub(super) contents: Contents,
    pub(super) copying: Width,
    pub(super) started: Timestamp,
    /// Whether this pass was told that it may not look at tags: then it stops asking.
    pub(super) may_not_look: AtomicBool,
    /// Whether the target holds objects and no manifest says what they are.
    pub(super) is_lost: bool,
    /// What others have changed at the target.
    pub(super) touched: Touched,
    /// How many rows were not listed where they should be, so far.
    pub(super) missing: AtomicU64,
}

impl Run<'_> {
    /// One outcome per entry of the listing, in its order, however long each takes.
    pub(super) fn outcomes<'a>(
        &'a self,
        listing: BoxStream<'a, Result<Part, MirrorError>>,
        join: &'a mut Join,
        audit: &'a mut Audit,
        reference: &'a mut Option<Reference>,
        concurrency: usize,
    ) -> impl Stream<Item = Result<Outcome, MirrorError>> + Send + 'a {
        // In the first pass of a direction each is looked at on its own.
        let rule = self.copier.digest;
        let is_misnamed = move |key: &str, line: &Line| {
            rule.zip(line.digest_hex()).is_some_and(|(rule, hex)| rule.is_misnamed(key, hex))
        };
        let is_wanted = move |key: &str, line: &Line| {
            audit.takes(key) || self.touched.has(key) || self.copier.rescue.is_some() || is_misnamed(key, line)
        };
        let met = diff::joined(listing, join, self.copier.source.name(), is_wanted);
        met.map(move |met| self.meet(reference, met)).buffered(concurrency.saturating_mul(AHEAD))
    }

    fn meet<'a>(
        &'a self,
        reference: &mut Option<Reference>,
        met: Result<Met, MirrorError>,
    ) -> BoxFuture<'a, Result<Outcome, MirrorError>> {
        let ready = |outcome| std::future::ready(outcome).boxed();
        let (key, version, change) = match met {
            Ok(Met::Standing(stretch)) => return ready(Ok(Outcome::Standing(stretch))),
            Ok(Met::Object { key, version, change }) => (key, version, change),
            Ok(Met::Skipped(skipped)) => return ready(Ok(Outcome::Skipped(skipped))),
            Ok(Met::Unlisted(hole)) => return ready(Ok(Outcome::Unlisted(hole))),
            Ok(Met::Unseen(row)) => return ready(Ok(self.unseen(row))),
            Ok(Met::Gone(row)) => return self.gone(row).boxed(),
            Err(error) => return ready(Err(error)),
        };
        if self.touched.busy.contains(&key) {
            let copied = Copied::Failed(BUSY.to_owned());
            return ready(Ok(Outcome::Copied(Box::new(OneCopy { key, copied, before: None }))));
        }
        let expected = match self.known_of(&key, reference) {
            Ok(expected) => expected,
            Err(error) => return ready(Err(error.into())),
        };
        let outcome = match change {
            // What the row says of the target is not so any more.
            _ if self.touched.again.contains(&key) || self.goes(&key) => self.copy(key, version, None).boxed(),
            Change::Same(line) => match line.row() {
                Ok(row) if self.was_looked_at(&row) => ready(Ok(Outcome::Unchanged(row))),
                Ok(row) => self.audit(row).boxed(),
                Err(error) => ready(Err(error.into())),
            },
            Change::New => self.copy(key, version, None).boxed(),
            Change::Changed(row) => self.copy(key, version, Some(row)).boxed(),
        };
        match expected {
            None => outcome,
            Some(expected) => outcome.inspect(move |_| drop(expected)).boxed(),
        }
    }

    /// In the first pass of a direction: what is known of `key` from before.
    fn known_of(&self, key: &str, reference: &mut Option<Reference>) -> Result<Option<Expected<'_>>, ManifestError> {
        let (Some(rescue), Some(reference)) = (&self.copier.rescue, reference) else { return Ok(None) };
        Ok(Some(rescue.looks_at(key, reference.at(key)?)))
    }

    /// In the first pass of a direction: whether the keeper may be about to hide what stands at the target.
    fn goes(&self, key: &str) -> bool {
        self.copier.rescue.as_ref().is_some_and(|rescue| rescue.goes(key))
    }

    /// In the first pass of a direction: whether what stands beside the object at the target was looked at before it was killed.
    fn was_looked_at(&self, row: &Row) -> bool {
        self.copier.rescue.is_some() && row.beside.is_some()
    }

    /// Asks the source for an object that its listing does not show, unless too many are missing for any of it to be believed.
    async fn gone(&self, row: Row) -> Result<Outcome, MirrorError> {
        if self.copier.breaker.is_beyond(self.missing.fetch_add(1, Ordering::Relaxed)) {
            return Ok(Outcome::Gone(row));
        }
        let looking = self.copying.enter(0).await;
        self.copier.limits.request().await;
        let found = self.copier.source.find(&row.key).await;
        drop(looking);
        let found = match found {
            Err(error) if self.copier.source.fails_alone(&row.key, &error).await => {
                let why = format!("the listing leaves it out, and whether it is there nobody says: {}", alone(&error));
                return Ok(match self.touched.has(&row.key) {
                    true => doubted(row, &why),
                    false => Outcome::LeftOut(row, why),
                });
            }
            found => found?,
        };
        match found {
            Found::Nothing => Ok(Outcome::Gone(row)),
            Found::Other(what) if self.touched.has(&row.key) => Ok(doubted(row, &replaced(what))),
            Found::Other(what) => Ok(Outcome::LeftOut(row, replaced(what))),
            Found::Object(_) if self.touched.busy.contains(&row.key) => Ok(doubted(row, BUSY)),
            Found::Object(found) if self.touched.again.contains(&row.key) => {
                let Row { key, source: known, .. } = row;
                // A listing tells times more finely than a HEAD.
                let is_known = (&known.etag, known.size) == (&found.etag, found.size);
                let version = if is_known { known } else { found };
                self.copy_one(key, version, None).await.map(Outcome::Recopied)
            }
            Found::Object(_) => {
                let why = "the listing leaves it out, and it is there when it is asked for".to_owned();
                Ok(Outcome::LeftOut(row, why))
            }
        }
    }

    /// A row where the listing has a hole. What others have changed at the target since it was written is not what it says.
    fn unseen(&self, row: Row) -> Outcome {
        match self.touched.has(&row.key) {
            true => {
                doubted(row, "at the spare it was hidden or restored, and whether it is still here could not be listed")
            }
            false => Outcome::Unseen(row),
        }
    }

    /// What came of an object that was not there to be read.
    async fn vanished(&self, key: &str) -> Result<Copied, StoreError> {
        self.copier.limits.request().await;
        Ok(match self.copier.source.find(key).await? {
            Found::Other(what) => Copied::Failed(replaced(what)),
            // One that is there again the next pass copies.
            Found::Nothing | Found::Object(_) => Copied::Vanished,
        })
    }

    async fn copy(&self, key: String, listed: SourceVersion, before: Option<Row>) -> Result<Outcome, MirrorError> {
        self.copy_one(key, listed, before).await.map(Outcome::Copied)
    }

    async fn copy_one(
        &self,
        key: String,
        listed: SourceVersion,
        before: Option<Row>,
    ) -> Result<Box<OneCopy>, MirrorError> {
        let fingerprint = contents::fingerprint(self.copier.source, &listed);
        // Before the permit: who waits for another's copy must not keep it from running.
        let turn = match fingerprint {
            Some(fingerprint) => Some((fingerprint, self.contents.turn(fingerprint).await)),
            None => None,
        };
        let copying = self.copying.enter(listed.size).await;
        let mut copied = self.copy_now(&key, &listed, fingerprint, before.as_ref()).await;
        if matches!(copied, Ok(Copied::Vanished)) {
            copied = self.vanished(&key).await.map_err(Into::into);
        }
        drop(copying);
        self.copying.adjust(self.copier.pressure());
        if let Some((fingerprint, turn)) = turn {
            self.contents.end(fingerprint, turn);
        }
        Ok(Box::new(OneCopy { key, copied: copied?, before }))
    }

    async fn copy_now(
        &self,
        key: &str,
        listed: &SourceVersion,
        fingerprint: Option<u64>,
        before: Option<&Row>,
    ) -> Result<Copied, MirrorError> {
        let mut known = self.own_content(listed, before);
        if known.is_none() && self.is_lost {
            known = self.standing(key, listed).await?;
        }
        if let (None, Some(fingerprint)) = (&known, fingerprint) {
            known = self.contents.find(fingerprint)?;
        }
        let mut copied = self.copier.copy(key, listed, known.as_ref(), before).await?;
        if let Copied::Done(row, how) = &mut copied {
            row.racy = self.copier.source.is_racy(&row.source, self.started);
            let fingerprint = contents::fingerprint(self.copier.source, &row.source);
            if let (Some(fingerprint), Some(known), false) = (fingerprint, Known::of(row), *how == How::Had) {
                self.contents.add(fingerprint, known)?;
            }
        }
        Ok(copied)
    }

    /// What stands at the target under the object's own key, hashed there: when the manifest is lost it is made anew so. What cannot be
    /// read is not known: whoever would overwrite it has to keep it first, and cannot.
    async fn standing(&self, key: &str, listed: &SourceVersion) -> Result<Option<Known>, StoreError> {
        let target = self.copier.target;
        let hashed = async {
            let head = target.head(key).await?;
            let (Some(target_etag), true) = (head.version.etag.clone(), head.version.size == listed.size) else {
                return Ok(None);
            };
            let blake3 = hash_patiently(target, key, &head.version).await?;
            Ok(Some(Known { key: key.to_owned(), blake3, size: listed.size, target_etag }))
        };
        match hashed.await {
            Err(error) if target.fails_alone(key, &error).await => Ok(None),
            known => known,
        }
    }

    /// What the target has under the object's own key, if that is probably still its content: only what stands beside it
    /// has changed, or it was written so late before the last pass that a change after it would not show, or its digest is not
    /// known yet.
    fn own_content(&self, listed: &SourceVersion, before: Option<&Row>) -> Option<Known> {
        let likeness = |version| self.copier.source.likeness(version);
        let row = before.filter(|row| row.source.size == listed.size)?;
        let is_like = || likeness(listed).is_some_and(|listed| Some(listed) == likeness(&row.source));
        (row.source == *listed || is_like()).then(|| Known::of(row)).flatten()
    }

    /// Looks at what stands beside an object that the listing shows unchanged.
    async fn audit(&self, row: Row) -> Result<Outcome, MirrorError> {
        if self.may_not_look.load(Ordering::Relaxed) {
            return Ok(Outcome::Unchanged(row));
        }
        let copying = self.copying.enter(0).await;
        let beside = match self.beside_of(&row).await {
            Ok(Some(beside)) => beside,
            // It changes just now, or it is gone: the next pass sees it.
            Ok(None) => return Ok(Outcome::Unchanged(row)),
            Err(error) => {
                let first =
                    matches!(error, StoreError::Denied { .. }) && !self.may_not_look.swap(true, Ordering::Relaxed);
                let is_told = first || !matches!(error, StoreError::Denied { .. });
                let why = told(&error);
                return Ok(if is_told {
                    Outcome::Audited(row, Audited::Unsettled(why))
                } else {
                    Outcome::Unchanged(row)
                });
            }
        };
        let digest = Some(beside.digest());
        if digest == row.beside {
            return Ok(Outcome::Audited(row, Audited::Settled));
        }
        let at = Original { key: &row.key, etag: row.target_etag.as_deref(), size: row.source.size };
        match beside.settle(self.copier.target, self.copier.attic, at).await {
            Ok((adjusted, target_etag)) => {
                let audited = if adjusted { Audited::Adjusted } else { Audited::Settled };
                Ok(Outcome::Audited(Row { beside: digest, target_etag, ..row }, audited))
            }
            Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => {
                // The target has another object there, or none: that is more than headers.
                drop(copying);
                self.copy(row.key.clone(), row.source.clone(), None).await
            }
            Err(error) => Ok(Outcome::Audited(row, Audited::Unsettled(told(&error)))),
        }
    }

    /// What the source has beside the object of `row`; `None` when it is no longer that object.
    async fn beside_of(&self, row: &Row) -> Result<Option<Beside>, StoreError> {
        let source = self.copier.source;
        let head = match source.head(&row.key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(None),
            answer => answer?,
        };
        if head.version.etag != row.source.etag || head.version.size != row.source.size {
            return Ok(None);
        }
        match Beside::of(source, &row.key, &head, true).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(None),
            answer => answer.map(Some),
        }
    }
}
