//! The daemons of the demo's sites: `warmspare run`, as processes of their own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cluster::spawn_kept;
use super::{DemoError, wrong_file};
use crate::error::Error;
use crate::site::driver::StatusAt;
use crate::site::lease::Name;
use crate::site::operate::Operator;

/// For a daemon to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A daemon; it ends when this is dropped, and when our process ends.
pub(super) struct Daemon {
    site: &'static str,
    child: Child,
    /// Held so that the thread that started it stays.
    _keeper: mpsc::Sender<()>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Starts the daemon of `site`, with its log in `log`.
    pub fn start(site: &'static str, configuration: &Path, log: &Path) -> Result<Daemon, DemoError> {
        let wrong = |source| DemoError::Daemon { site, source };
        let program = std::env::current_exe().map_err(wrong)?;
        let log = File::create(log).map_err(wrong_file(log))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).arg("--config").arg(configuration);
        command.args(["--site", site, "run"]).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (child, keeper) = spawn_kept(command).map_err(wrong)?;
        Ok(Daemon { site, child, _keeper: keeper })
    }

    /// Whose it is.
    pub fn site(&self) -> &'static str {
        self.site
    }

    /// Stops it where it is, as a machine that hangs.
    pub fn freeze(&self) -> Result<(), DemoError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<(), DemoError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), DemoError> {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.map_err(|error| DemoError::Daemon { site: self.site, source: error.into() })
    }

    /// Waits until it is in the state `name`.
    pub async fn until(&self, operator: &Operator<'_>, name: Name) -> Result<StatusAt, Error> {
        let begun = Instant::now();
        loop {
            match operator.status().await {
                Ok(status) if status.state == name => return Ok(status),
                // It has not opened its socket yet.
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Ok(status) if begun.elapsed() > PATIENCE => {
                    return Err(DemoError::Stuck { site: self.site, state: status.state, expected: name }.into());
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
