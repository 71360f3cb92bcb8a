//! `warmspare verify`.

use serde::Serialize;

use super::arguments::VerifyCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::{self, ScrubReport, ScrubRequest, VerifyRequest};
use crate::units::Bytes;

#[derive(Serialize)]
struct FaultJson<'a> {
    object: &'a str,
    fault: &'static str,
    what: &'a str,
}

#[derive(Serialize)]
struct VerifyJson<'a> {
    at: jiff::Timestamp,
    points: u64,
    snapshots: u64,
    bodies: u64,
    packs: u64,
    share: String,
    hashed_packs: u64,
    hashed_bytes: u64,
    streams: u64,
    stream_bytes: u64,
    closed_epochs: Vec<String>,
    faults: Vec<FaultJson<'a>>,
}

pub(super) async fn run(here: Here, command: VerifyCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    if let Some(source) = &command.only {
        return super::verify_bucket::run(here, source, &command, clock).await;
    }
    let VerifyCommand { share, streams, all, dry_run, json, .. } = command;
    let scrub = if all { ScrubRequest::FULL } else { ScrubRequest { share, streams: Some(streams) } };
    let report = point::verify(&here, VerifyRequest { scrub, dry_run }, clock, &progress::progress()).await?;
    if json {
        words::json(&as_json(&report))
    } else {
        table(&report, here.is_live())
    }
    for fault in &report.faults {
        words::say(&format!("{} {}: {}", words::fault(fault.fault), fault.object, fault.what));
    }
    for epoch in &report.closed_epochs {
        words::say(&format!(
            "epoch {epoch} is not sealed to this site: whether its packs are all there is not known here"
        ));
    }
    if report.damaged() > 0 {
        words::say(
            "next:  Restore from a point that needs none of these. At the live site the next capture after it has read \
             this site's status opens a new epoch and uploads everything once. If you put objects back, run: \
             warmspare verify --all",
        );
    }
    let is_well = report.faults.is_empty() && report.closed_epochs.is_empty();
    Ok((!is_well).then_some(Class::Incomplete))
}

fn as_json(report: &ScrubReport) -> VerifyJson<'_> {
    let faults = report.faults.iter();
    VerifyJson {
        at: report.at,
        points: report.points,
        snapshots: report.snapshots,
        bodies: report.bodies,
        packs: report.packs,
        share: report.request.share.to_string(),
        hashed_packs: report.hashed_packs,
        hashed_bytes: report.hashed_bytes,
        streams: report.streams,
        stream_bytes: report.stream_bytes,
        closed_epochs: report.closed_epochs.iter().map(ToString::to_string).collect(),
        faults: faults
            .map(|f| FaultJson { object: &f.object, fault: words::fault_json(f.fault), what: &f.what })
            .collect(),
    }
}

fn table(report: &ScrubReport, is_live: bool) {
    let row = |what: &str, there: String, read: String| vec![what.to_owned(), there, read];
    let mut rows = vec![["WHAT", "LOOKED FOR", "READ"].map(str::to_owned).to_vec()];
    rows.push(row("points", report.points.to_string(), report.points.to_string()));
    rows.push(row("bodies", report.snapshots.to_string(), report.bodies.to_string()));
    if !is_live {
        let hashed =
            format!("{}, {} (share {})", report.hashed_packs, Bytes(report.hashed_bytes), report.request.share);
        rows.push(row("packs", report.packs.to_string(), hashed));
        rows.push(row("streams", String::new(), format!("{}, {}", report.streams, Bytes(report.stream_bytes))));
    }
    words::data(&words::table(&rows));
    if is_live {
        words::say("packs and contents are looked at by the spare: this site cannot open them");
    }
}
