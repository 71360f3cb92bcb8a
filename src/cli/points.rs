//! `warmspare points`.

use serde::Serialize;

use super::arguments::{HoldCommand, PointsCommand, PointsShow};
use super::words;
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::{self, Points};
use crate::units::Bytes;
use crate::vault::v1::{PointRecord, ProofRecord, SnapshotHeader, Verdict};
use crate::vault::{Damaged, ListedPoint};

#[derive(Serialize)]
struct PointJson<'a> {
    point: String,
    record: &'a PointRecord,
    snapshots: Vec<&'a SnapshotHeader>,
    proofs: &'a [ProofRecord],
    held: Vec<String>,
}

#[derive(Serialize)]
struct DamagedJson<'a> {
    key: &'a str,
    what: &'a str,
    fault: &'static str,
}

#[derive(Serialize)]
struct ListJson<'a> {
    points: Vec<PointJson<'a>>,
    damaged: Vec<DamagedJson<'a>>,
}

pub(super) async fn run(here: Here, command: PointsCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let chosen = match command.show {
        Some(PointsShow::Hold(hold)) => return held(&here, &hold, true, command.json, clock).await,
        Some(PointsShow::Release(hold)) => return held(&here, &hold, false, command.json, clock).await,
        Some(PointsShow::Show { id }) => Some(id),
        None => None,
    };
    let points = point::list(&here).await?;
    match chosen {
        None if command.json => words::json(&list_json(&points)),
        None => list(&points, clock),
        Some(id) => {
            let point = points.choose(Some(id.parse()?))?;
            if command.json { words::json(&point_json(&points, point)) } else { show(&points, point) }
        }
    }
    for damaged in &points.listing.damaged {
        words::say(&format!("{} {}: {}", words::fault(damaged.fault), damaged.key, damaged.what));
    }
    Ok((!points.listing.damaged.is_empty()).then_some(Class::Incomplete))
}

fn proofs_of<'a>(points: &'a Points, point: &ListedPoint) -> &'a [ProofRecord] {
    points.proofs.get(&point.id).map_or(&[], Vec::as_slice)
}

fn point_json<'a>(points: &'a Points, point: &'a ListedPoint) -> PointJson<'a> {
    PointJson {
        point: point.id.to_string(),
        record: &point.record,
        snapshots: point.headers.iter().map(|(_, _, header)| header).collect(),
        proofs: proofs_of(points, point),
        held: points.holds.of(point.id),
    }
}

fn list_json(points: &Points) -> ListJson<'_> {
    let damaged = points.listing.damaged.iter();
    let damaged =
        damaged.map(|Damaged { key, what, fault, .. }| DamagedJson { key, what, fault: words::fault_json(*fault) });
    ListJson {
        points: points.listing.points.iter().map(|point| point_json(points, point)).collect(),
        damaged: damaged.collect(),
    }
}

/// The last proof of a point in a few words.
fn proven(proofs: &[ProofRecord]) -> String {
    match proofs.iter().max_by_key(|proof| (proof.finished_at, proof.seq)) {
        None => "never".to_owned(),
        Some(proof) => {
            let verdict = match (proof.verdict, proof.complete) {
                (Verdict::Equal, true) => "equal",
                (Verdict::Equal, false) => "equal in part",
                (Verdict::Different, _) => "DIFFERENT",
            };
            format!("{verdict} at {}, {}", proof.site, words::instant(proof.finished_at))
        }
    }
}

fn held_words(points: &Points, point: &ListedPoint) -> String {
    match points.holds.of(point.id) {
        none if none.is_empty() => String::new(),
        why => format!("HELD by {}", why.join("; ")),
    }
}

/// Holds a point, or releases it.
async fn held(
    here: &Here,
    command: &HoldCommand,
    held: bool,
    json: bool,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    let id = command.id.parse()?;
    if command.dry_run {
        point::list(here).await?.choose(Some(id))?;
        let verb = if held { "hold" } else { "release" };
        words::say(&format!("{} would {verb} point {id}; nothing was changed", here.site.name));
        return Ok(None);
    }
    let why = point::hold(here, id, held, &command.why, clock).await?;
    if json {
        words::json(&serde_json::json!({ "point": id.to_string(), "held": why }));
    } else if why.is_empty() {
        words::say(&format!("point {id} is not held any more"));
    } else {
        words::say(&format!("point {id} is HELD by {}", why.join("; ")));
    }
    Ok(None)
}

fn list(points: &Points, clock: &dyn Clock) {
    if points.listing.points.is_empty() {
        words::say("no recovery point yet; take one on the live site with: warmspare capture");
        return;
    }
    let mut rows =
        vec![["POINT", "CAPTURED", "AGE", "BYTES", "STORED", "CLOSURE", "PROVEN", ""].map(str::to_owned).to_vec()];
    for point in &points.listing.points {
        let sum = |of: fn(&SnapshotHeader) -> u64| Bytes(point.headers.iter().map(|(_, _, header)| of(header)).sum());
        rows.push(vec![
            point.id.to_string(),
            words::instant(point.record.captured_at),
            words::age(clock.now(), point.record.captured_at),
            sum(|header| header.bytes).to_string(),
            sum(|header| header.stored_bytes).to_string(),
            point.record.closure.verdict.clone(),
            proven(proofs_of(points, point)),
            held_words(points, point),
        ]);
    }
    words::data(&words::table(&rows));
}

fn show(points: &Points, point: &ListedPoint) {
    let record = &point.record;
    words::data(&format!(
        "recovery point {} of {}\n  taken     at {} by {}\n  run       {} to {}\n  captured  {}\n  closure   {}\n",
        point.id,
        record.system,
        record.writer,
        record.software,
        words::instant(record.started_at),
        words::instant(record.finished_at),
        words::instant(record.captured_at),
        record.closure.verdict,
    ));
    let mut rows = vec![["SOURCE", "SNAPSHOT", "STREAMS", "BYTES", "STORED"].map(str::to_owned).to_vec()];
    for (source, id, header) in &point.headers {
        rows.push(vec![
            source.to_string(),
            id.to_string(),
            header.streams.to_string(),
            Bytes(header.bytes).to_string(),
            Bytes(header.stored_bytes).to_string(),
        ]);
    }
    words::data(&words::table(&rows));
    for (source, _, header) in &point.headers {
        words::data(&format!("facts of {source}: {}\n", header.facts));
    }
    match held_words(points, point) {
        none if none.is_empty() => {}
        held => words::data(&format!("{held}\n")),
    }
    for proof in proofs_of(points, point) {
        words::data(&format!("proof {} at {}: {}\n", proof.seq, proof.site, proven(std::slice::from_ref(proof))));
        for step in &proof.steps {
            words::data(&format!("  {}: {} ({} ms)\n", step.step, step.summary, step.millis));
            if step.differences > 0 {
                words::data(&format!(
                    "    {} DIFFERENCES: the report at {} names them\n",
                    step.differences, proof.site
                ));
            }
        }
    }
}
