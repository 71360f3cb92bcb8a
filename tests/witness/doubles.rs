//! Stores that show what was, as real ones do when a cache or a replica answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use warmspare::site::lease::Revision;
use warmspare::site::witness::register::{Entry, Registers};
use warmspare::site::witness::{Numbered, Outcome, Reach, Register, Witness, WitnessError};
use warmspare::store::{Create, Created, Delete, Keys, ListedKey, Read, StoreError};

use crate::support::vaults::MemoryKeys;
use crate::support::witness_conformance::{read, record, won};

/// Lists what it was told to, and then what is there.
struct Lagging {
    keys: Keys,
    listings: Mutex<VecDeque<Vec<ListedKey>>>,
}

impl Lagging {
    fn witness(keys: &Keys, listings: &[Vec<ListedKey>]) -> Numbered<Lagging> {
        let listings = Mutex::new(listings.iter().cloned().collect());
        Numbered::new("lagging", Lagging { keys: keys.clone(), listings }, Reach::OneMachine)
    }
}

impl Create for Lagging {
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.keys.create(key, body).await
    }
}

impl Read for Lagging {
    async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.keys.get_limited(key, max_bytes).await
    }

    async fn get_newest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.keys.get_newest(key, max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let told = self.listings.lock().unwrap().pop_front();
        match told {
            Some(listing) => Ok(listing),
            None => self.keys.list(prefix).await,
        }
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        self.keys.exists(key).await
    }
}

/// A witness in a folder with so many records, and the listing after each.
async fn renewed(place: &std::path::Path, times: u128) -> (Keys, Vec<Vec<ListedKey>>) {
    let keys = Keys::folder(place).unwrap();
    let witness = Numbered::new("folder", keys.clone(), Reach::OneMachine);
    let (mut revision, mut listings) = (None, vec![Vec::new()]);
    for nonce in 1..=times {
        revision = Some(won(&witness, revision, &record(1, nonce)).await);
        listings.push(keys.list("lease/").await.unwrap());
    }
    (keys, listings)
}

#[tokio::test]
async fn a_listing_that_lags_is_told_by_who_has_seen_more() {
    let place = tempfile::tempdir().unwrap();
    let (keys, listings) = renewed(place.path(), 3).await;
    let witness = Lagging::witness(&keys, &[listings[3].clone(), listings[1].clone()]);
    assert_eq!(read(&witness).await.0, Revision(3));
    let error = witness.read().await.unwrap_err();
    assert!(matches!(error, WitnessError::WentBack { read: Revision(3), .. }), "{error}");
    assert_eq!(read(&witness).await.0, Revision(3), "and the next one is right again");
}

#[tokio::test]
async fn who_writes_after_a_listing_that_lags_does_not_win() {
    let place = tempfile::tempdir().unwrap();
    let (keys, listings) = renewed(place.path(), 3).await;
    let witness = Lagging::witness(&keys, &listings[1..2]);
    let outcome = witness.replace(Some(Revision(1)), &record(2, 9)).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
}

/// It looked, slept for two days, and creates a number that was pruned meanwhile.
#[tokio::test]
async fn who_slept_between_looking_and_writing_does_not_win() {
    let place = tempfile::tempdir().unwrap();
    let (keys, listings) = renewed(place.path(), 4).await;
    for pruned in &listings[3] {
        keys.delete(&pruned.key).await.unwrap();
    }
    let witness = Lagging::witness(&keys, &listings[1..2]);
    let outcome = witness.replace(Some(Revision(1)), &record(2, 9)).await;
    assert!(matches!(outcome, Outcome::Lost), "{outcome:?}");
    assert_eq!(read(&witness).await.1.nonce, record(1, 4).nonce);
}

/// Lists in pages of a thousand, and counts them.
#[derive(Clone, Default)]
struct Paged {
    keys: MemoryKeys,
    pages: Arc<AtomicUsize>,
}

impl Paged {
    fn pages(&self) -> usize {
        self.pages.swap(0, Ordering::Relaxed)
    }
}

impl Create for Paged {
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.keys.create(key, body).await
    }
}

impl Read for Paged {
    async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.keys.get_limited(key, max_bytes).await
    }

    async fn get_newest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.keys.get_newest(key, max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let listed = self.keys.list(prefix).await?;
        self.pages.fetch_add(listed.len().div_ceil(1_000).max(1), Ordering::Relaxed);
        Ok(listed)
    }

    async fn first(&self, prefix: &str, count: u16) -> Result<Vec<ListedKey>, StoreError> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        Ok(self.keys.list(prefix).await?.into_iter().take(count.into()).collect())
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        self.keys.exists(key).await
    }
}

/// A day of records is kept. Every renewal listed all of them, twice, page after page, and took longer each hour, until the gate closed.
#[tokio::test]
async fn a_renewal_asks_for_one_page_however_many_records_are_kept() {
    let store = Paged::default();
    let old = serde_json::to_vec(&record(1, 1)).unwrap();
    (1..=5_000_u64)
        .for_each(|revision| store.keys.put(&format!("lease/{:010}.json", 9_999_999_999 - revision), old.clone()));
    let witness = Numbered::new("paged", store.clone(), Reach::Everywhere);
    assert_eq!(read(&witness).await.0, Revision(5_000));
    assert_eq!(store.pages(), 1, "of a read");
    assert_eq!(won(&witness, Some(Revision(5_000)), &record(1, 2)).await, Revision(5_001));
    assert_eq!(store.pages(), 2, "of a renewal: before and after");
    // What others left there costs no more, as long as it is not much.
    (0..10).for_each(|n| store.keys.put(&format!("lease/0-note-{n}"), "not ours"));
    assert_eq!(read(&witness).await.0, Revision(5_001));
    assert_eq!(store.pages(), 1);
    (10..20).for_each(|n| store.keys.put(&format!("lease/0-note-{n}"), "not ours"));
    assert_eq!(read(&witness).await.0, Revision(5_001), "and hides nothing where it is");
    assert_eq!(witness.history(3).await.unwrap().len(), 3);
}

/// Shows what it was told to.
struct Replica(Mutex<VecDeque<Option<Entry>>>);

impl Registers for Replica {
    fn name(&self) -> &str {
        "replica"
    }

    async fn get(&self, _: &str) -> Result<Option<Entry>, WitnessError> {
        Ok(self.0.lock().unwrap().pop_front().flatten())
    }

    async fn put(
        &self,
        _: &str,
        _: Option<(Revision, Option<Bytes>)>,
        _: Bytes,
    ) -> Result<Option<Revision>, WitnessError> {
        Ok(None)
    }

    async fn remove(&self, _: &str) -> Result<(), WitnessError> {
        Ok(())
    }

    async fn earlier(&self, _: &str, _: usize) -> Result<Vec<Entry>, WitnessError> {
        Ok(Vec::new())
    }

    async fn prune(&self, _: &str) -> Result<usize, WitnessError> {
        Ok(0)
    }

    async fn forgets(&self) -> Result<Option<String>, WitnessError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_replica_that_lags_or_counts_anew_is_told_by_who_has_seen_more() {
    let entry = |revision: u64, nonce: u128| {
        let json = serde_json::to_vec(&record(1, nonce)).unwrap();
        Some((Revision(revision), Bytes::from(json)))
    };
    let seen = entry(7, 1);
    let shown = [seen.clone(), entry(6, 2), entry(7, 3), None, seen, entry(8, 4)];
    let witness = Register::new(Replica(Mutex::new(shown.into())));
    assert_eq!(read(&witness).await.0, Revision(7));
    for what in ["an older one", "another under the same number", "none"] {
        let error = witness.read().await.unwrap_err();
        assert!(matches!(error, WitnessError::WentBack { read: Revision(7), .. }), "{what}: {error}");
    }
    assert_eq!(read(&witness).await.0, Revision(7));
    assert_eq!(read(&witness).await.0, Revision(8));
}

/// Garage, or an etcd behind a proxy that rewrites: the self-test finds it out before anybody rests on it.
#[tokio::test]
async fn a_store_that_does_not_compare_is_refused_with_the_reason() {
    let never = Register::new(Replica(Mutex::new(VecDeque::new())));
    let tried = never.selftest("ams", "n").await.unwrap();
    let error = tried.verdict("replica").unwrap_err();
    assert_eq!(error.to_string(), "replica is no witness: it calls a new key taken");
}
