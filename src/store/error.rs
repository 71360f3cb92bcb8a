//! What a store can answer other than what was asked for, by what the caller can do about it.
//!
//! Every variant says where it happened: which store, which key, which operation.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Class, Explain};
use crate::permit::Withdrawn;

/// Why, in the words of the system that refused.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store, as a person knows it: `s3://bucket at http://10.1.0.6:9000`, `/srv/artifacts`.
    pub store: String,
    /// The key; absent when the operation is about the whole store.
    pub key: Option<String>,
    /// What was being done, a verb: `read`, `write`, `list`.
    pub operation: &'static str,
}

impl Place {
    /// The place of an operation on one key.
    pub fn key(store: &str, key: &str, operation: &'static str) -> Self {
        Place { store: store.to_owned(), key: Some(key.to_owned()), operation }
    }

    /// The place of an operation on the whole store.
    pub fn store(store: &str, operation: &'static str) -> Self {
        Place { store: store.to_owned(), key: None, operation }
    }
}

impl fmt::Display for Place {
    /// `write "a/b" in /srv/artifacts`. The key is quoted: it may hold any character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} {key:?} in {}", self.operation, self.store),
            None => write!(f, "{} {}", self.operation, self.store),
        }
    }
}

/// A store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object, bucket or folder.
    #[error("cannot {at}: it is not there")]
    NotFound {
        /// Where.
        at: Place,
    },
    /// There is one already.
    #[error("cannot {at}: it is there already")]
    Exists {
        /// Where.
        at: Place,
    },
    /// The credential does not allow it, or is wrong.
    #[error("cannot {at}: access denied ({why})")]
    Denied {
        /// Where.
        at: Place,
        /// The store's own word for it.
        why: String,
    },
    /// The store has it and gives nobody its content at once: it is archived.
    #[error("cannot {at}: it is archived ({why})")]
    Archived {
        /// Where.
        at: Place,
        /// The store's own word for it.
        why: String,
    },
    /// The object is no longer the version that was asked for.
    #[error("cannot {at}: it changed meanwhile")]
    Changed {
        /// Where.
        at: Place,
    },
    /// No answer, or one that says to come back later; retries are already behind it.
    #[error("cannot {at}: the store does not answer")]
    Unavailable {
        /// Where.
        at: Place,
        /// Why.
        source: Cause,
    },
    /// The disk, quota or device is full.
    #[error("cannot {at}: no space left")]
    NoSpace {
        /// Where.
        at: Place,
    },
    /// The store cannot carry a key of that form.
    #[error("cannot {at}: the store cannot carry this key ({why})")]
    BadKey {
        /// Where.
        at: Place,
        /// What about the key.
        why: String,
    },
    /// The object is larger than the caller is ready to hold.
    #[error("cannot {at}: it has {size_bytes} bytes, more than the {limit_bytes} expected of it")]
    TooLarge {
        /// Where.
        at: Place,
        /// Its size.
        size_bytes: u64,
        /// The most the caller takes.
        limit_bytes: u64,
    },
    /// This site may not write now: nothing was sent.
    #[error("cannot {at}: this site may not write now")]
    Withdrawn {
        /// Where.
        at: Place,
        /// Why.
        source: Withdrawn,
    },
    /// The file of the authorities to trust cannot be used.
    #[error("cannot {at}: its ca_file {file} cannot be used")]
    Authorities {
        /// Where.
        at: Place,
        /// The file.
        file: PathBuf,
        /// Why.
        source: Cause,
    },
    /// Anything else; the source has the store's words.
    #[error("cannot {at}")]
    Other {
        /// Where.
        at: Place,
        /// Why.
        source: Cause,
    },
}

impl StoreError {
    /// Where it happened.
    pub fn place(&self) -> &Place {
        match self {
            StoreError::NotFound { at }
            | StoreError::Exists { at }
            | StoreError::Denied { at, .. }
            | StoreError::Archived { at, .. }
            | StoreError::Changed { at }
            | StoreError::Unavailable { at, .. }
            | StoreError::NoSpace { at }
            | StoreError::BadKey { at, .. }
            | StoreError::TooLarge { at, .. }
            | StoreError::Withdrawn { at, .. }
            | StoreError::Authorities { at, .. }
            | StoreError::Other { at, .. } => at,
        }
    }

    /// Whether the object, or its store, is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }

    /// Whether it concerns this one object, and others may be read: it is gone, archived, has grown, or lies on a bad
    /// spot of the disk.
    pub fn is_of_object(&self) -> bool {
        let unreadable = |source: &Cause| {
            let number = source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            number == Some(rustix::io::Errno::IO.raw_os_error())
        };
        match self {
            StoreError::NotFound { .. } | StoreError::TooLarge { .. } | StoreError::Archived { .. } => true,
            StoreError::Other { source, .. } => unreadable(source),
            _ => false,
        }
    }

    /// What an error of the file system means for a store that is a folder.
    pub(crate) fn of_io(at: Place, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => StoreError::NotFound { at },
            Kind::AlreadyExists => StoreError::Exists { at },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => StoreError::Denied { at, why: error.to_string() },
            Kind::StorageFull | Kind::QuotaExceeded => StoreError::NoSpace { at },
            Kind::InvalidFilename | Kind::NotADirectory | Kind::IsADirectory => {
                StoreError::BadKey { at, why: error.to_string() }
            }
            Kind::TimedOut | Kind::StaleNetworkFileHandle => StoreError::Unavailable { at, source: error.into() },
            _ => StoreError::Other { at, source: error.into() },
        }
    }

    /// For an error that says nothing about the store: text that a person reads as the cause.
    pub(crate) fn other(at: Place, why: impl Into<String>) -> Self {
        StoreError::Other { at, source: why.into().into() }
    }
}

impl Explain for StoreError {
    fn class(&self) -> Class {
        match self {
            StoreError::Withdrawn { source, .. } => source.class(),
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            StoreError::NotFound { at: Place { key: None, store, .. } } => format!(
                "Check that {store} is the right place, that it exists, and, if it is a folder, that its disk is mounted."
            ),
            StoreError::NotFound { at } => {
                format!("Check whether somebody removed it from {}, and what it should have been.", at.store)
            }
            StoreError::Exists { .. } => "Find out who wrote it; it was left as it is.".to_owned(),
            StoreError::Denied { at, .. } => format!(
                "Check the credential configured for {} and whether it may {}; for a folder, its owner and mode.",
                at.store, at.operation
            ),
            StoreError::Archived { at, .. } => format!(
                "Have {} give it back from its archive (`restore-object`, or another storage class), then run it again.",
                at.store
            ),
            StoreError::Changed { .. } => "Run it again; what was read of the old version was not kept.".to_owned(),
            StoreError::Unavailable { at, .. } => format!(
                "Check that {} can be reached from this host (address, port, firewall, certificate), then run it again; it goes on where it stopped.",
                at.store
            ),
            StoreError::NoSpace { at } => {
                format!("Free or add space at {}, then run it again; it goes on where it stopped.", at.store)
            }
            StoreError::BadKey { at, .. } => {
                format!(
                    "Rename the object at its source, or mirror to a store that carries such keys instead of {}.",
                    at.store
                )
            }
            StoreError::Withdrawn { source, .. } => return source.next_step(),
            StoreError::TooLarge { at, .. } => {
                format!("Look at the object in {}: it is not what warmspare writes there.", at.store)
            }
            StoreError::Authorities { file, .. } => {
                let file = file.display();
                format!(
                    "Make {file} a PEM file with the certificates of the authorities, readable for the user warmspare runs as."
                )
            }
            StoreError::Other { at, .. } => {
                format!("Read the cause above; it is the answer of {} itself.", at.store)
            }
        })
    }
}

/// How a folder is named to a person.
pub(crate) fn folder_name(path: &Path) -> String {
    path.display().to_string()
}
