//! The keeper's half of a delete: what the live site has no more is taken out of sight at the spare, and stays in the attic.
//!
//! Recovery points say what the live bucket held and when; nothing else is believed. An object is hidden when a point from
//! before knows it, and no point of the whole grace period up to the newest one does: so there are at least two points without
//! it, and the newer one's database snapshot was taken after the older one had found it gone. What no point knows, what was
//! written after the newest one was stored, and what one of those points lacks only because it could not be mirrored
//! ([`Unmirrored`]), is left alone. How this and a pass that runs meanwhile keep out of each other's way is
//! in [`touched`].

use std::collections::BTreeMap;

use futures_util::{FutureExt, Stream, TryStreamExt};
use jiff::Timestamp;

use super::attic::{Attic, Protection};
use super::compare::{Side, Sides};
use super::direction::Record;
use super::published::PublishedRow;
use super::touched;
use super::unmirrored::Unmirrored;
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Removing, StoreError};

/// So many are hidden in one pass; the others wait for the next time.
const HIDDEN_MAX: usize = 100_000;
/// Two stores tell times in whole seconds.
const GRAIN_NS: i128 = 2_000_000_000;

/// What a spare bucket has and the newest point has not, of a part of its keys.
#[derive(Debug, Default)]
pub struct Extras {
    found: BTreeMap<String, Extra>,
    /// Objects of the newest point, in that part.
    recorded: u64,
    /// Its last key, unless it goes on to the end.
    last: Option<String>,
}

/// What the other points say of an extra object.
#[derive(Debug, Default)]
struct Extra {
    /// An older one names it.
    is_known: bool,
    /// One says that the live site may have it all the same.
    is_unmirrored: bool,
}

impl Extras {
    /// What of `spare` comes after the key `after` and is not in `newest`, the manifest of the newest point. At most so many: what comes
    /// after [the last](Extras::last) of them is to be looked after on its own.
    ///
    /// # Errors
    /// When either cannot be read to its end, in order.
    pub async fn find<R>(spare: &Removing, newest: R, after: Option<&str>, at_once: usize) -> Result<Self, Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        let is_before = |row: &PublishedRow| after.is_some_and(|after| row.key.as_str() <= after);
        let newest = newest.try_skip_while(move |row| std::future::ready(Ok(is_before(row))));
        let mut sides = Sides::after(spare.bucket(), after, newest);
        let mut extras = Extras::default();
        while let Some(side) = sides.next().await? {
            match side {
                Side::Listed(key, _) => {
                    extras.found.insert(key.clone(), Extra::default());
                    if extras.found.len() >= at_once {
                        extras.last = Some(key);
                        break;
                    }
                }
                Side::Recorded(_) | Side::Both(..) => extras.recorded += 1,
            }
        }
        Ok(extras)
    }

    /// After which key others may follow; `None` where these are all.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether there is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
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

    /// Leaves alone what a point of the grace period, or the newest, does not name only because it could not be mirrored.
    pub fn leave(&mut self, unmirrored: &Unmirrored) {
        for (key, extra) in &mut self.found {
            extra.is_unmirrored |= unmirrored.covers(key);
        }
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
            if let Some(extra) = self.found.get_mut(&row.key) {
                extra.is_known = true;
            }
        }
        Ok(())
    }

    /// Leaves alone what was rescued and nobody has looked at, and takes for known what somebody has released.
    pub fn heed(&mut self, rescued: &[Record]) {
        for record in rescued.iter().filter(|record| record.released) {
            if let Some(extra) = self.found.get_mut(&record.rescued.key) {
                extra.is_known = true;
            }
        }
        for record in rescued.iter().filter(|record| !record.released) {
            self.found.remove(&record.rescued.key);
        }
    }

    /// Whether an older point is known to name every one of them.
    pub fn all_known(&self) -> bool {
        self.found.values().all(|extra| extra.is_known)
    }
}

/// What is to be hidden of a bucket, part by part.
#[derive(Debug, Default)]
pub struct Going {
    keys: Vec<String>,
    /// How many there are, those among them that wait for the next time.
    pub total: u64,
    /// How many stay because the live site may have them, though no point names them.
    pub left: u64,
    /// Objects of the newest point.
    pub recorded: u64,
}

impl Going {
    /// Adds those of a part that an older point names: the others did not come by the mirror, or nobody can tell.
    pub fn add(&mut self, extras: Extras) {
        self.recorded += extras.recorded;
        for (key, extra) in extras.found.into_iter().filter(|(_, extra)| extra.is_known) {
            if extra.is_unmirrored {
                self.left += 1;
                continue;
            }
            self.total += 1;
            if self.keys.len() < HIDDEN_MAX {
                self.keys.push(key);
            }
        }
    }

    /// Their keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
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
        let (records, store_now_ns) = touched::begin(place, &self.keys, clock.now()).boxed().await?;
        // After it: the answer's way makes an object look younger, not older.
        let now = clock.now();
        // The store's clock is compared with nobody's: what it says of an object and what it says of now are.
        let written_before_ns = stored.as_nanosecond() - now.as_nanosecond() + store_now_ns - GRAIN_NS;
        let mut hidden = Vec::new();
        for key in &self.keys {
            if hide_one(spare, attic, key, written_before_ns).boxed().await? {
                crate::failpoint::hit("mirror.hidden");
                hidden.push(key.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn extras(keys: &[&str], is_known: bool, is_unmirrored: bool) -> Extras {
        let extra = |key: &&str| ((*key).to_owned(), Extra { is_known, is_unmirrored });
        Extras { found: keys.iter().map(extra).collect(), recorded: 10, last: None }
    }

    #[test]
    fn the_parts_of_a_bucket_are_judged_together() {
        let mut going = Going::default();
        for part in [
            extras(&["a", "b"], true, false),
            extras(&["c"], false, false),
            extras(&["d"], true, true),
            extras(&["e"], false, true),
            extras(&["f"], true, false),
        ] {
            going.add(part);
        }
        assert_eq!((going.total, going.left, going.recorded), (3, 1, 50));
        assert_eq!(going.keys().collect::<Vec<_>>(), ["a", "b", "f"]);
        going.keys = vec![String::new(); HIDDEN_MAX];
        going.add(extras(&["g"], true, false));
        assert_eq!((going.total, going.keys.len()), (4, HIDDEN_MAX), "counted, and hidden the next time");
    }
}
