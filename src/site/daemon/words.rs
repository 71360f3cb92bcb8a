//! What is said over the control socket: one question a line, and its answer, as JSON.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::jobs::{Run, Standing};
use crate::site::driver::{Ordered, StatusAt};
use crate::site::lease::{Command, Done, Pace, Side, Term};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// How it stands.
    Status,
    /// Who is live, in which term, and until when writes may run: told again at every change, until this end hangs up.
    Lead,
    /// Of the jobs.
    Jobs {
        /// What.
        question: JobAsk,
    },
    /// Do this.
    Order {
        /// What.
        order: Wish,
        /// Who wants it.
        operator: String,
        /// Why.
        reason: String,
    },
}

/// A question about jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum JobAsk {
    /// How each stands.
    All,
    /// Run this one now, and tell when it begins and how it ended.
    Run {
        /// Its name.
        job: String,
    },
    /// Do not run it for a while.
    Pause {
        /// Its name.
        job: String,
        /// It ends by itself.
        until: Timestamp,
        /// Who wants it.
        operator: String,
        /// Why.
        why: String,
    },
    /// Run it again.
    Resume {
        /// Its name.
        job: String,
    },
}

/// What people can want, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// Begin to restore, in order to take over.
    Restore,
    /// The restore is done and proven, of this point if of one.
    Restored {
        /// As `warmspare points` lists it.
        point: Option<String>,
    },
    /// It failed.
    RestoreFailed,
    /// Give up what was begun.
    Cancel,
    /// Take the lease.
    Acquire {
        /// Only from this term.
        if_term: Option<u64>,
    },
    /// Hand over.
    Release {
        /// To the other site, and to no one else.
        to_other: bool,
    },
    /// Close, and stay closed.
    Fence,
    /// Open again after that.
    LiftFence,
    /// Become the spare.
    Rejoin,
    /// Refuse writes at the balancer.
    MaintenanceOn,
    /// Allow them again.
    MaintenanceOff,
}

/// As it is typed.
impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wish::Restore | Wish::Restored { .. } | Wish::RestoreFailed | Wish::Acquire { .. } => "failover",
            Wish::Release { to_other: true } => "switchover",
            Wish::Release { to_other: false } => "release",
            Wish::Cancel => "lease cancel",
            Wish::Fence => "lease fence",
            Wish::LiftFence => "lease lift",
            Wish::Rejoin => "lease rejoin",
            Wish::MaintenanceOn => "gate maintenance on",
            Wish::MaintenanceOff => "gate maintenance off",
        })
    }
}

impl Wish {
    /// As the driver takes it; nothing when the name of a point is none.
    pub(super) fn ordered(self, reason: &str) -> Option<Ordered> {
        Some(match self {
            Wish::Restore => Ordered::Command(Command::Restore),
            Wish::Restored { point } => {
                let point = point.map(|point| point.parse()).transpose().ok()?;
                Ordered::Done(Done::Restored(point))
            }
            Wish::RestoreFailed => Ordered::Done(Done::RestoreFailed),
            Wish::Cancel => Ordered::Command(Command::Cancel),
            Wish::Acquire { if_term } => {
                Ordered::Command(Command::Acquire { if_term: if_term.map(Term), pace: Pace::Wait })
            }
            Wish::Release { to_other } => Ordered::Command(Command::Release { to: to_other.then_some(Side::Them) }),
            Wish::Fence => Ordered::Command(Command::Fence),
            Wish::LiftFence => Ordered::Command(Command::LiftFence),
            Wish::Rejoin => Ordered::Command(Command::Rejoin),
            Wish::MaintenanceOn => Ordered::MaintenanceOn { why: reason.to_owned() },
            Wish::MaintenanceOff => Ordered::MaintenanceOff,
        })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Told {
    /// How it stands.
    Status {
        /// All of it.
        status: Box<StatusAt>,
    },
    /// Who leads.
    Lead {
        /// It.
        lead: Lead,
    },
    /// How jobs stand.
    Jobs {
        /// Each.
        jobs: Vec<Standing>,
    },
    /// A run has ended.
    Ran {
        /// It.
        run: Run,
    },
    /// It was taken up.
    Done,
    /// It was not.
    Refused {
        /// Why.
        what: String,
        /// What to do.
        next: Option<String>,
    },
}

/// The role of this site at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// The site that is live, or may yet be.
    pub live: Option<String>,
    /// The state of this one.
    pub state: String,
    /// The term.
    pub term: u64,
    /// Until when what is written must be over, in nanoseconds of CLOCK_BOOTTIME; none while nothing may be.
    pub until_ns: Option<u64>,
    /// The machine's CLOCK_BOOTTIME when this was said: in another time namespace it is another, and nothing can be said.
    pub now_ns: u64,
}
