//! The versions that a bucket keeps of its objects.
//!
//! A listing of versions is sorted by key, and the versions of one key from the newest to the oldest. On a bucket that
//! keeps none every object has one version, called `null`, so the same question can be asked everywhere.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType};

use serde::{Deserialize, Serialize};

use super::list::decoded;
use super::{S3, answer, bare_etag};
use crate::store::error::{Place, StoreError};
use crate::store::object::{NULL_VERSION, Versioning};

/// The retention that a bucket with Object Lock gives to every version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// `compliance`: nobody shortens it. `governance`: whoever has that special right does.
    pub mode: String,
    /// In days.
    pub days: u32,
}

/// One version of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Version {
    /// The full key.
    pub key: String,
    /// Its id at the server.
    pub id: String,
    pub size: u64,
    /// Without quotes.
    pub etag: Option<String>,
    /// Nanoseconds since 1970.
    pub modified_ns: i128,
    /// A delete marker is no object; it hides those before it from who asks for the newest.
    pub is_marker: bool,
}

/// Where the next page begins.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Marker {
    key: Option<String>,
    version: Option<String>,
}

impl S3 {
    /// What the bucket says of itself. A server that has no versions may not know the question.
    pub(in crate::store) async fn versioning(&self) -> Result<Versioning, StoreError> {
        let answer = match self.client.get_bucket_versioning().bucket(&*self.bucket).send().await {
            Ok(answer) => answer,
            Err(error) if answer::code(&error).0 == 501 => return Ok(Versioning::Off),
            Err(error) => {
                let at = Place::store(self.name(), "ask which versions are kept in");
                return Err(answer::refused(at, error));
            }
        };
        Ok(match answer.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::On,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            _ => Versioning::Off,
        })
    }

    /// How long the bucket keeps every version from being deleted, whoever asks; `None` when it does not.
    pub(in crate::store) async fn default_retention(&self) -> Result<Option<Retention>, StoreError> {
        let answer = match self.client.get_object_lock_configuration().bucket(&*self.bucket).send().await {
            Ok(answer) => answer,
            // No lock, or a server that has none.
            Err(error) if [404, 501].contains(&answer::code(&error).0) => return Ok(None),
            Err(error) => return Err(answer::refused(Place::store(self.name(), "ask for the lock of"), error)),
        };
        let rule = answer.object_lock_configuration().and_then(|lock| lock.rule()?.default_retention());
        let days =
            |count: Option<i32>, each: u32| count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0) * each;
        Ok(rule.map(|rule| Retention {
            mode: rule.mode().map_or_else(|| "unknown".to_owned(), |mode| mode.as_str().to_ascii_lowercase()),
            days: days(rule.days(), 1) + days(rule.years(), 365),
        }))
    }

    /// One page of the versions, delete markers included, of all keys that start with the full `prefix`; and where the next
    /// page begins, if there is one.
    pub(in crate::store) async fn versions(
        &self,
        prefix: &str,
        from: Marker,
    ) -> Result<(Vec<Version>, Option<Marker>), StoreError> {
        let request = self.client.list_object_versions().bucket(&*self.bucket).encoding_type(EncodingType::Url);
        let request = request.prefix(prefix).set_key_marker(from.key).set_version_id_marker(from.version);
        let at = || self.at(prefix, "list the versions of");
        let page = request.send().await.map_err(|e| answer::refused(at(), e))?;
        let next = match (page.is_truncated(), page.next_key_marker()) {
            (Some(true), Some(key)) => {
                let version = page.next_version_id_marker().map(str::to_owned);
                Some(Marker { key: Some(decoded(key).unwrap_or_else(|| key.to_owned())), version })
            }
            (Some(true), None) => {
                return Err(StoreError::other(at(), "the listing was cut short without a marker to go on from"));
            }
            _ => None,
        };
        Ok((versions_of(&page), next))
    }
}

fn versions_of(page: &ListObjectVersionsOutput) -> Vec<Version> {
    let encoded = page.encoding_type() == Some(&EncodingType::Url);
    // A key that is not text cannot be one of ours; it is shown as the server sent it.
    let key = |key: Option<&str>| {
        let sent = key.unwrap_or_default();
        if encoded { decoded(sent).unwrap_or_else(|| sent.to_owned()) } else { sent.to_owned() }
    };
    let modified_ns = |at: Option<&DateTime>| at.map_or(0, DateTime::as_nanos);
    let objects = page.versions().iter().map(|version| Version {
        key: key(version.key()),
        id: version.version_id().unwrap_or(NULL_VERSION).to_owned(),
        size: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        etag: bare_etag(version.e_tag()),
        modified_ns: modified_ns(version.last_modified()),
        is_marker: false,
    });
    let markers = page.delete_markers().iter().map(|marker| Version {
        key: key(marker.key()),
        id: marker.version_id().unwrap_or(NULL_VERSION).to_owned(),
        size: 0,
        etag: None,
        modified_ns: modified_ns(marker.last_modified()),
        is_marker: true,
    });
    objects.chain(markers).collect()
}
