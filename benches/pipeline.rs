//! What each stage of the pipeline costs on one core, and what a second snapshot stores, beside plain `zstd -3`.
//!
//! The input is made in memory from a seed: COPY text of a package registry, about 128 MiB of it. Each time is the
//! best of three. Everything that is sealed is opened again and compared, so that the numbers are of work that counts.

use std::collections::HashSet;
use std::error::Error;
use std::hint::black_box;
use std::io::Cursor;
use std::ops::Range;
use std::time::{Duration, Instant};

use warmspare::keys::{Identity, Recipient};
use warmspare::pipeline::{
    ChunkId, ChunkIdKey, Chunker, ChunkerParameters, Codec, Compressor, Decompressor, FRAME_TARGET_BYTES, PackBuilder,
    PackReader, open_seekable, seal,
};
use warmspare::process::WipingAllocator;

/// The one the program runs with: what it costs to wipe whatever is freed is part of each number.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

const SEED: u64 = 7;
const STREAM_BYTES: usize = 128 << 20;
/// What arrives at once: about the size of what a server sends.
const BLOCK_BYTES: usize = 64 << 10;
const LEVEL: i32 = 3;
const RUNS: usize = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let rows = Rows::new(SEED);
    let first = rows.copy(&|_| false);
    println!("{} of COPY text, {} rows, seed {SEED}; one core, best of {RUNS}\n", mb(first.len()), rows.count);

    println!("{:<34}{:>10}{:>14}{:>14}", "FIRST SNAPSHOT", "MB/s", "BYTES", "OF THE STREAM");
    let cipher = Cipher::new();
    for (name, parameters) in sizes() {
        stages(name, &parameters, &first, &cipher)?;
    }
    let (took, plain) = best(|| Ok(zstd::encode_all(first.as_slice(), LEVEL)?))?;
    row("zstd -3 of the whole stream", &first, took, Some(plain.len()));
    let (took, _) = best(|| Ok(zstd::decode_all(plain.as_slice())?))?;
    row("zstd -d of it", &first, took, None);

    println!("\n{:<52}{:>14}{:>10}", "SECOND SNAPSHOT, 1 % OF THE ROWS CHANGED", "STORED", "OF ZSTD");
    let newest = rows.count - rows.count / 10;
    let churns: [(&str, &dyn Fn(u64) -> bool); 2] = [
        ("anywhere", &|row| mix(row ^ 0xc0ffee).is_multiple_of(100)),
        ("among the newest tenth", &|row| row >= newest && mix(row ^ 0xc0ffee).is_multiple_of(10)),
    ];
    for (place, is_changed) in churns {
        let second = rows.copy(is_changed);
        let peer = zstd::encode_all(second.as_slice(), LEVEL)?.len();
        for (name, parameters) in sizes() {
            let stored = second_snapshot(&parameters, &first, &second, &cipher)?;
            println!("{:<52}{:>14}{:>10}", format!("{place}, chunks of {name}"), mb(stored), percent(stored, peer));
        }
        println!("{:<52}{:>14}{:>10}", format!("{place}, zstd -3 of the whole stream"), mb(peer), percent(peer, peer));
    }
    Ok(())
}

fn sizes() -> [(&'static str, ChunkerParameters); 2] {
    [("4 KiB", ChunkerParameters::small()), ("16 KiB", ChunkerParameters::large())]
}

/// Times each stage on its own, on what the stage before it made.
fn stages(name: &str, parameters: &ChunkerParameters, stream: &[u8], cipher: &Cipher) -> Outcome<()> {
    let (took, chunks) = best(|| cut(parameters, stream, cipher))?;
    row(&format!("cut, {name} on average"), stream, took, None);
    let (took, ids) =
        best(|| Ok(chunks.iter().map(|chunk| cipher.key.id(&stream[chunk.clone()])).collect::<Vec<_>>()))?;
    row(&format!("id, {} chunks", ids.len()), stream, took, None);
    let (took, frames) = best(|| frames(stream, &chunks))?;
    row("zstd -3 of each frame", stream, took, Some(frames.iter().map(|frame| frame.bytes.len()).sum()));
    let (took, packs) = best(|| pack(&chunks, &ids, &frames, cipher))?;
    row(&format!("pack and seal, {} packs", packs.len()), stream, took, Some(packs.iter().map(Vec::len).sum()));
    let (took, opened) = best(|| unpack(&packs, cipher))?;
    row("open, decompress, check ids", stream, took, None);
    if opened != stream {
        return Err("what was opened is not what was sealed".into());
    }
    println!();
    Ok(())
}

fn cut(parameters: &ChunkerParameters, stream: &[u8], cipher: &Cipher) -> Outcome<Vec<Range<usize>>> {
    let mut chunker = Chunker::new(parameters, cipher.key.chunker_seed())?;
    let (mut chunks, mut at) = (Vec::new(), 0);
    let mut take = |cut: &[&[u8]]| -> Outcome<()> {
        for chunk in cut {
            chunks.push(at..at + chunk.len());
            at += chunk.len();
        }
        Ok(())
    };
    for block in stream.chunks(BLOCK_BYTES) {
        chunker.push(block, &mut take)?;
    }
    chunker.finish(&mut take)?;
    Ok(chunks)
}

/// Some chunks compressed together.
struct Frame {
    codec: Codec,
    bytes: Vec<u8>,
    chunks: Range<usize>,
}

fn frames(stream: &[u8], chunks: &[Range<usize>]) -> Outcome<Vec<Frame>> {
    let (mut compressor, mut frames, mut plain, mut first) = (Compressor::new()?, Vec::new(), Vec::new(), 0);
    for (chunk, after) in chunks.iter().zip(1..) {
        plain.extend_from_slice(&stream[chunk.clone()]);
        if plain.len() >= FRAME_TARGET_BYTES || after == chunks.len() {
            let (codec, bytes) = compressor.compress(&plain)?;
            frames.push(Frame { codec, bytes, chunks: first..after });
            plain.clear();
            first = after;
        }
    }
    Ok(frames)
}

fn pack(chunks: &[Range<usize>], ids: &[ChunkId], frames: &[Frame], cipher: &Cipher) -> Outcome<Vec<Vec<u8>>> {
    let (mut packs, mut open) = (Vec::new(), PackBuilder::default());
    let length = |chunk: &Range<usize>| u32::try_from(chunk.len());
    for frame in frames {
        let entries =
            frame.chunks.clone().map(|at| Ok((ids[at], length(&chunks[at])?))).collect::<Outcome<Vec<_>>>()?;
        open.push(frame.codec, &frame.bytes, &entries);
        if open.is_full() {
            packs.push(seal(&cipher.recipients, &std::mem::take(&mut open).finish())?);
        }
    }
    if !open.is_empty() {
        packs.push(seal(&cipher.recipients, &open.finish())?);
    }
    Ok(packs)
}

fn unpack(packs: &[Vec<u8>], cipher: &Cipher) -> Outcome<Vec<u8>> {
    let mut stream = Vec::with_capacity(STREAM_BYTES);
    let mut with = Decompressor::new()?;
    for sealed in packs {
        let mut index = PackReader::new(open_seekable(&cipher.identity, Cursor::new(sealed.as_slice()))?)?;
        let (mut slot, slots) = (0, u32::try_from(index.slots().len())?);
        while slot < slots {
            let more = index.append(slot, usize::MAX, &cipher.key, &mut with, &mut stream)?;
            slot += u32::try_from(more)?;
        }
    }
    Ok(stream)
}

/// The bytes of the packs that hold what the second stream has and the first has not.
fn second_snapshot(parameters: &ChunkerParameters, first: &[u8], second: &[u8], cipher: &Cipher) -> Outcome<usize> {
    let known = cut(parameters, first, cipher)?;
    let mut known: HashSet<ChunkId> = known.into_iter().map(|chunk| cipher.key.id(&first[chunk])).collect();
    let mut chunks = cut(parameters, second, cipher)?;
    chunks.retain(|chunk| known.insert(cipher.key.id(&second[chunk.clone()])));
    let ids: Vec<ChunkId> = chunks.iter().map(|chunk| cipher.key.id(&second[chunk.clone()])).collect();
    let packs = pack(&chunks, &ids, &frames(second, &chunks)?, cipher)?;
    Ok(packs.iter().map(Vec::len).sum())
}

/// What an epoch holds: its chunk-id key, and the two that can open it.
struct Cipher {
    key: ChunkIdKey,
    identity: Identity,
    recipients: [Recipient; 2],
}

impl Cipher {
    fn new() -> Cipher {
        let (identity, escrow) = (Identity::generate(), Identity::generate());
        let recipients = [identity.recipient(), escrow.recipient()];
        // The key decides where the cuts are; with a fixed one each run measures the same chunks.
        Cipher { key: ChunkIdKey::new([0x5e; 32]), identity, recipients }
    }
}

/// A table of packages: identifiers that repeat, digests that do not, a manifest that does in part.
struct Rows {
    seed: u64,
    count: u64,
}

impl Rows {
    fn new(seed: u64) -> Rows {
        let mut rows = Rows { seed, count: 0 };
        let mut bytes = 0;
        let mut text = String::new();
        while bytes < STREAM_BYTES {
            text.clear();
            rows.write(&mut text, rows.count, false);
            bytes += text.len();
            rows.count += 1;
        }
        rows
    }

    /// The whole table; a changed row has another checksum and another time, and keeps its place.
    fn copy(&self, is_changed: &dyn Fn(u64) -> bool) -> Vec<u8> {
        let mut text = String::with_capacity(STREAM_BYTES + (1 << 20));
        for row in 0..self.count {
            self.write(&mut text, row, is_changed(row));
        }
        text.into_bytes()
    }

    fn write(&self, text: &mut String, row: u64, changed: bool) {
        const ORIGINS: [&str; 6] = ["core", "chef", "effortless", "acme", "platform", "sre"];
        const NAMES: [&str; 12] =
            ["openssl", "glibc", "zlib", "postgresql", "nginx", "redis", "curl", "bash", "python", "ruby", "gcc", "go"];
        let random = |which: u64| mix(self.seed ^ (row << 8) ^ which);
        let name = |which: u64| NAMES[usize::try_from(random(which) % 12).unwrap_or(0)];
        let origin = |which: u64| ORIGINS[usize::try_from(random(which) % 6).unwrap_or(0)];
        let release = 20_200_101_000_000 + random(3) % 60_000_000_000;
        let (major, minor) = (random(4) % 9, random(5) % 30);
        let mut add = |part: &str| text.push_str(part);
        add(&format!("{row}\t{}\t{}/{}/{major}.{minor}.0/{release}\t", random(6) % 900, origin(1), name(2)));
        let digest = if changed { 24..28 } else { 16..20 };
        digest.for_each(|part| add(&format!("{:016x}", random(part))));
        let seconds = random(7) % 30 + if changed { 30 } else { 0 };
        add(&format!("\t2025-0{}-1{} 12:00:{seconds:02}+00\t{{", 1 + random(8) % 9, random(9) % 9));
        for dependency in 0..random(10) % 8 {
            let (origin, name) = (origin(32 + dependency), name(48 + dependency));
            add(&format!("{origin}/{name}/{}.0.1/20240101120000,", random(64 + dependency) % 20));
        }
        add("}\tx86_64-linux\tt\t\\N\tstable\n");
    }
}

/// SplitMix64: good enough noise, the same everywhere.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The shortest of a few runs, and what it made.
fn best<T>(mut work: impl FnMut() -> Outcome<T>) -> Outcome<(Duration, T)> {
    let mut run = || -> Outcome<(Duration, T)> {
        let begun = Instant::now();
        let made = black_box(work()?);
        Ok((begun.elapsed(), made))
    };
    let mut best = run()?;
    for _ in 1..RUNS {
        let again = run()?;
        if again.0 < best.0 {
            best = again;
        }
    }
    Ok(best)
}

/// One stage: its speed in bytes of the stream, and what it left.
fn row(stage: &str, stream: &[u8], took: Duration, left: Option<usize>) {
    let speed = stream.len() as f64 / 1e6 / took.as_secs_f64();
    let (bytes, share) = left.map_or_else(Default::default, |left| (mb(left), percent(left, stream.len())));
    println!("{}", format!("{stage:<34}{speed:>10.0}{bytes:>14}{share:>14}").trim_end());
}

fn mb(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}
