//! The control plane: our own keys (vault, later witness and attic records), small objects under names we choose.
//!
//! What a holder may do is in its type: a vault writer is generic over [`Create`] and cannot even name a
//! read or a delete. [`Keys`] implements all three; only the composing rooms hold one.
//!
//! A create is durable when it returns and never overwrites. Nothing is retried in here: a second attempt
//! of a create could not tell its own first attempt from another's key, so the caller, who knows what the
//! bytes should be, decides.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::error::{Place, StoreError, folder_name};
use crate::config::address::VaultUrl;

/// What came of a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The key is new and holds our bytes.
    New,
    /// The key was there already and was left alone; whose bytes it holds is not known.
    Taken,
}

/// A key of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// Its full name.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// May write new keys, and nothing else.
pub trait Create: Send + Sync {
    /// Writes `body` as `key`, unless there is such a key.
    ///
    /// # Errors
    /// When it could not be written, or when it is not known whether it was.
    fn create(&self, key: &str, body: Bytes) -> impl Future<Output = Result<Created, StoreError>> + Send;
}

/// May overwrite keys. Only a site's own status record is ever overwritten.
pub trait Replace: Send + Sync {
    /// Writes `body` as `key`, over what may be there. A reader sees one or the other, never a part.
    ///
    /// # Errors
    /// When it could not be written, or when it is not known whether it was.
    fn replace(&self, key: &str, body: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// May read and list.
pub trait Read: Send + Sync {
    /// The whole of a key, whatever its size: for keys whose size is bounded by their kind.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and what the store answers.
    fn get(&self, key: &str) -> impl Future<Output = Result<Bytes, StoreError>> + Send {
        self.get_limited(key, u64::MAX)
    }

    /// The whole of a key that another site wrote, of which at most `max_bytes` are expected.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] before anything is read when it is larger; [`StoreError::NotFound`] and what the store answers.
    fn get_limited(&self, key: &str, max_bytes: u64) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// Every key below the folder `prefix` (`points/`; empty for all), sorted by bytes.
    ///
    /// # Errors
    /// What the store answers. A prefix that nobody wrote to has no keys; it is no error.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<ListedKey>, StoreError>> + Send;

    /// Whether there is such a key.
    ///
    /// # Errors
    /// What the store answers.
    fn exists(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// May delete.
pub trait Delete: Send + Sync {
    /// Removes a key. One that is not there is removed already.
    ///
    /// # Errors
    /// What the store answers.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A place of our own keys, with every right.
#[derive(Clone)]
pub struct Keys {
    name: Arc<str>,
    store: Arc<dyn ObjectStore>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.name)
    }
}

impl Keys {
    /// Opens a place that exists.
    ///
    /// A folder that is missing is not created: it may be a disk that is not mounted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such folder, [`StoreError::BadKey`] when it is a file.
    pub fn open(url: &VaultUrl) -> Result<Self, StoreError> {
        let VaultUrl::Folder(path) = url;
        let name = folder_name(path);
        let at = || Place::store(&name, "open");
        let is_folder = std::fs::metadata(path).map_err(|e| StoreError::of_io(at(), e))?.is_dir();
        if !is_folder {
            return Err(StoreError::of_io(at(), io::ErrorKind::NotADirectory.into()));
        }
        let store = LocalFileSystem::new_with_prefix(path).map_err(|e| translate(at(), e))?.with_fsync(true);
        Ok(Keys { name: name.into(), store: Arc::new(store) })
    }

    /// Opens a place and creates it when it is not there: for `vault init` and scratch places only.
    ///
    /// # Errors
    /// When the folder can neither be found nor created.
    pub fn init(url: &VaultUrl) -> Result<Self, StoreError> {
        let VaultUrl::Folder(path) = url;
        std::fs::create_dir_all(path).map_err(|e| StoreError::of_io(Place::store(&folder_name(path), "create"), e))?;
        Keys::open(url)
    }

    /// The place as a person knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn at(&self, key: &str, operation: &'static str) -> Place {
        Place::key(&self.name, key, operation)
    }

    /// Our keys are plain; one that the store would write differently is a mistake of ours, and is not written.
    fn path(&self, key: &str, operation: &'static str) -> Result<Path, StoreError> {
        let refused = |why: String| StoreError::BadKey { at: self.at(key, operation), why };
        let path = Path::parse(key).map_err(|e| refused(e.to_string()))?;
        if path.as_ref() != key || key.is_empty() {
            return Err(refused(format!("it would become {:?}", path.as_ref())));
        }
        Ok(path)
    }
}

impl Create for Keys {
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let path = self.path(key, "create")?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, PutPayload::from_bytes(body), options).await {
            Ok(_) => {
                crate::failpoint::hit("store.create");
                Ok(Created::New)
            }
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Taken),
            Err(error) => Err(translate(self.at(key, "create"), error)),
        }
    }
}

impl Replace for Keys {
    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let path = self.path(key, "replace")?;
        let written = self.store.put_opts(&path, PutPayload::from_bytes(body), PutOptions::default()).await;
        written.map_err(|error| translate(self.at(key, "replace"), error))?;
        crate::failpoint::hit("store.replace");
        Ok(())
    }
}

impl Read for Keys {
    async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let path = self.path(key, "read")?;
        let failed = |error| translate(self.at(key, "read"), error);
        let found = self.store.get_opts(&path, GetOptions::default()).await.map_err(failed)?;
        if found.meta.size > max_bytes {
            let at = self.at(key, "read");
            return Err(StoreError::TooLarge { at, size_bytes: found.meta.size, limit_bytes: max_bytes });
        }
        found.bytes().await.map_err(failed)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let folder = prefix.strip_suffix('/').unwrap_or(prefix);
        let path = if folder.is_empty() { None } else { Some(self.path(folder, "list")?) };
        let failed = |error| translate(self.at(prefix, "list"), error);
        let found: Vec<ObjectMeta> = self.store.list(path.as_ref()).try_collect().await.map_err(failed)?;
        let mut keys = found.into_iter().map(|meta| self.listed(meta)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(keys)
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let path = self.path(key, "look up")?;
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(translate(self.at(key, "look up"), error)),
        }
    }
}

impl Delete for Keys {
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key, "delete")?;
        match self.store.delete(&path).await {
            Ok(()) => crate::failpoint::hit("store.delete"),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(translate(self.at(key, "delete"), error)),
        }
        Ok(())
    }
}

impl Keys {
    fn listed(&self, meta: ObjectMeta) -> Result<ListedKey, StoreError> {
        let key = meta.location.to_string();
        let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or(0);
        let modified = Timestamp::new(meta.last_modified.timestamp(), nanos)
            .map_err(|e| StoreError::Other { at: self.at(&key, "list"), source: e.into() })?;
        Ok(ListedKey { key, size: meta.size, modified })
    }
}

/// Says an error of object_store in our words. Its folder store hides most of what matters in the cause of a
/// "generic" error, so the chain of causes is searched for the system's own.
fn translate(at: Place, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => StoreError::NotFound { at },
        E::AlreadyExists { .. } => StoreError::Exists { at },
        E::Precondition { .. } => StoreError::Changed { at },
        E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
            StoreError::Denied { at, why: source.to_string() }
        }
        E::InvalidPath { source } => StoreError::BadKey { at, why: source.to_string() },
        other => match io_cause(&other) {
            Some(cause) => StoreError::of_io(at, cause),
            None => StoreError::Other { at, source: other.into() },
        },
    }
}

/// The system's error in a chain of causes; made anew from its number, because a chain cannot be taken apart.
fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut link = Some(error);
    while let Some(current) = link {
        if let Some(number) = current.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(io::Error::from_raw_os_error(number));
        }
        link = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(&VaultUrl::Folder(folder.path().to_owned())).unwrap();
        (folder, keys)
    }

    fn names(listed: &[ListedKey]) -> Vec<&str> {
        listed.iter().map(|listed| listed.key.as_str()).collect()
    }

    #[tokio::test]
    async fn the_second_create_of_a_key_changes_nothing() {
        let (_folder, keys) = opened();
        assert_eq!(keys.create("a/b.json", "first".into()).await.unwrap(), Created::New);
        assert_eq!(keys.create("a/b.json", "second".into()).await.unwrap(), Created::Taken);
        assert_eq!(keys.get("a/b.json").await.unwrap(), "first");
    }

    #[tokio::test]
    async fn of_many_creates_at_once_one_is_new() {
        let (_folder, keys) = opened();
        let race = (0..32).map(|n| keys.create("raced", Bytes::from(format!("racer {n}"))));
        let all = futures_util::future::try_join_all(race).await.unwrap();
        assert_eq!(all.iter().filter(|created| **created == Created::New).count(), 1);
    }

    #[tokio::test]
    async fn a_create_that_was_killed_is_not_listed_and_can_be_done_again() {
        let (folder, keys) = opened();
        // What LocalFileSystem leaves behind when it is killed between staging and publishing.
        fs::create_dir(folder.path().join("points")).unwrap();
        fs::write(folder.path().join("points/7.json#1"), "hal").unwrap();
        assert!(keys.list("points/").await.unwrap().is_empty());
        assert!(!keys.exists("points/7.json").await.unwrap());
        assert_eq!(keys.create("points/7.json", "half true? no".into()).await.unwrap(), Created::New);
        assert_eq!(names(&keys.list("").await.unwrap()), ["points/7.json"]);
        assert_eq!(keys.get("points/7.json").await.unwrap(), "half true? no");
    }

    #[tokio::test]
    async fn listings_are_sorted_by_bytes_and_stay_below_their_folder() {
        let (_folder, keys) = opened();
        for key in ["p/b", "p/a/x", "p/a-b", "q/z", "p2/c"] {
            keys.create(key, Bytes::new()).await.unwrap();
        }
        assert_eq!(names(&keys.list("p/").await.unwrap()), ["p/a-b", "p/a/x", "p/b"]);
        assert_eq!(names(&keys.list("").await.unwrap()), ["p/a-b", "p/a/x", "p/b", "p2/c", "q/z"]);
        assert!(keys.list("nobody/wrote/here/").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_record_that_grew_is_refused_before_it_is_read() {
        let (_folder, keys) = opened();
        keys.create("big", Bytes::from(vec![0; 1_000])).await.unwrap();
        let error = keys.get_limited("big", 999).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { size_bytes: 1_000, limit_bytes: 999, .. }), "{error}");
        assert_eq!(keys.get_limited("big", 1_000).await.unwrap().len(), 1_000);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_by_name() {
        let (folder, keys) = opened();
        let error = keys.get("no/such").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read \"no/such\" in {}: it is not there", folder.path().display())
        );
        keys.delete("no/such").await.unwrap();
        let missing = VaultUrl::Folder(folder.path().join("not-mounted"));
        assert!(matches!(Keys::open(&missing), Err(StoreError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_key_that_would_be_written_differently_is_refused() {
        let (_folder, keys) = opened();
        for key in ["", "/a", "a/", "a//b", "a/../b", "a\nb", "staged#1"] {
            let refused = keys.create(key, Bytes::new()).await;
            assert!(refused.is_err(), "{key:?}: {refused:?}");
        }
    }
}
