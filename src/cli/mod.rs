//! The commands: arguments in, words for a person out. What a command does is in the room it calls.

mod arguments;
mod capture;
mod check;
mod demo;
mod gate_config;
mod init;
mod jobs;
mod keygen;
mod mirror;
mod next;
mod notify;
mod operate;
mod operating;
mod points;
mod progress;
mod prune;
mod rekey;
mod report;
mod restore;
mod trial;
mod vault;
mod verify;
mod verify_bucket;
mod witness;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

pub use arguments::{Arguments, LogFormat};
use arguments::{CaptureCommand, Command, MirrorCommand, NotifyCommand, Where};
use futures_util::FutureExt;
use operating::GateCommand;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Here};
use crate::error::{Class, Error};
use crate::site::daemon::{self, Needs};

/// Runs the command and says how it went: the class of an outcome that is no error but not good either.
///
/// # Errors
/// Whatever the command's room says.
pub async fn run(arguments: Arguments) -> Result<Option<Class>, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let place = &arguments.place;
    // Boxed, and its type forgotten: a future that held every command's would be deeper than the compiler looks.
    let outcome = match arguments.command {
        None => next::run(place, &clock).boxed_local().await,
        Some(Command::Demo(command)) => demo::run(command, clock).boxed_local().await,
        Some(Command::Keygen(command)) => keygen::run(command, place, &*clock),
        Some(Command::Init(command)) => init::run(command, config_path(place)),
        Some(Command::Check(command)) => check::run(config(place)?, command, &*clock).boxed_local().await,
        Some(Command::Capture(CaptureCommand { try_url: Some(url), trial, rate, json, .. })) => {
            trial::run(url, trial, rate, json, clock).boxed_local().await
        }
        Some(Command::Capture(command)) => {
            capture::run(here(place, Needs::Live, &clock).await?, command, clock).boxed_local().await
        }
        Some(Command::Mirror(command)) => {
            let needs = if matches!(command, MirrorCommand::Run(_)) { Needs::Live } else { Needs::Nothing };
            mirror::run(here(place, needs, &clock).await?, command, clock).boxed_local().await
        }
        Some(Command::Points(command)) => {
            points::run(here(place, Needs::Nothing, &clock).await?, command, &*clock).boxed_local().await
        }
        Some(Command::Prune(command)) => {
            prune::run(here(place, Needs::Role, &clock).await?, command, &*clock).boxed_local().await
        }
        Some(Command::Restore(command)) => {
            restore::run(here(place, Needs::Role, &clock).await?, command, &*clock).boxed_local().await
        }
        Some(Command::Vault(command)) => {
            vault::run(here(place, Needs::Nothing, &clock).await?, command, &*clock).boxed_local().await
        }
        Some(Command::Verify(command)) => {
            verify::run(here(place, Needs::Nothing, &clock).await?, command, &*clock).boxed_local().await
        }
        Some(Command::Notify(NotifyCommand::Test(command))) => {
            notify::test(config(place)?, command, &*clock).boxed_local().await
        }
        Some(Command::Report(command)) => report::run(config(place)?, command, clock).boxed_local().await,
        Some(Command::Run) => operate::run(config(place)?, clock).boxed_local().await,
        Some(Command::Jobs(command)) => jobs::run(config(place)?, command, clock).boxed_local().await,
        Some(Command::Failover(command)) => operate::failover(config(place)?, command, clock).boxed_local().await,
        Some(Command::Switchover(command)) => operate::switchover(config(place)?, command, clock).boxed_local().await,
        Some(Command::Release(command)) => operate::release(config(place)?, command, clock).boxed_local().await,
        Some(Command::Lease(command)) => operate::lease(config(place)?, command, clock).boxed_local().await,
        Some(Command::Gate(GateCommand::Config(command))) => gate_config::run(config(place)?, &command),
        Some(Command::Gate(GateCommand::Maintenance(command))) => {
            operate::maintain(config(place)?, command, clock).boxed_local().await
        }
        Some(Command::Witness(command)) => witness::run(config(place)?, command, &*clock).boxed_local().await,
    };
    outcome.map(|class| if words::lost() { Some(Class::Failed) } else { class })
}

const CONFIG: &str = "/etc/warmspare/warmspare.toml";

fn config_path(place: &Where) -> PathBuf {
    place.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG))
}

/// The configuration, and the site this host is.
fn config(place: &Where) -> Result<(Config, String), Error> {
    let config = Config::load(&config_path(place))?;
    Ok((config, Here::site_name(place.site.clone())?))
}

/// The configuration as seen from the site this host is, in the role that it, or with a witness the daemon, says.
async fn here(place: &Where, needs: Needs, clock: &Arc<dyn Clock>) -> Result<Here, Error> {
    let (config, site) = config(place)?;
    daemon::here(config, &site, needs, Arc::clone(clock)).boxed().await
}
