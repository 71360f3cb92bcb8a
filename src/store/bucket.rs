//! One artifact bucket, whatever it is made of. The data plane: raw keys compared by their bytes.
//!
//! There is no verb that removes: who mirrors can add and replace, and no mistake of his can delete. Who hides what the live
//! site has deleted holds a [`Removing`](super::Removing); who may not even replace, a [`ReadOnly`](super::ReadOnly).

use std::path::Path;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use secrecy::SecretString;

use super::cloud::{Cloud, Provider};
use super::error::{Place, StoreError};
use super::folder::Folder;
use super::object::{
    Attributes, Body, Cursor, Found, Head, Keeps, Layout, Listed, Original, Page, Skipped, SourceVersion, Tags,
    Versioning, WriteError, Written,
};
use super::s3::S3;
use crate::config::address::{BucketAddress, BucketUrl};
use crate::permit::Permit;

/// A bucket. Clones are handles on the same one. What it is asked is boxed, as [`Keys`](super::Keys) does and why.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// A folder of this host; a key is a path below it.
    Folder(Folder),
    /// A bucket, or a prefix of one, of an S3 server.
    S3(S3),
    /// The same of Google, or a container of Azure.
    Cloud(Cloud),
}

impl Bucket {
    /// Opens the bucket at `address` with its resolved `credentials` (of the form that [`BucketAddress`] says; anonymous when
    /// absent).
    ///
    /// A folder has to exist; an S3 server is not asked anything yet.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a folder that is not there, [`StoreError::Denied`] for credentials of another form,
    /// [`StoreError::Authorities`] for a file of authorities that cannot be used.
    pub fn open(address: &BucketAddress, credentials: Option<SecretString>) -> Result<Self, StoreError> {
        match &address.url {
            BucketUrl::Folder(root) => Folder::open(root).map(Bucket::Folder),
            BucketUrl::S3 { bucket, prefix } => S3::open(address, bucket, prefix, credentials).map(Bucket::S3),
            BucketUrl::Gcs { bucket, prefix } => {
                Cloud::open(address, Provider::Gcs, (bucket, prefix), credentials.as_ref()).map(Bucket::Cloud)
            }
            BucketUrl::Azure { container, prefix } => {
                Cloud::open(address, Provider::Azure, (container, prefix), credentials.as_ref()).map(Bucket::Cloud)
            }
        }
    }

    /// The bucket as a person knows it. Two buckets of one name are the same bucket.
    pub fn name(&self) -> &str {
        match self {
            Bucket::Folder(folder) => folder.name(),
            Bucket::S3(s3) => s3.name(),
            Bucket::Cloud(cloud) => cloud.name(),
        }
    }

    /// What it keeps of an object besides the content.
    pub fn keeps(&self) -> Keeps {
        match self {
            Bucket::Folder(_) => super::folder::KEEPS,
            Bucket::S3(_) => super::s3::KEEPS,
            Bucket::Cloud(cloud) => cloud.keeps(),
        }
    }

    /// Whether an object of this key can be written here at all, as far as that shows without asking.
    ///
    /// # Errors
    /// [`StoreError::BadKey`] with what stands against it.
    pub fn carries(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Bucket::Folder(folder) => folder.carries(key),
            Bucket::S3(s3) => s3.carries(key),
            Bucket::Cloud(cloud) => cloud.carries(key),
        }
    }

    /// Every object whose key comes after `after`, sorted by the bytes of the keys.
    ///
    /// The order is the store's promise, not ours: some S3 servers break it, so who relies on it checks it.
    /// Memory does not grow with the number of objects; a folder holds one directory per level.
    ///
    /// # Errors
    /// Ends with the first error: what was listed until then is a part, and says nothing about the rest.
    pub fn list(&self, after: Option<&str>) -> BoxStream<'static, Result<Listed, StoreError>> {
        match self {
            Bucket::Folder(folder) => folder.list(after).boxed(),
            Bucket::S3(s3) => s3.list(after).boxed(),
            Bucket::Cloud(cloud) => cloud.list(after).boxed(),
        }
    }

    /// Whether a listing can begin anywhere at no cost, so that parts of it can be asked for at the same time. A folder's
    /// walk cannot, and Azure's listing neither.
    pub fn lists_in_pages(&self) -> bool {
        match self {
            Bucket::Folder(_) => false,
            Bucket::S3(_) => true,
            Bucket::Cloud(cloud) => cloud.lists_in_pages(),
        }
    }

    /// One page of the listing, of at most `keys` entries; how many a store sends at most is its own choice where that is
    /// absent. `None` where a listing [has no pages](Bucket::lists_in_pages).
    ///
    /// # Errors
    /// What the store answers.
    pub async fn page(&self, from: &Cursor, keys: Option<u16>) -> Result<Option<Page>, StoreError> {
        match self {
            Bucket::Folder(_) => Ok(None),
            Bucket::S3(s3) => s3.page(from, keys).boxed().await.map(Some),
            Bucket::Cloud(cloud) => cloud.page(from, keys).boxed().await.map(Some),
        }
    }

    /// Starts to read an object; with `version`, only that one.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when it is another version, now or at the end of the body.
    pub async fn read(&self, key: &str, version: Option<&SourceVersion>) -> Result<(Head, Body), StoreError> {
        match self {
            Bucket::Folder(folder) => folder.read(key, version).boxed().await,
            Bucket::S3(s3) => s3.read(key, version).boxed().await,
            Bucket::Cloud(cloud) => cloud.read(key, version).boxed().await,
        }
    }

    /// Starts to read the version `id` of an object, whatever has been written over it since.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such version; always so where no versions are kept.
    pub async fn read_version(&self, key: &str, id: &str) -> Result<(Head, Body), StoreError> {
        match self {
            Bucket::Folder(folder) => Err(folder.no_version(key)),
            Bucket::S3(s3) => s3.read_version(key, id).boxed().await,
            Bucket::Cloud(cloud) => Err(cloud.no_version(key)),
        }
    }

    /// The tags of an object, or of its version `id`. Files have none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and [`StoreError::Denied`]: it is a right of its own.
    pub async fn tags(&self, key: &str, id: Option<&str>) -> Result<Tags, StoreError> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => Ok(Tags::new()),
            Bucket::S3(s3) => s3.tags(key, id).boxed().await,
        }
    }

    /// Gives an object these tags and no others, and makes sure that it has them. Nothing is done where none are kept.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`], and [`StoreError::Other`] when it has others afterwards.
    pub async fn write_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => Ok(()),
            Bucket::S3(s3) => s3.write_tags(key, tags).boxed().await,
        }
    }

    /// Writes an object of `size` bytes, over one that may be there, and says what the store has afterwards.
    ///
    /// The object is the whole body or what it was before, never a part. Holds at most a few MiB of it. Of `attributes`
    /// it gets what is kept here ([`Bucket::keeps`]); it has no tags. Those are [set](Bucket::write_tags) afterwards: who may
    /// not set tags can still write.
    ///
    /// # Errors
    /// [`WriteError::Body`] when `body` fails or has not `size` bytes, [`StoreError::BadKey`] when the store
    /// cannot carry the key, [`StoreError::NoSpace`] when it is full.
    pub async fn write(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        body: Body,
    ) -> Result<Written, WriteError> {
        self.write_in_parts(key, attributes, size, None, body).await
    }

    /// The same, but a server that takes parts gets those in which the object came, if they are [known](Bucket::layout).
    ///
    /// # Errors
    /// The same.
    pub async fn write_in_parts(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        layout: Option<Layout>,
        body: Body,
    ) -> Result<Written, WriteError> {
        match self {
            Bucket::Folder(folder) => folder.write(key, attributes, size, body).boxed().await.map(Written::of),
            Bucket::S3(s3) => s3.write(key, attributes, size, layout, body).boxed().await,
            Bucket::Cloud(cloud) => {
                let head = cloud.write(key, attributes, size, body).boxed().await?;
                Ok(Written { was_looked_up: true, ..Written::of(head) })
            }
        }
    }

    /// In which parts an object of this version most likely came.
    pub fn layout(&self, version: &SourceVersion) -> Option<Layout> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => None,
            Bucket::S3(_) => super::s3::layout(version),
        }
    }

    /// The same bucket, but which uploads in parts are under way is noted down in `folder`: one that a killed process, or a failed
    /// attempt, left is gone on with by the next write of its object. Without it such an upload is aborted.
    #[must_use]
    pub fn noting_uploads(&self, folder: &Path) -> Bucket {
        match self {
            Bucket::Folder(folder) => Bucket::Folder(folder.clone()),
            Bucket::S3(s3) => Bucket::S3(s3.noting_uploads(folder)),
            Bucket::Cloud(cloud) => Bucket::Cloud(cloud.clone()),
        }
    }

    /// Aborts the uploads [noted down](Bucket::noting_uploads) that nobody has gone on with since `before`. Those that could not be
    /// aborted, and why: it is a right of its own.
    ///
    /// # Errors
    /// When the notes cannot be read or the server does not answer.
    pub async fn give_up_uploads(&self, before: Timestamp) -> Result<Vec<Skipped>, StoreError> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => Ok(Vec::new()),
            Bucket::S3(s3) => s3.give_up_uploads(before).boxed().await,
        }
    }

    /// The same bucket, but whatever changes something in it asks `permit` right before it starts, and is given up in time.
    #[must_use]
    pub fn under(&self, permit: &Permit) -> Bucket {
        match self {
            Bucket::Folder(folder) => Bucket::Folder(folder.under(permit)),
            Bucket::S3(s3) => Bucket::S3(s3.under(permit)),
            Bucket::Cloud(cloud) => Bucket::Cloud(cloud.under(permit)),
        }
    }

    /// How often, since it was opened, it asked for fewer requests or let one time out.
    pub fn pressure(&self) -> u64 {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => 0,
            Bucket::S3(s3) => s3.pressure(),
        }
    }

    /// Makes `key` a copy of `original`, which lies in this bucket, too, with `attributes` and `tags` of its own. An S3
    /// server is sent no content; whatever it answers, what came of it is looked up. `key` may be the original's own.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when `original` is another object by now, [`StoreError::NotFound`] when there is none; of
    /// the copy [`StoreError::Other`] when the server has something else there than was asked for.
    pub async fn copy(
        &self,
        original: Original<'_>,
        key: &str,
        attributes: &Attributes,
        tags: &Tags,
    ) -> Result<Head, StoreError> {
        match self {
            Bucket::Folder(folder) => folder.copy_from(folder, original, key, attributes).boxed().await,
            Bucket::S3(s3) => s3.copy_from(s3, original, key, attributes, tags).boxed().await,
            Bucket::Cloud(cloud) => cloud.copy_from(cloud, original, key, attributes).boxed().await,
        }
    }

    /// As [`Bucket::copy`], but `original` lies in `from`: another folder of this host, or another bucket of the same server.
    ///
    /// # Errors
    /// As [`Bucket::copy`], and [`StoreError::Other`] when the two are not of one server.
    pub async fn copy_from(
        &self,
        from: &Bucket,
        original: Original<'_>,
        key: &str,
        attributes: &Attributes,
        tags: &Tags,
    ) -> Result<Head, StoreError> {
        match (self, from) {
            (Bucket::Folder(to), Bucket::Folder(from)) => to.copy_from(from, original, key, attributes).boxed().await,
            (Bucket::S3(to), Bucket::S3(from)) if to.is_beside(from) => {
                to.copy_from(from, original, key, attributes, tags).boxed().await
            }
            (Bucket::Cloud(to), Bucket::Cloud(from)) if to.is_beside(from) => {
                to.copy_from(from, original, key, attributes).boxed().await
            }
            _ => {
                let at = Place::key(self.name(), key, "copy to");
                Err(StoreError::other(at, format!("{} is not of the same server", from.name())))
            }
        }
    }

    /// Whether whatever is overwritten or deleted here from now on is kept by the store as a version, or was once.
    ///
    /// # Errors
    /// What the server answers; [`StoreError::Denied`]: it is a right of its own.
    pub async fn versioning(&self) -> Result<Versioning, StoreError> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => Ok(Versioning::Off),
            Bucket::S3(s3) => s3.versioning().boxed().await,
        }
    }

    /// The versions that are kept of an object, whether or not it is there now, the newest first: id and size in bytes. None
    /// where no versions are kept.
    ///
    /// # Errors
    /// What the server answers; [`StoreError::Denied`]: it is a right of its own.
    pub async fn versions_of(&self, key: &str) -> Result<Vec<(String, u64)>, StoreError> {
        match self {
            Bucket::Folder(_) | Bucket::Cloud(_) => Ok(Vec::new()),
            Bucket::S3(s3) => s3.versions_of(key).boxed().await,
        }
    }

    /// Whether objects may be written here, tried with one that is given up before it is whole: nothing is left of it.
    ///
    /// # Errors
    /// What a write would be answered: [`StoreError::Denied`], [`StoreError::NoSpace`], [`StoreError::NotFound`].
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        match self {
            Bucket::Folder(folder) => folder.check_writable().boxed().await,
            Bucket::S3(s3) => s3.check_writable().boxed().await,
            Bucket::Cloud(cloud) => cloud.check_writable().boxed().await,
        }
    }

    /// What is known of an object without reading it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and what the store answers.
    pub async fn head(&self, key: &str) -> Result<Head, StoreError> {
        match self {
            Bucket::Folder(folder) => folder.head(key).boxed().await,
            Bucket::S3(s3) => s3.head(key).boxed().await,
            Bucket::Cloud(cloud) => cloud.head(key).boxed().await,
        }
    }

    /// What there is under `key`: whoever asks whether an object was deleted has to tell that from a link to where it is now.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn find(&self, key: &str) -> Result<Found, StoreError> {
        if let Bucket::Folder(folder) = self {
            return folder.find(key).boxed().await;
        }
        match self.head(key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(Found::Nothing),
            answer => answer.map(|head| Found::Object(head.version)),
        }
    }

    /// Whether an object of this version could change once more, after `since`, and look the same.
    ///
    /// A file's times have the grain of the kernel's clock tick, or worse: what changed within two seconds
    /// of the listing is *racily clean* (the word is git's) and has to be hashed again next time.
    pub fn is_racy(&self, version: &SourceVersion, since: Timestamp) -> bool {
        match self {
            Bucket::Folder(_) => super::folder::is_racy(version, since),
            Bucket::S3(_) | Bucket::Cloud(_) => false,
        }
    }

    /// What two objects of one content and one size most likely share at this store, and others do not. It proves nothing.
    ///
    /// An ETag is the content's MD5 at most stores; a file that is renamed or copied with its times keeps that of its
    /// last modification.
    pub fn likeness(&self, version: &SourceVersion) -> Option<String> {
        match self {
            Bucket::Folder(_) => Some(version.modified_ns.to_string()),
            Bucket::S3(_) => version.etag.clone(),
            Bucket::Cloud(cloud) => cloud.likeness(version),
        }
    }

    /// Removes what killed writers left behind before `before` and no reader ever sees.
    ///
    /// # Errors
    /// When a leftover of a folder cannot be looked at or removed. The leftovers of an S3 bucket are unfinished uploads, which
    /// may be other people's: they are the server's life-cycle rule's to remove.
    pub async fn sweep(&self, before: Timestamp) -> Result<(), StoreError> {
        match self {
            Bucket::Folder(folder) => folder.sweep(before).boxed().await,
            Bucket::S3(_) | Bucket::Cloud(_) => Ok(()),
        }
    }
}
