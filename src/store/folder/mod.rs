//! A bucket that is a folder: `artifacts/a/b` is the object `a/b`.
//!
//! Only regular files are objects. Symbolic links and special files are reported and never followed. Bytes
//! and permission bits are what a folder keeps; content headers and user metadata of an S3 bucket it cannot.
//!
//! A folder lets other programs write while we read. A version is therefore size, mtime *and* ctime, checked
//! on the open file before the first byte and after the last.

mod leftovers;
mod walk;
mod write;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::error::{Place, StoreError, folder_name};
use super::object::{Attributes, Body, Found, Head, Keeps, Listed, Names, Original, SourceVersion, WriteError};
use crate::permit::Permit;

/// Where writes stage their files, below the root; never listed, and no key of an object.
const STAGING: &str = ".warmspare-tmp";
/// How much of a file is read at a time.
const BLOCK_BYTES: u64 = 256 << 10;
/// How many blocks of one file may wait for whoever reads them.
const BLOCKS_WAITING: usize = 4;
/// How many entries of a listing may wait for whoever reads them.
const ENTRIES_WAITING: usize = 1_024;
/// The longest name of one file, and the longest path, that Linux takes.
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4_095;
/// What changed later than this before a listing may change again unseen.
const RACY_NS: i128 = 2_000_000_000;

/// What a folder keeps besides content.
pub(super) const KEEPS: Keeps = Keeps { headers: false, expires: false, metadata: Names::Any, tags: false, mode: true };

/// A folder of this host.
#[derive(Clone, Debug)]
pub struct Folder {
    root: Arc<Path>,
    name: Arc<str>,
    permit: Permit,
}

impl Folder {
    /// Opens a folder that exists. A missing one is not created: it may be a disk that is not mounted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let folder = Folder { root: root.into(), name: folder_name(root).into(), permit: Permit::unlimited() };
        let at = || Place::store(&folder.name, "open");
        let is_folder = std::fs::metadata(root).map_err(|e| StoreError::of_io(at(), e))?.is_dir();
        if !is_folder {
            return Err(StoreError::of_io(at(), io::ErrorKind::NotADirectory.into()));
        }
        Ok(folder)
    }

    /// See [`super::Bucket::under`].
    pub(super) fn under(&self, permit: &Permit) -> Folder {
        Folder { permit: permit.clone(), ..self.clone() }
    }

    fn may_write(&self, at: &Place) -> Result<(), StoreError> {
        self.permit.may_request().map_err(|source| StoreError::Withdrawn { at: at.clone(), source })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn carries(&self, key: &str) -> Result<(), StoreError> {
        self.path(key, "write").map(drop)
    }

    pub(super) fn list(&self, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
        let (entries, listed) = mpsc::channel(ENTRIES_WAITING);
        let (folder, after) = (self.clone(), after.map(str::to_owned));
        tokio::task::spawn_blocking(move || walk::send_sorted(&folder, after.as_deref(), &entries));
        received(listed)
    }

    pub(super) async fn read(&self, key: &str, wanted: Option<&SourceVersion>) -> Result<(Head, Body), StoreError> {
        let path = self.path(key, "read")?;
        let at = Place::key(&self.name, key, "read");
        let (file, head) = blocking(at.clone(), move |at| open_file(&path, at)).await?;
        if wanted.is_some_and(|wanted| *wanted != head.version) {
            return Err(StoreError::Changed { at });
        }
        let (blocks, body) = mpsc::channel(BLOCKS_WAITING);
        let version = head.version.clone();
        tokio::task::spawn_blocking(move || send_blocks(&file, &version, at, &blocks));
        Ok((head, received(body).boxed()))
    }

    pub(super) async fn write(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        body: Body,
    ) -> Result<Head, WriteError> {
        let path = self.path(key, "write")?;
        let place = Place::key(&self.name, key, "write");
        self.may_write(&place)?;
        write::write(&self.root, path, attributes.mode, size, body, place, self.permit.clone()).await
    }

    /// What is on this disk is read and written once more: a copy that shares its blocks would be no second one.
    pub(super) async fn copy_from(
        &self,
        from: &Folder,
        original: Original<'_>,
        key: &str,
        attributes: &Attributes,
    ) -> Result<Head, StoreError> {
        let head = from.head(original.key).await?;
        if !original.is(&head.version) {
            return Err(StoreError::Changed { at: Place::key(&from.name, original.key, "copy") });
        }
        let (head, body) = from.read(original.key, Some(&head.version)).await?;
        let written = self.write(key, attributes, head.version.size, body).await;
        written.map_err(WriteError::any)
    }

    /// What is said of any version: a folder keeps none.
    pub(super) fn no_version(&self, key: &str) -> StoreError {
        StoreError::NotFound { at: Place::key(&self.name, key, "read a version of") }
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key, "delete")?;
        self.may_write(&Place::key(&self.name, key, "delete"))?;
        blocking(Place::key(&self.name, key, "delete"), move |at| {
            write::remove(&path).map_err(|e| StoreError::of_io(at, e))
        })
        .await
    }

    pub(super) async fn check_writable(&self) -> Result<(), StoreError> {
        let root = self.root.clone();
        self.may_write(&Place::store(&self.name, "write"))?;
        blocking(Place::store(&self.name, "write"), move |at| write::stage_and_remove(&root, &at)).await
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, StoreError> {
        let path = self.path(key, "look up")?;
        blocking(Place::key(&self.name, key, "look up"), move |at| {
            match std::fs::symlink_metadata(path) {
                Ok(metadata) => head_of(&metadata, at),
                // A file stands where its folder would be, so there is none of this key.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(StoreError::NotFound { at }),
                Err(error) => Err(StoreError::of_io(at, error)),
            }
        })
        .await
    }

    /// See [`super::Bucket::find`].
    pub(super) async fn find(&self, key: &str) -> Result<Found, StoreError> {
        self.path(key, "look up")?;
        let (root, key, at) = (Arc::clone(&self.root), key.to_owned(), Place::key(&self.name, key, "look up"));
        blocking(at, move |at| walk::find(&root, &key, at)).await
    }

    pub(super) async fn sweep(&self, before: Timestamp) -> Result<(), StoreError> {
        self.may_write(&Place::store(&self.name, "clean up"))?;
        let staging = self.root.join(STAGING);
        blocking(Place::store(&self.name, "clean up"), move |at| leftovers::sweep(&staging, before, at)).await
    }

    /// The path of a key, if a folder can carry it at all: what would come back under another key is refused.
    fn path(&self, key: &str, operation: &'static str) -> Result<PathBuf, StoreError> {
        let path = self.root.join(key.trim_start_matches('/'));
        let why = unfit(key).or_else(|| {
            (path.as_os_str().len() > PATH_BYTES_MAX).then_some("its path is longer than the system takes")
        });
        match why {
            None => Ok(path),
            Some(why) => Err(StoreError::BadKey { at: Place::key(&self.name, key, operation), why: why.to_owned() }),
        }
    }
}

/// Why no file can have this key, if so.
fn unfit(key: &str) -> Option<&'static str> {
    if key.contains('\0') {
        return Some("it contains a NUL character");
    }
    if key.split('/').next() == Some(STAGING) {
        return Some("that name is reserved for files being written");
    }
    key.split('/').find_map(|name| match name {
        "" => Some("it starts or ends with `/`, or contains `//`"),
        "." | ".." => Some("it contains `.` or `..` as a name"),
        _ if name.len() > NAME_BYTES_MAX => Some("it contains a name of more than 255 bytes"),
        _ => None,
    })
}

/// See [`super::Bucket::is_racy`].
pub(super) fn is_racy(version: &SourceVersion, since: Timestamp) -> bool {
    let changed_ns = version.etag.as_deref().and_then(|tag| tag.parse::<i128>().ok());
    changed_ns.unwrap_or(version.modified_ns) >= since.as_nanosecond() - RACY_NS
}

fn version_of(metadata: &Metadata) -> SourceVersion {
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    SourceVersion {
        etag: Some(nanos(metadata.ctime(), metadata.ctime_nsec()).to_string()),
        size: metadata.len(),
        modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
    }
}

fn head_of(metadata: &Metadata, at: Place) -> Result<Head, StoreError> {
    if !metadata.is_file() {
        return Err(StoreError::NotFound { at });
    }
    let attributes = Attributes { mode: Some(metadata.mode() & 0o777), ..Attributes::default() };
    Ok(Head { version: version_of(metadata), attributes, id: None, tags: None, storage_class: None })
}

/// Opens without following a link and without waiting for the other end of a pipe: what was a file when it
/// was listed may be either by now.
fn open_file(path: &Path, at: Place) -> Result<(File, Head), StoreError> {
    use rustix::fs::OFlags;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StoreError::NotFound { at });
        }
        Err(error) => return Err(StoreError::of_io(at, error)),
    };
    let metadata = file.metadata().map_err(|e| StoreError::of_io(at.clone(), e))?;
    Ok((file, head_of(&metadata, at)?))
}

/// Sends the content of `file`, then an error if it is not the content of `version` to the end.
fn send_blocks(file: &File, version: &SourceVersion, at: Place, blocks: &mpsc::Sender<Result<Bytes, StoreError>>) {
    loop {
        let mut block = Vec::with_capacity(usize::try_from(BLOCK_BYTES.min(version.size)).unwrap_or_default());
        let read = file.take(BLOCK_BYTES).read_to_end(&mut block);
        let item = match read {
            Ok(0) => break,
            Ok(_) => Ok(Bytes::from(block)),
            Err(error) => Err(StoreError::of_io(at.clone(), error)),
        };
        let failed = item.is_err();
        // A receiver that is gone wants no more.
        if blocks.blocking_send(item).is_err() || failed {
            return;
        }
    }
    let unchanged = file.metadata().is_ok_and(|metadata| version_of(&metadata) == *version);
    if !unchanged {
        // As above: nobody left to tell is nobody who believes the content.
        let _ = blocks.blocking_send(Err(StoreError::Changed { at }));
    }
}

/// Runs what may wait for a disk where it may wait.
async fn blocking<T, F>(at: Place, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(Place) -> Result<T, StoreError> + Send + 'static,
{
    let place = at.clone();
    match tokio::task::spawn_blocking(move || work(at)).await {
        Ok(done) => done,
        Err(stopped) => Err(StoreError::Other { at: place, source: stopped.into() }),
    }
}

fn received<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}
