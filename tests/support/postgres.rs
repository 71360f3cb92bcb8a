//! A PostgreSQL server of one test. `initdb` runs once per build folder; each test starts from a copy.

use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::{ExposeSecret, SecretString};
use warmspare::config::address::DatabaseAddress;
use warmspare::demo::cluster::{Cluster, ClusterOptions, SUPERUSER};
use warmspare::postgres::Session;

/// The programs of the server under test.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

pub struct PostgresServer {
    // Before the folder: the server ends before its files go.
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl PostgresServer {
    pub fn start() -> PostgresServer {
        PostgresServer::with(&[])
    }

    /// With further settings, `name=value`.
    pub fn with(settings: &[&str]) -> PostgresServer {
        let folder = tempfile::tempdir().unwrap();
        let options = ClusterOptions {
            folder: folder.path().to_owned(),
            programs: Some(PROGRAMS.into()),
            template: Some(template()),
            settings: settings.iter().map(ToString::to_string).collect(),
        };
        PostgresServer { cluster: Cluster::start(&options).unwrap(), folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Ends the server as a crash would; its folder stays until the end of the test.
    pub fn crash(self) -> tempfile::TempDir {
        self.cluster.kill();
        self.folder
    }

    pub fn password(&self) -> Option<SecretString> {
        Some(self.cluster.password().clone())
    }

    pub fn address(&self, database: &str) -> DatabaseAddress {
        DatabaseAddress {
            name: database.to_owned(),
            url: self.cluster.url(database),
            password: None,
            application_roles: Vec::new(),
            programs: Some(PROGRAMS.into()),
        }
    }

    /// A session to an existing database.
    pub async fn session(&self, database: &str) -> Session {
        let server = warmspare::postgres::Server::new(&self.address(database), self.password()).unwrap();
        server.connect().await.unwrap()
    }

    /// Runs SQL in an existing database, statement by statement.
    pub async fn sql(&self, database: &str, sql: &str) {
        let session = self.session(database).await;
        session.execute("", "SET search_path = public").await.unwrap();
        for statement in warmspare::postgres::script::statements(sql) {
            session.execute(statement, statement).await.unwrap();
        }
        session.close().await;
    }

    /// Creates a database and runs SQL in it.
    pub async fn create(&self, database: &str, sql: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{database}\"")).await;
        self.sql(database, sql).await;
    }

    /// The only cell of a query, as text.
    pub async fn value(&self, database: &str, sql: &str) -> String {
        let session = self.session(database).await;
        let value = session.text(sql, sql).await.unwrap();
        session.close().await;
        value
    }

    /// A program of PostgreSQL, told how to connect as the superuser.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", self.cluster.password().expose_secret())
            .env("PGDATABASE", database);
        command
    }
}

/// A stopped server to copy, made once per build folder. Two processes may make it at the same time: the rename decides.
fn template() -> PathBuf {
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-template-1");
    if ready.join("password").exists() {
        return ready;
    }
    let folder = tempfile::tempdir().unwrap();
    let options =
        ClusterOptions { folder: folder.path().to_owned(), programs: Some(PROGRAMS.into()), ..Default::default() };
    Cluster::start(&options).unwrap().stop().unwrap();
    let staging = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(folder.path()).arg(staging.path().join("t")).status().unwrap();
    assert!(copied.success());
    if std::fs::rename(staging.path().join("t"), &ready).is_err() {
        assert!(ready.join("password").exists(), "the template cannot be put into {}", ready.display());
    }
    ready
}
