//! What every witness must do, whatever it is made of, and whatever happens to it.

use std::time::{Duration, Instant};

use futures_util::future;
use jiff::Timestamp;
use warmspare::site::lease::{Nonce, Proposal, Revision, Side, Standing, Term, WitnessId};
use warmspare::site::witness::{Author, Opened, Outcome, Record, Witness, WitnessError};

use super::wire::{Line, Wire};

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

/// How long one request to a disturbed witness may take.
pub const REQUEST_MAX: Duration = Duration::from_secs(2);

/// A real store, behind a line that can be disturbed, and what happens to stores.
pub trait Rig {
    fn wire(&self) -> &Wire;

    /// The witness as another process opens it, by the line, with [`REQUEST_MAX`].
    async fn open(&self) -> Opened;

    /// Starts the server anew; one that forgets everything then does nothing.
    async fn restart(&mut self);

    /// Remembers the store as it is.
    async fn back_up(&mut self);

    /// Puts it back as it was.
    async fn put_back(&mut self);

    /// Deletes the record.
    async fn delete(&mut self);
}

/// Everything that happens to a witness: nobody believes what is not so, and afterwards it goes on.
pub async fn survives(rig: &mut impl Rig) {
    let ours = rig.open().await;
    won(&ours, None, &record(1, 1)).await;
    a_lost_reply_is_no_answer(rig, &ours).await;
    silence_has_an_end(rig, &ours).await;
    a_server_that_was_started_anew_goes_on(rig, &ours).await;
    what_was_put_back_is_told(rig, &ours).await;
    what_was_deleted_is_told(rig).await;
}

async fn unknown(witness: &Opened, expected: Revision, record: &Record) {
    let began = Instant::now();
    let outcome = witness.replace(Some(expected), record).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    let took = began.elapsed();
    assert!(took < REQUEST_MAX + Duration::from_secs(1), "a request has a limit, and this took {took:?}");
}

async fn a_lost_reply_is_no_answer(rig: &impl Rig, ours: &Opened) {
    let (first, _) = read(ours).await;
    rig.wire().set(Line::LosesAnswers);
    unknown(ours, first, &record(1, 2)).await;
    rig.wire().set(Line::Passes);
    let (second, there) = read(ours).await;
    assert_eq!(there.nonce, record(1, 2).nonce, "it was done, and is known by its nonce");
    // Another was faster: then our own, of which nothing was heard, is not there.
    let theirs = rig.open().await;
    let third = won(&theirs, Some(second), &record(1, 3)).await;
    rig.wire().set(Line::LosesAnswers);
    unknown(ours, second, &record(1, 4)).await;
    rig.wire().set(Line::Passes);
    let (revision, there) = read(ours).await;
    assert_eq!((revision, there.nonce), (third, record(1, 3).nonce));
}

/// No request takes longer than its limit, and what never arrived was not done.
pub async fn silence_has_an_end(rig: &impl Rig, ours: &Opened) {
    let (before, was) = read(ours).await;
    rig.wire().set(Line::Hangs);
    unknown(ours, before, &record(1, 5)).await;
    let began = Instant::now();
    let error = ours.read().await.unwrap_err();
    assert!(began.elapsed() < REQUEST_MAX + Duration::from_secs(1), "{error}");
    rig.wire().set(Line::Passes);
    assert_eq!(read(ours).await, (before, was), "what never arrived was not done");
}

async fn a_server_that_was_started_anew_goes_on(rig: &mut impl Rig, ours: &Opened) {
    let before = read(ours).await;
    rig.restart().await;
    assert_eq!(read(ours).await, before);
    let newer = record(1, 6);
    // The first may meet a connection of before.
    let _ = ours.replace(Some(before.0), &newer).await;
    let (revision, there) = read(ours).await;
    match there.nonce == newer.nonce {
        true => assert_ne!(revision, before.0),
        false => assert_ne!(won(ours, Some(before.0), &newer).await, before.0),
    }
}

/// A store that was put back is told of, and nothing is built upon what it shows.
pub async fn what_was_put_back_is_told(rig: &mut impl Rig, ours: &Opened) {
    let (revision, _) = read(ours).await;
    rig.back_up().await;
    let newer = won_at_last(ours, revision, &record(2, 7)).await;
    rig.put_back().await;
    let error = ours.read().await.unwrap_err();
    assert!(matches!(error, WitnessError::WentBack { read, .. } if read == newer), "{error}");
    // A process that has seen nothing cannot know; what its site has on its disk does (`Durable::highest`).
    let (shown, there) = read(&rig.open().await).await;
    assert_eq!((shown, there.term), (revision, 1));
    let outcome = ours.replace(Some(newer), &record(2, 8)).await;
    assert!(matches!(outcome, Outcome::Lost | Outcome::Unknown(_)), "{outcome:?}");
    // Whoever has seen nothing builds upon it, until its number is ours again: that is another record all the same.
    let theirs = rig.open().await;
    let (mut highest, mut nonce) = (revision, 100);
    while highest < newer {
        highest = won(&theirs, Some(highest), &record(1, nonce)).await;
        nonce += 1;
    }
    if highest == newer {
        let outcome = ours.replace(Some(newer), &record(2, 9)).await;
        assert!(matches!(outcome, Outcome::Lost | Outcome::Unknown(_)), "over what was never read: {outcome:?}");
        let error = ours.read().await.unwrap_err();
        assert!(matches!(error, WitnessError::WentBack { read, .. } if read == newer), "{error}");
    }
    assert_eq!(read(&theirs).await.1.nonce, record(1, nonce - 1).nonce);
}

/// Wins, though connections of before may be gone.
async fn won_at_last(witness: &Opened, expected: Revision, record: &Record) -> Revision {
    for _ in 0..3 {
        if let Outcome::Won(revision) = witness.replace(Some(expected), record).await {
            return revision;
        }
        let (revision, there) = read(witness).await;
        if there.nonce == record.nonce {
            return revision;
        }
    }
    panic!("it cannot be written any more")
}

/// So is one whose record was deleted.
pub async fn what_was_deleted_is_told(rig: &mut impl Rig) {
    let ours = rig.open().await;
    read(&ours).await;
    rig.delete().await;
    let error = ours.read().await.unwrap_err();
    assert!(matches!(error, WitnessError::WentBack { .. }) && error.to_string().contains("no record"), "{error}");
}
