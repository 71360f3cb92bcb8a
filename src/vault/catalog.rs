//! The live site's own memory of an open epoch: which chunk lies where, and how far the chain has come.
//!
//! It exists so that the writer never has to read packs back. It is lost without harm: a new epoch is opened
//! and one full upload paid.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::VaultError;
use crate::pipeline::{ChunkId, PackSlot};

/// Chunk id → pack number, slot, offset in the pack's decompressed content, length.
const CHUNKS: TableDefinition<&[u8; 32], (u64, u32, u64, u32)> = TableDefinition::new("chunks");
/// Pack number → BLAKE3 of its ciphertext.
const PACKS: TableDefinition<u64, &[u8; 32]> = TableDefinition::new("packs");
/// Named counters.
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// `header`: the last committed header's number and BLAKE3.
const HEADS: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("heads");

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

/// The catalog of one open epoch.
pub(super) struct Catalog {
    path: PathBuf,
    database: Database,
}

impl Catalog {
    /// Creates the catalog of a new epoch.
    pub fn create(path: &Path) -> Result<Self, VaultError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| failed(path, &e))?;
        let catalog = Catalog { path: path.to_owned(), database };
        catalog.write(|transaction| {
            transaction.open_table(CHUNKS)?;
            transaction.open_table(PACKS)?;
            transaction.open_table(COUNTERS)?;
            transaction.open_table(HEADS)?;
            Ok(())
        })?;
        Ok(catalog)
    }

    /// Opens the catalog of an epoch that is under way.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(path).map_err(|e| failed(path, &e))?;
        Ok(Catalog { path: path.to_owned(), database })
    }

    /// Where the chunk `id` lies, if it is in a confirmed pack.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Place>, VaultError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(CHUNKS)?;
            Ok(table.get(&id.0)?.map(|row| row.value()))
        };
        let row = read().map_err(|e| failed(&self.path, &e))?;
        Ok(row.map(|(pack, slot, offset, bytes)| Place { pack, slot, offset, bytes }))
    }

    /// The name of pack `number`, if it is confirmed.
    pub fn pack(&self, number: u64) -> Result<Option<blake3::Hash>, VaultError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(PACKS)?;
            Ok(table.get(number)?.map(|row| blake3::Hash::from_bytes(*row.value())))
        };
        read().map_err(|e| failed(&self.path, &e))
    }

    /// Records that the store confirmed pack `number`, so that its chunks count as known.
    pub fn add_pack(&self, number: u64, name: &blake3::Hash, slots: &[PackSlot]) -> Result<(), VaultError> {
        self.write(|transaction| {
            transaction.open_table(PACKS)?.insert(number, name.as_bytes())?;
            let mut chunks = transaction.open_table(CHUNKS)?;
            let mut offset = 0;
            for (slot, at) in slots.iter().zip(0u32..) {
                chunks.insert(&slot.id.0, (number, at, offset, slot.plain_bytes))?;
                offset += u64::from(slot.plain_bytes);
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

    /// The last number the counter `name` gave out; 0 before the first.
    pub fn allocated(&self, name: &str) -> Result<u64, VaultError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(COUNTERS)?;
            Ok(table.get(name)?.map_or(0, |row| row.value()))
        };
        read().map_err(|e| failed(&self.path, &e))
    }

    /// The last committed header: its number and the BLAKE3 of its bytes.
    pub fn head(&self) -> Result<Option<(u64, blake3::Hash)>, VaultError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(HEADS)?;
            Ok(table.get("header")?.map(|row| (row.value().0, blake3::Hash::from_bytes(*row.value().1))))
        };
        read().map_err(|e| failed(&self.path, &e))
    }

    /// Remembers the last committed header.
    pub fn set_head(&self, seq: u64, blake3: &blake3::Hash) -> Result<(), VaultError> {
        self.write(|transaction| {
            transaction.open_table(HEADS)?.insert("header", (seq, blake3.as_bytes()))?;
            Ok(())
        })
    }

    fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), VaultError> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(|e| failed(&self.path, &e))
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> VaultError {
    VaultError::State { path: path.to_owned(), what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Codec;

    #[test]
    fn what_was_recorded_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let slot = |byte: u8| PackSlot { id: ChunkId([byte; 32]), codec: Codec::Zstd, plain_bytes: 10, frame_bytes: 5 };
        let catalog = Catalog::create(&path).unwrap();
        assert_eq!(catalog.find(&ChunkId([2; 32])).unwrap(), None);
        assert_eq!(catalog.allocate("pack").unwrap(), 1);
        catalog.add_pack(1, &blake3::hash(b"pack"), &[slot(1), slot(2)]).unwrap();
        catalog.set_head(4, &blake3::hash(b"header")).unwrap();
        drop(catalog);

        let catalog = Catalog::open(&path).unwrap();
        let place = Place { pack: 1, slot: 1, offset: 10, bytes: 10 };
        assert_eq!(catalog.find(&ChunkId([2; 32])).unwrap(), Some(place));
        assert_eq!(catalog.pack(1).unwrap(), Some(blake3::hash(b"pack")));
        assert_eq!(catalog.allocate("pack").unwrap(), 2);
        assert_eq!(catalog.allocated("header").unwrap(), 0);
        assert_eq!(catalog.head().unwrap(), Some((4, blake3::hash(b"header"))));
    }

    #[test]
    fn a_torn_catalog_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        std::fs::write(&path, b"not a catalog").unwrap();
        let error = Catalog::open(&path).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("catalog.redb"), "{error}");
    }
}
