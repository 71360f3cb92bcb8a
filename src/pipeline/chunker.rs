//! Content-defined chunking (FastCDC, 2020 variant), so that an insertion moves one cut and not all that follow.
//!
//! The gear table is seeded with a secret of the epoch: chunk lengths then tell the store nothing about known
//! contents. Cuts must not change within an epoch, so the crate is pinned and golden cut points are tested.

use std::borrow::Cow;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use serde::{Deserialize, Serialize};

use super::PipelineError;

/// How streams are cut; recorded in each epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// `fastcdc-2020`, with normalization level 1 and a seeded gear table.
    pub algorithm: String,
    /// The shortest chunk, except at the end of a stream.
    pub min_bytes: u32,
    /// The length aimed at.
    pub average_bytes: u32,
    /// The longest chunk.
    pub max_bytes: u32,
}

/// Up to this size a system's chunks are fine by default.
const FINE_BYTES_MAX: u64 = 2 << 30;
/// And up to this size small.
const SMALL_BYTES_MAX: u64 = 16 << 30;

const ALGORITHM: &str = "fastcdc-2020";
/// No parameters make a longer chunk, so a reader has to hold no more at once, whatever a pack says.
pub(super) const CHUNK_BYTES_MAX: u32 = 16 << 20;

impl ChunkerParameters {
    /// What suits databases of so many bytes on disk: the catalog at the live site has a row of some 90 bytes for each chunk.
    pub fn for_bytes(bytes: u64) -> Self {
        if bytes <= FINE_BYTES_MAX {
            ChunkerParameters::fine()
        } else if bytes <= SMALL_BYTES_MAX {
            ChunkerParameters::small()
        } else {
            ChunkerParameters::large()
        }
    }

    /// ½, 2 and 8 KiB, for systems up to 2 GiB: a changed row costs little more than itself.
    pub fn fine() -> Self {
        ChunkerParameters {
            algorithm: ALGORITHM.to_owned(),
            min_bytes: 512,
            average_bytes: 2 << 10,
            max_bytes: 8 << 10,
        }
    }

    /// 1, 4 and 16 KiB, for systems up to 16 GiB: half the catalog.
    pub fn small() -> Self {
        ChunkerParameters {
            algorithm: ALGORITHM.to_owned(),
            min_bytes: 1 << 10,
            average_bytes: 4 << 10,
            max_bytes: 16 << 10,
        }
    }

    /// 4, 16 and 64 KiB, for larger systems: an eighth of the catalog.
    pub fn large() -> Self {
        ChunkerParameters {
            algorithm: ALGORITHM.to_owned(),
            min_bytes: 4 << 10,
            average_bytes: 16 << 10,
            max_bytes: 64 << 10,
        }
    }

    fn supported(&self) -> bool {
        self.algorithm == ALGORITHM
            && self.min_bytes >= 64
            && self.min_bytes < self.average_bytes
            && self.average_bytes < self.max_bytes
            && self.max_bytes <= CHUNK_BYTES_MAX
    }
}

/// Cuts one stream into chunks as its bytes arrive.
pub struct Chunker {
    min: usize,
    average: usize,
    max: usize,
    masks: (u64, u64),
    gear: (Cow<'static, [u64]>, Cow<'static, [u64]>),
    /// What came and is not cut yet, less than the longest chunk.
    carry: Vec<u8>,
}

impl Chunker {
    /// A chunker at the start of a stream.
    ///
    /// # Errors
    /// When `parameters` are of a kind this release does not know.
    pub fn new(parameters: &ChunkerParameters, seed: u64) -> Result<Self, PipelineError> {
        if !parameters.supported() {
            return Err(PipelineError::Chunker(parameters.clone()));
        }
        let average = parameters.average_bytes as usize;
        Ok(Chunker {
            min: parameters.min_bytes as usize,
            average,
            max: parameters.max_bytes as usize,
            masks: select_masks(average, Normalization::Level1),
            gear: get_gear_with_seed(seed),
            carry: Vec::new(),
        })
    }

    /// Takes more of the stream and gives the chunks that are complete to `take`, in order.
    ///
    /// They are cut where `data` lies; only what goes over its edges, less than two of the longest chunks, is copied.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn push<E>(&mut self, data: &[u8], mut take: impl FnMut(&[&[u8]]) -> Result<(), E>) -> Result<(), E> {
        // A cut is final only when the longest possible chunk lies in view, and depends on nothing beyond that.
        let (over, _) = data.split_at_checked(self.max).unwrap_or((data, &[]));
        let held = self.carry.len();
        self.carry.extend_from_slice(over);
        if self.carry.len() < self.max {
            return Ok(());
        }
        let (chunks, done) = self.chunks(&self.carry, self.max, held.max(1));
        take(&chunks)?;
        match data.get(done.saturating_sub(held)..) {
            Some(rest) if done >= held => {
                let (chunks, cut) = self.chunks(rest, self.max, rest.len());
                take(&chunks)?;
                self.carry.clear();
                self.carry.extend_from_slice(rest.get(cut..).unwrap_or_default());
            }
            // So little came that the end of what was held is not final yet.
            _ => {
                self.carry.drain(..done);
            }
        }
        Ok(())
    }

    /// Ends the stream: gives what is left to `take`.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn finish<E>(self, take: impl FnOnce(&[&[u8]]) -> Result<(), E>) -> Result<(), E> {
        take(&self.chunks(&self.carry, 1, self.carry.len()).0)
    }

    /// The chunks that begin in the first `within` bytes of `view`, as long as `least` bytes are in view, and their length
    /// together.
    fn chunks<'a>(&self, view: &'a [u8], least: usize, within: usize) -> (Vec<&'a [u8]>, usize) {
        let mut chunks = Vec::with_capacity(within / self.average + 1);
        let (mut rest, mut done) = (view, 0);
        while rest.len() >= least && done < within {
            let (chunk, after) = rest.split_at_checked(self.cut(rest)).unwrap_or((rest, &[]));
            chunks.push(chunk);
            done += chunk.len();
            rest = after;
        }
        (chunks, done)
    }

    /// The length of the first chunk of `view`, at least 1.
    fn cut(&self, view: &[u8]) -> usize {
        if view.len() <= self.min {
            return view.len();
        }
        let (small, large) = self.masks;
        let (gear, gear_shifted) = (&self.gear.0, &self.gear.1);
        let (_, length) =
            cut_gear(view, self.min, self.average, self.max, small, large, small << 1, large << 1, gear, gear_shifted);
        length.clamp(1, view.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random and are the same everywhere.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(data: &[u8], seed: u64, step: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut take = |chunks: &[&[u8]]| -> Result<(), ()> {
            lengths.extend(chunks.iter().map(|chunk| chunk.len()));
            Ok(())
        };
        let mut chunker = Chunker::new(&ChunkerParameters::large(), seed).unwrap();
        for part in data.chunks(step) {
            chunker.push(part, &mut take).unwrap();
        }
        chunker.finish(&mut take).unwrap();
        lengths
    }

    #[test]
    fn golden_cut_points() {
        // If this changes, every open epoch loses its dedupe: a new algorithm name is needed, not a new list here.
        assert_eq!(cuts(&noise(200_000), 0, 200_000), GOLDEN_SEED_0);
        assert_eq!(cuts(&noise(200_000), 0x5eed, 200_000), GOLDEN_SEED_5EED);
    }

    const GOLDEN_SEED_0: [usize; 15] =
        [10930, 4527, 18623, 6065, 9589, 24342, 12035, 4699, 12277, 19227, 9052, 24050, 19333, 20211, 5040];
    const GOLDEN_SEED_5EED: [usize; 10] = [14800, 17676, 20554, 17042, 20715, 26876, 25703, 20187, 17614, 18833];

    #[test]
    fn the_crate_cuts_the_same_way_over_a_whole_buffer() {
        let data = noise(500_000);
        let whole = fastcdc::v2020::FastCDC::with_level(&data, 4 << 10, 16 << 10, 64 << 10, Normalization::Level1);
        assert_eq!(whole.map(|chunk| chunk.length).collect::<Vec<_>>(), cuts(&data, 0, 7_777));
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_stream_arrives() {
        let data = noise(400_000);
        let expected = cuts(&data, 7, data.len());
        for step in [1_000, 4_096, 65_536, 65_537, 399_999] {
            assert_eq!(cuts(&data, 7, step), expected, "step {step}");
        }
        assert_eq!(expected.iter().sum::<usize>(), data.len());
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_near_it() {
        let before = noise(1_000_000);
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"inserted");
        let (before, after) = (cuts(&before, 7, 1 << 20), cuts(&after, 7, 1 << 20));
        let kept = after.iter().filter(|length| before.contains(length)).count();
        assert!(kept + 4 >= after.len(), "{kept} of {} chunks kept", after.len());
    }

    #[test]
    fn short_streams_are_one_chunk_and_empty_ones_none() {
        assert_eq!(cuts(&noise(5), 7, 5), [5]);
        assert!(cuts(&[], 7, 1).is_empty());
    }

    #[test]
    fn parameters_of_a_newer_release_are_refused() {
        let newer = ChunkerParameters { algorithm: "fastcdc-2030".into(), ..ChunkerParameters::small() };
        assert!(matches!(Chunker::new(&newer, 0), Err(PipelineError::Chunker(_))));
    }
}
