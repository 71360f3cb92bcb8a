//! The third place, which says who is live: one record, read whole and replaced by compare-and-set, and nothing more.
//!
//! A witness promises that of several who replace the same revision one wins, and that what was written is read
//! afterwards. Many stores say so and do not: [`selftest()`] tries it, and one that fails is not used. No backend judges by the
//! store's answer who won. A reply that was lost, a 409, a 500 of a write that was done: all are [`Outcome::Unknown`] or
//! [`Outcome::Lost`], and [`lease`](super::lease) reads the record to know its own write by the nonce.
//!
//! [`numbered`] needs no more of a store than "create, unless it is there"; the same code serves a folder, for trials on one
//! machine, and every object store. [`register`] is for those that replace by comparing: etcd, and a row of PostgreSQL. One
//! conformance suite asks all of them (tests/support/witness_conformance.rs). [`Opened`] is the one of a configuration.
//!
//! A write is sent once, and every request has a limit. The witness is not written under a [`Permit`](crate::permit::Permit):
//! it is what a permit comes from.

use std::future::Future;

use super::lease::{Answer, Revision, TimingError};
use crate::config::reference::ReferenceError;
use crate::error::{Class, Explain};
use crate::postgres;
use crate::store::StoreError;
use crate::units::Span;

mod etcd;
pub mod numbered;
mod open;
pub mod record;
pub mod register;
pub mod rows;
pub mod selftest;
mod setup;

pub use numbered::{Numbered, Reach};
pub use open::{Opened, open, timing};
pub use record::{Author, Mode, Record};
pub use register::Register;
pub use rows::Rows;
pub use selftest::{Check, SelfTest, selftest};
pub use setup::{SetUp, Status, init, preview_init, status, try_out};

/// A place that holds the record.
pub trait Witness: Send + Sync {
    /// The record and its revision; nothing when the witness was never set up.
    ///
    /// # Errors
    /// When it cannot be read, is none of ours, is older than one this process has read, or another one under the same revision.
    fn read(&self) -> impl Future<Output = Result<Option<(Revision, Record)>, WitnessError>> + Send;

    /// Writes `record` in place of the one of revision `expected`; without one, as the first. Where this process has read what
    /// `expected` was, another record under that number is left alone: a store that was put back counts anew.
    ///
    /// Dropped before it is ready, it may still be done, at any time: the caller reads before it believes anything.
    fn replace(&self, expected: Option<Revision>, record: &Record) -> impl Future<Output = Outcome> + Send;
}

/// What came of a write.
#[derive(Debug)]
pub enum Outcome {
    /// It is the record, under this revision.
    Won(Revision),
    /// The revision expected is not the record's any more, perhaps because this very write was done before.
    Lost,
    /// It may have been done, or may be yet.
    Unknown(WitnessError),
}

impl Outcome {
    /// As the protocol takes it. Why it is not known is for the log.
    pub fn answer(&self) -> Answer {
        match self {
            Outcome::Won(revision) => Answer::Won(*revision),
            Outcome::Lost => Answer::Lost,
            Outcome::Unknown(_) => Answer::Unknown,
        }
    }
}

/// The witness cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The configuration has none.
    #[error("the configuration names no witness")]
    NotConfigured,
    /// Its spans do not fit together.
    #[error("the witness cannot be used with these spans")]
    Timing(#[from] TimingError),
    /// A secret cannot be fetched.
    #[error("`{key}` under [sites.{site}.witness]")]
    Secret {
        /// The key.
        key: &'static str,
        /// The site.
        site: String,
        /// Why.
        source: ReferenceError,
    },
    /// Its store did not do what it was asked.
    #[error("the witness cannot be used")]
    Store(#[from] StoreError),
    /// Its database did not do what it was asked.
    #[error("the witness cannot be used")]
    Database(#[source] Box<postgres::Error>),
    /// It took too long.
    #[error("{store} gave no answer within {}", Span(*limit))]
    Silent {
        /// The store.
        store: String,
        /// How long was waited.
        limit: std::time::Duration,
    },
    /// It would be lost, and restored, with what it decides about.
    #[error("the witness is in {store}, the server of database.{database} of {site}")]
    AtSource {
        /// Where it is.
        store: String,
        /// The database.
        database: String,
        /// Whose it is.
        site: String,
    },
    /// There is a place, and no tables in it.
    #[error("{store} has not the tables of a witness")]
    NotMade {
        /// The database.
        store: String,
    },
    /// There is no record.
    #[error("the witness {store} was never set up: it has no record")]
    NotSetUp {
        /// The store.
        store: String,
    },
    /// There is a record.
    #[error("{store} is set up already: {record}")]
    Exists {
        /// The store.
        store: String,
        /// What it says.
        record: String,
    },
    /// What lies there is no record.
    #[error("{key} in {store} is no record of a witness: {what}")]
    NoRecord {
        /// The store.
        store: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A later release wrote it.
    #[error("{key} in {store} is a record of format {format}, which this release does not know")]
    Unsupported {
        /// The store.
        store: String,
        /// The key.
        key: String,
        /// The format.
        format: u32,
    },
    /// It is about something else.
    #[error("the witness is of the system `{found}`, not of `{expected}`")]
    OtherSystem {
        /// What it is of.
        found: String,
        /// What it should be of.
        expected: String,
    },
    /// It names a site that the configuration does not.
    #[error("the witness names the site `{site}`, which is not one of `{us}` and `{them}`")]
    UnknownSite {
        /// The site.
        site: String,
        /// This site.
        us: String,
        /// The other one.
        them: String,
    },
    /// A record is gone that was there.
    #[error("{store} shows {shown}, but {read} was there before")]
    WentBack {
        /// The store.
        store: String,
        /// What it shows: a revision, or no record at all.
        shown: String,
        /// What this process has read or written.
        read: Revision,
    },
    /// The machine has no random numbers.
    #[error("this machine gives no random numbers: {what}")]
    NoRandom {
        /// Its words.
        what: String,
    },
    /// It does not do what a witness must.
    #[error("{store} is no witness: {why}")]
    Unsound {
        /// The store.
        store: String,
        /// What it does.
        why: String,
    },
}

impl From<postgres::Error> for WitnessError {
    fn from(error: postgres::Error) -> Self {
        WitnessError::Database(Box::new(error))
    }
}

impl Explain for WitnessError {
    fn class(&self) -> Class {
        match self {
            WitnessError::NotConfigured | WitnessError::Timing(_) => Class::Usage,
            WitnessError::Exists { .. } => Class::Refused,
            _ => Class::Witness,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            WitnessError::NotConfigured => Some(
                "Write [witness] with its `url` and take `live` out; docs/CONFIGURATION.md shows where one can be.".to_owned(),
            ),
            WitnessError::Timing(error) => error.next_step(),
            WitnessError::Secret { .. } => {
                Some("Make the secret readable for the user warmspare runs as.".to_owned())
            }
            WitnessError::Store(error) => error.next_step(),
            WitnessError::Database(error) => error.next_step(),
            WitnessError::Silent { store, .. } => Some(format!(
                "Look whether {store} works and how far it is away. What was asked of it may have been done, or be done yet: \
                 `warmspare witness status` says what is there."
            )),
            WitnessError::AtSource { .. } => Some(
                "Give it a server of its own, away from both sites: where its database is restored, an old record comes back, and \
                 two sites can be live at once."
                    .to_owned(),
            ),
            WitnessError::NotMade { .. } | WitnessError::NotSetUp { .. } => Some(
                "If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give \
                 `--term` a number above every term there was."
                    .to_owned(),
            ),
            WitnessError::Exists { .. } => Some(
                "Leave it: `warmspare witness status` shows all of it. A new witness is another place: another `url` under \
                 [witness]."
                    .to_owned(),
            ),
            WitnessError::NoRecord { store, .. } => Some(format!(
                "Look at what lies there. A witness needs a place of its own; nothing else may write into {store}."
            )),
            WitnessError::Unsupported { .. } => Some("Install the release that wrote it, at both sites.".to_owned()),
            WitnessError::OtherSystem { .. } => {
                Some("Give each system a witness of its own: another folder, bucket or prefix.".to_owned())
            }
            WitnessError::UnknownSite { .. } => {
                Some("Use the same names of sites in the configuration of both.".to_owned())
            }
            WitnessError::WentBack { .. } => Some(
                "Somebody deleted records, or put the store back: fence both sites before anything else, and never restore a \
                 witness from a backup. Then set up a new one, with `warmspare witness init --term N`, N at least the highest term \
                 there was, and start both daemons anew."
                    .to_owned(),
            ),
            WitnessError::NoRandom { .. } => Some("Look at this machine's /dev/urandom.".to_owned()),
            WitnessError::Unsound { .. } => {
                Some("Use another store as the witness: with this one, two sites can be live at once.".to_owned())
            }
        }
    }
}
