//! The world around the drivers: one time, a clock for each site that goes at its own rate, and mail to the witness that is late,
//! lost, doubled or answered from yesterday.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::super::alarm::Alarm;
use super::faults::Fault;
use super::site::NAMES;
use crate::clock::Clock;
use crate::site::lease::{BootInstant, Nonce, Proposal, Revision, Side, Standing, Term, WitnessId};
use crate::site::witness::record::Author;
use crate::site::witness::{Outcome, Record, Witness, WitnessError};

pub const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// Numbers from a seed (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// Once in `many` times.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Something on its way to the witness.
#[derive(Clone)]
struct Mail {
    id: u64,
    op: Op,
    /// When the answer arrives, if it does.
    reply_at: Option<u64>,
    /// What it says, whatever was done.
    says: Says,
}

#[derive(Clone)]
enum Op {
    Read,
    /// What is to be replaced, by its number and where it was read by its nonce; and by what.
    Replace(Option<(Revision, Option<String>)>, Box<Record>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Truth,
    Failed,
    /// The record before the last change.
    Stale,
}

enum Reply {
    Read(Option<Box<(Revision, Record)>>),
    Won(Revision),
    Lost,
    Failed,
}

pub struct World {
    /// Nanoseconds since the beginning.
    pub now: u64,
    pub rng: Rng,
    record: Option<(Revision, Record)>,
    before: Option<(Revision, Record)>,
    /// All that the record was, oldest first.
    history: Vec<(Revision, Record)>,
    /// The highest term there was in it.
    highest: Term,
    /// Whether the record was taken away or put back, and nobody has mended that.
    pub is_spoiled: bool,
    wakes: BTreeSet<u64>,
    mail: BTreeMap<(u64, u64), Mail>,
    replies: BTreeMap<u64, (u64, Reply)>,
    serial: u64,
    /// What is wrong with each site's way to the witness, and until when.
    pub links: [Option<(Fault, u64)>; 2],
    /// How fast each site's clock goes, in thousandths.
    rates: [u64; 2],
    /// What each site's wall clock is off by, in seconds.
    pub walls: [i64; 2],
}

pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let rates = [rng.between(900, 1101), rng.between(900, 1101)];
        World {
            now: 0,
            rng,
            record: None,
            before: None,
            history: Vec::new(),
            highest: Term(0),
            is_spoiled: false,
            wakes: BTreeSet::new(),
            mail: BTreeMap::new(),
            replies: BTreeMap::new(),
            serial: 0,
            links: [None, None],
            rates,
            walls: [0, 0],
        }
    }

    /// What `witness init --term` leaves: released, to ams or to whoever comes.
    pub fn set_up(&mut self, to: Option<Side>, least: Term) {
        let standing = Standing::Released { to, point: None };
        let (nonce, witness) = (Nonce(u128::from(self.rng.next())), WitnessId(u128::from(self.rng.next())));
        let term = self.highest.max(least);
        let proposal = Proposal { term, standing, seq: 0, nonce, ttl: Duration::from_secs(60) };
        let (us, them) = (NAMES[0], NAMES[1]);
        let at = "2026-11-21T04:00:00Z".parse().unwrap();
        let author = Author { system: "builder", us, them, witness, at, operator: "eva", reason: "new" };
        let record = Record::new(&proposal, &author);
        (self.before, self.is_spoiled, self.highest) = (None, false, term);
        self.history = vec![(Revision(1), record.clone())];
        self.record = Some((Revision(1), record));
    }

    /// Takes the record away. Whether there was one.
    pub fn delete(&mut self) -> bool {
        self.before = self.record.take();
        self.is_spoiled = true;
        self.before.is_some()
    }

    /// Puts an earlier record back, as from a backup; whether there is one. Of an earlier term only if both sites have `seen` a later
    /// one: who has not cannot know, and takes what was let go then. So says the protocol, and never to restore a witness.
    pub fn put_back(&mut self, seen: [Term; 2]) -> bool {
        let Some((revision, record)) = &self.record else { return false };
        let is_known = seen.iter().all(|seen| seen.0 >= record.term);
        let may_be = |(_, (earlier, old)): &(usize, &(Revision, Record))| {
            earlier < revision && (old.term == record.term || is_known)
        };
        let places: Vec<usize> =
            self.history.iter().enumerate().rev().filter(may_be).map(|(place, _)| place).take(40).collect();
        if places.is_empty() {
            return false;
        }
        let place = places[usize::try_from(self.rng.below(places.len() as u64)).unwrap()];
        self.history.truncate(place + 1);
        self.before = std::mem::replace(&mut self.record, self.history.last().cloned());
        self.is_spoiled = true;
        true
    }

    /// A site's time since its boot.
    pub fn boot(&self, site: usize) -> BootInstant {
        let booted = 1000 * SECOND * (site as u64 + 1);
        BootInstant(Duration::from_nanos(booted + self.now * self.rates[site] / 1000))
    }

    fn wall(&self, site: usize) -> Timestamp {
        let since =
            i128::try_from(self.boot(site).0.as_nanos()).unwrap() + i128::from(self.walls[site]) * 1_000_000_000;
        Timestamp::from_nanosecond(since + 1_700_000_000_000_000_000).unwrap()
    }

    /// The first moment at which a site's clock shows `instant`.
    fn when(&self, site: usize, instant: BootInstant) -> u64 {
        let since = u64::try_from(instant.0.as_nanos()).unwrap().saturating_sub(1000 * SECOND * (site as u64 + 1));
        (since * 1000).div_ceil(self.rates[site])
    }

    /// Sees to it that time stops here.
    pub fn wake_at(&mut self, at: u64) {
        self.wakes.insert(at.max(self.now));
    }

    /// Goes on to the next moment at which anything happens.
    pub fn pass(&mut self) {
        let mail = self.mail.keys().next().map(|(at, _)| *at);
        let reply = self.replies.values().map(|(at, _)| *at).filter(|at| *at > self.now).min();
        let wake = self.wakes.range(self.now + 1..).next().copied();
        let next = [mail, reply, wake].into_iter().flatten().min();
        self.now = next.expect("drivers always wait for something").max(self.now);
        self.wakes = self.wakes.split_off(&self.now);
        while let Some(entry) = self.mail.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let mail = entry.remove();
            self.arrives(mail);
        }
    }

    fn arrives(&mut self, mail: Mail) {
        let reply = match mail.op {
            Op::Read if mail.says == Says::Stale => {
                Reply::Read(self.before.clone().or(self.record.clone()).map(Box::new))
            }
            Op::Read => Reply::Read(self.record.clone().map(Box::new)),
            Op::Replace(expected, record) if self.is_record(expected.as_ref()) => {
                let revision = Revision(expected.map_or(0, |(expected, _)| expected.0) + 1);
                self.highest = self.highest.max(Term(record.term));
                self.history.push((revision, (*record).clone()));
                self.before = self.record.replace((revision, *record));
                Reply::Won(revision)
            }
            Op::Replace(..) => Reply::Lost,
        };
        let reply = if mail.says == Says::Failed { Reply::Failed } else { reply };
        if let Some(at) = mail.reply_at {
            self.replies.insert(mail.id, (at, reply));
        }
    }

    fn is_record(&self, expected: Option<&(Revision, Option<String>)>) -> bool {
        match (expected, &self.record) {
            (None, None) => true,
            (Some((expected, nonce)), Some((revision, record))) => {
                expected == revision && nonce.as_ref().is_none_or(|nonce| *nonce == record.nonce)
            }
            _ => false,
        }
    }

    /// Puts a request on its way, as the link lets it.
    fn send(&mut self, site: usize, op: Op) -> u64 {
        self.serial += 1;
        let id = self.serial;
        let (there, back) = (self.rng.between(MILLI, 200 * MILLI), self.rng.between(MILLI, 200 * MILLI));
        let there = self.now + there;
        let mail = Mail { id, op, reply_at: Some(there + back), says: Says::Truth };
        let fault = self.links[site].filter(|(_, until)| self.now < *until).map(|(fault, _)| fault);
        let late = self.now + self.rng.between(SECOND, 180 * SECOND);
        match fault {
            Some(Fault::Refuse) => self.refuse(id),
            Some(Fault::Flapping) if self.rng.one_in(2) => self.refuse(id),
            // Half of it is done all the same, at some time.
            Some(Fault::Hang) if self.rng.one_in(2) => self.post(late, Mail { reply_at: None, ..mail }),
            Some(Fault::Hang) => {}
            Some(Fault::LostReply) => {
                let says = if self.rng.one_in(2) { Says::Failed } else { Says::Truth };
                let reply_at = mail.reply_at.filter(|_| says == Says::Failed);
                self.post(there, Mail { reply_at, says, ..mail });
            }
            Some(Fault::Duplicate) => {
                let again = there + self.rng.below(20 * SECOND);
                // The answer is that of the one or of the other.
                let is_first = self.rng.one_in(2);
                let [first, second] = [is_first, !is_first].map(|it| Some(there + back).filter(|_| it));
                self.post(there, Mail { reply_at: first, ..mail.clone() });
                self.post(if is_first { again } else { there + 1 }, Mail { reply_at: second, ..mail });
            }
            Some(Fault::StaleRead) if self.rng.one_in(2) => self.post(there, Mail { says: Says::Stale, ..mail }),
            Some(Fault::Slow) => {
                let there = self.now + self.rng.between(SECOND, 70 * SECOND);
                self.post(there, Mail { reply_at: Some(there + back), ..mail });
            }
            _ => self.post(there, mail),
        }
        id
    }

    fn post(&mut self, at: u64, mail: Mail) {
        self.serial += 1;
        self.mail.insert((at, self.serial), mail);
    }

    fn refuse(&mut self, id: u64) {
        self.replies.insert(id, (self.now + MILLI, Reply::Failed));
    }

    fn reply(&mut self, id: u64) -> Option<Reply> {
        let is_there = self.replies.get(&id).is_some_and(|(at, _)| *at <= self.now);
        if is_there { self.replies.remove(&id).map(|(_, reply)| reply) } else { None }
    }
}

/// What one site has of the world.
#[derive(Clone)]
pub struct Place {
    pub world: Shared,
    pub site: usize,
}

impl Clock for Place {
    fn now(&self) -> Timestamp {
        lock(&self.world).wall(self.site)
    }

    fn boot(&self) -> Duration {
        lock(&self.world).boot(self.site).0
    }
}

impl Alarm for Place {
    fn at(&self, instant: BootInstant) -> BoxFuture<'static, ()> {
        let place = self.clone();
        let wait = poll_fn(move |_| {
            let mut world = lock(&place.world);
            if world.boot(place.site) >= instant {
                return Poll::Ready(());
            }
            let at = world.when(place.site, instant);
            world.wake_at(at);
            Poll::Pending
        });
        wait.boxed()
    }
}

/// The witness as a process at one site sees it: with what that process has seen.
pub struct Double {
    place: Place,
    /// Number and nonce of the record it has read or written last.
    known: Mutex<Option<(Revision, String)>>,
}

impl Double {
    pub fn new(place: &Place) -> Self {
        Double { place: place.clone(), known: Mutex::new(None) }
    }

    async fn ask(&self, op: Op) -> Reply {
        let id = lock(&self.place.world).send(self.place.site, op);
        poll_fn(|_| lock(&self.place.world).reply(id).map_or(Poll::Pending, Poll::Ready)).await
    }
}

fn failed() -> WitnessError {
    WitnessError::Unsound { store: "the double".to_owned(), why: "it fails".to_owned() }
}

impl Witness for Double {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        let Reply::Read(record) = self.ask(Op::Read).await else { return Err(failed()) };
        let shown = record.as_ref().map(|record| (record.0, record.1.nonce.clone()));
        let mut known = self.known.lock().unwrap();
        if let Some((read, nonce)) = &*known {
            let went_back = shown.as_ref().is_none_or(|(shown, other)| shown < read || shown == read && other != nonce);
            if went_back {
                return Err(WitnessError::WentBack { store: String::new(), shown: format!("{shown:?}"), read: *read });
            }
        }
        *known = shown;
        Ok(record.map(|record| *record))
    }

    async fn replace(&self, expected: Option<Revision>, record: &Record) -> Outcome {
        let known = self.known.lock().unwrap().clone();
        let of = |revision| known.filter(|(known, _)| *known == revision).map(|(_, nonce)| nonce);
        let expected = expected.map(|revision| (revision, of(revision)));
        match self.ask(Op::Replace(expected, Box::new(record.clone()))).await {
            Reply::Won(revision) => {
                *self.known.lock().unwrap() = Some((revision, record.nonce.clone()));
                Outcome::Won(revision)
            }
            Reply::Lost => Outcome::Lost,
            Reply::Read(_) | Reply::Failed => Outcome::Unknown(failed()),
        }
    }
}
