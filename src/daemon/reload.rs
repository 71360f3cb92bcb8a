//! Which configuration holds: the one that was read last and found right.
//!
//! Its text lies in the state folder, and is what runs are given: a file that somebody is just writing, or has spoilt, does not stop the
//! captures. It is read again on SIGHUP, by the runs that listen as well, whose limits can change. One change is not waited for: who is live, where no witness says it.

use std::path::{Path, PathBuf};

use super::{Daemon, remembered};
use crate::config::{Config, Here};
use crate::durable;
use crate::error::{Error, Explain, chain};
use crate::jobs::HistoryError;
use crate::site::daemon::machine;

/// Where the text of the configuration that holds is.
pub(super) fn accepted(state: &Path) -> PathBuf {
    state.join("configuration.toml")
}

/// Reads the file, and has it hold if it is right.
pub(super) fn accept(path: &Path, state: &Path) -> Result<(Config, String), Error> {
    let text = std::fs::read_to_string(path).map_err(machine(&path.display().to_string()))?;
    let config = Config::parse(path, &text)?;
    write(state, &text)?;
    Ok((config, text))
}

/// What is there already is not written again: a full disk keeps no daemon from starting.
fn write(state: &Path, text: &str) -> Result<(), Error> {
    let copy = accepted(state);
    let wrong = || machine(&copy.display().to_string());
    if durable::read(&copy).map_err(wrong())?.as_deref() != Some(text.as_bytes()) {
        durable::replace(&copy, text.as_bytes()).map_err(wrong())?;
    }
    Ok(())
}

impl Daemon {
    /// Told to read the configuration again.
    pub(super) fn reload(&mut self) {
        match std::fs::read_to_string(&self.config.path) {
            Ok(text) => {
                self.seen.clone_from(&text);
                self.take_up(&text);
            }
            Err(error) => tracing::error!(
                "the configuration is not read again, what was read before holds: {}: {error}",
                self.config.path.display()
            ),
        }
    }

    /// Without a witness the file says who is live. Whoever changes that means now.
    pub(super) fn look_at_file(&mut self) {
        let Ok(text) = std::fs::read_to_string(&self.config.path) else { return };
        if text == self.seen {
            return;
        }
        self.seen.clone_from(&text);
        match Config::parse(&self.config.path, &text) {
            Ok(config) if config.live != self.config.live && self.seat.is_none() => {
                tracing::warn!("{} says of another site that it is live", self.config.path.display());
                self.take_up(&text);
            }
            Ok(_) => {
                tracing::info!("{} has changed, and holds when it is read again (SIGHUP)", self.config.path.display())
            }
            Err(error) => tracing::error!("what was read before holds: {}", chain(&error)),
        }
    }

    /// One that is wrong, or asks for more than can change while the daemon runs, changes nothing.
    fn take_up(&mut self, text: &str) {
        match self.changed(text) {
            Ok(()) => {
                tracing::info!("the configuration was read again");
                self.tell_jobs();
            }
            Err(error) => {
                let next = error.next_step().unwrap_or_default();
                tracing::error!("the configuration is not read again, what was read before holds: {error}. {next}");
            }
        }
    }

    fn changed(&mut self, text: &str) -> Result<(), Error> {
        let fixed = |config: &Config| {
            let (site, other) = (config.site(&self.here.site.name), config.other(&self.here.site.name));
            let site = site.map(|site| (site.state.clone(), format!("{:?} {:?}", site.gate, site.witness)));
            (site, other.map(|other| other.name.clone()), format!("{:?}", config.witness), config.system.clone())
        };
        let config = Config::parse(&self.config.path, text)?;
        if fixed(&config) != fixed(&self.config) {
            return Err(ReloadError::Fixed { path: self.config.path.clone() }.into());
        }
        let here = Here::led(config.clone(), &self.here.site.name, config.live.clone())?;
        write(&here.site.state, text)?;
        self.accepted.send_replace(here.clone());
        self.here = here;
        self.schedule = config.schedule.clone();
        self.config = config;
        self.reloads.send_modify(|times| *times += 1);
        Ok(self.remember()?)
    }

    /// What is remembered of jobs that are new in the schedule.
    fn remember(&mut self) -> Result<(), HistoryError> {
        for job in self.schedule.jobs() {
            if !self.book.records.contains_key(&job.name)
                && let Some(record) = remembered(&self.here.site.state, &job.name)?
            {
                self.book.records.insert(job.name.clone(), record);
            }
        }
        Ok(())
    }
}

/// Why a configuration is not taken up though it is right.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    /// What it changes is decided when a daemon begins.
    #[error("{path} changes the system, the names of the sites, the witness, the gate or the state folder")]
    Fixed { path: PathBuf },
}

impl Explain for ReloadError {
    fn next_step(&self) -> Option<String> {
        Some("Start the daemon anew for that.".to_owned())
    }
}
