//! 3 KEEP: the vault, one object-store prefix that holds every recovery point of a system.
//!
//! The live site writes: packs, then a body, then headers, then the point; what has no header does not exist.
//! It seals to the other site and the escrow and cannot read back what it wrote. The spare reads, proves and
//! writes proofs. [`layout`] spells the key names, [`v1`] holds the stored types, docs/FORMAT.md every byte.

mod catalog;
mod epoch;
mod hold;
pub mod keeper;
pub mod layout;
mod packer;
mod policy;
mod probe;
mod proof;
mod reader;
pub mod rekey;
mod removals;
pub mod retention;
mod scrub;
mod seal;
mod secrets;
mod seen;
mod snapshot;
mod spool;
mod status;
pub mod v1;
mod writer;

use crate::error::{Class, Explain};
use crate::keys::SealingError;
use crate::pipeline::PipelineError;
use crate::store::StoreError;
use layout::EpochId;
use v1::Unverified;

pub use epoch::{
    EPOCH_LENGTH, EpochKeeping, OpenEpoch, abandon_epoch, check_resume, open_epoch, put_vault_record, remembered_epoch,
};
pub use hold::{Holds, NewHold, put_hold};
pub use policy::{PolicyUsers, bucket_policy};
pub use probe::{DatedProbe, canaries, last_probe, probe_vault};
pub use proof::{NewProof, put_proof};
pub use reader::{Damaged, EpochHead, Fault, LastHeader, ListedPoint, PointListing, VaultReader};
pub use removals::Removals;
pub use scrub::{ScrubReport, ScrubRequest, Scrubber, Share, ShareError, Turns, scrub};
pub use seen::SeenPoints;
pub use snapshot::{SnapshotReader, SnapshotStream};
pub use status::{StatusKeeping, update_status};
pub use writer::{CommittedSnapshot, EpochWriter, NewPoint, SealedSnapshot, SnapshotWriter, StreamWriter};

/// What can go wrong with the vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error("vault")]
    Store(#[from] StoreError),
    /// An object does not hold what it must.
    #[error("vault: object {key}")]
    Object {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: PipelineError,
    },
    /// A record that is not to be believed.
    #[error("vault: record {key}")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        source: Unverified,
    },
    /// An object differs from what a signed record says of it.
    #[error("vault: object {key} is not what its record says: {what}")]
    Mismatch {
        /// Its key.
        key: String,
        /// The difference.
        what: String,
    },
    /// An epoch's records are damaged or gone, so that this site cannot go on writing into it.
    #[error("vault: this site cannot go on with its epoch: record {key}: {what}")]
    Chain {
        /// The key of the record.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another writer was here.
    #[error("vault: {key} already exists with other content: another writer uses this chain")]
    OtherWriter {
        /// The key that was taken.
        key: String,
    },
    /// Records that were there are gone.
    #[error("vault: {what} was there before and is gone: the tail of the vault was cut")]
    TailCut {
        /// What is missing.
        what: String,
    },
    /// The epoch's time is over.
    #[error("vault: epoch {0} ended while the capture ran")]
    EpochOver(EpochId),
    /// This site's part of the vault's bookkeeping failed.
    #[error("state file {path}: {what}")]
    State {
        /// The file.
        path: std::path::PathBuf,
        /// What happened.
        what: String,
    },
    /// A stream of that name is not in the snapshot, or is there already.
    #[error("snapshot {snapshot}: {what}")]
    Stream {
        /// The snapshot.
        snapshot: String,
        /// What is wrong.
        what: String,
    },
    /// No recovery point of that id, or none at all.
    #[error("{0}")]
    NoPoint(String),
    /// None of the sealed secrets of an epoch opens with the identity at hand.
    #[error("vault: the secrets of epoch {epoch} do not open with this site's identity: {why}")]
    NotForUs {
        /// The epoch.
        epoch: EpochId,
        /// What was found in each object of secrets.
        why: String,
    },
    /// Secrets that cannot be sealed or opened: most likely a plugin.
    #[error("vault: secrets {key}")]
    Secrets {
        /// Their key.
        key: String,
        /// What happened.
        source: SealingError,
    },
    /// Every name for secrets of an epoch is taken.
    #[error("vault: epoch {0} has {max} objects of secrets, and no further one is looked for", max = secrets::SECRETS_MAX)]
    SecretsFull(EpochId),
    /// The machine failed: randomness, threads.
    #[error("vault: {0}")]
    Machine(String),
}

impl VaultError {
    /// The key of the object it is about, where it is about one.
    pub fn object(&self) -> Option<&str> {
        match self {
            VaultError::Object { key, .. }
            | VaultError::Record { key, .. }
            | VaultError::Mismatch { key, .. }
            | VaultError::Chain { key, .. }
            | VaultError::OtherWriter { key } => Some(key),
            VaultError::Store(error) => error.place().key.as_deref(),
            _ => None,
        }
    }

    /// Whether a newer release would read what it is about: that is not damaged.
    pub fn is_unsupported(&self) -> bool {
        match self {
            VaultError::Object { source, .. } => source.is_unsupported(),
            VaultError::Record { source, .. } => source.is_unsupported(),
            _ => false,
        }
    }
}

impl Explain for VaultError {
    fn class(&self) -> Class {
        match self {
            VaultError::Store(error) => error.class(),
            VaultError::OtherWriter { .. } | VaultError::TailCut { .. } | VaultError::Chain { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            VaultError::Store(error) => return error.next_step(),
            error if error.is_unsupported() => "Use a newer release of warmspare.",
            VaultError::Object { .. } | VaultError::Mismatch { .. } => {
                "Restore from another recovery point (`warmspare points` lists them), and find out what changed the object."
            }
            VaultError::Record { source: Unverified::UnknownSigner(_), .. } => {
                "If that site is yours, pin its verifying key under `signers` in [vault]; if not, find out who wrote the record."
            }
            VaultError::Record { .. } => "Find out who changed the record; do not restore from it.",
            VaultError::OtherWriter { .. } => {
                "Make sure that only one machine captures for this site, then move the folder vault/ of its state folder \
                 aside; the next capture opens a new epoch and uploads everything once."
            }
            VaultError::TailCut { .. } => {
                "Find out who removed it. To go on from what is left, move the folder vault/ of the state folder aside."
            }
            VaultError::Chain { .. } => {
                "Find out what happened to it; `warmspare points` tells which points are damaged. To go on, move the folder \
                 vault/ of the state folder aside: the next capture opens a new epoch and uploads everything once."
            }
            VaultError::EpochOver(_) => "Run the capture again; it opens a new epoch.",
            VaultError::State { .. } => {
                "Check the state folder's disk and rights, then run the command again. If the file is damaged, move the \
                 folder vault/ of the state folder aside: the next capture opens a new epoch and uploads everything once."
            }
            VaultError::NoPoint(_) => "Take one on the live site with `warmspare capture`.",
            VaultError::Secrets { source, .. } => return source.next_step(),
            VaultError::SecretsFull(_) => {
                "Find out who put them there and remove those that do not count; `warmspare vault rekey --json` names them."
            }
            VaultError::NotForUs { .. } => {
                "Check that `identity` belongs to the `recipient` in the configuration the live site captured with, or use the escrow's identity."
            }
            VaultError::Stream { .. } | VaultError::Machine(_) => return None,
        };
        Some(text.to_owned())
    }
}
