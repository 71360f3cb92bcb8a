//! The vault under attack: every byte of every object changed, objects cut, lengthened, removed, exchanged, put back
//! from earlier. Whatever is done, nothing but what was captured is given out, and what was done is found and named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;
use jiff::Timestamp;
use warmspare::config::SourceName;
use warmspare::error::Error;
use warmspare::observe::Progress;
use warmspare::stream::{Source, SourceStream, StreamKind};
use warmspare::vault::layout::SnapshotId;
use warmspare::vault::v1::SnapshotHeader;
use warmspare::vault::{ListedPoint, ScrubRequest, Scrubber, SeenPoints, Turns, VaultError, VaultReader, scrub};

use crate::support::vaults::{Keyring, LIVE, MemoryKeys, SPARE, SYSTEM, contents, fill, publish};

type Objects = BTreeMap<String, Bytes>;

/// A sound vault, its keys, and what the spare has seen of it.
struct Attacked {
    ring: Keyring,
    objects: Objects,
    sound: Sound,
    folder: tempfile::TempDir,
}

/// All that a vault gives out, each thing by its name.
type Everything = BTreeMap<String, Vec<u8>>;

/// What a reading gave out, and what it complained of.
#[derive(Clone, Default)]
struct Reading {
    found: Everything,
    complaints: Vec<String>,
    points: Vec<ListedPoint>,
}

/// What a sound vault gives out, and which objects were read for it: of the records, and of each snapshot.
#[derive(Default)]
struct Sound {
    found: Everything,
    records: (Reading, BTreeSet<String>),
    snapshots: BTreeMap<String, (Reading, BTreeSet<String>)>,
}

impl Attacked {
    async fn new() -> Self {
        let (ring, folder) = (Keyring::new(), tempfile::tempdir().unwrap());
        let keys = MemoryKeys::default();
        fill(&keys, &ring, folder.path()).await;
        let mut attacked = Attacked { ring, objects: keys.objects(), sound: Sound::default(), folder };
        keys.taken_reads();
        let records = attacked.read_records(&keys).await;
        attacked.sound.records = (records.clone(), keys.taken_reads());
        for (name, source, id, header) in snapshots(&records) {
            let reading = attacked.read_snapshot(&keys, &name, source, id, header).await;
            attacked.sound.snapshots.insert(name, (reading, keys.taken_reads()));
        }
        let whole = attacked.read(&keys, None).await;
        assert_eq!(whole.complaints, [] as [String; 0]);
        attacked.sound.found = whole.found;
        assert_eq!(attacked.verify(&keys, true).await, [] as [String; 0]);
        attacked
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join(SPARE)
    }

    fn with(&self, change: impl FnOnce(&mut Objects)) -> MemoryKeys {
        let mut objects = self.objects.clone();
        change(&mut objects);
        MemoryKeys::of(objects)
    }

    /// Reads whatever can be read, as restores of every point would. When `changed` is the only object that is not as
    /// it was, what is read without it is what it was too, and is not read again.
    async fn read(&self, keys: &MemoryKeys, changed: Option<&str>) -> Reading {
        let as_it_was = |reads: &BTreeSet<String>| changed.is_some_and(|key| !reads.contains(key));
        let (records, reads) = &self.sound.records;
        let mut reading = if as_it_was(reads) { records.clone() } else { self.read_records(keys).await };
        for (name, source, id, header) in snapshots(&reading.clone()) {
            let part = match self.sound.snapshots.get(&name).filter(|(_, reads)| as_it_was(reads)) {
                Some((sound, _)) => sound.clone(),
                None => self.read_snapshot(keys, &name, source, id, header).await,
            };
            reading.found.extend(part.found);
            reading.complaints.extend(part.complaints);
        }
        reading
    }

    /// Points, proofs and statuses.
    async fn read_records(&self, keys: &MemoryKeys) -> Reading {
        let mut reading = Reading::default();
        if let Err(error) = self.read_records_into(keys, &mut reading).await {
            reading.complaints.push(Error::from(error).to_string());
        }
        reading
    }

    async fn read_records_into(&self, keys: &MemoryKeys, reading: &mut Reading) -> Result<(), VaultError> {
        let reader = self.ring.reader(keys.clone());
        reader.check_format().await?;
        let listing = reader.points().await?;
        let (proofs, damaged) = reader.proofs().await?;
        let damaged = listing.damaged.iter().chain(&damaged);
        reading.complaints.extend(damaged.map(|damaged| format!("{}: {}", damaged.key, damaged.what)));
        if let Err(error) = SeenPoints::load(&self.state())?.check(&listing, SYSTEM) {
            reading.complaints.push(error.to_string());
        }
        for (point, proof) in proofs {
            let name = format!("proof {} of {point} by {}", proof.seq, proof.site);
            reading.found.insert(name, serde_json::to_vec(&proof).unwrap());
        }
        for site in [LIVE, SPARE] {
            match reader.status(site, &self.state()).await {
                Ok(Some(status)) => {
                    reading.found.insert(format!("status of {site}"), serde_json::to_vec(&status).unwrap());
                }
                Ok(None) => {}
                Err(error) => reading.complaints.push(Error::from(error).to_string()),
            }
        }
        for point in &listing.points {
            reading.found.insert(format!("point {}", point.id), serde_json::to_vec(&point.record).unwrap());
        }
        reading.points = listing.points;
        Ok(())
    }

    async fn read_snapshot(
        &self,
        keys: &MemoryKeys,
        name: &str,
        source: &SourceName,
        id: SnapshotId,
        header: &SnapshotHeader,
    ) -> Reading {
        let mut reading = Reading::default();
        match self.ring.reader(keys.clone()).open_snapshot(source, id, header, &self.ring.spare).await {
            Ok(snapshot) => read_streams(name, &snapshot, &mut reading).await,
            Err(error) => reading.complaints.push(Error::from(error).to_string()),
        }
        reading
    }

    /// The objects that `verify --all` names, at the spare or, without an identity, at the live site.
    async fn verify(&self, keys: &MemoryKeys, at_the_spare: bool) -> Vec<String> {
        let reader = self.ring.reader(keys.clone());
        let state = self.state();
        let listing = reader.points().await.unwrap();
        if let Err(error) = SeenPoints::load(&state).unwrap().check(&listing, SYSTEM) {
            return vec![error.to_string()];
        }
        let identity = at_the_spare.then_some(&self.ring.spare);
        let scrubber = Scrubber { identity, state: &state, turns: &Turns::default(), at: Timestamp::UNIX_EPOCH };
        let report = scrub(&reader, &listing, &scrubber, ScrubRequest::FULL, &Progress::silent()).await.unwrap();
        report.faults.into_iter().map(|fault| fault.object).collect()
    }

    /// What is wrong with how the change `what` of `object` is met: nothing but what was captured may be given out;
    /// and the object must be named, by the reading or, if that needs nothing of it, by `verify --all`.
    async fn betrayed(&self, keys: &MemoryKeys, object: &str, changed: Option<&str>, what: &str) -> Option<String> {
        let Reading { found, complaints, .. } = self.read(keys, changed).await;
        if let Some((name, _)) = found.iter().find(|(name, content)| self.sound.found.get(*name) != Some(content)) {
            return Some(format!("{object} {what}: {name} is not what was captured"));
        }
        if complaints.iter().any(|complaint| names(complaint, object)) {
            return None;
        }
        let lost: Vec<_> = self.sound.found.keys().filter(|name| !found.contains_key(*name)).collect();
        let is_clear = object.ends_with(".json");
        let verified = self.verify(keys, !is_clear).await;
        let named = verified.iter().any(|name| names(name, object));
        let silent = format!("{object} {what}: {lost:?} are lost; said {complaints:?}; verify names {verified:?}");
        (!named || !lost.is_empty()).then_some(silent)
    }
}

/// The snapshots of the points that were listed, each with its name for a person.
fn snapshots(reading: &Reading) -> Vec<(String, &SourceName, SnapshotId, &SnapshotHeader)> {
    let of = |point: &'_ ListedPoint| point.id;
    let all = reading.points.iter().flat_map(|point| point.headers.iter().map(move |header| (of(point), header)));
    all.map(|(point, (source, id, header))| (format!("{source} of {point}"), source, *id, header)).collect()
}

async fn read_streams<S: Source>(of: &str, snapshot: &S, reading: &mut Reading) {
    for entry in snapshot.entries() {
        let mut stream = snapshot.read(&entry.name).await.unwrap();
        let mut content = Vec::new();
        let ended = loop {
            match stream.next().await {
                Ok(Some(part)) => content.extend_from_slice(&part),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match ended {
            Ok(()) => {
                reading.found.insert(format!("{} in {of}", entry.name), content);
            }
            Err(error) => reading.complaints.push(error.to_string()),
        }
    }
}

/// Whether a complaint is about the object: by its key, or as a person calls it.
fn names(complaint: &str, key: &str) -> bool {
    let file = key.rsplit('/').next().unwrap();
    let folder = key.rsplit('/').nth(1).unwrap_or_default();
    let called = match folder {
        "points" => file.strip_suffix(".json").and_then(|id| id.parse().ok()).map_or(String::new(), |id| {
            let id: warmspare::vault::layout::PointId = id;
            format!("recovery point {id} was there")
        }),
        "status" => format!("the status of {} was there", file.strip_suffix(".json").unwrap()),
        _ if file == "secrets-0.age" => format!("the secrets of epoch {folder} do not open"),
        _ => String::new(),
    };
    complaint.contains(key) || !called.is_empty() && complaint.contains(&called)
}

/// The kind of an object: what it may be exchanged with.
fn kind(key: &str) -> &str {
    let file = key.rsplit('/').next().unwrap();
    match key.split('/').nth(2) {
        Some("epochs") if key.contains("/packs/") => "pack",
        Some("epochs") => file,
        Some("snapshots") if file.ends_with(".age") => "body",
        Some(folder) => folder,
        None => key,
    }
}

/// Tries `changes` on as many threads as the machine has, each with a runtime of its own; what was wrong with any.
fn tried<T: Send>(changes: Vec<T>, each: impl AsyncFn(T) -> Option<String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (work, betrayed) = (Mutex::new(changes.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let next = work.lock().unwrap().next();
                    let Some(next) = next else { break };
                    betrayed.lock().unwrap().extend(runtime.block_on(each(next)));
                }
            });
        }
    });
    betrayed.into_inner().unwrap()
}

fn attacked() -> Attacked {
    tokio::runtime::Runtime::new().unwrap().block_on(Attacked::new())
}

#[test]
fn every_byte_of_every_object_counts() {
    let attacked = attacked();
    let sizes: usize = attacked.objects.values().map(Bytes::len).sum();
    assert!((10_000..1 << 20).contains(&sizes), "{sizes} bytes");
    let offsets: Vec<(&String, usize)> =
        attacked.objects.iter().flat_map(|(key, body)| (0..body.len()).map(move |at| (key, at))).collect();
    let betrayed = tried(offsets, async |(key, at)| {
        let keys = attacked.with(|objects| {
            let mut bytes = objects[key].to_vec();
            bytes[at] ^= 1 << (at % 8);
            objects.insert(key.clone(), bytes.into());
        });
        attacked.betrayed(&keys, key, Some(key), &format!("byte {at}")).await
    });
    assert!(betrayed.is_empty(), "{} times:\n{}", betrayed.len(), betrayed.join("\n"));
}

#[test]
fn what_is_cut_lengthened_removed_or_exchanged_is_named() {
    let attacked = attacked();
    let mut changes: Vec<(&String, String, Option<Bytes>)> = Vec::new();
    for (key, body) in &attacked.objects {
        for length in [0, 1, body.len() / 2, body.len() - 1] {
            changes.push((key, format!("cut to {length}"), Some(body.slice(..length))));
        }
        for more in [b"\n".as_slice(), b"\0", body] {
            changes.push((key, format!("{} bytes longer", more.len()), Some([body, more].concat().into())));
        }
        let others = attacked.objects.iter().filter(|(other, _)| *other != key && kind(other) == kind(key));
        changes.extend(others.map(|(other, body)| (key, format!("replaced by {other}"), Some(body.clone()))));
        // A hold or an older proof that is gone leaves no trace; no data depends on either.
        if !["holds", "proofs"].contains(&kind(key)) {
            changes.push((key, "removed".to_owned(), None));
        }
    }
    let betrayed = tried(changes, async |(key, what, body)| {
        let keys = attacked.with(|objects| match body {
            Some(body) => drop(objects.insert(key.clone(), body)),
            None => drop(objects.remove(key)),
        });
        attacked.betrayed(&keys, key, None, &what).await
    });
    assert!(betrayed.is_empty(), "{} times:\n{}", betrayed.len(), betrayed.join("\n"));
}

#[tokio::test]
async fn the_proof_that_the_status_boasts_of_is_missed() {
    let attacked = Attacked::new().await;
    let keys = attacked.with(|objects| objects.retain(|key, _| !key.contains("/proofs/00000000-00000003")));
    assert_eq!(attacked.verify(&keys, true).await, ["systems/app/proofs/00000000-00000003-fra-"]);
}

#[tokio::test]
async fn a_whole_vault_put_back_from_yesterday_is_noticed() {
    let attacked = Attacked::new().await;
    let keys = attacked.with(|_| ());
    let at = "2026-11-10T00:00:00Z".parse().unwrap();
    publish(&keys, &attacked.ring, attacked.folder.path(), at, &contents(2)).await;
    assert_eq!(attacked.read(&keys, None).await.complaints, [] as [String; 0]);
    let yesterday = attacked.read(&attacked.with(|_| ()), None).await;
    let cut = "vault: recovery point 0-4 was there before and is gone: the tail of the vault was cut";
    assert_eq!(yesterday.complaints, [cut]);
}

#[tokio::test]
async fn the_vault_of_another_system_is_not_believed_under_this_ones_name() {
    let attacked = Attacked::new().await;
    let renamed = attacked.objects.iter().map(|(key, body)| (key.replace("systems/app", "systems/web"), body.clone()));
    let reader = VaultReader::new(MemoryKeys::of(renamed.collect()), "web", attacked.ring.signers());
    let listing = reader.points().await.unwrap();
    assert_eq!((listing.points.len(), listing.damaged_points.len()), (0, 3), "{:?}", listing.damaged);
    // Nor one of the same name that others have signed.
    let stranger = Attacked::new().await;
    let keys = MemoryKeys::of(stranger.objects.clone());
    let listing = attacked.ring.reader(keys).points().await.unwrap();
    assert_eq!((listing.points.len(), listing.damaged_points.len()), (0, 3), "{:?}", listing.damaged);
}

#[tokio::test]
async fn a_byte_of_a_full_pack_is_found_wherever_it_is() {
    let mut attacked = Attacked::new().await;
    let mut noise = vec![0; 34 << 20];
    blake3::Hasher::new().update(b"a large table").finalize_xof().fill(&mut noise);
    let keys = attacked.with(|_| ());
    let at = "2026-11-10T00:00:00Z".parse().unwrap();
    let large = vec![("database.app", vec![(StreamKind::Table, "large", noise)])];
    publish(&keys, &attacked.ring, attacked.folder.path(), at, &large).await;
    attacked.objects = keys.objects();
    let (key, body) = attacked.objects.iter().max_by_key(|(_, body)| body.len()).unwrap();
    assert!(body.len() > 32 << 20, "{} bytes", body.len());
    let (key, last) = (key.clone(), body.len() - 1);
    for at in [0, 100, 200, 70_000, last / 3, last / 2, last - 70_000, last - 20, last] {
        let keys = attacked.with(|objects| {
            let mut bytes = objects[&key].to_vec();
            bytes[at] ^= 0x80;
            objects.insert(key.clone(), bytes.into());
        });
        let reading = attacked.read(&keys, None).await;
        assert!(!reading.found.contains_key("table large in database.app of 0-4"), "byte {at} was given out");
        assert!(reading.complaints.iter().any(|complaint| names(complaint, &key)), "byte {at}");
        assert_eq!(attacked.verify(&keys, true).await, std::slice::from_ref(&key), "byte {at}");
    }
}
