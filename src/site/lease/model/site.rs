//! One site of the model: its state, its disk, its requests and the work it has under way.

#![cfg(test)]

use std::time::Duration;

use super::super::{
    Action, Answer, Command, Done, Durable, Event, Held, Lease, Name, Nonce, PeerRequest, Phase, Proposal, RequestId,
    Restored, Revision, Rule, Seen, Standing, Taking, Term, Watch, What, step,
};
use super::instants::{NOW, may_serve, pass};
use super::scenario::{Scenario, Store};
use super::search::Wrong;
use super::world::Record;

#[derive(Clone, Copy, Hash)]
pub struct Site {
    pub lease: Lease,
    disk: Durable,
    pub is_off: bool,
    pub crashes: u8,
    pub fences: u8,
    nonces: u16,
    /// What is asked of the witness.
    pub asked: Option<Message>,
    /// A write that was given up and is still on its way.
    pub stray: Option<(Revision, Proposal)>,
    pub plea: Option<Plea>,
    /// A promise just given.
    pub promised: Option<RequestId>,
    /// For how much longer a write to the vault may be under way, on this site's clock.
    pub writes_for: Option<Duration>,
    pub work: Work,
    /// The term whose data it has, and whether with the final point.
    pub data: (Term, bool),
    /// The term in which what is served was last started.
    pub started: Option<Term>,
    peers: bool,
}

/// Work that actions began.
#[derive(Clone, Copy, Default, Hash)]
pub struct Work {
    pub starting: bool,
    pub unfencing: bool,
    pub draining: bool,
    pub proving: bool,
}

impl Work {
    /// Gives up what is not wanted any more, as a driver does.
    fn keep_wanted(&mut self, name: Name) {
        self.starting &= name == Name::Starting;
        self.unfencing &= name == Name::Closed;
        self.draining &= name == Name::Draining;
        self.proving &= name == Name::Waiting;
    }
}

/// A request to the witness, or its answer.
#[derive(Clone, Copy, Hash)]
pub enum Message {
    Read(RequestId),
    Write(RequestId, Revision, Proposal),
    Answered(RequestId, Reply),
}

#[derive(Clone, Copy, Hash)]
pub enum Reply {
    Record(Record),
    Won(Revision),
    Lost,
}

impl Reply {
    pub fn to(self, site: usize) -> Answer {
        match self {
            Reply::Record(record) => Answer::Record(record.seen_by(site)),
            Reply::Won(revision) => Answer::Won(revision),
            Reply::Lost => Answer::Lost,
        }
    }
}

#[derive(Clone, Copy, Hash)]
pub enum Plea {
    Asked(PeerRequest),
    Promised(RequestId),
}

impl Site {
    fn new(rules: &Scenario, durable: Durable) -> Self {
        let lease = Lease { broken: rules.broken, ..Lease::start(rules.timing, Some(durable), NOW) };
        Site {
            lease,
            disk: durable,
            is_off: false,
            crashes: 0,
            fences: 0,
            nonces: 0,
            asked: None,
            stray: None,
            plea: None,
            promised: None,
            writes_for: None,
            work: Work::default(),
            data: (Term(1), false),
            started: None,
            peers: rules.peers,
        }
    }

    /// One that has just renewed.
    pub fn live(rules: &Scenario, seen: Seen) -> Self {
        let mut site = Site::new(rules, Durable { highest: seen.term, last: Name::Live, witness: Some(seen.witness) });
        let valid_until = Some(NOW + rules.timing.ttl());
        let held = Held { term: seen.term, seq: seen.seq, revision: seen.revision, valid_until };
        site.lease.phase = Phase::Live(held);
        (site.data.0, site.started, site.nonces) = (seen.term, Some(seen.term), 1);
        site
    }

    /// One that was live until its lease ran out.
    pub fn expired(rules: &Scenario, seen: Seen) -> Self {
        let mut site = Site::live(rules, seen);
        if let Phase::Live(held) = site.lease.phase {
            let held = Held { valid_until: Some(NOW), ..held };
            site.lease.phase = Phase::Closed { held, undoing: false };
            site.disk.last = Name::Closed;
        }
        site
    }

    /// One that has let go, with its final point, and read that.
    pub fn released(rules: &Scenario, seen: Seen) -> Self {
        let last = Name::Released;
        let mut site = Site::new(rules, Durable { highest: seen.term, last, witness: Some(seen.witness) });
        site.lease.watch = Some(Watch { seen, since: NOW });
        (site.data, site.nonces) = ((seen.term, true), 1);
        site
    }

    /// One that has restored a point of A's term.
    pub fn spare(rules: &Scenario, seen: Seen) -> Self {
        let last = if rules.people.restore { Name::Standby } else { Name::Ready };
        let restored = Restored { term: seen.term, point: None, own: false };
        let mut site = Site::new(rules, Durable { highest: seen.term, last, witness: Some(seen.witness) });
        match () {
            () if rules.people.take => site.lease.phase = Phase::Waiting(restored, Taking::Wait),
            () if last == Name::Ready => site.lease.phase = Phase::Ready(restored),
            () => {}
        }
        site
    }

    /// Takes a step; whether it went live by it.
    pub fn tell(&mut self, site: usize, what: What) -> Result<bool, Wrong> {
        let before = self.lease;
        let fresh = Nonce(u128::from(self.nonces) * 2 + site as u128 + 1);
        let (lease, actions) = step(before, Event { at: NOW, fresh, what });
        let needs_person = |name| matches!(name, Name::Fenced | Name::Stale);
        if needs_person(before.name()) && !needs_person(lease.name()) && !matches!(what, What::Command(_)) {
            return Err("a fenced site came back by itself");
        }
        if lease.highest() < before.highest() {
            return Err("a site forgot a term");
        }
        self.lease = lease;
        actions.into_iter().for_each(|action| self.act(action, fresh));
        self.fences += u8::from(matches!(what, What::Command(Command::Fence)));
        self.work.keep_wanted(lease.name());
        if matches!((what, before.name()), (What::Done(Done::Started), Name::Starting)) {
            self.started = before.term();
        }
        Ok(lease.name() == Name::Live && before.name() != Name::Live)
    }

    fn act(&mut self, action: Action, fresh: Nonce) {
        match action {
            Action::Save(durable) => self.disk = durable,
            Action::Read(id) => self.asked = Some(Message::Read(id)),
            Action::Write(id, expected, proposal) => {
                self.asked = Some(Message::Write(id, expected, proposal));
                self.nonces += u16::from(proposal.nonce == fresh);
            }
            Action::AskPeer(request) if self.peers => self.plea = Some(Plea::Asked(request)),
            Action::Promise(id) => self.promised = Some(id),
            Action::StartApplication => self.work.starting = true,
            Action::Unfence => self.work.unfencing = true,
            Action::Drain => self.work.draining = true,
            Action::ProveFence => self.work.proving = true,
            Action::AskPeer(_) | Action::Fence(_) | Action::EndDrill | Action::Refuse(_) => {}
        }
    }

    /// Killed, and started again with what is on the disk.
    pub fn crash(&mut self, rules: &Scenario) -> Result<(), Wrong> {
        self.give_up();
        let (stray, nonces) = (self.stray, self.nonces);
        let (data, started, crashes) = (self.data, self.started, self.crashes.saturating_add(1));
        let fences = self.fences;
        *self = Site { stray, nonces, data, started, crashes, fences, ..Site::new(rules, self.disk) };
        let is_open = self.lease.gate_is_open(NOW) && self.lease.keeps(Rule::StartClosed);
        if is_open { Err("a site is open when it starts") } else { Ok(()) }
    }

    pub fn switch_off(&mut self) {
        self.give_up();
        (self.is_off, self.writes_for, self.plea, self.work) = (true, None, None, Work::default());
    }

    /// Waits no longer for an answer. A write stays on its way.
    pub fn give_up(&mut self) {
        if let Some(Message::Write(_, expected, proposal)) = self.asked.take() {
            self.stray = Some((expected, proposal));
        }
    }

    /// The term whose points are being restored.
    pub fn restoring(&self) -> Option<Term> {
        match self.lease.phase {
            Phase::Restoring(term) => Some(term),
            _ => None,
        }
    }

    pub fn has_read_release(&self) -> bool {
        self.lease.watch.is_some_and(|watch| matches!(watch.seen.standing, Standing::Released { .. }))
    }

    pub fn may_serve(&self) -> bool {
        !self.is_off && may_serve(&self.lease)
    }

    pub fn pass(&mut self, span: Duration, rules: &Scenario) {
        let longest = rules.timing.wait_out(rules.timing.ttl());
        pass(&mut self.lease, span, longest);
        self.writes_for = self.writes_for.map(|left| left.saturating_sub(span)).filter(|left| !left.is_zero());
    }

    /// Forgets moments that nothing depends on, so that states which behave the same are the same. Without the moment of its
    /// last request a site may ask whenever it likes, which is more than it does.
    fn forget(&mut self, rules: &Scenario) {
        let lease = &mut self.lease;
        lease.asked_at = None;
        if !rules.peers {
            lease.plea = None;
        }
        let reads_count = !lease.keeps(Rule::TimeFromReply) || rules.people.force;
        if let Some(asked) = &mut lease.asked
            && (asked.is_write || !reads_count)
        {
            asked.sent = NOW;
        }
        if let Some(watch) = &mut lease.watch
            && !matches!(lease.phase, Phase::Waiting(..) | Phase::Ready(_) | Phase::Restoring(_) | Phase::Standby)
        {
            watch.since = NOW;
        }
    }

    /// Whether nothing it does matters any more, unless a person comes.
    pub fn is_done(&self, rules: &Scenario) -> bool {
        let may_return = rules.people.rejoin || rules.people.fence;
        matches!(self.lease.name(), Name::Fenced | Name::Stale) && !may_return
    }

    /// Numbers that only tell one request from another are made small again, and what can have no effect goes.
    pub fn tidy(&mut self, revision: Revision, rules: &Scenario) {
        let (asked, plea) = (self.lease.asked.map(|asked| asked.id), self.lease.plea.map(|(id, _)| id));
        let rename = |id: RequestId| match id {
            id if Some(id) == asked => RequestId(1),
            id if Some(id) == plea => RequestId(2),
            _ => RequestId(0),
        };
        self.asked = self.asked.map(|message| match message {
            Message::Read(id) => Message::Read(rename(id)),
            Message::Write(id, expected, proposal) => Message::Write(rename(id), expected, proposal),
            Message::Answered(id, reply) => Message::Answered(rename(id), reply),
        });
        self.plea = self.plea.map(|plea| match plea {
            Plea::Asked(request) => Plea::Asked(PeerRequest { id: rename(request.id), ..request }),
            Plea::Promised(id) => Plea::Promised(rename(id)),
        });
        if let Some(asked) = &mut self.lease.asked {
            asked.id = RequestId(1);
        }
        if let Some((id, _)) = &mut self.lease.plea {
            *id = RequestId(2);
        }
        self.lease.serial = 2;
        self.forget(rules);
        let is_refused = rules.store == Store::Compares;
        self.stray = self.stray.filter(|(expected, _)| *expected >= revision || !is_refused);
    }
}
