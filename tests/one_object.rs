//! One object that its store does not deliver, or that the other one refuses, costs nothing but itself: the others are mirrored,
//! the point is taken, and the object is named.

use std::fs;
use std::path::Path;
use std::process::Output;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use warmspare::clock::FixedClock;
use warmspare::error::{Class, Explain};
use warmspare::mirror::{self, MirrorError, Pass, PassOptions};
use warmspare::observe::Progress;
use warmspare::store::{Bucket, ReadOnly, StoreError};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{get, noise, published, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault as LineFault, Proxy};
use crate::support::sites::{Sites, edit, shown};
use crate::support::synthetic::{Fault, Synthetic, content_of, key_of};

async fn pass(source: &Bucket, target: &Bucket, state: &Path) -> Result<Pass, MirrorError> {
    let clock = FixedClock(Timestamp::now() + SignedDuration::from_hours(1));
    let source = ReadOnly::new(source.clone());
    mirror::pass(&source, target, state, &PassOptions::default(), &clock, &Progress::silent()).await
}

fn bucket(server: &Synthetic) -> Bucket {
    s3(server.endpoint(), "b", "", Some("a:b"))
}

/// What failed: the keys, and why the first did.
fn failed(pass: &Pass) -> (Vec<&str>, &str) {
    let keys = pass.failed.first.iter().map(|failed| failed.key.as_str()).collect();
    (keys, pass.failed.first.first().map_or("", |failed| failed.why.as_str()))
}

/// A bucket of that server in the configuration.
fn address(server: &Synthetic, path: &Path) -> String {
    let credentials = path.join("synthetic");
    fs::write(&credentials, "a:b").unwrap();
    format!("url = \"s3://b\", endpoint = \"{}\", credentials = \"file:{}\"", server.endpoint(), credentials.display())
}

#[tokio::test]
async fn an_object_that_the_live_bucket_cannot_deliver_is_named_and_all_others_are_mirrored() {
    for (fault, word) in [(Fault::Lost(7), "HTTP 500"), (Fault::CutsBody(7), "streaming error")] {
        let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
        live.fail(fault);
        let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
        let (keys, why) = failed(&done);
        assert_eq!((keys, done.copied, done.rows), (vec![key_of(7).as_str()], 19, 19));
        assert!(why.contains(word) && why.contains("answers otherwise") && !why.contains("does not answer"), "{why}");
        let error = done.complete().unwrap_err();
        assert_eq!(error.class(), Class::Incomplete);
        assert!(error.to_string().contains(&key_of(7)), "{error}");
        live.heal();
        let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
        done.complete().unwrap();
        assert_eq!((done.copied, spare.written().len()), (1, 20));
    }
}

#[tokio::test]
async fn of_an_object_that_was_mirrored_before_and_cannot_be_read_now_the_spare_keeps_the_older_version() {
    let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
    pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap().complete().unwrap();
    live.change([7, 8]);
    live.fail(Fault::CutsBody(7));
    let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    assert_eq!((failed(&done).0, done.copied, done.rows), (vec![key_of(7).as_str()], 1, 20));
    let rows = published(state.path());
    let recorded = |number| rows.iter().find(|row| row.key == key_of(number)).unwrap().blake3;
    assert_eq!(recorded(7), blake3::hash(&content_of(7, false)));
    assert_eq!(recorded(8), blake3::hash(&content_of(8, true)));
}

/// The first row of the manifest stands for all when it is asked whether the spare is still there.
#[tokio::test]
async fn a_first_object_that_rots_at_the_spare_ends_no_pass() {
    let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
    pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap().complete().unwrap();
    live.change([7]);
    spare.fail(Fault::Lost(0));
    let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    done.complete().unwrap();
    assert_eq!((done.copied, done.rows), (1, 20));
}

#[tokio::test]
async fn a_missing_object_of_which_nobody_says_whether_it_is_there_is_not_taken_for_deleted() {
    let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
    pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap().complete().unwrap();
    live.fail(Fault::Empty);
    live.fail(Fault::Lost(3));
    let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    assert_eq!((done.failed.total, done.rows, done.gone), (20, 20, 0));
    let lost = done.failed.first.iter().find(|failed| failed.key == key_of(3)).unwrap();
    assert!(lost.why.contains("nobody says") && lost.why.contains("HTTP 500"), "{}", lost.why);
}

#[tokio::test]
async fn a_live_bucket_that_lists_and_delivers_nothing_ends_the_pass() {
    let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
    (0..20).for_each(|number| live.fail(Fault::Lost(number)));
    let error = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap_err();
    assert!(matches!(error, MirrorError::Store(StoreError::Unavailable { .. })), "{error:?}");
}

#[tokio::test]
async fn an_object_that_the_spare_refuses_is_named_and_all_others_are_mirrored() {
    // By a name that S3 has not, by a limit of its own, by a policy, and by a server that cannot say why.
    for (status, code) in [(400, "MetadataTooLarge"), (403, "AccessDenied"), (500, "InternalError")] {
        let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
        spare.fail(Fault::Refuses("origin-00000/package-0007", status, code));
        let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
        let (keys, why) = failed(&done);
        assert_eq!((keys, done.copied), (vec![key_of(7).as_str()], 19), "{code}");
        assert!(why.contains(code) && !why.contains("does not answer"), "{why}");
    }
    let (live, spare, state) = (Synthetic::start(20), Synthetic::start(0), tempfile::tempdir().unwrap());
    spare.fail(Fault::Refuses("origin-00000/package-0007", 400, "XMinioInvalidObjectName"));
    let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    done.complete().unwrap();
    assert_eq!((done.skipped.first[0].name.as_str(), done.copied), (key_of(7).as_str(), 19));
}

#[tokio::test]
async fn hundreds_of_objects_that_the_spare_refuses_keep_no_other_from_being_mirrored() {
    let (live, spare, state) = (Synthetic::start(400), Synthetic::start(0), tempfile::tempdir().unwrap());
    spare.fail(Fault::Refuses("origin-00000/package-00", 403, "AccessDenied"));
    spare.fail(Fault::Refuses("origin-00000/package-01", 403, "AccessDenied"));
    let done = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    assert_eq!((done.failed.total, done.copied, spare.written().len()), (200, 200, 200));
    // Nothing else is left to be copied: the next pass comes to its end, too.
    let again = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap();
    assert_eq!((again.failed.total, again.unchanged), (200, 200));
}

#[tokio::test]
async fn a_spare_that_refuses_every_object_ends_the_pass_at_once_with_a_clear_word() {
    let (live, spare, state) = (Synthetic::start(2_000), Synthetic::start(0), tempfile::tempdir().unwrap());
    spare.fail(Fault::Refuses("", 403, "AccessDenied"));
    let error = pass(&bucket(&live), &bucket(&spare), state.path()).await.unwrap_err();
    assert!(matches!(error, MirrorError::Store(StoreError::Denied { .. })), "{error:?}");
    assert!(error.next_step().unwrap().contains("Check the credential configured for s3://b"), "{error:?}");
    assert!(spare.requests() < 500, "{} requests", spare.requests());
}

#[tokio::test]
async fn a_bucket_that_is_only_hashed_is_hashed_but_for_the_object_that_cannot_be_read() {
    let (live, state) = (Synthetic::start(20), tempfile::tempdir().unwrap());
    live.fail(Fault::CutsBody(7));
    let (listed, clock) = (ReadOnly::new(bucket(&live)), FixedClock(Timestamp::now()));
    let index = mirror::index(&listed, state.path(), &PassOptions::default(), &clock, &Progress::silent()).await;
    let index = index.unwrap();
    assert_eq!((index.failed.first[0].key.as_str(), index.hashed), (key_of(7).as_str(), 19));
}

/// A capture that ends with a point, and names `key`.
fn captured_without(output: &Output, key: &str) -> Value {
    assert_eq!(output.status.code(), Some(4), "{}", shown(output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("NOT MIRRORED {key:?}")), "{said}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sources: Vec<&str> =
        summary["sources"].as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap()).collect();
    assert!(sources.contains(&"database.app") && sources.contains(&"bucket.artifacts"), "{sources:?}");
    summary
}

#[tokio::test]
async fn a_point_with_its_database_is_taken_though_one_object_cannot_be_read_or_is_refused() {
    let sites = Sites::filled().await;
    let live = Synthetic::start(20);
    let own = format!("buckets.artifacts = {{ url = \"{}\" }}", sites.bucket("ams").display());
    let others = format!("buckets.artifacts = {{ url = \"{}\" }}", sites.bucket("fra").display());
    let at_live = format!("buckets.artifacts = {{ {} }}", address(&live, sites.path()));
    sites.edit_configuration(&own, &at_live);
    live.fail(Fault::CutsBody(7));
    let output = sites.command("ams", ["capture", "--json"]).output().unwrap();
    captured_without(&output, &key_of(7));
    let mirrored = crate::support::buckets::read_plainly(&sites.bucket("fra"));
    assert_eq!(mirrored.len(), 19, "{:?}", mirrored.keys());
    assert_eq!(sites.points("ams").len(), 1);

    let spare = Synthetic::start(0);
    spare.fail(Fault::Refuses("core/b.hart", 400, "MetadataTooLarge"));
    sites.edit_configuration(&at_live, &own);
    sites.edit_configuration(&others, &format!("buckets.artifacts = {{ {} }}", address(&spare, sites.path())));
    let output = sites.command("ams", ["capture", "--json"]).output().unwrap();
    captured_without(&output, "core/b.hart");
    assert_eq!(spare.written().len(), 2, "{:?}", spare.written().keys());
    assert_eq!(sites.points("ams").len(), 2);
}

#[test]
fn verify_gets_past_an_object_that_cannot_be_read_and_the_next_capture_does_too() {
    let sites = BucketSites::folders();
    let spare = Synthetic::start(0);
    let folder = format!("buckets.artifacts = {{ url = \"{}\" }}", sites.bucket("fra").display());
    sites.edit_configuration(&folder, &format!("buckets.artifacts = {{ {} }}", address(&spare, sites.path())));
    let keys: Vec<String> = (0..5).map(key_of).collect();
    keys.iter().enumerate().for_each(|(n, key)| sites.put(key, &noise(n as u8, 5_000)));
    sites.ended("ams", &["capture"], 0);
    spare.fail(Fault::CutsBody(2));
    let verify = ["verify", "--only", "bucket.artifacts", "--all"];
    let found = sites.json("fra", &verify, 4);
    assert_eq!((&found["counts"]["objects"], &found["counts"]["faults"]), (&5.into(), &1.into()), "{found}");
    assert_eq!(found["faults"][0]["key"], key_of(2));
    // Nor does it end a restore, which compares: a difference, as one that is missing is.
    let restored = shown(&sites.ended("fra", &["restore"], 4));
    assert!(restored.contains(&key_of(2)) && restored.contains("cannot be read"), "{restored}");
    // The live site is told, and looks.
    let output = sites.command("ams", &["capture", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&format!("NOT MIRRORED {:?}", key_of(2))),
        "{}",
        shown(&output)
    );
    spare.heal();
    sites.ended("ams", &["capture"], 0);
    assert_eq!(sites.json("fra", &verify, 0)["counts"]["reread"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failback_one_object_that_the_old_site_cannot_read_keeps_no_other_from_being_rescued_and_mirrored() {
    let ceph = Ceph::shared();
    let (live, spare, attics) = (ceph.bucket(), ceph.bucket(), [ceph.bucket(), ceph.bucket()]);
    let rotten: &'static str = Box::leak(format!("/{live}/rotten").into_boxed_str());
    let proxy = Proxy::start(ceph.endpoint(), LineFault::CutsBodies(rotten)).await;
    let sites = BucketSites::folders();
    let credentials = sites.path().join("s3");
    fs::write(&credentials, CREDENTIALS).unwrap();
    for (site, bucket, attic) in [("ams", &live, &attics[0]), ("fra", &spare, &attics[1])] {
        let address = format!(
            "url = \"s3://{bucket}\", attic = \"s3://{attic}\", endpoint = \"{}\", credentials = \"file:{}\"",
            proxy.endpoint(),
            credentials.display()
        );
        edit(&sites.configuration(), &format!("url = \"{}\"", sites.bucket(site).display()), &address);
    }
    let at = |bucket: &str| s3(ceph.endpoint(), bucket, "", Some(CREDENTIALS));
    let (old, new) = (at(&live), at(&spare));
    put(&old, "both", noise(1, 1_000)).await.unwrap();
    sites.ended("ams", &["capture"], 0);
    // After its last point: what only the old site has, and what the new one has under the same name.
    for (n, key) in ["late", "rotten-late", "rotten-both"].into_iter().enumerate() {
        put(&old, key, noise(10 + n as u8, 300_000)).await.unwrap();
    }
    sites.ended("fra", &["restore"], 0);
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    put(&new, "new", noise(2, 1_000)).await.unwrap();
    put(&new, "rotten-both", noise(3, 300_000)).await.unwrap();

    let output = sites.command("fra", &["capture", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    for key in ["rotten-late", "rotten-both"] {
        assert!(said.contains(&format!("NOT MIRRORED {key:?}")), "{key}: {said}");
    }
    assert!(said.contains("RESCUED") && said.contains("\"late\""), "{said}");
    assert_eq!(get(&old, "new").await.unwrap(), noise(2, 1_000));
    assert_eq!(
        get(&old, "rotten-both").await.unwrap(),
        noise(12, 300_000),
        "what could not be kept is not overwritten"
    );
    let stage = || fs::read_to_string(sites.state("fra").join("mirror/artifacts/direction.json")).unwrap();
    assert!(stage().contains("returning"), "{}", stage());

    // A person has taken away what cannot be read.
    for key in ["rotten-late", "rotten-both"] {
        ceph.plain_delete(&live, key);
    }
    sites.ended("fra", &["capture"], 0);
    assert_eq!(get(&old, "rotten-both").await.unwrap(), noise(3, 300_000));
    assert!(stage().contains("settled"), "{}", stage());
}
