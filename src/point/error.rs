//! What can go wrong with a recovery point as a whole.

use std::path::PathBuf;

use crate::error::{Class, Explain};
use crate::vault::layout::PointId;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// Captures run on the live site only.
    #[error("{site} is the spare: {live} is the live site, and only the live site captures")]
    NotLive {
        /// This site.
        site: String,
        /// The one that is live.
        live: String,
    },
    /// Captures run on the live site only, and there is none.
    #[error("{site} is not live, nor is the other site: the lease is nobody's, and only the live site captures")]
    NobodyLive {
        /// This site.
        site: String,
    },
    /// Both sites take points.
    #[error("{other} has taken point {point} while {site} was the live site: two sites are live")]
    TwoLive {
        /// This site.
        site: String,
        /// The other one.
        other: String,
        /// What it took.
        point: PointId,
    },
    /// What is to be released was not rescued.
    #[error("{key:?} is not among the rescued objects")]
    NotRescued {
        /// The key.
        key: String,
    },
    /// The keeper works on the spare only.
    #[error("{site} is the live site: the keeper works on the spare only")]
    NotSpare {
        /// This site.
        site: String,
        /// The other one.
        spare: String,
    },
    /// A hold without words to remember it by.
    #[error("--why says in one line, of at most 500 bytes, why the point is held or released")]
    HoldReason,
    /// There is no hold of this site to take back.
    #[error("{site} does not hold point {point}")]
    NotHeldHere {
        /// The point.
        point: PointId,
        /// This site.
        site: String,
        /// Who holds it, and why.
        holds: Vec<String>,
    },
    /// The profile captures nothing of what the sites have.
    #[error("the profile `{profile}` captures none of the sources the sites name")]
    NoSources {
        /// The profile.
        profile: String,
    },
    /// The configuration has no address for a source.
    #[error("[sites.{site}] has no address for {source_name}")]
    NoAddress {
        /// The source.
        source_name: String,
        /// This site.
        site: String,
    },
    /// What is remembered beside the mirror cannot be read or written.
    #[error("the state {path} cannot be used")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The vault has no point.
    #[error("there is no recovery point yet")]
    NoPoint,
    /// The newest point cannot be believed, and an older one is not taken for it in silence.
    #[error("the newest recovery point, {point}, is damaged or not to be believed")]
    NewestDamaged {
        /// The newest.
        point: PointId,
        /// The newest of those that are whole.
        usable: Option<PointId>,
    },
    /// The point, or something it needs, was written by a newer release.
    #[error("recovery point {point} was written by a newer release than this")]
    Newer {
        /// Its id.
        point: PointId,
    },
    /// The point asked for cannot be believed.
    #[error("recovery point {point} is damaged or not to be believed")]
    Damaged {
        /// The id asked for.
        point: PointId,
    },
    /// The vault has no such point.
    #[error("there is no recovery point {point}")]
    UnknownPoint {
        /// The id asked for.
        point: PointId,
    },
}

impl Explain for PointError {
    fn class(&self) -> Class {
        match self {
            PointError::NotLive { .. }
            | PointError::NobodyLive { .. }
            | PointError::TwoLive { .. }
            | PointError::NotSpare { .. }
            | PointError::NewestDamaged { .. }
            | PointError::Newer { .. } => Class::Refused,
            PointError::HoldReason | PointError::NotHeldHere { .. } => Class::Usage,
            PointError::NoSources { .. }
            | PointError::NoAddress { .. }
            | PointError::NotRescued { .. }
            | PointError::UnknownPoint { .. } => Class::Usage,
            PointError::NoPoint | PointError::Damaged { .. } | PointError::State { .. } => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            PointError::TwoLive { site, other, .. } => format!(
                "Nothing was copied. Stop the application at one of them. If {other} is the live one now, write `live = \"{other}\"` here; \
                 if it is {site}, write `live = \"{site}\"` there, and here, once, `live = \"{other}\"` for a `warmspare restore` or \
                 `warmspare prune`: what this site remembers of {other} is then looked at anew."
            ),
            PointError::NotRescued { .. } => "Look at their keys: `warmspare mirror rescued`.".to_owned(),
            PointError::NotLive { live, .. } => format!("Run `warmspare capture` at {live}."),
            PointError::NobodyLive { .. } => {
                "Let one site take the lease first: the one whose data are to be captured.".to_owned()
            }
            PointError::NotSpare { spare, .. } => {
                format!("Run `warmspare prune` at {spare}: only the spare can see what packs are still needed.")
            }
            PointError::HoldReason => "Say it so that somebody else can decide about it in a year.".to_owned(),
            PointError::NotHeldHere { holds, .. } if holds.is_empty() => "Nobody holds it.".to_owned(),
            PointError::NotHeldHere { holds, .. } => {
                format!("A hold is released at the site that made it: {}.", holds.join("; "))
            }
            PointError::NoSources { .. } | PointError::NoAddress { .. } => {
                "Name databases, buckets or exports under both sites.".to_owned()
            }
            PointError::State { path, .. } => {
                format!("Check owner, mode and free space of the folder of {}, then run it again.", path.display())
            }
            PointError::NoPoint => "Take one on the live site with `warmspare capture`.".to_owned(),
            PointError::NewestDamaged { usable: Some(usable), .. } => {
                format!("`warmspare points` says what is wrong with it. The newest that is whole: --point {usable}.")
            }
            PointError::NewestDamaged { usable: None, .. } => {
                "`warmspare points` says what is wrong with it; none of the points is whole.".to_owned()
            }
            PointError::Damaged { .. } => {
                "`warmspare points` says what is wrong with it, and lists those that are whole.".to_owned()
            }
            PointError::Newer { .. } => {
                "Use a newer release of warmspare, or choose an older point with --point.".to_owned()
            }
            PointError::UnknownPoint { .. } => "`warmspare points` lists those there are.".to_owned(),
        })
    }
}
