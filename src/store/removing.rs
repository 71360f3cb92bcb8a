//! A bucket from which objects may be taken away: the type of the spare's own, handed to the keeper and to a restore in place.

use futures_util::FutureExt;

use super::bucket::Bucket;
use super::error::StoreError;
use super::object::Head;

/// A bucket, and the right to take objects out of it. Whoever mirrors never holds one.
#[derive(Clone, Debug)]
pub struct Removing(Bucket);

impl Removing {
    /// The same bucket with the verb that takes away.
    pub fn new(bucket: Bucket) -> Self {
        Removing(bucket)
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.0
    }

    /// Takes the object `key` away if it still is what was `seen`: for good, or out of sight where versions are kept. Whether
    /// it did. Between the look and the act no store lets others be kept out: what is written in that moment goes, too.
    ///
    /// # Errors
    /// What the store answers. One that is not there is taken away already.
    pub async fn remove(&self, key: &str, seen: &Head) -> Result<bool, StoreError> {
        match self.0.head(key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(true),
            // The listing that it was seen in tells times more finely than a HEAD, so one HEAD is compared with another.
            found if found.as_ref().is_ok_and(|found| found.version != seen.version || found.id != seen.id) => {
                return Ok(false);
            }
            found => drop(found?),
        }
        match &self.0 {
            Bucket::Folder(folder) => folder.remove(key).boxed().await?,
            Bucket::S3(s3) => s3.remove(key).boxed().await?,
            Bucket::Cloud(cloud) => cloud.remove(key).boxed().await?,
        }
        crate::failpoint::hit("store.object.remove");
        Ok(true)
    }
}
