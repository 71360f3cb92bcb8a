//! Bad input and bad days: each with the words an operator reads.

use std::os::unix::fs::PermissionsExt;

use secrecy::SecretString;
use warmspare::capture::database::capture;
use warmspare::clock::SystemClock;
use warmspare::error::{Class, Error};
use warmspare::observe::Progress;

use super::{options, take, take_with};
use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

fn told(error: &Error) -> String {
    format!("{error}\n→ {}", error.next_step().unwrap_or_default())
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such() {
    let server = PostgresServer::start();
    let sinks = |_| async { Ok(MemorySink::default()) };
    let wrong = Some(SecretString::from("hunter2"));
    let error = capture(&server.address("postgres"), wrong, sinks, &options(), &SystemClock, &Progress::silent())
        .await
        .unwrap_err();
    let port = server.cluster().port();
    assert_eq!(
        told(&error),
        format!(
            "database postgres at 127.0.0.1:{port}: the server refuses role warmspare: password authentication failed for user \"warmspare\"\n\
             → Check the role in the URL, the secret that `password` refers to on this host, and the server's pg_hba.conf."
        )
    );
    let error = capture(&server.address("postgres"), None, sinks, &options(), &SystemClock, &Progress::silent())
        .await
        .unwrap_err();
    assert!(told(&error).contains("the server refuses role warmspare: "), "{}", told(&error));
}

#[tokio::test]
async fn an_unreachable_server_and_a_missing_database_are_told_apart() {
    let server = PostgresServer::start();
    let error = take(&server, "nowhere").await.unwrap_err();
    assert!(
        told(&error).ends_with(": there is no such database\n→ Check the name of the database at the end of the URL."),
        "{}",
        told(&error)
    );
    let (address, password) = (server.address("postgres"), server.password());
    let _folder = server.crash();
    let sinks = |_| async { Ok(MemorySink::default()) };
    let error = capture(&address, password, sinks, &options(), &SystemClock, &Progress::silent()).await.unwrap_err();
    assert!(
        told(&error).contains("the server cannot be reached: error connecting to server: Connection refused"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn tls_to_somebody_unknown_is_refused_and_without_tls_the_demand_for_it_too() {
    let plain = PostgresServer::start();
    let mut address = plain.address("postgres");
    address.url.push_str("?sslmode=require");
    let error = take_with(&plain, &address, &options()).await.unwrap_err();
    assert!(error.to_string().ends_with("server does not support TLS"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db", "-addext"])
        .args(["subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(made.success() && key.exists());
    if rustix::process::geteuid().is_root() {
        assert!(std::process::Command::new("chown").arg("postgres").arg(&key).status().unwrap().success());
    }
    let files = [format!("ssl_key_file={}", key.display()), format!("ssl_cert_file={}", certificate.display())];
    let server = PostgresServer::with(&["ssl=on", &files[0], &files[1]]);
    let mut address = server.address("postgres");
    take_with(&server, &address, &options()).await.expect("on this host nobody needs TLS");
    address.url.push_str("?sslmode=verify-full");
    let error = take_with(&server, &address, &options()).await.unwrap_err();
    assert!(error.to_string().contains("no trusted TLS connection: "), "{error}");
    assert!(error.next_step().unwrap().starts_with("Install the authority"), "{error}");
}

#[tokio::test]
async fn the_socket_is_as_good_as_the_network() {
    let server = PostgresServer::start();
    let mut address = server.address("postgres");
    address.url = server.cluster().socket_url("postgres");
    take_with(&server, &address, &options()).await.unwrap();
}

#[tokio::test]
async fn what_a_dump_loses_or_changes_in_silence_is_refused_by_name_before_anything_is_captured() {
    let server = PostgresServer::start();
    server
        .create(
            "odd",
            "CREATE FUNCTION pg_catalog.lost() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE information_schema.lost (a int); \
             CREATE EXTENSION adminpack; CREATE LANGUAGE plother HANDLER plpgsql_call_handler",
        )
        .await;
    let asked = std::sync::atomic::AtomicBool::new(false);
    let sinks = |_| {
        asked.store(true, std::sync::atomic::Ordering::SeqCst);
        async { Ok(MemorySink::default()) }
    };
    let error =
        capture(&server.address("odd"), server.password(), sinks, &options(), &SystemClock, &Progress::silent())
            .await
            .unwrap_err();
    let text = told(&error);
    assert_eq!(error.class(), Class::Refused);
    assert!(text.contains(": 3 objects of this database cannot be captured:\n"), "{text}");
    for line in ["function lost() (", "table information_schema.lost (", "\n  language plother ("] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(!asked.load(std::sync::atomic::Ordering::SeqCst), "a sink was opened");
}

#[tokio::test]
async fn a_role_that_may_not_read_everything_is_told_what() {
    let server = PostgresServer::start();
    server
        .create(
            "plain",
            "CREATE TABLE open (a int); CREATE TABLE closed (a int); CREATE TABLE hidden (a int); \
             ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE ROLE backup LOGIN PASSWORD 'p'; \
             GRANT SELECT ON open, hidden TO backup;",
        )
        .await;
    let mut address = server.address("plain");
    address.url = address.url.replace("warmspare@", "backup@");
    let sinks = |_| async { Ok(MemorySink::default()) };
    let password = || Some(SecretString::from("p"));
    let error = capture(&address, password(), sinks, &options(), &SystemClock, &Progress::silent()).await.unwrap_err();
    let text = told(&error);
    assert!(text.contains("role backup may not read 2 objects of this database:\n  table public.closed\n"), "{text}");
    let rights = "GRANT pg_read_all_data TO \"backup\"; ALTER ROLE \"backup\" BYPASSRLS;";
    assert!(text.ends_with(&format!("\n→ As a superuser run in that database: {rights}")), "{text}");
    server.sql("plain", "GRANT SELECT ON closed TO backup").await;
    let error = capture(&address, password(), sinks, &options(), &SystemClock, &Progress::silent()).await.unwrap_err();
    assert!(
        error.to_string().ends_with(
            "may not read one object of this database:\n  table public.hidden (its row security hides rows)"
        ),
        "{error}"
    );
    server.sql("plain", "ALTER ROLE backup BYPASSRLS").await;
    capture(&address, password(), sinks, &options(), &SystemClock, &Progress::silent()).await.unwrap();
}

#[tokio::test]
async fn a_pg_dump_older_than_the_server_is_refused() {
    let server = PostgresServer::start();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pg_dump");
    std::fs::write(&program, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.9'\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut address = server.address("postgres");
    address.programs = Some(folder.path().to_owned());
    let error = take_with(&server, &address, &options()).await.unwrap_err();
    let (port, folder) = (server.cluster().port(), folder.path().display());
    assert_eq!(
        told(&error),
        format!(
            "pg_dump of PostgreSQL 15 or newer is needed for database postgres at 127.0.0.1:{port}, but {folder} has pg_dump (PostgreSQL) 13.9\n\
             → Install the client programs (postgresql-client-15), or set `programs` of this database to their folder."
        )
    );
}

#[tokio::test]
async fn a_server_that_dies_mid_copy_is_a_lost_connection_and_never_a_short_table() {
    let server = PostgresServer::start();
    server
        .create("big", "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 30) AS t FROM generate_series(1, 60000) n")
        .await;
    let pid = server.cluster().pid();
    let (address, password) = (server.address("big"), server.password());
    let sink = slow::SlowSink::default();
    let started = sink.started.clone();
    let killer = tokio::spawn(async move {
        started.notified().await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
    });
    let sinks = |_| {
        let sink = sink.clone();
        async { Ok(sink) }
    };
    let captured = capture(&address, password, sinks, &options(), &SystemClock, &Progress::silent()).await;
    let error = captured.map(|_| ()).unwrap_err();
    killer.await.unwrap();
    assert!(error.to_string().contains("the connection was lost while"), "{error}");
    let text = error.next_step().unwrap();
    assert!(text.contains("nothing half-done was kept"), "{text}");
}

/// A sink that waits a little at each write and says when rows arrive.
mod slow {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::Notify;
    use warmspare::error::Error;
    use warmspare::stream::{Attributes, Sink, SinkStream, StreamEntry, StreamKind, StreamName};

    use crate::support::memory::{MemorySink, MemoryStream};

    #[derive(Clone, Default, Debug)]
    pub struct SlowSink {
        inner: MemorySink,
        pub started: Arc<Notify>,
    }

    pub struct SlowStream {
        inner: MemoryStream,
        table: bool,
        started: Arc<Notify>,
    }

    impl Sink for SlowSink {
        type Stream = SlowStream;

        async fn open(&self, name: StreamName) -> Result<SlowStream, Error> {
            let table = name.kind == StreamKind::Table;
            Ok(SlowStream { inner: self.inner.open(name).await?, table, started: self.started.clone() })
        }
    }

    impl SinkStream for SlowStream {
        async fn write(&mut self, data: Bytes) -> Result<(), Error> {
            if self.table {
                self.started.notify_one();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.inner.write(data).await
        }

        async fn finish(self, attributes: Attributes) -> Result<StreamEntry, Error> {
            self.inner.finish(attributes).await
        }
    }
}
