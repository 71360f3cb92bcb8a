//! `operations.jsonl` of the state folder: what people have done with this site's role, and how far it came.
//!
//! One line for each step of an operation, synced before the next one begins. The states of the daemon decide how an operation goes
//! on; this says who began it, when, and what has become of it, also when the command or the machine died on the way.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Class, Explain};
use crate::failpoint;
use crate::site::lease::Name;

/// The end of the file that is looked into: many lines.
const TAIL_BYTES: u64 = 64 << 10;

/// The journal cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the journal of operations {path} cannot be {doing}")]
pub struct JournalError {
    path: PathBuf,
    doing: &'static str,
    source: std::io::Error,
}

impl Explain for JournalError {
    fn class(&self) -> Class {
        Class::Failed
    }

    fn next_step(&self) -> Option<String> {
        Some("Check the state folder's disk and rights; the operation itself does not need it.".to_owned())
    }
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A person has confirmed it.
    Begun,
    /// A point is restored and proven; or there was nothing to restore.
    Restored,
    /// The daemon has taken it up, and goes on also without the command.
    Ordered,
    /// It came to its end.
    Done,
    /// It did not, or nobody waits for it any more.
    Failed,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by this site's clock.
    pub at: Timestamp,
    /// What: `failover`.
    pub operation: String,
    /// How far it is.
    pub step: Step,
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// The site's state then.
    pub state: Name,
    /// The term it held, or the highest it had seen.
    pub term: u64,
    /// The point that was restored, or taken last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Entry {
    /// Whether the operation is over.
    pub fn is_end(&self) -> bool {
        matches!(self.step, Step::Done | Step::Failed)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Begun => "begun",
            Step::Restored => "restored, and not seen to its end",
            Step::Ordered => "taken up by the daemon, and not seen to its end",
            Step::Done => "done",
            Step::Failed => "failed",
        })
    }
}

/// The journal of a site.
#[derive(Clone, Debug)]
pub struct Operations(PathBuf);

impl Operations {
    /// That of the site with this state folder.
    pub fn new(state: &Path) -> Self {
        Operations(state.join("operations.jsonl"))
    }

    fn wrong(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
        let path = self.0.clone();
        move |source| JournalError { path, doing, source }
    }

    /// Writes down one step.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn note(&self, entry: &Entry) -> Result<(), JournalError> {
        self.append(entry).map_err(self.wrong("written"))?;
        failpoint::hit("site.operation");
        Ok(())
    }

    fn append(&self, entry: &Entry) -> std::io::Result<()> {
        if let Some(folder) = self.0.parent() {
            durable::private_folder(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.0)?;
        let mut line = Vec::new();
        // What a kill has torn stays a line of its own.
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                line.push(b'\n');
            }
        }
        serde_json::to_writer(&mut line, entry)?;
        line.push(b'\n');
        // In one write: two commands may do so at once.
        file.write_all(&line)?;
        file.sync_all()
    }

    /// The newest steps, the newest first, at most `limit`; what is torn or of another release is left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn newest(&self, limit: usize) -> Result<Vec<Entry>, JournalError> {
        let tail = self.tail().map_err(self.wrong("read"))?;
        let lines = tail.rsplit(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).take(limit).collect())
    }

    fn tail(&self) -> std::io::Result<Vec<u8>> {
        let mut file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i64, step: Step) -> Entry {
        Entry {
            at: Timestamp::from_second(second).unwrap(),
            operation: "failover".to_owned(),
            step,
            operator: "root".to_owned(),
            reason: "ams burns".to_owned(),
            state: Name::Standby,
            term: 4,
            point: None,
            error: None,
        }
    }

    #[test]
    fn a_line_that_a_kill_has_torn_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::new(&folder.path().join("state"));
        assert_eq!(operations.newest(9).unwrap(), []);
        operations.note(&entry(1, Step::Begun)).unwrap();
        operations.note(&entry(2, Step::Restored)).unwrap();
        let path = folder.path().join("state/operations.jsonl");
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() - 9]).unwrap();
        assert_eq!(operations.newest(9).unwrap(), [entry(1, Step::Begun)]);
        operations.note(&entry(3, Step::Done)).unwrap();
        assert_eq!(operations.newest(9).unwrap(), [entry(3, Step::Done), entry(1, Step::Begun)]);
        assert_eq!(operations.newest(1).unwrap(), [entry(3, Step::Done)]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = operations.note(&entry(4, Step::Begun)).unwrap_err().to_string();
        assert!(error.starts_with("the journal of operations ") && error.ends_with(" cannot be written"), "{error}");
    }

    #[test]
    fn only_the_end_of_a_long_journal_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::new(folder.path());
        for second in 0..1000 {
            operations.note(&entry(second, Step::Begun)).unwrap();
        }
        let newest = operations.newest(usize::MAX).unwrap();
        assert!((100..1000).contains(&newest.len()), "{}", newest.len());
        assert_eq!(newest.first(), Some(&entry(999, Step::Begun)));
    }
}
