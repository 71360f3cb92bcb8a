//! Holds a recovery point's list of objects against the mirrored bucket: every object re-read and hashed.

use futures_util::stream::{self, Stream, TryStreamExt};

use crate::error::Error;
use crate::mirror::{PublishedParser, PublishedRow};
use crate::observe::Progress;
use crate::store::Bucket;
use crate::stream::{Source, SourceStream, StreamKind, StreamName};
use crate::verify::object::{self, ObjectCheck};

/// Objects read at the same time.
const CONCURRENCY: usize = 8;

/// Compares `bucket` with the manifest called `name` of `source`.
///
/// # Errors
/// When the manifest or the bucket cannot be read. An object that is missing or wrong is the answer, no error.
pub async fn check<S: Source>(
    bucket: &Bucket,
    source: &S,
    name: &str,
    progress: &Progress,
) -> Result<ObjectCheck, Error> {
    let manifest = source.read(&StreamName::new(StreamKind::Manifest, name)).await?;
    object::check(bucket, rows(manifest), CONCURRENCY, progress).await
}

/// The rows of a manifest as its bytes arrive; the last one comes only if the whole is what was captured.
fn rows<T: SourceStream>(manifest: T) -> impl Stream<Item = Result<PublishedRow, Error>> + Send {
    let blocks = stream::try_unfold(Some((manifest, PublishedParser::default())), |state| async move {
        let Some((mut manifest, mut parser)) = state else { return Ok::<_, Error>(None) };
        match manifest.next().await? {
            Some(block) => {
                let rows = parser.feed(&block)?;
                Ok(Some((rows, Some((manifest, parser)))))
            }
            None => {
                parser.finish()?;
                Ok(Some((Vec::new(), None)))
            }
        }
    });
    blocks.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten()
}
