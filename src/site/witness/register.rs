//! A witness of one register: a value that is replaced by comparing its revision, in one step of its store.
//!
//! For stores that can do more than create: there is one key, nothing grows, and a process that slept past a day cannot
//! write over what it has not read. What was read last is compared as a whole, nonce and all, besides its revision: a store
//! that was restored from a backup counts its revisions anew, and another record may bear the number of ours by now.

use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::future;

use super::selftest::Check;
use super::{Outcome, Record, SelfTest, Witness, WitnessError};
use crate::failpoint;
use crate::site::lease::Revision;

/// The key of the record.
const KEY: &str = "lease";
/// So many replace the same revision at once in a self-test.
const RACERS: usize = 8;

/// A value and the revision that wrote it.
pub type Entry = (Revision, Bytes);

/// A store whose keys are replaced by comparing.
pub trait Registers: Send + Sync {
    /// As a person knows it.
    fn name(&self) -> &str;

    /// What `key` is now; never an earlier answer.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, WitnessError>> + Send;

    /// Writes `value` if `key` is of the revision, and where they are given has the bytes, that are `expected`; if it is not
    /// there, when nothing is. Asked once. The new revision; nothing when it is otherwise.
    fn put(
        &self,
        key: &str,
        expected: Option<(Revision, Option<Bytes>)>,
        value: Bytes,
    ) -> impl Future<Output = Result<Option<Revision>, WitnessError>> + Send;

    /// Removes `key`, which a self-test made.
    fn remove(&self, key: &str) -> impl Future<Output = Result<(), WitnessError>> + Send;

    /// What `key` was, the newest first, as far as the store remembers, at most `count`.
    fn earlier(&self, key: &str, count: usize) -> impl Future<Output = Result<Vec<Entry>, WitnessError>> + Send;

    /// Lets go of what `key` was more than a day ago: how many entries.
    fn prune(&self, key: &str) -> impl Future<Output = Result<usize, WitnessError>> + Send;

    /// Why what it confirms may be lost, if it may.
    fn forgets(&self) -> impl Future<Output = Result<Option<String>, WitnessError>> + Send;
}

/// The record in such a store.
pub struct Register<R> {
    registers: R,
    /// What this process has read or written last.
    known: Mutex<Option<Entry>>,
}

impl<R: Registers> Register<R> {
    /// The witness in `registers`. Nothing is asked yet.
    pub fn new(registers: R) -> Self {
        Register { registers, known: Mutex::new(None) }
    }

    /// The store.
    pub fn registers(&self) -> &R {
        &self.registers
    }

    /// What the record was, newest first, at most `count`, as far as the store remembers.
    ///
    /// # Errors
    /// As [`Witness::read`].
    pub async fn history(&self, count: usize) -> Result<Vec<(Revision, Record)>, WitnessError> {
        let entries = self.registers.earlier(KEY, count).await?;
        entries.iter().map(|entry| self.parsed(entry)).collect()
    }

    /// Lets go of what is older than a day: how many entries.
    ///
    /// # Errors
    /// The store's.
    pub async fn prune(&self) -> Result<usize, WitnessError> {
        self.registers.prune(KEY).await
    }

    /// Tries the store from the site `site`; `nonce` is a name nobody used yet.
    ///
    /// # Errors
    /// When it does not answer: that is no verdict on what it does.
    pub async fn selftest(&self, site: &str, nonce: &str) -> Result<SelfTest, WitnessError> {
        let key = format!("selftest/{site}/{nonce}");
        let tried = self.tried(&key).await;
        let removed = self.registers.remove(&key).await;
        let left = removed.err().map(|error| crate::error::chain(&error)).into_iter().collect();
        Ok(SelfTest { checks: tried?, left })
    }

    async fn tried(&self, key: &str) -> Result<Vec<Check>, WitnessError> {
        let store = &self.registers;
        let check = |what, instead: Option<&str>| Check { what, instead: instead.map(str::to_owned) };
        let first = store.put(key, None, "first".into()).await?;
        let read = store.get(key).await?;
        let is_read = first.is_some() && read == first.map(|revision| (revision, "first".into()));
        let again = store.put(key, None, "again".into()).await?;
        let wrong = first.map(|revision| (Revision(revision.0.wrapping_add(1_000)), None));
        let unread = store.put(key, wrong, "unread".into()).await?;
        let other = first.map(|revision| (revision, Some(Bytes::from("other"))));
        let other = store.put(key, other, "unread".into()).await?;
        let second = store.put(key, first.map(|revision| (revision, Some("first".into()))), "second".into()).await?;
        let stale = store.put(key, first.map(|revision| (revision, None)), "stale".into()).await?;
        let after = store.get(key).await?;
        let missing = store.put(&format!("{key}/missing"), Some((Revision(1), None)), "missing".into()).await?;
        let kept = after.as_ref().is_some_and(|(_, value)| *value == "second");
        let mut checks = vec![
            check("sets what is not there", first.is_none().then_some("it calls a new key taken")),
            check("shows at once what was written", (!is_read).then_some("what was written is not read afterwards")),
            check("leaves alone what is there", again.is_some().then_some("it sets as new what is there")),
            check("replaces what was read", second.is_none().then_some("it refuses the revision that is there")),
            check("refuses what is not there", {
                let done = unread.is_some() || other.is_some() || missing.is_some();
                done.then_some("it writes over a revision or a value that is not there")
            }),
            check("refuses what was replaced", {
                (stale.is_some() || !kept).then_some("it writes over a revision that was replaced before")
            }),
        ];
        checks.push(self.raced(key).await?);
        let forgets = store.forgets().await?;
        checks.push(Check { what: "keeps what it confirmed", instead: forgets });
        Ok(checks)
    }

    /// Of many who replace the same revision at once, one wins, and its bytes are there.
    async fn raced(&self, key: &str) -> Result<Check, WitnessError> {
        let what = "lets one of many win";
        let wrong = |why: String| Ok(Check { what, instead: Some(why) });
        let Some((before, _)) = self.registers.get(key).await? else {
            return wrong("what was written is gone".to_owned());
        };
        let body = |racer: usize| Bytes::from(format!("racer {racer}"));
        let race = (0..RACERS).map(|racer| self.registers.put(key, Some((before, None)), body(racer)));
        let all = future::try_join_all(race).await?;
        let winners: Vec<(usize, Revision)> =
            all.into_iter().enumerate().filter_map(|(racer, won)| Some((racer, won?))).collect();
        let there = self.registers.get(key).await?;
        match winners.as_slice() {
            [(racer, revision)] if there == Some((*revision, body(*racer))) => Ok(Check { what, instead: None }),
            [_] => {
                wrong("of several who wrote at once one was told that it won, but another's bytes are there".to_owned())
            }
            winners => wrong(format!("of {RACERS} who wrote at once, {} were told that they won", winners.len())),
        }
    }

    fn parsed(&self, (revision, value): &Entry) -> Result<(Revision, Record), WitnessError> {
        Ok((*revision, Record::parse(self.registers.name(), KEY, value)?))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store shows, unless it is older than what was `known` before it was asked.
    fn noted(&self, known: Option<Entry>, shown: Option<Entry>) -> Result<Option<Entry>, WitnessError> {
        if let Some((read, value)) = known {
            let is_older = match &shown {
                None => true,
                // The same number, and another record.
                Some((revision, other)) => *revision < read || *revision == read && *other != value,
            };
            if is_older {
                let shown = shown.map_or("no record".to_owned(), |(revision, _)| format!("revision {revision}"));
                return Err(WitnessError::WentBack { store: self.registers.name().to_owned(), shown, read });
            }
        }
        if let Some(entry) = &shown {
            self.learn(entry);
        }
        Ok(shown)
    }

    fn learn(&self, (revision, value): &Entry) {
        let mut known = self.known();
        if known.as_ref().is_none_or(|(known, _)| known < revision) {
            *known = Some((*revision, value.clone()));
        }
    }

    async fn try_replace(&self, expected: Option<Revision>, record: &Record) -> Result<Outcome, WitnessError> {
        let name = self.registers.name();
        let json = record.to_json().map_err(|error| WitnessError::NoRecord {
            store: name.to_owned(),
            key: KEY.to_owned(),
            what: error.to_string(),
        })?;
        let value = Bytes::from(json);
        let known = self.known().clone();
        let expected = expected.map(|revision| {
            let bytes = known.filter(|(known, _)| *known == revision).map(|(_, bytes)| bytes);
            (revision, bytes)
        });
        let Some(revision) = self.registers.put(KEY, expected, value.clone()).await? else { return Ok(Outcome::Lost) };
        failpoint::hit("witness.replace");
        self.learn(&(revision, value));
        Ok(Outcome::Won(revision))
    }
}

impl<R: Registers> Witness for Register<R> {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        let known = self.known().clone();
        let shown = self.registers.get(KEY).await?;
        self.noted(known, shown)?.map(|entry| self.parsed(&entry)).transpose()
    }

    async fn replace(&self, expected: Option<Revision>, record: &Record) -> Outcome {
        self.try_replace(expected, record).await.unwrap_or_else(Outcome::Unknown)
    }
}
