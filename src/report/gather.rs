//! The facts of a report, read and not judged.

use std::time::Duration;

use jiff::Timestamp;

use super::freshness::{Facts, Line, Unread};
use super::records::Records;
use crate::config::Here;
use crate::error::{Error, Explain};
use crate::jobs::{JobRecord, Standing};
use crate::units::Span;

/// The longest the vault may take to show its records.
const READING_MAX: Duration = Duration::from_secs(120);

/// How the jobs of this site stand; nothing where its state folder has no history of them.
pub type OwnJobs = Option<Result<Vec<Standing>, Unread>>;

/// Reads what there is to know at `at`. What cannot be read is told as such; `records` holds what was read before.
pub async fn gather(here: &Here, at: Timestamp, own_jobs: OwnJobs, others: Vec<Line>, records: &mut Records) -> Facts {
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
        vault,
        jobs: own_jobs.map(|jobs| (site.clone(), jobs)).into_iter().collect(),
        site,
        other,
        others,
    }
}

pub(super) fn unread(error: &Error) -> Unread {
    Unread { what: error.to_string(), next: error.next_step() }
}

/// How this site's jobs stand as far as its state folder remembers them: when each ran, and whether it is paused. When they are to
/// run next is for who knows the schedule.
pub fn remembered(here: &Here, at: Timestamp) -> OwnJobs {
    let folder = here.site.state.join("jobs");
    let listed = match std::fs::read_dir(&folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(Unread { what: format!("{}: {error}", folder.display()), next: None })),
    };
    let names = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort();
    let loaded = names.iter().map(|name| JobRecord::load(&here.site.state, name)).collect::<Result<Vec<_>, _>>();
    match loaded {
        Ok(records) => Some(Ok(records.into_iter().flatten().map(|record| standing(record, at)).collect())),
        Err(error) => {
            let next = error.next_step();
            Some(Err(Unread { what: crate::error::chain(&error), next }))
        }
    }
}

fn standing(record: JobRecord, at: Timestamp) -> Standing {
    let pause = record.paused_at(at).cloned();
    Standing {
        kind: String::new(),
        runs_here: true,
        running_since: record.running.map(|running| running.started_at),
        last: record.runs.into_iter().next(),
        done_at: record.done_at,
        failures: record.failures,
        next_at: None,
        late_since: None,
        pause,
        waits_for: None,
        name: record.name,
    }
}
