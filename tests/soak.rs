//! A vault of fourteen months: 10,000 hourly points, 30,000 snapshots, 200,000 packs. Listing it and planning a pass take
//! less than a minute and 256 MiB. `make soak` runs it with the release binary and prints what it measured.

mod processes;
mod schedule;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use warmspare::clock::FixedClock;
use warmspare::keys::{Recipient, SigningKey};
use warmspare::pipeline::{ChunkerParameters, seal};
use warmspare::stream::{StreamEntry, StreamKind, StreamName};
use warmspare::vault::layout::{EpochId, Layout, PointId, SnapshotId};
use warmspare::vault::v1::body::{self, Extent, StoredStream};
use warmspare::vault::v1::{BodyLink, Closure, Link, PointRecord, PointSnapshot, SealedRecord, Signed, SnapshotHeader};
use warmspare::vault::{EpochKeeping, open_epoch};

use crate::support::history::History;

const POINTS: u64 = 10_000;
const POINTS_AN_EPOCH: u64 = 144;
const PACKS: u64 = 200_000;
const SOURCES: [&str; 3] = ["database.app", "bucket.artifacts", "export.configs"];
/// A snapshot's body names so many of the packs before its own.
const PACKS_SHARED: u64 = 100;

const SECONDS_MAX: u64 = 60;
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// One epoch being filled.
struct Filling<'a> {
    history: &'a History,
    layout: Layout,
    signer: SigningKey,
    epoch: EpochId,
    recipient: Recipient,
    packs: Vec<blake3::Hash>,
    last: Option<Link>,
    seq: u64,
}

impl Filling<'_> {
    fn put(&self, key: &str, bytes: &[u8], at: Timestamp) {
        let path = self.history.vault().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(at.into()).unwrap();
    }

    /// Packs for one point: a few bytes each, because neither a listing nor a plan opens one.
    fn pack(&mut self, count: u64, at: Timestamp) {
        for _ in 0..count {
            let name = blake3::hash(format!("{} {}", self.epoch, self.packs.len()).as_bytes());
            self.put(&self.layout.pack(self.epoch, &name), b"a pack", at);
            self.packs.push(name);
        }
    }

    fn snapshot(&mut self, source: &str, at: Timestamp) -> PointSnapshot {
        self.seq += 1;
        let (epoch, seq) = (self.epoch, self.seq);
        let id = SnapshotId { epoch, seq };
        let named = source.parse().unwrap();
        let from = self.packs.len().saturating_sub(PACKS_SHARED as usize);
        let extent = |pack: &blake3::Hash| Extent { pack: *pack, first: 0, slots: 1, offset: 0, bytes: 100 };
        let extents: Vec<Extent> = self.packs[from..].iter().map(extent).collect();
        let bytes = extents.len() as u64 * 100;
        let name = StreamName::new(StreamKind::Table, "public.packages");
        let entry = StreamEntry { name, bytes, blake3: blake3::hash(b"rows"), attributes: Default::default() };
        let text = body::encode(&[StoredStream { entry, extents }]);
        let frame = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let sealed = seal(std::slice::from_ref(&self.recipient), &frame).unwrap();
        self.put(&self.layout.body(&named, id), &sealed, at);
        let facts = (0..17).map(|n| (format!("what_was_counted_{n}"), serde_json::json!(n * 1_000_003)));
        let header = SnapshotHeader {
            format: 1,
            kind: "snapshot".into(),
            system: "app".into(),
            source: source.into(),
            term: epoch.term,
            epoch: epoch.epoch,
            seq,
            previous: self.last.take(),
            writer: "ams".into(),
            captured_at: at,
            body: BodyLink { bytes: sealed.len() as u64, blake3: blake3::hash(&sealed).to_hex().to_string() },
            streams: 1,
            bytes,
            stored_bytes: bytes,
            facts: serde_json::Value::Object(facts.collect()),
            software: "soak".into(),
        };
        let key = self.layout.header(&named, id);
        let bytes = Signed::encode(&header, &key, "ams", &self.signer).unwrap();
        self.put(&key, &bytes, at);
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        self.last = Some(Link { seq, blake3: blake3.clone() });
        PointSnapshot { source: source.into(), term: epoch.term, epoch: epoch.epoch, seq, blake3 }
    }

    fn point(&mut self, seq: u64, previous: Option<Link>, at: Timestamp) -> Link {
        let snapshots = SOURCES.map(|source| self.snapshot(source, at));
        let record = PointRecord {
            format: 1,
            kind: "point".into(),
            system: "app".into(),
            term: 0,
            seq,
            previous,
            writer: "ams".into(),
            started_at: at,
            captured_at: at,
            finished_at: at,
            snapshots: snapshots.into(),
            closure: Closure { verdict: "not judged".into() },
            software: "soak".into(),
        };
        let key = self.layout.point(PointId { term: 0, seq });
        let bytes = Signed::encode(&record, &key, "ams", &self.signer).unwrap();
        self.put(&key, &bytes, at);
        Link { seq, blake3: blake3::hash(&bytes).to_hex().to_string() }
    }

    fn seal(&self, at: Timestamp) {
        let record = SealedRecord {
            format: 1,
            kind: "sealed".into(),
            system: "app".into(),
            term: self.epoch.term,
            epoch: self.epoch.epoch,
            writer: "fra".into(),
            sealed_at: at,
            last: self.last.clone(),
            software: "soak".into(),
        };
        let key = self.layout.sealed(self.epoch);
        let bytes = Signed::encode(&record, &key, "fra", &self.history.signing_key("fra")).unwrap();
        self.put(&key, &bytes, at);
    }
}

/// Opens the epoch for the points from `hours` ago.
async fn open<'a>(history: &'a History, hours: i64) -> Filling<'a> {
    let at = history.hours_ago(hours);
    let signer = history.signing_key("ams");
    let (sealed_to, state) = ([history.identity().recipient()], history.path().join("ams/vault"));
    let keeping = EpochKeeping {
        system: "app",
        site: "ams",
        term: 0,
        sealed_to: &sealed_to,
        chunker: Some(ChunkerParameters::small()),
        signer: &signer,
        state: &state,
    };
    let epoch = open_epoch(&history.keys(), &keeping, &[], &FixedClock(at)).await.unwrap();
    let (id, recipient) = (epoch.id(), epoch.recipient().parse().unwrap());
    drop(epoch);
    let layout = Layout::new("app");
    for entry in fs::read_dir(history.vault().join(layout.epoch_prefix(id))).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(at.into()).unwrap();
    }
    Filling { history, layout, signer, epoch: id, recipient, packs: Vec::new(), last: None, seq: 0 }
}

async fn fill(history: &History) {
    let (mut previous, mut filling): (Option<Link>, Option<Filling>) = (None, None);
    for n in 0..POINTS {
        let hours = i64::try_from(POINTS - n).unwrap();
        if n % POINTS_AN_EPOCH == 0 {
            if let Some(full) = filling.take() {
                full.seal(history.hours_ago(hours - 30));
            }
            filling = Some(open(history, hours).await);
        }
        let (epoch, at) = (filling.as_mut().unwrap(), history.hours_ago(hours));
        epoch.pack(PACKS / POINTS, at);
        previous = Some(epoch.point(n + 1, previous.take(), at));
    }
}

/// Runs the binary with its output in a file; returns how long it took and the most memory it held.
fn measure(history: &History, arguments: &[&str], output: &Path) -> (Duration, u64) {
    let binary = std::env::var("WARMSPARE_SOAK_BINARY").unwrap_or(env!("CARGO_BIN_EXE_warmspare").to_owned());
    let mut command = Command::new(binary);
    command.env("WARMSPARE_CONFIG", history.path().join("w.toml")).env("WARMSPARE_SITE", "fra").args(arguments);
    let begun = Instant::now();
    let mut child = command.stdout(fs::File::create(output).unwrap()).stderr(Stdio::inherit()).spawn().unwrap();
    let (status, mut peak) = (format!("/proc/{}/status", child.id()), 0);
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: u64 = high.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = peak.max(kib << 10);
        // Not waiting for anything: how often the memory is looked at. The mark only rises.
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "{arguments:?}: {ended}");
    (begun.elapsed(), peak)
}

#[tokio::test]
#[ignore = "writes 270,000 files; make soak runs it"]
async fn ten_thousand_points_are_listed_and_planned_in_a_minute_and_256_mib() {
    let history = History::new("");
    let begun = Instant::now();
    fill(&history).await;
    println!("{POINTS} points, {PACKS} packs, written in {:.0} s", begun.elapsed().as_secs_f64());
    let output = history.path().join("output");
    let mut findings = Vec::new();
    for arguments in [&["points", "--json"][..], &["points"], &["prune", "--dry-run", "--json"]] {
        let (took, peak) = measure(&history, arguments, &output);
        let (seconds, mib) = (took.as_secs_f64(), peak >> 20);
        println!("{}: {seconds:.1} s, {mib} MiB, {} bytes out", arguments.join(" "), output.metadata().unwrap().len());
        if took.as_secs() >= SECONDS_MAX || peak >= MEMORY_BYTES_MAX {
            findings.push(format!("{arguments:?}: {seconds:.1} s, {mib} MiB"));
        }
    }
    let plan: serde_json::Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert_eq!(plan["points"].as_array().unwrap().len() as u64, POINTS);
    assert!(plan["objects"].as_u64().unwrap() > 10_000, "there is something to plan: {}", plan["objects"]);
    println!("the plan: {} objects, {} wait", plan["objects"], plan["waiting"]);
    assert!(findings.is_empty(), "more than {SECONDS_MAX} s or 256 MiB: {findings:?}");
}
