//! Two sites that run [`step`](super::super::step), a witness and the network between them.
//!
//! The network delays and loses what it likes: a request may be carried out whenever, or never, and its answer may come or
//! not. A write whose time is over stays on its way and may still arrive; its sender repeats it, so it may arrive twice. A
//! site does nothing for as long as it likes (a pause), may be killed between two steps, and comes back with its disk.

#![cfg(test)]

use std::time::Duration;

use super::super::pruning::{KEPT_FOR, prunable_unless};
use super::super::{
    Answer, Command, Done, FenceProof, Name, Nonce, Pace, Proposal, Revision, Seen, Side, Standing, Term, What,
    WitnessId,
};
use super::scenario::{Begins, Scenario, Store};
use super::search::{Worlds, Wrong};
use super::site::{Message, Plea, Reply, Site};
use crate::vault::layout::PointId;

pub const A: usize = 0;
pub const B: usize = 1;
const WITNESS: WitnessId = WitnessId(7);

/// Everything there is at one moment.
#[derive(Clone, Copy, Hash)]
pub struct World {
    sites: [Site; 2],
    record: Record,
    /// The records before, where the witness has them.
    older: [Option<Record>; 4],
    /// The term that ended with a release and a final point.
    released: Option<Term>,
}

/// The record as the witness keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    revision: Revision,
    /// Who wrote it, and meant itself by [`Side::Us`].
    writer: usize,
    proposal: Proposal,
}

impl Record {
    pub fn seen_by(&self, site: usize) -> Seen {
        let turn = |side| match (side, self.writer == site) {
            (side, true) => side,
            (Side::Us, false) => Side::Them,
            (Side::Them, false) => Side::Us,
        };
        let Proposal { term, standing, seq, nonce, ttl } = self.proposal;
        let standing = match standing {
            Standing::Held(side) => Standing::Held(turn(side)),
            Standing::Released { to, point } => Standing::Released { to: to.map(turn), point },
        };
        Seen { revision: self.revision, witness: WITNESS, term, standing, seq, nonce, ttl }
    }
}

type Each<'a> = &'a mut dyn FnMut(&'static str, Result<World, Wrong>);

impl World {
    pub fn new(rules: &Scenario) -> Self {
        let (ttl, held) = (rules.timing.ttl(), Standing::Held(Side::Us));
        let record = |(revision, writer), term, standing, nonce| {
            let proposal = Proposal { term: Term(term), standing, seq: 1, nonce: Nonce(nonce), ttl };
            Record { revision: Revision(revision), writer, proposal }
        };
        let first = record((1, A), 1, held, 0);
        let world = |sites, record| World { sites, record, older: [None; 4], released: None };
        match rules.begins {
            Begins::Held => world([Site::live(rules, first.seen_by(A)), Site::spare(rules, first.seen_by(B))], first),
            Begins::Taken => {
                let second = record((2, B), 2, held, 2);
                world([Site::expired(rules, first.seen_by(A)), Site::live(rules, second.seen_by(B))], second)
            }
            Begins::Released => {
                let standing = Standing::Released { to: Some(Side::Them), point: Some(PointId { term: 1, seq: 1 }) };
                let (second, third) = (record((2, A), 1, standing, 1), record((3, B), 2, held, 2));
                let sites = [Site::released(rules, second.seen_by(A)), Site::live(rules, third.seen_by(B))];
                World { released: Some(Term(1)), ..world(sites, third) }
            }
        }
    }

    /// Hands an event to a site.
    fn tell(mut self, site: usize, what: What) -> Result<Self, Wrong> {
        if self.sites[site].tell(site, what)? {
            self.opened(site)?;
        }
        Ok(self)
    }

    /// Who opens has what the term before left, or had this one already.
    fn opened(&mut self, site: usize) -> Result<(), Wrong> {
        let here = &mut self.sites[site];
        let Some(term) = here.lease.term() else { return Err("a site without a term is live") };
        if here.started != Some(term) {
            return Err("a site opened without having been started");
        }
        let (of, is_whole) = here.data;
        if of != term && Term(of.0 + 1) != term {
            return Err("a site opened with the data of an earlier term");
        }
        if of != term && self.released == Some(of) && !is_whole {
            return Err("a planned switch lost what was written last");
        }
        here.data = (term, false);
        Ok(())
    }

    /// The witness carries out a write.
    fn write(&mut self, rules: &Scenario, site: usize, expected: Revision, proposal: Proposal) -> Result<Reply, Wrong> {
        let revision = Revision(expected.0 + 1);
        let is_there = |record: &Record| record.revision == revision;
        match rules.store {
            Store::IgnoresConditions => {}
            Store::Numbered | Store::NumberedListedOnce => {
                if is_there(&self.record) || self.older.iter().flatten().any(is_there) {
                    return Ok(Reply::Lost);
                }
                if revision < self.record.revision {
                    // A number that was pruned: created, but it is not the record.
                    let is_believed = rules.store == Store::NumberedListedOnce;
                    return Ok(if is_believed { Reply::Won(revision) } else { Reply::Lost });
                }
            }
            _ if self.record.revision != expected => return Ok(Reply::Lost),
            _ => {}
        }
        self.check_order(rules, site, proposal)?;
        // A store that tells contents by their hash does not see a write that changes nothing.
        if (self.record.proposal, self.record.writer) != (proposal, site) {
            self.keep_older(rules);
            self.record = Record { revision: Revision(self.record.revision.0 + 1), writer: site, proposal };
        }
        if let Standing::Released { point: Some(_), .. } = proposal.standing {
            self.released = Some(proposal.term);
        }
        Ok(Reply::Won(self.record.revision))
    }

    /// Terms grow, and each has one holder.
    fn check_order(&self, rules: &Scenario, site: usize, proposal: Proposal) -> Result<(), Wrong> {
        let (old, was) = (self.record.proposal, self.record.writer);
        let is_holders = was == site && matches!(old.standing, Standing::Held(_));
        let in_order = proposal.term > old.term || proposal.term == old.term && is_holders;
        let is_sound = matches!(rules.store, Store::Compares | Store::Numbered);
        if in_order || !is_sound { Ok(()) } else { Err("a term fell, or got a second holder") }
    }

    fn keep_older(&mut self, rules: &Scenario) {
        let has_older = matches!(rules.store, Store::IsPutBack | Store::Numbered | Store::NumberedListedOnce);
        if let Some(free) = self.older.iter_mut().find(|older| older.is_none()).filter(|_| has_older) {
            *free = Some(self.record);
        }
    }

    /// Old records go, one at a time; as if all were older than a day, which a process can sleep.
    fn prune(&self, rules: &Scenario, each: Each<'_>) {
        let all = self.older.iter().flatten().chain([&self.record]);
        let listed: Vec<_> = all.map(|record| (record.revision, KEPT_FOR * 2)).collect();
        for gone in prunable_unless(rules.broken, &listed) {
            let mut world = *self;
            let mut left: Vec<Record> = self.older.iter().flatten().copied().chain([self.record]).collect();
            left.retain(|record| record.revision != gone);
            let Some(record) = left.pop() else { continue };
            world.record = record;
            world.older = [None; 4];
            world.older.iter_mut().zip(left).for_each(|(place, record)| *place = Some(record));
            each("a record is pruned", Ok(world));
        }
    }

    /// What must never be, whatever happened.
    fn check(self) -> Result<Self, Wrong> {
        let [a, b] = &self.sites;
        if a.may_serve() && b.may_serve() {
            return Err("two sites are live");
        }
        for (writer, other) in [(a, b), (b, a)] {
            if writer.writes_for.is_some() && other.may_serve() {
                return Err("one site still writes while the other is live");
            }
        }
        Ok(self)
    }

    fn pass(mut self, rules: &Scenario, clocks: [bool; 2]) -> Self {
        for ((site, rate), goes) in self.sites.iter_mut().zip(rules.rates).zip(clocks) {
            site.pass(Duration::from_millis(if goes { rate } else { 0 }), rules);
        }
        self
    }

    fn accidents(&self, rules: &Scenario, each: Each<'_>) {
        if rules.clock_stops {
            each("time passes, but not on A's clock", Ok(self.pass(rules, [false, true])));
        }
        match rules.store {
            Store::IsPutBack => {
                let earlier = |older: &&Record| older.proposal.term < self.record.proposal.term;
                if let Some(record) = self.older.iter().flatten().rfind(earlier).copied() {
                    each("the witness is restored from a backup", Ok(World { record, older: [None; 4], ..*self }));
                }
            }
            Store::Numbered | Store::NumberedListedOnce => self.prune(rules, each),
            _ => {}
        }
        for (site, label) in [(A, "A is killed and starts again"), (B, "B is killed and starts again")] {
            if self.sites[site].crashes < rules.crashes[site] && !self.sites[site].is_off {
                let mut world = *self;
                each(label, world.sites[site].crash(rules).map(|()| world));
            }
        }
    }

    /// What the network may do with the messages of a site.
    fn network(&self, rules: &Scenario, site: usize, each: Each<'_>) {
        let here = &self.sites[site];
        let with = |change: &dyn Fn(&mut Site)| {
            let mut world = *self;
            change(&mut world.sites[site]);
            world
        };
        let may_write = self.record.revision.0 < rules.revisions_max;
        match here.asked {
            Some(Message::Read(id)) => {
                let answer = Message::Answered(id, Reply::Record(self.record));
                each(
                    ["the witness answers A's read", "the witness answers B's read"][site],
                    Ok(with(&|here| here.asked = Some(answer))),
                );
            }
            Some(Message::Write(id, expected, proposal)) if may_write || self.record.revision != expected => {
                let mut world = *self;
                let done = world.write(rules, site, expected, proposal).map(|reply| {
                    world.sites[site].asked = Some(Message::Answered(id, reply));
                    world
                });
                each(["the witness carries out A's write", "the witness carries out B's write"][site], done);
            }
            Some(Message::Answered(id, reply)) => {
                let mut world = *self;
                world.sites[site].asked = None;
                let answer = reply.to(site);
                each(
                    ["the answer reaches A", "the answer reaches B"][site],
                    world.tell(site, What::Answered(id, answer)),
                );
            }
            _ => {}
        }
        if let Some(id) = here.lease.asked.map(|asked| asked.id).filter(|_| !here.is_off) {
            let mut world = *self;
            world.sites[site].give_up();
            each(
                ["A's request times out", "B's request times out"][site],
                world.tell(site, What::Answered(id, Answer::Unknown)),
            );
        }
        if let Some((expected, proposal)) = here.stray.filter(|_| may_write) {
            let mut world = *self;
            let done = world.write(rules, site, expected, proposal).map(|_| {
                world.sites[site].stray = None;
                world
            });
            each(["a stray write of A arrives", "a stray write of B arrives"][site], done);
        }
        if let Some(plea) = here.plea {
            self.plea(site, plea, each);
        }
    }

    /// A plea reaches the other site, its promise comes back, or either is lost.
    fn plea(&self, site: usize, plea: Plea, each: Each<'_>) {
        let mut world = *self;
        world.sites[site].plea = None;
        let other = 1 - site;
        match plea {
            Plea::Asked(_) if world.sites[other].is_off => {}
            Plea::Asked(request) => {
                let told = world.tell(other, What::PeerAsks(request)).map(|mut world| {
                    let promised = world.sites[other].promised.take();
                    world.sites[site].plea = promised.map(Plea::Promised);
                    world
                });
                each("the other site is asked for a promise", told);
            }
            Plea::Promised(id) => each("the promise arrives", world.tell(site, What::PeerPromised(id))),
        }
    }

    /// What the process of a site does by itself.
    fn process(&self, rules: &Scenario, site: usize, each: Each<'_>) {
        let here = &self.sites[site];
        // A renewal that the bounds do not let through is not begun either.
        let is_over = self.record.revision.0 >= rules.revisions_max;
        let would_renew = here.lease.held().is_some() && here.lease.write.is_none();
        if !(is_over && would_renew) {
            each(["A looks at its clock", "B looks at its clock"][site], self.tell(site, What::Tick));
        }
        let done = |label, change: &dyn Fn(&mut Site), done: Done, each: Each<'_>| {
            let mut world = *self;
            change(&mut world.sites[site]);
            each(label, world.tell(site, What::Done(done)));
        };
        if here.work.starting {
            done(["A opens", "B opens"][site], &|here| here.work.starting = false, Done::Started, each);
        }
        if here.work.unfencing {
            done(
                ["A undoes its fence", "B undoes its fence"][site],
                &|here| here.work.unfencing = false,
                Done::Unfenced,
                each,
            );
        }
        if here.work.draining && here.writes_for.is_none() {
            let term = here.lease.term().unwrap_or_default().0;
            let point = Some(PointId { term, seq: 1 });
            let drained = |here: &mut Site| {
                here.work.draining = false;
                here.data.1 = true;
            };
            done("the final point is taken", &drained, Done::Drained(point), each);
        }
        if here.work.proving {
            self.prove(site, each);
        }
        let limit = Duration::from_millis(3);
        if rules.writes && here.writes_for.is_none() && here.lease.permits(super::instants::NOW, limit) {
            let mut world = *self;
            world.sites[site].writes_for = Some(limit);
            each("a write to the vault begins", Ok(world));
        }
    }

    /// The other site is looked at: switched off, or what its gate says. Its gate says FENCED when nothing writes any more.
    fn prove(&self, site: usize, each: Each<'_>) {
        let there = &self.sites[1 - site];
        let proof = match there.is_off {
            true => FenceProof::Hook,
            false => FenceProof::Gate { name: there.lease.name(), highest: there.lease.highest() },
        };
        if there.is_off || there.writes_for.is_none() {
            let mut world = *self;
            world.sites[site].work.proving = false;
            each("the other site's fence is looked at", world.tell(site, What::Done(Done::FenceProven(proof))));
        }
    }

    /// What people do.
    fn person(&self, rules: &Scenario, site: usize, each: Each<'_>) {
        let here = &self.sites[site];
        let command = |label, command| (label, What::Command(command));
        let wait = Command::Acquire { if_term: None, pace: Pace::Wait };
        let force = Command::Acquire { if_term: None, pace: Pace::Force };
        let people = rules.people;
        let (is_a, name) = (site == A, here.lease.name());
        let to = Some(Side::Them);
        let told = match name {
            Name::Live if is_a && people.hand_over => command("A is told to hand over", Command::Release { to }),
            Name::Live | Name::Starting if !is_a && people.switch_back => {
                command("B is told to hand over", Command::Release { to })
            }
            Name::Draining if people.give_up => {
                command(["A is told to give that up", "B is told to give that up"][site], Command::Cancel)
            }
            Name::Live | Name::Closed if is_a && people.fence && here.fences == 0 => {
                command("A is told to fence", Command::Fence)
            }
            Name::Fenced if is_a && people.fence => command("A is told to lift its fence", Command::LiftFence),
            Name::Released if is_a && people.take_back => command("A is told to take back", wait),
            Name::Fenced | Name::Stale if is_a && people.rejoin => command("A is told to rejoin", Command::Rejoin),
            Name::Standby if is_a && people.rejoin || !is_a && (people.early || here.has_read_release()) => {
                command("a restore begins", Command::Restore)
            }
            Name::Ready if !is_a && people.force => command("B is told to take over by force", force),
            Name::Ready if people.take || people.restore => {
                command(["A is told to take over", "B is told to take over"][site], wait)
            }
            _ => ("", What::Tick),
        };
        match told.0 {
            "" => self.restore(site, each),
            label => each(label, self.tell(site, told.1)),
        }
        if is_a && people.force {
            let mut world = *self;
            world.sites[A].switch_off();
            each("A is switched off", Ok(world));
        }
    }

    /// A restore ends: with the newest point of the vault, the final one if there is one.
    fn restore(&self, site: usize, each: Each<'_>) {
        let here = &self.sites[site];
        let Some(of) = here.restoring() else { return };
        let point = match self.record.proposal.standing {
            Standing::Released { point, .. } if self.record.proposal.term == of => point,
            _ => None,
        };
        let mut world = *self;
        world.sites[site].data = (of, point.is_some());
        each("a restore ends", world.tell(site, What::Done(Done::Restored(point))));
    }

    /// The same world with the numbers that do not matter made the same.
    fn tidied(mut self, rules: &Scenario) -> Self {
        let revision = self.record.revision;
        self.sites.iter_mut().for_each(|site| site.tidy(revision, rules));
        self
    }
}

impl Worlds for World {
    type Rules = Scenario;

    fn next(&self, rules: &Scenario, each: &mut impl FnMut(&'static str, Result<Self, Wrong>)) {
        let mut each =
            |label, world: Result<World, Wrong>| each(label, world.and_then(|world| world.tidied(rules).check()));
        each("time passes", Ok(self.pass(rules, [true, true])));
        self.accidents(rules, &mut each);
        for site in [A, B] {
            if self.sites[site].is_done(rules) {
                continue;
            }
            if !self.sites[site].is_off {
                self.process(rules, site, &mut each);
                self.person(rules, site, &mut each);
            }
            self.network(rules, site, &mut each);
        }
    }
}
