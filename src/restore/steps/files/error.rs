//! What can go wrong while an export is put back.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::capture::export::bundle::BundleError;
use crate::error::{Class, Explain};
use crate::verify::files;

/// An export that could not be restored; names the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The export or a path of it, which could not be read, compared or written.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// Something stands at a path that is not replaced without a person.
    #[error("{path:?} should be a {wanted}, but a {found} stands there")]
    InTheWay {
        /// Below the root.
        path: PathBuf,
        /// What the export holds.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A folder on the way to a path is not one.
    #[error("{path:?} should be a folder, but is none (or a link that leads to none below {root:?})")]
    NoFolder {
        /// Below the root.
        path: PathBuf,
        /// The folder that stands for `/`.
        root: PathBuf,
    },
    /// Only root may give a file to somebody else.
    #[error("{path:?} cannot be given to user {user}, group {group}")]
    NotPermitted {
        /// Below the root.
        path: PathBuf,
        /// Its owner's number here.
        user: u32,
        /// Its group's number here.
        group: u32,
        /// As the system says.
        source: io::Error,
    },
}

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        Error::Files(error.into())
    }
}

impl Error {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(Errno) -> Error {
        let files = files::Error::io(path, doing);
        move |errno| Error::Files(files(errno))
    }

    pub(super) fn std(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let files = files::Error::std(path, doing);
        move |source| Error::Files(files(source))
    }
}

impl Explain for Error {
    fn class(&self) -> Class {
        match self {
            Error::Files(error) => error.class(),
            Error::InTheWay { .. } | Error::NoFolder { .. } => Class::Refused,
            Error::NotPermitted { .. } => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Error::Files(error) => error.next_step(),
            Error::InTheWay { path, .. } | Error::NoFolder { path, .. } => {
                Some(format!("Look at {path:?}, move it away, and run the restore again."))
            }
            Error::NotPermitted { .. } => Some("Run the restore as root.".to_owned()),
        }
    }
}
