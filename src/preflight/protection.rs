//! Which protection of the vault applies, as this site's last probe found it by trying.

use jiff::SignedDuration;

use super::finding::Findings;
use super::vault::{Seen, folder};
use crate::clock::Clock;
use crate::config::Here;
use crate::store::probe::{Protection, Right};
use crate::units::Span;
use crate::vault::{DatedProbe, last_probe};

/// A probe older than this says little of the policy that applies now.
const PROBE_AGE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What the live site must not be able to read: it could be made to open it once an identity is stolen.
const SEALED: [&str; 3] = ["pack", "body", "secrets"];

/// Quotes the last probe of this site; a vault in a folder may do without one.
pub(super) fn look(here: &Here, seen: &Seen, clock: &dyn Clock, findings: &mut Findings) {
    let object = format!("vault {}", seen.keys.name());
    let Some(last) = findings.value("protection", &object, last_probe(&here.vault_state())) else { return };
    match last {
        Some(probe) => judge(here, &object, &probe, clock, findings),
        None if folder(&here.config.vault.url).is_some() => {
            findings.ok("protection", object, "a folder: who may write into it may change it");
        }
        None => {
            let found = "nobody has tried what keeps it from being changed, and what this credential may do there";
            findings.warning("protection", object, found, "Try it: `warmspare vault probe`.");
        }
    }
}

fn judge(here: &Here, object: &str, probe: &DatedProbe, clock: &dyn Clock, findings: &mut Findings) {
    let age = clock.now().duration_since(probe.at);
    if age > PROBE_AGE_MAX {
        let found = format!("last tried {} ago", Span(age.try_into().unwrap_or_default()));
        findings.warning("protection", object, found, "Try it again: `warmspare vault probe`.");
    }
    match probe.found.protection {
        Protection::Nothing => {
            let next = "Set the policy that `warmspare vault init` prints, or keep versions; docs/THREATS.md says what each is good for.";
            findings.warning("protection", object, probe.found.sentence(), next);
        }
        protection => findings.ok("protection", object, format!("{}: {}", protection.word(), probe.found.sentence())),
    }
    let readable =
        |kind: &&str| probe.found.rights.iter().any(|rights| rights.kind == **kind && rights.read == Right::Yes);
    let readable: Vec<&str> = SEALED.iter().copied().filter(readable).collect();
    if here.is_live() && !readable.is_empty() && folder(&here.config.vault.url).is_none() {
        let found = format!("the live site's credential may read what it sealed: {}", readable.join(", "));
        findings.warning("protection", object, found, "Set the policy that `warmspare vault init` prints.");
    }
}
