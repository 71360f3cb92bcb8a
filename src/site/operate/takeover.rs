//! A takeover: the data is brought, the lease is taken, and this site is live; each from where it stands.

use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;

use super::error::OperateError;
use super::opening::{Chosen, Data};
use super::{EVERY, JOB_END_MAX, Operator, Outcome, START_MAX};
use crate::config::{Here, HereError};
use crate::durable::FileLock;
use crate::error::{Error, chain};
use crate::observe::Progress;
use crate::restore::{self, RestoreReport, RestoreRequest};
use crate::site::daemon::words::Wish;
use crate::site::daemon::{DaemonError, Needs, Reached, here};
use crate::site::driver::StatusAt;
use crate::site::journal::{Entry, Step};
use crate::site::lease::Name;
use crate::site::witness::Mode;
use crate::vault::v1::Verdict;

/// Steps of the journal that are looked through for who gave a takeover up.
const STEPS: usize = 16;

/// How a takeover gets its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Nothing is restored: nobody was live under this witness yet.
    pub first: bool,
    /// A restore may replace what is newer or foreign.
    pub replace: bool,
    /// This point, and not the newest.
    pub point: Option<String>,
    /// So many objects of its buckets may be missing, or others.
    pub accept_different: u64,
}

impl Takeover {
    /// As the journal has it: who took what is not the newest, or not equal, is asked for it later.
    fn words(&self) -> String {
        let point = self.point.as_ref().map(|point| format!(" --point {point}")).unwrap_or_default();
        let accepted = match self.accept_different {
            0 => String::new(),
            count => format!(" --accept-different {count}"),
        };
        format!("failover{point}{accepted}")
    }
}

/// What a takeover is about to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// How the site stands.
    pub status: StatusAt,
    /// With what it would become live.
    pub data: Data,
}

impl Operator<'_> {
    /// Whether a takeover would begin, and with what data, without beginning it.
    ///
    /// # Errors
    /// As [`Operator::take_over`], as far as can be told.
    pub async fn preview_takeover(&self, takeover: &Takeover) -> Result<Opening, Error> {
        let status = self.status().await?;
        self.may_take_over(&status, takeover)?;
        let data = self.data(&status, takeover).boxed_local().await?;
        Ok(Opening { status, data })
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
        let has_begun = status.state == Name::Ready && status.restored.is_none();
        if takeover.first && !is_new && !has_begun && is_before_the_order(status.state) {
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
        let Opening { status, data } = self.preview_takeover(takeover).await?;
        let status = self.watched(&self.daemon()?, status).await?;
        // A takeover does not need the journal.
        match self.last_step() {
            Ok(last) => last.filter(|last| !last.is_end()).iter().for_each(|begun| (self.tell)(&unfinished(begun))),
            Err(error) => (self.tell)(&format!("who did what here last cannot be told: {error}")),
        }
        let work = self.take_over_from(&status, &data, takeover, progress).boxed_local();
        self.noted(&takeover.words(), &status, work).await
    }

    async fn take_over_from(
        &self,
        status: &StatusAt,
        data: &Data,
        takeover: &Takeover,
        progress: &Progress,
    ) -> Result<Outcome, Error> {
        let daemon = self.daemon()?;
        // Decided for this term: if another site is faster, the acquire is refused.
        let term = status.record.as_ref().map_or(status.highest_term.0, |record| record.term);
        let (mut restored, mut point) = (None, status.restored.clone());
        let mut state = self.give_up_what_is_old(&daemon, status, data).await?;
        if matches!(state, Name::Standby | Name::Restoring) {
            restored = self.bring_data(&daemon, state, data, takeover, progress).await?;
            state = Name::Ready;
            point = restored.as_ref().map(|report| report.point.clone());
            self.note(&takeover.words(), Step::Restored, &daemon.status().await?, (point.clone(), None));
        }
        let role = here(self.config.clone(), self.site, Needs::Role, Arc::clone(&self.clock)).await?;
        let lock = role.lock("warmspare failover")?;
        if matches!(state, Name::Ready | Name::Released)
            && let Err(error) = daemon.order(Wish::Acquire { if_term: Some(term) }, &self.by).await
        {
            // What was restored may be of an earlier term: the next run begins with the restore.
            if state == Name::Ready && matches!(error, DaemonError::Refused { .. }) {
                self.try_to(&daemon, Wish::Cancel).await;
            }
            return Err(error.into());
        }
        self.note(&takeover.words(), Step::Ordered, &daemon.status().await?, (None, None));
        let status = self.until_live(&daemon, lock).await?;
        self.tell_lacks(&status);
        for report in restored.iter().filter(|report| report.accepted > 0) {
            let (objects, file) = (objects(report.accepted), report.folder.join("report.txt"));
            (self.tell)(&format!("live without {objects} missing or another: see {}", file.display()));
        }
        Ok(Outcome { restored, ..self.outcome(&status, point) })
    }

    /// Gives an order whose refusal changes nothing in what is told afterwards; but it is told, too.
    async fn try_to(&self, daemon: &Reached, wish: Wish) {
        if let Err(error) = daemon.order(wish, &self.by).await {
            (self.tell)(&chain(&error));
        }
    }

    /// A site that is READY with other data than would be restored now begins anew. Its state afterwards.
    async fn give_up_what_is_old(&self, daemon: &Reached, status: &StatusAt, data: &Data) -> Result<Name, Error> {
        let Data::Point(Chosen { point, is_restored: false, .. }) = data else { return Ok(status.state) };
        if status.state != Name::Ready {
            return Ok(status.state);
        }
        let old = status.restored.clone().unwrap_or_else(|| "no point".to_owned());
        let why = match old == point.to_string() {
            true => "something else was restored here since, or undone".to_owned(),
            false => format!("{point} is to be live"),
        };
        (self.tell)(&format!("{} gives up what is restored here ({old}): {why}", self.site));
        daemon.order(Wish::Cancel, &self.by).await?;
        Ok(Name::Standby)
    }

    /// The data of the last term, restored and proven.
    async fn bring_data(
        &self,
        daemon: &Reached,
        state: Name,
        data: &Data,
        takeover: &Takeover,
        progress: &Progress,
    ) -> Result<Option<RestoreReport>, Error> {
        // What was to be opened as it is, is so no more: the other site has been live since this was looked at.
        if *data == Data::Here && !takeover.first {
            return Err(self.not_from(state, "failover"));
        }
        let begun = self.clock.now();
        if state == Name::Standby {
            daemon.order(Wish::Restore, &self.by).await?;
        }
        let Data::Point(Chosen { point, is_final, .. }) = data else {
            (self.tell)("nothing is restored: nobody was live under this witness yet");
            daemon.order(Wish::Restored { point: None }, &self.by).await?;
            return Ok(None);
        };
        let role = here(self.config.clone(), self.site, Needs::Role, Arc::clone(&self.clock)).await?;
        let what = if *is_final { ", which has everything the last live site had" } else { "" };
        (self.tell)(&format!("restoring {point}{what}"));
        self.until_free(&role).await?;
        let (point, accept) = (Some(point.to_string()), takeover.accept_different);
        let request = RestoreRequest { point, replace: takeover.replace, accept, ..RestoreRequest::default() };
        let failed = match restore::restore(&role, &request, &*self.clock, progress).boxed_local().await {
            Ok(report) if report.verdict == Verdict::Equal || report.accepted > 0 => {
                self.restored(daemon, &report, begun).await?;
                return Ok(Some(report));
            }
            Ok(report) => self.different(report, takeover.point.is_some()),
            // Somebody else's goes on, perhaps that of another takeover: it is not for this one to say that it failed.
            Err(error) if matches!(error.is_a(), Some(HereError::Busy { .. })) => {
                (self.tell)(&format!(
                    "{} stays RESTORING: run this again later, or `warmspare lease cancel`",
                    self.site
                ));
                return Err(error);
            }
            Err(error) => error,
        };
        self.try_to(daemon, Wish::RestoreFailed).await;
        Err(failed)
    }

    fn different(&self, report: RestoreReport, is_named: bool) -> Error {
        let of = |step: &crate::restore::StepReport| step.step.split_once('/').map(|(_, source)| source.to_owned());
        let differing = report.steps.iter().filter(|step| step.differences_total > 0);
        OperateError::Different {
            sources: differing.filter_map(of).collect(),
            count: report.steps.iter().map(|step| step.differences_total).sum(),
            point: report.point,
            is_named,
            folder: report.folder,
            site: self.site.to_owned(),
        }
        .into()
    }

    /// Tells the daemon that the restore which was begun at `begun` is done. If it does not await it any more: what happened meanwhile.
    async fn restored(&self, daemon: &Reached, report: &RestoreReport, begun: Timestamp) -> Result<(), Error> {
        let point = report.point.clone();
        let refused = match daemon.order(Wish::Restored { point: Some(point.clone()) }, &self.by).await {
            Err(DaemonError::None { site }) => return Err(DaemonError::Gone { site }.into()),
            Err(refused @ DaemonError::Refused { .. }) => refused,
            told => return Ok(told?),
        };
        let state = daemon.status().await?.state;
        if state == Name::Restoring {
            return Err(refused.into());
        }
        let why = self.what_happened_since(begun, state);
        Err(OperateError::NotAwaited { site: self.site.to_owned(), point, state, why }.into())
    }

    fn what_happened_since(&self, begun: Timestamp, state: Name) -> String {
        let Some(Ok(steps)) = self.operations().map(|operations| operations.newest(STEPS)) else {
            return "its daemon was started anew meanwhile, or somebody gave this takeover up".to_owned();
        };
        let cancel = Wish::Cancel.to_string();
        let given_up = |step: &&Entry| step.operation == cancel && step.step == Step::Done && step.at >= begun;
        match steps.iter().find(given_up) {
            Some(Entry { operator, reason, .. }) => format!("{operator} gave this takeover up meanwhile ({reason})"),
            None if state == Name::Standby => "its daemon was started anew meanwhile".to_owned(),
            None => "another takeover went on meanwhile".to_owned(),
        }
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
}

/// Whether a takeover that finds this state has yet to order it from the daemon.
fn is_before_the_order(state: Name) -> bool {
    matches!(state, Name::Standby | Name::Restoring | Name::Ready)
}

/// So many, and the verb for them.
pub(super) fn objects(count: u64) -> String {
    if count == 1 { "1 object that is".to_owned() } else { format!("{count} objects that are") }
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
             without this command, until `warmspare lease cancel`, or until {holder} is seen to be well",
            wait.saturating_sub(still).div_ceil(1000)
        ),
        (Name::Starting, ..) => "the lease is taken; opening".to_owned(),
        _ => "asking the witness for the next term".to_owned(),
    }
}
