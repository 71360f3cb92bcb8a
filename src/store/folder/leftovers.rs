//! The files that writers which were killed left in the staging folder.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use crate::store::error::{Place, StoreError};

/// Removes the staged files that nobody has written to since `before`. One that vanishes meanwhile is its writer's.
pub(super) fn sweep(staging: &Path, before: Timestamp, at: Place) -> Result<(), StoreError> {
    let failed = |error| StoreError::of_io(at.clone(), error);
    let entries = match std::fs::read_dir(staging) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let stale = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.is_file() && metadata.mtime() < before.as_second(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        if stale {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => tracing::info!(path = %path.display(), "removed what a killed writer had left"),
            }
        }
    }
    Ok(())
}
