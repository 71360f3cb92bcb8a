//! A witness that is written to only after it was tried: it is read from the first moment, and a write before the first self-test,
//! or after one that it failed, is not sent.
//!
//! So a daemon that starts while the witness is silent is up, says so, and is closed; and a store that begins to ignore
//! conditions closes the site within a lease instead of making two of it live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::Site;
use crate::error::chain;
use crate::site::lease::Revision;
use crate::site::witness::{Opened, Outcome, Record, Witness, WitnessError, try_out};

/// From one self-test to the next.
const EVERY: Duration = Duration::from_secs(3600);

/// A witness, and whether it was found sound.
pub(super) struct Tested {
    pub(super) witness: Opened,
    is_sound: AtomicBool,
}

impl Tested {
    pub(super) fn new(witness: Opened) -> Arc<Self> {
        Arc::new(Tested { witness, is_sound: AtomicBool::new(false) })
    }

    /// Tries it now, and every hour from then on; sooner again, when it did not answer. Never ends.
    pub(super) async fn keep_testing(self: Arc<Self>, site: Site, again: Duration) {
        loop {
            let pause = match self.test(&site).await {
                Ok(()) => {
                    self.prune().await;
                    EVERY
                }
                Err(error) => {
                    tracing::error!("the witness was tried in vain: {}", chain(&error));
                    again
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Once. Silence is no verdict: what was found before stays.
    pub(super) async fn test(&self, site: &Site) -> Result<(), WitnessError> {
        let tried = try_out(&self.witness, site).await?;
        let verdict = tried.verdict(self.witness.name());
        self.is_sound.store(verdict.is_ok(), Ordering::Release);
        for left in &tried.left {
            tracing::warn!("a self-test of the witness left something behind: {left}");
        }
        verdict
    }

    async fn prune(&self) {
        match self.witness.prune().await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} old records of the witness were removed"),
            Err(error) => tracing::warn!("old records of the witness stay: {}", chain(&error)),
        }
    }
}

impl Witness for Tested {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        self.witness.read().await
    }

    async fn replace(&self, expected: Option<Revision>, record: &Record) -> Outcome {
        if self.is_sound.load(Ordering::Acquire) {
            return self.witness.replace(expected, record).await;
        }
        let why = "it has not passed its self-test yet, and nothing is written to it before".to_owned();
        Outcome::Unknown(WitnessError::Unsound { store: self.witness.name().to_owned(), why })
    }
}
