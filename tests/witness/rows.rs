//! A row of PostgreSQL as the witness.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use warmspare::demo::cluster::{Cluster, ClusterOptions};
use warmspare::error::Explain;
use warmspare::postgres::{Server, row};
use warmspare::site::witness::register::Registers;
use warmspare::site::witness::{Opened, Rows, Witness, WitnessError};

use crate::support::postgres::{PROGRAMS, PostgresServer};
use crate::support::wire::Wire;
use crate::support::witness_conformance::{REQUEST_MAX, Rig, conforms, read, record, survives, won};

const REQUEST: Duration = Duration::from_secs(10);

fn server(of: &PostgresServer) -> Server {
    Server::new(&of.address("postgres"), of.password()).unwrap()
}

async fn made(of: &PostgresServer) -> Opened {
    Rows::new(server(of), REQUEST).make().await.unwrap();
    Opened::of_server(server(of), REQUEST)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_postgresql_is_a_witness() {
    let postgres = PostgresServer::with(&["fsync=on"]);
    let witness = made(&postgres).await;
    let tried = witness.selftest("ams", "n1").await.unwrap();
    assert!(tried.verdict("postgres").is_ok() && tried.left.is_empty(), "{tried:?}");
    conforms(&witness).await;
    let history = witness.history(3).await.unwrap();
    assert_eq!(history.iter().map(|(_, record)| record.term).collect::<Vec<_>>(), [9, 4, 3]);
    assert_eq!(witness.prune().await.unwrap(), 0, "a day is kept");
    let old = "UPDATE warmspare_witness.history SET written_at = written_at - interval '25 hours'";
    postgres.session("postgres").await.execute("", old).await.unwrap();
    assert_eq!(witness.prune().await.unwrap(), 5, "and the record itself stays");
    assert_eq!(witness.history(9).await.unwrap().len(), 1);
    // Made twice, it is as it was.
    let before = read(&witness).await;
    assert_eq!(read(&made(&postgres).await).await, before);
}

/// PostgreSQL by a line.
struct Postgres {
    cluster: Option<Cluster>,
    folder: tempfile::TempDir,
    wire: Wire,
}

impl Postgres {
    fn options(folder: &Path) -> ClusterOptions {
        let folder = folder.join("server");
        ClusterOptions { folder, programs: Some(PROGRAMS.into()), template: None, settings: vec!["fsync=on".into()] }
    }

    async fn start() -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        open_to_postgres(folder.path());
        let cluster = Cluster::start(&Postgres::options(folder.path())).unwrap();
        let wire = Wire::to(&format!("127.0.0.1:{}", cluster.port())).await;
        let postgres = Postgres { cluster: Some(cluster), folder, wire };
        Rows::new(postgres.server(), REQUEST).make().await.unwrap();
        postgres
    }

    fn server(&self) -> Server {
        let cluster = self.cluster.as_ref().unwrap();
        let port = format!(":{}/", cluster.port());
        let url = cluster.url("postgres").replace(&port, &format!(":{}/", self.wire.port()));
        assert!(url.contains(&self.wire.port().to_string()), "{url}");
        let address = warmspare::config::address::DatabaseAddress {
            name: "witness".to_owned(),
            url,
            password: None,
            application_roles: Vec::new(),
            sequence_gap: 0,
            programs: None,
            rate: None,
        };
        Server::new(&address, Some(cluster.password().clone())).unwrap()
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    fn run(&mut self) {
        let cluster = Cluster::start(&Postgres::options(self.folder.path())).unwrap();
        self.wire.lead_to(&format!("127.0.0.1:{}", cluster.port()));
        self.cluster = Some(cluster);
    }

    fn stop(&mut self) {
        self.cluster.take().unwrap().stop().unwrap();
    }
}

fn open_to_postgres(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chmod").arg("755").arg(folder).status().unwrap().success());
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Rig for Postgres {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    async fn open(&self) -> Opened {
        Opened::of_server(self.server(), REQUEST_MAX)
    }

    async fn restart(&mut self) {
        self.stop();
        self.run();
    }

    async fn back_up(&mut self) {
        self.stop();
        copy(&self.folder.path().join("server"), &self.backup());
        self.run();
    }

    async fn put_back(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.folder.path().join("server")).unwrap();
        copy(&self.backup(), &self.folder.path().join("server"));
        self.run();
    }

    async fn delete(&mut self) {
        let session = self.server().connect().await.unwrap();
        session.execute("", "DELETE FROM warmspare_witness.record").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_survives_what_happens_to_it() {
    survives(&mut Postgres::start().await).await;
}

/// A write that waits for a lock ends by itself: it must not be done minutes after nobody waits for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_waits_for_is_given_up_by_the_server() {
    let postgres = PostgresServer::with(&["fsync=on"]);
    let witness = made(&postgres).await;
    let first = won(&witness, None, &record(1, 1)).await;
    let holder = postgres.session("postgres").await;
    holder.execute("", "BEGIN; SELECT FROM warmspare_witness.record FOR UPDATE").await.unwrap();
    let rows = Rows::new(server(&postgres), Duration::from_millis(800));
    let error = rows.put("lease", Some((first, None)), "late".into()).await.unwrap_err();
    assert!(warmspare::error::chain(&error).contains("statement timeout"), "{error}");
    holder.execute("", "COMMIT").await.unwrap();
    assert_eq!(read(&witness).await, (first, read(&witness).await.1), "and it is not done later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_or_a_server_that_forgets_is_refused_with_the_reason() {
    let postgres = PostgresServer::start();
    let forgetful = made(&postgres).await;
    let tried = forgetful.selftest("ams", "n1").await.unwrap();
    let error = tried.verdict(forgetful.name()).unwrap_err();
    assert!(error.to_string().ends_with("`fsync` is off: a crash of the server forgets what it confirmed"), "{error}");

    let standby = postgres.standby(&[]).await;
    let error = Opened::of_server(server(&standby), REQUEST).read().await.unwrap_err();
    assert!(error.to_string().contains("is no witness: it is a standby"), "{error}");
    assert_eq!(error.class().exit_code(), 5);
    assert!(matches!(error, WitnessError::Unsound { .. }));

    let session = postgres.session("postgres").await;
    session.execute("", &format!("DROP SCHEMA {} CASCADE", row::SCHEMA)).await.unwrap();
    let error = Opened::of_server(server(&postgres), REQUEST).read().await.unwrap_err();
    assert!(error.next_step().unwrap().contains("warmspare witness init"), "{error}");
}
