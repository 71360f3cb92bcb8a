//! A bucket that is only read: the type of the live site's, so that no mistake in the mirror can write to it.

use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::bucket::Bucket;
use super::error::StoreError;
use super::object::{Body, Cursor, Found, Head, Keeps, Layout, Listed, Page, SourceVersion, Tags};

/// What may be asked of a bucket that must not change. See [`Bucket`] for what each answers.
#[derive(Clone, Debug)]
pub struct ReadOnly(Bucket);

impl ReadOnly {
    /// The same bucket without the verbs that change it.
    pub fn new(bucket: Bucket) -> Self {
        ReadOnly(bucket)
    }

    /// [`Bucket::name`].
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// [`Bucket::keeps`].
    pub fn keeps(&self) -> Keeps {
        self.0.keeps()
    }

    /// [`Bucket::list`].
    ///
    /// # Errors
    /// The same.
    pub fn list(&self, after: Option<&str>) -> BoxStream<'static, Result<Listed, StoreError>> {
        self.0.list(after)
    }

    /// [`Bucket::lists_in_pages`].
    pub fn lists_in_pages(&self) -> bool {
        self.0.lists_in_pages()
    }

    /// [`Bucket::page`].
    ///
    /// # Errors
    /// The same.
    pub async fn page(&self, from: &Cursor, keys: Option<u16>) -> Result<Option<Page>, StoreError> {
        self.0.page(from, keys).await
    }

    /// [`Bucket::read`].
    ///
    /// # Errors
    /// The same.
    pub async fn read(&self, key: &str, version: Option<&SourceVersion>) -> Result<(Head, Body), StoreError> {
        self.0.read(key, version).await
    }

    /// [`Bucket::read_version`].
    ///
    /// # Errors
    /// The same.
    pub async fn read_version(&self, key: &str, id: &str) -> Result<(Head, Body), StoreError> {
        self.0.read_version(key, id).await
    }

    /// [`Bucket::head`].
    ///
    /// # Errors
    /// The same.
    pub async fn head(&self, key: &str) -> Result<Head, StoreError> {
        self.0.head(key).await
    }

    /// [`Bucket::find`].
    ///
    /// # Errors
    /// The same.
    pub async fn find(&self, key: &str) -> Result<Found, StoreError> {
        self.0.find(key).await
    }

    /// [`Bucket::tags`].
    ///
    /// # Errors
    /// The same.
    pub async fn tags(&self, key: &str, id: Option<&str>) -> Result<Tags, StoreError> {
        self.0.tags(key, id).await
    }

    /// [`Bucket::fails_alone`].
    pub async fn fails_alone(&self, key: &str, error: &StoreError) -> bool {
        self.0.fails_alone(key, error).await
    }

    /// [`Bucket::layout`].
    pub fn layout(&self, version: &SourceVersion) -> Option<Layout> {
        self.0.layout(version)
    }

    /// [`Bucket::pressure`].
    pub fn pressure(&self) -> u64 {
        self.0.pressure()
    }

    /// [`Bucket::likeness`].
    pub fn likeness(&self, version: &SourceVersion) -> Option<String> {
        self.0.likeness(version)
    }

    /// [`Bucket::is_racy`].
    pub fn is_racy(&self, version: &SourceVersion, since: Timestamp) -> bool {
        self.0.is_racy(version, since)
    }
}
