//! Writing one file so that it is whole or absent: staged in the same file system, synced, renamed, and the
//! folder it now stands in synced too.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{BLOCKS_WAITING, STAGING, head_of};
use crate::permit::Permit;
use crate::store::error::{Place, StoreError};
use crate::store::object::{Body, Head, WriteError};

/// What the writing thread is told.
enum Piece {
    Block(Bytes),
    /// The body is complete. A channel that closes without it means that the write was given up.
    End,
}

/// Writes `body` to `path`.
pub(super) async fn write(
    root: &Path,
    path: PathBuf,
    mode: Option<u32>,
    size: u64,
    mut body: Body,
    at: Place,
    permit: Permit,
) -> Result<Head, WriteError> {
    let (pieces, received) = mpsc::channel(BLOCKS_WAITING);
    let file = Staged { root: root.to_owned(), path, mode, at: at.clone(), permit };
    let written = tokio::task::spawn_blocking(move || file.write(received));
    let fed = feed(&mut body, size, &at, &pieces).await;
    drop(pieces);
    let written = written.await.map_err(|e| StoreError::Other { at: at.clone(), source: e.into() })?;
    fed?;
    match written? {
        Some(head) => Ok(head),
        None => Err(StoreError::other(at, "the body ended early").into()),
    }
}

/// Does the first half of a write and gives it up: whether there may be files, and whether one more fits.
pub(super) fn stage_and_remove(root: &Path, at: &Place) -> Result<(), StoreError> {
    let failed = |error| StoreError::of_io(at.clone(), error);
    let permit = Permit::unlimited();
    let file = Staged { root: root.to_owned(), path: root.to_owned(), mode: None, at: at.clone(), permit };
    let (mut staged, path) = file.stage().map_err(failed)?;
    let written = staged.write_all(b"x").and_then(|()| staged.sync_all());
    std::fs::remove_file(&path).map_err(failed)?;
    written.map_err(failed)
}

/// Removes a file for good. One that is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        // Where a file has taken the place of its folder, it is gone, too.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        removed => removed?,
    }
    path.parent().map_or(Ok(()), sync_folder)
}

/// Hands the body to the writing thread. Returns early, without error, when that thread has stopped: it knows why.
async fn feed(body: &mut Body, size: u64, at: &Place, pieces: &mpsc::Sender<Piece>) -> Result<(), WriteError> {
    let mut fed: u64 = 0;
    while let Some(block) = body.next().await {
        let block = block.map_err(WriteError::Body)?;
        fed += block.len() as u64;
        if pieces.send(Piece::Block(block)).await.is_err() {
            return Ok(());
        }
    }
    if fed != size {
        let why = format!("the body had {fed} bytes instead of {size}");
        return Err(WriteError::Body(StoreError::other(at.clone(), why)));
    }
    // As above.
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

/// A file on its way to `path`.
struct Staged {
    root: PathBuf,
    path: PathBuf,
    mode: Option<u32>,
    at: Place,
    permit: Permit,
}

impl Staged {
    /// `None` when the write was given up; nothing is left of it then.
    fn write(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<Option<Head>, StoreError> {
        let failed = |error| StoreError::of_io(self.at.clone(), error);
        let (mut file, staged) = self.stage().map_err(failed)?;
        let published = self.fill(&mut file, &mut pieces).map_err(failed).and_then(|complete| {
            if complete {
                self.publish(&file, &staged)?;
            }
            Ok(complete)
        });
        if !matches!(published, Ok(true))
            && let Err(error) = std::fs::remove_file(&staged)
        {
            tracing::warn!(path = %staged.display(), %error, "a staged file could not be removed");
        }
        if !published? {
            return Ok(None);
        }
        head_of(&file.metadata().map_err(failed)?, self.at.clone()).map(Some)
    }

    /// Opens a file of a name that nobody else uses. The names of a process that is gone may be in the way.
    fn stage(&self) -> io::Result<(File, PathBuf)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = self.root.join(STAGING);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder(&folder)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the body came to its end.
    fn fill(&self, file: &mut File, pieces: &mut mpsc::Receiver<Piece>) -> io::Result<bool> {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Block(block) => file.write_all(&block)?,
                Piece::End => return Ok(true),
            }
        }
        Ok(false)
    }

    fn publish(&self, file: &File, staged: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::of_io(self.at.clone(), error);
        if let Some(mode) = self.mode {
            file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        // The body may have taken its time, and what follows is what others see.
        self.permit.may_request().map_err(|source| StoreError::Withdrawn { at: self.at.clone(), source })?;
        self.put_in_place(staged).map_err(failed)
    }

    /// The same error, in words: which file it is.
    fn in_the_way(&self, error: io::Error) -> io::Error {
        let mut above = self.path.ancestors().skip(1).take_while(|path| *path != self.root);
        let file = above.find(|path| std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()));
        let Some(file) = file.and_then(|file| file.strip_prefix(&self.root).ok()) else { return error };
        let why = format!("a file, {}, stands where it needs a folder: it can come when that is gone", file.display());
        io::Error::new(error.kind(), why)
    }

    fn put_in_place(&self, staged: &Path) -> io::Result<()> {
        let parent = self.path.parent().unwrap_or(&self.root);
        if let Err(error) = std::fs::rename(staged, &self.path) {
            match error.kind() {
                io::ErrorKind::NotFound => make_folders(&self.root, parent)?,
                // Of a folder nothing is left but itself when all that was in it has been taken away.
                io::ErrorKind::IsADirectory => remove_empty(&self.path)?,
                io::ErrorKind::NotADirectory => return Err(self.in_the_way(error)),
                _ => return Err(error),
            }
            std::fs::rename(staged, &self.path)?;
        }
        sync_folder(parent)?;
        crate::failpoint::hit("store.object.write");
        Ok(())
    }
}

/// Removes a folder in which there is nothing but empty folders. What comes into it meanwhile makes it fail, and stays.
fn remove_empty(folder: &Path) -> io::Result<()> {
    let (mut waiting, mut folders) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                let why = "a folder of that name is there, and not empty: it makes room when nothing is left in it";
                return Err(io::Error::new(io::ErrorKind::IsADirectory, why));
            }
            waiting.push(entry.path());
        }
        folders.push(next);
    }
    // Each comes after the one that it lies in.
    folders.iter().rev().try_for_each(std::fs::remove_dir)
}

/// Makes the folders from `root` (not itself) down to `folder`, each durable before the next.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let below = folder.strip_prefix(root).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut path = root.to_owned();
    for name in below.components() {
        path.push(name);
        make_folder(&path)?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
