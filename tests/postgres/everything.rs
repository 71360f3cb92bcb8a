//! One database with an object of every kind, on two servers: captured at one, restored and promoted at the other.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use warmspare::observe::Progress;
use warmspare::restore::steps::database::{Sessions, Target, load, promote_roles, prove, swap};

use super::proof::plant;
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
    let source = captured.sink.source();
    let found = prove(&target, &source, &captured.facts, &Progress::silent()).await.unwrap();
    assert_eq!(words(&found.differences), "");
    let stale = |view: &str| {
        format!(
            "the contents of materialized view {view}, which came out otherwise (rows captured: 1, here: 1): \
             it was not fresh, or depends on the time"
        )
    };
    assert_eq!(found.not_compared, [stale("\"keeps\".\"summary\""), stale("\"public\".\"stale\"")]);
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

/// What is changed in the restored database, class by class, and the words that must name it.
const PLANTED: &[(&str, &str)] = &[
    // First, for a table that is published without an identity cannot be changed.
    ("DROP PUBLICATION everything_here", "publication everything_here is missing"),
    ("ALTER PUBLICATION whole_schema DROP TABLES IN SCHEMA \"odd, schema\"", "publication whole_schema: captured"),
    ("COMMENT ON SCHEMA \"odd, schema\" IS 'x'", "comment schema \"odd, schema\": captured `odd`, found `x`"),
    ("GRANT ALL ON SCHEMA \"odd, schema\" TO reader", "schema \"odd, schema\": captured"),
    ("ALTER TYPE color RENAME VALUE 'red' TO 'blue'", "enum public.color: captured"),
    ("ALTER DOMAIN positive SET DEFAULT 8", "domain public.positive: captured"),
    ("ALTER DOMAIN positive DROP CONSTRAINT below_many", "constraint below_many on public.positive is missing"),
    ("ALTER TYPE pair ADD ATTRIBUTE c int CASCADE", "column public.pair.c was not captured"),
    ("DROP TABLE typed; DROP TYPE span; CREATE TYPE span AS RANGE (subtype = float8)", "range public.span: captured"),
    ("ALTER TYPE word SET (STORAGE = main)", "type public.word: captured"),
    ("DROP TYPE shelly", "type public.shelly is missing"),
    ("REVOKE USAGE ON TYPE color FROM reader", "type privileges public.color: captured"),
    ("ALTER FUNCTION in_sql COST 8", "function public.in_sql(integer,integer[]): captured"),
    ("ALTER PROCEDURE proceed SECURITY DEFINER", "procedure public.proceed(integer): captured"),
    (
        "ALTER AGGREGATE total(int) OWNER TO reader",
        "function owner public.total(integer): captured `app`, found `reader`",
    ),
    (
        "UPDATE pg_aggregate SET agginitval = '1' WHERE aggfnoid = 'total(int)'::regprocedure",
        "aggregate public.total(integer): captured",
    ),
    (
        "ALTER OPERATOR === (pair, pair) SET (RESTRICT = neqsel)",
        "operator public.===(public.pair,public.pair): captured",
    ),
    (
        "ALTER OPERATOR CLASS pair_ops USING btree OWNER TO reader",
        "operator class public.pair_ops USING btree: captured",
    ),
    (
        "ALTER OPERATOR FAMILY loose USING btree DROP OPERATOR 3 (int4, int4)",
        "operator family public.loose USING btree: captured",
    ),
    (
        "UPDATE pg_cast SET castcontext = 'i' WHERE castsource = 'pair'::regtype",
        "cast (public.pair AS integer): captured `f a",
    ),
    ("ALTER CONVERSION latin OWNER TO reader", "conversion public.latin: captured"),
    (
        "DROP COLLATION german; CREATE COLLATION german (provider = icu, locale = 'de')",
        "collation public.german: captured",
    ),
    ("UPDATE pg_transform SET trffromsql = 0", "transform for integer language sql: captured"),
    ("REVOKE USAGE ON LANGUAGE plother FROM reader", "language plother: captured"),
    (
        "UPDATE pg_am SET amhandler = 'hashhandler'::regproc WHERE amname = 'tree_too'",
        "access method tree_too: captured",
    ),
    (
        "ALTER TEXT SEARCH CONFIGURATION searching DROP MAPPING FOR word",
        "text search configuration public.searching: captured",
    ),
    ("ALTER TEXT SEARCH DICTIONARY words (ACCEPT = 'true')", "text search dictionary public.words: captured"),
    ("UPDATE pg_ts_parser SET prsheadline = 0 WHERE prsname = 'parse'", "text search parser public.parse: captured"),
    ("UPDATE pg_ts_template SET tmplinit = 0 WHERE tmplname = 'plain'", "text search template public.plain: captured"),
    (
        "UPDATE \"odd, schema\".\"odd \"\"table\" SET \"select\" = 'x' WHERE \"Column A\" = 1",
        "table \"odd, schema\".\"odd \"\"table\": captured",
    ),
    ("UPDATE numbers SET n = '0' WHERE f8 = 'NaN'", "table \"public\".\"numbers\": captured"),
    ("DELETE FROM no_columns WHERE ctid = '(0,1)'", "table \"public\".\"no_columns\": captured `2 rows"),
    ("UPDATE widest SET c1600 = 0", "table \"public\".\"widest\": captured"),
    ("ALTER TABLE generated ALTER COLUMN id SET GENERATED BY DEFAULT", "column public.generated.id: captured"),
    ("ALTER TABLE generated ALTER COLUMN twice DROP EXPRESSION", "column public.generated.twice: captured"),
    ("ALTER TABLE dropped ALTER COLUMN c SET STATISTICS 251", "column public.dropped.c: captured"),
    ("ALTER TABLE dropped ALTER COLUMN d SET COMPRESSION default", "column public.dropped.d: captured"),
    ("ALTER TABLE dropped RESET (toast_tuple_target)", "table public.dropped: captured"),
    ("ALTER TABLE strict ALTER CONSTRAINT up NOT DEFERRABLE", "constraint up on public.strict: captured"),
    ("ALTER TABLE strict SET WITHOUT CLUSTER", "index public.strict_key: captured"),
    ("ALTER TABLE strict REPLICA IDENTITY FULL", "table public.strict: captured"),
    (
        "ALTER TABLE pointing_off ENABLE TRIGGER ALL",
        "constraint trigger of unchecked on public.pointing_off is missing",
    ),
    ("ALTER INDEX lower_email ALTER COLUMN 1 SET STATISTICS 45", "index public.lower_email: captured"),
    ("ALTER INDEX brin_id RESET (autosummarize)", "index public.brin_id: captured"),
    ("ALTER TABLE fleeting SET LOGGED", "table public.fleeting: captured"),
    ("ALTER TABLE measured DETACH PARTITION other_order", "table public.other_order: captured"),
    ("UPDATE hashed SET t = 'x' WHERE id = 1", "table \"public\".\"hashed_"),
    ("ALTER TABLE grandchild NO INHERIT child", "table public.grandchild: captured"),
    (
        "CREATE OR REPLACE VIEW simple AS SELECT a, -2 AS minus, -1.5 AS fraction FROM parent",
        "view public.simple: captured",
    ),
    ("ALTER VIEW guarded RESET (security_invoker)", "view public.guarded: captured"),
    ("REFRESH MATERIALIZED VIEW a_third WITH NO DATA", "materialized view public.a_third: captured"),
    ("DROP TRIGGER instead ON audited_view", "trigger instead on public.audited_view is missing"),
    ("ALTER TABLE audited ENABLE TRIGGER on_replica", "trigger on_replica on public.audited: captured"),
    ("ALTER TABLE measured_2024 ENABLE TRIGGER per_row", "trigger per_row on public.measured_2024: captured"),
    ("ALTER TABLE audited ENABLE RULE switched_off", "rule switched_off on public.audited: captured"),
    ("ALTER POLICY never ON secret USING (true)", "policy never on public.secret: captured"),
    ("ALTER TABLE secret NO FORCE ROW LEVEL SECURITY", "table public.secret: captured"),
    ("ALTER STATISTICS related SET STATISTICS 98", "statistics public.related: captured"),
    ("ALTER SEQUENCE counting CACHE 4", "sequence public.counting: captured"),
    (
        "SELECT nextval('untouched')",
        "sequence value \"public\".\"untouched\": captured `42 (not given out)`, found `42`",
    ),
    ("ALTER SEQUENCE owned OWNED BY NONE", "sequence public.owned: captured"),
    ("ALTER SEQUENCE unlogged_ids SET LOGGED", "sequence public.unlogged_ids: captured"),
    ("REVOKE INSERT ON audited FROM reader CASCADE", "table privileges public.audited: captured"),
    ("REVOKE SELECT (a) ON audited FROM reporter", "column privileges public.audited.a is missing"),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE USAGE ON TYPES FROM elsewhere",
        "default privileges of app for T is missing",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() FROM reader",
        "changed privileges function pg_catalog.pg_ls_waldir()",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION gen_random_bytes(int) FROM app",
        "changed privileges function public.gen_random_bytes(integer): captured",
    ),
    ("REVOKE SELECT ON keeps.configured FROM reader", "changed privileges table keeps.configured"),
    ("COMMENT ON OPERATOR === (pair, pair) IS NULL", "comment operator public.===(public.pair,public.pair) is missing"),
    (
        "SECURITY LABEL FOR warmspare_test ON COLUMN audited.a IS 'other'",
        "security label table column public.audited.a for warmspare_test: captured `it's a column label`, found `other`",
    ),
    (
        "SECURITY LABEL FOR warmspare_test ON DATABASE \"FRESH\" IS NULL",
        "security label database for warmspare_test is missing",
    ),
    ("SELECT lo_put(70001, 600000, 'x')", "large object contents 70001: captured `from byte 524288 on BLAKE3 "),
    ("SELECT lo_unlink(70004)", "large object 70004 is missing: captured"),
    ("SELECT lo_create(70005)", "large object 70005 was not captured: found"),
    ("ALTER LARGE OBJECT 70002 OWNER TO reader", "large object 70002: captured"),
    (
        "ALTER EXTENSION hstore SET SCHEMA public",
        "extension hstore: captured `1.8 in odd, schema`, found `1.8 in public`",
    ),
    ("UPDATE keeps.configured SET name = 'x' WHERE name = 'mine'", "table \"keeps\".\"configured\": captured `2 rows"),
    ("SELECT nextval('keeps.numbers')", "sequence value \"keeps\".\"numbers\": captured `1`, found `2`"),
    ("ALTER FOREIGN DATA WRAPPER dummy OPTIONS (DROP other)", "foreign-data wrapper dummy: captured"),
    ("ALTER SERVER far OPTIONS (SET host 'near')", "foreign server far: captured"),
    ("ALTER USER MAPPING FOR app SERVER far OPTIONS (SET password 'hunter3')", "user mapping app on far: captured"),
    ("ALTER FOREIGN TABLE abroad OPTIONS (DROP q)", "foreign table public.abroad: captured"),
    ("ALTER FOREIGN TABLE abroad ALTER COLUMN id OPTIONS (DROP name)", "column public.abroad.id: captured"),
    ("ALTER PUBLICATION partly SET TABLE strict (id)", "publication partly: captured"),
    (
        "ALTER SUBSCRIPTION listens CONNECTION 'host=127.0.0.1 port=1 dbname=x password=hunter3'",
        "subscription listens: captured",
    ),
    ("ALTER EVENT TRIGGER not_seeing ENABLE", "event trigger not_seeing: captured"),
    ("ALTER DATABASE \"FRESH\" CONNECTION LIMIT 91", "database connection limit: captured `90`, found `91`"),
    (
        "ALTER ROLE app IN DATABASE \"FRESH\" RESET statement_timeout",
        "database setting statement_timeout of app is missing",
    ),
    ("REVOKE CONNECT ON DATABASE \"FRESH\" FROM reader CASCADE", "database privileges: captured"),
];

#[tokio::test]
async fn a_change_in_each_class_of_objects_turns_the_proof_red_and_is_named() {
    let provisions = Provisions::made();
    let (live, spare) = (filled(&provisions).await, provisions.server());
    let captured = take(&live, "everything").await.unwrap();
    let target = restored(&spare, &captured).await;
    plant(&spare, &target, &captured, PLANTED).await;
    let told = words(&differences(&target, &captured).await);
    assert!(!told.contains("hunter"), "a password is shown:\n{told}");
}

#[tokio::test]
async fn partitions_by_hash_of_an_enum_tablespaces_and_a_dropped_subscription_do_not_stop_a_restore() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    let place = live.folder().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chown").arg("postgres").arg(&place).status().unwrap().success());
    }
    live.sql("postgres", &format!("CREATE TABLESPACE \"fast disk\" LOCATION '{}'", place.display())).await;
    // The values' numbers decide the partition, and are others in every database: fill up some first at the spare.
    spare.create("before", "CREATE TYPE other AS ENUM ('1', '2', '3', '4', '5', '6', '7')").await;
    let values: Vec<String> = (0..20).map(|n| format!("'v{n}'")).collect();
    let sql = format!(
        "CREATE TYPE e AS ENUM ({}); CREATE TABLE h (k e, n int) PARTITION BY HASH (k); \
         CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 0); \
         CREATE TABLE h1 (n int, k e); ALTER TABLE h ATTACH PARTITION h1 FOR VALUES WITH (MODULUS 3, REMAINDER 1); \
         CREATE TABLE h2 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 2); \
         INSERT INTO h SELECT k, n FROM unnest(enum_range(NULL::e)) k, generate_series(1, 9) n; \
         CREATE TABLE fast (a int PRIMARY KEY USING INDEX TABLESPACE \"fast disk\") TABLESPACE \"fast disk\"; INSERT INTO fast VALUES (1); \
         CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)",
        values.join(", ")
    );
    live.create("everything", &sql).await;
    let captured = take(&live, "everything").await.unwrap();
    let target = target(&spare, "everything");
    let prepared = bring_back(&target, &captured).await;
    assert_eq!(prepared.missing_tablespaces, ["fast disk"]);
    assert_eq!(words(&differences(&target, &captured).await), "");
    let apart = "SELECT count(*)::text FROM public.h";
    assert_eq!(spare.value(&target.fresh(), apart).await, "180");
    // A load that starts over drops what it left, and with it the subscription in it.
    spare.sql("postgres", &format!("ALTER DATABASE \"{}\" SET warmspare.state = 'loading'", target.fresh())).await;
    load(&target, &captured.sink.source(), &Progress::silent()).await.unwrap();
    spare.sql(&target.fresh(), "UPDATE public.h SET n = 0 WHERE k = 'v3' AND n = 1").await;
    let found = words(&differences(&target, &captured).await);
    assert!(found.starts_with("table \"public\".\"h\": captured `180 rows in all partitions"), "{found}");
}
