//! What a load balancer waits for the gate: `/live` at 10,000 requests a second while the witness hangs, beside nothing, beside a
//! capture, and beside a thread on each core that does nothing but hash: more than a capture does, so an upper bound.
//!
//! The gate and the driver are those of the daemon, in this process, in a thread each. The captures are real ones, of the release
//! binary, in processes of their own as the daemon starts them (see `gate/captures.rs`): one runs from the first request to the last,
//! and one that fails ends this.
//!
//! Requests are sent when they are due, whether the one before was answered or not, on 100 connections; a wait counts from when the
//! request was due. Who asks stands for other machines and is on the same cores all the same, in a thread that has the
//! highest priority if this is root: else its own delay is in every wait. In any case up to a millisecond is its timer's. The database server,
//! too, is on these cores. What else ran on the machine is printed first: beside other programs the figures are theirs, too.

#[path = "gate/captures.rs"]
mod captures;
#[path = "gate/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the benchmark uses its part of the support")]
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use captures::Registry;
use machine::Counted;
use rustix::process::setpriority_process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmspare::clock::{Clock, SystemClock};
use warmspare::permit::Permit;
use warmspare::site::driver::{Driver, GateOnly, Names, Parts, StateFile, SystemAlarm};
use warmspare::site::gate::{Gate, Listen, sign};
use warmspare::site::lease::{Revision, Timing};
use warmspare::site::witness::{Outcome, Record, Witness, WitnessError};

const RATE: u64 = 10_000;
const CONNECTIONS: u64 = 100;
const SECONDS: u64 = 20;
const REQUEST: &[u8] = b"HEAD /live HTTP/1.1\r\nHost: gate\r\n\r\n";

/// A witness that never answers.
struct Hangs;

impl Witness for Hangs {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        pending().await
    }

    async fn replace(&self, _: Option<Revision>, _: &Record) -> Outcome {
        pending().await
    }
}

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = runtime.block_on(Registry::fill());
    let size = runtime.block_on(registry.size());
    // Its threads would share the cores.
    drop(runtime);
    let quiet = Counted::now();
    std::thread::sleep(Duration::from_secs(2));
    let others = Counted::now().busy_percent(&quiet);
    println!("/live asked {RATE} times a second for {SECONDS} s, the witness hangs; the database has {size}");
    println!("other programs keep the cores {others} % busy");

    measure().print("beside nothing", "");
    let captures = registry.capture();
    let measured = measure();
    let told = captures.end(measured.begun, measured.ended);
    measured.print("beside a capture", &told);
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let hashing: Vec<_> = (0..cores).map(|_| hash_until(&stop)).collect();
    let measured = measure();
    stop.store(true, Ordering::Relaxed);
    hashing.into_iter().for_each(|thread| thread.join().expect("it ends"));
    measured.print("beside hashing", &format!("{cores} threads"));
}

/// Does nothing but hash.
fn hash_until(stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let block = vec![7; 1 << 20];
        while !stop.load(Ordering::Relaxed) {
            std::hint::black_box(blake3::hash(&block));
        }
    })
}

/// How long the answers took.
struct Measured {
    /// Shortest first.
    waits: Vec<Duration>,
    /// Before the first request was due, and after the last answer.
    begun: Instant,
    ended: Instant,
    /// What the machine did in between.
    counted: [Counted; 2],
    /// Whether who asked had the highest priority.
    is_first: bool,
}

impl Measured {
    fn print(&self, beside: &str, more: &str) {
        let at = |permille: usize| self.waits[(self.waits.len() - 1) * permille / 1000];
        let more = if more.is_empty() { String::new() } else { format!(" ({more})") };
        let [before, after] = &self.counted;
        let (ran, held_up) = after.gate(before);
        let percent = |part: Duration| 100.0 * part.as_secs_f64() / (self.ended - self.begun).as_secs_f64();
        let asking = if self.is_first { "" } else { "; who asks had no priority" };
        println!(
            "{beside:<17} p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, longest {:.2?} of {} requests; the gate ran for {:.0} % of the time, and \
             for {:.1} % had no core; cores {} % busy{asking}{more}",
            at(500),
            at(990),
            at(999),
            at(1000),
            self.waits.len(),
            percent(ran),
            percent(held_up),
            after.busy_percent(before),
        );
    }
}

/// Puts up a gate whose driver asks a witness that hangs, and asks it.
fn measure() -> Measured {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folder = tempfile::tempdir().expect("a folder");
    let (writer, shown) = sign();
    let any = "127.0.0.1:0".parse().expect("an address");
    let gate = Gate::put_up(&Listen { http: any, agent: None }, shown, Arc::clone(&clock)).expect("a port");
    let driver = std::thread::spawn({
        let names = Names { system: "builder".to_owned(), us: "ams".to_owned(), them: "fra".to_owned() };
        let parts = Parts {
            memory: Box::new(StateFile::new(folder.path(), "builder", "ams")),
            names,
            timing: Timing::default(),
            clock: Arc::clone(&clock),
            alarm: Arc::new(SystemAlarm(Arc::clone(&clock))),
            random: Box::new(|| Ok(7)),
            witness: Arc::new(Hangs),
            application: Arc::new(GateOnly),
            sign: writer,
            grant: Permit::limited(clock, Duration::from_secs(5)).0,
        };
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (driver, _orders, _status) = Driver::new(parts).expect("a driver");
            // It runs for as long as is measured, and is then let go.
            runtime.block_on(async {
                let ends = tokio::time::sleep(Duration::from_secs(SECONDS + 1));
                tokio::select! {
                    error = driver.run() => panic!("{error}"),
                    () = ends => {}
                }
            });
        }
    });
    let (begun, before, at) = (Instant::now(), Counted::now(), gate.http);
    let asking = std::thread::spawn(move || {
        // Linux: of this thread alone.
        let is_first = setpriority_process(None, -20).is_ok();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime.block_on(ask(at)), is_first)
    });
    let (mut waits, is_first) = asking.join().expect("it ends");
    let (ended, after) = (Instant::now(), Counted::now());
    driver.join().expect("it ends");
    gate.take_down();
    waits.sort_unstable();
    Measured { waits, begun, ended, counted: [before, after], is_first }
}

/// Each connection has its share of the requests, one after the other.
async fn ask(gate: std::net::SocketAddr) -> Vec<Duration> {
    let begun = Instant::now() + Duration::from_millis(200);
    let each = RATE * SECONDS / CONNECTIONS;
    let asked = (0..CONNECTIONS).map(|connection| {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(gate).await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let (mut waits, mut answer) = (Vec::new(), [0; 1024]);
            for request in 0..each {
                let due = begun + Duration::from_micros((request * CONNECTIONS + connection) * 1_000_000 / RATE);
                tokio::time::sleep_until(due.into()).await;
                stream.write_all(REQUEST).await.expect("it is sent");
                let mut read = 0;
                while !answer[..read].ends_with(b"\r\n\r\n") {
                    let more = stream.read(&mut answer[read..]).await.expect("an answer");
                    assert!(more > 0, "the gate hung up");
                    read += more;
                }
                assert!(answer.starts_with(b"HTTP/1.1 503"), "closed, as no witness was read");
                waits.push(due.elapsed());
            }
            waits
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut waits = Vec::new();
    for one in asked {
        waits.extend(one.await.expect("it ends"));
    }
    waits
}
