//! What the attic holds and no recovery point names any more.
//!
//! A name is let go when it is [`LET_GO_AFTER`](super::attic::LET_GO_AFTER) old, by its own day and by the store's clock, and no
//! point that is kept names its content; and when a younger name of the same content is there. Why that needs no lock is in
//! [`attic`](super::attic).

use std::collections::BTreeMap;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;

use super::attic::{OBJECTS, day_of, parse_name};
use super::direction::Record;
use super::published::PublishedRow;
use crate::error::Error;
use crate::store::{Listed, Removing, StoreError};

/// The names of one content.
#[derive(Debug, Default)]
struct Names {
    /// Those old enough to go, the youngest last.
    old: Vec<String>,
    has_young: bool,
    is_named: bool,
}

/// The contents, in a part of an attic, of which something is old enough to go.
#[derive(Debug, Default)]
pub struct OldNames {
    found: BTreeMap<[u8; 32], Names>,
    /// The last name of that part, unless it goes on to the end.
    last: Option<String>,
}

impl OldNames {
    /// Looks through what the attic at `place` has after the name `after`; what came there after `before` stays. At most so many
    /// contents: what comes after [the last](OldNames::last) of their names is to be looked after on its own.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn find(place: &Removing, before: Timestamp, after: Option<&str>, at_once: usize) -> Result<Self, Error> {
        let (mut old, day) = (OldNames::default(), day_of(before));
        let mut listed = place.bucket().list(Some(after.unwrap_or(OBJECTS)));
        // The names of one content lie side by side.
        let (mut of, mut names, mut last) = ([0; 32], Names::default(), None);
        while let Some(listed) = listed.try_next().await? {
            let Listed::Object { key, version } = listed else { continue };
            if !key.starts_with(OBJECTS) {
                break;
            }
            let Some((blake3, since)) = parse_name(&key) else { continue };
            if of != *blake3.as_bytes() {
                old.take(of, std::mem::take(&mut names));
                if old.found.len() >= at_once {
                    old.last = last;
                    return Ok(old);
                }
                of = *blake3.as_bytes();
            }
            last = Some(key.clone());
            if since < day.as_str() && version.modified_ns < before.as_nanosecond() {
                names.old.push(key);
            } else {
                names.has_young = true;
            }
        }
        old.take(of, names);
        Ok(old)
    }

    /// A content of which nothing is old enough takes no room.
    fn take(&mut self, of: [u8; 32], names: Names) {
        if names.old.is_empty() {
            return;
        }
        // A store that lists out of order may come to it twice.
        let known = self.found.entry(of).or_default();
        known.old.extend(names.old);
        known.has_young |= names.has_young;
    }

    /// After which name others may follow; `None` where these are all.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether nothing is old enough.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Keeps what a point names.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub async fn named_by<R>(&mut self, point: R) -> Result<(), Error>
    where
        R: Stream<Item = Result<PublishedRow, Error>> + Send,
    {
        let mut point = std::pin::pin!(point);
        while let Some(row) = point.try_next().await? {
            if let Some(names) = self.found.get_mut(row.blake3.as_bytes()) {
                names.is_named = true;
            }
        }
        Ok(())
    }

    /// Keeps what was rescued and nobody has looked at.
    pub fn heed(&mut self, rescued: &[Record]) {
        for record in rescued.iter().filter(|record| !record.released) {
            let blake3 = blake3::Hash::from_hex(&record.rescued.blake3).ok();
            if let Some(names) = blake3.and_then(|blake3| self.found.get_mut(blake3.as_bytes())) {
                names.is_named = true;
            }
        }
    }

    /// The names that go, after every kept point was asked.
    pub fn going(self) -> Vec<String> {
        let going = |mut names: Names| {
            if names.is_named && !names.has_young {
                names.old.pop();
            }
            names.old
        };
        self.found.into_values().flat_map(going).collect()
    }
}

/// Lets them go for good.
///
/// # Errors
/// What the store answers; those let go until then are.
pub async fn let_go(place: &Removing, names: &[String]) -> Result<(), Error> {
    for name in names {
        let head = match place.bucket().head(name).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => continue,
            answer => answer?,
        };
        place.remove(name, &head).await?;
        crate::failpoint::hit("mirror.let_go");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_content_that_is_named_one_name_stays() {
        let going = |old: &[&str], has_young, is_named| {
            let old = old.iter().map(|name| (*name).to_owned()).collect();
            {
                let found = BTreeMap::from([([0; 32], Names { old, has_young, is_named })]);
                OldNames { found, last: None }.going().join(" ")
            }
        };
        assert_eq!(going(&["1", "2"], false, false), "1 2");
        assert_eq!(going(&["1", "2"], false, true), "1");
        assert_eq!(going(&["1"], false, true), "");
        assert_eq!(going(&["1"], true, true), "1");
    }
}
