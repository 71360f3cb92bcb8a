//! A manifest read line by line: each is proven by its check, and looked into no further than it has to be.
//!
//! Nearly every row of a large bucket stands: its key and its version are compared where they are, and its line goes into the next
//! manifest as it is. Only the others become a [`Row`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memrchr};

use super::{CHECK_DIGITS, End, FORMAT_OF_ANY_VERSION, Format, GONE, ManifestError, Pair, RACY, Row};
use crate::config::DigestAlgorithm;
use crate::mirror::line::unescape;
use crate::store::SourceVersion;

/// How much is read at a time. A line is shorter.
const BLOCK_BYTES: usize = 128 << 10;
/// More than the longest line: a key of 4 KiB of control characters, and the rest.
const LINE_BYTES_MAX: usize = 64 << 10;

/// About what a long stretch takes: it is not to grow step by step.
const STRETCH_BYTES: usize = 64 << 10;

/// Which file, and how it is to be read.
#[derive(Debug)]
struct Origin {
    path: PathBuf,
    format: Format,
}

impl Origin {
    fn corrupt(&self, line: u64, why: &'static str) -> ManifestError {
        ManifestError::Corrupt { path: self.path.clone(), line, why }
    }
}

/// One row, proven and not yet taken apart.
#[derive(Clone, Debug)]
pub struct Line {
    origin: Arc<Origin>,
    number: u64,
    /// Without its newline, with its check.
    text: Bytes,
    key_bytes: usize,
    /// The key, where it is not written as it is.
    unescaped: Option<String>,
    is_gone: bool,
    is_racy: bool,
}

impl Line {
    fn new(origin: &Arc<Origin>, number: u64, text: Bytes) -> Result<Self, ManifestError> {
        let wrong = || origin.corrupt(number, "is no row");
        let key_bytes = memchr(b'\t', &text).ok_or_else(wrong)?;
        let written = text.get(..key_bytes).unwrap_or_default();
        let is_plain = memchr(b'\\', written).is_none();
        let unescaped = match is_plain {
            true => None,
            false => Some(str::from_utf8(written).ok().and_then(unescape).ok_or_else(wrong)?),
        };
        let flags = without_check(&text).rsplit(|byte| *byte == b'\t').next().unwrap_or_default();
        let has = |flag: char| flags.iter().any(|byte| char::from(*byte) == flag);
        let (is_gone, is_racy) = (has(GONE), has(RACY));
        Ok(Line { origin: Arc::clone(origin), number, text, key_bytes, unescaped, is_gone, is_racy })
    }

    /// The key of its object, in bytes.
    pub fn key(&self) -> &[u8] {
        match &self.unescaped {
            Some(key) => key.as_bytes(),
            None => self.text.get(..self.key_bytes).unwrap_or_default(),
        }
    }

    /// Whether its object was gone when it was met.
    pub(in crate::mirror) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether the source's `version` is the one that is recorded, and cannot have changed unseen.
    pub fn stands(&self, version: &SourceVersion) -> bool {
        let mut fields = self.text.get(self.key_bytes + 1..).unwrap_or_default().split(|byte| *byte == b'\t');
        let (Some(etag), Some(size), Some(modified)) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        let recorded = version.etag.as_deref().unwrap_or_default();
        let is_etag = match memchr(b'\\', etag) {
            None => etag == recorded.as_bytes(),
            Some(_) => str::from_utf8(etag).ok().and_then(unescape).as_deref() == Some(recorded),
        };
        is_etag
            && !self.is_racy
            && number(size) == Some(i128::from(version.size))
            && number(modified) == Some(version.modified_ns)
    }

    /// Whether its content's digest by `algorithm` is known.
    pub fn has_digest(&self, algorithm: DigestAlgorithm) -> bool {
        let named = self.digest().strip_prefix(algorithm.as_str().as_bytes());
        named.is_some_and(|rest| rest.starts_with(b":"))
    }

    /// Its digits.
    pub(in crate::mirror) fn digest_hex(&self) -> Option<&str> {
        str::from_utf8(self.digest()).ok()?.split_once(':').map(|(_, hex)| hex)
    }

    fn digest(&self) -> &[u8] {
        let mut from_the_end = without_check(&self.text).rsplit(|byte| *byte == b'\t');
        from_the_end.nth(1).filter(|_| self.origin.format > Format::Three).unwrap_or_default()
    }

    /// Key, size, BLAKE3, time of modification and the application's digest, as they stand in it, between tabs: what others are
    /// told of it.
    ///
    /// # Errors
    /// As [`Line::row`].
    pub(in crate::mirror) fn published(&self) -> Result<[&str; 5], ManifestError> {
        let wrong = || self.origin.corrupt(self.number, "is no row");
        let text = str::from_utf8(without_check(&self.text)).map_err(|_| wrong())?;
        let mut fields = text.split('\t');
        let mut next = || fields.next().ok_or_else(wrong);
        let [key, _, size, modified, blake3] = [next()?, next()?, next()?, next()?, next()?];
        let digest = str::from_utf8(self.digest()).map_err(|_| wrong())?;
        Ok([key, size, blake3, modified, digest])
    }

    /// All of it.
    ///
    /// # Errors
    /// [`ManifestError::Corrupt`] when it is no row, though it is as it was written.
    pub fn row(&self) -> Result<Row, ManifestError> {
        let text =
            str::from_utf8(without_check(&self.text)).map_err(|_| self.origin.corrupt(self.number, "is not UTF-8"))?;
        let row = Row::parse(text, self.origin.format);
        row.ok_or_else(|| self.origin.corrupt(self.number, "is no row"))
    }
}

/// Rows that stand, side by side: they go into the next manifest as they are.
#[derive(Debug, Default)]
pub struct Stretch {
    pub(super) text: Vec<u8>,
    /// How many rows they are.
    pub rows: u64,
    /// The bytes of their objects.
    pub bytes: u64,
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
}

impl Stretch {
    /// Adds the row of an object of so many `bytes`, whose key comes after those before.
    ///
    /// # Errors
    /// As [`Line::row`].
    pub fn add(&mut self, line: &Line, bytes: u64) -> Result<(), ManifestError> {
        if self.rows == 0 {
            self.first = line.key().to_owned();
            self.text.reserve(STRETCH_BYTES);
        }
        self.last.clear();
        self.last.extend_from_slice(line.key());
        match line.origin.format {
            // A row of the one is a row of the other.
            Format::Four | Format::Five => {
                self.text.extend_from_slice(&line.text);
                self.text.push(b'\n');
            }
            // Of an earlier release: written anew.
            Format::One | Format::Two | Format::Three => {
                self.text.extend_from_slice(super::proven(&line.row()?.line(false)).as_bytes())
            }
        }
        (self.rows, self.bytes) = (self.rows + 1, self.bytes + bytes);
        Ok(())
    }
}

/// The lines of a manifest, one after the other: what is gone, too.
#[derive(Debug)]
pub struct Lines {
    origin: Arc<Origin>,
    file: File,
    /// Whole lines that were read and not given yet.
    block: Bytes,
    /// What was read after the last of them.
    tail: BytesMut,
    /// The number of the line read last.
    number: u64,
    last_key: Vec<u8>,
    /// The end, or an error, was reached: there is nothing after either.
    over: bool,
}

impl Lines {
    /// Opens a manifest; `None` when there is none.
    ///
    /// # Errors
    /// [`ManifestError::Unsupported`] for a newer format, [`ManifestError::Corrupt`] when it does not begin as one.
    pub fn open(path: &Path) -> Result<Option<(Pair, Self)>, ManifestError> {
        opened(path)?.map(|file| Lines::of(file, path)).transpose()
    }

    /// The same, with what its last line says. Both are of the file as it is now, whatever is put in its place.
    ///
    /// # Errors
    /// The same; [`ManifestError::Unfinished`] when it has no last line.
    pub fn open_with_end(path: &Path) -> Result<Option<(Pair, Self, End)>, ManifestError> {
        let Some(mut file) = opened(path)? else { return Ok(None) };
        let end = End::read(&mut file, path)?;
        let (pair, lines) = Lines::of(file, path)?;
        Ok(Some((pair, lines, end)))
    }

    /// Reads its first line.
    fn of(file: File, path: &Path) -> Result<(Pair, Self), ManifestError> {
        let origin = Arc::new(Origin { path: path.to_owned(), format: Format::Five });
        let (block, tail) = (Bytes::new(), BytesMut::new());
        let mut lines = Lines { origin, file, block, tail, number: 0, last_key: Vec::new(), over: false };
        let first = lines.proven()?;
        let first = str::from_utf8(without_check(&first)).map_err(|_| lines.corrupt("is not UTF-8"))?;
        let fields: Vec<&str> = first.split('\t').collect();
        let format = fields.first().and_then(|format| Format::of(format));
        match (format, fields.as_slice()) {
            (Some(format), [_, source, target]) => match (unescape(source), unescape(target)) {
                (Some(source), Some(target)) => {
                    lines.origin = Arc::new(Origin { path: path.to_owned(), format });
                    Ok((Pair { source, target }, lines))
                }
                _ => Err(lines.corrupt("does not name two buckets")),
            },
            (None, [format, ..]) if format.starts_with(FORMAT_OF_ANY_VERSION) => {
                Err(ManifestError::Unsupported { path: path.to_owned(), format: (*format).to_owned() })
            }
            _ => Err(lines.corrupt("does not begin a manifest")),
        }
    }

    /// The next line, once its check is found right.
    fn proven(&mut self) -> Result<Bytes, ManifestError> {
        if self.block.is_empty() {
            self.fill()?;
        }
        self.number += 1;
        let end = memchr(b'\n', &self.block).filter(|end| *end < LINE_BYTES_MAX);
        let mut line = self.block.split_to(end.ok_or_else(|| self.corrupt("is cut off"))? + 1);
        line.truncate(line.len() - 1);
        let content = without_check(&line);
        let found = line.get(content.len()..).and_then(|rest| rest.strip_prefix(b"\t"));
        match found == Some(&super::check(content)[..]) {
            true => Ok(line),
            false => Err(self.corrupt("does not match its check digits")),
        }
    }

    /// Reads on, as far as whole lines go; at the end of the file whatever is left of it.
    fn fill(&mut self) -> Result<(), ManifestError> {
        let failed = |source| ManifestError::Io { path: self.origin.path.clone(), operation: "read", source };
        let mut block = std::mem::take(&mut self.tail);
        let mut have = block.len();
        block.resize(have + BLOCK_BYTES, 0);
        loop {
            let read = match self.file.read(block.get_mut(have..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(failed)?,
            };
            let whole = block.get(have..have + read).and_then(|new| memrchr(b'\n', new));
            if let Some(last) = whole {
                block.truncate(have + read);
                self.tail = block.split_off(have + last + 1);
                break;
            }
            have += read;
            if read == 0 || have > LINE_BYTES_MAX {
                block.truncate(have);
                break;
            }
        }
        self.block = block.freeze();
        match self.block.is_empty() {
            true => Err(ManifestError::Unfinished { path: self.origin.path.clone(), line: self.number }),
            false => Ok(()),
        }
    }

    fn next_line(&mut self) -> Result<Option<Line>, ManifestError> {
        let text = self.proven()?;
        if text.starts_with(b"end\t")
            && let Some(end) = str::from_utf8(without_check(&text)).ok().and_then(End::parse)
        {
            // The first line is no row, and the last is none.
            let complete = end.rows == self.number.saturating_sub(2);
            return if complete { Ok(None) } else { Err(self.corrupt("counts other rows than there are")) };
        }
        let line = Line::new(&self.origin, self.number, text)?;
        let is_first = self.number == 2;
        if !is_first && self.last_key.as_slice() >= line.key() {
            return Err(self.corrupt("is not in the order of the keys"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(line.key());
        Ok(Some(line))
    }

    fn corrupt(&self, why: &'static str) -> ManifestError {
        self.origin.corrupt(self.number, why)
    }
}

impl Iterator for Lines {
    type Item = Result<Line, ManifestError>;

    /// The next line. Ends only if the whole file was read and found right.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_line().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The file at `path`; `None` when there is none.
fn opened(path: &Path) -> Result<Option<File>, ManifestError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ManifestError::Io { path: path.to_owned(), operation: "read", source }),
    }
}

/// A number as a line has it.
fn number(text: &[u8]) -> Option<i128> {
    // The sum of as many digits fits: nearly all are short, and to read a number of any length takes five times as long.
    const DIGITS_MAX: usize = 19;
    if text.is_empty() || text.len() > DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return str::from_utf8(text).ok()?.parse().ok();
    }
    Some(i128::from(text.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

/// A line without its check and the tab before it.
fn without_check(line: &[u8]) -> &[u8] {
    line.len().checked_sub(CHECK_DIGITS + 1).and_then(|length| line.get(..length)).unwrap_or_default()
}
