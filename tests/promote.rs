//! The spare becomes live by hand: roles get their logins, and no id is given out twice.

#![cfg(feature = "failpoints")]

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use crate::support::sites::{Sites, shown};

/// A sequence of every kind, with the values that the application asked for before the capture.
const SEQUENCES: &str = "\
CREATE ROLE worker LOGIN PASSWORD 'w';
CREATE TABLE public.of_serial (id serial PRIMARY KEY); INSERT INTO public.of_serial DEFAULT VALUES;
CREATE TABLE public.of_identity (id bigint GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3)); INSERT INTO public.of_identity DEFAULT VALUES;
CREATE TABLE public.holder (id int); CREATE SEQUENCE public.owned OWNED BY public.holder.id; SELECT nextval('public.owned');
CREATE SEQUENCE public.cached CACHE 20; SELECT nextval('public.cached');
CREATE SEQUENCE public.down INCREMENT -2; SELECT nextval('public.down');
CREATE SEQUENCE public.short AS smallint MAXVALUE 500; SELECT nextval('public.short');
CREATE SEQUENCE public.round MAXVALUE 300 CYCLE; SELECT nextval('public.round');
CREATE SEQUENCE public.untouched START 42;
ALTER TABLE public.holder OWNER TO worker;";

/// Where every sequence of the spare's database stands: `name=last_value`, with a `?` where that is not given out.
async fn standing(sites: &Sites) -> String {
    let sql = "SELECT string_agg(format('%s=%s', sequencename, coalesce(last_value::text, '?')), ' ' ORDER BY sequencename) \
               FROM pg_sequences WHERE schemaname = 'public' AND sequencename <> 'packages_id_seq'";
    sites.spare.value("app", sql).await
}

const CAPTURED: &str = "cached=20 down=-1 of_identity_id_seq=7 of_serial_id_seq=1 owned=1 round=1 short=1 untouched=?";
const GONE: &str =
    "cached=20020 down=-2001 of_identity_id_seq=3007 of_serial_id_seq=1001 owned=1001 round=101 short=? untouched=1041";

async fn restored() -> Sites {
    let sites = Sites::filled().await;
    sites.live.sql("app", SEQUENCES).await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let file = sites.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("databases.app = { ", "databases.app = { sequence_gap = 1000, ")).unwrap();
    sites
}

#[tokio::test]
async fn ids_that_the_lost_site_may_have_given_out_are_not_given_out_again_and_roles_log_in() {
    let sites = restored().await;
    let login = "SELECT concat(rolcanlogin, ' ', rolpassword IS NOT NULL) FROM pg_authid WHERE rolname = 'worker'";
    let would = sites.run("fra", &["restore", "--promote", "--dry-run"]);
    assert!(would.contains("  would be advanced: sequence \"public\".\"of_serial_id_seq\": 1 → 1001\n"), "{would}");
    assert_eq!(
        (standing(&sites).await.as_str(), sites.spare.value("postgres", login).await.as_str()),
        (CAPTURED, "f f")
    );

    let report = sites.run("fra", &["restore", "--promote"]);
    assert!(report.contains("roles app_reader, warmspare, worker\n"), "{report}");
    let short = "  advanced: sequence \"public\".\"short\": 1 → 500, its LAST value: the gap goes beyond its end\n";
    assert!(report.contains(short), "{report}");
    assert_eq!((standing(&sites).await.as_str(), sites.spare.value("postgres", login).await.as_str()), (GONE, "t t"));
    assert_eq!(sites.spare.value("app", "SELECT nextval('public.short')::text").await, "500");

    let again = sites.run("fra", &["restore", "--promote"]);
    assert!(again.contains("  sequences jumped their gap before, since the restore\n"), "{again}");
    assert_eq!(standing(&sites).await, GONE.replace("short=?", "short=500"), "run again, nothing jumps twice");
}

#[tokio::test]
async fn a_promotion_that_was_killed_goes_on_and_no_sequence_jumps_twice() {
    let sites = restored().await;
    for at in ["restore.journal", "database.sequence-advanced:3", "database.advanced"] {
        let output = sites.command("fra", ["restore", "--promote"]).env("WARMSPARE_FAILPOINT", at).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{at}: {}", shown(&output));
    }
    let report: Value = serde_json::from_str(&sites.run("fra", &["restore", "--promote", "--json"])).unwrap();
    assert_eq!(report["resumed"], true, "{report}");
    assert_eq!(standing(&sites).await, GONE);
}

#[tokio::test]
async fn what_no_restore_put_there_and_live_data_are_not_promoted_by_mistake() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let words = sites.refused("fra", &["restore", "--promote"], 3);
    assert!(words.contains("was not restored from a recovery point: there is nothing to promote"), "{words}");
    let words = sites.refused("ams", &["restore", "--promote"], 3);
    assert!(words.contains("--on-live ams"), "{words}");
}
