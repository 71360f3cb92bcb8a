//! What a bucket can really do is found by trying, on servers that differ, and told by `warmspare check`.

use std::fs;

use serde_json::Value;
use warmspare::store::{Abilities, Ability, Bucket, TriedBy, Versions};

use crate::keys::open_to_all;
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{contents, folder, get, keys, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

async fn tried(bucket: &Bucket, by: TriedBy) -> Abilities {
    bucket.try_abilities(by).await.unwrap().unwrap()
}

fn said(found: &Abilities) -> Vec<(&'static str, Ability)> {
    found.list().into_iter().collect()
}

/// What all of these servers do.
fn able(create_only: Ability, if_match: Ability, read_if_match: Ability) -> Vec<(&'static str, Ability)> {
    let found = Abilities {
        versions: Versions::Off,
        create_only,
        if_match,
        read_if_match,
        tags: Ability::Yes,
        parts: Ability::Yes,
        copies: Ability::Yes,
        checks_md5: Ability::Yes,
        // No Ceph looks at it.
        checks_crc32: Ability::No,
        sorted: Ability::Yes,
        left: Vec::new(),
    };
    said(&found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dialect_is_told_apart_and_nothing_is_left_in_the_bucket() {
    use Ability::{No, Unquoted, Yes};
    let (oldest, newest) = (Ceph::shared(), Ceph::newest());
    for (ceph, name, versions, expected) in [
        (&oldest, oldest.bucket(), Versions::Off, able(Yes, Unquoted, Yes)),
        // Conditions of writes are ignored there.
        (&oldest, oldest.versioned_bucket(), Versions::Kept, able(No, No, Yes)),
        (&newest, newest.bucket(), Versions::Off, able(Yes, Yes, Yes)),
        (&newest, newest.versioned_bucket(), Versions::Kept, able(Yes, Yes, Yes)),
    ] {
        let (whole, bucket) =
            (s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)), s3(ceph.endpoint(), &name, "p/", Some(CREDENTIALS)));
        for key in ["a", "b"] {
            put(&bucket, key, key).await.unwrap();
        }
        for _ in 0..2 {
            let found = tried(&bucket, TriedBy::Writing).await;
            assert_eq!((found.versions, said(&found)), (versions, expected.clone()), "{name} of {}", ceph.endpoint());
            assert_eq!(found.left, [""; 0]);
        }
        assert_eq!(keys(&whole, None).await, ["p/a", "p/b"]);
        assert!(whole.versions_of("p/.warmspare-probe").await.unwrap().is_empty(), "no version of a canary stays");
        let read = tried(&bucket, TriedBy::Reading).await;
        assert_eq!((read.create_only, read.tags, read.read_if_match), (Ability::Untried, Yes, Yes));
    }
    assert_eq!(folder(std::env::temp_dir().as_path()).try_abilities(TriedBy::Writing).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_is_caught() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    open_to_all(&ceph, &name);
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let bucket = s3(liar.endpoint(), &name, "", Some(CREDENTIALS));
    put(&bucket, "a", "a").await.unwrap();
    let found = tried(&bucket, TriedBy::Writing).await;
    assert_eq!([found.create_only, found.if_match, found.read_if_match], [Ability::No; 3]);
    assert_eq!((found.copies, found.parts), (Ability::Yes, Ability::Yes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_may_not_delete_leaves_a_canary_that_no_listing_shows() {
    let ceph = Ceph::shared();
    let (name, writer) = (ceph.bucket(), ceph.user("prober"));
    // Whoever wrote an object owns it there, and may do more to it than a policy allows, unless it denies that.
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/prober"]},
         "Action":["s3:GetObject","s3:PutObject","s3:ListBucket","s3:AbortMultipartUpload"],
         "Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]},
        {"Effect":"Deny","Principal":{"AWS":["arn:aws:iam:::user/prober"]},
         "Action":["s3:DeleteObject","s3:PutObjectTagging"],
         "Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]}]}"#;
    ceph.set_policy(&name, &policy.replace("BUCKET", &name));
    let bucket = s3(ceph.endpoint(), &name, "", Some(&writer));
    for _ in 0..2 {
        let found = tried(&bucket, TriedBy::Writing).await;
        assert_eq!((found.create_only, found.tags), (Ability::Yes, Ability::Denied));
        assert_eq!(found.left, [".warmspare-probe", ".warmspare-probe-copy"]);
    }
    assert_eq!(get(&bucket, ".warmspare-probe").await.unwrap()[..8], b"a canary"[..]);
    assert!(contents(&bucket).await.is_empty(), "it is no object of the bucket");
    assert!(bucket.carries(".warmspare-probe").is_err(), "and none is mirrored under its name");

    let nobody = s3(ceph.endpoint(), &name, "", Some("nobody:SKTEST"));
    assert!(nobody.try_abilities(TriedBy::Writing).await.is_err());
}

fn of_fra(report: &Value) -> &Value {
    report["buckets"].as_array().unwrap().iter().find(|tried| tried["site"] == "fra").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_a_bucket_can_do_and_tries_again_when_a_credential_or_the_day_changes() {
    let ceph = Ceph::shared();
    let spare = ceph.bucket();
    let sites = BucketSites::folder_and_s3(&ceph, &spare);
    sites.put("a", b"a");
    let quiet = sites.json("ams", &["check", "--dry-run"], 0);
    assert_eq!(of_fra(&quiet)["by"], "reading", "{quiet}");
    let first = sites.json("ams", &["check"], 0);
    let found = of_fra(&first);
    assert_eq!((&found["by"], &found["found"]["create_only"]), (&"writing".into(), &"yes".into()), "{found}");
    assert_eq!(found["keeps"], "content, headers and metadata, tags");
    assert_eq!(of_fra(&sites.json("ams", &["check"], 0))["at"], found["at"], "once a day");
    let text = String::from_utf8(sites.ended("ams", &["check"], 0).stdout).unwrap();
    assert!(text.contains("versions: off, create-only: yes, if-match: unquoted only"), "{text}");
    assert!(text.contains("it does not keep modes of the live bucket's objects"), "{text}");

    // Another credential.
    let other = ceph.user("second");
    open_to_all(&ceph, &spare);
    fs::write(sites.path().join("s3"), other).unwrap();
    let second = sites.json("ams", &["check"], 0);
    assert_ne!((&of_fra(&second)["at"], &of_fra(&second)["credential"]), (&found["at"], &found["credential"]));
    // Another day.
    let kept = sites.state("ams").join("check/bucket.artifacts.fra.json");
    let text = fs::read_to_string(&kept).unwrap();
    let at = of_fra(&second)["at"].as_str().unwrap();
    fs::write(&kept, text.replace(at, "2020-01-01T00:00:00Z")).unwrap();
    assert!(of_fra(&sites.json("ams", &["check"], 0))["at"].as_str().unwrap() > at);
    // Half of a file.
    fs::write(&kept, "{").unwrap();
    assert_eq!(of_fra(&sites.json("ams", &["check"], 0))["by"], "writing");
}
