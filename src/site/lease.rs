//! The protocol of one live site: a pure function from a site's state and an event to its next state and what to do.
//!
//! ```text
//!                 restore            acquire             won             started
//!  UNINIT ─► STANDBY ─► RESTORING ─► READY ─► WAITING ─► ACQUIRING ─► STARTING ─► LIVE ◄─┐
//!              ▲ ▲                              │ ▲          │                    │  │   │ renewed, same term,
//!              │ └──────────── cancelled ───────┘ └─ lost ───┘            release │  │   │ fence undone
//!              │                                                                  ▼  ▼   │
//!              └─────────────── the other site took it ── RELEASED ◄── DRAINING   CLOSED ┘  not renewed in time, or restarted
//!
//!  FENCED  lost the record to somebody else, or a person said so ┐ only a person's `rejoin` or `lift`
//!  STALE   a later term exists                                   ┘ leads out of these
//! ```
//!
//! One record in a third place, the *witness*, names the holder of a *term*; it is changed only by compare-and-set. The
//! holder renews it and believes itself for T after the moment *before* it sent the renewal. A taker, whom only a person
//! makes one, watches the record stand still for longer than any holder can believe in it, and then takes the next term. No
//! two machines' clocks are compared: each measures spans on its own, and the wait allows for the difference of their rates.
//!
//! What is promised, and checked by the exhaustive search in `model` over this same function, under loss, delay,
//! duplication, crashes and clocks that run apart:
//!
//! - Never are two sites live, nor does one write while the other is live under a later term ([`Lease::permits`]).
//! - Terms grow, and each has one holder. Who opens has restored what the term before left, or was its holder.
//! - After a start the gate is closed until the record was read and renewed. FENCED and STALE never become LIVE without a person.
//!
//! No I/O and no clock: times come with the events, as readings of CLOCK_BOOTTIME, and so do random numbers. The gate is
//! asked with a time ([`Lease::gate_is_open`]), so that a process that was paused past its lease is closed before it has
//! noticed. What carries out the actions, and asks the witness, are other modules' business.

use std::time::Duration;

mod event;
mod explain;
#[cfg(test)]
mod model;
mod person;
#[cfg(test)]
mod properties;
mod pruning;
mod rule;
mod taking;
mod timing;
mod words;
mod writing;

pub use event::{Action, Answer, Command, Done, Event, FenceProof, Pace, PeerRequest, Refusal, What, Why};
pub use explain::{other_term, way_out};
pub use pruning::{KEPT_FOR, prunable};
use rule::{Broken, Rule};
pub use timing::{Timing, TimingError};
pub use words::{
    BootInstant, Durable, Name, Nonce, Proposal, RequestId, Revision, Seen, Side, Standing, Term, WitnessId,
};

use crate::vault::layout::PointId;

/// One site's part in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    timing: Timing,
    broken: Broken,
    phase: Phase,
    /// The highest term seen.
    highest: Term,
    witness: Option<WitnessId>,
    drill: bool,
    /// The record as it was read last, and since when it has been so. Of no use to a holder.
    watch: Option<Watch>,
    /// A write of which it is not known whether it was done.
    write: Option<Write>,
    /// The request that an answer is awaited for. There is one at most.
    asked: Option<Asked>,
    /// When the witness was asked last.
    asked_at: Option<BootInstant>,
    /// The plea to the other site that an answer is awaited for.
    plea: Option<(RequestId, BootInstant)>,
    /// Until when the other site was promised that it is not taken over from.
    promised_until: Option<BootInstant>,
    serial: u64,
}

/// The state, with what each one needs and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Uninit,
    Standby,
    /// The term whose points are being restored.
    Restoring(Term),
    Ready(Restored),
    Waiting(Restored, Taking),
    Acquiring(Restored, Pace),
    Starting(Held),
    Live(Held),
    Draining(Held, Drain),
    Released,
    /// `undoing`: the fence steps are being undone.
    Closed {
        held: Held,
        undoing: bool,
    },
    /// Started anew, and the record not read yet: what it was before decides what it becomes.
    Resuming {
        was: Name,
        since: BootInstant,
    },
    Fenced(Why),
    Stale(Why),
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Restored {
    /// The term of the record when the restore began: nobody was live later than in it.
    term: Term,
    point: Option<PointId>,
    /// It is what this site released itself: nothing had to be restored.
    own: bool,
}

/// How the lease is being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Taking {
    Wait,
    /// Proof counts only for a record read after the command, and is asked for after that read: so a holder that is not
    /// fenced after all has changed the record meanwhile, and the acquire fails.
    Force {
        since: BootInstant,
        proof: Proof,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Proof {
    None,
    Asked(Revision),
    Given(Revision),
}

/// The lease, held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    term: Term,
    seq: u64,
    revision: Revision,
    /// Until when the holder may believe itself; none before the first renewal of this process.
    valid_until: Option<BootInstant>,
}

/// How far a handing over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Drain {
    to: Option<Side>,
    closed_at: BootInstant,
    /// Whether what is served was started in this term. Otherwise nothing opens before it is.
    started: bool,
    /// The final point, once everything is quiet.
    drained: Option<Option<PointId>>,
}

/// The record, and since when it has stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watch {
    seen: Seen,
    since: BootInstant,
}

/// A write begun. It is repeated as the very same write until its outcome is known, and counts from its first sending: so
/// an early copy that arrives late is still known as our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Write {
    kind: WriteKind,
    expected: Revision,
    proposal: Proposal,
    /// When it was first sent; none when time cannot be counted from then.
    sent: Option<BootInstant>,
    /// Whether the record has to be read before it is sent again.
    unread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WriteKind {
    Renew,
    Acquire,
    Release,
}

/// A request to the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    id: RequestId,
    sent: BootInstant,
    is_write: bool,
}

/// One event at work: when, its random number, and what comes of it.
struct Turn {
    at: BootInstant,
    fresh: Nonce,
    actions: Vec<Action>,
}

impl Turn {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }
}

/// The next state and what to do.
///
/// The gate of the old state is not to be asked any more once this returns; that of the new one only when its
/// [`Action::Save`], if there is one, has succeeded.
pub fn step(state: Lease, event: Event) -> (Lease, Vec<Action>) {
    let (mut lease, mut turn) = (state, Turn { at: event.at, fresh: event.fresh, actions: Vec::new() });
    lease.run_out(&mut turn);
    match event.what {
        What::Tick => lease.tick(&mut turn),
        What::Answered(id, answer) => lease.answered(id, answer, &mut turn),
        What::PeerAsks(request) => lease.peer_asks(request, &mut turn),
        What::PeerPromised(id) => lease.peer_promised(id, &mut turn),
        What::PeerSays { highest, witness } => lease.peer_says(highest, witness, &mut turn),
        What::ClockJumped => lease.clock_jumped(&mut turn),
        What::Command(command) => lease.command(command, &mut turn),
        What::Done(done) => lease.done(done, &mut turn),
    }
    let durable = lease.durable();
    if durable != state.durable() {
        // Closing does not wait for a disk; everything else does.
        let fences = turn.actions.iter().take_while(|action| matches!(action, Action::Fence(_))).count();
        turn.actions.insert(fences, Action::Save(durable));
    }
    (lease, turn.actions)
}

impl Lease {
    /// The state of a process that starts at `at`, with what it has saved; nothing, if it never has.
    pub fn start(timing: Timing, durable: Option<Durable>, at: BootInstant) -> Self {
        let unknown = Durable { highest: Term(0), last: Name::Uninit, witness: None };
        let Durable { highest, last, witness } = durable.unwrap_or(unknown);
        let phase = match last {
            Name::Uninit => Phase::Uninit,
            Name::Standby | Name::Restoring | Name::Ready | Name::Waiting => Phase::Standby,
            Name::Acquiring | Name::Starting | Name::Live | Name::Draining | Name::Closed => {
                Phase::Resuming { was: last, since: at }
            }
            Name::Released => Phase::Released,
            Name::Fenced => Phase::Fenced(Why::Earlier),
            Name::Stale => Phase::Stale(Why::Earlier),
        };
        Lease {
            timing,
            broken: Broken::default(),
            phase,
            highest,
            witness,
            drill: false,
            watch: None,
            write: None,
            asked: None,
            asked_at: None,
            plea: None,
            promised_until: None,
            serial: 0,
        }
    }

    /// Until when the gate is open; none while it is closed.
    pub fn open_until(&self) -> Option<BootInstant> {
        let until = match self.phase {
            Phase::Live(held) => held.valid_until,
            Phase::Draining(held, _) if !self.keeps(Rule::CloseBeforeRelease) => held.valid_until,
            Phase::Resuming { was: Name::Live, since } if !self.keeps(Rule::StartClosed) => {
                Some(since + self.timing.ttl())
            }
            _ => None,
        };
        until.map(|until| until.before(self.timing.drain()))
    }

    /// Until when what is written to vault or mirror must be over; none while nothing may be.
    pub fn write_until(&self) -> Option<BootInstant> {
        let until = match self.phase {
            Phase::Live(held) | Phase::Draining(held, Drain { drained: None, .. }) => held.valid_until,
            _ => None,
        };
        until.map(|until| until.before(self.timing.drain()))
    }

    /// Whether the gate is open at `now`.
    pub fn gate_is_open(&self, now: BootInstant) -> bool {
        self.open_until().is_some_and(|until| now < until)
    }

    /// Whether a write to vault or mirror that is given up after `limit` may start at `now`: it then ends before anybody else
    /// can be live.
    pub fn permits(&self, now: BootInstant, limit: Duration) -> bool {
        let limit = if self.keeps(Rule::WriteFitsLease) { limit } else { Duration::ZERO };
        self.write_until().is_some_and(|until| now + limit < until)
    }

    /// The state it is in.
    pub fn name(&self) -> Name {
        match self.phase {
            Phase::Uninit => Name::Uninit,
            Phase::Standby => Name::Standby,
            Phase::Restoring(_) => Name::Restoring,
            Phase::Ready(_) => Name::Ready,
            Phase::Waiting(..) => Name::Waiting,
            Phase::Acquiring(..) => Name::Acquiring,
            Phase::Starting(_) => Name::Starting,
            Phase::Live(_) => Name::Live,
            Phase::Draining(..) => Name::Draining,
            Phase::Released => Name::Released,
            Phase::Closed { .. } | Phase::Resuming { .. } => Name::Closed,
            Phase::Fenced(_) => Name::Fenced,
            Phase::Stale(_) => Name::Stale,
        }
    }

    /// What has to be on the disk.
    pub fn durable(&self) -> Durable {
        let last = match self.phase {
            Phase::Resuming { was, .. } => was,
            _ => self.name(),
        };
        Durable { highest: self.highest, last, witness: self.witness }
    }

    /// The highest term it has seen.
    pub fn highest(&self) -> Term {
        self.highest
    }

    /// The term it holds, if it holds one.
    pub fn term(&self) -> Option<Term> {
        self.held().map(|held| held.term)
    }

    /// Why it is FENCED or STALE.
    pub fn why(&self) -> Option<Why> {
        match self.phase {
            Phase::Fenced(why) | Phase::Stale(why) => Some(why),
            _ => None,
        }
    }

    /// The point it would be live with, once it is restored and as long as the lease is not its own.
    pub fn restored(&self) -> Option<PointId> {
        match self.phase {
            Phase::Ready(restored) | Phase::Waiting(restored, _) | Phase::Acquiring(restored, _) => restored.point,
            _ => None,
        }
    }

    /// Whether a drill is on. It is no state: it changes nothing live.
    pub fn has_drill(&self) -> bool {
        self.drill
    }

    /// The record as a site that does not hold the lease read it last, and how long it has stood still at `now`.
    pub fn watched(&self, now: BootInstant) -> Option<(Seen, Duration)> {
        self.watch.map(|watch| (watch.seen, now.since(watch.since)))
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.broken.keeps(rule)
    }

    fn held(&self) -> Option<Held> {
        match self.phase {
            Phase::Starting(held) | Phase::Live(held) | Phase::Draining(held, _) | Phase::Closed { held, .. } => {
                Some(held)
            }
            _ => None,
        }
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        match &mut self.phase {
            Phase::Starting(held) | Phase::Live(held) | Phase::Draining(held, _) | Phase::Closed { held, .. } => {
                Some(held)
            }
            _ => None,
        }
    }

    fn next_id(&mut self) -> RequestId {
        self.serial = self.serial.wrapping_add(1);
        RequestId(self.serial)
    }

    /// Whether a renewal, a promise, whatever there is, still reaches beyond the margin at the end.
    fn is_valid(&self, held: Held, at: BootInstant) -> bool {
        held.valid_until.is_some_and(|until| at + self.timing.drain() < until)
    }

    /// A live site whose lease is over closes, before anything else is looked at.
    fn run_out(&mut self, turn: &mut Turn) {
        if let Phase::Live(held) = self.phase
            && !self.is_valid(held, turn.at)
        {
            self.phase = Phase::Closed { held, undoing: false };
            turn.act(Action::Fence(Why::RanOut));
        }
    }

    /// Stops for good: what is left of the lease is let lie.
    fn stop(&mut self, phase: Phase, why: Why, turn: &mut Turn) {
        let has_run = self.held().is_some() || matches!(self.phase, Phase::Resuming { .. });
        if has_run {
            turn.act(Action::Fence(why));
        }
        self.phase = phase;
        (self.write, self.plea, self.watch) = (None, None, None);
    }

    fn clock_jumped(&mut self, turn: &mut Turn) {
        // Nothing that was measured so far counts.
        (self.plea, self.watch) = (None, None);
        if let Some(write) = &mut self.write {
            write.sent = None;
        }
        if let Some(held) = self.held_mut() {
            held.valid_until = None;
        }
        if let Phase::Live(held) = self.phase {
            self.phase = Phase::Closed { held, undoing: false };
            turn.act(Action::Fence(Why::ClockJumped));
        }
    }
}
