//! The sorted listing of a folder: depth first, one directory in memory per level.
//!
//! Keys are sorted as whole strings, so a directory sorts with its slash: `a-b` before `a/b` before `a0`.

use std::ffi::OsString;
use std::fs::{DirEntry, FileType};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use tokio::sync::mpsc;

use super::{Folder, STAGING, version_of};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Found, Listed, Skipped};

type Entries = mpsc::Sender<Result<Listed, StoreError>>;

/// Sends every file after `after`, sorted by key; ends with the first error, or when nobody listens any more.
pub(super) fn send_sorted(folder: &Folder, after: Option<&str>, entries: &Entries) {
    let walk = Walk { folder, after, entries };
    // Break means that the receiver is gone or has been sent an error: either way there is nothing left to say.
    let _ = walk.directory(&folder.root, "");
}

struct Walk<'a> {
    folder: &'a Folder,
    after: Option<&'a str>,
    entries: &'a Entries,
}

/// One name of a directory. Ordered by how its keys sort.
struct Named {
    name: OsString,
    kind: FileType,
}

impl Named {
    /// The bytes by which its keys sort among those of its directory.
    fn order(&self) -> impl Iterator<Item = u8> + '_ {
        self.name.as_bytes().iter().copied().chain(self.kind.is_dir().then_some(b'/'))
    }
}

impl Walk<'_> {
    fn directory(&self, path: &Path, prefix: &str) -> ControlFlow<()> {
        let named = match sorted_names(path) {
            Ok(named) => named,
            // Removed since its parent was read: it has no objects. The root itself must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => {
                return ControlFlow::Continue(());
            }
            Err(error) => return self.fail(prefix, error),
        };
        for entry in &named {
            self.entry(path, prefix, entry)?;
        }
        ControlFlow::Continue(())
    }

    fn entry(&self, path: &Path, prefix: &str, entry: &Named) -> ControlFlow<()> {
        if prefix.is_empty() && entry.name == STAGING {
            return ControlFlow::Continue(());
        }
        let Some(name) = entry.name.to_str() else {
            let name = format!("{prefix}{}", entry.name.as_bytes().escape_ascii());
            return self.send(Listed::Skipped(Skipped { name, why: "its name is not UTF-8".to_owned() }));
        };
        let key = format!("{prefix}{name}");
        if entry.kind.is_dir() {
            let below = key + "/";
            // All of its keys start with `below`: they all come before `after`, unless that one does too.
            let passed = self.after.is_some_and(|after| below.as_str() <= after && !after.starts_with(&below));
            return if passed { ControlFlow::Continue(()) } else { self.directory(&path.join(name), &below) };
        }
        if self.after.is_some_and(|after| key.as_str() <= after) {
            return ControlFlow::Continue(());
        }
        match why_skipped(entry.kind) {
            Some(why) => self.send(Listed::Skipped(Skipped { name: key, why: why.to_owned() })),
            None => self.file(&path.join(name), key),
        }
    }

    fn file(&self, path: &Path, key: String) -> ControlFlow<()> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => self.send(Listed::Object { key, version: version_of(&metadata) }),
            // Removed or replaced since its directory was read: the next listing sees what it is now.
            Ok(_) => ControlFlow::Continue(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => ControlFlow::Continue(()),
            Err(error) => self.fail(&key, error),
        }
    }

    fn send(&self, listed: Listed) -> ControlFlow<()> {
        match self.entries.blocking_send(Ok(listed)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn fail(&self, name: &str, error: io::Error) -> ControlFlow<()> {
        let at = match name {
            "" => Place::store(&self.folder.name, "list"),
            _ => Place::key(&self.folder.name, name, "list"),
        };
        // A receiver that is gone asked for nothing more.
        let _ = self.entries.blocking_send(Err(StoreError::of_io(at, error)));
        ControlFlow::Break(())
    }
}

/// What stands under `key`, as the walk meets it: a link on the way is not followed.
pub(super) fn find(root: &Path, key: &str, at: Place) -> Result<Found, StoreError> {
    let mut path = root.to_owned();
    for name in key.split('/') {
        path.push(name);
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Found::Nothing);
            }
            answer => answer.map_err(|error| StoreError::of_io(at.clone(), error))?,
        };
        if metadata.is_dir() {
            continue;
        }
        return match why_skipped(metadata.file_type()) {
            Some(what) => Ok(Found::Other(what)),
            // Below a file there is nothing.
            None if path != root.join(key) => Ok(Found::Nothing),
            None => Ok(Found::Object(version_of(&metadata))),
        };
    }
    // A directory has the place of the object, and keys of its own.
    Ok(Found::Nothing)
}

fn sorted_names(path: &Path) -> io::Result<Vec<Named>> {
    let named = |entry: DirEntry| Ok(Named { kind: entry.file_type()?, name: entry.file_name() });
    let mut names = std::fs::read_dir(path)?.map(|entry| named(entry?)).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| a.order().cmp(b.order()));
    Ok(names)
}

fn why_skipped(kind: FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_symlink() => Some("it is a symbolic link"),
        _ if kind.is_fifo() => Some("it is a named pipe"),
        _ if kind.is_socket() => Some("it is a socket"),
        _ => Some("it is a device"),
    }
}
