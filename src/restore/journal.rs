//! The journal of a restore: what was done, written down before the next thing is begun, so that a killed
//! restore goes on where it stopped.
//!
//! One JSON line per entry, synced to disk. A line torn by a kill at its end was not done and is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::Explain;
use crate::failpoint;

/// What part of a step an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The run began; its value is the request.
    Begun,
    /// The databases of the step's source that earlier runs never swapped in are dropped next; its value names them.
    Clearing,
    /// The step's data is in place, not yet proven.
    Loaded,
    /// The step was compared with the point.
    Proven,
    /// Everything was found equal; from here on what stands is replaced.
    Swapping,
    /// The step's result took the place of what stood there.
    Swapped,
    /// The databases that earlier runs replaced are dropped next; its value names them.
    Dropping,
    /// The sequences of the database jump next; its value says how far each.
    Advancing,
    /// Roles and sequences of the database are those of a live one.
    Promoted,
    /// The proof is in the vault.
    Signed,
    /// The run is over.
    Finished,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The step, empty for the run itself.
    pub step: String,
    /// Which part of it.
    pub phase: Phase,
    /// When, by this site's clock.
    pub at: jiff::Timestamp,
    /// How long it took.
    pub millis: u64,
    /// What came of it.
    pub value: serde_json::Value,
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("restore journal {path}: {what}")]
pub struct JournalError {
    path: PathBuf,
    what: String,
}

impl Explain for JournalError {
    fn next_step(&self) -> Option<String> {
        Some("Check the state folder's disk and rights. To begin anew, move the journal's folder aside.".to_owned())
    }
}

/// The entries, and the length of the lines they are in.
fn entries(path: &Path, content: &[u8]) -> Result<(Vec<Entry>, usize), JournalError> {
    let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let lines = content.get(..whole).unwrap_or_default().split_inclusive(|&byte| byte == b'\n');
    let read = |(line, at): (&[u8], u32)| {
        let damaged = |e| JournalError { path: path.to_owned(), what: format!("line {at} is damaged: {e}") };
        serde_json::from_slice(line).map_err(damaged)
    };
    Ok((lines.zip(1..).map(read).collect::<Result<_, _>>()?, whole))
}

/// A journal being kept.
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the journal at `path`, creating it when there is none.
    ///
    /// # Errors
    /// When it cannot be read or written, or a line before the last is damaged.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let wrong = |what: String| JournalError { path: path.to_owned(), what };
        let content = durable::read(path).map_err(|e| wrong(e.to_string()))?.unwrap_or_default();
        let (entries, whole) = entries(path, &content)?;
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path).and_then(|file| {
            file.set_len(whole as u64)?;
            file.sync_all()?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
            Ok(file)
        });
        Ok(Journal { path: path.to_owned(), file: file.map_err(|e| wrong(e.to_string()))?, entries })
    }

    /// The journal at `path` to look into, if there is one: nothing is changed, whoever may be writing it.
    ///
    /// # Errors
    /// When it cannot be read, or a line before the last is damaged.
    pub fn look(path: &Path) -> Result<Option<Self>, JournalError> {
        let wrong = |error: io::Error| JournalError { path: path.to_owned(), what: error.to_string() };
        let Some(content) = durable::read(path).map_err(wrong)? else { return Ok(None) };
        let (entries, _) = entries(path, &content)?;
        let file = File::open(path).map_err(wrong)?;
        Ok(Some(Journal { path: path.to_owned(), file, entries }))
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// When the line cannot be made durable.
    pub fn write(&mut self, entry: Entry) -> Result<(), JournalError> {
        let wrong = |what: String| JournalError { path: self.path.clone(), what };
        let mut line = serde_json::to_vec(&entry).map_err(|e| wrong(e.to_string()))?;
        line.push(b'\n');
        let written: io::Result<()> = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(|e| wrong(e.to_string()))?;
        failpoint::hit("restore.journal");
        self.entries.push(entry);
        Ok(())
    }

    /// What was written down last of `step` in `phase`, if it was done.
    ///
    /// # Errors
    /// When the entry's value is not what this release writes.
    pub fn done<T: DeserializeOwned>(&self, step: &str, phase: Phase) -> Result<Option<(T, u64)>, JournalError> {
        let Some(entry) = self.entries.iter().rfind(|entry| entry.step == step && entry.phase == phase) else {
            return Ok(None);
        };
        let value = serde_json::from_value(entry.value.clone()).map_err(|e| JournalError {
            path: self.path.clone(),
            what: format!("the entry of step `{step}` is damaged: {e}"),
        })?;
        Ok(Some((value, entry.millis)))
    }

    /// Every entry, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: &str, phase: Phase) -> Entry {
        Entry { step: step.into(), phase, at: jiff::Timestamp::UNIX_EPOCH, millis: 7, value: 42.into() }
    }

    #[test]
    fn what_was_written_is_there_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(entry("database/database.app", Phase::Loaded)).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.done::<u64>("database/database.app", Phase::Loaded).unwrap(), Some((42, 7)));
        assert_eq!(journal.done::<u64>("database/database.app", Phase::Proven).unwrap(), None);
    }

    #[test]
    fn a_torn_last_line_was_not_done_and_a_damaged_earlier_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(entry("a", Phase::Loaded)).unwrap();
        journal.write(entry("b", Phase::Loaded)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.entries().len(), 1);
        journal.write(entry("b", Phase::Proven)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().entries(), [entry("a", Phase::Loaded), entry("b", Phase::Proven)]);

        std::fs::write(&path, [b"{torn\n", whole.as_slice()].concat()).unwrap();
        let error = Journal::open(&path).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("line 1 is damaged"), "{error}");
    }
}
