//! A whole vault in memory, small enough that every byte of it can be tried: two epochs, three points, every kind of
//! stream and record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use warmspare::clock::{Clock, FixedClock};
use warmspare::keys::{Identity, SigningKey, VerifyingKey};
use warmspare::pipeline::ChunkerParameters;
use warmspare::store::{Create, Created, ListedKey, Place, Read, Replace, StoreError};
use warmspare::stream::{Attributes, Sink, SinkStream, StreamKind, StreamName};
use warmspare::vault::layout::{Layout, PointId};
use warmspare::vault::v1::{HoldRecord, ProofStep, Signed, Verdict};
use warmspare::vault::{
    EpochKeeping, EpochWriter, NewPoint, NewProof, SeenPoints, StatusKeeping, VaultReader, open_epoch, put_proof,
    update_status,
};

/// A store that is a map, and that remembers which keys were read.
#[derive(Clone, Default)]
pub struct MemoryKeys(Arc<Mutex<BTreeMap<String, Bytes>>>, Arc<Mutex<BTreeSet<String>>>);

impl MemoryKeys {
    pub fn of(objects: BTreeMap<String, Bytes>) -> Self {
        MemoryKeys(Arc::new(Mutex::new(objects)), Arc::default())
    }

    /// The keys that were read since this was asked last.
    pub fn taken_reads(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }

    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.lock().unwrap().clone()
    }

    pub fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.0.lock().unwrap().insert(key.to_owned(), body.into());
    }

    pub fn remove(&self, key: &str) {
        self.0.lock().unwrap().remove(key);
    }
}

impl Create for MemoryKeys {
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let mut objects = self.0.lock().unwrap();
        if objects.contains_key(key) {
            return Ok(Created::Taken);
        }
        objects.insert(key.to_owned(), body);
        Ok(Created::New)
    }
}

impl Replace for MemoryKeys {
    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.put(key, body);
        Ok(())
    }
}

impl Read for MemoryKeys {
    async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.1.lock().unwrap().insert(key.to_owned());
        let at = Place::key("memory", key, "read");
        let found = self.0.lock().unwrap().get(key).cloned().ok_or(StoreError::NotFound { at: at.clone() })?;
        let size_bytes = found.len() as u64;
        if size_bytes > max_bytes {
            return Err(StoreError::TooLarge { at, size_bytes, limit_bytes: max_bytes });
        }
        Ok(found)
    }

    async fn get_newest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_limited(key, max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let objects = self.0.lock().unwrap();
        let below = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let listed = below.map(|(key, body)| {
            let (key, size, modified) = (key.clone(), body.len() as u64, Timestamp::UNIX_EPOCH);
            ListedKey { key, size, modified }
        });
        Ok(listed.collect())
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap().contains_key(key))
    }
}

/// A stream's content by what it is.
pub type Streams = Vec<(StreamKind, &'static str, Vec<u8>)>;

/// Those who write and open a vault.
pub struct Keyring {
    pub spare: Identity,
    pub escrow: Identity,
    pub live_signer: Arc<SigningKey>,
    pub spare_signer: Arc<SigningKey>,
}

pub const SYSTEM: &str = "app";
pub const LIVE: &str = "ams";
pub const SPARE: &str = "fra";
const START: &str = "2026-11-01T00:00:00Z";

impl Keyring {
    pub fn new() -> Self {
        let signer = || Arc::new(SigningKey::generate().unwrap());
        Keyring {
            spare: Identity::generate(),
            escrow: Identity::generate(),
            live_signer: signer(),
            spare_signer: signer(),
        }
    }

    pub fn signers(&self) -> BTreeMap<String, VerifyingKey> {
        let (live, spare) = (self.live_signer.verifying_key(), self.spare_signer.verifying_key());
        [(LIVE.to_owned(), live), (SPARE.to_owned(), spare)].into()
    }

    pub fn reader<K: Read>(&self, keys: K) -> VaultReader<K> {
        VaultReader::new(keys, SYSTEM, self.signers())
    }
}

/// What the point `round` holds: a database, and every other one an export.
pub fn contents(round: u8) -> Vec<(&'static str, Streams)> {
    let rows = |n: u8| (0..n).map(|row| format!("{row}\tname {row}\n")).collect::<String>().into_bytes();
    let database = vec![
        (StreamKind::Ddl, "pre-data", b"CREATE TABLE t (id int, name text);\n".to_vec()),
        (StreamKind::Table, "\"public\".\"t\"", rows(round * 3)),
        (StreamKind::Table, "\"public\".\"odd\tname\"", Vec::new()),
        (StreamKind::Catalog, "sequences", b"{\"t_id_seq\":7}\n".to_vec()),
    ];
    let export = vec![
        (StreamKind::Export, "configs", vec![b'#'; 600]),
        (StreamKind::Manifest, "artifacts", b"warmspare-objects 1\na.hart\t1\t00\t0\n".to_vec()),
    ];
    let mut sources = vec![("database.app", database), ("export.configs", export)];
    sources.truncate(1 + usize::from(round % 2));
    sources
}

/// Points 0-1 and 0-2 in the first epoch, 0-3 a week later in the second; proofs of the first and the last; a status of
/// either site; a hold. `state` is a folder for the bookkeeping of both.
pub async fn fill(keys: &MemoryKeys, ring: &Keyring, state: &Path) {
    let start: Timestamp = START.parse().unwrap();
    for (round, days) in [(1, 0), (2, 1), (3, 8)] {
        point(keys, ring, state, round, start + SignedDuration::from_hours(days * 24)).await;
        if round != 2 {
            prove(keys, ring, state, u64::from(round)).await;
        }
    }
    hold(keys, ring);
}

/// One writer of the epoch that is open at that time.
pub async fn writer(keys: &MemoryKeys, ring: &Keyring, state: &Path, at: Timestamp) -> EpochWriter<MemoryKeys> {
    let clock: Arc<dyn Clock> = Arc::new(FixedClock(at));
    let sealed_to = [ring.spare.recipient(), ring.escrow.recipient()];
    let keeping = EpochKeeping {
        system: SYSTEM,
        site: LIVE,
        term: 0,
        sealed_to: &sealed_to,
        chunker: Some(ChunkerParameters::small()),
        signer: &ring.live_signer,
        state: &state.join(LIVE),
    };
    let heads = ring.reader(keys.clone()).heads(0).await.unwrap();
    let epoch = open_epoch(keys, &keeping, &heads, &*clock).await.unwrap();
    EpochWriter::new(keys.clone(), SYSTEM, LIVE, epoch, ring.live_signer.clone(), clock)
}

async fn point(keys: &MemoryKeys, ring: &Keyring, state: &Path, round: u8, at: Timestamp) {
    publish(keys, ring, state, at, &contents(round)).await;
}

/// Takes one point of `contents`.
pub async fn publish(keys: &MemoryKeys, ring: &Keyring, state: &Path, at: Timestamp, contents: &[(&str, Streams)]) {
    let writer = writer(keys, ring, state, at).await;
    let mut snapshots = Vec::new();
    for (source, streams) in contents {
        let snapshot = writer.begin(&source.parse().unwrap());
        for (kind, name, content) in streams {
            let mut stream = snapshot.open(StreamName::new(*kind, *name)).await.unwrap();
            stream.write(Bytes::copy_from_slice(content)).await.unwrap();
            stream.finish(Attributes::new()).await.unwrap();
        }
        let sealed = snapshot.seal(at, serde_json::json!({ "streams": streams.len() })).await.unwrap();
        snapshots.push(writer.commit(sealed).await.unwrap());
    }
    let listing = ring.reader(keys.clone()).points().await.unwrap();
    let (id, previous) = SeenPoints::load(&state.join(LIVE)).unwrap().allocate(&listing, 0).unwrap();
    writer.publish(NewPoint { id, previous, started_at: at, captured_at: at, snapshots }).await.unwrap();
}

async fn prove(keys: &MemoryKeys, ring: &Keyring, state: &Path, seq: u64) {
    let reader = ring.reader(keys.clone());
    let (point, at) = (reader.point(PointId { term: 0, seq }).await.unwrap(), START.parse().unwrap());
    let step = ProofStep { step: "database app".into(), summary: "1 table".into(), millis: 7, differences: 0 };
    let steps = vec![step];
    let proof = NewProof { verdict: Verdict::Equal, complete: true, started_at: at, finished_at: at, steps };
    put_proof(keys, &point, SPARE, 0, proof, &ring.spare_signer).await.unwrap();
    for (site, signer) in [(LIVE, &ring.live_signer), (SPARE, &ring.spare_signer)] {
        let keeping = StatusKeeping { system: SYSTEM, site, signer, state: &state.join(site) };
        let newest = (site == SPARE).then(|| point.id.to_string());
        let change = |status: &mut warmspare::vault::v1::StatusRecord| status.newest_proven = newest;
        update_status(keys, &reader, &keeping, &FixedClock(at), change).await.unwrap();
    }
}

fn hold(keys: &MemoryKeys, ring: &Keyring) {
    let point = PointId { term: 0, seq: 1 };
    let record = HoldRecord {
        format: 1,
        kind: "hold".into(),
        system: SYSTEM.into(),
        point: point.to_string(),
        seq: 1,
        writer: SPARE.into(),
        held: true,
        why: "before the migration".into(),
        at: START.parse().unwrap(),
        software: "warmspare".into(),
    };
    let key = Layout::new(SYSTEM).hold(point, 1);
    keys.put(&key, Signed::encode(&record, &key, SPARE, &ring.spare_signer).unwrap());
}
