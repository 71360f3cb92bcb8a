//! What an operator does with two sites, from beginning to end: take over, hand over, and the single steps out of the states that
//! need a person.
//!
//! Each is a walk along the states of the daemon, which remembers them: run again after it was interrupted, a walk goes on from the
//! state that it finds. It holds the operation lock while the lease is taken, so that no restore is under way at a site that
//! becomes live.

mod error;
mod opening;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use error::OperateError;
pub use opening::{Chosen, Data};
pub use takeover::{Opening, Takeover};

use super::daemon::words::Wish;
use super::daemon::{DaemonError, Reached};
use super::driver::{By, StatusAt};
use super::journal::{Entry, Operations, Step};
use super::lease::Name;
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::error::{Error, chain};
use crate::restore::{self, Promotion, RestoreReport};

/// How often the daemon is asked while something takes its time.
const EVERY: Duration = Duration::from_millis(250);
/// How long the daemon may fail to start what is served until nobody waits for it any more; it goes on trying.
const START_MAX: Duration = Duration::from_secs(300);
/// For the daemon to end a job of its schedule.
const JOB_END_MAX: Duration = Duration::from_secs(60);
/// For a daemon that was just started to have read the witness.
const FIRST_READ_MAX: Duration = Duration::from_secs(30);

/// What an operator is told meanwhile.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// One site's daemon, and who gives it orders.
pub struct Operator<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// This site.
    pub site: &'a str,
    /// Who, and why.
    pub by: By,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is said meanwhile.
    pub tell: Tell<'a>,
    /// Only from this term.
    pub if_term: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// This site.
    pub site: String,
    /// Its state.
    pub state: Name,
    /// The term.
    pub term: u64,
    /// The point restored, or the final one.
    pub point: Option<String>,
    /// What the restore said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoreReport>,
}

/// How a site stands, and with what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// What its daemon says.
    #[serde(flatten)]
    pub status: StatusAt,
    /// At a site that holds the lease: what made its restored databases live ones, if something did.
    pub promotion: Option<Promotion>,
    /// Why that cannot be told.
    pub promotion_error: Option<String>,
}

impl Operator<'_> {
    fn operations(&self) -> Option<Operations> {
        self.config.site(self.site).map(|site| Operations::new(&site.state))
    }

    /// Writes a step of an operation into the journal. Without a disk to write to, an operation goes on all the same.
    fn note(&self, operation: &str, step: Step, status: &StatusAt, rest: (Option<String>, Option<String>)) {
        let term = status.term.unwrap_or(status.highest_term).0;
        let (operation, (point, error)) = (operation.to_owned(), rest);
        let By { operator, reason } = self.by.clone();
        let at = self.clock.now();
        let entry = Entry { at, operation, step, operator, reason, state: status.state, term, point, error };
        if let Some(Err(error)) = self.operations().map(|operations| operations.note(&entry)) {
            (self.tell)(&format!("this is not in the journal: {}", chain(&error)));
        }
    }

    /// Does `work` as `operation`, with its beginning and its end in the journal.
    async fn noted(
        &self,
        operation: &str,
        status: &StatusAt,
        work: impl Future<Output = Result<Outcome, Error>>,
    ) -> Result<Outcome, Error> {
        self.note(operation, Step::Begun, status, (None, None));
        let done = work.await;
        let after = match self.daemon() {
            Ok(daemon) => daemon.status().await.unwrap_or_else(|_| status.clone()),
            Err(_) => status.clone(),
        };
        match &done {
            Ok(outcome) => self.note(operation, Step::Done, &after, (outcome.point.clone(), None)),
            Err(error) => self.note(operation, Step::Failed, &after, (None, Some(error.to_string()))),
        }
        done
    }

    /// The newest step in the journal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_step(&self) -> Result<Option<Entry>, Error> {
        let newest = self.operations().map(|operations| operations.newest(1)).transpose()?;
        Ok(newest.and_then(|newest| newest.into_iter().next()))
    }

    /// How the site stands.
    ///
    /// # Errors
    /// As [`Operator::status`].
    pub async fn standing(&self) -> Result<Standing, Error> {
        let status = self.status().await?;
        let (promotion, promotion_error) = match self.promotion(&status) {
            Ok(promotion) => (promotion, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(Standing { status, promotion, promotion_error })
    }

    /// The promotion whose databases are served. A spare's next one is yet to come.
    fn promotion(&self, status: &StatusAt) -> Result<Option<Promotion>, Error> {
        let is_served = matches!(status.state, Name::Live | Name::Closed | Name::Draining | Name::Fenced);
        match self.config.site(self.site).filter(|_| is_served) {
            Some(site) => restore::newest_promotion(&site.state),
            None => Ok(None),
        }
    }

    /// Says what a site that has just become live lacks.
    fn tell_lacks(&self, status: &StatusAt) {
        match self.promotion(status) {
            Ok(promotion) => {
                for lack in promotion.iter().flat_map(|promotion| &promotion.lacks) {
                    (self.tell)(&format!("live without it, do it by hand: {lack}"));
                }
            }
            Err(error) => (self.tell)(&format!("what the promotion lacks cannot be told: {error}")),
        }
    }

    fn daemon(&self) -> Result<Reached, Error> {
        let here = Here::led(self.config.clone(), self.site, None)?;
        Ok(Reached::new(&here.site.state, self.site))
    }

    /// How the daemon stands, once it has read the witness.
    ///
    /// # Errors
    /// When there is none, or the witness does not answer it.
    pub async fn status(&self) -> Result<StatusAt, Error> {
        let (daemon, begun) = (self.daemon()?, self.clock.boot());
        loop {
            let status = daemon.status().await?;
            let waited = self.clock.boot().saturating_sub(begun);
            let is_told = status.record.is_some() || status.witness_error.is_some();
            if is_told || status.witness_answered_ms.is_some() || waited > FIRST_READ_MAX {
                return Ok(status);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// A site that has just become stale, or has let go, reads the record anew before it can be a spare under it, or take it back.
    async fn watched(&self, daemon: &Reached, mut status: StatusAt) -> Result<StatusAt, Error> {
        let begun = self.clock.boot();
        let is_due = |status: &StatusAt| {
            let reads_anew = matches!(status.state, Name::Standby | Name::Released | Name::Stale | Name::Fenced);
            reads_anew && status.still_for_ms.is_none() && status.witness_error.is_none()
        };
        while is_due(&status) && self.clock.boot().saturating_sub(begun) <= FIRST_READ_MAX {
            tokio::time::sleep(EVERY).await;
            status = daemon.status().await?;
        }
        Ok(status)
    }

    /// How the daemon stands while something goes on in it. One that hangs up may be ending: it is asked once more.
    async fn meanwhile(&self, daemon: &Reached) -> Result<StatusAt, Error> {
        let mut answered = daemon.status().await;
        if matches!(answered, Err(DaemonError::Silent { .. })) {
            tokio::time::sleep(EVERY).await;
            answered = daemon.status().await;
        }
        match answered {
            Err(DaemonError::None { site }) => Err(DaemonError::Gone { site }.into()),
            answered => Ok(answered?),
        }
    }

    fn not_from(&self, state: Name, operation: &'static str) -> Error {
        OperateError::NotFrom { site: self.site.to_owned(), state, operation }.into()
    }

    fn given_up(&self, status: &StatusAt, operation: &'static str) -> Error {
        let reasons = [&status.refusal, &status.why, &status.work_error, &status.witness_error];
        let why = reasons.into_iter().flatten().next().map(|why| format!(": {why}")).unwrap_or_default();
        let next = status.refusal_next.clone().filter(|_| status.refusal.is_some());
        OperateError::GivenUp { operation, site: self.site.to_owned(), state: status.state, why, next }.into()
    }

    /// Refuses what the operator did not expect.
    fn check_term(&self, is: u64) -> Result<(), OperateError> {
        match self.if_term {
            Some(expected) if expected != is => Err(OperateError::OtherTerm { expected, is }),
            _ => Ok(()),
        }
    }

    /// Whether a handing over would begin, without beginning it.
    ///
    /// # Errors
    /// As [`Operator::hand_over`], as far as can be told.
    pub async fn preview_handover(&self, to: Option<&str>) -> Result<StatusAt, Error> {
        if let Some(given) = to.filter(|to| self.config.other(self.site).is_none_or(|other| other.name != *to)) {
            return Err(OperateError::NotTheOther { given: given.to_owned(), site: self.site.to_owned() }.into());
        }
        let status = self.status().await?;
        if !matches!(status.state, Name::Live | Name::Closed | Name::Starting | Name::Draining) {
            return Err(self.not_from(status.state, "a handing over"));
        }
        self.check_term(status.term.unwrap_or(status.highest_term).0)?;
        Ok(status)
    }

    /// Closes this site, takes the final point, and lets go of the lease: to the site `to`, or to whoever has restored.
    ///
    /// # Errors
    /// When it is refused. One that was interrupted goes on in the daemon, and this waits for it again.
    pub async fn hand_over(&self, to: Option<&str>) -> Result<Outcome, Error> {
        let status = self.preview_handover(to).await?;
        let operation = if to.is_some() { "switchover" } else { "release" };
        self.noted(operation, &status, self.hand_over_from(&status, operation, to)).await
    }

    async fn hand_over_from(&self, status: &StatusAt, operation: &str, to: Option<&str>) -> Result<Outcome, Error> {
        let daemon = self.daemon()?;
        if status.state != Name::Draining {
            daemon.order(Wish::Release { to_other: to.is_some() }, &self.by).await?;
        }
        self.note(operation, Step::Ordered, &daemon.status().await?, (None, None));
        (self.tell)("the gate is closed; what is under way has its time to end, then the final point is taken");
        let mut told = None;
        loop {
            let status = self.meanwhile(&daemon).await?;
            match status.state {
                // The other site may have taken it before this was asked.
                Name::Released | Name::Standby => {
                    let point = status.record.as_ref().and_then(|record| record.recovery_point.clone());
                    return Ok(self.outcome(&status, point));
                }
                Name::Draining => {}
                _ => return Err(self.given_up(&status, "the handing over")),
            }
            if let Some(error) = &status.work_error
                && told.as_ref() != Some(error)
            {
                (self.tell)(&format!("{error}; `warmspare lease cancel` gives it up"));
                told = Some(error.clone());
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// One step: cancel, fence, lift, rejoin, maintenance.
    ///
    /// # Errors
    /// When the protocol refuses it.
    pub async fn order(&self, wish: Wish) -> Result<Outcome, Error> {
        let daemon = self.daemon()?;
        let mut status = self.status().await?;
        self.check_term(status.term.unwrap_or(status.highest_term).0)?;
        if wish == Wish::Rejoin {
            status = self.watched(&daemon, status).await?;
        }
        let operation = wish.to_string();
        let work = async {
            daemon.order(wish, &self.by).await?;
            Ok(self.outcome(&daemon.status().await?, None))
        };
        self.noted(&operation, &status, work).await
    }

    fn outcome(&self, status: &StatusAt, point: Option<String>) -> Outcome {
        let term = status.term.unwrap_or(status.highest_term).0;
        Outcome { site: self.site.to_owned(), state: status.state, term, point, restored: None }
    }
}

/// Whether what a person typed is the name of this site. `typed` asks; nothing, when nobody can be asked.
///
/// # Errors
/// [`OperateError::NotConfirmed`] and [`OperateError::NobodyToConfirm`].
pub fn confirm(site: &str, yes: Option<&str>, typed: impl FnOnce() -> Option<String>) -> Result<(), OperateError> {
    let given = match yes {
        Some(yes) => yes.to_owned(),
        None => typed().ok_or_else(|| OperateError::NobodyToConfirm { site: site.to_owned() })?,
    };
    if given == site { Ok(()) } else { Err(OperateError::NotConfirmed { site: site.to_owned(), given }) }
}
