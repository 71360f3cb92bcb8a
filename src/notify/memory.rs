//! `alarms.json` of the state folder: which alarms stand since when, and whom they were told.
//!
//! What is to be told now is a pure question to it, and it is written after a sink has taken a notice. So a process that is killed between the
//! two tells it once more, and never loses it. An alarm that came and went while a sink could not be reached is told late: that it was, and
//! that it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NotifyError;
use super::message::{Change, Notice};
use crate::config::{SinkConfig, SinkKind, When};
use crate::durable;
use crate::failpoint;
use crate::report::alarms::{Alarm, Severity};
use crate::report::subject::{Subject, Unseen};

/// The format of the file.
const FORMAT: u32 = 1;
/// After a first failure, doubled by each further one.
const BACK_OFF: Duration = Duration::from_secs(30);
const BACK_OFF_MAX: Duration = Duration::from_secs(1_800);
/// No alarm is held back for longer.
const PATIENCE_MAX: Duration = Duration::from_secs(1_800);

/// An alarm that stands, or that is over and not everybody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Raised {
    severity: Severity,
    what: String,
    next: String,
    since: Timestamp,
    /// From when on it is told.
    tell_from: Timestamp,
    cleared_at: Option<Timestamp>,
    /// When each sink took it last.
    told: BTreeMap<String, Timestamp>,
    /// Sinks that are to be told that it was raised, or got worse, and have not taken that yet.
    owed: BTreeSet<String>,
    /// What it is about.
    #[serde(default)]
    subject: Subject,
    /// The last look could not see whether it stands still.
    #[serde(default)]
    is_hidden: bool,
}

/// What is remembered of one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkMemory {
    /// Failures in a row.
    pub failures: u32,
    /// Since when it fails.
    pub failing_since: Option<Timestamp>,
    /// Why it failed last.
    pub error: Option<String>,
    /// It is not tried again before.
    pub next_at: Option<Timestamp>,
    /// Of a ping: the run it told the beginning of last.
    pub started: Option<Timestamp>,
    /// Of a ping: the run it told the end of last; without a job, when it was told last.
    pub ended: Option<Timestamp>,
    /// Of a ping without a job: whether there were alarms then.
    pub failing: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    format: u32,
    alarms: BTreeMap<String, Raised>,
    sinks: BTreeMap<String, SinkMemory>,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { format: FORMAT, alarms: BTreeMap::new(), sinks: BTreeMap::new() }
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("alarms.json")
}

impl Memory {
    /// What the state folder of this site remembers. A file that is damaged is set aside: what stands is told once more then.
    ///
    /// # Errors
    /// When it cannot be read, or is a later release's.
    pub fn load(state: &Path) -> Result<Self, NotifyError> {
        match Memory::peek(state) {
            Err(NotifyError::Damaged { path, what }) => {
                let aside = path.with_extension("json.damaged");
                tracing::warn!(
                    "{} is damaged ({what}) and is set aside: what stands is told once more",
                    path.display()
                );
                std::fs::rename(&path, aside).map_err(|source| NotifyError::State { path, source })?;
                Ok(Memory::default())
            }
            found => found,
        }
    }

    /// The same, for who only looks: a damaged file stays where it is.
    ///
    /// # Errors
    /// As [`Memory::load`], and when it is damaged.
    pub fn peek(state: &Path) -> Result<Self, NotifyError> {
        let path = path(state);
        let wrong = |source| NotifyError::State { path: path.clone(), source };
        let Some(content) = durable::read(&path).map_err(wrong)? else { return Ok(Memory::default()) };
        if let Ok(Head { format }) = serde_json::from_slice(&content)
            && format > FORMAT
        {
            return Err(NotifyError::Unsupported { path, format });
        }
        serde_json::from_slice(&content).map_err(|error| NotifyError::Damaged { path, what: error.to_string() })
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// When the state folder cannot be written; the old one is still there then.
    pub fn save(&self, state: &Path) -> Result<(), NotifyError> {
        let path = path(state);
        let wrong = |source| NotifyError::State { path: path.clone(), source };
        let content = serde_json::to_vec(self).map_err(|error| wrong(error.into()))?;
        durable::private_folder(state).map_err(wrong)?;
        durable::replace(&path, &content).map_err(wrong)?;
        failpoint::hit("notify.memory");
        Ok(())
    }

    /// Takes in what holds at `now`, and whom it is to be told. An alarm about what is `unseen` stays as it is: neither over nor told again.
    pub fn see(&mut self, alarms: &[Alarm], unseen: &Unseen, sinks: &[SinkConfig], now: Timestamp) {
        alarms.iter().for_each(|alarm| self.raise(alarm, now));
        for (key, raised) in &mut self.alarms {
            if raised.cleared_at.is_none() && !alarms.iter().any(|alarm| alarm.key == *key) {
                raised.is_hidden = unseen.has(&raised.subject);
                raised.cleared_at = (!raised.is_hidden).then_some(now);
            }
            raised.owe(sinks, now);
        }
        let listens = |name: &String, when: When| sinks.iter().any(|sink| sink.name == *name && hears(sink, when));
        self.alarms.retain(|_, raised| {
            // Whoever is configured no more, or does not want to hear of it, is not waited for.
            raised.told.retain(|sink, _| listens(sink, When::Alarm) || listens(sink, When::Recovery));
            raised.owed.retain(|sink| listens(sink, When::Alarm));
            let waits = raised.told.keys().any(|sink| listens(sink, When::Recovery)) || !raised.owed.is_empty();
            raised.cleared_at.is_none() || waits
        });
        self.sinks.retain(|name, _| sinks.iter().any(|sink| sink.name == *name));
    }

    fn raise(&mut self, alarm: &Alarm, now: Timestamp) {
        let patience = jiff::SignedDuration::try_from(alarm.patience.min(PATIENCE_MAX)).unwrap_or_default();
        let tell_from = now.saturating_add(patience).unwrap_or(now);
        let raised = self.alarms.entry(alarm.key.clone()).or_insert_with(|| Raised {
            severity: alarm.severity,
            what: String::new(),
            next: String::new(),
            since: now,
            tell_from,
            cleared_at: None,
            told: BTreeMap::new(),
            owed: BTreeSet::new(),
            subject: Subject::default(),
            is_hidden: false,
        });
        // It was over, and not everybody knows: this is another one.
        if raised.cleared_at.take().is_some() {
            (raised.since, raised.tell_from) = (now, tell_from);
        }
        // It got worse: that is news to who knows of it.
        if alarm.severity > raised.severity {
            raised.owed.extend(raised.told.keys().cloned());
        }
        (raised.severity, raised.is_hidden) = (alarm.severity, false);
        raised.subject.clone_from(&alarm.subject);
        (raised.what, raised.next) = (alarm.what.clone(), alarm.next.clone());
    }

    /// What `sink` is to be told at `now`.
    pub fn due(&self, sink: &SinkConfig, now: Timestamp) -> Vec<Notice> {
        if !is_of_messages(sink) || self.waits(&sink.name, now) {
            return Vec::new();
        }
        let notice = |(key, raised): (&String, &Raised)| {
            let change = raised.change(sink, now)?;
            let Raised { severity, what, next, since, cleared_at, .. } = raised.clone();
            Some(Notice { key: key.clone(), change, severity, what, next, since, until: cleared_at })
        };
        self.alarms.iter().filter_map(notice).collect()
    }

    /// Whether a sink that failed is to be left alone for now.
    pub fn waits(&self, sink: &str, now: Timestamp) -> bool {
        self.sinks.get(sink).and_then(|sink| sink.next_at).is_some_and(|at| is_ahead(now, at, BACK_OFF_MAX))
    }

    /// What is remembered of a sink.
    pub fn of(&self, sink: &str) -> SinkMemory {
        self.sinks.get(sink).cloned().unwrap_or_default()
    }

    /// Notes that a ping told of something.
    pub fn pinged(&mut self, sink: &str, memory: SinkMemory) {
        self.sinks.insert(
            sink.to_owned(),
            SinkMemory { failures: 0, failing_since: None, error: None, next_at: None, ..memory },
        );
    }

    /// Notes that `sink` took these notices.
    pub fn taken(&mut self, sink: &str, notices: &[Notice], now: Timestamp) {
        let memory = self.of(sink);
        self.pinged(sink, memory);
        for notice in notices {
            let Some(raised) = self.alarms.get_mut(&notice.key) else { continue };
            raised.owed.remove(sink);
            if notice.change == Change::Recovered {
                raised.told.remove(sink);
            } else {
                raised.told.insert(sink.to_owned(), now);
            }
        }
    }

    /// Notes that `sink` did not take what it was told, because of `error`.
    pub fn refused(&mut self, sink: &str, error: &str, now: Timestamp) {
        let memory = self.sinks.entry(sink.to_owned()).or_default();
        let longer = 1_u32.checked_shl(memory.failures).unwrap_or(u32::MAX);
        let pause = BACK_OFF.saturating_mul(longer).min(BACK_OFF_MAX);
        memory.failures = memory.failures.saturating_add(1);
        memory.failing_since = memory.failing_since.or(Some(now));
        memory.error = Some(error.to_owned());
        memory.next_at = now.saturating_add(jiff::SignedDuration::try_from(pause).unwrap_or_default()).ok();
    }

    /// The sinks that fail, with what is remembered of them.
    pub fn failing(&self) -> impl Iterator<Item = (&String, &SinkMemory)> {
        self.sinks.iter().filter(|(_, sink)| sink.failures > 0)
    }

    /// What stands at `now`, in a line each, the worst first: also what could not be seen, but nothing that has not stood long enough yet.
    pub fn standing(&self, now: Timestamp) -> Vec<&str> {
        let stands = |raised: &&Raised| raised.cleared_at.is_none() && !is_ahead(now, raised.tell_from, PATIENCE_MAX);
        let mut standing: Vec<&Raised> = self.alarms.values().filter(stands).collect();
        standing.sort_by_key(|raised| std::cmp::Reverse(raised.severity));
        standing.into_iter().map(|raised| raised.what.as_str()).collect()
    }
}

/// Whether `at` is still to come. Further away than it was ever put it says that the clock was set back, and is over.
fn is_ahead(now: Timestamp, at: Timestamp, most: Duration) -> bool {
    now < at && at.duration_since(now).unsigned_abs() <= most
}

fn is_of_messages(sink: &SinkConfig) -> bool {
    !matches!(sink.kind, SinkKind::Ping { .. })
}

/// Whether it is told of this in messages.
fn hears(sink: &SinkConfig, when: When) -> bool {
    is_of_messages(sink) && sink.when.contains(&when)
}

impl Raised {
    /// Notes who is to be told that it stands. Whoever is left alone for now, or is not told before this process dies, is told later,
    /// if need be that it was and is over.
    fn owe(&mut self, sinks: &[SinkConfig], now: Timestamp) {
        if self.cleared_at.is_none() && !self.is_hidden && !is_ahead(now, self.tell_from, PATIENCE_MAX) {
            let hear = sinks.iter().filter(|sink| hears(sink, When::Alarm));
            self.owed.extend(hear.map(|sink| sink.name.clone()).filter(|name| !self.told.contains_key(name)));
        }
    }

    /// What there is to tell `sink` of it.
    fn change(&self, sink: &SinkConfig, now: Timestamp) -> Option<Change> {
        let (told, is_owed) = (self.told.get(&sink.name), self.owed.contains(&sink.name));
        if self.cleared_at.is_some() {
            let knows = told.is_some() && sink.when.contains(&When::Recovery);
            return (knows || is_owed).then_some(Change::Recovered);
        }
        if !sink.when.contains(&When::Alarm) || is_ahead(now, self.tell_from, PATIENCE_MAX) {
            return None;
        }
        if is_owed {
            return Some(Change::Raised);
        }
        let is_time = |at: &Timestamp| now.duration_since(*at).unsigned_abs() >= sink.repeat;
        (!self.is_hidden && told.is_some_and(is_time)).then_some(Change::Repeated)
    }
}

#[cfg(test)]
mod tests;
