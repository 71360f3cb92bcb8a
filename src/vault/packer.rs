//! New chunks become packs: collected under a lock, sealed and uploaded in the background, then recorded.
//!
//! A chunk counts as known to *this run* as soon as it is in a pack being filled, and to *later runs* only
//! when the store has confirmed its pack and the catalog holds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::catalog::Place;
use super::epoch::OpenEpoch;
use super::layout::Layout;
use super::{VaultError, v1};
use crate::failpoint;
use crate::pipeline::{ChunkId, Codec, PackBuilder, seal};
use crate::store::Create;

/// Packs being sealed and uploaded at once; each holds about twice [`crate::pipeline::PACK_TARGET_BYTES`].
const UPLOADS_MAX: usize = 2;

/// New chunks on their way into a pack, compressed together.
pub(super) struct Frame {
    pub codec: Codec,
    pub bytes: Vec<u8>,
    /// Each chunk's id and length.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Fills and uploads packs for all streams of a writer.
pub(super) struct Packer<C> {
    keys: C,
    layout: Layout,
    pub(super) epoch: OpenEpoch,
    filling: Mutex<Filling>,
    uploads: Mutex<JoinSet<Result<(), VaultError>>>,
    slots: Arc<Semaphore>,
    /// Held by a flush, so that a second one does not return before the uploads the first one took are done.
    flushing: tokio::sync::Mutex<()>,
    stored_bytes: AtomicU64,
}

#[derive(Default)]
struct Filling {
    /// The pack being filled and its number, allotted with its first chunk.
    pack: Option<(u64, PackBuilder)>,
    /// Chunks of this run whose packs are not in the catalog yet.
    unconfirmed: HashMap<ChunkId, Place>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held aborts the capture anyway; its data is not used for anything that commits.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Create + Clone + 'static> Packer<C> {
    pub fn new(keys: C, layout: Layout, epoch: OpenEpoch) -> Self {
        Packer {
            keys,
            layout,
            epoch,
            filling: Mutex::default(),
            uploads: Mutex::default(),
            slots: Arc::new(Semaphore::new(UPLOADS_MAX)),
            flushing: tokio::sync::Mutex::default(),
            stored_bytes: AtomicU64::new(0),
        }
    }

    /// Where each of the chunks `ids` lies, in a pack of this run or of an earlier one.
    pub fn find(&self, ids: &[ChunkId]) -> Result<Vec<Option<Place>>, VaultError> {
        // In this order: a pack confirmed in between is in both, never in neither.
        let mut places: Vec<Option<Place>> = {
            let filling = lock(&self.filling);
            ids.iter().map(|id| filling.unconfirmed.get(id).copied()).collect()
        };
        self.epoch.catalog.find_missing(ids, &mut places)?;
        Ok(places)
    }

    /// Puts `frames` next to each other into the current pack and says where each of their chunks lies.
    /// Called from a blocking thread; waits while too many packs are being uploaded.
    pub fn add(self: &Arc<Self>, frames: Vec<Frame>) -> Result<Vec<Place>, VaultError> {
        let mut places = Vec::new();
        let mut full = Vec::new();
        {
            let mut filling = lock(&self.filling);
            for frame in frames {
                full.extend(self.add_one(&mut filling, &frame, &mut places)?);
            }
        }
        let runtime = tokio::runtime::Handle::current();
        for (number, pack) in full {
            runtime.block_on(self.upload(number, pack))?;
        }
        Ok(places)
    }

    /// Appends the places of the frame's chunks to `places`; returns the pack if that has filled it.
    fn add_one(
        &self,
        filling: &mut Filling,
        frame: &Frame,
        places: &mut Vec<Place>,
    ) -> Result<Option<(u64, PackBuilder)>, VaultError> {
        // Another stream may have brought the same chunks while these were being compressed. If only some of them, those
        // are stored twice, which harms nobody.
        let known: Option<Vec<Place>> =
            frame.chunks.iter().map(|(id, _)| filling.unconfirmed.get(id).copied()).collect();
        if let Some(known) = known {
            places.extend(known);
            return Ok(None);
        }
        let (number, pack) = match &mut filling.pack {
            Some((number, pack)) => (*number, pack),
            empty => {
                let number = self.epoch.catalog.allocate("pack")?;
                let (number, pack) = empty.insert((number, PackBuilder::default()));
                (*number, pack)
            }
        };
        let (mut slot, mut offset) = pack.push(frame.codec, &frame.bytes, &frame.chunks);
        let full = pack.is_full();
        for &(id, bytes) in &frame.chunks {
            let place = Place { pack: number, slot, offset, bytes };
            filling.unconfirmed.insert(id, place);
            places.push(place);
            slot = slot.saturating_add(1);
            offset += u64::from(bytes);
        }
        Ok(if full { filling.pack.take() } else { None })
    }

    /// Uploads what is left and waits until the store has confirmed every pack.
    pub async fn flush(self: &Arc<Self>) -> Result<(), VaultError> {
        let _alone = self.flushing.lock().await;
        let last = lock(&self.filling).pack.take();
        if let Some((number, pack)) = last {
            self.upload(number, pack).await?;
        }
        let mut uploads = std::mem::take(&mut *lock(&self.uploads));
        while let Some(done) = uploads.join_next().await {
            done.map_err(|e| VaultError::Machine(format!("an upload was lost: {e}")))??;
        }
        Ok(())
    }

    /// Bytes of packs the store has confirmed so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    async fn upload(self: &Arc<Self>, number: u64, pack: PackBuilder) -> Result<(), VaultError> {
        if pack.is_empty() {
            return Ok(());
        }
        let failed = lock(&self.uploads).try_join_next();
        if let Some(done) = failed {
            done.map_err(|e| VaultError::Machine(format!("an upload was lost: {e}")))??;
        }
        let slots = Arc::clone(&self.slots);
        let permit = slots.acquire_owned().await.map_err(|e| VaultError::Machine(e.to_string()))?;
        let packer = Arc::clone(self);
        lock(&self.uploads).spawn(async move {
            let _permit = permit;
            packer.put(number, pack).await
        });
        Ok(())
    }

    async fn put(self: Arc<Self>, number: u64, pack: PackBuilder) -> Result<(), VaultError> {
        let recipient = self.epoch.recipient.clone();
        let sealed = tokio::task::spawn_blocking(move || {
            let slots = pack.slots().to_vec();
            let sealed = seal(&[recipient], &pack.finish())?;
            let name = blake3::hash(&sealed);
            Ok::<_, crate::pipeline::PipelineError>((slots, Bytes::from(sealed), name))
        });
        let sealed = sealed.await.map_err(|e| VaultError::Machine(e.to_string()))?;
        let (slots, sealed, name) =
            sealed.map_err(|source| VaultError::Object { key: format!("pack {number}"), source })?;
        let key = self.layout.pack(self.epoch.id, &name);
        let bytes = sealed.len() as u64;
        // `Taken` is fine here alone: the name is the hash of the bytes.
        self.keys.create(&key, sealed).await?;
        failpoint::hit("vault.pack");
        let packer = Arc::clone(&self);
        let recorded = tokio::task::spawn_blocking(move || {
            packer.epoch.catalog.add_pack(number, &name, &slots)?;
            let mut filling = lock(&packer.filling);
            for slot in &slots {
                filling.unconfirmed.remove(&slot.id);
            }
            Ok::<(), VaultError>(())
        });
        recorded.await.map_err(|e| VaultError::Machine(e.to_string()))??;
        failpoint::hit("vault.catalog");
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The extents of chunks that lie at `places`, in order; all of their packs are confirmed.
    pub fn extents(&self, runs: &[Run]) -> Result<Vec<v1::body::Extent>, VaultError> {
        runs.iter()
            .map(|run| {
                let pack = self.epoch.catalog.pack(run.pack)?;
                let pack = pack.ok_or_else(|| VaultError::Machine(format!("pack {} is not confirmed", run.pack)))?;
                Ok(v1::body::Extent { pack, first: run.first, slots: run.slots, offset: run.offset, bytes: run.bytes })
            })
            .collect()
    }
}

/// A run of neighbouring chunks, its pack still known by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub pack: u64,
    pub first: u32,
    pub slots: u32,
    pub offset: u64,
    pub bytes: u64,
}

/// Appends a chunk's place, lengthening the last run where it continues it.
pub(super) fn append(runs: &mut Vec<Run>, place: Place) {
    if let Some(run) = runs.last_mut()
        && run.pack == place.pack
        && run.first.checked_add(run.slots) == Some(place.slot)
    {
        run.slots += 1;
        run.bytes += u64::from(place.bytes);
        return;
    }
    let Place { pack, slot, offset, bytes } = place;
    runs.push(Run { pack, first: slot, slots: 1, offset, bytes: u64::from(bytes) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_chunks_become_one_run() {
        let mut runs = Vec::new();
        for (pack, slot, offset) in [(1, 4, 40), (1, 5, 50), (1, 7, 70), (2, 8, 80), (2, 9, 90)] {
            append(&mut runs, Place { pack, slot, offset, bytes: 10 });
        }
        let run = |pack, first, slots, offset, bytes| Run { pack, first, slots, offset, bytes };
        assert_eq!(runs, [run(1, 4, 2, 40, 20), run(1, 7, 1, 70, 10), run(2, 8, 2, 80, 20)]);
    }
}
