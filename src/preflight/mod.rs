//! PREFLIGHT: proves this site's half against the world, so that what would fail at night fails now.
//!
//! Every look is one file and one kind of thing. A look that fails becomes a finding and hides no other; each ends within a
//! limit. Wherever a capture or restore has a refusal of its own, that one is asked, so that the verdict is
//! true both ways. Nothing is changed but this site's status record, which tells the other site the verdict.
//!
//! The room comes last in the order because it looks at all the others, and none of them looks at it.

mod abilities;
mod apart;
mod buckets;
mod database;
mod exports;
pub mod finding;
mod limit;
mod peer;
mod protection;
mod restorable;
mod site;
pub mod space;
mod vault;
mod witness;

pub use abilities::Tried;
pub use finding::{Finding, Level};
pub use peer::PeerSaid;
pub use witness::from_witness;

use jiff::Timestamp;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::{Here, SourceKind};
use crate::point;
use crate::vault::v1::CheckVerdict;
use database::Look;
use finding::Findings;
use limit::{READING_MAX, within};
use site::Secrets;
use vault::Seen;

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The system.
    pub system: String,
    /// This site.
    pub site: String,
    /// Whether it is the live site.
    pub live: bool,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// Whether a capture (at the live site) or a restore (at the spare) would work, as far as can be seen.
    pub ready: bool,
    /// How many findings stand against it.
    pub failures: u64,
    /// How many deserve a look.
    pub warnings: u64,
    /// Everything that was looked at, in order.
    pub findings: Vec<Finding>,
    /// What each bucket can do that was looked at.
    pub buckets: Vec<Tried>,
    /// What the other site says of itself; nothing when it said nothing that can be believed.
    pub peer: Option<PeerSaid>,
}

/// Whether this site's status record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The verdict is put into the vault for the other site to read.
    Say,
    /// Nothing is written, to no bucket either.
    KeepQuiet,
}

/// Looks at everything a capture (at the live site) or a restore (at the spare) needs. What is wrong is in the report.
pub async fn check(here: &Here, clock: &dyn Clock, telling: Telling) -> Report {
    let mut findings = Findings::default();
    site::look(here, &mut findings).await;
    site::keys(here, &mut findings).await;
    witness::look(here, telling, &mut findings).await;
    let secrets = site::secrets(here, &mut findings).await;
    let seen = vault::look(here, clock, &mut findings).await;
    let data = databases(here, clock, &secrets, seen.as_ref(), &mut findings).await;
    let look = buckets::Look { here, clock, secrets: &secrets, seen: seen.as_ref(), telling };
    let buckets = look.run(&mut findings).await;
    if here.is_live() {
        exports::look(here, &mut findings).await;
    }
    match &seen {
        Some(_) if here.is_live() => capture(here, clock, &mut findings).await,
        Some(seen) => restorable::look(here, &secrets, seen, &mut findings).await,
        // Both begin with the vault, and what is wrong with it was told.
        None => {}
    }
    if let Some(seen) = &seen {
        protection::look(here, seen, clock, &mut findings);
    }
    apart::look(here, &data, &mut findings).await;
    let mut peer = None;
    if let Some(seen) = &seen {
        peer = peer::look(here, clock, seen, &mut findings).await;
        if telling == Telling::Say {
            let verdict = verdict(&findings, clock);
            peer::say(here, clock, seen, &verdict, &mut findings).await;
        }
    }
    let CheckVerdict { at, ready, failures, warnings } = verdict(&findings, clock);
    let (system, site) = (here.config.system.clone(), here.site.name.clone());
    let findings = findings.into_list();
    Report { system, site, live: here.is_live(), at, ready, failures, warnings, findings, buckets, peer }
}

fn verdict(findings: &Findings, clock: &dyn Clock) -> CheckVerdict {
    let (failures, warnings) = (findings.count(Level::Failure), findings.count(Level::Warning));
    CheckVerdict { at: clock.now(), ready: failures == 0, failures, warnings }
}

/// Looks at the databases; the folders of their servers come back, as far as they are on this host.
async fn databases(
    here: &Here,
    clock: &dyn Clock,
    secrets: &Secrets,
    seen: Option<&Seen>,
    findings: &mut Findings,
) -> Vec<std::path::PathBuf> {
    let newest = if here.is_live() { None } else { seen.and_then(Seen::newest) };
    let mut data = Vec::new();
    for address in here.site.databases.values() {
        let Some(password) = secrets.get(&site::database_key(&address.name)) else { continue };
        let header = newest.and_then(|point| {
            let is_it = |kind: SourceKind, name: &str| kind == SourceKind::Database && name == address.name;
            point.headers.iter().find(|(source, _, _)| is_it(source.kind, &source.name))
        });
        let facts = header.map(|(_, _, header)| database::captured(header));
        let captured = facts.and_then(|facts| findings.value("points", format!("database.{}", address.name), facts));
        let found = Look { here, clock, address, captured, findings }.run(password).await;
        data.extend(found.data);
    }
    data
}

/// What a capture would refuse at once.
async fn capture(here: &Here, clock: &dyn Clock, findings: &mut Findings) {
    let object = format!("system {}", here.config.system);
    let preview = within(READING_MAX, &object, point::preview(here, clock)).await;
    if let Some(preview) = findings.value("capture", &object, preview) {
        findings.ok("capture", object, format!("{} sources into {}", preview.sources.len(), preview.vault));
    }
}
