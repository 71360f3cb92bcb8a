//! Taking the lease: watching the record, waiting, proof instead of a wait, and the promise not to.

use super::{
    Action, BootInstant, FenceProof, Held, Lease, Name, Pace, PeerRequest, Phase, Proof, Proposal, Refusal, Restored,
    Rule, Seen, Side, Standing, Taking, Term, Turn, Watch, Why, WitnessId, WriteKind,
};

impl Lease {
    /// A site that does not hold the lease has read the record.
    pub(super) fn observe(&mut self, seen: Seen, sent: BootInstant, turn: &mut Turn) {
        if self.is_other(seen.witness) {
            self.watch_only(seen, turn.at);
            if !matches!(self.phase, Phase::Stale(_)) {
                self.stop(Phase::Stale(Why::OtherWitness), Why::OtherWitness, turn);
            }
            return;
        }
        if let Phase::Resuming { was, .. } = self.phase {
            return self.resume(was, seen, turn);
        }
        // Counted from the answer: what the read found may have been written after the read was sent.
        self.watch_only(seen, if self.keeps(Rule::TimeFromReply) { turn.at } else { sent });
        match self.phase {
            Phase::Uninit => return,
            Phase::Fenced(_) if seen.term > self.highest => return self.overtaken(seen.term, turn),
            Phase::Released if self.was_taken(&seen) => self.phase = Phase::Standby,
            Phase::Waiting(restored, Taking::Force { since, proof }) if sent >= since => {
                self.ask_proof(restored, since, proof, seen, turn);
            }
            _ => {}
        }
        self.witness = Some(seen.witness);
        self.highest = self.highest.max(seen.term);
        self.take_if_due(turn);
    }

    /// Whether somebody took what this site let go. Its own term is nobody else's to hold or to let go for this site; a file
    /// that says otherwise forgot a term.
    fn was_taken(&self, seen: &Seen) -> bool {
        let is_theirs =
            matches!(seen.standing, Standing::Held(Side::Them) | Standing::Released { to: Some(Side::Us), .. });
        let is_same = seen.term == self.highest && self.keeps(Rule::TakeBackOwnTerm);
        seen.term > self.highest || is_theirs && is_same
    }

    /// What a site is that takes nothing after all. What it let go is its own to take back as long as nobody took it.
    pub(super) fn back_from(&self, restored: Restored) -> Phase {
        let is_last = restored.term == self.highest || !self.keeps(Rule::TakeBackOwnTerm);
        if restored.own && is_last { Phase::Released } else { Phase::Standby }
    }

    fn watch_only(&mut self, seen: Seen, since: BootInstant) {
        let is_same = self.watch.is_some_and(|watch| watch.seen == seen);
        if !is_same {
            self.watch = Some(Watch { seen, since });
        }
    }

    fn ask_proof(&mut self, restored: Restored, since: BootInstant, proof: Proof, seen: Seen, turn: &mut Turn) {
        let (Proof::Asked(of) | Proof::Given(of)) = proof else {
            let proof = Proof::Asked(seen.revision);
            self.phase = Phase::Waiting(restored, Taking::Force { since, proof });
            if matches!(seen.standing, Standing::Held(_)) {
                turn.act(Action::ProveFence);
            }
            return;
        };
        // The record moved: the holder was not fenced when it was proven, or only just. Prove it again.
        if of != seen.revision {
            self.ask_proof(restored, since, Proof::None, seen, turn);
        }
    }

    pub(super) fn fence_proven(&mut self, proof: FenceProof, turn: &mut Turn) {
        let Phase::Waiting(restored, Taking::Force { since, proof: Proof::Asked(of) }) = self.phase else { return };
        if let FenceProof::Gate { name, highest } = proof {
            let is_fenced = matches!(name, Name::Uninit | Name::Standby | Name::Fenced | Name::Stale | Name::Released);
            let refusal = match () {
                () if !is_fenced && self.keeps(Rule::ProveFence) => Some(Refusal::NotFenced(name)),
                () if highest > self.highest => Some(Refusal::WitnessPutBack { shown: self.highest, seen: highest }),
                () => None,
            };
            if let Some(refusal) = refusal {
                self.phase = Phase::Ready(restored);
                return turn.act(Action::Refuse(refusal));
            }
        }
        self.phase = Phase::Waiting(restored, Taking::Force { since, proof: Proof::Given(of) });
        self.take_if_due(turn);
    }

    /// Asks for the next term when nothing stands in its way any more.
    pub(super) fn take_if_due(&mut self, turn: &mut Turn) {
        let (Phase::Waiting(restored, taking), Some(watch), None) = (self.phase, self.watch, self.asked) else {
            return;
        };
        let is_promised = self.promised_until.is_some_and(|until| turn.at < until) && self.keeps(Rule::HonourPromise);
        if is_promised {
            return;
        }
        if let Err(refusal) = self.may_take(restored, &watch.seen) {
            self.phase = self.back_from(restored);
            return turn.act(Action::Refuse(refusal));
        }
        let is_due = match (watch.seen.standing, taking) {
            (Standing::Released { .. }, _) => true,
            (_, Taking::Force { proof, .. }) => proof == Proof::Given(watch.seen.revision),
            (_, Taking::Wait) => turn.at.since(watch.since) >= self.wait(&watch.seen),
        };
        if is_due {
            let pace = if taking == Taking::Wait { Pace::Wait } else { Pace::Force };
            self.acquire(restored, pace, watch.seen, turn);
        }
    }

    fn wait(&self, seen: &Seen) -> std::time::Duration {
        if self.keeps(Rule::AllowForDrift) { self.timing.wait_out(seen.ttl) } else { seen.ttl }
    }

    fn acquire(&mut self, restored: Restored, pace: Pace, seen: Seen, turn: &mut Turn) {
        self.phase = Phase::Acquiring(restored, pace);
        let standing = Standing::Held(Side::Us);
        let (term, nonce, ttl) = (seen.term.next(), turn.fresh, self.timing.ttl());
        self.begin(WriteKind::Acquire, seen.revision, Proposal { term, standing, seq: 1, nonce, ttl }, turn);
    }

    /// Whether what is restored is all there was.
    pub(super) fn may_take(&self, restored: Restored, seen: &Seen) -> Result<(), Refusal> {
        if seen.term < self.highest {
            return Err(Refusal::WitnessPutBack { shown: seen.term, seen: self.highest });
        }
        if restored.term != seen.term && self.keeps(Rule::RestoredLastTerm) {
            return Err(Refusal::OldRestore { restored: restored.term, is: seen.term });
        }
        match seen.standing {
            Standing::Released { to: Some(Side::Them), .. } if !restored.own => Err(Refusal::ForTheOther),
            Standing::Released { point: Some(point), .. } if restored.point != Some(point) => {
                Err(Refusal::NotTheFinalPoint(point))
            }
            _ => Ok(()),
        }
    }

    /// The witness has us as the holder of a new term. The gate stays closed until the application runs.
    pub(super) fn acquired(&mut self, held: Held, turn: &mut Turn) {
        self.highest = self.highest.max(held.term);
        (self.phase, self.watch) = (Phase::Starting(held), None);
        turn.act(Action::StartApplication);
    }

    /// The holder is there after all, or somebody else was faster: back to waiting, or to proving.
    pub(super) fn acquire_lost(
        &mut self,
        restored: Restored,
        pace: Pace,
        seen: Seen,
        sent: BootInstant,
        turn: &mut Turn,
    ) {
        let taking = match pace {
            Pace::Wait => Taking::Wait,
            Pace::Force => Taking::Force { since: sent, proof: Proof::None },
        };
        self.phase = Phase::Waiting(restored, taking);
        self.observe(seen, sent, turn);
    }

    /// Only the model gets here, with [`Rule::ReopenSameTerm`] broken.
    pub(super) fn take_own(&mut self, seen: Seen, turn: &mut Turn) {
        self.acquire(Restored { term: seen.term, point: None, own: true }, Pace::Wait, seen, turn);
    }

    /// The live site asks to be let live. Whoever is not about to take over promises it; the wait it takes is ours to keep.
    pub(super) fn peer_asks(&mut self, request: PeerRequest, turn: &mut Turn) {
        let is_free = match self.phase {
            Phase::Standby | Phase::Restoring(_) | Phase::Ready(_) | Phase::Waiting(_, Taking::Wait) => true,
            Phase::Acquiring(..) => !self.keeps(Rule::NoPromiseWhileAcquiring),
            _ => false,
        };
        if !is_free || request.term < self.highest {
            return;
        }
        let until = turn.at + self.timing.wait_out(request.ttl);
        self.promised_until = self.promised_until.max(Some(until));
        turn.act(Action::Promise(request.id));
    }

    pub(super) fn peer_says(&mut self, highest: Term, witness: Option<WitnessId>, turn: &mut Turn) {
        let is_other = witness.is_some_and(|witness| self.is_other(witness));
        let held = self.held().is_some() || matches!(self.phase, Phase::Resuming { .. } | Phase::Fenced(_));
        match held {
            true if is_other => self.stop(Phase::Stale(Why::OtherWitness), Why::OtherWitness, turn),
            true if highest > self.highest => self.overtaken(highest, turn),
            false if !is_other => {
                // Somebody took what it let go.
                if self.phase == Phase::Released && highest > self.highest {
                    self.phase = Phase::Standby;
                }
                // A record of an earlier term is not believed from now on.
                self.highest = self.highest.max(highest);
            }
            _ => {}
        }
    }
}
