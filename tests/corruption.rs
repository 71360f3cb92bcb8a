//! The vault under attack: every byte of every object changed, objects cut, lengthened, removed, exchanged, put back
//! from earlier. Whatever is done, nothing but what was captured is given out, and what was done is found and named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use warmspare::error::Error;
use warmspare::observe::Progress;
use warmspare::stream::{Source, SourceStream, StreamKind};
use warmspare::vault::{ScrubRequest, Scrubber, SeenPoints, VaultError, VaultReader, scrub};

use crate::support::vaults::{Keyring, LIVE, MemoryKeys, SPARE, SYSTEM, contents, fill, publish, writer};

type Objects = BTreeMap<String, Bytes>;

/// A sound vault, its keys, and what the spare has seen of it.
struct Attacked {
    ring: Keyring,
    objects: Objects,
    sound: Everything,
    folder: tempfile::TempDir,
}

/// All that a vault gives out, each thing by its name.
type Everything = BTreeMap<String, Vec<u8>>;

/// What a reading gave out, and what it complained of.
#[derive(Default)]
struct Reading {
    found: Everything,
    complaints: Vec<String>,
}

impl Attacked {
    async fn new() -> Self {
        let (ring, folder) = (Keyring::new(), tempfile::tempdir().unwrap());
        let keys = MemoryKeys::default();
        fill(&keys, &ring, folder.path()).await;
        let mut attacked = Attacked { ring, objects: keys.objects(), sound: Everything::new(), folder };
        let reading = attacked.read(&keys).await;
        assert_eq!(reading.complaints, [] as [String; 0]);
        attacked.sound = reading.found;
        assert_eq!(attacked.verify(&keys).await, [] as [String; 0]);
        attacked
    }

    fn state(&self) -> &Path {
        self.folder.path()
    }

    fn with(&self, change: impl FnOnce(&mut Objects)) -> MemoryKeys {
        let mut objects = self.objects.clone();
        change(&mut objects);
        MemoryKeys::of(objects)
    }

    /// Reads whatever can be read, as a restore of every point would.
    async fn read(&self, keys: &MemoryKeys) -> Reading {
        let mut reading = Reading::default();
        if let Err(error) = self.read_into(keys, &mut reading).await {
            reading.complaints.push(Error::from(error).to_string());
        }
        reading
    }

    async fn read_into(&self, keys: &MemoryKeys, reading: &mut Reading) -> Result<(), VaultError> {
        let reader = self.ring.reader(keys.clone());
        reader.check_format().await?;
        let listing = reader.points().await?;
        let (proofs, damaged) = reader.proofs().await?;
        let damaged = listing.damaged.iter().chain(&damaged);
        reading.complaints.extend(damaged.map(|damaged| format!("{}: {}", damaged.key, damaged.what)));
        if let Err(error) = SeenPoints::load(&self.state().join(SPARE))?.check(&listing, SYSTEM) {
            reading.complaints.push(error.to_string());
        }
        for (point, proof) in proofs {
            let name = format!("proof {} of {point} by {}", proof.seq, proof.site);
            reading.found.insert(name, serde_json::to_vec(&proof).unwrap());
        }
        for site in [LIVE, SPARE] {
            match reader.status(site, &self.state().join(SPARE)).await {
                Ok(Some(status)) => {
                    reading.found.insert(format!("status of {site}"), serde_json::to_vec(&status).unwrap());
                }
                Ok(None) => {}
                Err(error) => reading.complaints.push(Error::from(error).to_string()),
            }
        }
        for point in &listing.points {
            reading.found.insert(format!("point {}", point.id), serde_json::to_vec(&point.record).unwrap());
            for (source, id, header) in &point.headers {
                match reader.open_snapshot(source, *id, header, &self.ring.spare).await {
                    Ok(snapshot) => read_streams(&format!("{source} of {}", point.id), &snapshot, reading).await,
                    Err(error) => reading.complaints.push(Error::from(error).to_string()),
                }
            }
        }
        Ok(())
    }

    /// The objects that `verify --all` names.
    async fn verify(&self, keys: &MemoryKeys) -> Vec<String> {
        let reader: VaultReader<MemoryKeys> = self.ring.reader(keys.clone());
        let state = self.state().join(SPARE);
        let listing = reader.points().await.unwrap();
        if let Err(error) = SeenPoints::load(&state).unwrap().check(&listing, SYSTEM) {
            return vec![error.to_string()];
        }
        let scrubber = Scrubber { identity: Some(&self.ring.spare), state: &state, at: Timestamp::UNIX_EPOCH };
        let report = scrub(&reader, &listing, &scrubber, ScrubRequest::FULL, &Progress::silent()).await.unwrap();
        report.faults.into_iter().map(|fault| fault.object).collect()
    }

    /// Fails unless a reading of `keys` gives out nothing but what was captured, and says why if it gives out less.
    async fn assert_honest(&self, keys: &MemoryKeys, object: &str, what: &str) {
        let Reading { found, complaints } = self.read(keys).await;
        for (name, content) in &found {
            assert!(self.sound.get(name) == Some(content), "{object} {what}: {name} is not what was captured");
        }
        let lost: Vec<_> = self.sound.keys().filter(|name| !found.contains_key(*name)).collect();
        let named = complaints.iter().any(|complaint| names(complaint, object));
        assert!(lost.is_empty() || named, "{object} {what}: {lost:?} are lost, and all that is said is {complaints:?}");
    }

    /// Fails unless `verify --all` names the object.
    async fn assert_named(&self, keys: &MemoryKeys, object: &str, what: &str) {
        let named = self.verify(keys).await;
        assert!(named.iter().any(|name| names(name, object)), "{object} {what}: verify names {named:?}");
    }
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
fn kind(key: &str) -> String {
    let file = key.rsplit('/').next().unwrap();
    let named: String = file.chars().filter(|c| !c.is_ascii_hexdigit() && *c != '-').collect();
    let place = key.split('/').nth(2).unwrap_or_default();
    if key.contains("/packs/") { "pack".to_owned() } else { format!("{place} {named}") }
}

/// Runs `each` over `work` on as many threads as the machine has, each with a runtime of its own.
fn on_all_cores<T: Send>(work: Vec<T>, each: impl AsyncFn(T) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let work = std::sync::Mutex::new(work.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let next = work.lock().unwrap().next();
                    let Some(next) = next else { break };
                    runtime.block_on(each(next));
                }
            });
        }
    });
}

fn attacked() -> Attacked {
    tokio::runtime::Runtime::new().unwrap().block_on(Attacked::new())
}

#[test]
fn every_byte_of_every_object_counts() {
    let attacked = attacked();
    let sizes: usize = attacked.objects.values().map(Bytes::len).sum();
    assert!(sizes < 1 << 20, "{sizes} bytes are no small vault");
    let offsets: Vec<(&String, usize)> =
        attacked.objects.iter().flat_map(|(key, body)| (0..body.len()).map(move |at| (key, at))).collect();
    let begun = std::time::Instant::now();
    let tried = offsets.len();
    on_all_cores(offsets, async |(key, at)| {
        let keys = attacked.with(|objects| {
            let mut bytes = objects[key].to_vec();
            bytes[at] ^= 1 << (at % 8);
            objects.insert(key.clone(), bytes.into());
        });
        attacked.assert_honest(&keys, key, &format!("byte {at}")).await;
        attacked.assert_named(&keys, key, &format!("byte {at}")).await;
    });
    println!("{tried} bytes of {} objects in {:?}", attacked.objects.len(), begun.elapsed());
}
