//! What the other site says of itself, with its date, and what this site says in turn.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::finding::Findings;
use super::limit::{ANSWER_MAX, within};
use super::vault::{self, Seen};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::store::Read;
use crate::units::Span;
use crate::vault::layout::{self, Layout};
use crate::vault::v1::{CheckVerdict, StatusRecord, Verdict};
use crate::vault::{StatusKeeping, update_status};

/// What the other site said is old after this.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(48);

const ABOUT: &str = "the other site";

/// The other site's status, as it wrote it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerSaid {
    /// The other site.
    pub site: String,
    /// Its record.
    pub status: StatusRecord,
}

/// Reads what the other site says of itself. Nothing of it stands against a capture or restore here.
pub(super) async fn look(here: &Here, clock: &dyn Clock, seen: &Seen, findings: &mut Findings) -> Option<PeerSaid> {
    proven(here, seen, findings);
    let site = &here.other.name;
    let state = here.vault_state();
    let next = format!("Run there: `warmspare check --site {site}`");
    let status = match within(ANSWER_MAX, ABOUT, seen.reader.status(site, &state)).await {
        Ok(Some(status)) => status,
        Ok(None) => {
            findings.warning(ABOUT, site, "it has said nothing of itself yet", next);
            return None;
        }
        Err(error) => {
            let next = error.next_step().unwrap_or(next);
            findings.warning(ABOUT, site, format!("what it says is not to be believed: {error}"), next);
            return None;
        }
    };
    quote(here, clock.now(), &status, next, findings);
    Some(PeerSaid { site: site.clone(), status })
}

fn quote(here: &Here, now: Timestamp, status: &StatusRecord, next: String, findings: &mut Findings) {
    let site = &here.other.name;
    let ago = |at: Timestamp| Span(now.duration_since(at).try_into().unwrap_or_default());
    for damaged in &status.damaged_epochs {
        let found = format!("it calls epoch {}-{} damaged: {}", damaged.term, damaged.epoch, damaged.why);
        let next = "Points of that epoch may not come back; take a new one: `warmspare capture` at the live site.";
        findings.warning(ABOUT, site, found, next);
    }
    let Some(check) = &status.check else {
        findings.warning(ABOUT, site, "it was never checked", next);
        return;
    };
    let (age, counts) = (ago(check.at), format!("failures: {}, warnings: {}", check.failures, check.warnings));
    if !check.ready {
        findings.warning(ABOUT, site, format!("it was not ready {age} ago ({counts})"), next);
    } else if now.duration_since(check.at) > AGE_MAX {
        findings.warning(ABOUT, site, format!("it was ready, but that was {age} ago"), next);
    } else {
        findings.ok(ABOUT, site, format!("it was ready {age} ago ({counts})"));
    }
}

/// Whether the newest point was brought back and found equal at the spare.
fn proven(here: &Here, seen: &Seen, findings: &mut Findings) {
    let Some(newest) = seen.points.listing.points.last() else { return };
    let spare = if here.is_live() { &here.other.name } else { &here.site.name };
    match newest_proven(seen, spare) {
        Some(id) if id == newest.id.to_string() => findings.ok("proof", spare, format!("point {id} was proven equal")),
        Some(id) => {
            findings.ok("proof", spare, format!("the newest proven point is {id}; the newest point is {}", newest.id));
        }
        None => {
            let next = format!("Prove one: `warmspare restore --site {spare}` there.");
            findings.warning("proof", spare, "no point was ever proven there", next);
        }
    }
}

/// The newest point that `site` restored whole and found equal.
fn newest_proven(seen: &Seen, site: &str) -> Option<String> {
    let points = seen.points.listing.points.iter().rev();
    let mut proven = points.filter(|point| {
        let proofs = seen.points.proofs.get(&point.id).map_or(&[][..], Vec::as_slice);
        proofs.iter().any(|proof| proof.site == site && proof.complete && proof.verdict == Verdict::Equal)
    });
    proven.next().map(|point| point.id.to_string())
}

/// Writes this site's verdict into its status record, and compares the store's clock with this host's by it.
pub(super) async fn say(here: &Here, clock: &dyn Clock, seen: &Seen, verdict: &CheckVerdict, findings: &mut Findings) {
    let object = format!("status of {}", here.site.name);
    let begun = within(ANSWER_MAX, &object, seen.keys.exists(layout::VAULT)).await;
    match findings.value("vault", &object, begun) {
        Some(true) => {}
        // It may be the folder a disk is to be mounted on.
        Some(false) => return findings.ok("vault", object, "not written: nothing was captured into this vault yet"),
        None => return,
    }
    let said = within(ANSWER_MAX, &object, write(here, clock, seen, verdict)).await;
    if let Some((ours, theirs)) = findings.value("vault", &object, said) {
        findings.ok("vault", &object, "written");
        if let Some(theirs) = theirs {
            vault::clocks(findings, &format!("vault {}", seen.keys.name()), theirs, ours);
        }
    }
}

/// When the record was written, by this host's clock and by the store's.
async fn write(
    here: &Here,
    clock: &dyn Clock,
    seen: &Seen,
    verdict: &CheckVerdict,
) -> Result<(Timestamp, Option<Timestamp>), Error> {
    let signer = here.signing_key()?;
    let state = here.vault_state();
    let (system, site) = (&here.config.system, &here.site.name);
    let keeping = StatusKeeping { system, site, signer: &signer, state: &state };
    let proven = newest_proven(seen, site);
    let change = |record: &mut StatusRecord| {
        record.check = Some(verdict.clone());
        record.newest_proven = proven;
    };
    let record = update_status(&seen.keys, &seen.reader, &keeping, clock, change).await?;
    let layout = Layout::new(system);
    let listed = seen.keys.list(&layout.statuses()).await?;
    let written = listed.into_iter().find(|listed| listed.key == layout.status(site));
    Ok((record.written_at, written.map(|listed| listed.modified)))
}
