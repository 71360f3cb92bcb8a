//! What has changed in a bucket since a point: the mirror's count then, which the point records, and its count now.

use std::sync::Arc;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::Value;

use super::buckets::{address, bucket_of, mirror_folder};
use crate::config::address::Topology;
use crate::config::{Here, SourceName};
use crate::error::Error;
use crate::mirror::{self, Changed, Followed, MirrorError};
use crate::store::ReadOnly;

/// What of a bucket's facts says how many changes its mirror had followed.
pub(super) const FOLLOWED: &str = "followed";

/// How many changes the mirror of a bucket had followed when the point was taken of which these are the `facts`; nothing where that was
/// not counted.
pub fn followed(facts: &Value) -> Option<Followed> {
    // What another release wrote differently is not known.
    Followed::deserialize(facts.get(FOLLOWED)?).ok()
}

/// What has changed in the bucket `source` of this site, the live one; nothing where both sites use it, for then it is not lost with one
/// of them. It is listed once; nothing is written, and the other site's is not asked.
///
/// # Errors
/// As [`mirror::changed`]; [`MirrorError::Uncounted`] of one that its store replicates.
pub async fn changed(here: &Here, source: &SourceName) -> Result<Option<Changed>, Error> {
    let own = address(&here.site, source)?;
    match own.topology {
        Topology::Shared => return Ok(None),
        Topology::External => {
            let why = "its store replicates it, and what has not arrived at the other site is not known here";
            return Err(MirrorError::Uncounted { bucket: own.url.to_string(), why }.into());
        }
        Topology::Mirror => {}
    }
    let from = ReadOnly::new(bucket_of(here, &here.site, source)?);
    let to = bucket_of(here, &here.other, source)?;
    let limits = Arc::new(mirror::Limits::configured(here.config.mirror.limits.clone()));
    let folder = mirror_folder(here, source);
    Ok(Some(mirror::changed(&from, own.canary.as_deref(), &to, &folder, &limits).boxed().await?))
}
