//! A command's side of the control socket: asking the daemon of this machine, giving it orders, and borrowing its role.
//!
//! With a witness, a command is of the site that the daemon says it is, in the term it says, and writes to what both sites share only
//! as long as it says so. CLOCK_BOOTTIME is one clock for the whole machine, so the end of the leave is an instant of it; when the
//! daemon hangs up, the leave is withdrawn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::words::{Ask, JobAsk, Lead, Told, Wish};
use super::{control, request_max};
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::error::{Class, Error, Explain};
use crate::jobs::{Run, Standing};
use crate::permit::{Grant, Permit};
use crate::site::driver::{By, StatusAt};
use crate::site::witness::timing;

/// For an answer that is at hand. An order waits for the disk, too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two processes of one machine read the same clock, except in another time namespace.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(10);

/// The daemon of this machine cannot be asked, or will not.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// None runs.
    #[error("with a witness the role of {site} is that of its daemon, and none runs here")]
    None {
        /// The site.
        site: String,
    },
    /// It ended under a command.
    #[error("the daemon of {site} ended while this command waited for it")]
    Gone {
        /// The site.
        site: String,
    },
    /// It hung up, or did not answer.
    #[error("the daemon at {socket} does not answer: {what}")]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
    /// It refuses.
    #[error("{site} refuses: {what}")]
    Refused {
        /// The site.
        site: String,
        /// Why.
        what: String,
        /// What to do.
        next: Option<String>,
    },
    /// The site is not live.
    #[error("{site} is {state} in term {term}: nothing may be captured or mirrored here")]
    NotLive {
        /// The site.
        site: String,
        /// Its state.
        state: String,
        /// The term.
        term: u64,
    },
    /// Another clock.
    #[error("the daemon's CLOCK_BOOTTIME is not that of this process")]
    OtherClock,
}

impl Explain for DaemonError {
    fn class(&self) -> Class {
        match self {
            DaemonError::Gone { .. } | DaemonError::Silent { .. } | DaemonError::OtherClock => Class::Failed,
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            DaemonError::None { .. } => Some(
                "Start it: `warmspare run`. What the witness itself says is shown by `warmspare witness status`."
                    .to_owned(),
            ),
            DaemonError::Gone { .. } => Some(
                "See its log, start it again (`warmspare run`), and look where it stands (`warmspare lease status`). Run this again: it \
                 goes on from there."
                    .to_owned(),
            ),
            DaemonError::Silent { .. } => Some(
                "See its log: it may be ending, or hang. What it was told before goes on; its gate closes with the lease, whatever it \
                 does."
                    .to_owned(),
            ),
            DaemonError::Refused { next, .. } => next.clone(),
            DaemonError::NotLive { .. } => {
                Some("Run it at the live site; `warmspare lease status` says how this one stands.".to_owned())
            }
            DaemonError::OtherClock => Some(
                "Run the command where the daemon runs, outside of a container with a time namespace of its own."
                    .to_owned(),
            ),
        }
    }
}

/// A daemon that can be asked.
#[derive(Clone, Debug)]
pub struct Reached {
    socket: PathBuf,
    site: String,
}

impl Reached {
    /// The daemon of `site` with this state folder. It is asked only later.
    pub fn new(state: &Path, site: &str) -> Self {
        Reached { socket: control::socket(state), site: site.to_owned() }
    }

    fn silent(&self, what: impl ToString) -> DaemonError {
        DaemonError::Silent { socket: self.socket.clone(), what: what.to_string() }
    }

    async fn ask(&self, ask: &Ask) -> Result<Lines<BufReader<UnixStream>>, DaemonError> {
        let mut stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) =>
            {
                return Err(DaemonError::None { site: self.site.clone() });
            }
            Err(error) => return Err(self.silent(error)),
        };
        let mut line = serde_json::to_vec(ask).map_err(|error| self.silent(error))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(|error| self.silent(error))?;
        Ok(BufReader::new(stream).lines())
    }

    async fn next(&self, lines: &mut Lines<BufReader<UnixStream>>) -> Result<Told, DaemonError> {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.map_err(|_| self.silent("no answer in time"))?.map_err(|error| self.silent(error))?;
        let line = line.ok_or_else(|| self.silent("it hung up"))?;
        match serde_json::from_str(&line).map_err(|error| self.silent(error))? {
            Told::Refused { what, next } => Err(DaemonError::Refused { site: self.site.clone(), what, next }),
            told => Ok(told),
        }
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn status(&self) -> Result<StatusAt, DaemonError> {
        let mut lines = self.ask(&Ask::Status).await?;
        match self.next(&mut lines).await? {
            Told::Status { status } => Ok(*status),
            _ => Err(self.silent("it answered something else")),
        }
    }

    /// Gives an order: it was taken up when this is done.
    ///
    /// # Errors
    /// [`DaemonError`], also when the protocol refuses it.
    pub async fn order(&self, order: Wish, by: &By) -> Result<(), DaemonError> {
        let By { operator, reason } = by.clone();
        let mut lines = self.ask(&Ask::Order { order, operator, reason }).await?;
        match self.next(&mut lines).await? {
            Told::Done => Ok(()),
            _ => Err(self.silent("it answered something else")),
        }
    }

    /// How the jobs stand.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn jobs(&self) -> Result<Vec<Standing>, DaemonError> {
        let mut lines = self.ask(&Ask::Jobs { question: JobAsk::All }).await?;
        match self.next(&mut lines).await? {
            Told::Jobs { jobs } => Ok(jobs),
            _ => Err(self.silent("it answered something else")),
        }
    }

    /// Asks something of a job: it was taken up when this is done.
    ///
    /// # Errors
    /// [`DaemonError`], also when it is refused.
    pub async fn job(&self, ask: JobAsk) -> Result<(), DaemonError> {
        let mut lines = self.ask(&Ask::Jobs { question: ask }).await?;
        self.taken_up(&mut lines).await
    }

    async fn taken_up(&self, lines: &mut Lines<BufReader<UnixStream>>) -> Result<(), DaemonError> {
        match self.next(lines).await? {
            Told::Done => Ok(()),
            _ => Err(self.silent("it answered something else")),
        }
    }

    /// Has a job run, or joins the run that is under way, and waits for its end however long that is.
    ///
    /// # Errors
    /// [`DaemonError`], also when it is refused.
    pub async fn run_job(&self, job: &str) -> Result<Run, DaemonError> {
        let mut lines = self.ask(&Ask::Jobs { question: JobAsk::Run { job: job.to_owned() } }).await?;
        self.taken_up(&mut lines).await?;
        let line = lines.next_line().await.map_err(|error| self.silent(error))?;
        let line = line.ok_or_else(|| self.silent("it hung up before the job had ended"))?;
        match serde_json::from_str(&line).map_err(|error| self.silent(error))? {
            Told::Ran { run } => Ok(run),
            Told::Refused { what, next } => Err(DaemonError::Refused { site: self.site.clone(), what, next }),
            _ => Err(self.silent("it answered something else")),
        }
    }

    /// The role, and what follows it. What it says at first is given back, what it says later goes to the grant.
    async fn lead(&self, clock: &dyn Clock) -> Result<(Lead, Lines<BufReader<UnixStream>>), DaemonError> {
        let mut lines = self.ask(&Ask::Lead).await?;
        let Told::Lead { lead } = self.next(&mut lines).await? else {
            return Err(self.silent("it answered something else"));
        };
        if clock.boot().abs_diff(Duration::from_nanos(lead.now_ns)) > CLOCKS_APART_MAX {
            return Err(DaemonError::OtherClock);
        }
        Ok((lead, lines))
    }
}

/// What a command needs of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// To be live, with leave to write.
    Live,
    /// To know who is.
    Role,
    /// To know who is, if somebody can tell; it changes nothing.
    Nothing,
}

/// The configuration as seen from the site `name`, in the role that the configuration or the daemon says.
///
/// # Errors
/// When the daemon is needed and does not answer, or says that this site is not live and it has to be.
pub async fn here(config: Config, name: &str, needs: Needs, clock: Arc<dyn Clock>) -> Result<Here, Error> {
    let Some(witness) = &config.witness else { return Ok(Here::new(config, name)?) };
    let timing = timing(witness)?;
    let here = Here::led(config, name, None)?;
    let daemon = Reached::new(&here.site.state, name);
    let (lead, lines) = match (daemon.lead(&*clock).await, needs) {
        (Ok(led), _) => led,
        (Err(error), Needs::Nothing) => {
            tracing::debug!("{error}");
            return Ok(here);
        }
        (Err(error), _) => return Err(error.into()),
    };
    let here = Here { live: lead.live.clone(), ..here }.in_term(lead.term);
    let is_live = here.is_live() && lead.until_ns.is_some();
    if needs == Needs::Live && !is_live {
        return Err(DaemonError::NotLive { site: name.to_owned(), state: lead.state, term: lead.term }.into());
    }
    if !here.is_live() {
        // The spare's own work in the vault and in its own buckets needs no lease.
        return Ok(here);
    }
    let (grant, permit) = Permit::limited(clock, request_max(timing));
    let term = lead.term;
    apply(&grant, &lead, term);
    tokio::spawn(follow(daemon, lines, grant, term));
    Ok(here.under(permit))
}

/// A later term is not the one that this command writes under.
fn apply(grant: &Grant, lead: &Lead, term: u64) {
    match lead.until_ns.filter(|_| lead.term == term) {
        Some(until) => grant.until(Duration::from_nanos(until)),
        None => grant.withdraw(),
    }
}

/// Passes on what the daemon says, as long as somebody may write by it; when it says no more, the grant is dropped.
async fn follow(daemon: Reached, mut lines: Lines<BufReader<UnixStream>>, grant: Grant, term: u64) {
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = grant.unused() => return,
        };
        match line {
            Ok(Some(line)) => match serde_json::from_str(&line) {
                Ok(Told::Lead { lead }) => apply(&grant, &lead, term),
                told => {
                    tracing::error!("{}: {told:?}", daemon.silent("it said something else"));
                    return;
                }
            },
            end => {
                tracing::warn!("{}: nothing more is written by this command ({end:?})", daemon.silent("it hung up"));
                return;
            }
        }
    }
}
