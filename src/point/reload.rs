//! Limits that are changed while a capture runs: SIGHUP has the configuration read again.
//!
//! Only `mirror.limits` takes effect; everything else holds from the beginning of a run to its end. A file that is wrong
//! is told of and changes nothing. A run of a job says when it listens: before, the signal would end it, and its daemon waits.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::error::chain;
use crate::mirror::Limits;
use crate::process;

/// Listens until it is dropped.
pub(super) struct Reload(JoinHandle<()>);

impl Reload {
    /// Has the limits follow the file at `path` whenever this process is sent SIGHUP.
    pub(super) fn on_hangup(path: PathBuf, limits: Arc<Limits>) -> Self {
        Reload(tokio::spawn(async move {
            let mut hangups = match signal(SignalKind::hangup()) {
                Ok(hangups) => hangups,
                Err(error) => return tracing::warn!("SIGHUP cannot be listened for, limits stay as they are: {error}"),
            };
            if process::is_run() {
                tracing::info!(listens_for = "SIGHUP", "from now on the limits can be changed");
            }
            while hangups.recv().await.is_some() {
                match Config::load(&path) {
                    Ok(config) => {
                        limits.set(config.mirror.limits);
                        tracing::info!("the limits of {} hold from now on", path.display());
                    }
                    Err(error) => tracing::warn!("the limits stay as they are: {}", chain(&error)),
                }
            }
        }))
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.0.abort();
    }
}
