//! What stands beside an object's content in the mirror: headers, user metadata, tags, and changes of them alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use warmspare::clock::FixedClock;
use warmspare::mirror::{self, AUDIT_PERIOD, Pass, PassOptions, manifest_path};
use warmspare::observe::Progress;
use warmspare::store::{Attributes, Bucket, Original, ReadOnly, Tags};

use crate::support::buckets::{body, contents, folder, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph, arn};

/// A pass so long from now.
async fn pass(source: &Bucket, target: &Bucket, state: &Path, later: SignedDuration) -> Pass {
    let clock = FixedClock(Timestamp::now() + later);
    let (source, options) = (ReadOnly::new(source.clone()), PassOptions::default());
    let pass = mirror::pass(&source, target, state, &options, &clock, &Progress::silent()).await.unwrap();
    pass.complete().unwrap();
    pass
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn attributes(origin: &str) -> Attributes {
    Attributes {
        content_type: Some("application/x-tar".to_owned()),
        expires: Some("Thu, 01 Jan 2037 00:00:00 GMT".to_owned()),
        metadata: map(&[("origin", origin)]),
        ..Attributes::default()
    }
}

async fn beside(bucket: &Bucket, key: &str) -> (Attributes, Tags) {
    (bucket.head(key).await.unwrap().attributes, bucket.tags(key, None).await.unwrap())
}

/// Puts other headers beside an object: what S3 calls a copy onto itself. Listings show a new time and the old ETag.
async fn change_headers(bucket: &Bucket, key: &str, attributes: &Attributes, tags: &Tags) {
    let version = bucket.head(key).await.unwrap().version;
    let original = Original { key, etag: version.etag.as_deref(), size: version.size };
    let before = Timestamp::now();
    loop {
        let made = bucket.copy(original, key, attributes, tags).await.unwrap();
        // Until the listing can show it: a server's clock may have a grain of a second.
        if made.version.modified_ns > version.modified_ns {
            return;
        }
        let waited = Timestamp::now().duration_since(before);
        assert!(waited < SignedDuration::from_secs(10), "the server's time stands still");
    }
}

async fn are_followed(live: Bucket, spare: Bucket, listings_show_tags: bool) {
    let (folder, hour) = (tempfile::tempdir().unwrap(), SignedDuration::from_hours(1));
    let state = folder.path();
    let tags = map(&[("channel", "stable")]);
    for (key, length) in [("large", 9 << 20), ("small", 5)] {
        live.write(key, &attributes("core"), length as u64, body(noise(1, length))).await.unwrap();
        live.write_tags(key, &tags).await.unwrap();
    }
    put(&live, "plain", "plain").await.unwrap();
    assert_eq!(pass(&live, &spare, state, hour).await.copied, 3);
    for key in ["large", "small", "plain"] {
        assert_eq!(beside(&spare, key).await, beside(&live, key).await, "{key}");
    }
    assert_eq!(beside(&spare, "large").await, (attributes("core"), tags.clone()));

    // A change that a listing shows.
    for key in ["large", "small"] {
        change_headers(&live, key, &attributes("elsewhere"), &tags).await;
    }
    let changed = pass(&live, &spare, state, hour).await;
    assert_eq!((changed.adjusted, changed.copied, changed.sent_bytes), (2, 0, 0), "{changed:?}");
    assert_eq!(changed.saved_bytes, (9 << 20) + 5);
    for key in ["large", "small"] {
        assert_eq!(beside(&spare, key).await, (attributes("elsewhere"), tags.clone()), "{key}");
    }

    // One that a listing need not show: Ceph 16 does, Ceph 20 and AWS do not.
    let other = map(&[("channel", "unstable"), ("yanked", "")]);
    live.write_tags("large", &other).await.unwrap();
    live.write_tags("plain", &other).await.unwrap();
    live.write_tags("small", &Tags::new()).await.unwrap();
    let next = pass(&live, &spare, state, hour).await;
    let audit = pass(&live, &spare, state, hour + AUDIT_PERIOD).await;
    let (sent, adjusted) = (next.sent_bytes + audit.sent_bytes, next.adjusted + audit.adjusted);
    assert_eq!((audit.audited, sent, adjusted), (3, 0, 3), "{next:?} {audit:?}");
    let unseen = next.adjusted_unseen + audit.adjusted_unseen;
    assert_eq!(unseen, if listings_show_tags { 0 } else { 3 }, "{next:?} {audit:?}");
    for (key, tags) in [("large", &other), ("plain", &other), ("small", &Tags::new())] {
        assert_eq!(spare.tags(key, None).await.unwrap(), *tags, "{key}");
    }
    let calm = pass(&live, &spare, state, hour + AUDIT_PERIOD * 2).await;
    assert_eq!((calm.unchanged, calm.audited, calm.adjusted), (3, 3, 0), "{calm:?}");
    assert_eq!(contents(&spare).await, contents(&live).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_tags_reach_the_spare_and_so_do_changes_of_them_alone() {
    let ceph = Ceph::shared();
    let open = |name: String| s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    are_followed(open(ceph.bucket()), open(ceph.versioned_bucket()), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_tags_go_from_the_newest_server_to_an_old_one() {
    let (old, new) = (Ceph::shared(), Ceph::newest());
    let live = s3(new.endpoint(), &new.versioned_bucket(), "", Some(CREDENTIALS));
    are_followed(live, s3(old.endpoint(), &old.bucket(), "p/", Some(CREDENTIALS)), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_object_is_looked_at_within_the_period_by_passes_that_take_a_share_each() {
    let (root, day) = (tempfile::tempdir().unwrap(), SignedDuration::from_hours(24));
    fs::create_dir(root.path().join("live")).unwrap();
    fs::create_dir(root.path().join("spare")).unwrap();
    let (live, spare) = (folder(&root.path().join("live")), folder(&root.path().join("spare")));
    for n in 0..14 {
        put(&live, &format!("{n:02}"), "x").await.unwrap();
    }
    let state = root.path().join("state");
    assert_eq!(pass(&live, &spare, &state, day).await.audited, 0);
    let mut looked = 0;
    for n in 2..9 {
        let pass = pass(&live, &spare, &state, day * n).await;
        // Two a day; what is not whole is rounded up, and what a round ends with is made up for in the next.
        assert!((2..=4).contains(&pass.audited), "day {n}: {pass:?}");
        looked += pass.audited;
    }
    assert!(looked >= 14, "{looked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_an_earlier_release_gets_the_tags_that_it_did_not_copy_and_no_content() {
    let ceph = Ceph::shared();
    let open = || s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    let (live, spare, folder) = (open(), open(), tempfile::tempdir().unwrap());
    let (state, hour) = (folder.path(), SignedDuration::from_hours(1));
    let tags = map(&[("channel", "stable")]);
    live.write("k", &attributes("core"), 1, body("x")).await.unwrap();
    live.write_tags("k", &tags).await.unwrap();
    assert_eq!(pass(&live, &spare, state, hour).await.copied, 1);
    spare.write_tags("k", &Tags::new()).await.unwrap();
    write_as_format_1(&manifest_path(state));
    let audit = pass(&live, &spare, state, hour + AUDIT_PERIOD).await;
    assert_eq!((audit.audited, audit.adjusted_unseen, audit.sent_bytes), (1, 1, 0), "{audit:?}");
    assert_eq!(beside(&spare, "k").await, (attributes("core"), tags));
}

/// Rewrites a manifest as the release before wrote it: without the digests of headers and tags, and without the application's.
fn write_as_format_1(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split('\t').collect();
        fields.pop();
        match fields[0] {
            "warmspare-manifest 5" => fields[0] = "warmspare-manifest 1",
            "end" => fields.truncate(2),
            _ => drop(fields.drain(6..8)),
        }
        let line = fields.join("\t");
        format!("{line}\t{}\n", &blake3::hash(line.as_bytes()).to_hex()[..8])
    };
    fs::write(path, text.lines().map(line).collect::<String>()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_may_not_see_tags_mirrors_all_content_and_is_told_once() {
    let ceph = Ceph::shared();
    let (name, reader) = (ceph.bucket(), ceph.user("tagless"));
    let spare = s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    let owner = s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    for key in ["a", "b", "c"] {
        put(&owner, key, key).await.unwrap();
    }
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["{}"]}},
            "Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::{name}","arn:aws:s3:::{name}/*"]}}]}}"#,
        arn("tagless")
    );
    ceph.set_policy(&name, &policy);
    let live = s3(ceph.endpoint(), &name, "", Some(&reader));
    let (folder, hour) = (tempfile::tempdir().unwrap(), SignedDuration::from_hours(1));
    assert_eq!(pass(&live, &spare, folder.path(), hour).await.copied, 3);
    let audit = pass(&live, &spare, folder.path(), hour + AUDIT_PERIOD).await;
    assert_eq!((audit.unchanged, audit.audited, audit.unsettled.total), (3, 0, 1), "{audit:?}");
    let told = &audit.unsettled.first[0];
    assert!(told.why.contains("read the tags of") && told.why.contains("access denied"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_may_not_set_tags_at_the_spare_writes_all_content_and_each_object_is_told() {
    let ceph = Ceph::shared();
    let (name, writer) = (ceph.bucket(), ceph.user("writer"));
    // Ceph lets the owner of an object do everything with it that is not denied.
    let policy = |tagging: &str| {
        let (who, what) = (arn("writer"), format!(r#"["arn:aws:s3:::{name}","arn:aws:s3:::{name}/*"]"#));
        let statement = |effect: &str, action: &str| {
            let principal = format!(r#"{{"AWS":["{who}"]}}"#);
            format!(r#"{{"Effect":"{effect}","Principal":{principal},"Action":[{action}],"Resource":{what}}}"#)
        };
        let content = statement("Allow", r#""s3:GetObject","s3:PutObject","s3:ListBucket""#);
        let tags = statement(tagging, r#""s3:PutObjectTagging""#);
        format!(r#"{{"Version":"2012-10-17","Statement":[{content},{tags}]}}"#)
    };
    ceph.set_policy(&name, &policy("Deny"));
    let live = s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    put(&live, "a", "a").await.unwrap();
    put(&live, "tagged", "tagged").await.unwrap();
    live.write_tags("tagged", &map(&[("channel", "stable")])).await.unwrap();
    let (folder, hour) = (tempfile::tempdir().unwrap(), SignedDuration::from_hours(1));
    let spare = s3(ceph.endpoint(), &name, "", Some(&writer));
    let first = pass(&live, &spare, folder.path(), hour).await;
    assert_eq!((first.copied, first.unsettled.total), (2, 1), "{first:?}");
    assert!(first.unsettled.first[0].why.contains("access denied"), "{first:?}");
    // The right is given: the audit brings what was missing.
    ceph.set_policy(&name, &policy("Allow"));
    let audit = pass(&live, &spare, folder.path(), hour + AUDIT_PERIOD).await;
    assert_eq!((audit.adjusted_unseen, audit.sent_bytes, audit.unsettled.total), (1, 0, 0), "{audit:?}");
    assert_eq!(spare.tags("tagged", None).await.unwrap(), map(&[("channel", "stable")]));
}
