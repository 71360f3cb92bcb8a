//! Re-key: the secrets of every epoch, sealed anew to whom the configuration names now.
//!
//! Packs and bodies stay as they are. For each epoch one object is added, `secrets-<n>`, that the new identities open;
//! what was there before stays and still opens with the old ones, since nothing in a vault is overwritten and whoever
//! has a copy keeps it. An epoch is sealed to the site that did *not* write it and to the escrow: one that this site
//! wrote can be re-keyed at the other, or here with the escrow's identity.
//!
//! Each epoch is one create: killed and run again, it goes on where it stopped.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::VaultError;
use super::layout::EpochId;
use super::reader::{Damaged, VaultReader};
use super::secrets::{EpochSecrets, SECRETS_MAX, Skipped};
use super::v1::EpochRecord;
use crate::config::Here;
use crate::error::Error;
use crate::failpoint;
use crate::keys::{Identity, Recipient, seal_for};
use crate::store::{Create, Created, Read};

/// What a re-key did, or would do.
#[derive(Debug)]
pub struct RekeyReport {
    /// Every epoch of the system that is in the vault, in order.
    pub epochs: Vec<RekeyedEpoch>,
}

/// One epoch.
#[derive(Debug)]
pub struct RekeyedEpoch {
    /// The epoch.
    pub id: EpochId,
    /// The site that wrote it.
    pub writer: String,
    /// Whom its secrets are to be sealed to, as the configuration says now.
    pub readers: Vec<Recipient>,
    /// What came of it.
    pub outcome: Outcome,
    /// Objects with the name of secrets that do not count, and why.
    pub skipped: Vec<Damaged>,
}

/// What came of one epoch.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sealed anew.
    Done {
        /// The key of the new object.
        key: String,
        /// Whether it was read back and opened with one of the new identities; they may all be elsewhere.
        opened: bool,
    },
    /// Would be sealed anew.
    Planned {
        /// The key the new object would have.
        key: String,
    },
    /// An object is sealed to exactly these readers already, and opens.
    Nothing {
        /// Its key.
        key: String,
    },
    /// None of the identities at hand opens it.
    NotOpened {
        /// What was found.
        why: String,
    },
    /// Its `epoch.json` is not to be believed.
    Damaged {
        /// What is wrong.
        what: String,
    },
}

impl RekeyReport {
    /// Whether every epoch is, or would be, sealed to its readers.
    pub fn is_complete(&self) -> bool {
        !self.epochs.iter().any(|epoch| matches!(epoch.outcome, Outcome::NotOpened { .. } | Outcome::Damaged { .. }))
    }
}

/// What there is to open one epoch with, and where the next secrets would go.
struct Found {
    opened: Vec<(u32, EpochSecrets)>,
    not_for_us: Vec<String>,
    skipped: Vec<Damaged>,
    free: u32,
}

/// Seals the secrets of every epoch to the configured readers, opening them with this site's identity or with `old`.
///
/// # Errors
/// When there is no identity, when a plugin is missing or fails, and when the store fails; what was done stays done.
pub async fn rekey<K: Read + Create>(
    here: &Here,
    keys: &K,
    reader: &VaultReader<K>,
    old: Option<Identity>,
    dry_run: bool,
) -> Result<RekeyReport, Error> {
    let _lock = here.lock("warmspare vault rekey")?;
    let own = if old.is_some() && here.site.identity.is_none() { None } else { Some(here.identity()?) };
    let identities: Vec<Identity> = own.into_iter().chain(old).collect();
    let mut epochs = Vec::new();
    for id in epochs_of(reader).await? {
        epochs.push(one(here, keys, reader, &identities, id, dry_run).await?);
    }
    Ok(RekeyReport { epochs })
}

async fn epochs_of<R: Read>(reader: &VaultReader<R>) -> Result<BTreeSet<EpochId>, VaultError> {
    let listed = reader.keys.list(&reader.layout.epochs()).await?;
    Ok(listed.iter().filter_map(|listed| reader.layout.parse_epoch(&listed.key)).collect())
}

async fn one<K: Read + Create>(
    here: &Here,
    keys: &K,
    reader: &VaultReader<K>,
    identities: &[Identity],
    id: EpochId,
    dry_run: bool,
) -> Result<RekeyedEpoch, VaultError> {
    let damaged = |writer: &str, what: String| {
        let (writer, outcome) = (writer.to_owned(), Outcome::Damaged { what });
        Ok(RekeyedEpoch { id, writer, readers: Vec::new(), outcome, skipped: Vec::new() })
    };
    let record = match reader.epoch(id).await {
        Ok(record) => record,
        Err(VaultError::Store(error)) if !error.is_not_found() => return Err(error.into()),
        Err(error) => return damaged("unknown", Error::from(error).to_string()),
    };
    let Some(readers) = here.readers_of(&record.writer) else {
        return damaged(&record.writer, format!("the configuration names no site `{}`", record.writer));
    };
    let found = find(reader, id, &record, identities).await?;
    let outcome = match (up_to_date(&found, &record, &readers), found.opened.last()) {
        (Some(n), _) => Outcome::Nothing { key: reader.layout.secrets(id, n) },
        (None, None) => Outcome::NotOpened { why: found.why(&record) },
        (None, Some(_)) if found.free >= SECRETS_MAX => return Err(VaultError::SecretsFull(id)),
        (None, Some(_)) if dry_run => Outcome::Planned { key: reader.layout.secrets(id, found.free) },
        (None, Some((_, secrets))) => {
            let n = put(keys, reader, id, secrets, &readers, found.free).await?;
            let opened = opens(reader, id, &record, n, identities, &readers).await?;
            Outcome::Done { key: reader.layout.secrets(id, n), opened }
        }
    };
    Ok(RekeyedEpoch { id, writer: record.writer, readers, outcome, skipped: found.skipped })
}

/// Looks at every object of secrets the epoch has.
async fn find<R: Read>(
    reader: &VaultReader<R>,
    id: EpochId,
    record: &EpochRecord,
    identities: &[Identity],
) -> Result<Found, VaultError> {
    let mut found = Found { opened: Vec::new(), not_for_us: Vec::new(), skipped: Vec::new(), free: SECRETS_MAX };
    for n in 0..SECRETS_MAX {
        let key = reader.layout.secrets(id, n);
        match reader.secrets_at(id, n, Some(record), identities).await? {
            Some(Ok(secrets)) => found.opened.push((n, secrets)),
            Some(Err(Skipped::NotForUs(_))) => found.not_for_us.push(key),
            Some(Err(Skipped::Wrong(what))) => found.skipped.push(Damaged::new(&key, &what)),
            None if n == 0 => found.skipped.push(Damaged::new(&key, "it is gone")),
            None => {
                found.free = n;
                break;
            }
        }
    }
    Ok(found)
}

impl Found {
    fn why(&self, record: &EpochRecord) -> String {
        match self.not_for_us.as_slice() {
            [] => "it has no secrets that count".to_owned(),
            keys => format!(
                "{} objects of secrets are sealed to others; the first was sealed to {}",
                keys.len(),
                record.sealed_to.join(" and ")
            ),
        }
    }
}

/// The number of secrets that opened and are sealed to exactly `readers`, the newest of them.
fn up_to_date(found: &Found, record: &EpochRecord, readers: &[Recipient]) -> Option<u32> {
    let wanted: BTreeSet<String> = readers.iter().map(ToString::to_string).collect();
    let is_current = |(n, secrets): &&(u32, EpochSecrets)| {
        // The first secrets do not say it themselves: the epoch's signed record does.
        let sealed_to = secrets.sealed_to.as_ref().or((*n == 0).then_some(&record.sealed_to));
        sealed_to.is_some_and(|sealed_to| sealed_to.iter().cloned().collect::<BTreeSet<_>>() == wanted)
    };
    found.opened.iter().rev().find(is_current).map(|(n, _)| *n)
}

/// Puts `secrets` for `readers` under the first number that is free.
async fn put<K: Read + Create>(
    keys: &K,
    reader: &VaultReader<K>,
    id: EpochId,
    secrets: &EpochSecrets,
    readers: &[Recipient],
    free: u32,
) -> Result<u32, VaultError> {
    let text = secrets.text_for(reader.system(), id, readers);
    for n in free..SECRETS_MAX {
        let key = reader.layout.secrets(id, n);
        let sealed = seal_for(readers, &text).await;
        let sealed = sealed.map_err(|source| VaultError::Secrets { key: key.clone(), source })?;
        if keys.create(&key, Bytes::from(sealed)).await? == Created::New {
            failpoint::hit("vault.rekey.secrets");
            return Ok(n);
        }
    }
    Err(VaultError::SecretsFull(id))
}

/// Whether what was put opens with those of `identities` that are among `readers`.
async fn opens<R: Read>(
    reader: &VaultReader<R>,
    id: EpochId,
    record: &EpochRecord,
    n: u32,
    identities: &[Identity],
    readers: &[Recipient],
) -> Result<bool, VaultError> {
    let new: Vec<Identity> =
        identities.iter().filter(|identity| readers.contains(&identity.recipient())).cloned().collect();
    if new.is_empty() {
        return Ok(false);
    }
    match reader.secrets_at(id, n, Some(record), &new).await? {
        Some(Ok(_)) => Ok(true),
        _ => {
            let what = "it was just sealed to this site's identity and does not open with it".to_owned();
            Err(VaultError::Mismatch { key: reader.layout.secrets(id, n), what })
        }
    }
}
