//! Puts files, folders and links where they belong, each by one rename.
//!
//! A thing is made complete under its staged name beside its place (content, owner, mode, times, on the
//! disk), what it replaces is kept, and only then is it renamed over it. Whoever looks sees the old or the
//! new, never a part; whoever kills us finds a staged file that the next run throws away.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::error::Error;
use crate::capture::export::bundle::BundleError;
use crate::capture::export::root::Root;
use crate::capture::export::staged_name;
use crate::failpoint;
use crate::verify::files::compare::fill;

const BLOCK_BYTES: usize = 256 << 10;

/// Rights and time as they are to be at this host.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// The twelve mode bits.
    pub mode: u32,
    /// Its owner here.
    pub user: u32,
    /// Its group here.
    pub group: u32,
    /// When its content changed, in seconds since 1970; not set when `None`.
    pub mtime: Option<i64>,
}

impl Rights {
    /// For this user alone.
    pub fn private(mode: u32) -> Self {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Rights { mode, user, group, mtime: None }
    }
}

/// A path below a root, with the folder that holds it open.
pub struct Spot {
    folder: OwnedFd,
    name: PathBuf,
    staged: PathBuf,
    /// For messages.
    seen: PathBuf,
}

impl Spot {
    /// Opens the folder that holds `path`; makes those that are missing with the rights that `rights` names.
    ///
    /// # Errors
    /// [`Error::NoFolder`] when something else is on the way.
    pub fn reach(root: &Root, path: &Path, rights: &dyn Fn(&Path) -> Result<Rights, Error>) -> Result<Self, Error> {
        let above = path.parent().unwrap_or(Path::new(""));
        let folder = folder(root, above, rights)?;
        Spot::within(folder, root, path)
    }

    /// As [`Spot::reach`]; `None` when there is no such folder.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reach_if_any(root: &Root, path: &Path) -> Result<Option<Self>, Error> {
        let above = path.parent().unwrap_or(Path::new(""));
        match root.folder(above) {
            Ok(folder) => Spot::within(folder, root, path).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Error::io(&shown(root, above), "opened")(errno)),
        }
    }

    fn within(folder: OwnedFd, root: &Root, path: &Path) -> Result<Self, Error> {
        let seen = shown(root, path);
        let name = path.file_name().ok_or(Errno::INVAL).map_err(Error::io(&seen, "written"))?;
        Ok(Spot { folder, name: name.into(), staged: staged_name(name), seen })
    }

    /// Makes a file under the staged name: nobody else can read it before its rights are right.
    ///
    /// # Errors
    /// [`BundleError::Broken`] when `content` ends before `size` bytes.
    pub fn stage_file(&self, content: &mut dyn Read, size: u64, rights: Rights) -> Result<(), Error> {
        self.discard()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.folder, &self.staged, flags, private);
        let mut file = file.map(File::from).map_err(Error::io(&self.seen, "written beside"))?;
        if copy(content, &mut file, &self.seen)? != size {
            return Err(BundleError::Broken(io::ErrorKind::UnexpectedEof.into()).into());
        }
        self.grant(&file, rights)?;
        rustix::fs::fsync(&file).map_err(Error::io(&self.seen, "synced"))?;
        failpoint::hit("restore.files.staged");
        Ok(())
    }

    /// Makes a link under the staged name.
    ///
    /// # Errors
    /// As symlinkat(2).
    pub fn stage_link(&self, target: &Path, rights: Rights) -> Result<(), Error> {
        self.discard()?;
        rustix::fs::symlinkat(target, &self.folder, &self.staged).map_err(Error::io(&self.seen, "written beside"))?;
        let not_followed = AtFlags::SYMLINK_NOFOLLOW;
        let made = rustix::fs::statat(&self.folder, &self.staged, not_followed);
        let made = made.map_err(Error::io(&self.seen, "examined"))?;
        if (made.st_uid, made.st_gid) != (rights.user, rights.group) {
            let (user, group) = (Uid::from_raw(rights.user), Gid::from_raw(rights.group));
            rustix::fs::chownat(&self.folder, &self.staged, Some(user), Some(group), not_followed)
                .map_err(self.chown_failed(rights))?;
        }
        failpoint::hit("restore.files.staged");
        Ok(())
    }

    fn stage_folder(&self, rights: Rights) -> Result<(), Error> {
        self.discard()?;
        rustix::fs::mkdirat(&self.folder, &self.staged, Mode::RWXU).map_err(Error::io(&self.seen, "made"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.folder, &self.staged, flags, Mode::empty());
        self.grant(made.map_err(Error::io(&self.seen, "opened"))?, rights)
    }

    /// Puts what was staged in its place.
    ///
    /// # Errors
    /// As renameat(2).
    pub fn settle(&self) -> Result<(), Error> {
        let renamed = rustix::fs::renameat(&self.folder, &self.staged, &self.folder, &self.name);
        renamed.map_err(Error::io(&self.seen, "replaced"))?;
        self.sync()
    }

    /// As [`Spot::settle`], but never over something.
    ///
    /// # Errors
    /// As linkat(2): `EEXIST` when the place is taken.
    pub fn settle_anew(&self) -> Result<(), Error> {
        let linked = rustix::fs::linkat(&self.folder, &self.staged, &self.folder, &self.name, AtFlags::empty());
        linked.map_err(Error::io(&self.seen, "written"))?;
        self.discard()?;
        self.sync()
    }

    /// Removes what a killed run left under the staged name.
    ///
    /// # Errors
    /// As unlinkat(2), when something is there.
    pub fn discard(&self) -> Result<(), Error> {
        let removed = match rustix::fs::unlinkat(&self.folder, &self.staged, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&self.folder, &self.staged, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io(&self.seen.with_file_name(&self.staged), "removed")(errno)),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.folder).map_err(Error::io(&self.seen, "synced"))
    }

    /// Owner first: chown(2) takes the set-user-ID bit away.
    fn grant(&self, thing: impl AsFd, rights: Rights) -> Result<(), Error> {
        let now = rustix::fs::fstat(&thing).map_err(Error::io(&self.seen, "examined"))?;
        if (now.st_uid, now.st_gid) != (rights.user, rights.group) {
            let (user, group) = (Uid::from_raw(rights.user), Gid::from_raw(rights.group));
            rustix::fs::fchown(&thing, Some(user), Some(group)).map_err(self.chown_failed(rights))?;
        }
        rustix::fs::fchmod(&thing, Mode::from_raw_mode(rights.mode))
            .map_err(Error::io(&self.seen, "given its mode"))?;
        let Some(seconds) = rights.mtime else { return Ok(()) };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        rustix::fs::futimens(&thing, &times).map_err(Error::io(&self.seen, "given its time"))
    }

    fn chown_failed(&self, rights: Rights) -> impl FnOnce(Errno) -> Error {
        let path = self.seen.clone();
        move |errno| Error::NotPermitted { path, user: rights.user, group: rights.group, source: errno.into() }
    }
}

/// Opens the folder at `path`; makes it, and those above it, where they are missing.
///
/// # Errors
/// See [`Spot::reach`].
pub fn folder(root: &Root, path: &Path, rights: &dyn Fn(&Path) -> Result<Rights, Error>) -> Result<OwnedFd, Error> {
    let no_folder = || Error::NoFolder { path: shown(root, path), root: root.path().to_owned() };
    match root.folder(path) {
        Ok(folder) => return Ok(folder),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(no_folder()),
        Err(errno) => return Err(Error::io(&shown(root, path), "opened")(errno)),
    }
    let spot = Spot::reach(root, path, rights)?;
    // A link that leads nowhere: making its folder would be making something nobody asked for.
    if root.stat_if_any(path).map_err(Error::io(&spot.seen, "examined"))?.is_some() {
        return Err(no_folder());
    }
    spot.stage_folder(rights(path)?)?;
    spot.settle()?;
    failpoint::hit("restore.files.folder");
    root.folder(path).map_err(Error::io(&spot.seen, "opened"))
}

/// Gives an existing folder other rights.
///
/// # Errors
/// As fchown(2) and fchmod(2).
pub fn amend_folder(root: &Root, path: &Path, rights: Rights) -> Result<(), Error> {
    let Some(spot) = Spot::reach_if_any(root, path)? else {
        return Err(Error::io(&shown(root, path), "opened")(Errno::NOENT));
    };
    let folder = root.folder(path).map_err(Error::io(&spot.seen, "opened"))?;
    spot.grant(&folder, Rights { mtime: None, ..rights })?;
    rustix::fs::fsync(&folder).map_err(Error::io(&spot.seen, "synced"))?;
    failpoint::hit("restore.files.amended");
    Ok(())
}

/// A path for a person: with its root, because several are at work here.
fn shown(root: &Root, path: &Path) -> PathBuf {
    root.path().join(path)
}

fn copy(from: &mut dyn Read, to: &mut File, seen: &Path) -> Result<u64, Error> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut copied = 0;
    loop {
        let length = fill(from, &mut block).map_err(BundleError::Broken)?;
        to.write_all(block.get(..length).unwrap_or_default()).map_err(Error::std(seen, "written beside"))?;
        copied += length as u64;
        if length < BLOCK_BYTES {
            return Ok(copied);
        }
    }
}
