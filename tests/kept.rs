//! What an operator does with a restored database afterwards: sees what restores left, trusts that it goes when it should and
//! that nothing else does, and goes back.

#![cfg(feature = "failpoints")]

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::support::sites::{Sites, shown};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// `NAME: what it is, of which point, replaced by what`, of everything that restores have left at the spare.
fn left(sites: &Sites) -> Vec<String> {
    let listing = parsed(&sites.run("fra", &["restore", "--kept", "--json"]));
    let word = |one: &Value, key: &str| one[key].as_str().unwrap_or("-").to_owned();
    let line = |one: &Value| ["database", "part", "point", "replaced_by"].map(|key| word(one, key)).join(" ");
    listing.as_array().unwrap().iter().map(line).collect()
}

fn killed(sites: &Sites, arguments: &[&str], at: &str) {
    let output = sites.command("fra", arguments).env("WARMSPARE_FAILPOINT", at).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{at}: {}", shown(&output));
}

#[tokio::test]
async fn a_replaced_database_is_kept_until_the_next_restore_is_proven_and_nothing_else_is_dropped() {
    let sites = Sites::filled().await;
    sites.spare.create("app", "CREATE TABLE public.own (id int)").await;
    sites.run("ams", &["capture"]);
    assert_eq!(left(&sites), [""; 0]);
    sites.run("fra", &["restore", "--replace"]);
    assert_eq!(left(&sites), ["app in-place 0-1 -", "app__before_0-1 replaced - 0-1"]);

    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    sites.run("fra", &["restore", "--only", "database.app", "--into", "look"]);
    // Named as if it were ours, and nobody's but its maker's.
    sites.spare.create("app__before_0-9", "CREATE TABLE public.mine (id int)").await;
    let before = ["app in-place 0-2 -", "app__before_0-1 replaced - 0-1", "app__before_0-2 replaced 0-1 0-2"];
    assert_eq!(left(&sites), [&before[..], &["look scratch 0-2 -"]].concat());

    sites.put_object("core/index.json", b"one");
    sites.run("ams", &["capture"]);
    std::fs::write(sites.bucket("fra").join("core/index.json"), "two").unwrap();
    sites.refused("fra", &["restore"], 4);
    let unfinished = [&before[..], &["app__0-3 unfinished 0-3 -", "look scratch 0-2 -"]].concat();
    assert_eq!(sorted(left(&sites)), sorted(unfinished), "a red proof drops nothing that was replaced");

    std::fs::write(sites.bucket("fra").join("core/index.json"), "one").unwrap();
    let preview = parsed(&sites.run("fra", &["restore", "--dry-run", "--json"]));
    assert_eq!(preview["steps"][1]["drops"], json!(["app__0-3", "app__before_0-2"]), "{preview}");
    let session = sites.spare.session("look").await;
    let report = sites.run("fra", &["restore"]);
    for gone in ["app__0-3", "app__before_0-2"] {
        assert!(report.contains(&format!("  dropped  database {gone}, of an earlier restore\n")), "{report}");
    }
    let after = [
        "app in-place 0-3 -",
        "app__before_0-1 replaced - 0-1",
        "app__before_0-3 replaced 0-2 0-3",
        "look scratch 0-2 -",
    ];
    assert_eq!(left(&sites), after);
    session.execute("", "SELECT 1").await.expect("the scratch database was left alone");
    session.close().await;

    // A person who renames it has taken it.
    sites.spare.sql("postgres", "ALTER DATABASE \"app__before_0-3\" RENAME TO for_the_auditor").await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let databases = sites.spare_databases().await;
    let expect = ["app", "app__before_0-1", "app__before_0-4", "app__before_0-9", "for_the_auditor", "look"];
    assert_eq!(databases, expect);
}

fn sorted<T: Into<String>>(lines: Vec<T>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().map(Into::into).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn what_a_killed_restore_left_makes_room_for_the_next_one_of_its_source() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    sites.run("ams", &["capture"]);
    killed(&sites, &["restore"], "restore.loaded");
    assert_eq!(left(&sites), ["app in-place 0-1 -", "app__0-2 unfinished 0-2 -"]);
    let preview = sites.command("fra", ["restore", "--dry-run"]).output().unwrap();
    assert!(!shown(&preview).contains("would drop"), "it would go on with it: {}", shown(&preview));

    sites.run("ams", &["capture"]);
    // Killed again where it has dropped and not yet said so.
    killed(&sites, &["restore"], "database.left-dropped");
    let report = sites.run("fra", &["restore"]);
    assert!(report.contains("  dropped  database app__0-2, of an earlier restore\n"), "{report}");
    assert_eq!(left(&sites), ["app in-place 0-3 -", "app__before_0-3 replaced 0-1 0-3"]);
}

/// Sites whose spare has had a database and a file of its own replaced by point 0-1.
async fn replaced() -> Sites {
    let sites = Sites::filled().await;
    sites.spare.create("app", "CREATE TABLE public.own (id int)").await;
    std::fs::create_dir_all(sites.root("fra").join("etc/app")).unwrap();
    std::fs::write(sites.root("fra").join("etc/app/app.conf"), "the spare's own\n").unwrap();
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore", "--replace"]);
    sites
}

/// The table that tells which database bears the name.
async fn bears_the_name(sites: &Sites) -> String {
    let sql = "SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_class WHERE relname IN ('own', 'packages')";
    sites.spare.value("app", sql).await
}

#[tokio::test]
async fn an_undo_brings_back_what_a_restore_replaced_and_an_undo_of_it_the_restored() {
    let sites = replaced().await;
    let would = sites.run("fra", &["restore", "--undo", "--dry-run"]);
    assert!(
        would.starts_with("would: database.app: database app is again the one from before any restore;"),
        "{would}"
    );
    assert_eq!(bears_the_name(&sites).await, "packages", "a dry run changes nothing");

    let _user = sites.spare.session("app").await;
    let output = sites.command("fra", ["restore", "--undo"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let words = sites.words(&output);
    assert!(
        words.contains("/etc/app/app.conf as SITES/fra/state/restores/0-1-001/kept/configs/1/etc/app/app.conf"),
        "{words}"
    );
    assert_eq!(bears_the_name(&sites).await, "own");
    assert_eq!(left(&sites), ["app in-place - -", "app__undone_0-1 replaced 0-1 undo"]);

    let again = parsed(&sites.run("fra", &["restore", "--undo", "--only", "database.app", "--json"]));
    assert_eq!(
        (&again["resumed"], &again["databases"][0]["exchange"]["kept"]),
        (&json!(false), &json!("app__before_0-1"))
    );
    assert_eq!(bears_the_name(&sites).await, "packages");
    assert_eq!(left(&sites), ["app in-place 0-1 -", "app__before_0-1 replaced - 0-1"]);

    // What an undo took away could be restored again: it goes when the next restore is proven, the other never.
    sites.run("fra", &["restore", "--undo"]);
    sites.run("ams", &["capture"]);
    let message = sites.refused("fra", &["restore"], 3);
    assert!(message.contains("holds what is not from a recovery point"), "{message}");
    sites.run("fra", &["restore", "--replace"]);
    assert_eq!(left(&sites), ["app in-place 0-2 -", "app__before_0-2 replaced - 0-2"]);
}

#[tokio::test]
async fn an_undo_is_refused_at_the_live_site_and_where_nothing_is_kept() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let message = sites.refused("fra", &["restore", "--undo"], 3);
    assert!(message.contains("nothing is kept at fra that the last restore of database.app has replaced"), "{message}");
    sites.refused("fra", &["restore", "--undo", "--only", "export.configs"], 2);
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    for arguments in [&["restore", "--undo"][..], &["restore", "--undo", "--dry-run"]] {
        let message = sites.refused("fra", arguments, 3);
        assert!(message.contains("fra is the live site"), "{message}");
    }
    sites.refused("fra", &["restore", "--undo", "--on-live", "ams"], 3);
    let vault = sites.path().join("vault");
    std::fs::rename(&vault, sites.path().join("gone")).unwrap();
    sites.run("fra", &["restore", "--undo", "--on-live", "fra"]);
    assert_eq!(left(&sites), ["app in-place 0-1 -", "app__undone_0-2 replaced 0-2 undo"], "no vault is needed for it");
    // The one that bears the name was dropped: what is kept takes it.
    sites.spare.sql("postgres", "DROP DATABASE app WITH (FORCE)").await;
    sites.run("fra", &["restore", "--undo", "--on-live", "fra"]);
    assert_eq!(left(&sites), ["app in-place 0-2 -"]);
}

#[tokio::test]
async fn an_undo_killed_at_any_durable_step_is_completed_by_the_next_one() {
    let sites = replaced().await;
    let log = sites.path().join("steps.log");
    let undo = ["restore", "--undo"];
    let output = sites.command("fra", undo).env("WARMSPARE_FAILPOINT_LOG", &log).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let mut moments: Vec<String> = Vec::new();
    for step in std::fs::read_to_string(&log).unwrap().lines() {
        let passed = moments.iter().filter(|moment| moment.starts_with(&format!("{step}:"))).count() + 1;
        moments.push(format!("{step}:{passed}"));
    }
    // With the last of them the undo is over: the next one is another.
    assert_eq!(moments.pop().unwrap(), "restore.journal:3");
    println!("an undo is killed at {moments:?}");
    for expected in ["restore.latest:1", "database.closed:1", "database.swapped-back:1"] {
        assert!(moments.iter().any(|moment| moment == expected), "{expected} is not passed: {moments:?}");
    }
    let mut expect = "own";
    assert_eq!(bears_the_name(&sites).await, expect);
    for moment in &moments {
        expect = if expect == "own" { "packages" } else { "own" };
        killed(&sites, &undo, moment);
        sites.run("fra", &undo);
        assert_eq!(bears_the_name(&sites).await, expect, "{moment}");
        assert_eq!(left(&sites).len(), 2, "{moment}");
    }
}

#[tokio::test]
async fn what_the_spare_holds_already_is_proven_in_place_and_loaded_only_when_it_is_different() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let oid = async || sites.spare.value("postgres", "SELECT oid::text FROM pg_database WHERE datname = 'app'").await;
    let first = oid().await;
    let place = sites.run("fra", &["restore", "--dry-run"]);
    assert!(place.contains("database app: holds it already, loaded again only if it is different"), "{place}");
    let reader = sites.spare.session("app").await;
    let report = sites.run("fra", &["restore"]);
    assert!(report.starts_with("EQUAL") && report.contains("  loaded   held already, nothing was loaded"), "{report}");
    assert!(!report.contains("swapped"), "{report}");
    reader.execute("", "SELECT 1").await.expect("nothing was swapped, so nobody was thrown out");
    reader.close().await;
    let proofs = sites.points("fra")[0]["proofs"].clone();
    let summary = proofs[1]["steps"][1]["summary"].as_str().unwrap().to_owned();
    assert!(summary.starts_with("held already, nothing was loaded; every row of"), "{summary}");
    assert_eq!((oid().await, left(&sites)), (first.clone(), vec!["app in-place 0-1 -".to_owned()]));

    // Somebody worked in it; and the restore is killed while it loads again, and once more before it swaps.
    sites.spare.sql("app", "UPDATE public.packages SET body = 'x' WHERE id = 7").await;
    killed(&sites, &["restore"], "database.table");
    killed(&sites, &["restore"], "restore.placed");
    let report = sites.run("fra", &["restore"]);
    assert!(report.starts_with("EQUAL") && report.contains("swapped  point 0-1 is now database app"), "{report}");
    assert_ne!(oid().await, first);
    assert_eq!(left(&sites), ["app in-place 0-1 -", "app__before_0-1 replaced 0-1 0-1"]);
    assert_eq!(sites.spare.value("app", "SELECT count(*)::text FROM public.packages WHERE body = 'x'").await, "0");

    // What a killed swap has closed cannot be looked into, and is no dead end.
    sites.spare.sql("postgres", "ALTER DATABASE app ALLOW_CONNECTIONS false").await;
    assert!(sites.run("fra", &["restore"]).contains("swapped  point 0-1 is now database app"));

    // The same marks on a database that an undo brought back tell what it was made from, and the proof what it is.
    sites.spare.sql("app", "DELETE FROM public.packages WHERE id = 7").await;
    sites.run("fra", &["restore", "--undo"]);
    sites.spare.sql("app", "DELETE FROM public.packages WHERE id = 7").await;
    let report = sites.run("fra", &["restore"]);
    assert!(report.contains("; what was held is different"), "{report}");
}

#[tokio::test]
async fn a_database_that_was_written_to_while_its_site_was_live_is_never_dropped_by_a_restore() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    // The roles change: the application works at fra, which takes a point, and then at ams again.
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    sites.run("fra", &["capture"]);
    sites.spare.sql("app", "INSERT INTO public.origins VALUES ('written after the last point', 3)").await;
    sites.edit_configuration("live = \"fra\"", "live = \"ams\"");
    sites.run("fra", &["restore", "--point", "0-1", "--replace"]);
    let listing = parsed(&sites.run("fra", &["restore", "--kept", "--json"]));
    let told = |one: &Value| (one["database"].clone(), one["written"].clone(), one["goes"].clone());
    let kept: Vec<_> = listing.as_array().unwrap().iter().map(told).collect();
    let expect = [(json!("app"), json!(false), json!(false)), (json!("app__before_0-1"), json!(true), json!(false))];
    assert_eq!(kept, expect);
    assert!(sites.run("fra", &["restore", "--kept"]).contains("when you drop it: written to while live"));
    for _ in 0..2 {
        // Different from the point, so that it is loaded and swapped again.
        sites.spare.sql("app", "DELETE FROM public.packages WHERE id = 1").await;
        sites.run("fra", &["restore", "--point", "0-1", "--replace"]);
    }
    sites.spare.sql("postgres", "ALTER DATABASE \"app__before_0-1\" ALLOW_CONNECTIONS true").await;
    let rows = sites.spare.value("app__before_0-1", "SELECT count(*)::text FROM public.origins").await;
    assert_eq!(rows, "3", "what no point has is still there");
}
