//! The control plane: our own keys (vault, later witness and attic records), small objects under names we choose.
//!
//! What a holder may do is in its type: a vault writer is generic over [`Create`] and cannot even name a
//! read or a delete. [`Keys`] implements all of them; only the composing rooms hold one.
//!
//! The same promises hold on a folder, on S3 servers, Google Cloud Storage and Azure, and one conformance suite asks all of
//! them. A create is durable when it returns and never changes what readers see under a key. Where a bucket
//! keeps versions, anybody who may write may put a newer one over an object, so readers take each key's *oldest*
//! version, and a delete marker hides nothing; only a status record, which its site overwrites, is read newest.

mod attempt;
mod entries;
mod objects;
mod s3;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use jiff::Timestamp;
use secrecy::SecretString;

use super::error::{Place, StoreError, folder_name};
use crate::config::address::{VaultAddress, VaultUrl};
use crate::permit::Permit;
use attempt::Tries;
use objects::Objects;
pub(in crate::store) use s3::{S3Keys, md5_hex};

/// The key of our own that every credential may list, if it may list anything.
pub(in crate::store) const PERMITTED: &str = "vault.json";

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
    /// An attempt that went unanswered is made again. If the key is taken then, it is looked at: our own bytes are
    /// [`Created::New`], not another writer's.
    ///
    /// # Errors
    /// When it could not be written, or when it is not known whether it was.
    fn create(&self, key: &str, body: Bytes) -> impl Future<Output = Result<Created, StoreError>> + Send;
}

/// May overwrite keys. Only a site's own status record is ever overwritten.
pub trait Replace: Send + Sync {
    /// Writes `body` as `key`, over what may be there. A reader sees one or the other, never a part; where the store
    /// keeps versions, only [`Read::get_newest`] sees it.
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

    /// The whole of a key that another site wrote, of which at most `max_bytes` are expected: its oldest version.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] before anything is read when it is larger; [`StoreError::NotFound`] and what the store answers.
    fn get_limited(&self, key: &str, max_bytes: u64) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// As [`Read::get_limited`], but what was written last: for the records that are overwritten.
    ///
    /// # Errors
    /// As [`Read::get_limited`]; [`StoreError::NotFound`] also when a delete marker hides it.
    fn get_newest(&self, key: &str, max_bytes: u64) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// Every key below the folder `prefix` (`points/`; empty for all), sorted by bytes. Names that are not ours are
    /// listed as they are: what they mean is the caller's to judge. Size and time are the oldest version's.
    ///
    /// # Errors
    /// What the store answers. A prefix that nobody wrote to has no keys; it is no error. GCS and Azure fail on a key that
    /// object_store cannot spell (`a//b`, control characters), and the error names it.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<ListedKey>, StoreError>> + Send;

    /// The first keys of [`Read::list`], at most `count`, of one page where the store lists in pages: what it costs does not grow with
    /// what is there. There may be fewer than there are, but one at least if there is any.
    ///
    /// # Errors
    /// As [`Read::list`].
    fn first(&self, prefix: &str, count: u16) -> impl Future<Output = Result<Vec<ListedKey>, StoreError>> + Send {
        async move {
            let mut listed = self.list(prefix).await?;
            listed.truncate(usize::from(count));
            Ok(listed)
        }
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// What the store answers.
    fn exists(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// May delete.
pub trait Delete: Send + Sync {
    /// Removes a key with every version of it. One that is not there is removed already.
    ///
    /// # Errors
    /// What the store answers.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A place of our own keys, with every right its credential has.
#[derive(Clone)]
pub struct Keys {
    name: Arc<str>,
    tries: Tries,
    pub(in crate::store) place: KeyPlace,
}

/// What a place is made of.
#[derive(Clone)]
pub(in crate::store) enum KeyPlace {
    /// A folder, GCS or Azure.
    Objects(Objects),
    /// A bucket of an S3 server.
    S3(S3Keys),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.name)
    }
}

impl Keys {
    /// Opens a place that exists, with the resolved `credentials` of the site. A bucket is not asked anything yet.
    ///
    /// A folder that is missing is not created: it may be a disk that is not mounted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such folder, [`StoreError::BadKey`] when it is a file,
    /// [`StoreError::Denied`] for credentials of another form.
    pub fn open(address: &VaultAddress, credentials: Option<SecretString>) -> Result<Self, StoreError> {
        let place = match &address.url {
            VaultUrl::Folder(path) => return Keys::folder(path),
            VaultUrl::S3 { bucket, prefix } => KeyPlace::S3(S3Keys::open(address, bucket, prefix, credentials)?),
            VaultUrl::Gcs { bucket, prefix } => KeyPlace::Objects(objects::gcs(address, bucket, prefix, credentials)?),
            VaultUrl::Azure { container, prefix } => {
                KeyPlace::Objects(objects::azure(address, container, prefix, credentials)?)
            }
        };
        let name = match &address.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", address.url),
            None => address.url.to_string(),
        };
        Ok(Keys { name: name.into(), tries: Tries::Several, place })
    }

    /// Opens a folder that exists.
    ///
    /// # Errors
    /// See [`Keys::open`].
    pub fn folder(path: &Path) -> Result<Self, StoreError> {
        let name = folder_name(path);
        let place = KeyPlace::Objects(objects::folder(path, &name)?);
        Ok(Keys { place, tries: Tries::Several, name: name.into() })
    }

    /// Opens a folder and creates it when it is not there: for `vault init` and scratch places only.
    ///
    /// # Errors
    /// When the folder can neither be found nor created, or when `url` is a bucket: nobody makes those here.
    pub fn init(url: &VaultUrl) -> Result<Self, StoreError> {
        let VaultUrl::Folder(path) = url else {
            return Err(StoreError::other(Place::store(&url.to_string(), "create"), "buckets are made by their owner"));
        };
        std::fs::create_dir_all(path).map_err(|e| StoreError::of_io(Place::store(&folder_name(path), "create"), e))?;
        Keys::folder(path)
    }

    /// The same place, but whatever changes something in it asks `permit` right before it starts, and is given up in time.
    #[must_use]
    pub fn under(&self, permit: &Permit) -> Keys {
        let place = match &self.place {
            KeyPlace::Objects(objects) => KeyPlace::Objects(objects.under(permit)),
            KeyPlace::S3(s3) => KeyPlace::S3(s3.under(permit)),
        };
        Keys { name: Arc::clone(&self.name), tries: self.tries, place }
    }

    /// The same place, but a create is sent once: what came of it, if no answer says so, is for the caller to find out.
    #[must_use]
    pub fn creating_once(&self) -> Keys {
        Keys { tries: Tries::One, ..self.clone() }
    }

    /// The place as a person knows it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Each request is boxed and its type forgotten: the client of S3 alone nests so deep that what calls it, and what calls that,
/// would go beyond what the compiler looks into.
impl Create for Keys {
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let created = match &self.place {
            KeyPlace::Objects(objects) => attempt::create(objects, self.tries, key, body).boxed().await?,
            KeyPlace::S3(s3) => attempt::create(s3, self.tries, key, body).boxed().await?,
        };
        if created == Created::New {
            crate::failpoint::hit("store.create");
        }
        Ok(created)
    }
}

impl Replace for Keys {
    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.replace(key, body).boxed().await?,
            KeyPlace::S3(s3) => s3.replace(key, body).boxed().await?,
        }
        crate::failpoint::hit("store.replace");
        Ok(())
    }
}

impl Read for Keys {
    async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.get(key, max_bytes).boxed().await,
            KeyPlace::S3(s3) => s3.get_oldest(key, max_bytes).boxed().await,
        }
    }

    async fn get_newest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.get(key, max_bytes).boxed().await,
            KeyPlace::S3(s3) => s3.get_newest(key, max_bytes).boxed().await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.list(prefix).boxed().await,
            KeyPlace::S3(s3) => s3.list(prefix).boxed().await,
        }
    }

    async fn first(&self, prefix: &str, count: u16) -> Result<Vec<ListedKey>, StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.first(prefix, count).boxed().await,
            KeyPlace::S3(s3) => s3.first(prefix, count).boxed().await,
        }
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.exists(key).boxed().await,
            KeyPlace::S3(s3) => s3.exists(key).boxed().await,
        }
    }
}

impl Delete for Keys {
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match &self.place {
            KeyPlace::Objects(objects) => objects.delete(key).boxed().await?,
            KeyPlace::S3(s3) => s3.delete(key).boxed().await?,
        }
        crate::failpoint::hit("store.delete");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::folder(folder.path()).unwrap();
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
        let missing = Keys::folder(&folder.path().join("not-mounted"));
        assert!(matches!(missing, Err(StoreError::NotFound { .. })));
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
