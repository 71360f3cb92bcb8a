//! All that can happen to a daemon, one thing after another.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::child::Ended;
use crate::clock::Clock;
use crate::error::Error;
use crate::site::daemon::{Asked, Lease, RunError, Seat, machine};

/// What happened.
pub(super) enum Event {
    /// It is told to end, by this signal.
    Told(&'static str),
    /// The configuration is to be read again.
    Reload,
    /// Somebody asks about jobs.
    Asked(Asked),
    /// A run has ended.
    Ended(Ended),
    /// The role may be another, or it is time.
    Look,
    /// Something has ended without which it cannot go on.
    Failed(Error),
}

/// Where events come from.
pub(super) struct Events {
    lease: Option<Lease>,
    seat: Option<Seat>,
    serving: JoinHandle<std::io::Error>,
    asked: mpsc::Receiver<Asked>,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Events {
    pub(super) fn new(
        lease: Option<Lease>,
        seat: Option<Seat>,
        serving: JoinHandle<std::io::Error>,
        asked: mpsc::Receiver<Asked>,
    ) -> Result<Self, RunError> {
        let of = |kind| signal(kind).map_err(machine("signals of this process"));
        let (terminate, interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
        Ok(Events { lease, seat, serving, asked, terminate, interrupt, hang_up: of(SignalKind::hangup())? })
    }

    /// What happens next; a look at the clock, when nothing does for `pause`.
    pub(super) async fn next(&mut self, runs: &mut JoinSet<Ended>, pause: Duration) -> Event {
        tokio::select! {
            // What ends it first, then what was asked; time itself last.
            biased;
            _ = self.terminate.recv() => Event::Told("SIGTERM"),
            _ = self.interrupt.recv() => Event::Told("SIGINT"),
            error = failed(&mut self.lease, &mut self.serving) => Event::Failed(error),
            _ = self.hang_up.recv() => Event::Reload,
            Some(ended) = runs.join_next() => match ended {
                Ok(ended) => Event::Ended(ended),
                Err(error) => Event::Failed(machine("a task of this process")(error.into()).into()),
            },
            Some(asked) = self.asked.recv() => Event::Asked(asked),
            () = changed(&mut self.seat) => Event::Look,
            () = tokio::time::sleep(pause) => Event::Look,
        }
    }

    /// Waits for the end of what must not end.
    pub(super) async fn failed(&mut self) -> Error {
        failed(&mut self.lease, &mut self.serving).await
    }

    /// Whether the driver of the lease turns, if there is one.
    pub(super) fn is_turning(&self, clock: &dyn Clock) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.is_turning(clock))
    }

    /// Closes the lease, last of all.
    pub(super) fn close(self) -> Result<(), Error> {
        self.serving.abort();
        self.lease.map_or(Ok(()), Lease::close)
    }
}

async fn failed(lease: &mut Option<Lease>, serving: &mut JoinHandle<std::io::Error>) -> Error {
    let lease = async {
        match lease {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        error = lease => error,
        ended = serving => {
            let error = ended.unwrap_or_else(std::io::Error::from);
            machine("the control socket")(error).into()
        }
    }
}

async fn changed(seat: &mut Option<Seat>) {
    match seat {
        Some(seat) => seat.changed().await,
        None => std::future::pending().await,
    }
}
