//! What drives the protocol: real time, the witness, the disk and people on one side, [`lease::step`](super::lease::step) on the
//! other, the gate and the permit behind it.
//!
//! One event after the other. Each turn asks the function for the next state and carries out what it says, in its order:
//!
//! 1. What the new state closes is closed, before anything else: the sign and the permit never say more than both states.
//! 2. What has to be on the disk is written there. If it cannot be, this ends, and with it the process: started anew, it is closed.
//! 3. The new state is shown, requests are sent, work is begun.
//!
//! One request to the witness is in the air at a time, and has T/12. Nothing is awaited in a turn but the disk. A loop that hangs
//! all the same closes the gate by not renewing what is on the sign (see [`gate`](super::gate)).
//!
//! The time, the witness, the disk, random numbers and what is served here are given: so that two of these, with all the code that
//! runs in earnest, can be put into one simulated world (`simulation`).
//!
//! Two actions of the protocol lead nowhere yet: the other site's gate is not asked for a promise while the witness is silent,
//! because nobody could tell who answers; and there are no drills.

pub mod alarm;
pub mod application;
mod asking;
pub mod memory;
pub mod order;
mod patience;
#[cfg(test)]
mod simulation;
pub mod status;
mod work;

use std::future::pending;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use alarm::{Alarm, SystemAlarm};
pub use application::{Application, GateOnly};
pub use memory::{Kept, Maintenance, Memory, MemoryError, StateFile};
pub use order::{By, OrderError, Ordered, Orders};
pub use status::{Status, StatusAt};

use alarm::TwoClocks;
use asking::{Asking, Reply};
use order::Order;
use patience::Patience;
use work::{Ended, Task, Work};

use super::gate::{Shown, SignWriter};
use super::lease::{
    Action, Answer, BootInstant, Command, Durable, Event, Lease, Name, Nonce, Proposal, Refusal, RequestId, Timing,
    What, WitnessId, step,
};
use super::witness::record::Author;
use super::witness::{Record, Witness};
use crate::clock::Clock;
use crate::error::{Class, Explain};
use crate::permit::Grant;

/// What ends a driver.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It could not remember its next state.
    #[error("this site cannot remember what it is")]
    Memory(#[from] MemoryError),
    /// No random numbers.
    #[error("the machine gives no random numbers: {0}")]
    Random(String),
}

impl Explain for DriverError {
    fn class(&self) -> Class {
        match self {
            DriverError::Memory(error) => error.class(),
            DriverError::Random(_) => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            DriverError::Memory(error) => error.next_step(),
            DriverError::Random(_) => {
                Some("See why getrandom(2) fails; without it no write can be told from another.".to_owned())
            }
        }
    }
}

/// Who this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The system.
    pub system: String,
    /// This site.
    pub us: String,
    /// The other one.
    pub them: String,
}

/// What a driver is given.
pub struct Parts<W> {
    /// Who this is.
    pub names: Names,
    /// The spans.
    pub timing: Timing,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// What wakes it.
    pub alarm: Arc<dyn Alarm>,
    /// A random number, never the same.
    pub random: Box<dyn FnMut() -> Result<u128, DriverError> + Send>,
    /// The third place.
    pub witness: Arc<W>,
    /// The disk.
    pub memory: Box<dyn Memory>,
    /// What is served here.
    pub application: Arc<dyn Application>,
    /// The sign on the gate.
    pub sign: SignWriter,
    /// Leave to write to what both sites share.
    pub grant: Grant,
}

/// The loop of one site.
pub struct Driver<W> {
    parts: Parts<W>,
    lease: Lease,
    maintenance: Option<Maintenance>,
    clocks: TwoClocks,
    /// When the last event was. Events never go back.
    at: BootInstant,
    tick_at: BootInstant,
    patience: Patience,
    asking: Option<Asking>,
    work: Work,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<Status>,
    /// On whose word the record is written.
    by: Option<By>,
    /// For how much longer this site believes itself than it says, to see that somebody notices.
    #[cfg(test)]
    hidden: std::time::Duration,
}

/// Something to tell the function.
enum Next {
    Tick,
    Replied(RequestId, Box<Reply>),
    Ended(Ended),
    Ordered(Order),
}

impl<W: Witness + 'static> Driver<W> {
    /// A driver, where to give it orders, and what it says. It begins with what its memory has, closed.
    ///
    /// # Errors
    /// When the memory cannot be read.
    pub fn new(parts: Parts<W>) -> Result<(Self, Orders, watch::Receiver<Status>), DriverError> {
        let at = BootInstant(parts.clock.boot());
        let (durable, maintenance) = match parts.memory.load()? {
            Some(kept) => (Some(kept.durable), kept.maintenance),
            None => (None, None),
        };
        let lease = Lease::start(parts.timing, durable, at);
        let (orders, received) = order::orders();
        let (status, told) = watch::channel(Status::new(lease, parts.timing, maintenance.clone()));
        let driver = Driver {
            clocks: TwoClocks::new(parts.clock.now(), parts.clock.boot()),
            work: Work::new(Arc::clone(&parts.application), Arc::clone(&parts.alarm)),
            lease,
            maintenance,
            at,
            tick_at: at,
            patience: Patience::new(at),
            asking: None,
            orders: received,
            status,
            by: None,
            parts,
            #[cfg(test)]
            hidden: std::time::Duration::ZERO,
        };
        Ok((driver, orders, told))
    }

    /// Drives, until it cannot remember what it did.
    ///
    /// # Errors
    /// Always: why it ends. The gate is closed then, and the permit withdrawn.
    pub async fn run(mut self) -> DriverError {
        self.show();
        loop {
            let next = self.next().await;
            if let Err(error) = self.hear(next) {
                return error;
            }
        }
    }

    fn now(&mut self) -> BootInstant {
        self.at = self.at.max(BootInstant(self.parts.clock.boot()));
        self.at
    }

    async fn next(&mut self) -> Next {
        let tick = self.parts.alarm.at(self.tick_at);
        let asking = async {
            match &mut self.asking {
                Some(asking) => (asking.id, (&mut asking.reply).await),
                None => pending().await,
            }
        };
        let order = async {
            match self.orders.recv().await {
                Some(order) => order,
                // Nobody is left who could give one; the site goes on.
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = tick => Next::Tick,
            (id, reply) = asking => Next::Replied(id, Box::new(reply)),
            ended = self.work.ended() => Next::Ended(ended),
            order = order => Next::Ordered(order),
        }
    }

    fn hear(&mut self, next: Next) -> Result<(), DriverError> {
        match next {
            Next::Tick => self.tick(),
            Next::Replied(id, reply) => {
                self.asking = None;
                self.replied(id, *reply)
            }
            Next::Ended(ended) => self.ended(ended),
            Next::Ordered(order) => self.ordered(order),
        }
    }

    fn tick(&mut self) -> Result<(), DriverError> {
        // The function asks for one at least every request's time; a quarter of it keeps what it decides at a tick from being late.
        self.tick_at = self.now() + self.parts.timing.request_timeout() / 4;
        let (wall, boot) = (self.parts.clock.now(), self.parts.clock.boot());
        if self.clocks.moved(wall, boot) {
            tracing::warn!("the wall clock moved against the time since boot; nothing measured until now counts");
            self.tell(What::ClockJumped)?;
        }
        self.tell(What::Tick).map(|_| ())
    }

    fn replied(&mut self, id: RequestId, reply: Reply) -> Result<(), DriverError> {
        let Names { system, us, them } = &self.parts.names;
        let heard = reply.heard(system, us, them);
        let at = self.now();
        let was_silent = self.status.borrow().witness_error.is_some();
        match &heard.trouble {
            Some(trouble) if !was_silent => tracing::warn!("the witness cannot be used: {trouble}"),
            None if was_silent => tracing::info!("the witness answers again"),
            _ => {}
        }
        if self.by.is_none() {
            let of = |record: &Record| By { operator: record.operator.clone(), reason: record.reason.clone() };
            self.by = heard.record.as_ref().map(of);
        }
        self.status.send_modify(|status| {
            if heard.trouble.is_none() {
                status.answered_at = Some(at);
            }
            status.record = heard.record.or(status.record.take());
            status.witness_error = heard.trouble;
        });
        self.tell(What::Answered(id, heard.answer))?;
        if matches!(heard.answer, Answer::Record(_)) {
            self.end_of_patience()?;
        }
        // Whoever runs this with a witness takes part. It is no more than the word for it: STANDBY needs a person, too.
        if self.lease.name() == Name::Uninit && self.lease.watched(at).is_some() {
            self.tell(What::Command(Command::Join))?;
        }
        Ok(())
    }

    /// Gives a takeover up that waits beside a live site which is well.
    fn end_of_patience(&mut self) -> Result<(), DriverError> {
        let at = self.at;
        let Some(renewed) = self.patience.read(&self.lease, self.parts.timing, at) else { return Ok(()) };
        self.tell(What::Command(Command::Cancel))?;
        let Names { us, them, .. } = &self.parts.names;
        let why =
            format!("{them} is live: it renewed its lease {} s after this takeover began to wait", renewed.as_secs());
        tracing::warn!("given up: {why}");
        let next = format!(
            "Hand over from there: `warmspare switchover --to {us}` at {them}. If {them} cannot be reached and is to be live no more: cut it \
             off from the witness, or switch it off, and run `warmspare failover` again."
        );
        self.status.send_modify(|status| status.note_refusal(Some((why, Some(next)))));
        Ok(())
    }

    fn ended(&mut self, ended: Ended) -> Result<(), DriverError> {
        let failed = match &ended {
            Ended::Failed(task, error) => {
                let what = format!("{} failed and is tried again: {error}", task.name());
                tracing::error!("{what}");
                Some((what, self.parts.clock.now(), error.next_step()))
            }
            Ended::Fenced | Ended::Done(_) => None,
        };
        self.status.send_modify(|status| status.note_work(failed));
        match ended {
            Ended::Fenced => Ok(()),
            Ended::Done(done) => self.tell(What::Done(done)).map(|_| ()),
            Ended::Failed(task, _) => {
                let again = self.now() + self.parts.timing.renew_every();
                self.work.begin(task, again);
                Ok(())
            }
        }
    }

    fn ordered(&mut self, order: Order) -> Result<(), DriverError> {
        let Order { what, by, answer } = order;
        tracing::info!(operator = by.operator, reason = by.reason, "ordered: {what:?}");
        let done = match what {
            Ordered::Command(command) => {
                let changes_record = matches!(command, Command::Acquire { .. } | Command::Release { .. });
                let before = self.by.take_if(|_| changes_record);
                if changes_record {
                    self.by = Some(by);
                }
                let refused = self.tell(What::Command(command))?;
                if refused.is_some() && changes_record {
                    self.by = before;
                }
                refused.map_or(Ok(()), |refusal| Err(refusal.into()))
            }
            Ordered::Done(done) => self.tell(What::Done(done))?.map_or(Ok(()), |refusal| Err(refusal.into())),
            Ordered::MaintenanceOn { why } => {
                let since = self.parts.clock.now();
                self.maintain(Some(Maintenance { since, operator: by.operator, why }))
            }
            Ordered::MaintenanceOff => self.maintain(None),
        };
        if answer.send(done).is_err() {
            tracing::debug!("whoever gave that order did not wait for its answer");
        }
        Ok(())
    }

    /// The protocol's state is the same before and after: a disk that is full is a reason to refuse this, and none to close.
    fn maintain(&mut self, maintenance: Option<Maintenance>) -> Result<(), OrderError> {
        self.now();
        let before = std::mem::replace(&mut self.maintenance, maintenance);
        if let Err(error) = self.save(self.lease.durable()) {
            self.maintenance = before;
            let why = crate::error::chain(&error);
            tracing::error!("maintenance stays as it is: {why}");
            return Err(OrderError::NotKept { why });
        }
        self.status.send_modify(|status| status.maintenance = self.maintenance.clone());
        self.show();
        Ok(())
    }

    /// One turn. What was refused by it, if something was.
    fn tell(&mut self, what: What) -> Result<Option<Refusal>, DriverError> {
        let before = self.lease;
        let event = Event { at: self.now(), fresh: Nonce((self.parts.random)()?), what };
        let (lease, actions) = step(before, event);
        self.lease = lease;
        self.close_what_closes(&before);
        let mut refused = None;
        for action in actions {
            if let Action::Refuse(refusal) = action {
                refused = Some(refusal);
            }
            self.act(action)?;
        }
        self.work.keep_wanted(lease.name());
        self.say(&before, refused);
        self.show();
        Ok(refused)
    }

    fn act(&mut self, action: Action) -> Result<(), DriverError> {
        let now = self.at;
        let until = now + self.parts.timing.request_timeout();
        let (witness, alarm) = (&self.parts.witness, &*self.parts.alarm);
        match action {
            Action::Save(durable) => self.save(durable)?,
            Action::Read(id) => self.asking = Some(Asking::read(id, witness, alarm, until)),
            Action::Write(id, expected, proposal) => {
                let written = (expected, self.record(&proposal));
                self.asking = Some(Asking::write(id, witness, written, alarm, until));
            }
            Action::Fence(why) => self.work.begin(Task::Fence(why), now),
            Action::Unfence => self.work.begin(Task::Unfence, now),
            Action::StartApplication => self.work.begin(Task::Start(self.lease.highest()), now),
            Action::Drain => {
                let quiet = now + self.parts.timing.drain();
                self.work.begin(Task::Drain(self.lease.highest()), quiet);
            }
            Action::ProveFence => self.work.begin(Task::ProveFence, now),
            Action::AskPeer(_) | Action::Promise(_) | Action::EndDrill => tracing::debug!(?action, "not carried out"),
            Action::Refuse(_) => {}
        }
        Ok(())
    }

    fn save(&mut self, durable: Durable) -> Result<(), MemoryError> {
        let kept = Kept { durable, maintenance: self.maintenance.clone() };
        self.parts.memory.save(&kept)
    }

    /// The record as it is written, with what the protocol does not know.
    fn record(&self, proposal: &Proposal) -> Record {
        #[cfg(test)]
        let proposal = &Proposal { ttl: proposal.ttl.saturating_sub(self.hidden), ..*proposal };
        let Names { system, us, them } = &self.parts.names;
        let by = self.by.as_ref();
        let author = Author {
            system,
            us,
            them,
            witness: self.lease.durable().witness.unwrap_or(WitnessId(0)),
            at: self.parts.clock.now(),
            operator: by.map_or("", |by| &by.operator),
            reason: by.map_or("", |by| &by.reason),
        };
        Record::new(proposal, &author)
    }

    /// Shows no more than both states allow: closing does not wait for the disk.
    fn close_what_closes(&mut self, before: &Lease) {
        let earlier = |a: Option<BootInstant>, b: Option<BootInstant>| a.zip(b).map(|(a, b)| a.min(b));
        let open_until = earlier(before.open_until(), self.lease.open_until());
        let write_until = earlier(before.write_until(), self.lease.write_until());
        self.show_until(open_until, write_until);
    }

    fn show(&mut self) {
        self.show_until(self.lease.open_until(), self.lease.write_until());
    }

    fn show_until(&mut self, open_until: Option<BootInstant>, write_until: Option<BootInstant>) {
        match write_until {
            Some(until) => self.parts.grant.until(until.0),
            None => self.parts.grant.withdraw(),
        }
        let (timing, answered_at) = (self.parts.timing, self.status.borrow().answered_at);
        self.parts.sign.show(Shown {
            name: self.lease.name(),
            term: self.lease.term().unwrap_or(self.lease.highest()),
            open_until,
            witness_until: answered_at.map(|at| at + timing.ttl() / 2),
            turning_until: Some(self.at + timing.request_timeout()),
            maintenance: self.maintenance.is_some(),
        });
    }

    /// Tells people.
    fn say(&mut self, before: &Lease, refused: Option<Refusal>) {
        let (from, to, term) = (before.name(), self.lease.name(), self.lease.highest());
        if from != to {
            self.patience = Patience::new(self.at);
            match self.lease.why() {
                Some(why) => tracing::warn!(%term, "{from} → {to}: {why}"),
                None => tracing::info!(%term, "{from} → {to}"),
            }
        }
        if let Some(refusal) = refused {
            tracing::warn!("refused: {refusal}");
        }
        self.status.send_modify(|status| {
            status.lease = self.lease;
            // What had failed on the way there is not wanted any more.
            if from != to && matches!(to, Name::Live | Name::Standby) {
                status.note_work(None);
            }
            if let Some(refusal) = refused {
                status.note_refusal(Some((refusal.to_string(), refusal.next_step())));
            } else if from != to {
                status.note_refusal(None);
            }
        });
    }
}
