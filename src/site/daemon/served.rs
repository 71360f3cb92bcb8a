//! What is served at a real site: before it opens, the restored databases become live ones; the last thing it does before it lets go
//! is a recovery point that has everything. Services are neither started nor stopped yet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::config::Here;
use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::permit::Permit;
use crate::point::{self, SharedClock};
use crate::restore;
use crate::site::driver::{Application, GateOnly};
use crate::site::lease::{FenceProof, Term, Why};
use crate::vault::layout::{PointId, PointIdError};

/// How long a command that is handing this site over to the daemon may take to let go of the operation lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Work of the daemon is lost on its way.
#[derive(Debug, thiserror::Error)]
enum ServedError {
    #[error("the final point was taken, and its name {name} is none")]
    Name { name: String, source: PointIdError },
    #[error("the machine gives no thread for {what}")]
    Thread { what: &'static str, source: std::io::Error },
    #[error("{what} was given up")]
    GivenUp { what: &'static str },
}

impl Explain for ServedError {
    fn class(&self) -> Class {
        Class::Failed
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            ServedError::Name { .. } => {
                "It is tried again. If that ends so, too: `warmspare lease cancel`, and report it as a defect."
                    .to_owned()
            }
            ServedError::Thread { .. } => {
                "It is tried again. See how many threads this user may have (`ulimit -u`).".to_owned()
            }
            ServedError::GivenUp { .. } => "See the daemon's log; it is tried again.".to_owned(),
        })
    }
}

/// A site with sources.
pub(super) struct Served {
    /// The site, whose role is that of the lease, by the configuration that was read last.
    pub(super) accepted: watch::Receiver<Here>,
    /// The driver's own leave to write; it lasts until the final point is taken.
    pub(super) permit: Permit,
    pub(super) clock: SharedClock,
    pub(super) runtime: Handle,
}

impl Application for Served {
    fn fence(&self, why: Why) -> BoxFuture<'static, Result<(), Error>> {
        GateOnly.fence(why)
    }

    fn unfence(&self) -> BoxFuture<'static, Result<(), Error>> {
        GateOnly.unfence()
    }

    fn start(&self, term: Term) -> BoxFuture<'static, Result<(), Error>> {
        let (here, clock, runtime) = (self.live_in(term), Arc::clone(&self.clock), self.runtime.clone());
        in_its_thread("going live", runtime, move || go_live(here, term, clock).boxed_local()).boxed()
    }

    fn drain(&self, term: Term) -> BoxFuture<'static, Result<Option<PointId>, Error>> {
        let (here, clock, runtime) = (self.live_in(term), Arc::clone(&self.clock), self.runtime.clone());
        if here.config.sources().is_empty() {
            return GateOnly.drain(term);
        }
        in_its_thread("the final point", runtime, move || final_point(here, clock).boxed_local()).boxed()
    }

    fn prove_fence(&self) -> BoxFuture<'static, Option<FenceProof>> {
        ready(None).boxed()
    }
}

impl Served {
    fn live_in(&self, term: Term) -> Here {
        let here = self.accepted.borrow().clone();
        let live = Some(here.site.name.clone());
        Here { live, ..here }.in_term(term.0).under(self.permit.clone())
    }
}

/// Gives the restored databases their roles' logins and passwords, lets sequences jump, and notes the term.
async fn go_live(here: Here, term: Term, clock: SharedClock) -> Result<(), Error> {
    let begun = clock.boot();
    let report = loop {
        match restore::go_live(&here, term.0, &*clock).await {
            // Whoever took the lease lets go of the lock when it sees that this has begun.
            Err(error) if error.class() == Class::Refused && clock.boot().saturating_sub(begun) < LOCK_PATIENCE => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            done => break done?,
        }
    };
    for database in &report.databases {
        tracing::info!(%term, source = database.source, "database {} is live: its roles log in", database.database);
        for refused in &database.refused {
            tracing::warn!(source = database.source, "refused by the server: {refused}");
        }
        if database.without_passwords {
            tracing::warn!(source = database.source, "its point has no passwords of roles: set them by hand");
        }
    }
    tracing::info!(%term, "services here are expected to run: they are neither started nor looked at");
    Ok(())
}

async fn final_point(here: Here, clock: SharedClock) -> Result<Option<PointId>, Error> {
    let summary = point::take(&here, clock, &Progress::silent()).await?;
    let name = summary.point;
    tracing::info!(point = %name, "the final point is taken");
    Ok(Some(name.parse().map_err(|source| ServedError::Name { name, source })?))
}

/// Does `work` in a thread of its own; it ends when nobody waits for it any more.
async fn in_its_thread<T: Send + 'static>(
    what: &'static str,
    runtime: Handle,
    work: impl FnOnce() -> LocalBoxFuture<'static, Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (mut ended, awaited) = oneshot::channel();
    let run = move || {
        let done = runtime.block_on(async {
            tokio::select! {
                done = work() => Some(done),
                () = ended.closed() => None,
            }
        });
        if let Some(done) = done
            && ended.send(done).is_err()
        {
            tracing::warn!("{what} came to its end when nobody waited for it any more");
        }
    };
    let thread = std::thread::Builder::new().name(what.to_owned()).spawn(run);
    thread.map_err(|source| ServedError::Thread { what, source })?;
    awaited.await.map_err(|_| ServedError::GivenUp { what })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_lost_on_its_way_says_whether_it_is_tried_again() {
        let check = |error: ServedError, expected: [&str; 2]| {
            // A new one does not compile without its line below.
            match &error {
                ServedError::Name { .. } | ServedError::Thread { .. } | ServedError::GivenUp { .. } => {}
            }
            assert_eq!((error.class(), error.next_step().as_deref()), (Class::Failed, Some(expected[1])));
            assert_eq!(error.to_string(), expected[0]);
        };
        let source = "x".parse::<PointId>().unwrap_err();
        check(
            ServedError::Name { name: "x".to_owned(), source },
            [
                "the final point was taken, and its name x is none",
                "It is tried again. If that ends so, too: `warmspare lease cancel`, and report it as a defect.",
            ],
        );
        let source = std::io::ErrorKind::WouldBlock.into();
        check(
            ServedError::Thread { what: "going live", source },
            [
                "the machine gives no thread for going live",
                "It is tried again. See how many threads this user may have (`ulimit -u`).",
            ],
        );
        check(
            ServedError::GivenUp { what: "the final point" },
            ["the final point was given up", "See the daemon's log; it is tried again."],
        );
    }
}
