//! The golden vault: one of format 1, checked in, that every later release has to read. What a newer release would have
//! written is told from damage, wherever it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use warmspare::keys::{Identity, SigningKey};
use warmspare::observe::Progress;
use warmspare::pipeline::{open, seal};
use warmspare::stream::{Source, SourceStream};
use warmspare::vault::layout::{EpochId, Layout};
use warmspare::vault::v1::{
    EpochRecord, HoldRecord, PointRecord, ProofRecord, Signed, SnapshotHeader, StatusRecord, body,
};
use warmspare::vault::{Fault, ScrubReport, ScrubRequest, Scrubber, Turns, scrub};

use crate::support::vaults::{Keyring, LIVE, MemoryKeys, SPARE, SYSTEM, contents, fill};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

/// The keys of the golden vault: of a vault that holds nothing, so they are no secret.
fn ring() -> Keyring {
    let text = std::fs::read_to_string(folder().join("keys.txt")).unwrap();
    let parts: Vec<SecretString> = text.split("\n\n").map(SecretString::from).collect();
    let identity = |at: usize| Identity::from_file_text(&parts[at]).unwrap();
    let signer = |at: usize| SigningKey::from_file_text(&parts[at]).unwrap().into();
    Keyring { spare: identity(0), escrow: identity(1), live_signer: signer(2), spare_signer: signer(3) }
}

fn objects() -> BTreeMap<String, Bytes> {
    let top = folder().join("vault");
    let mut found = BTreeMap::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                found.insert(key, std::fs::read(path).unwrap().into());
            }
        }
    }
    found
}

async fn verified(ring: &Keyring, keys: MemoryKeys) -> ScrubReport {
    let (reader, state) = (ring.reader(keys), tempfile::tempdir().unwrap());
    let listing = reader.points().await.unwrap();
    let scrubber = Scrubber {
        identity: Some(&ring.spare),
        state: state.path(),
        turns: &Turns::default(),
        at: Timestamp::UNIX_EPOCH,
    };
    scrub(&reader, &listing, &scrubber, ScrubRequest::FULL, &Progress::silent()).await.unwrap()
}

/// Wrote what is checked in, once: `cargo test --test it golden::written_once -- --ignored`. A format that was released
/// is never written again.
#[tokio::test]
#[ignore = "the golden vault was written once, and stays"]
async fn written_once() {
    assert!(!folder().exists(), "{} is there, and stays as it is", folder().display());
    let (ring, keys, state) = (Keyring::new(), MemoryKeys::default(), tempfile::tempdir().unwrap());
    fill(&keys, &ring, state.path()).await;
    for (key, body) in keys.objects() {
        let path = folder().join("vault").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    let texts = [
        ring.spare.to_file_text(),
        ring.escrow.to_file_text(),
        ring.live_signer.to_file_text(),
        ring.spare_signer.to_file_text(),
    ];
    let text: Vec<&str> = texts.iter().map(ExposeSecret::expose_secret).collect();
    std::fs::write(folder().join("keys.txt"), text.join("\n")).unwrap();
}

#[tokio::test]
async fn a_vault_of_format_1_is_read_completely() {
    let (ring, keys) = (ring(), MemoryKeys::of(objects()));
    let reader = ring.reader(keys.clone());
    reader.check_format().await.unwrap();
    let listing = reader.points().await.unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    for identity in [&ring.spare, &ring.escrow] {
        for (round, point) in (1..).zip(&listing.points) {
            for ((source, streams), (of, id, header)) in contents(round).iter().zip(&point.headers) {
                assert_eq!(*source, of.to_string());
                let snapshot = reader.open_snapshot(of, *id, header, identity).await.unwrap();
                assert_eq!(snapshot.entries().len(), streams.len());
                for ((kind, name, content), entry) in streams.iter().zip(snapshot.entries()) {
                    assert_eq!((entry.name.kind, entry.name.name.as_str()), (*kind, *name));
                    let (mut stream, mut read) = (snapshot.read(&entry.name).await.unwrap(), Vec::new());
                    while let Some(part) = stream.next().await.unwrap() {
                        read.extend_from_slice(&part);
                    }
                    assert_eq!(read, *content, "{} of {}", entry.name, point.id);
                }
            }
        }
    }
    assert_eq!(listing.points.len(), 3);
    let report = verified(&ring, keys).await;
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!((report.points, report.snapshots, report.hashed_packs), (3, 5, report.packs));
}

/// The golden vault with format 2 in one place.
struct Newer {
    ring: Keyring,
    objects: BTreeMap<String, Bytes>,
}

impl Newer {
    fn new() -> Self {
        Newer { ring: ring(), objects: objects() }
    }

    /// The record under `key`, changed, and signed by who signed it.
    fn sign(&mut self, key: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let text = String::from_utf8(self.objects[key].to_vec()).unwrap();
        let (line, signature) = text.split_once('\n').unwrap();
        let signer = if signature.contains("\"signer\":\"ams\"") { LIVE } else { SPARE };
        let signing = if signer == LIVE { &self.ring.live_signer } else { &self.ring.spare_signer };
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        change(&mut record);
        let bytes = Signed::encode(&record, key, signer, signing).unwrap();
        self.objects.insert(key.to_owned(), bytes.into());
    }

    /// The last snapshot, whose body `change` rewrites, named anew by its header and its point.
    fn rewrite_body(&mut self, change: impl FnOnce(String) -> String) {
        let (header, point) = (LAST.to_owned() + ".json", "systems/app/points/00000000-00000003.json");
        let body = LAST.to_owned() + ".body.age";
        let (identity, _) = self.secrets();
        let text = zstd::decode_all(open(&identity, &self.objects[&body]).unwrap().as_slice()).unwrap();
        let text = change(String::from_utf8(text).unwrap());
        let sealed = seal(&[identity.recipient()], &zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
        let (bytes, hash) = (sealed.len(), blake3::hash(&sealed).to_string());
        self.sign(&header, |record| record["body"] = serde_json::json!({ "bytes": bytes, "blake3": hash }));
        let hash = blake3::hash(&self.objects[&header]).to_string();
        self.sign(point, |record| record["snapshots"][1]["blake3"] = hash.into());
        self.objects.insert(body, sealed.into());
    }

    /// The second epoch's identity, and the text it stands in.
    fn secrets(&self) -> (Identity, String) {
        let plain = open(&self.ring.spare, &self.objects[SECRETS]).unwrap();
        let text = String::from_utf8(plain).unwrap();
        (Identity::from_file_text(&text.clone().into()).unwrap(), text)
    }

    /// Fails unless what is found is that `object` is of a newer format, and nothing is called damaged.
    async fn assert_unsupported(self, object: &str) {
        let report = verified(&self.ring, MemoryKeys::of(self.objects)).await;
        let found: Vec<_> = report.faults.iter().map(|fault| (fault.object.as_str(), fault.fault)).collect();
        assert_eq!(found, [(object, Fault::Unsupported)], "{:?}", report.faults);
        assert!(report.faults[0].what.contains("is not supported by this release"), "{:?}", report.faults);
    }
}

const LAST: &str = "systems/app/snapshots/export.configs/00000000-000002-00000002";
const SECRETS: &str = "systems/app/epochs/00000000-000002/secrets-0.age";

#[tokio::test]
async fn a_newer_record_is_unsupported_and_not_damaged() {
    let records: Vec<String> = objects().into_keys().filter(|key| key.ends_with(".json")).collect();
    assert_eq!(records.len(), 16);
    for key in records {
        let mut newer = Newer::new();
        if key == "vault.json" {
            let text = r#"{"format":2,"kind":"vault","features":[]}"#;
            newer.objects.insert(key.clone(), Bytes::from_static(text.as_bytes()));
            let error = newer.ring.reader(MemoryKeys::of(newer.objects.clone())).check_format().await.unwrap_err();
            assert!(error.is_unsupported(), "{error}");
        } else {
            newer.sign(&key, |record| record["format"] = 2.into());
        }
        newer.assert_unsupported(&key).await;
    }
}

#[tokio::test]
async fn a_newer_body_is_unsupported_and_not_damaged() {
    let mut newer = Newer::new();
    newer.rewrite_body(|text| text.replace("warmspare-body\t1\n", "warmspare-body\t2\n"));
    newer.assert_unsupported(&(LAST.to_owned() + ".body.age")).await;
}

#[tokio::test]
async fn newer_secrets_are_unsupported_and_not_damaged() {
    let mut newer = Newer::new();
    let (_, text) = newer.secrets();
    let text = text.replace("epoch secrets, format 1\n", "epoch secrets, format 2\n");
    let sealed = seal(&[newer.ring.spare.recipient()], text.as_bytes()).unwrap();
    newer.objects.insert(SECRETS.to_owned(), sealed.into());
    newer.assert_unsupported(SECRETS).await;
}

#[tokio::test]
async fn a_newer_pack_is_unsupported_and_not_damaged() {
    let mut newer = Newer::new();
    let (layout, epoch) = (Layout::new(SYSTEM), EpochId { term: 0, epoch: 2 });
    let (identity, _) = newer.secrets();
    let packs = newer.objects.clone();
    let mut pack = None;
    newer.rewrite_body(|text| {
        let old = body::decode(&text).unwrap()[0].extents[0].pack;
        let mut plain = open(&identity, &packs[&layout.pack(epoch, &old)]).unwrap();
        let magic = plain.windows(4).rposition(|window| window == b"WSP1").unwrap();
        plain[magic + 3] = b'2';
        let sealed = seal(&[identity.recipient()], &plain).unwrap();
        let new = blake3::hash(&sealed);
        pack = Some((layout.pack(epoch, &new), sealed));
        text.replace(&old.to_string(), &new.to_string())
    });
    let (key, sealed) = pack.unwrap();
    newer.objects.insert(key.clone(), sealed.into());
    newer.assert_unsupported(&key).await;
}

#[test]
fn the_types_of_format_1_read_the_golden_records() {
    // A field that was renamed would be read as missing by every release before it.
    let read = |key: &str| objects()[key].split(|byte| *byte == b'\n').next().unwrap().to_vec();
    let epoch: EpochRecord = serde_json::from_slice(&read("systems/app/epochs/00000000-000001/epoch.json")).unwrap();
    assert_eq!(epoch.not_after.duration_since(epoch.created_at).as_hours(), 7 * 24);
    let point: PointRecord = serde_json::from_slice(&read("systems/app/points/00000000-00000002.json")).unwrap();
    assert_eq!(point.previous.unwrap().seq, 1);
    let header: SnapshotHeader = serde_json::from_slice(&read(&format!("{LAST}.json"))).unwrap();
    assert_eq!((header.streams, header.seq), (2, 2));
    let proof = read("systems/app/proofs/00000000-00000003-fra-00000001.json");
    assert!(serde_json::from_slice::<ProofRecord>(&proof).unwrap().complete);
    let status: StatusRecord = serde_json::from_slice(&read("systems/app/status/fra.json")).unwrap();
    assert_eq!(status.newest_proven.as_deref(), Some("0-3"));
    let hold: HoldRecord = serde_json::from_slice(&read("systems/app/holds/00000000-00000001-00000001.json")).unwrap();
    assert!(hold.held);
}

/// Wrote the first inputs of the fuzz targets; `make fuzz` adds to them and keeps the smallest.
#[tokio::test]
#[ignore = "fuzz/corpus is checked in"]
async fn seeds_of_the_fuzz_targets() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let put = |target: &str, content: &[u8]| {
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(&blake3::hash(content).to_hex()[..16]), content).unwrap();
    };
    let (golden, ring) = (Newer::new(), ring());
    let (identity, secrets) = golden.secrets();
    for (key, content) in &golden.objects {
        put("configuration", key.as_bytes());
        match open(&identity, content) {
            Ok(pack) if key.contains("/packs/") => put("pack", &pack),
            Ok(body) => {
                put("manifest", &zstd::decode_all(body.as_slice()).unwrap());
                put("manifest", &body);
            }
            Err(_) if key.ends_with(".json") => put("record", content),
            Err(_) => {}
        }
    }
    put("manifest", &contents(1)[1].1[1].2);
    // No secret key: words that begin like one are enough.
    put("configuration", secrets.lines().take(4).collect::<Vec<_>>().join("\n").as_bytes());
    put("configuration", format!("{}\n0-12 64MiB 1h30m", ring.live_signer.verifying_key()).as_bytes());
    let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md")).unwrap();
    for block in sample.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("toml\n")) {
        put("configuration", block.as_bytes());
    }
}
