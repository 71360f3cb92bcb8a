//! Why an operator is refused, and what to do then.

use std::path::{Path, PathBuf};

use crate::config::SourceKind;
use crate::error::{Class, Explain};
use crate::site::lease::{Name, Term, other_term, way_out};
use crate::vault::layout::PointId;

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
        /// Whether a person named it.
        is_named: bool,
        /// The site.
        site: String,
        /// What differs: `bucket.artifacts`.
        sources: Vec<String>,
        /// How many differences there are.
        count: u64,
        /// The folder of the run.
        folder: PathBuf,
    },
    /// The last live site let go with everything in another point.
    #[error("the last live site let go with point {last}, which has everything it had, and {asked} was asked for")]
    FinalPoint {
        /// Its final point.
        last: PointId,
        /// The point asked for.
        asked: PointId,
    },
    /// The takeover is beyond the choice of a point.
    #[error("{site} is {state}: point {asked} cannot be chosen any more")]
    TooLate {
        /// The site.
        site: String,
        /// Its state.
        state: Name,
        /// The point asked for.
        asked: PointId,
    },
    /// The vault cannot be asked for the newest point, and this site is READY with one.
    #[error("which point is the newest cannot be told: {why}")]
    Unlisted {
        /// The site.
        site: String,
        /// What is restored and proven here.
        restored: PointId,
        /// Why not.
        why: String,
    },
    /// The daemon does not await the end of this restore.
    #[error("point {point} is restored and proven at {site}, and {site} is {state}: {why}")]
    NotAwaited {
        /// The site.
        site: String,
        /// The point.
        point: String,
        /// The state of the site.
        state: Name,
        /// What happened meanwhile.
        why: String,
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
        /// What to do, if it says.
        next: Option<String>,
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
            OperateError::GivenUp { .. } | OperateError::Lock { .. } | OperateError::Unlisted { .. } => Class::Failed,
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
            OperateError::Different { point, is_named, sources, count, folder, .. } => {
                different(point, *is_named, sources, *count, folder)
            }
            OperateError::FinalPoint { last, .. } => {
                format!("Leave --point out: {last} is restored and proven here.")
            }
            OperateError::TooLate { state, .. } => format!("Leave --point out. {}", way_out(*state)),
            OperateError::Unlisted { restored, site, .. } => format!(
                "Mend the way to the vault. {site} has restored and proven {restored}: without the vault \
                 `warmspare failover --point {restored}` goes on with that. The roles of its databases come from \
                 the vault before the gate opens."
            ),
            OperateError::NotAwaited { .. } => {
                "Run `warmspare failover` again: it goes on with what is restored, which is proven once more.".to_owned()
            }
            OperateError::GivenUp { next: Some(next), .. } => next.clone(),
            OperateError::GivenUp { .. } => {
                "See `warmspare lease status` and the daemon's log, then run it again.".to_owned()
            }
            OperateError::Lock { .. } => "Check the state folder: it has to be there, and this user's.".to_owned(),
            OperateError::NotConfirmed { site, .. } => format!("Type {site}, if this is the site you mean."),
            OperateError::NobodyToConfirm { site } => format!("Run it on a terminal, or add --yes {site}."),
        })
    }
}

/// What leads on from a point that is not equal.
fn different(point: &str, is_named: bool, sources: &[String], count: u64, folder: &Path) -> String {
    let mut next = format!("See what differs: {}. ", folder.join("report.txt").display());
    let bucket = format!("{}.", SourceKind::Bucket.as_str());
    let buckets: Vec<&String> = sources.iter().filter(|source| source.starts_with(&bucket)).collect();
    for bucket in &buckets {
        next += &format!(
            "What its attic or its versions still have comes back with `warmspare restore --only {bucket} --point {point} --replace`; \
             then run this again. "
        );
    }
    next += "An older point: `warmspare failover --point ID`, of those that `warmspare points` lists. ";
    if buckets.len() == sources.len() {
        next += &match is_named {
            true => format!("Without those {count}: `warmspare failover --point {point} --accept-different {count}`. "),
            false => format!("Without those {count}: `warmspare failover --accept-different {count}`. "),
        };
    }
    next + "This site is a spare until then."
}

fn not_from(state: Name) -> &'static str {
    match state {
        Name::Standby | Name::Restoring | Name::Ready | Name::Waiting | Name::Acquiring => {
            "It holds no lease: run it at the live site."
        }
        _ => way_out(state),
    }
}
