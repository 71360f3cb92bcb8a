//! What is known of the target's contents from before: the other site's newest point, and this site's own manifest of when it was
//! live last. What either names is in a recovery point, or was; what neither names is rescued.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::{Stream, TryStreamExt};

use crate::error::Error;
use crate::mirror::manifest::{ManifestError, Pair, Row, Rows, Writer};
use crate::mirror::published::PublishedRow;
use crate::mirror::{MirrorError, manifest_path};
use crate::store::SourceVersion;
use crate::vault::layout::PointId;

/// How the newest point of all is marked.
const NEWEST: &str = "the newest of all";

/// Where both lie.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("returned")
}

fn failed(path: &Path) -> impl Fn(io::Error) -> MirrorError {
    move |source| MirrorError::State { path: path.to_owned(), source }
}

/// Puts the manifest of now beside, as that of the past.
pub(super) fn keep_past(state: &Path) -> Result<(), MirrorError> {
    let (folder, manifest) = (folder(state), manifest_path(state));
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let (staged, past) = (folder.join("past.new"), folder.join("past"));
    match std::fs::copy(&manifest, &staged) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return super::remove(&past),
        copied => copied.map_err(failed(&staged))?,
    };
    std::fs::File::open(&staged).and_then(|file| file.sync_all()).map_err(failed(&staged))?;
    std::fs::rename(&staged, &past).map_err(failed(&past))?;
    std::fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed(&folder))
}

/// Writes down what the point `id` says of the bucket, for the first pass of a direction; `newest` when no site has taken a
/// newer one.
///
/// # Errors
/// When the point's list cannot be read to its end, or the state folder not be written.
pub async fn keep_point<R>(state: &Path, id: PointId, newest: bool, rows: R) -> Result<(), Error>
where
    R: Stream<Item = Result<PublishedRow, Error>> + Send,
{
    let folder = folder(state);
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let target = if newest { NEWEST.to_owned() } else { String::new() };
    let mut writer = Writer::create(&folder.join("point.new"), &Pair { source: format!("point {id}"), target })
        .map_err(MirrorError::from)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        let PublishedRow { key, size, blake3, modified_ns, digest } = row;
        let source = SourceVersion { etag: None, size, modified_ns };
        let row = Row { key, source, blake3, target_etag: None, beside: None, digest, racy: false };
        writer.push(&row).map_err(MirrorError::from)?;
    }
    writer.finish(&folder.join("point")).map_err(MirrorError::from)?;
    Ok(())
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::mirror) struct Named {
    point: Option<blake3::Hash>,
    past: Option<blake3::Hash>,
    /// Whether the newest point of all names the key.
    pub(in crate::mirror) stays: bool,
    /// Whether it does not.
    pub(in crate::mirror) goes: bool,
}

impl Named {
    /// Whether this is the content that either says.
    pub(in crate::mirror) fn knows(&self, blake3: &blake3::Hash) -> bool {
        [self.point, self.past].contains(&Some(*blake3))
    }
}

/// Both, read along with a sorted listing.
#[derive(Debug)]
pub(in crate::mirror) struct Reference {
    point: Option<Along>,
    past: Option<Along>,
    is_newest: bool,
}

impl Reference {
    /// What lies in the state folder `state`.
    pub(in crate::mirror) fn open(state: &Path) -> Result<Self, ManifestError> {
        let folder = folder(state);
        let point = Rows::open(&folder.join("point"))?;
        let is_newest = point.as_ref().is_some_and(|(pair, _)| pair.target == NEWEST);
        let along = |(_, rows)| Along { rows, next: None };
        Ok(Reference {
            point: point.map(along),
            past: Rows::open(&folder.join("past"))?.map(|(_, rows)| Along { rows, next: None }),
            is_newest,
        })
    }

    /// What is known of `key`. To be asked in the order of the keys.
    pub(in crate::mirror) fn at(&mut self, key: &str) -> Result<Named, ManifestError> {
        let at = |along: &mut Option<Along>| along.as_mut().map_or(Ok(None), |along| along.at(key));
        let (point, past) = (at(&mut self.point)?, at(&mut self.past)?);
        let (stays, goes) = (self.is_newest && point.is_some(), self.is_newest && point.is_none());
        Ok(Named { point, past, stays, goes })
    }
}

#[derive(Debug)]
struct Along {
    rows: Rows,
    next: Option<Row>,
}

impl Along {
    fn at(&mut self, key: &str) -> Result<Option<blake3::Hash>, ManifestError> {
        while self.next.as_ref().is_none_or(|next| next.key.as_str() < key) {
            self.next = match self.rows.next().transpose()? {
                Some(row) => Some(row),
                None => return Ok(None),
            };
        }
        Ok(self.next.as_ref().filter(|next| next.key == key).map(|next| next.blake3))
    }
}
