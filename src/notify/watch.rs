//! A look at everything, at intervals: judge, raise, tell, remember, and show the metrics.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;

use super::memory::{Memory, SinkMemory};
use super::message::{Message, Notice};
use super::ping::{self, Due};
use super::redact::Secrets;
use super::{NotifyError, failing, sink};
use crate::clock::Clock;
use crate::config::{Here, SinkConfig};
use crate::error::chain;
use crate::failpoint;
use crate::jobs::Standing;
use crate::report::alarms::alarms;
use crate::report::freshness::judge;
use crate::report::{Grade, Line, Others, OwnJobs, Records, Report, Subject, gather, metrics};
use crate::site::gate::Page;

/// What watches for a site: it holds the memory of what was told.
///
/// A daemon makes one when it starts, and calls [`Watch::look`] every half minute or so, one look at a time, in a task of its own: a
/// look takes as long as the vault and the slowest sink, half a minute each at the worst, and the vault two minutes.
/// Dropped in the middle of a look, or killed, nothing is lost: what no sink has confirmed is told at the next.
///
/// ```text
/// let mut watch = Watch::new(&here, clock)?;
/// let gate = Gate::put_up_showing(&listen, sign, clock, watch.page())?;
/// loop {
///     let others: Vec<Line> = witness_error.iter().map(|error| alarms::witness_unusable(error)).collect();
///     let report = watch.look(&here, Some(Ok(standings)), others).await;
///     …wait for half a minute, or until a job has ended…
/// }
/// ```
pub struct Watch {
    state: PathBuf,
    clock: Arc<dyn Clock>,
    memory: Memory,
    /// Why the memory could not be written, since it last could.
    unwritten: Option<NotifyError>,
    page: Page,
    records: Records,
}

/// What one sink was told, and what became of it.
struct Told<'a> {
    sink: &'a SinkConfig,
    notices: Vec<Notice>,
    then: Option<SinkMemory>,
    done: Result<(), NotifyError>,
}

impl Watch {
    /// Begins with what the state folder remembers.
    ///
    /// # Errors
    /// When it cannot be read, or is a later release's.
    pub fn new(here: &Here, clock: Arc<dyn Clock>) -> Result<Self, NotifyError> {
        let state = here.site.state.clone();
        Ok(Watch {
            memory: Memory::load(&state)?,
            state,
            clock,
            unwritten: None,
            page: Page::default(),
            records: Records::default(),
        })
    }

    /// Where the metrics of each look are shown: what the gate is to be put up with.
    pub fn page(&self) -> Page {
        self.page.clone()
    }

    /// Looks once, and tells what there is to tell. `here` is the configuration in the role of now; `jobs` is how the jobs of this site stand;
    /// `others` is what others have to say, such as that a witness cannot be used, and what they cannot see. The report that was judged
    /// comes back.
    pub async fn look(&mut self, here: &Here, jobs: OwnJobs, others: impl Into<Others>) -> Report {
        let mut others = others.into();
        let now = self.clock.now();
        others.lines.extend(failing(&self.memory));
        others.lines.extend(self.unwritten.as_ref().map(unwritten));
        let standings = match &jobs {
            Some(Ok(standings)) => Some(standings.clone()),
            _ => None,
        };
        others.lines.extend(ping::astray(&here.site.name, &here.config.notify, standings.as_deref()));
        let report = judge(&gather(here, now, jobs, others, &mut self.records).await);
        self.memory.see(&alarms(&report), &report.unseen, &here.config.notify, now);
        self.page.show(metrics::text(&report));
        self.save();
        self.tell(here, standings.as_deref(), now).await;
        report
    }

    /// What was told, and whom.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Tells every sink beside the others; what one has taken is written down before the next one's answer is.
    async fn tell(&mut self, here: &Here, jobs: Option<&[Standing]>, now: Timestamp) {
        let (system, site) = (here.config.system.as_str(), here.site.name.as_str());
        let secrets = Secrets::of(here).await;
        let alarms: Vec<String> = self.memory.standing(now).into_iter().map(|what| secrets.scrubbed(what)).collect();
        let sending = FuturesUnordered::new();
        for sink in &here.config.notify {
            let notices = self.memory.due(sink, now);
            if !notices.is_empty() {
                let message = secrets.out_of(Message::new(system, site, now, notices.clone()));
                sending.push(futures_util::FutureExt::boxed(async move {
                    let done = sink::send(sink, &message).await;
                    sent(&done);
                    vec![Told { sink, notices, then: None, done }]
                }));
            }
            let remembered = self.memory.of(&sink.name);
            let due = if self.memory.waits(&sink.name, now) {
                Vec::new()
            } else {
                ping::due(sink, jobs, &alarms, &remembered, now)
            };
            if !due.is_empty() {
                let due = due.into_iter().map(|due| Due { text: secrets.scrubbed(&due.text), ..due }).collect();
                sending.push(futures_util::FutureExt::boxed(pinged(sink, due)));
            }
        }
        let mut sending = sending;
        while let Some(told) = sending.next().await {
            for told in told {
                self.note(told, &secrets);
            }
            self.save();
        }
    }

    fn note(&mut self, told: Told, secrets: &Secrets) {
        let Told { sink, notices, then, done } = told;
        let now = self.clock.now();
        match (done, then) {
            (Ok(()), None) => self.memory.taken(&sink.name, &notices, now),
            (Ok(()), Some(then)) => self.memory.pinged(&sink.name, then),
            (Err(error), _) => {
                let error = secrets.scrubbed(&chain(&error));
                tracing::error!("{error}");
                self.memory.refused(&sink.name, &error, now);
            }
        }
    }

    /// What cannot be written is held in this process: nobody is told twice before it ends.
    fn save(&mut self) {
        match self.memory.save(&self.state) {
            Ok(()) => self.unwritten = None,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                self.unwritten = Some(error);
            }
        }
    }
}

/// Somebody has been told, and nothing here says so yet.
fn sent(done: &Result<(), NotifyError>) {
    if done.is_ok() {
        failpoint::hit("notify.sent");
    }
}

/// One ping after the other; after one that failed the rest waits.
async fn pinged(sink: &SinkConfig, due: Vec<Due>) -> Vec<Told<'_>> {
    let mut told = Vec::new();
    for Due { ping, text, then } in due {
        let done = sink::ping(sink, ping, text).await;
        sent(&done);
        let failed = done.is_err();
        told.push(Told { sink, notices: Vec::new(), then: Some(then), done });
        if failed {
            break;
        }
    }
    told
}

fn unwritten(error: &NotifyError) -> Line {
    let next = crate::error::Explain::next_step(error).unwrap_or_default();
    let (what, subject) = (chain(error), Subject::Looking);
    Line { key: "state.unwritable".to_owned(), grade: Grade::Attention, what, next, subject }
}
