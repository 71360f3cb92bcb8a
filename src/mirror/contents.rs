//! Which contents the target has: what lets a rename, or a second key of one content, be copied there and not be sent.
//!
//! A content is looked up by what the source says of an object that probably has it: size and ETag, or in a folder size
//! and modification time. That only nominates. What is then read of the source has to have the recorded BLAKE3, and the
//! target's object the recorded tag; so a wrong or an old entry costs time and never a wrong copy. An entry that does not
//! fit its own check is not used.
//!
//! It is a table on the disk, written a few thousand entries at a time and read through a small cache: memory does not
//! grow with it, and a pass that copies nothing neither reads nor writes it. It is made anew from the manifest ([`fill`]) when it
//! is lost, of another pair of buckets, or has more entries of the past than of the present.

mod fill;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use super::MirrorError;
use super::manifest::{ManifestError, Pair, Row};
use crate::store::{Original, ReadOnly};
use fill::Parts;

/// Fingerprint of what nominates → key, BLAKE3, size, the target's tag, check.
const CONTENTS: TableDefinition<u64, (&str, &[u8; 32], u64, &str, u32)> = TableDefinition::new("contents");
/// `pair`: of which two buckets.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
/// redb's page cache; the rest is left to the kernel.
const CACHE_BYTES: usize = 16 << 20;
/// How many entries wait in memory before they are written.
const WAITING_MAX: usize = 4_096;
/// How many entries of the past are never too many.
const PAST_MAX: u64 = 100_000;

/// An object of the target and the content that was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) key: String,
    pub(super) blake3: blake3::Hash,
    pub(super) size: u64,
    pub(super) target_etag: String,
}

impl Known {
    /// `None` when the target did not say what it has: then it cannot be told whether it still has it.
    pub(super) fn of(row: &Row) -> Option<Self> {
        let target_etag = row.target_etag.clone()?;
        Some(Known { key: row.key.clone(), blake3: row.blake3, size: row.source.size, target_etag })
    }

    /// Whether it is the very object that the row is of. One of the past may have its key: an object that goes back to what
    /// it was, while the target has what it was in between.
    pub(super) fn is_what(&self, row: &Row) -> bool {
        Known::of(row).as_ref() == Some(self)
    }

    /// It, to be copied at the target.
    pub(super) fn original(&self) -> Original<'_> {
        Original { key: &self.key, etag: Some(&self.target_etag), size: self.size }
    }

    fn check(&self, fingerprint: u64) -> u32 {
        let mut hasher = blake3::Hasher::new();
        for field in [self.key.as_bytes(), self.blake3.as_bytes(), self.target_etag.as_bytes()] {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
        }
        let hash = hasher.update(&self.size.to_le_bytes()).update(&fingerprint.to_le_bytes()).finalize();
        hash.as_bytes().iter().take(4).fold(0, |sum, &byte| (sum << 8) | u32::from(byte))
    }
}

/// What the source says of an object, as one number; `None` when there is nothing to save.
pub(super) fn fingerprint(source: &ReadOnly, version: &crate::store::SourceVersion) -> Option<u64> {
    let likeness = source.likeness(version).filter(|_| version.size > 0)?;
    let hash = blake3::Hasher::new().update(&version.size.to_le_bytes()).update(likeness.as_bytes()).finalize();
    Some(hash.as_bytes().iter().take(8).fold(0, |sum, &byte| (sum << 8) | u64::from(byte)))
}

/// One turn: while it is held nobody else copies an object of the same fingerprint.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

/// The record of contents, open.
pub(super) struct Contents {
    path: PathBuf,
    database: Database,
    waiting: Mutex<HashMap<u64, Known>>,
    turns: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

impl Contents {
    /// Opens the record of `pair` in the state folder, or makes it from the `rows` rows of `past`.
    pub(super) fn open(
        folder: &Path,
        pair: &Pair,
        source: &ReadOnly,
        rows: u64,
        past: impl Iterator<Item = Result<Row, ManifestError>>,
    ) -> Result<Self, MirrorError> {
        let path = folder.join("contents.redb");
        let pair = format!("{pair:?}");
        match Contents::opened(&path) {
            Ok(contents) if contents.pair()?.as_deref() == Some(&pair) => return Ok(contents),
            Ok(_) => {}
            Err(error) if path.exists() => {
                tracing::warn!("{} is damaged and made anew from the manifest: {error}", path.display());
            }
            Err(_) => {}
        }
        Contents::remove(&path)?;
        let contents = Contents::opened(&path).map_err(|source| failed(&path, source))?;
        let mut parts = Parts::new(fill::folder(folder), rows)?;
        for row in past {
            let row = row?;
            if let (Some(fingerprint), Some(known)) = (fingerprint(source, &row.source), Known::of(&row)) {
                parts.add(fingerprint, &known)?;
            }
        }
        contents.fill(parts, &pair)?;
        crate::failpoint::hit("mirror.contents.made");
        Ok(contents)
    }

    fn opened(path: &Path) -> Result<Self, redb::Error> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        Ok(Contents { path: path.to_owned(), database, waiting: Mutex::default(), turns: Mutex::default() })
    }

    fn remove(path: &Path) -> Result<(), MirrorError> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(MirrorError::State { path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    fn pair(&self) -> Result<Option<String>, MirrorError> {
        self.read(|transaction| match transaction.open_table(ABOUT) {
            Ok(table) => Ok(table.get("pair")?.map(|row| row.value().to_owned())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    /// Enters all that is in `parts`, or nothing: the pair comes with it.
    fn fill(&self, parts: Parts, pair: &str) -> Result<(), MirrorError> {
        let run = || -> Result<(), Filling> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(CONTENTS)?;
                parts.sorted(Filling::Parts, |fingerprint, known| Ok(enter(&mut table, fingerprint, &known)?))?;
                transaction.open_table(ABOUT)?.insert("pair", pair)?;
            }
            Ok(transaction.commit()?)
        };
        run().map_err(|error| match error {
            Filling::Database(source) => failed(&self.path, source),
            Filling::Parts(error) => error,
        })
    }

    /// Waits until nobody else copies an object of this fingerprint: what he has sent need not be sent again.
    pub(super) async fn turn(&self, fingerprint: u64) -> Turn {
        let turn = Arc::clone(self.turns().entry(fingerprint).or_default());
        turn.lock_owned().await
    }

    /// Ends a turn. The last one of a fingerprint leaves nothing behind.
    pub(super) fn end(&self, fingerprint: u64, turn: Turn) {
        drop(turn);
        let mut turns = self.turns();
        // Whoever waits holds it, too, and takes it out when he is done.
        if turns.get(&fingerprint).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&fingerprint);
        }
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<u64, Arc<tokio::sync::Mutex<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of the target that had this fingerprint last, if any.
    pub(super) fn find(&self, fingerprint: u64) -> Result<Option<Known>, MirrorError> {
        if let Some(known) = self.waiting().get(&fingerprint) {
            return Ok(Some(known.clone()));
        }
        self.read(|transaction| {
            let table = transaction.open_table(CONTENTS)?;
            let Some(row) = table.get(fingerprint)? else { return Ok(None) };
            let (key, blake3, size, target_etag, check) = row.value();
            let (key, target_etag) = (key.to_owned(), target_etag.to_owned());
            let known = Known { key, blake3: blake3::Hash::from_bytes(*blake3), size, target_etag };
            Ok(Some(known).filter(|known| known.check(fingerprint) == check))
        })
    }

    /// Records what the target has.
    pub(super) fn add(&self, fingerprint: u64, known: Known) -> Result<(), MirrorError> {
        let mut waiting = self.waiting();
        waiting.insert(fingerprint, known);
        if waiting.len() < WAITING_MAX { Ok(()) } else { self.flush(&mut waiting) }
    }

    /// Writes down what waits, at the end of a pass that left `rows` objects.
    pub(super) fn finish(self, rows: u64) -> Result<(), MirrorError> {
        self.flush(&mut self.waiting())?;
        let entries = self.read(|transaction| Ok(transaction.open_table(CONTENTS)?.len()?))?;
        if entries <= rows.saturating_mul(2).saturating_add(PAST_MAX) {
            return Ok(());
        }
        let path = self.path.clone();
        drop(self);
        Contents::remove(&path)
    }

    fn flush(&self, waiting: &mut HashMap<u64, Known>) -> Result<(), MirrorError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<_> = waiting.iter().collect();
        sorted.sort_unstable_by_key(|(fingerprint, _)| **fingerprint);
        self.write(|transaction| {
            let mut table = transaction.open_table(CONTENTS)?;
            sorted.into_iter().try_for_each(|(&fingerprint, known)| enter(&mut table, fingerprint, known))
        })?;
        waiting.clear();
        crate::failpoint::hit("mirror.contents");
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, MirrorError> {
        let run = || -> Result<T, redb::Error> { look(&self.database.begin_read()?) };
        run().map_err(|source| failed(&self.path, source))
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), MirrorError> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        };
        run().map_err(|source| failed(&self.path, source))
    }
}

/// What keeps the record from being made.
enum Filling {
    Database(redb::Error),
    Parts(MirrorError),
}

impl<E: Into<redb::Error>> From<E> for Filling {
    fn from(error: E) -> Self {
        Filling::Database(error.into())
    }
}

/// The table while it is written to.
type Entered<'t> = redb::Table<'t, u64, (&'static str, &'static [u8; 32], u64, &'static str, u32)>;

fn enter(table: &mut Entered<'_>, fingerprint: u64, known: &Known) -> Result<(), redb::Error> {
    let Known { key, blake3, size, target_etag } = known;
    let check = known.check(fingerprint);
    table.insert(fingerprint, (key.as_str(), blake3.as_bytes(), *size, target_etag.as_str(), check))?;
    Ok(())
}

fn failed(path: &Path, source: redb::Error) -> MirrorError {
    MirrorError::Contents { path: path.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Bucket, SourceVersion};

    fn source(root: &Path) -> ReadOnly {
        let url = crate::config::address::BucketUrl::Folder(root.to_owned());
        let address = crate::config::address::BucketAddress::at("artifacts", url);
        ReadOnly::new(Bucket::open(&address, None).unwrap())
    }

    fn row(n: u64) -> Row {
        Row {
            key: format!("{n:08}"),
            source: SourceVersion { etag: None, size: 1 + n, modified_ns: i128::from(n) },
            blake3: blake3::hash(&n.to_le_bytes()),
            target_etag: Some(n.to_string()),
            beside: None,
            digest: None,
            racy: false,
        }
    }

    fn pair(target: &str) -> Pair {
        Pair { source: "a".to_owned(), target: target.to_owned() }
    }

    fn open(folder: &Path, target: &str, rows: u64) -> Contents {
        Contents::open(folder, &pair(target), &source(folder), rows, (0..rows).map(|n| Ok(row(n)))).unwrap()
    }

    #[test]
    fn what_was_mirrored_is_found_again_in_the_next_pass_and_not_at_another_target() {
        let folder = tempfile::tempdir().unwrap();
        let rows = 3 * WAITING_MAX as u64;
        let fingerprint = |n: u64| fingerprint(&source(folder.path()), &row(n).source).unwrap();
        let contents = open(folder.path(), "b", rows);
        assert_eq!(contents.find(fingerprint(rows)).unwrap(), None);
        contents.add(fingerprint(rows), Known::of(&row(rows)).unwrap()).unwrap();
        contents.finish(rows).unwrap();
        // Not filled again: it is there.
        let contents = open(folder.path(), "b", 0);
        for n in [0, 7, rows - 1, rows] {
            assert_eq!(contents.find(fingerprint(n)).unwrap(), Known::of(&row(n)), "{n}");
        }
        drop(contents);
        assert_eq!(open(folder.path(), "c", 0).find(fingerprint(7)).unwrap(), None);
    }

    #[test]
    fn an_entry_that_does_not_fit_its_check_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let contents = open(folder.path(), "b", 2);
        let fingerprint = |n: u64| fingerprint(&source(folder.path()), &row(n).source).unwrap();
        contents
            .write(|transaction| {
                let mut table = transaction.open_table(CONTENTS)?;
                let other = Known { blake3: blake3::hash(b"other"), ..Known::of(&row(1)).unwrap() };
                let check = Known::of(&row(1)).unwrap().check(fingerprint(1));
                table.insert(fingerprint(1), (other.key.as_str(), other.blake3.as_bytes(), 2, "1", check))?;
                Ok(())
            })
            .unwrap();
        assert_eq!(contents.find(fingerprint(0)).unwrap(), Known::of(&row(0)));
        assert_eq!(contents.find(fingerprint(1)).unwrap(), None);
    }

    #[test]
    fn a_record_that_is_mostly_past_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "b", 3).finish(0).unwrap();
        assert!(folder.path().join("contents.redb").exists());
        let many = open(folder.path(), "b", 0);
        for n in 0..=PAST_MAX {
            many.add(n, Known::of(&row(n)).unwrap()).unwrap();
        }
        many.finish(0).unwrap();
        assert!(!folder.path().join("contents.redb").exists());
    }

    #[tokio::test]
    async fn objects_of_one_content_take_turns_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let contents = open(folder.path(), "b", 0);
        let first = contents.turn(1).await;
        let other = contents.turn(2).await;
        let waiting = contents.turn(1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        contents.end(1, first);
        let second = waiting.await;
        contents.end(1, second);
        contents.end(2, other);
        assert!(contents.turns().is_empty());
    }
}
