//! What goes wrong when somebody is to be told.

use std::path::PathBuf;

use crate::config::reference::ReferenceError;
use crate::error::{Class, Explain};

/// Somebody was not told, or it cannot be remembered that they were.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// Its address or its credentials cannot be fetched.
    #[error("sink {sink}: `{key}` under [notify.{sink}]")]
    Reference {
        /// The sink.
        sink: String,
        /// The key.
        key: &'static str,
        /// Why.
        source: ReferenceError,
    },
    /// What was fetched is no address. It is not repeated: it may be another secret.
    #[error("sink {sink}: what its `url` leads to is no http:// or https:// address")]
    NoUrl {
        /// The sink.
        sink: String,
    },
    /// It has no form it could be sent in.
    #[error("sink {sink}: {what}")]
    Unfit {
        /// The sink.
        sink: String,
        /// What is wrong.
        what: String,
    },
    /// Its authorities cannot be used.
    #[error("sink {sink}: its ca_file {file}: {what}")]
    Authorities {
        /// The sink.
        sink: String,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nobody is there, or the line broke.
    #[error("sink {sink}: {host} cannot be reached: {what}")]
    Unreachable {
        /// The sink.
        sink: String,
        /// The host and port.
        host: String,
        /// What happened.
        what: String,
    },
    /// Whoever is there is not believed.
    #[error("sink {sink}: the certificate of {host} is not believed: {what}")]
    Untrusted {
        /// The sink.
        sink: String,
        /// The host and port.
        host: String,
        /// What is wrong with it.
        what: String,
    },
    /// It took too long.
    #[error("sink {sink}: no answer within {seconds} s")]
    Late {
        /// The sink.
        sink: String,
        /// The limit.
        seconds: u64,
    },
    /// It answers, but does not take it.
    #[error("sink {sink}: {host} does not take it: it answers {status}")]
    Answered {
        /// The sink.
        sink: String,
        /// The host and port.
        host: String,
        /// The status.
        status: u16,
    },
    /// The mail server does not take it.
    #[error("sink {sink}: the mail server {host} does not take it: {what}")]
    Mail {
        /// The sink.
        sink: String,
        /// The host and port.
        host: String,
        /// What it says.
        what: String,
    },
    /// The program fails.
    #[error("sink {sink}: `{program}` {what}")]
    Command {
        /// The sink.
        sink: String,
        /// The program.
        program: String,
        /// What it did.
        what: String,
    },
    /// There is no sink of that name.
    #[error("there is no sink `{name}` (there is: {known})")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Nobody is to be told.
    #[error("nobody is told of alarms: there is no [notify.NAME]")]
    Nobody,
    /// The memory of what was told cannot be read or written.
    #[error("the record of alarms at {path} cannot be used")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error("the record of alarms at {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A later release wrote it.
    #[error("the record of alarms at {path} has format {format}, which this release does not know")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl Explain for NotifyError {
    fn class(&self) -> Class {
        match self {
            NotifyError::Unknown { .. } | NotifyError::Nobody => Class::Usage,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            NotifyError::Reference { .. } => "Make the secret readable for the user warmspare runs as.".to_owned(),
            NotifyError::NoUrl { sink } => {
                format!("Put the whole address, on one line, where `url` under [notify.{sink}] points to.")
            }
            NotifyError::Unfit { sink, .. } => format!("Mend [notify.{sink}]; docs/CONFIGURATION.md shows each key."),
            NotifyError::Authorities { .. } => {
                "Name a PEM file of the authorities that signed its certificate.".to_owned()
            }
            NotifyError::Unreachable { sink, .. } | NotifyError::Late { sink, .. } => {
                format!("See that it lives and that this host may reach it, then: `warmspare notify test {sink}`")
            }
            NotifyError::Untrusted { sink, .. } => {
                format!("Name its authority under [notify.{sink}]: ca_file = \"/etc/warmspare/authority.pem\".")
            }
            NotifyError::Answered { sink, status: 300..=399, .. } => {
                format!("Name the address it redirects to under [notify.{sink}]; nothing is followed.")
            }
            NotifyError::Answered { sink, status: 400..=499, .. } => {
                format!(
                    "The address was changed or taken back: make a new one, and put it where `url` under [notify.{sink}] points to."
                )
            }
            NotifyError::Answered { sink, .. } => format!("Try it again later: `warmspare notify test {sink}`"),
            NotifyError::Mail { sink, .. } => {
                format!("Mend what it says (`server`, `tls`, `credentials`, `from`, `to` under [notify.{sink}]).")
            }
            NotifyError::Command { sink, .. } => {
                format!("Run it by hand with a message on its standard input, then: `warmspare notify test {sink}`")
            }
            NotifyError::Unknown { .. } | NotifyError::Nobody => {
                "Write [notify.NAME] with its `kind`; docs/CONFIGURATION.md shows each.".to_owned()
            }
            NotifyError::State { .. } => {
                "See that the state folder is there, is this user's, and its disk not full.".to_owned()
            }
            NotifyError::Damaged { .. } => {
                "Nothing: the daemon sets it aside when it starts, and tells what stands once more.".to_owned()
            }
            NotifyError::Unsupported { .. } => "Use the release that wrote it, or a later one.".to_owned(),
        })
    }
}
