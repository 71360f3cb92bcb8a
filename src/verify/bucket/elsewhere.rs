//! An older point's objects that have been overwritten or hidden since: a restore of that point takes them from the attic, or from
//! the versions of the store. What it would find there is found here, and read whole.

use crate::mirror::attic::Attic;
use crate::observe::Meter;
use crate::store::{Body, Bucket, Head, StoreError};
use crate::verify::object;

/// What an object was.
#[derive(Clone, Copy)]
pub(in crate::verify) struct Wanted<'a> {
    pub(in crate::verify) key: &'a str,
    pub(in crate::verify) size: u64,
    pub(in crate::verify) blake3: &'a blake3::Hash,
}

/// How many bytes were read of the content that is `expected`; `None` where it is not kept beside `bucket`.
///
/// # Errors
/// When a store does not answer.
pub(in crate::verify) async fn kept(
    bucket: &Bucket,
    attic: &Attic,
    expected: Wanted<'_>,
    meter: &dyn Meter,
) -> Result<Option<u64>, StoreError> {
    if let Some(place) = attic.place() {
        for (name, version) in attic.find(expected.blake3, expected.size).await? {
            if let Some(bytes) = read(place.read(&name, Some(&version)).await, expected, meter).await? {
                return Ok(Some(bytes));
            }
        }
    }
    let versions = match bucket.versions_of(expected.key).await {
        // A right of its own; without it the versions are as if they were not there, as to a restore.
        Err(StoreError::Denied { .. }) => Vec::new(),
        answer => answer?,
    };
    for (id, _) in versions.into_iter().filter(|(_, size)| *size == expected.size) {
        if let Some(bytes) = read(bucket.read_version(expected.key, &id).await, expected, meter).await? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// How many bytes were read, if they are what is expected.
async fn read(
    opened: Result<(Head, Body), StoreError>,
    expected: Wanted<'_>,
    meter: &dyn Meter,
) -> Result<Option<u64>, StoreError> {
    let hashed = match opened {
        Ok((_, body)) => object::hash(body, meter).await,
        Err(error) => Err(error),
    };
    match hashed {
        Ok((bytes, blake3)) => Ok((blake3 == *expected.blake3).then_some(bytes)),
        Err(StoreError::Changed { .. }) => Ok(None),
        Err(error) if error.is_of_object() => Ok(None),
        // As to a restore, which takes the next one.
        Err(StoreError::NotFound { at } | StoreError::Denied { at, .. }) if at.key.is_some() => Ok(None),
        Err(error) => Err(error),
    }
}
