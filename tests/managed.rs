//! The spare's database server is a cloud's: an operator is told beforehand what will be missing, restores, and makes it live.

use serde_json::Value;

use crate::support::managed::Managed;
use crate::support::sites::{Sites, shown};

/// Sites whose spare has nobody who is superuser.
async fn with_managed_spare() -> Sites {
    let sites = Sites::filled().await;
    sites
        .live
        .sql(
            "app",
            "CREATE ROLE worker LOGIN PASSWORD 'w'; CREATE ROLE backup LOGIN REPLICATION; GRANT SELECT ON public.packages TO backup; \
             ALTER TABLE public.packages OWNER TO worker; \
             CREATE FUNCTION public.told() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN END $f$; \
             CREATE EVENT TRIGGER seeing ON ddl_command_end EXECUTE FUNCTION public.told()",
        )
        .await;
    Managed::make(&sites.spare).await;
    let password = sites.path().join("ours");
    std::fs::write(&password, "ours").unwrap();
    let (theirs, port) = (sites.spare.cluster().password_file().display().to_string(), sites.spare.cluster().port());
    sites.edit_configuration(&format!("warmspare@127.0.0.1:{port}"), &format!("admin@127.0.0.1:{port}"));
    sites.edit_configuration(&theirs, &password.display().to_string());
    sites
}

fn findings(sites: &Sites) -> Vec<String> {
    let output = sites.command("fra", ["check", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let line = |one: &Value| format!("{} {}", text(one, "level"), text(one, "found"));
    report["findings"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn a_restore_into_a_managed_server_is_foretold_done_told_and_made_live() {
    let sites = with_managed_spare().await;
    sites.run("ams", &["capture"]);
    let foretold = findings(&sites);
    let warning = "warning role admin is no superuser, and PostgreSQL lets only that one make: event trigger seeing";
    assert!(foretold.iter().any(|line| line == warning), "{foretold:#?}");
    assert!(!foretold.iter().any(|line| line.starts_with("failure")), "{foretold:#?}");

    let report = sites.run("fra", &["restore"]);
    assert!(
        report.starts_with("EQUAL, but for what is REFUSED here: the server keeps it for its superuser\n"),
        "{report}"
    );
    for line in
        ["  REFUSED  event trigger seeing (permission denied to create event trigger", "  REFUSED  owner warmspare ("]
    {
        assert!(report.contains(line), "{line} is not in\n{report}");
    }
    assert!(report.contains("became a member of the roles that own something: worker"), "{report}");
    let proof = sites.points("fra")[0]["proofs"][0]["steps"][1]["summary"].to_string();
    assert!(proof.contains("; REFUSED by the server: event trigger seeing ("), "{proof}");

    // The next point replaces it, and an undo brings it back.
    sites.live.sql("app", "INSERT INTO public.origins VALUES ('new', 3)").await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    sites.run("fra", &["restore", "--undo"]);
    sites.run("fra", &["restore", "--undo"]);
    assert_eq!(sites.spare.value("app", "SELECT count(*)::text FROM public.origins").await, "3");

    let promoted = sites.command("fra", ["restore", "--promote"]).output().unwrap();
    let words = shown(&promoted);
    assert_eq!(promoted.status.code(), Some(4), "{words}");
    for line in [
        "  REFUSED  role backup: ",
        "  REFUSED  role warmspare: ",
        "  advanced: sequence \"public\".\"packages_id_seq\": 2000 → 12000\n",
    ] {
        assert!(words.contains(line), "{line} is not in\n{words}");
    }
    assert!(!words.contains("SCRAM"), "{words}");
    let login = "SELECT concat(rolcanlogin, ' ', rolpassword IS NOT NULL) FROM pg_authid WHERE rolname = 'worker'";
    assert_eq!(sites.spare.value("postgres", login).await, "t t");
}

#[tokio::test]
async fn a_role_for_which_the_administrator_may_not_act_is_a_failure_before_the_bad_day() {
    let sites = with_managed_spare().await;
    sites.spare.sql("postgres", "CREATE DATABASE app OWNER warmspare").await;
    sites.run("ams", &["capture"]);
    sites.spare.sql("postgres", "ALTER ROLE admin NOCREATEROLE; CREATE ROLE worker").await;
    let foretold = findings(&sites);
    let failure = "failure role admin may not act for role worker, whose objects a restore must make or rename";
    assert!(foretold.iter().any(|line| line == failure), "{foretold:#?}");
}
