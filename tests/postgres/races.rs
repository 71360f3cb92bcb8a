//! The application works, and changes its schema, while it is captured.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use warmspare::capture::database::DatabaseOptions;
use warmspare::postgres::Session;
use warmspare::stream::{StreamKind, StreamName};

use super::load::Running;
use super::{bring_back, differences, options, take, take_with, target, words};
use crate::support::postgres::PostgresServer;

/// A small seeded generator (SplitMix64), so that a failed run can be repeated.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

const RUNS: u64 = 50;

/// Two tables that always have the same number of rows, told in one transaction; `odd` comes and goes.
const PAIRED: &str = "CREATE TABLE left_side (a int); CREATE TABLE right_side (a int); CREATE TABLE odd (a int); \
    INSERT INTO left_side SELECT generate_series(1, 2000); INSERT INTO right_side SELECT generate_series(1, 2000);";

async fn timed(session: &Session, sql: &str, longest_ms: &AtomicU64) {
    let begun = Instant::now();
    session.execute("", sql).await.unwrap();
    longest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::SeqCst);
}

/// One round of changes after a seeded delay: each leaves both sides equal.
async fn change(session: &Session, seed: &mut Seeded, longest_ms: &AtomicU64) {
    tokio::time::sleep(Duration::from_micros(seed.below(200_000))).await;
    let rows = seed.below(3000);
    let sql = match seed.below(4) {
        0 => format!(
            "BEGIN; TRUNCATE public.left_side; TRUNCATE public.right_side; INSERT INTO public.left_side SELECT generate_series(1, {rows}); \
             INSERT INTO public.right_side SELECT generate_series(1, {rows}); COMMIT"
        ),
        1 => "ALTER TABLE public.left_side ADD COLUMN b int DEFAULT 7; ALTER TABLE public.left_side DROP COLUMN b"
            .to_owned(),
        2 => "DROP TABLE public.odd; CREATE TABLE public.odd (a int)".to_owned(),
        _ => format!(
            "BEGIN; DROP TABLE public.right_side; CREATE TABLE public.right_side (a int); TRUNCATE public.left_side; \
             INSERT INTO public.left_side SELECT generate_series(1, {rows}); \
             INSERT INTO public.right_side SELECT generate_series(1, {rows}); COMMIT"
        ),
    };
    timed(session, &sql, longest_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_alter_and_drop_racing_the_capture_never_give_a_wrong_snapshot_or_block_the_application() {
    let server = PostgresServer::start();
    server.create("app", PAIRED).await;
    let (mut attempts, longest_ms) = (0, Arc::new(AtomicU64::new(0)));
    for run in 0..RUNS {
        let session = server.session("app").await;
        let longest = longest_ms.clone();
        let application = tokio::spawn(async move {
            let mut seed = Seeded(run);
            for _ in 0..=seed.below(5) {
                change(&session, &mut seed, &longest).await;
            }
            session.close().await;
        });
        let captured = take_with(&server, &server.address("app"), &options()).await.unwrap();
        application.await.unwrap();
        attempts += captured.facts.attempts;
        let source = captured.sink.source();
        let rows = |name: &str| {
            let bytes = source.bytes(&StreamName::new(StreamKind::Table, name)).unwrap();
            bytes.iter().filter(|byte| **byte == b'\n').count()
        };
        assert_eq!(rows("\"public\".\"left_side\""), rows("\"public\".\"right_side\""), "run {run}");
    }
    let longest = longest_ms.load(Ordering::SeqCst);
    println!("{RUNS} runs, {attempts} attempts, longest application statement {longest} ms");
    assert!(longest < 6_000, "an application statement took {longest} ms");
}

/// Sessions that wait for a lock on the table.
const WAITING: &str = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'public.t'::regclass";

/// The incident of facts: an ALTER waits for the leader, a worker waits for the ALTER, every SELECT waits behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_alter_that_waits_for_us_wins_within_six_seconds_and_the_capture_starts_over() {
    let server = PostgresServer::start();
    server.create("app", "CREATE TABLE t AS SELECT generate_series(1, 10) AS a").await;
    let server = Arc::new(server);
    let (held, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
    let (opened, go) = (held.clone(), release.clone());
    let captured = {
        let server = server.clone();
        tokio::spawn(async move {
            // The first attempt gets no sink until the ALTER is through: locks and snapshot are held meanwhile.
            let sinks = move |attempt| {
                let (opened, go) = (opened.clone(), go.clone());
                async move {
                    opened.notify_one();
                    while attempt == 1 && !go.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(crate::support::memory::MemorySink::default())
                }
            };
            let (address, progress) = (server.address("app"), warmspare::observe::Progress::silent());
            let clock = warmspare::clock::SystemClock;
            warmspare::capture::database::capture(&address, server.password(), sinks, &options(), &clock, &progress)
                .await
        })
    };
    held.notified().await;
    let (altering, reading) = (server.session("app").await, server.session("app").await);
    let begun = Instant::now();
    let (altered, read) = tokio::join!(altering.execute("", "ALTER TABLE public.t ADD COLUMN b int"), async {
        while reading.text("", WAITING).await.unwrap() == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        reading.text("", "SELECT count(*)::text FROM public.t").await
    });
    let waited = begun.elapsed();
    release.store(true, Ordering::SeqCst);
    altered.unwrap();
    assert_eq!(read.unwrap(), "10");
    println!("the ALTER waited {waited:?}");
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(6), "{waited:?}");
    let captured = captured.await.unwrap().unwrap();
    assert_eq!(captured.facts.attempts, 2);
    let bytes = captured.sink.source().bytes(&StreamName::new(StreamKind::Table, "\"public\".\"t\"")).unwrap();
    assert!(bytes.starts_with(b"1\t\\N\n"), "the second attempt has the new column");
}

/// A leader that held a and waited for b, while a migration held b and asked for a, made PostgreSQL end the migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_locks_one_table_after_another_meets_no_deadlock_and_hardly_waits() {
    let server = Arc::new(PostgresServer::start());
    server.create("app", "CREATE TABLE a (a int); CREATE TABLE b (a int)").await;
    let migration = server.session("app").await;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        migration.execute("", "BEGIN; ALTER TABLE public.b ADD COLUMN x int").await.unwrap();
        let capturing = server.clone();
        let captured = tokio::spawn(async move { take(&capturing, "app").await });
        while server.value("app", TRYING).await == "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        let last = "ALTER TABLE public.a ADD COLUMN x int; ALTER TABLE public.b DROP COLUMN x; ALTER TABLE public.a DROP COLUMN x; COMMIT";
        migration.execute("", last).await.unwrap();
        longest = longest.max(begun.elapsed());
        assert_eq!(captured.await.unwrap().unwrap().facts.attempts, 1);
    }
    println!("the migration waited {longest:?}");
    assert!(longest < Duration::from_secs(1), "PostgreSQL looks for deadlocks after a second: {longest:?}");
}

/// Sessions of a capture.
const TRYING: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'warmspare capture %' \
    AND query LIKE '%exclusively%'";

/// A nightly REFRESH took ten minutes, and every capture of those was lost after eight attempts, each of which held locks.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_refresh_of_a_materialized_view_is_waited_for_in_one_attempt_that_holds_nothing() {
    let server = Arc::new(PostgresServer::start());
    let sql = "CREATE TABLE t AS SELECT 1 AS a; CREATE MATERIALIZED VIEW sums AS SELECT sum(a) AS a FROM t";
    server.create("app", sql).await;
    let refreshing = server.session("app").await;
    refreshing.execute("", "BEGIN; REFRESH MATERIALIZED VIEW public.sums").await.unwrap();
    let hasty = DatabaseOptions { attempts: 2, lock_tries: 3, ..options() };
    let error = take_with(&server, &server.address("app"), &hasty).await.unwrap_err().to_string();
    assert!(error.contains(".sums is locked exclusively by process ") && error.contains(": BEGIN; REFRESH"), "{error}");
    let capturing = server.clone();
    let captured = tokio::spawn(async move { take(&capturing, "app").await });
    while server.value("app", TRYING).await == "0" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let held = "SELECT count(*)::text FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                WHERE a.application_name LIKE 'warmspare capture %' AND l.relation = 'public.t'::regclass";
    assert_eq!(server.value("app", held).await, "0");
    refreshing.execute("", "COMMIT").await.unwrap();
    assert_eq!(captured.await.unwrap().unwrap().facts.attempts, 1);
}

#[tokio::test]
async fn a_table_locked_for_long_ends_the_capture_with_its_name() {
    let server = PostgresServer::start();
    server.create("app", "CREATE TABLE busy (a int)").await;
    let holder = server.session("app").await;
    holder.execute("", "BEGIN; LOCK TABLE public.busy IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let hasty = DatabaseOptions { attempts: 2, lock_tries: 3, ..options() };
    let error = take_with(&server, &server.address("app"), &hasty).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("database app was not captured in 2 attempts; the last one ended because database app at "),
        "{text}"
    );
    assert!(text.contains("a lock was not granted in time while locking the tables"), "{text}");
    holder.execute("", "ROLLBACK").await.unwrap();
    take(&server, "app").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_writing_during_the_capture_gives_one_transactionally_consistent_state() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("bench", "SELECT 1").await;
    let made = live.program("pgbench", "bench").args(["-i", "-q", "-s", "10"]).stderr(Stdio::null()).status().unwrap();
    assert!(made.success());
    let mut writing = Running::spawn(live.program("pgbench", "bench").args(["-n", "-c", "4", "-T", "600"]));
    while live.value("bench", "SELECT count(*)::text FROM public.pgbench_history").await == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let captured = take(&live, "bench").await.unwrap();
    assert!(writing.is_running(), "pgbench wrote during the whole capture");
    drop(writing);
    assert_ne!(captured.facts.lsn_before, captured.facts.lsn_after.replace("0/", "-"), "{:?}", captured.facts);
    let target = target(&spare, "bench");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
    let sums = spare.value(&target.fresh(), super::load::SUMS).await;
    let all: Vec<&str> = sums.split(' ').collect();
    assert!(all.len() == 4 && all.iter().all(|sum| *sum == all[0]), "{sums}");
    println!("sums {sums}; {} rows in {} attempts", captured.facts.rows, captured.facts.attempts);
}
