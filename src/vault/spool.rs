//! Packs while a snapshot is read: fetched once, each, and then read here and there.
//!
//! What an hour changed lies in a pack of its own, and between its rows lie those of all the hours before: a table is put
//! together from all packs of a week, a chunk from each in turn. Opened they do not fit into memory, and to open one for each
//! chunk takes hours. So they are kept as they came, sealed, in files without names; of those in use the table of contents
//! is in memory, and the frames that were opened last.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::durable;
use crate::keys::Identity;
use crate::pipeline::{PackReader, PipelineError, open_seekable};

/// What a reader of a sealed pack holds: two pieces of 64 KiB, and its buffer.
const READER_BYTES: usize = (2 * 64 + 8) << 10;
/// Small: pieces are larger, and are not read through it.
const BUFFER_BYTES: usize = 8 << 10;

/// An opened pack's bytes, in whatever way they are reached.
pub(super) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// A pack, opened.
pub(super) type Opened = PackReader<Box<dyn ReadSeek>>;

/// A sealed pack, where it is.
#[derive(Clone, Debug)]
enum Sealed {
    File(Arc<File>, u64),
    Memory(Bytes),
}

impl Sealed {
    fn bytes(&self) -> u64 {
        match self {
            Sealed::File(_, bytes) => *bytes,
            Sealed::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// Reads a sealed pack at a place of its own: several may, at the same time.
struct Cursor {
    sealed: Sealed,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = match &self.sealed {
            Sealed::File(file, _) => file.read_at(room, self.at)?,
            Sealed::Memory(bytes) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX).min(bytes.len());
                bytes.get(start..).unwrap_or_default().read(room)?
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.sealed.bytes(), by),
        };
        let at = from.checked_add_signed(by);
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the beginning"))?;
        Ok(self.at)
    }
}

/// The packs of one snapshot that were fetched.
#[derive(Default)]
pub(super) struct Spool {
    folder: PathBuf,
    files: HashMap<blake3::Hash, (Sealed, u64)>,
    /// Bytes of those that are files.
    bytes: u64,
    /// Counts what was asked for: what was used longest ago goes first.
    turn: u64,
    /// Those opened, in the order of their last use, with what each holds in memory.
    opened: VecDeque<(blake3::Hash, Arc<Mutex<Opened>>, usize)>,
    limits: Limits,
}

/// What it may take.
#[derive(Clone, Copy)]
struct Limits {
    /// What opened packs may hold in memory together.
    opened_bytes: usize,
    /// What sealed packs may take of the disk; those used longest ago are fetched again.
    file_bytes: u64,
    /// What has to stay free there: the journal of a restore lies on the same disk.
    free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { opened_bytes: 96 << 20, file_bytes: 8 << 30, free_bytes: 1 << 30 }
    }
}

impl Spool {
    /// With files in `folder`, or where this machine keeps what is passing if that is missing.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let folder = folder.filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir);
        Spool { folder, ..Spool::default() }
    }

    /// The pack `name`, if it is open.
    pub fn opened(&mut self, name: &blake3::Hash) -> Option<Arc<Mutex<Opened>>> {
        let at = self.opened.iter().rposition(|(opened, ..)| opened == name)?;
        let found = self.opened.remove(at)?;
        let pack = Arc::clone(&found.1);
        self.opened.push_back(found);
        Some(pack)
    }

    /// Whether the pack was fetched.
    pub fn has(&self, name: &blake3::Hash) -> bool {
        self.files.contains_key(name)
    }

    /// Keeps the sealed pack `name`.
    pub fn keep(&mut self, name: blake3::Hash, sealed: Bytes) {
        let bytes = sealed.len() as u64;
        let mut written = Err(io::ErrorKind::StorageFull.into());
        while written.is_err() {
            if self.bytes + bytes <= self.limits.file_bytes {
                written = write(&self.folder, &sealed, self.limits.free_bytes);
            }
            if written.is_err() && !self.forget_one() {
                break;
            }
        }
        let sealed = match written {
            Ok(file) => Sealed::File(Arc::new(file), bytes),
            Err(error) => {
                tracing::info!("packs are held in memory, because {} takes no files: {error}", self.folder.display());
                Sealed::Memory(sealed)
            }
        };
        if matches!(sealed, Sealed::File(..)) {
            self.bytes += bytes;
        }
        self.files.insert(name, (sealed, self.turn));
    }

    /// Opens the pack `name`, which was kept.
    ///
    /// # Errors
    /// When it was not, is not sealed to `identity`, or damaged.
    pub fn open(&mut self, name: blake3::Hash, identity: &Identity) -> Result<Arc<Mutex<Opened>>, PipelineError> {
        self.turn += 1;
        let missing = || PipelineError::Open("it was not kept".to_owned());
        let (sealed, turn) = self.files.get_mut(&name).ok_or_else(missing)?;
        *turn = self.turn;
        let sealed = sealed.clone();
        let in_memory = if matches!(sealed, Sealed::Memory(_)) { sealed.bytes() } else { 0 };
        let cursor = BufReader::with_capacity(BUFFER_BYTES, Cursor { sealed, at: 0 });
        let plain: Box<dyn ReadSeek> = Box::new(open_seekable(identity, cursor)?);
        let pack = PackReader::new(plain)?;
        let holds = pack.memory() + READER_BYTES + usize::try_from(in_memory).unwrap_or(usize::MAX);
        let mut together: usize = self.opened.iter().map(|(.., holds)| holds).sum();
        while together + holds > self.limits.opened_bytes
            && let Some((oldest, _, held)) = self.opened.pop_front()
        {
            together -= held;
            if matches!(self.files.get(&oldest), Some((Sealed::Memory(_), _))) {
                self.files.remove(&oldest);
            }
        }
        let pack = Arc::new(Mutex::new(pack));
        self.opened.push_back((name, Arc::clone(&pack), holds));
        Ok(pack)
    }

    /// Lets go of the file that was opened longest ago, unless there is none.
    fn forget_one(&mut self) -> bool {
        let files = self.files.iter().filter(|(_, (sealed, _))| matches!(sealed, Sealed::File(..)));
        let Some(name) = files.min_by_key(|(_, (_, turn))| *turn).map(|(name, _)| *name) else { return false };
        if let Some((sealed, _)) = self.files.remove(&name) {
            self.bytes -= sealed.bytes();
        }
        self.opened.retain(|(opened, ..)| *opened != name);
        true
    }
}

/// A file with `sealed`, if so many bytes are still free then.
fn write(folder: &Path, sealed: &[u8], free_bytes: u64) -> io::Result<File> {
    let mut file = durable::unnamed_file(folder)?;
    let disk = rustix::fs::fstatvfs(&file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < free_bytes.saturating_add(sealed.len() as u64) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all(sealed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{ChunkIdKey, Compressor, Decompressor, PackBuilder, seal};

    fn key() -> ChunkIdKey {
        ChunkIdKey::new([3; 32])
    }

    /// Sealed packs of three chunks in one frame, and their names.
    fn packs(identity: &Identity, count: u8) -> Vec<(blake3::Hash, Bytes)> {
        let sealed = |number: u8| {
            let chunks = [vec![number; 900], vec![number + 100; 40], b"end".to_vec()];
            let ids: Vec<_> =
                chunks.iter().map(|chunk| (key().id(chunk), u32::try_from(chunk.len()).unwrap())).collect();
            let (codec, frame) = Compressor::new().unwrap().compress(&chunks.concat()).unwrap();
            let mut pack = PackBuilder::default();
            pack.push(codec, &frame, &ids);
            let sealed = seal(&[identity.recipient()], &pack.finish()).unwrap();
            (blake3::hash(&sealed), Bytes::from(sealed))
        };
        (0..count).map(sealed).collect()
    }

    /// Reads the second chunk of each pack, round after round, as a table does whose rows lie in all of them; says how often one
    /// had to be fetched.
    fn read_in_turn(spool: &mut Spool, packs: &[(blake3::Hash, Bytes)], identity: &Identity) -> usize {
        let (mut fetched, mut with) = (0, Decompressor::new().unwrap());
        for _ in 0..3 {
            for (number, (name, sealed)) in (0u8..).zip(packs) {
                let pack = spool.opened(name).unwrap_or_else(|| {
                    if !spool.has(name) {
                        spool.keep(*name, sealed.clone());
                        fetched += 1;
                    }
                    spool.open(*name, identity).unwrap()
                });
                let mut plain = Vec::new();
                pack.lock().unwrap().append(1, 1, &key(), &mut with, &mut plain).unwrap();
                assert_eq!(plain, [number + 100; 40]);
            }
        }
        fetched
    }

    #[test]
    fn each_pack_is_fetched_once_though_memory_holds_one_of_them() {
        let (identity, folder) = (Identity::generate(), tempfile::tempdir().unwrap());
        let packs = packs(&identity, 50);
        let mut spool = Spool::new(Some(folder.path().to_owned()));
        spool.limits.opened_bytes = 1;
        assert_eq!(read_in_turn(&mut spool, &packs, &identity), 50);
        assert_eq!(spool.opened.len(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files have no names");
    }

    #[test]
    fn what_the_disk_must_not_hold_is_fetched_again_and_what_it_cannot_hold_is_in_memory() {
        let identity = Identity::generate();
        let packs = packs(&identity, 10);
        let folder = tempfile::tempdir().unwrap();
        let mut narrow = Spool::new(Some(folder.path().to_owned()));
        narrow.limits.file_bytes = 3 * packs[0].1.len() as u64;
        assert_eq!(read_in_turn(&mut narrow, &packs, &identity), 30);
        assert!(narrow.files.len() <= 3 && narrow.bytes <= narrow.limits.file_bytes);
        let mut full = Spool::new(Some(folder.path().to_owned()));
        full.limits.free_bytes = u64::MAX;
        assert_eq!(read_in_turn(&mut full, &packs, &identity), 10);
        assert_eq!(full.bytes, 0, "what is left of the disk is for others");
        let mut without = Spool { folder: "/proc".into(), ..Spool::default() };
        assert_eq!(read_in_turn(&mut without, &packs, &identity), 10);
        let mut neither = Spool { folder: "/proc".into(), ..Spool::default() };
        neither.limits.opened_bytes = 1;
        assert_eq!(read_in_turn(&mut neither, &packs, &identity), 30, "they are not piled up in memory");
    }

    #[test]
    fn a_damaged_pack_is_an_error_wherever_the_damage_is() {
        let identity = Identity::generate();
        let (name, sealed) = packs(&identity, 1).remove(0);
        for at in (0..sealed.len()).step_by(7) {
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 1;
            let mut spool = Spool::new(None);
            spool.keep(name, Bytes::from(damaged));
            let read = spool.open(name, &identity).and_then(|pack| {
                let mut with = Decompressor::new()?;
                pack.lock().unwrap().append(0, 3, &key(), &mut with, &mut Vec::new())
            });
            assert!(read.is_err(), "byte {at}");
        }
    }
}
