//! What the live site has and a pass could not mirror is not taken for deleted: it stays at the spare until the live site has deleted it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use warmspare::store::{Attributes, Bucket, Removing};

use crate::keys::open_to_all;
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{body, contents, put, read_plainly, s3};
use crate::support::ceph::{CREDENTIALS, Ceph, arn};
use crate::support::proxy::{Fault, Proxy};

const PATIENCE: Duration = Duration::from_secs(90);
/// What is deleted in each test: when it is hidden, whatever else would be is.
const GONE: &str = "gone";

/// What is gone is hidden at once.
fn at_once(sites: &BucketSites) {
    sites.edit_configuration("\n[vault]", "\n[retention]\nhide_after = \"0s\"\n\n[vault]");
}

/// Says something else of the bucket at a site.
fn reconfigure(sites: &BucketSites, is_it: impl Fn(&str) -> bool, address: &str) {
    let written = fs::read_to_string(sites.configuration()).unwrap();
    let old = written.lines().find(|line| line.starts_with("buckets.artifacts") && is_it(line)).unwrap();
    sites.edit_configuration(old, &format!("buckets.artifacts = {{ {address} }}"));
}

/// Captures and prunes until the keeper has hidden what was deleted; what `prune` said last.
async fn until_hidden(sites: &BucketSites, spare: impl AsyncFn() -> BTreeMap<String, Vec<u8>>) -> String {
    let begun = Instant::now();
    loop {
        sites.ended("ams", &["capture"], 4);
        let words = sites.words("fra", &["prune"], 0);
        if !spare().await.contains_key(GONE) {
            return words;
        }
        assert!(begun.elapsed() < PATIENCE, "what was deleted was never hidden: {words}");
    }
}

/// The newest point, rebuilt beside.
fn rebuilt(sites: &BucketSites) -> Vec<String> {
    let into = sites.path().join("rebuilt");
    sites.ended("fra", &["restore", "--only", "bucket.artifacts", "--into", into.to_str().unwrap()], 0);
    read_plainly(&into).into_keys().collect()
}

async fn delete(bucket: &Bucket, key: &str) {
    let head = bucket.head(key).await.unwrap();
    assert!(Removing::new(bucket.clone()).remove(key, &head).await.unwrap());
}

async fn held(bucket: &Bucket) -> BTreeMap<String, Vec<u8>> {
    contents(bucket).await.into_iter().map(|(key, content)| (key, content.to_vec())).collect()
}

/// A bad spot of the disk, or an object nobody may read: after the manifest was lost the mirror has no row of it, and the spare has
/// the only good copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_at_the_live_site_is_not_hidden_when_the_manifest_is_lost() {
    let ceph = Ceph::shared();
    let (name, reader) = (ceph.bucket(), ceph.user("unreading"));
    let policy = |denied: &str| {
        let statement = |effect: &str, action: &str, what: &str| {
            format!(
                r#"{{"Effect":"{effect}","Principal":{{"AWS":["{}"]}},"Action":[{action}],"Resource":[{what}]}}"#,
                arn("unreading")
            )
        };
        let all = format!(r#""arn:aws:s3:::{name}","arn:aws:s3:::{name}/*""#);
        let allow = statement("Allow", r#""s3:GetObject","s3:GetObjectTagging","s3:ListBucket""#, &all);
        let deny = statement("Deny", r#""s3:GetObject""#, &format!(r#""arn:aws:s3:::{name}/{denied}""#));
        format!(r#"{{"Version":"2012-10-17","Statement":[{allow},{deny}]}}"#)
    };
    ceph.set_policy(&name, &policy("none"));
    let sites = BucketSites::folders();
    at_once(&sites);
    let credentials = sites.path().join("reader");
    fs::write(&credentials, &reader).unwrap();
    let address = format!(
        "url = \"s3://{name}\", endpoint = \"{}\", credentials = \"file:{}\"",
        ceph.endpoint(),
        credentials.display()
    );
    reconfigure(&sites, |line| line.contains("/ams/"), &address);
    let live = s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    for key in ["bad", "bad-and-deleted", GONE, "stays"] {
        put(&live, key, key).await.unwrap();
    }
    sites.ended("ams", &["capture"], 0);
    ceph.set_policy(&name, &policy("bad*"));
    fs::remove_dir_all(sites.state("ams").join("mirror/artifacts")).unwrap();
    delete(&live, GONE).await;
    let spare = async || read_plainly(&sites.bucket("fra"));
    let words = until_hidden(&sites, spare).await;
    assert_eq!(spare().await.into_keys().collect::<Vec<_>>(), ["bad", "bad-and-deleted", "stays"], "{words}");
    assert!(words.contains("2 objects that the newest points lack are not hidden"), "{words}");
    assert_eq!(sites.json("fra", &["prune"], 0)["buckets"][0]["left"], 2);
    // Once the live site says that it has deleted one of them, that goes as everything deleted does.
    delete(&live, "bad-and-deleted").await;
    let begun = Instant::now();
    while spare().await.contains_key("bad-and-deleted") {
        assert!(begun.elapsed() < PATIENCE, "never");
        sites.ended("ams", &["capture"], 4);
        sites.ended("fra", &["prune"], 0);
    }
    assert_eq!(spare().await.into_keys().collect::<Vec<_>>(), ["bad", "stays"]);
}

/// Somebody makes room: a file and a folder are moved to another disk and linked. A link is no object, and what it leads to is another
/// disk's; but nobody has deleted anything.
#[tokio::test]
async fn what_was_moved_to_another_disk_and_linked_stays_in_the_points_and_at_the_spare() {
    for is_mounted in [true, false] {
        let sites = BucketSites::folders();
        at_once(&sites);
        for key in ["file", "folder/a", "folder/b/c", GONE, "stays"] {
            sites.put(key, key.as_bytes());
        }
        sites.ended("ams", &["capture"], 0);
        let (live, disk) = (sites.bucket("ams"), sites.path().join("another-disk"));
        fs::create_dir(&disk).unwrap();
        for name in ["file", "folder"] {
            fs::rename(live.join(name), disk.join(name)).unwrap();
            symlink(disk.join(name), live.join(name)).unwrap();
        }
        if !is_mounted {
            fs::rename(&disk, sites.path().join("not-mounted")).unwrap();
        }
        fs::remove_file(live.join(GONE)).unwrap();
        let spare = async || read_plainly(&sites.bucket("fra"));
        until_hidden(&sites, spare).await;
        let expected = ["file", "folder/a", "folder/b/c", "stays"];
        assert_eq!(spare().await.into_keys().collect::<Vec<_>>(), expected, "mounted: {is_mounted}");
        assert_eq!(rebuilt(&sites), expected, "mounted: {is_mounted}");
    }
}

/// A new version has a header that the spare's store does not take: the spare keeps the version before, and so do the points.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_version_that_the_spare_cannot_take_does_not_cost_the_one_before() {
    let ceph = Ceph::newest();
    let proxy = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let (from, to) = (ceph.bucket(), ceph.bucket());
    open_to_all(&ceph, &to);
    let sites = BucketSites::s3(&ceph, &from, &to);
    at_once(&sites);
    let account = sites.path().join("google.json");
    fs::write(&account, crate::cloud::ACCOUNT).unwrap();
    let address = format!(
        "url = \"gs://{to}/live\", attic = \"gs://{to}/attic\", endpoint = \"{}\", credentials = \"file:{}\"",
        proxy.endpoint(),
        account.display()
    );
    reconfigure(&sites, |line| line.contains(&to), &address);
    let [live, spare] =
        [(&from, ""), (&to, "live/")].map(|(name, prefix)| s3(ceph.endpoint(), name, prefix, Some(CREDENTIALS)));
    for key in ["changes", GONE, "stays"] {
        put(&live, key, key).await.unwrap();
    }
    sites.ended("ams", &["capture"], 0);
    let odd =
        Attributes { content_disposition: Some("attachment; filename=été".to_owned()), ..Attributes::default() };
    live.write("changes", &odd, 6, body("second")).await.unwrap();
    delete(&live, GONE).await;
    until_hidden(&sites, async || held(&spare).await).await;
    let there = held(&spare).await;
    assert_eq!(there.get("changes").map(Vec::as_slice), Some(&b"changes"[..]), "{:?}", there.keys());
    let point = sites.json("ams", &["capture"], 4);
    let summary = point["sources"][0]["summary"].as_str().unwrap();
    assert!(summary.starts_with("2 objects, "), "{summary}");
}

/// More than a point can name: then it tells of no object that it was deleted.
#[tokio::test]
async fn where_more_is_left_out_than_a_point_names_nothing_is_hidden() {
    let sites = BucketSites::folders();
    at_once(&sites);
    for key in [GONE, "stays"] {
        sites.put(key, key.as_bytes());
    }
    sites.ended("ams", &["capture"], 0);
    let links = sites.bucket("ams").join("links");
    fs::create_dir(&links).unwrap();
    for n in 0..10_001 {
        symlink("/nowhere", links.join(format!("{n:05}"))).unwrap();
    }
    fs::remove_file(sites.bucket("ams").join(GONE)).unwrap();
    let would = || sites.words("fra", &["prune"], 0);
    let begun = Instant::now();
    while !would().contains("1 object that the newest points lack is not hidden") {
        assert!(begun.elapsed() < PATIENCE, "never: {}", would());
        sites.ended("ams", &["capture"], 4);
    }
    assert!(would().contains("a point left out more than it can name"), "{}", would());
    assert_eq!(read_plainly(&sites.bucket("fra")).into_keys().collect::<Vec<_>>(), [GONE, "stays"]);
    fs::remove_file(links.join("00000")).unwrap();
    until_hidden(&sites, async || read_plainly(&sites.bucket("fra"))).await;
}
