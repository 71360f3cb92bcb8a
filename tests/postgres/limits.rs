//! What a capture may take of the server: bytes a second, and how long it may keep vacuum waiting.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use warmspare::capture::database::{DatabaseOptions, capture};
use warmspare::clock::SystemClock;
use warmspare::error::Class;
use warmspare::observe::Progress;
use warmspare::units::Bytes;

use super::standby::Held;
use super::{options, take};
use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

const RATE: Bytes = Bytes(8 << 20);

/// Workers whose server process cannot get rid of its rows.
const STOPPED: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'warmspare capture %' \
    AND wait_event = 'ClientWrite'";

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_reads_as_fast_as_it_may_and_no_faster_and_the_server_stops_meanwhile() {
    let server = Arc::new(PostgresServer::start());
    let table = |name: &str, rows: u32| {
        format!("CREATE TABLE {name} AS SELECT n, repeat(md5(n::text), 31) AS t FROM generate_series(1, {rows}) n;")
    };
    server.create("app", &(table("a", 12_000) + &table("b", 11_000) + &table("c", 9_000))).await;
    let begun = Arc::new(Mutex::new(None));
    let noted = begun.clone();
    let limited = server.clone();
    let capturing = tokio::spawn(async move {
        let mut address = limited.address("app");
        address.rate = Some(RATE);
        let sinks = |_| {
            *noted.lock().unwrap() = Some(Instant::now());
            async { Ok(MemorySink::default()) }
        };
        capture(&address, limited.password(), sinks, &options(), &SystemClock, &Progress::silent()).await
    });
    while server.value("postgres", STOPPED).await == "0" {
        assert!(!capturing.is_finished(), "the server never had to wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let captured = capturing.await.unwrap().unwrap();
    let took = begun.lock().unwrap().unwrap().elapsed().as_secs_f64();
    let allowed = captured.facts.bytes as f64 / RATE.0 as f64;
    println!("{} at {RATE} a second: {took:.2} s, {allowed:.2} s are allowed", Bytes(captured.facts.bytes));
    assert!(captured.facts.bytes > 30 << 20);
    // After the last byte it is looked at what has changed.
    assert!(took > 0.95 * allowed && took < 1.05 * allowed + 1.0, "{took} {allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_keeps_vacuum_from_too_much_ends_the_capture_for_good_and_says_the_figure() {
    let server = PostgresServer::start();
    server.create("app", "CREATE TABLE t (a int)").await;
    // What others hold back, and much more of it, does not count.
    server.sql("app", "INSERT INTO t VALUES (0)").await;
    let old = server.session("app").await;
    old.execute("", "BEGIN; INSERT INTO public.t VALUES (1)").await.unwrap();
    let writing = server.session("app").await;
    let write = async |times: u32| {
        for _ in 0..times {
            writing.execute("", "INSERT INTO public.t VALUES (2)").await.unwrap();
        }
    };
    write(200).await;
    let limited = DatabaseOptions { xmin_age_max: 100, ..options() };
    let held = Held::begin(server.address("app"), server.password(), limited.clone()).await;
    write(50).await;
    assert_eq!(held.end().await.unwrap().facts.attempts, 1, "50 are borne");

    let held = Held::begin(server.address("app"), server.password(), limited).await;
    tokio::time::timeout(Duration::from_secs(60), async {
        while !held.has_ended() {
            write(20).await;
        }
    })
    .await
    .expect("the capture ends");
    let error = held.end().await.unwrap_err();
    let text = error.to_string();
    let (before, after) =
        (" its snapshot kept vacuum from what ", " transactions left behind, and `capture.xmin_age_max` is 100");
    assert!(text.starts_with("the capture of database app was ended: in ") && text.ends_with(after), "{text}");
    let count: u64 = text.split(before).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(count > 100 && error.class() == Class::Failed, "{text}");
    println!("{text}\n→ {}", error.next_step().unwrap());
    old.execute("", "ROLLBACK").await.unwrap();
    let sql = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'warmspare capture %'";
    while server.value("app", sql).await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    take(&server, "app").await.unwrap();
}
