//! The one place that deletes: a plan written down, then done, in an order that leaves a whole vault at every moment.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{KeeperError, Plan};
use crate::failpoint;
use crate::keys::SigningKey;
use crate::store::{Create, Created, Delete, Read};
use crate::vault::layout::{self, EpochId, PointId, SnapshotId};
use crate::vault::reader::READS_AT_ONCE;
use crate::vault::v1::{FORMAT, GcRecord, RemovedEpoch, RemovedPacks, Signed};
use crate::vault::writer::SOFTWARE;
use crate::vault::{PointListing, VaultError, VaultReader};

/// Numbers tried for a record: another system's keeper may take some meanwhile.
const NUMBERS_TRIED: u64 = 100;

/// What a pass has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its number.
    pub pass: u64,
    /// How many objects it deleted.
    pub objects: u64,
}

/// Writes the plan down and does it. A plan that removes nothing leaves no record.
///
/// # Errors
/// When the vault cannot be written, or a point of the plan is held by now. What was not deleted goes with the next pass.
pub async fn remove<K: Read + Create + Delete>(
    keys: &K,
    reader: &VaultReader<K>,
    listing: &PointListing,
    plan: &Plan,
    site: &str,
    signer: &SigningKey,
    now: Timestamp,
) -> Result<Option<Removed>, KeeperError> {
    if plan.removes_nothing() {
        return Ok(None);
    }
    let pass = write_down(keys, reader, listing, plan, site, signer, now).await?;
    refuse_held(reader, plan).await?;
    let layout = &reader.layout;
    let points = plan.points.iter().map(|going| layout.point(PointId { term: going.point.term, seq: going.point.seq }));
    delete(keys, points, "keeper.point").await?;
    delete(keys, plan.points.iter().flat_map(|going| going.attached.iter().cloned()), "keeper.attached").await?;
    let id = |header: &super::GoingHeader| {
        let epoch = EpochId { term: header.header.term, epoch: header.header.epoch };
        SnapshotId { epoch, seq: header.header.seq }
    };
    let headers = plan.headers.iter().map(|header| layout.header(&header.source, id(header)));
    delete(keys, headers, "keeper.header").await?;
    let bodies = plan.headers.iter().filter(|header| header.has_body);
    delete(keys, bodies.map(|header| layout.body(&header.source, id(header))), "keeper.body").await?;
    delete(keys, plan.leftovers.iter().cloned(), "keeper.leftover").await?;
    let packs = plan.packs.iter().flat_map(|(id, packs)| packs.iter().map(|pack| layout.pack(*id, pack)));
    delete(keys, packs, "keeper.pack").await?;
    for (_, epoch) in &plan.epochs {
        // One after the other: the order is what a pass that was killed here is recognized by.
        for key in epoch {
            delete(keys, [key.clone()], "keeper.epoch").await?;
        }
    }
    Ok(Some(Removed { pass, objects: plan.objects() }))
}

async fn delete<D: Delete>(
    keys: &D,
    names: impl IntoIterator<Item = String>,
    step: &'static str,
) -> Result<(), VaultError> {
    let one = |key: String| async move { keys.delete(&key).await };
    let names: Vec<String> = names.into_iter().collect();
    let mut deleting = stream::iter(names).map(one).buffer_unordered(READS_AT_ONCE);
    while let Some(deleted) = deleting.next().await {
        deleted?;
        failpoint::hit(step);
    }
    Ok(())
}

/// Puts the record under the first number that is free.
async fn write_down<K: Read + Create>(
    keys: &K,
    reader: &VaultReader<K>,
    listing: &PointListing,
    plan: &Plan,
    site: &str,
    signer: &SigningKey,
    now: Timestamp,
) -> Result<u64, VaultError> {
    let first = listing.removals.last_pass + 1;
    for pass in first..first + NUMBERS_TRIED {
        let record = record(plan, reader.system(), pass, site, now);
        let key = layout::gc(pass);
        let bytes = Signed::encode(&record, &key, site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
        if keys.create(&key, Bytes::from(bytes)).await? == Created::New {
            failpoint::hit("keeper.record");
            return Ok(pass);
        }
    }
    Err(VaultError::OtherWriter { key: layout::gc(first) })
}

fn record(plan: &Plan, system: &str, pass: u64, site: &str, now: Timestamp) -> GcRecord {
    let packs: BTreeMap<&EpochId, Vec<String>> = plan
        .packs
        .iter()
        .map(|(id, packs)| (id, packs.iter().map(|pack| pack.to_hex().to_string()).collect()))
        .collect();
    let of = |(id, packs): (&EpochId, Vec<String>)| RemovedPacks { term: id.term, epoch: id.epoch, packs };
    GcRecord {
        format: FORMAT,
        kind: "gc".to_owned(),
        system: system.to_owned(),
        pass,
        writer: site.to_owned(),
        planned_at: now,
        points: plan.points.iter().map(|going| going.point.clone()).collect(),
        headers: plan.headers.iter().map(|going| going.header.clone()).collect(),
        packs: packs.into_iter().map(of).collect(),
        epochs: plan.epochs.iter().map(|(id, _)| RemovedEpoch { term: id.term, epoch: id.epoch }).collect(),
        leftovers: plan.leftovers.clone(),
        software: SOFTWARE.to_owned(),
    }
}

/// The other site may have held a point since the plan was made.
async fn refuse_held<R: Read>(reader: &VaultReader<R>, plan: &Plan) -> Result<(), KeeperError> {
    let (holds, _) = reader.holds().await?;
    let ids = plan.points.iter().map(|going| PointId { term: going.point.term, seq: going.point.seq });
    match ids.into_iter().find(|id| !holds.of(*id).is_empty()) {
        Some(point) => Err(KeeperError::HeldMeanwhile { point }),
        None => Ok(()),
    }
}
