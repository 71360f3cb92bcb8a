//! `jobs/NAME.json` of the state folder: the runs of one job, and whether somebody has paused it.
//!
//! It is written before a run begins and after it has ended, so that a daemon that was killed finds the run it began.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Class, Explain};
use crate::failpoint;

/// The format of these files.
const FORMAT: u32 = 1;
/// Runs that are remembered.
const RUNS_MAX: usize = 50;

/// What a run says that had nothing to do.
pub const NOTHING_NEW: &str = "nothing new";

/// The memory of a job cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read or written.
    #[error("the record of job {name} at {path} cannot be used")]
    File {
        /// The job.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error("the record of job {name} at {path} is damaged: {what}")]
    Damaged {
        /// The job.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A later release wrote it.
    #[error("the record of job {name} at {path} has format {format}, which this release does not know")]
    Unsupported {
        /// The job.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl Explain for HistoryError {
    fn class(&self) -> Class {
        Class::Failed
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            HistoryError::File { .. } => {
                "See that the state folder is there, is this user's, and its disk not full.".to_owned()
            }
            HistoryError::Damaged { path, .. } => {
                format!("Move {} away: the job begins a new one, and runs when it is due next.", path.display())
            }
            HistoryError::Unsupported { .. } => "Use the release that wrote it, or a later one.".to_owned(),
        })
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunVerdict {
    /// It did what it should.
    Done,
    /// It came to its end, and what it found or made is stale or incomplete (exit code 4).
    Incomplete,
    /// It did not.
    Failed,
    /// It was refused for safety (exit code 3).
    Refused,
    /// It was ended after the time it may take.
    TimedOut,
    /// It was under way when its process or its machine died.
    Lost,
}

impl RunVerdict {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            RunVerdict::Done => "done",
            RunVerdict::Incomplete => "incomplete",
            RunVerdict::Failed => "failed",
            RunVerdict::Refused => "refused",
            RunVerdict::TimedOut => "timed-out",
            RunVerdict::Lost => "lost",
        }
    }

    /// Reads what [`RunVerdict::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        use RunVerdict::{Done, Failed, Incomplete, Lost, Refused, TimedOut};
        [Done, Incomplete, Failed, Refused, TimedOut, Lost].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was to begin; absent when a person asked for it.
    pub due_at: Option<Timestamp>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it came to.
    pub verdict: RunVerdict,
    /// One line for a person: the error, or what was done.
    pub what: String,
    /// The recovery point that it took or proved.
    pub point: Option<String>,
}

/// A run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// When it was to begin; absent when a person asked for it.
    pub due_at: Option<Timestamp>,
    /// When it began.
    pub started_at: Timestamp,
}

/// Somebody does not want a job to run for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself.
    pub until: Timestamp,
    /// Who.
    pub operator: String,
    /// Why.
    pub why: String,
}

/// All that is remembered of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    format: u32,
    /// Its name in the schedule.
    pub name: String,
    /// Since when the schedule of this site has it: nothing before that was missed.
    pub since: Timestamp,
    /// What is under way.
    pub running: Option<Running>,
    /// What has ended, the newest first.
    pub runs: Vec<Run>,
    /// The end of the newest run that did what it should.
    pub done_at: Option<Timestamp>,
    /// Runs in a row that did not.
    pub failures: u32,
    /// Whether somebody has paused it.
    pub pause: Option<Pause>,
    /// Up to when everything that was due has been run, or is not owed; [`JobRecord::since`] when absent.
    #[serde(default)]
    pub counted_to: Option<Timestamp>,
}

/// What every format begins with.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl JobRecord {
    /// A job that was never run.
    pub fn new(name: &str, since: Timestamp) -> Self {
        let name = name.to_owned();
        JobRecord {
            format: FORMAT,
            name,
            since,
            running: None,
            runs: Vec::new(),
            done_at: None,
            failures: 0,
            pause: None,
            counted_to: None,
        }
    }

    fn path(state: &Path, name: &str) -> PathBuf {
        state.join("jobs").join(format!("{name}.json"))
    }

    /// What the state folder of a site remembers of the job `name`; nothing before it was first written.
    ///
    /// # Errors
    /// [`HistoryError`], when there is something that cannot be read or believed.
    pub fn load(state: &Path, name: &str) -> Result<Option<Self>, HistoryError> {
        let path = JobRecord::path(state, name);
        let name = name.to_owned();
        let content = match durable::read(&path) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(None),
            Err(source) => return Err(HistoryError::File { name, path, source }),
        };
        let head = serde_json::from_slice(&content);
        if let Ok(Head { format }) = head
            && format > FORMAT
        {
            return Err(HistoryError::Unsupported { name, path, format });
        }
        let read: Result<JobRecord, _> = serde_json::from_slice(&content);
        match read {
            Ok(record) if record.name == name => Ok(Some(record)),
            Ok(record) => Err(HistoryError::Damaged { name, path, what: format!("it is of job {}", record.name) }),
            Err(error) => Err(HistoryError::Damaged { name, path, what: error.to_string() }),
        }
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// [`HistoryError::File`]; the old one is still there then.
    pub fn save(&self, state: &Path) -> Result<(), HistoryError> {
        let path = JobRecord::path(state, &self.name);
        let wrong = |source| HistoryError::File { name: self.name.clone(), path: path.clone(), source };
        let content = serde_json::to_vec(self).map_err(|error| wrong(error.into()))?;
        durable::private_folder(&state.join("jobs")).map_err(wrong)?;
        durable::replace(&path, &content).map_err(wrong)?;
        failpoint::hit("jobs.record");
        Ok(())
    }

    /// From when on it is owed what its line says.
    pub fn counted_from(&self) -> Timestamp {
        self.counted_to.unwrap_or(self.since)
    }

    /// Notes a run that has ended. Of several in a row that had nothing to do, the newest is remembered.
    pub fn ended(&mut self, run: Run) {
        self.running = None;
        let is_idle = |run: &Run| run.verdict == RunVerdict::Done && run.what.starts_with(NOTHING_NEW);
        if is_idle(&run) && self.runs.first().is_some_and(is_idle) {
            self.runs.remove(0);
        }
        if run.verdict == RunVerdict::Done {
            self.done_at = Some(run.ended_at);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.runs.insert(0, run);
        self.runs.truncate(RUNS_MAX);
    }

    /// The pause that holds at `now`.
    pub fn paused_at(&self, now: Timestamp) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| now < pause.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(second: i64, verdict: RunVerdict) -> Run {
        let what = "a run".to_owned();
        Run { due_at: None, started_at: at(second - 1), ended_at: at(second), verdict, what, point: None }
    }

    #[test]
    fn what_was_written_is_read_again_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(JobRecord::load(folder.path(), "capture").unwrap(), None);
        let mut record = JobRecord::new("capture", at(0));
        record.ended(run(5, RunVerdict::Done));
        record.save(folder.path()).unwrap();
        assert_eq!(JobRecord::load(folder.path(), "capture").unwrap(), Some(record));
        let path = JobRecord::path(folder.path(), "capture");
        std::fs::copy(&path, JobRecord::path(folder.path(), "other")).unwrap();
        let error = JobRecord::load(folder.path(), "other").unwrap_err().to_string();
        assert!(error.contains("it is of job capture"), "{error}");
        std::fs::write(&path, "{\"format\":2}").unwrap();
        let error = JobRecord::load(folder.path(), "capture").unwrap_err();
        assert!(matches!(error, HistoryError::Unsupported { format: 2, .. }), "{error}");
        std::fs::write(&path, "{\"format\":1").unwrap();
        let error = JobRecord::load(folder.path(), "capture").unwrap_err();
        assert!(matches!(error, HistoryError::Damaged { .. }), "{error}");
    }

    #[test]
    fn failures_in_a_row_are_counted_until_a_run_is_good() {
        let mut record = JobRecord::new("capture", at(0));
        for second in 1..=60 {
            record.ended(run(second, RunVerdict::Failed));
        }
        assert_eq!((record.failures, record.runs.len(), record.done_at), (60, RUNS_MAX, None));
        assert_eq!(record.runs.first().map(|run| run.ended_at), Some(at(60)));
        record.ended(run(61, RunVerdict::Done));
        assert_eq!((record.failures, record.done_at), (0, Some(at(61))));
    }
}
