//! `warmspare verify`.

use serde::Serialize;

use super::arguments::VerifyCommand;
use super::{progress, verify_bucket, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::{self, ScrubReport, ScrubRequest, VerifyRequest};
use crate::units::Bytes;
use crate::verify::bucket::{self, BucketReport, Looked};

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
    buckets: Vec<BucketJson<'a>>,
}

#[derive(Serialize)]
struct BucketJson<'a> {
    source: String,
    wrong: Option<u64>,
    #[serde(flatten)]
    report: Option<&'a BucketReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn run(here: Here, command: VerifyCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    if let Some(source) = &command.only {
        return verify_bucket::run(here, source, &command, clock).await;
    }
    let VerifyCommand { share, streams, all, dry_run, json, without_buckets, .. } = command;
    let scrub = if all { ScrubRequest::FULL } else { ScrubRequest { share, streams: Some(streams) } };
    let progress = progress::progress();
    let report = point::verify(&here, VerifyRequest { scrub, dry_run }, clock, &progress).await?;
    let buckets = match without_buckets {
        true => Vec::new(),
        false => bucket::verify_mirrored(&here, scrub.share, dry_run, clock, &progress).await?,
    };
    if json {
        words::json(&as_json(&report, &buckets));
    } else {
        table(&report, here.is_live());
        buckets.iter().filter_map(|looked| looked.result.as_ref().ok()).for_each(verify_bucket::table);
    }
    of_vault(&report);
    let mut is_well = report.faults.is_empty() && report.closed_epochs.is_empty();
    let mut failed = None;
    for Looked { source, result } in buckets {
        match result {
            Ok(report) => {
                verify_bucket::faults(&report);
                verify_bucket::say_next(&here, &report);
                is_well &= report.counts.wrong() == 0;
            }
            Err(error) => {
                words::say(&format!("{source} was not looked at: {error}"));
                failed.get_or_insert(error);
            }
        }
    }
    match failed {
        // What is damaged may be why.
        Some(error) if is_well => Err(error),
        _ => Ok((!is_well).then_some(Class::Incomplete)),
    }
}

/// What is wrong with the vault, and what to do about it.
fn of_vault(report: &ScrubReport) {
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
             warmspare verify --all --without-buckets",
        );
    }
}

fn as_json<'a>(report: &'a ScrubReport, buckets: &'a [Looked]) -> VerifyJson<'a> {
    let faults = report.faults.iter();
    let bucket = |Looked { source, result }: &'a Looked| BucketJson {
        source: source.to_string(),
        wrong: result.as_ref().ok().map(|report| report.counts.wrong()),
        report: result.as_ref().ok(),
        error: result.as_ref().err().map(ToString::to_string),
    };
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
        buckets: buckets.iter().map(bucket).collect(),
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
