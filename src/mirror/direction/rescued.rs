//! What was rescued: told in the attic, where both sites see it, and in the state folder of the site that found it.
//!
//! ```text
//! rescued/<id>            one object, as JSON; id: BLAKE3 of its key and its content
//! rescued/<id>.released   empty: a person has looked
//! ```
//!
//! Until a person has looked, the keeper neither hides an object of that key nor lets its content go.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::mirror::MirrorError;
use crate::store::{Attributes, Bucket, Listed, Place, StoreError, WriteError};

const PREFIX: &str = "rescued/";
const RELEASED: &str = ".released";
/// More than a record of the longest key.
const RECORD_BYTES_MAX: u64 = 64 << 10;
/// Records read at a time.
const CONCURRENCY: usize = 16;

/// Where a rescued content lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lies {
    /// In the attic, under this name.
    Attic(String),
    /// In the bucket, as the version of this id.
    Version(String),
    /// In the bucket, under its key: there is no attic to put it into.
    Bucket,
}

/// An object that only the old live site had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescued {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written there, by that store's clock.
    pub modified: Timestamp,
    /// BLAKE3 of its content, in hexadecimal digits.
    pub blake3: String,
    /// The bucket it was found in.
    pub bucket: String,
    /// Where its content lies.
    pub lies: Lies,
    /// When it was found.
    pub found: Timestamp,
}

impl Rescued {
    /// What tells it from all others: its key and its content.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.key.len() as u64).to_le_bytes()).update(self.key.as_bytes());
        hasher.update(self.blake3.as_bytes()).finalize().to_hex().to_string()
    }
}

/// One of them as the attic tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The object.
    #[serde(flatten)]
    pub rescued: Rescued,
    /// Whether a person has looked and needs it no more.
    pub released: bool,
}

/// What the attic at `place` tells, in the order of the keys.
///
/// # Errors
/// What the store answers, and [`StoreError::Other`] for a record that is none.
pub async fn records(place: &Bucket) -> Result<Vec<Record>, StoreError> {
    let (mut ids, mut released) = (BTreeSet::new(), BTreeSet::new());
    let mut listed = place.list(Some(PREFIX));
    while let Some(listed) = listed.try_next().await? {
        let Listed::Object { key, .. } = listed else { continue };
        let Some(id) = key.strip_prefix(PREFIX) else { break };
        match id.strip_suffix(RELEASED) {
            Some(id) => released.insert(id.to_owned()),
            None => ids.insert(id.to_owned()),
        };
    }
    let read = stream::iter(ids).map(|id| {
        let released = released.contains(&id);
        async move { Ok::<_, StoreError>(Record { rescued: read(place, &id).await?, released }) }
    });
    let mut records: Vec<Record> = read.buffered(CONCURRENCY).try_collect().await?;
    records.sort_by(|one, other| (&one.rescued.key, one.rescued.found).cmp(&(&other.rescued.key, other.rescued.found)));
    Ok(records)
}

async fn read(place: &Bucket, id: &str) -> Result<Rescued, StoreError> {
    let name = format!("{PREFIX}{id}");
    let wrong = || StoreError::other(Place::key(place.name(), &name, "read"), "it is no record of a rescued object");
    let (head, body) = place.read(&name, None).await?;
    if head.version.size > RECORD_BYTES_MAX {
        return Err(wrong());
    }
    let bytes = body.try_collect::<Vec<_>>().await?.concat();
    let rescued: Rescued = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if rescued.id() == id { Ok(rescued) } else { Err(wrong()) }
}

/// Tells the attic at `place` of it.
pub(super) async fn tell(place: &Bucket, rescued: &Rescued) -> Result<(), StoreError> {
    let name = format!("{PREFIX}{}", rescued.id());
    let text = serde_json::to_vec(rescued)
        .map_err(|error| StoreError::Other { at: Place::key(place.name(), &name, "write"), source: error.into() })?;
    put(place, &name, text).await?;
    crate::failpoint::hit("mirror.rescued");
    Ok(())
}

/// A person has looked at it and needs it no more: from now on it is treated as deleted.
///
/// # Errors
/// What the store answers.
pub async fn release(place: &Bucket, rescued: &Rescued) -> Result<(), StoreError> {
    put(place, &format!("{PREFIX}{}{RELEASED}", rescued.id()), Vec::new()).await?;
    crate::failpoint::hit("mirror.rescued.released");
    Ok(())
}

async fn put(place: &Bucket, name: &str, content: Vec<u8>) -> Result<(), StoreError> {
    let bytes = Bytes::from(content);
    let size = bytes.len() as u64;
    let body = stream::iter((size > 0).then_some(Ok(bytes))).boxed();
    place.write(name, &Attributes::default(), size, body).await.map(drop).map_err(WriteError::any)
}

/// What this site has found, as its state folder `state` lists it.
///
/// # Errors
/// When the list cannot be read. A last line that was not written whole is left out: that object is found again.
pub fn rescued_here(state: &Path) -> Result<Vec<Rescued>, MirrorError> {
    let path = state.join("rescued.jsonl");
    let content = durable::read(&path).map_err(|source| MirrorError::State { path, source })?;
    // A line that was cut off within a character costs that line, not the list.
    let content = content.unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Adds a line to that list.
pub(super) fn write_down(state: &Path, rescued: &Rescued) -> Result<(), MirrorError> {
    let path = state.join("rescued.jsonl");
    let write = || {
        // A line that was cut off ends here.
        let line = format!("\n{}\n", serde_json::to_string(rescued)?);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source: std::io::Error| MirrorError::State { path: path.clone(), source })?;
    crate::failpoint::hit("mirror.rescued.listed");
    Ok(())
}
