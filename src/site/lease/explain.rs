//! What a person can do about a refusal of the protocol.

use super::{Command, Name, Refusal, Term, TimingError};
use crate::error::{Class, Explain};

impl Explain for Refusal {
    fn class(&self) -> Class {
        match self {
            Refusal::WitnessUnread => Class::Failed,
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        let step = match self {
            Refusal::NotWhile { state, asked } => not_while(*state, asked).to_owned(),
            Refusal::NotRestoring(_) => "Run `warmspare failover` again: it goes on from what it finds here.".to_owned(),
            Refusal::WitnessUnread => {
                "See that this site reaches the witness (`warmspare witness status`), then try again.".to_owned()
            }
            Refusal::WitnessPutBack { seen, .. } => {
                let above = seen.next();
                format!(
                    "It was restored from a backup, or is another one. Close both sites (`warmspare lease fence` at the live one), write \
                     another place into `url` under [witness], and set that up: `warmspare witness init --term {above}`."
                )
            }
            Refusal::OtherTerm { expected, is } => other_term(*expected, *is),
            Refusal::OldRestore { is, .. } => format!(
                "Another site was live after that point. Run `warmspare failover` again: it restores a point of term {is} first."
            ),
            Refusal::NotTheFinalPoint(point) => format!(
                "Run `warmspare failover` again: it restores {point} first, which was taken after the other site had closed."
            ),
            Refusal::ForTheOther => "Run `warmspare failover` at the other site: only that one can take it.".to_owned(),
            Refusal::NotFenced(_) => {
                "Run `warmspare lease fence` at the other site first, or `warmspare failover` here, which waits until it is closed."
                    .to_owned()
            }
            Refusal::Unproven => {
                "Switch the other site off, then try again; or run `warmspare failover`, which waits until it is closed."
                    .to_owned()
            }
        };
        Some(step)
    }
}

/// What to do about a term that is not the one a person expected.
pub fn other_term(expected: Term, is: Term) -> String {
    if is > expected {
        format!("Somebody was faster: `warmspare lease status` says who is live in term {is}. Then decide again.")
    } else {
        format!("Term {expected} has not been yet: look at `warmspare lease status`, then decide again.")
    }
}

/// Why a site in the wrong state does not begin what was asked.
pub(super) fn not_begun(asked: &Command) -> &'static str {
    match asked {
        Command::Join => "it takes part already",
        Command::Restore => "only a spare begins to restore, in order to take over",
        Command::Cancel => "nothing is under way that can be given up",
        Command::Acquire { .. } => "nothing is restored here that it could become live with",
        Command::Release { .. } => "it has nothing to hand over now",
        Command::Fence => "it is not live, so there is nothing to fence",
        Command::LiftFence => "there is no fence to lift",
        Command::Rejoin => "only a site that is FENCED or STALE rejoins",
        Command::Drill => "no drill begins during a takeover",
    }
}

fn not_while(state: Name, asked: &Command) -> &'static str {
    match (asked, state) {
        (Command::Cancel, Name::Standby | Name::Live) => {
            "Nothing to do here; `warmspare lease status` at the other site says whether something is under way there."
        }
        (Command::Cancel, Name::Draining) => {
            "It has let go already, or is about to: wait until it is RELEASED, then `warmspare failover` takes the lease back."
        }
        (
            Command::Fence,
            Name::Standby | Name::Ready | Name::Restoring | Name::Released | Name::Fenced | Name::Stale,
        ) => "Nothing to do: its gate is closed, and stays so until a person makes this site live.",
        (Command::LiftFence, Name::Standby) => "It is the spare. To make it live: `warmspare failover`.",
        (Command::Rejoin, Name::Live) => {
            "It is live. To make it the spare, hand over to the other site: `warmspare switchover --to SITE`."
        }
        _ => way_out(state),
    }
}

/// What leads out of a state, or what to wait for in it.
pub fn way_out(state: Name) -> &'static str {
    match state {
        Name::Uninit => "See that this site reaches the witness, and that `warmspare witness init` was run once.",
        Name::Standby => "Nothing to do: it is the spare. To make it live: `warmspare failover`.",
        Name::Restoring => {
            "A restore is under way here: wait until it has ended, or give it up with `warmspare lease cancel`."
        }
        Name::Ready => {
            "It is restored: `warmspare failover` goes on and takes the lease, `warmspare lease cancel` gives it up."
        }
        Name::Waiting => {
            "A takeover is under way here: wait until it has ended, or give it up with `warmspare lease cancel`."
        }
        Name::Acquiring | Name::Starting => {
            "A takeover is under way here and cannot be given up any more: `warmspare lease status` says how far it is."
        }
        Name::Live => "Nothing to do: it is live already.",
        Name::Draining => "It is handing over: wait until it has ended, or give that up with `warmspare lease cancel`.",
        Name::Released => "It has let go: `warmspare failover` takes the lease, at the other site or here.",
        Name::Closed => {
            "It holds the lease: it opens by itself when it reaches the witness, or hands over with `warmspare release`."
        }
        Name::Fenced => {
            "Find out why: `warmspare lease status`. Then `warmspare lease lift`, if it is to be live again, or `warmspare lease \
             rejoin`, which makes it the spare."
        }
        Name::Stale => "Another site was live since: `warmspare lease rejoin` makes this one its spare.",
    }
}

impl Explain for TimingError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            TimingError::NoTimeToRenew { .. } => {
                "Make `ttl` under [witness] longer, or `drain` there shorter.".to_owned()
            }
            TimingError::Drift { .. } => {
                "Let the clocks of both machines be disciplined, and allow for 100 ‰.".to_owned()
            }
        })
    }
}
