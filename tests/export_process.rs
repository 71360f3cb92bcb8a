//! Exports in a process of their own: how much memory one takes, and what is left when one is killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use warmspare::capture::export::{self, stream_name};
use warmspare::clock::SystemClock;
use warmspare::config::address::ExportAddress;
use warmspare::error::Error;
use warmspare::observe::Progress;
use warmspare::restore::steps::files::{Effect, Places, restore};
use warmspare::stream::{Attributes, Sink, SinkStream, Source, SourceStream, StreamEntry, StreamName};
use warmspare::verify::files::check;

use crate::export::{Sites, read};
#[cfg(feature = "failpoints")]
use crate::{
    export::{capture, fill_live, tree},
    support::memory::MemorySource,
};

/// One stream in one file on the disk, so that a test can measure memory.
struct OnDisk {
    path: PathBuf,
    entries: Vec<StreamEntry>,
}

struct DiskStream(File);

impl Sink for OnDisk {
    type Stream = DiskStream;

    async fn open(&self, _name: StreamName) -> Result<DiskStream, Error> {
        Ok(DiskStream(File::create(&self.path).unwrap()))
    }
}

impl SinkStream for DiskStream {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.0.write_all(&data).unwrap();
        Ok(())
    }

    async fn finish(self, attributes: Attributes) -> Result<StreamEntry, Error> {
        Ok(StreamEntry { name: stream_name("config"), bytes: 0, blake3: blake3::hash(b""), attributes })
    }
}

impl Source for OnDisk {
    type Stream = DiskStream;

    fn entries(&self) -> &[StreamEntry] {
        &self.entries
    }

    async fn read(&self, _name: &StreamName) -> Result<DiskStream, Error> {
        Ok(DiskStream(File::open(&self.path).unwrap()))
    }
}

impl SourceStream for DiskStream {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut block = vec![0; 64 << 10];
        let length = self.0.read(&mut block).unwrap();
        block.truncate(length);
        Ok((length > 0).then(|| block.into()))
    }
}

/// Runs one ignored test of this file in a process of its own; returns whether it ended well, or was killed.
fn in_a_process(test: &str, folder: &Path, environment: &[(&str, &str)]) -> std::process::ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("export_process::{test}"), "--exact", "--ignored"]).env("EXPORT_TEST_FOLDER", folder);
    command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

fn sites_of_parent() -> Option<PathBuf> {
    std::env::var_os("EXPORT_TEST_FOLDER").map(PathBuf::from)
}

#[test]
fn a_file_larger_than_the_memory_we_allow_ourselves_is_captured_and_restored() {
    let sites = Sites::new();
    sites.write("live/var/big", "", 0o600);
    let big = File::options().write(true).open(sites.at("live/var/big")).unwrap();
    big.set_len(100 << 20).unwrap();
    assert!(in_a_process("within_little_memory", sites.folder.path(), &[]).success());
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn within_little_memory() {
    let Some(folder) = sites_of_parent() else { return };
    let export = |site: &str| ExportAddress {
        name: "config".into(),
        root: folder.join(site),
        files: vec!["/var/big".into()],
        commands: BTreeMap::new(),
    };
    let disk = OnDisk { path: folder.join("stream"), entries: Vec::new() };
    let before = memory_peak_kib();
    export::capture(&export("live"), &disk, &SystemClock, &Progress::silent()).await.unwrap();
    let places = Places { into: None, kept: folder.join("kept"), commands: folder.join("commands") };
    restore(&disk, &export("spare"), &places, Effect::Write, &Progress::silent()).await.unwrap();
    assert_eq!(check(&disk, &export("spare"), None).await.unwrap(), []);
    let grown = memory_peak_kib() - before;
    assert!(grown < 24 << 10, "memory grew by {grown} KiB");
}

fn memory_peak_kib() -> u64 {
    let status = read(Path::new("/proc/self/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Killed with signal 9 directly after each durable step, then run again.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_restore_killed_at_any_step_and_run_again_loses_no_original() {
    let prepare = async || {
        let sites = Sites::new();
        fill_live(&sites);
        sites.write("spare/hab/svc/api/config.toml", "original", 0o640);
        std::fs::create_dir_all(sites.at("spare/hab/svc/api/no files")).unwrap();
        std::fs::set_permissions(
            sites.at("spare/hab/svc/api/no files"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let mut export = sites.export("live", &["/hab/svc/api"]);
        export.commands.insert("version".into(), vec!["printf".into(), "1.2.3".into()]);
        let source = capture(&export).await.unwrap().1;
        std::fs::write(sites.at("bundle"), source.bytes(&stream_name("config")).unwrap()).unwrap();
        (sites, source)
    };
    let (sites, _) = prepare().await;
    let log = sites.at("log");
    assert!(
        in_a_process("from_the_bundle", sites.folder.path(), &[("WARMSPARE_FAILPOINT_LOG", log.to_str().unwrap())])
            .success()
    );
    let mut steps: BTreeMap<String, u32> = BTreeMap::new();
    for step in read(&log).lines() {
        *steps.entry(step.to_owned()).or_default() += 1;
    }
    println!("steps hit: {steps:?}");
    let names: Vec<&str> = steps.keys().map(String::as_str).collect();
    let all = ["amended", "command", "folder", "kept", "placed", "staged"].map(|step| format!("restore.files.{step}"));
    assert_eq!(names, all);

    for (step, count) in &steps {
        // The first, one in the middle, the last.
        for nth in [1, count.div_ceil(2), *count] {
            let (sites, source) = prepare().await;
            let killed = in_a_process(
                "from_the_bundle",
                sites.folder.path(),
                &[("WARMSPARE_FAILPOINT", &format!("{step}:{nth}"))],
            );
            assert!(!killed.success(), "{step}:{nth} was not reached");
            sites.restore(&source).await.unwrap();
            assert_eq!(sites.differences(&source).await, Vec::<String>::new(), "{step}:{nth}");
            assert_eq!(read(&sites.at("state/kept/1/hab/svc/api/config.toml")), "original", "{step}:{nth}");
            assert!(
                !sites.at("state/kept/2").exists(),
                "{step}:{nth}: the new file was kept as if it were an original"
            );
            let left: Vec<_> = tree(sites.folder.path())
                .into_keys()
                .filter(|path| export::is_staged(path.file_name().unwrap()))
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "{step}:{nth}");
        }
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn from_the_bundle() {
    let Some(folder) = sites_of_parent() else { return };
    let mut source = MemorySource::default();
    source.put(stream_name("config"), std::fs::read(folder.join("bundle")).unwrap());
    let spare = ExportAddress {
        name: "config".into(),
        root: folder.join("spare"),
        files: Vec::new(),
        commands: BTreeMap::new(),
    };
    let places = Places { into: None, kept: folder.join("state/kept"), commands: folder.join("state/commands") };
    restore(&source, &spare, &places, Effect::Write, &Progress::silent()).await.unwrap();
}
