//! Packs: many frames and their table of contents, sealed together as one object.
//!
//! ```text
//! pack      = age( frame … frame  toc )
//! toc       = zstd skippable frame: magic 0x184D2A50 (4, LE)  payload length (4, LE)  payload
//! payload   = "WSP1"  count (4, LE)  entry × count  payload length again (4, LE)
//! entry     = chunk id (32)  codec (1)  plain length (4, LE)  frame length (4, LE)
//! ```
//!
//! The table comes last because a pack is built in one pass; its repeated length lets a reader find it from the end.

use super::chunker::CHUNK_BYTES_MAX;
use super::{ChunkId, Codec, PipelineError, decompress};

/// A pack is sealed when its frames have reached about this size.
pub const PACK_TARGET_BYTES: usize = 32 << 20;

const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50u32.to_le_bytes();
const TOC_MAGIC: [u8; 4] = *b"WSP1";
const ENTRY_BYTES: usize = 32 + 1 + 4 + 4;
/// Magic, count and the repeated length.
const PAYLOAD_FIXED_BYTES: usize = 4 + 4 + 4;

/// One chunk's place in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSlot {
    /// The chunk.
    pub id: ChunkId,
    /// How its frame was made.
    pub codec: Codec,
    /// The chunk's length.
    pub plain_bytes: u32,
    /// The frame's length.
    pub frame_bytes: u32,
}

/// A pack being filled.
#[derive(Default)]
pub struct PackBuilder {
    frames: Vec<u8>,
    slots: Vec<PackSlot>,
    plain_bytes: u64,
}

impl PackBuilder {
    /// Adds a chunk's frame; returns its slot and its offset in the pack's decompressed content.
    pub fn push(&mut self, id: ChunkId, codec: Codec, frame: &[u8], plain_bytes: u32) -> (u32, u64) {
        let place = (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), self.plain_bytes);
        self.frames.extend_from_slice(frame);
        let frame_bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.slots.push(PackSlot { id, codec, plain_bytes, frame_bytes });
        self.plain_bytes += u64::from(plain_bytes);
        place
    }

    /// Whether it is time to seal it.
    pub fn is_full(&self) -> bool {
        self.frames.len() >= PACK_TARGET_BYTES
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The chunks added so far, in order.
    pub fn slots(&self) -> &[PackSlot] {
        &self.slots
    }

    /// The bytes to seal.
    pub fn finish(self) -> Vec<u8> {
        let payload_bytes = PAYLOAD_FIXED_BYTES + self.slots.len() * ENTRY_BYTES;
        let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = self.frames;
        bytes.reserve(payload_bytes + 8);
        bytes.extend_from_slice(&SKIPPABLE_MAGIC);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&TOC_MAGIC);
        bytes.extend_from_slice(&u32::try_from(self.slots.len()).unwrap_or(u32::MAX).to_le_bytes());
        for slot in &self.slots {
            bytes.extend_from_slice(&slot.id.0);
            bytes.push(slot.codec as u8);
            bytes.extend_from_slice(&slot.plain_bytes.to_le_bytes());
            bytes.extend_from_slice(&slot.frame_bytes.to_le_bytes());
        }
        bytes.extend_from_slice(&length);
        bytes
    }
}

/// A pack's bytes after opening, with its table of contents.
#[derive(Debug)]
pub struct PackIndex {
    bytes: Vec<u8>,
    slots: Vec<PackSlot>,
    offsets: Vec<usize>,
}

impl PackIndex {
    /// Reads the table of contents of an opened pack.
    ///
    /// # Errors
    /// When the table is missing, of another format, or does not account for every byte.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PipelineError> {
        let slots = parse_toc(&bytes)?;
        let mut offsets = Vec::with_capacity(slots.len());
        let mut at = 0usize;
        for slot in &slots {
            offsets.push(at);
            at = at.checked_add(slot.frame_bytes as usize).ok_or(PipelineError::Toc("frames too long"))?;
        }
        let toc_bytes = 8 + PAYLOAD_FIXED_BYTES + slots.len() * ENTRY_BYTES;
        if at.checked_add(toc_bytes) != Some(bytes.len()) {
            return Err(PipelineError::Toc("the frames do not fill the pack"));
        }
        Ok(PackIndex { bytes, slots, offsets })
    }

    /// The chunks of the pack, in order.
    pub fn slots(&self) -> &[PackSlot] {
        &self.slots
    }

    /// The size of the opened pack.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The chunk in `slot`; the caller checks it against its id.
    ///
    /// # Errors
    /// When there is no such slot, or its frame is damaged.
    pub fn chunk(&self, slot: u32) -> Result<(ChunkId, Vec<u8>), PipelineError> {
        let at = slot as usize;
        let missing = PipelineError::Toc("no such slot");
        let (Some(slot), Some(&offset)) = (self.slots.get(at), self.offsets.get(at)) else { return Err(missing) };
        let frame = self.bytes.get(offset..offset + slot.frame_bytes as usize).ok_or(missing)?;
        Ok((slot.id, decompress(frame, slot.plain_bytes as usize)?))
    }
}

fn parse_toc(bytes: &[u8]) -> Result<Vec<PackSlot>, PipelineError> {
    let damaged = PipelineError::Toc;
    let (_, tail) = bytes.split_last_chunk::<4>().ok_or(damaged("too short"))?;
    let payload_bytes = u32::from_le_bytes(*tail) as usize;
    let frame_bytes = payload_bytes.checked_add(8).ok_or(damaged("impossible length"))?;
    let start = bytes.len().checked_sub(frame_bytes).ok_or(damaged("longer than the pack"))?;
    let toc = bytes.get(start..).ok_or(damaged("longer than the pack"))?;
    let toc = toc.strip_prefix(&SKIPPABLE_MAGIC).ok_or(damaged("no skippable frame"))?;
    let toc = toc.strip_prefix(tail).ok_or(damaged("its two lengths differ"))?;
    let toc = toc.strip_prefix(&TOC_MAGIC).ok_or_else(|| match toc {
        [b'W', b'S', b'P', format, ..] if format.is_ascii_alphanumeric() => PipelineError::Format(char::from(*format)),
        _ => damaged("no magic number"),
    })?;
    let (count, entries) = toc.split_first_chunk::<4>().ok_or(damaged("no count"))?;
    let entries = entries.get(..entries.len().saturating_sub(4)).unwrap_or_default();
    let count = u32::from_le_bytes(*count) as usize;
    if count.checked_mul(ENTRY_BYTES) != Some(entries.len()) {
        return Err(damaged("its count and length differ"));
    }
    entries.chunks_exact(ENTRY_BYTES).map(parse_entry).collect()
}

fn parse_entry(entry: &[u8]) -> Result<PackSlot, PipelineError> {
    let short = PipelineError::Toc("short entry");
    let (Some((id, rest)), 41) = (entry.split_first_chunk::<32>(), entry.len()) else { return Err(short) };
    let (Some((&codec, rest)), short) = (rest.split_first(), short) else {
        return Err(PipelineError::Toc("short entry"));
    };
    let (Some((plain, rest)), Some(frame)) = (rest.split_first_chunk::<4>(), rest.last_chunk::<4>()) else {
        return Err(short);
    };
    debug_assert_eq!(rest.len(), 4);
    let plain_bytes = u32::from_le_bytes(*plain);
    if plain_bytes > CHUNK_BYTES_MAX {
        return Err(PipelineError::Toc("a chunk is longer than any chunker makes one"));
    }
    Ok(PackSlot {
        id: ChunkId(*id),
        codec: Codec::from_byte(codec)?,
        plain_bytes,
        frame_bytes: u32::from_le_bytes(*frame),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ChunkIdKey, compress};
    use super::*;

    fn pack(chunks: &[&[u8]]) -> Vec<u8> {
        let key = ChunkIdKey::new([3; 32]);
        let mut builder = PackBuilder::default();
        for chunk in chunks {
            let (codec, frame) = compress(chunk).unwrap();
            builder.push(key.id(chunk), codec, &frame, u32::try_from(chunk.len()).unwrap());
        }
        builder.finish()
    }

    #[test]
    fn chunks_come_back_in_order() {
        let index = PackIndex::parse(pack(&[b"one", b"", &[b'z'; 9_000]])).unwrap();
        assert_eq!(index.slots().len(), 3);
        assert_eq!(index.chunk(0).unwrap().1, b"one");
        assert_eq!(index.chunk(1).unwrap().1, b"");
        assert_eq!(index.chunk(2).unwrap().1, [b'z'; 9_000]);
        assert!(index.chunk(3).is_err());
        assert_eq!(PackIndex::parse(pack(&[])).unwrap().slots().len(), 0);
    }

    #[test]
    fn stock_zstd_reads_the_concatenated_chunks() {
        let bytes = pack(&[b"one", &[b'z'; 9_000], b"three"]);
        let plain = zstd::decode_all(bytes.as_slice()).unwrap();
        assert_eq!(plain, [b"one".as_slice(), &[b'z'; 9_000], b"three"].concat());
    }

    #[test]
    fn a_damaged_table_is_an_error_and_never_a_panic() {
        let bytes = pack(&[b"one", b"two"]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            if let Ok(index) = PackIndex::parse(damaged) {
                for slot in 0..3 {
                    let _ = index.chunk(slot);
                }
            }
        }
        for length in 0..bytes.len() {
            assert!(PackIndex::parse(bytes[..length].to_vec()).is_err(), "cut to {length}");
        }
    }
}
