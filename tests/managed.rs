//! The spare's database server is a cloud's: an operator is told beforehand what will be missing, restores, and makes it live.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::daemons::Pair;
use crate::support::managed::Managed;
use crate::support::sites::{Sites, shown};

const PATIENCE: Duration = Duration::from_secs(60);

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

/// Waits for the lines of `lease status` that begin with one of these words, until there are so many.
fn until_told(pair: &Pair<Sites>, words: &[&str], expected: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let text = String::from_utf8(pair.does("fra", &["lease", "status"]).stdout).unwrap();
        let told: Vec<String> = text
            .lines()
            .filter(|line| words.iter().any(|word| line.split(' ').next() == Some(word)))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        if told.len() == expected {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{expected} lines of {words:?} are never in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn why_a_takeover_does_not_open_and_what_the_server_kept_from_it_are_in_the_status() {
    let sites = with_managed_spare().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let pair = Pair::over(sites);
    pair.does("fra", &["witness", "init"]);
    let daemon = pair.start("fra");
    pair.until_state("fra", "STANDBY");
    assert!(until_told(&pair, &["failed", "next", "promotion"], 0).is_empty(), "nothing has failed yet");

    // The roles are in the vault, which cannot be reached.
    let (vault, away) = (pair.sites.vault(), pair.sites.path().join("away"));
    std::fs::rename(&vault, &away).unwrap();
    let failover =
        pair.command("fra", &["failover", "--first", "--yes", "fra"]).stderr(Stdio::piped()).spawn().unwrap();
    let status = pair.until("fra", "says why it does not open", |status| !status["work_error"].is_null());
    assert_eq!((status["state"].as_str(), status["open"].as_bool()), (Some("STARTING"), Some(false)), "{status:#}");
    let at: jiff::Timestamp = status["work_failed_at"].as_str().unwrap().parse().unwrap();
    assert!(at.duration_until(jiff::Timestamp::now()) < jiff::SignedDuration::from_mins(5), "{at}");
    let told = until_told(&pair, &["failed", "next"], 2);
    assert!(told[0].contains("Z: starting what is served failed and is tried again: "), "{told:#?}");
    assert_eq!(Some(told[1].trim_start_matches("next ")), status["work_next"].as_str(), "what to do about it");

    std::fs::rename(&away, &vault).unwrap();
    let opened = failover.wait_with_output().unwrap();
    let words = shown(&opened);
    assert!(opened.status.success(), "{words}");
    assert!(words.contains("live without it, do it by hand: database.app: role backup: "), "{words}");
    let status = pair.until_state("fra", "LIVE");
    let failure = ["work_error", "work_failed_at", "work_next"].map(|key| status[key].is_null());
    assert_eq!(failure, [true; 3], "what was done at last is no failure any more: {status:#}");
    let lacks = status["promotion"]["lacks"].as_array().unwrap().clone();
    for start in ["database.app: role backup: ", "database.app: role warmspare: "] {
        assert!(lacks.iter().any(|lack| lack.as_str().unwrap().starts_with(start)), "{lacks:#?}");
    }

    // It is not forgotten with the daemon.
    daemon.end();
    let _daemon = pair.start("fra");
    assert_eq!(pair.until_state("fra", "LIVE")["promotion"]["lacks"], Value::from(lacks));
    let told = until_told(&pair, &["promotion", "next"], 2);
    assert!(told[0].ends_with("Z, without what could not be done:"), "{told:#?}");

    // The final point cannot be taken, and a person gives the handing over up.
    std::fs::rename(&vault, &away).unwrap();
    let mut release = pair.command("fra", &["release", "--yes", "fra"]).stderr(Stdio::null()).spawn().unwrap();
    let status = pair.until("fra", "says why it does not let go", |status| !status["work_error"].is_null());
    assert_eq!(status["state"], "DRAINING", "{status:#}");
    pair.does("fra", &["lease", "cancel", "--yes", "fra"]);
    assert!(!release.wait().unwrap().success());
    let status = pair.until_state("fra", "LIVE");
    assert_eq!(status["work_error"], Value::Null, "what is not wanted any more is no failure");
}
