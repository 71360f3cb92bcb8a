//! A *stream*: one ordered byte sequence being captured, and the two doors it passes through.
//!
//! Rooms that capture write into a [`Sink`] and know nothing of vaults; rooms that restore read from a
//! [`Source`]. The vault implements both. A stream that was opened but not finished does not exist.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// The rows of one table, `COPY … TO STDOUT` text.
    Table,
    /// A database's large objects, `COPY … TO STDOUT` text: `description` or `contents`.
    LargeObjects,
    /// SQL that builds a schema: `pre-data` or `post-data`.
    Ddl,
    /// A list that describes a database: `inventory`, `sequences`, `roles`, `properties`.
    Catalog,
    /// One export bundle: a tar file.
    Export,
    /// The manifest of a mirrored bucket.
    Manifest,
}

impl StreamKind {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamKind::Table => "table",
            StreamKind::LargeObjects => "large-objects",
            StreamKind::Ddl => "ddl",
            StreamKind::Catalog => "catalog",
            StreamKind::Export => "export",
            StreamKind::Manifest => "manifest",
        }
    }

    /// The kind a stored word names, if this release knows it.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            StreamKind::Table,
            StreamKind::LargeObjects,
            StreamKind::Ddl,
            StreamKind::Catalog,
            StreamKind::Export,
            StreamKind::Manifest,
        ];
        all.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The name of a stream, unique within its snapshot: `table public.origins`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// What it holds.
    pub kind: StreamKind,
    /// Which one of that kind. A table's is its qualified name, quoted as SQL needs it.
    pub name: String,
}

impl StreamName {
    /// A stream's name from its two parts.
    pub fn new(kind: StreamKind, name: impl Into<String>) -> Self {
        StreamName { kind, name: name.into() }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// Facts about a stream that its capturer wants beside it: row counts, column lists.
pub type Attributes = BTreeMap<String, serde_json::Value>;

/// A finished stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEntry {
    /// Its name.
    pub name: StreamName,
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes in order.
    pub blake3: blake3::Hash,
    /// What its capturer said of it.
    pub attributes: Attributes,
}

/// Takes the streams of one snapshot. Streams may be written at the same time from several tasks.
pub trait Sink: Send + Sync {
    /// A stream being written.
    type Stream: SinkStream;

    /// Opens the stream `name`; a name may be used once in a snapshot.
    fn open(&self, name: StreamName) -> impl Future<Output = Result<Self::Stream, Error>> + Send;
}

/// One stream being written.
pub trait SinkStream: Send {
    /// Appends `data`; returns when there is room for more.
    fn write(&mut self, data: Bytes) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends the stream and says what it holds.
    fn finish(self, attributes: Attributes) -> impl Future<Output = Result<StreamEntry, Error>> + Send;
}

/// Gives back the streams of one snapshot.
pub trait Source: Send + Sync {
    /// A stream being read.
    type Stream: SourceStream;

    /// Every stream of the snapshot, in the order in which they were finished.
    fn entries(&self) -> &[StreamEntry];

    /// Starts to read the stream of that name.
    ///
    /// # Errors
    /// When the snapshot has no such stream.
    fn read(&self, name: &StreamName) -> impl Future<Output = Result<Self::Stream, Error>> + Send;
}

/// One stream being read.
pub trait SourceStream: Send {
    /// The next bytes, `None` at the end. The end is reported only if length and BLAKE3 are right.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}
