//! One database with an object of every kind, on two servers: captured at one, restored and promoted at the other.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use warmspare::restore::steps::database::{Sessions, Target, promote_roles, swap};

use super::{bring_back, differences, take, target, words};
use crate::support::postgres::PostgresServer;

pub const EVERYTHING: &str = include_str!("everything.sql");

/// What servers need beside their packages: a provider of labels and an extension that keeps rows.
pub struct Provisions(tempfile::TempDir);

impl Provisions {
    pub fn made() -> Provisions {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let extensions = folder.path().join("usr/share/postgresql/15/extension");
        std::fs::create_dir_all(&extensions).unwrap();
        open(folder.path());
        let control = include_str!("provider/keeps_rows.control");
        std::fs::write(extensions.join("keeps_rows.control"), control).unwrap();
        let script = include_str!("provider/keeps_rows--1.0.sql");
        std::fs::write(extensions.join("keeps_rows--1.0.sql"), script).unwrap();
        let (source, library) = (folder.path().join("label.c"), folder.path().join("label.so"));
        std::fs::write(&source, include_str!("provider/label.c")).unwrap();
        let made = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
        assert!(made.success(), "gcc cannot build the provider of labels");
        Provisions(folder)
    }

    /// A server that has them.
    pub fn server(&self) -> PostgresServer {
        let folder = self.0.path().display();
        let settings = [
            format!("shared_preload_libraries={folder}/label.so"),
            format!("extension_destdir={folder}"),
            "wal_level=logical".to_owned(),
        ];
        PostgresServer::with(&settings.each_ref().map(String::as_str))
    }
}

/// A program's output without what differs between two runs: the restrict token and the version comments.
fn stable(server: &PostgresServer, program: &str, arguments: &[&str]) -> String {
    let output = server.program(program, "everything").args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let differs = ["\\restrict ", "\\unrestrict ", "-- Dumped from ", "-- Dumped by "];
    text.lines()
        .filter(|line| !differs.iter().any(|start| line.starts_with(start)))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// The first lines in which two texts part.
fn parting(one: &str, other: &str) -> String {
    let short = |line: &str| line.chars().take(200).collect::<String>();
    let mut pairs = one.lines().zip(other.lines()).enumerate().filter(|(_, (one, other))| one != other);
    match pairs.next() {
        Some((number, (one, other))) => format!("line {}:\n- {}\n+ {}", number + 1, short(one), short(other)),
        None => format!("{} and {} lines", one.lines().count(), other.lines().count()),
    }
}

async fn filled(provisions: &Provisions) -> PostgresServer {
    let live = provisions.server();
    live.create("everything", EVERYTHING).await;
    live
}

async fn restored(spare: &PostgresServer, captured: &super::Captured<super::MemorySink>) -> Target {
    let target = target(spare, "everything");
    bring_back(&target, captured).await;
    target
}

#[tokio::test]
async fn an_object_of_every_kind_comes_back_and_both_sides_dump_the_same() {
    let provisions = Provisions::made();
    let (live, spare) = (filled(&provisions).await, provisions.server());
    let captured = take(&live, "everything").await.unwrap();
    assert_eq!(captured.facts.large_objects, 4);
    let target = restored(&spare, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
    swap(&target, Sessions::Refuse).await.unwrap();
    promote_roles(&target, &captured.sink.source()).await.unwrap();
    assert_eq!(words(&differences(&target, &captured).await), "");
    for (program, arguments) in
        [("pg_dump", &["--create"][..]), ("pg_dumpall", &["--globals-only"]), ("pg_dumpall", &["--roles-only"])]
    {
        let (here, there) = (stable(&live, program, arguments), stable(&spare, program, arguments));
        // The marks by which warmspare knows its own databases are settings of the database.
        let there: String = there
            .lines()
            .filter(|line| !line.contains(" SET \"warmspare."))
            .fold(String::new(), |all, line| all + line + "\n");
        assert!(here == there, "{program} {arguments:?}: {}", parting(&here, &there));
        assert!(here.len() > 500, "{program} {arguments:?} says little:\n{here}");
    }
    let enabled =
        "SELECT string_agg(tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'public.pointing_off'::regclass";
    assert_eq!(spare.value("everything", enabled).await, "DD");
    let off = "SELECT subenabled::text FROM pg_subscription";
    assert_eq!(spare.value("everything", off).await, "false", "a subscription would pull on the spare");
}
