//! 2 CHUNK: a byte stream becomes content-defined chunks, keyed ids, compressed frames and sealed packs, and back.
//!
//! Everything here is pure: no I/O, no clock. docs/FORMAT.md describes every byte that leaves this room.

mod chunker;
mod compress;
mod id;
mod pack;
mod seal;

pub use chunker::{Chunker, ChunkerParameters};
pub use compress::{Codec, Compressor, Decompressor};
pub use id::{ChunkId, ChunkIdKey};
pub use pack::{FRAME_TARGET_BYTES, PACK_TARGET_BYTES, PackBuilder, PackReader, PackSlot};
pub use seal::{open, open_seekable, seal};

impl PipelineError {
    /// Whether a newer release would read it: it is not damaged.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, PipelineError::Format(_) | PipelineError::Codec(_) | PipelineError::Chunker(_))
    }
}

/// Bytes that are not what this release writes. The caller knows which object they came from and says so.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A pack's table of contents cannot be read.
    #[error("the table of contents is damaged: {0}")]
    Toc(&'static str),
    /// A pack whose table of contents is newer than this release.
    #[error("its format {0} is not supported by this release")]
    Format(char),
    /// A chunk's codec is newer than this release.
    #[error("codec {0} is not supported by this release")]
    Codec(u8),
    /// A chunk does not decompress to its recorded length.
    #[error("a chunk does not decompress: {0}")]
    Frame(String),
    /// The chunker's parameters cannot be used.
    #[error("chunker parameters {0:?} are not supported by this release")]
    Chunker(ChunkerParameters),
    /// Sealed bytes that no identity at hand opens, or that were damaged.
    #[error("it does not open: {0}")]
    Open(String),
    /// Sealing failed.
    #[error("it cannot be sealed: {0}")]
    Seal(String),
}
