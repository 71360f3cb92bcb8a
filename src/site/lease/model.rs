//! The protocol, searched through: every state that two sites, a witness and a network can reach within small bounds.
//!
//! The searches run the very [`step`](super::step) that ships. Times are a few milliseconds, so that a lease is two or three
//! ticks long; what matters is how they compare. Each search is bounded by how often the record may be written, and
//! says what it allows: kills, people's commands, promises, clocks at 2:2, 2:3 and 3:2. One that finds nothing must have
//! seen what it is about happen. With a rule broken it must find the harm: the test prints the shortest way to it.
//!
//! The bounds here fit into a test run without an optimising compiler. `make chaos` widens them ([`wide`]), and both walk at
//! random through a world in which everything may happen at any length ([`walks`]).

#![cfg(test)]

mod instants;
mod mutations;
mod scenario;
mod search;
mod site;
mod walks;
mod wide;
mod world;

use super::Timing;
use scenario::{People, Scenario, Store};
use search::search;
use world::World;

const RATES: [[u64; 2]; 3] = [[2, 2], [2, 3], [3, 2]];
const NOBODY: People = Scenario::plain("").people;
const TAKE: People = People { take: true, ..NOBODY };
const SWITCH: People = People { hand_over: true, restore: true, ..NOBODY };
const BACK: People = People { take_back: true, switch_back: true, ..NOBODY };

/// A lease of three ticks and a wait of as many for clocks at 2:3.
fn drifting() -> Scenario {
    Scenario::plain("").timing(Timing::small(6, 1, 200))
}

/// A lease of two ticks, where clocks run alike.
fn even() -> Scenario {
    Scenario::plain("")
}

/// Searches, and fails when it finds harm or does not get to where it should.
fn holds(scenario: &Scenario, seen: &[&str]) {
    let found = search(World::new(scenario), scenario);
    let Scenario { name, rates: [a, b], revisions_max, .. } = scenario;
    println!("{name}, clocks {a}:{b}, {revisions_max} revisions: holds in {} states, {:.1?}", found.states, found.took);
    if let Some((wrong, steps)) = found.broken {
        panic!("{name}: {wrong}, after:\n  {}", steps.join("\n  "));
    }
    for label in seen {
        assert!(found.labels.contains(label), "{name}: it never came to \"{label}\"; there were {:?}", found.labels);
    }
}

#[test]
fn a_takeover_by_waiting_never_meets_a_holder_that_still_believes() {
    let seen = ["B opens", "A undoes its fence"];
    holds(&even().called("takeover").people(TAKE), &seen);
    for rates in [[2, 3], [3, 2]] {
        holds(&drifting().called("takeover").people(TAKE).rates(rates), &seen);
    }
}

#[test]
fn a_planned_switch_has_no_moment_with_two_sites_and_loses_nothing() {
    holds(&even().called("planned switch").people(SWITCH), &["B opens", "the final point is taken"]);
}

#[test]
fn what_was_let_go_is_taken_back_only_while_nobody_took_it() {
    let taken_back = even().people(People { take_back: true, ..SWITCH });
    holds(&taken_back.called("switch, taken back"), &["A is told to take back", "A opens", "B opens"]);
    let too_late = even().called("taken back too late").people(BACK).released().revisions(5);
    holds(&too_late, &["A is told to take back", "the final point is taken"]);
}

#[test]
fn a_handing_over_given_up_opens_nothing_that_was_never_started() {
    let people = People { switch_back: true, give_up: true, ..TAKE };
    let scenario = even().called("handed on, given up").people(people).crashes([0, 1]);
    holds(&scenario.revisions(2), &["B is told to give that up", "B opens"]);
}

#[test]
fn a_promise_of_the_other_site_carries_a_holder_over_a_silent_witness() {
    holds(&even().called("promises").people(TAKE).peers().revisions(2), &["B opens", "the promise arrives"]);
}

#[test]
fn a_takeover_by_force_waits_for_proof() {
    let people = People { force: true, ..NOBODY };
    holds(&even().called("force").people(people).revisions(2), &["B opens", "A is switched off"]);
}

#[test]
fn a_kill_at_any_step_leaves_at_most_one_site_live() {
    holds(&even().called("A killed").people(TAKE).crashes([1, 0]).revisions(2), &["A undoes its fence"]);
    holds(&even().called("B killed").people(People { early: true, ..TAKE }).crashes([0, 1]).revisions(2), &["B opens"]);
}

#[test]
fn no_write_outlives_the_lease_it_was_begun_under() {
    let scenario = drifting().called("writes").people(TAKE).rates([2, 3]).writes().revisions(2);
    holds(&scenario, &["B opens", "a write to the vault begins"]);
}

#[test]
fn a_site_that_comes_back_needs_a_person_and_a_restore() {
    let people = People { rejoin: true, ..NOBODY };
    let rejoin = even().called("rejoin").people(people).taken().revisions(4);
    holds(&rejoin, &["A is told to rejoin", "a restore ends"]);
    let people = People { fence: true, ..NOBODY };
    holds(&even().called("fence lifted").people(people), &["A is told to lift its fence", "A opens"]);
}

#[test]
fn pruning_old_records_brings_none_of_them_back() {
    let scenario = even().called("numbered records").people(TAKE).store(Store::Numbered).revisions(2);
    holds(&scenario, &["a record is pruned", "B opens"]);
}
