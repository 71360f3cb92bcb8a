//! What every bucket must do, tried on a folder and on a real S3 server that forgives nothing.

use futures_util::{StreamExt, TryStreamExt, stream};
use warmspare::store::{Attributes, Bucket, Listed, Original, SourceVersion, StoreError, Tags, WriteError};

use crate::keys::open_to_all;
use crate::support::buckets::{body, folder, get, keys, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

/// Keys that some tool or other has lost, and that a folder can carry.
const ODD_KEYS: [&str; 14] = [
    " leading space",
    "#hash",
    "100%",
    "a b+c",
    "a+b",
    "a-b",
    "a/b",
    "a0",
    "new\nline",
    "quote\"'&<>",
    "staged#1",
    "trailing space ",
    "ünïcödé/∞/🦀",
    "~tilde",
];
/// Keys that only an S3 bucket can carry.
const S3_KEYS: [&str; 7] = ["/leading", "a//b", "a/../b", "a/./b", "dir/", "..", "a/b/"];

async fn lists_in_the_order_of_the_bytes(bucket: &Bucket, more: &[&str]) {
    let mut expected: Vec<&str> = ODD_KEYS.iter().chain(more).copied().collect();
    // A control character is more than object_store can spell.
    expected.retain(|key| bucket.carries(key).is_ok() || !key.contains('\n'));
    for key in &expected {
        put(bucket, key, key.to_string()).await.unwrap();
    }
    expected.sort_unstable();
    assert_eq!(keys(bucket, None).await, expected);
    for key in &expected {
        assert_eq!(get(bucket, key).await.unwrap(), key.as_bytes(), "{key:?}");
        assert_eq!(bucket.head(key).await.unwrap().version.size, key.len() as u64, "{key:?}");
    }
    for (at, key) in expected.iter().enumerate() {
        assert_eq!(keys(bucket, Some(key)).await, expected[at + 1..], "after {key:?}");
    }
    assert_eq!(keys(bucket, Some("a.")).await, expected[expected.partition_point(|key| *key <= "a.")..]);
}

async fn lists_more_than_a_page(bucket: &Bucket) {
    let expected: Vec<String> = (0..2_345).map(|n| format!("many/{n:05}")).collect();
    let puts = stream::iter(&expected).map(|key| put(bucket, key, "x")).buffer_unordered(16);
    puts.try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(keys(bucket, None).await, expected);
    assert_eq!(keys(bucket, Some("many/01233")).await, expected[1_234..]);
}

async fn gives_back_every_size(bucket: &Bucket) {
    for (seed, length) in [0, 1, 100_000, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 20 << 20].into_iter().enumerate() {
        let content = noise(seed as u8, length);
        let written = put(bucket, "sized", content.clone()).await.unwrap();
        assert_eq!(written.version.size, length as u64);
        assert!(get(bucket, "sized").await.unwrap() == content, "{length} bytes");
    }
}

async fn reads_the_version_that_was_asked_for_or_none(bucket: &Bucket) {
    let first = put(bucket, "k", "first").await.unwrap().version;
    let (head, body) = bucket.read("k", Some(&first)).await.unwrap();
    assert_eq!(
        (head.version, body.try_collect::<Vec<_>>().await.unwrap().concat()),
        (first.clone(), b"first".to_vec())
    );
    // The same size: only the version tells them apart.
    // A folder's clock ticks every few milliseconds, and within one tick they are the same: the racily-clean rule is for that.
    let mut second = put(bucket, "k", "secnd").await.unwrap().version;
    for _ in 0..10_000 {
        if second != first {
            break;
        }
        second = put(bucket, "k", "secnd").await.unwrap().version;
    }
    assert_ne!(first, second);
    let error = bucket.read("k", Some(&first)).await.err().unwrap();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    assert!(bucket.read("k", Some(&second)).await.is_ok());
}

async fn says_what_is_missing_by_name(bucket: &Bucket) {
    for error in [bucket.read("no/such", None).await.err().unwrap(), bucket.head("no/such").await.err().unwrap()] {
        assert!(matches!(&error, StoreError::NotFound { at } if at.key.as_deref() == Some("no/such")), "{error:?}");
        assert!(error.to_string().contains(bucket.name()), "{error}");
    }
}

async fn keeps_the_old_object_when_a_body_fails(bucket: &Bucket) {
    let old = noise(1, 20 << 20);
    put(bucket, "k", old.clone()).await.unwrap();
    let blocks = (0..120).map(|_| Ok(noise(2, 100_000)));
    let broken = StoreError::Changed { at: warmspare::store::Place::store("the source", "read") };
    let broken = stream::iter(blocks.chain([Err(broken)])).boxed();
    let error = bucket.write("k", &Attributes::default(), 20 << 20, broken).await.unwrap_err();
    assert!(matches!(error, WriteError::Body(StoreError::Changed { .. })), "{error}");
    for (size, sent) in [(4, "short"), (6, "short"), (9 << 20, "short")] {
        let error = bucket.write("k", &Attributes::default(), size, body(sent)).await.unwrap_err();
        assert!(matches!(error, WriteError::Body(_)), "{error}");
    }
    assert!(get(bucket, "k").await.unwrap() == old);
    assert_eq!(keys(bucket, None).await, ["k"]);
}

/// One of each kind, and names and values that some server or tool has lost.
fn attributes() -> Attributes {
    let text = |text: &str| Some(text.to_owned());
    let metadata = [("origin", "core"), ("empty", ""), ("spaces", "a  b"), ("equals", "a=b;c,d")];
    Attributes {
        content_type: text("application/x-tar"),
        cache_control: text("max-age=60"),
        content_disposition: text("attachment; filename=\"a b.tar\""),
        content_encoding: text("gzip"),
        content_language: text("de"),
        // Not a date: some programs write this to say that it has expired.
        expires: text("0"),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        mode: Some(0o640),
    }
}

fn tags() -> Tags {
    let tags = [("channel", "stable"), ("empty", ""), ("a b", "c+d=e:f/g@h-i._"), ("ünï", "cödé")];
    tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Written with everything, small and in parts, it comes back with what this kind of bucket keeps.
async fn keeps_what_it_says_it_keeps(bucket: &Bucket) {
    let (keeps, attributes) = (bucket.keeps(), attributes());
    for length in [0, 5, 9 << 20] {
        let written = bucket.write("k", &attributes, length as u64, body(noise(7, length))).await.unwrap();
        let SourceVersion { size, etag, .. } = bucket.head("k").await.unwrap().version;
        assert_eq!((written.size, &written.etag), (size, &etag), "{length}");
        // A small one's answer proves it, but that of Google or Azure says no size.
        let is_cloud = matches!(bucket, Bucket::Cloud(_));
        assert_eq!(written.was_looked_up, is_cloud || (bucket.keeps().tags && length > 8 << 20), "{length}");
        bucket.write_tags("k", &tags()).await.unwrap();
        let (read, _) = bucket.read("k", None).await.unwrap();
        let head = bucket.head("k").await.unwrap();
        assert_eq!((&read.attributes, &head.attributes), (&keeps.of(&attributes), &keeps.of(&attributes)), "{length}");
        let found = bucket.tags("k", None).await.unwrap();
        assert_eq!(found, if keeps.tags { tags() } else { Tags::new() }, "{length} bytes");
        // A store that does not say how many there are is asked for them each time; these do say it.
        assert_eq!(read.tags.unwrap_or_default(), found.len() as u64, "{length} bytes");
    }
    let other = Tags::from([("channel".to_owned(), "unstable".to_owned())]);
    for tags in [&other, &Tags::new()] {
        bucket.write_tags("k", tags).await.unwrap();
        assert_eq!(bucket.tags("k", None).await.unwrap(), if keeps.tags { tags.clone() } else { Tags::new() });
    }
    // What is written over has nothing of what was there.
    bucket.write("k", &attributes, 1, body("x")).await.unwrap();
    bucket.write_tags("k", &tags()).await.unwrap();
    let plain = put(bucket, "k", "y").await.unwrap();
    assert!(plain.attributes.metadata.is_empty() && plain.attributes.cache_control.is_none(), "{plain:?}");
    assert_eq!(bucket.tags("k", None).await.unwrap(), Tags::new());
}

/// A copy has the content of its original, and of all else what it was told; or there is none.
async fn copies_what_was_meant_or_nothing(bucket: &Bucket, odd: &[&str]) {
    let (attributes, plain) = (attributes(), Attributes::default());
    let kept = bucket.keeps().of(&attributes);
    for (length, odd) in [(0, &[][..]), (5, odd), (9 << 20, &[])] {
        let content = noise(3, length);
        let old = put(bucket, "from", content.clone()).await.unwrap();
        bucket.write_tags("from", &tags()).await.unwrap();
        let etag = old.version.etag.as_deref();
        let original = Original { key: "from", etag, size: length as u64 };
        for key in odd.iter().copied().chain(["to"]) {
            let made = bucket.copy(original, key, &attributes, &Tags::new()).await.unwrap();
            assert!(kept.are_in(&made.attributes) && made.version.size == length as u64, "{key:?}: {made:?}");
            assert!(get(bucket, key).await.unwrap() == content, "{key:?}, {length} bytes");
            assert_eq!(bucket.tags(key, None).await.unwrap(), Tags::new(), "{key:?}");
        }
        let other = Original { etag: Some("0123456789abcdef0123456789abcdef"), ..original };
        for wrong in [Original { size: 6, ..original }, other] {
            let error = bucket.copy(wrong, "none", &attributes, &tags()).await.unwrap_err();
            assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
        }
        // Onto itself: the content stays, the rest changes.
        let made = bucket.copy(original, "from", &attributes, &tags()).await.unwrap();
        assert!(kept.are_in(&made.attributes), "{made:?}");
        assert!(get(bucket, "from").await.unwrap() == content, "{length} bytes");
        assert_eq!(bucket.tags("from", None).await.unwrap(), if bucket.keeps().tags { tags() } else { Tags::new() });
    }
    for key in odd {
        let head = bucket.head(key).await.unwrap();
        let original = Original { key, etag: head.version.etag.as_deref(), size: head.version.size };
        bucket.copy(original, "to", &plain, &Tags::new()).await.unwrap();
    }
    let absent = Original { key: "no/such", etag: None, size: 0 };
    let error = bucket.copy(absent, "to", &plain, &Tags::new()).await.unwrap_err();
    assert!(matches!(&error, StoreError::NotFound { at } if at.key.as_deref() == Some("no/such")), "{error:?}");
    assert!(bucket.head("none").await.unwrap_err().is_not_found());
}

/// Where versions are kept each can be read by its id, and where they are not none can.
async fn reads_a_version_by_its_id(bucket: &Bucket, keeps_versions: bool) {
    let old = put(bucket, "k", "old").await.unwrap();
    bucket.write_tags("k", &tags()).await.unwrap();
    put(bucket, "k", "new").await.unwrap();
    assert_eq!(old.id.is_some(), keeps_versions, "{old:?}");
    if let Some(id) = &old.id {
        let (head, content) = bucket.read_version("k", id).await.unwrap();
        // To Ceph 16 tagging is a modification: its time moves on.
        let (found, old) = (&head.version, &old.version);
        assert_eq!((&found.etag, found.size), (&old.etag, old.size));
        assert_eq!(content.try_collect::<Vec<_>>().await.unwrap().concat(), b"old");
        assert_eq!(bucket.tags("k", Some(id)).await.unwrap(), tags());
    }
    let error = bucket.read_version("k", "no-such-version").await.err().unwrap();
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(get(bucket, "k").await.unwrap(), "new");
}

async fn keeps_more_than_content(open: &impl AsyncFn(&str) -> Bucket, odd_keys: &[&str], keeps_versions: bool) {
    keeps_what_it_says_it_keeps(&open("kept").await).await;
    copies_what_was_meant_or_nothing(&open("copies").await, odd_keys).await;
    reads_a_version_by_its_id(&open("ids").await, keeps_versions).await;
}

pub async fn conforms(open: impl AsyncFn(&str) -> Bucket, more_keys: &[&str], keeps_versions: bool) {
    keeps_more_than_content(&open, more_keys, keeps_versions).await;
    lists_in_the_order_of_the_bytes(&open("order").await, more_keys).await;
    lists_more_than_a_page(&open("pages").await).await;
    gives_back_every_size(&open("sizes").await).await;
    reads_the_version_that_was_asked_for_or_none(&open("versions").await).await;
    says_what_is_missing_by_name(&open("missing").await).await;
    keeps_the_old_object_when_a_body_fails(&open("broken").await).await;
    assert!(keys(&open("empty").await, None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_a_bucket() {
    let root = tempfile::tempdir().unwrap();
    let open = async |name: &str| {
        std::fs::create_dir(root.path().join(name)).unwrap();
        folder(&root.path().join(name))
    };
    conforms(open, &[], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_is_a_bucket() {
    let ceph = Ceph::shared();
    let open = async |_: &str| s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    conforms(open, &S3_KEYS, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_that_keeps_versions_is_a_bucket() {
    let ceph = Ceph::shared();
    let open = async |_: &str| s3(ceph.endpoint(), &ceph.versioned_bucket(), "", Some(CREDENTIALS));
    conforms(open, &S3_KEYS, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_the_newest_server_is_a_bucket() {
    let ceph = Ceph::newest();
    let open = async |_: &str| s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    conforms(open, &S3_KEYS, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_the_newest_server_that_keeps_versions_is_a_bucket() {
    let ceph = Ceph::newest();
    let open = async |_: &str| s3(ceph.endpoint(), &ceph.versioned_bucket(), "", Some(CREDENTIALS));
    conforms(open, &S3_KEYS, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_a_server_that_ignores_conditions_is_a_bucket() {
    let ceph = Ceph::shared();
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let open = async |_: &str| {
        let name = ceph.bucket();
        open_to_all(&ceph, &name);
        s3(liar.endpoint(), &name, "", Some(CREDENTIALS))
    };
    conforms(open, &S3_KEYS, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_one_request_is_copied_in_parts() {
    let (oldest, newest) = (Ceph::shared(), Ceph::newest());
    for (ceph, name) in [(&oldest, oldest.bucket()), (&newest, newest.versioned_bucket())] {
        let Bucket::S3(whole) = s3(ceph.endpoint(), &name, "p/", Some(CREDENTIALS)) else { unreachable!() };
        copies_what_was_meant_or_nothing(&Bucket::S3(whole.copying_in_parts_of(5 << 20)), &S3_KEYS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_of_an_s3_bucket_is_a_bucket_and_nothing_beside_it() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let whole = s3(ceph.endpoint(), &name, "", Some(CREDENTIALS));
    let part = s3(ceph.endpoint(), &name, "p q/", Some(CREDENTIALS));
    for key in ["p q", "p q-", "p q0", "z"] {
        put(&whole, key, "beside").await.unwrap();
    }
    lists_in_the_order_of_the_bytes(&part, &S3_KEYS).await;
    assert_eq!(get(&whole, "p q/a/b").await.unwrap(), "a/b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_a_wrong_bucket_and_a_wrong_address_are_told_apart() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let listed = async |bucket: Bucket| bucket.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    for credentials in [Some("AKTEST:wrong"), Some("nobody:SKTEST"), None] {
        let error = listed(s3(ceph.endpoint(), &name, "", credentials)).await;
        assert!(matches!(error, StoreError::Denied { .. }), "{credentials:?}: {error:?}");
        let error = put(&s3(ceph.endpoint(), &name, "", credentials), "k", "x").await.unwrap_err();
        assert!(matches!(error, WriteError::Store(StoreError::Denied { .. })), "{credentials:?}: {error:?}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let error = listed(s3(ceph.endpoint(), "no-such-bucket", "", Some(CREDENTIALS))).await;
    assert!(matches!(&error, StoreError::NotFound { at } if at.key.is_none()), "{error:?}");
    let error = listed(s3("http://127.0.0.1:9", &name, "", Some(CREDENTIALS))).await;
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(matches!(error, StoreError::Unavailable { .. }) && cause.contains("refused"), "{error:?}");
}

#[tokio::test]
async fn a_folder_says_which_keys_it_cannot_carry_and_writes_nothing_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder(root.path());
    let long = format!("a/{}", "n".repeat(256));
    let deep = "d/".repeat(2_100) + "k";
    for key in S3_KEYS.into_iter().chain(["", ".", "nul\0", ".warmspare-tmp/x", &long, &deep]) {
        let error = put(&bucket, key, "x").await.unwrap_err();
        assert!(matches!(&error, WriteError::Store(StoreError::BadKey { .. })), "{key:?}: {error:?}");
        assert!(matches!(bucket.carries(key), Err(StoreError::BadKey { .. })), "{key:?}");
        assert!(bucket.read(key, None).await.is_err(), "{key:?}");
    }
    // Two keys of which one is the folder of the other: the first one stays.
    put(&bucket, "a/b", "x").await.unwrap();
    for key in ["a", "a/b/c"] {
        let error = put(&bucket, key, "y").await.unwrap_err();
        assert!(matches!(error, WriteError::Store(StoreError::BadKey { .. })), "{key}: {error:?}");
    }
    assert_eq!(keys(&bucket, None).await, ["a/b"]);
    assert_eq!(std::fs::read_dir(root.path().join(".warmspare-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn links_pipes_and_unreadable_names_in_a_folder_are_reported_and_not_followed() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    std::fs::write(path("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("a link")).unwrap();
    std::os::unix::fs::symlink("/etc", path("z link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    let bucket = folder(root.path());
    let listed: Vec<Listed> = bucket.list(None).try_collect().await.unwrap();
    let said: Vec<String> = listed
        .iter()
        .map(|listed| match listed {
            Listed::Object { key, .. } => key.clone(),
            Listed::Skipped(skipped) => format!("{}: {}", skipped.name, skipped.why),
        })
        .collect();
    let expected = [
        "a link: it is a symbolic link",
        "bad\\xff: its name is not UTF-8",
        "file",
        "pipe: it is a named pipe",
        "z link: it is a symbolic link",
    ];
    assert_eq!(said, expected);
    for key in ["a link", "pipe"] {
        let error = bucket.read(key, None).await.err().unwrap();
        assert!(matches!(error, StoreError::NotFound { .. }), "{key}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_passed_off_as_one_version() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder(root.path());
    put(&bucket, "k", noise(1, 8 << 20)).await.unwrap();
    let (_, mut body) = bucket.read("k", None).await.unwrap();
    assert!(body.next().await.unwrap().is_ok());
    let file = std::fs::OpenOptions::new().write(true).open(root.path().join("k")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"torn", 8 << 19).unwrap();
    let error = body.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_whose_disk_is_not_mounted_is_not_made_up() {
    use warmspare::config::address::{BucketAddress, BucketUrl};
    let root = tempfile::tempdir().unwrap();
    let url = BucketUrl::Folder(root.path().join("not mounted"));
    let address = BucketAddress::at("artifacts", url);
    assert!(matches!(Bucket::open(&address, None), Err(StoreError::NotFound { .. })));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn permission_bits_go_from_folder_to_folder() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let bucket = folder(root.path());
    let attributes = Attributes { mode: Some(0o640), ..Attributes::default() };
    bucket.write("k", &attributes, 1, body("x")).await.unwrap();
    assert_eq!(std::fs::metadata(root.path().join("k")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(bucket.head("k").await.unwrap().attributes, attributes);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_never_listed_and_goes_after_a_day() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder(root.path());
    let staging = root.path().join(".warmspare-tmp");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join("1-0"), "half").unwrap();
    assert!(keys(&bucket, None).await.is_empty());
    let now = jiff::Timestamp::now();
    bucket.sweep(now - jiff::SignedDuration::from_hours(1)).await.unwrap();
    assert!(staging.join("1-0").exists());
    bucket.sweep(now + jiff::SignedDuration::from_hours(1)).await.unwrap();
    assert!(!staging.join("1-0").exists());
}
