//! How many objects `warmspare report` says would be lost: what the live site has written since a point and no more, and nothing where
//! it cannot know. With a real database and real captures, in folders and in buckets of an S3 server.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::report::report;
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets;
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};
use crate::support::sites::{Sites, shown};

/// The live site's bucket, as its applications use it.
enum Live {
    Folder(PathBuf),
    S3(Arc<Ceph>, String),
}

impl Live {
    async fn put(&self, key: &str, content: &str) {
        match self {
            Live::Folder(folder) => fs::write(folder.join(key), content).unwrap(),
            Live::S3(ceph, bucket) => {
                let bucket = buckets::s3(ceph.endpoint(), bucket, "", Some(CREDENTIALS));
                buckets::put(&bucket, key, content.to_owned()).await.unwrap();
            }
        }
    }

    fn remove(&self, key: &str) {
        match self {
            Live::Folder(folder) => fs::remove_file(folder.join(key)).unwrap(),
            Live::S3(ceph, bucket) => ceph.plain_delete(bucket, key),
        }
    }
}

/// Sites with folders, and ten objects more in that of the live one.
async fn folders() -> (Sites, Live) {
    let sites = Sites::filled().await;
    let live = Live::Folder(sites.bucket("ams"));
    ten(&live).await;
    (sites, live)
}

/// Sites with buckets of an S3 server, reached at `endpoint` by the live one.
async fn on_s3(ceph: Arc<Ceph>, endpoint: &str) -> (Sites, Live) {
    let sites = Sites::filled().await;
    let credentials = sites.path().join("s3");
    fs::write(&credentials, CREDENTIALS).unwrap();
    let (own, spare) = (ceph.bucket(), ceph.bucket());
    for (site, bucket, endpoint) in [("ams", &own, endpoint), ("fra", &spare, ceph.endpoint())] {
        let folder = format!("buckets.artifacts = {{ url = \"{}\" }}", sites.bucket(site).display());
        let file = credentials.display();
        let bucket = format!(
            "buckets.artifacts = {{ url = \"s3://{bucket}\", endpoint = \"{endpoint}\", credentials = \"file:{file}\" }}"
        );
        sites.edit_configuration(&folder, &bucket);
    }
    let live = Live::S3(ceph, own);
    ten(&live).await;
    (sites, live)
}

async fn ten(live: &Live) {
    for number in 0..10 {
        live.put(&format!("o{number}"), "as it was").await;
    }
}

/// What the report at ams says would be lost: since the newest point, and since the newest proven one.
fn lost(sites: &Sites) -> (Option<u64>, Option<u64>) {
    let (report, code) = report(sites, "ams", &[]);
    assert_eq!(code, Some(0), "{report}");
    objects(&report)
}

fn objects(report: &Value) -> (Option<u64>, Option<u64>) {
    (report["loss"]["objects"].as_u64(), report["loss_proven"]["objects"].as_u64())
}

/// That nothing is counted, and the log says why in these words; the report is made all the same.
fn is_unknown(sites: &Sites, why: &str) {
    let output = sites.command("ams", ["report", "--json"]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert!(log.contains("WARN") && log.contains("objects since") && log.contains(why), "{why}: {}", shown(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(objects(&report).0, None, "{report}");
    assert!(report["loss"]["rows"].is_u64(), "the rows are counted: {report}");
}

/// Writes, changes and deletes, with captures, `mirror run` and a restore between them.
async fn a_day(sites: &Sites, live: &Live) {
    sites.run("ams", &["capture"]);
    assert_eq!(lost(sites), (Some(0), None), "no point is proven");
    sites.run("fra", &["restore"]);
    assert_eq!(lost(sites), (Some(0), Some(0)));

    for new in ["new1", "new2", "new3"] {
        live.put(new, "new").await;
    }
    live.put("o1", "of another size").await;
    live.put("o2", "as it is!").await;
    live.remove("o3");
    assert_eq!(lost(sites), (Some(6), Some(6)), "three are new, two changed, one of them in its size, one is gone");
    let text = sites.run("ams", &["report"]);
    assert!(text.contains(" rows and 6 objects were written or deleted since\n"), "{text}");
    let (elsewhere, _) = report(sites, "fra", &[]);
    assert_eq!(objects(&elsewhere), (None, None), "unknown here: {elsewhere}");
    let (rows_alone, _) = report(sites, "ams", &["--without-objects"]);
    assert_eq!(objects(&rows_alone), (None, None), "{rows_alone}");

    sites.run("ams", &["mirror", "run"]);
    assert_eq!(lost(sites), (Some(6), Some(6)), "the other site has them, and no point");
    live.put("new1", "newer").await;
    assert_eq!(lost(sites), (Some(7), Some(7)), "a change of what had changed is one more");

    sites.run("ams", &["capture"]);
    assert_eq!(lost(sites), (Some(0), Some(7)), "the newest point has all of them, and nobody has proven it");
    live.remove("new2");
    assert_eq!(lost(sites), (Some(1), Some(8)));
    let text = sites.run("ams", &["report"]);
    let of = |line: &str| text.lines().find(|found| found.starts_with(line)).unwrap_or_default().to_owned();
    assert!(of("lost if ams died now").ends_with(" and 1 objects were written or deleted since"), "{text}");
    assert!(of("proven by a restore").ends_with(" and 8 objects were written or deleted since"), "{text}");
    let metrics = sites.path().join("warmspare.prom");
    sites.run("ams", &["report", "--prometheus", metrics.to_str().unwrap()]);
    let metrics = fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains("warmspare_loss_objects{system=\"app\",target=\"point\"} 1\n"), "{metrics}");
    assert!(metrics.contains("warmspare_loss_objects{system=\"app\",target=\"proven\"} 8\n"), "{metrics}");

    sites.run("fra", &["restore"]);
    assert_eq!(lost(sites), (Some(1), Some(1)));
}

#[tokio::test]
async fn in_a_folder_every_object_written_since_a_point_is_counted() {
    let (sites, live) = folders().await;
    a_day(&sites, &live).await;
}

#[tokio::test]
async fn on_s3_every_object_written_since_a_point_is_counted() {
    let ceph = Ceph::shared();
    let endpoint = ceph.endpoint().to_owned();
    let (sites, live) = on_s3(ceph, &endpoint).await;
    a_day(&sites, &live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_whose_server_is_away_is_not_counted_and_the_report_is_made() {
    let ceph = Ceph::shared();
    let proxy = Proxy::start(ceph.endpoint(), Fault::LosesReplies(0)).await;
    let (sites, live) = on_s3(ceph, proxy.endpoint()).await;
    sites.run("ams", &["capture"]);
    live.put("new", "new").await;
    assert_eq!(lost(&sites).0, Some(1));
    drop(proxy);
    is_unknown(&sites, "bucket.artifacts: ");
}

#[tokio::test]
async fn what_cannot_be_believed_is_not_counted() {
    let (sites, live) = folders().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let (bucket, aside) = (sites.bucket("ams"), sites.path().join("aside"));
    fs::rename(&bucket, &aside).unwrap();
    is_unknown(&sites, "bucket.artifacts: ");
    // The folder that a disk is to be mounted on.
    fs::create_dir(&bucket).unwrap();
    is_unknown(&sites, "it lists no object, and had 13 at the last pass");
    fs::remove_dir(&bucket).unwrap();
    fs::rename(&aside, &bucket).unwrap();
    assert_eq!(lost(&sites), (Some(0), Some(0)));

    fs::remove_dir_all(sites.state("ams").join("mirror")).unwrap();
    is_unknown(&sites, "no pass of its mirror has come to its end here");
    live.put("new", "new").await;
    sites.run("ams", &["capture"]);
    assert_eq!(lost(&sites), (Some(0), None), "since the proven point nobody knows");
    let output = sites.command("ams", ["report"]).output().unwrap();
    let why = "objects since point 0-1 cannot be counted: the mirror of bucket.artifacts has begun to count anew";
    assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{}", shown(&output));
}

#[tokio::test]
async fn a_capture_that_was_killed_or_is_under_way_hides_no_object() {
    let (sites, live) = folders().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    for changed in ["o1", "o3", "o5", "o7"] {
        live.put(changed, "changed since").await;
    }
    live.remove("o0");
    // After the first object of five; after all of them and before there is a point.
    for step in ["mirror.row", "mirror.manifest", "point.captured"] {
        let killed = sites.command("ams", ["capture"]).env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert!(!killed.status.success(), "{step}: {}", shown(&killed));
        assert_eq!(lost(&sites), (Some(5), Some(5)), "{step}");
    }
    let told = sites.path().join("told");
    let mut expected = [(6, 6), (1, 7), (1, 8)].into_iter();
    // The report is made while the capture waits for it: some objects are copied, all of them, and before the point is written.
    for step in ["mirror.row", "mirror.manifest", "point.captured"] {
        live.put("o9", step).await;
        let report = format!("{step}={} report --json > {}", env!("CARGO_BIN_EXE_warmspare"), told.display());
        let output = sites.command("ams", ["capture"]).env("WARMSPARE_FAILPOINT_RUN", &report).output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        let told: Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
        let (newest, proven) = expected.next().unwrap();
        assert_eq!(objects(&told), (Some(newest), Some(proven)), "{step}: {told}");
    }
    assert_eq!(lost(&sites), (Some(0), Some(8)));
}

/// What was written while the other site was live nobody here has counted.
#[test]
fn after_the_roles_swapped_objects_are_counted_from_the_new_live_sites_first_point_on() {
    let sites = BucketSites::folders();
    for key in ["a", "b", "c"] {
        sites.put(key, b"at first");
    }
    sites.ended("ams", &["capture"], 0);
    let lost = |site: &str| objects(&sites.json(site, &["report"], 0));
    let (mut from, mut to) = ("ams", "fra");
    for turn in 1..=2 {
        assert_eq!(lost(from).0, Some(0), "turn {turn}");
        sites.ended(to, &["restore"], 0);
        sites.edit_configuration(&format!("live = \"{from}\""), &format!("live = \"{to}\""));
        // At ams the count of the first turn is there still.
        fs::write(sites.bucket(to).join("a"), format!("at {to}, {turn}")).unwrap();
        for site in [from, to] {
            assert_eq!(lost(site), (None, None), "turn {turn}, at {site}");
        }
        sites.ended(to, &["capture"], 0);
        assert_eq!(lost(to), (Some(0), None), "turn {turn}: no point of {to} is proven yet");
        fs::write(sites.bucket(to).join("b"), format!("at {to}, {turn}")).unwrap();
        assert_eq!(lost(to), (Some(1), None), "turn {turn}");
        sites.ended(to, &["capture"], 0);
        (from, to) = (to, from);
    }
}
