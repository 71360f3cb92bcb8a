//! Our own keys on every kind of store there is, and on stores, networks and credentials that misbehave.

use futures_util::{StreamExt, TryStreamExt, stream};
use secrecy::SecretString;
use warmspare::config::address::{VaultAddress, VaultUrl};
use warmspare::store::{Create, Created, Delete, Keys, Read, Replace, StoreError};

use crate::support::buckets::{noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::keys_conformance::{Conditions, conforms, names};
use crate::support::proxy::{Fault, Proxy};

fn opened(url: VaultUrl, endpoint: &str, credentials: &str) -> Keys {
    let endpoint = Some(endpoint.to_owned());
    let address =
        VaultAddress { url, endpoint, region: "us-east-1".to_owned(), ca_file: None, credentials: None, keeper: None };
    Keys::open(&address, Some(SecretString::from(credentials))).unwrap()
}

fn bucket(endpoint: &str, bucket: &str, credentials: &str) -> Keys {
    opened(VaultUrl::S3 { bucket: bucket.to_owned(), prefix: "dr/vault/".to_owned() }, endpoint, credentials)
}

/// A policy that lets anybody do anything.
pub fn open_to_all(ceph: &Ceph, bucket: &str) {
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*",
        "Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]}]}"#;
    ceph.set_policy(bucket, &all.replace("BUCKET", bucket));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_our_keys() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&Keys::folder(folder.path()).unwrap(), Conditions::Honoured).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_ceph_16_keeps_our_keys() {
    let ceph = Ceph::shared();
    conforms(&bucket(ceph.endpoint(), &ceph.bucket(), CREDENTIALS), Conditions::Honoured).await;
}

/// Conditions are ignored there: the oldest version decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_ceph_16_that_keeps_versions_keeps_our_keys() {
    let ceph = Ceph::shared();
    conforms(&bucket(ceph.endpoint(), &ceph.versioned_bucket(), CREDENTIALS), Conditions::Honoured).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_the_newest_ceph_keeps_our_keys() {
    let ceph = Ceph::newest();
    conforms(&bucket(ceph.endpoint(), &ceph.bucket(), CREDENTIALS), Conditions::Honoured).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_the_newest_ceph_that_keeps_versions_keeps_our_keys() {
    let ceph = Ceph::newest();
    conforms(&bucket(ceph.endpoint(), &ceph.versioned_bucket(), CREDENTIALS), Conditions::Honoured).await;
}

/// Garage takes a condition and ignores it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_keeps_the_keys_of_one_writer() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    open_to_all(&ceph, &name);
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let keys = bucket(liar.endpoint(), &name, CREDENTIALS);
    conforms(&keys, Conditions::Ignored).await;
    // What `vault probe` has to find.
    assert_eq!(keys.create("lied/to", "first".into()).await.unwrap(), Created::New);
    assert_eq!(keys.create("lied/to", "second".into()).await.unwrap(), Created::New);
    assert_eq!(keys.get("lied/to").await.unwrap(), "second");
}

/// The dialect of Google's XML API, translated for Ceph: no emulator at hand honours its conditions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_spoken_to_as_google_wants_keeps_our_keys() {
    let ceph = Ceph::newest();
    let name = ceph.bucket();
    open_to_all(&ceph, &name);
    let google = Proxy::start(ceph.endpoint(), Fault::SpeaksGoogle).await;
    let account = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
    let url = VaultUrl::Gcs { bucket: name, prefix: "dr/vault/".to_owned() };
    conforms(&opened(url, google.endpoint(), account), Conditions::Honoured).await;
}

/// 2026-11: a version put on top of a record by whoever holds the live site's key must not become what readers see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_over_or_hidden_in_a_versioned_bucket_is_still_read_as_it_was() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let name = ceph.versioned_bucket();
        let keys = bucket(ceph.endpoint(), &name, CREDENTIALS);
        let raw = s3(ceph.endpoint(), &name, "dr/vault/", Some(CREDENTIALS));
        keys.create("points/1.json", "true".into()).await.unwrap();
        keys.create("points/2.json", "two".into()).await.unwrap();
        let written = keys.list("").await.unwrap();
        for n in 0..3 {
            put(&raw, "points/1.json", format!("forged {n}")).await.unwrap();
        }
        // A plain delete leaves a marker.
        ceph.plain_delete(&name, "dr/vault/points/2.json");
        assert_eq!(keys.get("points/1.json").await.unwrap(), "true");
        assert_eq!(keys.get("points/2.json").await.unwrap(), "two");
        assert!(keys.exists("points/2.json").await.unwrap());
        assert_eq!(keys.list("").await.unwrap(), written);
        assert_eq!(keys.create("points/2.json", "new two".into()).await.unwrap(), Created::Taken);
        assert_eq!(keys.get("points/2.json").await.unwrap(), "two");
        assert!(keys.get_newest("points/1.json", 99).await.unwrap().starts_with(b"forged"));
        // More versions than a page lists.
        let many = stream::iter(0..1_010).map(|n| keys.replace("points/1.json", format!("forged {n}").into()));
        many.buffer_unordered(24).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(keys.get("points/1.json").await.unwrap(), "true");
        assert_eq!(keys.list("").await.unwrap(), written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_ours_do_not_break_a_listing() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        for name in [ceph.bucket(), ceph.versioned_bucket()] {
            let keys = bucket(ceph.endpoint(), &name, CREDENTIALS);
            let raw = s3(ceph.endpoint(), &name, "dr/vault/", Some(CREDENTIALS));
            let odd =
                ["points/", "points//x", "points/../x", "points/100%", "points/a b+c", "points/new\nline", "points/ü"];
            for key in odd.iter().chain(&["points", "points-", "points0"]) {
                put(&raw, key, "x").await.unwrap();
            }
            keys.create("points/1.json", "x".into()).await.unwrap();
            let listed = keys.list("points/").await.unwrap();
            let ours: Vec<&str> = names(&listed).into_iter().filter(|key| key.ends_with("1.json")).collect();
            assert_eq!(ours, ["points/1.json"]);
            assert!(odd[1..].iter().all(|key| names(&listed).contains(key)), "{:?}", names(&listed));
            assert!(!names(&listed).iter().any(|key| ["points", "points-", "points0"].contains(key)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_reply_was_lost_is_not_taken_for_another_writers() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        for name in [ceph.bucket(), ceph.versioned_bucket()] {
            let losing = Proxy::start(ceph.endpoint(), Fault::LosesReplies(2)).await;
            let keys = bucket(losing.endpoint(), &name, CREDENTIALS);
            let body = noise(1, 100_000);
            assert_eq!(keys.create("points/1.json", body.clone()).await.unwrap(), Created::New);
            assert!(keys.get("points/1.json").await.unwrap() == body);
            // The other way round: what was there before is not ours, however many replies are lost.
            let losing = Proxy::start(ceph.endpoint(), Fault::LosesReplies(2)).await;
            let keys = bucket(losing.endpoint(), &name, CREDENTIALS);
            assert_eq!(keys.create("points/1.json", noise(2, 100_000)).await.unwrap(), Created::Taken);
            assert!(keys.get("points/1.json").await.unwrap() == body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_it_is_written_to_leaves_no_part() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let dying = Proxy::start(ceph.endpoint(), Fault::DiesAfter(1 << 20)).await;
    let error = bucket(dying.endpoint(), &name, CREDENTIALS).create("packs/1", noise(3, 33 << 20)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let keys = bucket(ceph.endpoint(), &name, CREDENTIALS);
    assert!(!keys.exists("packs/1").await.unwrap());
    assert_eq!(keys.create("packs/1", noise(3, 33 << 20)).await.unwrap(), Created::New);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_a_wrong_bucket_and_a_dead_endpoint_are_told_apart() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let name = ceph.bucket();
        for wrong in ["AKTEST:wrong", "nobody:SKTEST"] {
            let keys = bucket(ceph.endpoint(), &name, wrong);
            let errors = [
                keys.get("k").await.err(),
                keys.create("k", "x".into()).await.err(),
                keys.list("").await.err(),
                keys.delete("k").await.err(),
                keys.exists("k").await.err(),
            ];
            for error in errors {
                assert!(matches!(&error, Some(StoreError::Denied { .. })), "{wrong}: {error:?}");
                assert!(!error.unwrap().to_string().contains("wrong"), "no secret is repeated");
            }
        }
        let keys = bucket(ceph.endpoint(), "no-such-bucket", CREDENTIALS);
        for error in [keys.get("k").await.unwrap_err(), keys.create("k", "x".into()).await.unwrap_err()] {
            assert!(matches!(&error, StoreError::NotFound { at } if at.key.is_none()), "{error:?}");
            assert!(error.to_string().contains("s3://no-such-bucket/dr/vault/ at http://"), "{error}");
        }
    }
    let nowhere = "http://127.0.0.1:9";
    let gcs = VaultUrl::Gcs { bucket: "b".to_owned(), prefix: String::new() };
    let account = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
    let azure = VaultUrl::Azure { container: "c".to_owned(), prefix: String::new() };
    let dead =
        [bucket(nowhere, "b", CREDENTIALS), opened(gcs, nowhere, account), opened(azure, nowhere, "account:a2V5")];
    for keys in dead {
        for error in [keys.get("k").await.unwrap_err(), keys.create("k", "x".into()).await.unwrap_err()] {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            assert!(error.to_string().contains(nowhere), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_may_only_read_is_told_so() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let reader = ceph.user("reader");
        for name in [ceph.bucket(), ceph.versioned_bucket()] {
            let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/reader"]},
                "Action":["s3:GetObject","s3:GetObjectVersion","s3:ListBucket","s3:ListBucketVersions","s3:GetBucketVersioning"],
                "Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]}]}"#;
            ceph.set_policy(&name, &policy.replace("BUCKET", &name));
            bucket(ceph.endpoint(), &name, CREDENTIALS).create("k", "x".into()).await.unwrap();
            let keys = bucket(ceph.endpoint(), &name, &reader);
            assert_eq!(keys.get("k").await.unwrap(), "x");
            assert_eq!(names(&keys.list("").await.unwrap()), ["k"]);
            let refused = [
                keys.create("new", "x".into()).await.err(),
                keys.replace("k", "y".into()).await.err(),
                keys.delete("k").await.err(),
            ];
            for error in refused {
                assert!(matches!(error, Some(StoreError::Denied { .. })), "{error:?}");
            }
        }
    }
}

/// For a store that no test machine has: Azure (azurite 3.37 passes), Google itself, AWS, R2. The place has to be empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a store: WARMSPARE_TEST_VAULT=URL, _ENDPOINT=URL if it is not the provider's, _CREDENTIALS=as configured"]
async fn a_place_that_the_environment_names_keeps_our_keys() {
    let given = |name: &str| std::env::var(format!("WARMSPARE_TEST_VAULT{name}"));
    let url = given("").unwrap();
    let (bucket, prefix) = url.split_once("://").unwrap().1.split_once('/').unwrap();
    let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
    let url = match url.split_once("://").unwrap().0 {
        "s3" => VaultUrl::S3 { bucket, prefix },
        "gs" => VaultUrl::Gcs { bucket, prefix },
        _ => VaultUrl::Azure { container: bucket, prefix },
    };
    let region = given("_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
    let address =
        VaultAddress { url, endpoint: given("_ENDPOINT").ok(), region, ca_file: None, credentials: None, keeper: None };
    let keys = Keys::open(&address, Some(SecretString::from(given("_CREDENTIALS").unwrap()))).unwrap();
    conforms(&keys, Conditions::Honoured).await;
}
