//! Chunk ids: BLAKE3 keyed with a secret of the epoch, so that whoever holds the store cannot confirm a guess.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keys::{from_hex, to_hex};

/// The name of a chunk's content within one epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// The secret that chunk ids and cut points of one epoch depend on.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChunkIdKey([u8; 32]);

impl ChunkIdKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        ChunkIdKey(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        from_hex::<32>(digits).map(ChunkIdKey)
    }

    /// Writes 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(to_hex(&self.0))
    }

    /// The id of a chunk.
    pub fn id(&self, chunk: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0, chunk).as_bytes())
    }

    /// The seed of this epoch's chunker.
    pub fn chunker_seed(&self) -> u64 {
        let derived = blake3::derive_key("warmspare 2026-11 chunker seed, format 1", &self.0);
        let mut seed = [0u8; 8];
        for (to, from) in seed.iter_mut().zip(derived) {
            *to = from;
        }
        u64::from_le_bytes(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_content_and_key() {
        let (one, two) = (ChunkIdKey::new([1; 32]), ChunkIdKey::new([2; 32]));
        assert_eq!(one.id(b"chunk"), one.id(b"chunk"));
        assert_ne!(one.id(b"chunk"), one.id(b"chank"));
        assert_ne!(one.id(b"chunk"), two.id(b"chunk"));
        assert_ne!(one.chunker_seed(), two.chunker_seed());
    }

    #[test]
    fn the_key_survives_its_text_form() {
        let key = ChunkIdKey::new([0xa5; 32]);
        assert_eq!(ChunkIdKey::from_hex(&key.to_hex()).unwrap().id(b"x"), key.id(b"x"));
        assert!(ChunkIdKey::from_hex("a5").is_none());
    }
}
