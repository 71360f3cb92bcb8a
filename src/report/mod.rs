//! 9 TELL: if the live site died now, what would be lost, how long would it take, and how do we know?
//!
//! [`gather`] reads the facts: signed clear records of the vault, and what this site remembers of its jobs. It decrypts nothing,
//! needs no identity, and writes nothing, so that it works at either site and at a third place that can only read the vault.
//! [`freshness`] judges them, purely; [`text`] and serde say the judgement to people and programs, [`metrics`] to Prometheus.

pub mod alarms;
pub mod freshness;
mod gather;
#[cfg(test)]
pub(crate) mod sample;
pub mod text;

pub use freshness::{Grade, Line, Report, Verdict};
pub use gather::{OwnJobs, gather};

use crate::clock::Clock;
use crate::config::Here;

/// The report as this site can make it now, with what `others` have to say.
pub async fn make(here: &Here, clock: &dyn Clock, others: Vec<Line>) -> Report {
    let at = clock.now();
    freshness::judge(&gather(here, at, gather::remembered(here, at), others).await)
}
