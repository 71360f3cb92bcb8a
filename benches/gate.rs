//! What a load balancer waits for the gate: `/live` at 10,000 requests a second, while every core is busy and the witness hangs.
//!
//! The gate and a driver are those of the daemon, in this process; beside them a thread for each core does nothing but hash, as a
//! capture does. Requests are sent when they are due, whether the one before was answered or not, on 100 connections; a wait counts
//! from when the request was due.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
const SECONDS: u64 = 10;
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for busy in [0, cores] {
        let waits = measure(busy);
        let at = |permille: usize| waits[(waits.len() - 1) * permille / 1000];
        println!(
            "{} requests at {RATE}/s, {busy} of {cores} cores busy, the witness hangs: p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, longest {:.2?}",
            waits.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        );
    }
}

/// The waits, shortest first, with so many threads that do nothing but hash.
fn measure(busy: usize) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..busy)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let block = vec![7; 1 << 20];
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(blake3::hash(&block));
                }
            })
        })
        .collect();
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut waits = runtime.block_on(ask(gate.http));
    stop.store(true, Ordering::Relaxed);
    burners.into_iter().for_each(|burner| burner.join().expect("it ends"));
    driver.join().expect("it ends");
    gate.take_down();
    waits.sort_unstable();
    waits
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
