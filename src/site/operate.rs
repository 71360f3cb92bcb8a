//! What an operator does with two sites, from beginning to end: take over, hand over, and the single steps out of the states that
//! need a person.
//!
//! Each is a walk along the states of the daemon, which remembers them: run again after it was interrupted, a walk goes on from the
//! state that it finds. It holds the operation lock while the lease is taken, so that no restore is under way at a site that
//! becomes live.

mod error;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;

pub use error::OperateError;

use super::daemon::words::Wish;
use super::daemon::{DaemonError, Needs, Reached, here};
use super::driver::{By, StatusAt};
use super::journal::{Entry, Operations, Step};
use super::lease::Name;
use super::witness::Mode;
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::durable::FileLock;
use crate::error::{Error, chain};
use crate::observe::Progress;
use crate::restore::{self, Promotion, RestoreReport, RestoreRequest};
use crate::vault::v1::Verdict;

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

/// How a takeover gets its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Nothing is restored: nobody was live under this witness yet.
    pub first: bool,
    /// A restore may replace what is newer or foreign.
    pub replace: bool,
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
        OperateError::GivenUp { operation, site: self.site.to_owned(), state: status.state, why }.into()
    }

    /// Refuses what the operator did not expect.
    fn check_term(&self, is: u64) -> Result<(), OperateError> {
        match self.if_term {
            Some(expected) if expected != is => Err(OperateError::OtherTerm { expected, is }),
            _ => Ok(()),
        }
    }

    /// Whether a takeover would begin, without beginning it; the point it would restore, if the releaser named one.
    ///
    /// # Errors
    /// As [`Operator::take_over`], as far as can be told.
    pub async fn preview_takeover(&self, takeover: &Takeover) -> Result<StatusAt, Error> {
        let status = self.status().await?;
        self.may_take_over(&status, takeover)?;
        Ok(status)
    }

    fn may_take_over(&self, status: &StatusAt, takeover: &Takeover) -> Result<(), Error> {
        let Some(record) = &status.record else {
            let has_answered = status.witness_error.is_none() && status.witness_answered_ms.is_some();
            let none = || OperateError::NoRecord { site: self.site.to_owned() }.into();
            return Err(if has_answered { none() } else { self.given_up(status, "failover") });
        };
        self.check_term(record.term)?;
        let is_spare = matches!(
            status.state,
            Name::Standby
                | Name::Restoring
                | Name::Ready
                | Name::Waiting
                | Name::Acquiring
                | Name::Starting
                | Name::Released
        );
        if !is_spare {
            return Err(self.not_from(status.state, "failover"));
        }
        // Only the setting up of a witness writes a record with the number 0.
        let is_new = record.mode == Mode::Released && record.seq == 0;
        if takeover.first && !is_new && matches!(status.state, Name::Standby | Name::Restoring) {
            let (site, operator) = (self.site.to_owned(), record.operator.clone());
            return Err(OperateError::NotFirst { site, term: record.term, operator }.into());
        }
        Ok(())
    }

    /// Restores, takes the lease, and waits until this site is live.
    ///
    /// # Errors
    /// When it is refused at any step; run again, it goes on from the state it finds.
    pub async fn take_over(&self, takeover: &Takeover, progress: &Progress) -> Result<Outcome, Error> {
        let status = self.watched(&self.daemon()?, self.preview_takeover(takeover).await?).await?;
        // A takeover does not need the journal.
        match self.last_step() {
            Ok(last) => last.filter(|last| !last.is_end()).iter().for_each(|begun| (self.tell)(&unfinished(begun))),
            Err(error) => (self.tell)(&format!("who did what here last cannot be told: {error}")),
        }
        let work = self.take_over_from(&status, takeover, progress).boxed_local();
        self.noted("failover", &status, work).await
    }

    async fn take_over_from(
        &self,
        status: &StatusAt,
        takeover: &Takeover,
        progress: &Progress,
    ) -> Result<Outcome, Error> {
        let daemon = self.daemon()?;
        // Decided for this term: if another site is faster, the acquire is refused.
        let term = status.record.as_ref().map_or(status.highest_term.0, |record| record.term);
        let mut restored = None;
        let mut state = status.state;
        if matches!(state, Name::Standby | Name::Restoring) {
            restored = self.bring_data(&daemon, status, takeover, progress).await?;
            state = Name::Ready;
            let point = restored.as_ref().map(|report| report.point.clone());
            self.note("failover", Step::Restored, &daemon.status().await?, (point, None));
        }
        let role = here(self.config.clone(), self.site, Needs::Role, Arc::clone(&self.clock)).await?;
        let lock = role.lock("warmspare failover")?;
        if matches!(state, Name::Ready | Name::Released)
            && let Err(error) = daemon.order(Wish::Acquire { if_term: Some(term) }, &self.by).await
        {
            // What was restored may be of an earlier term: the next run begins with the restore.
            if state == Name::Ready && matches!(error, DaemonError::Refused { .. }) {
                daemon.order(Wish::Cancel, &self.by).await?;
            }
            return Err(error.into());
        }
        self.note("failover", Step::Ordered, &daemon.status().await?, (None, None));
        let status = self.until_live(&daemon, lock).await?;
        self.tell_lacks(&status);
        let point = restored.as_ref().map(|report| report.point.clone());
        Ok(Outcome { restored, ..self.outcome(&status, point) })
    }

    /// The data of the last term, restored and proven.
    async fn bring_data(
        &self,
        daemon: &Reached,
        status: &StatusAt,
        takeover: &Takeover,
        progress: &Progress,
    ) -> Result<Option<RestoreReport>, Error> {
        if status.state == Name::Standby {
            daemon.order(Wish::Restore, &self.by).await?;
        }
        if takeover.first {
            (self.tell)("nothing is restored: nobody was live under this witness yet");
            daemon.order(Wish::Restored { point: None }, &self.by).await?;
            return Ok(None);
        }
        let role = here(self.config.clone(), self.site, Needs::Role, Arc::clone(&self.clock)).await?;
        let point = status.record.as_ref().and_then(|record| record.recovery_point.clone());
        (self.tell)(&match &point {
            Some(point) => format!("restoring {point}, which has everything the last live site had"),
            None => "restoring the newest point".to_owned(),
        });
        self.until_free(&role).await?;
        let request = RestoreRequest { point, replace: takeover.replace, ..RestoreRequest::default() };
        let done = restore::restore(&role, &request, &*self.clock, progress).boxed_local().await;
        let failed = match done {
            Ok(report) if report.verdict == Verdict::Equal => {
                daemon.order(Wish::Restored { point: Some(report.point.clone()) }, &self.by).await?;
                return Ok(Some(report));
            }
            Ok(report) => OperateError::Different { point: report.point, site: self.site.to_owned() }.into(),
            Err(error) => error,
        };
        daemon.order(Wish::RestoreFailed, &self.by).await?;
        Err(failed)
    }

    /// A rehearsal that is under way is ended by the daemon when this site is to become live: waits until whoever holds the
    /// operation lock has let go, for a while.
    async fn until_free(&self, role: &Here) -> Result<(), Error> {
        let (path, begun) = (role.site.state.join("operation.lock"), self.clock.boot());
        let mut told = None;
        loop {
            let holder = match FileLock::holder(&path) {
                Ok(holder) => holder,
                Err(source) => return Err(OperateError::Lock { path, source }.into()),
            };
            let Some(holder) = holder else { return Ok(()) };
            if self.clock.boot().saturating_sub(begun) > JOB_END_MAX {
                // Whoever comes next says by whom it is held.
                return Ok(());
            }
            if told.as_ref() != Some(&holder) {
                (self.tell)(&format!("waiting for {holder} to end"));
                told = Some(holder);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Waits with the operation `lock`, until the daemon needs it itself.
    async fn until_live(&self, daemon: &Reached, lock: FileLock) -> Result<StatusAt, Error> {
        let (mut held, mut told, mut failing_since) = (Some(lock), None, None);
        loop {
            let status = self.meanwhile(daemon).await?;
            match status.state {
                Name::Live => return Ok(status),
                Name::Waiting | Name::Acquiring => {}
                Name::Starting => drop(held.take()),
                _ => return Err(self.given_up(&status, "failover")),
            }
            let now = self.clock.boot();
            let failing = status.work_error.as_ref().map(|_| *failing_since.get_or_insert(now));
            if failing.is_some_and(|since| now.saturating_sub(since) > START_MAX) {
                return Err(self.given_up(&status, "failover"));
            }
            let news = (status.state, status.work_error.clone());
            if told.as_ref() != Some(&news) {
                (self.tell)(&status.work_error.clone().unwrap_or_else(|| waiting(&status)));
                told = Some(news);
            }
            tokio::time::sleep(EVERY).await;
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

fn unfinished(begun: &Entry) -> String {
    let Entry { operation, operator, at, step, reason, .. } = begun;
    let at = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let far = match step {
        Step::Restored => ", which has restored",
        Step::Ordered => ", which the daemon had taken up",
        _ => "",
    };
    format!(
        "nobody saw the end of the {operation} that {operator} began ({reason}){far} at {at}; this one goes on from what is found"
    )
}

fn waiting(status: &StatusAt) -> String {
    let record = status.record.as_ref();
    let holder = record.and_then(|record| record.holder.clone()).unwrap_or_default();
    match (status.state, status.wait_ms, status.still_for_ms) {
        (Name::Waiting, Some(wait), Some(still)) => format!(
            "waiting until {holder} cannot believe to be live any more: {} s from now, if it does not renew its lease; this goes on \
             without this command, until `warmspare lease cancel`",
            wait.saturating_sub(still).div_ceil(1000)
        ),
        (Name::Starting, ..) => "the lease is taken; opening".to_owned(),
        _ => "asking the witness for the next term".to_owned(),
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
