//! A PostgreSQL server of one test: of Debian's major version or another. `initdb` runs once per build folder and version;
//! each test starts from a copy.

use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::{ExposeSecret, SecretString};
use warmspare::config::address::DatabaseAddress;
use warmspare::demo::cluster::{Cluster, ClusterOptions, SUPERUSER};
use warmspare::postgres::Session;

/// The major version Debian 12 has; every test that is not about versions runs on it.
const DEBIAN: u32 = 15;
/// Its programs.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The other majors, and which checksums their downloads have, are listed in the script that brings them.
const FURTHER: &str = include_str!("postgres-servers.sh");

/// The folder of the programs of one major version.
pub fn programs(major: u32) -> PathBuf {
    if major == DEBIAN {
        return PROGRAMS.into();
    }
    let start = format!("{major}.");
    let mut versions = FURTHER.lines().filter_map(|line| line.split(' ').next());
    let version = versions.find(|word| word.starts_with(&start)).expect("the major is in the list");
    let cache = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/cache")
    } else {
        let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
    };
    let folder = cache.join(format!("warmspare-tests/postgresql-{version}/bin"));
    assert!(folder.join("postgres").exists(), "no {}; run tests/support/install.sh test", folder.display());
    folder
}

pub struct PostgresServer {
    // Before the folder: the server ends before its files go.
    cluster: Cluster,
    folder: tempfile::TempDir,
    major: u32,
}

impl PostgresServer {
    pub fn start() -> PostgresServer {
        PostgresServer::with(&[])
    }

    /// With further settings, `name=value`.
    pub fn with(settings: &[&str]) -> PostgresServer {
        PostgresServer::make(DEBIAN, settings)
    }

    /// Of this major version.
    pub fn of(major: u32) -> PostgresServer {
        PostgresServer::make(major, &[])
    }

    /// Of this major version, with further settings.
    pub fn of_with(major: u32, settings: &[&str]) -> PostgresServer {
        PostgresServer::make(major, settings)
    }

    fn make(major: u32, settings: &[&str]) -> PostgresServer {
        let folder = tempfile::tempdir().unwrap();
        let options = ClusterOptions {
            folder: folder.path().to_owned(),
            programs: Some(programs(major)),
            template: Some(template(major)),
            settings: settings.iter().map(ToString::to_string).collect(),
        };
        PostgresServer { cluster: Cluster::start(&options).unwrap(), folder, major }
    }

    /// A streaming standby of this server, which has replayed what there is.
    pub async fn standby(&self, settings: &[&str]) -> PostgresServer {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut copying = self.program("pg_basebackup", "postgres");
        let copied = copying.arg("-D").arg(&data).args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]).status();
        assert!(copied.unwrap().success());
        std::fs::copy(self.cluster.password_file(), folder.path().join("password")).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").args(["-R", "postgres:"]).arg(folder.path()).status().unwrap().success());
        }
        let options = ClusterOptions {
            folder: folder.path().to_owned(),
            programs: Some(programs(self.major)),
            template: None,
            settings: settings.iter().map(ToString::to_string).collect(),
        };
        let standby = PostgresServer { cluster: Cluster::start(&options).unwrap(), folder, major: self.major };
        self.replayed_by(&standby).await;
        standby
    }

    /// Waits until the standby has replayed what this server has written so far.
    pub async fn replayed_by(&self, standby: &PostgresServer) {
        let here = self.value("postgres", "SELECT pg_current_wal_insert_lsn()::text").await;
        let there = format!("SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') >= '{here}')::text");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while standby.value("postgres", &there).await != "true" {
            assert!(std::time::Instant::now() < deadline, "the standby does not replay");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
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

    /// Stops the server as `pg_ctl stop -m fast` does, until [`PostgresServer::start_again`].
    pub fn halt(&mut self) {
        self.cluster.halt().unwrap();
    }

    /// Starts a halted server again, at the same port.
    pub fn start_again(&mut self) {
        self.cluster.start_again().unwrap();
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
            sequence_gap: 0,
            programs: Some(programs(self.major)),
            rate: None,
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
        let mut command = Command::new(programs(self.major).join(name));
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
fn template(major: u32) -> PathBuf {
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{major}-template-1"));
    if ready.join("password").exists() {
        return ready;
    }
    let folder = tempfile::tempdir().unwrap();
    let options =
        ClusterOptions { folder: folder.path().to_owned(), programs: Some(programs(major)), ..Default::default() };
    Cluster::start(&options).unwrap().stop().unwrap();
    let staging = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(folder.path()).arg(staging.path().join("t")).status().unwrap();
    assert!(copied.success());
    if std::fs::rename(staging.path().join("t"), &ready).is_err() {
        assert!(ready.join("password").exists(), "the template cannot be put into {}", ready.display());
    }
    ready
}
