//! The manifest as it goes into the vault: what every object of the bucket is, without what only the mirror
//! itself needs to know.
//!
//! ```text
//! warmspare-objects 1                      warmspare-objects 2
//! key ⇥ size ⇥ blake3 ⇥ modified_ns        key ⇥ size ⇥ blake3 ⇥ modified_ns ⇥ application's digest
//! …                                        …
//! ```
//!
//! The second form is that of a bucket whose objects' digests the profile names. Sorted by key, escaped as the manifest is. It has no check digits and no last line: the stream that carries
//! it is proven whole by its length and BLAKE3. An unchanged bucket gives the same bytes again.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt};

use super::digest::ContentDigest;
use super::line::unescape;
use super::manifest::{Line, Lines, ManifestError};
use crate::error::{Class, Error, Explain};
use crate::stream::SourceStream;

const FORMAT: &str = "warmspare-objects 1";
const FORMAT_WITH_DIGESTS: &str = "warmspare-objects 2";
const FORMAT_OF_ANY_VERSION: &str = "warmspare-objects ";
/// About how much is handed out at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// More than the longest line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One object, as the vault records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRow {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub blake3: blake3::Hash,
    /// When its source was last modified: nanoseconds since 1970.
    pub modified_ns: i128,
    /// The application's digest of its content, where the profile names one.
    pub digest: Option<ContentDigest>,
}

/// The published form of the manifest at `path`, in blocks of about 64 KiB; `with_digests`, that with the application's.
///
/// # Errors
/// When there is no manifest ([`ManifestError::Io`]), or it is damaged: then the iterator ends with that error.
pub fn published_lines(
    path: &Path,
    with_digests: bool,
) -> Result<impl Iterator<Item = Result<Bytes, ManifestError>> + Send + use<>, ManifestError> {
    let Some((_, lines)) = Lines::open(path)? else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(ManifestError::Io { path: path.to_owned(), operation: "read", source });
    };
    let format = if with_digests { FORMAT_WITH_DIGESTS } else { FORMAT };
    Ok(Blocks { lines, with_digests, waiting: format!("{format}\n") })
}

struct Blocks {
    lines: Lines,
    with_digests: bool,
    waiting: String,
}

impl Iterator for Blocks {
    type Item = Result<Bytes, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.waiting.len() < BLOCK_BYTES {
            let published = match self.lines.next() {
                Some(Ok(line)) if line.is_gone() => Ok(()),
                Some(Ok(line)) => publish(&line, self.with_digests, &mut self.waiting),
                Some(Err(error)) => Err(error),
                None => break,
            };
            if let Err(error) = published {
                // What waits is part of a manifest that is not to be believed.
                self.waiting.clear();
                return Some(Err(error));
            }
        }
        let block = std::mem::take(&mut self.waiting);
        (!block.is_empty()).then(|| Ok(Bytes::from(block)))
    }
}

/// The fields are escaped alike in both forms.
fn publish(line: &Line, with_digest: bool, lines: &mut String) -> Result<(), ManifestError> {
    let [key, size, blake3, modified, digest] = line.published()?;
    lines.push_str(key);
    for field in [size, blake3, modified].into_iter().chain(with_digest.then_some(digest)) {
        lines.push('\t');
        lines.push_str(field);
    }
    lines.push('\n');
    Ok(())
}

/// A published manifest that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishedError {
    /// A line is not what a mirror writes.
    #[error("the recorded manifest is not valid: line {line} {why}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is of a format that this release does not know.
    #[error("the recorded manifest is of the format {format:?}, which this release does not know")]
    Unsupported {
        /// What it says it is.
        format: String,
    },
}

impl Explain for PublishedError {
    fn class(&self) -> Class {
        Class::Failed
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            PublishedError::Line { .. } => {
                "Use an older recovery point; this one's list of objects cannot be believed.".to_owned()
            }
            PublishedError::Unsupported { .. } => {
                "Run the release of warmspare that wrote it, or a newer one.".to_owned()
            }
        })
    }
}

/// Turns blocks of a published manifest, cut anywhere, back into rows.
#[derive(Debug, Default)]
pub struct PublishedParser {
    /// The beginning of a line whose end has not come yet.
    waiting: Vec<u8>,
    line: u64,
    with_digests: bool,
    last_key: Option<String>,
}

impl PublishedParser {
    /// The rows that `block` completes.
    ///
    /// # Errors
    /// The first line that is not valid, or not in the order of the keys.
    pub fn feed(&mut self, block: &[u8]) -> Result<Vec<PublishedRow>, PublishedError> {
        let mut rows = Vec::new();
        for piece in block.split_inclusive(|byte| *byte == b'\n') {
            self.waiting.extend_from_slice(piece);
            if self.waiting.len() > LINE_BYTES_MAX {
                self.line += 1;
                return Err(self.wrong("is too long"));
            }
            if self.waiting.last() == Some(&b'\n') {
                self.waiting.pop();
                rows.extend(self.take_line()?);
            }
        }
        Ok(rows)
    }

    /// Makes sure that there was a manifest, and that its last line was complete.
    ///
    /// # Errors
    /// When not.
    pub fn finish(mut self) -> Result<(), PublishedError> {
        if self.line > 0 && self.waiting.is_empty() {
            return Ok(());
        }
        self.line += 1;
        Err(self.wrong("is missing or cut off"))
    }

    /// `None` for the first line.
    fn take_line(&mut self) -> Result<Option<PublishedRow>, PublishedError> {
        self.line += 1;
        let text = String::from_utf8(std::mem::take(&mut self.waiting)).map_err(|_| self.wrong("is not UTF-8"))?;
        if self.line == 1 {
            self.with_digests = text == FORMAT_WITH_DIGESTS;
            return match text.as_str() {
                FORMAT | FORMAT_WITH_DIGESTS => Ok(None),
                _ if text.starts_with(FORMAT_OF_ANY_VERSION) => Err(PublishedError::Unsupported { format: text }),
                _ => Err(self.wrong("does not begin a list of objects")),
            };
        }
        let row = parse(&text, self.with_digests).ok_or_else(|| self.wrong("is no row"))?;
        if self.last_key.as_ref().is_some_and(|last| *last >= row.key) {
            return Err(self.wrong("is not in the order of the keys"));
        }
        self.last_key = Some(row.key.clone());
        Ok(Some(row))
    }

    fn wrong(&self, why: &'static str) -> PublishedError {
        PublishedError::Line { line: self.line, why }
    }
}

fn parse(line: &str, with_digest: bool) -> Option<PublishedRow> {
    let digest = |text: &str| if text.is_empty() { Some(None) } else { ContentDigest::parse(text).map(Some) };
    let mut fields = line.split('\t');
    let row = PublishedRow {
        key: unescape(fields.next()?)?,
        size: fields.next()?.parse().ok()?,
        blake3: blake3::Hash::from_hex(fields.next()?).ok()?,
        modified_ns: fields.next()?.parse().ok()?,
        digest: if with_digest { digest(fields.next()?)? } else { None },
    };
    fields.next().is_none().then_some(row)
}

/// The rows of a manifest as its bytes arrive; the last one comes only if the whole is what was captured.
///
/// # Errors
/// When the manifest cannot be read, or is none.
pub fn published_rows<T: SourceStream>(manifest: T) -> impl Stream<Item = Result<PublishedRow, Error>> + Send {
    let blocks = stream::try_unfold(Some((manifest, PublishedParser::default())), |state| async move {
        let Some((mut manifest, mut parser)) = state else { return Ok::<_, Error>(None) };
        match manifest.next().await? {
            Some(block) => {
                let rows = parser.feed(&block)?;
                Ok(Some((rows, Some((manifest, parser)))))
            }
            None => {
                parser.finish()?;
                Ok(Some((Vec::new(), None)))
            }
        }
    });
    blocks.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten()
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Pair, Row, Writer};
    use super::*;
    use crate::store::SourceVersion;

    fn published(keys: usize, with_digests: bool) -> Vec<Bytes> {
        let folder = tempfile::tempdir().unwrap();
        let pair = Pair { source: "a".to_owned(), target: "b".to_owned() };
        let mut writer = Writer::create(&folder.path().join("next"), &pair).unwrap();
        for n in 0..keys {
            let key = format!("key\t{n:08}");
            let source = SourceVersion { etag: None, size: n as u64, modified_ns: 7 };
            let blake3 = blake3::hash(key.as_bytes());
            let digest = ContentDigest::parse(&format!("md5:{n:032x}")).filter(|_| n % 3 > 0);
            writer
                .push(&Row { key, source, blake3, target_etag: None, beside: None, digest, racy: n % 2 == 0 })
                .unwrap();
        }
        writer.finish(&folder.path().join("manifest")).unwrap();
        published_lines(&folder.path().join("manifest"), with_digests).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn parsed(blocks: &[impl AsRef<[u8]>]) -> Result<Vec<PublishedRow>, PublishedError> {
        let mut parser = PublishedParser::default();
        let mut rows = Vec::new();
        for block in blocks {
            rows.extend(parser.feed(block.as_ref())?);
        }
        parser.finish()?;
        Ok(rows)
    }

    #[test]
    fn what_is_published_is_read_back_however_it_is_cut() {
        let blocks = published(3_000, true);
        assert!(blocks.len() > 3 && blocks.iter().all(|block| block.len() < BLOCK_BYTES + 1_000));
        let rows = parsed(&blocks).unwrap();
        assert_eq!((rows.len(), rows[2_999].key.as_str(), rows[2_999].size), (3_000, "key\t00002999", 2_999));
        let bytes = blocks.concat();
        assert_eq!(parsed(&bytes.chunks(7).collect::<Vec<_>>()).unwrap(), rows);
        let digests: Vec<_> = rows.iter().take(3).map(|row| row.digest.clone()).collect();
        let digest = |n: u8| ContentDigest::parse(&format!("md5:{n:032x}"));
        assert_eq!(digests, [None, digest(1), digest(2)]);
        let without: Vec<_> = rows.into_iter().map(|row| PublishedRow { digest: None, ..row }).collect();
        assert_eq!(parsed(&published(3_000, false)).unwrap(), without);
        assert_eq!(parsed(&published(0, false)).unwrap(), []);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_refused() {
        let bytes = published(2, false).concat();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(parsed(&[&bytes[..bytes.len() - 1]]).is_err());
        assert!(parsed(&[""]).is_err());
        assert!(parsed(&[text.replace("00000000", "00000001")]).is_err(), "a key twice");
        assert!(parsed(&[text.replace("objects 1", "objects 2")]).is_err(), "a field less");
        let newer = parsed(&["warmspare-objects 3\n"]).unwrap_err();
        assert!(matches!(newer, PublishedError::Unsupported { .. }), "{newer}");
    }
}
