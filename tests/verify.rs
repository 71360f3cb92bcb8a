//! `warmspare verify` at both sites: what is gone or changed is named, the status says so, and nothing else does.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::sites::{Sites, shown};

/// The files of the vault whose path has `part` in it.
fn objects(sites: &Sites, part: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![sites.vault()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.to_string_lossy().contains(part));
    found.sort();
    found
}

/// What `verify --json` says at a site, and the exit code it has to end with.
fn verify(sites: &Sites, site: &str, arguments: &[&str], code: i32) -> Value {
    let output = sites.command(site, ["verify", "--json"].iter().chain(arguments)).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", shown(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_names(report: &Value, object: &Path, what: &str) {
    let faults = report["faults"].as_array().unwrap();
    let named = |fault: &&Value| object.ends_with(fault["object"].as_str().unwrap());
    let fault = faults.iter().find(named).unwrap_or_else(|| panic!("{} is not in {faults:?}", object.display()));
    assert!(fault["what"].as_str().unwrap().contains(what), "{fault}");
}

/// The damaged epochs that the spare's status tells of, each with its reason.
fn told(sites: &Sites) -> Vec<String> {
    let text = fs::read_to_string(sites.vault().join("systems/app/status/fra.json")).unwrap();
    let status: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let damaged = status["damaged_epochs"].as_array().unwrap();
    damaged.iter().map(|epoch| epoch["why"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_gone_or_changed_is_named_and_taken_back_only_by_a_full_look() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let sound = verify(&sites, "fra", &["--all"], 0);
    assert_eq!((&sound["points"], &sound["hashed_packs"], &sound["bodies"]), (&1.into(), &sound["packs"], &3.into()));
    assert_eq!(sound["streams"], 11, "every stream was read: {sound}");
    assert_eq!(told(&sites), [] as [String; 0]);
    let live = verify(&sites, "ams", &[], 0);
    assert_eq!((&live["snapshots"], &live["bodies"], &live["packs"]), (&3.into(), &0.into(), &0.into()));

    let pack = objects(&sites, "/packs/").remove(0);
    let good = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    let dry = verify(&sites, "fra", &["--share", "1/1000", "--streams", "0", "--dry-run"], 4);
    assert_names(&dry, &pack, "it is not there; ");
    assert_eq!(told(&sites), [] as [String; 0], "a dry run says nothing");
    verify(&sites, "fra", &["--share", "1/1000", "--streams", "0"], 4);
    assert!(told(&sites)[0].contains(pack.file_name().unwrap().to_str().unwrap()), "{:?}", told(&sites));

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&pack, flipped).unwrap();
    let report = verify(&sites, "fra", &["--share", "1/1"], 4);
    assert_names(&report, &pack, "its BLAKE3 is not its name");

    fs::write(&pack, good).unwrap();
    verify(&sites, "fra", &["--share", "1/1"], 0);
    assert_eq!(told(&sites).len(), 1, "not all of it was looked at");
    verify(&sites, "fra", &["--all"], 0);
    assert_eq!(told(&sites), [] as [String; 0]);
}

#[tokio::test]
async fn a_body_that_was_cut_is_named_at_either_site() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let body = objects(&sites, "/database.app/").into_iter().find(|path| path.extension().unwrap() == "age").unwrap();
    let good = fs::read(&body).unwrap();
    fs::write(&body, &good[..good.len() - 1]).unwrap();
    for site in ["ams", "fra"] {
        assert_names(&verify(&sites, site, &[], 4), &body, "bytes, and its header says");
    }
    let words = sites.refused("fra", &["verify"], 4);
    let named = "DAMAGED systems/app/snapshots/database.app/00000000-000001-";
    assert!(words.contains(named) && words.contains("point 0-1 needs it"), "{words}");
    fs::remove_file(&body).unwrap();
    assert_names(&verify(&sites, "ams", &[], 4), &body, "it is not there");
    assert!(!sites.command("fra", ["restore"]).output().unwrap().status.success());
}

#[tokio::test]
async fn seven_runs_of_one_day_read_every_pack_and_what_is_wrong_stays_wrong() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let read = |report: &Value| report["hashed_packs"].as_u64().unwrap();
    let runs: Vec<Value> = (0..7).map(|_| verify(&sites, "fra", &[], 0)).collect();
    let packs = runs[0]["packs"].as_u64().unwrap();
    assert_eq!((runs.iter().map(read).sum::<u64>(), packs > 0), (packs, true), "each once: {runs:#?}");
    // Wherever it is, its turn comes; and from then on each run says so, whoever's turn it is.
    let pack = objects(&sites, "/packs/").remove(0);
    let good = fs::read(&pack).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    fs::write(&pack, flipped).unwrap();
    let arguments = ["verify", "--json", "--streams", "0"];
    let is_found = |_: &i32| sites.command("fra", arguments).output().unwrap().status.code() == Some(4);
    assert!((0..7).any(|run| is_found(&run)), "seven runs read everything");
    let first = fs::read(sites.state("fra").join("vault/scrub.json")).unwrap();
    verify(&sites, "fra", &["--streams", "0", "--dry-run"], 4);
    assert_eq!(fs::read(sites.state("fra").join("vault/scrub.json")).unwrap(), first, "a dry run takes no turn");
    for _ in 0..3 {
        assert_names(&verify(&sites, "fra", &["--streams", "0"], 4), &pack, "its BLAKE3 is not its name");
    }
    fs::write(&pack, good).unwrap();
    verify(&sites, "fra", &["--streams", "0"], 0);
}
