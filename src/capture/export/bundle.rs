//! The bundle: the tar file an export is stored as, written and read here and nowhere else.
//!
//! GNU format (long names in `L` and `K` members), so that any `tar` opens it. Three folders in this order:
//!
//! - `ancestors/PATH/` the folders above what was captured: how to make them where they are missing;
//! - `commands/NAME` what each command printed;
//! - `files/PATH` files, folders and links, with mode, owner and group (number and name), and mtime.
//!
//! By hand: `tar -x --same-owner --strip-components=1 -C / -f BUNDLE files`.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tar::{Entry, EntryType, Header};

const RECORD_BYTES: usize = 512;
const NAME_BYTES: usize = 100;
const ZEROS: [u8; RECORD_BYTES] = [0; RECORD_BYTES];

/// Which part of the bundle a member belongs to; paths are relative to the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A folder above something captured.
    Ancestor(PathBuf),
    /// The output of the command of that name.
    Command(String),
    /// Something captured.
    File(PathBuf),
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A symbolic link that says so.
    Link(PathBuf),
}

impl Kind {
    /// In a word for a person.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::File(_) => "file",
            Kind::Folder => "folder",
            Kind::Link(_) => "link",
        }
    }
}

/// A user or a group, as it was called where the export was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number there.
    pub id: u32,
    /// Its name there, if it had one.
    pub name: Option<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Rights and times of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The twelve mode bits.
    pub mode: u32,
    /// Its owner.
    pub user: Account,
    /// Its group.
    pub group: Account,
    /// When its content last changed, in seconds since 1970.
    pub mtime: u64,
}

/// One member of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it belongs.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// Its rights.
    pub attributes: Attributes,
}

/// A bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a tar file, cut off, or its stream broke.
    #[error("the export bundle cannot be read")]
    Broken(#[from] io::Error),
    /// A member that no capture of ours writes, e.g. one whose path leads out of the root.
    #[error("member {name:?} of the export bundle {why}")]
    Unsafe {
        /// As the bundle says.
        name: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Writes a bundle.
pub struct Writer<W> {
    out: W,
    /// Bytes of content still owed to the member begun last.
    owed: u64,
    /// Bytes that fill its last record.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a bundle.
    pub fn new(out: W) -> Self {
        Writer { out, owed: 0, padding: 0 }
    }

    /// Begins a member. A file's content must follow through [`Writer::content`], to the byte.
    ///
    /// # Errors
    /// Of `out`; or when the member before is not complete.
    pub fn member(&mut self, member: &Member) -> io::Result<()> {
        self.complete()?;
        let mut header = Header::new_gnu();
        header.set_mode(member.attributes.mode);
        header.set_uid(member.attributes.user.id.into());
        header.set_gid(member.attributes.group.id.into());
        header.set_mtime(member.attributes.mtime);
        // The fields hold 32 bytes, as much as Linux lets a name be; a longer one (of a directory service) goes
        // by its number.
        let _longer = header.set_username(member.attributes.user.name.as_deref().unwrap_or_default());
        let _longer = header.set_groupname(member.attributes.group.name.as_deref().unwrap_or_default());
        header.set_entry_type(match member.kind {
            Kind::File(_) => EntryType::Regular,
            Kind::Folder => EntryType::Directory,
            Kind::Link(_) => EntryType::Symlink,
        });
        header.set_size(0);
        if let Kind::Link(target) = &member.kind {
            let target = target.as_os_str().as_bytes();
            self.long(EntryType::GNULongLink, target)?;
            fill(&mut header.as_old_mut().linkname, target);
        }
        let name = stored_name(member);
        self.long(EntryType::GNULongName, &name)?;
        fill(&mut header.as_old_mut().name, &name);
        if let Kind::File(bytes) = member.kind {
            header.set_size(bytes);
            self.owed = bytes;
            let over = usize::try_from(bytes % RECORD_BYTES as u64).unwrap_or_default();
            self.padding = (RECORD_BYTES - over) % RECORD_BYTES;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// Appends content to the member begun last.
    ///
    /// # Errors
    /// Of `out`; or when it is more than was announced.
    pub fn content(&mut self, data: &[u8]) -> io::Result<()> {
        self.owed = self.owed.checked_sub(data.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.write_all(data)
    }

    /// Ends the bundle.
    ///
    /// # Errors
    /// As [`Writer::member`].
    pub fn finish(mut self) -> io::Result<W> {
        self.complete()?;
        self.out.write_all(&ZEROS)?;
        self.out.write_all(&ZEROS)?;
        Ok(self.out)
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.owed > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(ZEROS.get(..padding).unwrap_or_default())
    }

    /// Announces a name that does not fit into the header of the member that follows.
    fn long(&mut self, kind: EntryType, name: &[u8]) -> io::Result<()> {
        if name.len() <= NAME_BYTES {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        fill(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(kind);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name)?;
        let padding = RECORD_BYTES - name.len() % RECORD_BYTES;
        self.out.write_all(ZEROS.get(..padding).unwrap_or_default())
    }
}

fn fill(field: &mut [u8; NAME_BYTES], bytes: &[u8]) {
    for (slot, byte) in field.iter_mut().zip(bytes) {
        *slot = *byte;
    }
}

fn stored_name(member: &Member) -> Vec<u8> {
    let (folder, path) = match &member.place {
        Place::Ancestor(path) => ("ancestors/", path.as_os_str()),
        Place::Command(name) => ("commands/", OsStr::new(name)),
        Place::File(path) => ("files/", path.as_os_str()),
    };
    let end: &[u8] = if member.kind == Kind::Folder { b"/" } else { b"" };
    [folder.as_bytes(), path.as_bytes(), end].concat()
}

/// Shows every member of a bundle to `visit`, with its content, and gives the reader back.
///
/// # Errors
/// [`BundleError`], or what `visit` returns.
pub fn each<R: Read, E: From<BundleError>>(
    reader: R,
    mut visit: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<R, E> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(BundleError::Broken)? {
        let mut entry = entry.map_err(BundleError::Broken)?;
        let member = read_member(&entry)?;
        visit(member, &mut entry)?;
    }
    Ok(archive.into_inner())
}

fn read_member<R: Read>(entry: &Entry<'_, R>) -> Result<Member, BundleError> {
    let header = entry.header();
    let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
    let refuse = |why| BundleError::Unsafe { name: name.clone(), why };
    let kind = match header.entry_type() {
        EntryType::Regular => Kind::File(entry.size()),
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| refuse("is a link to nowhere"))?;
            Kind::Link(PathBuf::from(OsStr::from_bytes(&target)))
        }
        _ => return Err(refuse("is neither file, folder nor link")),
    };
    let place = read_place(&name, &kind).map_err(refuse)?;
    let id = |id: io::Result<u64>| id.map(|id| u32::try_from(id).map_err(|_| refuse("has an owner out of range")));
    let account = |id, name: Option<&[u8]>| Account { id, name: name.and_then(account_name) };
    let attributes = Attributes {
        mode: header.mode()? & 0o7777,
        user: account(id(header.uid())??, header.username_bytes()),
        group: account(id(header.gid())??, header.groupname_bytes()),
        mtime: header.mtime()?,
    };
    Ok(Member { place, kind, attributes })
}

fn account_name(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Only names that lead down are taken: a bundle that says otherwise was not written by us.
fn read_place(name: &Path, kind: &Kind) -> Result<Place, &'static str> {
    let (folder, path) = ["ancestors", "commands", "files"]
        .into_iter()
        .find_map(|folder| Some((folder, name.strip_prefix(folder).ok()?)))
        .ok_or("stands in none of the folders of a bundle")?;
    // `Path` drops `.` and `//` without a word, so the bytes are compared too.
    let written = name.as_os_str().as_bytes();
    let written = written.strip_suffix(b"/").unwrap_or(written);
    let plain = Path::new(folder).join(path).as_os_str().as_bytes() == written;
    let down = path.components().all(|component| matches!(component, Component::Normal(_)));
    if !plain || !down || path.as_os_str().is_empty() || written.contains(&0) {
        return Err("has a path that leads out of its folder");
    }
    match (folder, kind) {
        ("ancestors", Kind::Folder) => Ok(Place::Ancestor(path.to_owned())),
        ("commands", Kind::File(_)) if path.components().count() == 1 => {
            path.to_str().map(|name| Place::Command(name.to_owned())).ok_or("has a name that is not UTF-8")
        }
        ("files", _) => Ok(Place::File(path.to_owned())),
        _ => Err("is of a kind that does not belong into its folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(place: Place, kind: Kind) -> Member {
        let account = |name: &str| Account { id: 4_000_000_000, name: Some(name.to_owned()) };
        let attributes = Attributes { mode: 0o4640, user: account("hab"), group: account("hab"), mtime: 1_700_000_000 };
        Member { place, kind, attributes }
    }

    fn round_trip(members: &[(Member, &[u8])]) -> Vec<(Member, Vec<u8>)> {
        let mut writer = Writer::new(Vec::new());
        for (member, content) in members {
            writer.member(member).unwrap();
            writer.content(content).unwrap();
        }
        let bundle = writer.finish().unwrap();
        let mut seen = Vec::new();
        each::<_, BundleError>(bundle.as_slice(), |member, content| {
            let mut data = Vec::new();
            content.read_to_end(&mut data)?;
            seen.push((member, data));
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn names_of_every_length_and_of_any_bytes_come_back() {
        for length in [1, 93, 94, 95, 99, 100, 101, 250, 511, 512, 513, 1_000, 4_000] {
            let path = PathBuf::from("x".repeat(length));
            let file = member(Place::File(path.clone()), Kind::File(3));
            let link = member(Place::File(path.join("l")), Kind::Link(path.join("../ a//./b")));
            let folder = member(Place::Ancestor(path), Kind::Folder);
            let members = [(folder, &b""[..]), (file, b"abc"), (link, b"")];
            let expected: Vec<_> = members.iter().map(|(member, data)| (member.clone(), data.to_vec())).collect();
            assert_eq!(round_trip(&members), expected, "{length}");
        }
        let odd = OsStr::from_bytes(b"new\nline \xff\xfe \\ \"quoted\" \xc3\xa9");
        let members = [(member(Place::File(odd.into()), Kind::Link(odd.into())), &b""[..])];
        assert_eq!(round_trip(&members)[0].0, members[0].0);
    }

    #[test]
    fn a_path_that_leads_out_is_refused_by_name() {
        let folder = Kind::Folder;
        let file = Kind::File(0);
        let check = |name: &str, kind: &Kind| read_place(Path::new(name), kind).is_ok();
        assert!(check("files/etc/app.conf", &file));
        assert!(check("files/etc/", &folder));
        for name in ["files/../etc/shadow", "files/a/../../b", "/etc/shadow", "../x", "files", "files/", "files//etc/x"]
        {
            assert!(!check(name, &file), "{name}");
        }
        for name in ["etc/shadow", "files/./x", "commands/a/b", "ancestors/x", "commands/..", "files/a\0b"] {
            assert!(!check(name, &file), "{name}");
        }
    }

    #[test]
    fn content_that_is_not_what_was_announced_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        writer.member(&member(Place::Command("v".into()), Kind::File(2))).unwrap();
        assert!(writer.content(b"abc").is_err());
        writer.content(b"a").unwrap();
        assert!(writer.finish().is_err());
    }
}
