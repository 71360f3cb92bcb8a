//! The body of a snapshot: which chunks make up each stream. Tab-separated text, compressed, sealed.
//!
//! ```text
//! warmspare-body  1
//! stream  <kind>  <name>  <bytes>  <blake3>  <attributes as JSON>
//! extent  <pack>  <first slot>  <slots>  <offset>  <bytes>
//! end     <streams>
//! ```
//!
//! An extent is a run of neighbouring chunks of one pack; `offset` and `bytes` are its place in the pack's
//! decompressed content, so that a shell with `age` and `zstd` can cut it out. A stream's extents follow it in
//! order. In names `\`, tab, newline and carriage return are written `\\`, `\t`, `\n`, `\r`.

use std::fmt::Write as _;
use std::io::Read as _;

use crate::stream::{StreamEntry, StreamKind, StreamName};

/// A run of neighbouring chunks of one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// BLAKE3 of the pack's ciphertext: its name.
    pub pack: blake3::Hash,
    /// The first slot.
    pub first: u32,
    /// How many slots.
    pub slots: u32,
    /// Where the run begins in the pack's decompressed content.
    pub offset: u64,
    /// Its length there.
    pub bytes: u64,
}

/// One stream of a snapshot and where it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredStream {
    /// What it is.
    pub entry: StreamEntry,
    /// Its chunks, in order.
    pub extents: Vec<Extent>,
}

const FIRST_LINE: &str = "warmspare-body\t1";
const FIRST_WORD: &str = "warmspare-body\t";

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It does not decompress to text.
    #[error("it does not decompress: {0}")]
    Frame(String),
    /// It decompresses to more than any body has.
    #[error("its text has more than {0} bytes")]
    TooLong(u64),
    /// A line is not what the format says.
    #[error("line {0} cannot be read")]
    Line(usize),
    /// Written by a newer release.
    #[error("its format {0} is not supported by this release")]
    Unsupported(u32),
    /// The last line is missing or does not fit.
    #[error("it is cut short")]
    Short,
    /// A stream's extents do not add up to its length.
    #[error("the extents of stream {0} do not add up to its length")]
    Length(String),
}

/// The text of a body.
pub fn encode(streams: &[StoredStream]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for StoredStream { entry, extents } in streams {
        let attributes = serde_json::Value::from_iter(entry.attributes.clone());
        let (kind, name) = (entry.name.kind.as_str(), escape(&entry.name.name));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "stream\t{kind}\t{name}\t{}\t{}\t{attributes}", entry.bytes, entry.blake3);
        for Extent { pack, first, slots, offset, bytes } in extents {
            let _ = writeln!(text, "extent\t{pack}\t{first}\t{slots}\t{offset}\t{bytes}");
        }
    }
    let _ = writeln!(text, "end\t{}", streams.len());
    text
}

/// The streams of a body as it is sealed: its text as a zstd frame. The text may have `text_bytes_max` bytes.
///
/// # Errors
/// [`BodyError`] names what is wrong.
pub fn decode_frame(frame: &[u8], text_bytes_max: u64) -> Result<Vec<StoredStream>, BodyError> {
    let wrong = |error: std::io::Error| BodyError::Frame(error.to_string());
    let mut text = Vec::new();
    let plain = zstd::stream::read::Decoder::with_buffer(frame).map_err(wrong)?;
    // A few kilobytes can decompress to any length.
    plain.take(text_bytes_max.saturating_add(1)).read_to_end(&mut text).map_err(wrong)?;
    if text.len() as u64 > text_bytes_max {
        return Err(BodyError::TooLong(text_bytes_max));
    }
    let text = String::from_utf8(text).map_err(|error| BodyError::Frame(error.to_string()))?;
    decode(&text)
}

/// The streams of a body's text.
///
/// # Errors
/// [`BodyError`] names the line or stream that is wrong.
pub fn decode(text: &str) -> Result<Vec<StoredStream>, BodyError> {
    let mut lines = text.lines().enumerate();
    match lines.next() {
        Some((_, FIRST_LINE)) => {}
        Some((_, line)) => {
            let newer = line.strip_prefix(FIRST_WORD).and_then(|format| format.parse().ok());
            return Err(newer.map_or(BodyError::Line(1), BodyError::Unsupported));
        }
        None => return Err(BodyError::Line(1)),
    }
    let mut streams: Vec<StoredStream> = Vec::new();
    let mut ended = None;
    for (at, line) in lines {
        let wrong = BodyError::Line(at + 1);
        let fields: Vec<&str> = line.split('\t').collect();
        match (fields.as_slice(), streams.last_mut()) {
            _ if ended.is_some() => return Err(wrong),
            (["stream", fields @ ..], _) => streams.push(stream(fields).ok_or(wrong)?),
            (["extent", fields @ ..], Some(stream)) => stream.extents.push(extent(fields).ok_or(wrong)?),
            (["end", count], _) => ended = Some(count.parse::<usize>().map_err(|_| wrong)?),
            _ => return Err(wrong),
        }
    }
    if ended != Some(streams.len()) || !text.ends_with('\n') {
        return Err(BodyError::Short);
    }
    for StoredStream { entry, extents } in &streams {
        if extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.bytes)) != Some(entry.bytes) {
            return Err(BodyError::Length(entry.name.to_string()));
        }
    }
    Ok(streams)
}

fn stream(fields: &[&str]) -> Option<StoredStream> {
    let [kind, name, bytes, blake3, attributes] = fields else { return None };
    let entry = StreamEntry {
        name: StreamName::new(StreamKind::parse(kind)?, unescape(name)?),
        bytes: bytes.parse().ok()?,
        blake3: blake3::Hash::from_hex(blake3).ok()?,
        attributes: serde_json::from_str(attributes).ok()?,
    };
    Some(StoredStream { entry, extents: Vec::new() })
}

fn extent(fields: &[&str]) -> Option<Extent> {
    let [pack, first, slots, offset, bytes] = fields else { return None };
    Some(Extent {
        pack: blake3::Hash::from_hex(pack).ok()?,
        first: first.parse().ok()?,
        slots: slots.parse().ok()?,
        offset: offset.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(match chars.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            }),
            other => name.push(other),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Vec<StoredStream> {
        let extent = |first, bytes| Extent { pack: blake3::hash(b"pack"), first, slots: 2, offset: 100, bytes };
        let entry = |name: &str, bytes| StreamEntry {
            name: StreamName::new(StreamKind::Table, name),
            bytes,
            blake3: blake3::hash(name.as_bytes()),
            attributes: [("rows".to_owned(), 7.into()), ("odd".to_owned(), "tab\tnewline\n".into())].into(),
        };
        vec![
            StoredStream { entry: entry("public.origins", 30), extents: vec![extent(0, 10), extent(5, 20)] },
            StoredStream { entry: entry("public.\"a\tb\\c\nd\"", 0), extents: vec![] },
        ]
    }

    #[test]
    fn a_body_comes_back() {
        let text = encode(&streams());
        assert_eq!(text.lines().count(), 6);
        assert_eq!(decode(&text).unwrap(), streams());
        assert_eq!(decode(&encode(&[])).unwrap(), []);
    }

    #[test]
    fn a_few_bytes_that_decompress_to_many_are_refused() {
        let bomb = zstd::encode_all(vec![b'x'; 1 << 20].as_slice(), 3).unwrap();
        assert!(bomb.len() < 1000);
        assert_eq!(decode_frame(&bomb, (1 << 20) - 1), Err(BodyError::TooLong((1 << 20) - 1)));
        assert_eq!(decode_frame(&bomb, 1 << 20), Err(BodyError::Line(1)));
        let text = encode(&streams());
        let frame = zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert_eq!(decode_frame(&frame, text.len() as u64), Ok(streams()));
        assert!(matches!(decode_frame(b"no frame", 100), Err(BodyError::Frame(_))));
    }

    #[test]
    fn a_body_that_is_cut_or_changed_is_refused() {
        let text = encode(&streams());
        for length in 0..text.len() {
            assert!(decode(&text[..length]).is_err(), "cut to {length}");
        }
        assert_eq!(decode(&text.replace("\t20\n", "\t21\n")), Err(BodyError::Length("table public.origins".into())));
        assert_eq!(decode("warmspare-body\t2\n"), Err(BodyError::Unsupported(2)));
        assert_eq!(decode("warmspare-body\tx\n"), Err(BodyError::Line(1)));
        assert_eq!(decode("extent\n"), Err(BodyError::Line(1)));
        assert_eq!(decode(&format!("{text}stream\n")), Err(BodyError::Line(7)));
    }
}
