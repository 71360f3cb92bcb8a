//! A bucket as a recovery point had it, rebuilt at the spare from what is there: its objects, their versions, the attic.
//!
//! Nothing is believed: every content is hashed on its way, and what is not the recorded one is not written. In place, what is
//! right stays; what is missing is brought; what is another, or too much, is replaced or taken away only when a person said so,
//! and goes into the attic first. The mirror of the live site is told, for its manifest is not true any more.

use futures_util::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;

use super::bucket_bring::{Bringing, Brought};
use crate::error::{Class, Error, Explain};
use crate::mirror::attic::{Attic, Protection};
use crate::mirror::compare::{Side, Sides};
use crate::mirror::{Kept, PublishedRow, Then, Trying, told, touched};
use crate::observe::{Meter, Progress};
use crate::store::{Bucket, Head, Removing, SourceVersion, StoreError, WriteError};
use crate::units::Bytes;

/// So many changes are announced, and then made, at once.
const BATCH: usize = 10_000;
/// Troubles named in words; what is not there as it should be is named by the proof besides.
const NAMED_MAX: usize = 20;

/// Something about one object that a person has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its key.
    pub key: String,
    /// What, and why.
    pub what: String,
}

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Objects that were there as the point has them.
    pub unchanged: u64,
    /// Objects that were brought.
    pub brought: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those, the ones that replaced another content, which is in the attic now unless it could not be read.
    pub replaced: u64,
    /// Objects that the point does not have and that were taken away; they are in the attic.
    pub removed: u64,
    /// Objects that have another content, or cannot be read, and were left: because nobody said that they may be replaced, or what
    /// stands there could not be kept.
    pub different: u64,
    /// Objects that the point does not have and that were left for the same reasons.
    pub extra: u64,
    /// Objects of which no copy was found that can be read.
    pub lost: u64,
    /// Objects that the destination cannot carry.
    pub not_carried: u64,
    /// What is wrong with single objects, by name.
    pub troubles: Kept<Trouble>,
}

impl Rebuilt {
    /// In words and counts, with the first troubles by name.
    pub fn words(&self) -> String {
        let mut words =
            format!("{} objects brought ({}), {} were there", self.brought, Bytes(self.bytes), self.unchanged);
        let mut tell = |count: u64, what: &str| {
            if count > 0 {
                words += &format!("; {count} {what}");
            }
        };
        tell(self.replaced, "replaced others, which are in the attic unless it says otherwise here");
        tell(self.removed, "that the point does not have were taken away into the attic");
        tell(self.different, "ARE OTHERS and were left: --replace puts them into the attic");
        tell(self.extra, "that the point does not have were left");
        tell(self.lost, "ARE LOST: no copy of their content is left here that can be read");
        tell(self.not_carried, "CANNOT BE STORED there: that place takes no such keys");
        for Trouble { key, what } in self.troubles.first.iter().take(NAMED_MAX) {
            words += &format!("; {key:?}: {what}");
        }
        let unnamed = self.troubles.total.saturating_sub(NAMED_MAX as u64);
        if unnamed > 0 {
            words += &format!("; and {unnamed} more of these");
        }
        words
    }

    fn tell(&mut self, key: &str, what: String) {
        self.troubles.push(Trouble { key: key.to_owned(), what });
    }
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
        let (row, found) = match side {
            Side::Recorded(row) => return Ok(Some(Act::Bring(row))),
            Side::Both(row, found) => (row, found),
            Side::Listed(key, _) if self.replace && self.into.is_none() => return Ok(Some(Act::TakeAway(key))),
            Side::Listed(..) => {
                rebuilt.extra += 1;
                return Ok(None);
            }
        };
        let held = self.holds(&row, &found, meter).await?;
        Ok(match held {
            Holds::Yes => {
                rebuilt.unchanged += 1;
                None
            }
            Holds::No | Holds::Unreadable(_) if may_replace => Some(Act::Replace(row)),
            Holds::No => {
                rebuilt.different += 1;
                None
            }
            Holds::Unreadable(why) => {
                rebuilt.different += 1;
                rebuilt.tell(&row.key, format!("what stands there cannot be read, and was left: {why}"));
                None
            }
        })
    }

    /// Whether what stands in the destination is what the point has.
    async fn holds(&self, row: &PublishedRow, found: &SourceVersion, meter: &dyn Meter) -> Result<Holds, StoreError> {
        if found.size != row.size {
            return Ok(Holds::No);
        }
        let mut trying = Trying::of(self.destination());
        loop {
            match self.hash(row, meter).await {
                Ok(blake3) if blake3 == row.blake3 => return Ok(Holds::Yes),
                Ok(_) => return Ok(Holds::No),
                Err(error) => match trying.after(WriteError::Body(error)).await? {
                    Then::Again => {}
                    Then::Leave(Some(why)) => return Ok(Holds::Unreadable(why)),
                    Then::Leave(None) => return Ok(Holds::No),
                },
            }
        }
    }

    async fn hash(&self, row: &PublishedRow, meter: &dyn Meter) -> Result<blake3::Hash, StoreError> {
        let (_, mut body) = self.destination().read(&row.key, None).await?;
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = body.next().await.transpose()? {
            meter.advance(block.len() as u64);
            hasher.update(&block);
        }
        Ok(hasher.finalize())
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
        let is_replaced = matches!(act, Act::Replace(_));
        let row = match act {
            Act::TakeAway(key) => return self.take_away(&key, rebuilt).await,
            Act::Replace(row) if self.into.is_none() => match self.keep(&row.key).await? {
                Stands::Kept(_) => row,
                Stands::Unreadable(why) => {
                    rebuilt
                        .tell(&row.key, format!("what stands there is not in the attic, for it cannot be read: {why}"));
                    row
                }
                Stands::NotKept(why) => {
                    rebuilt.different += 1;
                    rebuilt.tell(&row.key, format!("what stands there was left, for it could not be kept: {why}"));
                    return Ok(());
                }
            },
            Act::Replace(row) => row,
            Act::Bring(row) => {
                if let Some(why) = self.keep_older(&row.key).await? {
                    rebuilt.lost += 1;
                    rebuilt.tell(
                        &row.key,
                        format!("it was not brought, for what it would destroy could not be kept: {why}"),
                    );
                    return Ok(());
                }
                row
            }
        };
        let bringing = Bringing { spare: self.spare, attic: self.attic, into: self.into, meter };
        match bringing.bring(&row).await? {
            Brought::Done(untagged) => {
                rebuilt.brought += 1;
                rebuilt.bytes += row.size;
                rebuilt.replaced += u64::from(is_replaced);
                if let Some(why) = untagged {
                    rebuilt.tell(&row.key, format!("it was brought without its tags: {why}"));
                }
            }
            Brought::NotCarried(why) => {
                rebuilt.not_carried += 1;
                rebuilt.tell(&row.key, format!("it cannot be stored there: {why}"));
            }
            Brought::Lost(unread) => {
                rebuilt.lost += 1;
                let what = match unread.as_slice() {
                    [] => "it is lost: no copy is left here".to_owned(),
                    unread => format!("it is lost: no copy here can be read ({})", unread.join("; ")),
                };
                rebuilt.tell(&row.key, what);
            }
        }
        Ok(())
    }

    async fn take_away(&self, key: &str, rebuilt: &mut Rebuilt) -> Result<(), Error> {
        match self.keep(key).await? {
            Stands::Kept(None) => {}
            Stands::Kept(Some(seen)) => {
                rebuilt.removed += u64::from(Removing::new(self.spare.clone()).remove(key, &seen).await?);
            }
            Stands::Unreadable(why) | Stands::NotKept(why) => {
                rebuilt.extra += 1;
                rebuilt.tell(key, format!("the point does not have it; it was left, for it could not be kept: {why}"));
            }
        }
        Ok(())
    }

    /// Whose an error is that came of keeping something: what the attic refuses it refuses of every object.
    fn fault(&self, error: StoreError) -> WriteError {
        let is_attics = self.attic.place().is_some_and(|place| place.name() == error.place().store);
        if is_attics && !error.is_of_object() { WriteError::Store(error) } else { WriteError::Body(error) }
    }

    /// Keeps what a write under `key` of the spare would destroy although nothing stands there; why it could not.
    async fn keep_older(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut trying = Trying::of(self.spare);
        while self.into.is_none()
            && let Err(error) = self.attic.keep_older(self.spare, key, None).await
        {
            if let Then::Leave(why) = trying.after(self.fault(error)).await? {
                return Ok(Some(why.unwrap_or_else(|| "it went away meanwhile".to_owned())));
            }
        }
        Ok(None)
    }

    /// Keeps what stands under `key` of the spare, in the attic or as a version.
    async fn keep(&self, key: &str) -> Result<Stands, StoreError> {
        let mut trying = Trying::of(self.spare);
        loop {
            let error = match self.attic.keep_surely(self.spare, key).await {
                Ok(seen) => return Ok(Stands::Kept(seen.map(Box::new))),
                Err(error) => error,
            };
            // On a bad spot of its disk: nobody can keep it, and what is put over it is proven.
            let is_damage = matches!(error, StoreError::Other { .. }) && error.is_of_object();
            if is_damage && error.place().store == self.spare.name() {
                return Ok(Stands::Unreadable(told(&error)));
            }
            if let Then::Leave(why) = trying.after(self.fault(error)).await? {
                return Ok(Stands::NotKept(why.unwrap_or_else(|| "it went away meanwhile".to_owned())));
            }
        }
    }
}

/// Whether something is what the point has.
enum Holds {
    Yes,
    No,
    /// Why.
    Unreadable(String),
}

/// What became of what stands under a key, before it is written over or taken away.
enum Stands {
    /// It is kept; nothing stood there when absent.
    Kept(Option<Box<Head>>),
    /// It can be read by nobody: why.
    Unreadable(String),
    /// Why.
    NotKept(String),
}
