//! The record of contents made from a manifest. Its order is that of the fingerprints, which to a manifest is none: entered row by
//! row, every one would change another page of the table. So the rows are first dealt out into files, by their fingerprints, each small
//! enough to be sorted in memory, and then entered in one order, in one transaction.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::Known;
use crate::mirror::MirrorError;

/// About how many entries are sorted in memory at once: some 20 MiB.
const PART_ENTRIES: u64 = 100_000;
const PARTS_MAX: u64 = 250;
const BUFFER_BYTES: usize = 16 << 10;
/// More than a key or a tag has.
const FIELD_BYTES_MAX: u32 = 1 << 20;

/// Entries by their fingerprints, in files. The folder goes when this goes.
pub(super) struct Parts {
    folder: PathBuf,
    files: Vec<BufWriter<File>>,
}

impl Parts {
    /// Files for about so many `entries`, in a folder that nothing else is in.
    pub(super) fn new(folder: PathBuf, entries: u64) -> Result<Self, MirrorError> {
        let mut parts = Parts { folder, files: Vec::new() };
        match std::fs::remove_dir_all(&parts.folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(parts.failed(source)),
            _ => {}
        }
        std::fs::create_dir_all(&parts.folder).map_err(|source| parts.failed(source))?;
        for number in 0..(entries / PART_ENTRIES + 1).min(PARTS_MAX) {
            let file = File::create_new(parts.path(number)).map_err(|source| parts.failed(source))?;
            parts.files.push(BufWriter::with_capacity(BUFFER_BYTES, file));
        }
        Ok(parts)
    }

    pub(super) fn add(&mut self, fingerprint: u64, known: &Known) -> Result<(), MirrorError> {
        // As many parts of one width as there are files.
        let number = (u128::from(fingerprint) * self.files.len() as u128) >> 64;
        let written = match self.files.get_mut(number as usize) {
            Some(file) => write(file, fingerprint, known),
            None => Err(io::Error::other("there is no part of it")),
        };
        written.map_err(|source| self.failed(source))
    }

    /// All entries in the order of their fingerprints; of one fingerprint, in the order in which they were added.
    pub(super) fn sorted<E>(
        mut self,
        failed: impl Fn(MirrorError) -> E,
        mut enter: impl FnMut(u64, Known) -> Result<(), E>,
    ) -> Result<(), E> {
        let flushed: io::Result<u64> =
            self.files.drain(..).try_fold(0, |count, mut file| file.flush().map(|()| count + 1));
        for number in 0..flushed.map_err(|source| failed(self.failed(source)))? {
            let mut entries = self.part(number).map_err(|source| failed(self.failed(source)))?;
            entries.sort_by_key(|(fingerprint, _)| *fingerprint);
            for (fingerprint, known) in entries {
                enter(fingerprint, known)?;
            }
        }
        Ok(())
    }

    fn part(&self, number: u64) -> io::Result<Vec<(u64, Known)>> {
        let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(self.path(number))?);
        let mut entries = Vec::new();
        while let Some(entry) = read(&mut file)? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    fn failed(&self, source: io::Error) -> MirrorError {
        MirrorError::State { path: self.folder.clone(), source }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // What stays is removed when the record is made the next time.
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

/// The folder of the parts, in a state folder.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("contents.sort")
}

fn write(file: &mut impl Write, fingerprint: u64, known: &Known) -> io::Result<()> {
    file.write_all(&fingerprint.to_le_bytes())?;
    file.write_all(&known.size.to_le_bytes())?;
    file.write_all(known.blake3.as_bytes())?;
    for field in [&known.key, &known.target_etag] {
        let length = u32::try_from(field.len()).ok().filter(|length| *length <= FIELD_BYTES_MAX);
        file.write_all(&length.ok_or_else(|| io::Error::other("a key is too long"))?.to_le_bytes())?;
        file.write_all(field.as_bytes())?;
    }
    file.write_all(&known.check(fingerprint).to_le_bytes())
}

/// The next entry; `None` at the end.
fn read(file: &mut impl io::BufRead) -> io::Result<Option<(u64, Known)>> {
    if file.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let torn = || io::Error::other("an entry is not as it was written");
    let (fingerprint, size) = (u64::from_le_bytes(take(file)?), u64::from_le_bytes(take(file)?));
    let blake3 = blake3::Hash::from_bytes(take(file)?);
    let mut field = || {
        let length = u32::from_le_bytes(take(file)?);
        let mut bytes = vec![0; if length <= FIELD_BYTES_MAX { length as usize } else { return Err(torn()) }];
        file.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| torn())
    };
    let known = Known { key: field()?, target_etag: field()?, blake3, size };
    let check = u32::from_le_bytes(take(file)?);
    if known.check(fingerprint) == check { Ok(Some((fingerprint, known))) } else { Err(torn()) }
}

fn take<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u64) -> Known {
        let etag = number.to_string();
        Known { key: format!("k{number}\n"), blake3: blake3::hash(etag.as_bytes()), size: number, target_etag: etag }
    }

    #[test]
    fn whatever_comes_in_any_order_is_entered_in_one_and_leaves_nothing_behind() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder(state.path())).unwrap();
        std::fs::write(folder(state.path()).join("0"), "left by a killed pass").unwrap();
        let mut parts = Parts::new(folder(state.path()), 3 * PART_ENTRIES).unwrap();
        let fingerprint = |number: u64| (number % 700).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..1_000).for_each(|number| parts.add(fingerprint(number), &known(number)).unwrap());
        parts.add(u64::MAX, &known(7)).unwrap();
        let mut entered = Vec::new();
        let enter = |fingerprint, known| {
            entered.push((fingerprint, known));
            Ok(())
        };
        parts.sorted(|error| error, enter).unwrap();
        assert!(entered.is_sorted_by_key(|(fingerprint, _)| *fingerprint));
        assert_eq!((entered.len(), entered.last()), (1_001, Some(&(u64::MAX, known(7)))));
        // The later of one fingerprint is entered later.
        let twice: Vec<&Known> =
            entered.iter().filter(|(found, _)| *found == fingerprint(5)).map(|(_, known)| known).collect();
        assert_eq!(twice, [&known(5), &known(705)]);
        assert!(!folder(state.path()).exists());
    }

    #[test]
    fn what_the_disk_damaged_is_not_entered() {
        let state = tempfile::tempdir().unwrap();
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut parts = Parts::new(folder(state.path()), 0).unwrap();
            parts.add(1, &known(1)).unwrap();
            parts.files[0].flush().unwrap();
            let path = parts.path(0);
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            parts.sorted(|error| error, |_, _| Ok(()))
        };
        damaged(&|_| {}).unwrap();
        for at in [0, 9, 20, 48, 52, 60] {
            damaged(&|bytes| bytes[at] ^= 1).unwrap_err();
        }
        damaged(&|bytes| bytes.truncate(bytes.len() - 1)).unwrap_err();
    }
}
