//! Each rule broken, one by one: every one of them is needed.
//!
//! M1 to M12 are numbered as in the study that the protocol comes from. M12 alone does no harm here: a promise is asked for
//! only while the lease runs, and then no acquire can be under way that the wait allows. The two rules are two locks on
//! one door, so both are broken; `wide` shows that either of them suffices.

#![cfg(test)]

use super::super::Rule;
use super::scenario::{People, Scenario, Store};
use super::search::search;
use super::world::World;
use super::{BACK, NOBODY, SWITCH, TAKE, drifting, even};

const TWO: &str = "two sites are live";
pub const OLD: &str = "a site opened with the data of an earlier term";

/// Searches, and fails unless it finds that harm.
pub fn breaks(scenario: Scenario, rules: &[Rule], harm: &str) {
    let scenario = scenario.broken(rules);
    let (found, name) = (search(World::new(&scenario), &scenario), scenario.name);
    let Some((wrong, steps)) = found.broken else { panic!("{name}: holds in {} states", found.states) };
    println!("{name}: {wrong} after {} steps ({} states, {:.1?})", steps.len(), found.states, found.took);
    assert_eq!(wrong, harm, "{name}, after:\n  {}", steps.join("\n  "));
}

#[test]
fn a_holder_that_counts_its_lease_wrongly_is_found() {
    let takeover = drifting().people(TAKE).rates([2, 3]);
    breaks(takeover.called("M1 validity counted from the answer"), &[Rule::CountFromSending], TWO);
    let suspend = even().people(TAKE).clock_stops();
    breaks(suspend.called("M6 a clock that stops in suspend"), &[], TWO);
    let killed = even().people(TAKE).crashes([1, 0]).revisions(2);
    breaks(killed.called("M7 open after a restart"), &[Rule::StartClosed], TWO);
    let writes = takeover.writes().revisions(2);
    let harm = "one site still writes while the other is live";
    breaks(writes.called("a write that takes longer than the lease lasts"), &[Rule::WriteFitsLease], harm);
}

#[test]
fn a_taker_that_does_not_wait_long_enough_is_found() {
    let takeover = drifting().people(TAKE).rates([2, 3]);
    breaks(takeover.called("M2 the wait counted from sending the read"), &[Rule::TimeFromReply], TWO);
    breaks(takeover.called("M3 a wait no longer than the lease").revisions(2), &[Rule::AllowForDrift], TWO);
    let force = even().people(People { force: true, ..NOBODY }).revisions(2);
    breaks(force.called("M10 force without proof"), &[Rule::ProveFence], TWO);
}

#[test]
fn a_witness_that_does_not_hold_the_record_is_found() {
    let takeover = even().people(TAKE);
    breaks(takeover.called("M4 a store that ignores conditions").store(Store::IgnoresConditions), &[], TWO);
    breaks(takeover.called("M5 a renewal without nonce"), &[Rule::FreshNonce], TWO);
    let put_back = takeover.store(Store::IsPutBack).revisions(4);
    breaks(put_back.called("M11 a witness restored from a backup"), &[], TWO);
}

#[test]
fn records_pruned_wrongly_are_found() {
    let pruned = even().people(TAKE).store(Store::Numbered);
    let harm = "a term fell, or got a second holder";
    breaks(pruned.called("the highest record pruned"), &[Rule::KeepHighest], harm);
    let listed_once = pruned.store(Store::NumberedListedOnce).revisions(4);
    breaks(listed_once.called("a create believed without another listing"), &[], TWO);
}

#[test]
fn a_release_or_a_return_out_of_order_is_found() {
    breaks(even().people(SWITCH).called("M8 released before closing"), &[Rule::CloseBeforeRelease], TWO);
    let returns = even().people(People { switch_back: true, ..NOBODY }).taken().revisions(4);
    breaks(returns.called("CLOSED reopens under another term"), &[Rule::ReopenSameTerm], OLD);
    let given_up = even().people(People { switch_back: true, give_up: true, ..TAKE }).revisions(2);
    let harm = "a site opened without having been started";
    breaks(given_up.called("open after a handing over given up"), &[Rule::StartBeforeOpen], harm);
    let stuck = even().people(BACK).released().revisions(5);
    breaks(stuck.called("stuck RELEASED: taken back in a later term"), &[Rule::TakeBackOwnTerm], OLD);
}

#[test]
fn a_promise_that_is_not_one_is_found() {
    let promises = even().people(TAKE).peers();
    breaks(promises.called("M9 a promise not kept"), &[Rule::HonourPromise], TWO);
    let both = [Rule::NoPromiseWhileAcquiring, Rule::AskWhileValid];
    breaks(promises.called("M12 a promise while acquiring, asked for too late").revisions(2), &both, TWO);
}
