//! What is served at a site, as the protocol sees it: something that is started, closed down, fenced and let go on.
//!
//! The gate and the permit are the driver's own business. What else has to happen (sessions ended, roles without login, hooks, units)
//! is behind [`Application`]. [`GateOnly`] does none of it, and says so.

use std::future::ready;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::Error;
use crate::site::lease::{FenceProof, Term, Why};
use crate::vault::layout::PointId;

/// Work that the protocol asks for. Each future may be dropped before it is ready: by a kill, or because it was given up.
pub trait Application: Send + Sync {
    /// Makes sure that nothing is served or written here any more. The gate is closed already. Asked again until it succeeds.
    fn fence(&self, why: Why) -> BoxFuture<'static, Result<(), Error>>;

    /// Undoes [`Application::fence`], each step verified. Asked again until it succeeds; the gate stays closed until then.
    fn unfence(&self) -> BoxFuture<'static, Result<(), Error>>;

    /// Starts what is served in `term` behind the closed gate, and looks whether it is well. Asked again until it succeeds or is
    /// given up; the gate stays closed until then.
    fn start(&self, term: Term) -> BoxFuture<'static, Result<(), Error>>;

    /// Closes down in order and takes the final point, which has everything this site had; none where nothing is captured. The
    /// gate has been closed for D. Asked again until it succeeds or is given up.
    fn drain(&self, term: Term) -> BoxFuture<'static, Result<Option<PointId>, Error>>;

    /// Proof that the other site is fenced now, if there is one.
    fn prove_fence(&self) -> BoxFuture<'static, Option<FenceProof>>;
}

/// A site that is fenced by its gate and its permit alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct GateOnly;

impl Application for GateOnly {
    fn fence(&self, why: Why) -> BoxFuture<'static, Result<(), Error>> {
        tracing::warn!(
            "the gate is closed and nothing more is written to vault and mirror ({why}); database sessions, roles and services \
             of this site are left as they are"
        );
        ready(Ok(())).boxed()
    }

    fn unfence(&self) -> BoxFuture<'static, Result<(), Error>> {
        tracing::info!("there is nothing to undo: only the gate was closed");
        ready(Ok(())).boxed()
    }

    fn start(&self, term: Term) -> BoxFuture<'static, Result<(), Error>> {
        tracing::info!(%term, "what is served here is expected to run: it is neither started nor looked at");
        ready(Ok(())).boxed()
    }

    fn drain(&self, _: Term) -> BoxFuture<'static, Result<Option<PointId>, Error>> {
        tracing::info!("nothing is captured before the lease is released");
        ready(Ok(None)).boxed()
    }

    fn prove_fence(&self) -> BoxFuture<'static, Option<FenceProof>> {
        ready(None).boxed()
    }
}
