//! A look at everything, beside the loop: what is wrong is told to people, and the metrics are shown at the gate.
//!
//! It takes as long as the vault and whoever is told take, so that it has a task of its own; the loop only says how things stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::jobs::Standing;
use crate::notify::Watch;
use crate::report::alarms::witness_unusable;
use crate::report::{Others, Subject};
use crate::schedule::Role;
use crate::site::daemon::Seat;
use crate::site::gate::Page;

/// From one look to the next when nothing happens, unless a target is shorter. Each reads the clear records of the vault.
const EVERY: Duration = Duration::from_secs(120);
/// So often within the shortest target.
const TIMES: u32 = 4;
/// After something has happened: for what follows from it to be there, too.
const SOON: Duration = Duration::from_secs(5);

/// How things stand.
#[derive(Clone)]
pub(super) struct Seen {
    /// The configuration in the role of now.
    pub(super) here: Here,
    /// The jobs.
    pub(super) standings: Vec<Standing>,
    /// What others have to say.
    pub(super) others: Others,
}

/// What a daemon in this role knows besides: that its witness cannot be used. Whoever has not heard of his witness yet cannot say that it
/// can; nor can a site that is neither live nor the spare say of a job that all is well.
pub(super) fn others(seat: Option<&Seat>, site: &str, role: Role, standings: &[Standing]) -> Others {
    let mut others = Others::default();
    if let Some(seat) = seat {
        others.lines.extend(seat.witness_error().map(|error| witness_unusable(&error)));
        if !seat.has_heard() {
            others.unseen.add(Subject::Witness);
        }
    }
    if role == Role::Between {
        standings.iter().for_each(|job| others.unseen.add(Subject::job(site, &job.name)));
    }
    others
}

/// The watch of a site. Dropped, it ends: what nobody has confirmed is told by the next daemon.
pub(super) struct Alarm {
    page: Page,
    watch: Option<Watch>,
    told: watch::Sender<Option<Seen>>,
    /// Counts what should be looked at at once.
    news: watch::Sender<u64>,
    task: Option<JoinHandle<()>>,
    /// What it depends on that something is news.
    before: Option<Vec<News>>,
}

/// What of a job is news when it is another.
type News = (String, Option<jiff::Timestamp>, Option<jiff::Timestamp>, bool);

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Alarm {
    /// Begins with what the state folder remembers of what was told.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn new(here: &Here, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        let watch = Watch::new(here, Arc::clone(clock))?;
        let (told, _) = watch::channel(None);
        let (news, _) = watch::channel(0);
        Ok(Alarm { page: watch.page(), watch: Some(watch), told, news, task: None, before: None })
    }

    /// Where the metrics are shown.
    pub(super) fn page(&self) -> Page {
        self.page.clone()
    }

    /// Says how things stand now; the first time, the looking begins.
    pub(super) fn tell(&mut self, seen: Seen) {
        let of = |job: &Standing| {
            let ended = job.last.as_ref().map(|last| last.ended_at);
            (job.name.clone(), ended, job.late_since, job.pause.is_some())
        };
        let now: Vec<News> = seen.standings.iter().map(of).collect();
        let is_news = self.before.as_ref().is_some_and(|before| *before != now);
        self.before = Some(now);
        self.told.send_replace(Some(seen));
        if is_news {
            self.news.send_modify(|count| *count += 1);
        }
        if let Some(watch) = self.watch.take() {
            self.task = Some(tokio::spawn(looking(watch, self.told.subscribe(), self.news.subscribe())));
        }
    }
}

async fn looking(mut watch: Watch, told: watch::Receiver<Option<Seen>>, mut news: watch::Receiver<u64>) {
    loop {
        news.mark_unchanged();
        let seen = told.borrow().clone();
        let mut every = EVERY;
        if let Some(Seen { here, standings, others }) = seen {
            every = every.min(here.config.targets.shortest() / TIMES).max(SOON);
            watch.look(&here, Some(Ok(standings)), others).await;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            changed = news.changed() => match changed {
                Ok(()) => tokio::time::sleep(SOON).await,
                // The daemon has ended.
                Err(_) => return,
            },
        }
    }
}
