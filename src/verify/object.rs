//! Whether a bucket holds what a recovery point says it holds: every object is read again and hashed.
//!
//! Objects that the bucket has besides are no difference: a mirror keeps what its source has deleted.

use futures_util::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::bucket::elsewhere::{Wanted, kept};
use crate::error::Error;
use crate::mirror::attic::Attic;
use crate::mirror::{Kept, PublishedRow, Then, Trying};
use crate::observe::{Meter, Progress};
use crate::store::{Body, Bucket, StoreError, WriteError};

/// So many are asked for before it is said that none may be read.
const DENIED_MAX: u64 = 100;

/// What a check of a bucket found.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectCheck {
    /// Objects looked at: all that the recovery point names.
    pub checked: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
    /// Of those looked at: what stands beside the bucket, in its attic or among its versions, and not in its place any more.
    pub beside: u64,
    /// Where the bucket differs; none is the proof.
    pub differences: Kept<ObjectDifference>,
}

/// One object that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectDifference {
    /// The bucket, as a person knows it.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// In what it differs.
    pub what: ObjectFault,
}

/// In what an object differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectFault {
    /// It is not there.
    Missing,
    /// The bucket can hold no object of this key.
    NotCarried {
        /// What stands against it.
        why: String,
    },
    /// It is there and its content cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
    /// Its size is another.
    Size {
        /// As recorded, in bytes.
        expected: u64,
        /// As it is, in bytes.
        found: u64,
    },
    /// Its size is right and its content is not.
    Content {
        /// BLAKE3 as recorded, in hexadecimal.
        expected: String,
        /// BLAKE3 of what was read, in hexadecimal.
        found: String,
    },
}

impl std::fmt::Display for ObjectDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "object {:?} in {} ", self.key, self.bucket)?;
        match &self.what {
            ObjectFault::Missing => write!(f, "is missing"),
            ObjectFault::NotCarried { why } => write!(f, "cannot be stored there: {why}"),
            ObjectFault::Unreadable { why } => write!(f, "cannot be read: {why}"),
            ObjectFault::Size { expected, found } => write!(f, "has {found} bytes instead of {expected}"),
            ObjectFault::Content { expected, found } => write!(f, "has the BLAKE3 {found} instead of {expected}"),
        }
    }
}

/// Reads every object of `rows` in `bucket`, `concurrency` at a time, and compares size and BLAKE3. With an attic, what was
/// overwritten or hidden since is read where a restore in place would take it from, and is no difference.
///
/// # Errors
/// The first error of the rows, and what stands against reading any object: no answer, no right to read a single one.
pub async fn check<R>(
    bucket: &Bucket,
    attic: Option<&Attic>,
    rows: R,
    concurrency: usize,
    progress: &Progress,
) -> Result<ObjectCheck, Error>
where
    R: Stream<Item = Result<PublishedRow, Error>> + Send,
{
    let meter = progress.begin("check objects", None);
    let looked = rows.map_ok(|row| look(bucket, attic, row, &*meter)).try_buffered(concurrency.max(1));
    let mut looked = std::pin::pin!(looked);
    let (mut check, mut may_read, mut refused) = (ObjectCheck::default(), false, None);
    while let Some(Looked { bytes, is_beside, difference, denied }) = looked.try_next().await? {
        may_read |= denied.is_none();
        refused = refused.or(denied);
        check.checked += 1;
        check.bytes += bytes;
        check.beside += u64::from(is_beside);
        if let Some(difference) = difference {
            check.differences.push(difference);
        }
        if check.checked >= DENIED_MAX && !may_read {
            break;
        }
    }
    if let (Some(error), false) = (refused, may_read) {
        // That says something of the credential, and nothing of the objects.
        return Err(error.into());
    }
    meter.finish(&format!("{} objects read, {} differ", check.checked, check.differences.total));
    Ok(check)
}

/// What came of looking at one object.
struct Looked {
    bytes: u64,
    is_beside: bool,
    difference: Option<ObjectDifference>,
    /// That it may not be read.
    denied: Option<StoreError>,
}

/// What was found of one object.
enum Found {
    /// Its length and BLAKE3.
    Content(u64, blake3::Hash),
    Fault(ObjectFault),
    Denied(StoreError),
}

async fn look(bucket: &Bucket, attic: Option<&Attic>, row: PublishedRow, meter: &dyn Meter) -> Result<Looked, Error> {
    let (bytes, fault, denied) = match find(bucket, &row, meter).await? {
        Found::Content(bytes, _) if bytes != row.size => {
            (bytes, Some(ObjectFault::Size { expected: row.size, found: bytes }), None)
        }
        Found::Content(bytes, blake3) if blake3 != row.blake3 => {
            let (expected, found) = (row.blake3.to_string(), blake3.to_string());
            (bytes, Some(ObjectFault::Content { expected, found }), None)
        }
        Found::Content(bytes, _) => (bytes, None, None),
        Found::Fault(fault) => (0, Some(fault), None),
        Found::Denied(error) => (0, Some(ObjectFault::Unreadable { why: error.to_string() }), Some(error)),
    };
    if let (Some(_), Some(attic)) = (&fault, attic) {
        let wanted = Wanted { key: &row.key, size: row.size, blake3: &row.blake3 };
        if let Some(more) = kept(bucket, attic, wanted, meter).await? {
            return Ok(Looked { bytes: bytes + more, is_beside: true, difference: None, denied: None });
        }
    }
    let difference = fault.map(|what| ObjectDifference { bucket: bucket.name().to_owned(), key: row.key, what });
    Ok(Looked { bytes, is_beside: false, difference, denied })
}

/// Reads an object, as often as the mirror would.
async fn find(bucket: &Bucket, row: &PublishedRow, meter: &dyn Meter) -> Result<Found, StoreError> {
    let mut trying = Trying::of(bucket);
    loop {
        match read(bucket, row, meter).await {
            Ok((bytes, blake3)) => return Ok(Found::Content(bytes, blake3)),
            Err(error @ StoreError::Unavailable { .. }) => {
                if let Then::Leave(why) = trying.after(WriteError::Body(error)).await? {
                    return Ok(Found::Fault(ObjectFault::Unreadable { why: why.unwrap_or_default() }));
                }
            }
            Err(error @ StoreError::Denied { .. }) if error.place().key.is_some() => return Ok(Found::Denied(error)),
            Err(error) => return fault(bucket, &row.key, error).await.map(Found::Fault),
        }
    }
}

/// The length and BLAKE3 of an object. One of another size than recorded is not read: its size says it all.
async fn read(bucket: &Bucket, row: &PublishedRow, meter: &dyn Meter) -> Result<(u64, blake3::Hash), StoreError> {
    let (head, body) = bucket.read(&row.key, None).await?;
    if head.version.size != row.size {
        return Ok((head.version.size, blake3::hash(b"")));
    }
    hash(body, meter).await
}

pub(super) async fn hash(mut body: Body, meter: &dyn Meter) -> Result<(u64, blake3::Hash), StoreError> {
    let mut hasher = blake3::Hasher::new();
    while let Some(block) = body.try_next().await? {
        hasher.update(&block);
        meter.advance(block.len() as u64);
    }
    Ok((hasher.count(), hasher.finalize()))
}

/// What the error that looking at the object `key` ended with says about it; one that it returns stands against looking at any.
pub(super) async fn fault(bucket: &Bucket, key: &str, error: StoreError) -> Result<ObjectFault, StoreError> {
    match error {
        StoreError::NotFound { ref at } if at.key.is_some() => Ok(ObjectFault::Missing),
        StoreError::BadKey { why, .. } => Ok(ObjectFault::NotCarried { why }),
        StoreError::Changed { .. } => Ok(ObjectFault::Unreadable { why: "it changed while it was read".to_owned() }),
        StoreError::Archived { why, .. } => Ok(ObjectFault::Unreadable { why: format!("it is archived ({why})") }),
        error if bucket.fails_alone(key, &error).await => Ok(ObjectFault::Unreadable {
            why: match error {
                StoreError::Other { source, .. } | StoreError::Unavailable { source, .. } => source.to_string(),
                error => error.to_string(),
            },
        }),
        error => Err(error),
    }
}
