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
    /// Sinks that could not take it.
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

    /// Takes in what holds at `now`. An alarm about what is `unseen` stays as it is: neither over nor told again.
    pub fn see(&mut self, alarms: &[Alarm], unseen: &Unseen, sinks: &[SinkConfig], now: Timestamp) {
        for alarm in alarms {
            let patience = jiff::SignedDuration::try_from(alarm.patience.min(PATIENCE_MAX)).unwrap_or_default();
            let raised = self.alarms.entry(alarm.key.clone()).or_insert_with(|| Raised {
                severity: alarm.severity,
                what: String::new(),
                next: String::new(),
                since: now,
                tell_from: now.saturating_add(patience).unwrap_or(now),
                cleared_at: None,
                told: BTreeMap::new(),
                owed: BTreeSet::new(),
                subject: Subject::default(),
                is_hidden: false,
            });
            // It got worse: that is news.
            if alarm.severity > raised.severity {
                raised.told.clear();
            }
            (raised.severity, raised.cleared_at, raised.is_hidden) = (alarm.severity, None, false);
            raised.subject.clone_from(&alarm.subject);
            (raised.what, raised.next) = (alarm.what.clone(), alarm.next.clone());
        }
        for (key, raised) in &mut self.alarms {
            if raised.cleared_at.is_none() && !alarms.iter().any(|alarm| alarm.key == *key) {
                raised.is_hidden = unseen.has(&raised.subject);
                raised.cleared_at = (!raised.is_hidden).then_some(now);
            }
        }
        let listens = |name: &String, when: When| {
            sinks.iter().any(|sink| sink.name == *name && is_of_messages(sink) && sink.when.contains(&when))
        };
        self.alarms.retain(|_, raised| {
            // Whoever is configured no more, or does not want to hear of it, is not waited for.
            raised.told.retain(|sink, _| listens(sink, When::Alarm) || listens(sink, When::Recovery));
            raised.owed.retain(|sink| listens(sink, When::Alarm));
            let waits = raised.told.keys().any(|sink| listens(sink, When::Recovery)) || !raised.owed.is_empty();
            raised.cleared_at.is_none() || waits
        });
        self.sinks.retain(|name, _| sinks.iter().any(|sink| sink.name == *name));
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

    /// Notes that `sink` did not take these notices, because of `error`.
    pub fn refused(&mut self, sink: &str, notices: &[Notice], error: &str, now: Timestamp) {
        for notice in notices.iter().filter(|notice| notice.change == Change::Raised) {
            if let Some(raised) = self.alarms.get_mut(&notice.key) {
                raised.owed.insert(sink.to_owned());
            }
        }
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

impl Raised {
    /// What there is to tell `sink` of it.
    fn change(&self, sink: &SinkConfig, now: Timestamp) -> Option<Change> {
        let told = self.told.get(&sink.name);
        if self.cleared_at.is_some() {
            let knows = told.is_some() && sink.when.contains(&When::Recovery);
            return (knows || self.owed.contains(&sink.name)).then_some(Change::Recovered);
        }
        if !sink.when.contains(&When::Alarm) || is_ahead(now, self.tell_from, PATIENCE_MAX) {
            return None;
        }
        if self.is_hidden {
            return self.owed.contains(&sink.name).then_some(Change::Raised);
        }
        match told {
            None => Some(Change::Raised),
            Some(at) => (now.duration_since(*at).unsigned_abs() >= sink.repeat).then_some(Change::Repeated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HttpSink;
    use crate::config::reference::Reference;
    use crate::report::sample::at;

    fn sink(name: &str, when: &[When]) -> SinkConfig {
        let http = HttpSink { url: Reference::Env("X".to_owned()), ca_file: None };
        let repeat = Duration::from_secs(3_600);
        SinkConfig { name: name.to_owned(), kind: SinkKind::Webhook(http), when: when.to_vec(), repeat }
    }

    const BOTH: [When; 2] = [When::Alarm, When::Recovery];

    fn alarm(key: &str, severity: Severity) -> Alarm {
        let (what, next) = (format!("{key} broke"), "Mend it.".to_owned());
        Alarm { key: key.to_owned(), severity, what, next, patience: Duration::ZERO, subject: Subject::Looking }
    }

    /// A look that saw everything.
    fn seen() -> Unseen {
        Unseen::default()
    }

    /// Everything that is due, as `key change`; the sink takes it.
    fn told(memory: &mut Memory, sink: &SinkConfig, now: &str) -> Vec<String> {
        let due = memory.due(sink, at(now));
        memory.taken(&sink.name, &due, at(now));
        due.iter().map(|notice| format!("{} {:?}", notice.key, notice.change)).collect()
    }

    #[test]
    fn an_alarm_is_told_once_again_while_it_stands_and_once_when_it_is_over() {
        let ops = sink("ops", &BOTH);
        let sinks = [ops.clone()];
        let late = [alarm("point.late", Severity::Critical)];
        let mut memory = Memory::default();
        let mut look = |alarms: &[Alarm], now: &str| {
            memory.see(alarms, &seen(), &sinks, at(now));
            told(&mut memory, &ops, now)
        };
        assert_eq!(look(&[], "00:00:00"), [""; 0]);
        assert_eq!(look(&late, "00:01:00"), ["point.late Raised"]);
        assert_eq!(look(&late, "00:59:00"), [""; 0]);
        assert_eq!(look(&late, "01:01:00"), ["point.late Repeated"]);
        assert_eq!(look(&late, "01:02:00"), [""; 0]);
        assert_eq!(look(&[], "01:03:00"), ["point.late Recovered"]);
        assert_eq!(look(&[], "01:04:00"), [""; 0]);
        assert_eq!(look(&late, "01:05:00"), ["point.late Raised"], "it is another one");
        assert_eq!(memory.alarms.len(), 1);
    }

    #[test]
    fn what_was_told_outlives_the_process_and_what_was_not_taken_is_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let ops = sink("ops", &BOTH);
        let late = [alarm("point.late", Severity::Critical)];
        let mut memory = Memory::load(folder.path()).unwrap();
        memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:00:00"));
        assert_eq!(memory.due(&ops, at("00:00:00")).len(), 1);
        memory.save(folder.path()).unwrap();
        // Killed after the sink took it and before that was written down.
        let mut memory = Memory::load(folder.path()).unwrap();
        memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:01:00"));
        assert_eq!(told(&mut memory, &ops, "00:01:00"), ["point.late Raised"]);
        memory.save(folder.path()).unwrap();
        let mut memory = Memory::load(folder.path()).unwrap();
        memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:02:00"));
        assert_eq!(told(&mut memory, &ops, "00:02:00"), [""; 0]);
        memory.see(&[], &seen(), std::slice::from_ref(&ops), at("00:03:00"));
        memory.save(folder.path()).unwrap();
        let mut memory = Memory::load(folder.path()).unwrap();
        assert_eq!(told(&mut memory, &ops, "00:03:00"), ["point.late Recovered"]);

        let path = folder.path().join("alarms.json");
        std::fs::write(&path, "{\"format\":2}").unwrap();
        assert!(matches!(Memory::load(folder.path()), Err(NotifyError::Unsupported { format: 2, .. })));
        std::fs::write(&path, "{\"format\":1").unwrap();
        assert!(matches!(Memory::peek(folder.path()), Err(NotifyError::Damaged { .. })));
        assert_eq!(Memory::load(folder.path()).unwrap(), Memory::default());
        assert!(folder.path().join("alarms.json.damaged").exists(), "it is kept for whoever asks why");
    }

    #[test]
    fn a_sink_that_fails_is_left_alone_longer_and_longer_and_holds_up_no_other() {
        let (ops, pager) = (sink("ops", &BOTH), sink("pager", &BOTH));
        let sinks = [ops.clone(), pager.clone()];
        let mut memory = Memory::default();
        memory.see(&[alarm("point.late", Severity::Critical)], &seen(), &sinks, at("00:00:00"));
        let due = memory.due(&ops, at("00:00:00"));
        memory.refused("ops", &due, "refused", at("00:00:00"));
        assert_eq!(told(&mut memory, &pager, "00:00:00"), ["point.late Raised"]);
        assert!(memory.due(&ops, at("00:00:29")).is_empty() && !memory.due(&ops, at("00:00:30")).is_empty());
        memory.refused("ops", &due, "refused", at("00:00:30"));
        assert!(memory.due(&ops, at("00:01:29")).is_empty() && !memory.due(&ops, at("00:01:30")).is_empty());
        for _ in 0..40 {
            memory.refused("ops", &due, "refused", at("00:02:00"));
        }
        assert!(memory.due(&ops, at("00:31:59")).is_empty() && !memory.due(&ops, at("00:32:00")).is_empty());
        // A clock that was set back by a year must not silence a sink for a year.
        assert!(!memory.waits("ops", at("00:00:00")));
        // It came and went while nobody could be told: late is better than never.
        memory.see(&[], &seen(), &sinks, at("00:31:00"));
        assert_eq!(told(&mut memory, &ops, "00:32:00"), ["point.late Recovered"]);
        assert_eq!(told(&mut memory, &pager, "00:32:00"), ["point.late Recovered"]);
        memory.see(&[], &seen(), &sinks, at("00:33:00"));
        assert!(memory.alarms.is_empty() && memory.failing().next().is_none());
    }

    #[test]
    fn what_cannot_be_known_for_a_moment_wakes_nobody_and_what_gets_worse_is_news() {
        let ops = sink("ops", &BOTH);
        let sinks = [ops.clone()];
        let mut memory = Memory::default();
        let unknown = Alarm { patience: Duration::from_secs(300), ..alarm("vault.unusable", Severity::Critical) };
        memory.see(std::slice::from_ref(&unknown), &seen(), &sinks, at("00:00:00"));
        assert_eq!(told(&mut memory, &ops, "00:04:59"), [""; 0]);
        memory.see(&[], &seen(), &sinks, at("00:04:59"));
        assert!(memory.alarms.is_empty(), "nobody heard of it, nobody hears that it is over");
        memory.see(&[unknown], &seen(), &sinks, at("01:00:00"));
        assert_eq!(told(&mut memory, &ops, "01:05:00"), ["vault.unusable Raised"]);

        let mut memory = Memory::default();
        memory.see(&[alarm("proof.late", Severity::Warning)], &seen(), &sinks, at("00:00:00"));
        assert_eq!(told(&mut memory, &ops, "00:00:00"), ["proof.late Raised"]);
        memory.see(&[alarm("proof.late", Severity::Critical)], &seen(), &sinks, at("00:01:00"));
        assert_eq!(told(&mut memory, &ops, "00:01:00"), ["proof.late Raised"]);
        memory.see(&[alarm("proof.late", Severity::Warning)], &seen(), &sinks, at("00:02:00"));
        assert_eq!(told(&mut memory, &ops, "00:02:00"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_seen_is_neither_over_nor_told_again_and_what_is_configured_no_more_is_over() {
        let ops = sink("ops", &BOTH);
        let (mut memory, sinks) = (Memory::default(), [ops.clone()]);
        let late = |bucket: &str| Alarm {
            subject: Subject::Newest(Some(bucket.to_owned())),
            ..alarm(&format!("point.late.{bucket}"), Severity::Critical)
        };
        let failed =
            Alarm { subject: Subject::job("ams", "capture"), ..alarm("job.capture.failed", Severity::Warning) };
        let alarms = [late("a"), late("b"), failed.clone()];
        let mut look = |alarms: &[Alarm], unseen: &[Subject], now: &str| {
            let mut hidden = Unseen::default();
            unseen.iter().for_each(|subject| hidden.add(subject.clone()));
            memory.see(alarms, &hidden, &sinks, at(now));
            told(&mut memory, &ops, now)
        };
        let unseen = alarms.clone().map(|alarm| alarm.subject);
        assert_eq!(
            look(&alarms, &[], "00:00:00"),
            ["job.capture.failed Raised", "point.late.a Raised", "point.late.b Raised"]
        );
        // The vault is away, and the role is not known; a repetition is due meanwhile.
        assert_eq!(look(&[], &unseen, "00:01:00"), [""; 0]);
        assert_eq!(look(&[], &unseen, "02:00:00"), [""; 0]);
        // The source `b` is configured no more, and its vault is still away.
        assert_eq!(look(&[], &[unseen[0].clone(), unseen[2].clone()], "02:01:00"), ["point.late.b Recovered"]);
        assert_eq!(look(&[failed], &unseen[..1], "02:02:00"), ["job.capture.failed Repeated"], "it is seen to stand");
        assert_eq!(look(&[], &unseen[..1], "02:03:00"), ["job.capture.failed Recovered"]);
        assert_eq!(look(&[late("a")], &[], "02:04:00"), ["point.late.a Repeated"], "not raised: it never ended");
        assert_eq!(look(&[], &[], "02:05:00"), ["point.late.a Recovered"]);
    }

    #[test]
    fn an_outage_is_told_after_its_patience_also_when_it_hides_what_began_with_it() {
        let ops = sink("ops", &BOTH);
        let (mut memory, sinks) = (Memory::default(), [ops.clone()]);
        let patience = Duration::from_secs(300);
        let unusable = Alarm { patience, ..alarm("vault.unusable", Severity::Critical) };
        let subject = Subject::status("fra");
        let unbelieved = Alarm { patience, subject, ..alarm("site.fra.unbelieved", Severity::Critical) };
        let mut unseen = Unseen::default();
        unseen.add(unbelieved.subject.clone());
        memory.see(std::slice::from_ref(&unbelieved), &unseen, &sinks, at("00:00:00"));
        assert_eq!(memory.standing(at("00:04:59")), [""; 0], "a ping does not say it either");
        assert_eq!(told(&mut memory, &ops, "00:00:00"), [""; 0]);
        let mut look = |alarms: &[Alarm], now: &str| {
            memory.see(alarms, &unseen, &sinks, at(now));
            told(&mut memory, &ops, now)
        };
        assert_eq!(look(std::slice::from_ref(&unusable), "00:01:00"), [""; 0]);
        assert_eq!(
            look(&[unusable], "00:06:00"),
            ["vault.unusable Raised"],
            "of the other nobody knows whether it stood so long"
        );
        assert_eq!(look(&[unbelieved], "00:07:00"), ["site.fra.unbelieved Raised", "vault.unusable Recovered"]);
        memory.see(&[], &unseen, &sinks, at("00:08:00"));
        assert_eq!(
            memory.standing(at("00:08:00")),
            ["site.fra.unbelieved broke"],
            "and says it as long as it may be so"
        );
    }

    #[test]
    fn a_sink_hears_what_it_wants_to_and_one_that_is_gone_is_not_waited_for() {
        let (alarms_only, recoveries) = (sink("a", &[When::Alarm]), sink("r", &[When::Recovery]));
        let sinks = [alarms_only.clone(), recoveries.clone()];
        let mut memory = Memory::default();
        memory.see(&[alarm("point.late", Severity::Critical)], &seen(), &sinks, at("00:00:00"));
        assert_eq!(told(&mut memory, &alarms_only, "00:00:00"), ["point.late Raised"]);
        assert_eq!(told(&mut memory, &recoveries, "00:00:00"), [""; 0]);
        memory.see(&[], &seen(), &sinks, at("00:01:00"));
        assert_eq!(told(&mut memory, &alarms_only, "00:01:00"), [""; 0]);
        assert!(memory.alarms.is_empty());
        let both = sink("b", &BOTH);
        memory.see(&[alarm("point.late", Severity::Critical)], &seen(), std::slice::from_ref(&both), at("00:02:00"));
        told(&mut memory, &both, "00:02:00");
        memory.see(&[], &seen(), &[], at("00:03:00"));
        assert!(memory.alarms.is_empty() && memory.sinks.is_empty(), "it is configured no more");
    }
}
