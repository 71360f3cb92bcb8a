//! `warmspare capture --try`: somebody tries it on a database that matters. It must tell the truth, write nothing there, and
//! leave nothing behind, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::support::postgres::{PostgresServer, programs};
use crate::support::sites::shown;

/// A server with a pgbench database, and the folder in which trials happen.
struct Bench {
    server: PostgresServer,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        // Autovacuum would take transaction numbers while we count them.
        Bench::at(PostgresServer::with(&["autovacuum=off"])).await
    }

    async fn at(server: PostgresServer) -> Bench {
        server.create("bench", "CREATE ROLE bench_owner NOLOGIN").await;
        let made = server.program("pgbench", "bench").args(["-i", "-q", "-s", "2"]).output().unwrap();
        assert!(made.status.success(), "{}", shown(&made));
        server.sql("bench", "ALTER TABLE public.pgbench_history OWNER TO bench_owner").await;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Bench { server, folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
        command.args(["capture", "--try", &self.server.cluster().url("bench")]).args(arguments);
        command.env("TMPDIR", self.folder.path()).env("HOME", self.folder.path()).env_remove("PGPASSWORD");
        command
    }

    fn with_password(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.env("PGPASSWORD", self.server.cluster().password().expose_secret());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.with_password(arguments).output().unwrap();
        self.nothing_is_left();
        output
    }

    fn nothing_is_left(&self) {
        let left: Vec<_> = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        let folder = self.folder.path().to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
            let line = fs::read_to_string(process.path().join("cmdline")).ok()?;
            line.contains(folder).then_some(line)
        });
        assert_eq!(processes.collect::<Vec<_>>(), Vec::<String>::new(), "a server was left running");
    }

    async fn written(&self) -> String {
        self.server.value("bench", "SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await
    }
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(output)))
}

#[tokio::test]
async fn a_database_is_tried_proven_measured_and_not_written_to() {
    let bench = Bench::new().await;
    let before = bench.written().await;
    let output = bench.run(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(bench.written().await, before, "a transaction wrote on the source");
    let report = report(&output);
    let number = |key: &str| report[key].as_u64().unwrap();
    assert!(number("database_bytes") > 20 << 20 && number("captured_bytes") > 10 << 20, "{report}");
    assert!((1..number("captured_bytes") / 3).contains(&number("vault_bytes")), "{report}");
    assert_eq!(report["captured"], "200022 rows in 4 tables");
    assert_eq!((&report["restore"]["outcome"], &report["restore"]["verdict"]), (&"compared".into(), &"equal".into()));
    assert!(report["restore"]["load_millis"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_server_of_another_major_is_tried_with_the_programs_that_are_here() {
    // 15's programs and server are newer than 14's, and will do.
    let bench = Bench::at(PostgresServer::of(14)).await;
    let report_14 = report(&bench.run(&["--json"]));
    assert_eq!(report_14["restore"]["verdict"], "equal", "{report_14}");
    let compared = report_14["restore"]["compared"].as_str().unwrap();
    let untold = "NOT compared: pg_dump's own words, which differ between PostgreSQL 14 and 15";
    assert!(compared.contains(untold), "{compared}");

    let bench = Bench::at(PostgresServer::of(18)).await;
    let refused = bench.run(&["--json"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{}", shown(&refused));
    assert!(words.contains("pg_dump of PostgreSQL 18 or newer is needed"), "{words}");
    assert!(words.contains("Install the client programs (postgresql-client-18)"), "{words}");

    let path = format!("{}:{}", programs(18).display(), std::env::var("PATH").unwrap());
    let output = bench.with_password(&["--json"]).env("PATH", path).output().unwrap();
    bench.nothing_is_left();
    let report_18 = report(&output);
    assert_eq!(report_18["server_version_num"].as_u64().unwrap() / 10_000, 18);
    assert_eq!(report_18["restore"]["verdict"], "equal", "{}", shown(&output));
    assert!(!report_18.to_string().contains("NOT compared"), "{report_18}");
}

#[tokio::test]
async fn without_a_restore_it_says_that_nothing_was_proven() {
    let bench = Bench::new().await;
    let output = bench.run(&["--no-restore"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("restore") && text.contains("NOT DONE: --no-restore was said"), "{text}");
    assert!(words.contains("that it comes back was not shown"), "{words}");
}

#[tokio::test]
async fn a_scratch_server_is_left_as_it_was() {
    let (bench, scratch) = (Bench::new().await, PostgresServer::start());
    // Both servers of this test are copies of one: the same number is what protects a source from itself.
    let url = scratch.cluster().url("postgres");
    let password = format!("file:{}", scratch.cluster().password_file().display());
    let arguments = ["--into", &url, "--into-password", &password, "--json"];
    let output = bench.run(&arguments);
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the server of the database that is tried, or a copy"));

    let other = tempfile::tempdir().unwrap();
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let other = Fresh::start(other.path());
    let (url, password) = (other.0.url("postgres"), format!("file:{}", other.0.password_file().display()));
    let output = bench.run(&["--into", &url, "--into-password", &password, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(report(&output)["restore"]["verdict"], "equal");
    assert_eq!(other.names("SELECT datname::text FROM pg_database ORDER BY 1").await, "postgres template0 template1");
    assert_eq!(other.names("SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1").await, "warmspare");
}

/// A server that is no copy of the others.
struct Fresh(warmspare::demo::cluster::Cluster);

impl Fresh {
    fn start(folder: &Path) -> Fresh {
        let programs = Some(crate::support::postgres::PROGRAMS.into());
        let folder = folder.to_owned();
        let options = warmspare::demo::cluster::ClusterOptions { folder, programs, ..Default::default() };
        Fresh(warmspare::demo::cluster::Cluster::start(&options).unwrap())
    }

    async fn names(&self, sql: &str) -> String {
        let address = warmspare::config::address::DatabaseAddress {
            name: "x".into(),
            url: self.0.url("postgres"),
            password: None,
            application_roles: Vec::new(),
            sequence_gap: 0,
            programs: None,
            rate: None,
        };
        let server = warmspare::postgres::Server::new(&address, Some(self.0.password().clone())).unwrap();
        let session = server.connect().await.unwrap();
        let names = session.texts(sql, sql).await.unwrap();
        session.close().await;
        names.join(" ")
    }
}

#[tokio::test]
async fn what_would_be_refused_is_named_and_the_password_is_found_where_psql_finds_it() {
    let bench = Bench::new().await;
    let output = bench.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the server refuses role warmspare"),
        "{}",
        shown(&output)
    );
    bench.nothing_is_left();

    let lost = "CREATE FUNCTION pg_catalog.lost() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    bench.server.sql("bench", lost).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let password = bench.server.cluster().password().expose_secret().to_owned();
    let line = format!("127.0.0.1:{}:*:warmspare:{password}\n", bench.server.cluster().port());
    fs::write(file.path(), line).unwrap();
    let output = bench.command(&[]).env("PGPASSFILE", file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("cannot be captured:") && words.contains("function lost() ("), "{words}");
    bench.nothing_is_left();

    let url = bench.server.cluster().url("bench").replace("warmspare@", "warmspare:hunter2@");
    let output = Command::new(env!("CARGO_BIN_EXE_warmspare")).args(["capture", "--try", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
}

#[tokio::test]
async fn interrupted_it_leaves_nothing() {
    let bench = Bench::new().await;
    let mut child = bench.with_password(&[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
    // The copy of the tables has begun: the vault is being written.
    let begun = words.find(|line| line.as_ref().is_ok_and(|line| line.contains("database bench: begun")));
    assert!(begun.is_some(), "the capture began");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = words.map_while(Result::ok).collect();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("the trial was interrupted; nothing of it is left")), "{rest:#?}");
    bench.nothing_is_left();
}
