//! What a person can do about a refusal of the protocol.

use super::{Name, Refusal, TimingError};
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
            Refusal::NotWhile(name) => not_while(*name),
            Refusal::WitnessUnread => "See that this site reaches the witness, then try again.".to_owned(),
            Refusal::WitnessPutBack { seen, .. } => format!(
                "The witness may have been restored from a backup, or is another one. Fence both sites and set it up anew with \
                 a term above {seen}."
            ),
            Refusal::OtherTerm { is, .. } => {
                format!("Somebody was faster. Find out who is live in term {is} before you decide again.")
            }
            Refusal::OldRestore { is, .. } => {
                format!("Another site was live after that point: restore a point of term {is} first.")
            }
            Refusal::NotTheFinalPoint(point) => {
                format!("Restore the point {point} first: it was taken after the other site had closed.")
            }
            Refusal::ForTheOther => "Take it at the other site, or let that one release it to this one.".to_owned(),
            Refusal::NotFenced(_) => "Fence the other site first, or take over by waiting.".to_owned(),
            Refusal::Unproven => "Switch the other site off and prove it again, or take over by waiting.".to_owned(),
        };
        Some(step)
    }
}

fn not_while(name: Name) -> String {
    match name {
        Name::Uninit => "Let this site join the system first.",
        Name::Standby => "Restore a point here first.",
        Name::Restoring => "Wait until the restore has ended, or cancel it.",
        Name::Ready => "Take the lease, or cancel what was begun.",
        Name::Waiting | Name::Acquiring | Name::Starting => "A takeover is under way here: wait until it has ended.",
        Name::Live => "This site is live: hand over or fence it first.",
        Name::Draining => "It is handing over: wait until it has ended.",
        Name::Released => "Wait until the other site has taken the lease, or take it back.",
        Name::Closed => "See that this site reaches the witness: it opens again when it has renewed its lease.",
        Name::Fenced => "Find out why it is fenced; then lift the fence, or let it rejoin as the spare.",
        Name::Stale => "Another site was live since: let this one rejoin as the spare.",
    }
    .to_owned()
}

impl Explain for TimingError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            TimingError::NoTimeToRenew { .. } => "Make the lease longer.".to_owned(),
            TimingError::Drift { .. } => {
                "Let the clocks of both machines be disciplined, and allow for 100 ‰.".to_owned()
            }
        })
    }
}
