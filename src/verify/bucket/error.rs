//! What keeps a bucket from being looked at.

use std::io;
use std::path::PathBuf;

use crate::error::{Class, Explain};
use crate::vault::layout::PointId;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum BucketVerifyError {
    /// What was named is no bucket.
    #[error("{given} is no bucket: only buckets are looked at one by one")]
    NoBucketName {
        /// What was named.
        given: String,
    },
    /// There is no such bucket.
    #[error("[sites.{site}] has no bucket `{name}` (there are: {known})")]
    NoBucket {
        /// The name asked for.
        name: String,
        /// The site.
        site: String,
        /// The names there are.
        known: String,
    },
    /// No pass has come to its end yet.
    #[error("nothing of {source_name} has been mirrored to where it is to be mirrored now")]
    NeverMirrored {
        /// The bucket.
        source_name: String,
    },
    /// What is remembered is of before the roles were swapped.
    #[error("what is remembered of {bucket} is of before the roles of the sites were swapped")]
    Turned {
        /// The bucket.
        bucket: String,
    },
    /// The live site cannot open its own points.
    #[error("{site} is the live site, which cannot open the points it writes")]
    PointAtLive {
        /// This site.
        site: String,
        /// The other one.
        spare: String,
    },
    /// The point has no such source.
    #[error("recovery point {point} has no {source_name}")]
    NotInPoint {
        /// The point.
        point: PointId,
        /// The bucket.
        source_name: String,
    },
    /// It is being looked at.
    #[error("another run is looking at this bucket; it holds {path}")]
    Busy {
        /// What remembers the run.
        path: PathBuf,
    },
    /// What was found cannot be mended now.
    #[error("{faults} object(s) of {bucket} are not as recorded, the first {first:?}; a pass of the mirror is running")]
    MirrorRuns {
        /// The bucket.
        bucket: String,
        /// How many.
        faults: usize,
        /// The first of them.
        first: String,
    },
    /// It is probably not the bucket at all.
    #[error("{missing} of the {looked} objects looked for in {bucket} are missing")]
    MostlyMissing {
        /// The bucket.
        bucket: String,
        /// How many are missing.
        missing: u64,
        /// Of how many.
        looked: u64,
        /// Where it is remembered what should be there.
        manifest: PathBuf,
    },
    /// What is remembered of the run cannot be read or written.
    #[error("the state {path} of this check cannot be used")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Explain for BucketVerifyError {
    fn class(&self) -> Class {
        match self {
            BucketVerifyError::NoBucketName { .. }
            | BucketVerifyError::NoBucket { .. }
            | BucketVerifyError::PointAtLive { .. }
            | BucketVerifyError::NotInPoint { .. } => Class::Usage,
            BucketVerifyError::Busy { .. }
            | BucketVerifyError::MirrorRuns { .. }
            | BucketVerifyError::Turned { .. }
            | BucketVerifyError::MostlyMissing { .. } => Class::Refused,
            BucketVerifyError::NeverMirrored { .. } | BucketVerifyError::State { .. } => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            BucketVerifyError::NoBucketName { .. } => {
                "Name a bucket, or run `warmspare verify` for the vault.".to_owned()
            }
            BucketVerifyError::NoBucket { .. } => "Name one of them: --only bucket.NAME.".to_owned(),
            BucketVerifyError::NeverMirrored { .. } | BucketVerifyError::Turned { .. } => {
                "Take a recovery point with `warmspare capture` first.".to_owned()
            }
            BucketVerifyError::PointAtLive { spare, .. } => format!(
                "Run it at {spare}, or leave --point away: this site compares with what the last pass of the mirror left."
            ),
            BucketVerifyError::NotInPoint { .. } => "`warmspare points show` lists what a point has.".to_owned(),
            BucketVerifyError::Busy { .. } => "Wait until the other run has ended.".to_owned(),
            BucketVerifyError::MirrorRuns { .. } => {
                "Wait until the capture has ended, then run it again: it goes on where it stopped, and mends them."
                    .to_owned()
            }
            BucketVerifyError::MostlyMissing { bucket, manifest, .. } => format!(
                "Check that {bucket} is the right place and, if it is a folder, that its disk is mounted. Nothing was copied. If what it \
                 held is really lost, remove {}, and run a capture: everything is copied anew.",
                manifest.display()
            ),
            BucketVerifyError::State { path, .. } => {
                format!("Check owner, mode and free space of the folder of {}, then run it again.", path.display())
            }
        })
    }
}
