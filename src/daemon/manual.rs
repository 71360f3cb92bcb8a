//! What a person does with jobs: asked of the daemon, and where none runs done here, under its lock.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::child::{self, Ended, Orders, Place};
use super::{PAUSE_MAX, open_book};
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::durable::FileLock;
use crate::error::{Class, Error, Explain};
use crate::jobs::{Book, Moment, Pause, Run, RunVerdict, Standing, Start};
use crate::preflight;
use crate::report::freshness::{Unread, daemon_absent};
use crate::report::{Line, OwnJobs};
use crate::schedule::{Job, Role};
use crate::site::daemon::words::JobAsk;
use crate::site::daemon::{DaemonError, Reached, machine, only_one};
use crate::units::Span;

/// A job cannot be run or paused.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is none of that name.
    #[error("there is no job `{name}` (there are: {known})")]
    Unknown {
        /// The name.
        name: String,
        /// Those that are.
        known: String,
    },
    /// It does not run in this role.
    #[error("job {name} runs on {on}, and {site} is not that now")]
    Elsewhere {
        /// The job.
        name: String,
        /// Where it runs.
        on: &'static str,
        /// This site.
        site: String,
    },
    /// What says until when is no time.
    #[error("`{text}` says no time")]
    Until {
        /// What was written.
        text: String,
    },
    /// A pause that is none, or too long.
    #[error("a pause that ends at {until} {what}")]
    Pause {
        /// When it would end.
        until: Timestamp,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It ended in a way that was not noted.
    #[error("the run of job {name} was not noted")]
    Lost {
        /// The job.
        name: String,
    },
}

impl Explain for JobError {
    fn class(&self) -> Class {
        match self {
            JobError::Elsewhere { .. } => Class::Refused,
            JobError::Lost { .. } => Class::Failed,
            _ => Class::Usage,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            JobError::Unknown { .. } => "`warmspare jobs` lists them.".to_owned(),
            JobError::Elsewhere { .. } => "Ask for it at the other site.".to_owned(),
            JobError::Until { .. } => {
                "Write how long, like \"4h\", or an instant, like \"2027-03-01T06:00:00Z\".".to_owned()
            }
            JobError::Pause { .. } => "Pause it for a while, 31 days at most: then it runs again by itself.".to_owned(),
            JobError::Lost { .. } => "See the log for how it ended.".to_owned(),
        })
    }
}

/// The instant that a person means: a span from now, or the instant itself.
///
/// # Errors
/// [`JobError::Until`].
pub fn until(text: &str, now: Timestamp) -> Result<Timestamp, JobError> {
    let wrong = || JobError::Until { text: text.to_owned() };
    match text.parse::<Span>() {
        Ok(Span(span)) => {
            let span = SignedDuration::try_from(span).map_err(|_| wrong())?;
            now.checked_add(span).map_err(|_| wrong())
        }
        Err(_) => text.parse().map_err(|_| wrong()),
    }
}

/// What is wrong with a pause that would end at `until`, if anything is.
pub(super) fn wrong_pause(until: Timestamp, now: Timestamp) -> Option<JobError> {
    if until <= now {
        return Some(JobError::Pause { until, what: "would have ended already" });
    }
    (until > now + PAUSE_MAX).then_some(JobError::Pause { until, what: "is longer than 31 days" })
}

/// The jobs of a site, as a person sees them.
pub struct Jobs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The site.
    pub site: &'a str,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Jobs<'_> {
    fn here(&self) -> Result<Here, Error> {
        Ok(Here::led(self.config.clone(), self.site, self.config.live.clone())?)
    }

    fn daemon(&self, here: &Here) -> Reached {
        Reached::new(&here.site.state, self.site)
    }

    /// How each stands, and whether a daemon said so; without one nothing runs by itself.
    ///
    /// # Errors
    /// When neither a daemon answers nor the records can be read.
    pub async fn standings(&self) -> Result<(Vec<Standing>, bool), Error> {
        let here = self.here()?;
        match self.daemon(&here).jobs().await {
            Ok(jobs) => Ok((jobs, true)),
            Err(DaemonError::None { .. }) => {
                let moment = self.moment_by(self.live().await.as_deref());
                let mut book = Book::default();
                for job in self.config.schedule.jobs() {
                    if let Some(record) = crate::jobs::JobRecord::load(&here.site.state, &job.name)? {
                        book.records.insert(job.name.clone(), record);
                    }
                }
                Ok((book.standings(&self.config.schedule, &moment), false))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How each stands, for a report: nothing where neither a daemon runs nor one ever did. Where one did and none does, that is said.
    pub async fn known(&self) -> (OwnJobs, Vec<Line>) {
        match self.standings().await {
            Ok((_, false)) if self.here().is_ok_and(|here| !here.site.state.join("jobs").exists()) => {
                (None, Vec::new())
            }
            Ok((standings, false)) => (Some(Ok(standings)), vec![daemon_absent(self.site)]),
            Ok((standings, true)) => (Some(Ok(standings)), Vec::new()),
            Err(error) => (Some(Err(Unread { what: error.to_string(), next: error.next_step() })), Vec::new()),
        }
    }

    /// Who is live where no daemon says it: what the configuration says, or the witness said last.
    async fn live(&self) -> Option<String> {
        let here = preflight::from_witness(self.config.clone(), self.site).await;
        here.ok().and_then(|here| here.live)
    }

    /// Without a daemon the role is what `live` says.
    fn moment(&self) -> Moment {
        self.moment_by(self.config.live.as_deref())
    }

    fn moment_by(&self, live: Option<&str>) -> Moment {
        let role = match live {
            Some(live) if live == self.site => Role::Live,
            Some(_) => Role::Spare,
            None => Role::Between,
        };
        Moment { now: self.clock.now(), role, holder: None }
    }

    fn job(&self, name: &str) -> Result<&Job, JobError> {
        let schedule = &self.config.schedule;
        schedule.job(name).ok_or_else(|| {
            let known = schedule.jobs().iter().map(|job| job.name.clone()).collect::<Vec<_>>().join(", ");
            JobError::Unknown { name: name.to_owned(), known }
        })
    }

    /// Runs a job now, or joins the run that is under way, and waits for its end.
    ///
    /// # Errors
    /// When it is refused, or cannot be begun; a run that failed is none of them.
    pub async fn run(&self, name: &str) -> Result<Run, Error> {
        let here = self.here()?;
        match self.daemon(&here).run_job(name).await {
            Err(DaemonError::None { .. }) if self.config.live.is_some() => {}
            told => return Ok(told?),
        }
        let job = self.job(name)?;
        let moment = self.moment();
        if !job.on.includes(moment.role) {
            let (name, site) = (name.to_owned(), self.site.to_owned());
            return Err(JobError::Elsewhere { name, on: job.on.as_str(), site }.into());
        }
        let (_lock, mut book) = self.alone(&here)?;
        let program = std::env::current_exe().map_err(machine("this executable"))?;
        let place = Place { program, config: self.config.path.clone(), site: self.site.to_owned() };
        book.begin(&Start { job: name.to_owned(), due_at: None }, moment.now);
        self.save(&here, &book, name)?;
        let ((_never, stop), (_once, reload)) = (watch::channel(None), watch::channel(0));
        let run = child::carry_out(place, job.clone(), Orders { stop, reload });
        let Ended { verdict, what, point, .. } = run.await;
        let run = book.end(name, verdict, what, point, self.clock.now());
        self.save(&here, &book, name)?;
        Ok(run.ok_or_else(|| JobError::Lost { name: name.to_owned() })?)
    }

    /// Has a job not run for a while.
    ///
    /// # Errors
    /// When there is no such job, or that is no while.
    pub async fn pause(&self, name: &str, until: Timestamp, operator: String, why: String) -> Result<(), Error> {
        self.job(name)?;
        let now = self.clock.now();
        if let Some(wrong) = wrong_pause(until, now) {
            return Err(wrong.into());
        }
        let ask = JobAsk::Pause { job: name.to_owned(), until, operator: operator.clone(), why: why.clone() };
        self.changed(name, ask, Some(Pause { since: now, until, operator, why })).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn resume(&self, name: &str) -> Result<(), Error> {
        self.job(name)?;
        self.changed(name, JobAsk::Resume { job: name.to_owned() }, None).await
    }

    async fn changed(&self, name: &str, ask: JobAsk, pause: Option<Pause>) -> Result<(), Error> {
        let here = self.here()?;
        match self.daemon(&here).job(ask).await {
            Err(DaemonError::None { .. }) => {}
            told => return Ok(told?),
        }
        let (_lock, mut book) = self.alone(&here)?;
        if let Some(record) = book.records.get_mut(name) {
            record.pause = pause;
        }
        self.save(&here, &book, name)
    }

    /// The records, while no daemon can begin.
    fn alone(&self, here: &Here) -> Result<(FileLock, Book), Error> {
        let lock = only_one(here)?;
        let mut book = open_book(here, &self.config.schedule, self.clock.now())?;
        book.recount(&self.config.schedule, &self.moment());
        Ok((lock, book))
    }

    fn save(&self, here: &Here, book: &Book, name: &str) -> Result<(), Error> {
        match book.records.get(name) {
            Some(record) => Ok(record.save(&here.site.state)?),
            None => Ok(()),
        }
    }
}

/// The class of a run that was asked for, by its verdict; none when it is done.
pub fn class_of(verdict: RunVerdict) -> Option<Class> {
    match verdict {
        RunVerdict::Done => None,
        RunVerdict::Incomplete => Some(Class::Incomplete),
        RunVerdict::Refused => Some(Class::Refused),
        RunVerdict::Failed | RunVerdict::TimedOut | RunVerdict::Lost => Some(Class::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_said_as_a_span_or_an_instant_and_ends() {
        let now: Timestamp = "2027-03-01T06:00:00Z".parse().unwrap();
        assert_eq!(until("4h", now).unwrap(), "2027-03-01T10:00:00Z".parse().unwrap());
        assert_eq!(until("2027-03-01T08:00:00+01:00", now).unwrap(), "2027-03-01T07:00:00Z".parse().unwrap());
        for text in ["", "tomorrow", "4 hours", "2027-03-01", "99999999999d"] {
            assert!(until(text, now).is_err(), "{text:?}");
        }
        assert!(wrong_pause(now, now).is_some());
        assert!(wrong_pause(until("32d", now).unwrap(), now).is_some());
        assert!(wrong_pause(until("31d", now).unwrap(), now).is_none());
    }
}
