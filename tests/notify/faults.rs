//! Alarms of what is wrong at places that are seldom looked at: each is raised by its fault, and recalled when that is mended.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use warmspare::notify::Watch;

use super::{Moved, here, job, notices, say_something, sites};
use crate::support::receiver::Receiver;
use crate::support::sites::{Sites, edit};

/// Changes a byte, and gives back how to mend it.
fn rot(path: PathBuf) -> impl FnOnce() {
    let (content, modified) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let put = move |content: &[u8]| {
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    let mut rotten = content.clone();
    *rotten.last_mut().unwrap() ^= 1;
    put(&rotten);
    move || put(&content)
}

fn pack(folder: &Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let is_pack = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "packs");
    files.into_iter().find(is_pack).or_else(|| folders.iter().find_map(|folder| pack(folder)))
}

#[tokio::test]
async fn what_the_other_site_finds_spoilt_in_vault_and_bucket_is_told_until_it_is_mended() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"", receiver.url("/"))]).await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    say_something(&sites);
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock)).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), [""; 0]);

    let (in_vault, in_bucket) = (pack(&sites.vault()).expect("a pack"), sites.bucket("fra").join("core/b.hart"));
    for (rotten, verify, raised) in [
        (
            in_vault,
            ["verify", "--all"].as_slice(),
            ["raised site.fra.damaged-epoch", "raised site.fra.vault-damaged"].as_slice(),
        ),
        (in_bucket, &["verify", "--only", "bucket.artifacts", "--all"], &["raised site.fra.bucket.artifacts.faults"]),
    ] {
        let mend = rot(rotten);
        sites.refused("fra", verify, 4);
        watch.look(&here, None, Vec::new()).await;
        assert_eq!(notices(receiver.taken()), raised);
        watch.look(&here, None, Vec::new()).await;
        assert_eq!(receiver.taken(), [], "once");
        mend();
        sites.run("fra", verify);
        watch.look(&here, None, Vec::new()).await;
        let recovered: Vec<String> = raised.iter().map(|raised| raised.replace("raised", "recovered")).collect();
        assert_eq!(notices(receiver.taken()), recovered);
    }
}

#[tokio::test]
async fn of_an_outage_of_the_vault_its_alarm_is_told_and_nothing_of_what_it_hides() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"\nrepeat = \"30m\"", receiver.url("/"))]).await;
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    sites.run("ams", &["capture"]);
    watch.look(&here, None, Vec::new()).await;
    let standing = notices(receiver.taken());
    assert_eq!(standing, ["raised proof.late", "raised site.fra.silent"]);
    let away = sites.path().join("away");
    fs::rename(sites.vault(), &away).unwrap();
    for (minutes, expected) in
        [(1, [].as_slice()), (4, &[]), (1, &["raised vault.unusable"]), (30, &["repeated vault.unusable"])]
    {
        clock.on(minutes);
        watch.look(&here, None, Vec::new()).await;
        assert_eq!(notices(receiver.taken()), expected, "after {minutes} minutes more");
    }
    fs::rename(&away, sites.vault()).unwrap();
    sites.run("fra", &["check"]);
    watch.look(&here, None, Vec::new()).await;
    let expected = ["repeated proof.late", "recovered vault.unusable", "recovered site.fra.silent"];
    assert_eq!(notices(receiver.taken()), expected);
}

#[tokio::test]
async fn a_source_that_is_late_by_its_own_target_is_told_by_its_name_until_it_is_captured() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"", receiver.url("/"))]).await;
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let target = "\n[targets.sources.\"bucket.artifacts\"]\npoint = \"30m\"\n";
    fs::write(sites.configuration(), text + target).unwrap();
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let capture = async || {
        let progress = warmspare::observe::Progress::silent();
        warmspare::point::take(&here, Arc::new(clock.clone()), &progress).await.unwrap();
    };
    capture().await;
    sites.run("fra", &["restore"]);
    say_something(&sites);
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), [""; 0]);
    clock.on(31);
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["raised point.late.bucket.artifacts"]);
    capture().await;
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["recovered point.late.bucket.artifacts"]);
}

#[tokio::test]
async fn a_ping_that_follows_a_job_which_is_not_there_is_told_until_it_follows_another() {
    let (receiver, ping) = (Receiver::start().await, Receiver::start().await);
    let sites = sites(&[
        ("ops", "kind = \"webhook\"", receiver.url("/")),
        ("hc", "kind = \"ping\"\njob = \"captured\"", ping.url("/uuid")),
    ])
    .await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    say_something(&sites);
    let (wrong, clock) = (here(&sites, "ams"), Moved::new());
    let jobs = || Some(Ok(vec![job("capture", warmspare::clock::Clock::now(&clock))]));
    let mut watch = Watch::new(&wrong, Arc::new(clock.clone())).unwrap();
    watch.look(&wrong, jobs(), Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["raised notify.hc.no-job"]);
    edit(&sites.configuration(), "job = \"captured\"", "job = \"capture\"");
    let right = here(&sites, "ams");
    watch.look(&right, jobs(), Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["recovered notify.hc.no-job"]);
    assert_eq!(ping.taken(), [], "it has not run yet");
}

#[tokio::test]
async fn what_was_told_is_damaged_says_the_report_until_a_watch_has_set_it_aside() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"", receiver.url("/"))]).await;
    sites.run("ams", &["capture"]);
    let lines = |sites: &Sites| {
        let report: Value = serde_json::from_str(&sites.run("ams", &["report", "--json"])).unwrap();
        let lines = report["lines"].as_array().unwrap().iter();
        let lines = lines.map(|line| format!("{} {}", line["grade"].as_str().unwrap(), line["key"].as_str().unwrap()));
        lines.filter(|line| line.contains(" notify.")).collect::<Vec<_>>()
    };
    assert_eq!(lines(&sites), [""; 0]);
    let memory = sites.state("ams").join("alarms.json");
    fs::write(&memory, "{\"format\":1").unwrap();
    assert_eq!(lines(&sites), ["attention notify.memory"]);
    assert!(memory.exists(), "who only looks leaves it");
    let here = here(&sites, "ams");
    let mut watch = Watch::new(&here, Arc::new(Moved::new())).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(lines(&sites), [""; 0]);
    assert!(memory.with_extension("json.damaged").exists(), "it is kept for whoever asks why");
}
