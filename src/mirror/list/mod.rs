//! The listing of a source: every key once, in the order of the keys, as fast as its store gives them.
//!
//! A bucket is listed in many ranges at once; they are given on one after the other, so that whoever joins them with
//! the manifest sees one sorted listing. The bounds of the ranges come from the manifest of the pass before, whose keys tell
//! where the keys of this one are. Without one there is a single range, and a lister that has nothing to do takes over the half of
//! a range that another is busy with ([`board`]). What was listed and not yet taken is limited: memory does not grow with the bucket,
//! nor with the manifest. A folder has no pages; its own walk is sorted and quick.
//!
//! A range that cannot be listed is a hole: it is told, and nothing in it is taken for gone. A store that does not sort
//! ([`order`]) is listed whole and sorted here ([`sort`]).

mod board;
mod midpoint;
mod order;
mod quantiles;
mod ranges;
mod sort;

use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{BoxStream, TryReadyChunksError};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{Limits, MirrorError};
use crate::store::{Listed, ReadOnly};

pub(super) use order::Order;

/// How many ranges are listed at once.
const LISTERS: usize = 8;

/// How many entries a part has at most where the store gives them one by one.
const PART_ENTRIES: usize = 256;

/// Entries of a listing, side by side, or a hole in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Listed(Vec<Listed>),
    Unlisted(Unlisted),
}

/// A range of keys that could not be listed. What is in it is not known; nothing of it is taken for gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unlisted {
    /// The last key before it; absent when it is the beginning.
    pub after: Option<String>,
    /// Its last key, which need not exist; absent when it goes on to the end.
    pub until: Option<String>,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for Unlisted {
    /// A sentence, as a person reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.after {
            None => write!(f, "the keys from the first")?,
            Some(after) => write!(f, "the keys after {after:?}")?,
        }
        match &self.until {
            None => write!(f, " to the last")?,
            Some(until) => write!(f, " up to {until:?}")?,
        }
        write!(f, " could not be listed: {}", self.why)
    }
}

/// The listing of `source`, for the state folder `folder` with the finished manifest `manifest`.
///
/// # Errors
/// [`MirrorError::Unsorted`] when the source does not sort and `order` says that it does: then list once more, in
/// [`Order::Unsorted`]. Any other error is one of the whole source.
pub(super) fn entries(
    source: &ReadOnly,
    order: Order,
    limits: &Arc<Limits>,
    folder: &Path,
    manifest: &Path,
) -> BoxStream<'static, Result<Part, MirrorError>> {
    match order {
        Order::Unsorted => sort::sorted(source.clone(), folder.join("sort")).boxed(),
        Order::Sorted if source.lists_in_pages() => {
            ranges::listed(source.clone(), Arc::clone(limits), quantiles::keys(manifest), LISTERS).boxed()
        }
        Order::Sorted => in_parts(source.list(None).map_err(MirrorError::from)).boxed(),
    }
}

/// What comes one by one, in parts of what is there already. An error comes after what came before it.
fn in_parts(
    listing: impl Stream<Item = Result<Listed, MirrorError>> + Send,
) -> impl Stream<Item = Result<Part, MirrorError>> + Send {
    listing
        .try_ready_chunks(PART_ENTRIES)
        .flat_map(|part| match part {
            Ok(listed) => stream::iter([Some(Ok(Part::Listed(listed))), None]),
            Err(TryReadyChunksError(listed, error)) => stream::iter([Some(Ok(Part::Listed(listed))), Some(Err(error))]),
        })
        .filter_map(std::future::ready)
}
