//! What a person decides, and how the work ends that a decision began.

use super::{
    Action, Command, Done, Drain, Held, Lease, Name, Pace, Phase, Proof, Refusal, Restored, Rule, Side, Standing,
    Taking, Term, Turn, Why, WriteKind,
};
use crate::vault::layout::PointId;

impl Lease {
    pub(super) fn command(&mut self, command: Command, turn: &mut Turn) {
        let done = match command {
            Command::Join => self.join(),
            Command::Restore => self.restore(),
            Command::Cancel => self.cancel(turn),
            Command::Acquire { if_term, pace } => self.begin_to_take(if_term, pace, turn),
            Command::Release { to } => self.release(to, turn),
            Command::Fence => self.fence(turn),
            Command::LiftFence => self.lift_fence(turn),
            Command::Rejoin => self.rejoin(),
            Command::Drill => self.drill(),
        };
        if let Err(refusal) = done {
            turn.act(Action::Refuse(refusal));
        }
    }

    fn not_now<T>(&self, asked: Command) -> Result<T, Refusal> {
        Err(Refusal::NotWhile { state: self.name(), asked })
    }

    fn join(&mut self) -> Result<(), Refusal> {
        if self.phase != Phase::Uninit {
            return self.not_now(Command::Join);
        }
        self.stand_by()
    }

    /// Becomes the spare under the record that was read.
    fn stand_by(&mut self) -> Result<(), Refusal> {
        let seen = self.watch.ok_or(Refusal::WitnessUnread)?.seen;
        self.witness = Some(seen.witness);
        self.highest = self.highest.max(seen.term);
        self.phase = Phase::Standby;
        Ok(())
    }

    fn rejoin(&mut self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Stale(_) | Phase::Fenced(_) => self.stand_by(),
            _ => self.not_now(Command::Rejoin),
        }
    }

    fn restore(&mut self) -> Result<(), Refusal> {
        if self.phase != Phase::Standby {
            return self.not_now(Command::Restore);
        }
        let seen = self.watch.ok_or(Refusal::WitnessUnread)?.seen;
        if seen.term < self.highest {
            return Err(Refusal::WitnessPutBack { shown: seen.term, seen: self.highest });
        }
        self.phase = Phase::Restoring(seen.term);
        Ok(())
    }

    fn cancel(&mut self, turn: &mut Turn) -> Result<(), Refusal> {
        let has_released = self.write.is_some_and(|write| write.kind == WriteKind::Release);
        self.phase = match self.phase {
            Phase::Restoring(_) | Phase::Ready(_) => Phase::Standby,
            Phase::Waiting(restored @ Restored { own: true, .. }, _) => self.back_from(restored),
            Phase::Waiting(restored, _) => Phase::Ready(restored),
            Phase::Draining(held, drain) if !has_released => self.keep_on(held, drain, turn),
            _ => return self.not_now(Command::Cancel),
        };
        self.reopen_if_valid(turn);
        Ok(())
    }

    /// The lease that was to be handed over is kept. What was never started is started before anything opens.
    fn keep_on(&self, held: Held, drain: Drain, turn: &mut Turn) -> Phase {
        if drain.started || !self.keeps(Rule::StartBeforeOpen) {
            return Phase::Closed { held, undoing: false };
        }
        turn.act(Action::StartApplication);
        Phase::Starting(held)
    }

    fn begin_to_take(&mut self, if_term: Option<Term>, pace: Pace, turn: &mut Turn) -> Result<(), Refusal> {
        let seen = self.watch.map(|watch| watch.seen);
        let restored = match (self.phase, seen.map(|seen| seen.standing)) {
            (Phase::Ready(restored), _) => restored,
            // Taken back: nobody was live since.
            (Phase::Released, Some(Standing::Released { point, .. })) => {
                Restored { term: self.highest, point, own: true }
            }
            (Phase::Released, None) => return Err(Refusal::WitnessUnread),
            _ => return self.not_now(Command::Acquire { if_term, pace }),
        };
        let seen = seen.ok_or(Refusal::WitnessUnread)?;
        if let Some(expected) = if_term
            && expected != seen.term
        {
            return Err(Refusal::OtherTerm { expected, is: seen.term });
        }
        self.may_take(restored, &seen)?;
        let taking = match pace {
            Pace::Wait => Taking::Wait,
            Pace::Force => Taking::Force { since: turn.at, proof: Proof::None },
        };
        self.phase = Phase::Waiting(restored, taking);
        if std::mem::take(&mut self.drill) {
            turn.act(Action::EndDrill);
        }
        self.take_if_due(turn);
        Ok(())
    }

    fn release(&mut self, to: Option<Side>, turn: &mut Turn) -> Result<(), Refusal> {
        let (Phase::Live(held) | Phase::Closed { held, .. } | Phase::Starting(held)) = self.phase else {
            return self.not_now(Command::Release { to });
        };
        let started = self.name() != Name::Starting;
        self.phase = Phase::Draining(held, Drain { to, closed_at: turn.at, started, drained: None });
        self.plea = None;
        turn.act(Action::Drain);
        Ok(())
    }

    fn fence(&mut self, turn: &mut Turn) -> Result<(), Refusal> {
        let may_be_live = self.held().is_some() || matches!(self.phase, Phase::Resuming { .. } | Phase::Acquiring(..));
        if !may_be_live {
            return self.not_now(Command::Fence);
        }
        self.stop(Phase::Fenced(Why::Operator), Why::Operator, turn);
        Ok(())
    }

    /// Back as after a restart, with the application to be started and looked at: whoever fenced may have stopped it.
    fn lift_fence(&mut self, turn: &mut Turn) -> Result<(), Refusal> {
        if !matches!(self.phase, Phase::Fenced(_)) {
            return self.not_now(Command::LiftFence);
        }
        (self.phase, self.watch) = (Phase::Resuming { was: Name::Starting, since: turn.at }, None);
        Ok(())
    }

    fn drill(&mut self) -> Result<(), Refusal> {
        if matches!(self.phase, Phase::Waiting(..) | Phase::Acquiring(..) | Phase::Starting(_)) {
            return self.not_now(Command::Drill);
        }
        self.drill = true;
        Ok(())
    }

    pub(super) fn done(&mut self, done: Done, turn: &mut Turn) {
        match (done, self.phase) {
            (Done::Restored(point), Phase::Restoring(term)) => {
                self.phase = Phase::Ready(Restored { term, point, own: false });
            }
            (Done::RestoreFailed, Phase::Restoring(_)) => self.phase = Phase::Standby,
            (Done::FenceProven(proof), _) => self.fence_proven(proof, turn),
            (Done::FenceUnproven, Phase::Waiting(restored, Taking::Force { .. })) => {
                self.phase = Phase::Ready(restored);
                turn.act(Action::Refuse(Refusal::Unproven));
            }
            (Done::Started, Phase::Starting(held)) => self.open(held, turn),
            (Done::Unfenced, Phase::Closed { held, undoing: true }) => self.open(held, turn),
            (Done::Drained(point), Phase::Draining(held, drain)) => self.drained(held, drain, point, turn),
            (Done::Drilled, _) => self.drill = false,
            // Whoever restored has to hear that it is not awaited any more.
            (Done::Restored(_) | Done::RestoreFailed, _) => {
                turn.act(Action::Refuse(Refusal::NotRestoring(self.name())));
            }
            // StartFailed: it stays closed with the lease held, until a person starts it again or releases. The rest is the
            // end of something that was given up meanwhile.
            _ => {}
        }
    }

    /// LIVE, if the lease reaches that far.
    fn open(&mut self, held: Held, turn: &mut Turn) {
        if self.is_valid(held, turn.at) {
            self.phase = Phase::Live(held);
            return;
        }
        self.phase = Phase::Closed { held, undoing: false };
        turn.act(Action::Fence(Why::RanOut));
    }

    fn drained(&mut self, held: Held, drain: Drain, point: Option<PointId>, turn: &mut Turn) {
        self.phase = Phase::Draining(held, Drain { drained: Some(point), ..drain });
        self.release_if_drained(turn);
    }
}
