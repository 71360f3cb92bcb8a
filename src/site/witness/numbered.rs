//! A witness of numbered objects: each write creates the next, and the highest is the record.
//!
//! It needs of a store only that a create leaves alone what is there, which every store above Garage keeps, whatever it says
//! to the loser. What a write replaces is said by its number: revision n is replaced by creating n + 1. The names count down, so
//! that a listing shows the newest first, and its first page is enough: `lease/9999999998.json` is revision 1.
//!
//! A process that slept may create a number that was pruned meanwhile. So a create is sent only while what it replaces is the
//! highest, and believed only after another listing shows it to be the highest itself; old records stay for a day; and the highest never goes (`lease::prunable`). A listing that shows
//! less than this process has seen is refused: the store was put back, or lists late. So is another record under the number that
//! was seen last: the store was put back, and somebody has built upon that since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Outcome, Record, Witness, WitnessError};
use crate::failpoint;
use crate::site::lease::{Revision, prunable};
use crate::store::{Create, Created, Delete, ListedKey, Read, StoreError};

const FOLDER: &str = "lease/";
/// The name of revision 0, which does not exist. A write every second fills what is below it in three centuries.
const FIRST: u64 = 9_999_999_999;
/// Many times what a record takes.
const RECORD_BYTES_MAX: u64 = 64 << 10;
/// For how many names the newest record is looked for: others may have left some there, too.
const NEWEST: u16 = 16;
/// How often a record is looked for that was pruned between the listing and the read.
const READS: usize = 3;

/// Between whom such a witness can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Between processes of one machine: a folder. For trials and demonstrations; it dies with that machine.
    OneMachine,
    /// Between machines.
    Everywhere,
}

/// A witness in a place of our own keys.
pub struct Numbered<K> {
    name: String,
    keys: K,
    reach: Reach,
    /// The highest revision this process has read or written.
    known: AtomicU64,
    /// The record it has read or written last.
    seen: Mutex<Option<(Revision, Box<Record>)>>,
}

impl<K: Create + Read> Numbered<K> {
    /// The witness in `keys`, which a person knows as `name`. Nothing is asked yet.
    pub fn new(name: &str, keys: K, reach: Reach) -> Self {
        Numbered { name: name.to_owned(), keys, reach, known: AtomicU64::new(0), seen: Mutex::new(None) }
    }

    /// Between whom it can decide.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Records there are, newest first, at most `count`: what happened, as far as it has not been pruned.
    ///
    /// # Errors
    /// As [`Witness::read`].
    pub async fn history(&self, count: usize) -> Result<Vec<(Revision, Record)>, WitnessError> {
        let mut records = Vec::new();
        for (revision, listed) in self.listed().await?.into_iter().take(count) {
            match self.get(&listed.key).await {
                Ok(record) => records.push((revision, record)),
                Err(WitnessError::Store(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Deletes records that have not been the record for a day, by the store's clock: how many.
    ///
    /// # Errors
    /// What the store answers; what was deleted until then is gone.
    pub async fn prune(&self, delete: &impl Delete) -> Result<usize, WitnessError> {
        let listed = self.listed().await?;
        // The newest is renewed all the time: against it the store's own clock tells how old the others are.
        let Some(newest) = listed.iter().map(|(_, listed)| listed.modified).max() else { return Ok(0) };
        let age = |listed: &ListedKey| Duration::try_from(newest.duration_since(listed.modified)).unwrap_or_default();
        let ages: Vec<_> = listed.iter().map(|(revision, listed)| (*revision, age(listed))).collect();
        let gone = prunable(&ages);
        for revision in &gone {
            delete.delete(&key(*revision)).await?;
            failpoint::hit("witness.prune");
        }
        Ok(gone.len())
    }

    /// The records, highest revision first. What has another name is none.
    async fn listed(&self) -> Result<Vec<(Revision, ListedKey)>, StoreError> {
        let mut records: Vec<_> = self.keys.list(FOLDER).await?.into_iter().filter_map(record).collect();
        records.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
        Ok(records)
    }

    /// The first of them. A day of records is kept, tens of thousands: it must not take longer with each.
    async fn newest(&self) -> Result<Option<(Revision, ListedKey)>, StoreError> {
        let page = self.keys.first(FOLDER, NEWEST).await?;
        let is_empty = page.is_empty();
        match page.into_iter().find_map(record) {
            None if !is_empty => Ok(self.listed().await?.into_iter().next()),
            newest => Ok(newest),
        }
    }

    /// The highest, unless it is lower than what was there before the store was asked.
    async fn highest(&self) -> Result<Option<(Revision, ListedKey)>, WitnessError> {
        let known = self.known.load(Ordering::Acquire);
        let highest = self.newest().await?;
        let shown = highest.as_ref().map_or(0, |(revision, _)| revision.0);
        self.known.fetch_max(shown, Ordering::AcqRel);
        if shown >= known {
            return Ok(highest);
        }
        Err(self.went_back(highest.map(|(revision, _)| revision), Revision(known)))
    }

    fn went_back(&self, shown: Option<Revision>, read: Revision) -> WitnessError {
        let shown = shown.map_or("no record".to_owned(), |shown| format!("revision {shown}"));
        WitnessError::WentBack { store: self.name.clone(), shown, read }
    }

    fn note(&self, revision: Revision, record: &Record) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, Box::new(record.clone())));
    }

    /// What this process has seen as `revision`, if that was the last.
    fn seen_as(&self, revision: Revision) -> Option<Box<Record>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|(seen, _)| *seen == revision).map(|(_, record)| record.clone())
    }

    /// Refuses a record that is not the one which `seen` was under the same number.
    fn same(&self, revision: Revision, seen: Option<&Record>, there: &Record) -> Result<(), WitnessError> {
        if seen.is_none_or(|seen| seen == there) {
            return Ok(());
        }
        let shown = format!("another record as revision {revision}");
        Err(WitnessError::WentBack { store: self.name.clone(), shown, read: revision })
    }

    async fn get(&self, key: &str) -> Result<Record, WitnessError> {
        let json = self.keys.get_limited(key, RECORD_BYTES_MAX).await?;
        Record::parse(&self.name, key, &json)
    }

    async fn try_replace(&self, expected: Option<Revision>, record: &Record) -> Result<Outcome, WitnessError> {
        let revision = Revision(expected.map_or(0, |expected| expected.0) + 1);
        // A create alone would leave a gap where the store was put back, and nobody would notice.
        let there = self.highest().await?.map(|(highest, _)| highest);
        if there != expected {
            return Ok(Outcome::Lost);
        }
        // The number alone would do, if nobody ever put a store back.
        if let Some((replaced, seen)) = expected.and_then(|expected| Some((expected, self.seen_as(expected)?))) {
            self.same(replaced, Some(&seen), &self.get(&key(replaced)).await?)?;
        }
        let key = key(revision);
        let json = record.to_json().map_err(|error| WitnessError::NoRecord {
            store: self.name.clone(),
            key: key.clone(),
            what: error.to_string(),
        })?;
        match self.keys.create(&key, Bytes::from(json)).await {
            Ok(Created::Taken) => return Ok(Outcome::Lost),
            Ok(Created::New) => failpoint::hit("witness.replace"),
            // It is not sent again; but whose bytes are there may be known by now.
            Err(error @ StoreError::Unavailable { .. }) => match self.get(&key).await {
                Ok(there) if there == *record => {}
                Ok(_) => return Ok(Outcome::Lost),
                Err(_) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        let highest = self.highest().await?.map(|(highest, _)| highest);
        match highest {
            Some(highest) if highest == revision => {
                self.note(revision, record);
                Ok(Outcome::Won(revision))
            }
            // Its place had been pruned, or somebody has built upon it already: the record tells.
            Some(highest) if highest > revision => Ok(Outcome::Lost),
            shown => Err(self.went_back(shown, revision)),
        }
    }
}

impl<K: Create + Read> Witness for Numbered<K> {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        let mut reads = 1;
        loop {
            let Some((revision, listed)) = self.highest().await? else { return Ok(None) };
            let seen = self.seen_as(revision);
            match self.get(&listed.key).await {
                Err(WitnessError::Store(error)) if error.is_not_found() && reads < READS => reads += 1,
                Err(error) => return Err(error),
                Ok(record) => {
                    self.same(revision, seen.as_deref(), &record)?;
                    self.note(revision, &record);
                    return Ok(Some((revision, record)));
                }
            }
        }
    }

    async fn replace(&self, expected: Option<Revision>, record: &Record) -> Outcome {
        self.try_replace(expected, record).await.unwrap_or_else(Outcome::Unknown)
    }
}

/// Where a revision lies.
fn key(revision: Revision) -> String {
    format!("{FOLDER}{:010}.json", FIRST.saturating_sub(revision.0))
}

fn record(listed: ListedKey) -> Option<(Revision, ListedKey)> {
    Some((revision(&listed.key)?, listed))
}

fn revision(key_listed: &str) -> Option<Revision> {
    let number = key_listed.strip_prefix(FOLDER)?.strip_suffix(".json")?.parse().ok()?;
    let revision = Revision(FIRST.checked_sub(number)?);
    // Only in the one form that is written.
    (key(revision) == key_listed && revision.0 > 0).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_listed_first() {
        assert_eq!(key(Revision(1)), "lease/9999999998.json");
        assert!(key(Revision(2)) < key(Revision(1)));
        assert_eq!(revision("lease/9999999998.json"), Some(Revision(1)));
        for other in ["lease/9999999999.json", "lease/1.json", "lease/+999999998.json", "x/9999999998.json", "lease/a"]
        {
            assert_eq!(revision(other), None, "{other}");
        }
    }
}
