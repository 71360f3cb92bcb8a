//! What every place of our own keys must do, whatever it is made of.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use warmspare::store::{Create, Created, Delete, Keys, ListedKey, Read, Replace, StoreError};

use super::buckets::noise;

/// What the place under test is said to do beyond what all do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// A create never changes what is there.
    Honoured,
    /// It does: nothing can be promised of two who write the same key.
    Ignored,
}

/// Runs the whole suite on `keys`, which hold nothing yet.
pub async fn conforms(keys: &Keys, conditions: Conditions) {
    if conditions == Conditions::Honoured {
        the_second_create_of_a_key_changes_nothing(keys).await;
        of_many_creates_at_once_one_is_new(keys).await;
    }
    gives_back_every_size(keys).await;
    refuses_what_is_larger_than_expected(keys).await;
    says_what_is_missing_by_name(keys).await;
    replaces_and_reads_the_newest(keys).await;
    a_deleted_key_is_gone_and_can_be_deleted_again(keys).await;
    lists_its_own_folder_in_the_order_of_the_bytes(keys).await;
    lists_more_than_a_page(keys).await;
}

pub fn names(listed: &[ListedKey]) -> Vec<&str> {
    listed.iter().map(|listed| listed.key.as_str()).collect()
}

async fn the_second_create_of_a_key_changes_nothing(keys: &Keys) {
    assert_eq!(keys.create("once/a.json", "first".into()).await.unwrap(), Created::New);
    for body in ["second", "first"] {
        assert_eq!(keys.create("once/a.json", body.into()).await.unwrap(), Created::Taken, "{body}");
        assert_eq!(keys.get("once/a.json").await.unwrap(), "first");
    }
    // Neither does a large one that is refused before it is read, nor does it break what comes after it.
    assert_eq!(keys.create("once/a.json", noise(9, 33 << 20)).await.unwrap(), Created::Taken);
    assert_eq!(keys.get("once/a.json").await.unwrap(), "first");
    let listed = keys.list("once/").await.unwrap();
    assert_eq!((names(&listed), listed[0].size), (vec!["once/a.json"], 5));
}

async fn of_many_creates_at_once_one_is_new(keys: &Keys) {
    let body = |n: usize| Bytes::from(format!("racer {n}"));
    let race = (0..32).map(async |n| (n, keys.create("raced", body(n)).await.unwrap()));
    let all = future::join_all(race).await;
    let winners: Vec<usize> =
        all.iter().filter(|(_, created)| *created == Created::New).map(|(racer, _)| *racer).collect();
    assert_eq!(winners.len(), 1, "{winners:?} won");
    assert_eq!(keys.get("raced").await.unwrap(), body(winners[0]));
}

async fn gives_back_every_size(keys: &Keys) {
    for (seed, length) in [0, 1, 100_000, 33 << 20].into_iter().enumerate() {
        let (key, content) = (format!("sized/{length}"), noise(seed as u8, length));
        assert_eq!(keys.create(&key, content.clone()).await.unwrap(), Created::New);
        assert!(keys.get(&key).await.unwrap() == content, "{length} bytes");
        assert!(keys.exists(&key).await.unwrap());
    }
    let sizes: Vec<u64> = keys.list("sized/").await.unwrap().iter().map(|listed| listed.size).collect();
    assert_eq!(sizes, [0, 1, 100_000, 33 << 20], "in the order of their names");
}

async fn refuses_what_is_larger_than_expected(keys: &Keys) {
    keys.create("big", Bytes::from(vec![0; 1_000])).await.unwrap();
    let error = keys.get_limited("big", 999).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { size_bytes: 1_000, limit_bytes: 999, .. }), "{error:?}");
    assert_eq!(keys.get_limited("big", 1_000).await.unwrap().len(), 1_000);
}

async fn says_what_is_missing_by_name(keys: &Keys) {
    for error in [keys.get("no/such").await.unwrap_err(), keys.get_newest("no/such", 9).await.unwrap_err()] {
        assert!(matches!(&error, StoreError::NotFound { at } if at.key.as_deref() == Some("no/such")), "{error:?}");
        assert!(error.to_string().contains(keys.name()), "{error}");
    }
    assert!(!keys.exists("no/such").await.unwrap());
    assert!(keys.list("nobody/wrote/here/").await.unwrap().is_empty());
    // The name of a folder, or of the beginning of a key, is no key.
    assert!(!keys.exists("sized").await.unwrap());
    assert!(!keys.exists("sized/10").await.unwrap());
}

async fn replaces_and_reads_the_newest(keys: &Keys) {
    for body in ["one", "two", "three"] {
        keys.replace("status/ams.json", body.into()).await.unwrap();
        assert_eq!(keys.get_newest("status/ams.json", 99).await.unwrap(), body);
    }
    let error = keys.get_newest("status/ams.json", 4).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { size_bytes: 5, .. }), "{error:?}");
    assert_eq!(names(&keys.list("status/").await.unwrap()), ["status/ams.json"]);
}

async fn a_deleted_key_is_gone_and_can_be_deleted_again(keys: &Keys) {
    keys.create("gone/a", "a".into()).await.unwrap();
    keys.create("gone/a.b", "b".into()).await.unwrap();
    keys.replace("gone/a", "newer".into()).await.unwrap();
    for _ in 0..2 {
        keys.delete("gone/a").await.unwrap();
        assert!(!keys.exists("gone/a").await.unwrap());
        assert!(keys.get("gone/a").await.unwrap_err().is_not_found());
        assert_eq!(names(&keys.list("gone/").await.unwrap()), ["gone/a.b"]);
    }
    assert_eq!(keys.create("gone/a", "again".into()).await.unwrap(), Created::New);
    assert_eq!(keys.get("gone/a").await.unwrap(), "again");
}

async fn lists_its_own_folder_in_the_order_of_the_bytes(keys: &Keys) {
    for key in ["p/b", "p/a/x", "p/a-b", "q/z", "p2/c", "p.d"] {
        keys.create(key, Bytes::from(key.to_owned())).await.unwrap();
    }
    assert_eq!(names(&keys.list("p/").await.unwrap()), ["p/a-b", "p/a/x", "p/b"]);
    assert_eq!(names(&keys.list("p/a/").await.unwrap()), ["p/a/x"]);
    let all = keys.list("").await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.key < b.key), "{:?}", names(&all));
    assert!(all.iter().any(|listed| listed.key == "p2/c" && listed.size == 4));
}

async fn lists_more_than_a_page(keys: &Keys) {
    let expected: Vec<String> = (0..1_050).map(|n| format!("many/{n:05}")).collect();
    let puts = stream::iter(&expected).map(|key| keys.create(key, "x".into())).buffer_unordered(24);
    puts.try_collect::<Vec<_>>().await.unwrap();
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let listed = keys.list("many/").await.unwrap();
    assert_eq!(names(&listed), expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(listed.iter().all(|listed| listed.modified > before && listed.size == 1));
    // The first of them alone, as a witness asks for its newest record; and of what is not there.
    assert_eq!(keys.first("many/", 3).await.unwrap(), listed[..3]);
    assert_eq!(keys.first("p/", 9).await.unwrap(), keys.list("p/").await.unwrap(), "with folders in it");
    assert!(keys.first("nobody/wrote/here/", 3).await.unwrap().is_empty());
}
