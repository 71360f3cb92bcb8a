//! Putting the proof of a restore.

use super::layout::{Layout, PointId};
use super::v1::{FORMAT, ProofRecord, ProofStep, Signed, Verdict};
use super::writer::{SOFTWARE, put_once};
use super::{ListedPoint, VaultError};
use crate::failpoint;
use crate::keys::SigningKey;
use crate::store::Create;

/// What a restore found, about to be signed.
pub struct NewProof {
    /// What came of it.
    pub verdict: Verdict,
    /// Whether every source of the point was restored.
    pub complete: bool,
    /// When the restore began.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// The steps, in order.
    pub steps: Vec<ProofStep>,
}

/// Signs and puts `proof` of `point` as `site`, under the number after `last` (0 when it is the first).
///
/// # Errors
/// [`VaultError::OtherWriter`] when that number is taken.
pub async fn put_proof<C: Create>(
    keys: &C,
    point: &ListedPoint,
    site: &str,
    last: u64,
    proof: NewProof,
    signer: &SigningKey,
) -> Result<(PointId, ProofRecord), VaultError> {
    let record = ProofRecord {
        format: FORMAT,
        kind: "proof".to_owned(),
        system: point.record.system.clone(),
        point: point.id.to_string(),
        point_blake3: point.blake3.to_hex().to_string(),
        site: site.to_owned(),
        seq: last + 1,
        verdict: proof.verdict,
        complete: proof.complete,
        started_at: proof.started_at,
        finished_at: proof.finished_at,
        steps: proof.steps,
        software: SOFTWARE.to_owned(),
    };
    let key = Layout::new(&record.system).proof(point.id, site, record.seq);
    let bytes = Signed::encode(&record, &key, site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
    put_once(keys, &key, bytes).await?;
    failpoint::hit("vault.proof");
    Ok((point.id, record))
}
