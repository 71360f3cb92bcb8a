//! The whole job on one machine: two sites in one folder, two recovery points, a disaster, a proven restore.
//!
//! Nothing in it is special: it writes a configuration file, makes keys, and calls the rooms that the commands
//! call. Servers are ended and folders removed whatever happens, unless the folder is to be kept.

pub mod cluster;
mod daemons;
mod registry;
mod service;
mod sites;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use serde::Serialize;

use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::point::{self, PointSummary, SharedClock};
use crate::process;
use crate::restore::RestoreReport;
use crate::site::driver::By;
use crate::site::lease::Name;
use crate::site::operate::{Operator, Takeover};
use registry::Counts;
use service::Answer;
use sites::Sites;

/// What the demo showed.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSummary {
    /// What the live site held when the first point was taken.
    pub before: Counts,
    /// The first recovery point.
    pub first: PointSummary,
    /// What the live site held when the second point was taken.
    pub changed: Counts,
    /// The second, after a change.
    pub second: PointSummary,
    /// What the live site held when it was destroyed.
    pub at_disaster: Counts,
    /// From the second point to the disaster.
    pub millis_at_risk: u64,
    /// What the restore said.
    pub restore: RestoreReport,
    /// From the loss of the first site until clients were served again: restore, proof, and the wait until the first site
    /// cannot believe to be live any more.
    pub down_millis: u64,
    /// What a client is answered in the end.
    pub served_by: Answer,
    /// The first site, when it was there again.
    pub old_site: OldSite,
    /// What the spare holds now.
    pub after: Counts,
    /// Where the restore's report is.
    pub report: PathBuf,
    /// How long it all took.
    pub millis: u64,
}

/// A site that was live and does not know yet that another one is.
#[derive(Clone, Debug, Serialize)]
pub struct OldSite {
    /// The state it came to.
    pub state: Name,
    /// Why.
    pub why: String,
    /// Whether its gate was open then: a defect.
    pub gate_open: bool,
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder to keep it in is in use.
    #[error("the folder {path} is not empty")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the demo cannot be written.
    #[error("{path} cannot be written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody ended it.
    #[error("the demo was interrupted; its servers are ended")]
    Interrupted,
    /// The machine gives no socket.
    #[error("{what} cannot listen on 127.0.0.1")]
    Network {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A daemon cannot be started or signalled.
    #[error("the daemon of {site} cannot be run")]
    Daemon {
        /// The site.
        site: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It was not started.
    #[error("the daemon of {site} does not run")]
    NotRunning {
        /// The site.
        site: &'static str,
    },
    /// A daemon does not get where it should.
    #[error("the daemon of {site} is {state}, not {expected}")]
    Stuck {
        /// The site.
        site: &'static str,
        /// Its state.
        state: Name,
        /// What was waited for.
        expected: Name,
    },
    /// The failover restored nothing: a defect.
    #[error("the failover restored nothing")]
    NotRestored,
}

impl Explain for DemoError {
    fn class(&self) -> Class {
        match self {
            DemoError::NotEmpty { .. } => Class::Usage,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            DemoError::NotEmpty { .. } => "Name a new or empty folder with --keep.".to_owned(),
            DemoError::Interrupted => "Run it again; only a folder named with --keep was left as it is.".to_owned(),
            DemoError::File { .. } => "Check the folder's rights and space.".to_owned(),
            DemoError::Network { .. } => "See that this machine has its loopback interface.".to_owned(),
            DemoError::Daemon { .. } => "See that `setpriv` is installed (Debian: util-linux).".to_owned(),
            DemoError::NotRunning { .. } | DemoError::Stuck { .. } | DemoError::NotRestored => {
                "Run it again with --keep FOLDER: the daemons' logs are in FOLDER/SITE/daemon.log. Please report them."
                    .to_owned()
            }
        })
    }
}

pub(crate) fn wrong_file(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError + use<> {
    let path = path.to_owned();
    move |source| DemoError::File { path, source }
}

/// Runs the demo, unless Ctrl-C or SIGTERM ends it: then its servers are ended and a temporary folder is removed, with the keys
/// in it. `keep` is a new or empty folder to leave everything in; `tell` is given each sentence of the story.
///
/// # Errors
/// When PostgreSQL is not installed, the folder cannot be used, anything of the real job fails, or it is interrupted.
pub async fn run(
    keep: Option<PathBuf>,
    clock: SharedClock,
    progress: &Progress,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<DemoSummary, Error> {
    tokio::select! {
        // First, because the demo begins with seconds of work that do not look up.
        biased;
        () = interrupted() => Err(DemoError::Interrupted.into()),
        done = whole(keep, clock, progress, tell) => done,
    }
}

/// Returns at Ctrl-C or SIGTERM; never where they cannot be waited for.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The whole demo. `keep` is a new or empty folder to leave everything in; without it a temporary folder is
/// used and only the report stays. `tell` is given each sentence of the story as it happens.
///
/// # Errors
/// When PostgreSQL is not installed, the folder cannot be used, or anything of the real job fails.
async fn whole(
    keep: Option<PathBuf>,
    clock: SharedClock,
    progress: &Progress,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<DemoSummary, Error> {
    let begun = Instant::now();
    tell(
        "Two sites on this machine, ams and fra: a PostgreSQL server, a bucket, a service and a daemon each; one vault, one witness.",
    );
    let mut sites = Sites::build(keep, Arc::clone(&clock))?;
    sites.fill().await?;
    sites.run().await?;
    let config = sites.config()?;
    let operator = |site, reason: &str| {
        let by = By { operator: process::operator(), reason: reason.to_owned() };
        Operator { config: &config, site, by, clock: Arc::clone(&clock), tell, if_term: None }
    };
    let (ams, fra) = (operator(sites::LIVE, "the first"), operator(sites::SPARE, "ams does not answer"));
    let story = Story { ams, fra, clock: Arc::clone(&clock), progress, tell };

    story.begin(&sites).boxed_local().await?;
    let (before, first) = story.point(&sites).boxed_local().await?;
    sites.change().await?;
    tell("Some packages are published.");
    let (changed, second) = story.point(&sites).boxed_local().await?;
    let risk = Instant::now();
    sites.change_after_last_point().await?;
    let at_disaster = sites.count(sites::LIVE).await?;
    let millis_at_risk = millis(risk);
    let down = Instant::now();
    let restore = story.disaster(&mut sites).boxed_local().await?;
    let down_millis = millis(down);
    let report = sites.keep_report(&restore.folder)?;
    let after = sites.count(sites::SPARE).await?;
    let old_site = story.wake(&sites).boxed_local().await?;
    let served_by = service::ask(sites.behind()).await;
    sites.finish()?;
    let millis = millis(begun);
    Ok(DemoSummary {
        before,
        first,
        changed,
        second,
        at_disaster,
        millis_at_risk,
        restore,
        down_millis,
        served_by,
        old_site,
        after,
        report,
        millis,
    })
}

/// What happens, told as it does.
struct Story<'a> {
    ams: Operator<'a>,
    fra: Operator<'a>,
    clock: SharedClock,
    progress: &'a Progress,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl Story<'_> {
    fn tell(&self, sentence: &str) {
        (self.tell)(sentence);
    }

    /// The first site becomes live.
    async fn begin(&self, sites: &Sites) -> Result<(), Error> {
        sites.daemon(sites::LIVE)?.until(&self.ams, Name::Standby).await?;
        sites.daemon(sites::SPARE)?.until(&self.fra, Name::Standby).await?;
        let first = Takeover { first: true, ..Takeover::default() };
        let silent = Operator { tell: &|_| {}, by: self.ams.by.clone(), clock: Arc::clone(&self.clock), ..self.ams };
        let outcome = silent.take_over(&first, self.progress).await?;
        self.tell(&format!(
            "ams is live in term {}. Behind a load balancer that asks both gates, {}.",
            outcome.term,
            service::ask(sites.behind()).await
        ));
        Ok(())
    }

    async fn point(&self, sites: &Sites) -> Result<(Counts, PointSummary), Error> {
        let counts = sites.count(sites::LIVE).await?;
        let here = sites.live().await?;
        let point = point::take(&here, Arc::clone(&self.clock), self.progress).await?;
        self.tell(&format!("ams holds {counts}. Recovery point {} taken: {}.", point.point, stored(&point)));
        Ok((counts, point))
    }

    /// The live site is lost, and the other one takes over.
    async fn disaster(&self, sites: &mut Sites) -> Result<RestoreReport, Error> {
        sites.destroy_live()?;
        self.tell("ams is lost: its server killed; its data, bucket and secrets removed; its daemon hangs.");
        self.tell("At fra: warmspare failover");
        let outcome = self.fra.take_over(&Takeover::default(), self.progress).await?;
        self.tell(&format!(
            "fra is live in term {}. Behind the load balancer, {}.",
            outcome.term,
            service::ask(sites.behind()).await
        ));
        Ok(outcome.restored.ok_or(DemoError::NotRestored)?)
    }

    /// The old live site is there again.
    async fn wake(&self, sites: &Sites) -> Result<OldSite, Error> {
        let daemon = sites.daemon(sites::LIVE)?;
        daemon.thaw()?;
        let status = daemon.until(&self.ams, Name::Stale).await?;
        let gate_open = service::is_open(sites.first_gate()).await;
        let refuses = if gate_open { "its gate is OPEN" } else { "its gate is closed" };
        let why = status.why.unwrap_or_default();
        self.tell(&format!("The daemon of ams wakes up: {}, {why}; {refuses}.", status.state));
        Ok(OldSite { state: status.state, why, gate_open })
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn stored(point: &PointSummary) -> String {
    let sum = |of: fn(&point::SourceSummary) -> u64| crate::units::Bytes(point.sources.iter().map(of).sum());
    format!("{} captured, {} new in the vault", sum(|source| source.bytes), sum(|source| source.stored_bytes))
}
