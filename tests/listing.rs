//! The listing of a source: that it is quick and small for many keys, and that nothing a store does to it makes an object look gone.
//!
//! Most of it is tried on a server that makes its keys from numbers, because no real one gives a hundred thousand keys in a second, or
//! fails at a chosen key.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use warmspare::clock::FixedClock;
use warmspare::error::{Class, Explain};
use warmspare::mirror::attic::Attic;
use warmspare::mirror::manifest::{Pair, Row, Rows, Writer};
use warmspare::mirror::{self, MirrorError, Pass, PassOptions, Sides, manifest_path, touched};
use warmspare::observe::Progress;
use warmspare::store::{Bucket, ReadOnly, SourceVersion};

use crate::support::buckets::{contents, folder, get, keys, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::synthetic::{Fault, MODIFIED_SECONDS, Synthetic, content_of, etag_of, key_of, size_of};

fn bucket(server: &Synthetic) -> Bucket {
    s3(server.endpoint(), "bucket", "", Some("a:b"))
}

/// The row of an object that both servers make from its number.
pub fn row(number: u64) -> Row {
    Row {
        key: key_of(number),
        source: SourceVersion {
            etag: Some(etag_of(number, false)),
            size: size_of(number),
            modified_ns: i128::from(MODIFIED_SECONDS) * 1_000_000_000,
        },
        blake3: blake3::hash(&content_of(number, false)),
        target_etag: Some(etag_of(number, false)),
        beside: None,
        digest: None,
        racy: false,
    }
}

/// The manifest of a pass that mirrored so many of them.
pub fn write_manifest(source: &Bucket, target: &Bucket, state: &Path, keys: u64) {
    let pair = Pair { source: source.name().to_owned(), target: target.name().to_owned() };
    let mut writer = Writer::create(&state.join("manifest.next"), &pair).unwrap();
    (0..keys).for_each(|number| writer.push(&row(number)).unwrap());
    writer.finish(&manifest_path(state)).unwrap();
}

async fn pass(source: &Bucket, target: &Bucket, state: &Path) -> Result<Pass, MirrorError> {
    let later = FixedClock(Timestamp::now() + SignedDuration::from_hours(1));
    mirror::pass(&ReadOnly::new(source.clone()), target, state, &PassOptions::default(), &later, &Progress::silent())
        .await
}

fn rows(state: &Path) -> Vec<String> {
    let (_, rows) = Rows::open(&manifest_path(state)).unwrap().unwrap();
    rows.map(|row| row.unwrap().key).collect()
}

/// Two sites with the same objects, and a manifest that says so.
struct Mirrored {
    live: Synthetic,
    spare: Synthetic,
    source: Bucket,
    target: Bucket,
    folder: tempfile::TempDir,
}

impl Mirrored {
    fn of(keys: u64) -> Mirrored {
        let (live, spare, folder) = (Synthetic::start(keys), Synthetic::start(keys), tempfile::tempdir().unwrap());
        let (source, target) = (bucket(&live), bucket(&spare));
        write_manifest(&source, &target, folder.path(), keys);
        Mirrored { live, spare, source, target, folder }
    }

    async fn pass(&self) -> Result<Pass, MirrorError> {
        pass(&self.source, &self.target, self.folder.path()).await
    }
}

#[tokio::test]
async fn the_one_change_among_a_hundred_thousand_keys_is_found_and_nothing_else_is_touched() {
    let both = Mirrored::of(100_000);
    both.live.change([77_777]);
    both.live.fail(Fault::Slow(Duration::from_millis(2)));
    let pass = both.pass().await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.listed, pass.copied, pass.unchanged, pass.gone, pass.rows), (100_000, 1, 99_999, 0, 100_000));
    assert_eq!(both.spare.written(), [(key_of(77_777), content_of(77_777, true))].into());
    // Part of a page more for each range and each guess at its middle, and not one after the other.
    assert!(both.live.requests() < 200, "{} requests for 100 pages", both.live.requests());
    assert!(both.live.under_way_max() > 2);
    assert_eq!(rows(both.folder.path()).len(), 100_000);
}

#[tokio::test]
async fn a_first_listing_is_shared_among_listers_too_and_every_object_is_copied_once() {
    let (live, spare, folder) = (Synthetic::start(1_234), Synthetic::start(0), tempfile::tempdir().unwrap());
    live.fail(Fault::Slow(Duration::from_millis(1)));
    let pass = pass(&bucket(&live), &bucket(&spare), folder.path()).await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.listed, pass.copied, pass.rows), (1_234, 1_234, 1_234));
    let written = spare.written();
    assert_eq!(written.len(), 1_234);
    assert!((0..1_234).all(|number| written[&key_of(number)] == content_of(number, false)));
}

#[tokio::test]
async fn a_listing_that_ends_with_an_error_makes_nothing_look_gone_and_the_rest_is_mirrored() {
    let both = Mirrored::of(24_000);
    both.live.change([10, 23_000]);
    both.live.fail(Fault::ListingFailsAt(12_500));
    let pass = both.pass().await.unwrap();
    assert_eq!((pass.unlisted.total, pass.gone, pass.rows, pass.copied), (1, 0, 24_000, 2));
    assert!(pass.listed < 24_000);
    let error = pass.complete().unwrap_err();
    assert_eq!(error.class(), Class::Incomplete);
    assert!(error.to_string().contains("could not be listed: the keys after \"origin-0000"), "{error}");
    assert_eq!(rows(both.folder.path()).len(), 24_000);
    // Healed, it is looked at as if nothing had been.
    both.live.heal();
    both.live.change([12_500]);
    let pass = both.pass().await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.listed, pass.copied, pass.gone), (24_000, 1, 0));
}

#[tokio::test]
async fn a_store_that_is_away_or_lists_nothing_makes_nothing_look_gone() {
    let both = Mirrored::of(3_000);
    both.live.fail(Fault::Empty);
    let pass = both.pass().await.unwrap();
    // A thousand of them were asked for one by one, and are there.
    assert_eq!((pass.listed, pass.gone, pass.rows, pass.held_back.deletes), (0, 0, 3_000, 1_999));
    assert!(matches!(pass.complete(), Err(MirrorError::HeldBack { .. })));
    both.live.heal();
    both.live.fail(Fault::ListingFailsAt(0));
    assert!(matches!(both.pass().await, Err(MirrorError::Store(_))));
    assert_eq!(rows(both.folder.path()).len(), 3_000);
}

#[tokio::test]
async fn errors_that_pass_and_pages_without_keys_are_no_end() {
    let both = Mirrored::of(20_000);
    both.live.fail(Fault::fails(4));
    both.live.fail(Fault::EmptyPage(9_000));
    both.live.fail(Fault::slow_down(9, None));
    let pass = both.pass().await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.listed, pass.gone, pass.rows), (20_000, 0, 20_000));
}

/// Lists unsorted, in one of several ways, and still one change is found and nothing is gone.
async fn is_sorted_here(fault: Fault) {
    let both = Mirrored::of(12_000);
    both.live.change([11_500]);
    both.live.fail(fault);
    for copied in [1, 0] {
        let pass = both.pass().await.unwrap();
        pass.complete().unwrap();
        assert!(pass.sorted_here);
        assert_eq!((pass.listed, pass.copied, pass.gone, pass.rows), (12_000, copied, 0, 12_000));
    }
    assert!(!both.folder.path().join("sort").exists());
    assert!(rows(both.folder.path()).is_sorted());
}

#[tokio::test]
async fn a_store_that_lists_in_an_order_of_its_own_is_sorted_here() {
    is_sorted_here(Fault::Unsorted).await;
}

#[tokio::test]
async fn a_page_out_of_order_is_noticed_and_the_listing_sorted_here() {
    is_sorted_here(Fault::Swaps(6_500)).await;
}

#[tokio::test]
async fn a_store_that_begins_every_listing_at_the_first_key_is_noticed() {
    is_sorted_here(Fault::IgnoresStartAfter).await;
}

#[tokio::test]
async fn a_dry_run_sorts_too_and_leaves_nothing_behind() {
    let both = Mirrored::of(12_000);
    both.live.change([11_500]);
    let source = ReadOnly::new(both.source.clone());
    let preview =
        async || mirror::preview(&source, &both.target, both.folder.path(), &PassOptions::default()).await.unwrap();
    for fault in [None, Some(Fault::Swaps(6_500)), Some(Fault::Unsorted)] {
        both.live.heal();
        fault.into_iter().for_each(|fault| both.live.fail(fault));
        let planned = preview().await;
        assert_eq!((planned.listed, planned.copies.total, planned.unchanged, planned.gone), (12_000, 1, 11_999, 0));
        assert_eq!(planned.copies.first[0].key, key_of(11_500));
        assert!(!both.folder.path().join("preview/sort").exists() && !both.folder.path().join("unsorted").exists());
    }
    both.live.heal();
    both.live.fail(Fault::ListingFailsAt(6_500));
    let planned = preview().await;
    assert_eq!((planned.unlisted.total, planned.gone), (1, 0));
    assert!(both.spare.written().is_empty());
}

#[tokio::test]
async fn what_has_changed_is_counted_by_one_whole_listing_or_not_at_all() {
    let both = Mirrored::of(12_000);
    let (source, limits) = (ReadOnly::new(both.source.clone()), Arc::default());
    let changed = async || mirror::changed(&source, None, &both.target, both.folder.path(), &limits).await;
    let why = changed().await.unwrap_err().to_string();
    assert!(why.ends_with("cannot be counted: the last pass of its mirror was an earlier release's"), "{why}");
    both.pass().await.unwrap().complete().unwrap();
    let before = changed().await.unwrap();
    assert_eq!(before.since_the_last, 0);

    both.live.change([10, 11_500]);
    let asked = both.live.requests();
    let now = changed().await.unwrap();
    assert_eq!((now.since_the_last, now.since(&before.followed)), (2, Some(2)));
    assert!(both.live.requests() - asked < 40, "{} requests for 12 pages", both.live.requests() - asked);
    assert!(both.spare.written().is_empty());
    both.pass().await.unwrap().complete().unwrap();
    let now = changed().await.unwrap();
    assert_eq!((now.since_the_last, now.since(&before.followed)), (0, Some(2)), "the pass has followed them");

    both.live.change([11_999]);
    for (fault, expected) in [
        (Fault::ListingFailsAt(6_500), "1 part(s) of the source could not be listed: "),
        (Fault::Swaps(6_500), ": the listing is not sorted"),
        (Fault::Unsorted, ": the listing is not sorted"),
        (Fault::Empty, "it lists no object, and had 12000 at the last pass"),
    ] {
        both.live.heal();
        both.live.fail(fault);
        let error = changed().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let left = |name: &str| both.folder.path().join(name).exists();
        assert!(!left("sort") && !left("unsorted") && !left("preview"), "who only counts writes nothing: {error}");
    }
    // A pass remembers that it has to sort, and counting has not to.
    both.live.heal();
    both.live.fail(Fault::Unsorted);
    both.pass().await.unwrap().complete().unwrap();
    let why = changed().await.unwrap_err().to_string();
    assert!(why.contains("its server does not list its keys in order"), "{why}");
}

#[tokio::test]
async fn a_bucket_that_is_not_mirrored_is_listed_in_the_same_way() {
    let (live, folder) = (Synthetic::start(12_000), tempfile::tempdir().unwrap());
    let source = bucket(&live);
    write_manifest(&source, &source, folder.path(), 12_000);
    let later = FixedClock(Timestamp::now() + SignedDuration::from_hours(1));
    let listed = ReadOnly::new(source.clone());
    let index = async || {
        let options = PassOptions::default();
        mirror::index(&listed, folder.path(), &options, &later, &Progress::silent()).await.unwrap()
    };
    live.change([7]);
    live.fail(Fault::ListingFailsAt(6_500));
    let holed = index().await;
    assert_eq!((holed.unlisted.total, holed.hashed, holed.gone, holed.rows), (1, 1, 0, 12_000));
    live.heal();
    live.change([11_500]);
    live.fail(Fault::Unsorted);
    let sorted = index().await;
    assert_eq!((sorted.unlisted.total, sorted.listed, sorted.hashed, sorted.gone), (0, 12_000, 1, 0));
    assert_eq!(rows(folder.path()).len(), 12_000);
}

#[tokio::test]
async fn a_key_at_which_a_listing_gets_stuck_is_stepped_over() {
    let both = Mirrored::of(12_000);
    // The last key of a page, and one in the middle.
    for number in [7_999, 10_123] {
        both.live.fail(Fault::Wedged(number));
    }
    let pass = both.pass().await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.listed, pass.gone, pass.rows), (12_000, 0, 12_000));
}

/// A restore in place at the spare has put something else under a key, and the next listing has a hole there, or does not show it: the
/// row of before is not to be believed, in that pass nor in the next.
#[tokio::test]
async fn what_was_replaced_at_the_spare_is_copied_again_although_the_listing_does_not_show_it() {
    for (keys, number, fault) in [(3_000, 1_500, Fault::ListingFailsAt(1_500)), (20, 7, Fault::Empty)] {
        let (live, root) = (Synthetic::start(keys), tempfile::tempdir().unwrap());
        let [target, place] = ["spare", "attic"].map(|name| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            folder(&root.path().join(name))
        });
        let (source, state) = (ReadOnly::new(bucket(&live)), root.path().join("state"));
        let pass = async || {
            let now = Timestamp::now() + SignedDuration::from_hours(1);
            let attic = Attic::open(&target, Some(place.clone()), now).await.unwrap();
            let sides = Sides { source: &source, canary: None, target: &target, attic: &attic };
            let clock = FixedClock(now);
            mirror::follow(&sides, &state, &PassOptions::default(), &clock, &Progress::silent()).await.unwrap()
        };
        pass().await.complete().unwrap();
        let key = key_of(number);
        let (records, _) = touched::begin(&place, std::slice::from_ref(&key), Timestamp::now()).await.unwrap();
        put(&target, &key, "of an earlier point").await.unwrap();
        touched::end(&place, &records).await.unwrap();

        let is_hole = matches!(fault, Fault::ListingFailsAt(_));
        live.fail(fault);
        let holed = pass().await;
        let is_named = rows(&state).contains(&key);
        let stands = get(&target, &key).await.unwrap() == content_of(number, false);
        assert_eq!((holed.unlisted.total, is_named), (u64::from(is_hole), stands), "{holed:?}");
        assert!(holed.failed.first.iter().any(|failed| failed.key == key) || stands, "{:?}", holed.failed);
        live.heal();
        pass().await.complete().unwrap();
        assert_eq!(rows(&state).len() as u64, keys);
        assert_eq!(get(&target, &key).await.unwrap(), content_of(number, false), "{keys} keys");
    }
}

/// Ceph answers 500 when a key with byte 0x01 is the last of a page, or what a page begins after.
#[tokio::test]
async fn control_characters_in_keys_do_not_stop_a_listing_of_ceph() {
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let source = s3(ceph.endpoint(), &live, "", Some(CREDENTIALS));
    let target = s3(ceph.endpoint(), &spare, "", Some(CREDENTIALS));
    for key in ["a", "b\u{1}", "b\u{1}c", "c", "d\u{1f}\u{7f}", "e\tf", "g\r\n", "h\u{1}"] {
        put(&source, key, noise(1, 100)).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let copied = pass(&source, &target, folder.path()).await.unwrap();
    assert_eq!((copied.listed, copied.copied + copied.skipped.total), (8, 8), "{copied:?}");
    let again = pass(&source, &target, folder.path()).await.unwrap();
    assert_eq!((again.listed, again.copied, again.gone), (8, 0, 0));
    assert_eq!(contents(&target).await, contents(&source).await);
    assert_eq!(keys(&target, None).await.len(), 8);
}
