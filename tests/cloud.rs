//! Buckets of Google and Azure. Google's dialect is translated for Ceph, which honours what Google does; Azure's is tried on
//! whatever the environment names.

use std::fs;
use std::path::Path;

use futures_util::TryStreamExt;
use secrecy::SecretString;
use warmspare::clock::SystemClock;
use warmspare::config::address::{BucketAddress, BucketUrl};
use warmspare::mirror::{self, PassOptions};
use warmspare::observe::Progress;
use warmspare::store::{Ability, Bucket, Listed, Names, ReadOnly, StoreError, TriedBy, Versioning, Versions};

use crate::keys::open_to_all;
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{contents, folder, get, keys, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

/// A service account that asks nobody for a token.
pub const ACCOUNT: &str = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;

fn google(endpoint: &str, bucket: &str, prefix: &str, credentials: Option<&str>) -> Bucket {
    let url = BucketUrl::Gcs { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    let address = BucketAddress::at("artifacts", url).on_server(endpoint);
    Bucket::open(&address, credentials.map(SecretString::from)).unwrap()
}

/// A bucket that anybody may write to.
fn open_bucket(ceph: &Ceph) -> String {
    let name = ceph.bucket();
    open_to_all(ceph, &name);
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_google_is_a_bucket() {
    let ceph = Ceph::newest();
    let proxy = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let open = async |_: &str| google(proxy.endpoint(), &open_bucket(&ceph), "p/", Some(ACCOUNT));
    crate::store::conforms(open, &[], false).await;
    let name = open_bucket(&ceph);
    put(&s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)), "k", "x").await.unwrap();
    let anybody = google(proxy.endpoint(), &name, "", None);
    assert_eq!((get(&anybody, "k").await.unwrap(), keys(&anybody, None).await), ("x".into(), vec!["k".to_owned()]));
    let keeps = anybody.keeps();
    assert_eq!((keeps.headers, keeps.tags, keeps.expires, keeps.metadata), (true, false, false, Names::Any));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_google_cannot_do_is_found_and_what_it_refuses_is_told() {
    let ceph = Ceph::newest();
    let proxy = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let bucket = google(proxy.endpoint(), &open_bucket(&ceph), "", Some(ACCOUNT));
    put(&bucket, "a", "a").await.unwrap();
    put(&bucket, "b", "b").await.unwrap();
    let found = bucket.try_abilities(TriedBy::Writing).await.unwrap().unwrap();
    assert_eq!((found.versions, found.tags, found.left.len()), (Versions::Off, Ability::No, 0));
    let able = [found.create_only, found.read_if_match, found.parts, found.copies, found.sorted];
    assert_eq!(able, [Ability::Yes; 5], "{found:?}");
    assert_eq!(keys(&bucket, None).await, ["a", "b"]);
    assert!(bucket.versioning().await.unwrap() == Versioning::Off && bucket.versions_of("a").await.unwrap().is_empty());

    let listed = async |bucket: Bucket| bucket.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    let closed = ceph.bucket();
    let error = listed(google(proxy.endpoint(), &closed, "", Some(ACCOUNT))).await;
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    let error = listed(google(proxy.endpoint(), "no-such-bucket", "", Some(ACCOUNT))).await;
    assert!(matches!(&error, StoreError::NotFound { at } if at.key.is_none()), "{error:?}");
    let error = listed(google("http://127.0.0.1:9", &closed, "", Some(ACCOUNT))).await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let url = BucketUrl::Gcs { bucket: closed, prefix: String::new() };
    let error = Bucket::open(&BucketAddress::at("a", url), Some("hunter2".into())).unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }) && !format!("{error:?}").contains("hunter2"), "{error:?}");
}

/// object_store fails a whole listing on one of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_carried_is_named_and_the_others_are_mirrored() {
    let ceph = Ceph::newest();
    let proxy = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let name = open_bucket(&ceph);
    let raw = s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    let odd = ["/leading", "a/../b", "a//b", "dir/", "new\nline"];
    for key in odd.iter().chain(&["a", "dir/x", "trailing ", "z"]) {
        put(&raw, key, *key).await.unwrap();
    }
    let source = google(proxy.endpoint(), &name, "", Some(ACCOUNT));
    let listed: Vec<Listed> = source.list(None).try_collect().await.unwrap();
    let skipped = listed.iter().filter_map(|listed| match listed {
        Listed::Skipped(skipped) => Some(skipped.name.as_str()),
        Listed::Object { .. } => None,
    });
    assert_eq!(skipped.collect::<Vec<_>>(), odd);
    let place = tempfile::tempdir().unwrap();
    let (target, state) = (place.path().join("target"), place.path().join("state"));
    fs::create_dir(&target).unwrap();
    let (source, target) = (ReadOnly::new(source), folder(&target));
    let progress = Progress::silent();
    let pass = mirror::pass(&source, &target, &state, &PassOptions::default(), &SystemClock, &progress).await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.copied, pass.skipped.total), (4, 5), "{pass:?}");
    assert_eq!(keys(&target, None).await, ["a", "dir/x", "trailing ", "z"]);
    for key in odd {
        let error = google(proxy.endpoint(), &name, "", Some(ACCOUNT)).read(key, None).await.err().unwrap();
        assert!(matches!(error, StoreError::BadKey { .. }), "{key:?}: {error:?}");
    }
}

fn account(folder: &Path) -> String {
    let file = folder.join("google.json");
    fs::write(&file, ACCOUNT).unwrap();
    format!("file:{}", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_spare_at_google_is_followed_kept_and_rebuilt() {
    let ceph = Ceph::newest();
    let proxy = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let name = open_bucket(&ceph);
    let sites = BucketSites::folder_and_s3(&ceph, &name);
    let credentials = account(sites.path());
    let written = fs::read_to_string(sites.configuration()).unwrap();
    let old = written.lines().find(|line| line.contains("s3://")).unwrap();
    let new = format!(
        "buckets.artifacts = {{ url = \"gs://{name}/live\", attic = \"gs://{name}/attic\", endpoint = \"{}\", credentials = \"{credentials}\" }}",
        proxy.endpoint()
    );
    sites.edit_configuration(old, &new);
    for (key, content) in [("a", &noise(1, 50_000)), ("large", &noise(2, 9 << 20))] {
        sites.put(key, content);
    }
    sites.json("ams", &["capture"], 0);
    let report = sites.json("ams", &["check"], 0);
    let found = report["buckets"].as_array().unwrap().iter().find(|tried| tried["site"] == "fra").unwrap();
    assert_eq!((&found["found"]["tags"], &found["found"]["copies"]), (&"no".into(), &"yes".into()), "{found}");
    assert_eq!(found["keeps"], "content, headers but Expires, and metadata");

    sites.put("a", b"second");
    fs::rename(sites.bucket("ams").join("large"), sites.bucket("ams").join("renamed")).unwrap();
    sites.json("ams", &["capture"], 0);
    let live = s3(ceph.endpoint(), &name, "live/", Some(CREDENTIALS));
    let now = contents(&live).await;
    assert_eq!((now["a"].as_ref(), now["renamed"].len()), (&b"second"[..], 9 << 20));
    let attic = contents(&s3(ceph.endpoint(), &name, "attic/", Some(CREDENTIALS))).await;
    assert!(attic.values().any(|content| *content == noise(1, 50_000)), "{:?}", attic.keys());
    // What was overwritten comes back from the attic.
    let rebuilt = sites.path().join("rebuilt");
    fs::create_dir(&rebuilt).unwrap();
    let into = format!("gs://{name}/rebuilt");
    sites.ended("fra", &["restore", "--only", "bucket.artifacts", "--point", "0-1", "--into", &into], 0);
    let old = contents(&s3(ceph.endpoint(), &name, "rebuilt/", Some(CREDENTIALS))).await;
    assert!(old["a"] == noise(1, 50_000) && old["large"] == noise(2, 9 << 20), "{:?}", old.keys());
    assert_eq!(old.len(), 2);
}

/// For a store that no test machine has: Azure (azurite 3.37 passes), Google itself. The place has to be empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a store: WARMSPARE_TEST_BUCKET=URL, _ENDPOINT=URL if it is not the provider's, _CREDENTIALS=as configured"]
async fn a_place_that_the_environment_names_is_a_bucket() {
    let given = |name: &str| std::env::var(format!("WARMSPARE_TEST_BUCKET{name}"));
    let open = async |name: &str| {
        let url = BucketUrl::parse(&format!("{}/{name}", given("").unwrap())).unwrap();
        let address = BucketAddress::at("artifacts", url);
        let address = given("_ENDPOINT").map_or(address.clone(), |endpoint| address.on_server(&endpoint));
        Bucket::open(&address, Some(SecretString::from(given("_CREDENTIALS").unwrap()))).unwrap()
    };
    crate::store::conforms(open, &[], false).await;
    let bucket = open("abilities").await;
    put(&bucket, "a", "a").await.unwrap();
    let found = bucket.try_abilities(TriedBy::Writing).await.unwrap().unwrap();
    println!("{}", found.words());
    assert_eq!((found.create_only, found.read_if_match, found.parts), (Ability::Yes, Ability::Yes, Ability::Yes));
    assert_eq!(keys(&bucket, None).await, ["a"]);
}
