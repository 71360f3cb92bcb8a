//! Copying one object: read under the condition of its version, hash in flight, write, confirm.
//!
//! What is recorded is what was read, and only after the target said that it has it. An object that changes
//! while it is read is read again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use super::manifest::Row;
use crate::observe::Meter;
use crate::store::{Body, Bucket, Skipped, SourceVersion, StoreError, Tags, WriteError};

/// How often an object that keeps changing, or a source that breaks off, is tried in all.
const ATTEMPTS: u32 = 5;
/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// What came of one object.
#[derive(Debug)]
pub(super) enum Copied {
    /// The target has it.
    Done(Row),
    /// It was removed from the source before it could be read.
    Vanished,
    /// The target cannot carry it.
    Skipped(Skipped),
    /// It could not be copied; the others may.
    Failed(String),
}

/// Whose fault one attempt was.
enum Fault {
    Source(StoreError),
    Target(StoreError),
    /// The target has something else than was sent.
    Unconfirmed(String),
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Body(error) => Fault::Source(error),
            WriteError::Store(error) => Fault::Target(error),
        }
    }
}

/// The two buckets, and who is told how many bytes were read.
pub(super) struct Copier<'a> {
    pub(super) source: &'a Bucket,
    pub(super) target: &'a Bucket,
    pub(super) meter: Arc<dyn Meter>,
}

impl Copier<'_> {
    /// Copies the object that was listed as `listed`.
    ///
    /// # Errors
    /// What would fail for every other object too: the target refuses, is full or away, the source is away.
    pub(super) async fn copy(&self, key: &str, listed: &SourceVersion) -> Result<Copied, StoreError> {
        if let Err(error) = self.target.carries(key) {
            return Ok(Copied::Skipped(Skipped { name: key.to_owned(), why: error.to_string() }));
        }
        let mut version = listed.clone();
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            let error = match self.attempt(key, &version).await {
                Ok(row) => return Ok(Copied::Done(row)),
                Err(Fault::Source(StoreError::NotFound { at })) if at.key.is_some() => return Ok(Copied::Vanished),
                Err(Fault::Target(StoreError::BadKey { why, .. })) => {
                    return Ok(Copied::Skipped(Skipped { name: key.to_owned(), why }));
                }
                Err(Fault::Target(error)) => return Err(error),
                Err(Fault::Unconfirmed(why)) => return Ok(Copied::Failed(why)),
                Err(Fault::Source(error)) => error,
            };
            match error {
                StoreError::Changed { .. } | StoreError::Unavailable { .. } if attempt < ATTEMPTS => {}
                StoreError::Unavailable { .. } | StoreError::NotFound { .. } => return Err(error),
                error => return Ok(Copied::Failed(told(&error))),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
            version = match self.source.head(key).await {
                Ok(head) => head.version,
                Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(Copied::Vanished),
                Err(error) => return Err(error),
            };
        }
        Ok(Copied::Failed(format!("it changed each of the {ATTEMPTS} times it was read")))
    }

    /// Whether the source still gives the content that `row` records. An error is no answer: the copy that follows tells it.
    pub(super) async fn is_as_recorded(&self, row: &Row) -> bool {
        let Ok((head, mut body)) = self.source.read(&row.key, Some(&row.source)).await else { return false };
        if head.version.size != row.source.size {
            return false;
        }
        let mut hasher = blake3::Hasher::new();
        while let Some(block) = body.next().await {
            let Ok(block) = block else { return false };
            self.meter.advance(block.len() as u64);
            hasher.update(&block);
        }
        hasher.finalize() == row.blake3
    }

    async fn attempt(&self, key: &str, version: &SourceVersion) -> Result<Row, Fault> {
        let (head, body) = self.source.read(key, Some(version)).await.map_err(Fault::Source)?;
        let size = head.version.size;
        let (body, hasher) = hashed(body, Arc::clone(&self.meter));
        let tags = match head.tags {
            Some(1..) => self.source.tags(key, head.id.as_deref()).await.map_err(Fault::Source)?,
            _ => Tags::new(),
        };
        let written = self.target.write(key, &head.attributes, &tags, size, body).await?;
        let blake3 = hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize();
        if written.version.size != size {
            let found = written.version.size;
            return Err(Fault::Unconfirmed(format!("{size} bytes were sent and the target says it has {found}")));
        }
        // A HEAD tells the time in whole seconds and a listing in finer ones: of one version, keep what listings say.
        let same = head.version.etag == version.etag && head.version.size == version.size;
        let source = if same { version.clone() } else { head.version };
        Ok(Row { key: key.to_owned(), source, blake3, target_etag: written.version.etag, racy: false })
    }
}

/// The same body, and what will be its BLAKE3 when it has passed.
fn hashed(body: Body, meter: Arc<dyn Meter>) -> (Body, Arc<Mutex<blake3::Hasher>>) {
    let hasher = Arc::new(Mutex::new(blake3::Hasher::new()));
    let filling = Arc::clone(&hasher);
    let body = body.inspect(move |block| {
        if let Ok(block) = block {
            filling.lock().unwrap_or_else(PoisonError::into_inner).update(block);
            meter.advance(block.len() as u64);
        }
    });
    (body.boxed(), hasher)
}

/// An error with its causes in one line, for the list of what failed.
fn told(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
