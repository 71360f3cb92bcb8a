//! The walk over what is recorded: each object looked for, and some read.

use std::collections::BTreeSet;

use futures_util::{Stream, TryStreamExt};

use super::{beyond, elsewhere};
use crate::error::Error;
use crate::mirror::attic::Attic;
use crate::mirror::manifest::Row;
use crate::mirror::{Patience, PublishedRow};
use crate::observe::Meter;
use crate::point::Share;
use crate::store::{Bucket, StoreError};
use crate::verify::object::{self, ObjectFault};

const SECOND_NS: i128 = 1_000_000_000;

/// What is recorded of an object.
pub(super) struct Expected {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) blake3: blake3::Hash,
    /// The tag its store gave it; absent where nobody knows.
    etag: Option<String>,
}

impl Expected {
    fn wanted(&self) -> elsewhere::Wanted<'_> {
        elsewhere::Wanted { key: &self.key, size: self.size, blake3: &self.blake3 }
    }

    pub(super) fn of_row(row: Row) -> Self {
        Expected { key: row.key, size: row.source.size, blake3: row.blake3, etag: row.target_etag }
    }

    /// Of a copy to which its store gave a tag of its own.
    pub(super) fn of_source(row: Row) -> Self {
        Expected { etag: None, ..Expected::of_row(row) }
    }

    pub(super) fn of_published(row: PublishedRow) -> Self {
        Expected { key: row.key, size: row.size, blake3: row.blake3, etag: None }
    }
}

/// What came of looking at one object.
pub(super) struct Looked {
    pub(super) key: String,
    pub(super) blake3: blake3::Hash,
    /// How many bytes were read; absent when its content was not looked at.
    pub(super) reread_bytes: Option<u64>,
    pub(super) fault: Option<ObjectFault>,
    /// Whether it was written after the recovery point, or just before, by its store's clock.
    pub(super) is_newer: bool,
    /// Whether it is not under its key as recorded, and its content was found where a restore looks for it.
    pub(super) is_kept: bool,
}

/// How to look.
pub(super) struct Walk<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) share: Share,
    pub(super) turn: u64,
    /// What was wrong last time, and is read in any case.
    pub(super) suspects: BTreeSet<String>,
    /// When what is recorded was complete: what was written later is read in any case.
    pub(super) written_by_ns: Option<i128>,
    /// Where else what is recorded may be, when it is not the newest point's.
    pub(super) attic: Option<&'a Attic>,
    /// Whether another tag says that the application wrote it since: the bucket looked at is its own.
    pub(super) is_applications: bool,
    pub(super) meter: Box<dyn Meter>,
    pub(super) concurrency: usize,
}

impl Walk<'_> {
    /// Looks at what `rows` record after the key `after`; answers in their order.
    pub(super) fn looks<'b, R>(
        &'b self,
        rows: R,
        after: Option<String>,
    ) -> impl Stream<Item = Result<Looked, Error>> + Send + 'b
    where
        R: Stream<Item = Result<Expected, Error>> + Send + 'b,
    {
        beyond(rows, after).map_ok(|expected| self.look(expected)).try_buffered(self.concurrency)
    }

    async fn look(&self, expected: Expected) -> Result<Looked, Error> {
        let mut looked = Looked {
            key: expected.key.clone(),
            blake3: expected.blake3,
            reread_bytes: None,
            fault: None,
            is_newer: false,
            is_kept: false,
        };
        let mut patience = Patience::of_one_object();
        while let Err(error) = self.compare(&expected, &mut looked).await {
            if !patience.again(&error).await {
                looked.fault = Some(object::fault(self.bucket, &expected.key, error).await?);
                break;
            }
        }
        if let (Some(_), Some(attic)) = (&looked.fault, self.attic)
            && let Some(bytes) = elsewhere::kept(self.bucket, attic, expected.wanted(), &*self.meter).await?
        {
            looked.reread_bytes = Some(looked.reread_bytes.unwrap_or(0) + bytes);
            (looked.fault, looked.is_kept) = (None, true);
        }
        Ok(looked)
    }

    async fn compare(&self, expected: &Expected, looked: &mut Looked) -> Result<(), StoreError> {
        let head = self.bucket.head(&expected.key).await?;
        looked.is_newer = self.written_by_ns.is_some_and(|by| latest(head.version.modified_ns) > by);
        let is_other = expected.etag.is_some() && expected.etag != head.version.etag;
        looked.is_newer |= is_other && self.is_applications;
        let found = head.version.size;
        if found != expected.size {
            looked.fault = Some(ObjectFault::Size { expected: expected.size, found });
            return Ok(());
        }
        if !(is_other || looked.is_newer || self.has_turn(&expected.key)) {
            return Ok(());
        }
        let (_, body) = self.bucket.read(&expected.key, Some(&head.version)).await?;
        let (bytes, blake3) = object::hash(body, &*self.meter).await?;
        looked.reread_bytes = Some(bytes);
        if bytes != expected.size {
            looked.fault = Some(ObjectFault::Size { expected: expected.size, found: bytes });
        } else if blake3 != expected.blake3 {
            let (expected, found) = (expected.blake3.to_string(), blake3.to_string());
            looked.fault = Some(ObjectFault::Content { expected, found });
        }
        Ok(())
    }

    /// By a hash of the key, not by its place: objects that come and go between two runs move no other's turn.
    fn has_turn(&self, key: &str) -> bool {
        self.suspects.contains(key) || self.share.has(&blake3::hash(key.as_bytes()), self.turn)
    }
}

/// When an object may have been written last: some stores tell whole seconds only.
fn latest(modified_ns: i128) -> i128 {
    if modified_ns % SECOND_NS == 0 { modified_ns + SECOND_NS - 1 } else { modified_ns }
}
