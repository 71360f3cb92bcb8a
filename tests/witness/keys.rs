//! Numbered objects as the witness: in folders and in buckets, and on those that misbehave.

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::{TryStreamExt, stream};
use secrecy::SecretString;
use warmspare::config::address::{VaultAddress, VaultUrl};
use warmspare::error::Explain;
use warmspare::site::lease::Revision;
use warmspare::site::witness::{Numbered, Opened, Outcome, Reach, Witness, WitnessError, selftest};
use warmspare::store::{Create, Delete, Keys, Read};

use crate::keys::open_to_all;
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};
use crate::support::wire::Wire;
use crate::support::witness_conformance::{
    REQUEST_MAX, Rig, conforms, read, record, silence_has_an_end, what_was_deleted_is_told, what_was_put_back_is_told,
    won,
};

fn bucket(endpoint: &str, bucket: &str) -> Keys {
    let url = VaultUrl::S3 { bucket: bucket.to_owned(), prefix: "witness/".to_owned() };
    let (endpoint, region) = (Some(endpoint.to_owned()), "us-east-1".to_owned());
    let address = VaultAddress { url, endpoint, region, ca_file: None, credentials: None, keeper: None };
    Keys::open(&address, Some(SecretString::from(CREDENTIALS))).unwrap()
}

fn witness(keys: &Keys) -> Numbered<Keys> {
    Numbered::new(keys.name(), keys.clone(), Reach::Everywhere)
}

fn folder(path: &Path) -> (Keys, Numbered<Keys>) {
    let keys = Keys::folder(path).unwrap();
    (keys.clone(), Numbered::new(keys.name(), keys.clone(), Reach::OneMachine))
}

async fn is_sound(keys: &Keys) {
    let tried = selftest(keys, "ams", "n1").await.unwrap();
    assert!(tried.verdict(keys.name()).is_ok(), "{tried:?}");
    assert!(tried.left.is_empty() && keys.list("selftest/").await.unwrap().is_empty(), "{:?}", tried.left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_witness_for_the_processes_of_one_machine() {
    let place = tempfile::tempdir().unwrap();
    let (keys, witness) = folder(place.path());
    assert_eq!(witness.reach(), Reach::OneMachine);
    is_sound(&keys).await;
    conforms(&witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_ceph_16_are_witnesses_with_versions_and_without() {
    are_witnesses(&Ceph::shared()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_the_newest_ceph_are_witnesses_with_versions_and_without() {
    are_witnesses(&Ceph::newest()).await;
}

async fn are_witnesses(ceph: &Ceph) {
    for name in [ceph.bucket(), ceph.versioned_bucket()] {
        let keys = bucket(ceph.endpoint(), &name);
        is_sound(&keys).await;
        conforms(&witness(&keys)).await;
    }
}

/// Garage takes a condition and ignores it: there, two sites would both be told that they have the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_is_refused_with_the_reason() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    open_to_all(&ceph, &name);
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let keys = bucket(liar.endpoint(), &name);
    let tried = selftest(&keys, "ams", "n1").await.unwrap();
    let refused = tried.verdict(keys.name()).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("is no witness: it ignores the condition of a create"), "{said}");
    assert_eq!(refused.class().exit_code(), 5);
    assert!(refused.next_step().unwrap().contains("two sites can be live at once"));
    assert!(keys.list("selftest/").await.unwrap().is_empty(), "what was tried is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_is_lost_or_a_false_500_is_known_as_our_own_at_ceph_16() {
    let ceph = Ceph::shared();
    for fault in [Fault::LosesReplies(2), Fault::SaysFailed(2)] {
        let name = ceph.bucket();
        let proxy = Proxy::start(ceph.endpoint(), fault).await;
        let ours = witness(&bucket(proxy.endpoint(), &name));
        let first = won(&ours, None, &record(1, 1)).await;
        let (revision, there) = read(&ours).await;
        assert_eq!((revision, there.nonce), (first, record(1, 1).nonce));
        // What another wrote before is not ours, however often the answer is lost.
        let theirs = witness(&bucket(ceph.endpoint(), &name));
        won(&theirs, Some(first), &record(2, 2)).await;
        let proxy = Proxy::start(ceph.endpoint(), fault).await;
        let ours = witness(&bucket(proxy.endpoint(), &name));
        let lost = ours.replace(Some(first), &record(2, 3)).await;
        assert!(matches!(lost, Outcome::Lost), "{fault:?}: {lost:?}");
        let (_, there) = read(&ours).await;
        assert_eq!(there.nonce, record(2, 2).nonce);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_store_is_unknown_never_lost() {
    let keys = bucket("http://127.0.0.1:9", "nowhere");
    let outcome = witness(&keys).replace(None, &record(1, 1)).await;
    let Outcome::Unknown(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.class().exit_code(), 5);
    let said = warmspare::error::chain(&error);
    assert!(said.starts_with("the witness cannot be used: cannot ") && said.contains("127.0.0.1:9"), "{said}");
    assert!(witness(&keys).read().await.is_err());
}

/// A taker read revision 1 and slept for two days; what came between was pruned. Its create succeeds and means nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_past_the_pruning_does_not_take_the_lease() {
    let place = tempfile::tempdir().unwrap();
    let (keys, holder) = folder(place.path());
    let (_, sleeper) = folder(place.path());
    let read_then = won(&holder, None, &record(1, 1)).await;
    let mut revision = read_then;
    for nonce in 2..6 {
        revision = won(&holder, Some(revision), &record(1, nonce)).await;
    }
    assert_eq!(holder.prune(&keys).await.unwrap(), 0, "a day is kept");
    let old = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
    for listed in keys.list("lease/").await.unwrap().iter().skip(1) {
        let file = std::fs::File::options().write(true).open(place.path().join(&listed.key)).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(holder.prune(&keys).await.unwrap(), 4);
    assert_eq!(holder.history(10).await.unwrap().len(), 1, "the record itself stays");
    let outcome = sleeper.replace(Some(read_then), &record(2, 77)).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    let (there, is) = read(&sleeper).await;
    assert_eq!((there, is.term, is.nonce), (revision, 1, record(1, 5).nonce));
    won(&holder, Some(revision), &record(1, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_was_put_back_is_noticed_by_who_has_seen_more() {
    let place = tempfile::tempdir().unwrap();
    let (keys, witness) = folder(place.path());
    let first = won(&witness, None, &record(1, 1)).await;
    won(&witness, Some(first), &record(2, 2)).await;
    let newest = keys.list("lease/").await.unwrap().remove(0).key;
    keys.delete(&newest).await.unwrap();
    let error = witness.read().await.unwrap_err();
    assert!(matches!(error, WitnessError::WentBack { read: Revision(2), .. }), "{error}");
    assert!(error.to_string().ends_with("shows revision 1, but 2 was there before"), "{error}");
    // A daemon that was started anew goes on from there, and comes to the same number.
    let (_, anew) = folder(place.path());
    assert_eq!(won(&anew, Some(first), &record(1, 3)).await, Revision(2));
    let outcome = witness.replace(Some(Revision(2)), &record(3, 4)).await;
    assert!(matches!(outcome, Outcome::Unknown(WitnessError::WentBack { .. })), "{outcome:?}");
    let error = witness.read().await.unwrap_err();
    assert!(error.to_string().ends_with("shows another record as revision 2, but 2 was there before"), "{error}");
    assert_eq!(read(&anew).await.1.nonce, record(1, 3).nonce, "the holder's renewal is not written over");
    keys.delete(&newest).await.unwrap();
    keys.delete("lease/9999999998.json").await.unwrap();
    let error = witness.read().await.unwrap_err();
    assert!(error.to_string().ends_with("shows no record, but 2 was there before"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_left_in_its_place_is_told_by_name() {
    let place = tempfile::tempdir().unwrap();
    let (keys, witness) = folder(place.path());
    for other in ["lease/readme.txt", "lease/1.json", "other/9999999998.json"] {
        keys.create(other, "not ours".into()).await.unwrap();
    }
    assert_eq!(witness.read().await.unwrap(), None);
    keys.create("lease/9999999998.json", "{}".into()).await.unwrap();
    let error = witness.read().await.unwrap_err();
    assert!(error.to_string().contains("lease/9999999998.json in /"), "{error}");
    let second = won(&witness, Some(Revision(1)), &record(1, 1)).await;
    assert_eq!(read(&witness).await.0, second);
}

/// As with five thousand in `doubles`: here with what a server of S3 is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_asks_a_bucket_for_one_page() {
    let ceph = Ceph::shared();
    let count = 1_100;
    for name in [ceph.bucket(), ceph.versioned_bucket()] {
        let keys = bucket(ceph.endpoint(), &name);
        won(&witness(&keys), None, &record(1, 1)).await;
        let old = keys.get(&key(1)).await.unwrap();
        let create = async |number: u64| keys.create(&key(number), old.clone()).await.map(drop);
        stream::iter((2..count).map(Ok)).try_for_each_concurrent(24, create).await.unwrap();
        // Names that are none of ours do not hide it, nor do those that sort before it.
        keys.create("lease/0-notes.txt", "not ours".into()).await.unwrap();
        won(&witness(&keys), Some(Revision(count - 1)), &record(1, 2)).await;
        let proxy = Proxy::start(ceph.endpoint(), Fault::LosesReplies(0)).await;
        let ours = witness(&bucket(proxy.endpoint(), &name));
        let (revision, there) = read(&ours).await;
        assert_eq!((revision, there.nonce), (Revision(count), record(1, 2).nonce));
        proxy.lines();
        assert_eq!(read(&ours).await.0, Revision(count));
        let reading = proxy.lines();
        assert_eq!(won(&ours, Some(revision), &record(1, 3)).await, Revision(count + 1));
        let renewing = proxy.lines();
        let is_listing = |line: &&String| line.split(['?', '&', ' ']).any(|part| part == "prefix=witness%2Flease%2F");
        let listings = |lines: &[String]| lines.iter().filter(is_listing).count();
        println!("{name}: {} requests to read, {} to renew", reading.len(), renewing.len());
        assert_eq!(listings(&reading), 1, "{reading:#?}");
        assert_eq!(listings(&renewing), 2, "before and after: {renewing:#?}");
        assert_eq!(keys.list("lease/").await.unwrap().len() as u64, count + 2, "all are there still");
    }
}

/// Where a record lies.
fn key(revision: u64) -> String {
    format!("lease/{:010}.json", 9_999_999_999 - revision)
}

/// A bucket by a line.
struct Behind {
    wire: Wire,
    keys: Keys,
    by_wire: Keys,
    backup: Vec<String>,
}

impl Behind {
    async fn names(&self) -> Vec<String> {
        self.keys.list("lease/").await.unwrap().into_iter().map(|listed| listed.key).collect()
    }
}

impl Rig for Behind {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    async fn open(&self) -> Opened {
        Opened::of_keys(self.by_wire.clone(), "s3", REQUEST_MAX, Reach::Everywhere)
    }

    /// The Ceph of the tests forgets everything then.
    async fn restart(&mut self) {}

    async fn back_up(&mut self) {
        self.backup = self.names().await;
    }

    async fn put_back(&mut self) {
        for key in self.names().await {
            if !self.backup.contains(&key) {
                self.keys.delete(&key).await.unwrap();
            }
        }
    }

    async fn delete(&mut self) {
        for key in self.names().await {
            self.keys.delete(&key).await.unwrap();
        }
    }
}

/// Lost replies and false answers are the proxy's, above: in a bucket a write is a create between two listings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_survives_what_happens_to_it() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let wire = Wire::to(ceph.endpoint().strip_prefix("http://").unwrap()).await;
    let by_wire = bucket(&format!("http://127.0.0.1:{}", wire.port()), &name);
    let mut rig = Behind { wire, by_wire, keys: bucket(ceph.endpoint(), &name), backup: Vec::new() };
    let ours = rig.open().await;
    won(&ours, None, &record(1, 1)).await;
    silence_has_an_end(&rig, &ours).await;
    what_was_put_back_is_told(&mut rig, &ours).await;
    what_was_deleted_is_told(&mut rig).await;
}
