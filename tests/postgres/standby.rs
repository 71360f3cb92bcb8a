//! A standby as the source, and a source that fails over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use warmspare::capture::database::{DatabaseOptions, capture};
use warmspare::clock::SystemClock;
use warmspare::config::address::DatabaseAddress;
use warmspare::error::{Class, Error};
use warmspare::observe::Progress;
use warmspare::restore::steps::database::prepare;
use warmspare::stream::{StreamKind, StreamName};

use super::{Taken, bring_back, differences, fixture, options, take, take_with, target, words};
use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

const PAIR: &str = "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000);";

/// A capture that holds its locks and its snapshot, in its first attempt, until it is let go.
pub(super) struct Held {
    running: JoinHandle<Result<Taken, Error>>,
    go: Arc<AtomicBool>,
}

impl Held {
    pub(super) async fn begin(
        address: DatabaseAddress,
        password: Option<SecretString>,
        options: DatabaseOptions,
    ) -> Held {
        let (opened, go) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (told, released) = (opened.clone(), go.clone());
        let running = tokio::spawn(async move {
            let sinks = move |attempt| {
                let (told, released) = (told.clone(), released.clone());
                async move {
                    told.notify_one();
                    while attempt == 1 && !released.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(MemorySink::default())
                }
            };
            capture(&address, password, sinks, &options, &SystemClock, &Progress::silent()).await
        });
        opened.notified().await;
        Held { running, go }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    pub(super) async fn end(self) -> Result<Taken, Error> {
        self.go.store(true, Ordering::SeqCst);
        self.running.await.unwrap()
    }
}

/// Both servers in one address, whichever is the primary.
fn of_both(one: &PostgresServer, other: &PostgresServer, database: &str, role: &str) -> DatabaseAddress {
    let (port, second) = (one.cluster().port(), other.cluster().port());
    let mut address = one.address(database);
    address.url =
        format!("postgresql://warmspare@127.0.0.1:{port},127.0.0.1:{second}/{database}?target_session_attrs={role}");
    address
}

#[tokio::test]
async fn a_capture_from_a_standby_is_the_primarys_data_at_the_position_it_had_replayed() {
    let primary = PostgresServer::start();
    primary.create("builder", fixture::REGISTRY).await;
    primary.sql("postgres", &fixture::AROUND.replace("NAME", "builder")).await;
    primary.sql("builder", fixture::ODD).await;
    let standby = primary.standby(&[]).await;
    let error = take(&standby, "builder").await.unwrap_err();
    let line = "\n  unlogged table public.fleeting (a standby has nothing of it: let the URL point to the primary, or SET LOGGED)";
    assert!(error.to_string().ends_with(line) && error.class() == Class::Refused, "{error}");

    let logged = "SET default_transaction_read_only = off; ALTER TABLE fleeting SET LOGGED";
    primary.sql("builder", logged).await;
    primary.replayed_by(&standby).await;
    let captured = take(&standby, "builder").await.unwrap();
    let from_primary = take(&primary, "builder").await.unwrap();
    let facts = &captured.facts;
    assert!(facts.standby && !from_primary.facts.standby);
    assert_eq!(facts.lsn_before, facts.lsn_after, "nothing was replayed meanwhile, so it is an exact point");
    assert_eq!(facts.system_identifier, from_primary.facts.system_identifier);
    let written = format!("SELECT ('{}'::pg_lsn <= '{}')::text", facts.lsn_after, from_primary.facts.lsn_before);
    assert_eq!(primary.value("postgres", &written).await, "true");
    let (here, there) = (captured.sink.source(), from_primary.sink.source());
    for entry in warmspare::stream::Source::entries(&there) {
        let same = here.bytes(&entry.name) == there.bytes(&entry.name);
        assert!(same || entry.name == warmspare::capture::layout::catalog("sequences"), "{}", entry.name);
    }

    let spare = PostgresServer::start();
    let target = target(&spare, "builder");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
}

#[tokio::test]
async fn nothing_is_restored_into_a_standby() {
    let primary = PostgresServer::start();
    primary.create("app", PAIR).await;
    let standby = primary.standby(&[]).await;
    let captured = take(&standby, "app").await.unwrap();
    let error = prepare(&target(&standby, "app"), &captured.sink.source(), &captured.facts).await.unwrap_err();
    assert!(error.to_string().ends_with("is a standby (in recovery), into which nothing can be restored"), "{error}");
    assert_eq!(error.class(), Class::Refused);
}

/// Removes rows that a snapshot at the standby still needs, and has that replayed.
async fn remove(primary: &PostgresServer, standby: &PostgresServer, rows: &str) {
    let session = primary.session("app").await;
    session.execute("", &format!("DELETE FROM public.t WHERE {rows}")).await.unwrap();
    session.execute("", "VACUUM public.t").await.unwrap();
    session.close().await;
    primary.replayed_by(standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_replay_does_not_wait_ends_the_attempt_and_the_next_one_is_whole() {
    let primary = PostgresServer::start();
    primary.create("app", PAIR).await;
    let standby = primary.standby(&["max_standby_streaming_delay=0", "hot_standby_feedback=off"]).await;
    let held = Held::begin(standby.address("app"), standby.password(), options()).await;
    remove(&primary, &standby, "a <= 500").await;
    let captured = held.end().await.unwrap();
    assert_eq!(captured.facts.attempts, 2);
    let bytes = captured.sink.source().bytes(&StreamName::new(StreamKind::Table, "\"public\".\"t\"")).unwrap();
    assert!(bytes.starts_with(b"501\n"), "the second attempt has what the primary has now");

    let hasty = DatabaseOptions { attempts: 1, ..options() };
    let held = Held::begin(standby.address("app"), standby.password(), hasty).await;
    remove(&primary, &standby, "a > 500").await;
    let error = held.end().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(": the standby's replay did not wait for us while "), "{text}");
    assert!(error.next_step().unwrap().contains("hot_standby_feedback = on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_killed_and_promoted_mid_capture_is_named_and_the_next_capture_finds_the_new_primary() {
    let primary = PostgresServer::start();
    primary.create("app", PAIR).await;
    let standby = primary.standby(&[]).await;
    let (password, port) = (primary.password(), primary.cluster().port());
    let address = of_both(&standby, &primary, "app", "read-write");
    let held = Held::begin(address.clone(), password.clone(), options()).await;
    let _folder = primary.crash();
    standby.value("postgres", "SELECT pg_promote()::text").await;
    let error = held.end().await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("database app at 127.0.0.1:{port}: ")), "{text}");
    assert!(error.next_step().is_some(), "{text}");
    println!("{text}\n→ {}", error.next_step().unwrap());

    standby.sql("app", "INSERT INTO t VALUES (1001)").await;
    let captured = take_with(&standby, &address, &options()).await.unwrap();
    assert_eq!((captured.facts.rows, captured.facts.timeline, captured.facts.standby), (1001, 2, false));
}

#[tokio::test]
async fn of_several_hosts_the_one_that_is_asked_for_is_captured() {
    let primary = PostgresServer::start();
    primary.create("app", PAIR).await;
    let standby = primary.standby(&[]).await;
    for (role, expect) in [("primary", false), ("standby", true), ("prefer-standby", true), ("any", false)] {
        let address = of_both(&primary, &standby, "app", role);
        let captured = take_with(&primary, &address, &options()).await.unwrap();
        assert_eq!(captured.facts.standby, expect, "{role}");
    }
    let (here, there) = (primary.cluster().port(), standby.cluster().port());
    let address = of_both(&primary, &standby, "app", "standby");
    let (_gone, password) = (standby.crash(), primary.password());
    let sinks = |_| async { Ok(MemorySink::default()) };
    let error = capture(&address, password, sinks, &options(), &SystemClock, &Progress::silent())
        .await
        .unwrap_err()
        .to_string();
    let expect = format!(
        "database app at 127.0.0.1:{here},127.0.0.1:{there}: the server cannot be reached: 127.0.0.1:{here}: it is no standby; \
         127.0.0.1:{there}: error connecting to server: Connection refused"
    );
    assert!(error.starts_with(&expect), "{error}");
    let captured =
        take_with(&primary, &of_both(&primary, &primary, "app", "prefer-standby"), &options()).await.unwrap();
    assert!(!captured.facts.standby, "without a standby the primary will do");
}
