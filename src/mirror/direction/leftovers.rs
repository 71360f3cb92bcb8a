//! What the target has and the live bucket has not: deleted since, or never there.
//!
//! After the first pass of a direction. What a point names under that key was deleted at the new live site, and goes the way of
//! everything deleted. The rest was written at the old one after its last point: it is rescued.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};

use super::{Entry, Named, Reference, Rescue, listed};
use crate::mirror::attic::hash_of;
use crate::mirror::list::Order;
use crate::mirror::manifest::Rows;
use crate::mirror::{Limits, MirrorError, manifest_path};
use crate::store::{Bucket, Listed, StoreError};

/// Objects read at a time.
const CONCURRENCY: usize = 8;

/// Rescues what `target` has beside the manifest in the folder `state` and no point names.
pub(in crate::mirror) async fn rescue_leftovers(
    rescue: &Rescue<'_>,
    target: &Bucket,
    state: &Path,
    limits: &Arc<Limits>,
) -> Result<(), MirrorError> {
    match in_order(rescue, target, state, limits, Order::Sorted).await {
        Err(MirrorError::Unsorted { .. }) => in_order(rescue, target, state, limits, Order::Unsorted).await,
        done => done,
    }
}

async fn in_order(
    rescue: &Rescue<'_>,
    target: &Bucket,
    state: &Path,
    limits: &Arc<Limits>,
    order: Order,
) -> Result<(), MirrorError> {
    let mut rows = Rows::open(&manifest_path(state))?.map(|(_, rows)| rows).into_iter().flatten().peekable();
    let (mut reference, mut last) = (Reference::open(state)?, None::<String>);
    let others = listed(target, state, limits, order).map(move |entry| {
        let key = match entry? {
            Entry::Listed(Listed::Object { key, .. }) => key,
            Entry::Listed(Listed::Skipped(_)) => return Ok(None),
            // What is in it may be the only one there is.
            Entry::Unlisted(first) => return Err(MirrorError::Unlisted { holes: 1, first }),
        };
        if let Some(before) = last.replace(key.clone()).filter(|last| *last >= key) {
            return Err(MirrorError::Unsorted { bucket: target.name().to_owned(), before, after: key });
        }
        while rows.next_if(|row| row.as_ref().is_ok_and(|row| row.key < key)).is_some() {}
        match rows.next_if(|row| row.as_ref().map_or(true, |row| row.key == key)).transpose()? {
            Some(_) => Ok(None),
            None => Ok(Some((reference.at(&key)?, key))),
        }
    });
    let others = others.try_filter_map(|other| std::future::ready(Ok(other)));
    let looked = others.map(|other| async move {
        let (named, key) = other?;
        look(rescue, target, &key, named, limits).await
    });
    looked.buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await.map(drop)
}

async fn look(
    rescue: &Rescue<'_>,
    target: &Bucket,
    key: &str,
    named: Named,
    limits: &Arc<Limits>,
) -> Result<(), MirrorError> {
    limits.requests(2).await;
    let gone = |at: &crate::store::Place| at.key.is_some();
    let head = match target.head(key).await {
        Err(StoreError::NotFound { at }) if gone(&at) => return Ok(()),
        answer => answer?,
    };
    limits.bytes(head.version.size).await;
    match hash_of(target, key, &head.version).await {
        Err(StoreError::NotFound { at }) if gone(&at) => Ok(()),
        Ok(blake3) if named.knows(&blake3) => Ok(()),
        Ok(blake3) => rescue.rescue(key, &head, blake3).await,
        Err(error) => Err(error.into()),
    }
}
