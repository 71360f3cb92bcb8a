//! Every mirrored bucket of a site, one after the other: what `verify` looks at beside the vault, and so the job of that name.
//!
//! At the spare alone, where the buckets are close at hand. Those that the application or a store of its own writes (`shared`, `external`)
//! are looked at by name only: what was removed there since the point is no fault, and cannot be told from one.

use super::{BucketReport, BucketRequest, verify};
use crate::clock::Clock;
use crate::config::address::Topology;
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::observe::Progress;
use crate::point::{self, Share};

/// What became of one bucket.
#[derive(Debug)]
pub struct Looked {
    /// The bucket.
    pub source: SourceName,
    /// What was found, or why it could not be looked at.
    pub result: Result<BucketReport, Error>,
}

/// Looks at every mirrored bucket that the newest point has. One that cannot be looked at keeps nobody from the others. At the live
/// site, and before the first point, there is none.
///
/// # Errors
/// When the vault cannot be read.
pub async fn verify_mirrored(
    here: &Here,
    share: Share,
    dry_run: bool,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Vec<Looked>, Error> {
    let is_mirrored = |name: &String| here.site.buckets.get(name).is_some_and(|at| at.topology == Topology::Mirror);
    if here.is_live() || !here.site.buckets.keys().any(is_mirrored) {
        return Ok(Vec::new());
    }
    let points = point::list(here).await?;
    let newest = points.listing.points.last().map(|point| point.headers.as_slice()).unwrap_or_default();
    let of_newest = newest.iter().map(|(source, ..)| source);
    let mirrored = of_newest.filter(|source| source.kind == SourceKind::Bucket && is_mirrored(&source.name));
    let mut looked = Vec::new();
    for source in mirrored {
        let request = BucketRequest { name: source.name.clone(), point: None, share, dry_run };
        let result = verify(here, &request, clock, progress).await;
        looked.push(Looked { source: source.clone(), result });
    }
    Ok(looked)
}
