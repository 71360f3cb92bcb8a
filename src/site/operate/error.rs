//! Why an operator is refused, and what to do then.

use std::path::PathBuf;

use crate::error::{Class, Explain};
use crate::site::lease::{Name, Term, other_term, way_out};

/// Why an operation does not begin, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// Not from this state.
    #[error("{site} is {state}: {operation} does not begin here")]
    NotFrom {
        /// The site.
        site: String,
        /// Its state.
        state: Name,
        /// What was asked.
        operation: &'static str,
    },
    /// Another term than the operator expects.
    #[error("the term is {is}, not {expected}")]
    OtherTerm {
        /// What the operator expects.
        expected: u64,
        /// What it is.
        is: u64,
    },
    /// There are two sites.
    #[error("`{given}` is not the other site of {site}")]
    NotTheOther {
        /// What was given.
        given: String,
        /// This site.
        site: String,
    },
    /// Somebody was live already.
    #[error("{site} would not be the first: the witness has term {term}, written by {operator}")]
    NotFirst {
        /// The site.
        site: String,
        /// The term.
        term: u64,
        /// Who wrote the record.
        operator: String,
    },
    /// Nobody is known to have been live.
    #[error("the witness answers {site}, and has no record")]
    NoRecord {
        /// The site.
        site: String,
    },
    /// The restore has a red proof.
    #[error("point {point} is restored and not proven equal: {site} does not become live with it")]
    Different {
        /// The point.
        point: String,
        /// The site.
        site: String,
    },
    /// It did not come to its end.
    #[error("{operation} came to nothing: {site} is {state}{why}")]
    GivenUp {
        /// What was asked.
        operation: &'static str,
        /// The site.
        site: String,
        /// Its state.
        state: Name,
        /// Why, if it says, after a colon.
        why: String,
    },
    /// Whether somebody works at the site cannot be told.
    #[error("the lock {path} cannot be looked at")]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A confirmation that is none.
    #[error("this is {site}, and `{given}` was typed: nothing was done")]
    NotConfirmed {
        /// This site.
        site: String,
        /// What was typed.
        given: String,
    },
    /// Nobody to ask.
    #[error("this changes who takes traffic, and nobody is here to confirm it")]
    NobodyToConfirm {
        /// This site.
        site: String,
    },
}

impl Explain for OperateError {
    fn class(&self) -> Class {
        match self {
            OperateError::NotTheOther { .. } => Class::Usage,
            OperateError::Different { .. } => Class::Incomplete,
            OperateError::GivenUp { .. } | OperateError::Lock { .. } => Class::Failed,
            OperateError::NoRecord { .. } => Class::Witness,
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            OperateError::NotFrom { state, .. } => not_from(*state).to_owned(),
            OperateError::OtherTerm { expected, is } => other_term(Term(*expected), Term(*is)),
            OperateError::NotTheOther { .. } => {
                "Name the site it is handed over to; it is run at the one that is live.".to_owned()
            }
            OperateError::NotFirst { .. } => {
                "Leave --first out: the newest point is restored and proven here, then taken live.".to_owned()
            }
            OperateError::NoRecord { .. } => {
                "If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give `--term` \
                 a number above every term there was."
                    .to_owned()
            }
            OperateError::Different { point, .. } => format!(
                "See what differs: report.txt of the run restores/{point}-… in the state folder. Mend it and run this again; this site \
                 is a spare until then."
            ),
            OperateError::GivenUp { .. } => {
                "See `warmspare lease status` and the daemon's log, then run it again.".to_owned()
            }
            OperateError::Lock { .. } => "Check the state folder: it has to be there, and this user's.".to_owned(),
            OperateError::NotConfirmed { site, .. } => format!("Type {site}, if this is the site you mean."),
            OperateError::NobodyToConfirm { site } => format!("Run it on a terminal, or add --yes {site}."),
        })
    }
}

fn not_from(state: Name) -> &'static str {
    match state {
        Name::Standby | Name::Restoring | Name::Ready | Name::Waiting | Name::Acquiring => {
            "It holds no lease: run it at the live site."
        }
        _ => way_out(state),
    }
}
