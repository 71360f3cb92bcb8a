//! What goes wrong, and how often it did in which state; and where the faults are tried that need more than two drivers.
//!
//! In every seed besides: clocks at 0.9 to 1.1, people who promote at both sites and who force twice.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

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

/// Faults that this world cannot have: which, and the file and the name of a test that has them.
const ELSEWHERE: [(&str, &str, &str); 10] = [
    (
        "conditions ignored by the store",
        "tests/witness/keys.rs",
        "a_store_that_ignores_conditions_is_refused_with_the_reason",
    ),
    (
        "500 or 412 for our own write",
        "tests/witness/keys.rs",
        "a_write_whose_reply_is_lost_or_a_false_500_is_known_as_our_own_at_ceph_16",
    ),
    ("links cut, processes stopped", "tests/apart.rs", "with_etcd_and_haproxy_one_site_at_a_time_acknowledges"),
    ("a second daemon of one folder", "tests/one_live.rs", "what_is_refused_says_why_and_what_to_do"),
    (
        "the real state file torn",
        "src/site/driver/memory.rs",
        "a_file_that_is_torn_changed_or_another_sites_is_refused_with_the_way_out",
    ),
    ("the real disk full", "tests/watch.rs", "a_full_state_disk_is_told_and_the_site_goes_on_when_there_is_room"),
    (
        "the gate's port gone, sessions kept",
        "tests/balancer.rs",
        "haproxy_sends_traffic_where_the_gate_is_open_and_cuts_what_is_connected",
    ),
    ("the gate's port hangs", "tests/floating.rs", "a_gate_that_hangs_costs_its_host_the_address_in_time"),
    (
        "force with a proof, true or not",
        "src/site/lease/model/mutations.rs",
        "a_taker_that_does_not_wait_long_enough_is_found",
    ),
    ("a restore half done, resumed", "tests/kill.rs", "a_restore_killed_at_any_durable_step_goes_on_and_is_proven"),
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

#[test]
fn a_fault_that_is_tried_elsewhere_is_tried_there() {
    for (fault, file, test) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{fault}: {file} has no test {test}");
        println!("{fault:<36} {file}: {test}");
    }
}
