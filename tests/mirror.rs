//! The mirror of one bucket: what reaches the spare, what is remembered of it, and what happens when something
//! goes wrong half way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use warmspare::clock::{FixedClock, SystemClock};
use warmspare::error::{Class, Error, Explain};
use warmspare::mirror::manifest::Rows;
use warmspare::mirror::{self, MirrorError, Pass, PassOptions, PublishedRow, manifest_path};
use warmspare::observe::Progress;
use warmspare::store::{Bucket, ReadOnly, StoreError};
use warmspare::verify::object::{ObjectCheck, ObjectFault, check};

use crate::keys::open_to_all;
use crate::support::buckets::{contents, folder, get, noise, published, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

/// A pass long after the last change: nothing is racily clean.
async fn pass(source: &Bucket, target: &Bucket, state: &Path) -> Result<Pass, MirrorError> {
    let later = FixedClock(Timestamp::now() + SignedDuration::from_hours(1));
    mirror::pass(&ReadOnly::new(source.clone()), target, state, &PassOptions::default(), &later, &Progress::silent())
        .await
}

/// A pass at this very moment: what has just changed is racily clean.
async fn pass_now(source: &Bucket, target: &Bucket, state: &Path) -> Pass {
    let options = PassOptions::default();
    mirror::pass(&ReadOnly::new(source.clone()), target, state, &options, &SystemClock, &Progress::silent())
        .await
        .unwrap()
}

/// `listed/copied/unchanged/gone`, and what was skipped.
fn told(pass: &Pass) -> String {
    pass.complete().unwrap();
    let skipped: Vec<&str> = pass.skipped.first.iter().map(|skipped| skipped.name.as_str()).collect();
    format!("{}/{}/{}/{} {}", pass.listed, pass.copied, pass.unchanged, pass.gone, skipped.join(","))
        .trim_end()
        .to_owned()
}

async fn checked(bucket: &Bucket, state: &Path) -> ObjectCheck {
    let rows = stream::iter(published(state).into_iter().map(Ok::<_, Error>));
    check(bucket, None, rows, 4, &Progress::silent()).await.unwrap()
}

/// What an operator sees over a bucket's life, whatever the two sides are made of.
async fn follows_its_source(source: Bucket, target: Bucket) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    for (key, length) in [("0", 0), ("a-b", 10), ("a/b", 100_000), ("big", 20 << 20), ("ü n/+%", 3), ("z", 5)] {
        put(&source, key, noise(length as u8, length)).await.unwrap();
    }
    assert_eq!(told(&pass(&source, &target, state).await.unwrap()), "6/6/0/0");
    assert_eq!(contents(&target).await, contents(&source).await);
    assert_eq!(told(&pass(&source, &target, state).await.unwrap()), "6/0/6/0");

    put(&source, "z", noise(99, 5)).await.unwrap();
    put(&source, "new", "new").await.unwrap();
    assert_eq!(told(&pass(&source, &target, state).await.unwrap()), "7/2/5/0");
    assert_eq!(get(&target, "z").await.unwrap(), noise(99, 5));
    assert_eq!(told(&pass(&source, &target, state).await.unwrap()), "7/0/7/0");

    let check = checked(&target, state).await;
    assert_eq!((check.checked, check.differences.total), (7, 0), "{check:?}");
    assert_eq!(check.bytes, published(state).iter().map(|row| row.size).sum::<u64>());
}

fn two_folders(root: &Path) -> (Bucket, Bucket) {
    for name in ["live", "spare"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    (folder(&root.join("live")), folder(&root.join("spare")))
}

fn s3_bucket(ceph: &Ceph) -> Bucket {
    s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_followed_by_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    follows_its_source(live, spare).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_followed_by_an_s3_bucket() {
    let (root, ceph) = (tempfile::tempdir().unwrap(), Ceph::shared());
    follows_its_source(two_folders(root.path()).0, s3_bucket(&ceph)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_is_followed_by_a_folder() {
    let (root, ceph) = (tempfile::tempdir().unwrap(), Ceph::shared());
    let (source, (target, _)) = (s3_bucket(&ceph), two_folders(root.path()));
    put(&source, "dir/", "").await.unwrap();
    let state = tempfile::tempdir().unwrap();
    assert_eq!(told(&pass(&source, &target, state.path()).await.unwrap()), "1/0/0/0 dir/");

    follows_its_source(s3_bucket(&ceph), target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_is_followed_by_an_s3_bucket_with_every_odd_key() {
    let (oldest, newest) = (Ceph::shared(), Ceph::newest());
    for (live, spare) in [(&oldest, &oldest), (&newest, &newest), (&oldest, &newest), (&newest, &oldest)] {
        follows_its_source(s3_bucket(live), s3_bucket(spare)).await;
        follows_odd_keys(s3_bucket(live), s3_bucket(spare)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_a_server_that_ignores_conditions_are_followed_and_follow() {
    let ceph = Ceph::shared();
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let lying = || {
        let name = ceph.bucket();
        open_to_all(&ceph, &name);
        s3(liar.endpoint(), &name, "", Some(CREDENTIALS))
    };
    follows_its_source(lying(), s3_bucket(&ceph)).await;
    follows_its_source(s3_bucket(&ceph), lying()).await;
    follows_odd_keys(lying(), lying()).await;
}

async fn follows_odd_keys(source: Bucket, target: Bucket) {
    let state = tempfile::tempdir().unwrap();
    for key in ["/leading", "a//b", "a/../b", "..", "dir/", "new\nline", "tab\t", "back\\slash"] {
        put(&source, key, key).await.unwrap();
    }
    assert_eq!(told(&pass(&source, &target, state.path()).await.unwrap()), "8/8/0/0");
    assert_eq!(contents(&target).await, contents(&source).await);
    assert_eq!(told(&pass(&source, &target, state.path()).await.unwrap()), "8/0/8/0");
}

#[tokio::test]
async fn what_is_deleted_at_the_source_stays_at_the_spare_and_leaves_the_manifest() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    for key in ["a", "b", "c"] {
        put(&live, key, key).await.unwrap();
    }
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "3/3/0/0");
    fs::remove_file(root.path().join("live/b")).unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "2/0/2/1");
    assert_eq!(get(&spare, "b").await.unwrap(), "b");
    assert_eq!(published(&state).iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn a_source_that_lost_everything_at_once_is_not_believed_unless_told_so() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "0/0/0/0");
    put(&live, "a", "a").await.unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "1/1/0/0");
    fs::remove_file(root.path().join("live/a")).unwrap();
    for _ in 0..2 {
        let empty = pass(&live, &spare, &state).await.unwrap();
        let error = empty.complete().unwrap_err();
        assert!(matches!(error, MirrorError::HeldBack { .. }), "{error}");
        assert_eq!((error.class(), empty.rows, empty.held_back.deletes), (Class::Incomplete, 1, 1));
        assert!(error.next_step().unwrap().contains("--accept-changes 1`"));
    }
    let options = PassOptions { accepted: 1, ..PassOptions::default() };
    let emptied =
        mirror::pass(&ReadOnly::new(live.clone()), &spare, &state, &options, &SystemClock, &Progress::silent())
            .await
            .unwrap();
    assert_eq!(told(&emptied), "0/0/0/1");
}

#[tokio::test]
async fn a_killed_pass_goes_on_where_it_stopped() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    for n in 0..20 {
        put(&live, &format!("{n:02}"), "x").await.unwrap();
    }
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "20/20/0/0");
    let whole = fs::read_to_string(manifest_path(&state)).unwrap();
    // The first line, twelve rows, and a row of which half reached the disk.
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let torn = lines[..13].concat() + &lines[13][..20];
    fs::write(state.join("manifest.next"), torn).unwrap();
    fs::remove_file(manifest_path(&state)).unwrap();
    fs::remove_file(state.join("contents.redb")).unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "20/8/12/0");
    assert_eq!(fs::read_to_string(manifest_path(&state)).unwrap().lines().count(), 22);
    assert!(!state.join("manifest.next").exists());
}

#[tokio::test]
async fn a_damaged_manifest_is_refused_and_not_taken_for_an_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "a", "a").await.unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "1/1/0/0");
    let damaged = fs::read_to_string(manifest_path(&state)).unwrap().replace("\na\t", "\nA\t");
    fs::write(manifest_path(&state), damaged).unwrap();
    let error = pass(&live, &spare, &state).await.unwrap_err();
    assert!(error.to_string().ends_with("is damaged: line 2 does not match its check digits"), "{error}");
    assert!(error.next_step().unwrap().contains("copies every object anew"));
}

#[tokio::test]
async fn a_spare_whose_disk_is_not_mounted_is_told_and_not_believed_to_hold_what_it_held() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "a", "a").await.unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "1/1/0/0");
    fs::remove_file(root.path().join("spare/a")).unwrap();
    let error = pass(&live, &spare, &state).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().ends_with("lacks \"a\", which the last pass left there"), "{error}");
    fs::remove_file(manifest_path(&state)).unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "1/1/0/0", "the next step that was told helps");
}

#[tokio::test]
async fn a_new_and_empty_spare_is_filled_although_the_old_one_had_everything() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "a", "a").await.unwrap();
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "1/1/0/0");
    fs::create_dir(root.path().join("new")).unwrap();
    let new = folder(&root.path().join("new"));
    assert_eq!(told(&pass(&live, &new, &state).await.unwrap()), "1/1/0/0");
    assert_eq!(get(&new, "a").await.unwrap(), "a");
}

#[tokio::test]
async fn a_file_changed_within_the_tick_of_a_pass_is_looked_at_again() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "a", "a").await.unwrap();
    assert_eq!(told(&pass_now(&live, &spare, &state).await), "1/1/0/0");
    // Too young for its version to be trusted: read again, and as long as it is so young, once more.
    let young = pass_now(&live, &spare, &state).await;
    assert_eq!((told(&young), young.reread), ("1/0/1/0".to_owned(), 1));
    let older = pass(&live, &spare, &state).await.unwrap();
    assert_eq!((told(&older), older.reread), ("1/0/1/0".to_owned(), 1));
    let old = pass(&live, &spare, &state).await.unwrap();
    assert_eq!((told(&old), old.reread), ("1/0/1/0".to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_object_that_changes_while_it_is_copied_the_manifest_says_what_the_spare_has() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "k", noise(0, 3 << 20)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, path) = (Arc::clone(&stop), root.path().join("live/k"));
        // In place, and of one size: the hardest to notice.
        move || (1..=u8::MAX).cycle().take_while(|_| !stop.load(Ordering::Relaxed)).for_each(|n| overwrite(&path, n))
    });
    let mut refused = 0;
    for _ in 0..10 {
        let pass = pass_now(&live, &spare, &state).await;
        refused += pass.failed.total;
        let (_, rows) = Rows::open(&manifest_path(&state)).unwrap().unwrap();
        for row in rows.map(Result::unwrap) {
            assert_eq!(row.blake3, blake3::hash(&get(&spare, &row.key).await.unwrap()));
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    println!("{refused} of 10 passes found it changing each time");
    // The last version may have been written within the clock tick of the one before: it is looked at again, and copied
    // unless the pass before was late enough to have it.
    pass(&live, &spare, &state).await.unwrap().complete().unwrap();
    assert_eq!(contents(&spare).await, contents(&live).await);
}

fn overwrite(path: &Path, seed: u8) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&noise(seed, 4_096), u64::from(seed) << 12).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(u64::from(seed % 8)));
}

#[tokio::test]
async fn what_cannot_be_mirrored_is_reported_and_the_rest_is_mirrored() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("live/link")).unwrap();
    put(&live, "a", "a").await.unwrap();
    put(&live, "z", "z").await.unwrap();
    let pass = pass(&live, &spare, &root.path().join("state")).await.unwrap();
    assert_eq!(told(&pass), "2/2/0/0 link");
    assert_eq!(pass.skipped.first[0].why, "it is a symbolic link");
    assert!(fs::symlink_metadata(root.path().join("spare/link")).is_err());
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path).status();
        assert!(mounted.unwrap().success());
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_spare_disk_is_named_with_the_object_and_leaves_no_half_of_it() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small disk needs root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(root.path().join("disk"));
    let (live, spare) = (two_folders(root.path()).0, folder(&disk.0));
    put(&live, "a small one", "fits").await.unwrap();
    let state = root.path().join("state");
    // Alone first: beside the larger one, which fills the disk for a moment, it might find no room either.
    pass(&live, &spare, &state).await.unwrap().complete().unwrap();
    put(&live, "larger", noise(1, 3 << 20)).await.unwrap();
    let error = pass(&live, &spare, &state).await.unwrap_err();
    let named = matches!(&error, MirrorError::Store(StoreError::NoSpace { at }) if at.key.as_deref() == Some("larger"));
    assert!(named, "{error:?}");
    assert!(error.next_step().unwrap().starts_with("Free or add space at"), "{:?}", error.next_step());
    assert_eq!(contents(&spare).await.into_keys().collect::<Vec<_>>(), ["a small one"]);
    assert_eq!(fs::read_dir(disk.0.join(".warmspare-tmp")).unwrap().count(), 0);
    // Space is found; what had fitted is not sent again.
    let grown = Command::new("mount").args(["-o", "remount,size=8m"]).arg(&disk.0).status();
    assert!(grown.unwrap().success());
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "2/1/1/0");
}

#[tokio::test]
async fn an_object_that_the_spare_lost_or_changed_turns_the_proof_red_by_name() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    for key in ["fine", "grown", "lost", "rotten"] {
        put(&live, key, "12345").await.unwrap();
    }
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "4/4/0/0");
    fs::write(root.path().join("spare/grown"), "123456").unwrap();
    fs::remove_file(root.path().join("spare/lost")).unwrap();
    fs::write(root.path().join("spare/rotten"), "12354").unwrap();
    fs::write(root.path().join("spare/besides"), "no difference").unwrap();
    let check = checked(&spare, &state).await;
    let at = root.path().join("spare").display().to_string();
    let said: Vec<String> = check.differences.first.iter().map(ToString::to_string).collect();
    let (expected, found) = (blake3::hash(b"12345"), blake3::hash(b"12354"));
    let sentences = [
        format!("object \"grown\" in {at} has 6 bytes instead of 5"),
        format!("object \"lost\" in {at} is missing"),
        format!("object \"rotten\" in {at} has the BLAKE3 {found} instead of {expected}"),
    ];
    assert_eq!((check.checked, said), (4, sentences.to_vec()));

    let row = PublishedRow { key: "a//b".to_owned(), size: 0, blake3: blake3::hash(b""), modified_ns: 0, digest: None };
    let rows = stream::iter([Ok::<_, Error>(row)]);
    let check = warmspare::verify::object::check(&spare, None, rows, 1, &Progress::silent()).await.unwrap();
    assert!(matches!(check.differences.first[0].what, ObjectFault::NotCarried { .. }), "{check:?}");
}

#[tokio::test]
async fn a_large_listing_keeps_one_order_whatever_finishes_first() {
    let root = tempfile::tempdir().unwrap();
    let (live, spare) = two_folders(root.path());
    let state = root.path().join("state");
    put(&live, "0 first and large", noise(1, 8 << 20)).await.unwrap();
    fs::create_dir(root.path().join("live/n")).unwrap();
    for n in 0..3_000 {
        fs::write(root.path().join(format!("live/n/{n}")), Bytes::from(n.to_string())).unwrap();
    }
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "3001/3001/0/0");
    assert_eq!(told(&pass(&live, &spare, &state).await.unwrap()), "3001/0/3001/0");
    assert_eq!(checked(&spare, &state).await.differences.total, 0);
}
