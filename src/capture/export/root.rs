//! The folder that stands for `/`, and the ways into it that cannot lead out of it.
//!
//! Paths here are relative to the root and name things as the application sees them. Every one of them is
//! resolved by the kernel with `RESOLVE_IN_ROOT` (openat2(2)): links on the way mean what they mean to the
//! application, as after a chroot, and none of them, absolute or full of `..`, leaves the folder. The last
//! name of a path is never followed. Needs Linux 5.6.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

/// An open root folder.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

impl Root {
    /// Opens an existing folder.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Root { path: path.to_owned(), fd })
    }

    /// Opens a folder; makes it (and those above it) for this user alone when it is not there.
    ///
    /// # Errors
    /// As mkdir(2) and open(2).
    pub fn create(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Root::open(path)
    }

    /// Where it is at this host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `path` as the application writes it.
    pub fn seen(path: &Path) -> PathBuf {
        Path::new("/").join(path)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), within)
    }

    /// Opens the folder at `path`, links followed. The handle lists, syncs and takes names.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn folder(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the folder that holds `path`; the name is the last one of `path`.
    ///
    /// # Errors
    /// As openat2(2); `EINVAL` when `path` names the root itself.
    pub fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let above = path.parent().unwrap_or(Path::new(""));
        // Without the right to list: a folder one may only pass through is enough to reach a file.
        let folder = self.resolve(above, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((folder, name))
    }

    /// What stands at `path`, which is not followed.
    ///
    /// # Errors
    /// As openat2(2) and fstatat(2).
    pub fn stat(&self, path: &Path) -> Result<Stat> {
        let (folder, name) = self.parent(path)?;
        rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// As [`Root::stat`], `None` when nothing is there.
    ///
    /// # Errors
    /// As openat2(2) and fstatat(2).
    pub fn stat_if_any(&self, path: &Path) -> Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What `path` leads to, links followed.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn stat_followed(&self, path: &Path) -> Result<Stat> {
        rustix::fs::fstat(self.resolve(path, OFlags::PATH)?)
    }

    /// Opens the file at `path` for reading. Neither follows a link there nor waits for the writer of a fifo.
    ///
    /// # Errors
    /// As openat2(2); `ELOOP` when it is a link.
    pub fn file(&self, path: &Path) -> Result<File> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, flags, Mode::empty()).map(File::from)
    }

    /// Where the link at `path` points, as it says.
    ///
    /// # Errors
    /// As readlinkat(2).
    pub fn link(&self, path: &Path) -> Result<PathBuf> {
        let (folder, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The names in the folder at `path`, sorted.
    ///
    /// # Errors
    /// As getdents(2).
    pub fn names(&self, path: &Path) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.folder(path)?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What kind of thing a mode says it is, in a word for a person.
pub fn kind_word(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "link",
        FileType::Socket => "socket",
        FileType::Fifo => "fifo",
        _ => "device",
    }
}
