//! What a site is told, and what it is to do.

use std::time::Duration;

use super::explain::not_begun;
use super::words::{BootInstant, Durable, Name, Nonce, Proposal, RequestId, Revision, Seen, Side, Term, WitnessId};
use crate::vault::layout::PointId;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// This machine's CLOCK_BOOTTIME when it did. Never before that of the event before.
    pub at: BootInstant,
    /// A random number nobody used yet.
    pub fresh: Nonce,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Time passed. Due at least every [`request_timeout`](super::Timing::request_timeout).
    Tick,
    /// The witness answered a request, or its time is over.
    Answered(RequestId, Answer),
    /// The other site asks to be let live while the witness is silent.
    PeerAsks(PeerRequest),
    /// The other site promised what the request asked for.
    PeerPromised(RequestId),
    /// The other site's gate told what it is.
    PeerSays {
        /// The highest term it has seen.
        highest: Term,
        /// The witness it deals with.
        witness: Option<WitnessId>,
    },
    /// The wall clock moved against CLOCK_BOOTTIME: one of the two is not to be believed.
    ClockJumped,
    /// A person decided.
    Command(Command),
    /// Work that an action began has ended.
    Done(Done),
}

/// What came of a request to the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record.
    Record(Seen),
    /// There is none.
    NoRecord,
    /// The write was done; the record has this revision now.
    Won(Revision),
    /// The write was refused, says the witness. Stores say so of writes they have done: the record is read before it is believed.
    Lost,
    /// No answer, or one that does not tell. It may still be carried out, at any time.
    Unknown,
}

/// A plea to the other site: do not take over from the holder of `term` for as long as a lease of `ttl` is waited out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRequest {
    /// Of the asking process.
    pub id: RequestId,
    /// The term the asking site holds.
    pub term: Term,
    /// For how long it will believe itself.
    pub ttl: Duration,
}

/// What a person can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Take part in the system of this witness.
    Join,
    /// Begin to restore, in order to take over.
    Restore,
    /// Give up what was begun, as long as nothing was asked of the witness.
    Cancel,
    /// Take the lease.
    Acquire {
        /// Only from this term, so that two operators cannot both promote.
        if_term: Option<Term>,
        /// Whether to wait until the holder's lease is over.
        pace: Pace,
    },
    /// Hand over: close the gate, take the final point, let go.
    Release {
        /// For whom. Without one, whoever has restored.
        to: Option<Side>,
    },
    /// Close the gate and keep it closed.
    Fence,
    /// Open again what a person, or a lost race, fenced, if the lease is still ours.
    LiftFence,
    /// Begin anew as the spare, after another site was live.
    Rejoin,
    /// Try out a restore beside everything that is live.
    Drill,
}

/// How the lease is taken from a holder that has not released it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// By waiting until it cannot believe to hold it.
    Wait,
    /// At once, after proof that it is fenced ([`Action::ProveFence`]).
    Force,
}

/// Proof that the other site takes no traffic and will not by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceProof {
    /// A fence hook ended well, and its verification too.
    Hook,
    /// The other site's gate was reached and said this.
    Gate {
        /// Its state.
        name: Name,
        /// The highest term it has seen.
        highest: Term,
    },
    /// A person typed the site's name and a reason, which are in the audit log.
    Attested,
}

/// The end of work outside the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Everything is restored and proven, from this point if from one of the vault.
    Restored(Option<PointId>),
    /// The restore failed.
    RestoreFailed,
    /// The other site is proven fenced, after [`Action::ProveFence`] asked for it.
    FenceProven(FenceProof),
    /// It could not be proven.
    FenceUnproven,
    /// The application runs and its deep health check passed.
    Started,
    /// It does not.
    StartFailed,
    /// The fence steps of this site are undone, each verified.
    Unfenced,
    /// The gate has been closed for D, the application is quiet, the database is fenced, and the final point has been taken,
    /// if there is one.
    Drained(Option<PointId>),
    /// The drill is over.
    Drilled,
}

/// What the site is to do, in this order. What follows a [`Action::Save`] may begin only when that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep this on the disk: write, fsync, rename. If it fails, end the process: started anew it is closed.
    Save(Durable),
    /// Read the record.
    Read(RequestId),
    /// Write the record, if it is still the one of this revision. Once: no client may repeat it.
    Write(RequestId, Revision, Proposal),
    /// Ask the other site's gate.
    AskPeer(PeerRequest),
    /// Tell the other site that its request is granted.
    Promise(RequestId),
    /// Make sure that nothing is written here any more: sessions, roles, hooks, units. The gate is closed already.
    Fence(Why),
    /// Undo that, each step verified; then [`Done::Unfenced`].
    Unfence,
    /// Start the application behind the closed gate; then [`Done::Started`] or [`Done::StartFailed`].
    StartApplication,
    /// Close down in order and take the final point; then [`Done::Drained`].
    Drain,
    /// Prove that the other site is fenced *now*; then [`Done::FenceProven`] or [`Done::FenceUnproven`].
    ProveFence,
    /// A drill has to end: this is no drill.
    EndDrill,
    /// Do not do what the command said.
    Refuse(Refusal),
}

/// Why a site closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// The lease ran out.
    #[error("the lease could not be renewed in time")]
    RanOut,
    /// Somebody else changed the record.
    #[error("the record in the witness was changed by somebody else (term {term})")]
    LostRace {
        /// The term it has now.
        term: Term,
    },
    /// The record is gone.
    #[error("the record is gone from the witness")]
    RecordGone,
    /// A person fenced it.
    #[error("an operator fenced this site")]
    Operator,
    /// The clocks of this machine disagree.
    #[error("the wall clock moved against the time since boot")]
    ClockJumped,
    /// The application did not start.
    #[error("the application did not start")]
    StartFailed,
    /// A later term exists.
    #[error("another site took over (term {term})")]
    Overtaken {
        /// The later term.
        term: Term,
    },
    /// It was so before this process started.
    #[error("this site was so when its process started")]
    Earlier,
    /// The witness is another than before.
    #[error("this is another witness than the one this site knows")]
    OtherWitness,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not in this state.
    #[error("this site is {state}: {}", not_begun(.asked))]
    NotWhile {
        /// The state.
        state: Name,
        /// What was asked.
        asked: Command,
    },
    /// The end of a restore that nobody awaits any more.
    #[error("this site is {0}: no restore is awaited here")]
    NotRestoring(Name),
    /// The record was not read since this process started.
    #[error("the witness has not been read yet")]
    WitnessUnread,
    /// The record is older than what this site has seen.
    #[error("the witness shows term {shown}, but this site has seen term {seen}: the witness was put back")]
    WitnessPutBack {
        /// What it shows.
        shown: Term,
        /// What was seen.
        seen: Term,
    },
    /// Another term than the operator expects.
    #[error("the term is {is}, not {expected}")]
    OtherTerm {
        /// What the operator expects.
        expected: Term,
        /// What it is.
        is: Term,
    },
    /// Somebody was live after what was restored.
    #[error("what is restored is of term {restored}, but the lease is at term {is}")]
    OldRestore {
        /// The term of what was restored.
        restored: Term,
        /// The term now.
        is: Term,
    },
    /// The releaser said which point has everything.
    #[error("what is restored is not the final point {0}")]
    NotTheFinalPoint(PointId),
    /// It was released for the other site.
    #[error("the lease was released for the other site")]
    ForTheOther,
    /// The other site's gate says that it is not fenced.
    #[error("the other site says that it is {0}")]
    NotFenced(Name),
    /// Whoever forced it could not prove it.
    #[error("it is not proven that the other site is fenced")]
    Unproven,
}
