//! Content that the spare has already, under another key, is copied there and not sent; and only if it is that content.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use warmspare::clock::FixedClock;
use warmspare::mirror::{self, Pass, PassOptions, manifest_path};
use warmspare::observe::Progress;
use warmspare::store::{Attributes, Bucket, Original, ReadOnly, Tags};

use crate::support::buckets::{contents, folder, get, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

const MIB: usize = 1 << 20;

async fn pass(source: &Bucket, target: &Bucket, state: &Path) -> Pass {
    let later = FixedClock(Timestamp::now() + SignedDuration::from_hours(1));
    let (source, options) = (ReadOnly::new(source.clone()), PassOptions::default());
    let pass = mirror::pass(&source, target, state, &options, &later, &Progress::silent()).await.unwrap();
    pass.complete().unwrap();
    pass
}

/// `copied/duplicated, MiB sent, MiB saved`
fn told(pass: &Pass) -> String {
    let (sent, saved) = (pass.sent_bytes >> 20, pass.saved_bytes >> 20);
    format!("{}/{}, {sent} sent, {saved} saved", pass.copied, pass.duplicated)
}

fn s3_bucket(ceph: &Ceph) -> Bucket {
    s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS))
}

async fn duplicate(bucket: &Bucket, from: &str, to: &str) {
    let version = bucket.head(from).await.unwrap().version;
    let original = Original { key: from, etag: version.etag.as_deref(), size: version.size };
    bucket.copy(original, to, &Attributes::default(), &Tags::new()).await.unwrap();
}

/// From an S3 bucket to whatever the spare is made of.
async fn sends_each_content_once(ceph: &Ceph, live: Bucket, name: &str, spare: Bucket) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    // Ten keys of one content in a first copy, where they are all copied at the same time.
    for n in 0..10 {
        put(&live, &format!("same/{n}"), noise(1, MIB)).await.unwrap();
    }
    put(&live, "other", noise(2, MIB)).await.unwrap();
    put(&live, "parts", noise(3, 9 * MIB)).await.unwrap();
    assert_eq!(told(&pass(&live, &spare, state).await), "12/9, 11 sent, 9 saved");

    for (from, to) in [("other", "renamed/other"), ("parts", "renamed/parts")] {
        duplicate(&live, from, to).await;
        ceph.plain_delete(name, from);
    }
    let renamed = pass(&live, &spare, state).await;
    assert_eq!((renamed.copied, renamed.gone), (2, 2), "{renamed:?}");
    // Where a copy of an object in parts gets another ETag nothing nominates it, and it is sent.
    assert!(renamed.sent_bytes == 0 || renamed.sent_bytes == 9 << 20, "{renamed:?}");
    assert!(renamed.not_duplicated.is_empty(), "{renamed:?}");

    // The record is lost, or damaged: it is made anew from the manifest.
    for damage in [None, Some("this is no database")] {
        let record = state.join("contents.redb");
        match damage {
            None => fs::remove_file(&record).unwrap(),
            Some(bytes) => fs::write(&record, bytes).unwrap(),
        }
        let to = format!("again/{}", damage.is_some());
        duplicate(&live, "same/3", &to).await;
        assert_eq!(told(&pass(&live, &spare, state).await), "1/1, 0 sent, 1 saved");
    }
    for (key, content) in contents(&live).await {
        assert!(get(&spare, &key).await.unwrap() == content, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_and_second_keys_send_no_content_to_a_bucket() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    sends_each_content_once(&ceph, s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)), &name, s3_bucket(&ceph)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_and_second_keys_send_no_content_to_a_folder() {
    let (ceph, root) = (Ceph::shared(), tempfile::tempdir().unwrap());
    let name = ceph.bucket();
    let live = s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    sends_each_content_once(&ceph, live, &name, folder(root.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_sends_no_content() {
    let (ceph, root, state) = (Ceph::shared(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (live, spare) = (folder(root.path()), s3_bucket(&ceph));
    put(&live, "a/b", noise(1, MIB)).await.unwrap();
    assert_eq!(told(&pass(&live, &spare, state.path()).await), "1/0, 1 sent, 0 saved");
    fs::rename(root.path().join("a"), root.path().join("c")).unwrap();
    assert_eq!(told(&pass(&live, &spare, state.path()).await), "1/1, 0 sent, 1 saved");
    assert!(get(&spare, "c/b").await.unwrap() == noise(1, MIB));
    // Touched, and nothing else: it is read, and that is all.
    fs::File::open(root.path().join("c/b")).unwrap().set_modified(SystemTime::now()).unwrap();
    let touched = pass(&live, &spare, state.path()).await;
    assert!(touched.copied <= 1 && get(&spare, "c/b").await.unwrap() == noise(1, MIB), "{touched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_one_content_and_is_another_is_sent() {
    let (live, spare, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (folder(live.path()), folder(spare.path()));
    let moment = SystemTime::now();
    let write = |key: &str, seed: u8| {
        fs::write(live.path().join(key), noise(seed, MIB)).unwrap();
        fs::File::open(live.path().join(key)).unwrap().set_modified(moment).unwrap();
    };
    write("a", 1);
    write("b", 2);
    assert_eq!(told(&pass(&source, &target, state.path()).await), "2/0, 2 sent, 0 saved");
    write("c", 3);
    assert_eq!(told(&pass(&source, &target, state.path()).await), "1/0, 1 sent, 0 saved");
    assert_eq!(contents(&target).await, contents(&source).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_somebody_changed_at_the_spare_is_not_copied_from() {
    let (ceph, folder) = (Ceph::shared(), tempfile::tempdir().unwrap());
    let (live, spare) = (s3_bucket(&ceph), s3_bucket(&ceph));
    put(&live, "a", noise(1, MIB)).await.unwrap();
    put(&live, "b", noise(2, MIB)).await.unwrap();
    assert_eq!(pass(&live, &spare, folder.path()).await.copied, 2);
    put(&spare, "b", noise(9, MIB)).await.unwrap();
    duplicate(&live, "b", "c").await;
    assert_eq!(told(&pass(&live, &spare, folder.path()).await), "1/0, 1 sent, 0 saved");
    assert!(get(&spare, "c").await.unwrap() == noise(2, MIB));
}

/// An index that is put back to what it was: its content is known under its own key, where another one lies by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_goes_back_to_what_it_was_goes_back_at_the_spare_too() {
    let (ceph, root) = (Ceph::shared(), tempfile::tempdir().unwrap());
    for spare in [s3_bucket(&ceph), folder(root.path())] {
        let (live, state) = (s3_bucket(&ceph), tempfile::tempdir().unwrap());
        for version in [1, 2, 1, 2] {
            put(&live, "index.json", noise(version, MIB)).await.unwrap();
            let pass = pass(&live, &spare, state.path()).await;
            assert!(get(&spare, "index.json").await.unwrap() == noise(version, MIB), "version {version}: {pass:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_copies_or_only_says_it_made_them_is_sent_the_content() {
    let ceph = Ceph::shared();
    let refusal = "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let lie = "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 65\r\nconnection: close\r\n\r\n\
               <CopyObjectResult><ETag>\"0123456789\"</ETag></CopyObjectResult>   ";
    for (answer, refused) in [(refusal, 1), (lie, 0)] {
        let (folder, name) = (tempfile::tempdir().unwrap(), ceph.bucket());
        let proxy = Proxy::start(ceph.endpoint(), Fault::AnswersCopiesItself(answer)).await;
        let (live, spare) = (s3_bucket(&ceph), s3(proxy.endpoint(), &name, "", Some(CREDENTIALS)));
        put(&live, "a", noise(1, MIB)).await.unwrap();
        assert_eq!(pass(&live, &spare, folder.path()).await.copied, 1);
        duplicate(&live, "a", "b").await;
        let sent = pass(&live, &spare, folder.path()).await;
        assert_eq!((told(&sent), sent.not_duplicated.total), ("1/0, 1 sent, 0 saved".to_owned(), refused), "{sent:?}");
        assert!(get(&spare, "b").await.unwrap() == noise(1, MIB));
        assert!(manifest_path(folder.path()).exists());
    }
}
