//! What others than the mirror change at the spare: the keeper, which hides what the live site has deleted, and a restore in
//! place. They say so in the attic, before and after, because the mirror believes its own manifest.
//!
//! ```text
//! touched/001795276800123      warmspare-touched 1 ⏎ key ⏎ … ⏎ end ⇥ number of keys ⏎, keys escaped as in a manifest
//! touched/001795276800123.done empty: all of it is done
//! ```
//!
//! The number is the time in milliseconds, or one more than the last: it grows although an attic was lost, or a clock set back.
//!
//! Why no object is lost between the two, whatever overlaps. The keeper (K1) writes the record, (K2) looks at each object
//! and (K3) takes away only one that nobody has written since the newest point was stored (a pass begins only after that). A pass (M1) reads the records, (M2) writes, and
//! (M3) reads the records again before its manifest counts. An object that comes back at the live site is always written anew,
//! never taken for there. So either M2 is before K2: the keeper sees its time and leaves it alone; or K2 is before M2: then K1 is
//! before M3, the pass sees the record and does not claim the object, and the next pass copies it. A record without its end
//! keeps its keys out of the manifest for as long as it lasts.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::line::{escape_into, unescape};
use crate::store::{Attributes, Bucket, Listed, Place, StoreError, WriteError};

const FORMAT: &str = "warmspare-touched 1";
const PREFIX: &str = "touched/";
const DONE: &str = ".done";
/// So many keys are in one record at most.
const KEYS_MAX: usize = 10_000;
/// More than a record of as many of the longest keys.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// The records of one attic, from a number on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// The last number there is.
    pub(super) last: u64,
    /// Up to which number all records are done.
    pub(super) settled: u64,
    /// Keys of records that are done.
    pub(super) again: HashSet<String>,
    /// Keys of records that are not.
    pub(super) busy: HashSet<String>,
}

impl Touched {
    /// Whether the object of `key` is in one of them.
    pub(super) fn has(&self, key: &str) -> bool {
        self.busy.contains(key) || self.again.contains(key)
    }

    /// Reads the records after the number `after`.
    ///
    /// # Errors
    /// What the store answers, and [`StoreError::Other`] for a record that is none: the spare was changed, nobody knows where.
    pub(super) async fn read(attic: Option<&Bucket>, after: u64) -> Result<Self, StoreError> {
        let mut touched = Touched { last: after, settled: after, ..Touched::default() };
        let Some(attic) = attic else { return Ok(touched) };
        let (mut records, mut done) = (Vec::new(), HashSet::new());
        let mut listed = attic.list(Some(&name_of(after)));
        while let Some(listed) = listed.try_next().await? {
            let Listed::Object { key, .. } = listed else { continue };
            let Some(name) = key.strip_prefix(PREFIX) else { break };
            match (name.strip_suffix(DONE).unwrap_or(name).parse::<u64>(), name.ends_with(DONE)) {
                (Ok(number), true) => drop(done.insert(number)),
                (Ok(number), false) if number > after => records.push(number),
                _ => {}
            }
        }
        for number in records {
            let keys = keys_of(attic, number).await?;
            if done.contains(&number) {
                touched.again.extend(keys);
                touched.settled = if touched.settled == touched.last { number } else { touched.settled };
            } else {
                touched.busy.extend(keys);
            }
            touched.last = number;
        }
        Ok(touched)
    }
}

/// Says that `keys` are about to be changed. What comes back ends it, and says what the time is by the store's clock, in
/// nanoseconds since 1970.
///
/// # Errors
/// What the store answers: then nothing may be changed.
pub async fn begin(attic: &Bucket, keys: &[String], now: Timestamp) -> Result<(Vec<u64>, i128), StoreError> {
    let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let mut next = now.max(Touched::read_last(attic).await? + 1);
    let (mut numbers, mut store_now_ns) = (Vec::new(), 0);
    for keys in keys.chunks(KEYS_MAX) {
        let mut text = format!("{FORMAT}\n");
        for key in keys {
            escape_into(&mut text, key);
            text.push('\n');
        }
        text += &format!("end\t{}\n", keys.len());
        put(attic, &name_of(next), text).await?;
        if numbers.is_empty() {
            // The first of them: none of the objects was looked at before.
            store_now_ns = attic.head(&name_of(next)).await?.version.modified_ns;
        }
        crate::failpoint::hit("mirror.touched");
        numbers.push(next);
        next += 1;
    }
    Ok((numbers, store_now_ns))
}

/// Says that it is done.
///
/// # Errors
/// What the store answers; the mirror leaves those keys alone until it is said.
pub async fn end(attic: &Bucket, numbers: &[u64]) -> Result<(), StoreError> {
    for number in numbers {
        put(attic, &format!("{}{DONE}", name_of(*number)), String::new()).await?;
        crate::failpoint::hit("mirror.touched.done");
    }
    Ok(())
}

/// The records that are not done: whoever wrote them was killed, and the same site alone writes them.
///
/// # Errors
/// What the store answers.
pub async fn unfinished(attic: &Bucket) -> Result<Vec<u64>, StoreError> {
    let names = names(attic).await?;
    let is_done = |number: &u64| names.contains(&format!("{}{DONE}", name_of(*number)));
    let numbers = names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
    Ok(numbers.filter(|number| !is_done(number)).collect())
}

impl Touched {
    async fn read_last(attic: &Bucket) -> Result<u64, StoreError> {
        let numbers = names(attic).await?;
        let number = |name: &String| name.strip_prefix(PREFIX)?.parse::<u64>().ok();
        Ok(numbers.iter().filter_map(number).max().unwrap_or(0))
    }
}

async fn names(attic: &Bucket) -> Result<Vec<String>, StoreError> {
    let listed = attic.list(Some(PREFIX)).try_take_while(|listed| {
        let within = matches!(listed, Listed::Object { key, .. } if key.starts_with(PREFIX));
        std::future::ready(Ok(within))
    });
    let name = |listed| match listed {
        Listed::Object { key, .. } => Some(key),
        Listed::Skipped(_) => None,
    };
    listed.try_filter_map(|listed| std::future::ready(Ok(name(listed)))).try_collect().await
}

async fn keys_of(attic: &Bucket, number: u64) -> Result<Vec<String>, StoreError> {
    let name = name_of(number);
    let wrong = || StoreError::other(Place::key(attic.name(), &name, "read"), "it is no record of what was changed");
    let (head, mut body) = attic.read(&name, None).await?;
    if head.version.size > RECORD_BYTES_MAX {
        return Err(wrong());
    }
    let mut bytes = Vec::new();
    while let Some(block) = body.try_next().await? {
        bytes.extend_from_slice(&block);
    }
    parse(&bytes).ok_or_else(wrong)
}

fn parse(bytes: &[u8]) -> Option<Vec<String>> {
    let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
    let first = lines.next()?;
    let end: usize = lines.next_back()?.strip_prefix("end\t")?.parse().ok()?;
    let keys: Vec<String> = lines.map(unescape).collect::<Option<_>>()?;
    (first == FORMAT && keys.len() == end).then_some(keys)
}

async fn put(attic: &Bucket, name: &str, text: String) -> Result<(), StoreError> {
    let bytes = Bytes::from(text);
    let size = bytes.len() as u64;
    let body = stream::iter((size > 0).then_some(Ok(bytes))).boxed();
    attic.write(name, &Attributes::default(), size, body).await.map(drop).map_err(WriteError::any)
}

fn name_of(number: u64) -> String {
    format!("{PREFIX}{number:015}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::folder::Folder;

    #[tokio::test]
    async fn what_is_not_done_is_kept_apart_from_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let attic = Bucket::Folder(Folder::open(folder.path()).unwrap());
        assert_eq!(Touched::read(Some(&attic), 0).await.unwrap(), Touched::default());
        let begin = async |keys: &[&str], at: i64| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            begin(&attic, &keys, Timestamp::from_millisecond(at).unwrap()).await.unwrap().0
        };
        let first = begin(&["a\n", "b"], 7).await;
        end(&attic, &first).await.unwrap();
        let second = begin(&["c"], 5).await;
        let third = begin(&["d"], 20).await;
        end(&attic, &third).await.unwrap();
        assert_eq!(unfinished(&attic).await.unwrap(), second);
        let read = Touched::read(Some(&attic), 0).await.unwrap();
        let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<HashSet<_>>();
        assert_eq!((read.last, read.settled), (20, 7));
        assert_eq!((read.again, read.busy), (set(&["a\n", "b", "d"]), set(&["c"])));
        end(&attic, &second).await.unwrap();
        let read = Touched::read(Some(&attic), 7).await.unwrap();
        assert_eq!((read.last, read.settled, read.again), (20, 20, set(&["c", "d"])));
    }

    #[test]
    fn a_record_that_is_cut_short_is_none() {
        assert_eq!(parse(b"warmspare-touched 1\na\nend\t1\n"), Some(vec!["a".to_owned()]));
        for other in [&b"warmspare-touched 1\na\nend\t2\n"[..], b"warmspare-touched 1\na\n", b"", b"end\t0\n"] {
            assert_eq!(parse(other), None);
        }
    }
}
