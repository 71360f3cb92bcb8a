//! What goes wrong, and how often it did in which state.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::site::lease::Name;

/// A fault at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The witness refuses.
    Refuse,
    /// It does not answer, and half of what it is sent is done all the same, up to three leases later.
    Hang,
    /// It does what it is told and the answer is lost, or says that it failed.
    LostReply,
    /// It does everything twice, and the answer is that of either.
    Duplicate,
    /// It shows the record before the last change.
    StaleRead,
    /// It takes up to more than a lease.
    Slow,
    /// Every other request is refused.
    Flapping,
    /// Killed, and started again.
    Kill,
    /// Stopped for longer than a lease; its clock goes on.
    Pause,
    /// Somebody sets its wall clock by an hour.
    ClockJump,
    /// The next save fails, or is the last thing it does.
    DiskFull,
    /// Every save fails, until a person has mounted the disk anew.
    ReadOnly,
    /// Killed, and what it saved last is torn: it does not start until a person has moved that away.
    TornState,
    /// Somebody deletes the record.
    Deleted,
    /// Somebody puts an earlier record in its place, as from a backup.
    PutBack,
}

pub const FAULTS: [Fault; 15] = [
    Fault::Refuse,
    Fault::Hang,
    Fault::LostReply,
    Fault::Duplicate,
    Fault::StaleRead,
    Fault::Slow,
    Fault::Flapping,
    Fault::Kill,
    Fault::Pause,
    Fault::ClockJump,
    Fault::DiskFull,
    Fault::ReadOnly,
    Fault::TornState,
    Fault::Deleted,
    Fault::PutBack,
];

/// The states in which each has to happen.
pub const STATES: [Name; 3] = [Name::Live, Name::Waiting, Name::Draining];

/// How often each fault began in each state.
#[derive(Default)]
pub struct Table(BTreeMap<(Fault, String), u64>);

impl Table {
    pub fn count(&mut self, fault: Fault, name: Name) {
        *self.0.entry((fault, name.to_string())).or_default() += 1;
    }

    pub fn add(&mut self, other: &Table) {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
    }

    fn of(&self, fault: Fault, name: Name) -> u64 {
        self.0.get(&(fault, name.to_string())).copied().unwrap_or(0)
    }

    pub fn least(&self) -> u64 {
        let all = FAULTS.into_iter().flat_map(|fault| STATES.map(|name| self.of(fault, name)));
        all.min().unwrap_or(0)
    }

    pub fn print(&self) -> String {
        let mut text = format!("{:<12}", "fault");
        STATES.iter().for_each(|name| write!(text, "{:>10}", name.to_string()).unwrap());
        for fault in FAULTS {
            write!(text, "\n{:<12}", format!("{fault:?}")).unwrap();
            STATES.iter().for_each(|name| write!(text, "{:>10}", self.of(fault, *name)).unwrap());
        }
        text
    }
}
