//! Which run of this site was begun last. Only that one is gone on with after a kill: what an earlier one has loaded holds no longer,
//! because the later one puts other things in the same places.

use std::path::Path;

use super::error::RestoreError;
use super::journal::Journal;
use crate::config::Here;
use crate::durable;
use crate::error::Error;
use crate::failpoint;

/// The name of the run that was begun last.
pub(super) fn latest(here: &Here) -> Result<Option<String>, RestoreError> {
    let path = here.site.state.join("restores/latest");
    let name = durable::read(&path).map_err(|source| RestoreError::Folder { path, source })?;
    Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
}

/// The run that was begun last, and its journal, if it has one.
pub(super) fn begun_last(here: &Here) -> Result<Option<(String, Journal)>, Error> {
    let Some(name) = latest(here)? else { return Ok(None) };
    let path = here.site.state.join("restores").join(&name).join("journal.jsonl");
    Ok(Journal::look(&path)?.map(|journal| (name, journal)))
}

/// Writes down that the run in `folder` was begun last: from here on no earlier one is gone on with.
pub(super) fn set_latest(here: &Here, folder: &Path) -> Result<(), RestoreError> {
    let path = here.site.state.join("restores/latest");
    let name = folder.file_name().unwrap_or_default();
    durable::replace(&path, name.as_encoded_bytes()).map_err(|source| RestoreError::Folder { path, source })?;
    failpoint::hit("restore.latest");
    Ok(())
}
