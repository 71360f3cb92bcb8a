//! Single tables of a point, beside the database that is there: what an operator brings back after a wrong DELETE.

#![cfg(feature = "failpoints")]

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use crate::support::sites::{Sites, shown};

/// Tables with everything that reaches out of them, and some that cannot stand alone.
const MORE: &str = "
CREATE TYPE public.color AS ENUM ('red', 'green');
CREATE SEQUENCE public.shared START 5;
CREATE FUNCTION public.lower_of(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.lower($1)';
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''seen''; END';
CREATE TABLE public.\"Odd, one\" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, color public.color DEFAULT 'green', n int DEFAULT nextval('public.shared'),
    twice int GENERATED ALWAYS AS (n * 2) STORED, origin text NOT NULL REFERENCES public.origins, CHECK (n > 0));
CREATE UNIQUE INDEX \"odd ON public.x\" ON public.\"Odd, one\" (public.lower_of(origin), n);
INSERT INTO public.\"Odd, one\" (origin) SELECT 'core' FROM generate_series(1, 30);
CREATE TRIGGER refuse BEFORE INSERT ON public.\"Odd, one\" FOR EACH ROW EXECUTE FUNCTION public.refuse();
CREATE TABLE public.parted (a int) PARTITION BY RANGE (a);
CREATE TABLE public.part PARTITION OF public.parted FOR VALUES FROM (0) TO (9);
INSERT INTO public.parted VALUES (1), (2);
CREATE TABLE public.child (b int) INHERITS (public.origins);
";

/// Sites whose spare holds point 0-1, and a database that minds every new table.
async fn restored() -> Sites {
    let sites = Sites::filled().await;
    sites.live.sql("app", MORE).await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let mind = "CREATE FUNCTION public.mind() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''minded''; END'; \
                CREATE EVENT TRIGGER mind ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.mind()";
    sites.spare.sql("app", mind).await;
    sites
}

const ODD: &str = "public.\"Odd, one\"";

fn arguments<'a>(tables: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let tables = tables.iter().flat_map(|table| ["--table", *table]);
    ["restore", "--only", "database.app"].into_iter().chain(tables).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn deleted_rows_are_brought_back_from_a_table_beside_and_nothing_that_exists_is_touched() {
    let sites = restored().await;
    sites
        .spare
        .sql("app", "DELETE FROM public.packages WHERE id > 100; DELETE FROM public.\"Odd, one\" WHERE id < 20")
        .await;
    // The only thing a live site asks for is an identity that opens the point.
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    let tables = ["public.packages", ODD, "public.part"];
    let would = sites.run("fra", &arguments(&tables, &["--dry-run"]));
    assert!(
        would.starts_with("\"warmspare_0-1\".\"packages\" in app: 2000 rows (") && would.contains("would be made"),
        "{would}"
    );
    let schemas = "SELECT count(*)::text FROM pg_namespace WHERE nspname LIKE 'warmspare%'";
    assert_eq!(sites.spare.value("app", schemas).await, "0");

    for moment in ["table.made:2", "table.filled:1", "table.constrained:2"] {
        let output = sites.command("fra", arguments(&tables, &[])).env("WARMSPARE_FAILPOINT", moment).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{moment}: {}", shown(&output));
    }
    let report: Value = serde_json::from_str(&sites.run("fra", &arguments(&tables, &["--json"]))).unwrap();
    for table in report["tables"].as_array().unwrap() {
        assert_eq!((&table["equal"], &table["left_out"]), (&true.into(), &serde_json::json!([])), "{table}");
    }
    for (sql, expect) in [
        ("SELECT count(*)::text FROM public.packages", "100"),
        ("SELECT count(*)::text FROM \"warmspare_0-1\".packages", "2000"),
        ("SELECT count(*)::text FROM \"warmspare_0-1\".part", "2"),
        (
            "SELECT string_agg(contype, '' ORDER BY contype) FROM pg_constraint WHERE connamespace = '\"warmspare_0-1\"'::regnamespace",
            "cppu",
        ),
        ("SELECT count(*)::text FROM pg_trigger WHERE tgrelid = '\"warmspare_0-1\".\"Odd, one\"'::regclass", "0"),
        (
            "SELECT string_agg(a.attname || ' ' || pg_get_expr(adbin, adrelid), '; ' ORDER BY adnum) FROM pg_attrdef d \
             JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum WHERE adrelid = '\"warmspare_0-1\".\"Odd, one\"'::regclass",
            "color 'green'::public.color; twice (n * 2)",
        ),
        (
            "SELECT string_agg(DISTINCT relpersistence::text, '') FROM pg_class WHERE relnamespace = '\"warmspare_0-1\"'::regnamespace",
            "u",
        ),
        (
            "SELECT count(*)::text FROM pg_indexes WHERE schemaname = 'warmspare_0-1' AND indexname = 'odd ON public.x'",
            "1",
        ),
    ] {
        assert_eq!(sites.spare.value("app", sql).await, expect, "{sql}");
    }
    // The hint is ready to be run.
    sites.spare.sql("app", "ALTER TABLE public.\"Odd, one\" DISABLE TRIGGER refuse").await;
    for table in report["tables"].as_array().unwrap().iter().take(2) {
        sites.spare.sql("app", table["hint"].as_str().unwrap()).await;
    }
    assert_eq!(sites.spare.value("app", "SELECT count(*)::text FROM public.packages").await, "2000");
    assert_eq!(sites.spare.value("app", "SELECT sum(id)::text FROM public.\"Odd, one\"").await, "465");
}

#[tokio::test]
async fn a_table_that_cannot_be_brought_is_told_with_what_it_lacks() {
    let sites = restored().await;
    let refused = |table: &str, code: i32, words: &str| {
        let message = sites.refused("fra", &arguments(&[table], &[]), code);
        assert!(message.contains(words), "{message}");
    };
    refused("public.nonesuch", 2, "table \"public\".\"nonesuch\" is not in the point");
    refused("packages", 2, "`packages` is not the name of a table with its schema");
    refused("public.parted", 2, "is partitioned and holds no rows itself");
    refused("public.child", 2, "inherits columns from another table");
    sites.refused("fra", &["restore", "--table", "public.packages"], 2);
    sites.refused("fra", &["restore", "--table", "public.packages", "--only", "export.configs"], 2);

    sites.spare.sql("app", "ALTER TYPE public.color RENAME TO colour; DROP FUNCTION public.lower_of CASCADE").await;
    refused(ODD, 1, "type \"public.color\" does not exist");
    sites.spare.sql("app", "ALTER TYPE public.colour RENAME TO color").await;
    let report = sites.run("fra", &arguments(&[ODD], &[]));
    assert!(report.contains("30 rows") && report.contains("EQUAL"), "{report}");
    assert!(report.contains("  left out  CREATE UNIQUE INDEX") && report.contains("lower_of"), "{report}");

    sites.spare.sql("app", "COMMENT ON TABLE \"warmspare_0-1\".\"Odd, one\" IS 'mine now'").await;
    refused(ODD, 3, "table \"warmspare_0-1\".\"Odd, one\" exists and was not made by warmspare for this");
    sites.spare.sql("app", "COMMENT ON SCHEMA \"warmspare_0-1\" IS NULL").await;
    refused("public.packages", 3, "schema \"warmspare_0-1\" exists and was not made by warmspare for this");
}

/// What a restore of single tables left at the live site was captured with the next point, and stood in the way of its proof.
#[tokio::test]
async fn the_copies_beside_the_application_are_not_captured_and_not_compared() {
    let sites = restored().await;
    sites.spare.sql("app", "DROP EVENT TRIGGER mind; DROP FUNCTION mind").await;
    sites.run("fra", &arguments(&["public.packages"], &[]));
    let report: Value = serde_json::from_str(&sites.run("fra", &["restore", "--json"])).unwrap();
    assert_eq!(report["verdict"], "equal", "{report}");

    // Such a schema at the live site, as a restore there leaves it; and one that only looks like it.
    let copy = "CREATE SCHEMA \"warmspare_0-1\"; COMMENT ON SCHEMA \"warmspare_0-1\" IS 'warmspare: single tables of point 0-1 of it'; \
                CREATE UNLOGGED TABLE \"warmspare_0-1\".packages AS SELECT * FROM packages; \
                COMMENT ON TABLE \"warmspare_0-1\".packages IS 'warmspare: a copy'; \
                CREATE SCHEMA warmspare_own; CREATE TABLE warmspare_own.t AS SELECT 1 AS a";
    sites.live.sql("app", copy).await;
    let told = sites.run("ams", &["capture"]);
    assert!(told.contains("without the scratch schema warmspare_0-1"), "{told}");
    sites.run("fra", &["restore"]);
    let schemas = "SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname LIKE 'warmspare%'";
    assert_eq!(sites.spare.value("app", schemas).await, "warmspare_own");

    // What the application builds on it would be lost, so it is refused by name.
    sites.live.sql("app", "CREATE VIEW needs_it AS SELECT ident FROM \"warmspare_0-1\".packages").await;
    let refused = sites.refused("ams", &["capture"], 3);
    assert!(refused.contains("view public.needs_it (it needs a table of a scratch schema"), "{refused}");
}
