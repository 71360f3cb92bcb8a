//! An older point's objects that have been overwritten or hidden since: a restore of that point takes them from the attic, or from
//! the versions of the store. What it would find there is found here, and read whole.

use crate::mirror::Patience;
use crate::mirror::attic::Attic;
use crate::observe::Meter;
use crate::store::{Bucket, SourceVersion, StoreError};
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
            if let Some(bytes) = read(place, Lies::Object(&name, &version), expected, meter).await? {
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
        if let Some(bytes) = read(bucket, Lies::Version(expected.key, &id), expected, meter).await? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Where in a bucket a content may lie.
#[derive(Clone, Copy)]
enum Lies<'a> {
    /// In this object, if it is that version.
    Object(&'a str, &'a SourceVersion),
    /// In the version of that id.
    Version(&'a str, &'a str),
}

/// How many bytes were read, if they are what is expected.
async fn read(
    bucket: &Bucket,
    lies: Lies<'_>,
    expected: Wanted<'_>,
    meter: &dyn Meter,
) -> Result<Option<u64>, StoreError> {
    let (Lies::Object(key, _) | Lies::Version(key, _)) = lies;
    let mut patience = Patience::of_one_object();
    loop {
        let opened = match lies {
            Lies::Object(key, version) => bucket.read(key, Some(version)).await,
            Lies::Version(key, id) => bucket.read_version(key, id).await,
        };
        let hashed = match opened {
            Ok((_, body)) => object::hash(body, meter).await,
            Err(error) => Err(error),
        };
        match hashed {
            Ok((bytes, blake3)) => return Ok((blake3 == *expected.blake3).then_some(bytes)),
            Err(error) if patience.again(&error).await => {}
            // As to a restore, which takes the next one.
            Err(StoreError::Denied { at, .. }) if at.key.is_some() => return Ok(None),
            Err(error) if bucket.fails_alone(key, &error).await => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
