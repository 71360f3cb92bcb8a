//! What every witness must do, whatever it is made of.

use std::time::Duration;

use futures_util::future;
use jiff::Timestamp;
use warmspare::site::lease::{Nonce, Proposal, Revision, Side, Standing, Term, WitnessId};
use warmspare::site::witness::{Author, Outcome, Record, Witness};

/// A record of `ams` in that term; the nonce tells whose it is.
pub fn record(term: u64, nonce: u128) -> Record {
    let at = Timestamp::now();
    let (witness, operator, reason) = (WitnessId(7), "eva", "a test");
    let author = Author { system: "builder", us: "ams", them: "fra", witness, at, operator, reason };
    let (standing, ttl) = (Standing::Held(Side::Us), Duration::from_secs(60));
    Record::new(&Proposal { term: Term(term), standing, seq: 1, nonce: Nonce(nonce), ttl }, &author)
}

/// The revision that a write which must succeed gets.
pub async fn won(witness: &impl Witness, expected: Option<Revision>, record: &Record) -> Revision {
    match witness.replace(expected, record).await {
        Outcome::Won(revision) => revision,
        other => panic!("{other:?} for term {} in place of {expected:?}", record.term),
    }
}

/// The record, which is there.
pub async fn read(witness: &impl Witness) -> (Revision, Record) {
    witness.read().await.unwrap().expect("there is a record")
}

/// Runs the whole suite on a witness that was never set up.
pub async fn conforms(witness: &impl Witness) {
    assert_eq!(witness.read().await.unwrap(), None, "never set up");
    of_many_who_set_it_up_one_wins(witness).await;
    what_was_replaced_is_read(witness).await;
    of_many_who_take_over_one_wins(witness).await;
    a_write_that_is_repeated_is_known_by_its_nonce(witness).await;
}

async fn of_many_who_set_it_up_one_wins(witness: &impl Witness) {
    race(witness, None, 1).await;
    let lost = witness.replace(None, &record(1, 99)).await;
    assert!(matches!(lost, Outcome::Lost), "{lost:?}");
}

async fn what_was_replaced_is_read(witness: &impl Witness) {
    let (first, before) = read(witness).await;
    let newer = record(1, 500);
    let second = won(witness, Some(first), &newer).await;
    assert_ne!(first, second);
    assert_eq!(read(witness).await, (second, newer.clone()));
    for stale in [Some(first), None] {
        let lost = witness.replace(stale, &before).await;
        assert!(matches!(lost, Outcome::Lost), "{lost:?} in place of {stale:?}");
        assert_eq!(read(witness).await, (second, newer.clone()), "a write that lost changes nothing");
    }
}

async fn of_many_who_take_over_one_wins(witness: &impl Witness) {
    for term in 2..5 {
        let (revision, _) = read(witness).await;
        race(witness, Some(revision), term).await;
    }
}

/// 32 at once, each with a nonce of its own. Who is not told that it won must not be there; nor may two be.
async fn race(witness: &impl Witness, expected: Option<Revision>, term: u64) {
    let race = (0..32).map(|nonce| async move { (nonce, witness.replace(expected, &record(term, nonce)).await) });
    let all = future::join_all(race).await;
    let winners: Vec<_> = all.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Won(_))).collect();
    assert!(winners.len() <= 1, "{winners:?} won");
    let (revision, there) = read(witness).await;
    assert_eq!(there.term, term);
    for (nonce, outcome) in &all {
        let is_there = there == Record { wallclock: there.wallclock, ..record(term, *nonce) };
        match outcome {
            Outcome::Won(won) => assert!(is_there && *won == revision, "{nonce} was told that it won"),
            Outcome::Lost => assert!(!is_there, "{nonce} was told that it lost"),
            Outcome::Unknown(_) => {}
        }
    }
    let unknown = all.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Unknown(_))).count();
    assert!(unknown < 16, "{unknown} of 32 were not told what came of it: {all:?}");
}

async fn a_write_that_is_repeated_is_known_by_its_nonce(witness: &impl Witness) {
    let (expected, _) = read(witness).await;
    let ours = record(9, 900);
    let revision = won(witness, Some(expected), &ours).await;
    match witness.replace(Some(expected), &ours).await {
        Outcome::Won(again) => assert_eq!(again, revision),
        Outcome::Lost => assert_eq!(read(witness).await, (revision, ours)),
        Outcome::Unknown(error) => panic!("{error}"),
    }
}
