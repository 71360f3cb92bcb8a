//! `warmspare report` on a real vault with real captures and restores: what it says is so, at either site and at a third place.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::daemons::{JOBS, NAMES, Pair};
use crate::support::sites::{Sites, shown};

/// The report at `site` as JSON, held against its schema, and the exit code.
pub fn report(sites: &Sites, site: &str, options: &[&str]) -> (Value, Option<i32>) {
    let arguments = ["report", "--json"].iter().chain(options);
    let output = sites.command(site, arguments).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
    fits_the_schema(&output.stdout);
    (report, output.status.code())
}

/// Has another implementation look at it.
fn fits_the_schema(report: &[u8]) {
    let program = "import json, sys, jsonschema\n\
                   schema = json.load(open(sys.argv[1]))\n\
                   jsonschema.Draft7Validator.check_schema(schema)\n\
                   jsonschema.validate(json.load(sys.stdin), schema)\n";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json");
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", program, schema]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().expect("Debian's python3 runs");
    child.stdin.take().unwrap().write_all(report).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", shown(&output), String::from_utf8_lossy(report));
}

fn keys(report: &Value) -> Vec<&str> {
    report["lines"].as_array().unwrap().iter().map(|line| line["key"].as_str().unwrap()).collect()
}

fn target(sites: &Sites, lines: &str) {
    sites.edit_configuration("live = \"ams\"\n", &format!("live = \"ams\"\n{lines}\n"));
}

#[tokio::test]
async fn from_nothing_to_fresh_to_stale() {
    let sites = Sites::filled().await;
    let (empty, code) = report(&sites, "ams", &["--strict"]);
    assert_eq!((empty["verdict"].as_str(), code), (Some("stale"), Some(4)), "{empty}");
    assert!(keys(&empty).contains(&"point.late"), "{empty}");
    let (_, code) = report(&sites, "ams", &[]);
    assert_eq!(code, Some(0), "without --strict it only tells");

    sites.run("ams", &["capture"]);
    for site in ["ams", "fra"] {
        let (taken, code) = report(&sites, site, &["--strict"]);
        assert_eq!((taken["newest"]["point"].as_str(), code), (Some("0-1"), Some(0)), "{taken}");
        assert!(keys(&taken).contains(&"proof.late"), "never rehearsed: {taken}");
        assert_eq!(taken["loss"]["since"], taken["newest"]["captured_at"]);
    }
    sites.run("fra", &["restore"]);
    sites.run("ams", &["check"]);
    sites.run("fra", &["check"]);
    let bucket = |report: &Value| {
        let mut sources = report["sources"].as_array().unwrap().iter();
        sources.find(|source| source["source"] == "bucket.artifacts").unwrap()["reread"].clone()
    };
    assert!(bucket(&report(&sites, "ams", &[]).0).is_null(), "nobody has looked");
    sites.run("fra", &["verify", "--only", "bucket.artifacts", "--all"]);
    let looked = bucket(&report(&sites, "ams", &[]).0);
    let of = |key: &str| looked[key].as_u64();
    assert_eq!(
        (of("objects"), of("reread"), of("reread_bytes"), of("faults")),
        (Some(3), Some(3), Some(200_010), Some(0))
    );
    assert_eq!(looked["site"], "fra", "{looked}");
    let (proven, code) = report(&sites, "ams", &["--strict"]);
    assert_eq!((proven["verdict"].as_str(), code), (Some("fresh"), Some(0)), "{proven}");
    assert_eq!(
        (proven["proven"]["point"].as_str(), proven["rehearsals"][0]["site"].as_str()),
        (Some("0-1"), Some("fra"))
    );
    assert_eq!(proven["sources"].as_array().unwrap().len(), 3);
    assert!(proven["sources"].as_array().unwrap().iter().all(|source| source["proven"]["met"] == true), "{proven}");
    let text = sites.run("fra", &["report"]);
    assert!(text.starts_with("FRESH  app: if ams died now, the last "), "{text}");

    target(&sites, "targets = { point = \"1s\" }");
    let late = loop {
        let (report, code) = report(&sites, "fra", &["--strict"]);
        if code == Some(4) {
            break report;
        }
    };
    assert_eq!((late["verdict"].as_str(), &keys(&late)[..]), (Some("stale"), &["point.late"][..]), "{late}");
    assert_eq!(late["newest"]["met"], false);
}

#[tokio::test]
async fn a_third_place_that_only_reads_the_vault_has_a_report_and_leaves_nothing() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    // It has neither keys nor passwords, and no state.
    for kept in ["ams-keys", "fra-keys"] {
        fs::rename(sites.path().join(kept), sites.path().join(format!("{kept}.aside"))).unwrap();
    }
    let nowhere = sites.path().join("nowhere");
    sites.edit_configuration(&sites.state("ams").display().to_string(), &nowhere.join("state").display().to_string());
    let (seen, code) = report(&sites, "ams", &["--strict"]);
    assert_eq!((seen["newest"]["point"].as_str(), code), (Some("0-1"), Some(0)), "{seen}");
    assert!(seen["sites"].as_array().unwrap().iter().all(|site| site["jobs"].is_null()), "unknown here: {seen}");
    assert!(!nowhere.exists(), "who only looks writes nothing");

    fs::rename(sites.vault(), sites.path().join("vault.aside")).unwrap();
    let (blind, code) = report(&sites, "ams", &[]);
    assert_eq!((blind["verdict"].as_str(), code), (Some("unknown"), Some(1)), "{blind}");
    assert_eq!((keys(&blind)[0], &blind["newest"]["met"]), ("vault.unusable", &Value::Null));
}

#[tokio::test]
async fn jobs_that_this_site_remembers_are_in_its_report() {
    let sites = Sites::filled().await;
    let now = jiff::Timestamp::now();
    let mut record = warmspare::jobs::JobRecord::new("capture", now);
    record.ended(warmspare::jobs::Run {
        due_at: Some(now),
        started_at: now,
        ended_at: now,
        verdict: warmspare::jobs::RunVerdict::Failed,
        what: "database app: connection refused".to_owned(),
        point: None,
    });
    record.save(&sites.state("ams")).unwrap();
    let (told, _) = report(&sites, "ams", &[]);
    assert!(keys(&told).contains(&"job.capture.failed"), "{told}");
    let (elsewhere, _) = report(&sites, "fra", &[]);
    assert!(!keys(&elsewhere).contains(&"job.capture.failed"), "{elsewhere}");
    fs::write(sites.state("ams").join("jobs/capture.json"), "{").unwrap();
    let (damaged, _) = report(&sites, "ams", &[]);
    let line = damaged["lines"].as_array().unwrap().iter().find(|line| line["key"] == "site.ams.jobs").unwrap();
    assert!(line["what"].as_str().unwrap().contains("is damaged") && line["grade"] == "unknown", "{line}");
}

/// With a witness a daemon that had died left the report of its own site FRESH, without a job in it.
#[tokio::test]
async fn a_site_whose_daemon_is_dead_says_so_and_when_it_has_been_silent_for_too_long_misses_a_target() {
    let sites = Sites::filled().await;
    target(&sites, "[targets]\nsilent = \"20s\"\n[jobs.check]\nat = \"@yearly\"");
    for job in JOBS.iter().filter(|job| **job != "check") {
        let text = fs::read_to_string(sites.configuration()).unwrap();
        fs::write(sites.configuration(), format!("{text}\n[jobs.{job}]\nenabled = false\n")).unwrap();
    }
    let pair = Pair::over(sites);
    pair.does("ams", &["witness", "init"]);
    let [ams, _fra] = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    pair.does("ams", &["capture"]);
    pair.does("fra", &["restore"]);
    pair.does("ams", &["jobs", "run", "check"]);
    let sites = &pair.sites;
    let alive = report(sites, "ams", &["--strict"]);
    assert!(!keys(&alive.0).contains(&"daemon.absent") && alive.1 == Some(0), "{:#}", alive.0);
    // Killed: it would say so itself otherwise.
    ams.signal(rustix::process::Signal::KILL);
    drop(ams);
    let (dead, _) = report(sites, "ams", &["--strict"]);
    let line = dead["lines"].as_array().unwrap().iter().find(|line| line["key"] == "daemon.absent").unwrap();
    assert_eq!(line["what"], "no daemon runs at ams: nothing runs by itself");
    assert!(dead["verdict"] != "fresh", "{dead:#}");
    let job = &dead["sites"][0]["jobs"][0];
    assert_eq!((job["name"].as_str(), job["runs_here"].as_bool()), (Some("check"), Some(true)), "{dead:#}");
    let text = String::from_utf8(pair.command("ams", &["report"]).output().unwrap().stdout).unwrap();
    assert!(text.contains("no daemon runs at ams: nothing runs by itself"), "{text}");
    let begun = std::time::Instant::now();
    let silent = loop {
        let (told, code) = report(sites, "ams", &["--strict"]);
        if code == Some(4) {
            break told;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{told:#}");
    };
    assert_eq!(keys(&silent)[0], "site.ams.silent", "{silent:#}");
}

#[tokio::test]
async fn the_live_site_counts_the_rows_that_would_be_lost_and_says_nothing_where_it_cannot_know() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let insert =
        "INSERT INTO public.packages (origin, ident) SELECT 'core', 'late/p' || n FROM generate_series(1, 500) n";
    sites.live.sql("app", insert).await;
    // The server counts what a session did when that session gets round to telling.
    let counted = loop {
        let (report, _) = report(&sites, "ams", &[]);
        if report["loss"]["rows"].as_u64().is_some_and(|rows| rows >= 500) {
            break report;
        }
    };
    assert_eq!(counted["loss_proven"], counted["loss"], "one point, and it is proven");
    let text = sites.run("ams", &["report"]);
    assert!(text.contains(" rows and 0 objects were written or deleted since\n"), "{text}");
    let (elsewhere, _) = report(&sites, "fra", &[]);
    assert!(elsewhere["loss"]["rows"].is_null() && elsewhere["loss"]["seconds"].is_u64(), "unknown here: {elsewhere}");

    sites.run("ams", &["capture"]);
    let (newer, _) = report(&sites, "ams", &[]);
    let rows = |report: &Value, of: &str| report[of]["rows"].as_u64();
    assert!(rows(&newer, "loss") < rows(&newer, "loss_proven"), "{newer}");
    sites.live.sql("app", "SELECT pg_stat_reset()").await;
    let (reset, _) = report(&sites, "ams", &[]);
    assert_eq!(rows(&reset, "loss"), None, "its counters were set back: {reset}");
}
