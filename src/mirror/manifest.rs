//! The manifest of a mirror: what the target holds, object by object, and which version of the source it was.
//!
//! A text file of sorted lines in the site's state folder, read and written one line at a time:
//!
//! ```text
//! warmspare-manifest 5 ⇥ source ⇥ target ⇥ check
//! key ⇥ etag ⇥ size ⇥ modified_ns ⇥ blake3 ⇥ target's etag ⇥ digest of headers and tags ⇥ application's digest ⇥ flags ⇥ check
//! …
//! end ⇥ number of rows ⇥ whose changes ⇥ how many ⇥ check
//! ```
//!
//! The check is the first 8 hexadecimal digits of the BLAKE3 of the line before it. A file without its `end`
//! was not finished; a line that does not check out is refused with its number, never skipped.
//!
//! A row with the flag `g` is of an object that the source had no more when the pass met it. It is there for the end of that pass
//! alone, which may not believe it; whoever reads a manifest does not see it. Still read are format 4, which does not say how many
//! changes the passes up to it have followed, format 3, without the application's digests, format 2, without such rows, and format 1,
//! without the digests of headers and tags.

mod lines;

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::beside::BesideDigest;
use super::digest::ContentDigest;
use super::followed::Followed;
use super::line::{escape_into, unescape};
use crate::error::Explain;
use crate::store::SourceVersion;

pub use lines::{Line, Lines, Stretch};

const FORMAT: &str = "warmspare-manifest 5";
const FORMAT_OF_ANY_VERSION: &str = "warmspare-manifest ";
const END: &str = "end";
/// The flag of a row that has to be copied again because its source may have changed unseen.
const RACY: char = 'r';
/// The flag of a row whose object the source had no more.
const GONE: char = 'g';

/// Which fields the rows of a file have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    /// No digest of what stands beside.
    One,
    /// And no rows of what is gone.
    Two,
    /// And no digest of the application's.
    Three,
    /// And no count of changes.
    Four,
    Five,
}

impl Format {
    fn of(text: &str) -> Option<Self> {
        match text.strip_prefix(FORMAT_OF_ANY_VERSION)? {
            "1" => Some(Format::One),
            "2" => Some(Format::Two),
            "3" => Some(Format::Three),
            "4" => Some(Format::Four),
            "5" => Some(Format::Five),
            _ => None,
        }
    }
}

/// More than the last line has bytes.
const LAST_LINE_BYTES_MAX: u64 = 128;
const CHECK_DIGITS: usize = 8;
const BUFFER_BYTES: usize = 64 << 10;

/// A manifest that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system refused.
    #[error("manifest {path} cannot be {operation}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A line is not what was written.
    #[error("manifest {path} is damaged: line {line} {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It ends before its end.
    #[error("manifest {path} is damaged: it ends after line {line}, without its last line")]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// The number of its last line.
        line: u64,
    },
    /// It is of a format that this release does not know.
    #[error("manifest {path} is of the format {format:?}, which this release does not know")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        format: String,
    },
    /// Rows have to be written in the order of their keys.
    #[error("manifest {path} cannot take {key:?} after {before:?}: it is sorted by key")]
    Unsorted {
        /// The file.
        path: PathBuf,
        /// The key written last.
        before: String,
        /// The key to be written.
        key: String,
    },
}

impl Explain for ManifestError {
    fn next_step(&self) -> Option<String> {
        Some(match self {
            ManifestError::Io { path, .. } => {
                format!("Check owner, mode and free space of the folder of {}, then run it again.", path.display())
            }
            ManifestError::Corrupt { path, .. } | ManifestError::Unfinished { path, .. } => format!(
                "Check the disk, then move {} away and run the mirror again: it copies every object anew and writes a new manifest.",
                path.display()
            ),
            ManifestError::Unsupported { .. } => {
                "Run the release of warmspare that wrote it, or a newer one.".to_owned()
            }
            ManifestError::Unsorted { .. } => "This is a mistake in warmspare; report it with the two keys.".to_owned(),
        })
    }
}

/// Of which two buckets a manifest speaks. One of other buckets says nothing about these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name of the source.
    pub source: String,
    /// The name of the target.
    pub target: String,
}

/// One object at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key, the same on both sides.
    pub key: String,
    /// The version of the source that was read.
    pub source: SourceVersion,
    /// BLAKE3 of the bytes that were read.
    pub blake3: blake3::Hash,
    /// The target's tag of what was written.
    pub target_etag: Option<String>,
    /// A digest of what stood beside it at the source: headers, metadata, tags. Absent when nobody has looked.
    pub beside: Option<BesideDigest>,
    /// The application's digest of those bytes. Absent when the profile names none, or did not when they were read.
    pub digest: Option<ContentDigest>,
    /// Whether the source may have changed since without looking different.
    pub racy: bool,
}

impl Row {
    fn line(&self, gone: bool) -> String {
        let mut line = String::with_capacity(self.key.len() + 200);
        escape_into(&mut line, &self.key);
        line.push('\t');
        escape_into(&mut line, self.source.etag.as_deref().unwrap_or_default());
        line.push_str(&format!("\t{}\t{}\t{}\t", self.source.size, self.source.modified_ns, self.blake3));
        escape_into(&mut line, self.target_etag.as_deref().unwrap_or_default());
        let beside = self.beside.map(|digest| digest.to_string()).unwrap_or_default();
        let digest = self.digest.as_ref().map(ContentDigest::to_string).unwrap_or_default();
        line.push_str(&format!("\t{beside}\t{digest}\t"));
        line.extend(self.racy.then_some(RACY));
        line.extend(gone.then_some(GONE));
        line
    }

    fn parse(line: &str, format: Format) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut field = || fields.next();
        let beside = |text: &str| if text.is_empty() { Some(None) } else { BesideDigest::from_hex(text).map(Some) };
        let digest = |text: &str| if text.is_empty() { Some(None) } else { ContentDigest::parse(text).map(Some) };
        let etag = |text: &str| unescape(text).map(|etag| (!etag.is_empty()).then_some(etag));
        let mut row = Row {
            key: unescape(field()?)?,
            source: SourceVersion {
                etag: etag(field()?)?,
                size: field()?.parse().ok()?,
                modified_ns: field()?.parse().ok()?,
            },
            blake3: blake3::Hash::from_hex(field()?).ok()?,
            target_etag: etag(field()?)?,
            beside: if format > Format::One { beside(field()?)? } else { None },
            digest: if format > Format::Three { digest(field()?)? } else { None },
            racy: false,
        };
        for flag in field()?.chars() {
            match flag {
                RACY => row.racy = true,
                // Of the line, not of the object.
                GONE => {}
                _ => return None,
            }
        }
        fields.next().is_none().then_some(row)
    }
}

/// Reads a manifest, row by row: those of objects that are there.
#[derive(Debug)]
pub struct Rows(Lines);

impl Rows {
    /// Opens a manifest; `None` when there is none.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn open(path: &Path) -> Result<Option<(Pair, Self)>, ManifestError> {
        Ok(Lines::open(path)?.map(|(pair, lines)| (pair, Rows(lines))))
    }

    /// How many rows the finished manifest at `path` has, those of what was gone among them; none without one.
    ///
    /// # Errors
    /// When it cannot be read, or has no last line.
    pub fn count(path: &Path) -> Result<u64, ManifestError> {
        Ok(Lines::open_with_end(path)?.map_or(0, |(_, _, end)| end.rows))
    }
}

/// What the last line of a finished manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How many rows it has, those of what was gone among them.
    pub rows: u64,
    /// How many changes of the source the passes up to it have followed; absent in one of an earlier release.
    pub followed: Option<Followed>,
}

impl End {
    /// Of the manifest in `file`, without what stands before it.
    fn read(file: &mut File, path: &Path) -> Result<Self, ManifestError> {
        let failed = |source| ManifestError::Io { path: path.to_owned(), operation: "read", source };
        let length = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE_BYTES_MAX))).map_err(failed)?;
        let mut tail = Vec::new();
        file.take(LAST_LINE_BYTES_MAX).read_to_end(&mut tail).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let tail = String::from_utf8_lossy(&tail);
        let line = tail.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
        let proven = line.rsplit_once('\t').filter(|(content, found)| found.as_bytes() == check(content.as_bytes()));
        let end = proven.and_then(|(content, _)| End::parse(content));
        end.ok_or(ManifestError::Unfinished { path: path.to_owned(), line: 0 })
    }

    /// Of a line that was proven, without its check; `None` for a row.
    fn parse(content: &str) -> Option<Self> {
        let fields: Vec<&str> = content.split('\t').collect();
        match fields.as_slice() {
            // Of an earlier release.
            [END, rows] | [END, rows, "", ""] => Some(End { rows: rows.parse().ok()?, followed: None }),
            [END, rows, of, changes] => {
                let followed = Followed { of: (*of).to_owned(), changes: changes.parse().ok()? };
                Some(End { rows: rows.parse().ok()?, followed: Some(followed) })
            }
            _ => None,
        }
    }

    fn line(&self) -> String {
        let (of, changes) =
            self.followed.as_ref().map(|all| (all.of.as_str(), all.changes.to_string())).unwrap_or_default();
        format!("{END}\t{}\t{of}\t{changes}", self.rows)
    }
}

impl Iterator for Rows {
    type Item = Result<Row, ManifestError>;

    /// The next row. Ends only if the whole file was read and found right.
    fn next(&mut self) -> Option<Self::Item> {
        let there = self.0.find(|line| !line.as_ref().is_ok_and(Line::is_gone));
        there.map(|line| line.and_then(|line| line.row()))
    }
}

/// Writes a manifest, row by row.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    rows: u64,
    last_key: Option<String>,
}

impl Writer {
    /// Starts a manifest of `pair` in a new file at `path`, which is not the place of a finished one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, pair: &Pair) -> Result<Self, ManifestError> {
        let failed = |source| ManifestError::Io { path: path.to_owned(), operation: "written", source };
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path).map_err(failed)?);
        let mut writer = Writer { path: path.to_owned(), file, rows: 0, last_key: None };
        let mut line = format!("{FORMAT}\t");
        escape_into(&mut line, &pair.source);
        line.push('\t');
        escape_into(&mut line, &pair.target);
        writer.line(&line)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Appends a row. It may stay in memory until [`Writer::flush`].
    ///
    /// # Errors
    /// [`ManifestError::Unsorted`] when its key does not come after the one before.
    pub fn push(&mut self, row: &Row) -> Result<(), ManifestError> {
        self.push_as(row, false)
    }

    /// Appends the row of an object that the source has no more.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub(super) fn push_gone(&mut self, row: &Row) -> Result<(), ManifestError> {
        self.push_as(row, true)
    }

    /// Appends rows that stand, as they are.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn push_all(&mut self, stretch: &Stretch) -> Result<(), ManifestError> {
        if let Some(before) = self.last_key.as_ref().filter(|last| last.as_bytes() >= stretch.first.as_slice()) {
            let (path, before) = (self.path.clone(), before.clone());
            return Err(ManifestError::Unsorted { path, before, key: text_of(&stretch.first) });
        }
        self.file.write_all(&stretch.text).map_err(|source| self.failed(source))?;
        self.rows += stretch.rows;
        self.last_key = (stretch.rows > 0).then(|| text_of(&stretch.last)).or_else(|| self.last_key.take());
        Ok(())
    }

    fn push_as(&mut self, row: &Row, gone: bool) -> Result<(), ManifestError> {
        if let Some(before) = self.last_key.as_ref().filter(|last| **last >= row.key) {
            let (path, before, key) = (self.path.clone(), before.clone(), row.key.clone());
            return Err(ManifestError::Unsorted { path, before, key });
        }
        self.line(&row.line(gone))?;
        self.rows += 1;
        self.last_key = Some(row.key.clone());
        Ok(())
    }

    /// Hands the rows so far to the kernel, where they survive this process.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn flush(&mut self) -> Result<(), ManifestError> {
        let flushed = self.file.flush();
        flushed.map_err(|source| self.failed(source))
    }

    /// Ends the manifest, makes it durable and moves it to `place`, over the one before. It does not say how many changes were followed.
    ///
    /// # Errors
    /// When any of that fails; `place` holds the old one or the new one then, never a part.
    pub fn finish(self, place: &Path) -> Result<(), ManifestError> {
        self.finish_after(None, place)
    }

    /// The same, of one up to which passes have `followed` so many changes.
    ///
    /// # Errors
    /// The same.
    pub(super) fn finish_after(mut self, followed: Option<Followed>, place: &Path) -> Result<(), ManifestError> {
        self.line(&End { rows: self.rows, followed }.line())?;
        self.flush()?;
        self.file.get_ref().sync_all().map_err(|source| self.failed(source))?;
        std::fs::rename(&self.path, place).map_err(|source| self.failed(source))?;
        let folder = place.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| self.failed(source))
    }

    fn line(&mut self, content: &str) -> Result<(), ManifestError> {
        let written = self.file.write_all(proven(content).as_bytes());
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ManifestError {
        ManifestError::Io { path: self.path.clone(), operation: "written", source }
    }
}

/// A key that was one before it was bytes.
fn text_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// A line as it stands in the file: with its check, and a newline.
fn proven(content: &str) -> String {
    let check = check(content.as_bytes());
    let mut line = String::with_capacity(content.len() + CHECK_DIGITS + 2);
    line.push_str(content);
    line.push('\t');
    line.extend(check.iter().map(|digit| char::from(*digit)));
    line.push('\n');
    line
}

/// The first [`CHECK_DIGITS`] hexadecimal digits of the BLAKE3 of a line.
fn check(content: &[u8]) -> [u8; CHECK_DIGITS] {
    let hash = blake3::hash(content);
    let mut digits = [0; CHECK_DIGITS];
    for (two, byte) in digits.chunks_exact_mut(2).zip(hash.as_bytes()) {
        two.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

fn digit(half: u8) -> u8 {
    if half < 10 { b'0' + half } else { b'a' + half - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> Row {
        Row {
            key: key.to_owned(),
            source: SourceVersion { etag: Some("e".to_owned()), size: 3, modified_ns: -5 },
            blake3: blake3::hash(key.as_bytes()),
            target_etag: None,
            beside: BesideDigest::from_hex("00112233445566778899aabbccddeeff").filter(|_| key.contains('e')),
            digest: ContentDigest::parse("md5:900150983cd24fb0d6963f7d28e17f72").filter(|_| key.contains('d')),
            racy: key.contains("racy"),
        }
    }

    fn pair() -> Pair {
        Pair { source: "s3://a/ at http://x".to_owned(), target: "/srv/b\ttab".to_owned() }
    }

    fn written(keys: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("manifest");
        let mut writer = Writer::create(&folder.path().join("manifest.next"), &pair()).unwrap();
        for key in keys {
            writer.push(&row(key)).unwrap();
        }
        writer.finish(&place).unwrap();
        (folder, place)
    }

    fn read(place: &Path) -> Result<Vec<Row>, ManifestError> {
        let (found, rows) = Rows::open(place)?.unwrap();
        assert_eq!(found, pair());
        rows.collect()
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let keys = ["a\nb\t\\", "end", "end\t1", "racy", "ü"];
        let (_folder, place) = written(&keys);
        assert_eq!(read(&place).unwrap(), keys.map(row));
        assert!(Rows::open(&place.with_file_name("none")).unwrap().is_none());
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let (_folder, place) = written(&["a", "b"]);
        let good = std::fs::read(&place).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&place, &bad).unwrap();
            let outcome = Rows::open(&place).and_then(|opened| opened.unwrap().1.collect::<Result<Vec<_>, _>>());
            assert!(outcome.is_err(), "byte {at} of {:?}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn a_manifest_cut_anywhere_is_not_a_shorter_one() {
        let (_folder, place) = written(&["a", "b"]);
        let good = std::fs::read(&place).unwrap();
        for length in 0..good.len() {
            std::fs::write(&place, &good[..length]).unwrap();
            let outcome = Rows::open(&place).and_then(|opened| opened.unwrap().1.collect::<Result<Vec<_>, _>>());
            assert!(outcome.is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn lines_out_of_order_or_missing_are_refused_by_number() {
        let (_folder, place) = written(&["a", "b", "c"]);
        let text = std::fs::read_to_string(&place).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let check = |order: &[usize], message: &str| {
            let changed: String = order.iter().map(|n| format!("{}\n", lines[*n])).collect();
            std::fs::write(&place, changed).unwrap();
            let error = read(&place).unwrap_err().to_string();
            assert!(error.ends_with(message), "{error}");
        };
        check(&[0, 2, 1, 3, 4], "line 3 is not in the order of the keys");
        check(&[0, 1, 3, 4], "line 4 counts other rows than there are");
        check(&[0, 1, 1, 2, 3, 4], "line 3 is not in the order of the keys");
    }

    #[test]
    fn what_earlier_releases_wrote_is_read_without_what_they_did_not_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("manifest");
        let (blake3, beside) = (blake3::hash(b"ed"), row("ed").beside.unwrap());
        for (format, fields, expected) in [
            (1, String::new(), Row { beside: None, digest: None, ..row("ed") }),
            (2, format!("{beside}\t"), Row { digest: None, ..row("ed") }),
            (3, format!("{beside}\t"), Row { digest: None, ..row("ed") }),
            (4, format!("{beside}\t{}\t", row("ed").digest.unwrap()), row("ed")),
        ] {
            let first = format!("warmspare-manifest {format}\ts\tt");
            let lines = [&first, &format!("ed\te\t3\t-5\t{blake3}\t\t{fields}"), "end\t1"];
            std::fs::write(&place, lines.map(proven).concat()).unwrap();
            let (_, rows) = Rows::open(&place).unwrap().unwrap();
            let rows: Vec<Row> = rows.collect::<Result<_, _>>().unwrap();
            assert_eq!(rows, [expected], "format {format}");
            let (_, _, end) = Lines::open_with_end(&place).unwrap().unwrap();
            assert_eq!(end, End { rows: 1, followed: None }, "format {format}");
        }
    }

    #[test]
    fn the_end_says_how_many_changes_were_followed_and_a_key_called_end_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("manifest");
        for followed in [None, Some(Followed { of: "0123456789abcdef".to_owned(), changes: u64::MAX })] {
            let mut writer = Writer::create(&folder.path().join("next"), &pair()).unwrap();
            writer.push(&row("end")).unwrap();
            writer.finish_after(followed.clone(), &place).unwrap();
            let (_, lines, end) = Lines::open_with_end(&place).unwrap().unwrap();
            assert_eq!(end, End { rows: 1, followed });
            assert_eq!(lines.collect::<Result<Vec<_>, _>>().unwrap().len(), 1);
        }
        assert_eq!(End::parse(&row("end").line(false)), None);
    }

    #[test]
    fn a_newer_format_is_unsupported_and_not_damaged() {
        let (_folder, place) = written(&[]);
        let line = "warmspare-manifest 6\tx";
        std::fs::write(&place, proven(line)).unwrap();
        assert!(matches!(Rows::open(&place), Err(ManifestError::Unsupported { .. })));
    }

    #[test]
    fn the_writer_takes_no_key_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("next"), &pair()).unwrap();
        writer.push(&row("b")).unwrap();
        assert!(matches!(writer.push(&row("b")), Err(ManifestError::Unsorted { .. })));
        assert!(matches!(writer.push(&row("a")), Err(ManifestError::Unsorted { .. })));
    }
}
