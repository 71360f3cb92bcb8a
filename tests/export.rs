//! Secrets and configuration: what is captured at one site comes back the same at the other, or somebody is told.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use warmspare::capture::export::{self, ExportFacts, stream_name};
use warmspare::clock::SystemClock;
use warmspare::config::address::ExportAddress;
use warmspare::error::{Class, Error};
use warmspare::observe::Progress;
use warmspare::restore::steps::files::{Effect, FilesRestored, Places, restore};
use warmspare::stream::{Attributes, Sink, SinkStream, StreamEntry, StreamName};
use warmspare::verify::files::check;

use crate::support::memory::{MemorySink, MemorySource};

/// Two sites in a folder that goes away with it.
pub(crate) struct Sites {
    pub(crate) folder: tempfile::TempDir,
}

impl Sites {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("live")).unwrap();
        fs::create_dir(folder.path().join("spare")).unwrap();
        Sites { folder }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn export(&self, site: &str, files: &[&str]) -> ExportAddress {
        ExportAddress {
            name: "config".to_owned(),
            root: self.at(site),
            files: files.iter().map(|pattern| (*pattern).to_owned()).collect(),
            commands: BTreeMap::new(),
        }
    }

    fn places(&self) -> Places {
        Places { into: None, kept: self.at("state/kept"), commands: self.at("state/commands") }
    }

    async fn capture(&self, files: &[&str]) -> MemorySource {
        capture(&self.export("live", files)).await.unwrap().1
    }

    pub(crate) async fn restore(&self, source: &MemorySource) -> Result<FilesRestored, Error> {
        restore(source, &self.export("spare", &[]), &self.places(), Effect::Write, &Progress::silent()).await
    }

    /// What `check` says about the spare, one line each.
    pub(crate) async fn differences(&self, source: &MemorySource) -> Vec<String> {
        let differences = check(source, &self.export("spare", &[]), None).await.unwrap();
        differences.iter().map(ToString::to_string).collect()
    }
}

pub(crate) async fn capture(export: &ExportAddress) -> Result<(ExportFacts, MemorySource), Error> {
    let sink = MemorySink::default();
    let facts = export::capture(export, &sink, &SystemClock, &Progress::silent()).await?;
    Ok((facts, sink.source()))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything below a folder: path → kind, mode, owner, content or target.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                kind if kind.is_dir() => {
                    waiting.push(path.clone());
                    Vec::new()
                }
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
                _ => fs::read(&path).unwrap(),
            };
            let relative = path.strip_prefix(root).unwrap().to_owned();
            found.insert(relative, (meta.mode(), meta.uid(), meta.gid(), content));
        }
    }
    found
}

/// A site with everything that has ever been lost by a backup script.
pub(crate) fn fill_live(sites: &Sites) {
    sites.write("live/hab/svc/api/files/bldr-1.box.key", "secret one\n", 0o600);
    sites.write("live/hab/svc/api/files/empty", "", 0o640);
    sites.write("live/hab/svc/api/config.toml", "a = 1\n", 0o644);
    sites.write("live/hab/svc/api/bin/helper", "#!/bin/sh\n", 0o4755);
    symlink("../config.toml", sites.at("live/hab/svc/api/bin/config")).unwrap();
    fs::create_dir(sites.at("live/hab/svc/api/no files")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd\n\xff \xc3\xa9 *");
    fs::write(sites.at("live/hab/svc/api").join(odd), "odd").unwrap();
    let long = ["deep"; 60].join("/");
    sites.write(&format!("live/hab/svc/api/{long}/{}", "n".repeat(250)), "long", 0o600);
    symlink("x".repeat(300), sites.at("live/hab/svc/api/long-link")).unwrap();
    fs::set_permissions(sites.at("live/hab/svc"), Permissions::from_mode(0o750)).unwrap();
    if is_root() {
        chown(sites.at("live/hab/svc/api/files/bldr-1.box.key"), Some(65_534), Some(65_534)).unwrap();
        chown(sites.at("live/hab/svc"), Some(65_534), Some(0)).unwrap();
    }
}

#[tokio::test]
async fn every_mode_owner_link_and_name_comes_back() {
    let sites = Sites::new();
    fill_live(&sites);
    let source = sites.capture(&["/hab/svc/api"]).await;
    let restored = sites.restore(&source).await.unwrap();
    assert_eq!(tree(&sites.at("spare")), tree(&sites.at("live")));
    assert_eq!(restored.unchanged, 0);
    assert!(restored.kept.is_empty(), "nothing was there to keep");
    assert_eq!(sites.differences(&source).await, Vec::<String>::new());
    let time = |site: &str| fs::metadata(sites.at(site).join("hab/svc/api/config.toml")).unwrap().mtime();
    assert_eq!(time("spare"), time("live"));

    // A second run finds nothing to do.
    let again = sites.restore(&source).await.unwrap();
    assert!(again.written.is_empty() && again.kept.is_empty(), "{again:?}");
    assert_eq!(again.unchanged, restored.written.len() as u64);
}

/// The day warmspare itself is what is broken.
#[tokio::test]
async fn a_stock_tar_opens_the_bundle() {
    let sites = Sites::new();
    fill_live(&sites);
    let source = sites.capture(&["/hab/svc/api"]).await;
    fs::write(sites.at("bundle.tar"), source.bytes(&stream_name("config")).unwrap()).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-x", "-p", "--same-owner", "--strip-components=1", "-C"]).arg(sites.at("spare"));
    let output = tar.arg("-f").arg(sites.at("bundle.tar")).arg("files").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(sites.differences(&source).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_never_captured_in_silence() {
    let sites = Sites::new();
    sites.write("live/etc/app.conf", "x", 0o600);
    let error = capture(&sites.export("live", &["/etc/app.conf", "/etc/*.key"])).await.unwrap_err();
    assert!(error.to_string().starts_with("file pattern `/etc/*.key` matches nothing"), "{error}");
    assert!(error.next_step().unwrap().contains("`?/etc/*.key`"));
    let (facts, _) = capture(&sites.export("live", &["/etc/app.conf", "?/etc/*.key"])).await.unwrap();
    assert_eq!((facts.files, facts.bytes), (1, 1));
}

#[tokio::test]
async fn a_socket_is_named_when_left_out_and_refused_when_asked_for() {
    let sites = Sites::new();
    sites.write("live/run/app/key", "x", 0o600);
    let _socket = std::os::unix::net::UnixListener::bind(sites.at("live/run/app/sock")).unwrap();
    let (facts, _) = capture(&sites.export("live", &["/run/app"])).await.unwrap();
    let remarks: Vec<String> = facts.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(remarks, ["\"/run/app/sock\" is a socket and was not captured"]);
    let error = capture(&sites.export("live", &["/run/app/sock"])).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
}

/// Restored without its ACL, the mask would become the group's rights.
#[tokio::test]
async fn a_file_with_an_acl_is_refused_by_name() {
    let sites = Sites::new();
    sites.write("live/etc/key", "x", 0o640);
    // user::rw- user:65534:r-- group::--- mask::r-- other::---, as in linux/posix_acl_xattr.h
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 65_534), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(sites.at("live/etc/key"), "system.posix_acl_access", &acl, flags).is_err() {
        eprintln!("skipped: this file system has no ACLs");
        return;
    }
    let error = capture(&sites.export("live", &["/etc"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"/etc/key\" has the extended attribute system.posix_acl_access, which an export does not carry"
    );
}

#[tokio::test]
async fn outputs_of_commands_come_back_readable_by_their_owner_only() {
    let sites = Sites::new();
    let mut export = sites.export("live", &[]);
    export.commands.insert("version".into(), vec!["printf".into(), "1.2.3".into()]);
    let (facts, source) = capture(&export).await.unwrap();
    assert_eq!(facts.commands, 1);
    let restored = sites.restore(&source).await.unwrap();
    let output = sites.at("state/commands/version");
    assert_eq!(restored.commands, std::slice::from_ref(&output));
    assert_eq!((read(&output).as_str(), mode(&output)), ("1.2.3", 0o600));
    assert_eq!(mode(&sites.at("state/commands")), 0o700);
    assert!(tree(&sites.at("spare")).is_empty());

    export.commands.insert("token".into(), vec!["sh".into(), "-c".into(), "echo denied >&2; exit 1".into()]);
    let error = capture(&export).await.unwrap_err();
    assert_eq!(error.to_string(), "command `token` failed (exit status: 1): denied");
    export.commands = BTreeMap::from([("../token".to_owned(), vec!["true".to_owned(), "x".to_owned()])]);
    assert!(capture(&export).await.is_err());
}

#[tokio::test]
async fn the_digest_changes_with_what_matters_and_with_nothing_else() {
    let sites = Sites::new();
    sites.write("live/etc/a", "one", 0o600);
    sites.write("live/etc/b", "two", 0o600);
    let export = sites.export("live", &["/etc"]);
    let (facts, _) = capture(&export).await.unwrap();
    let mut seen = vec![facts.digest];
    assert_eq!(export::digest(&export).await.unwrap(), facts.digest);
    let touched = File::options().write(true).open(sites.at("live/etc/a")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(export::digest(&export).await.unwrap(), facts.digest, "a time is no change");

    let changes: [&dyn Fn(); 5] = [
        &|| sites.write("live/etc/a", "One", 0o600),
        &|| sites.write("live/etc/a", "One", 0o640),
        &|| fs::rename(sites.at("live/etc/b"), sites.at("live/etc/c")).unwrap(),
        &|| symlink("c", sites.at("live/etc/d")).unwrap(),
        &|| fs::set_permissions(sites.at("live/etc"), Permissions::from_mode(0o700)).unwrap(),
    ];
    for change in changes {
        change();
        let digest = export::digest(&export).await.unwrap();
        assert!(!seen.contains(&digest));
        seen.push(digest);
    }
}

/// A sink that appends to the captured file while it takes its first block.
struct Meddler(PathBuf);

impl Sink for Meddler {
    type Stream = MeddlerStream;

    async fn open(&self, _name: StreamName) -> Result<MeddlerStream, Error> {
        Ok(MeddlerStream(File::options().append(true).open(&self.0).unwrap()))
    }
}

struct MeddlerStream(File);

impl SinkStream for MeddlerStream {
    async fn write(&mut self, _data: Bytes) -> Result<(), Error> {
        self.0.write_all(b"more").unwrap();
        Ok(())
    }

    async fn finish(self, _attributes: Attributes) -> Result<StreamEntry, Error> {
        unreachable!("a torn file was captured")
    }
}

/// Blocks are handed on while the file is read, so a file larger than all blocks under way is surely caught.
#[tokio::test]
async fn a_large_file_that_is_written_meanwhile_is_named_not_captured_torn() {
    let sites = Sites::new();
    sites.write("live/var/db.sqlite", &"x".repeat(9 << 20), 0o600);
    let export = sites.export("live", &["/var/db.sqlite"]);
    let meddler = Meddler(sites.at("live/var/db.sqlite"));
    let error = export::capture(&export, &meddler, &SystemClock, &Progress::silent()).await.unwrap_err();
    assert_eq!(error.to_string(), "\"/var/db.sqlite\" changed while it was read");
    assert!(error.next_step().unwrap().contains("through a command that prints a consistent copy"));
    capture(&export).await.unwrap();
}

/// Files of proc(5) say they are empty and are not: they stand for one that grows at every attempt.
#[tokio::test]
async fn a_small_file_that_never_holds_still_is_named_after_some_attempts() {
    let mut export = Sites::new().export("live", &["/status"]);
    export.root = format!("/proc/{}", std::process::id()).into();
    let error = capture(&export).await.unwrap_err();
    assert_eq!(error.to_string(), "\"/status\" changed while it was read");
}

fn bundle_of(members: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut bundle = Vec::new();
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        if *kind == tar::EntryType::Symlink {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
            header.set_size(0);
        } else {
            header.set_size(content.len() as u64);
        }
        header.set_cksum();
        bundle.extend_from_slice(header.as_bytes());
        if *kind == tar::EntryType::Regular {
            bundle.extend_from_slice(content);
            bundle.resize(bundle.len().next_multiple_of(512), 0);
        }
    }
    bundle.resize(bundle.len() + 1024, 0);
    bundle
}

#[tokio::test]
async fn a_bundle_that_leads_out_of_the_root_writes_nothing_and_is_named() {
    use tar::EntryType::{Fifo, Link, Regular};
    let good: (&[u8], _, &[u8]) = (b"files/etc/a-good", Regular, b"x");
    for (name, kind) in [
        (&b"files/../../escaped"[..], Regular),
        (b"/escaped", Regular),
        (b"escaped", Regular),
        (b"files/etc/../../../escaped", Regular),
        (b"commands/../escaped", Regular),
        (b"files/etc/fifo", Fifo),
        (b"files/etc/hard", Link),
    ] {
        let sites = Sites::new();
        let mut source = MemorySource::default();
        source.put(stream_name("config"), bundle_of(&[good, (name, kind, b"x")]));
        let error = sites.restore(&source).await.unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{error}");
        assert!(error.to_string().contains(&*String::from_utf8_lossy(name)), "{error}");
        assert!(tree(&sites.at("spare")).is_empty(), "the good member was written before the bad one was seen");
        assert!(!sites.at("escaped").exists());
    }
}

#[tokio::test]
async fn a_link_on_the_way_never_leads_out_of_the_root() {
    let sites = Sites::new();
    fs::create_dir(sites.at("outside")).unwrap();
    fs::create_dir(sites.at("spare/etc")).unwrap();
    symlink(sites.at("outside"), sites.at("spare/etc/app")).unwrap();
    let mut source = MemorySource::default();
    source.put(stream_name("config"), bundle_of(&[(b"files/etc/app/key", tar::EntryType::Regular, b"x")]));
    let error = sites.restore(&source).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("etc/app\" should be a folder"), "{error}");
    // Nor one that the bundle itself brings along.
    let mut source = MemorySource::default();
    let outside = sites.at("outside");
    let link = (&b"files/way"[..], tar::EntryType::Symlink, outside.as_os_str().as_bytes());
    source.put(stream_name("config"), bundle_of(&[link, (b"files/way/key", tar::EntryType::Regular, b"x")]));
    assert!(sites.restore(&source).await.is_err());
    assert!(tree(&outside).is_empty());

    // A link that stays inside is the layout of this host, and is honoured.
    fs::remove_file(sites.at("spare/etc/app")).unwrap();
    fs::create_dir_all(sites.at("spare/data/app")).unwrap();
    symlink("/data/app", sites.at("spare/etc/app")).unwrap();
    let mut source = MemorySource::default();
    source.put(stream_name("config"), bundle_of(&[(b"files/etc/app/key", tar::EntryType::Regular, b"x")]));
    sites.restore(&source).await.unwrap();
    assert_eq!(read(&sites.at("spare/data/app/key")), "x");
}

#[tokio::test]
async fn a_damaged_or_cut_bundle_replaces_nothing() {
    let sites = Sites::new();
    sites.write("live/etc/a", "new", 0o600);
    sites.write("spare/etc/a", "old", 0o600);
    let good = sites.capture(&["/etc/a"]).await;
    let bytes = good.bytes(&stream_name("config")).unwrap();
    let before = tree(&sites.at("spare"));
    let mut damaged = good.clone();
    damaged.corrupt(&stream_name("config"), bytes.len() - 1);
    let mut cut = good.clone();
    cut.put(stream_name("config"), bytes.slice(..bytes.len() - 1024 - 300));
    for source in [damaged, cut] {
        sites.restore(&source).await.unwrap_err();
        assert_eq!(tree(&sites.at("spare")), before);
    }
}

#[tokio::test]
async fn what_is_replaced_is_kept_and_the_first_copy_is_never_overwritten() {
    let sites = Sites::new();
    sites.write("live/etc/app/key", "of the live site", 0o600);
    sites.write("spare/etc/app/key", "of the spare", 0o640);
    symlink("key", sites.at("live/etc/app/link")).unwrap();
    symlink("elsewhere", sites.at("spare/etc/app/link")).unwrap();
    let source = sites.capture(&["/etc/app/*"]).await;
    let restored = sites.restore(&source).await.unwrap();
    let (first, second) = (sites.at("state/kept/1/etc/app/key"), sites.at("state/kept/2/etc/app/key"));
    assert_eq!(restored.kept[Path::new("/etc/app/key")], first);
    assert_eq!((read(&first).as_str(), mode(&first)), ("of the spare", 0o640));
    assert_eq!(fs::read_link(sites.at("state/kept/1/etc/app/link")).unwrap(), Path::new("elsewhere"));
    for folder in ["state/kept", "state/kept/1", "state/kept/1/etc/app"] {
        assert_eq!(mode(&sites.at(folder)), 0o700, "{folder}");
    }
    assert_eq!(read(&sites.at("spare/etc/app/key")), "of the live site");

    sites.write("spare/etc/app/key", "changed by hand", 0o600);
    let restored = sites.restore(&source).await.unwrap();
    assert_eq!(restored.kept[Path::new("/etc/app/key")], second);
    assert_eq!((read(&first).as_str(), read(&second).as_str()), ("of the spare", "changed by hand"));
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_write_and_touches_nothing() {
    let sites = Sites::new();
    sites.write("live/etc/a", "new", 0o600);
    sites.write("live/etc/b", "same", 0o600);
    sites.write("spare/etc/a", "old", 0o600);
    sites.write("spare/etc/b", "same", 0o600);
    let source = sites.capture(&["/etc/*"]).await;
    let before = tree(sites.folder.path());
    let mut places = sites.places();
    let run = async |places: &Places| {
        restore(&source, &sites.export("spare", &[]), places, Effect::List, &Progress::silent()).await.unwrap()
    };
    let listed = run(&places).await;
    assert_eq!(listed.written.keys().collect::<Vec<_>>(), [Path::new("/etc/a")]);
    assert_eq!(listed.unchanged, 1);
    places.into = Some(sites.at("scratch"));
    assert_eq!(run(&places).await.written.len(), 2);
    assert_eq!(tree(sites.folder.path()), before);
}

#[tokio::test]
async fn a_scratch_place_takes_the_files_and_the_site_stays_as_it_is() {
    let sites = Sites::new();
    sites.write("live/etc/a", "new", 0o600);
    sites.write("spare/etc/a", "old", 0o600);
    let source = sites.capture(&["/etc/a"]).await;
    let places = Places { into: Some(sites.at("scratch/files")), ..sites.places() };
    let spare = sites.export("spare", &[]);
    restore(&source, &spare, &places, Effect::Write, &Progress::silent()).await.unwrap();
    assert_eq!(
        (read(&sites.at("scratch/files/etc/a")).as_str(), read(&sites.at("spare/etc/a")).as_str()),
        ("new", "old")
    );
    assert_eq!(check(&source, &spare, places.into.as_deref()).await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_in_the_way_of_a_file_is_not_removed_without_a_person() {
    let sites = Sites::new();
    sites.write("live/etc/a", "new", 0o600);
    sites.write("live/etc/b", "new", 0o600);
    sites.write("spare/etc/b/precious", "old", 0o600);
    let source = sites.capture(&["/etc/*"]).await;
    let error = sites.restore(&source).await.unwrap_err();
    assert_eq!(error.to_string(), "\"/etc/b\" should be a file, but a folder stands there");
    assert!(!sites.at("spare/etc/a").exists(), "nothing is written when something is in the way");
}

#[tokio::test]
async fn a_secret_is_not_given_to_whoever_has_that_number_here() {
    let sites = Sites::new();
    let mut source = MemorySource::default();
    let mut bundle = bundle_of(&[(b"files/key", tar::EntryType::Regular, b"x")]);
    // uname at 265 (POSIX.1, pax, "ustar Interchange Format"); the number stays that of an account here: ours.
    bundle[265..274].copy_from_slice(b"hab-at-ls");
    let header = bundle.first_chunk_mut::<512>().unwrap();
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    source.put(stream_name("config"), bundle);
    let error = sites.restore(&source).await.unwrap_err();
    assert!(error.to_string().contains("belongs to user hab-at-ls, who has no account here"), "{error}");
    assert!(error.next_step().unwrap().contains("Create the user `hab-at-ls`"));
    assert!(tree(&sites.at("spare")).is_empty());
}

#[tokio::test]
async fn each_kind_of_difference_turns_the_proof_red_by_name() {
    let sites = Sites::new();
    for name in ["content", "length", "gone", "kind", "mode", "owner"] {
        sites.write(&format!("live/etc/{name}"), "abc", 0o600);
    }
    symlink("mode", sites.at("live/etc/target")).unwrap();
    fs::create_dir(sites.at("live/etc/folder")).unwrap();
    let source = sites.capture(&["/etc"]).await;
    sites.restore(&source).await.unwrap();
    let etc = sites.at("spare/etc");
    fs::write(etc.join("content"), "abd").unwrap();
    fs::write(etc.join("length"), "abcd").unwrap();
    fs::remove_file(etc.join("gone")).unwrap();
    fs::remove_file(etc.join("kind")).unwrap();
    symlink("content", etc.join("kind")).unwrap();
    fs::set_permissions(etc.join("mode"), Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(etc.join("target")).unwrap();
    symlink("content", etc.join("target")).unwrap();
    fs::set_permissions(etc.join("folder"), Permissions::from_mode(0o700)).unwrap();
    let mut expected = vec![
        "\"/etc/content\" has other content",
        "\"/etc/folder\" has mode 0700, expected 0755",
        "\"/etc/gone\" is missing",
        "\"/etc/kind\" is a link, expected a file",
        "\"/etc/length\" has other content",
        "\"/etc/mode\" has mode 0644, expected 0600",
    ];
    if is_root() {
        chown(etc.join("owner"), Some(65_534), Some(65_534)).unwrap();
        expected.push("\"/etc/owner\" belongs to user nobody, expected root");
        expected.push("\"/etc/owner\" belongs to group nogroup, expected root");
    }
    expected.push("\"/etc/target\" points to \"content\", expected \"mode\"");
    assert_eq!(sites.differences(&source).await, expected);
    // And a restore puts all of it right.
    sites.restore(&source).await.unwrap();
    assert_eq!(sites.differences(&source).await, Vec::<String>::new());
}
