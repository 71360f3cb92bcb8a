//! The listing of a store that does not sort, sorted here: pieces that fit into memory are sorted and written to the state
//! folder, then merged. Nothing is given on before the listing is complete.
//!
//! Memory does not grow with the listing, the disk does: about 150 bytes a key while it is sorted. What is written is gone
//! with the pass; what a killed pass left, with the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use super::{Part, in_parts};
use crate::mirror::MirrorError;
use crate::mirror::line::{escape_into, unescape};
use crate::store::{Listed, ReadOnly, Skipped, SourceVersion};

/// How many entries are sorted in memory: some 20 MiB.
const PIECE_ENTRIES: usize = 64_000;
/// How many files are merged at once.
const FILES_MAX: usize = 64;
const BUFFER_BYTES: usize = 32 << 10;

/// Lists all of `source` into the folder `folder`, which is removed at the end, and gives it on sorted.
pub(super) fn sorted(source: ReadOnly, folder: PathBuf) -> impl Stream<Item = Result<Part, MirrorError>> + Send {
    let filled = async move {
        let mut pieces = Pieces::new(folder)?;
        let mut listing = source.list(None).ready_chunks(PIECE_ENTRIES);
        let mut piece = Vec::new();
        while let Some(entries) = listing.next().await {
            for entry in entries {
                piece.push(Line(entry?));
            }
            if piece.len() >= PIECE_ENTRIES {
                pieces = pieces.with(std::mem::take(&mut piece)).await?;
            }
        }
        pieces = pieces.with(piece).await?;
        let merge = pieces.merge()?;
        Ok::<_, MirrorError>(in_parts(stream::iter(merge.map(|line| line.map(|Line(listed)| listed)))))
    };
    stream::once(filled).try_flatten()
}

/// One entry as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line(Listed);

impl Line {
    fn key(&self) -> &str {
        match &self.0 {
            Listed::Object { key, .. } => key,
            Listed::Skipped(skipped) => &skipped.name,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        match &self.0 {
            Listed::Object { key, version } => {
                escape_into(&mut text, key);
                text.push('\t');
                escape_into(&mut text, version.etag.as_deref().unwrap_or_default());
                text.push_str(&format!("\t{}\t{}\n", version.size, version.modified_ns));
            }
            Listed::Skipped(skipped) => {
                escape_into(&mut text, &skipped.name);
                text.push('\t');
                escape_into(&mut text, &skipped.why);
                text.push('\n');
            }
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.strip_suffix('\n')?.split('\t').collect();
        match fields.as_slice() {
            [key, etag, size, modified] => {
                let etag = unescape(etag).map(|etag| (!etag.is_empty()).then_some(etag))?;
                let version = SourceVersion { etag, size: size.parse().ok()?, modified_ns: modified.parse().ok()? };
                Some(Line(Listed::Object { key: unescape(key)?, version }))
            }
            [name, why] => Some(Line(Listed::Skipped(Skipped { name: unescape(name)?, why: unescape(why)? }))),
            _ => None,
        }
    }

    /// The order of the lines: keys, and of one key that was listed twice the newer first.
    fn order(&self) -> (&str, Reverse<i128>) {
        let modified = match &self.0 {
            Listed::Object { version, .. } => version.modified_ns,
            Listed::Skipped(_) => 0,
        };
        (self.key(), Reverse(modified))
    }
}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Line {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// The sorted pieces on the disk. The folder goes when this goes.
struct Pieces {
    folder: PathBuf,
    files: Vec<PathBuf>,
    written: usize,
}

impl Pieces {
    fn new(folder: PathBuf) -> Result<Self, MirrorError> {
        let failed = |source| MirrorError::State { path: folder.clone(), source };
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Pieces { folder, files: Vec::new(), written: 0 })
    }

    /// Sorting and writing hold a thread for a while: not one that others wait for.
    async fn with(mut self, mut piece: Vec<Line>) -> Result<Self, MirrorError> {
        let path = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || {
            piece.sort_unstable();
            self.write(piece.into_iter().map(Ok))?;
            if self.files.len() >= FILES_MAX {
                let files = std::mem::take(&mut self.files);
                let merged = Merge::open(&files)?;
                self.write(merged)?;
                for path in files {
                    std::fs::remove_file(&path).map_err(|source| MirrorError::State { path, source })?;
                }
            }
            Ok(self)
        });
        written.await.map_err(|stopped| MirrorError::State { path, source: stopped.into() })?
    }

    fn write(&mut self, lines: impl Iterator<Item = Result<Line, MirrorError>>) -> Result<(), MirrorError> {
        let path = self.folder.join(self.written.to_string());
        let failed = |source| MirrorError::State { path: path.clone(), source };
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(&path).map_err(failed)?);
        for line in lines {
            file.write_all(line?.text().as_bytes()).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        self.written += 1;
        self.files.push(path);
        Ok(())
    }

    fn merge(self) -> Result<impl Iterator<Item = Result<Line, MirrorError>>, MirrorError> {
        let merge = Merge::open(&self.files)?;
        // The pieces stay as long as they are read.
        Ok(merge.inspect(move |_| {
            let _held = &self;
        }))
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // What stays is removed by the next pass that sorts.
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

/// The lines of several sorted files in one order. Of a key that was listed more than once it is the newest.
struct Merge {
    files: Vec<(PathBuf, BufReader<File>)>,
    heads: BinaryHeap<Reverse<(Line, usize)>>,
    last: Option<String>,
    begun: bool,
}

impl Merge {
    fn open(paths: &[PathBuf]) -> Result<Self, MirrorError> {
        let open = |path: &PathBuf| match File::open(path) {
            Ok(file) => Ok((path.clone(), BufReader::with_capacity(BUFFER_BYTES, file))),
            Err(source) => Err(MirrorError::State { path: path.clone(), source }),
        };
        let files = paths.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Merge { files, heads: BinaryHeap::new(), last: None, begun: false })
    }

    fn pull(&mut self, number: usize) -> Result<(), MirrorError> {
        let Some((path, file)) = self.files.get_mut(number) else { return Ok(()) };
        let mut text = String::new();
        let failed = |path: &Path, source| MirrorError::State { path: path.to_owned(), source };
        if file.read_line(&mut text).map_err(|source| failed(path, source))? == 0 {
            return Ok(());
        }
        let torn = || failed(path, io::Error::other("a line is not as it was written"));
        self.heads.push(Reverse((Line::parse(&text).ok_or_else(torn)?, number)));
        Ok(())
    }

    fn pop(&mut self) -> Result<Option<Line>, MirrorError> {
        if !std::mem::replace(&mut self.begun, true) {
            (0..self.files.len()).try_for_each(|number| self.pull(number))?;
        }
        while let Some(Reverse((line, number))) = self.heads.pop() {
            self.pull(number)?;
            let is_object = matches!(line.0, Listed::Object { .. });
            if is_object && self.last.as_deref() == Some(line.key()) {
                continue;
            }
            if is_object {
                self.last = Some(line.key().to_owned());
            }
            return Ok(Some(line));
        }
        Ok(None)
    }
}

impl Iterator for Merge {
    type Item = Result<Line, MirrorError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pop().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str, modified_ns: i128) -> Line {
        let version = SourceVersion { etag: Some("e\t".to_owned()), size: 7, modified_ns };
        Line(Listed::Object { key: key.to_owned(), version })
    }

    #[tokio::test]
    async fn what_was_listed_in_any_order_comes_sorted_once_and_leaves_nothing_behind() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("sort");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("0"), "left by a killed pass").unwrap();
        let mut pieces = Pieces::new(folder.clone()).unwrap();
        // More pieces than are merged at once.
        for n in 0..2 * FILES_MAX as i128 + 3 {
            let keys = (0..20).map(|k| line(&format!("{:04}\n", (n * 7 + k * 211) % 2_000), n));
            pieces = pieces.with(keys.chain([line("twice", n)]).collect()).await.unwrap();
        }
        let skipped = Line(Listed::Skipped(Skipped { name: "odd".to_owned(), why: "a reason".to_owned() }));
        pieces = pieces.with(vec![skipped.clone()]).await.unwrap();
        let all: Vec<Line> = pieces.merge().unwrap().collect::<Result<_, _>>().unwrap();
        let keys: Vec<&str> = all.iter().map(Line::key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b) && keys.len() > 1_000, "{}", keys.len());
        assert!(all.contains(&skipped));
        assert_eq!(all.last(), Some(&line("twice", 2 * FILES_MAX as i128 + 2)));
        assert!(!folder.exists());
    }

    #[test]
    fn every_entry_survives_its_line() {
        for entry in [
            line("a\t\u{1}\\", -5),
            Line(Listed::Skipped(Skipped { name: "n\n".to_owned(), why: String::new() })),
            Line(Listed::Object {
                key: "k".to_owned(),
                version: SourceVersion { etag: None, size: 0, modified_ns: 0 },
            }),
        ] {
            assert_eq!(Line::parse(&entry.text()), Some(entry));
        }
        for torn in ["", "a", "a\tb\tc\n", "a\tb\tx\t1\n"] {
            assert_eq!(Line::parse(torn), None, "{torn:?}");
        }
    }
}
