//! The searches with wider bounds, and many walks: minutes. `make chaos` runs them.

#![cfg(test)]

use super::super::Rule;
use super::mutations::{OLD, breaks};
use super::scenario::{People, Scenario, Store};
use super::walks::walk;
use super::{BACK, NOBODY, RATES, SWITCH, TAKE, drifting, even, holds};

#[test]
#[ignore = "takes minutes; make chaos runs it"]
fn nothing_is_found_within_wider_bounds() {
    for rates in RATES {
        let drifting = || drifting().rates(rates);
        holds(&drifting().called("takeover").people(TAKE).revisions(4), &["B opens"]);
        holds(&drifting().called("planned switch").people(People { early: true, ..SWITCH }), &["B opens"]);
        holds(&drifting().called("promises").people(TAKE).peers(), &["B opens"]);
        holds(&drifting().called("force").people(People { force: true, ..NOBODY }), &["B opens"]);
        holds(&drifting().called("writes").people(TAKE).writes(), &["B opens"]);
    }
    let killed: Scenario = even().called("both killed").people(TAKE).crashes([1, 1]);
    holds(&killed, &["B opens"]);
    holds(&killed.called("both killed, with promises").peers().revisions(2), &["B opens"]);
    holds(
        &killed.called("both killed in a switch").people(People { early: true, ..SWITCH }).revisions(2),
        &["B opens"],
    );
    holds(&even().called("fence lifted").people(People { fence: true, ..TAKE }), &["B opens"]);
    holds(&even().called("numbered records").people(TAKE).store(Store::Numbered), &["B opens"]);
    let promises = even().people(TAKE).peers().revisions(2);
    holds(&promises.called("asked for too late").crashes([0, 1]).broken(&[Rule::AskWhileValid]), &["B opens"]);
    holds(&promises.called("promised while acquiring").broken(&[Rule::NoPromiseWhileAcquiring]), &["B opens"]);
}

#[test]
#[ignore = "takes minutes; make chaos runs it"]
fn what_is_let_go_and_taken_back_holds_within_wider_bounds() {
    let taken_back = People { take_back: true, early: true, ..SWITCH };
    holds(&even().called("switch, taken back").people(taken_back), &["the final point is taken"]);
    let too_late = even().called("taken back too late").released().revisions(5);
    holds(&too_late.people(People { restore: true, rejoin: true, ..BACK }), &["a restore ends", "A opens"]);
    let older = even().people(People { hand_over: true, take_back: true, ..TAKE }).revisions(4);
    breaks(older.called("an older restore goes live"), &[Rule::RestoredLastTerm], OLD);
    let back = People { hand_over: true, restore: true, ..BACK };
    holds(&even().called("there and back").people(back).revisions(5), &["B opens", "A opens"]);
}

#[test]
#[ignore = "takes minutes; make chaos runs it"]
fn many_long_histories_of_everything_have_one_live_site() {
    let opened: usize = (1000..6000).map(|seed| walk(seed, 2000)).sum();
    println!("5000 walks of 2000 steps: sites opened {opened} times");
}
