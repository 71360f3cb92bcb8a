//! Which epochs are over, and the record that says so.
//!
//! Nobody commits into an epoch after its `not_after`, by the writer's clock; the store's clock decides here, a
//! longest run later, so that a writer whose clock is slow by less than that is not cut off.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::survey::{EpochObjects, Survey};
use super::{KeeperError, Keeping, Plan, PlannedSeal};
use crate::failpoint;
use crate::keys::SigningKey;
use crate::store::{Create, Created, Read};
use crate::vault::epoch::LONGEST_RUN;
use crate::vault::layout::{EpochId, Layout, Term};
use crate::vault::reader::Damaged;
use crate::vault::v1::{FORMAT, Link, SealedRecord, Signed};
use crate::vault::writer::SOFTWARE;
use crate::vault::{EPOCH_LENGTH, VaultError, VaultReader};

/// Plans the seals of epochs that are over.
pub(super) fn plan_seals(survey: &Survey, keeping: &Keeping<'_>, layout: &Layout, plan: &mut Plan) {
    let highest: Option<Term> = survey.epochs.iter().filter(|(_, e)| e.record.is_some()).map(|(id, _)| id.term).max();
    for (id, epoch) in &survey.epochs {
        let Some((record, stored_at)) = epoch.record.as_ref().filter(|_| !epoch.has_seal) else { continue };
        let deposed = highest.is_some_and(|highest| highest > id.term);
        if !deposed && !is_over(record.not_after, *stored_at, keeping.store_now) {
            continue;
        }
        if record.writer == keeping.site {
            plan.notes.push(format!("epoch {id} was written by {}: the other site seals it", keeping.site));
            continue;
        }
        match last_header(epoch) {
            Ok(last) => plan.seals.push(PlannedSeal { epoch: *id, last }),
            Err((seq, source)) => {
                let what = format!("epoch {id} is not sealed: its header {seq} of {source} is not to be believed");
                plan.alarms.push(Damaged::new(&layout.epoch(*id), &what));
            }
        }
    }
}

fn is_over(not_after: Timestamp, stored_at: Timestamp, store_now: Timestamp) -> bool {
    let after = |at: Timestamp, length: std::time::Duration| {
        SignedDuration::try_from(length).ok().and_then(|length| at.checked_add(length).ok())
    };
    // Both from the record, which the writer's clock made, and from the store's own clock: the later counts.
    let ends = after(stored_at, EPOCH_LENGTH).map(|ends| ends.max(not_after)).and_then(|ends| after(ends, LONGEST_RUN));
    ends.is_some_and(|ends| store_now > ends)
}

/// The last header of an epoch, or one that cannot be read: what it hides may be the last.
fn last_header(epoch: &EpochObjects) -> Result<Option<Link>, (u64, String)> {
    let mut last = None;
    for ((seq, source), facts) in &epoch.headers {
        let facts = facts.as_ref().ok_or_else(|| (*seq, source.to_string()))?;
        last = Some(Link { seq: *seq, blake3: facts.blake3.clone() });
    }
    Ok(last)
}

/// Puts the seals of a plan. One that is there already is left as it is: the next pass reads it.
///
/// # Errors
/// When the vault cannot be written.
pub async fn seal<K: Read + Create>(
    keys: &K,
    reader: &VaultReader<K>,
    plan: &Plan,
    site: &str,
    signer: &SigningKey,
    now: Timestamp,
) -> Result<Vec<EpochId>, KeeperError> {
    let mut sealed = Vec::new();
    for PlannedSeal { epoch, last } in &plan.seals {
        let record = SealedRecord {
            format: FORMAT,
            kind: "sealed".to_owned(),
            system: reader.system().to_owned(),
            term: epoch.term,
            epoch: epoch.epoch,
            writer: site.to_owned(),
            sealed_at: now,
            last: last.clone(),
            software: SOFTWARE.to_owned(),
        };
        let key = reader.layout.sealed(*epoch);
        let bytes = Signed::encode(&record, &key, site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
        if keys.create(&key, Bytes::from(bytes)).await.map_err(VaultError::from)? == Created::New {
            failpoint::hit("keeper.sealed");
            sealed.push(*epoch);
        }
    }
    Ok(sealed)
}
