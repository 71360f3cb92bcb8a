//! A bucket mirrored from one S3 server to another, beside what people use today: rclone with and without `--checksum`, s5cmd and
//! `aws s3 sync` through a disk. Two Ceph servers of the newest release are the two sites.
//!
//! The programs take turns in one run on one pair of servers, each with a bucket of its own at the spare. GNU time measures each with
//! all its children; the servers' CPU time is read from the kernel. `--bench scale` mirrors ten million keys of a server that makes
//! them from numbers, and is part of `make soak`. Set `WARMSPARE_BENCH_OBJECTS` (10,000), `WARMSPARE_BENCH_KEYS` (100,000) and
//! `WARMSPARE_BENCH_SCALE` (10,000,000) to make it smaller. `--bench servers OBJECTS BYTES` starts the two servers, fills a bucket and
//! prints the words of a pass, to be run under a profiler until its input ends.

#[allow(dead_code, reason = "the benchmark uses its part of the support")]
#[path = "../tests/support/ceph.rs"]
mod ceph;
#[path = "../tests/support/debs.rs"]
mod debs;
#[path = "../tests/support/ports.rs"]
mod ports;
mod mirror {
    pub mod peers;
    pub mod scale;
}
#[allow(dead_code, reason = "as above")]
#[path = "../tests/support/synthetic/mod.rs"]
mod synthetic;

use std::error::Error;
use std::path::Path;

use secrecy::SecretString;
use warmspare::clock::SystemClock;
use warmspare::config::address::{BucketAddress, BucketUrl};
use warmspare::mirror::{PassOptions, pass};
use warmspare::observe::Progress;
use warmspare::store::{Bucket, ReadOnly};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // `cargo test --benches` only wants to see that it starts.
        ["--test", ..] => Ok(()),
        // What GNU time measures: one pass, in a process of its own.
        ["pass", source, target, state] => one_pass(source, target, Path::new(state)),
        ["scale"] => mirror::scale::run(),
        ["servers", objects, bytes] => mirror::peers::serve(objects.parse()?, bytes.parse()?),
        _ => mirror::peers::run(),
    }
}

/// The bucket `ENDPOINT/NAME`.
fn bucket(place: &str) -> Outcome<Bucket> {
    let (endpoint, name) = place.rsplit_once('/').ok_or("a bucket is ENDPOINT/NAME")?;
    let url = BucketUrl::S3 { bucket: name.to_owned(), prefix: String::new() };
    let address = BucketAddress::at("artifacts", url).on_server(endpoint);
    Ok(Bucket::open(&address, Some(SecretString::from(ceph::CREDENTIALS)))?)
}

fn number(name: &str, default: u64) -> Outcome<u64> {
    Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
}

fn one_pass(source: &str, target: &str, state: &Path) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (source, target) = (ReadOnly::new(bucket(source)?), bucket(target)?);
    let options = PassOptions::default();
    let pass = runtime.block_on(pass(&source, &target, state, &options, &SystemClock, &Progress::silent()))?;
    pass.complete()?;
    println!("{} {} {} {} {}", pass.listed, pass.copied, pass.unchanged, pass.gone, pass.sent_bytes);
    Ok(())
}
