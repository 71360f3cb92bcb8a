//! A bucket is rebuilt although single copies are damaged, archived, kept back, or of keys that the new place cannot have: what
//! is wrong with one says nothing of the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use warmspare::mirror::PublishedRow;
use warmspare::mirror::attic::Attic;
use warmspare::observe::Progress;
use warmspare::restore::steps::bucket_rebuild::{Rebuild, Rebuilt};
use warmspare::store::Bucket;
use warmspare::verify::object::{self, ObjectCheck};

use crate::attic::{World, rows};
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{contents, folder, noise, put, read_plainly, s3};
use crate::support::ceph::{CREDENTIALS, Ceph, arn};
use crate::support::proxy::{Fault, Proxy};
use crate::support::sites::shown;

const BYTES: usize = 300_000;

/// A spare of which three objects were overwritten once, and `broken` was brought back to what it was; the name of its bucket, and
/// of its attic's.
async fn thrice(ceph: &Arc<Ceph>, versioned: bool) -> (World, String, String) {
    let (live, place) = (ceph.bucket(), ceph.bucket());
    let spare = if versioned { ceph.versioned_bucket() } else { ceph.bucket() };
    let open = |name: &str| s3(ceph.endpoint(), name, "", Some(CREDENTIALS));
    let mut world = World::new(open(&live), open(&spare), Some(open(&place)), tempfile::tempdir().unwrap());
    for (from, keys) in [(0, &["a", "broken", "z"][..]), (10, &["a", "broken", "z"]), (0, &["broken"])] {
        for (seed, key) in (from..).zip(keys) {
            put(&world.live, key, noise(if *key == "broken" { from } else { seed }, BYTES)).await.unwrap();
        }
        world.point().await.complete().unwrap();
    }
    (world, spare, place)
}

fn first() -> BTreeMap<String, Vec<u8>> {
    [("a", 0), ("broken", 0), ("z", 2)].map(|(key, seed)| (key.to_owned(), noise(seed, BYTES).to_vec())).into()
}

/// The spare as it is reached through `fault`.
async fn through(ceph: &Ceph, name: &str, fault: Fault) -> (Proxy, Bucket) {
    let proxy = Proxy::start(ceph.endpoint(), fault).await;
    let spare = s3(proxy.endpoint(), name, "", Some(CREDENTIALS));
    (proxy, spare)
}

/// Rebuilds the first point in a new folder, from `spare`.
async fn rebuilt(world: &World, spare: &Bucket) -> (Rebuilt, BTreeMap<String, Vec<u8>>) {
    let (place, attic) = (tempfile::tempdir().unwrap(), world.attic(Timestamp::now()).await);
    let into = folder(place.path());
    let rebuild = Rebuild { spare, attic: &attic, into: Some(&into), replace: false, now: Timestamp::now() };
    let done = rebuild.run(rows(&world.points[0]), &Progress::silent()).await.unwrap();
    (done, read_plainly(place.path()))
}

async fn checked(bucket: &Bucket, world: &World) -> Result<ObjectCheck, warmspare::error::Error> {
    object::check(bucket, None, rows(&world.points[0]), 2, &Progress::silent()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_object_is_taken_from_another_version_or_named_and_the_others_come_back() {
    let ceph = Ceph::shared();
    let (world, name, _) = thrice(&ceph, true).await;
    let versions = world.spare.versions_of("broken").await.unwrap();
    let oldest: &'static str = format!("versionId={}", versions.last().unwrap().0).leak();
    let (_proxy, spare) = through(&ceph, &name, Fault::Archives { but: oldest }).await;
    let (done, found) = rebuilt(&world, &spare).await;
    assert!(done.lost == 0 && found == first(), "{done:?}");
    let (_proxy, spare) = through(&ceph, &name, Fault::Archives { but: "no version at all" }).await;
    let (done, found) = rebuilt(&world, &spare).await;
    assert_eq!((done.lost, done.brought), (1, 2), "{done:?}");
    assert!(!found.contains_key("broken") && found["z"] == first()["z"]);
    let check = checked(&spare, &world).await.unwrap();
    let told: Vec<String> = check.differences.first.iter().map(ToString::to_string).collect();
    let archived = told.iter().find(|difference| difference.contains("\"broken\"")).unwrap();
    assert!(archived.contains("archived"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_nothing_is_put_over_what_cannot_be_kept_and_an_attic_that_refuses_ends_it() {
    let ceph = Ceph::shared();
    let (world, name, place) = thrice(&ceph, false).await;
    let (proxy, spare) = through(&ceph, &name, Fault::Archives { but: "no version at all" }).await;
    let in_place = async |credentials| {
        let place = s3(proxy.endpoint(), &place, "", Some(credentials));
        let attic = Attic::open(&spare, Some(place), Timestamp::now()).await.unwrap();
        let rebuild = Rebuild { spare: &spare, attic: &attic, into: None, replace: true, now: Timestamp::now() };
        rebuild.run(rows(&world.points[0]), &Progress::silent()).await
    };
    let error = in_place("nobody:wrong").await.unwrap_err().to_string();
    assert!(error.contains(&place) && error.contains("access denied"), "{error}");
    let done = in_place(CREDENTIALS).await.unwrap();
    assert_eq!((done.different, done.replaced, done.lost), (1, 2, 0), "{done:?}");
    assert!(done.words().contains("could not be kept: cannot read \"broken\""), "{}", done.words());
    assert_eq!(contents(&world.spare).await, contents_of(first()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_read_again_and_one_that_always_does_is_taken_from_the_attic() {
    let ceph = Ceph::shared();
    let (world, name, place) = thrice(&ceph, false).await;
    for times in [2, usize::MAX] {
        let (proxy, spare) = through(&ceph, &name, Fault::BreaksReads(times)).await;
        let (done, found) = rebuilt(&world, &spare).await;
        assert!(done.lost == 0 && found == first(), "{done:?}");
        assert!(proxy.counted() > 2, "{}", proxy.counted());
    }
    // A proof reads it again, too, and names it if that never ends. The other two were overwritten since.
    for (times, differences) in [(2, 2), (usize::MAX, 3)] {
        let (_proxy, spare) = through(&ceph, &name, Fault::BreaksReads(times)).await;
        let check = checked(&spare, &world).await.unwrap();
        assert_eq!(check.differences.total, differences, "{:?}", check.differences);
    }
    // In place, what cannot be read to its end cannot be kept either: it is left and told, and the others are replaced.
    let (proxy, spare) = through(&ceph, &name, Fault::BreaksReads(usize::MAX)).await;
    let place = s3(proxy.endpoint(), &place, "", Some(CREDENTIALS));
    let attic = Attic::open(&spare, Some(place), Timestamp::now()).await.unwrap();
    let rebuild = Rebuild { spare: &spare, attic: &attic, into: None, replace: true, now: Timestamp::now() };
    let done = rebuild.run(rows(&world.points[0]), &Progress::silent()).await.unwrap();
    assert_eq!((done.different, done.replaced, done.lost), (1, 2, 0), "{done:?}");
    assert!(
        done.words().contains("\"broken\": what stands there was left, for it could not be kept"),
        "{}",
        done.words()
    );
    assert_eq!(contents(&world.spare).await, contents_of(first()));
}

fn contents_of(plain: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, bytes::Bytes> {
    plain.into_iter().map(|(key, content)| (key, content.into())).collect()
}

/// `/proc/self/mem` is a file of no bytes of which the first read fails as on a bad spot of a disk.
#[tokio::test]
async fn a_file_on_a_bad_spot_of_the_disk_is_taken_from_the_attic() {
    let root = tempfile::tempdir().unwrap();
    let hash = blake3::hash(b"");
    let objects = root.path().join("attic/objects").join(&hash.to_hex()[..2]);
    fs::create_dir_all(&objects).unwrap();
    fs::write(objects.join(format!("{hash}.2026-01-01")), "").unwrap();
    fs::create_dir(root.path().join("into")).unwrap();
    let (spare, into) = (folder(Path::new("/proc/self")), folder(&root.path().join("into")));
    let row = |key: &str| PublishedRow { key: key.to_owned(), size: 0, blake3: hash, modified_ns: 0, digest: None };
    for (place, lost) in [(Some(folder(&root.path().join("attic"))), 0), (None, 1)] {
        let attic = Attic::open(&spare, place, Timestamp::now()).await.unwrap();
        let rebuild =
            Rebuild { spare: &spare, attic: &attic, into: Some(&into), replace: false, now: Timestamp::now() };
        let _ = fs::remove_file(root.path().join("into/mem"));
        let done = rebuild.run(rows(&[row("mem")]), &Progress::silent()).await.unwrap();
        assert_eq!((done.lost, done.brought), (lost, 1 - lost), "{done:?}");
        let told =
            done.words().contains("no copy here can be read (cannot read \"mem\" in /proc/self: Input/output error");
        assert_eq!(told, lost == 1, "{}", done.words());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_damaged_copy_in_the_attic_that_of_another_day_is_taken() {
    let mut world = World::of_folders();
    for content in ["one", "two"] {
        put(&world.live, "k", content).await.unwrap();
        world.point().await.complete().unwrap();
    }
    let objects = world.path().join("spare.attic/objects");
    let day = fs::read_dir(&objects).unwrap().next().unwrap().unwrap().path();
    let copy = fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    let older = copy.with_extension("2001-01-01");
    fs::write(&older, "eno").unwrap();
    assert_eq!(world.rebuilt(0).await.1["k"], b"one");
    let attic = world.attic(Timestamp::now()).await;
    let check =
        object::check(&world.spare, Some(&attic), rows(&world.points[0]), 1, &Progress::silent()).await.unwrap();
    assert_eq!((check.beside, check.differences.total), (1, 0));
    fs::write(&copy, "eno").unwrap();
    let (done, found) = world.rebuilt(0).await;
    assert!(done.lost == 1 && found.is_empty(), "{done:?}");
}

#[tokio::test]
async fn keys_that_a_folder_cannot_carry_are_named_and_the_others_are_brought() {
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let source = s3(ceph.endpoint(), &live, "", Some(CREDENTIALS));
    for key in ["a//b", "c", "c/d", "dir/", "z"] {
        put(&source, key, key).await.unwrap();
    }
    let sites = BucketSites::s3(&ceph, &live, &spare);
    sites.ended("ams", &["capture"], 0);
    let into = sites.path().join("look");
    let only = ["restore", "--only", "bucket.artifacts", "--point", "0-1", "--into", into.to_str().unwrap()];
    let said = shown(&sites.ended("fra", &only, 4));
    assert!(said.contains("3 CANNOT BE STORED there"), "{said}");
    for key in ["a//b", "c/d", "dir/"] {
        assert!(said.contains(&format!("; {key:?}: it cannot be stored there")), "{key}: {said}");
        assert!(
            said.contains(&format!("object {key:?} in {} cannot be stored there", into.display())),
            "{key}: {said}"
        );
    }
    assert_eq!(read_plainly(&into).into_keys().collect::<Vec<_>>(), ["c", "z"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_object_that_may_not_be_read_is_a_difference_and_all_of_them_are_a_wrong_credential() {
    let ceph = Ceph::shared();
    let (world, name, _) = thrice(&ceph, false).await;
    let user = ceph.user("looker");
    let policy = |denied: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Principal":{{"AWS":["{who}"]}},"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::{name}","arn:aws:s3:::{name}/*"]}},
            {{"Effect":"Deny","Principal":{{"AWS":["{who}"]}},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{name}/{denied}"]}}]}}"#,
            who = arn("looker")
        )
    };
    let spare = s3(ceph.endpoint(), &name, "", Some(&user));
    ceph.set_policy(&name, &policy("broken"));
    let check = checked(&spare, &world).await.unwrap();
    assert_eq!((check.checked, check.differences.total), (3, 3), "two were overwritten since");
    let broken = check.differences.first.iter().find(|difference| difference.key == "broken").unwrap();
    assert!(broken.to_string().contains("cannot be read"), "{broken}");
    ceph.set_policy(&name, &policy("*"));
    let error = checked(&spare, &world).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("access denied"), "{error}");
    let attic = world.attic(Timestamp::now()).await;
    let place = tempfile::tempdir().unwrap();
    let into = folder(place.path());
    let rebuild = Rebuild { spare: &spare, attic: &attic, into: Some(&into), replace: false, now: Timestamp::now() };
    let done = rebuild.run(rows(&world.points[0]), &Progress::silent()).await.unwrap();
    assert!(done.lost == 0 && read_plainly(place.path()) == first(), "the attic has them all: {done:?}");
}
