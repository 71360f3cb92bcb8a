//! What ends a pass, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::breaker::HeldBack;
use super::manifest::ManifestError;
use super::{FailedObject, Unlisted};
use crate::error::{Class, Explain};
use crate::store::StoreError;

/// A pass that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A bucket refused, and would for the other objects too.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The memory of the mirror is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The state folder is not usable.
    #[error("the mirror's state {path} cannot be used")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record of which contents the target has is not usable.
    #[error("the mirror's record of contents {path} cannot be used")]
    Contents {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// Another pass is running.
    #[error("another pass of this mirror is running; it holds {path}")]
    Busy {
        /// The state folder.
        path: PathBuf,
    },
    /// A listing that is not sorted cannot be joined with the manifest.
    #[error("{bucket} lists {after:?} after {before:?}: the listing is not sorted")]
    Unsorted {
        /// The bucket.
        bucket: String,
        /// The first key.
        before: String,
        /// The second, which should be greater.
        after: String,
    },
    /// What lists the source stopped, which is a mistake of ours.
    #[error("what lists the source stopped before its end")]
    Lister {
        /// Why.
        source: tokio::task::JoinError,
    },
    /// The pass ended, and parts of the source could not be listed.
    #[error("{holes} part(s) of the source could not be listed: {first}")]
    Unlisted {
        /// How many.
        holes: u64,
        /// The first.
        first: Unlisted,
    },
    /// Everything is gone at once from a bucket that is only listed and hashed.
    #[error("{bucket} lists no object, and had {objects} at the last pass")]
    Empty {
        /// The bucket.
        bucket: String,
        /// How many objects it had.
        objects: u64,
    },
    /// What was mirrored is not there: most likely a disk that is not mounted.
    #[error("{bucket} lacks {key:?}, which the last pass left there")]
    TargetLost {
        /// The target.
        bucket: String,
        /// The first object of the manifest.
        key: String,
        /// Where that is remembered.
        manifest: PathBuf,
    },
    /// Too much would have been overwritten, or taken for deleted.
    #[error(
        "{}: {} changed and {} missing object(s) of {bucket} are at the spare as they were; new ones were copied",
        held.why, held.overwrites, held.deletes
    )]
    HeldBack {
        /// The source.
        bucket: String,
        /// What and why.
        held: HeldBack,
    },
    /// What has changed in a source since a pass cannot be told by listing it.
    #[error("what has changed in {bucket} cannot be counted: {why}")]
    Uncounted {
        /// The source.
        bucket: String,
        /// Why.
        why: &'static str,
    },
    /// The pass ended, and the target lacks something.
    #[error("{failed} object(s) could not be mirrored; the first is {:?}: {}", first.key, first.why)]
    Incomplete {
        /// How many.
        failed: u64,
        /// The first.
        first: FailedObject,
    },
    /// The pass ended, and what the target has of some objects is not what their keys say; nor is it at the source.
    #[error("{objects} object(s) are not what their keys say; the first is {:?}: {}", first.key, first.why)]
    Misnamed {
        /// How many.
        objects: u64,
        /// The first.
        first: FailedObject,
    },
}

impl Explain for MirrorError {
    fn class(&self) -> Class {
        match self {
            MirrorError::Store(error) => error.class(),
            MirrorError::Manifest(error) => error.class(),
            MirrorError::State { .. }
            | MirrorError::Contents { .. }
            | MirrorError::Unsorted { .. }
            | MirrorError::Lister { .. } => Class::Failed,
            MirrorError::Busy { .. } | MirrorError::Empty { .. } | MirrorError::TargetLost { .. } => Class::Refused,
            MirrorError::Incomplete { .. }
            | MirrorError::Uncounted { .. }
            | MirrorError::Unlisted { .. }
            | MirrorError::HeldBack { .. }
            | MirrorError::Misnamed { .. } => Class::Incomplete,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            MirrorError::Store(error) => error.next_step(),
            MirrorError::Manifest(error) => error.next_step(),
            MirrorError::State { path, .. } => {
                Some(format!("Check owner, mode and free space of {}, then run it again.", path.display()))
            }
            MirrorError::Contents { path, .. } => Some(format!(
                "Check the disk, then remove {} and run it again: it is made anew from the manifest.",
                path.display()
            )),
            MirrorError::Busy { .. } => Some("Wait until the other pass has ended, then run it again.".to_owned()),
            MirrorError::Unsorted { bucket, .. } => Some(format!(
                "Nothing was taken for deleted. {bucket} gave its keys out of order even where they were to be sorted here: report it."
            )),
            MirrorError::Lister { .. } => Some("Run it again, and report it with what the log says.".to_owned()),
            MirrorError::Unlisted { .. } => Some(
                "Nothing there was taken for deleted, and everything else was mirrored. Look at what the source's server says of these \
                 keys, then run it again."
                    .to_owned(),
            ),
            MirrorError::Empty { bucket, objects } => Some(format!(
                "Check that {bucket} is the right place and, if it is a folder, that its disk is mounted. If it is empty on purpose, say so \
                 once: `warmspare capture --accept-changes {objects}`."
            )),
            MirrorError::Uncounted { .. } => {
                Some("What would be lost is bounded by the age of the newest point all the same.".to_owned())
            }
            MirrorError::HeldBack { bucket, held } => Some(held.next_step(bucket)),
            MirrorError::TargetLost { bucket, manifest, .. } => Some(format!(
                "Check that {bucket} is the right place and, if it is a folder, that its disk is mounted. Nothing was copied. If what it \
                 held is really lost, remove {}, and run it again: everything is copied anew.",
                manifest.display()
            )),
            MirrorError::Incomplete { .. } => Some(
                "Look at the reason given for each, mend it at the site whose bucket it names, and run it again; the others are copied."
                    .to_owned(),
            ),
            MirrorError::Misnamed { first, .. } => Some(format!(
                "It is damaged at the source, or was written there under a wrong name; it was mirrored as it is. If an older point has it                  right (`warmspare verify --only bucket.NAME --point P`), bring that back with `warmspare restore --only bucket.NAME \
                 --point P --into …`, put it under {:?} at the source, and run it again. Or have the application write it anew.",
                first.key
            )),
        }
    }
}
