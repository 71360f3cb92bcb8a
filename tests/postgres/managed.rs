//! Managed servers: nobody is superuser. What the service forbids is survived and said by name, and nothing else is forgiven.

use std::collections::BTreeSet;

use warmspare::capture::database::{DatabaseFacts, capture};
use warmspare::clock::SystemClock;
use warmspare::error::{Class, Error};
use warmspare::observe::Progress;
use warmspare::restore::steps::database::{
    Loaded, Origin, Owner, Part, Prepared, Sessions, Standing, Target, drop_replaced, exchange_of, load, prepare,
    prove, remaining, replaced_before, standing, swap,
};
use warmspare::verify::database::Comparison;

use super::{POINT, Taken, fixture, options, take, words};
use crate::support::managed::Managed;
use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

async fn take_managed(server: &Managed, database: &str) -> Result<Taken, Error> {
    let sinks = |_| async { Ok(MemorySink::default()) };
    let (address, password) = (server.address(database), Managed::password());
    capture(&address, password, sinks, &options(), &SystemClock, &Progress::silent()).await
}

fn origin(run: &str) -> Origin {
    let owner = Owner { system: "s".into(), site: "fra".into(), source: "database.app".into() };
    Origin { owner, run: run.into(), since: "2026-01-01T00:00:00Z".into(), ..Origin::default() }
}

fn target(server: &Managed, database: &str) -> Target {
    let target = Target::new(&server.address(database), Managed::password(), None, 0, POINT, 2).unwrap();
    target.made_by(origin("one"))
}

async fn bring_back(target: &Target, captured: &Taken) -> Result<(Prepared, Loaded), Error> {
    let source = captured.sink.source();
    let prepared = prepare(target, &source, &captured.facts).await?;
    let loaded = load(target, &source, &Progress::silent()).await?;
    Ok((prepared, loaded))
}

async fn compare(target: &Target, captured: &Taken) -> Comparison {
    prove(target, &captured.sink.source(), &captured.facts, &Progress::silent()).await.unwrap()
}

fn named(found: &Comparison) -> Vec<String> {
    found.refused.iter().map(|refused| format!("{} {}", refused.kind, refused.name)).collect()
}

/// The registry as an administrator of a managed server makes it.
async fn registry(major: u32) -> (Managed, Taken) {
    let live = Managed::of(major).await;
    live.sql("postgres", "CREATE DATABASE builder").await;
    live.sql("builder", fixture::REGISTRY).await;
    let member = if major >= 16 { "GRANT hab TO admin WITH INHERIT TRUE, SET TRUE" } else { "GRANT hab TO admin" };
    let around = fixture::AROUND.replace("NAME", "builder").replacen(
        "ALTER ROLE hab SET",
        &format!("{member}; ALTER ROLE hab SET"),
        1,
    );
    live.sql("postgres", &around).await;
    let lend = "GRANT CREATE ON SCHEMA public TO hab; ALTER TABLE audited OWNER TO hab; REVOKE CREATE ON SCHEMA public FROM hab";
    let mut odd = fixture::ODD.replace("ALTER TABLE audited OWNER TO hab", lend);
    if major > 15 {
        odd = odd.replace("CREATE COLLATION german (provider = icu, locale = 'de');\n", "");
    }
    live.sql("builder", &odd).await;
    let captured = take_managed(&live, "builder").await.unwrap();
    (live, captured)
}

async fn comes_back(from: u32, to: u32) {
    let (live, captured) = registry(from).await;
    let facts: &DatabaseFacts = &captured.facts;
    assert!(facts.without_passwords, "pg_authid is closed, and the capture says so");
    let spare = Managed::of(to).await;
    let target = target(&spare, "builder");
    let (prepared, loaded) = bring_back(&target, &captured).await.unwrap();
    assert_eq!((prepared.refused_memberships, loaded.allowance.refused), (Vec::new(), BTreeSet::new()));
    assert_eq!(loaded.allowance.joined.iter().map(String::as_str).collect::<Vec<_>>(), ["hab"]);
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    assert_eq!(found.refused, []);
    drop(live);
}

#[tokio::test]
async fn a_registry_of_a_managed_15_comes_back_on_a_managed_15() {
    comes_back(15, 15).await;
}

#[tokio::test]
async fn a_registry_of_a_managed_16_comes_back_on_a_managed_18() {
    comes_back(16, 18).await;
}

/// What a superuser makes, and no managed server lets anybody make.
const ONLY_SUPERUSERS: &str = r#"
CREATE ROLE app LOGIN PASSWORD 'p';
CREATE ROLE reader;
CREATE TABLE t (id serial PRIMARY KEY, name text);
INSERT INTO t (name) SELECT 'n' || n FROM generate_series(1, 500) n;
CREATE TABLE theirs (id int PRIMARY KEY REFERENCES t (id), v text);
INSERT INTO theirs VALUES (1, 'x');
ALTER TABLE theirs OWNER TO app;
GRANT SELECT ON t TO reader;
ALTER TABLE theirs ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON theirs TO reader USING (false);
ALTER TABLE theirs DISABLE TRIGGER ALL;
CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN END $f$;
CREATE EVENT TRIGGER seeing ON ddl_command_end EXECUTE FUNCTION told();
CREATE EVENT TRIGGER "not seeing" ON sql_drop EXECUTE FUNCTION told();
ALTER EVENT TRIGGER "not seeing" DISABLE;
COMMENT ON EVENT TRIGGER "not seeing" IS 'off';
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION one FOR TABLE t;
CREATE SUBSCRIPTION listens CONNECTION 'host=127.0.0.1 port=1 password=hunter2' PUBLICATION p WITH (connect = false, slot_name = NONE);
CREATE EXTENSION pg_trgm;
COMMENT ON EXTENSION pg_trgm IS 'ours';
CREATE EXTENSION hstore;
COMMENT ON EXTENSION hstore IS 'ours, too';
CREATE TYPE pair AS (a int, b int);
CREATE CAST (pair AS text) WITH INOUT;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
SELECT lo_from_bytea(70001, 'bytes');
GRANT SELECT ON LARGE OBJECT 70001 TO reader;
SELECT lo_from_bytea(70002, 'theirs');
ALTER LARGE OBJECT 70002 OWNER TO app;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM t;
ALTER MATERIALIZED VIEW counted OWNER TO app;
GRANT SELECT ON t TO app WITH GRANT OPTION;
SET SESSION AUTHORIZATION app;
GRANT SELECT ON t TO reader;
RESET SESSION AUTHORIZATION;
"#;

const AROUND: &str = "\
ALTER DATABASE app SET log_statement = 'none'; ALTER DATABASE app SET work_mem = '8MB'; ALTER DATABASE app SET my.own = 'x'; \
ALTER ROLE app IN DATABASE app SET session_replication_role = 'origin'; \
COMMENT ON DATABASE app IS E'two\\nlines'; GRANT CONNECT ON DATABASE app TO reader WITH GRANT OPTION";

/// The names of what a managed server refuses of it.
const REFUSED: [&str; 12] = [
    "changed privileges function pg_catalog.pg_ls_waldir(",
    "comment extension pg_trgm",
    "constraint trigger of theirs_id_fkey on public.theirs",
    "database setting log_statement",
    "database setting my.own",
    "database setting session_replication_role of app",
    "default privileges of warmspare ",
    "event trigger \"not seeing\"",
    "event trigger seeing",
    "owner warmspare",
    "publication everything",
    "subscription listens",
];

async fn self_hosted() -> Taken {
    let live = PostgresServer::start();
    live.create("app", ONLY_SUPERUSERS).await;
    live.sql("postgres", AROUND).await;
    take(&live, "app").await.unwrap()
}

/// Changes that no refusal explains, and the words that must name them.
const PLANTED: [(&str, &str); 7] = [
    ("DROP PUBLICATION one", "publication one is missing"),
    ("UPDATE public.t SET name = 'x' WHERE id = 1", "table \"public\".\"t\": captured"),
    ("ALTER TABLE public.theirs OWNER TO admin", "table owner public.theirs: captured `app`, found `admin`"),
    ("REVOKE SELECT ON public.t FROM reader", "table privileges public.t: captured"),
    ("COMMENT ON EXTENSION hstore IS NULL", "comment extension hstore is missing"),
    ("ALTER DATABASE \"FRESH\" RESET work_mem", "database setting work_mem is missing"),
    ("DROP TYPE public.pair CASCADE", "cast (public.pair AS pg_catalog.text) is missing"),
];

#[tokio::test]
async fn what_a_managed_server_forbids_is_named_and_the_rest_is_proven() {
    let captured = self_hosted().await;
    let spare = Managed::of(15).await;
    spare.bring_everywhere("pg_trgm").await;
    spare.server.sql("postgres", "CREATE ROLE reader; ALTER ROLE admin BYPASSRLS").await;
    let target = target(&spare, "app");
    let (_, loaded) = bring_back(&target, &captured).await.unwrap();
    assert_eq!(loaded.allowance.joined.iter().map(String::as_str).collect::<Vec<_>>(), ["app"]);
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    assert_eq!(named(&found), REFUSED, "{:#?}", found.refused);
    let kept = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    let comment = spare.server.value(&target.fresh(), kept).await;
    assert!(comment.starts_with("two\nlines\n[warmspare] {"), "{comment}");
    for (change, expect) in PLANTED {
        spare.server.sql(&target.fresh(), &change.replace("FRESH", &target.fresh())).await;
        let found = words(&compare(&target, &captured).await.differences);
        assert!(found.contains(expect), "after `{change}` the proof said:\n{found}\nbut not: {expect}");
    }
}

#[tokio::test]
async fn a_role_that_does_not_let_the_administrator_act_for_it_is_named_with_the_statement_that_helps() {
    let live = PostgresServer::start();
    live.create("app", "CREATE ROLE app; CREATE TABLE t (a int); ALTER TABLE t OWNER TO app").await;
    let captured = take(&live, "app").await.unwrap();
    let spare = Managed::of(16).await;
    // Another administrator's: since 16 nobody but its maker administers it.
    spare.server.sql("postgres", "CREATE ROLE app").await;
    let target = target(&spare, "app");
    let error = bring_back(&target, &captured).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("our role may not act for role \"app\", whose objects it must make or rename"), "{text}");
    let next = error.next_step().unwrap();
    assert!(next.contains("GRANT \"app\" TO \"admin\" WITH INHERIT TRUE, SET TRUE; "), "{next}");
    assert_eq!(error.class(), Class::Refused);
    spare.server.sql("postgres", "GRANT app TO admin WITH INHERIT TRUE, SET TRUE").await;
    bring_back(&target, &captured).await.unwrap();
    assert_eq!(words(&compare(&target, &captured).await.differences), "");
}

#[tokio::test]
async fn the_administrator_swaps_swaps_back_and_drops_what_is_kept() {
    let live = PostgresServer::start();
    live.create("app", "CREATE ROLE app LOGIN PASSWORD 'p'; CREATE TABLE t (a int); ALTER TABLE t OWNER TO app").await;
    live.sql("postgres", "ALTER DATABASE app OWNER TO app; COMMENT ON DATABASE app IS 'the registry'").await;
    let captured = take(&live, "app").await.unwrap();
    let spare = Managed::of(16).await;
    spare.sql("postgres", "CREATE DATABASE app").await;
    spare.sql("app", "CREATE TABLE before (a int)").await;
    let first = target(&spare, "app");
    assert!(matches!(standing(&first).await.unwrap(), Standing::Foreign { .. }));
    bring_back(&first, &captured).await.unwrap();
    spare.sql("postgres", "ALTER ROLE app LOGIN PASSWORD 'p'").await;

    let mut address = spare.server.address("app");
    address.url = address.url.replace("warmspare@", "app@");
    let application = warmspare::postgres::Server::new(&address, Some("p".into())).unwrap().connect().await.unwrap();
    let error = swap(&first, Sessions::Refuse).await.unwrap_err();
    assert!(error.to_string().contains(" as app from "), "{error}");
    let superusers = spare.server.session("app").await;
    let error = swap(&first, Sessions::End).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("database app is in use by 1 sessions:") && text.contains(" as warmspare "), "{text}");
    superusers.close().await;
    assert!(application.execute("", "SELECT 1").await.is_err(), "the administrator ended the application's session");
    let kept = swap(&first, Sessions::End).await.unwrap().kept.unwrap();
    assert_eq!(standing(&first).await.unwrap(), Standing::Ours { term: 0, point: POINT.into() });
    assert_eq!(words(&compare(&first, &captured).await.differences), "");

    let server = warmspare::postgres::Server::new(&spare.address("app"), Managed::password()).unwrap();
    let undo = exchange_of(&server, &origin("undo"), "app").await.unwrap().unwrap();
    assert_eq!(undo.back.database, kept);
    undo.run(&server, &origin("undo")).await.unwrap();
    undo.run(&server, &origin("undo")).await.unwrap();
    let is_before = "SELECT (to_regclass('public.before') IS NOT NULL)::text";
    assert_eq!(spare.server.value("app", is_before).await, "true");
    let again = exchange_of(&server, &origin("again"), "app").await.unwrap().unwrap();
    again.run(&server, &origin("again")).await.unwrap();
    assert_eq!(spare.server.value("app", is_before).await, "false");
    assert_eq!(words(&compare(&first, &captured).await.differences), "");

    // The same point once more; then the one it replaces is a restore's and goes.
    let second = target(&spare, "app").made_by(origin("two"));
    bring_back(&second, &captured).await.unwrap();
    swap(&second, Sessions::End).await.unwrap();
    let third = target(&spare, "app").made_by(origin("three"));
    let names = replaced_before(&third).await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(drop_replaced(&third, &names).await.unwrap()[0].failed, None);
    let session = spare.session("postgres").await;
    let left = remaining(&session, &origin("three").owner).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|found| (found.database, found.part)).collect();
    assert_eq!(left, [("app".to_owned(), Part::InPlace), (kept, Part::Replaced)]);
    let comment = captured_comment(&spare).await;
    assert_eq!(comment, Some("the registry".to_owned()), "a capture of it carries no mark of ours");
}

/// The comment of the database as a capture has it.
async fn captured_comment(server: &Managed) -> Option<String> {
    let captured = take_managed(server, "app").await.unwrap();
    warmspare::capture::layout::properties(&captured.sink.source()).await.unwrap().comment
}
