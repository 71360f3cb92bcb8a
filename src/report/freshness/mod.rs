//! How fresh the backups are: a pure function from what is known to what is to be said of it.
//!
//! The facts are signed records of the vault, the standings of jobs, targets and one instant; no clock is read here and nothing
//! is opened. Whatever is not as it should be is a [`Line`] with a key that stays the same from look to look, so that
//! [`alarms`](super::alarms) can be raised from it and taken back.
//!
//! What is not known is said to be unknown. It is never taken for good: a report that cannot see a point does not say that it is fresh.

mod job;
mod point;
mod site;
#[cfg(test)]
mod tests;

pub use site::daemon_absent;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::subject::{Subject, Unseen};
use crate::config::{SourceName, TargetsConfig};
use crate::jobs::Standing;
use crate::point::Followed;
use crate::units::Span;
use crate::vault::layout::PointId;
use crate::vault::v1::{ProofRecord, StatusRecord};

/// The format of a report as JSON; docs/report.schema.json describes it.
pub const FORMAT: u32 = 1;

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The error, in one line.
    pub what: String,
    /// What to do about it.
    pub next: Option<String>,
}

/// A recovery point, as far as freshness goes.
#[derive(Clone, Debug)]
pub struct PointFacts {
    /// Its number.
    pub id: PointId,
    /// The instant it stands for, by the clock of the site that took it.
    pub captured_at: Timestamp,
    /// The site that took it.
    pub writer: String,
    /// Its closure verdict, as recorded.
    pub closure: String,
    /// Its sources. All of them are as old as the point: it is what fits together.
    pub sources: BTreeSet<SourceName>,
    /// What was recorded of each of its databases, by name, as it stands in the header.
    pub databases: BTreeMap<String, serde_json::Value>,
    /// How each of its buckets was mirrored.
    pub buckets: BTreeMap<SourceName, Mirrored>,
    /// What the mirror of each had followed by then, as far as that was counted.
    pub followed: BTreeMap<SourceName, Followed>,
    /// Rows the live site has written since, where somebody has counted them.
    pub rows_since: Option<u64>,
    /// Objects it has written, changed or deleted since, likewise.
    pub objects_since: Option<u64>,
    /// What was proven of it.
    pub proofs: Vec<ProofRecord>,
}

/// What the vault says.
#[derive(Clone, Debug, Default)]
pub struct VaultFacts {
    /// Every point that can be believed, the newest last.
    pub points: Vec<PointFacts>,
    /// Keys of records that are there and cannot be believed.
    pub damaged: Vec<String>,
    /// What each site says of itself.
    pub statuses: BTreeMap<String, Result<Option<StatusRecord>, Unread>>,
}

/// Everything that is known where the report is made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The system.
    pub system: String,
    /// The site that looks.
    pub site: String,
    /// The other one.
    pub other: String,
    /// Who is live; nothing when nobody is, or nobody here can tell.
    pub live: Option<String>,
    /// The instant of the look.
    pub at: Timestamp,
    /// What a point is to have a snapshot of.
    pub sources: Vec<SourceName>,
    /// How old things may be.
    pub targets: TargetsConfig,
    /// What the vault says, or why it says nothing.
    pub vault: Result<VaultFacts, Unread>,
    /// How the jobs of each site stand, as far as that is known here.
    pub jobs: BTreeMap<String, Result<Vec<Standing>, Unread>>,
    /// What others have to say: a sink that fails, a witness that cannot be used.
    pub others: Others,
}

/// What somebody else has to say in a report, and what he could not see.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// What is not as it should be.
    pub lines: Vec<Line>,
    /// Of what he can say nothing.
    pub unseen: Unseen,
}

impl From<Vec<Line>> for Others {
    fn from(lines: Vec<Line>) -> Self {
        Others { lines, unseen: Unseen::default() }
    }
}

/// What a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// It is worth knowing, and no alarm.
    Notice,
    /// It deserves a look.
    Attention,
    /// It cannot be known here.
    Unknown,
    /// A target is missed.
    Missed,
}

/// One thing that is not as it should be, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its name, the same from look to look.
    pub key: String,
    /// What it means.
    pub grade: Grade,
    /// What is the matter, with its object.
    pub what: String,
    /// What to do about it.
    pub next: String,
    /// What it is about.
    #[serde(skip)]
    pub subject: Subject,
}

/// All of it in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every target is met and nothing asks for attention.
    Fresh,
    /// Every target is met, but something deserves a look.
    Attention,
    /// Whether they are met cannot be known here.
    Unknown,
    /// A target is missed.
    Stale,
}

impl Verdict {
    fn of(lines: &[Line]) -> Self {
        match lines.iter().map(|line| line.grade).max() {
            None | Some(Grade::Notice) => Verdict::Fresh,
            Some(Grade::Attention) => Verdict::Attention,
            Some(Grade::Unknown) => Verdict::Unknown,
            Some(Grade::Missed) => Verdict::Stale,
        }
    }

    /// Whether every target is known to be met.
    pub fn meets_targets(self) -> bool {
        matches!(self, Verdict::Fresh | Verdict::Attention)
    }
}

/// The age of something against its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// The point; absent when there is none, or it is unknown.
    pub point: Option<String>,
    /// The instant it stands for.
    pub captured_at: Option<Timestamp>,
    /// Its age.
    pub age_seconds: Option<u64>,
    /// How old it may be.
    pub target_seconds: u64,
    /// Whether it is no older; absent when that is unknown.
    pub met: Option<bool>,
}

/// One source against its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceAt {
    /// The source: `database.builder`.
    pub source: String,
    /// The newest point that has it.
    pub newest: Measure,
    /// The newest of them of which a restore has shown it equal.
    pub proven: Measure,
    /// How it was mirrored for the newest point that has it, if it is a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<Mirrored>,
    /// What the last look at the other site's copy of it came to, if it is a bucket and somebody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reread: Option<Reread>,
}

/// What the last `verify` of a bucket read and found. Each run reads another share: what runs before it have read is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reread {
    /// The site that looked.
    pub site: String,
    /// When, by its clock.
    pub at: Timestamp,
    /// Objects that were looked for.
    pub objects: u64,
    /// Of those, the ones whose content was read and hashed.
    pub reread: u64,
    /// Their bytes.
    pub reread_bytes: u64,
    /// Objects that are not as recorded.
    pub faults: u64,
}

/// How a bucket was mirrored for a point. What a topology does not know is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirrored {
    /// Objects that the point has.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Objects that were copied for it.
    pub copied: u64,
    /// Bytes that were sent to the other site.
    pub sent_bytes: u64,
    /// Bytes that were not, because the other site had them under another key.
    pub saved_bytes: u64,
    /// Objects that the live site does not have any more.
    pub gone: u64,
    /// Objects that could not be mirrored.
    pub failed: u64,
}

/// What would be lost if the live site died now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Everything written after this instant, at the most; absent when there is no point or none is known.
    pub since: Option<Timestamp>,
    /// How much time that is.
    pub seconds: Option<u64>,
    /// Rows written since, by the counters of the live site; absent anywhere else, and where they cannot say.
    pub rows: Option<u64>,
    /// Objects written, changed or deleted since, by the mirror's count and a listing of its buckets: as often as either saw it. Absent
    /// anywhere else, and where that cannot be known.
    pub objects: Option<u64>,
}

/// A restore that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// The point.
    pub point: String,
    /// The site that restored it.
    pub site: String,
    /// When it ended, by that site's clock.
    pub finished_at: Timestamp,
    /// How long it took.
    pub seconds: u64,
    /// Whether what it brought was found equal.
    pub equal: bool,
    /// Whether it was of every source.
    pub complete: bool,
}

/// What is known of one site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteAt {
    /// The site.
    pub site: String,
    /// `live`, `spare`, or `unknown`.
    pub role: &'static str,
    /// When it said something of itself last, by its clock.
    pub said_at: Option<Timestamp>,
    /// How long ago that was.
    pub said_age_seconds: Option<u64>,
    /// Whether its last check found it ready; absent when it was never checked, or that is unknown.
    pub ready: Option<bool>,
    /// When that check was.
    pub checked_at: Option<Timestamp>,
    /// How its jobs stand; absent when that is unknown here.
    pub jobs: Option<Vec<Standing>>,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `report`.
    pub kind: &'static str,
    /// The system.
    pub system: String,
    /// The site that looked.
    pub site: String,
    /// When.
    pub at: Timestamp,
    /// Who is live; absent when nobody is, or nobody here can tell.
    pub live: Option<String>,
    /// All of it in a word.
    pub verdict: Verdict,
    /// All of it in a sentence.
    pub summary: String,
    /// Whether the vault could be read.
    pub vault_read: bool,
    /// How many points there are.
    pub points: Option<u64>,
    /// The newest point.
    pub newest: Measure,
    /// The newest point that a restore has proven equal, whole.
    pub proven: Measure,
    /// What the newest point's closure verdict is.
    pub closure: Option<String>,
    /// Each source.
    pub sources: Vec<SourceAt>,
    /// What would be lost now, if the newest point comes back.
    pub loss: Loss,
    /// And if only what was proven does.
    pub loss_proven: Loss,
    /// The last restores, the newest first.
    pub rehearsals: Vec<Rehearsal>,
    /// The two sites, the one that looked first.
    pub sites: Vec<SiteAt>,
    /// What is not as it should be, the worst first.
    pub lines: Vec<Line>,
    /// What could not be seen: that there is no line of it says nothing.
    #[serde(skip)]
    pub unseen: Unseen,
}

/// The points whose age, and what came after them, a report tells.
pub(super) fn told_of(facts: &Facts) -> BTreeSet<PointId> {
    let vault = facts.vault.iter();
    vault
        .flat_map(|vault| [point::newest(facts, vault), point::proven(vault)])
        .flatten()
        .map(|point| point.id)
        .collect()
}

/// Judges what is known.
pub fn judge(facts: &Facts) -> Report {
    let Others { lines: others, mut unseen } = facts.others.clone();
    let mut lines = Vec::new();
    let empty = VaultFacts::default();
    let vault = match &facts.vault {
        Ok(vault) => vault,
        Err(unread) => {
            lines.push(unread_line("vault.unusable", Subject::Looking, "the vault cannot be read", unread));
            unseen.add(Subject::Records);
            &empty
        }
    };
    let known = facts.vault.is_ok();
    let points = point::look(facts, vault, known, &mut lines, &mut unseen);
    let sites = site::look(facts, vault, known, &mut lines, &mut unseen);
    if let Some(key) = vault.damaged.first() {
        let what = format!("records of the vault that cannot be believed: {}, the first is {key}", vault.damaged.len());
        let next = "List them with `warmspare points`, and find out who changed or removed them.";
        lines.push(line("vault.damaged", Subject::Records, Grade::Attention, what, next));
    }
    lines.extend(others);
    // The worst first; within a grade in the order in which things were looked at.
    lines.sort_by_key(|line| std::cmp::Reverse(line.grade));
    let verdict = Verdict::of(&lines);
    Report {
        format: FORMAT,
        kind: "report",
        system: facts.system.clone(),
        site: facts.site.clone(),
        at: facts.at,
        live: facts.live.clone(),
        summary: summary(facts, verdict, &lines, &points),
        verdict,
        vault_read: known,
        points: known.then(|| u64::try_from(vault.points.len()).unwrap_or(u64::MAX)),
        newest: points.newest,
        proven: points.proven,
        closure: points.closure,
        sources: points.sources,
        loss: points.loss,
        loss_proven: points.loss_proven,
        rehearsals: points.rehearsals,
        sites,
        lines,
        unseen,
    }
}

fn summary(facts: &Facts, verdict: Verdict, lines: &[Line], points: &point::Points) -> String {
    match (verdict, lines.first()) {
        (Verdict::Fresh, _) | (_, None) => {
            let live = facts.live.as_deref().unwrap_or("the live site");
            let back = points.rehearsals.iter().find(|rehearsal| rehearsal.equal && rehearsal.complete);
            let back = back.map(|done| format!("; the last whole restore took {}", span(done.seconds)));
            let lost = points
                .loss
                .seconds
                .map_or("what is not in a point".to_owned(), |lost| format!("the last {}", span(lost)));
            format!("if {live} died now, {lost} would be lost{}", back.unwrap_or_default())
        }
        (_, Some(worst)) => {
            let further = lines.len() - 1;
            let more = if further > 0 { format!(", and {further} more") } else { String::new() };
            format!("{}{more}", worst.what)
        }
    }
}

pub(in crate::report) fn line(
    key: impl Into<String>,
    subject: Subject,
    grade: Grade,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Line {
    Line { key: key.into(), grade, what: what.into(), next: next.into(), subject }
}

fn unread_line(key: impl Into<String>, subject: Subject, what: &str, unread: &Unread) -> Line {
    let next = unread.next.clone().unwrap_or_else(|| "Find out why, then make the report again.".to_owned());
    line(key, subject, Grade::Unknown, format!("{what}: {}", unread.what), next)
}

/// How long before `now` it was; nothing is older than its future.
fn age(now: Timestamp, at: Timestamp) -> Duration {
    now.duration_since(at).try_into().unwrap_or_default()
}

/// What is dated from further in the future than a minute was dated by a clock that is wrong: its age is not known.
fn is_future(now: Timestamp, at: Timestamp) -> bool {
    at.duration_since(now) > SignedDuration::from_mins(1)
}

/// Says so: one alarm, however much of it there is.
fn apart(facts: &Facts, what: String, lines: &mut Vec<Line>) {
    if !lines.iter().any(|line| line.key == "clock.apart") {
        let next = format!("Compare the clocks of {} and {}; let NTP set both.", facts.site, facts.other);
        lines.push(line("clock.apart", Subject::Records, Grade::Unknown, what, next));
    }
}

pub(super) fn span(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

fn measure(now: Timestamp, found: Option<(PointId, Timestamp)>, target: Duration, known: bool) -> Measure {
    let (point, captured_at) = found.unzip();
    let old = captured_at.map(|at| age(now, at));
    Measure {
        point: point.map(|point| point.to_string()),
        captured_at,
        age_seconds: old.map(|old| old.as_secs()),
        target_seconds: target.as_secs(),
        met: (known && !captured_at.is_some_and(|at| is_future(now, at))).then(|| old.is_some_and(|old| old <= target)),
    }
}
