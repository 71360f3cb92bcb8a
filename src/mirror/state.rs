//! The folder in which one mirror remembers: the manifest of the last pass, and that of the pass under way.
//!
//! ```text
//! lock             held while a pass runs
//! manifest         what the target holds, as far as it is known
//! manifest.next    the rows of the pass under way; its end moves it to `manifest`
//! contents.redb    which content is where at the target; made anew from the manifest when it is lost
//! audit.json       where the audit of headers and tags goes on
//! touched          up to which number what others changed at the spare is known here
//! manifest.judged  a pass's rows while those are taken out, or put back, that its end does not believe
//! ```
//!
//! A pass that was killed leaves its `manifest.next`. Its whole lines are true, for a row is written after the
//! target confirmed it: up to its last key they replace the rows of `manifest`, beyond it those still hold.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{self, FileLock};

use super::MirrorError;
use super::followed::Followed;
use super::manifest::{End, Line, Lines, ManifestError, Pair, Row, Rows, Writer};
use crate::store::Bucket;

/// The state folder of one mirror, locked.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    pair: Pair,
    /// Held for its lock, which ends with it, or with the process.
    _lock: FileLock,
}

/// What is left of a pass's rows.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) rows: u64,
    /// The bytes of their objects.
    pub(super) bytes: u64,
    /// The keys of those that were left out.
    pub(super) left_out: Vec<String>,
}

/// The rows of the past, or none.
pub(super) type Past = std::iter::Flatten<std::option::IntoIter<Rows>>;

/// The finished manifest in the state folder `folder`.
pub fn manifest_path(folder: &Path) -> PathBuf {
    folder.join("manifest")
}

/// How many changes of the source the passes up to the finished manifest in the folder `state` have followed; nothing where nobody
/// has counted them.
///
/// # Errors
/// When it cannot be read.
pub fn followed(state: &Path) -> Result<Option<Followed>, ManifestError> {
    Ok(Lines::open_with_end(&manifest_path(state))?.and_then(|(_, _, end)| end.followed))
}

impl State {
    /// Makes the folder if there is none, locks it, and brings what a killed pass left into the manifest.
    pub(super) fn open(folder: &Path, pair: Pair) -> Result<Self, MirrorError> {
        let failed = |source| MirrorError::State { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let note = format!("mirror, process {}", std::process::id());
        let lock = FileLock::try_take(&folder.join("lock"), &note).map_err(failed)?;
        let lock = lock.ok_or_else(|| MirrorError::Busy { path: folder.to_owned() })?;
        let state = State { folder: folder.to_owned(), pair, _lock: lock };
        state.resume()?;
        Ok(state)
    }

    /// The rows of the last pass between these two buckets. Those of another pair are not ours to believe.
    pub(super) fn past(&self) -> Result<Past, ManifestError> {
        let rows = Rows::open(&manifest_path(&self.folder))?.filter(|(pair, _)| *pair == self.pair);
        Ok(rows.map(|(_, rows)| rows).into_iter().flatten())
    }

    /// The same, to be looked into no further than is needed.
    pub(super) fn lines(&self) -> Result<Option<Lines>, ManifestError> {
        Ok(self.last()?.map(|(lines, _)| lines))
    }

    /// What the last pass between these two buckets left, and its last line.
    fn last(&self) -> Result<Option<(Lines, End)>, ManifestError> {
        let last = Lines::open_with_end(&manifest_path(&self.folder))?.filter(|(pair, ..)| *pair == self.pair);
        Ok(last.map(|(_, lines, end)| (lines, end)))
    }

    /// Starts the manifest of a pass.
    pub(super) fn next(&self) -> Result<Writer, ManifestError> {
        Writer::create(&self.next_path(), &self.pair)
    }

    /// Ends the manifest of a pass that has followed so many `changes`: from now on it is the past.
    pub(super) fn finish(&self, next: Writer, changes: u64) -> Result<(), ManifestError> {
        // What an earlier release has followed nobody counted.
        let known = self.last()?.and_then(|(_, end)| end.followed).or_else(Followed::begin);
        next.finish_after(known.map(|known| known.and(changes)), &manifest_path(&self.folder))?;
        crate::failpoint::hit("mirror.manifest");
        Ok(())
    }

    /// As [`State::finish`], and the count of changes begins anew: what has happened since the last pass nobody has counted.
    pub(super) fn finish_anew(&self, next: Writer) -> Result<(), ManifestError> {
        next.finish_after(Followed::begin(), &manifest_path(&self.folder))?;
        crate::failpoint::hit("mirror.manifest");
        Ok(())
    }

    /// As [`State::finish`], but rows of what is gone are taken for there if they are `held`, and those of `without` are left out.
    pub(super) fn finish_judged(
        &self,
        next: Writer,
        changes: u64,
        held: bool,
        without: &HashSet<String>,
    ) -> Result<Judged, ManifestError> {
        let judged = self.folder.join("manifest.judged");
        next.finish(&judged)?;
        crate::failpoint::hit("mirror.judged");
        let mut kept = self.next()?;
        let mut left = Judged::default();
        for line in Lines::open(&judged)?.map(|(_, lines)| lines).into_iter().flatten() {
            let line = line?;
            if line.is_gone() && !held {
                continue;
            }
            let row = line.row()?;
            if without.contains(&row.key) {
                left.left_out.push(row.key);
                continue;
            }
            kept.push(&row)?;
            (left.rows, left.bytes) = (left.rows + 1, left.bytes + row.source.size);
        }
        self.finish(kept, changes)?;
        match std::fs::remove_file(&judged) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ManifestError::Io { path: judged, operation: "removed", source })
            }
            _ => Ok(left),
        }
    }

    /// How many rows the last pass between these two buckets left.
    pub(super) fn known(&self) -> Result<u64, ManifestError> {
        Ok(self.last()?.map_or(0, |(_, end)| end.rows))
    }

    /// Up to which number the records of what others changed at the spare, in its `attic`, are known.
    pub(super) fn touched(&self, attic: Option<&Bucket>) -> Result<u64, MirrorError> {
        let path = self.folder.join("touched");
        let content = durable::read(&path).map_err(|source| MirrorError::State { path, source })?;
        let text = content.and_then(|content| String::from_utf8(content).ok()).unwrap_or_default();
        // Lost, or of others: then all of them are looked at once more, which only costs.
        let number = text.split_once('\t').filter(|(_, of)| of.trim_end() == self.touched_of(attic));
        Ok(number.and_then(|(number, _)| number.parse().ok()).unwrap_or(0))
    }

    /// Remembers it.
    pub(super) fn set_touched(&self, number: u64, attic: Option<&Bucket>) -> Result<(), MirrorError> {
        let path = self.folder.join("touched");
        let content = format!("{number}\t{}\n", self.touched_of(attic));
        durable::replace(&path, content.as_bytes()).map_err(|source| MirrorError::State { path, source })
    }

    fn touched_of(&self, attic: Option<&Bucket>) -> String {
        format!("{:?} {:?}", self.pair, attic.map(Bucket::name))
    }

    fn next_path(&self) -> PathBuf {
        self.folder.join("manifest.next")
    }

    fn resume(&self) -> Result<(), MirrorError> {
        let path = self.next_path();
        if let Some(done) = self.confirmed_rows(&path)? {
            let merged = Writer::create(&self.folder.join("manifest.merged"), &self.pair)?;
            let (merged, changes) = self.merge(done, merged)?;
            self.finish(merged, changes)?;
            crate::failpoint::hit("mirror.resume");
        }
        self.discard()
    }

    /// Forgets the rows of the pass under way.
    pub(super) fn discard(&self) -> Result<(), MirrorError> {
        let path = self.next_path();
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(MirrorError::State { path, source }),
            _ => Ok(()),
        }
    }

    /// The rows that a killed pass wrote, if it wrote any for this pair of buckets.
    fn confirmed_rows(
        &self,
        path: &Path,
    ) -> Result<Option<impl Iterator<Item = Result<Row, ManifestError>>>, ManifestError> {
        let mut rows = match Lines::open(path) {
            // What was gone is taken for there again: that pass did not come to its end, where it is judged.
            Ok(Some((pair, lines))) if pair == self.pair => {
                lines.map_while(whole).map(|line| line.and_then(|line| line.row())).peekable()
            }
            Ok(_) | Err(ManifestError::Corrupt { .. } | ManifestError::Unfinished { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(rows.peek().is_some().then_some(rows))
    }

    /// Puts the rows that are `done` before those of the past that come after them. How many changes they are, too.
    fn merge(
        &self,
        done: impl Iterator<Item = Result<Row, ManifestError>>,
        mut merged: Writer,
    ) -> Result<(Writer, u64), ManifestError> {
        let (mut past, mut changes) = (self.past()?.peekable(), 0);
        for row in done {
            let row = row?;
            let mut is_same = false;
            while let Some(known) = past.next_if(|known| known.as_ref().map_or(true, |known| known.key <= row.key)) {
                let known = known?;
                is_same = known.key == row.key && known.source == row.source;
                // One that the killed pass has left out.
                changes += u64::from(known.key != row.key);
            }
            changes += u64::from(!is_same);
            merged.push(&row)?;
        }
        for row in past {
            merged.push(&row?)?;
        }
        Ok((merged, changes))
    }
}

/// Ends the rows at the first that was not written whole: that is where the pass was killed.
fn whole(line: Result<Line, ManifestError>) -> Option<Result<Line, ManifestError>> {
    match line {
        Err(ManifestError::Corrupt { .. } | ManifestError::Unfinished { .. }) => None,
        line => Some(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SourceVersion;

    fn pair() -> Pair {
        Pair { source: "a".to_owned(), target: "b".to_owned() }
    }

    fn row(key: &str, size: u64) -> Row {
        let source = SourceVersion { etag: None, size, modified_ns: 0 };
        Row {
            key: key.to_owned(),
            source,
            blake3: blake3::hash(b""),
            target_etag: None,
            beside: None,
            digest: None,
            racy: false,
        }
    }

    fn changes(folder: &Path) -> Option<u64> {
        let (_, _, end) = Lines::open_with_end(&manifest_path(folder)).unwrap().unwrap();
        end.followed.map(|followed| followed.changes)
    }

    fn past(folder: &Path, pair: Pair) -> String {
        let state = State::open(folder, pair).unwrap();
        let rows = state.past().unwrap().map(|row| row.map(|row| format!("{}{}", row.key, row.source.size)));
        rows.collect::<Result<Vec<_>, _>>().unwrap().join(" ")
    }

    fn finished(folder: &Path, rows: &[Row]) {
        let state = State::open(folder, pair()).unwrap();
        let mut next = state.next().unwrap();
        rows.iter().for_each(|row| next.push(row).unwrap());
        state.finish(next, 0).unwrap();
    }

    fn killed(folder: &Path, rows: &[Row]) {
        let state = State::open(folder, pair()).unwrap();
        let mut next = state.next().unwrap();
        rows.iter().for_each(|row| next.push(row).unwrap());
        next.flush().unwrap();
    }

    #[test]
    fn a_killed_pass_is_true_up_to_its_last_key_and_the_one_before_beyond_it() {
        let folder = tempfile::tempdir().unwrap();
        finished(folder.path(), &[row("a", 1), row("b", 1), row("d", 1), row("e", 1)]);
        killed(folder.path(), &[row("a", 2), row("c", 2), row("d", 2)]);
        assert_eq!(past(folder.path(), pair()), "a2 c2 d2 e1");
        assert!(!folder.path().join("manifest.next").exists());
        killed(folder.path(), &[]);
        assert_eq!(past(folder.path(), pair()), "a2 c2 d2 e1");
        assert_eq!(changes(folder.path()), Some(4), "a and d are others, b is left out, c is new");
    }

    #[test]
    fn every_pass_adds_what_it_followed_until_the_count_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let finish = |changes: Option<u64>| {
            let state = State::open(folder.path(), pair()).unwrap();
            let next = state.next().unwrap();
            match changes {
                Some(changes) => state.finish(next, changes).unwrap(),
                None => state.finish_anew(next).unwrap(),
            }
            let (_, end) = state.last().unwrap().unwrap();
            end.followed.unwrap()
        };
        let (one, two) = (finish(Some(3)), finish(Some(4)));
        assert_eq!(two, Followed { of: one.of.clone(), changes: 7 });
        let anew = finish(None);
        assert!(anew.of != one.of && anew.changes == 0, "{anew:?}");
        assert_eq!(finish(Some(2)).since(&anew), Some(2));
    }

    #[test]
    fn a_line_torn_by_a_power_cut_is_not_believed_nor_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path(), &[row("a", 1), row("b", 1), row("c", 1)]);
        let next = folder.path().join("manifest.next");
        let torn = std::fs::read_to_string(&next).unwrap().replace("\nb\t", "\nB\t");
        std::fs::write(&next, torn).unwrap();
        assert_eq!(past(folder.path(), pair()), "a1");
    }

    #[test]
    fn the_manifest_of_another_target_says_nothing_about_this_one() {
        let folder = tempfile::tempdir().unwrap();
        finished(folder.path(), &[row("a", 1)]);
        killed(folder.path(), &[row("b", 1)]);
        let other = Pair { target: "a new and empty spare".to_owned(), ..pair() };
        assert_eq!(past(folder.path(), other), "");
    }

    #[test]
    fn two_passes_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = State::open(folder.path(), pair()).unwrap();
        assert!(matches!(State::open(folder.path(), pair()), Err(MirrorError::Busy { .. })));
    }
}
