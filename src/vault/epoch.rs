//! Opening and reopening an epoch: the writer's dedupe horizon.
//!
//! A new epoch gets a fresh identity and chunk-id key. Both are sealed to the other site and the escrow and
//! put into the vault; the identity is then forgotten here, so that this site can write and dedupe but not
//! open. Only the recipient, the chunk-id key and the catalog stay in the state folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::VaultError;
use super::catalog::Catalog;
use super::layout::{self, EpochId, Layout, SnapshotId, Term};
use super::reader::EpochHead;
use super::secrets::{SealedSecrets, new_secrets};
use super::v1::{EpochRecord, FORMAT, Signed, VaultRecord};
use crate::clock::Clock;
use crate::config::SourceName;
use crate::durable;
use crate::failpoint;
use crate::keys::{Recipient, SigningKey};
use crate::pipeline::{ChunkIdKey, ChunkerParameters};
use crate::store::{Create, Created};

/// How long an epoch is open.
pub const EPOCH_LENGTH: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest run: an epoch with less time left is not used for a new one.
pub(super) const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// More than the state file has, with many recipients.
const STATE_BYTES: usize = 64 << 10;

/// How far a clock may be set back without costing an epoch.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// Numbers tried for a new epoch before giving up: each failed attempt to open one burns a number.
const NUMBERS_TRIED: u64 = 1000;

/// What a writer needs to know to keep an epoch.
pub struct EpochKeeping<'a> {
    /// The system.
    pub system: &'a str,
    /// This site.
    pub site: &'a str,
    /// The term it writes under.
    pub term: Term,
    /// The other site and the escrow.
    pub sealed_to: &'a [Recipient],
    /// How streams are cut; `None` for as in the open epoch, and in a new one [`ChunkerParameters::small`].
    pub chunker: Option<ChunkerParameters>,
    /// This site's signing key.
    pub signer: &'a SigningKey,
    /// The folder `vault/` of the state folder.
    pub state: &'a Path,
}

impl EpochKeeping<'_> {
    /// How the streams of a new epoch are cut.
    fn chunker(&self) -> ChunkerParameters {
        self.chunker.clone().unwrap_or_else(ChunkerParameters::small)
    }
}

/// An epoch that is open here.
pub struct OpenEpoch {
    pub(super) id: EpochId,
    pub(super) recipient: Recipient,
    pub(super) chunk_id_key: ChunkIdKey,
    pub(super) chunker: ChunkerParameters,
    pub(super) not_after: jiff::Timestamp,
    pub(super) catalog: Catalog,
}

impl OpenEpoch {
    /// Its term and number.
    pub fn id(&self) -> EpochId {
        self.id
    }

    /// Whom its packs and bodies are sealed to.
    pub fn recipient(&self) -> String {
        self.recipient.to_string()
    }
}

/// `epoch.json` of the state folder: which epoch is open. Holds the chunk-id key, hence mode 0600.
#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    system: String,
    term: Term,
    epoch: u64,
    recipient: String,
    sealed_to: Vec<String>,
    chunker: ChunkerParameters,
    not_after: jiff::Timestamp,
    chunk_id_key: Zeroizing<String>,
}

/// Reopens the epoch of the state folder, or opens a new one where there is none to go on with: the first
/// time, a week later, under a new term, for other recipients, or when the catalog is lost.
///
/// `heads` are the last committed headers of this term's epochs, as the vault shows them.
///
/// # Errors
/// [`VaultError::OtherWriter`] and [`VaultError::TailCut`] when the vault and the state folder disagree.
pub async fn open_epoch<C: Create>(
    keys: &C,
    keeping: &EpochKeeping<'_>,
    heads: &[EpochHead],
    clock: &dyn Clock,
) -> Result<OpenEpoch, VaultError> {
    durable::private_folder(keeping.state).map_err(|e| state_error(keeping.state, e))?;
    let previous = read_state(keeping)?;
    if let Some(state) = &previous
        && usable(state, keeping, clock)
        && let Some(epoch) = reopen(state, keeping)?
    {
        reconcile(&epoch, heads, &Layout::new(keeping.system))?;
        return Ok(epoch);
    }
    let local = previous.filter(|state| state.term == keeping.term).map_or(0, |state| state.epoch);
    let seen = heads.iter().map(|head| head.epoch.epoch).max().unwrap_or(0);
    create(keys, keeping, local.max(seen) + 1, clock).await
}

/// What [`open_epoch`] would refuse, without opening or writing anything. Returns the epoch it would go on with, and whom
/// that one is sealed to; nothing when it would open a new one.
///
/// # Errors
/// [`VaultError::Chain`] when the epoch's last records are not to be believed, [`VaultError::OtherWriter`] when there is a
/// newer epoch than the state folder's, [`VaultError::State`] when the state folder cannot be read.
pub fn check_resume(
    keeping: &EpochKeeping<'_>,
    heads: &[EpochHead],
    clock: &dyn Clock,
) -> Result<Option<(EpochId, String)>, VaultError> {
    let state = read_state(keeping)?.filter(|state| usable(state, keeping, clock));
    let Some(state) = state else { return Ok(None) };
    let id = EpochId { term: state.term, epoch: state.epoch };
    if let Some(newer) = heads.iter().find(|head| head.epoch > id) {
        return Err(VaultError::OtherWriter { key: Layout::new(keeping.system).epoch(newer.epoch) });
    }
    let head = heads.iter().find(|head| head.epoch == id);
    if let Some(Err(error)) = head.map(|head| head.last.as_ref()) {
        return Err(broken(error));
    }
    Ok(Some((id, state.recipient)))
}

fn state_path(keeping: &EpochKeeping) -> PathBuf {
    keeping.state.join("epoch.json")
}

fn catalog_path(keeping: &EpochKeeping, id: EpochId) -> PathBuf {
    keeping.state.join(format!("catalog-{id}.redb"))
}

fn state_error(path: &Path, error: impl std::fmt::Display) -> VaultError {
    VaultError::State { path: path.to_owned(), what: error.to_string() }
}

fn read_state(keeping: &EpochKeeping) -> Result<Option<StateFile>, VaultError> {
    let path = state_path(keeping);
    let Some(state) = read_file(&path)? else { return Ok(None) };
    if state.system != keeping.system {
        let what = format!("it belongs to the system `{}`, not `{}`", state.system, keeping.system);
        return Err(VaultError::State { path, what });
    }
    Ok(Some(state))
}

fn read_file(path: &Path) -> Result<Option<StateFile>, VaultError> {
    let Some(content) = durable::read(path).map_err(|e| state_error(path, e))? else { return Ok(None) };
    let content = Zeroizing::new(content);
    serde_json::from_slice(&content).map(Some).map_err(|e| state_error(path, format!("damaged: {e}")))
}

fn usable(state: &StateFile, keeping: &EpochKeeping, clock: &dyn Clock) -> bool {
    let sealed_to: Vec<String> = keeping.sealed_to.iter().map(Recipient::to_string).collect();
    let time_left = state.not_after.duration_since(clock.now());
    state.format == FORMAT
        && state.term == keeping.term
        && state.sealed_to == sealed_to
        && keeping.chunker.as_ref().is_none_or(|chunker| *chunker == state.chunker)
        && jiff::SignedDuration::try_from(LONGEST_RUN).is_ok_and(|longest| time_left > longest)
        // One with more time left than an epoch has was opened by a clock that was ahead.
        && jiff::SignedDuration::try_from(EPOCH_LENGTH + CLOCK_SLACK).is_ok_and(|length| time_left <= length)
}

/// `None` when the catalog is lost: a new epoch is the remedy.
fn reopen(state: &StateFile, keeping: &EpochKeeping) -> Result<Option<OpenEpoch>, VaultError> {
    let path = state_path(keeping);
    let id = EpochId { term: state.term, epoch: state.epoch };
    let catalog = match Catalog::open(&catalog_path(keeping, id), id) {
        Ok(catalog) => catalog,
        Err(error) => {
            tracing::warn!("the catalog of epoch {id} is lost ({error}); opening a new epoch, one full upload follows");
            return Ok(None);
        }
    };
    let recipient = state.recipient.parse().map_err(|e| state_error(&path, e))?;
    let chunk_id_key = ChunkIdKey::from_hex(&state.chunk_id_key);
    let chunk_id_key = chunk_id_key.ok_or_else(|| state_error(&path, "chunk_id_key is damaged"))?;
    Ok(Some(OpenEpoch {
        id,
        recipient,
        chunk_id_key,
        chunker: state.chunker.clone(),
        not_after: state.not_after,
        catalog,
    }))
}

impl OpenEpoch {
    /// Compares what a listing shows of the epoch's headers with what this site committed.
    pub(super) fn check_headers(&self, layout: &Layout, shown: &BTreeMap<u64, SourceName>) -> Result<(), VaultError> {
        let ours = self.catalog.headers()?;
        if let Some((&seq, source)) = shown.iter().find(|(seq, _)| !ours.contains_key(seq)) {
            let key = layout.header(source, SnapshotId { epoch: self.id, seq });
            return Err(VaultError::OtherWriter { key });
        }
        match ours.keys().find(|seq| !shown.contains_key(seq)) {
            None => Ok(()),
            Some(seq) => Err(VaultError::TailCut { what: format!("header {seq} of epoch {}", self.id) }),
        }
    }
}

/// Compares what the vault shows of this term with what this site remembers committing.
fn reconcile(epoch: &OpenEpoch, heads: &[EpochHead], layout: &Layout) -> Result<(), VaultError> {
    if let Some(newer) = heads.iter().find(|head| head.epoch > epoch.id) {
        // The state folder is a copy, or was put back from a backup.
        return Err(VaultError::OtherWriter { key: layout.epoch(newer.epoch) });
    }
    let Some(head) = heads.iter().find(|head| head.epoch == epoch.id) else {
        return epoch.check_headers(layout, &BTreeMap::new());
    };
    let last = head.last.as_ref().map_err(broken)?;
    // Our own put, confirmed but not yet remembered when we were killed, or whose answer was lost: known by its bytes.
    if let Some((seq, blake3)) = epoch.catalog.pending()?
        && (seq, blake3) == (last.seq, last.blake3)
    {
        epoch.catalog.commit_header(seq, &blake3)?;
        failpoint::hit("vault.head.adopted");
    }
    epoch.check_headers(layout, &head.headers)?;
    match epoch.catalog.head()? {
        Some(ours) if ours != (last.seq, last.blake3) => Err(VaultError::OtherWriter { key: last.key.clone() }),
        _ => Ok(()),
    }
}

/// The epoch the state folder (its folder `vault/`) would go on with.
///
/// # Errors
/// When its file cannot be read.
pub fn remembered_epoch(state: &Path) -> Result<Option<EpochId>, VaultError> {
    let found = read_file(&state.join("epoch.json"))?;
    Ok(found.map(|state| EpochId { term: state.term, epoch: state.epoch }))
}

/// Forgets the epoch of the state folder, so that the next [`open_epoch`] opens a new one.
///
/// # Errors
/// When its file cannot be removed.
pub fn abandon_epoch(state: &Path) -> Result<(), VaultError> {
    let path = state.join("epoch.json");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(state_error(&path, error)),
        _ => failpoint::hit("vault.epoch.abandoned"),
    }
    Ok(())
}

/// The chain of an epoch that cannot be gone on with.
fn broken(error: &VaultError) -> VaultError {
    match error {
        VaultError::Mismatch { key, what } => VaultError::Chain { key: key.clone(), what: what.clone() },
        VaultError::Record { key, source } => VaultError::Chain { key: key.clone(), what: source.to_string() },
        VaultError::Store(error) => VaultError::Chain { key: "of the last header".to_owned(), what: error.to_string() },
        other => VaultError::Machine(other.to_string()),
    }
}

async fn create<C: Create>(
    keys: &C,
    keeping: &EpochKeeping<'_>,
    first_number: u64,
    clock: &dyn Clock,
) -> Result<OpenEpoch, VaultError> {
    put_vault_record(keys).await?;
    let layout = Layout::new(keeping.system);
    let (id, not_after, secrets) = claim_number(keys, keeping, &layout, first_number, clock).await?;
    let name = layout.secrets(id, 0);
    if keys.create(&name, Bytes::from(secrets.sealed)).await? == Created::Taken {
        return Err(VaultError::OtherWriter { key: name });
    }
    failpoint::hit("vault.epoch.secrets");
    remember(keeping, id, &secrets.recipient, &secrets.chunk_id_key, not_after)
}

/// Puts `vault.json` if the vault is new; says whether it was.
///
/// # Errors
/// When the store fails.
pub async fn put_vault_record<C: Create>(keys: &C) -> Result<Created, VaultError> {
    let record = VaultRecord { format: FORMAT, kind: "vault".to_owned(), features: Vec::new() };
    let bytes = record.to_bytes().map_err(|e| VaultError::Machine(e.to_string()))?;
    let created = keys.create(layout::VAULT, Bytes::from(bytes)).await?;
    failpoint::hit("vault.record");
    Ok(created)
}

/// Puts `epoch.json` under the first number that is free: a number is burned by a crash before the secrets were put.
///
/// Each number gets secrets of its own, sealed before anything is put: the identity is forgotten when the vault, or a
/// recipient's plugin, begins to keep this site waiting, and a plugin that fails burns no number.
async fn claim_number<C: Create>(
    keys: &C,
    keeping: &EpochKeeping<'_>,
    layout: &Layout,
    first_number: u64,
    clock: &dyn Clock,
) -> Result<(EpochId, jiff::Timestamp, SealedSecrets), VaultError> {
    let created_at = clock.now();
    let not_after = created_at.checked_add(EPOCH_LENGTH).map_err(|e| VaultError::Machine(e.to_string()))?;
    let mut name = String::new();
    for epoch in first_number..first_number + NUMBERS_TRIED {
        let id = EpochId { term: keeping.term, epoch };
        let secrets = new_secrets(keeping.system, id, &layout.secrets(id, 0), keeping.sealed_to).await?;
        let record = EpochRecord {
            format: FORMAT,
            kind: "epoch".to_owned(),
            system: keeping.system.to_owned(),
            term: id.term,
            epoch,
            writer: keeping.site.to_owned(),
            chunker: keeping.chunker(),
            recipient: secrets.recipient.to_string(),
            sealed_to: keeping.sealed_to.iter().map(Recipient::to_string).collect(),
            created_at,
            not_after,
        };
        name = layout.epoch(id);
        let bytes = Signed::encode(&record, &name, keeping.site, keeping.signer)
            .map_err(|e| VaultError::Machine(e.to_string()))?;
        if keys.create(&name, Bytes::from(bytes)).await? == Created::New {
            failpoint::hit("vault.epoch.record");
            return Ok((id, not_after, secrets));
        }
    }
    Err(VaultError::OtherWriter { key: name })
}

/// Creates the catalog and makes the epoch this site's open one; the identity is not among what is kept.
fn remember(
    keeping: &EpochKeeping<'_>,
    id: EpochId,
    recipient: &Recipient,
    chunk_id_key: &ChunkIdKey,
    not_after: jiff::Timestamp,
) -> Result<OpenEpoch, VaultError> {
    let path = catalog_path(keeping, id);
    let catalog = Catalog::create(&path, id)?;
    let state = StateFile {
        format: FORMAT,
        system: keeping.system.to_owned(),
        term: id.term,
        epoch: id.epoch,
        recipient: recipient.to_string(),
        sealed_to: keeping.sealed_to.iter().map(Recipient::to_string).collect(),
        chunker: keeping.chunker(),
        not_after,
        chunk_id_key: chunk_id_key.to_hex(),
    };
    let path = state_path(keeping);
    // Large enough not to grow: what a vector outgrows is not wiped with it.
    let mut content = Zeroizing::new(Vec::with_capacity(STATE_BYTES));
    serde_json::to_writer(&mut *content, &state).map_err(|e| state_error(&path, e))?;
    durable::replace(&path, &content).map_err(|e| state_error(&path, e))?;
    failpoint::hit("vault.epoch.state");
    Ok(OpenEpoch {
        id,
        recipient: recipient.clone(),
        chunk_id_key: chunk_id_key.clone(),
        chunker: keeping.chunker(),
        not_after,
        catalog,
    })
}
