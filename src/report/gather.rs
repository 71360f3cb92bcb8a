//! The facts of a report, read and not judged.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::freshness::{Facts, Others, Unread, VaultFacts};
use super::records::Records;
use super::told;
use crate::config::Here;
use crate::error::Error;
use crate::jobs::Standing;
use crate::units::Span;

/// The longest the vault may take to show its records.
const READING_MAX: Duration = Duration::from_secs(120);

/// How the jobs of this site stand; nothing where its state folder has no history of them.
pub type OwnJobs = Option<Result<Vec<Standing>, Unread>>;

/// Reads what there is to know at `at`. What cannot be read is told as such; `records` holds what was read before.
pub async fn gather(here: &Here, at: Timestamp, own_jobs: OwnJobs, others: Others, records: &mut Records) -> Facts {
    let config = &here.config;
    let (site, other) = (here.site.name.clone(), here.other.name.clone());
    let vault = match tokio::time::timeout(READING_MAX, records.look(here)).await {
        Ok(read) => read.map_err(|error| unread(&error)),
        Err(_) => Err(Unread {
            what: format!("it did not answer within {}", Span(READING_MAX)),
            next: Some("Find out what it waits for: network, disk, a server that is overloaded.".to_owned()),
        }),
    };
    Facts {
        system: config.system.clone(),
        live: here.live.clone(),
        at,
        sources: config.sources(),
        targets: config.targets.clone(),
        jobs: jobs(&site, own_jobs, &vault),
        vault,
        site,
        other,
        others,
    }
}

pub(super) fn unread(error: &Error) -> Unread {
    Unread { what: error.to_string(), next: error.next_step() }
}

/// What each site told of its jobs; of this one what it knows itself, if it does.
fn jobs(
    site: &str,
    own_jobs: OwnJobs,
    vault: &Result<VaultFacts, Unread>,
) -> BTreeMap<String, Result<Vec<Standing>, Unread>> {
    let statuses = vault.as_ref().map(|vault| &vault.statuses).into_iter().flatten();
    let told =
        statuses.filter_map(|(site, said)| Some((site.clone(), Ok(told::standings(said.as_ref().ok()?.as_ref()?)?))));
    let mut jobs: BTreeMap<_, _> = told.collect();
    jobs.extend(own_jobs.map(|own| (site.to_owned(), own)));
    jobs
}
