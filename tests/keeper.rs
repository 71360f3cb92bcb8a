//! The keeper at work: what goes, what stays, and what a pass that is killed anywhere leaves behind.

use std::fs;
use std::process::Command;

use warmspare::keys::SigningKey;
use warmspare::vault::layout::{Layout, PointId, gc};
use warmspare::vault::v1::{GcRecord, Link, RemovedPoint, SealedRecord, Signed, Verdict};
use warmspare::vault::{NewProof, put_proof};

use crate::support::history::History;

const RULES: &str = "within = \"1d\"\nhourly = 0\ndaily = 3\nweekly = 2\nmonthly = 1\nyearly = 1\nshare_max = \"100%\"";

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A point every second day for a month and a half: data that mostly stays and partly changes, over seven epochs.
async fn month(rules: &str) -> History {
    let history = History::new(rules);
    for day in (0..=22).rev() {
        let data = [noise("stays", 150_000), noise(&format!("day {day}"), 40_000)].concat();
        history.point(day * 48 + 1, &data).await;
    }
    history
}

/// Two passes: one seals, removes points and headers, the other, a day after the sealing, packs and epochs.
fn both_passes(history: &History) {
    history.run("fra", &["prune"], 0);
    history.age("sealed.json", 30);
    history.run("fra", &["prune"], 0);
}

#[tokio::test]
async fn what_expired_goes_and_every_point_that_stays_opens() {
    let history = month(RULES).await;
    let before = history.keys_there();
    let dry = history.json("fra", &["prune", "--dry-run"]);
    assert_eq!(history.keys_there(), before, "a dry run changes nothing");
    assert!(!history.vault().join("gc").exists());
    both_passes(&history);
    let points = history.read_every_point("afterwards").await;
    let stay = dry["points"].as_array().unwrap().iter().filter(|fate| !fate["stays"].as_array().unwrap().is_empty());
    let stay: Vec<&str> = stay.map(|fate| fate["point"].as_str().unwrap()).collect();
    assert_eq!(points, stay, "the plan was what came");
    assert!((3..=8).contains(&points.len()), "{points:?}");
    let after = history.keys_there();
    let count = |of: &str| [&before, &after].map(|keys| keys.iter().filter(|key| key.contains(of)).count());
    let [packs, left] = count("/packs/");
    assert!(left < packs / 2, "{left} of {packs} packs are left");
    let [epochs, left] = count("epoch.json");
    assert!(left < epochs, "{left} of {epochs} epochs are left");
    assert_eq!(history.json("fra", &["prune"])["objects"], 0, "a second pass has nothing to do");
    // The live site goes on.
    history.point(0, b"new").await;
    history.run("ams", &["points"], 0);
}

#[tokio::test]
async fn only_the_spare_prunes_and_no_more_than_the_share() {
    let history = month(&RULES.replace("100%", "10%")).await;
    let before = history.keys_there();
    let message = history.run("ams", &["prune"], 3);
    assert!(message.contains("ams is the live site: the keeper works on the spare only"), "{message}");
    let message = history.run("fra", &["prune"], 3);
    assert!(message.contains("of 23 points, more than 10%") && message.contains("--share 100%"), "{message}");
    let left = history.keys_there();
    assert!(before.is_subset(&left), "nothing went");
    history.run("fra", &["prune", "--share", "100%"], 0);
}

#[tokio::test]
async fn held_and_proven_points_stay() {
    let history = month(RULES).await;
    history.run("fra", &["points", "hold", "0-2", "--why", "before the migration"], 0);
    history.run("ams", &["points", "hold", "0-2", "--why", "me too"], 0);
    let message = history.run("fra", &["points", "release", "0-3", "--why", "no"], 2);
    assert!(message.contains("Nobody holds it"), "{message}");
    // The spare's hold is the spare's to release.
    history.run("ams", &["points", "release", "0-2", "--why", "done"], 0);
    let listing = history.reader().points().await.unwrap();
    let proof = |by: &'static str, seq: u64| {
        let point = listing.points.iter().find(|point| point.id.seq == seq).unwrap();
        let at = history.hours_ago(1);
        let new = NewProof { verdict: Verdict::Equal, complete: true, started_at: at, finished_at: at, steps: vec![] };
        let (keys, signer) = (history.keys(), history.signing_key(by));
        async move { put_proof(&keys, point, by, 0, new, &signer).await.unwrap() }
    };
    proof("fra", 4).await;
    // The live site's own word for a later point does not make it the newest proven.
    proof("ams", 6).await;
    both_passes(&history);
    let points = history.read_every_point("afterwards").await;
    assert!(["0-2", "0-4"].iter().all(|id| points.contains(&(*id).to_owned())), "{points:?}");
    assert!(!points.contains(&"0-6".to_owned()), "{points:?}");
    let shown = history.run("fra", &["points"], 0);
    assert!(shown.contains("HELD by fra: before the migration"), "{shown}");
    history.run("fra", &["points", "release", "0-2", "--why", "migrated"], 0);
    history.run("fra", &["prune"], 0);
    assert!(!history.read_every_point("released").await.contains(&"0-2".to_owned()));
}

#[tokio::test]
async fn a_gap_that_no_pinned_keeper_explains_is_an_alarm() {
    let history = month(RULES).await;
    let id = PointId { term: 0, seq: 5 };
    let listing = history.reader().points().await.unwrap();
    let blake3 = listing.points.iter().find(|point| point.id == id).unwrap().blake3.to_hex().to_string();
    fs::remove_file(history.vault().join(Layout::new("app").point(id))).unwrap();
    let message = history.run("fra", &["points"], 4);
    assert!(message.contains("missing: point 0-6 was taken after it"), "{message}");
    let record = GcRecord {
        format: 1,
        kind: "gc".into(),
        system: "app".into(),
        pass: 1,
        writer: "fra".into(),
        planned_at: history.now,
        points: vec![RemovedPoint { term: 0, seq: 5, blake3, headers: vec![] }],
        headers: vec![],
        packs: vec![],
        epochs: vec![],
        leftovers: vec![],
        software: "forged".into(),
    };
    fs::create_dir(history.vault().join("gc")).unwrap();
    let write = |key: &SigningKey| {
        fs::write(history.vault().join(gc(1)), Signed::encode(&record, &gc(1), "fra", key).unwrap()).unwrap();
    };
    write(&SigningKey::generate().unwrap());
    let message = history.run("fra", &["points"], 4);
    assert!(
        message.contains("missing: point 0-6") && message.contains("the signature of `fra` does not hold"),
        "{message}"
    );
    write(&history.signing_key("fra"));
    history.run("fra", &["points"], 0);
}

#[tokio::test]
async fn a_seal_hides_what_came_after_it_but_nothing_by_its_own_signer() {
    let history = History::new(RULES);
    history.point(30, b"one").await;
    history.point(20, b"two").await;
    let epoch = history.reader().heads(0).await.unwrap().remove(0).epoch;
    let first = history.reader().points().await.unwrap().points.remove(0);
    let last = Some(Link { seq: 1, blake3: first.record.snapshots[0].blake3.clone() });
    let key = Layout::new("app").sealed(epoch);
    let seal = |writer: &str| {
        let record = SealedRecord {
            format: 1,
            kind: "sealed".into(),
            system: "app".into(),
            term: epoch.term,
            epoch: epoch.epoch,
            writer: writer.into(),
            sealed_at: history.now,
            last: last.clone(),
            software: "test".into(),
        };
        let bytes = Signed::encode(&record, &key, writer, &history.signing_key(writer)).unwrap();
        fs::write(history.vault().join(&key), bytes).unwrap();
    };
    seal("ams");
    assert_eq!(history.read_every_point("the live site's own seal").await, ["0-1", "0-2"]);
    let message = history.run("fra", &["prune", "--dry-run"], 4);
    assert!(message.contains("ams sealed what it wrote itself"), "{message}");
    seal("fra");
    let message = history.run("fra", &["points"], 4);
    assert!(message.contains("was added after its epoch was sealed at number 1"), "{message}");
    // What is damaged stays, and so does everything it names.
    let before = history.keys_there();
    history.age("sealed.json", 48);
    history.run("fra", &["prune"], 4);
    assert_eq!(history.keys_there(), before);
}

#[tokio::test]
async fn damage_keeps_what_it_may_concern() {
    let history = month(RULES).await;
    let point = history.vault().join(Layout::new("app").point(PointId { term: 0, seq: 3 }));
    fs::write(&point, "x").unwrap();
    let bodies = |history: &History| history.keys_there().into_iter().filter(|key| key.contains(".body.age")).count();
    let before = bodies(&history);
    history.run("fra", &["prune"], 4);
    history.age("sealed.json", 30);
    history.run("fra", &["prune"], 4);
    assert!(point.exists());
    let left = history.reader().points().await.unwrap();
    assert_eq!(left.damaged_points.len(), 1);
    assert!(
        bodies(&history) > left.points.len() && bodies(&history) < before,
        "what the damaged point names is unknown"
    );
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_keeper_killed_at_any_step_leaves_every_listed_point_whole_and_the_next_pass_finishes() {
    use std::os::unix::process::ExitStatusExt;
    let history = month(RULES).await;
    let vault = history.vault();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        if to.exists() {
            fs::remove_dir_all(to).unwrap();
        }
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    let saved = history.path().join("saved");
    let mut moments_tried = 0;
    for round in ["first", "second"] {
        copy(&vault, &saved);
        let log = history.path().join(round);
        assert!(history.command("fra", &["prune"]).env("WARMSPARE_FAILPOINT_LOG", &log).status().unwrap().success());
        let sealed = |history: &History| {
            history.age("sealed.json", 30);
            history.run("fra", &["prune"], 0);
            history.keys_there()
        };
        let finished = sealed(&history);
        let log = fs::read_to_string(&log).unwrap();
        let mut steps: Vec<&str> = log.lines().filter(|step| step.contains('.')).collect();
        steps.sort_unstable();
        let moments = steps.chunk_by(|a, b| a == b).flat_map(|same| {
            let last = (same.len() > 1).then(|| format!("{}:{}", same[0], same.len()));
            std::iter::once(format!("{}:1", same[0])).chain(last)
        });
        for moment in moments.collect::<Vec<_>>() {
            copy(&saved, &vault);
            let killed = history.command("fra", &["prune"]).env("WARMSPARE_FAILPOINT", &moment).status().unwrap();
            assert_eq!(killed.signal(), Some(9), "{moment}");
            history.read_every_point(&moment).await;
            history.run("fra", &["points"], 0);
            history.run("fra", &["prune"], 0);
            history.read_every_point(&moment).await;
            assert_eq!(sealed(&history), finished, "{moment}");
            moments_tried += 1;
        }
        // The second round begins where the first pass ended.
        copy(&saved, &vault);
        history.run("fra", &["prune"], 0);
        history.age("sealed.json", 30);
    }
    println!("the keeper was killed at {moments_tried} moments");
    assert!(moments_tried > 15);
}
