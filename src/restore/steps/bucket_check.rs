//! Holds a recovery point's list of objects against the mirrored bucket: every object re-read and hashed.

use crate::error::Error;
use crate::mirror::attic::Attic;
use crate::mirror::published_rows;
use crate::observe::Progress;
use crate::store::Bucket;
use crate::stream::{Source, StreamKind, StreamName};
use crate::verify::object::{self, ObjectCheck};

/// Objects read at the same time.
const CONCURRENCY: usize = 8;

/// Compares `bucket` with the manifest called `name` of `source`. With an attic, what is there instead is no difference.
///
/// # Errors
/// When the manifest or the bucket cannot be read. An object that is missing or wrong is the answer, no error.
pub async fn check<S: Source>(
    bucket: &Bucket,
    attic: Option<&Attic>,
    source: &S,
    name: &str,
    progress: &Progress,
) -> Result<ObjectCheck, Error> {
    let manifest = source.read(&StreamName::new(StreamKind::Manifest, name)).await?;
    object::check(bucket, attic, published_rows(manifest), CONCURRENCY, progress).await
}
