//! The attic as an operator uses it: `capture`, `prune`, `restore --only bucket.artifacts`, and what a kill leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::buckets::read_plainly;
use crate::support::sites::{Sites, shown};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sites without their databases: what is tried here is the bucket.
async fn sites() -> Sites {
    let sites = Sites::filled().await;
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("databases.")).collect();
    let text = kept.join("\n").replacen("\n[vault]", "\n[retention]\nhide_after = \"0s\"\n\n[vault]", 1);
    fs::write(sites.configuration(), text + "\n").unwrap();
    sites
}

fn live(sites: &Sites) -> BTreeMap<String, Vec<u8>> {
    read_plainly(&sites.bucket("ams"))
}

/// Captures and prunes until the spare holds what the live site has; how many points that took. What was written within two
/// seconds of the newest point is not hidden yet.
fn hidden(sites: &Sites) -> usize {
    captured_until(sites, "what the live site deleted is hidden", || {
        sites.run("fra", &["prune"]);
        read_plainly(&sites.bucket("fra")) == live(sites)
    })
}

/// Captures until something is so; how many points that took.
fn captured_until(sites: &Sites, what: &str, is: impl Fn() -> bool) -> usize {
    let begun = Instant::now();
    for captures in 0.. {
        if is() {
            return captures;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: never");
        sites.run("ams", &["capture"]);
    }
    unreachable!("there are many numbers")
}

/// Rebuilds a point beside.
fn rebuilt(sites: &Sites, point: &str) -> BTreeMap<String, Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("new");
    let only = ["restore", "--only", "bucket.artifacts", "--point", point, "--into", into.to_str().unwrap()];
    sites.run("fra", &only);
    read_plainly(&into)
}

#[tokio::test]
async fn points_are_rebuilt_whatever_was_overwritten_deleted_and_hidden_and_wherever_it_was_killed() {
    let sites = sites().await;
    let mut points = Vec::new();
    sites.run("ams", &["capture"]);
    points.push(live(&sites));
    // Killed between the attic, the overwrite, the row and the manifest: the next capture goes on, and nothing is lost.
    for (n, step) in ["mirror.attic", "store.object.write", "mirror.row", "mirror.manifest"].iter().enumerate() {
        sites.put_object("core/a.hart", format!("edit {n}").as_bytes());
        sites.put_object("core/b.hart", format!("another {n}").as_bytes());
        let killed = sites.command("ams", ["capture"]).env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert_eq!(killed.status.code(), None, "{step}: {}", shown(&killed));
        sites.put_object("core/a.hart", format!("later {n}").as_bytes());
        sites.run("ams", &["capture"]);
        points.push(live(&sites));
    }
    fs::remove_file(sites.bucket("ams").join("core/b.hart")).unwrap();
    for _ in 0..2 {
        sites.run("ams", &["capture"]);
        points.push(live(&sites));
    }
    let would = "bucket.artifacts: 1 deleted at the live site would be hidden";
    let more = captured_until(&sites, would, || sites.run("fra", &["prune", "--dry-run"]).contains(would));
    points.extend(std::iter::repeat_n(live(&sites), more));
    for step in ["mirror.touched", "mirror.touched.done"] {
        let killed = sites.command("fra", ["prune"]).env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert_eq!(killed.status.code(), None, "{step}: {}", shown(&killed));
        sites.run("ams", &["capture"]);
        points.push(live(&sites));
    }
    points.extend(std::iter::repeat_n(live(&sites), hidden(&sites)));
    for (n, point) in points.iter().enumerate() {
        assert_eq!(rebuilt(&sites, &format!("0-{}", n + 1)), *point, "point {}", n + 1);
    }
    in_place(&sites, &points[1]);
}

/// In place: what is missing is brought; what is another, or too much, goes into the attic, if a person says so. The live site
/// follows with its next capture.
fn in_place(sites: &Sites, second: &BTreeMap<String, Vec<u8>>) {
    let before = read_plainly(&sites.bucket("fra"));
    fs::write(sites.bucket("fra").join("extra"), "extra").unwrap();
    let only = ["restore", "--only", "bucket.artifacts", "--point", "0-2"];
    sites.run("fra", &[&only[..], &["--dry-run"]].concat());
    let output = sites.command("fra", only.iter()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(shown(&output).contains("1 ARE OTHERS and were left"), "{}", shown(&output));
    assert!(shown(&output).contains("1 that the point does not have were left"), "{}", shown(&output));
    let mut killed = sites.command("fra", [&only[..], &["--replace"]].concat());
    let killed = killed.env("WARMSPARE_FAILPOINT", "restore.object").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", shown(&killed));
    sites.run("fra", &[&only[..], &["--replace"]].concat());
    assert_eq!(read_plainly(&sites.bucket("fra")), *second);
    // The mirror's own manifest is not believed for what was restored.
    sites.run("ams", &["capture"]);
    let after = read_plainly(&sites.bucket("fra"));
    assert!(before.iter().all(|(key, content)| after.get(key) == Some(content)), "{:?}", after.keys());
    assert_eq!(rebuilt(sites, "0-2"), *second);
    // No copy left anywhere: it is said which, and the others are brought.
    for entry in walk(&sites.path().join("fra/bucket.attic/objects")) {
        fs::remove_file(entry).unwrap();
    }
    let into = sites.path().join("lost");
    let only = [&only[..], &["--into", into.to_str().unwrap()]].concat();
    let output = sites.command("fra", only.iter()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(shown(&output).contains("nothing that can be read has its content"), "{}", shown(&output));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_live_bucket_that_is_not_mounted_costs_no_object_and_is_told() {
    let sites = sites().await;
    for n in 0..12 {
        sites.put_object(&format!("many/{n}"), &[n]);
    }
    sites.run("ams", &["capture"]);
    let whole = live(&sites);
    fs::rename(sites.bucket("ams").join("many"), sites.path().join("away")).unwrap();
    let output = sites.command("ams", ["capture"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(shown(&output).contains("12 of 15 objects are gone: more than half"), "{}", shown(&output));
    assert!(shown(&output).contains("`warmspare capture --accept-changes 12`"), "{}", shown(&output));
    sites.run("fra", &["prune"]);
    assert_eq!(read_plainly(&sites.bucket("fra")), whole);
    assert_eq!(rebuilt(&sites, "0-2"), whole);
    sites.run("ams", &["capture", "--accept-changes", "12"]);
    sites.run("ams", &["capture"]);
    assert_eq!(rebuilt(&sites, "0-3"), live(&sites));
    hidden(&sites);
    let journal = fs::read_to_string(sites.state("ams").join("mirror/artifacts/accepted.jsonl")).unwrap();
    assert!(journal.contains("\"accept_changes\":12"), "{journal}");
}
