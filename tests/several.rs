//! A system of two databases: they come back together, go back together, or stay as they are together.

#![cfg(feature = "failpoints")]

use std::os::unix::process::ExitStatusExt;

use crate::support::postgres::PostgresServer;
use crate::support::sites::{Sites, shown};

/// Names a second database at both sites; at the spare on `server`, if that is another one.
fn name_another(sites: &Sites, server: Option<&PostgresServer>) {
    let file = sites.configuration();
    let mut lines = Vec::new();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        lines.push(line.to_owned());
        if !line.starts_with("databases.app = ") {
            continue;
        }
        let mut other = line.replace("databases.app", "databases.other").replace("/app\"", "/other\"");
        if let Some(server) = server.filter(|_| line.contains(&sites.spare.cluster().url("app"))) {
            let file = |server: &PostgresServer| server.cluster().password_file().display().to_string();
            other = other.replace(&sites.spare.cluster().url("other"), &server.cluster().url("other"));
            other = other.replace(&file(&sites.spare), &file(server));
        }
        lines.push(other);
    }
    std::fs::write(file, lines.join("\n") + "\n").unwrap();
}

/// What each of the two holds at the spare: rows of `packages` or of `items`, or `own` for what no restore brought.
async fn held(sites: &Sites, server: Option<&PostgresServer>) -> (String, String) {
    let of = |table: &str| {
        format!(
            "SELECT CASE WHEN to_regclass('public.own') IS NOT NULL THEN 'own' ELSE \
             (xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM public.{table}', false, true, '')))[1]::text END"
        )
    };
    let app = sites.spare.value("app", &of("packages")).await;
    (app, server.unwrap_or(&sites.spare).value("other", &of("items")).await)
}

fn pair(app: &str, other: &str) -> (String, String) {
    (app.to_owned(), other.to_owned())
}

/// Two databases at both sites, those of the spare its own; a point.
async fn two(server: Option<&PostgresServer>) -> Sites {
    let sites = Sites::filled().await;
    sites.live.create("other", "CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 500)").await;
    name_another(&sites, server);
    let own = "CREATE TABLE public.own (id int)";
    sites.spare.create("app", own).await;
    server.unwrap_or(&sites.spare).create("other", own).await;
    sites.run("ams", &["capture"]);
    sites
}

async fn an_undo_is_killed_between_the_two(server: Option<&PostgresServer>) {
    let sites = two(server).await;
    sites.run("fra", &["restore", "--replace"]);
    assert_eq!(held(&sites, server).await, pair("2000", "500"));
    let killed =
        sites.command("fra", ["restore", "--undo"]).env("WARMSPARE_FAILPOINT", "database.swapped-back").output();
    let killed = killed.unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{}", shown(&killed));
    assert_eq!(held(&sites, server).await, pair("own", "500"), "it was killed between the two");

    let would = sites.run("fra", &["restore", "--undo", "--dry-run"]);
    let report = sites.run("fra", &["restore", "--undo"]);
    for source in ["app", "other"] {
        let line = format!(
            "database.{source}: database {source} is again the one from before any restore; the one of point 0-1 is kept as"
        );
        assert!(
            report.contains(&line) && would.contains(&format!("would: {line}")),
            "{line} is not in\n{would}\n{report}"
        );
    }
    assert_eq!(held(&sites, server).await, pair("own", "own"));
    sites.run("fra", &["restore", "--undo"]);
    assert_eq!(held(&sites, server).await, pair("2000", "500"), "undone once more, both swap again");
}

#[tokio::test]
async fn an_undo_killed_between_two_databases_of_one_server_goes_on_with_the_second() {
    an_undo_is_killed_between_the_two(None).await;
}

#[tokio::test]
async fn an_undo_killed_between_databases_of_two_servers_goes_on_with_the_second() {
    let further = PostgresServer::start();
    an_undo_is_killed_between_the_two(Some(&further)).await;
}

#[tokio::test]
async fn of_two_databases_of_which_one_is_different_or_in_use_neither_is_swapped() {
    let sites = two(None).await;
    // One row of the second is changed before it is proven.
    let psql = format!(
        "PGPASSWORD=$(cat {}) psql -qX {} -c 'DELETE FROM items WHERE id = 7'",
        sites.spare.cluster().password_file().display(),
        sites.spare.cluster().url("other__0-1")
    );
    let run = sites
        .command("fra", ["restore", "--replace"])
        .env("WARMSPARE_FAILPOINT_RUN", format!("restore.loaded={psql}"))
        .output()
        .unwrap();
    let words = shown(&run);
    assert_eq!(run.status.code(), Some(4), "{words}");
    assert!(words.contains("  DIFFERS  table \"public\".\"items\": captured `500 rows"), "{words}");
    assert_eq!(held(&sites, None).await, pair("own", "own"), "the other one was equal, and was not swapped either");
    sites.run("fra", &["restore", "--replace"]);
    assert_eq!(held(&sites, None).await, pair("2000", "500"));

    sites.live.sql("app", "INSERT INTO public.packages (ident) VALUES ('new')").await;
    sites.live.sql("other", "INSERT INTO public.items VALUES (501)").await;
    sites.run("ams", &["capture"]);
    let user = sites.spare.session("other").await;
    let words = sites.refused("fra", &["restore"], 3);
    assert!(words.contains("database other is in use by 1 sessions:"), "{words}");
    assert_eq!(
        held(&sites, None).await,
        pair("2000", "500"),
        "nobody was in the first one, and it was not swapped either"
    );
    user.close().await;
    sites.run("fra", &["restore"]);
    assert_eq!(held(&sites, None).await, pair("2001", "501"));
}
