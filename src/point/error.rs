//! What can go wrong with a recovery point as a whole.

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
    /// The vault has no point.
    #[error("there is no recovery point yet")]
    NoPoint,
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
            PointError::NotLive { .. } => Class::Refused,
            PointError::NoSources { .. } | PointError::NoAddress { .. } | PointError::UnknownPoint { .. } => {
                Class::Usage
            }
            PointError::NoPoint => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            PointError::NotLive { live, .. } => format!("Run `warmspare capture` at {live}."),
            PointError::NoSources { .. } | PointError::NoAddress { .. } => {
                "Name databases, buckets or exports under both sites.".to_owned()
            }
            PointError::NoPoint => "Take one on the live site with `warmspare capture`.".to_owned(),
            PointError::UnknownPoint { .. } => "`warmspare points` lists those there are.".to_owned(),
        })
    }
}
