//! What is served at a real site: nothing is stopped or started yet, but the last thing a site does before it lets go is a recovery
//! point that has everything.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::Here;
use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::permit::Permit;
use crate::point::{self, SharedClock};
use crate::site::driver::{Application, GateOnly};
use crate::site::lease::{FenceProof, Term, Why};
use crate::vault::layout::{PointId, PointIdError};

/// The final point is lost on its way.
#[derive(Debug, thiserror::Error)]
enum FinalPointError {
    #[error("the final point was taken, and its name {name} is none")]
    Name { name: String, source: PointIdError },
    #[error("the machine gives no thread for the final point")]
    Thread(#[source] std::io::Error),
    #[error("the final point was given up")]
    GivenUp,
}

impl Explain for FinalPointError {
    fn class(&self) -> Class {
        Class::Failed
    }
}

/// A site with sources.
pub(super) struct Served {
    /// The site, whose role is that of the lease.
    pub(super) here: Here,
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
        GateOnly.start(term)
    }

    fn drain(&self, term: Term) -> BoxFuture<'static, Result<Option<PointId>, Error>> {
        if self.here.config.sources().is_empty() {
            return GateOnly.drain(term);
        }
        let live = Some(self.here.site.name.clone());
        let here = Here { live, ..self.here.clone() }.in_term(term.0).under(self.permit.clone());
        let (clock, runtime) = (Arc::clone(&self.clock), self.runtime.clone());
        take(here, clock, runtime).boxed()
    }

    fn prove_fence(&self) -> BoxFuture<'static, Option<FenceProof>> {
        ready(None).boxed()
    }
}

/// Takes the final point in a thread of its own, whose work ends when nobody waits for it any more.
async fn take(here: Here, clock: SharedClock, runtime: Handle) -> Result<Option<PointId>, Error> {
    let (mut taken, awaited) = oneshot::channel();
    let work = move || {
        let done = runtime.block_on(async {
            let progress = Progress::silent();
            tokio::select! {
                done = point::take(&here, clock, &progress).boxed_local() => Some(done),
                () = taken.closed() => None,
            }
        });
        if let Some(done) = done
            && taken.send(done).is_err()
        {
            tracing::warn!("the final point was taken when nobody waited for it any more");
        }
    };
    std::thread::Builder::new().name("final point".to_owned()).spawn(work).map_err(FinalPointError::Thread)?;
    let summary = awaited.await.map_err(|_| FinalPointError::GivenUp)??;
    let name = summary.point;
    tracing::info!(point = %name, "the final point is taken");
    Ok(Some(name.parse().map_err(|source| FinalPointError::Name { name, source })?))
}
