//! Facts that tests begin with: a system whose every target is met.
#![cfg(test)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::freshness::{Facts, Others, PointFacts, VaultFacts};
use crate::config::TargetsConfig;
use crate::jobs::{Run, RunVerdict, Standing};
use crate::vault::layout::PointId;
use crate::vault::v1::{CheckVerdict, FORMAT, ProofRecord, ProofStep, StatusRecord, Verdict};

pub(crate) fn at(text: &str) -> Timestamp {
    format!("2026-11-22T{text}Z").parse().unwrap()
}

pub(crate) const NOW: &str = "04:00:00";

fn before_now(minutes: i64) -> Timestamp {
    at(NOW) - SignedDuration::from_mins(minutes)
}

/// A point captured so many minutes ago.
pub(crate) fn point(seq: u64, minutes: i64) -> PointFacts {
    let captured_at = before_now(minutes);
    let sources = ["database.app", "bucket.artifacts"].map(|source| source.parse().unwrap());
    PointFacts {
        id: PointId { term: 3, seq },
        captured_at,
        writer: "ams".to_owned(),
        closure: "not judged".to_owned(),
        sources: sources.into(),
        databases: BTreeMap::new(),
        buckets: BTreeMap::new(),
        followed: BTreeMap::new(),
        rows_since: None,
        objects_since: None,
        proofs: Vec::new(),
    }
}

/// A whole restore of that point that ended so many minutes ago.
pub(crate) fn proof(point: &PointFacts, minutes: i64, verdict: Verdict) -> ProofRecord {
    let differences = u64::from(verdict == Verdict::Different);
    let step = |step: &str| ProofStep { step: step.to_owned(), summary: String::new(), millis: 1, differences };
    ProofRecord {
        format: FORMAT,
        kind: "proof".to_owned(),
        system: "app".to_owned(),
        point: point.id.to_string(),
        point_blake3: String::new(),
        site: "fra".to_owned(),
        seq: 1,
        verdict,
        complete: true,
        started_at: before_now(minutes) - SignedDuration::from_secs(243),
        finished_at: before_now(minutes),
        steps: vec![step("database/database.app"), step("bucket/bucket.artifacts")],
        software: String::new(),
    }
}

/// What a site said of itself so many minutes ago.
pub(crate) fn status(site: &str, minutes: i64) -> StatusRecord {
    let check = CheckVerdict { at: before_now(minutes + 60), ready: true, failures: 0, warnings: 1 };
    StatusRecord {
        format: FORMAT,
        kind: "status".to_owned(),
        system: "app".to_owned(),
        site: site.to_owned(),
        seq: 7,
        written_at: before_now(minutes),
        newest_proven: None,
        damaged_epochs: Vec::new(),
        check: Some(check),
        scrub: None,
        probe: None,
        buckets: Vec::new(),
        jobs: Vec::new(),
        software: String::new(),
    }
}

/// A job that did what it should half an hour ago, and runs in another half.
pub(crate) fn job(name: &str) -> Standing {
    let ended_at = before_now(30);
    let run = Run {
        due_at: Some(before_now(43)),
        started_at: before_now(43),
        ended_at,
        verdict: RunVerdict::Done,
        what: "recovery point 3-12".to_owned(),
        point: Some("3-12".to_owned()),
    };
    Standing {
        name: name.to_owned(),
        kind: name.to_owned(),
        runs_here: true,
        running_since: None,
        last: Some(run),
        done_at: Some(ended_at),
        failures: 0,
        failures_allowed: 0,
        next_at: Some(before_now(-30)),
        late_since: None,
        pause: None,
        waits_for: None,
    }
}

/// The live site looks; all is well.
pub(crate) fn facts() -> Facts {
    let mut points = vec![point(11, 103), point(12, 43)];
    let proven = proof(&points[0], 60, Verdict::Equal);
    points[0].proofs.push(proven);
    let statuses = BTreeMap::from([("ams", 2), ("fra", 12)]);
    let statuses = statuses.into_iter().map(|(site, ago)| (site.to_owned(), Ok(Some(status(site, ago))))).collect();
    Facts {
        system: "app".to_owned(),
        site: "ams".to_owned(),
        other: "fra".to_owned(),
        live: Some("ams".to_owned()),
        at: at(NOW),
        sources: ["database.app", "bucket.artifacts"].map(|source| source.parse().unwrap()).to_vec(),
        targets: TargetsConfig::default(),
        vault: Ok(VaultFacts { points, damaged: Vec::new(), statuses }),
        jobs: BTreeMap::from([("ams".to_owned(), Ok(vec![job("capture")]))]),
        others: Others::default(),
    }
}

/// The same facts, with something else in the vault.
pub(crate) fn with_vault(change: impl FnOnce(&mut VaultFacts)) -> Facts {
    let mut facts = facts();
    change(facts.vault.as_mut().unwrap());
    facts
}

/// The same facts, with something else about the job `capture`.
pub(crate) fn with_job(change: impl FnOnce(&mut Standing)) -> Facts {
    let mut facts = facts();
    let mut capture = job("capture");
    change(&mut capture);
    facts.jobs.insert("ams".to_owned(), Ok(vec![capture]));
    facts
}
