//! Asking the witness: when, and what its answers mean. Renewals, and writes whose outcome is not known.

use super::{
    Action, Answer, Asked, BootInstant, Drain, Held, Lease, Name, PeerRequest, Phase, Proposal, RequestId, Revision,
    Rule, Seen, Side, Standing, Term, Turn, Why, Write, WriteKind,
};

impl Lease {
    /// Asks the witness what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn) {
        self.release_if_drained(turn);
        self.take_if_due(turn);
        if self.asked.is_some() {
            return;
        }
        let pause = if self.write.is_some() { self.timing.request_timeout() } else { self.timing.renew_every() };
        if self.asked_at.is_some_and(|asked| turn.at.since(asked) < pause) {
            return;
        }
        match (self.write, self.held()) {
            (Some(write), _) if !write.unread => self.send(write, turn),
            (None, Some(held)) => self.renew(held, turn),
            _ => self.read(turn),
        }
    }

    pub(super) fn read(&mut self, turn: &mut Turn) {
        let id = self.ask(false, turn.at);
        turn.act(Action::Read(id));
    }

    fn ask(&mut self, is_write: bool, at: BootInstant) -> RequestId {
        let id = self.next_id();
        self.asked = Some(Asked { id, sent: at, is_write });
        self.asked_at = Some(at);
        id
    }

    /// Sends a write, for the first time or again.
    pub(super) fn send(&mut self, write: Write, turn: &mut Turn) {
        self.write = Some(Write { unread: true, ..write });
        let id = self.ask(true, turn.at);
        turn.act(Action::Write(id, write.expected, write.proposal));
    }

    fn renew(&mut self, held: Held, turn: &mut Turn) {
        let standing = Standing::Held(Side::Us);
        let (seq, nonce) = match self.keeps(Rule::FreshNonce) {
            true => (held.seq + 1, turn.fresh),
            false => (held.seq, super::Nonce(0)),
        };
        let proposal = Proposal { term: held.term, standing, seq, nonce, ttl: self.timing.ttl() };
        self.begin(WriteKind::Renew, held.revision, proposal, turn);
    }

    /// Begins a write: its outcome is pursued until it is known.
    pub(super) fn begin(&mut self, kind: WriteKind, expected: Revision, proposal: Proposal, turn: &mut Turn) {
        self.send(Write { kind, expected, proposal, sent: Some(turn.at), unread: true }, turn);
    }

    /// The last step of a handing over. Whatever was written before is known by then.
    pub(super) fn release_if_drained(&mut self, turn: &mut Turn) {
        let Phase::Draining(held, Drain { to, closed_at, drained: Some(point), .. }) = self.phase else { return };
        let closed_for = turn.at.since(closed_at);
        let is_drained = closed_for >= self.timing.drain() || !self.keeps(Rule::CloseBeforeRelease);
        if self.asked.is_some() || self.write.is_some() || !is_drained {
            return;
        }
        let standing = Standing::Released { to, point };
        let (seq, nonce) = (held.seq + 1, turn.fresh);
        let proposal = Proposal { term: held.term, standing, seq, nonce, ttl: self.timing.ttl() };
        self.begin(WriteKind::Release, held.revision, proposal, turn);
    }

    pub(super) fn answered(&mut self, id: RequestId, answer: Answer, turn: &mut Turn) {
        // What was given up, or asked by a process before this one, says nothing.
        let Some(asked) = self.asked.filter(|asked| asked.id == id) else { return };
        self.asked = None;
        match answer {
            Answer::Won(revision) => self.won(revision, turn),
            Answer::Record(seen) => match self.write {
                Some(write) => self.read_after_write(write, seen, asked, turn),
                None => self.observe(seen, asked.sent, turn),
            },
            Answer::NoRecord => self.no_record(turn),
            Answer::Lost | Answer::Unknown => {
                self.ask_peer(turn);
                if asked.is_write && self.write.is_some() {
                    self.read(turn);
                }
            }
        }
    }

    /// A read tells what became of a write: the nonce does, never the answer to the write.
    fn read_after_write(&mut self, write: Write, seen: Seen, asked: Asked, turn: &mut Turn) {
        if seen.nonce == write.proposal.nonce && seen.term == write.proposal.term {
            self.won(seen.revision, turn);
        } else if seen.revision == write.expected {
            self.write = Some(Write { unread: false, ..write });
        } else {
            self.write = None;
            self.lost(write, seen, asked, turn);
        }
    }

    /// The write under way was done.
    fn won(&mut self, revision: Revision, turn: &mut Turn) {
        let Some(Write { kind, proposal, sent, .. }) = self.write.take() else { return };
        let sent = if self.keeps(Rule::CountFromSending) { sent } else { Some(turn.at) };
        let until = sent.map(|sent| sent + proposal.ttl);
        match kind {
            WriteKind::Renew => self.renewed(revision, proposal.seq, until, turn),
            WriteKind::Acquire => {
                self.acquired(Held { term: proposal.term, seq: proposal.seq, revision, valid_until: until }, turn)
            }
            WriteKind::Release => (self.phase, self.watch) = (Phase::Released, None),
        }
    }

    fn renewed(&mut self, revision: Revision, seq: u64, until: Option<BootInstant>, turn: &mut Turn) {
        let Some(held) = self.held_mut() else { return };
        (held.revision, held.seq, held.valid_until) = (revision, seq, held.valid_until.max(until));
        self.reopen_if_valid(turn);
        self.release_if_drained(turn);
    }

    /// A closed site whose lease runs again undoes its fence, and opens when that is done.
    pub(super) fn reopen_if_valid(&mut self, turn: &mut Turn) {
        if let Phase::Closed { held, undoing: false } = self.phase
            && self.is_valid(held, turn.at)
        {
            self.phase = Phase::Closed { held, undoing: true };
            turn.act(Action::Unfence);
        }
    }

    /// Somebody else changed the record that our write was to change.
    fn lost(&mut self, write: Write, seen: Seen, asked: Asked, turn: &mut Turn) {
        let may_take = matches!(seen.standing, Standing::Released { .. }) && !self.keeps(Rule::ReopenSameTerm);
        match (write.kind, self.phase) {
            (WriteKind::Acquire, Phase::Acquiring(restored, pace)) => {
                self.acquire_lost(restored, pace, seen, asked.sent, turn)
            }
            (WriteKind::Renew, Phase::Closed { .. }) if may_take => self.take_own(seen, turn),
            _ if self.is_other(seen.witness) => self.stop(Phase::Stale(Why::OtherWitness), Why::OtherWitness, turn),
            _ if seen.term > self.highest => self.overtaken(seen.term, turn),
            _ => {
                let why = Why::LostRace { term: seen.term };
                self.stop(Phase::Fenced(why), why, turn);
            }
        }
    }

    fn no_record(&mut self, turn: &mut Turn) {
        self.watch = None;
        match self.phase {
            _ if self.held().is_some() => self.stop(Phase::Fenced(Why::RecordGone), Why::RecordGone, turn),
            Phase::Resuming { .. } => self.stop(Phase::Fenced(Why::RecordGone), Why::RecordGone, turn),
            Phase::Acquiring(..) => (self.phase, self.write) = (Phase::Standby, None),
            _ => {}
        }
    }

    pub(super) fn is_other(&self, witness: super::WitnessId) -> bool {
        self.witness.is_some_and(|known| known != witness)
    }

    pub(super) fn overtaken(&mut self, term: Term, turn: &mut Turn) {
        self.highest = self.highest.max(term);
        let why = Why::Overtaken { term };
        self.stop(Phase::Stale(why), why, turn);
    }

    /// The first read of a process that held the lease, or asked for it, before it was started anew.
    pub(super) fn resume(&mut self, was: Name, seen: Seen, turn: &mut Turn) {
        let held = Held { term: seen.term, seq: seen.seq, revision: seen.revision, valid_until: None };
        let is_next = seen.term == self.highest.next();
        match (seen.standing, was) {
            // The acquire was done, and its answer lost with the process.
            (Standing::Held(Side::Us), Name::Acquiring) if is_next => self.acquired(held, turn),
            (_, Name::Acquiring) => {
                self.phase = Phase::Standby;
                self.observe(seen, turn.at, turn);
            }
            _ if seen.term > self.highest => self.overtaken(seen.term, turn),
            (Standing::Held(Side::Us), _) if seen.term == self.highest => self.resume_held(was, held, turn),
            (Standing::Released { .. }, Name::Draining) if seen.term == self.highest => {
                self.phase = Phase::Released;
                self.observe(seen, turn.at, turn);
            }
            _ => {
                let why = Why::LostRace { term: seen.term };
                self.stop(Phase::Fenced(why), why, turn);
            }
        }
    }

    fn resume_held(&mut self, was: Name, held: Held, turn: &mut Turn) {
        self.watch = None;
        match was {
            Name::Starting => self.acquired(held, turn),
            Name::Draining => {
                // Nobody knows any more whether it was.
                let started = false;
                self.phase = Phase::Draining(held, Drain { to: None, closed_at: turn.at, started, drained: None });
                turn.act(Action::Drain);
            }
            _ => self.phase = Phase::Closed { held, undoing: false },
        }
        if self.write.is_none() && self.asked.is_none() {
            self.renew(held, turn);
        }
    }

    /// The witness is silent: the other site may let us live on, as long as we are.
    fn ask_peer(&mut self, turn: &mut Turn) {
        let is_renewing = self.write.is_some_and(|write| write.kind == WriteKind::Renew);
        let has_asked = self.plea.is_some_and(|(_, sent)| turn.at.since(sent) < self.timing.request_timeout());
        let (true, Some(held), false) = (is_renewing, self.pleading(), has_asked) else { return };
        let id = self.next_id();
        self.plea = Some((id, turn.at));
        turn.act(Action::AskPeer(PeerRequest { id, term: held.term, ttl: self.timing.ttl() }));
    }

    /// A promise helps who is live. A lease that has run out may have been waited out by now, and an acquire be under way.
    fn pleading(&self) -> Option<Held> {
        match self.phase {
            Phase::Live(held) => Some(held),
            Phase::Closed { held, .. } if !self.keeps(Rule::AskWhileValid) => Some(held),
            _ => None,
        }
    }

    pub(super) fn peer_promised(&mut self, id: RequestId, turn: &mut Turn) {
        let Some((_, sent)) = self.plea.take_if(|(asked, _)| *asked == id) else { return };
        if self.pleading().is_none() {
            return;
        }
        let until = sent + self.timing.ttl();
        if let Some(held) = self.held_mut() {
            held.valid_until = held.valid_until.max(Some(until));
        }
        self.reopen_if_valid(turn);
    }
}
