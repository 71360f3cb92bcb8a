//! From one major version to another: what was captured on the older server is proven on the newer one.

use warmspare::error::Class;
use warmspare::observe::Progress;
use warmspare::restore::steps::database::{Loaded, Sessions, Target, load, prepare, promote_roles, prove, swap};
use warmspare::verify::database::Comparison;

use super::{Taken, bring_back, differences, fixture, take, take_with, target, words};
use crate::support::postgres::{PostgresServer, programs};

/// The further servers are built without ICU.
const ICU: &str = "CREATE COLLATION german (provider = icu, locale = 'de');\n";

/// The registry with everything easily lost, captured on a server of this major version.
async fn registry(major: u32) -> Taken {
    let live = PostgresServer::of(major);
    live.create("builder", fixture::REGISTRY).await;
    live.sql("postgres", &fixture::AROUND.replace("NAME", "builder")).await;
    live.sql("builder", &fixture::ODD.replace(ICU, "")).await;
    take(&live, "builder").await.unwrap()
}

async fn compare(target: &Target, captured: &Taken) -> Comparison {
    prove(target, &captured.sink.source(), &captured.facts, &Progress::silent()).await.unwrap()
}

/// Captures the registry on one server, restores it on another, proves and swaps it, and gives its roles their logins.
async fn comes_back(from: u32, to: u32) -> (PostgresServer, Target, Taken) {
    let captured = registry(from).await;
    let spare = PostgresServer::of(to);
    let target = target(&spare, "builder");
    bring_back(&target, &captured).await;
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    let untold = format!("pg_dump's own words, which differ between PostgreSQL {from} and {to}");
    assert_eq!(found.not_compared, if from == to { Vec::new() } else { vec![untold] });
    swap(&target, Sessions::Refuse).await.unwrap();
    promote_roles(&target, &captured.sink.source()).await.unwrap();
    (spare, target, captured)
}

#[tokio::test]
async fn a_registry_of_14_comes_back_on_16_with_the_rights_in_its_public_schema() {
    let (spare, ..) = comes_back(14, 16).await;
    // pg_dump 14 carries neither owner nor comment of that schema, and 15 took CREATE from everybody.
    let public = "SELECT concat_ws(' ', pg_get_userbyid(nspowner), has_schema_privilege('hab', oid, 'CREATE'), \
                  obj_description(oid, 'pg_namespace')) FROM pg_namespace WHERE nspname = 'public'";
    assert_eq!(spare.value("builder", public).await, "warmspare t ours now");
}

/// Changes in a restored database that no difference between versions may hide, and the words that must name them.
const PLANTED: [(&str, &str); 8] = [
    ("CREATE OR REPLACE VIEW middle AS SELECT v + 0 AS v FROM z_first", "view public.middle: captured"),
    (
        "DROP MATERIALIZED VIEW a_second; CREATE MATERIALIZED VIEW a_second AS SELECT sum(v) FROM z_first",
        "materialized view public.a_second: captured",
    ),
    ("REVOKE MAINTAIN ON audited FROM hab", "table privileges public.audited: captured `hab=arwdDxtm/hab"),
    (
        "GRANT MAINTAIN ON audited TO reader",
        "table privileges public.audited: captured `hab=arwdDxtm/hab reader=ar/hab`",
    ),
    (
        "ALTER TABLE origins ALTER default_package_visibility DROP NOT NULL",
        "column public.origins.default_package_visibility",
    ),
    ("ALTER EXTENSION intarray SET SCHEMA \"odd, schema\"", "extension intarray: captured"),
    ("ALTER TABLE audited DROP CONSTRAINT a_positive", "constraint a_positive on public.audited is missing"),
    ("ALTER DATABASE builder RESET search_path", "database setting search_path is missing"),
];

#[tokio::test]
async fn a_registry_of_15_comes_back_on_17_and_a_planted_change_is_still_found() {
    let (spare, target, captured) = comes_back(15, 17).await;
    for (change, expect) in PLANTED {
        spare.sql("builder", &format!("SET default_transaction_read_only = off; {change}")).await;
        let found = words(&differences(&target, &captured).await);
        assert!(found.contains(expect), "after `{change}` the proof said:\n{found}\nbut not: {expect}");
    }
}

#[tokio::test]
async fn a_registry_of_15_comes_back_on_18() {
    comes_back(15, 18).await;
}

#[tokio::test]
async fn a_registry_of_18_comes_back_on_18() {
    comes_back(18, 18).await;
}

/// What the further servers do not have: ICU, a provider of labels, and the extension that keeps rows.
const LACKING: [&str; 5] = ["SECURITY LABEL", "keeps", "icu", "german", "warmspare_test"];
/// What 14 does not have yet, and what it has in its place.
const SINCE_15: [(&str, &str); 8] = [
    ("numeric(5, -2)", "numeric(5)"),
    ("'{}', 'ä')", "'{}', 'a')"),
    ("NULLS NOT DISTINCT ", ""),
    ("SET DEFAULT (a)", "SET DEFAULT"),
    (", security_invoker = true", ""),
    ("UNLOGGED SEQUENCE", "SEQUENCE"),
    ("strict (id, email) WHERE (id > 1), TABLE ONLY parent", "strict, ONLY parent"),
    (", disable_on_error = true", ""),
];
/// What it has nothing in the place of.
const ONLY_SINCE_15: [&str; 2] = ["ON PARAMETER", "whole_schema"];

/// An object of every kind that both of these servers have, from one to a newer one.
async fn everything_comes_back(from: u32, to: u32) {
    let (live, spare) = (PostgresServer::of(from), PostgresServer::of(to));
    let mut sql = super::everything::EVERYTHING.to_owned();
    let mut lacking = LACKING.to_vec();
    if from < 15 {
        sql = SINCE_15.iter().fold(sql, |sql, (since, before)| sql.replace(since, before));
        lacking.extend(ONLY_SINCE_15);
    }
    let all = warmspare::postgres::script::statements(&sql);
    let kept: Vec<&str> = all.into_iter().filter(|each| !lacking.iter().any(|word| each.contains(word))).collect();
    live.create("everything", &kept.join(";\n")).await;
    let captured = take(&live, "everything").await.unwrap();
    let target = target(&spare, "everything");
    bring_back(&target, &captured).await;
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    let told =
        ["pg_dump's own words", "the version of extension ", "the contents of materialized view \"public\".\"stale\""];
    let untold = |words: &&String| !told.iter().any(|start| words.starts_with(start));
    assert_eq!(found.not_compared.iter().find(untold), None);
    swap(&target, Sessions::Refuse).await.unwrap();
    promote_roles(&target, &captured.sink.source()).await.unwrap();
}

#[tokio::test]
async fn an_object_of_every_kind_of_14_comes_back_on_16() {
    everything_comes_back(14, 16).await;
}

#[tokio::test]
async fn an_object_of_every_kind_of_15_comes_back_on_17() {
    everything_comes_back(15, 17).await;
}

#[tokio::test]
async fn an_object_of_every_kind_of_15_comes_back_on_18() {
    everything_comes_back(15, 18).await;
}

/// Loads what was captured, without asking what came of the roles.
async fn loaded(target: &Target, captured: &Taken) -> Loaded {
    let source = captured.sink.source();
    prepare(target, &source, &captured.facts).await.unwrap();
    load(target, &source, &Progress::silent()).await.unwrap()
}

#[tokio::test]
async fn what_only_18_has_comes_back_on_18() {
    let (live, spare) = (PostgresServer::of(18), PostgresServer::of(18));
    let create = "CREATE DATABASE app TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'";
    live.sql("postgres", create).await;
    live.sql(
        "postgres",
        "CREATE ROLE owner; CREATE ROLE member; CREATE ROLE other NOINHERIT; GRANT owner TO member WITH INHERIT FALSE, SET TRUE; \
         GRANT owner TO other WITH INHERIT TRUE, SET FALSE, ADMIN TRUE; ALTER DATABASE app OWNER TO owner",
    )
    .await;
    live.sql(
        "app",
        "CREATE TABLE t (id uuid DEFAULT uuidv7(), a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL, thrice int GENERATED ALWAYS AS (a * 3) STORED); \
         INSERT INTO t (a) SELECT generate_series(1, 100); \
         ALTER TABLE t ADD CONSTRAINT a_is_known NOT NULL a; ALTER TABLE t ADD CONSTRAINT later_known NOT NULL id NOT VALID; ALTER TABLE t ADD CONSTRAINT later CHECK (a > 0) NOT ENFORCED; \
         CREATE EXTENSION btree_gist; CREATE TABLE bookings (room int, during int4range, CONSTRAINT one_at_a_time UNIQUE (room, during WITHOUT OVERLAPS)); \
         CREATE DOMAIN known AS int CONSTRAINT must_be NOT NULL; CREATE TABLE d (k known)",
    )
    .await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    loaded(&target, &captured).await;
    assert_eq!(compare(&target, &captured).await, Comparison::default());
    let fresh = target.fresh();
    assert_eq!(spare.value(&fresh, "SELECT concat(sum(twice), ' ', sum(thrice)) FROM public.t").await, "10100 15150");
    let options = "SELECT string_agg(concat_ws(' ', member::regrole, inherit_option, set_option, admin_option), ', ' ORDER BY member::regrole::text) \
                   FROM pg_auth_members WHERE roleid = 'owner'::regrole";
    assert_eq!(spare.value("postgres", options).await, "member f t f, other t f t");
    let planted = [
        (
            "ALTER TABLE public.t RENAME CONSTRAINT a_is_known TO renamed",
            "constraint a_is_known on public.t is missing",
        ),
        ("ALTER TABLE public.t VALIDATE CONSTRAINT later_known", "constraint later_known on public.t: captured"),
        (
            "ALTER TABLE public.t DROP COLUMN twice, ADD COLUMN twice int GENERATED ALWAYS AS (a * 4)",
            "column public.t.twice: captured",
        ),
    ];
    for (change, expect) in planted {
        spare.sql(&fresh, change).await;
        let found = words(&differences(&target, &captured).await);
        assert!(found.contains(expect), "after `{change}` the proof said:\n{found}\nbut not: {expect}");
    }
}

#[tokio::test]
async fn a_setting_that_the_newer_server_dropped_is_left_out_and_told() {
    let (live, spare) = (PostgresServer::of(14), PostgresServer::of(17));
    live.create("app", "CREATE ROLE worker").await;
    live.sql(
        "postgres",
        "ALTER DATABASE app SET force_parallel_mode = on; ALTER DATABASE app SET work_mem = '8MB'; ALTER DATABASE app SET my.own = 'x'; \
         ALTER ROLE worker IN DATABASE app SET force_parallel_mode = off; ALTER ROLE worker SET force_parallel_mode = on",
    )
    .await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    assert_eq!(loaded(&target, &captured).await.unknown_settings, ["force_parallel_mode"]);
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    let untold = "setting force_parallel_mode, which this server does not have".to_owned();
    assert!(found.not_compared.contains(&untold), "{:?}", found.not_compared);
    let promoted = promote_roles(&target, &captured.sink.source()).await.unwrap();
    assert_eq!(promoted.unknown_settings, ["force_parallel_mode"]);
    spare.sql("postgres", &format!("ALTER DATABASE \"{}\" RESET work_mem", target.fresh())).await;
    let red = words(&differences(&target, &captured).await);
    assert_eq!(red, "database setting work_mem is missing: captured `8MB`\n");
}

#[tokio::test]
async fn a_target_older_than_the_source_is_refused_before_anything_is_changed() {
    let (live, spare) = (PostgresServer::of(17), PostgresServer::start());
    live.create("app", "CREATE ROLE fresh_role; CREATE TABLE t (a int); ALTER TABLE t OWNER TO fresh_role").await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    let error = prepare(&target, &captured.sink.source(), &captured.facts).await.unwrap_err();
    let port = spare.cluster().port();
    let expect = format!(
        "database app at 127.0.0.1:{port}: the server is PostgreSQL 15, but the snapshot is of PostgreSQL 17, which is newer"
    );
    assert_eq!((error.to_string(), error.class()), (expect, Class::Refused));
    let next = "Upgrade the spare's database server to at least the source's major version.";
    assert_eq!(error.next_step().as_deref(), Some(next));
    let changed = "SELECT concat((SELECT count(*) FROM pg_roles WHERE rolname = 'fresh_role'), (SELECT count(*) FROM pg_database))";
    assert_eq!(spare.value("postgres", changed).await, "03");
}

#[tokio::test]
async fn client_programs_newer_than_both_servers_will_do_and_older_ones_are_refused() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", "CREATE TABLE t (a int NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let mut newer = live.address("app");
    newer.programs = Some(programs(18));
    let captured = take_with(&live, &newer, &super::options()).await.unwrap();
    assert!(captured.facts.pg_dump.starts_with("pg_dump (PostgreSQL) 18."), "{}", captured.facts.pg_dump);
    // What pg_dump 18 writes has settings that a server of 15 does not know.
    let target = target(&spare, "app");
    loaded(&target, &captured).await;
    let found = compare(&target, &captured).await;
    assert_eq!(words(&found.differences), "");
    assert!(found.not_compared[0].starts_with("pg_dump's own words, which were pg_dump (PostgreSQL) 18."));

    let newest = PostgresServer::of(18);
    let mut older = newest.address("postgres");
    older.programs = Some(programs(17));
    let error = take_with(&newest, &older, &super::options()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("pg_dump of PostgreSQL 18 or newer is needed for database postgres at "), "{text}");
    assert!(text.contains("/bin has pg_dump (PostgreSQL) 17."), "{text}");
    assert!(error.next_step().unwrap().starts_with("Install the client programs (postgresql-client-18)"));
}
