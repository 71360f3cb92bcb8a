//! `prune` and holds: the keeper's pass at the spare, and points that somebody wants kept.

use futures_util::FutureExt;
use serde::Serialize;

use super::attics::{AtOnce, BucketKeeping, Keeper};
use super::error::PointError;
use super::{list, open_vault, open_vault_as_keeper};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::units::Percent;
use crate::vault::keeper::{self, Keeping, Plan};
use crate::vault::layout::PointId;
use crate::vault::{NewHold, put_hold};

/// What is asked of a pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneRequest {
    /// Plan only.
    pub dry_run: bool,
    /// The share that may go, instead of the configured one.
    pub share: Option<Percent>,
    /// How many objects of a bucket a person has said were really deleted.
    pub accepted_hides: u64,
    /// How much of a bucket is looked after at once.
    pub at_once: AtOnce,
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// The system.
    pub system: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The number of the pass; absent when it removed nothing.
    pub pass: Option<u64>,
    /// Every point that was whole, in order.
    pub points: Vec<PruneFate>,
    /// Epochs that were sealed.
    pub sealed: Vec<String>,
    /// How many headers went.
    pub headers: usize,
    /// How many packs went.
    pub packs: usize,
    /// Their size.
    pub pack_bytes: u64,
    /// The size of all packs before.
    pub pack_bytes_all: u64,
    /// Epochs of which nothing was left.
    pub epochs: Vec<String>,
    /// Objects deleted.
    pub objects: u64,
    /// Objects that wait for the next pass.
    pub waiting: u64,
    /// What became of this site's buckets and their attics.
    pub buckets: Vec<BucketKeeping>,
    /// What is wrong with the vault, and was left alone.
    pub alarms: Vec<String>,
    /// What a person may wonder about.
    pub notes: Vec<String>,
}

/// What became of a point.
#[derive(Clone, Debug, Serialize)]
pub struct PruneFate {
    /// The point.
    pub point: String,
    /// When it was captured, as its writer claims.
    pub captured_at: jiff::Timestamp,
    /// When it was stored, by the store's clock.
    pub stored_at: jiff::Timestamp,
    /// Why it stays; empty when it goes.
    pub stays: Vec<String>,
}

/// Seals what is over and removes what has expired. At the spare only.
///
/// # Errors
/// When it is refused, or the vault fails; run again, it plans anew from what is there.
pub async fn prune(here: &Here, request: PruneRequest, clock: &dyn Clock) -> Result<PruneReport, Error> {
    if here.is_live() {
        return Err(PointError::NotSpare { site: here.site.name.clone(), spare: here.other.name.clone() }.into());
    }
    let _lock = if request.dry_run { None } else { Some(here.lock("warmspare prune")?) };
    let (identity, signer) = (here.identity()?, here.signing_key()?);
    let (keys, reader) = open_vault_as_keeper(here).await?;
    let (system, site) = (&here.config.system, &here.site.name);
    // A dry run writes nothing, so it cannot ask the store for its time; this site's stands in for it.
    let store_now = if request.dry_run { clock.now() } else { keeper::store_now(&keys, site).await? };
    keeper::check_clocks(store_now, clock.now())?;
    let points = list(here).await?;
    let keeping = Keeping {
        site,
        rules: &here.config.retention,
        identity: &identity,
        listing: &points.listing,
        proofs: &points.proofs,
        holds: &points.holds,
        now: clock.now(),
        store_now,
    };
    let mut plan = keeper::plan(&reader, &keeping).await?;
    plan.alarms.extend(points.listing.damaged.iter().cloned());
    let apart = clock.now().duration_since(store_now);
    let here_time = |at: jiff::Timestamp| at.saturating_add(apart).unwrap_or(at);
    let stored = plan.fates.iter().map(|fate| (fate.id, here_time(fate.stored_at))).collect();
    let keep = |points| Keeper {
        here,
        reader: &reader,
        identity: &identity,
        points,
        clock,
        stored: &stored,
        dry_run: request.dry_run,
        accepted: request.accepted_hides,
        at_once: request.at_once,
    };
    if request.dry_run {
        let buckets = keep(&points).keep().boxed_local().await?;
        return Ok(PruneReport { buckets, ..report(system, &plan, true) });
    }
    keeper::seal(&keys, &reader, &plan, site, &signer, clock.now()).await?;
    plan.check_share(request.share.unwrap_or(here.config.retention.share_max))?;
    let removed = keeper::remove(&keys, &reader, &points.listing, &plan, site, &signer, clock.now()).await?;
    // By what is left: a point that went names nothing any more.
    let buckets = keep(&list(here).await?).keep().boxed_local().await?;
    Ok(PruneReport { pass: removed.map(|removed| removed.pass), buckets, ..report(system, &plan, false) })
}

fn report(system: &str, plan: &Plan, dry_run: bool) -> PruneReport {
    let fate = |fate: &keeper::PointFate| PruneFate {
        point: fate.id.to_string(),
        captured_at: fate.captured_at,
        stored_at: fate.stored_at,
        stays: fate.reasons.iter().map(ToString::to_string).collect(),
    };
    let mut alarms: Vec<String> = plan.alarms.iter().map(|alarm| format!("{}: {}", alarm.key, alarm.what)).collect();
    alarms.sort();
    alarms.dedup();
    PruneReport {
        system: system.to_owned(),
        dry_run,
        pass: None,
        points: plan.fates.iter().map(fate).collect(),
        sealed: plan.seals.iter().map(|seal| seal.epoch.to_string()).collect(),
        headers: plan.headers.len(),
        packs: plan.packs.values().map(Vec::len).sum(),
        pack_bytes: plan.pack_bytes,
        pack_bytes_all: plan.pack_bytes_all,
        epochs: plan.epochs.iter().map(|(id, _)| id.to_string()).collect(),
        objects: plan.objects(),
        waiting: plan.waiting,
        buckets: Vec::new(),
        alarms,
        notes: plan.notes.clone(),
    }
}

/// Holds a point, or takes this site's hold of it back. Returns why it is held afterwards.
///
/// # Errors
/// When there is no such point, no reason is given, or there is nothing to take back.
pub async fn hold(here: &Here, id: PointId, held: bool, why: &str, clock: &dyn Clock) -> Result<Vec<String>, Error> {
    let why = why.trim();
    if why.is_empty() || why.len() > 500 || why.chars().any(char::is_control) {
        return Err(PointError::HoldReason.into());
    }
    let _lock = here.lock("warmspare points hold")?;
    let signer = here.signing_key()?;
    let points = list(here).await?;
    if !points.listing.damaged_points.contains(&id) {
        points.choose(Some(id))?;
    }
    let (system, site) = (here.config.system.as_str(), here.site.name.as_str());
    if !held && !points.holds.is_held_by(id, site) {
        let holds = points.holds.of(id);
        return Err(PointError::NotHeldHere { point: id, site: site.to_owned(), holds }.into());
    }
    let (keys, reader) = open_vault(here).await?;
    let new = NewHold { system, point: id, seq: points.holds.next(id), site, held, why, at: clock.now() };
    put_hold(&keys, &new, &signer).await?;
    Ok(reader.holds().await?.0.of(id))
}
