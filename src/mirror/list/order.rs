//! Whether a source sorts. Most do; directory buckets of S3 do not, and that shows only when a listing goes wrong.
//!
//! What was found is remembered in the state folder, so that the next pass begins with what works.

use std::io;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::mirror::MirrorError;

/// The order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::mirror) enum Order {
    /// By the bytes of the keys.
    #[default]
    Sorted,
    /// None that can be relied on.
    Unsorted,
}

/// What the file says; its being there is what counts.
const WORDS: &[u8] = b"This source was found to list its keys unsorted. Its listings are sorted here.\n";

impl Order {
    /// What the passes before found.
    pub(in crate::mirror) fn remembered(folder: &Path) -> Result<Self, MirrorError> {
        let path = place(folder);
        let found = durable::read(&path).map_err(|source| MirrorError::State { path, source })?;
        Ok(if found.is_some() { Order::Unsorted } else { Order::Sorted })
    }

    /// Tells the passes to come.
    pub(in crate::mirror) fn remember(self, folder: &Path) -> Result<(), MirrorError> {
        let path = place(folder);
        let done = match self {
            Order::Unsorted => durable::replace(&path, WORDS),
            Order::Sorted => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        done.map_err(|source| MirrorError::State { path, source })?;
        crate::failpoint::hit("mirror.order");
        Ok(())
    }
}

fn place(folder: &Path) -> PathBuf {
    folder.join("unsorted")
}
