//! What can go wrong while an export is held against the files that stand there.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::capture::export::bundle::{BundleError, Place};
use crate::error::{Class, Explain};

/// An export, or a path of it, that could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle itself.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The owner has no account here, and its number belongs to somebody else.
    #[error("{path:?} belongs to {what} {name}, who has no account here, and whose number {id} is {holder} here")]
    Stranger {
        /// Below the root.
        path: PathBuf,
        /// `user` or `group`.
        what: &'static str,
        /// As it is called where the export was captured.
        name: String,
        /// Its number there.
        id: u32,
        /// Whose number that is here.
        holder: String,
    },
    /// The system refused something.
    #[error("{path:?} cannot be {doing}")]
    Io {
        /// Below the root, or a folder of warmspare itself.
        path: PathBuf,
        /// `opened`, `written`, `renamed` …
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The program ends.
    #[error("the restore of the files was stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::Io { path: path.to_owned(), doing, source: errno.into() }
    }

    pub(crate) fn std(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), doing, source }
    }
}

impl Explain for Error {
    fn class(&self) -> Class {
        match self {
            Error::Bundle(BundleError::Unsafe { .. }) | Error::Stranger { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            Error::Bundle(BundleError::Unsafe { .. }) => {
                "Do not use this recovery point: what it holds was not written by warmspare.".to_owned()
            }
            Error::Bundle(BundleError::Broken(_)) => {
                "Run the restore again; if it fails in the same place, restore the recovery point before this one."
                    .to_owned()
            }
            Error::Stranger { what, name, .. } => {
                format!(
                    "Create the {what} `{name}` at this host (any free number will do), then run the restore again."
                )
            }
            Error::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "Run the restore as root.".to_owned(),
                io::ErrorKind::StorageFull => {
                    format!(
                        "Make room on the file system of {path:?}, then run the restore again: it goes on where it stopped."
                    )
                }
                _ => format!("Look at {path:?} by hand, then run the restore again: it goes on where it stopped."),
            },
            Error::Stopped => return None,
        })
    }
}

/// A member's path for a person.
pub(crate) fn seen(place: &Place) -> PathBuf {
    match place {
        Place::Ancestor(path) | Place::File(path) => Path::new("/").join(path),
        Place::Command(name) => PathBuf::from(name),
    }
}
