//! The live site's own memory of an open epoch: which chunk lies where, and which headers it has committed.
//!
//! It exists so that the writer never has to read packs back. It is lost without harm: a new epoch is opened
//! and one full upload paid. What would do harm is a catalog that is wrong: a snapshot would name chunks that
//! are not its own. So each row carries a check of its own content, and one that does not fit is not used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::VaultError;
use super::layout::EpochId;
use crate::pipeline::{ChunkId, PackSlot};

/// Chunk id → pack number, slot, offset in the pack's decompressed content, length, check.
const CHUNKS: TableDefinition<&[u8; 32], (u64, u32, u64, u32, u32)> = TableDefinition::new("chunks");
/// Pack number → BLAKE3 of its ciphertext, check.
const PACKS: TableDefinition<u64, (&[u8; 32], u32)> = TableDefinition::new("packs");
/// Named counters.
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// Number of a committed header → BLAKE3 of the header object.
const HEADERS: TableDefinition<u64, &[u8; 32]> = TableDefinition::new("headers");
/// The header that is about to be put, or was and is not known to be there: at most one.
const PENDING: TableDefinition<u64, &[u8; 32]> = TableDefinition::new("pending");
/// `epoch`: which epoch this is the catalog of.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// redb's page cache; the rest is left to the kernel.
const CACHE_BYTES: usize = 16 << 20;

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The pack's number in this catalog.
    pub pack: u64,
    /// The chunk's slot in it.
    pub slot: u32,
    /// Its offset in the pack's decompressed content.
    pub offset: u64,
    /// Its length.
    pub bytes: u32,
}

impl Place {
    fn check(&self, id: &ChunkId) -> u32 {
        let Place { pack, slot, offset, bytes } = *self;
        let fields: [&[u8]; 4] =
            [&pack.to_le_bytes(), &slot.to_le_bytes(), &offset.to_le_bytes(), &bytes.to_le_bytes()];
        check(&id.0, &fields.concat())
    }
}

/// The first four bytes of the BLAKE3 of a row.
fn check(key: &[u8], value: &[u8]) -> u32 {
    let hash = blake3::Hasher::new().update(key).update(value).finalize();
    hash.as_bytes().iter().take(4).fold(0, |sum, &byte| (sum << 8) | u32::from(byte))
}

/// A header of this epoch: its number and the BLAKE3 of its object.
pub(super) type Header = (u64, blake3::Hash);

/// The catalog of one open epoch.
pub(super) struct Catalog {
    path: PathBuf,
    database: Database,
}

impl Catalog {
    /// Creates the catalog of a new epoch.
    pub fn create(path: &Path, epoch: EpochId) -> Result<Self, VaultError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| failed(path, &e))?;
        let catalog = Catalog { path: path.to_owned(), database };
        catalog.write(|transaction| {
            transaction.open_table(CHUNKS)?;
            transaction.open_table(PACKS)?;
            transaction.open_table(COUNTERS)?;
            transaction.open_table(HEADERS)?;
            transaction.open_table(PENDING)?;
            transaction.open_table(ABOUT)?.insert("epoch", epoch.to_string().as_str())?;
            Ok(())
        })?;
        Ok(catalog)
    }

    /// Opens the catalog of an epoch that is under way.
    pub fn open(path: &Path, epoch: EpochId) -> Result<Self, VaultError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(path).map_err(|e| failed(path, &e))?;
        let catalog = Catalog { path: path.to_owned(), database };
        let about = catalog.read(|transaction| {
            transaction.open_table(HEADERS)?.len()?;
            Ok(transaction.open_table(ABOUT)?.get("epoch")?.map(|row| row.value().to_owned()))
        })?;
        match about {
            Some(about) if about == epoch.to_string() => Ok(catalog),
            other => Err(failed(path, &format!("it is the catalog of {other:?}"))),
        }
    }

    /// Where those chunks of `ids` lie that have no place yet and are in a confirmed pack. A row that does not fit its own
    /// check is none: the chunk is stored once more.
    pub fn find_missing(&self, ids: &[ChunkId], places: &mut [Option<Place>]) -> Result<(), VaultError> {
        self.read(|transaction| {
            let chunks = transaction.open_table(CHUNKS)?;
            for (id, place) in ids.iter().zip(places).filter(|(_, place)| place.is_none()) {
                let row = chunks.get(&id.0)?.map(|row| row.value());
                let found = row.map(|(pack, slot, offset, bytes, check)| (Place { pack, slot, offset, bytes }, check));
                *place = found.filter(|(found, check)| found.check(id) == *check).map(|(found, _)| found);
            }
            Ok(())
        })
    }

    /// The name of pack `number`, if it is confirmed.
    pub fn pack(&self, number: u64) -> Result<Option<blake3::Hash>, VaultError> {
        let row = self.read(|transaction| {
            let table = transaction.open_table(PACKS)?;
            Ok(table.get(number)?.map(|row| (*row.value().0, row.value().1)))
        })?;
        match row {
            Some((name, sum)) if check(&number.to_le_bytes(), &name) != sum => {
                self.set_aside();
                Err(failed(&self.path, &format!("damaged: the row of pack {number} does not fit its check")))
            }
            row => Ok(row.map(|(name, _)| blake3::Hash::from_bytes(name))),
        }
    }

    /// Records that the store confirmed pack `number`, so that its chunks count as known.
    pub fn add_pack(&self, number: u64, name: &blake3::Hash, slots: &[PackSlot]) -> Result<(), VaultError> {
        self.write(|transaction| {
            let sum = check(&number.to_le_bytes(), name.as_bytes());
            transaction.open_table(PACKS)?.insert(number, (name.as_bytes(), sum))?;
            let mut chunks = transaction.open_table(CHUNKS)?;
            let mut rows = Vec::with_capacity(slots.len());
            let mut offset = 0;
            for (slot, at) in slots.iter().zip(0u32..) {
                rows.push((&slot.id, Place { pack: number, slot: at, offset, bytes: slot.plain_bytes }));
                offset += u64::from(slot.plain_bytes);
            }
            // Neighbours in the tree one after the other: ids are random, and each page is touched once.
            rows.sort_unstable_by_key(|(id, _)| id.0);
            for (id, place) in rows {
                let Place { pack, slot, offset, bytes } = place;
                chunks.insert(&id.0, (pack, slot, offset, bytes, place.check(id)))?;
            }
            Ok(())
        })
    }

    /// The next number of the counter `name`, from 1, never given out again.
    pub fn allocate(&self, name: &str) -> Result<u64, VaultError> {
        let mut next = 0;
        self.write(|transaction| {
            let mut counters = transaction.open_table(COUNTERS)?;
            next = counters.get(name)?.map_or(0, |row| row.value()) + 1;
            counters.insert(name, next)?;
            Ok(())
        })?;
        Ok(next)
    }

    /// The last committed header.
    pub fn head(&self) -> Result<Option<Header>, VaultError> {
        self.read(|transaction| Ok(transaction.open_table(HEADERS)?.last()?.map(header)))
    }

    /// Every committed header of the epoch.
    pub fn headers(&self) -> Result<BTreeMap<u64, blake3::Hash>, VaultError> {
        self.read(|transaction| {
            let table = transaction.open_table(HEADERS)?;
            table.iter()?.map(|row| Ok(header(row?))).collect()
        })
    }

    /// The header that was to be put when this site last was heard of, if it is not known to be committed.
    pub fn pending(&self) -> Result<Option<Header>, VaultError> {
        self.read(|transaction| Ok(transaction.open_table(PENDING)?.last()?.map(header)))
    }

    /// Remembers what is about to be put, so that it is known again if the answer never comes.
    pub fn intend_header(&self, seq: u64, blake3: &blake3::Hash) -> Result<(), VaultError> {
        self.write(|transaction| {
            let mut pending = transaction.open_table(PENDING)?;
            pending.retain(|_, _| false)?;
            pending.insert(seq, blake3.as_bytes())?;
            Ok(())
        })
    }

    /// Remembers a header that is committed.
    pub fn commit_header(&self, seq: u64, blake3: &blake3::Hash) -> Result<(), VaultError> {
        self.write(|transaction| {
            transaction.open_table(PENDING)?.retain(|_, _| false)?;
            transaction.open_table(HEADERS)?.insert(seq, blake3.as_bytes())?;
            Ok(())
        })
    }

    fn read<T>(&self, look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, VaultError> {
        let run = || -> Result<T, redb::Error> { look(&self.database.begin_read()?) };
        run().map_err(|e| self.broken(&e))
    }

    fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), VaultError> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(|e| self.broken(&e))
    }

    fn broken(&self, error: &redb::Error) -> VaultError {
        if matches!(error, redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. }) {
            self.set_aside();
        }
        failed(&self.path, error)
    }

    /// Makes sure that the next run opens a new epoch instead of failing on the same damage.
    fn set_aside(&self) {
        let aside = self.path.with_extension("damaged");
        if let Err(error) = std::fs::rename(&self.path, &aside) {
            tracing::warn!("{} is damaged and cannot be set aside: {error}", self.path.display());
        }
    }
}

fn header(row: (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &'static [u8; 32]>)) -> Header {
    (row.0.value(), blake3::Hash::from_bytes(*row.1.value()))
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> VaultError {
    VaultError::State { path: path.to_owned(), what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Codec;

    const EPOCH: EpochId = EpochId { term: 0, epoch: 1 };

    fn find(catalog: &Catalog, byte: u8) -> Option<Place> {
        let mut places = [None];
        catalog.find_missing(&[ChunkId([byte; 32])], &mut places).unwrap();
        places[0]
    }

    fn slot(byte: u8) -> PackSlot {
        PackSlot { id: ChunkId([byte; 32]), codec: Codec::Zstd, plain_bytes: 10, frame_bytes: 5 }
    }

    #[test]
    fn what_was_recorded_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let catalog = Catalog::create(&path, EPOCH).unwrap();
        assert_eq!(find(&catalog, 2), None);
        assert_eq!(catalog.allocate("pack").unwrap(), 1);
        catalog.add_pack(1, &blake3::hash(b"pack"), &[slot(1), slot(2)]).unwrap();
        catalog.intend_header(4, &blake3::hash(b"header")).unwrap();
        assert_eq!((catalog.head().unwrap(), catalog.pending().unwrap()), (None, Some((4, blake3::hash(b"header")))));
        catalog.commit_header(4, &blake3::hash(b"header")).unwrap();
        drop(catalog);

        let catalog = Catalog::open(&path, EPOCH).unwrap();
        let place = Place { pack: 1, slot: 1, offset: 10, bytes: 10 };
        assert_eq!(find(&catalog, 2), Some(place));
        assert_eq!(catalog.pack(1).unwrap(), Some(blake3::hash(b"pack")));
        assert_eq!(catalog.allocate("pack").unwrap(), 2);
        assert_eq!((catalog.head().unwrap(), catalog.pending().unwrap()), (Some((4, blake3::hash(b"header"))), None));
        assert_eq!(catalog.headers().unwrap().len(), 1);
    }

    #[test]
    fn a_torn_catalog_or_one_of_another_epoch_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        std::fs::write(&path, b"not a catalog").unwrap();
        let error = Catalog::open(&path, EPOCH).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("catalog.redb"), "{error}");
        std::fs::remove_file(&path).unwrap();
        drop(Catalog::create(&path, EPOCH).unwrap());
        assert!(Catalog::open(&path, EpochId { epoch: 2, ..EPOCH }).is_err());
    }

    #[test]
    fn a_row_that_was_changed_on_disk_never_names_another_chunk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let catalog = Catalog::create(&path, EPOCH).unwrap();
        catalog.add_pack(1, &blake3::hash(b"pack"), &[slot(1), slot(2)]).unwrap();
        let change = |transaction: &redb::WriteTransaction| {
            let place = Place { pack: 1, slot: 0, offset: 0, bytes: 10 };
            let row = (1, 0, 0, 10, place.check(&ChunkId([2; 32])) ^ 1);
            transaction.open_table(CHUNKS)?.insert(&[2; 32], row)?;
            transaction.open_table(PACKS)?.insert(1, (blake3::hash(b"other").as_bytes(), 7))?;
            Ok(())
        };
        catalog.write(change).unwrap();
        assert_eq!(find(&catalog, 2), None);
        assert!(find(&catalog, 1).is_some());
        let error = catalog.pack(1).unwrap_err();
        assert!(error.to_string().contains("row of pack 1"), "{error}");
        assert!(!path.exists(), "the next run must open a new epoch");
    }
}
