//! Whether an error is of one object alone: the store is asked for others.
//!
//! A rotten disk, lost shards, a name or a limit that the store has not got: to whoever wanted that object it looks like a store that is
//! away or that refuses, and to whoever wanted another nothing is wrong. So before a whole pass is given up over one key, something else
//! is asked.

use futures_util::{StreamExt, TryStreamExt};

use super::bucket::Bucket;
use super::error::StoreError;
use super::object::{Cursor, Listed};

/// How many other objects are tried before a store is said to give none.
const OTHERS: usize = 4;

/// What ends an upload that was begun on trial, as its error names it: that is a right of its own.
pub(super) const ABORT_TRIAL: &str = "abort an upload begun on trial in";

/// What came of reading other objects.
enum Others {
    /// One of them was read.
    Read,
    /// There is no other.
    None,
    /// None of them was, or they could not even be listed.
    Unread,
}

impl Bucket {
    /// Whether `error`, which reading the object `key` ended with, is of that object alone. Where the error itself does not tell, up to
    /// four others are listed and read. A right that is missing is the whole store's unless another object shows otherwise; no answer
    /// is the object's own if there is no other and the store still lists it.
    pub async fn fails_alone(&self, key: &str, error: &StoreError) -> bool {
        match error {
            StoreError::NotFound { at } => at.key.is_some(),
            StoreError::Archived { .. }
            | StoreError::Changed { .. }
            | StoreError::BadKey { .. }
            | StoreError::TooLarge { .. } => true,
            StoreError::Exists { .. }
            | StoreError::NoSpace { .. }
            | StoreError::Withdrawn { .. }
            | StoreError::Authorities { .. } => false,
            error if error.is_of_object() => true,
            StoreError::Denied { .. } => matches!(self.others(key).await, Others::Read),
            StoreError::Unavailable { .. } | StoreError::Other { .. } => {
                !matches!(self.others(key).await, Others::Unread)
            }
        }
    }

    /// Whether it takes objects at all, after it has refused one. As [`Bucket::check_writable`], but a credential that may not abort
    /// what it has begun can still write.
    ///
    /// # Errors
    /// What stands against writing any object.
    pub async fn takes_others(&self) -> Result<(), StoreError> {
        match self.check_writable().await {
            Err(StoreError::Denied { at, .. }) if at.operation == ABORT_TRIAL => Ok(()),
            tried => tried,
        }
    }

    async fn others(&self, key: &str) -> Others {
        let Ok(listed) = self.first().await else { return Others::Unread };
        let others = listed.into_iter().filter_map(|listed| match listed {
            Listed::Object { key: other, .. } if other != key => Some(other),
            _ => None,
        });
        let mut came_of = Others::None;
        for other in others.take(OTHERS) {
            match self.begins(&other).await {
                Ok(()) => return Others::Read,
                // Removed since it was listed.
                Err(StoreError::NotFound { at }) if at.key.is_some() => {}
                Err(_) => came_of = Others::Unread,
            }
        }
        came_of
    }

    /// What the listing begins with.
    async fn first(&self) -> Result<Vec<Listed>, StoreError> {
        // One of them may be the object itself.
        let keys = OTHERS + 1;
        match self.page(&Cursor::Start, u16::try_from(keys).ok()).await? {
            Some(page) => Ok(page.listed),
            None => self.list(None).take(keys).try_collect().await,
        }
    }

    /// Reads the first block of an object.
    async fn begins(&self, key: &str) -> Result<(), StoreError> {
        let (_, mut body) = self.read(key, None).await?;
        body.try_next().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::Place;
    use crate::store::folder::Folder;

    #[tokio::test]
    async fn what_others_show_says_whose_an_error_is() {
        let root = tempfile::tempdir().unwrap();
        let bucket = Bucket::Folder(Folder::open(root.path()).unwrap());
        let at = || Place::key(bucket.name(), "bad", "read");
        let unavailable = || StoreError::Unavailable { at: at(), source: "HTTP 500".into() };
        let denied = || StoreError::Denied { at: at(), why: "mode".to_owned() };
        let rotten = || StoreError::of_io(at(), io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        let alone = async |error: StoreError| bucket.fails_alone("bad", &error).await;
        std::fs::write(root.path().join("bad"), "x").unwrap();
        assert!(alone(unavailable()).await, "it lists, and has no other");
        assert!(!alone(denied()).await, "nothing shows that any may be read");
        std::fs::write(root.path().join("good"), "x").unwrap();
        assert!(alone(unavailable()).await && alone(denied()).await && alone(rotten()).await);
        assert!(!alone(StoreError::NoSpace { at: at() }).await);
        assert!(!alone(StoreError::NotFound { at: Place::store(bucket.name(), "read") }).await);
        std::fs::remove_dir_all(root.path()).unwrap();
        assert!(!alone(unavailable()).await && !alone(denied()).await, "it does not even list");
        assert!(bucket.takes_others().await.is_err());
    }
}
