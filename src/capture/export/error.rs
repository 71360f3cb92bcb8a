//! What can go wrong while an export is captured.

use std::io;
use std::path::PathBuf;

use crate::error::{Class, Explain};

/// An export that could not be captured; names the pattern, file or command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file pattern cannot be used.
    #[error("file pattern `{pattern}` {why}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file pattern names nothing that exists.
    #[error("file pattern `{pattern}` matches nothing below {root:?}")]
    NoMatch {
        /// As written.
        pattern: String,
        /// The folder that stands for `/`.
        root: PathBuf,
    },
    /// A path named in the configuration is neither file, folder nor link.
    #[error("{path:?} is a {kind}, which holds nothing to capture")]
    Special {
        /// Below the root.
        path: PathBuf,
        /// `socket`, `fifo`, `device`.
        kind: &'static str,
    },
    /// A path named in the configuration is a link to something the export does not hold.
    #[error("{path:?} is a link to {target:?}, which is not part of the export")]
    LinkLeadsOut {
        /// Below the root.
        path: PathBuf,
        /// As the link says.
        target: PathBuf,
    },
    /// A file or folder carries rights that a tar file cannot carry.
    #[error("{path:?} has the extended attribute {attribute}, which an export does not carry")]
    Attribute {
        /// Below the root.
        path: PathBuf,
        /// Its name, e.g. `system.posix_acl_access`.
        attribute: String,
    },
    /// A file was being written all the time.
    #[error("{path:?} changed while it was read")]
    Changing {
        /// Below the root.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{path:?} cannot be {doing}")]
    Io {
        /// Below the root, or the root itself.
        path: PathBuf,
        /// `opened`, `read`, `listed`.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The name of a command cannot be the name of a file.
    #[error("command name `{name}` cannot be a file name")]
    CommandName {
        /// As written.
        name: String,
    },
    /// A command did not print what it should.
    #[error("command `{name}` {what}")]
    Command {
        /// Its name in the configuration.
        name: String,
        /// What it did instead.
        what: String,
    },
    /// Whoever wanted the export no longer wants it, or the program ends.
    #[error("the capture of the export was stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = path.into();
        move |errno| Error::Io { path, doing, source: errno.into() }
    }
}

impl Explain for Error {
    fn class(&self) -> Class {
        match self {
            Error::Pattern { .. } | Error::CommandName { .. } => Class::Usage,
            Error::Special { .. } | Error::LinkLeadsOut { .. } | Error::Attribute { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            Error::Pattern { .. } => {
                "Write an absolute path or glob (`*`, `?`, `[…]`, `**`), as the application sees it.".to_owned()
            }
            Error::NoMatch { pattern, .. } => {
                format!("Correct the path, or write `?{pattern}` if it may be absent.")
            }
            Error::Special { .. } => "Remove it from `files`: its server makes it anew.".to_owned(),
            Error::LinkLeadsOut { target, .. } => format!("Name {target:?} in `files` too."),
            Error::Attribute { path, attribute } => format!(
                "Give {path:?} its rights by owner, group and mode alone (remove {attribute}), \
                 or capture it through a command that prints it."
            ),
            Error::Changing { path } => {
                format!(
                    "Run the capture again; if it happens again, capture {path:?} through a command that prints a consistent copy."
                )
            }
            Error::Io { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => {
                "Use Linux 5.6 or newer, and allow the system call openat2 in the container's seccomp profile."
                    .to_owned()
            }
            Error::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("Let the user warmspare runs as read {path:?}, or run it as root.")
            }
            Error::Io { path, .. } => format!("Look at {path:?} by hand, then run the capture again."),
            Error::CommandName { .. } => "Choose a name without `/` that is not `.` or `..`.".to_owned(),
            Error::Command { name, .. } => {
                format!(
                    "Run the words of `{name}` by hand as the user of warmspare, in an empty environment (`env -i`)."
                )
            }
            Error::Stopped => return None,
        })
    }
}
