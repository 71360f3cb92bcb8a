//! Makes a bundle: goes through commands and files in order, and watches that each file holds still.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::accounts::Accounts;
use super::bundle::{Account, Attributes, Kind, Member, Place, Writer};
use super::error::Error;
use super::root::Root;
use super::select::{Selection, select};
use super::{ExportFacts, Remark, command, is_file_name};
use crate::config::address::ExportAddress;

/// Size of the blocks handed on.
pub const BLOCK_BYTES: usize = 256 << 10;
/// Files up to this size are read whole before they are written, so that one that changed can be read again.
/// A larger one that changes cannot be taken back from the stream, and ends the capture.
const WHOLE_BYTES_MAX: u64 = 8 << 20;
const ATTEMPTS: u32 = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// Makes the bundle of `export` and sends it to `blocks`. Blocks the thread.
///
/// # Errors
/// See [`Error`]; [`Error::Stopped`] as soon as nobody receives any more.
pub fn produce(
    export: &ExportAddress,
    now: Timestamp,
    runtime: &Handle,
    blocks: mpsc::Sender<Bytes>,
) -> Result<ExportFacts, Error> {
    let root = Root::open(&export.root).map_err(Error::io(&export.root, "opened"))?;
    let selection = select(&root, &export.files)?;
    let out = Blocks { sender: blocks.clone(), filling: BytesMut::new() };
    let mut production = Production::new(root, out);
    production.ancestors(&selection)?;
    for (name, words) in &export.commands {
        let running = command::output(name, words, command::TIME_MAX);
        let output = runtime.block_on(async {
            tokio::select! {
                output = running => output,
                () = blocks.closed() => Err(Error::Stopped),
            }
        })?;
        production.command(name, &output, now)?;
    }
    for (path, stat) in &selection.entries {
        production.entry(path, stat)?;
    }
    production.finish(selection.remarks)
}

struct Production {
    root: Root,
    accounts: Accounts,
    writer: Writer<Blocks>,
    digest: blake3::Hasher,
    files: u64,
    folders: u64,
    bytes: u64,
    commands: u64,
    remarks: Vec<Remark>,
}

impl Production {
    fn new(root: Root, out: Blocks) -> Self {
        Production {
            root,
            accounts: Accounts::read(),
            writer: Writer::new(out),
            digest: blake3::Hasher::new(),
            files: 0,
            folders: 0,
            bytes: 0,
            commands: 0,
            remarks: Vec::new(),
        }
    }

    fn ancestors(&mut self, selection: &Selection) -> Result<(), Error> {
        for (path, stat) in &selection.ancestors {
            let member = self.member(Place::Ancestor(path.clone()), Kind::Folder, stat);
            self.begin(&member)?;
            self.hash(&member, None);
        }
        Ok(())
    }

    fn command(&mut self, name: &str, output: &[u8], now: Timestamp) -> Result<(), Error> {
        if !is_file_name(name) {
            return Err(Error::CommandName { name: name.to_owned() });
        }
        let nobody = || Account { id: 0, name: None };
        let mtime = u64::try_from(now.as_second()).unwrap_or_default();
        let attributes = Attributes { mode: 0o600, user: nobody(), group: nobody(), mtime };
        let kind = Kind::File(output.len() as u64);
        let member = Member { place: Place::Command(name.to_owned()), kind, attributes };
        self.begin(&member)?;
        self.content(output)?;
        self.hash(&member, Some(blake3::hash(output)));
        self.commands += 1;
        Ok(())
    }

    fn entry(&mut self, path: &Path, stat: &Stat) -> Result<(), Error> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(path),
            FileType::Directory => self.folder(path),
            _ => self.link(path, stat),
        }
    }

    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        let folder = self.root.folder(path).map_err(gone_or(path, "opened"))?;
        self.judge_attributes(path, &folder)?;
        let stat = rustix::fs::fstat(&folder).map_err(Error::io(Root::seen(path), "examined"))?;
        let member = self.member(Place::File(path.to_owned()), Kind::Folder, &stat);
        self.begin(&member)?;
        self.hash(&member, None);
        self.folders += 1;
        Ok(())
    }

    fn link(&mut self, path: &Path, stat: &Stat) -> Result<(), Error> {
        let target = self.root.link(path).map_err(gone_or(path, "read"))?;
        let member = self.member(Place::File(path.to_owned()), Kind::Link(target), stat);
        self.begin(&member)?;
        self.hash(&member, None);
        self.files += 1;
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let (mut file, stat) = self.open(path)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if size <= WHOLE_BYTES_MAX { self.small_file(path) } else { self.large_file(path, &mut file, &stat, size) }?;
        self.files += 1;
        Ok(())
    }

    /// Opens a file and judges its rights; what is there now may be another than when it was listed.
    fn open(&mut self, path: &Path) -> Result<(File, Stat), Error> {
        let file = self.root.file(path).map_err(gone_or(path, "opened"))?;
        let stat = rustix::fs::fstat(&file).map_err(Error::io(Root::seen(path), "examined"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Changing { path: Root::seen(path) });
        }
        Ok((file, stat))
    }

    fn small_file(&mut self, path: &Path) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(BETWEEN_ATTEMPTS);
            }
            let (mut file, before) = self.open(path)?;
            let mut content = Vec::new();
            // One byte more than there should be: a file that grew must not go unnoticed, nor fill the memory.
            let read = (&mut file).take(WHOLE_BYTES_MAX + 1).read_to_end(&mut content);
            read.map_err(|source| broken(path, source))?;
            let held_still = i64::try_from(content.len()) == Ok(before.st_size);
            if held_still && is_unchanged(path, &file, &before)? {
                self.judge_attributes(path, &file)?;
                let member = self.member(Place::File(path.to_owned()), Kind::File(content.len() as u64), &before);
                self.begin(&member)?;
                self.content(&content)?;
                self.hash(&member, Some(blake3::hash(&content)));
                self.bytes += content.len() as u64;
                return Ok(());
            }
        }
        Err(Error::Changing { path: Root::seen(path) })
    }

    fn large_file(&mut self, path: &Path, file: &mut File, before: &Stat, size: u64) -> Result<(), Error> {
        self.judge_attributes(path, &*file)?;
        let member = self.member(Place::File(path.to_owned()), Kind::File(size), before);
        self.begin(&member)?;
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut rest = size;
        while rest > 0 {
            let want = usize::try_from(rest).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            let block = block.get_mut(..want).unwrap_or_default();
            let read = file.read(block).map_err(|source| broken(path, source))?;
            let Some(data) = block.get(..read).filter(|data| !data.is_empty()) else {
                return Err(Error::Changing { path: Root::seen(path) });
            };
            hasher.update(data);
            self.content(data)?;
            rest -= data.len() as u64;
        }
        if !is_unchanged(path, file, before)? {
            return Err(Error::Changing { path: Root::seen(path) });
        }
        self.hash(&member, Some(hasher.finalize()));
        self.bytes += size;
        Ok(())
    }

    /// An ACL hides rights behind the group's mode bits: restored without it, the file would be open to others
    /// than before. A capability is a right of its own. Both are refused; other attributes are remarked upon.
    fn judge_attributes(&mut self, path: &Path, file: impl AsFd) -> Result<(), Error> {
        for attribute in attributes(file).map_err(Error::io(Root::seen(path), "examined"))? {
            match attribute.as_str() {
                "system.posix_acl_access" | "system.posix_acl_default" | "system.nfs4_acl" | "security.capability" => {
                    return Err(Error::Attribute { path: Root::seen(path), attribute });
                }
                name if name.starts_with("user.") => {
                    let what = format!("has the extended attribute {name}, which was not captured");
                    self.remarks.push(Remark::new(path, what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn member(&mut self, place: Place, kind: Kind, stat: &Stat) -> Member {
        let user = Account { id: stat.st_uid, name: self.accounts.users.name(stat.st_uid) };
        let group = Account { id: stat.st_gid, name: self.accounts.groups.name(stat.st_gid) };
        let mtime = u64::try_from(stat.st_mtime).unwrap_or_default();
        Member { place, kind, attributes: Attributes { mode: stat.st_mode & 0o7777, user, group, mtime } }
    }

    fn begin(&mut self, member: &Member) -> Result<(), Error> {
        self.writer.member(member).map_err(|_| Error::Stopped)
    }

    fn content(&mut self, data: &[u8]) -> Result<(), Error> {
        self.writer.content(data).map_err(|_| Error::Stopped)
    }

    /// Every field with its length, so that no two different members hash the same.
    fn hash(&mut self, member: &Member, content: Option<blake3::Hash>) {
        let (part, path): (u8, &[u8]) = match &member.place {
            Place::Ancestor(path) => (b'a', path.as_os_str().as_bytes()),
            Place::Command(name) => (b'c', name.as_bytes()),
            Place::File(path) => (b'f', path.as_os_str().as_bytes()),
        };
        let target: &[u8] = match &member.kind {
            Kind::Link(target) => target.as_os_str().as_bytes(),
            Kind::File(_) | Kind::Folder => b"",
        };
        let attributes = &member.attributes;
        let (user, group) = (attributes.user.to_string(), attributes.group.to_string());
        let fields: [&[u8]; 8] = [
            &[part],
            path,
            member.kind.word().as_bytes(),
            target,
            &attributes.mode.to_be_bytes(),
            user.as_bytes(),
            group.as_bytes(),
            content.as_ref().map_or(&[], |hash| hash.as_bytes()),
        ];
        for field in fields {
            self.digest.update(&(field.len() as u64).to_be_bytes());
            self.digest.update(field);
        }
    }

    fn finish(self, mut remarks: Vec<Remark>) -> Result<ExportFacts, Error> {
        let mut blocks = self.writer.finish().map_err(|_| Error::Stopped)?;
        blocks.flush().map_err(|_| Error::Stopped)?;
        remarks.extend(self.remarks);
        Ok(ExportFacts {
            files: self.files,
            folders: self.folders,
            bytes: self.bytes,
            commands: self.commands,
            digest: self.digest.finalize(),
            remarks,
        })
    }
}

fn broken(path: &Path, source: io::Error) -> Error {
    Error::Io { path: Root::seen(path), doing: "read", source }
}

/// What was there when the folder was listed and is not there now has changed.
fn gone_or(path: &Path, doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::Changing { path: Root::seen(path) },
        errno => Error::io(Root::seen(path), doing)(errno),
    }
}

/// Whether a file is as it was. The change time is the kernel's own: writing, truncating, chmod and chown all move it.
fn is_unchanged(path: &Path, file: &File, before: &Stat) -> Result<bool, Error> {
    let after = rustix::fs::fstat(file).map_err(Error::io(Root::seen(path), "examined"))?;
    let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    Ok(after.st_size == before.st_size && times(&after) == times(before))
}

/// The names of the extended attributes of an open file; none where the file system has no such thing.
fn attributes(file: impl AsFd) -> rustix::io::Result<Vec<String>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Cuts what is written into blocks and sends them; waits while too many are under way.
struct Blocks {
    sender: mpsc::Sender<Bytes>,
    filling: BytesMut,
}

impl Write for Blocks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.filling.len();
        let taken = data.get(..room).unwrap_or(data);
        self.filling.extend_from_slice(taken);
        if self.filling.len() == BLOCK_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.filling, BytesMut::with_capacity(BLOCK_BYTES)).freeze();
        self.sender.blocking_send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
