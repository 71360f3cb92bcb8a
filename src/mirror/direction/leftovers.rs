//! What the target has and the live bucket has not: deleted since, or never there.
//!
//! After the first pass of a direction. What a point names under that key was deleted at the new live site, and goes the way of
//! everything deleted. The rest was written at the old one after its last point: it is rescued. One that cannot be read keeps nobody from
//! the others: it stays where it is, and is looked at again by the next pass.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};

use super::{Entry, Named, Reference, Rescue, listed};
use crate::mirror::attic::hash_patiently;
use crate::mirror::copy::alone;
use crate::mirror::list::Order;
use crate::mirror::manifest::Rows;
use crate::mirror::{FailedObject, Limits, MirrorError, manifest_path};
use crate::store::{Bucket, Listed, StoreError};

/// Objects read at a time.
const CONCURRENCY: usize = 8;

/// Rescues what `target` has beside the manifest in the folder `state` and no point names. Which of it could not be looked at, or not
/// be rescued.
pub(in crate::mirror) async fn rescue_leftovers(
    rescue: &Rescue<'_>,
    target: &Bucket,
    state: &Path,
    limits: &Arc<Limits>,
) -> Result<Vec<FailedObject>, MirrorError> {
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
) -> Result<Vec<FailedObject>, MirrorError> {
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
    let unseen = looked.buffer_unordered(CONCURRENCY).try_filter_map(|unseen| std::future::ready(Ok(unseen)));
    unseen.try_collect().await
}

/// Looks at the object `key`; what stands against that, or against rescuing it.
async fn look(
    rescue: &Rescue<'_>,
    target: &Bucket,
    key: &str,
    named: Named,
    limits: &Arc<Limits>,
) -> Result<Option<FailedObject>, MirrorError> {
    let looked = async {
        limits.requests(2).await;
        let head = target.head(key).await?;
        limits.bytes(head.version.size).await;
        let blake3 = hash_patiently(target, key, &head.version).await?;
        if !named.knows(&blake3) {
            rescue.rescue(key, &head, blake3).await?;
        }
        Ok(())
    };
    match looked.await {
        Ok(()) => Ok(None),
        // It was removed just now.
        Err(MirrorError::Store(StoreError::NotFound { at })) if at.key.as_deref() == Some(key) => Ok(None),
        Err(MirrorError::Store(error)) if target.fails_alone(key, &error).await => {
            let why = format!("only {} may have what stands there: {}", target.name(), alone(&error));
            Ok(Some(FailedObject { key: key.to_owned(), why }))
        }
        Err(error) => Err(error),
    }
}
