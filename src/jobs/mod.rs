//! What the schedule of a site has run, and how its jobs stand.
//!
//! [`history`] is what is remembered of each job in the state folder, [`due`] what follows from that for a moment. A [`Standing`] is that, seen together with the schedule at
//! one instant: what `jobs` prints, a report judges, and the other site is told.

pub mod due;
pub mod history;
mod year;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use due::{Book, Moment, Start};
pub use history::{HistoryError, JobRecord, NOTHING_NEW, Pause, Run, RunVerdict, Running};

/// How one job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name in the schedule.
    pub name: String,
    /// What it does: `capture`, `rehearse`.
    pub kind: String,
    /// Whether it runs in the role this site has now; when not, nothing is missed.
    pub runs_here: bool,
    /// Since when it is under way.
    pub running_since: Option<Timestamp>,
    /// The newest run that has ended.
    pub last: Option<Run>,
    /// The end of the newest run that did what it should.
    pub done_at: Option<Timestamp>,
    /// Runs in a row that did not.
    pub failures: u32,
    /// How many of them are no alarm.
    pub failures_allowed: u32,
    /// When it runs next; absent when it is paused, is not of this site's role, or waits for another job.
    pub next_at: Option<Timestamp>,
    /// Since when a run is due that has not begun, once that is longer than it may wait.
    pub late_since: Option<Timestamp>,
    /// A pause that has not ended.
    pub pause: Option<Pause>,
    /// Why it does not run though it is its time, for a person.
    pub waits_for: Option<String>,
}

impl Standing {
    /// Whether it fails, and not yet often enough in a row for an alarm.
    pub fn is_forgiven(&self) -> bool {
        0 < self.failures && self.failures <= self.failures_allowed
    }
}
