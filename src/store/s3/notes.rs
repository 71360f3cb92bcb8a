//! Which uploads in parts are under way, noted down so that the next process goes on with them.
//!
//! A note says which upload; what is in it the server is asked. So a note that is lost costs sending a few parts again, and
//! an old one is found out. A note is as old as the last part that the server took: one that nobody goes on with grows old.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::store::error::{Place, StoreError};
use crate::store::object::Attributes;

/// The folder of the notes.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    folder: PathBuf,
}

/// One upload, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateFile {
    /// The bucket, as a person knows it.
    pub(super) bucket: String,
    /// The full key.
    pub(super) key: String,
    /// The server's name for the upload.
    pub(super) id: String,
    /// The size of the object.
    pub(super) size: u64,
    /// The size of its parts.
    pub(super) part_bytes: u64,
    /// A digest of what was told to stand beside it: that cannot be changed any more.
    pub(super) beside: String,
}

impl StateFile {
    /// Whether an upload of this object is this one.
    pub(super) fn is_of(&self, attributes: &Attributes, size: u64, part_bytes: u64) -> bool {
        (self.size, self.part_bytes) == (size, part_bytes) && self.beside == digest(attributes)
    }
}

/// What tells two sets of attributes apart, for as long as an upload lasts.
pub(super) fn digest(attributes: &Attributes) -> String {
    blake3::hash(format!("{attributes:?}").as_bytes()).to_hex().to_string()
}

impl Notes {
    pub(super) fn new(folder: &Path) -> Self {
        Notes { folder: folder.to_owned() }
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.join(blake3::hash(format!("{bucket}\n{key}").as_bytes()).to_hex().as_str())
    }

    /// The upload of this key that is under way. A note that cannot be read is none.
    pub(super) fn find(&self, bucket: &str, key: &str) -> Result<Option<StateFile>, StoreError> {
        let path = self.path(bucket, key);
        let content = durable::read(&path).map_err(|error| failed(&path, "read", error))?;
        let note: Option<StateFile> = content.and_then(|content| serde_json::from_slice(&content).ok());
        Ok(note.filter(|note| (note.bucket.as_str(), note.key.as_str()) == (bucket, key)))
    }

    pub(super) fn write(&self, note: &StateFile) -> Result<(), StoreError> {
        let path = self.path(&note.bucket, &note.key);
        let written = || {
            std::fs::create_dir_all(&self.folder)?;
            durable::replace(&path, &serde_json::to_vec(note)?)
        };
        written().map_err(|error| failed(&path, "write", error))?;
        crate::failpoint::hit("store.upload.noted");
        Ok(())
    }

    /// Says that the upload of this key is gone on with just now.
    pub(super) fn touch(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
        let path = self.path(bucket, key);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        match utimensat(CWD, &path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty()) {
            // Whoever removed it: the upload goes on, and the next process begins it anew.
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(&path, "write", error.into())),
        }
    }

    pub(super) fn remove(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        let path = self.path(bucket, key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, "remove", error)),
            _ => Ok(()),
        }
    }

    /// The uploads to this bucket that nobody has gone on with since `before`.
    pub(super) fn older(&self, bucket: &str, before: Timestamp) -> Result<Vec<StateFile>, StoreError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed(&self.folder, "read", error))?,
        };
        let mut notes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(&self.folder, "read", error))?;
            let path = entry.path();
            let modified = entry.metadata().and_then(|about| about.modified());
            let modified = modified.map_err(|error| failed(&path, "read", error))?;
            if Timestamp::try_from(modified).is_ok_and(|modified| modified >= before) {
                continue;
            }
            let content = durable::read(&path).map_err(|error| failed(&path, "read", error))?;
            let note: Option<StateFile> = content.and_then(|content| serde_json::from_slice(&content).ok());
            notes.extend(note.filter(|note| note.bucket == bucket));
        }
        Ok(notes)
    }
}

fn failed(path: &Path, operation: &'static str, error: io::Error) -> StoreError {
    StoreError::of_io(Place::store(&path.display().to_string(), operation), error)
}
