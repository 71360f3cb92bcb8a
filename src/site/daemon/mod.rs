//! The daemon of a site, `warmspare run`: it holds the lease, keeps the gate, and lets commands of this machine borrow the role.
//!
//! ```text
//!  thread `gate`      answers load balancers from the sign
//!  thread `driver`    holds the lease: witness, disk, sign, permit
//!  main runtime       control socket, self-tests of the witness, watchdog, going live, the final point
//! ```
//!
//! One for a site, by a lock in the state folder. Told to end (SIGTERM, Ctrl-C) it closes the gate and lets the lease run out: it is not
//! released, so that a restart goes on in the same term, and a machine that is switched off is taken over from by waiting. Whatever
//! it cannot go on without ends it with an error; started anew, it is closed until it has renewed.

mod control;
mod notify;
pub mod reach;
mod served;
mod tested;
pub mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

pub use reach::{DaemonError, Needs, Reached, here};

use control::Desk;
use notify::Supervisor;
use served::Served;
use tested::Tested;

use super::driver::{Driver, DriverError, Names, Orders, Parts, StateFile, Status, SystemAlarm};
use super::gate::{Gate, Listen, Sign, sign};
use super::lease::{BootInstant, Timing};
use super::witness::{open, timing};
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::durable::{self, FileLock};
use crate::error::{Class, Error, Explain};
use crate::permit::Permit;

/// Why a daemon does not run, or does not run on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Without a witness there is no lease.
    #[error("{file} has no [witness]: there is no lease to hold")]
    NoWitness {
        /// The configuration.
        file: PathBuf,
    },
    /// Without a gate nobody would know.
    #[error("`gate` is not set under [sites.{site}]")]
    NoGate {
        /// The site.
        site: String,
    },
    /// There is one already.
    #[error("a daemon of {site} runs already: {holder}")]
    Runs {
        /// The site.
        site: String,
        /// What it says of itself.
        holder: String,
    },
    /// Something of this machine is not to be had.
    #[error("{what} cannot be used")]
    Machine {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A part that must not end did.
    #[error("{part} has ended, and this site is closed")]
    Ended {
        /// Which.
        part: &'static str,
    },
}

impl Explain for RunError {
    fn class(&self) -> Class {
        match self {
            RunError::NoWitness { .. } | RunError::NoGate { .. } => Class::Usage,
            RunError::Runs { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            RunError::NoWitness { .. } => {
                "Write [witness] with its `url`, and take `live` out; docs/CONFIGURATION.md shows it.".to_owned()
            }
            RunError::NoGate { site } => format!(
                "Write under [sites.{site}] where load balancers reach this host: gate = {{ listen = \"10.1.0.2:7777\" }}."
            ),
            RunError::Runs { .. } => "Leave it, or end it first: two would fight for one lease.".to_owned(),
            RunError::Machine { .. } => {
                "If it is of the state folder: that has to be there, this user's, and its path short. Else see what this user may use \
                 (`ulimit -a`)."
                    .to_owned()
            }
            RunError::Ended { .. } => "Start it again: it goes on where it was. See its log for the reason.".to_owned(),
        })
    }
}

/// A driver in its thread.
struct Driving {
    orders: Orders,
    status: watch::Receiver<Status>,
    /// Dropped, it ends the driver.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<DriverError>,
    thread: std::thread::JoinHandle<()>,
}

/// Runs the daemon of the site `name` until it is told to end.
///
/// # Errors
/// When it cannot begin, or cannot go on.
pub async fn run(config: Config, name: &str, clock: Arc<dyn Clock>) -> Result<(), Error> {
    let here = Here::led(config, name, None)?;
    let witness = here.config.witness.as_ref();
    let witness = witness.ok_or_else(|| RunError::NoWitness { file: here.config.path.clone() })?;
    let listen = here.site.gate.as_ref().ok_or_else(|| RunError::NoGate { site: name.to_owned() })?;
    let timing = timing(witness)?;
    let manager = Supervisor::of_environment().map_err(machine("NOTIFY_SOCKET of the environment"))?;
    let _lock = only_one(&here)?;
    let tested = Tested::new(open(&here.config, &here.site)?);
    let (writer, sign) = sign();
    let listen = Listen { http: listen.listen, agent: listen.agent };
    let mut gate = Gate::put_up(&listen, sign.clone(), Arc::clone(&clock))?;
    tracing::info!(http = %gate.http, agent = ?gate.agent, "the gate of {name} is up, and closed");
    let (grant, permit) = Permit::limited(Arc::clone(&clock), request_max(timing));
    let parts = parts(&here, timing, &clock, &tested, (writer, grant, permit));
    let driving = drive(parts)?;
    let state = here.site.state.clone();
    let listener = control::listen(&state).map_err(machine(&control::socket(&state).display().to_string()))?;
    let (orders, status) = (driving.orders.clone(), driving.status.clone());
    let desk = Desk { us: name.to_owned(), clock: Arc::clone(&clock), orders, status };
    let work = Work {
        testing: Arc::clone(&tested).keep_testing(here.site.clone(), timing.renew_every()).boxed(),
        serving: control::serve(listener, desk).boxed(),
        watching: watch_over(manager, sign, driving.status.clone(), Arc::clone(&clock)).boxed(),
        gate: gate.ended().boxed(),
    };
    let done = until_ended(driving, work).await;
    gate.take_down();
    match done {
        Ok(()) => tracing::info!(
            "the gate is down; the lease is left to run out, {} after its last renewal",
            Seconds(timing.ttl())
        ),
        Err(_) => tracing::error!("the gate is down"),
    }
    done
}

/// How long one request may take that writes to what both sites share: with two renewals missed it still fits.
fn request_max(timing: Timing) -> Duration {
    timing.ttl() / 4
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} s", self.0.as_secs_f64())
    }
}

fn machine(what: &str) -> impl FnOnce(std::io::Error) -> RunError + use<> {
    let what = what.to_owned();
    move |source| RunError::Machine { what, source }
}

/// The lock of a site's daemon.
fn only_one(here: &Here) -> Result<FileLock, RunError> {
    let (folder, site) = (&here.site.state, here.site.name.clone());
    durable::private_folder(folder).map_err(machine(&folder.display().to_string()))?;
    let path = folder.join("daemon.lock");
    let note = format!("warmspare run, process {}", std::process::id());
    let wrong = || machine(&path.display().to_string());
    if let Some(lock) = FileLock::try_take(&path, &note).map_err(wrong())? {
        return Ok(lock);
    }
    let holder = durable::read(&path).map_err(wrong())?.unwrap_or_default();
    Err(RunError::Runs { site, holder: String::from_utf8_lossy(&holder).into_owned() })
}

fn parts(
    here: &Here,
    timing: Timing,
    clock: &Arc<dyn Clock>,
    witness: &Arc<Tested>,
    (sign, grant, permit): (super::gate::SignWriter, crate::permit::Grant, Permit),
) -> Parts<Tested> {
    let (system, us, them) = (here.config.system.clone(), here.site.name.clone(), here.other.name.clone());
    let runtime = Handle::current();
    Parts {
        memory: Box::new(StateFile::new(&here.site.state, &system, &us)),
        names: Names { system, us, them },
        timing,
        clock: Arc::clone(clock),
        alarm: Arc::new(SystemAlarm(Arc::clone(clock))),
        random: Box::new(random),
        witness: Arc::clone(witness),
        application: Arc::new(Served { here: here.clone(), permit, clock: Arc::clone(clock), runtime }),
        sign,
        grant,
    }
}

fn random() -> Result<u128, DriverError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| DriverError::Random(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Starts the driver in a thread of its own, so that nothing else this process does holds it up.
fn drive(parts: Parts<Tested>) -> Result<Driving, Error> {
    let (driver, orders, status) = Driver::new(parts)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (ending, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(machine("a runtime for the driver"))?;
    let run = move || {
        let error = runtime.block_on(async {
            tokio::select! {
                error = driver.run() => Some(error),
                _ = stopped => None,
            }
        });
        // What was driven is dropped: sign and permit say closed from here on.
        if let Some(error) = error
            && let Err(error) = ending.send(error)
        {
            tracing::error!("the driver ended: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("driver".to_owned()).spawn(run);
    let thread = thread.map_err(machine("a thread for the driver"))?;
    Ok(Driving { orders, status, stop, ended, thread })
}

type Boxed<T> = futures_util::future::BoxFuture<'static, T>;

/// What runs beside the driver.
struct Work {
    testing: Boxed<()>,
    serving: Boxed<std::io::Error>,
    watching: Boxed<()>,
    gate: Boxed<()>,
}

/// Until a signal, or until something ends that must not. The driver's thread is gone, and the site closed, when this returns.
async fn until_ended(driving: Driving, work: Work) -> Result<(), Error> {
    let Driving { stop, ended, thread, .. } = driving;
    let Work { testing, serving, watching, gate } = work;
    let done: Result<(), Error> = tokio::select! {
        told = told_to_end() => told.map_err(|source| machine("signals of this process")(source).into()),
        error = ended => match error {
            Ok(error) => Err(error.into()),
            Err(_) => Err(RunError::Ended { part: "the driver" }.into()),
        },
        error = serving => Err(machine("the control socket")(error).into()),
        () = gate => Err(RunError::Ended { part: "the gate" }.into()),
        () = testing => Err(RunError::Ended { part: "the testing of the witness" }.into()),
        () = watching => Err(RunError::Ended { part: "the watch over the driver" }.into()),
    };
    drop(stop);
    if thread.join().is_err() {
        return Err(RunError::Ended { part: "the driver" }.into());
    }
    done
}

async fn told_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let which = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("told to end by {which}");
    Ok(())
}

/// Tells the service manager that all is well as long as the driver turns, and what the state is.
async fn watch_over(manager: Supervisor, sign: Sign, mut status: watch::Receiver<Status>, clock: Arc<dyn Clock>) {
    manager.tell("READY=1");
    let _stopping = Stopping(&manager);
    let pause = manager.watchdog.unwrap_or(Duration::from_secs(60));
    let mut shown = None;
    loop {
        let now = BootInstant(clock.boot());
        if manager.watchdog.is_some() && sign.read().is_turning(now) {
            manager.tell("WATCHDOG=1");
        }
        let line = line(&status.borrow_and_update().at(now));
        if shown.as_ref() != Some(&line) {
            manager.tell(&format!("STATUS={line}"));
            shown = Some(line);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = status.changed() => if changed.is_err() {
                // The driver has ended, and so will this process.
                return std::future::pending().await;
            },
        }
    }
}

/// Told when the daemon ends, however it does.
struct Stopping<'a>(&'a Supervisor);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.tell("STOPPING=1");
    }
}

/// The state in a few words.
fn line(status: &super::driver::StatusAt) -> String {
    let maintenance = if status.maintenance.is_some() { ", maintenance" } else { "" };
    let why = status.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} term {}{maintenance}{why}", status.state, status.term.unwrap_or(status.highest_term))
}
