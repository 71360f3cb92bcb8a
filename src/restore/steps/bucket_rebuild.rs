//! A bucket as a recovery point had it, rebuilt at the spare from what is there: its objects, their versions, the attic.
//!
//! Nothing is believed: every content is hashed on its way, and what is not the recorded one is not written. In place, what is
//! right stays; what is missing is brought; what is another, or too much, is replaced or taken away only when a person said so,
//! and goes into the attic first. The mirror of the live site is told, for its manifest is not true any more.

use futures_util::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;

use crate::error::{Class, Error, Explain};
use crate::mirror::attic::{Attic, Protection, only_if};
use crate::mirror::compare::{Side, Sides};
use crate::mirror::{PublishedRow, touched};
use crate::observe::{Meter, Progress};
use crate::store::{Body, Bucket, Head, Place, Removing, SourceVersion, StoreError, WriteError};

/// So many changes are announced, and then made, at once.
const BATCH: usize = 10_000;

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Objects that were there as the point has them.
    pub unchanged: u64,
    /// Objects that were brought.
    pub brought: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those, the ones that replaced another content, which is in the attic now.
    pub replaced: u64,
    /// Objects that the point does not have and that were taken away; they are in the attic.
    pub removed: u64,
    /// Objects that have another content and were left, because nobody said that they may be replaced.
    pub different: u64,
    /// Objects that the point does not have and that were left for the same reason.
    pub extra: u64,
    /// Objects of which no copy was found.
    pub lost: u64,
}

/// A rebuild that cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// What is replaced in place would be lost.
    #[error("{bucket} has no attic: what a restore in place replaces would be lost")]
    NoAttic {
        /// The bucket.
        bucket: String,
    },
}

impl Explain for RebuildError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn next_step(&self) -> Option<String> {
        Some(
            "Rebuild it beside: --into with another bucket or folder. Or name an attic for it in the configuration."
                .to_owned(),
        )
    }
}

/// Where from, and where to.
pub struct Rebuild<'a> {
    /// The spare bucket.
    pub spare: &'a Bucket,
    /// Its attic.
    pub attic: &'a Attic,
    /// Another bucket; the spare itself when absent.
    pub into: Option<&'a Bucket>,
    /// Whether what is another, or too much, goes.
    pub replace: bool,
    /// When it began.
    pub now: Timestamp,
}

/// What has to be done about one key.
enum Act {
    Bring(PublishedRow),
    Replace(PublishedRow),
    TakeAway(String),
}

impl Act {
    fn key(&self) -> &str {
        match self {
            Act::Bring(row) | Act::Replace(row) => &row.key,
            Act::TakeAway(key) => key,
        }
    }
}

impl Rebuild<'_> {
    /// Brings the bucket to what `recorded` says.
    ///
    /// # Errors
    /// When a store refuses, or the list cannot be read to its end; run again, it goes on. An object of which no copy is left is no
    /// error.
    pub async fn run<R>(&self, recorded: R, progress: &Progress) -> Result<Rebuilt, Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        if self.into.is_none() && self.replace {
            self.refuse_without_attic()?;
        }
        if let (Some(place), None) = (self.attic.place(), self.into) {
            // Those of a run that was killed: whatever it did, the mirror looks at those keys again.
            touched::end(place, &touched::unfinished(place).boxed().await?).boxed().await?;
        }
        let meter = progress.begin("rebuild", None);
        let mut rebuilt = Rebuilt::default();
        let mut sides = Sides::new(self.destination(), recorded);
        let mut acts = Vec::new();
        while let Some(side) = sides.next().await? {
            if let Some(act) = self.judge(side, &mut rebuilt, &*meter).await? {
                acts.push(act);
            }
            if acts.len() >= BATCH {
                self.act_all(std::mem::take(&mut acts), &mut rebuilt, &*meter).boxed().await?;
            }
        }
        self.act_all(acts, &mut rebuilt, &*meter).boxed().await?;
        meter.finish(&format!("{} brought, {} were there, {} lost", rebuilt.brought, rebuilt.unchanged, rebuilt.lost));
        Ok(rebuilt)
    }

    fn destination(&self) -> &Bucket {
        self.into.unwrap_or(self.spare)
    }

    fn refuse_without_attic(&self) -> Result<(), RebuildError> {
        let has_place = self.attic.place().is_some() && self.attic.protection() != Protection::Nothing;
        if has_place { Ok(()) } else { Err(RebuildError::NoAttic { bucket: self.spare.name().to_owned() }) }
    }

    async fn judge(&self, side: Side, rebuilt: &mut Rebuilt, meter: &dyn Meter) -> Result<Option<Act>, Error> {
        let may_replace = self.replace || self.into.is_some();
        Ok(match side {
            Side::Recorded(row) => Some(Act::Bring(row)),
            Side::Both(row, found) if self.holds(&row, &found, meter).await? => {
                rebuilt.unchanged += 1;
                None
            }
            Side::Both(row, _) if may_replace => Some(Act::Replace(row)),
            Side::Both(..) => {
                rebuilt.different += 1;
                None
            }
            Side::Listed(key, _) if self.replace && self.into.is_none() => Some(Act::TakeAway(key)),
            Side::Listed(..) => {
                rebuilt.extra += 1;
                None
            }
        })
    }

    /// Whether what stands in the destination is what the point has.
    async fn holds(&self, row: &PublishedRow, found: &SourceVersion, meter: &dyn Meter) -> Result<bool, Error> {
        if found.size != row.size {
            return Ok(false);
        }
        let (_, mut body) = match self.destination().read(&row.key, None).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(false),
            answer => answer?,
        };
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = body.next().await.transpose()? {
            meter.advance(block.len() as u64);
            hasher.update(&block);
        }
        Ok(hasher.finalize() == row.blake3)
    }

    async fn act_all(&self, acts: Vec<Act>, rebuilt: &mut Rebuilt, meter: &dyn Meter) -> Result<(), Error> {
        let place = self.attic.place().filter(|_| self.into.is_none() && !acts.is_empty());
        let records = match place {
            Some(place) => {
                let keys: Vec<String> = acts.iter().map(|act| act.key().to_owned()).collect();
                touched::begin(place, &keys, self.now).boxed().await?.0
            }
            None => Vec::new(),
        };
        for act in acts {
            self.act(act, rebuilt, meter).boxed().await?;
            crate::failpoint::hit("restore.object");
        }
        if let Some(place) = place {
            touched::end(place, &records).boxed().await?;
        }
        Ok(())
    }

    async fn act(&self, act: Act, rebuilt: &mut Rebuilt, meter: &dyn Meter) -> Result<(), Error> {
        let row = match act {
            Act::TakeAway(key) => {
                if let Some(seen) = self.attic.keep_surely(self.spare, &key).await? {
                    rebuilt.removed += u64::from(Removing::new(self.spare.clone()).remove(&key, &seen).await?);
                }
                return Ok(());
            }
            Act::Replace(row) => {
                if self.into.is_none() {
                    self.attic.keep_surely(self.spare, &row.key).await?;
                }
                rebuilt.replaced += 1;
                row
            }
            Act::Bring(row) => {
                if self.into.is_none() {
                    self.attic.keep_older(self.spare, &row.key, None).await?;
                }
                row
            }
        };
        if self.bring(&row, meter).await? {
            rebuilt.brought += 1;
            rebuilt.bytes += row.size;
        } else {
            rebuilt.lost += 1;
        }
        Ok(())
    }

    /// Brings one object from wherever its content is. Whether it was anywhere.
    async fn bring(&self, row: &PublishedRow, meter: &dyn Meter) -> Result<bool, Error> {
        if self.into.is_some()
            && self.copy_of(row, (self.spare, &row.key), self.spare.read(&row.key, None).await, meter).await?
        {
            return Ok(true);
        }
        if let (Some(place), Some((name, _))) = (self.attic.place(), self.attic.find(&row.blake3, row.size).await?)
            && self.copy_of(row, (place, &name), place.read(&name, None).await, meter).await?
        {
            return Ok(true);
        }
        let versions = match self.spare.versions_of(&row.key).await {
            // A right of its own; without it the versions are as if they were not there.
            Err(StoreError::Denied { .. }) => Vec::new(),
            answer => answer?,
        };
        for (id, _) in versions.into_iter().filter(|(_, size)| *size == row.size) {
            if self.copy_of(row, (self.spare, &row.key), self.spare.read_version(&row.key, &id).await, meter).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes what was `opened` in `from`, if it is what the point has. Nothing is written if not.
    async fn copy_of(
        &self,
        row: &PublishedRow,
        (from, key): (&Bucket, &str),
        opened: Result<(Head, Body), StoreError>,
        meter: &dyn Meter,
    ) -> Result<bool, Error> {
        let (head, body) = match opened {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(false),
            answer => answer?,
        };
        if head.version.size != row.size {
            return Ok(false);
        }
        let body = only_if(row.blake3, body, Place::key(from.name(), key, "read"));
        match self.destination().write(&row.key, &head.attributes, row.size, body).await {
            Ok(_) => {}
            Err(WriteError::Body(StoreError::Changed { .. })) => return Ok(false),
            Err(error) => return Err(error.any().into()),
        }
        meter.advance(row.size);
        if head.tags.is_some_and(|count| count > 0) {
            let tags = from.tags(key, head.id.as_deref()).await?;
            self.destination().write_tags(&row.key, &tags).await?;
        }
        Ok(true)
    }
}
