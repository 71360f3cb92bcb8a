//! One database: captured while it works, restored, proven, swapped in.

mod addresses;
mod everything;
mod fixture;
mod limits;
mod load;
mod managed;
mod plain_role;
mod proof;
mod races;
mod refusals;
mod restore;
mod round_trip;
mod soak;
mod standby;
mod versions;

use std::time::Duration;

use warmspare::capture::database::{Captured, DatabaseOptions, capture};
use warmspare::clock::SystemClock;
use warmspare::config::address::DatabaseAddress;
use warmspare::error::Error;
use warmspare::observe::Progress;
use warmspare::restore::steps::database::{Prepared, Target, load, prepare, prove};
use warmspare::verify::database::Difference;

use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

/// A finished capture in memory.
type Taken = Captured<MemorySink>;

const POINT: &str = "0000000000-0000000007";

/// Short pauses: a test has no application to be polite to.
fn options() -> DatabaseOptions {
    DatabaseOptions { pause: Duration::from_millis(50), ..DatabaseOptions::default() }
}

async fn take_with(
    server: &PostgresServer,
    address: &DatabaseAddress,
    options: &DatabaseOptions,
) -> Result<Captured<MemorySink>, Error> {
    let sinks = |_| async { Ok(MemorySink::default()) };
    capture(address, server.password(), sinks, options, &SystemClock, &Progress::silent()).await
}

async fn take(server: &PostgresServer, database: &str) -> Result<Captured<MemorySink>, Error> {
    take_with(server, &server.address(database), &options()).await
}

fn target(server: &PostgresServer, database: &str) -> Target {
    Target::new(&server.address(database), server.password(), None, 0, POINT, 2).unwrap()
}

/// Prepares and loads.
async fn bring_back(target: &Target, captured: &Captured<MemorySink>) -> Prepared {
    let source = captured.sink.source();
    let prepared = prepare(target, &source, &captured.facts).await.unwrap();
    load(target, &source, &Progress::silent()).await.unwrap();
    prepared
}

async fn differences(target: &Target, captured: &Captured<MemorySink>) -> Vec<Difference> {
    prove(target, &captured.sink.source(), &captured.facts, &Progress::silent()).await.unwrap().differences
}

fn words(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("{difference}\n")).collect()
}
