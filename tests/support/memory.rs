//! A snapshot that lives in memory: the two doors of `warmspare::stream` without a vault behind them.
//!
//! It keeps the promises the vault keeps: a name is used once, what is not finished does not exist, and the
//! end of a stream is reported only if length and BLAKE3 are right. [`MemorySource::corrupt`] breaks a stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use warmspare::error::{Error, Explain};
use warmspare::stream::{Attributes, Sink, SinkStream, Source, SourceStream, StreamEntry, StreamName};

/// Blocks are given back in this size, whatever size they came in.
const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("stream {0} was opened twice")]
    OpenedTwice(StreamName),
    #[error("there is no stream {0}")]
    Missing(StreamName),
    #[error("stream {0} is damaged")]
    Damaged(StreamName),
}

impl Explain for MemoryError {}

/// Takes streams; clones write into the same snapshot.
#[derive(Clone, Debug, Default)]
pub struct MemorySink(Arc<Mutex<Snapshot>>);

#[derive(Clone, Debug, Default)]
struct Snapshot {
    opened: Vec<StreamName>,
    entries: Vec<StreamEntry>,
    data: BTreeMap<StreamName, Bytes>,
}

impl MemorySink {
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What has been finished so far.
    pub fn source(&self) -> MemorySource {
        MemorySource(self.lock().clone())
    }
}

impl Sink for MemorySink {
    type Stream = MemoryStream;

    async fn open(&self, name: StreamName) -> Result<MemoryStream, Error> {
        let mut snapshot = self.lock();
        if snapshot.opened.contains(&name) {
            return Err(MemoryError::OpenedTwice(name).into());
        }
        snapshot.opened.push(name.clone());
        Ok(MemoryStream { sink: self.clone(), name, data: BytesMut::new() })
    }
}

pub struct MemoryStream {
    sink: MemorySink,
    name: StreamName,
    data: BytesMut,
}

impl SinkStream for MemoryStream {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.data.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(self, attributes: Attributes) -> Result<StreamEntry, Error> {
        let data = self.data.freeze();
        let blake3 = blake3::hash(&data);
        let entry = StreamEntry { name: self.name.clone(), bytes: data.len() as u64, blake3, attributes };
        let mut snapshot = self.sink.lock();
        snapshot.entries.push(entry.clone());
        snapshot.data.insert(self.name, data);
        Ok(entry)
    }
}

/// Gives streams back.
#[derive(Clone, Debug, Default)]
pub struct MemorySource(Snapshot);

impl MemorySource {
    /// The bytes of a stream.
    pub fn bytes(&self, name: &StreamName) -> Option<Bytes> {
        self.0.data.get(name).cloned()
    }

    /// Puts `data` under `name` as a good stream, whatever was there before.
    pub fn put(&mut self, name: StreamName, data: impl Into<Bytes>) {
        let data = data.into();
        let entry = StreamEntry {
            name: name.clone(),
            bytes: data.len() as u64,
            blake3: blake3::hash(&data),
            attributes: Attributes::new(),
        };
        self.0.entries.retain(|known| known.name != name);
        self.0.entries.push(entry);
        self.0.data.insert(name, data);
    }

    /// Flips one bit of the byte at `offset`, so that the end of the stream is never reported.
    pub fn corrupt(&mut self, name: &StreamName, offset: usize) {
        let mut data = self.0.data.remove(name).expect("the stream to corrupt exists").to_vec();
        data[offset] ^= 1;
        self.0.data.insert(name.clone(), data.into());
    }
}

impl Source for MemorySource {
    type Stream = MemoryReader;

    fn entries(&self) -> &[StreamEntry] {
        &self.0.entries
    }

    async fn read(&self, name: &StreamName) -> Result<MemoryReader, Error> {
        let entry = self.0.entries.iter().find(|entry| entry.name == *name);
        match (entry, self.bytes(name)) {
            (Some(entry), Some(data)) => {
                let intact = entry.bytes == data.len() as u64 && entry.blake3 == blake3::hash(&data);
                Ok(MemoryReader { name: name.clone(), rest: data, intact })
            }
            _ => Err(MemoryError::Missing(name.clone()).into()),
        }
    }
}

pub struct MemoryReader {
    name: StreamName,
    rest: Bytes,
    intact: bool,
}

impl SourceStream for MemoryReader {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.rest.is_empty() {
            let block = self.rest.len().min(BLOCK_BYTES);
            return Ok(Some(self.rest.split_to(block)));
        }
        if self.intact { Ok(None) } else { Err(MemoryError::Damaged(self.name.clone()).into()) }
    }
}
