//! What a site says of itself to people and programs: the state, and whatever explains it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory::Maintenance;
use crate::site::lease::{BootInstant, Lease, Name, Seen, Term, Timing, Why};
use crate::site::witness::Record;

/// Everything there is to say, with instants of this machine.
#[derive(Clone, Debug)]
pub struct Status {
    /// The protocol's state.
    pub lease: Lease,
    pub(super) timing: Timing,
    /// The record, as it was read or written last.
    pub record: Option<Record>,
    pub(super) answered_at: Option<BootInstant>,
    /// Why the witness could not be used, since it was last.
    pub witness_error: Option<String>,
    /// What could not be done at this site, since it last could.
    pub work_error: Option<String>,
    pub(super) work_failed_at: Option<Timestamp>,
    pub(super) work_next: Option<String>,
    /// Why what was begun was given up.
    pub refusal: Option<String>,
    pub(super) refusal_next: Option<String>,
    /// Whether writes are refused at the balancer.
    pub maintenance: Option<Maintenance>,
}

/// The same at one moment, as it is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusAt {
    /// The state.
    pub state: Name,
    /// The term it holds.
    pub term: Option<Term>,
    /// The highest term it has seen.
    pub highest_term: Term,
    /// The point that is restored and proven here, with which this site would be live: what was written since is not in it.
    pub restored: Option<String>,
    /// Whether the gate is open.
    pub open: bool,
    /// For how much longer, in milliseconds, if nothing were renewed.
    pub open_for_ms: u64,
    /// Why it is fenced or stale.
    pub why: Option<String>,
    /// For how long the record has stood still, as far as this site knows, while it holds no lease.
    pub still_for_ms: Option<u64>,
    /// For how long it must stand still before the lease can be taken from a silent holder.
    pub wait_ms: Option<u64>,
    /// How long ago the witness answered last.
    pub witness_answered_ms: Option<u64>,
    /// Why it has not since.
    pub witness_error: Option<String>,
    /// What could not be done at this site. It is tried again.
    pub work_error: Option<String>,
    /// When it failed last.
    pub work_failed_at: Option<Timestamp>,
    /// What a person can do about it.
    pub work_next: Option<String>,
    /// Why what was begun was given up.
    pub refusal: Option<String>,
    /// What a person can do then.
    pub refusal_next: Option<String>,
    /// Whether writes are refused at the balancer.
    pub maintenance: Option<Maintenance>,
    /// The record, as it was read or written last.
    pub record: Option<Record>,
}

impl Status {
    pub(super) fn new(lease: Lease, timing: Timing, maintenance: Option<Maintenance>) -> Self {
        Status {
            lease,
            timing,
            record: None,
            answered_at: None,
            witness_error: None,
            work_error: None,
            work_failed_at: None,
            work_next: None,
            refusal: None,
            refusal_next: None,
            maintenance,
        }
    }

    /// Notes what could not be done, when, and what to do about it; nothing, when it was done or is not wanted any more.
    pub(super) fn note_work(&mut self, failed: Option<(String, Timestamp, Option<String>)>) {
        (self.work_error, self.work_failed_at, self.work_next) = match failed {
            Some((what, at, next)) => (Some(what), Some(at), next),
            None => (None, None, None),
        };
    }

    /// Whether anything was heard of the witness yet: an answer, or why there is none.
    pub fn has_heard(&self) -> bool {
        self.answered_at.is_some() || self.witness_error.is_some()
    }

    /// Notes why what was begun was given up, and what to do then.
    pub(super) fn note_refusal(&mut self, refused: Option<(String, Option<String>)>) {
        (self.refusal, self.refusal_next) = match refused {
            Some((why, next)) => (Some(why), next),
            None => (None, None),
        };
    }

    /// What holds at `now`.
    pub fn at(&self, now: BootInstant) -> StatusAt {
        let lease = &self.lease;
        let open_until = lease.open_until();
        let watched = lease.watched(now);
        let wait = |(seen, _): (Seen, Duration)| millis(self.timing.wait_out(seen.ttl));
        StatusAt {
            state: lease.name(),
            term: lease.term(),
            highest_term: lease.highest(),
            restored: lease.restored().map(|point| point.to_string()),
            open: lease.gate_is_open(now),
            open_for_ms: open_until.map_or(0, |until| millis(until.since(now))),
            why: lease.why().map(|why: Why| why.to_string()),
            still_for_ms: watched.map(|(_, still)| millis(still)),
            wait_ms: watched.map(wait),
            witness_answered_ms: self.answered_at.map(|at| millis(now.since(at))),
            witness_error: self.witness_error.clone(),
            work_error: self.work_error.clone(),
            work_failed_at: self.work_failed_at,
            work_next: self.work_next.clone(),
            refusal: self.refusal.clone(),
            refusal_next: self.refusal_next.clone(),
            maintenance: self.maintenance.clone(),
            record: self.record.clone(),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
