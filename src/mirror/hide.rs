//! The keeper's half of a delete: what the live site has no more is taken out of sight at the spare, and stays in the attic.
//!
//! Recovery points say what the live bucket held and when; nothing else is believed. An object is hidden when a point from
//! before knows it, and no point of the whole grace period up to the newest one does: so there are at least two points without
//! it, and the newer one's database snapshot was taken after the older one had found it gone. What no point knows, and what was
//! written after the newest one was stored, is left alone. How this and a pass that runs meanwhile keep out of each other's way is
//! in [`touched`].

use std::collections::BTreeMap;

use futures_util::{FutureExt, Stream, TryStreamExt};
use jiff::Timestamp;

use super::attic::{Attic, Protection};
use super::compare::{Side, Sides};
use super::direction::Record;
use super::published::PublishedRow;
use super::touched;
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Removing, StoreError};

/// So many are looked after at once; the others wait for the next time.
const EXTRAS_MAX: usize = 100_000;
/// Two stores tell times in whole seconds.
const GRAIN_NS: i128 = 2_000_000_000;

/// What a spare bucket has and the newest point has not.
#[derive(Debug, Default)]
pub struct Extras {
    /// By key: whether an older point names it.
    found: BTreeMap<String, bool>,
    /// Objects of the newest point.
    pub recorded: u64,
}

impl Extras {
    /// What of `spare` is not in `newest`, the manifest of the newest point.
    ///
    /// # Errors
    /// When either cannot be read to its end, in order.
    pub async fn find<R>(spare: &Removing, newest: R) -> Result<Self, Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        let mut sides = Sides::new(spare.bucket(), newest);
        let mut extras = Extras::default();
        while let Some(side) = sides.next().await? {
            match side {
                Side::Listed(key, _) => {
                    if extras.found.len() < EXTRAS_MAX {
                        extras.found.insert(key, false);
                    }
                }
                Side::Recorded(_) | Side::Both(..) => extras.recorded += 1,
            }
        }
        Ok(extras)
    }

    /// Whether there is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.found.len() as u64
    }

    /// Leaves out what a point of the grace period names.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub async fn without<R>(&mut self, recent: R) -> Result<(), Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        let mut recent = std::pin::pin!(recent);
        while let Some(row) = recent.try_next().await? {
            self.found.remove(&row.key);
        }
        Ok(())
    }

    /// Remembers which of them an older point names.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub async fn known_to<R>(&mut self, older: R) -> Result<(), Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        let mut older = std::pin::pin!(older);
        while let Some(row) = older.try_next().await? {
            if let Some(known) = self.found.get_mut(&row.key) {
                *known = true;
            }
        }
        Ok(())
    }

    /// Leaves alone what was rescued and nobody has looked at, and takes for known what somebody has released.
    pub fn heed(&mut self, rescued: &[Record]) {
        for record in rescued.iter().filter(|record| record.released) {
            if let Some(known) = self.found.get_mut(&record.rescued.key) {
                *known = true;
            }
        }
        for record in rescued.iter().filter(|record| !record.released) {
            self.found.remove(&record.rescued.key);
        }
    }

    /// Whether an older point is known to name every one of them.
    pub fn all_known(&self) -> bool {
        self.found.values().all(|known| *known)
    }

    /// Leaves only those that an older point names: the others did not come by the mirror, or nobody can tell.
    #[must_use]
    pub fn only_known(mut self) -> Self {
        self.found.retain(|_, known| *known);
        self
    }

    /// Their keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }

    /// Hides them: what somebody has written since the newest point was `stored`, by this host's clock, stays. Says which are
    /// hidden.
    ///
    /// # Errors
    /// When the store refuses, or keeps nothing of what is deleted. Those hidden until then are.
    pub async fn hide(
        &self,
        spare: &Removing,
        attic: &Attic,
        clock: &dyn Clock,
        stored: Timestamp,
    ) -> Result<Vec<String>, Error> {
        let Some(place) = attic.place().filter(|_| attic.protection() != Protection::Nothing) else {
            return Ok(Vec::new());
        };
        let keys: Vec<String> = self.found.keys().cloned().collect();
        let (records, store_now_ns) = touched::begin(place, &keys, clock.now()).boxed().await?;
        // After it: the answer's way makes an object look younger, not older.
        let now = clock.now();
        // The store's clock is compared with nobody's: what it says of an object and what it says of now are.
        let written_before_ns = stored.as_nanosecond() - now.as_nanosecond() + store_now_ns - GRAIN_NS;
        let mut hidden = Vec::new();
        for key in keys {
            if hide_one(spare, attic, &key, written_before_ns).boxed().await? {
                crate::failpoint::hit("mirror.hidden");
                hidden.push(key);
            }
        }
        touched::end(place, &records).boxed().await?;
        Ok(hidden)
    }
}

async fn hide_one(spare: &Removing, attic: &Attic, key: &str, written_before_ns: i128) -> Result<bool, StoreError> {
    let seen = match spare.bucket().head(key).await {
        Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(false),
        answer => answer?,
    };
    if seen.version.modified_ns >= written_before_ns {
        // It may be there again at the live site.
        return Ok(false);
    }
    match attic.keep_surely(spare.bucket(), key).await {
        Ok(None) => Ok(false),
        Ok(Some(kept)) if kept.version == seen.version && kept.id == seen.id => spare.remove(key, &seen).await,
        Ok(Some(_)) | Err(StoreError::Changed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
