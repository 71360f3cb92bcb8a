//! How the jobs of this site stand, told to the other one: in this site's status record in the vault, when it changes and every few
//! minutes. When it was written is the sign of life that the other site watches.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;

use crate::blocking;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::jobs::Standing;
use crate::point::open_vault;
use crate::schedule::Role;
use crate::site::daemon::{Needs, here};
use crate::store::Read;
use crate::vault::layout::VAULT;
use crate::vault::v1::{JobStatus, PausedJob, StatusRecord};
use crate::vault::{StatusKeeping, update_status};

/// From one sign of life to the next, when nothing changes, unless the other site's patience is short.
const EVERY: Duration = Duration::from_secs(300);
/// Not more often, whatever changes.
const AT_MOST_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// A vault that is silent for so long is tried again later.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells, one at a time.
pub(super) struct Teller {
    site: String,
    clock: Arc<dyn Clock>,
    told: Option<(Timestamp, Vec<JobStatus>)>,
    telling: Option<JoinHandle<()>>,
}

impl Teller {
    pub(super) fn new(site: &str, clock: Arc<dyn Clock>) -> Self {
        Teller { site: site.to_owned(), clock, told: None, telling: None }
    }

    /// Tells it, if it is another or the last time was long ago, and nothing is being told.
    pub(super) fn tell(&mut self, config: &Config, role: Role, standings: Vec<Standing>, now: Timestamp) {
        if role == Role::Between || self.telling.as_ref().is_some_and(|telling| !telling.is_finished()) {
            return;
        }
        let jobs: Vec<JobStatus> = standings.into_iter().map(status_of).collect();
        let age = self.told.as_ref().map(|(at, _)| now.duration_since(*at).abs());
        let is_other = self.told.as_ref().is_none_or(|(_, told)| !says_the_same(told, &jobs));
        let every = EVERY.min(config.targets.silent / 4);
        let is_time = age.is_none_or(|age| age.unsigned_abs() >= every || is_other && age >= AT_MOST_EVERY);
        if !is_time {
            return;
        }
        self.told = Some((now, jobs.clone()));
        let (config, site, clock) = (config.clone(), self.site.clone(), Arc::clone(&self.clock));
        self.telling = Some(tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, write(config, &site, clock, jobs)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("the other site cannot be told how the jobs stand: {error}"),
                Err(_) => tracing::warn!("the other site cannot be told how the jobs stand: the vault does not answer"),
            }
        }));
    }
}

/// Whether both say that things stand alike. When which run began and ended is told with the next sign of life: a rehearsal that has
/// nothing to do would otherwise have the record written at every turn.
fn says_the_same(told: &[JobStatus], jobs: &[JobStatus]) -> bool {
    let of = |job: &JobStatus| {
        let JobStatus { name, runs_here, verdict, failures, failures_allowed, late_since, pause, .. } = job.clone();
        (name, runs_here, verdict, failures, failures_allowed, late_since, pause)
    };
    told.iter().map(of).eq(jobs.iter().map(of))
}

async fn write(config: Config, site: &str, clock: Arc<dyn Clock>, jobs: Vec<JobStatus>) -> Result<(), Error> {
    let here = here(config, site, Needs::Role, Arc::clone(&clock)).await?;
    let (keys, reader) = open_vault(&here).await?;
    if !keys.exists(VAULT).await? {
        // Nothing was captured yet; and it may be the folder that a disk is to be mounted on.
        return Ok(());
    }
    let asked = here.clone();
    let signer = blocking::apart("the signing key", move || Ok::<_, Error>(asked.signing_key()?)).await?;
    let state = here.vault_state();
    let keeping = StatusKeeping { system: &here.config.system, site, signer: &signer, state: &state };
    let change = |record: &mut StatusRecord| record.jobs = jobs;
    update_status(&keys, &reader, &keeping, &*clock, change).await?;
    Ok(())
}

/// Without what runs said: the record is clear for whoever may read the vault.
fn status_of(standing: Standing) -> JobStatus {
    let Standing { name, kind, runs_here, running_since, last, done_at, failures, failures_allowed, .. } = standing;
    let Standing { next_at, late_since, pause, .. } = standing;
    JobStatus {
        name,
        kind,
        runs_here,
        running_since,
        verdict: last.as_ref().map(|last| last.verdict.as_str().to_owned()),
        ended_at: last.map(|last| last.ended_at),
        done_at,
        failures,
        failures_allowed,
        next_at,
        late_since,
        pause: pause.map(|pause| PausedJob { until: pause.until, operator: pause.operator, why: pause.why }),
    }
}
