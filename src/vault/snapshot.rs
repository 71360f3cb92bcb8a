//! Opening what a snapshot holds, at the site it was sealed to.
//!
//! What leaves here was checked four times: the header's signature, the body's BLAKE3 in the header, each pack's
//! BLAKE3 in its name and each chunk's keyed id, and at the end of a stream its length and BLAKE3.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::VaultError;
use super::layout::{EpochId, Layout, SnapshotId};
use super::reader::VaultReader;
use super::spool::{Opened, Spool};
use super::v1::body::{self, Extent, StoredStream};
use super::v1::{BodyLink, SnapshotHeader, Unverified};
use crate::config::SourceName;
use crate::error::Error;
use crate::keys::Identity;
use crate::pipeline::{ChunkIdKey, Decompressor, FRAME_TARGET_BYTES, PipelineError, open};
use crate::store::Read;
use crate::stream::{Source, SourceStream, StreamEntry, StreamName};

/// No pack is larger than this, whatever its object says.
pub(super) const PACK_BYTES_MAX: u64 = 256 << 20;
/// No body is larger than this.
const BODY_BYTES_MAX: u64 = 2 << 30;
/// Nor its text: the extents of 15 million chunks that lie each for itself, 1 TB in large chunks.
const BODY_TEXT_BYTES_MAX: u64 = 2 << 30;
/// A stream gives out its bytes in steps of about this size.
const STEP_BYTES: u64 = 1 << 20;

/// The streams of one snapshot.
pub struct SnapshotReader<R> {
    packs: Arc<Packs<R>>,
    name: String,
    entries: Vec<StreamEntry>,
    pub(super) streams: Vec<StoredStream>,
}

/// The packs of one epoch, opened as they are asked for.
struct Packs<R> {
    keys: R,
    layout: Layout,
    epoch: EpochId,
    identity: Identity,
    chunk_id_key: ChunkIdKey,
    spool: Mutex<Spool>,
}

impl<R: Read + Clone + 'static> VaultReader<R> {
    /// Opens a snapshot with this site's (or the escrow's) identity.
    ///
    /// # Errors
    /// [`VaultError::NotForUs`] when the epoch's secrets are not sealed to `identity`; others when an object is
    /// missing, damaged or not what the header says.
    pub async fn open_snapshot(
        &self,
        source: &SourceName,
        id: SnapshotId,
        header: &SnapshotHeader,
        identity: &Identity,
    ) -> Result<SnapshotReader<R>, VaultError> {
        let epoch = match self.epoch(id.epoch).await {
            Ok(record) => Some(record),
            Err(VaultError::Store(error)) if !error.is_of_object() => return Err(error.into()),
            Err(error) if error.is_unsupported() => return Err(error),
            // It only says which of several secrets are the right ones.
            Err(error) => {
                tracing::warn!("epoch {} is opened without its record: {}", id.epoch, Error::from(error));
                None
            }
        };
        let secrets = self.epoch_secrets(id.epoch, epoch.as_ref(), identity).await?;
        let streams = self.streams(source, id, &header.body, &secrets.identity).await?;
        let packs = Packs {
            keys: self.keys.clone(),
            layout: self.layout.clone(),
            epoch: id.epoch,
            identity: secrets.identity,
            chunk_id_key: secrets.chunk_id_key,
            spool: Mutex::new(Spool::new(self.spool.clone())),
        };
        let entries = streams.iter().map(|stream| stream.entry.clone()).collect();
        Ok(SnapshotReader { packs: Arc::new(packs), name: format!("{source} {id}"), entries, streams })
    }

    /// What the body of a snapshot says, opened with its epoch's own identity.
    pub(super) async fn streams(
        &self,
        source: &SourceName,
        id: SnapshotId,
        body: &BodyLink,
        epoch_identity: &Identity,
    ) -> Result<Vec<StoredStream>, VaultError> {
        let key = self.layout.body(source, id);
        let sealed = self.keys.get_limited(&key, BODY_BYTES_MAX).await?;
        if blake3::hash(&sealed).to_hex().as_str() != body.blake3 {
            let what = "its BLAKE3 is not the one in the header".to_owned();
            return Err(VaultError::Mismatch { key, what });
        }
        let frame = open(epoch_identity, &sealed).map_err(|source| VaultError::Object { key: key.clone(), source })?;
        parse_body(&key, &frame)
    }
}

fn parse_body(key: &str, frame: &[u8]) -> Result<Vec<StoredStream>, VaultError> {
    let wrong = |what: String| VaultError::Mismatch { key: key.to_owned(), what };
    body::decode_frame(frame, BODY_TEXT_BYTES_MAX).map_err(|error| match error {
        body::BodyError::Unsupported(format) => {
            VaultError::Record { key: key.to_owned(), source: Unverified::Unsupported(format) }
        }
        other => wrong(other.to_string()),
    })
}

impl<R: Read> Packs<R> {
    async fn get(&self, name: &blake3::Hash) -> Result<Arc<Pack>, VaultError> {
        // Held while fetching: streams that share a pack wait for one download instead of making two.
        let mut spool = self.spool.lock().await;
        if let Some(pack) = spool.opened(name) {
            return Ok(pack);
        }
        let key = self.layout.pack(self.epoch, name);
        let fetched = if spool.has(name) { None } else { Some(self.keys.get_limited(&key, PACK_BYTES_MAX).await?) };
        let (identity, name) = (self.identity.clone(), *name);
        let mut held = std::mem::take(&mut *spool);
        let opening = tokio::task::spawn_blocking(move || {
            let opened = match fetched {
                Some(sealed) if blake3::hash(&sealed) != name => Err(None),
                Some(sealed) => {
                    held.keep(name, sealed);
                    held.open(name, &identity).map_err(Some)
                }
                None => held.open(name, &identity).map_err(Some),
            };
            (held, opened)
        });
        let (held, opened) = opening.await.map_err(|e| VaultError::Machine(e.to_string()))?;
        *spool = held;
        opened.map_err(|damage| match damage {
            Some(source) => VaultError::Object { key, source },
            None => VaultError::Mismatch { key, what: "its BLAKE3 is not its name".to_owned() },
        })
    }
}

impl<R: Read + Clone + 'static> Source for SnapshotReader<R> {
    type Stream = SnapshotStream<R>;

    fn entries(&self) -> &[StreamEntry] {
        &self.entries
    }

    async fn read(&self, name: &StreamName) -> Result<SnapshotStream<R>, Error> {
        let stream = self.streams.iter().find(|stream| stream.entry.name == *name);
        let Some(stream) = stream else {
            let what = format!("it has no stream {name}");
            return Err(VaultError::Stream { snapshot: self.name.clone(), what }.into());
        };
        Ok(self.stream(stream))
    }
}

impl<R> SnapshotReader<R> {
    /// One of its own streams, from its beginning.
    pub(super) fn stream(&self, StoredStream { entry, extents }: &StoredStream) -> SnapshotStream<R> {
        SnapshotStream {
            packs: Arc::clone(&self.packs),
            snapshot: self.name.clone(),
            entry: entry.clone(),
            extents: extents.clone().into(),
            slot: 0,
            hasher: blake3::Hasher::new(),
            decompressor: None,
            bytes: 0,
        }
    }
}

/// One stream being read back.
pub struct SnapshotStream<R> {
    packs: Arc<Packs<R>>,
    snapshot: String,
    entry: StreamEntry,
    extents: VecDeque<Extent>,
    /// Slots of the first extent already given out.
    slot: u32,
    hasher: blake3::Hasher,
    decompressor: Option<Decompressor>,
    bytes: u64,
}

impl<R: Read> SnapshotStream<R> {
    /// The next chunks, about [`STEP_BYTES`] of them, from as many extents as that takes.
    async fn step(&mut self) -> Result<Option<Bytes>, VaultError> {
        let (mut runs, mut bytes) = (Vec::new(), 0);
        for extent in &self.extents {
            if bytes >= STEP_BYTES {
                break;
            }
            let pack = self.packs.get(&extent.pack).await?;
            // Of the first one some may have been given out: then fewer bytes come than were counted, and more the next time.
            let done = if runs.is_empty() { self.slot } else { 0 };
            runs.push(Run { pack, name: extent.pack, first: u64::from(extent.first), done, slots: extent.slots });
            bytes += extent.bytes;
        }
        if runs.is_empty() {
            return Ok(None);
        }
        let key = self.packs.chunk_id_key.clone();
        let (mut hasher, with) = (std::mem::take(&mut self.hasher), self.decompressor.take());
        let decoded = tokio::task::spawn_blocking(move || {
            let mut with = with.map_or_else(Decompressor::new, Ok).map_err(|source| (None, source))?;
            let (data, whole, slot) = decode(&runs, bytes, &key, &mut with).map_err(|(name, e)| (Some(name), e))?;
            hasher.update(&data);
            Ok::<_, (Option<blake3::Hash>, PipelineError)>((data, whole, slot, hasher, with))
        });
        let decoded = decoded.await.map_err(|e| VaultError::Machine(e.to_string()))?;
        let (data, whole, slot, hasher, with) = decoded.map_err(|(name, source)| match name {
            Some(name) => VaultError::Object { key: self.packs.layout.pack(self.packs.epoch, &name), source },
            None => VaultError::Machine(source.to_string()),
        })?;
        self.extents.drain(..whole);
        (self.slot, self.hasher, self.decompressor) = (slot, hasher, Some(with));
        self.bytes += data.len() as u64;
        Ok(Some(Bytes::from(data)))
    }

    /// Reads it to its end, checks it, and says how long it is.
    pub(super) async fn drain(mut self) -> Result<u64, VaultError> {
        while self.step().await?.is_some() {}
        self.check_end()?;
        Ok(self.bytes)
    }

    fn check_end(&self) -> Result<(), VaultError> {
        if self.bytes == self.entry.bytes && self.hasher.finalize() == self.entry.blake3 {
            return Ok(());
        }
        let name = &self.entry.name;
        let what = format!("stream {name} is not what was captured: its length or BLAKE3 differs");
        Err(VaultError::Stream { snapshot: self.snapshot.clone(), what })
    }
}

/// A pack that is open, for one stream at a time.
type Pack = std::sync::Mutex<Opened>;

/// Neighbouring chunks of a pack, of which some were given out already.
struct Run {
    pack: Arc<Pack>,
    name: blake3::Hash,
    first: u64,
    done: u32,
    slots: u32,
}

/// Chunks of `runs`, `bytes` of them or about [`STEP_BYTES`]; how many runs they are to the end, and how many chunks of the next.
/// An error names the pack.
fn decode(
    runs: &[Run],
    bytes: u64,
    key: &ChunkIdKey,
    with: &mut Decompressor,
) -> Result<(Vec<u8>, usize, u32), (blake3::Hash, PipelineError)> {
    // The last frame may go over it.
    let expected = usize::try_from(bytes.min(STEP_BYTES)).unwrap_or_default() + FRAME_TARGET_BYTES;
    let mut data = Vec::with_capacity(expected);
    for (whole, run) in runs.iter().enumerate() {
        let mut pack = run.pack.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = run.done;
        while done < run.slots {
            if data.len() as u64 >= STEP_BYTES {
                return Ok((data, whole, done));
            }
            let failed = |error| (run.name, error);
            let slot = u32::try_from(run.first + u64::from(done));
            let slot = slot.map_err(|_| failed(PipelineError::Toc("no such slot")))?;
            let more = pack.append(slot, (run.slots - done) as usize, key, with, &mut data).map_err(failed)?;
            done += u32::try_from(more).unwrap_or(u32::MAX);
        }
    }
    Ok((data, runs.len(), 0))
}

impl<R: Read + Clone + 'static> SourceStream for SnapshotStream<R> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let data = self.step().await?;
        if data.is_none() {
            self.check_end()?;
        }
        Ok(data)
    }
}
