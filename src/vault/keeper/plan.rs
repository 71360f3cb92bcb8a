//! The plan of a pass: from the points that go to the packs that nobody needs any more.

use std::collections::BTreeSet;

use super::survey::{EpochObjects, HeaderFacts, Place, Survey, damage};
use super::{GoingHeader, GoingPoint, KeeperError, Keeping, OBJECTS_MAX, PACKS_STAY, Plan, PointFate, sealing};
use crate::config::SourceName;
use crate::store::Read;
use crate::vault::VaultError;
use crate::vault::layout::{EpochId, PointId, SnapshotId};
use crate::vault::reader::{Damaged, ListedPoint, RECORD_BYTES_MAX, VaultReader};
use crate::vault::retention::{Aged, decide};
use crate::vault::seal::last_of;
use crate::vault::v1::{PointRecord, PointSnapshot, RemovedPoint, Verdict};

/// Plans a pass. Nothing is changed.
///
/// # Errors
/// When the store fails, or the clocks are not fit to decide by. What is wrong with single objects is in the plan's alarms.
pub async fn plan<R: Read + Clone + 'static>(
    reader: &VaultReader<R>,
    keeping: &Keeping<'_>,
) -> Result<Plan, KeeperError> {
    let mut survey = Survey::of(reader, keeping.listing).await?;
    let mut plan = Plan { alarms: std::mem::take(&mut survey.alarms), ..Plan::default() };
    plan.pack_bytes_all = survey.epochs.values().flat_map(|epoch| epoch.packs.values()).sum();
    let mut budget = Budget { left: OBJECTS_MAX, waiting: 0 };
    plan_points(&survey, keeping, &mut budget, &mut plan)?;
    plan_orphans(&survey, keeping, &mut budget, &mut plan);
    sealing::plan_seals(&survey, keeping, &reader.layout, &mut plan);
    let named = Named::of(reader, keeping, &plan).await?;
    for (id, epoch) in &survey.epochs {
        check_chain(reader, keeping, *id, epoch, &mut plan);
        let pass = EpochPass { reader, keeping, named: &named, id: *id, epoch };
        pass.plan(&mut budget, &mut plan).await?;
    }
    plan.waiting = budget.waiting;
    Ok(plan)
}

/// How many objects may still go in this pass.
struct Budget {
    left: u64,
    waiting: u64,
}

impl Budget {
    /// Whether `objects` more may go; if not, they wait.
    fn take(&mut self, objects: u64) -> bool {
        let fits = objects <= self.left;
        if fits {
            self.left -= objects;
        } else {
            // Nothing later may overtake what waits: an epoch would lose its packs before its headers.
            (self.left, self.waiting) = (0, self.waiting + objects);
        }
        fits
    }
}

fn is_proven(point: &ListedPoint, keeping: &Keeping<'_>) -> bool {
    let blake3 = point.blake3.to_hex();
    keeping.proofs.get(&point.id).into_iter().flatten().any(|proof| {
        // A site's word about its own points would let a compromised one choose which honest point is the last.
        let by_the_other = proof.site != point.record.writer;
        by_the_other && proof.complete && proof.verdict == Verdict::Equal && proof.point_blake3 == blake3.as_str()
    })
}

fn plan_points(
    survey: &Survey,
    keeping: &Keeping<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) -> Result<(), KeeperError> {
    let aged = |point: &ListedPoint| Aged {
        id: point.id,
        captured_at: point.record.captured_at,
        // One that came after the listing is new.
        stored_at: survey.points.get(&point.id).copied().unwrap_or(keeping.store_now),
        proven: is_proven(point, keeping),
        held: !keeping.holds.of(point.id).is_empty(),
    };
    let points: Vec<Aged> = keeping.listing.points.iter().map(aged).collect();
    let reasons = decide(&points, keeping.rules, keeping.now)
        .map_err(|newest| KeeperError::Future { newest, now: keeping.now })?;
    for ((point, reasons), listed) in points.into_iter().zip(reasons).zip(&keeping.listing.points) {
        if reasons.is_empty() {
            let attached = survey.attached.get(&point.id).cloned().unwrap_or_default();
            if budget.take(1 + attached.len() as u64) {
                let headers = listed.record.snapshots.iter().map(|snapshot| snapshot.blake3.clone()).collect();
                let (PointId { term, seq }, blake3) = (point.id, listed.blake3.to_hex().to_string());
                plan.points.push(GoingPoint { point: RemovedPoint { term, seq, blake3, headers }, attached });
            }
        }
        let Aged { id, captured_at, stored_at, .. } = point;
        plan.fates.push(PointFate { id, captured_at, stored_at, reasons });
    }
    Ok(())
}

/// Proofs and holds of points that an earlier pass removed before it was killed.
fn plan_orphans(survey: &Survey, keeping: &Keeping<'_>, budget: &mut Budget, plan: &mut Plan) {
    for (id, attached) in &survey.attached {
        if !survey.points.contains_key(id) && keeping.listing.removals.name_point(*id) {
            for key in attached {
                if budget.take(1) {
                    plan.leftovers.push(key.clone());
                }
            }
        }
    }
}

/// Which headers are named by whom.
struct Named {
    /// By a point that stays, or by one that is damaged.
    staying: BTreeSet<(SnapshotId, SourceName)>,
    /// By a point that goes.
    going: BTreeSet<(SnapshotId, SourceName)>,
    /// A point that is damaged so much that it may name any header.
    unreadable: Option<PointId>,
}

impl Named {
    async fn of<R: Read>(reader: &VaultReader<R>, keeping: &Keeping<'_>, plan: &Plan) -> Result<Self, VaultError> {
        let going: BTreeSet<PointId> =
            plan.points.iter().map(|p| PointId { term: p.point.term, seq: p.point.seq }).collect();
        let mut named = Named { staying: BTreeSet::new(), going: BTreeSet::new(), unreadable: None };
        for point in &keeping.listing.points {
            let by = if going.contains(&point.id) { &mut named.going } else { &mut named.staying };
            by.extend(point.headers.iter().map(|(source, id, _)| (*id, source.clone())));
        }
        for id in &keeping.listing.damaged_points {
            match reader.keys.get_limited(&reader.layout.point(*id), RECORD_BYTES_MAX).await {
                Ok(bytes) => match named_by(&bytes) {
                    Some(headers) => named.staying.extend(headers),
                    None => named.unreadable = Some(*id),
                },
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(named)
    }
}

/// What a point names that is not to be believed: believed nevertheless, because that only keeps more.
fn named_by(bytes: &[u8]) -> Option<Vec<(SnapshotId, SourceName)>> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let record: PointRecord = serde_json::from_slice(line).ok()?;
    let header = |snapshot: &PointSnapshot| {
        let epoch = EpochId { term: snapshot.term, epoch: snapshot.epoch };
        Some((SnapshotId { epoch, seq: snapshot.seq }, snapshot.source.parse().ok()?))
    };
    record.snapshots.iter().map(header).collect()
}

/// Alarms headers that another names as the one before it, that are not there, and that no pass has removed.
fn check_chain<R: Read>(
    reader: &VaultReader<R>,
    keeping: &Keeping<'_>,
    id: EpochId,
    epoch: &EpochObjects,
    plan: &mut Plan,
) {
    let there: BTreeSet<&str> = epoch.headers.values().flatten().map(|facts| facts.blake3.as_str()).collect();
    for ((seq, source), facts) in &epoch.headers {
        let Some(link) = facts.as_ref().and_then(|facts| facts.previous.as_ref()) else { continue };
        if !there.contains(link.blake3.as_str()) && !keeping.listing.removals.explain_header(&link.blake3) {
            let key = reader.layout.header(source, SnapshotId { epoch: id, seq: *seq });
            let what = format!("the header before it, number {}, is missing or was replaced", link.seq);
            plan.alarms.push(Damaged::new(&key, &what));
        }
    }
}

/// One epoch's part of a pass.
struct EpochPass<'a, R> {
    reader: &'a VaultReader<R>,
    keeping: &'a Keeping<'a>,
    named: &'a Named,
    id: EpochId,
    epoch: &'a EpochObjects,
}

impl<R: Read + Clone + 'static> EpochPass<'_, R> {
    async fn plan(&self, budget: &mut Budget, plan: &mut Plan) -> Result<(), KeeperError> {
        let Some((record, seal, sealed_at)) = self.sealed(budget, plan) else { return Ok(()) };
        if seal.writer == record.writer || self.foreign_headers(&record.writer) {
            let key = self.reader.layout.sealed(self.id);
            let what = format!("{} sealed what it wrote itself; nothing of the epoch is removed", seal.writer);
            plan.alarms.push(Damaged::new(&key, &what));
            return Ok(());
        }
        let waited = budget.waiting;
        let live = self.plan_headers(last_of(seal), budget, plan);
        self.plan_bodies(budget, plan);
        if self.keeping.store_now.duration_since(*sealed_at) < PACKS_STAY {
            return Ok(());
        }
        let packs_gone = self.plan_packs(&live, budget, plan).await?;
        // What waits is still there after this pass, so the epoch is not finished.
        if live.is_empty() && packs_gone && budget.waiting == waited {
            self.plan_epoch(budget, plan);
        }
        Ok(())
    }

    /// The epoch's record and seal, if it is sealed. What a killed pass left of one that is gone goes now.
    fn sealed(
        &self,
        budget: &mut Budget,
        plan: &mut Plan,
    ) -> Option<(&crate::vault::v1::EpochRecord, &crate::vault::v1::SealedRecord, &jiff::Timestamp)> {
        let EpochObjects { record, has_record, seal, packs, headers, bodies, .. } = self.epoch;
        let nothing_left = packs.is_empty() && headers.is_empty() && bodies.is_empty();
        if !has_record && nothing_left && self.keeping.listing.removals.name_epoch(self.id) {
            self.plan_epoch(budget, plan);
            return None;
        }
        let (record, _) = record.as_ref()?;
        let (seal, sealed_at) = seal.as_ref()?;
        Some((record, seal, sealed_at))
    }

    /// Whether somebody else than the epoch's writer has put headers into it.
    fn foreign_headers(&self, writer: &str) -> bool {
        self.epoch.headers.values().flatten().any(|facts| facts.writer != writer)
    }

    /// Plans the headers that nobody names; returns those that stay.
    fn plan_headers(&self, last: u64, budget: &mut Budget, plan: &mut Plan) -> Vec<&Place> {
        let mut live = Vec::new();
        for (place, facts) in &self.epoch.headers {
            let goes = facts.as_ref().is_some_and(|facts| self.goes(place, facts, last));
            let has_body = self.epoch.bodies.contains(place);
            match facts {
                Some(facts) if goes && budget.take(1 + u64::from(has_body)) => {
                    let (seq, source) = place;
                    let header = PointSnapshot {
                        source: source.to_string(),
                        term: self.id.term,
                        epoch: self.id.epoch,
                        seq: *seq,
                        blake3: facts.blake3.clone(),
                    };
                    plan.headers.push(GoingHeader { header, source: source.clone(), has_body });
                }
                _ => live.push(place),
            }
        }
        live
    }

    fn goes(&self, place: &Place, facts: &HeaderFacts, last: u64) -> bool {
        let (seq, source) = place;
        let name = (SnapshotId { epoch: self.id, seq: *seq }, source.clone());
        if *seq > last || self.named.staying.contains(&name) {
            return false;
        }
        let known = self.named.going.contains(&name) || self.keeping.listing.removals.free_header(&facts.blake3);
        // Nobody names it: an interrupted capture's, unless a point that cannot be read does.
        known || self.named.unreadable.is_none()
    }

    /// Bodies whose header was never put, or is gone.
    fn plan_bodies(&self, budget: &mut Budget, plan: &mut Plan) {
        for (seq, source) in &self.epoch.bodies {
            let id = SnapshotId { epoch: self.id, seq: *seq };
            let stays = self.epoch.headers.contains_key(&(*seq, source.clone()))
                || self.named.staying.contains(&(id, source.clone()))
                || self.named.unreadable.is_some();
            if !stays && budget.take(1) {
                plan.leftovers.push(self.reader.layout.body(source, id));
            }
        }
    }

    /// Plans the packs that no header names; says whether none stays.
    async fn plan_packs(&self, live: &[&Place], budget: &mut Budget, plan: &mut Plan) -> Result<bool, KeeperError> {
        if self.epoch.packs.is_empty() {
            return Ok(true);
        }
        let needed = match self.needed_packs(live).await {
            Ok(needed) => needed,
            Err(error) => {
                let key = self.reader.layout.epoch_prefix(self.id);
                let Damaged { key, what, .. } = damage(key, error)?;
                plan.alarms.push(Damaged::new(&key, &format!("none of its packs is removed: {what}")));
                return Ok(false);
            }
        };
        for missing in needed.iter().filter(|name| !self.epoch.packs.contains_key(*name)) {
            let key = self.reader.layout.pack(self.id, &blake3::Hash::from_bytes(*missing));
            plan.alarms.push(Damaged::new(&key, "missing: a snapshot that is listed needs it"));
        }
        for (name, size) in self.epoch.packs.iter().filter(|(name, _)| !needed.contains(*name)) {
            if budget.take(1) {
                plan.packs.entry(self.id).or_default().push(blake3::Hash::from_bytes(*name));
                plan.pack_bytes += size;
            }
        }
        Ok(needed.is_empty())
    }

    /// The packs that the bodies of `live` headers name.
    async fn needed_packs(&self, live: &[&Place]) -> Result<BTreeSet<[u8; 32]>, VaultError> {
        let mut needed = BTreeSet::new();
        if live.is_empty() {
            return Ok(needed);
        }
        let record = self.reader.epoch(self.id).await?;
        let secrets = self.reader.epoch_secrets(self.id, Some(&record), self.keeping.identity).await?;
        for place in live {
            let (seq, source) = place;
            let id = SnapshotId { epoch: self.id, seq: *seq };
            let facts = self.epoch.headers.get(*place).and_then(Option::as_ref);
            let facts = facts.ok_or_else(|| VaultError::Mismatch {
                key: self.reader.layout.header(source, id),
                what: "it is not to be believed, so what it needs is not known".to_owned(),
            })?;
            let streams = self.reader.streams(source, id, &facts.body, &secrets.identity).await?;
            needed.extend(streams.iter().flat_map(|stream| &stream.extents).map(|extent| *extent.pack.as_bytes()));
        }
        Ok(needed)
    }

    /// The record goes before the seal: without a record nobody asks whether the epoch is open.
    fn plan_epoch(&self, budget: &mut Budget, plan: &mut Plan) {
        let layout = &self.reader.layout;
        let EpochObjects { has_record, has_seal, secrets, .. } = self.epoch;
        let mut keys: Vec<String> = secrets.iter().map(|n| layout.secrets(self.id, *n)).collect();
        keys.extend(has_record.then(|| layout.epoch(self.id)));
        keys.extend(has_seal.then(|| layout.sealed(self.id)));
        if !keys.is_empty() && budget.take(keys.len() as u64) {
            plan.epochs.push((self.id, keys));
        }
    }
}

impl Plan {
    /// How many objects a pass deletes.
    pub fn objects(&self) -> u64 {
        let points: usize = self.points.iter().map(|point| 1 + point.attached.len()).sum();
        let headers: usize = self.headers.iter().map(|header| 1 + usize::from(header.has_body)).sum();
        let packs: usize = self.packs.values().map(Vec::len).sum();
        let epochs: usize = self.epochs.iter().map(|(_, keys)| keys.len()).sum();
        (points + headers + self.leftovers.len() + packs + epochs) as u64
    }
}
