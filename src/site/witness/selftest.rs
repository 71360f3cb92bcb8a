//! Does this store do what a witness rests on? Tried, because stores say yes and do otherwise.
//!
//! Everything happens below `selftest/SITE/NONCE/`, away from the record, and is removed afterwards.

use bytes::Bytes;
use futures_util::future;
use serde::Serialize;

use super::WitnessError;
use crate::store::{Create, Created, Delete, Read, StoreError};

/// So many create the same key at once.
const RACERS: usize = 8;
const BYTES_MAX: u64 = 1 << 10;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What a witness does.
    pub what: &'static str,
    /// What this one did instead, if it did not.
    pub instead: Option<String>,
}

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// Each thing, in the order tried.
    pub checks: Vec<Check>,
    /// Keys that could not be removed, and why: harmless, but somebody else has to.
    pub left: Vec<String>,
}

impl SelfTest {
    /// Whether the store may be used.
    ///
    /// # Errors
    /// [`WitnessError::Unsound`] with the first thing it does not do.
    pub fn verdict(&self, store: &str) -> Result<(), WitnessError> {
        match self.checks.iter().find_map(|check| check.instead.clone()) {
            Some(why) => Err(WitnessError::Unsound { store: store.to_owned(), why }),
            None => Ok(()),
        }
    }
}

/// Tries the store behind `keys` from the site `site`; `nonce` is a name nobody used yet.
///
/// # Errors
/// When the store does not answer or refuses what is needed: that is no verdict on what it does with conditions.
pub async fn selftest<K: Create + Read + Delete>(keys: &K, site: &str, nonce: &str) -> Result<SelfTest, WitnessError> {
    let folder = format!("selftest/{site}/{nonce}/");
    let tried = tried(keys, &folder).await;
    let mut left = Vec::new();
    // Also what a failed try has left.
    for name in ["once", "raced"] {
        if let Err(error) = keys.delete(&format!("{folder}{name}")).await {
            left.push(crate::error::chain(&error));
        }
    }
    Ok(SelfTest { checks: tried?, left })
}

async fn tried<K: Create + Read>(keys: &K, folder: &str) -> Result<Vec<Check>, WitnessError> {
    let mut checks = once(keys, folder).await?;
    checks.push(raced(keys, folder).await?);
    Ok(checks)
}

/// A key is created, found at once, and left alone by who comes later.
async fn once<K: Create + Read>(keys: &K, folder: &str) -> Result<Vec<Check>, StoreError> {
    let check = |what, instead: Option<&str>| Check { what, instead: instead.map(str::to_owned) };
    let key = format!("{folder}once");
    let first = keys.create(&key, "first".into()).await?;
    let created = (first == Created::Taken).then_some("it calls a new key taken");
    let read = keys.get_limited(&key, BYTES_MAX).await;
    let is_read = matches!(&read, Ok(body) if body == "first");
    let listed = keys.list(folder).await?.iter().any(|listed| listed.key == key);
    let second = keys.create(&key, "second".into()).await?;
    let after = keys.get_limited(&key, BYTES_MAX).await?;
    let overwritten = match (second, after == "first") {
        (Created::Taken, true) => None,
        (_, false) => Some("it ignores the condition of a create: a key that was there was overwritten"),
        (Created::New, true) => Some("it calls a key new that was there"),
    };
    Ok(vec![
        check("creates a key that is not there", created),
        check("shows at once what was written", (!is_read).then_some("what was written is not read afterwards")),
        check("lists at once what was written", (!listed).then_some("what was written is not listed afterwards")),
        check("leaves alone a key that is there", overwritten),
    ])
}

/// Of many who create the same key at once, one wins, and its bytes are there.
async fn raced<K: Create + Read>(keys: &K, folder: &str) -> Result<Check, StoreError> {
    let key = format!("{folder}raced");
    let body = |racer: usize| Bytes::from(format!("racer {racer}"));
    let race = (0..RACERS).map(|racer| keys.create(&key, body(racer)));
    let created = future::try_join_all(race).await?;
    let winners: Vec<usize> =
        created.iter().enumerate().filter(|(_, created)| **created == Created::New).map(|(racer, _)| racer).collect();
    let there = keys.get_limited(&key, BYTES_MAX).await?;
    let instead = match winners.as_slice() {
        [winner] if there == body(*winner) => None,
        [_] => Some(
            "of several who created a key at once one was told that it won, but another's bytes are there".to_owned(),
        ),
        winners => Some(format!("of {RACERS} who created a key at once, {} were told that they won", winners.len())),
    };
    Ok(Check { what: "lets one of many win", instead })
}
