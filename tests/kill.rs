//! Killed with signal 9 directly after every durable step, then run again: it completes, and nothing half-true is
//! ever listed. The test prints the steps.

#![cfg(feature = "failpoints")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use crate::support::sites::{Sites, shown};

/// The steps that `arguments` pass, in order of first passing, and how often.
fn steps_of(sites: &Sites, site: &str, arguments: &[&str]) -> Vec<(String, u64)> {
    let log = sites.path().join("steps.log");
    let _ = std::fs::remove_file(&log);
    let output = sites.command(site, arguments).env("WARMSPARE_FAILPOINT_LOG", &log).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let mut order = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for step in std::fs::read_to_string(&log).unwrap().lines() {
        let count = counts.entry(step.to_owned()).or_default();
        if *count == 0 {
            order.push(step.to_owned());
        }
        *count += 1;
    }
    order.into_iter().map(|step| (step.clone(), counts[&step])).collect()
}

/// The first and the last time a step is passed: where its beginning and its end can be torn.
fn moments(steps: &[(String, u64)]) -> Vec<String> {
    let mut moments = Vec::new();
    for (step, count) in steps {
        moments.push(format!("{step}:1"));
        if *count > 1 {
            moments.push(format!("{step}:{count}"));
        }
    }
    moments
}

fn kill_at(sites: &Sites, site: &str, arguments: &[&str], moment: &str) -> bool {
    let output = sites.command(site, arguments).env("WARMSPARE_FAILPOINT", moment).output().unwrap();
    match output.status.signal() {
        Some(9) => true,
        // How often a parallel step is passed may vary by a little from run to run.
        _ if output.status.success() => false,
        _ => panic!("{moment}: {}", shown(&output)),
    }
}

#[tokio::test]
async fn a_capture_killed_at_any_durable_step_is_completed_by_the_next_one() {
    let sites = Sites::filled().await;
    let steps = steps_of(&sites, "ams", &["capture"]);
    let moments = moments(&steps);
    println!("capture passes {} durable steps, killed at {} moments: {moments:?}", steps.len(), moments.len());
    for expected in ["store.create", "vault.pack", "vault.body", "vault.header", "vault.point", "mirror.manifest"] {
        assert!(steps.iter().any(|(step, _)| step == expected), "{expected} is not passed: {steps:?}");
    }
    let mut killed = 0;
    for moment in &moments {
        sites.forget_captures();
        killed += u32::from(kill_at(&sites, "ams", &["capture"], moment));
        let before = sites.points("ams").len();
        sites.run("ams", &["capture"]);
        let points = sites.points("ams");
        assert_eq!(points.len(), before + 1, "{moment}: the next capture is whole");
        for point in &points {
            assert_eq!(point["snapshots"].as_array().unwrap().len(), 3, "{moment}: a listed point has everything");
        }
        sites.forget_restores().await;
        for point in &points {
            let id = point["point"].as_str().unwrap();
            sites.run("fra", &["restore", "--replace", "--point", id]);
        }
    }
    assert!(killed as usize + 3 >= moments.len(), "{killed} of {} were killed", moments.len());
}

#[tokio::test]
async fn a_restore_killed_at_any_durable_step_goes_on_and_is_proven() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let stand = async || {
        // What stands at the spare before: a database and a file to be replaced and kept.
        sites.forget_restores().await;
        std::fs::create_dir_all(sites.root("fra").join("etc/app")).unwrap();
        std::fs::write(sites.root("fra").join("etc/app/app.conf"), "the spare's own\n").unwrap();
        sites.spare.create("app", "CREATE TABLE public.own (id int)").await;
    };
    stand().await;
    let restore = ["restore", "--replace"];
    let steps = steps_of(&sites, "fra", &restore);
    let moments = moments(&steps);
    println!("restore passes {} durable steps, killed at {} moments: {moments:?}", steps.len(), moments.len());
    for expected in ["restore.journal", "database.created", "database.swapped", "restore.files.placed", "vault.proof"] {
        assert!(steps.iter().any(|(step, _)| step == expected), "{expected} is not passed: {steps:?}");
    }
    let mut killed = 0;
    for moment in &moments {
        stand().await;
        killed += u32::from(kill_at(&sites, "fra", &restore, moment));
        let databases = sites.spare_databases().await;
        assert!(databases.contains(&"app".to_owned()), "{moment}: there is always a database: {databases:?}");
        let report = sites.run("fra", &["restore", "--replace", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["verdict"], "equal", "{moment}");
        assert_eq!(sites.spare.value("app", "SELECT count(*)::text FROM public.packages").await, "2000", "{moment}");
        let file = std::fs::read_to_string(sites.root("fra").join("etc/app/app.conf")).unwrap();
        assert_eq!(file, "listen = 1\n", "{moment}");
        assert!(kept_somewhere(&sites), "{moment}: the file that was replaced is kept");
    }
    assert!(killed as usize + 3 >= moments.len(), "{killed} of {} were killed", moments.len());
}

/// Whether the spare's own `app.conf` lies among what restores have kept.
fn kept_somewhere(sites: &Sites) -> bool {
    fn search(folder: &std::path::Path) -> bool {
        std::fs::read_dir(folder).into_iter().flatten().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { search(&path) } else { std::fs::read(&path).unwrap() == b"the spare's own\n" }
        })
    }
    search(&sites.state("fra"))
}
