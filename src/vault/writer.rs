//! The writer: streams go in, a committed snapshot or recovery point comes out.
//!
//! It holds [`Create`] and nothing else. The order is packs → body → header → point, each confirmed before the
//! next; a writer killed anywhere leaves nothing that a reader would list.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::VaultError;
use super::catalog::Place;
use super::epoch::OpenEpoch;
use super::layout::{EpochId, Layout, PointId, SnapshotId};
use super::packer::{Frame, Packer, Run, append};
use super::v1::body::StoredStream;
use super::v1::{self, BodyLink, FORMAT, Link, PointRecord, Signed, SnapshotHeader};
use crate::clock::Clock;
use crate::config::SourceName;
use crate::error::Error;
use crate::failpoint;
use crate::keys::SigningKey;
use crate::pipeline::{ChunkId, Chunker, Compressor, FRAME_TARGET_BYTES, seal};
use crate::store::{Create, Created};
use crate::stream::{Attributes, Sink, SinkStream, StreamEntry, StreamName};

/// The name and version every record carries.
pub(super) const SOFTWARE: &str = concat!("warmspare ", env!("CARGO_PKG_VERSION"));

/// A stream is chunked and compressed in steps of this size, off the async threads.
const STEP_BYTES: usize = 1 << 20;

/// Writes snapshots into the open epoch.
pub struct EpochWriter<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    keys: C,
    system: String,
    site: String,
    layout: Layout,
    packer: Arc<Packer<C>>,
    signer: Arc<SigningKey>,
    clock: Arc<dyn Clock>,
}

impl<C: Create + Clone + 'static> EpochWriter<C> {
    /// A writer of `site` into `epoch`.
    pub fn new(
        keys: C,
        system: &str,
        site: &str,
        epoch: OpenEpoch,
        signer: Arc<SigningKey>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let layout = Layout::new(system);
        let packer = Arc::new(Packer::new(keys.clone(), layout.clone(), epoch));
        let (system, site) = (system.to_owned(), site.to_owned());
        EpochWriter { shared: Arc::new(Shared { keys, system, site, layout, packer, signer, clock }) }
    }

    /// The epoch it writes into.
    pub fn epoch(&self) -> EpochId {
        self.shared.packer.epoch.id
    }

    /// Starts a snapshot of `source`. Dropped before [`SnapshotWriter::seal`], it leaves nothing but reusable packs.
    pub fn begin(&self, source: &SourceName) -> SnapshotWriter<C> {
        let stored_before = self.shared.packer.stored_bytes();
        let state = Arc::new(SnapshotState::default());
        SnapshotWriter { shared: Arc::clone(&self.shared), source: source.clone(), state, stored_before }
    }

    /// Commits a sealed snapshot by putting its header, chained to the last one.
    ///
    /// # Errors
    /// [`VaultError::Stream`] when a snapshot with a higher number was committed before; [`VaultError::EpochOver`] after the epoch's `not_after`; [`VaultError::OtherWriter`] when the header's key is taken.
    pub async fn commit(&self, sealed: SealedSnapshot) -> Result<CommittedSnapshot, VaultError> {
        let Shared { keys, layout, packer, signer, site, .. } = &*self.shared;
        self.check_time()?;
        let previous = packer.epoch.catalog.head()?;
        if previous.is_some_and(|(seq, _)| seq >= sealed.id.seq) {
            let what = "a later one was committed before it".to_owned();
            return Err(VaultError::Stream { snapshot: sealed.id.to_string(), what });
        }
        let previous = previous.map(|(seq, blake3)| Link { seq, blake3: blake3.to_hex().to_string() });
        let header = SnapshotHeader { previous, ..sealed.header };
        let key = layout.header(&sealed.source, sealed.id);
        let bytes = Signed::encode(&header, &key, site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
        let blake3 = blake3::hash(&bytes);
        packer.epoch.catalog.intend_header(sealed.id.seq, &blake3)?;
        failpoint::hit("vault.intent");
        put_once(keys, &key, bytes).await?;
        failpoint::hit("vault.header");
        packer.epoch.catalog.commit_header(sealed.id.seq, &blake3)?;
        failpoint::hit("vault.head");
        Ok(CommittedSnapshot { source: sealed.source, id: sealed.id, blake3, header })
    }

    /// Nothing is committed past the epoch's end: the keeper may have sealed it, and let go of what no point named.
    fn check_time(&self) -> Result<(), VaultError> {
        let epoch = &self.shared.packer.epoch;
        if self.shared.clock.now() >= epoch.not_after {
            return Err(VaultError::EpochOver(epoch.id));
        }
        Ok(())
    }

    /// Compares the headers the vault shows in this epoch with those this writer committed: one more is another
    /// writer's. To be asked between the headers and the point, with what a listing says then.
    ///
    /// # Errors
    /// [`VaultError::OtherWriter`] names the header, [`VaultError::TailCut`] one of ours that is gone.
    pub fn check_alone(&self, shown: &BTreeMap<u64, SourceName>) -> Result<(), VaultError> {
        self.shared.packer.epoch.check_headers(&self.shared.layout, shown)
    }

    /// Puts a recovery point: the last object of a run.
    ///
    /// # Errors
    /// [`VaultError::EpochOver`] after the epoch's `not_after`; [`VaultError::OtherWriter`] when the point's key is taken.
    pub async fn publish(&self, point: NewPoint) -> Result<PointRecord, VaultError> {
        self.check_time()?;
        let Shared { keys, layout, signer, site, system, .. } = &*self.shared;
        let record = PointRecord {
            format: FORMAT,
            kind: "point".to_owned(),
            system: system.clone(),
            term: point.id.term,
            seq: point.id.seq,
            previous: point.previous,
            writer: site.clone(),
            started_at: point.started_at,
            captured_at: point.captured_at,
            finished_at: self.shared.clock.now(),
            snapshots: point.snapshots.iter().map(CommittedSnapshot::to_point).collect(),
            closure: v1::Closure { verdict: "not judged".to_owned() },
            software: SOFTWARE.to_owned(),
        };
        let key = layout.point(point.id);
        let bytes = Signed::encode(&record, &key, site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
        put_once(keys, &key, bytes).await?;
        failpoint::hit("vault.point");
        Ok(record)
    }
}

/// Puts an object whose key must be free.
pub(super) async fn put_once<C: Create>(keys: &C, key: &str, bytes: Vec<u8>) -> Result<(), VaultError> {
    match keys.create(key, Bytes::from(bytes)).await? {
        Created::New => Ok(()),
        Created::Taken => Err(VaultError::OtherWriter { key: key.to_owned() }),
    }
}

/// A recovery point about to be published.
pub struct NewPoint {
    /// Its number.
    pub id: PointId,
    /// The point before it in the term.
    pub previous: Option<Link>,
    /// When the run began.
    pub started_at: jiff::Timestamp,
    /// The instant it stands for.
    pub captured_at: jiff::Timestamp,
    /// One committed snapshot of every source.
    pub snapshots: Vec<CommittedSnapshot>,
}

/// A snapshot whose packs and body the store has confirmed, and whose header is still to be put.
pub struct SealedSnapshot {
    source: SourceName,
    id: SnapshotId,
    header: SnapshotHeader,
}

impl SealedSnapshot {
    /// Its number in the epoch; snapshots are committed in this order.
    pub fn seq(&self) -> u64 {
        self.id.seq
    }

    /// The length of all its streams.
    pub fn bytes(&self) -> u64 {
        self.header.bytes
    }

    /// Bytes of packs that had to be written for it.
    pub fn stored_bytes(&self) -> u64 {
        self.header.stored_bytes
    }
}

/// A snapshot that exists.
#[derive(Clone, Debug)]
pub struct CommittedSnapshot {
    /// What was captured.
    pub source: SourceName,
    /// Its number.
    pub id: SnapshotId,
    /// BLAKE3 of its header object.
    pub blake3: blake3::Hash,
    /// Its header.
    pub header: SnapshotHeader,
}

impl CommittedSnapshot {
    fn to_point(&self) -> v1::PointSnapshot {
        v1::PointSnapshot {
            source: self.source.to_string(),
            term: self.id.epoch.term,
            epoch: self.id.epoch.epoch,
            seq: self.id.seq,
            blake3: self.blake3.to_hex().to_string(),
        }
    }
}

/// Takes the streams of one snapshot.
pub struct SnapshotWriter<C> {
    shared: Arc<Shared<C>>,
    source: SourceName,
    state: Arc<SnapshotState>,
    stored_before: u64,
}

#[derive(Default)]
struct SnapshotState(Mutex<Streams>);

#[derive(Default)]
struct Streams {
    opened: BTreeSet<StreamName>,
    finished: Vec<(StreamEntry, Vec<Run>)>,
}

impl SnapshotState {
    fn with<T>(&self, change: impl FnOnce(&mut Streams) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C: Create + Clone + 'static> SnapshotWriter<C> {
    /// Uploads what is left of the packs, then the body. The snapshot exists only once it is committed.
    ///
    /// # Errors
    /// [`VaultError::Stream`] when a stream was opened and not finished.
    pub async fn seal(
        self,
        captured_at: jiff::Timestamp,
        facts: serde_json::Value,
    ) -> Result<SealedSnapshot, VaultError> {
        let (opened, finished) =
            self.state.with(|streams| (streams.opened.len(), std::mem::take(&mut streams.finished)));
        if opened != finished.len() {
            let what = format!("{} of its streams were not finished", opened - finished.len());
            return Err(VaultError::Stream { snapshot: self.source.to_string(), what });
        }
        let packer = &self.shared.packer;
        packer.flush().await?;
        let id = SnapshotId { epoch: packer.epoch.id, seq: packer.epoch.catalog.allocate("header")? };
        failpoint::hit("vault.allocate");
        let streams = finished
            .into_iter()
            .map(|(entry, runs)| Ok(StoredStream { entry, extents: packer.extents(&runs)? }))
            .collect::<Result<Vec<_>, VaultError>>()?;
        let body = self.put_body(id, &streams).await?;
        let header = SnapshotHeader {
            format: FORMAT,
            kind: "snapshot".to_owned(),
            system: self.shared.system.clone(),
            source: self.source.to_string(),
            term: id.epoch.term,
            epoch: id.epoch.epoch,
            seq: id.seq,
            previous: None,
            writer: self.shared.site.clone(),
            captured_at,
            body,
            streams: streams.len() as u64,
            bytes: streams.iter().map(|stream| stream.entry.bytes).sum(),
            stored_bytes: packer.stored_bytes() - self.stored_before,
            facts,
            software: SOFTWARE.to_owned(),
        };
        Ok(SealedSnapshot { source: self.source, id, header })
    }

    async fn put_body(&self, id: SnapshotId, streams: &[StoredStream]) -> Result<BodyLink, VaultError> {
        let key = self.shared.layout.body(&self.source, id);
        let wrong = |what: String| VaultError::Machine(format!("body {key}: {what}"));
        let text = v1::body::encode(streams);
        let frame = zstd::encode_all(text.as_bytes(), 3).map_err(|e| wrong(e.to_string()))?;
        let sealed = seal(std::slice::from_ref(&self.shared.packer.epoch.recipient), &frame)
            .map_err(|source| VaultError::Object { key: key.clone(), source })?;
        let link = BodyLink { bytes: sealed.len() as u64, blake3: blake3::hash(&sealed).to_hex().to_string() };
        put_once(&self.shared.keys, &key, sealed).await?;
        failpoint::hit("vault.body");
        Ok(link)
    }
}

impl<C: Create + Clone + 'static> Sink for SnapshotWriter<C> {
    type Stream = StreamWriter<C>;

    async fn open(&self, name: StreamName) -> Result<StreamWriter<C>, Error> {
        if !self.state.with(|streams| streams.opened.insert(name.clone())) {
            let what = format!("stream {name} was opened twice");
            return Err(VaultError::Stream { snapshot: self.source.to_string(), what }.into());
        }
        let epoch = &self.shared.packer.epoch;
        let chunker = Chunker::new(&epoch.chunker, epoch.chunk_id_key.chunker_seed())
            .map_err(|e| VaultError::Machine(e.to_string()))?;
        let hasher = blake3::Hasher::new();
        let cutting = Cutting { chunker, hasher, bytes: 0, runs: Vec::new(), compressor: None };
        Ok(StreamWriter {
            packer: Arc::clone(&self.shared.packer),
            state: Arc::clone(&self.state),
            name,
            buffer: BytesMut::new(),
            work: Work::Idle(Box::new(cutting)),
        })
    }
}

/// One stream being written into the vault.
pub struct StreamWriter<C> {
    packer: Arc<Packer<C>>,
    state: Arc<SnapshotState>,
    name: StreamName,
    buffer: BytesMut,
    work: Work,
}

/// The part of a stream's state that travels to a blocking thread and back.
struct Cutting {
    chunker: Chunker,
    hasher: blake3::Hasher,
    bytes: u64,
    runs: Vec<Run>,
    /// Made with the first new chunk; its memory is worth keeping.
    compressor: Option<Compressor>,
}

enum Work {
    Idle(Box<Cutting>),
    Running(JoinHandle<Result<Box<Cutting>, VaultError>>),
    /// A step failed or was cancelled; the stream cannot go on.
    Lost,
}

impl<C: Create + Clone + 'static> StreamWriter<C> {
    /// Waits for the step under way.
    async fn settle(&mut self) -> Result<Box<Cutting>, VaultError> {
        match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Idle(cutting) => Ok(cutting),
            Work::Running(step) => step.await.map_err(|e| VaultError::Machine(e.to_string()))?,
            Work::Lost => Err(VaultError::Machine(format!("stream {} failed before", self.name))),
        }
    }

    /// Starts to cut `data`; what comes next can be gathered meanwhile.
    async fn step(&mut self, data: Bytes) -> Result<(), VaultError> {
        let mut cutting = self.settle().await?;
        let packer = Arc::clone(&self.packer);
        self.work = Work::Running(tokio::task::spawn_blocking(move || {
            cutting.absorb(&packer, &data)?;
            Ok(cutting)
        }));
        Ok(())
    }

    /// Starts to cut what was gathered, if anything was.
    async fn step_gathered(&mut self) -> Result<(), VaultError> {
        let data = std::mem::take(&mut self.buffer).freeze();
        if data.is_empty() { Ok(()) } else { self.step(data).await }
    }
}

impl Cutting {
    fn absorb<C: Create + Clone + 'static>(&mut self, packer: &Arc<Packer<C>>, data: &[u8]) -> Result<(), VaultError> {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        let (runs, compressor) = (&mut self.runs, &mut self.compressor);
        self.chunker.push(data, |chunks| place_chunks(packer, chunks, runs, compressor))
    }

    fn finish<C: Create + Clone + 'static>(
        self,
        packer: &Arc<Packer<C>>,
    ) -> Result<(u64, blake3::Hash, Vec<Run>), VaultError> {
        let Cutting { chunker, hasher, bytes, mut runs, mut compressor } = self;
        chunker.finish(|chunks| place_chunks(packer, chunks, &mut runs, &mut compressor))?;
        Ok((bytes, hasher.finalize(), runs))
    }
}

/// Appends the places of `chunks`, in order: known ones where they lie, the others compressed and packed side by side.
fn place_chunks<C: Create + Clone + 'static>(
    packer: &Arc<Packer<C>>,
    chunks: &[&[u8]],
    runs: &mut Vec<Run>,
    compressor: &mut Option<Compressor>,
) -> Result<(), VaultError> {
    let key = &packer.epoch.chunk_id_key;
    let ids: Vec<ChunkId> = chunks.iter().map(|chunk| key.id(chunk)).collect();
    let known = packer.find(&ids)?;
    let mut frames = Frames::new(compressor);
    for ((id, chunk), _) in ids.iter().zip(chunks).zip(&known).filter(|(_, place)| place.is_none()) {
        frames.add(*id, chunk)?;
    }
    let frames = frames.finish()?;
    let new: Vec<ChunkId> = frames.iter().flat_map(|frame| &frame.chunks).map(|(id, _)| *id).collect();
    let packed: HashMap<ChunkId, Place> = new.into_iter().zip(packer.add(frames)?).collect();
    for (id, place) in ids.iter().zip(known) {
        let place = place.or_else(|| packed.get(id).copied());
        append(runs, place.ok_or_else(|| VaultError::Machine("a chunk was not packed".to_owned()))?);
    }
    Ok(())
}

/// New chunks, compressed some at a time.
struct Frames<'a> {
    done: Vec<Frame>,
    compressor: &'a mut Option<Compressor>,
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    /// The same chunk may come twice before it lies anywhere.
    seen: HashSet<ChunkId>,
}

impl<'a> Frames<'a> {
    fn new(compressor: &'a mut Option<Compressor>) -> Self {
        Frames { done: Vec::new(), compressor, plain: Vec::new(), chunks: Vec::new(), seen: HashSet::new() }
    }

    fn add(&mut self, id: ChunkId, chunk: &[u8]) -> Result<(), VaultError> {
        if !self.seen.insert(id) {
            return Ok(());
        }
        self.plain.extend_from_slice(chunk);
        self.chunks.push((id, u32::try_from(chunk.len()).map_err(|e| VaultError::Machine(e.to_string()))?));
        if self.plain.len() >= FRAME_TARGET_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), VaultError> {
        let chunks = std::mem::take(&mut self.chunks);
        let Some((first, _)) = chunks.first() else { return Ok(()) };
        let wrong = |source| VaultError::Object { key: format!("chunk {first:?}"), source };
        let compressor = match self.compressor.take() {
            Some(used) => used,
            None => Compressor::new().map_err(wrong)?,
        };
        let (codec, bytes) = self.compressor.insert(compressor).compress(&self.plain).map_err(wrong)?;
        self.plain.clear();
        self.done.push(Frame { codec, bytes, chunks });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Frame>, VaultError> {
        self.close()?;
        Ok(self.done)
    }
}

impl<C: Create + Clone + 'static> SinkStream for StreamWriter<C> {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        // What comes in large pieces is cut where it lies.
        if data.len() >= STEP_BYTES / 2 {
            self.step_gathered().await?;
            return Ok(self.step(data).await?);
        }
        self.buffer.extend_from_slice(&data);
        if self.buffer.len() >= STEP_BYTES {
            self.step_gathered().await?;
        }
        Ok(())
    }

    async fn finish(mut self, attributes: Attributes) -> Result<StreamEntry, Error> {
        self.step_gathered().await?;
        let cutting = self.settle().await?;
        let packer = Arc::clone(&self.packer);
        let finished = tokio::task::spawn_blocking(move || cutting.finish(&packer)).await;
        let (bytes, blake3, runs) = finished.map_err(|e| VaultError::Machine(e.to_string()))??;
        let entry = StreamEntry { name: self.name, bytes, blake3, attributes };
        self.state.with(|streams| streams.finished.push((entry.clone(), runs)));
        Ok(entry)
    }
}
