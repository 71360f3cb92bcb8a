//! A proof that cannot turn red proves nothing: each planted change is found, by name.

use super::{Captured, MemorySink, Target, bring_back, differences, fixture, take, target, words};
use crate::support::postgres::PostgresServer;
use warmspare::postgres::marking::Marking;

/// What is changed in the restored database, and the words that must name it.
const PLANTED: [(&str, &str); 26] = [
    ("UPDATE accounts SET email = 'x' WHERE name = 'user7'", "table \"public\".\"accounts\": captured `50 rows"),
    ("DELETE FROM origin_packages WHERE name = 'pkg7'", "table \"public\".\"origin_packages\": captured `3000 rows"),
    (
        "UPDATE origins SET hidden = hidden WHERE name = 'origin1'",
        "table \"public\".\"origins\": captured `rows in the captured order`",
    ),
    ("SELECT nextval('accounts_id_seq')", "sequence value \"public\".\"accounts_id_seq\": captured `50`, found `51`"),
    ("ALTER SEQUENCE counting MAXVALUE 8", "sequence public.counting: captured `smallint start 5 increment -1 max 9"),
    (
        "REVOKE INSERT ON audited FROM reader",
        "table privileges public.audited: captured `hab=arwdDxt/hab reader=ar/hab`",
    ),
    ("REVOKE UPDATE (b) ON audited FROM reporter", "column privileges public.audited.b is missing"),
    ("GRANT EXECUTE ON FUNCTION audit() TO PUBLIC", "function privileges public.audit()"),
    ("REVOKE USAGE ON SEQUENCE counting FROM reader", "sequence privileges public.counting"),
    ("GRANT CREATE ON SCHEMA public TO reader", "schema public"),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE hab IN SCHEMA public REVOKE SELECT ON TABLES FROM reader",
        "default privileges of hab for r in public is missing",
    ),
    ("DROP INDEX origin_packages_exposes", "index public.origin_packages_exposes is missing: captured `CREATE INDEX"),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'accounts_pkey'::regclass",
        "index public.accounts_pkey is missing",
    ),
    ("ALTER TABLE audited DROP CONSTRAINT a_positive", "constraint a_positive on public.audited is missing"),
    (
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'b_later'",
        "constraint b_later on public.audited: captured",
    ),
    ("ALTER TABLE audited DISABLE TRIGGER audit_on", "trigger audit_on on public.audited: captured"),
    (
        "ALTER TABLE origins DISABLE TRIGGER ALL",
        "constraint trigger of origins_owner_id_fkey on public.origins was not captured: found `D`",
    ),
    ("COMMENT ON COLUMN audited.a IS NULL", "comment table column public.audited.a is missing: captured `column`"),
    ("COMMENT ON DATABASE \"FRESH\" IS 'other'", "database comment: captured `it's the registry`, found `other`"),
    ("ALTER DATABASE \"FRESH\" RESET search_path", "database setting search_path is missing"),
    ("REVOKE CONNECT ON DATABASE \"FRESH\" FROM reader", "database privileges: captured"),
    (
        "CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$",
        "function public.audit(): captured",
    ),
    ("CREATE OR REPLACE VIEW middle AS SELECT v + 0 AS v FROM z_first", "view public.middle: captured"),
    ("ALTER TYPE origin_package_visibility ADD VALUE 'more'", "enum public.origin_package_visibility: captured"),
    ("DROP POLICY own ON secret", "policy own on public.secret is missing"),
    ("ALTER TABLE secret DISABLE ROW LEVEL SECURITY", "table public.secret: captured"),
];

const OWNER: (&str, &str) =
    ("ALTER TABLE audited OWNER TO reader", "table owner public.audited: captured `hab`, found `reader`");

#[tokio::test]
async fn each_planted_change_turns_the_proof_red_and_is_named() {
    let server = PostgresServer::start();
    server.create("builder", fixture::REGISTRY).await;
    server.sql("postgres", &fixture::AROUND.replace("NAME", "builder")).await;
    server.sql("builder", fixture::ODD).await;
    let captured = take(&server, "builder").await.unwrap();
    let target = target(&server, "builder");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
    let pristine = format!("CREATE DATABASE pristine TEMPLATE \"{}\"", target.fresh());
    server.sql("postgres", &pristine).await;
    // What a change of the owner does to privileges would hide another change.
    for changes in [&PLANTED[..], &[OWNER]] {
        plant(&server, &target, &captured, changes).await;
        // Undone by starting over from the same restored state, marks, owner and settings included.
        restore_pristine(&server, &target, &captured).await;
        assert_eq!(words(&differences(&target, &captured).await), "");
    }
}

/// Makes all the changes, and expects the proof to name each.
pub async fn plant(
    server: &PostgresServer,
    target: &Target,
    captured: &Captured<MemorySink>,
    changes: &[(&str, &str)],
) {
    let fresh = target.fresh();
    for (change, _) in changes {
        server
            .sql(&fresh, &format!("SET search_path = public; {}", change.replace("\"FRESH\"", &format!("\"{fresh}\""))))
            .await;
    }
    let found = words(&differences(target, captured).await);
    let silent: Vec<_> = changes.iter().filter(|(_, expect)| !found.contains(expect)).collect();
    assert!(silent.is_empty(), "not named: {silent:#?}\nby the proof:\n{found}");
}

/// A copy of the loaded database under the fresh name, with the properties a template does not pass on.
async fn restore_pristine(server: &PostgresServer, target: &Target, captured: &Captured<MemorySink>) {
    let fresh = target.fresh();
    let properties = warmspare::capture::layout::properties(&captured.sink.source()).await.unwrap();
    let mut sql = format!("DROP DATABASE \"{fresh}\" WITH (FORCE); CREATE DATABASE \"{fresh}\" TEMPLATE pristine;");
    for (key, value) in [("point", super::POINT), ("term", "0"), ("state", "loaded")] {
        sql.push_str(&format!("ALTER DATABASE \"{fresh}\" SET warmspare.{key} = '{value}';"));
    }
    for statement in properties.apply(&fresh, Marking::Settings) {
        sql.push_str(&format!("{statement};"));
    }
    server.sql("postgres", &sql).await;
}
