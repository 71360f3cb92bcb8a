//! Work at this site that the protocol asked for: one piece at a time, a fence before everything else.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};

use super::alarm::Alarm;
use super::application::Application;
use crate::error::Error;
use crate::site::lease::{BootInstant, Done, FenceProof, Name, Term, Why};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Fence(Why),
    Unfence,
    Start(Term),
    Drain(Term),
    ProveFence,
}

/// How it ended.
pub(super) enum Ended {
    /// Nothing follows from it for the protocol.
    Fenced,
    Done(Done),
    /// It is begun again after a while.
    Failed(Task, Error),
}

/// What is under way.
pub(super) struct Work {
    application: Arc<dyn Application>,
    alarm: Arc<dyn Alarm>,
    fencing: Option<BoxFuture<'static, Ended>>,
    other: Option<(Task, BoxFuture<'static, Ended>)>,
}

impl Work {
    pub(super) fn new(application: Arc<dyn Application>, alarm: Arc<dyn Alarm>) -> Self {
        Work { application, alarm, fencing: None, other: None }
    }

    /// Begins `task` at `begin`. Anything but a fence waits for the fence before it, and replaces what is under way.
    pub(super) fn begin(&mut self, task: Task, begin: BootInstant) {
        let (application, wait) = (Arc::clone(&self.application), self.alarm.at(begin));
        let work = async move {
            wait.await;
            carry_out(task, &*application).await
        };
        match task {
            Task::Fence(_) => self.fencing = Some(work.boxed()),
            _ => self.other = Some((task, work.boxed())),
        }
    }

    /// Gives up what is not wanted any more in the state `name`. A fence always is.
    pub(super) fn keep_wanted(&mut self, name: Name) {
        self.other.take_if(|(task, _)| !task.is_wanted(name));
    }

    /// The end of what is under way; never, when nothing is.
    pub(super) async fn ended(&mut self) -> Ended {
        if let Some(fencing) = &mut self.fencing {
            let ended = fencing.await;
            self.fencing = None;
            return ended;
        }
        match &mut self.other {
            Some((_, other)) => {
                let ended = other.await;
                self.other = None;
                ended
            }
            None => pending().await,
        }
    }
}

async fn carry_out(task: Task, application: &dyn Application) -> Ended {
    let done = |done: Result<(), Error>, good| match done {
        Ok(()) => good,
        Err(error) => Ended::Failed(task, error),
    };
    match task {
        Task::Fence(why) => done(application.fence(why).await, Ended::Fenced),
        Task::Unfence => done(application.unfence().await, Ended::Done(Done::Unfenced)),
        Task::Start(term) => done(application.start(term).await, Ended::Done(Done::Started)),
        Task::Drain(term) => match application.drain(term).await {
            Ok(point) => Ended::Done(Done::Drained(point)),
            Err(error) => Ended::Failed(task, error),
        },
        Task::ProveFence => Ended::Done(proven(application.prove_fence().await)),
    }
}

fn proven(proof: Option<FenceProof>) -> Done {
    proof.map_or(Done::FenceUnproven, Done::FenceProven)
}

impl Task {
    fn is_wanted(self, name: Name) -> bool {
        match self {
            Task::Fence(_) => true,
            Task::Unfence => name == Name::Closed,
            Task::Start(_) => name == Name::Starting,
            Task::Drain(_) => name == Name::Draining,
            Task::ProveFence => name == Name::Waiting,
        }
    }

    /// What to call it in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Task::Fence(_) => "fencing this site",
            Task::Unfence => "undoing the fence",
            Task::Start(_) => "starting what is served",
            Task::Drain(_) => "closing down and taking the final point",
            Task::ProveFence => "proving the other site fenced",
        }
    }
}
