//! Packs: many frames and their table of contents, sealed together as one object.
//!
//! ```text
//! pack      = age( frame … frame  toc )
//! toc       = zstd skippable frame: magic 0x184D2A50 (4, LE)  payload length (4, LE)  payload
//! payload   = "WSP1"  count (4, LE)  entry × count  payload length again (4, LE)
//! entry     = chunk id (32)  codec (1)  plain length (4, LE)  frame length (4, LE)
//! ```
//!
//! A frame holds one chunk or several: in the entries after its first the frame length is 0. Small chunks find more that is
//! the same in the next snapshot, and compress well only together.
//!
//! The table comes last because a pack is built in one pass; its repeated length lets a reader find it from the end.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};

use super::chunker::CHUNK_BYTES_MAX;
use super::{ChunkId, ChunkIdKey, Codec, Decompressor, PipelineError};

/// A pack is sealed when its frames have reached about this size.
pub const PACK_TARGET_BYTES: usize = 32 << 20;

const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50u32.to_le_bytes();
const TOC_MAGIC: [u8; 4] = *b"WSP1";
const ENTRY_BYTES: usize = 32 + 1 + 4 + 4;
/// Magic, count and the repeated length.
const PAYLOAD_FIXED_BYTES: usize = 4 + 4 + 4;

/// Chunks are put into one frame until they have this size together: more gains little, and a chunk that is wanted alone
/// costs the whole frame.
pub const FRAME_TARGET_BYTES: usize = 64 << 10;

/// One chunk's place in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSlot {
    /// The chunk.
    pub id: ChunkId,
    /// How its frame was made.
    pub codec: Codec,
    /// The chunk's length.
    pub plain_bytes: u32,
    /// The frame's length; 0 for a chunk in the frame of the one before.
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
    /// Adds a frame of `chunks`, ids and lengths; returns the slot of the first, and its offset in the pack's decompressed
    /// content.
    pub fn push(&mut self, codec: Codec, frame: &[u8], chunks: &[(ChunkId, u32)]) -> (u32, u64) {
        let place = (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), self.plain_bytes);
        self.frames.extend_from_slice(frame);
        let mut frame_bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for &(id, plain_bytes) in chunks {
            self.slots.push(PackSlot { id, codec, plain_bytes, frame_bytes });
            self.plain_bytes += u64::from(plain_bytes);
            frame_bytes = 0;
        }
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

/// Frames of a pack that are kept decompressed: streams that are read at the same time are each in one of their own.
const FRAMES_KEPT: usize = 2;

/// An opened pack, read here and there: its table of contents is in memory, its frames are fetched as they are wanted.
#[derive(Debug)]
pub struct PackReader<R> {
    plain: R,
    slots: Vec<PackSlot>,
    frames: Vec<FramePlace>,
    /// The frames decompressed last, by their number: the next chunk that is wanted is mostly in the same one.
    kept: VecDeque<(usize, Vec<u8>)>,
}

/// Where a frame lies, and what it holds.
#[derive(Clone, Copy, Debug)]
struct FramePlace {
    first: usize,
    slots: usize,
    offset: usize,
    bytes: usize,
    plain_bytes: usize,
}

impl<R: Read + Seek> PackReader<R> {
    /// Reads the table of contents of the opened pack `plain`.
    ///
    /// # Errors
    /// When the table is missing, of another format, or does not account for every byte.
    pub fn new(mut plain: R) -> Result<Self, PipelineError> {
        let length = plain.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let start = length.checked_sub(4).ok_or(PipelineError::Toc("too short"))?;
        let mut tail = [0; 4];
        read_at(&mut plain, start, &mut tail)?;
        // A pack is never so long that its table could not be held; what it says of itself is believed no further than that.
        let toc_bytes = u64::from(u32::from_le_bytes(tail)) + 8;
        let start = length.checked_sub(toc_bytes).ok_or(PipelineError::Toc("longer than the pack"))?;
        let mut toc = vec![0; usize::try_from(toc_bytes).map_err(|_| PipelineError::Toc("impossible length"))?];
        read_at(&mut plain, start, &mut toc)?;
        let slots = parse_toc(&toc)?;
        let frames = frames(&slots)?;
        if frames.last().map_or(0, |frame| frame.offset + frame.bytes) as u64 != start {
            return Err(PipelineError::Toc("the frames do not fill the pack"));
        }
        Ok(PackReader { plain, slots, frames, kept: VecDeque::new() })
    }

    /// The chunks of the pack, in order.
    pub fn slots(&self) -> &[PackSlot] {
        &self.slots
    }

    /// What it holds in memory, about, beside what its reader does.
    pub fn memory(&self) -> usize {
        let frame = |frame: &FramePlace| frame.plain_bytes;
        let kept = self.frames.iter().map(frame).max().unwrap_or(0).saturating_mul(FRAMES_KEPT);
        self.slots.len() * size_of::<PackSlot>() + self.frames.len() * size_of::<FramePlace>() + kept
    }

    /// Appends to `plain` the chunk in `slot` and those after it in its frame, `wanted` of them at most, each checked against
    /// its id; says how many.
    ///
    /// # Errors
    /// When there is no such slot, its frame is damaged, or a chunk is not the one its id names.
    pub fn append(
        &mut self,
        slot: u32,
        wanted: usize,
        key: &ChunkIdKey,
        with: &mut Decompressor,
        plain: &mut Vec<u8>,
    ) -> Result<usize, PipelineError> {
        let (number, frame) = self.frame(slot)?;
        let (slot, before) = (slot as usize, plain.len());
        let slots = slot..frame.first.saturating_add(frame.slots).min(slot.saturating_add(wanted));
        if slots.len() == frame.slots {
            let bytes = self.fetch(frame)?;
            with.append(&bytes, frame.plain_bytes, plain)?;
        } else {
            let ahead = length(self.slots.get(frame.first..slot).unwrap_or_default());
            let wanted = length(self.slots.get(slots.clone()).unwrap_or_default());
            let opened = self.opened(number, frame, with)?;
            plain.extend_from_slice(opened.get(ahead..ahead + wanted).unwrap_or_default());
        }
        let mut rest = plain.get(before..).unwrap_or_default();
        for (at, slot) in self.slots.iter().enumerate().take(slots.end).skip(slots.start) {
            let (chunk, after) = rest.split_at_checked(slot.plain_bytes as usize).unwrap_or((rest, &[]));
            if key.id(chunk) != slot.id {
                return Err(PipelineError::Frame(format!("chunk {at} is not the one its id names")));
            }
            rest = after;
        }
        Ok(slots.len())
    }

    /// The frame that holds the chunk in `slot`, and its number.
    fn frame(&self, slot: u32) -> Result<(usize, FramePlace), PipelineError> {
        let after = self.frames.partition_point(|frame| frame.first <= slot as usize);
        let found = after.checked_sub(1).and_then(|at| Some((at, *self.frames.get(at)?)));
        let holds = |frame: &FramePlace| (slot as usize) < frame.first + frame.slots;
        found.filter(|(_, frame)| holds(frame)).ok_or(PipelineError::Toc("no such slot"))
    }

    fn fetch(&mut self, frame: FramePlace) -> Result<Vec<u8>, PipelineError> {
        let mut bytes = vec![0; frame.bytes];
        read_at(&mut self.plain, frame.offset as u64, &mut bytes)?;
        Ok(bytes)
    }

    fn opened(&mut self, number: usize, frame: FramePlace, with: &mut Decompressor) -> Result<&[u8], PipelineError> {
        let content = match self.kept.iter().position(|(kept, _)| *kept == number) {
            Some(at) => self.kept.remove(at).map(|(_, content)| content).unwrap_or_default(),
            None => {
                let bytes = self.fetch(frame)?;
                let mut content = Vec::with_capacity(frame.plain_bytes);
                with.append(&bytes, frame.plain_bytes, &mut content)?;
                content
            }
        };
        self.kept.truncate(FRAMES_KEPT - 1);
        self.kept.push_front((number, content));
        Ok(self.kept.front().map_or(&[], |(_, content)| content.as_slice()))
    }
}

fn length(slots: &[PackSlot]) -> usize {
    slots.iter().map(|slot| slot.plain_bytes as usize).sum()
}

fn read_at<R: Read + Seek>(plain: &mut R, at: u64, bytes: &mut [u8]) -> Result<(), PipelineError> {
    plain.seek(SeekFrom::Start(at)).and_then(|_| plain.read_exact(bytes)).map_err(unreadable)
}

/// Whoever reads finds the damage: a sealed pack is checked piece by piece.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unreadable(error: std::io::Error) -> PipelineError {
    PipelineError::Open(error.to_string())
}

/// The frames of `slots`. Their sizes are bounded, whatever the table says, so that a reader knows what it has to hold.
fn frames(slots: &[PackSlot]) -> Result<Vec<FramePlace>, PipelineError> {
    let mut frames: Vec<FramePlace> = Vec::new();
    let mut codec = Codec::Raw;
    for (at, slot) in slots.iter().enumerate() {
        let (bytes, plain_bytes) = (slot.frame_bytes as usize, slot.plain_bytes as usize);
        match frames.last_mut() {
            Some(frame) if bytes == 0 => {
                if slot.codec != codec {
                    return Err(PipelineError::Toc("two codecs in one frame"));
                }
                frame.slots += 1;
                frame.plain_bytes += plain_bytes;
                if frame.plain_bytes > CHUNK_BYTES_MAX as usize {
                    return Err(PipelineError::Toc("a frame holds more than any writer puts into one"));
                }
            }
            None if bytes == 0 => return Err(PipelineError::Toc("a chunk without a frame")),
            last => {
                let offset = last.map_or(Some(0), |frame| frame.offset.checked_add(frame.bytes));
                let offset = offset.ok_or(PipelineError::Toc("frames too long"))?;
                offset.checked_add(bytes).ok_or(PipelineError::Toc("frames too long"))?;
                codec = slot.codec;
                frames.push(FramePlace { first: at, slots: 1, offset, bytes, plain_bytes });
            }
        }
    }
    Ok(frames)
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
    use super::super::Compressor;
    use super::*;

    type Opened = PackReader<std::io::Cursor<Vec<u8>>>;

    fn opened(bytes: Vec<u8>) -> Result<Opened, PipelineError> {
        PackReader::new(std::io::Cursor::new(bytes))
    }

    /// A pack with a frame for each of `frames`.
    fn pack(frames: &[&[&[u8]]]) -> Vec<u8> {
        let key = ChunkIdKey::new([3; 32]);
        let mut compressor = Compressor::new().unwrap();
        let mut builder = PackBuilder::default();
        for chunks in frames {
            let (codec, frame) = compressor.compress(&chunks.concat()).unwrap();
            let ids: Vec<_> = chunks.iter().map(|chunk| (key.id(chunk), u32::try_from(chunk.len()).unwrap())).collect();
            builder.push(codec, &frame, &ids);
        }
        builder.finish()
    }

    fn chunks(index: &mut Opened, slot: u32, wanted: usize) -> Result<Vec<u8>, PipelineError> {
        let (mut with, mut plain) = (Decompressor::new()?, b"before".to_vec());
        index.append(slot, wanted, &ChunkIdKey::new([3; 32]), &mut with, &mut plain)?;
        Ok(plain.strip_prefix(b"before").unwrap().to_vec())
    }

    fn chunk(index: &mut Opened, slot: u32) -> Vec<u8> {
        chunks(index, slot, 1).unwrap()
    }

    #[test]
    fn chunks_come_back_in_order() {
        let mut index = opened(pack(&[&[b"one"], &[b""], &[&[b'z'; 9_000], b"", b"tail"], &[b"end"]])).unwrap();
        assert_eq!(index.slots().len(), 6);
        let all: Vec<_> = (0..6).map(|slot| chunk(&mut index, slot)).collect();
        assert_eq!(all, [&b"one"[..], b"", &[b'z'; 9_000], b"", b"tail", b"end"]);
        assert_eq!(chunks(&mut index, 3, 9).unwrap(), b"tail", "to the end of the frame and no further");
        assert_eq!(chunks(&mut index, 2, 2).unwrap(), [b'z'; 9_000], "no more than were asked for");
        assert!(chunks(&mut index, 6, 1).is_err());
        let mut empty = opened(pack(&[])).unwrap();
        assert!(empty.slots().is_empty() && chunks(&mut empty, 0, 1).is_err());
    }

    #[test]
    fn stock_zstd_reads_the_concatenated_chunks() {
        let bytes = pack(&[&[b"one", &[b'z'; 9_000]], &[b"three"]]);
        let plain = zstd::decode_all(bytes.as_slice()).unwrap();
        assert_eq!(plain, [b"one".as_slice(), &[b'z'; 9_000], b"three"].concat());
    }

    #[test]
    fn a_table_that_no_writer_makes_is_refused() {
        let slot = |frame_bytes, codec, plain_bytes| PackSlot { id: ChunkId([1; 32]), codec, plain_bytes, frame_bytes };
        let refused = |slots: &[PackSlot]| frames(slots).unwrap_err().to_string();
        assert!(refused(&[slot(0, Codec::Zstd, 1)]).contains("a chunk without a frame"));
        assert!(refused(&[slot(9, Codec::Zstd, 1), slot(0, Codec::Raw, 1)]).contains("two codecs in one frame"));
        let bomb = [slot(9, Codec::Zstd, CHUNK_BYTES_MAX), slot(0, Codec::Zstd, 1)];
        assert!(refused(&bomb).contains("a frame holds more"));
    }

    #[test]
    fn a_damaged_table_is_an_error_and_never_a_panic() {
        let bytes = pack(&[&[b"one", b"and"], &[b"two"]]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            if let Ok(mut index) = opened(damaged) {
                for slot in 0..4 {
                    let _ = chunks(&mut index, slot, 4);
                }
            }
        }
        for length in 0..bytes.len() {
            assert!(opened(bytes[..length].to_vec()).is_err(), "cut to {length}");
        }
    }
}
