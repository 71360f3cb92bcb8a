//! Files of the state folder, written so that a kill or a power cut leaves the old content or the new, never half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// Makes `folder` and its parents, readable by the owner only, if they are missing.
///
/// # Errors
/// Those of `mkdir(2)`.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces the content of `path`, readable by the owner only: temporary file, `fsync`, `rename`, `fsync` of the folder.
///
/// # Errors
/// Those of the system calls; the old content is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, 0o600)
}

/// As [`replace`], readable by everybody: for what other programs of this host read.
///
/// # Errors
/// As [`replace`].
pub fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, 0o644)
}

fn replace_with(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A bare file name has the folder of this process.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Two processes may replace the same file; the last rename wins, whole.
    name.push(format!(".new-{}", std::process::id()));
    let temporary = folder.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// A file in `folder` that has no name, readable by the owner only, and is gone when it is closed, or its process killed.
///
/// # Errors
/// Those of `open(2)`; some network file systems have no such files.
pub fn unnamed_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?))
}

/// What `path` holds, `None` when it does not exist.
///
/// # Errors
/// Those of `open(2)` and `read(2)`, except that the file does not exist.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A lock held on a file until it is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Said, not left to the closing of the file: a child that is being started just now holds it open, too.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!("a lock cannot be given back before this process ends: {error}");
        }
    }
}

impl FileLock {
    /// What the holder of a lock says of itself; nothing when nobody holds it. It is looked at with a shared lock, for a moment.
    ///
    /// # Errors
    /// When the file cannot be opened, locked or read.
    pub fn holder(path: &Path) -> io::Result<Option<String>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(flock(&file, FlockOperation::Unlock).map(|()| None)?),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(String::from_utf8_lossy(&fs::read(path)?).into_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock, `None` when another process holds it. The holder's `note` can be read from the file.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub fn try_take(path: &Path, note: &str) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all(note.as_bytes())?;
        Ok(Some(FileLock { file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_lock_is_held_once_and_ends_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = FileLock::try_take(&path, "capture, pid 7").unwrap();
        assert!(held.is_some());
        assert!(FileLock::try_take(&path, "restore, pid 8").unwrap().is_none());
        assert_eq!(read(&path).unwrap().unwrap(), b"capture, pid 7");
        assert_eq!(FileLock::holder(&path).unwrap().as_deref(), Some("capture, pid 7"));
        drop(held);
        assert_eq!(FileLock::holder(&path).unwrap(), None);
        assert!(FileLock::try_take(&path, "restore, pid 8").unwrap().is_some());
    }
}
