//! Buckets that are not mirrored: shared by both sites, or replicated by their store. Every command says the truth of them,
//! and none writes to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{contents, get, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

const VERIFY_ALL: [&str; 4] = ["verify", "--only", "bucket.artifacts", "--all"];

/// Every file below `folder`, and when it was written.
fn written(folder: &Path) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap()))
        .collect()
}

fn shared() -> BucketSites {
    let sites = BucketSites::folders();
    let bucket = format!("url = \"{}\", topology = \"shared\"", sites.bucket("ams").display());
    fs::remove_dir_all(sites.path().join("vault")).ok();
    for keys in ["ams-keys", "fra-keys"] {
        fs::remove_dir_all(sites.path().join(keys)).unwrap();
    }
    fs::remove_file(sites.path().join("escrow.txt")).unwrap();
    sites.configure(&bucket, &bucket);
    sites
}

fn finding<'a>(report: &'a Value, words: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["found"].as_str().unwrap().contains(words));
    found.unwrap_or_else(|| panic!("`{words}` is not in {findings:#?}"))
}

#[test]
fn a_shared_bucket_is_hashed_and_proven_and_never_written_to() {
    let sites = shared();
    for key in ["a", "b", "c"] {
        sites.put(key, key.repeat(5_000).as_bytes());
    }
    let before = written(&sites.bucket("ams"));
    let dry = sites.json("ams", &["capture", "--dry-run"], 0);
    assert!(
        dry["sources"][0]["place"].as_str().unwrap().ends_with("shared by both sites: listed and hashed, not copied")
    );
    let point = sites.json("ams", &["capture"], 0);
    let summary = point["sources"][0]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("3 objects, ") && summary.ends_with("both sites use this bucket, nothing was copied"),
        "{summary}"
    );
    assert_eq!(sites.json("fra", &["restore"], 0)["verdict"], "equal");
    for site in ["ams", "fra"] {
        let report = sites.json(site, &VERIFY_ALL, 0);
        assert_eq!(
            (report["counts"]["reread"].as_u64(), report["topology"].as_str()),
            (Some(3), Some("shared")),
            "{site}"
        );
        let report = sites.json(site, &["check"], 0);
        let next = finding(&report, "both sites use it: there is no second copy")["next"].as_str().unwrap();
        assert!(
            next.contains("Nothing here fences it yet") && !report.to_string().contains("lie on one disk: bucket"),
            "{next}"
        );
    }
    assert_eq!(written(&sites.bucket("ams")), before, "nothing was written");

    // Rotten: named at both sites, and nobody has another copy.
    let path = sites.bucket("ams").join("b");
    fs::write(&path, "b".repeat(4_999) + "x").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before["b"]).unwrap();
    for site in ["ams", "fra"] {
        let words = sites.words(site, &VERIFY_ALL, 4);
        assert!(words.contains("\"b\" has another content than was recorded"), "{words}");
        assert!(words.contains("Nothing here writes to this bucket"), "{words}");
    }
    fs::remove_file(&path).unwrap();
    sites.json("ams", &["capture"], 0);
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["objects"], 2, "what was removed is recorded no more");
    for entry in fs::read_dir(sites.bucket("ams")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let words = sites.words("ams", &["capture"], 3);
    assert!(words.contains("lists no object, and had 2"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_the_stores_own_is_held_against_the_live_bucket_and_never_written_to() {
    let ceph = Ceph::shared();
    let names = [ceph.bucket(), ceph.bucket()];
    let [live, spare] = names.clone().map(|name| s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)));
    let sites = BucketSites::folder_and_s3(&ceph, &names[1]);
    let own = format!("url = \"{}\"", sites.bucket("ams").display());
    let access =
        format!("endpoint = \"{}\", credentials = \"file:{}\"", ceph.endpoint(), sites.path().join("s3").display());
    sites.edit_configuration(&own, &format!("url = \"s3://{}\", {access}, topology = \"external\"", names[0]));
    let words = sites.words("ams", &["capture"], 2);
    assert!(words.contains("bucket.artifacts is `external` at ams and `mirror` at fra"), "{words}");
    sites.edit_configuration(
        &format!("url = \"s3://{}\"", names[1]),
        &format!("url = \"s3://{}\", topology = \"external\"", names[1]),
    );

    for (key, replicated) in [("a", Some("a")), ("b", None), ("c", Some("not yet the new one"))] {
        put(&live, key, key).await.unwrap();
        if let Some(content) = replicated {
            put(&spare, key, content).await.unwrap();
        }
    }
    let before = contents(&spare).await;
    let output = sites.ended("ams", &["capture", "--json"], 4);
    let point: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lacks: Vec<&str> =
        point["sources"][0]["lacks"].as_array().unwrap().iter().map(|lack| lack.as_str().unwrap()).collect();
    assert_eq!(
        lacks,
        ["\"b\": not replicated: it is not there", "\"c\": not replicated: it has 19 bytes there instead of 1"]
    );
    let summary = point["sources"][0]["summary"].as_str().unwrap();
    assert!(summary.contains("its store lacks 2 at the other site, and is "), "{summary}");
    assert_eq!(sites.json("fra", &VERIFY_ALL, 4)["counts"]["faults"], 2);
    assert_eq!(sites.json("ams", &VERIFY_ALL, 4)["counts"]["faults"], 2);
    let report = sites.json("ams", &["check"], 0);
    finding(&report, "its store replicates it, nothing is written there");
    assert_eq!(contents(&spare).await, before, "nothing was written");

    // The store catches up: the same point is whole.
    for key in ["b", "c"] {
        put(&spare, key, get(&live, key).await.unwrap()).await.unwrap();
    }
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["faults"], 0);
    let point = sites.json("ams", &["capture"], 0);
    assert!(point.to_string().contains("its store has replicated all of them"), "{point}");
    assert_eq!(sites.json("fra", &["restore"], 0)["verdict"], "equal");
}
