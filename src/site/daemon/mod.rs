//! The lease of a site as a process keeps it: driver, gate, and the control socket by which commands borrow the role.
//!
//! ```text
//!  thread `gate`      answers load balancers from the sign
//!  thread `driver`    holds the lease: witness, disk, sign, permit
//!  main runtime       control socket, self-tests of the witness, going live, the final point; what the room `daemon` runs
//! ```
//!
//! One for a site, by a lock in the state folder. Told to end it closes the gate and lets the lease run out: it is not
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
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use served::Served;
use tested::Tested;

pub use reach::{DaemonError, Needs, Reached, here};

pub use control::{Asked, Desk, listen, serve, socket};
pub use notify::Supervisor;

use super::driver::{Driver, DriverError, Names, Orders, Parts, StateFile, Status, SystemAlarm};
use super::gate::{Gate, Listen, Page, Sign, sign};
use super::lease::{BootInstant, Name, Timing};
use super::witness::{open, timing};
use crate::clock::Clock;
use crate::config::Here;
use crate::durable::{self, FileLock};
use crate::error::{Class, Error, Explain};
use crate::permit::Permit;
use crate::schedule::Role;

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

/// The lease of a site and its gate, kept by this process.
pub struct Lease {
    driving: Driving,
    gate: Gate,
    gate_ended: BoxFuture<'static, ()>,
    sign: Sign,
    ttl: Duration,
    testing: BoxFuture<'static, ()>,
}

/// What commands may ask of the lease: it is given to whoever serves the control socket.
#[derive(Clone)]
pub struct Seat {
    us: String,
    orders: Orders,
    status: watch::Receiver<Status>,
}

impl Lease {
    /// Puts up the gate of the site, closed, with what it shows as `/metrics`, and begins to drive its lease. The caller holds the lock of [`only_one`],
    /// and puts into `accepted` what it reads again later: final points and goings-live are by what was read last. Witness, gate, names and
    /// state folder are those of the beginning.
    ///
    /// # Errors
    /// When there is no witness, no gate, or something of this machine is not to be had.
    pub fn begin(accepted: watch::Receiver<Here>, clock: &Arc<dyn Clock>, page: Page) -> Result<Self, Error> {
        let here = &accepted.borrow().clone();
        let witness = here.config.witness.as_ref();
        let witness = witness.ok_or_else(|| RunError::NoWitness { file: here.config.path.clone() })?;
        let name = &here.site.name;
        let listen = here.site.gate.as_ref().ok_or_else(|| RunError::NoGate { site: name.to_owned() })?;
        let timing = timing(witness)?;
        let tested = Tested::new(open(&here.config, &here.site)?);
        let (writer, sign) = sign();
        let listen = Listen { http: listen.listen, agent: listen.agent };
        let mut gate = Gate::put_up_showing(&listen, sign.clone(), Arc::clone(clock), page)?;
        tracing::info!(http = %gate.http, agent = ?gate.agent, "the gate of {name} is up, and closed");
        let (grant, permit) = Permit::limited(Arc::clone(clock), request_max(timing));
        let driving = drive(parts(accepted, timing, clock, &tested, (writer, grant, permit)))?;
        let testing = tested.keep_testing(here.site.clone(), timing.renew_every()).boxed();
        let gate_ended = gate.ended().boxed();
        Ok(Lease { driving, gate, gate_ended, sign, ttl: timing.ttl(), testing })
    }

    /// What commands may ask.
    pub fn seat(&self, us: &str) -> Seat {
        Seat { us: us.to_owned(), orders: self.driving.orders.clone(), status: self.driving.status.clone() }
    }

    /// Whether the driver turns.
    pub fn is_turning(&self, clock: &dyn Clock) -> bool {
        self.sign.read().is_turning(BootInstant(clock.boot()))
    }

    /// Waits until something of it ends, which it must not. It may be asked again when it was given up.
    pub async fn ended(&mut self) -> Error {
        tokio::select! {
            error = &mut self.driving.ended => match error {
                Ok(error) => error.into(),
                Err(_) => RunError::Ended { part: "the driver" }.into(),
            },
            () = &mut self.gate_ended => RunError::Ended { part: "the gate" }.into(),
            () = &mut self.testing => RunError::Ended { part: "the testing of the witness" }.into(),
        }
    }

    /// Ends the driver and takes the gate down: the site is closed when this returns. The lease is left to run out.
    ///
    /// # Errors
    /// When the driver had panicked.
    pub fn close(self) -> Result<(), Error> {
        let Lease { driving: Driving { stop, thread, .. }, gate, ttl, .. } = self;
        drop(stop);
        let ended = thread.join();
        gate.take_down();
        if ended.is_err() {
            return Err(RunError::Ended { part: "the driver" }.into());
        }
        tracing::info!("the gate is down; the lease is left to run out, {} after its last renewal", Seconds(ttl));
        Ok(())
    }
}

impl Seat {
    /// What the site is now.
    pub fn role(&self) -> Role {
        let status = self.status.borrow();
        let is_theirs = || {
            let holder = status.record.as_ref().and_then(|record| record.holder.as_ref());
            holder.is_some_and(|holder| *holder != self.us)
        };
        match status.lease.name() {
            Name::Live if status.lease.open_until().is_some() => Role::Live,
            Name::Standby => Role::Spare,
            Name::Uninit if is_theirs() => Role::Spare,
            _ => Role::Between,
        }
    }

    /// Who is live as far as is known here; this site too, as long as it may be.
    pub fn live(&self) -> Option<String> {
        live(&self.us, &self.status.borrow())
    }

    /// Why the witness could not be used, since it last could.
    pub fn witness_error(&self) -> Option<String> {
        self.status.borrow().witness_error.clone()
    }

    /// Whether anything was heard of the witness since the daemon began: an answer, or why there is none.
    pub fn has_heard(&self) -> bool {
        self.status.borrow().has_heard()
    }

    /// Waits until it stands otherwise. Never, once the driver has ended.
    pub async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The state in a few words.
    pub fn line(&self, clock: &dyn Clock) -> String {
        line(&self.status.borrow().at(BootInstant(clock.boot())))
    }
}

/// The site that is live, or may yet be, seen from `us`: it may still serve, or is about to, and nobody replaces its data.
fn live(us: &str, status: &Status) -> Option<String> {
    let may_be_live = matches!(
        status.lease.name(),
        Name::Waiting | Name::Acquiring | Name::Starting | Name::Live | Name::Draining | Name::Closed | Name::Fenced
    );
    let holder = status.record.as_ref().and_then(|record| record.holder.clone());
    if may_be_live { Some(us.to_owned()) } else { holder.filter(|holder| *holder != us) }
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

/// What happened to something of this machine.
pub fn machine(what: &str) -> impl FnOnce(std::io::Error) -> RunError + use<> {
    let what = what.to_owned();
    move |source| RunError::Machine { what, source }
}

/// The lock of a site's daemon.
///
/// # Errors
/// [`RunError::Runs`] names the one that runs.
pub fn only_one(here: &Here) -> Result<FileLock, RunError> {
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
    accepted: watch::Receiver<Here>,
    timing: Timing,
    clock: &Arc<dyn Clock>,
    witness: &Arc<Tested>,
    (sign, grant, permit): (super::gate::SignWriter, crate::permit::Grant, Permit),
) -> Parts<Tested> {
    let here = accepted.borrow().clone();
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
        application: Arc::new(Served { accepted, permit, clock: Arc::clone(clock), runtime }),
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

/// The state in a few words.
fn line(status: &super::driver::StatusAt) -> String {
    let maintenance = if status.maintenance.is_some() { ", maintenance" } else { "" };
    let why = status.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} term {}{maintenance}{why}", status.state, status.term.unwrap_or(status.highest_term))
}
