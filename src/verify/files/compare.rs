//! Compares a bundle with what stands at its paths: what a restore would have to write, and what a proof
//! finds wrong. Reads only.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::error::{Error, seen};
use super::feed::Blocks;
use crate::capture::export::accounts::{Accounts, Table};
use crate::capture::export::bundle::{self, Account, Attributes, BundleError, Kind, Member, Place};
use crate::capture::export::root::{Root, kind_word};

const BLOCK_BYTES: usize = 256 << 10;

/// One way in which a path is not as captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Nothing is there.
    Missing,
    /// Something else is there: `file`, `folder`, `link`, `socket`, `fifo`, `device`.
    Kind {
        /// As captured.
        expected: &'static str,
        /// As it is.
        found: &'static str,
    },
    /// The bytes of a file.
    Content,
    /// The twelve mode bits.
    Mode {
        /// As captured.
        expected: u32,
        /// As it is.
        found: u32,
    },
    /// The owner, by name where there is one.
    Owner {
        /// As captured.
        expected: String,
        /// As it is.
        found: String,
    },
    /// The group, by name where there is one.
    Group {
        /// As captured.
        expected: String,
        /// As it is.
        found: String,
    },
    /// Where a link points.
    Target {
        /// As captured.
        expected: PathBuf,
        /// As it is.
        found: PathBuf,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing => write!(f, "is missing"),
            Difference::Kind { expected, found } => write!(f, "is a {found}, expected a {expected}"),
            Difference::Content => write!(f, "has other content"),
            Difference::Mode { expected, found } => write!(f, "has mode {found:04o}, expected {expected:04o}"),
            Difference::Owner { expected, found } => write!(f, "belongs to user {found}, expected {expected}"),
            Difference::Group { expected, found } => write!(f, "belongs to group {found}, expected {expected}"),
            Difference::Target { expected, found } => write!(f, "points to {found:?}, expected {expected:?}"),
        }
    }
}

/// A bundle held against a root.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What differs, by path below the root; never an empty list.
    pub different: BTreeMap<PathBuf, Vec<Difference>>,
    /// Captured paths that are as captured.
    pub same: u64,
    /// How the folders of the bundle, and those above its files, are to be made.
    pub folders: BTreeMap<PathBuf, Attributes>,
    /// The commands whose output it holds.
    pub commands: Vec<String>,
    /// The users and groups of what differs that nothing here may be given to.
    pub strangers: Vec<Error>,
}

/// Reads a bundle to its verified end and compares it with `root`. Without a root everything is missing.
///
/// # Errors
/// When the bundle or what it is compared with cannot be read.
pub fn compare(blocks: Blocks, root: Option<&Root>) -> Result<Comparison, Error> {
    let mut comparison = Comparison::default();
    let mut accounts = Accounts::read();
    let rest = bundle::each(blocks, |member, content| comparison.member(root, &mut accounts, member, content))?;
    rest.verified_end().map_err(BundleError::Broken)?;
    Ok(comparison)
}

impl Comparison {
    fn member(
        &mut self,
        root: Option<&Root>,
        accounts: &mut Accounts,
        member: Member,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let path = match &member.place {
            Place::Ancestor(path) => {
                self.folders.insert(path.clone(), member.attributes);
                return Ok(());
            }
            Place::Command(name) => {
                self.commands.push(name.clone());
                return Ok(());
            }
            Place::File(path) => path.clone(),
        };
        let differences = match root {
            Some(root) => differences(root, accounts, &path, &member, content)?,
            None => vec![Difference::Missing],
        };
        if differences.is_empty() {
            self.same += 1;
        } else {
            let owners = owners(accounts, &member);
            self.strangers.extend(owners.err());
            self.different.insert(path.clone(), differences);
        }
        if member.kind == Kind::Folder {
            self.folders.insert(path, member.attributes);
        }
        Ok(())
    }
}

/// The numbers that the owner and the group of a member have at this host.
///
/// # Errors
/// [`Error::Stranger`]: a secret must not become the property of whoever happens to have that number here.
pub fn owners(accounts: &mut Accounts, member: &Member) -> Result<(u32, u32), Error> {
    let stranger = |what: &'static str, account: &Account, holder: String| Error::Stranger {
        path: seen(&member.place),
        what,
        name: account.to_string(),
        id: account.id,
        holder,
    };
    let Attributes { user, group, .. } = &member.attributes;
    let uid = here(&mut accounts.users, user).map_err(|holder| stranger("user", user, holder))?;
    let gid = here(&mut accounts.groups, group).map_err(|holder| stranger("group", group, holder))?;
    Ok((uid, gid))
}

/// The number of an account here: that of its name, or its old one if nobody has it. Else who has it.
fn here(table: &mut Table, account: &Account) -> Result<u32, String> {
    let Some(name) = &account.name else { return Ok(account.id) };
    match table.id(name) {
        Some(id) => Ok(id),
        None => table.name(account.id).map_or(Ok(account.id), Err),
    }
}

fn differences(
    root: &Root,
    accounts: &mut Accounts,
    path: &Path,
    member: &Member,
    content: &mut dyn Read,
) -> Result<Vec<Difference>, Error> {
    let seen = Root::seen(path);
    let Some(stat) = root.stat_if_any(path).map_err(Error::io(&seen, "examined"))? else {
        return Ok(vec![Difference::Missing]);
    };
    let (expected, found) = (member.kind.word(), kind_word(stat.st_mode));
    if expected != found {
        return Ok(vec![Difference::Kind { expected, found }]);
    }
    let mut differences = Vec::new();
    match &member.kind {
        Kind::File(size) if !is_same_content(root, path, *size, content)? => differences.push(Difference::Content),
        Kind::Link(expected) => {
            let found = root.link(path).map_err(Error::io(&seen, "read"))?;
            if found != *expected {
                differences.push(Difference::Target { expected: expected.clone(), found });
            }
        }
        Kind::File(_) | Kind::Folder => {}
    }
    differences.extend(mode(&member.attributes, &stat));
    differences.extend(ownership(accounts, &member.attributes, &stat));
    Ok(differences)
}

/// A link has no mode of its own.
fn mode(attributes: &Attributes, stat: &Stat) -> Option<Difference> {
    let (expected, found) = (attributes.mode, stat.st_mode & 0o7777);
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    (expected != found && !is_link).then_some(Difference::Mode { expected, found })
}

fn ownership(accounts: &mut Accounts, attributes: &Attributes, stat: &Stat) -> Vec<Difference> {
    let mut differences = Vec::new();
    if here(&mut accounts.users, &attributes.user) != Ok(stat.st_uid) {
        let found = accounts.users.name(stat.st_uid).unwrap_or_else(|| stat.st_uid.to_string());
        differences.push(Difference::Owner { expected: attributes.user.to_string(), found });
    }
    if here(&mut accounts.groups, &attributes.group) != Ok(stat.st_gid) {
        let found = accounts.groups.name(stat.st_gid).unwrap_or_else(|| stat.st_gid.to_string());
        differences.push(Difference::Group { expected: attributes.group.to_string(), found });
    }
    differences
}

/// Whether the file at `path` holds exactly the `size` bytes of `captured`.
///
/// # Errors
/// When either cannot be read.
pub fn is_same_content(root: &Root, path: &Path, size: u64, captured: &mut dyn Read) -> Result<bool, Error> {
    let seen = Root::seen(path);
    let mut file = match root.file(path) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(Error::io(&seen, "opened")(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(Error::io(&seen, "examined"))?;
    if u64::try_from(stat.st_size) != Ok(size) {
        return Ok(false);
    }
    let (mut wanted, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let length = fill(captured, &mut wanted).map_err(BundleError::Broken)?;
        let there = fill(&mut file, &mut found).map_err(Error::std(&seen, "read"))?;
        if wanted.get(..length) != found.get(..there) {
            return Ok(false);
        }
        if length < BLOCK_BYTES {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the end is reached; says how much was read.
///
/// # Errors
/// Those of the reader.
pub fn fill(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
