//! The world changes between one command and the next: records rot, keys are exchanged, disks are wiped, a killed
//! restore is overtaken by another. Each test is an incident that left somebody stuck, or told half the truth.

#![cfg(feature = "failpoints")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use warmspare::clock::SystemClock;
use warmspare::config::address::VaultUrl;
use warmspare::keys::SigningKey;
use warmspare::store::Keys;
use warmspare::vault::v1::{DamagedEpoch, StatusRecord};
use warmspare::vault::{StatusKeeping, VaultReader, update_status};

use crate::support::sites::{Sites, shown};

fn killed(sites: &Sites, site: &str, arguments: &[&str], at: &str) {
    let output = sites.command(site, arguments).env("WARMSPARE_FAILPOINT", at).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{}", shown(&output));
}

/// Moves what the live site remembers of the vault aside, as the messages advise.
fn move_aside(sites: &Sites, site: &str) {
    let state = sites.state(site);
    fs::rename(state.join("vault"), state.join("vault.aside")).unwrap();
}

fn records(sites: &Sites, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(sites.vault().join("systems/app").join(folder)).unwrap();
    let mut records: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    records.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    records.sort();
    records
}

#[tokio::test]
async fn a_vault_wiped_under_a_half_done_capture_is_not_written_into_unreadably() {
    let sites = Sites::filled().await;
    killed(&sites, "ams", &["capture"], "vault.catalog");
    fs::remove_dir_all(sites.vault()).unwrap();
    fs::create_dir(sites.vault()).unwrap();
    let message = sites.refused("ams", &["capture"], 3);
    assert!(message.contains("epoch.json") && message.contains("move the folder vault/"), "{message}");
    move_aside(&sites, "ams");
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
}

/// How the open epoch of the live site cuts streams: the average in bytes.
fn cut(sites: &Sites) -> u64 {
    let state = fs::read(sites.state("ams").join("vault/epoch.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&state).unwrap()["chunker"]["average_bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn a_small_system_is_cut_finely_and_an_open_epoch_stays_as_it_is() {
    let sites = Sites::filled().await;
    let epochs = || fs::read_dir(sites.vault().join("systems/app/epochs")).unwrap().count();
    let system = "system = \"app\"\n";
    sites.edit_configuration(system, &format!("{system}capture = {{ chunks = \"large\" }}\n"));
    sites.run("ams", &["capture"]);
    assert_eq!((cut(&sites), epochs()), (16 << 10, 1));
    sites.edit_configuration("\"large\"", "\"auto\"");
    sites.run("ams", &["capture"]);
    assert_eq!((cut(&sites), epochs()), (16 << 10, 1), "a full upload for nothing");
    move_aside(&sites, "ams");
    sites.run("ams", &["capture"]);
    assert_eq!((cut(&sites), epochs()), (2 << 10, 2));
    sites.run("fra", &["restore"]);
}

/// The spare says that an epoch of term 0 is damaged.
async fn call_damaged(sites: &Sites, epoch: u64) {
    let secret = fs::read_to_string(sites.path().join("fra-keys/signing.key")).unwrap();
    let signer = SigningKey::from_file_text(&secret.into()).unwrap();
    let keys = Keys::init(&VaultUrl::Folder(sites.vault())).unwrap();
    let signers = BTreeMap::from([("fra".to_owned(), signer.verifying_key())]);
    let reader = VaultReader::new(keys.clone(), "app", signers);
    let state = sites.state("fra").join("vault");
    let keeping = StatusKeeping { system: "app", site: "fra", signer: &signer, state: &state };
    let change = |record: &mut StatusRecord| {
        record.damaged_epochs = vec![DamagedEpoch { term: 0, epoch, why: "pack ab… is missing".to_owned() }];
    };
    update_status(&keys, &reader, &keeping, &SystemClock, change).await.unwrap();
}

#[tokio::test]
async fn an_epoch_the_spare_calls_damaged_is_left_for_a_new_one() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    call_damaged(&sites, 1).await;
    let output = sites.command("ams", ["capture"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let told = "fra calls epoch 00000000-000001 damaged (pack ab… is missing)";
    assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{}", shown(&output));
    sites.run("ams", &["capture"]);
    let epochs = fs::read_dir(sites.vault().join("systems/app/epochs")).unwrap().count();
    assert_eq!(epochs, 2, "one new epoch, and no more");
    sites.run("fra", &["restore"]);
}

#[tokio::test]
async fn a_status_that_is_not_to_be_believed_is_told_and_stops_no_capture() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    call_damaged(&sites, 1).await;
    let status = sites.vault().join("systems/app/status/fra.json");
    let forged = fs::read_to_string(&status).unwrap().replace("missing", "Missing");
    fs::write(&status, forged).unwrap();
    let output = sites.command("ams", ["capture"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not to be believed"), "{}", shown(&output));
    assert_eq!(fs::read_dir(sites.vault().join("systems/app/epochs")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_rotten_proof_is_named_and_stands_in_nobodys_way() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    fs::create_dir_all(sites.vault().join("systems/app/proofs")).unwrap();
    fs::write(sites.vault().join("systems/app/proofs/00000000-00000001-fra-00000001.json"), "x").unwrap();
    let message = sites.refused("fra", &["points"], 4);
    assert!(message.contains("fra-00000001.json: vault: record") && message.contains("it is damaged"), "{message}");
    assert!(sites.run("fra", &["restore"]).starts_with("EQUAL"));
    assert_eq!(records(&sites, "proofs").len(), 2, "the new proof has a number of its own");
}

#[tokio::test]
async fn a_lost_header_stops_the_capture_until_its_memory_is_moved_aside() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("ams", &["capture"]);
    fs::remove_file(&records(&sites, "snapshots/database.app")[0]).unwrap();
    let message = sites.refused("ams", &["capture"], 3);
    assert!(message.contains("cannot go on with its epoch") && message.contains("move the folder vault/"), "{message}");
    move_aside(&sites, "ams");
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
}

#[tokio::test]
async fn after_a_new_signing_key_captures_go_on() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("ams", &["capture"]);
    let old = fs::read_to_string(sites.path().join("ams-keys/signing.key")).unwrap();
    let old = old.lines().find_map(|line| line.strip_prefix("# verifying key: ")).unwrap();
    let new = warmspare::keygen::site("ams", &sites.path().join("ams-new")).unwrap();
    sites.edit_configuration(old, &new.verifying_key);
    sites.edit_configuration("ams-keys/signing.key", "ams-new/signing.key");
    sites.refused("ams", &["capture"], 3);
    move_aside(&sites, "ams");
    sites.run("ams", &["capture"]);
    assert!(sites.run("fra", &["restore"]).contains("point      0-3 "));
}

#[tokio::test]
async fn a_signing_key_is_exchanged_without_losing_what_the_old_one_signed() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let old = fs::read_to_string(sites.path().join("ams-keys/signing.key")).unwrap();
    let old = old.lines().find_map(|line| line.strip_prefix("# verifying key: ")).unwrap();
    let new = warmspare::keygen::site("ams", &sites.path().join("ams-new")).unwrap();
    let (one, both) = (format!("ams = \"{old}\""), format!("ams = [\"{}\", \"{old}\"]", new.verifying_key));
    sites.edit_configuration(&one, &both);
    let message = sites.refused("ams", &["capture"], 1);
    assert!(message.contains("`signing_key` of ams belongs to"), "the old key signs nothing new: {message}");
    sites.edit_configuration("ams-keys/signing.key", "ams-new/signing.key");
    sites.run("ams", &["capture"]);
    assert_eq!(sites.points("fra").len(), 2, "both are believed");
    assert!(sites.run("fra", &["restore", "--point", "0-1"]).starts_with("EQUAL"));
}

#[tokio::test]
async fn a_restore_that_another_one_overtook_begins_anew_and_asks_again() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    killed(&sites, "fra", &["restore"], "restore.journal:7");
    assert_eq!(sites.spare_databases().await, ["app__0-1"], "killed before the swap");
    fs::write(sites.root("ams").join("etc/app/app.conf"), "listen = 2\n").unwrap();
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let message = sites.refused("fra", &["restore", "--point", "0-1"], 3);
    assert!(message.contains("database `app` at fra holds the newer point 0-2"), "{message}");
    sites.run("fra", &["restore", "--point", "0-1", "--replace"]);
    let file = fs::read_to_string(sites.root("fra").join("etc/app/app.conf")).unwrap();
    assert_eq!(file, "listen = 1\n", "proven equal means that every part is of that point");
}

#[tokio::test]
async fn a_killed_restore_whose_work_somebody_removed_does_it_again() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    killed(&sites, "fra", &["restore"], "restore.placed");
    sites.spare.sql("postgres", "DROP DATABASE \"app__0-1\"").await;
    fs::write(sites.root("fra").join("etc/app/app.conf"), "changed\n").unwrap();
    assert!(sites.run("fra", &["restore"]).starts_with("EQUAL"));
}

#[tokio::test]
async fn a_restore_that_sessions_stopped_goes_on_when_they_may_be_ended() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    sites.run("ams", &["capture"]);
    let session = sites.spare.session("app").await;
    let message = sites.refused("fra", &["restore"], 3);
    assert!(message.contains("in use by 1 sessions") && message.contains("--replace"), "{message}");
    let report: serde_json::Value =
        serde_json::from_str(&sites.run("fra", &["restore", "--replace", "--json"])).unwrap();
    assert_eq!(report["resumed"], true, "nothing is loaded twice");
    session.close().await;
}

#[tokio::test]
async fn beside_live_data_means_beside() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    let file = sites.root("fra").join("etc/app/app.conf");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "live\n").unwrap();
    let root = sites.root("fra").display().to_string();
    for _ in 0..2 {
        let message = sites.refused("fra", &["restore", "--only", "export.configs", "--into", &root], 3);
        assert!(message.contains("--into takes a new or empty folder"), "{message}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "live\n");
    sites.refused("fra", &["restore", "--only", "database.app", "--into", ""], 2);
    sites.refused("fra", &["restore", "--only", "database.app", "--into", &"x".repeat(64)], 2);
}

#[tokio::test]
async fn the_paper_copy_of_the_escrow_restores() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.edit_configuration("fra-keys/identity.txt", "escrow.txt");
    assert!(sites.run("fra", &["restore"]).starts_with("EQUAL"));
}

#[tokio::test]
async fn what_could_not_be_mirrored_is_told_at_the_restore() {
    let sites = Sites::filled().await;
    std::os::unix::fs::symlink("b.hart", sites.bucket("ams").join("core/link.hart")).unwrap();
    sites.refused("ams", &["capture"], 4);
    let report = sites.run("fra", &["restore"]);
    assert!(report.contains("3 objects were mirrored before; 1 MORE WERE NOT"), "{report}");
}

#[tokio::test]
async fn a_red_proof_says_what_to_do_next() {
    let sites = Sites::filled().await;
    sites.put_object("core/index.json", b"one");
    sites.run("ams", &["capture"]);
    // The live site dies after an object was overwritten and mirrored, before the point was published.
    sites.put_object("core/index.json", b"two two");
    killed(&sites, "ams", &["capture"], "mirror.manifest");
    let message = sites.refused("fra", &["restore"], 4);
    assert!(message.contains("warmspare restore --point 0-1 --only database.NAME"), "{message}");
    sites.run("fra", &["restore", "--point", "0-1", "--only", "database.app"]);
    assert!(sites.spare_databases().await.contains(&"app".to_owned()));
}

#[tokio::test]
async fn a_vault_that_takes_no_proof_does_not_hide_what_was_restored() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let vault = sites.vault();
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(&vault).stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["--bind", vault.to_str().unwrap()]) || !mount(&["-o", "remount,ro,bind"]) {
        println!("not root: the read-only vault was not tried");
        return;
    }
    let output = sites.command("fra", ["restore"]).output().unwrap();
    assert!(Command::new("umount").arg(&vault).status().unwrap().success());
    let message = sites.words(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("point 0-1 was restored here and found EQUAL"), "{message}");
    assert!(sites.state("fra").join("restores/0-1-001/report.txt").exists());
    let report: serde_json::Value = serde_json::from_str(&sites.run("fra", &["restore", "--json"])).unwrap();
    assert_eq!((&report["resumed"], &report["proof"]), (&true.into(), &1.into()));
}

#[tokio::test]
async fn an_older_point_is_not_taken_in_silence_when_the_newest_is_damaged() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("ams", &["capture"]);
    sites.run("fra", &["points"]);
    let point = &records(&sites, "points")[1];
    let text = fs::read_to_string(point).unwrap();
    fs::write(point, text.replace("not judged", "not JUDGED")).unwrap();
    assert_eq!(
        sites.refused("fra", &["restore"], 3),
        "error: the newest recovery point, 0-2, is damaged or not to be believed\n\
         next:  `warmspare points` says what is wrong with it. The newest that is whole: --point 0-1."
    );
    let message = sites.refused("fra", &["points"], 4);
    assert!(message.contains("the signature of `ams` does not hold"), "{message}");
    sites.run("fra", &["restore", "--point", "0-1"]);
    sites.run("ams", &["capture"]);
    assert!(sites.run("fra", &["restore"]).contains("point      0-3 "));
}

#[tokio::test]
async fn output_that_is_lost_is_no_success() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sites.command("fra", ["points", "--json"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let output = sites.command("fra", ["restore", "--point", "0-9"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
}
