//! `warmspare check` is right both ways: sites it calls ready work, and what it calls a failure fails in earnest. Each
//! test breaks what an operator finds broken at night.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::postgres::{PostgresServer, programs};
use crate::support::sites::{Sites, shown};

/// What `check --json` says at `site`, and its exit code.
fn check(sites: &Sites, site: &str) -> (Value, Option<i32>) {
    let output = sites.command(site, ["check", "--json"]).output().unwrap();
    (report(&output), output.status.code())
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(output)))
}

/// The findings of a level, as `about: object: found`.
fn findings(report: &Value, level: &str) -> Vec<String> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let list = report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == level);
    list.map(|f| format!("{}: {}: {}", text(f, "about"), text(f, "object"), text(f, "found"))).collect()
}

/// Expects one failure and no other: its beginning, and words of it.
fn fails(sites: &Sites, site: &str, about: &str, words: &str) {
    let (report, code) = check(sites, site);
    let failures = findings(&report, "failure");
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["ready"], false);
    assert_eq!(failures.len(), 1, "one thing is broken, one is told: {failures:#?}");
    assert!(failures[0].starts_with(&format!("{about}: ")) && failures[0].contains(words), "{failures:#?}");
    let broken = report["findings"].as_array().unwrap().iter().find(|finding| finding["level"] == "failure").unwrap();
    assert!(broken["next"].as_str().is_some_and(|next| !next.is_empty()), "{broken}");
}

fn ready(sites: &Sites, site: &str) -> Value {
    let (report, code) = check(sites, site);
    assert_eq!((findings(&report, "failure"), code), (Vec::new(), Some(0)));
    report
}

#[tokio::test]
async fn sound_sites_are_ready_and_each_quotes_the_other() {
    let sites = Sites::filled().await;
    ready(&sites, "ams");
    fails(&sites, "fra", "points", "there is no recovery point yet");
    sites.run("ams", &["capture"]);
    let report = ready(&sites, "fra");
    let oks = findings(&report, "ok").join("\n");
    for words in ["restore: database/database.app", "decryption: database.app of point 0-1", "locale: ", "extensions: "]
    {
        assert!(oks.contains(words), "{words} in:\n{oks}");
    }
    let warnings = findings(&report, "warning").join("\n");
    assert!(warnings.contains("lie on one disk") && warnings.contains("no point was ever proven"), "{warnings}");
    sites.run("fra", &["restore"]);
    ready(&sites, "fra");
    let report = ready(&sites, "ams");
    assert_eq!(report["peer"]["status"]["newest_proven"], "0-1", "{report}");
    assert_eq!(report["peer"]["status"]["check"]["ready"], true);
    let status = || fs::read(sites.vault().join("systems/app/status/ams.json")).unwrap();
    let before = status();
    sites.run("ams", &["check", "--dry-run"]);
    assert_eq!(status(), before, "a dry run tells nobody");
    let text = sites.run("ams", &["check"]);
    assert!(text.contains("WARNING  apart") && text.contains("         next: "), "{text}");
}

#[tokio::test]
async fn what_the_live_site_lacks_is_named_and_a_capture_fails_of_it() {
    let sites = Sites::filled().await;
    let password = sites.live.cluster().password_file();
    let right = fs::read(&password).unwrap();
    fs::write(&password, "wrong").unwrap();
    fails(&sites, "ams", "database", "the server refuses role warmspare");
    sites.refused("ams", &["capture"], 1);
    fs::remove_file(&password).unwrap();
    fails(&sites, "ams", "secret", "cannot be read");
    fs::write(&password, right).unwrap();

    let lost = "CREATE FUNCTION pg_catalog.lost() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    sites.live.sql("app", lost).await;
    fails(&sites, "ams", "objects", "function lost() (");
    sites.refused("ams", &["capture"], 3);
    sites.live.sql("app", "DROP FUNCTION pg_catalog.lost()").await;

    let file = sites.root("ams").join("etc/app");
    fs::rename(&file, sites.path().join("app.aside")).unwrap();
    fails(&sites, "ams", "export", "export.configs");
    sites.refused("ams", &["capture"], 1);
    fs::rename(sites.path().join("app.aside"), &file).unwrap();

    fs::rename(sites.bucket("fra"), sites.path().join("bucket.aside")).unwrap();
    fails(&sites, "ams", "bucket", "fra/bucket: it is not there");
    sites.refused("ams", &["capture"], 1);
    fs::rename(sites.path().join("bucket.aside"), sites.bucket("fra")).unwrap();

    ready(&sites, "ams");
    sites.run("ams", &["capture"]);
}

#[tokio::test]
async fn a_vault_that_is_gone_full_or_another_is_named_at_both_sites() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    ready(&sites, "fra");
    let aside = sites.path().join("vault.aside");
    fs::rename(sites.vault(), &aside).unwrap();
    for site in ["ams", "fra"] {
        fails(&sites, site, "vault", "cannot open");
    }
    // An empty folder in its place: a disk that is not mounted.
    fs::create_dir(sites.vault()).unwrap();
    fails(&sites, "fra", "points", "recovery point 0-1 was there before and is gone");
    sites.refused("fra", &["restore"], 3);
    fails(&sites, "ams", "capture", "cannot go on with its epoch");
    sites.refused("ams", &["capture"], 3);
    fs::remove_dir(sites.vault()).expect("nothing was written into it");
    fs::rename(&aside, sites.vault()).unwrap();

    let epoch = fs::read_dir(sites.vault().join("systems/app/epochs")).unwrap().next().unwrap().unwrap().path();
    let secrets = epoch.join("secrets-0.age");
    let kept = fs::read(&secrets).unwrap();
    fs::remove_file(&secrets).unwrap();
    fails(&sites, "ams", "capture", "nothing else opens the epoch");
    sites.refused("ams", &["capture"], 3);
    let (report, code) = check(&sites, "fra");
    assert_eq!(code, Some(1), "{report}");
    assert!(findings(&report, "failure").iter().any(|found| found.starts_with("decryption: ")), "{report}");
    fs::write(&secrets, kept).unwrap();
    ready(&sites, "ams");
    ready(&sites, "fra");
}

#[tokio::test]
async fn a_full_disk_is_named_before_the_night() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let small = sites.path().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("not root: the full disk was not tried");
        return;
    }
    // The vault moves onto the small disk as far as it fits there.
    let epochs = sites.vault().join("systems/app/epochs");
    let bound = Command::new("mount").arg("--bind").arg(&small).arg(sites.state("ams")).status().unwrap();
    let (report, code) = check(&sites, "ams");
    let unbound = Command::new("umount").arg(sites.state("ams")).status().unwrap();
    let unmounted = Command::new("umount").arg(&small).status().unwrap();
    assert!(bound.success() && unbound.success() && unmounted.success() && epochs.exists());
    let failures = findings(&report, "failure");
    assert_eq!(code, Some(1), "{failures:?}");
    assert!(
        failures.iter().any(|f| f.starts_with("space: state folder") && f.contains("12.0 KiB free")),
        "{failures:?}"
    );
}

#[tokio::test]
async fn what_the_spare_lacks_is_named_and_a_restore_fails_of_it() {
    let sites = Sites::filled().await;
    sites.live.sql("app", "CREATE EXTENSION pg_trgm").await;
    sites.run("ams", &["capture"]);
    ready(&sites, "fra");

    let name = sites.configuration();
    let text = fs::read_to_string(&name).unwrap();
    sites.edit_configuration("fra-keys/identity.txt", "ams-keys/identity.txt");
    fails(&sites, "fra", "keys", "identity: `identity` of fra belongs to age1");
    sites.refused("fra", &["restore"], 1);
    fs::write(&name, &text).unwrap();
    sites.edit_configuration("fra-keys/signing.key", "ams-keys/signing.key");
    let (report, _) = check(&sites, "fra");
    assert!(
        findings(&report, "failure")[0].starts_with("keys: signing_key: `signing_key` of fra belongs to"),
        "{report}"
    );
    fs::write(&name, &text).unwrap();

    sites.spare.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'p'").await;
    fs::write(sites.path().join("clerk"), "p").unwrap();
    let port = format!("{}/app", sites.spare.cluster().port());
    sites.edit_configuration(&format!("warmspare@127.0.0.1:{port}"), &format!("clerk@127.0.0.1:{port}"));
    let password = sites.spare.cluster().password_file().display().to_string();
    sites.edit_configuration(&password, &sites.path().join("clerk").display().to_string());
    fails(&sites, "fra", "rights", "role clerk lacks CREATEDB and CREATEROLE");
    sites.refused("fra", &["restore"], 1);
    fs::write(&name, &text).unwrap();

    sites.spare.create("app", "CREATE TABLE public.own (id int)").await;
    fails(&sites, "fra", "restore", "holds what is not from a recovery point");
    sites.refused("fra", &["restore"], 3);
    sites.spare.sql("postgres", "DROP DATABASE app").await;
    ready(&sites, "fra");
    sites.run("fra", &["restore"]);
}

#[tokio::test]
async fn a_spare_of_an_older_major_is_named_and_a_restore_fails_of_it() {
    let sites = Sites::filled().await;
    let newer = PostgresServer::of(17);
    newer.create("app", "CREATE TABLE t (a int)").await;
    let (url, password) = (newer.cluster().url("app"), newer.cluster().password_file().display().to_string());
    let programs = programs(17).display().to_string();
    let before = format!("url = \"{}\"", sites.live.cluster().url("app"));
    sites.edit_configuration(&before, &format!("url = \"{url}\", programs = \"{programs}\""));
    sites.edit_configuration(&sites.live.cluster().password_file().display().to_string(), &password);
    ready(&sites, "ams");
    sites.run("ams", &["capture"]);
    fails(&sites, "fra", "server", "PostgreSQL 15, but the newest point is of PostgreSQL 17, which is newer");
    let message = sites.refused("fra", &["restore"], 3);
    assert!(message.contains("the server is PostgreSQL 15, but the snapshot is of PostgreSQL 17"), "{message}");
}

/// A header of the newest point's database with other facts, as a server with other extensions had written it, needs the
/// signing key of the live site: the test has it.
#[tokio::test]
async fn an_extension_the_spare_has_no_package_of_is_named() {
    let sites = Sites::filled().await;
    let Some(control) = Extension::install() else {
        println!("the folder of extensions cannot be written: not tried");
        return;
    };
    sites.live.sql("app", &format!("CREATE EXTENSION {}", control.name)).await;
    sites.run("ams", &["capture"]);
    let name = control.name.clone();
    drop(control);
    fails(&sites, "fra", "extensions", &format!("lacks {name} of the newest point"));
    let message = sites.refused("fra", &["restore"], 3);
    assert!(message.contains(&format!("lacks the extensions {name}")), "{message}");
}

/// An extension of this test alone, which can be taken away again.
struct Extension {
    name: String,
}

const EXTENSIONS: &str = "/usr/share/postgresql/15/extension";

impl Extension {
    fn install() -> Option<Extension> {
        let name = format!("warmspare_test_{}", std::process::id());
        let control = "default_version = '1'\nrelocatable = true\n";
        fs::write(Path::new(EXTENSIONS).join(format!("{name}.control")), control).ok()?;
        let installed = Extension { name };
        fs::write(Path::new(EXTENSIONS).join(format!("{}--1.sql", installed.name)), "").ok()?;
        Some(installed)
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for ending in [".control", "--1.sql"] {
            let path = Path::new(EXTENSIONS).join(format!("{}{ending}", self.name));
            if let Err(error) = fs::remove_file(&path) {
                println!("{}: {error}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn connections_that_are_used_up_are_counted_and_a_capture_fails_of_it() {
    let sites = Sites::filled().await;
    sites.edit_configuration("live = \"ams\"\n", "live = \"ams\"\ncapture = { workers = 2 }\n");
    sites.live.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'p' CONNECTION LIMIT 3").await;
    sites.live.sql("app", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reader").await;
    fs::write(sites.path().join("reader"), "p").unwrap();
    let port = format!("{}/app", sites.live.cluster().port());
    sites.edit_configuration(&format!("warmspare@127.0.0.1:{port}"), &format!("reader@127.0.0.1:{port}"));
    let password = sites.live.cluster().password_file().display().to_string();
    sites.edit_configuration(&password, &sites.path().join("reader").display().to_string());
    fails(&sites, "ams", "connections", "3 are free, 7 are needed; the limit is the role's CONNECTION LIMIT 3");
    // A capture of two small tables might be through with three of them before it asks for a fourth.
    sites.live.sql("postgres", "ALTER ROLE reader CONNECTION LIMIT 1").await;
    let message = sites.refused("ams", &["capture"], 1);
    assert!(message.contains("too many connections"), "{message}");
    sites.live.sql("postgres", "ALTER ROLE reader CONNECTION LIMIT 7").await;
    let report = ready(&sites, "ams");
    assert!(findings(&report, "warning").iter().any(|w| w.contains("passwords of roles are not captured")), "{report}");
    let text = sites.run("ams", &["capture"]);
    assert!(text.contains("but NO passwords of roles: ours may not read them"), "{text}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_the_statement_that_gives_it() {
    let sites = Sites::filled().await;
    sites.live.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'p'").await;
    sites.live.sql("app", "CREATE TABLE secret (a int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY").await;
    fs::write(sites.path().join("reader"), "p").unwrap();
    let port = format!("{}/app", sites.live.cluster().port());
    sites.edit_configuration(&format!("warmspare@127.0.0.1:{port}"), &format!("reader@127.0.0.1:{port}"));
    let password = sites.live.cluster().password_file().display().to_string();
    sites.edit_configuration(&password, &sites.path().join("reader").display().to_string());
    fails(&sites, "ams", "rights", "; table public.packages; ");
    sites.refused("ams", &["capture"], 3);
    let (report, _) = check(&sites, "ams");
    let failure = report["findings"].as_array().unwrap().iter().find(|finding| finding["level"] == "failure").unwrap();
    let next = failure["next"].as_str().unwrap();
    let statements = next.strip_prefix("As a superuser run in that database: ").unwrap_or_else(|| panic!("{next}"));
    assert_eq!(statements, "GRANT pg_read_all_data TO \"reader\"; ALTER ROLE \"reader\" BYPASSRLS;");
    sites.live.sql("app", statements).await;
    let report = ready(&sites, "ams");
    assert!(!findings(&report, "warning").iter().any(|words| words.contains("passwords of roles")), "{report}");
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
}

#[tokio::test]
async fn client_programs_that_are_too_old_or_not_whole_are_named() {
    let sites = Sites::filled().await;
    let folder = sites.path().join("old");
    fs::create_dir(&folder).unwrap();
    let program = |name: &str, version: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("pg_dump", "13.9");
    let (live, given) = (sites.live.cluster().url("app"), folder.display());
    sites.edit_configuration(&format!("url = \"{live}\""), &format!("url = \"{live}\", programs = \"{given}\""));
    fails(&sites, "ams", "programs", "pg_dump (PostgreSQL) 13.9");
    sites.refused("ams", &["capture"], 3);
    program("pg_dump", "15.18");
    fails(&sites, "ams", "programs", "pg_restore cannot be started");
}

#[tokio::test]
async fn a_server_that_is_down_hides_nothing_else() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let port = sites.spare.cluster().port();
    let Sites { spare, .. } = &sites;
    assert_eq!(spare.value("postgres", "SELECT 'up'").await, "up");
    // A port where nobody listens stands for a server that is down.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    sites.edit_configuration(&format!("127.0.0.1:{port}/app"), &format!("127.0.0.1:{free}/app"));
    fs::rename(sites.bucket("fra"), sites.path().join("aside")).unwrap();
    let (report, code) = check(&sites, "fra");
    let failures = findings(&report, "failure");
    assert_eq!(code, Some(1));
    assert!(failures.iter().any(|f| f.contains("the server cannot be reached")), "{failures:#?}");
    assert!(failures.iter().any(|f| f.starts_with("bucket: ")), "{failures:#?}");
    assert!(findings(&report, "ok").iter().any(|f| f.starts_with("decryption: ")), "{report}");
    sites.refused("fra", &["restore"], 1);
}

#[tokio::test]
async fn a_state_folder_of_another_user_is_named() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: no other user to be");
        return;
    }
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    for path in [sites.path().to_owned(), sites.path().join("ams-keys"), sites.path().join("ams-keys/signing.key")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The binary is where others may not go; a copy is not.
    let binary = sites.path().join("warmspare");
    fs::copy(env!("CARGO_BIN_EXE_warmspare"), &binary).unwrap();
    let run = |argument: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary).args([argument, "--json"]);
        command.env("WARMSPARE_CONFIG", sites.configuration()).env("WARMSPARE_SITE", "ams").output().unwrap()
    };
    let output = run("check");
    let failures = findings(&report(&output), "failure");
    assert_eq!(output.status.code(), Some(1));
    assert!(failures.iter().any(|f| f.starts_with("state folder: ") && f.contains("cannot be used")), "{failures:#?}");
    let captured = run("capture");
    assert_eq!(captured.status.code(), Some(1), "{}", shown(&captured));
    std::os::unix::fs::chown(sites.state("ams"), Some(65534), None).unwrap();
    let (report, _) = check(&sites, "ams");
    let warnings = findings(&report, "warning");
    assert!(warnings.iter().any(|w| w.contains("belongs to user 65534, and this is user 0")), "{warnings:#?}");
}

#[tokio::test]
async fn from_init_to_a_site_that_is_ready_and_captures() {
    let sites = Sites::filled().await;
    let file = sites.path().join("etc/warmspare.toml");
    let path = file.display().to_string();
    let warmspare = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
        command.args(arguments).current_dir(sites.path()).env("WARMSPARE_CONFIG", &file);
        command.output().unwrap()
    };
    let written = warmspare(&["init", "--system", "app"]);
    assert!(String::from_utf8_lossy(&written.stderr).contains("warmspare keygen --site ams"), "{}", shown(&written));
    assert_eq!(warmspare(&["init", &path]).status.code(), Some(3), "never over a file that is there");
    let blank = warmspare(&["--site", "ams", "check"]);
    assert_eq!(blank.status.code(), Some(2), "{}", shown(&blank));

    let mut text = fs::read_to_string(&file).unwrap();
    let mut fill = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in:\n{text}");
        text = text.replacen(from, to, 1);
    };
    let escrow = report(&warmspare(&["keygen", "--escrow", "--out", "page.txt", "--json"]));
    fill("<age1… of the escrow>", escrow["recipient"].as_str().unwrap());
    fill("/srv/vault", &sites.vault().display().to_string());
    for (site, server) in [("ams", &sites.live), ("fra", &sites.spare)] {
        let keys = report(&warmspare(&["keygen", "--site", site, "--json"]));
        fill(&format!("<ed25519:… of {site}>"), keys["verifying_key"].as_str().unwrap());
        fill(&format!("<age1… of {site}>"), keys["recipient"].as_str().unwrap());
        fill("postgresql://warmspare@127.0.0.1/app", &server.cluster().url("app"));
        fill("file:/etc/warmspare/pg", &format!("file:{}", server.cluster().password_file().display()));
        fill(&format!("/srv/artifacts-{site}"), &sites.bucket(site).display().to_string());
        // On two hosts the defaults do.
        let (state, keys) = (sites.state(site), sites.path().join(site));
        let own = format!(
            "[sites.{site}]\nstate = {state:?}\nidentity = \"file:{keys}/identity.txt\"\nsigning_key = \"file:{keys}/signing.key\"",
            keys = keys.display()
        );
        fill(&format!("[sites.{site}]"), &own);
    }
    fs::write(&file, text).unwrap();
    let checked = warmspare(&["--site", "ams", "check", "--json"]);
    assert_eq!((findings(&report(&checked), "failure"), checked.status.code()), (Vec::new(), Some(0)));
    for (site, command) in [("ams", "capture"), ("fra", "restore")] {
        let done = warmspare(&["--site", site, command]);
        assert!(done.status.success(), "{}", shown(&done));
    }
}

#[tokio::test]
async fn whether_a_bucket_takes_objects_is_found_without_leaving_any() {
    use crate::support::buckets::{folder, keys, s3};
    use crate::support::ceph::{CREDENTIALS, Ceph};
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let bucket = s3(ceph.endpoint(), &name, "spare/", Some(CREDENTIALS));
    bucket.check_writable().await.unwrap();
    assert!(keys(&s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)), None).await.is_empty());
    let stranger = s3(ceph.endpoint(), &name, "spare/", Some("AKNOBODY:SKNOBODY"));
    assert!(stranger.check_writable().await.is_err());

    let root = tempfile::tempdir().unwrap();
    let bucket = folder(root.path());
    bucket.check_writable().await.unwrap();
    assert!(keys(&bucket, None).await.is_empty());
    fs::remove_dir_all(root.path()).unwrap();
    assert!(bucket.check_writable().await.is_err());
}

#[tokio::test]
async fn a_locale_the_spare_has_not_is_found_without_making_a_database() {
    use warmspare::postgres::condition::{Locale, locale};
    let server = crate::support::postgres::PostgresServer::start();
    let session = server.session("postgres").await;
    let there = warmspare::postgres::properties::read(&session).await.unwrap();
    assert_eq!(locale(&session, &there).await.unwrap(), Locale::There);
    let name = "xx_YY.UTF-8".to_owned();
    let missing = warmspare::postgres::properties::Properties { collate: name.clone(), ctype: name, ..there.clone() };
    let found = locale(&session, &missing).await.unwrap();
    assert!(matches!(&found, Locale::Missing(what) if what.contains("xx_YY.UTF-8")), "{found:?}");
    let german = Some("de".to_owned());
    let icu =
        warmspare::postgres::properties::Properties { locale_provider: "i".into(), locale: german, ..there.clone() };
    assert_eq!(locale(&session, &icu).await.unwrap(), Locale::There);
    let latin = warmspare::postgres::properties::Properties { encoding: "LATIN1".into(), ..there };
    assert_eq!(locale(&session, &latin).await.unwrap(), Locale::Untried);
    let left =
        session.text("", "SELECT count(*)::text FROM pg_collation WHERE collname LIKE 'warmspare%'").await.unwrap();
    assert_eq!(left, "0");
    session.close().await;
}
