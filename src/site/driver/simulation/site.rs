//! One site of the simulation: a driver with all its code, polled by hand; a disk that may be full; something served that is slow.

#![cfg(test)]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::super::{
    Alarm, Application, By, Driver, DriverError, Kept, Memory, MemoryError, Names, OrderError, Ordered, Orders, Parts,
    Status,
};
use super::world::{Double, Place, SECOND, Shared, lock};
use crate::clock::Clock;
use crate::error::{Error, Explain};
use crate::permit::Permit;
use crate::site::gate::{Sign, sign};
use crate::site::lease::{BootInstant, FenceProof, Name, Term, Timing, Why};
use crate::vault::layout::PointId;

pub const NAMES: [&str; 2] = ["ams", "fra"];

/// What is left of a site when its process is gone.
#[derive(Default)]
pub struct Disk {
    kept: Option<Kept>,
    /// The next save fails; with `true`, after it was done.
    pub full: Option<bool>,
    /// Every save fails.
    pub is_read_only: bool,
    /// What is kept cannot be read.
    pub is_torn: bool,
}

impl Disk {
    /// The highest term that is remembered.
    pub fn highest(&self) -> Term {
        self.kept.as_ref().filter(|_| !self.is_torn).map_or(Term(0), |kept| kept.durable.highest)
    }
}

struct DiskOf(Arc<Mutex<Disk>>);

impl Memory for DiskOf {
    fn load(&self) -> Result<Option<Kept>, MemoryError> {
        let disk = self.0.lock().unwrap();
        match disk.is_torn {
            true => Err(MemoryError::Damaged { path: "/disk".into(), what: "it is torn".to_owned() }),
            false => Ok(disk.kept.clone()),
        }
    }

    fn save(&mut self, kept: &Kept) -> Result<(), MemoryError> {
        let mut disk = self.0.lock().unwrap();
        if disk.is_read_only {
            let source = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
            return Err(MemoryError::Disk { path: "/disk".into(), source });
        }
        let full = disk.full.take();
        if full != Some(false) {
            disk.kept = Some(kept.clone());
        }
        match full {
            None => Ok(()),
            Some(_) => {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Err(MemoryError::Disk { path: "/disk".into(), source })
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it did not work")]
struct Broken;

impl Explain for Broken {}

/// Takes its time, and fails now and then. It knows the term in which it was last started.
struct Slow(Place, Started);

type Started = Arc<Mutex<Option<Term>>>;

impl Slow {
    fn takes_a_while(&self, fails_in: u64) -> BoxFuture<'static, Result<(), Error>> {
        let place = self.0.clone();
        let (span, fails) = {
            let mut world = lock(&place.world);
            (world.rng.below(4 * SECOND), world.rng.one_in(fails_in))
        };
        let wake = place.at(BootInstant(place.boot()) + Duration::from_nanos(span));
        wake.map(move |()| if fails { Err(Broken.into()) } else { Ok(()) }).boxed()
    }
}

impl Application for Slow {
    fn fence(&self, _: Why) -> BoxFuture<'static, Result<(), Error>> {
        self.takes_a_while(5)
    }

    fn unfence(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.takes_a_while(5)
    }

    fn start(&self, term: Term) -> BoxFuture<'static, Result<(), Error>> {
        let started = Arc::clone(&self.1);
        let note = move |()| *started.lock().unwrap() = Some(term);
        self.takes_a_while(20).map(|done| done.map(note)).boxed()
    }

    fn drain(&self, term: Term) -> BoxFuture<'static, Result<Option<PointId>, Error>> {
        let seq = lock(&self.0.world).rng.between(1, 1000);
        let point = PointId { term: term.0, seq };
        self.takes_a_while(5).map(move |done| done.map(|()| Some(point))).boxed()
    }

    fn prove_fence(&self) -> BoxFuture<'static, Option<FenceProof>> {
        std::future::ready(None).boxed()
    }
}

/// A running process.
struct Process {
    driver: Pin<Box<dyn Future<Output = DriverError>>>,
    orders: Orders,
    status: watch::Receiver<Status>,
    given: Vec<BoxFuture<'static, Result<(), OrderError>>>,
}

pub struct Site {
    place: Place,
    pub disk: Arc<Mutex<Disk>>,
    process: Option<Process>,
    started: Started,
    pub sign: Sign,
    pub permit: Permit,
    /// When a process is started again, or goes on.
    pub away_until: u64,
    /// For how much longer than it says the lease believes itself.
    hidden: Duration,
}

impl Site {
    pub fn new(world: &Shared, site: usize, hidden: Duration) -> Self {
        Site {
            place: Place { world: Arc::clone(world), site },
            disk: Arc::default(),
            process: None,
            started: Arc::default(),
            sign: sign().1,
            permit: Permit::limited(Arc::new(Place { world: Arc::clone(world), site }), Duration::ZERO).1,
            away_until: 0,
            hidden,
        }
    }

    /// Whether it starts.
    fn start(&mut self) -> bool {
        let clock: Arc<dyn Clock> = Arc::new(self.place.clone());
        let (writer, sign) = sign();
        let (grant, permit) = Permit::limited(Arc::clone(&clock), Duration::from_secs(5));
        let (us, them) = (NAMES[self.place.site], NAMES[1 - self.place.site]);
        let world = Arc::clone(&self.place.world);
        let seconds = Duration::from_secs;
        let timing = Timing::new(seconds(60) + self.hidden, seconds(10), 100, seconds(1)).unwrap();
        let parts = Parts {
            names: Names { system: "builder".to_owned(), us: us.to_owned(), them: them.to_owned() },
            timing,
            clock,
            alarm: Arc::new(self.place.clone()),
            random: Box::new(move || {
                let rng = &mut lock(&world).rng;
                Ok((u128::from(rng.next()) << 64) | u128::from(rng.next()))
            }),
            witness: Arc::new(Double::new(&self.place)),
            memory: Box::new(DiskOf(Arc::clone(&self.disk))),
            application: Arc::new(Slow(self.place.clone(), Arc::clone(&self.started))),
            sign: writer,
            grant,
        };
        let (mut driver, orders, status) = match Driver::new(parts) {
            Ok(driver) => driver,
            Err(DriverError::Memory(MemoryError::Damaged { .. })) => return false,
            Err(error) => panic!("{error}"),
        };
        driver.hidden = self.hidden;
        self.process = Some(Process { driver: Box::pin(driver.run()), orders, status, given: Vec::new() });
        (self.sign, self.permit) = (sign, permit);
        true
    }

    /// Lets it do what it can at this moment. Whether it has just been started.
    pub fn turn(&mut self, now: u64) -> bool {
        if now < self.away_until {
            return false;
        }
        let starts = self.process.is_none();
        if starts && !self.start() {
            // As systemd does it.
            self.away(now + 10 * SECOND);
            return false;
        }
        let context = &mut Context::from_waker(Waker::noop());
        let Some(process) = &mut self.process else { return false };
        process.given.retain_mut(|order| order.as_mut().poll(context).is_pending());
        if process.driver.as_mut().poll(context).is_ready() {
            self.kill(now + 10 * SECOND);
            return starts;
        }
        process.given.retain_mut(|order| order.as_mut().poll(context).is_pending());
        starts
    }

    /// Gone at once; started anew at `until`.
    pub fn kill(&mut self, until: u64) {
        self.process = None;
        self.away(until);
    }

    /// Nothing of it happens until `until`. Its clock goes on.
    pub fn away(&mut self, until: u64) {
        self.away_until = until;
        lock(&self.place.world).wake_at(until);
    }

    /// Whether nothing of its process happens at `now`.
    pub fn is_away(&self, now: u64) -> bool {
        self.process.is_none() || now < self.away_until
    }

    /// Whether what is served here was started in `term`.
    pub fn has_started(&self, term: Term) -> bool {
        *self.started.lock().unwrap() == Some(term)
    }

    pub fn status(&self) -> Option<Status> {
        self.process.as_ref().map(|process| process.status.borrow().clone())
    }

    /// The state, if there is a process that has one.
    pub fn name(&self) -> Option<Name> {
        self.status().map(|status| status.lease.name())
    }

    pub fn order(&mut self, what: Ordered) {
        if let Some(process) = &mut self.process {
            let orders = process.orders.clone();
            let by = By { operator: "eva".to_owned(), reason: "a seed".to_owned() };
            process.given.push(async move { orders.give(what, by).await }.boxed());
        }
    }

    pub fn now(&self) -> BootInstant {
        BootInstant(self.place.boot())
    }
}
