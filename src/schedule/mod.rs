//! When jobs run: pure functions of calendar lines, time zones and instants.
//!
//! ```text
//!  "17 * * * *" ─► Line ─► Calendar (civil times) ─► instants in a zone ─► + jitter ─► Job::next
//! ```
//!
//! A [`Schedule`] is the jobs of a profile, each of which can run and none of which waits for itself. What is due at a moment,
//! with what has been run, is decided in the room `jobs`. Nothing here reads a clock, a file or the zone database: zones are given.

mod calendar;
mod field;
mod line;
mod properties;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use line::{Line, LineError};

/// A wait after a failure grows no longer than this.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Takes a recovery point.
    Capture,
    /// Brings the spare's buckets up to the live ones, between two points.
    Mirror,
    /// Restores the newest point at the spare and proves it, unless it is proven there already.
    Rehearse,
    /// Looks whether the vault, and at the spare every mirrored bucket, still holds what it should.
    Verify,
    /// Removes what has expired.
    Prune,
    /// Proves that the next capture, or a restore, would work.
    Check,
    /// Says how fresh it all is.
    Report,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Kind; 7] =
        [Kind::Capture, Kind::Mirror, Kind::Rehearse, Kind::Verify, Kind::Prune, Kind::Check, Kind::Report];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Capture => "capture",
            Kind::Mirror => "mirror",
            Kind::Rehearse => "rehearse",
            Kind::Verify => "verify",
            Kind::Prune => "prune",
            Kind::Check => "check",
            Kind::Report => "report",
        }
    }

    /// Where it can run at all; either place when absent.
    pub fn only_on(self) -> Option<On> {
        match self {
            Kind::Capture | Kind::Mirror => Some(On::Live),
            Kind::Rehearse | Kind::Prune => Some(On::Spare),
            Kind::Verify | Kind::Check | Kind::Report => None,
        }
    }

    /// Whether it needs the site to itself: of such jobs one runs at a time.
    pub fn is_alone(self) -> bool {
        matches!(self, Kind::Capture | Kind::Mirror | Kind::Rehearse | Kind::Prune | Kind::Verify)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Kind::ALL.map(Kind::as_str).join(", ");
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| format!("`{text}` is no kind of job (there are: {})", known()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a site is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It takes live traffic, and may write.
    Live,
    /// It stands ready.
    Spare,
    /// It is about to become either, or must not be: nothing runs, and nothing is forgiven.
    Between,
}

/// The roles in which a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// At the live site.
    Live,
    /// At the spare.
    Spare,
    /// At either.
    Both,
}

impl On {
    /// Whether a job runs in this role.
    pub fn includes(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Between) => false,
            (On::Both, _) => true,
            (On::Live, role) => role == Role::Live,
            (On::Spare, role) => role == Role::Spare,
        }
    }

    /// Whether two jobs can ever run at one site in one role.
    fn meets(self, other: On) -> bool {
        self == On::Both || other == On::Both || self == other
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            On::Live => "live",
            On::Spare => "spare",
            On::Both => "both",
        }
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let on = [On::Live, On::Spare, On::Both].into_iter().find(|on| on.as_str() == text);
        on.ok_or_else(|| format!("`{text}` is none of live, spare, both"))
    }
}

/// One thing the schedule runs.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// When; absent for one that follows others.
    pub at: Option<Line>,
    /// The time zone of the line.
    pub zone: TimeZone,
    /// In which roles.
    pub on: On,
    /// Jobs that go before it.
    pub after: Vec<String>,
    /// How much later than its line says it runs: a share of its `jitter` that is always the same.
    pub delay: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it is tried again after a failure, until its next time.
    pub retries: u32,
    /// How long after the first failure; twice as long after each further one.
    pub retry_after: Duration,
    /// How many runs in a row may fail before that is an alarm.
    pub failures_allowed: u32,
    /// How long a run that is due may wait before it is late.
    pub late_after: Duration,
    /// Words for its command besides its own.
    pub arguments: Vec<String>,
}

/// The delay of a job within its jitter: by its name, so that many jobs are spread out and each is always the same.
pub fn delay(system: &str, job: &str, jitter: Duration) -> Duration {
    let hash = blake3::hash(format!("{system}\n{job}").as_bytes());
    let mut number = [0; 8];
    number.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    Duration::from_secs(u64::from_le_bytes(number) % jitter.as_secs().max(1))
}

impl Job {
    /// The first instant after `after` at which it is due by its line; none where it has no line, or no more dates.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let delay = SignedDuration::try_from(self.delay).ok()?;
        let after = after.checked_sub(delay).ok()?;
        self.at.as_ref()?.next(&self.zone, after)?.checked_add(delay).ok()
    }

    /// How long to wait after so many failures in a row.
    pub fn wait_after(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        // Whoever wants to wait longer than we would ever come to may.
        self.retry_after.saturating_mul(doubled).min(RETRY_MAX.max(self.retry_after))
    }
}

/// The jobs of a system.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    jobs: Vec<Job>,
}

/// Jobs that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It would never run.
    #[error("job {name} has neither `at` nor `after`: it would never run")]
    Never {
        /// The job.
        name: String,
    },
    /// It waits for what there is not.
    #[error("job {name} comes after {after}, which is no job, or none that is enabled")]
    Unknown {
        /// The job.
        name: String,
        /// The name it gives.
        after: String,
    },
    /// It waits for what never runs where it does.
    #[error("job {name} comes after {after}, which never runs at the same site")]
    Elsewhere {
        /// The job.
        name: String,
        /// What it waits for.
        after: String,
    },
    /// In one of its roles it waits for nothing that ever runs there.
    #[error(
        "job {name} is on {on} and has no `at`, but none of the jobs it comes after ({after}) runs at {place}: it would never run there"
    )]
    Nowhere {
        /// The job.
        name: String,
        /// Where it is to run.
        on: &'static str,
        /// What it waits for.
        after: String,
        /// Where none of that runs.
        place: &'static str,
        /// Where some of it does.
        only: &'static str,
    },
    /// It cannot do that there.
    #[error("job {name} is on {on}, but {kind} runs on {only} alone")]
    Place {
        /// The job.
        name: String,
        /// Where it is to run.
        on: &'static str,
        /// What it does.
        kind: Kind,
        /// Where that can be done.
        only: &'static str,
    },
    /// They wait for each other.
    #[error("these jobs wait for each other: {circle}")]
    Circle {
        /// Their names.
        circle: String,
    },
}

impl ScheduleError {
    /// How to mend it.
    pub fn next_step(&self) -> String {
        match self {
            ScheduleError::Never { .. } => {
                "Write a calendar line, at = \"17 * * * *\", or the job it follows.".to_owned()
            }
            ScheduleError::Unknown { .. } => "Write the name of a job, or take it out of `after`.".to_owned(),
            ScheduleError::Elsewhere { .. } => {
                "Give it a line of its own: a rehearsal does nothing while there is no newer point.".to_owned()
            }
            ScheduleError::Nowhere { only, .. } => {
                format!("Write on = \"{only}\", or give it a line of its own: at = \"17 * * * *\".")
            }
            ScheduleError::Place { only, .. } => format!("Write on = \"{only}\", or leave `on` out."),
            ScheduleError::Circle { .. } => "Take one of them out of an `after`.".to_owned(),
        }
    }
}

impl Schedule {
    /// These jobs, each name once.
    ///
    /// # Errors
    /// The first [`ScheduleError`].
    pub fn new(jobs: BTreeMap<String, Job>) -> Result<Self, ScheduleError> {
        for job in jobs.values() {
            let name = job.name.clone();
            if job.at.is_none() && job.after.is_empty() {
                return Err(ScheduleError::Never { name });
            }
            if let Some(only) = job.kind.only_on().filter(|only| job.on != *only) {
                let (on, only) = (job.on.as_str(), only.as_str());
                return Err(ScheduleError::Place { name, on, kind: job.kind, only });
            }
            for after in &job.after {
                let (name, after) = (name.clone(), after.clone());
                match jobs.get(&after) {
                    None => return Err(ScheduleError::Unknown { name, after }),
                    Some(before) if !before.on.meets(job.on) => return Err(ScheduleError::Elsewhere { name, after }),
                    Some(_) => {}
                }
            }
            follows(job, &jobs)?;
        }
        let jobs = in_order(jobs)?;
        Ok(Schedule { jobs })
    }

    /// The jobs; each after those that go before it.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

/// A job that only follows others has one to follow wherever it is to run.
fn follows(job: &Job, jobs: &BTreeMap<String, Job>) -> Result<(), ScheduleError> {
    let runs = |role: Role| job.after.iter().filter_map(|name| jobs.get(name)).any(|before| before.on.includes(role));
    for (role, place, only) in [(Role::Live, "the live site", On::Spare), (Role::Spare, "the spare", On::Live)] {
        if job.at.is_none() && job.on.includes(role) && !runs(role) {
            let (name, on, only) = (job.name.clone(), job.on.as_str(), only.as_str());
            return Err(ScheduleError::Nowhere { name, on, after: job.after.join(", "), place, only });
        }
    }
    Ok(())
}

/// Each job after those it waits for.
fn in_order(mut left: BTreeMap<String, Job>) -> Result<Vec<Job>, ScheduleError> {
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_free = |job: &Job| !job.after.iter().any(|before| left.contains_key(before));
        let free: Vec<String> = left.values().filter(|job| is_free(job)).map(|job| job.name.clone()).collect();
        if free.is_empty() {
            let circle = left.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(ScheduleError::Circle { circle });
        }
        order.extend(free.iter().filter_map(|name| left.remove(name)));
    }
    Ok(order)
}
