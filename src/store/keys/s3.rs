//! Our own keys in a bucket of an S3 server, whichever dialect it speaks.
//!
//! `If-None-Match: *` is what a create asks for. Ceph 16 and 18 tell the loser of a race 500 `UnknownError` or 404, others
//! 409 or 412; on a bucket with versions Ceph 16 and 18 ignore it and write a newer version, which readers never see. So
//! there the versions are asked which of them is the oldest, and that alone decides.

use std::sync::Arc;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use md5::{Digest, Md5};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::ListedKey;
use super::attempt::{Attempt, Attempts};
use crate::config::address::{Addressing, VaultAddress};
use crate::permit::Permit;
use crate::store::error::{Place, StoreError};
use crate::store::object::{Cursor, Listed, Versioning};
use crate::store::s3::versions::{Marker, Version};
use crate::store::s3::{Access, S3, answer, blocks};

/// How often a body that breaks off is read again from its beginning.
const READS: u32 = 3;

/// Keys below a prefix of a bucket.
#[derive(Clone)]
pub(in crate::store) struct S3Keys {
    pub(in crate::store) s3: S3,
    /// The same, but it tries once: whoever creates has to know about every attempt.
    once: S3,
    /// Asked when it is first needed.
    versioning: Arc<OnceCell<Versioning>>,
}

type PutRefused = SdkError<PutObjectError, HttpResponse>;

impl S3Keys {
    pub(super) fn open(
        address: &VaultAddress,
        bucket: &str,
        prefix: &str,
        credentials: Option<SecretString>,
    ) -> Result<Self, StoreError> {
        let endpoint = address.endpoint.as_deref();
        let addressing = if endpoint.is_some() { Addressing::Path } else { Addressing::VirtualHost };
        let ca_file = address.ca_file.as_deref();
        let access = Access { endpoint, region: &address.region, addressing, ca_file, credentials };
        let s3 = S3::with(bucket, prefix, access)?;
        Ok(S3Keys { once: s3.once(), s3, versioning: Arc::default() })
    }

    pub(super) fn under(&self, permit: &Permit) -> Self {
        S3Keys { s3: self.s3.under(permit), once: self.once.under(permit), versioning: Arc::clone(&self.versioning) }
    }

    /// Whether older versions have to be asked for. Where the credential may not ask the bucket, its listing of versions
    /// tells; that is right on every bucket, only dearer.
    pub(in crate::store) async fn is_versioned(&self) -> Result<bool, StoreError> {
        let ask = || async {
            match self.s3.versioning().await {
                Err(error @ StoreError::Denied { .. }) => {
                    let key = self.s3.full(crate::store::keys::PERMITTED, "list the versions of")?;
                    match self.s3.versions(&key, Marker::default()).await {
                        Ok(_) => Ok(Versioning::On),
                        // The first answer says what is missing.
                        Err(_) => Err(error),
                    }
                }
                answer => answer,
            }
        };
        Ok(*self.versioning.get_or_try_init(ask).await? != Versioning::Off)
    }

    /// Every version of exactly `key`, delete markers included, newest first but for the markers, which come last of a page.
    pub(in crate::store) async fn versions_of(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let full = self.s3.full(key, "list the versions of")?;
        let (mut found, mut from) = (Vec::new(), Some(Marker::default()));
        while let Some(marker) = from {
            let (page, next) = self.s3.versions(&full, marker).await?;
            // Among the keys that start with it, `full` itself comes first.
            let beyond = page.iter().any(|version| version.key != full);
            found.extend(page.into_iter().filter(|version| version.key == full));
            from = next.filter(|_| !beyond);
        }
        Ok(found)
    }

    /// The oldest version of `key` that is an object.
    async fn oldest(&self, key: &str) -> Result<Option<Version>, StoreError> {
        Ok(self.versions_of(key).await?.into_iter().rfind(|version| !version.is_marker))
    }

    pub(super) async fn get_newest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        match self.read(key, None, max_bytes).await {
            // Whoever may not list the whole bucket is told 403 of a key that is not there, and has to ask by its name.
            Err(error @ StoreError::Denied { .. }) => match self.is_listed(key).await {
                Ok(false) => Err(StoreError::NotFound { at: self.s3.at(key, "read") }),
                Ok(true) | Err(_) => Err(error),
            },
            done => done,
        }
    }

    pub(super) async fn get_oldest(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        if !self.is_versioned().await? {
            return self.get_newest(key, max_bytes).await;
        }
        match self.oldest(key).await? {
            Some(version) => self.read(key, Some(version.id), max_bytes).await,
            None => Err(StoreError::NotFound { at: self.s3.at(key, "read") }),
        }
    }

    async fn read(&self, key: &str, version: Option<String>, max_bytes: u64) -> Result<Bytes, StoreError> {
        let full = self.s3.full(key, "read")?;
        let at = || self.s3.at(key, "read");
        let mut reads = 1;
        loop {
            let request = self.s3.client.get_object().bucket(&*self.s3.bucket).key(&full);
            let answer = request.set_version_id(version.clone()).send().await;
            let answer = answer.map_err(|e| answer::refused(at(), e))?;
            match collect(answer, at(), max_bytes).await {
                Err(StoreError::Unavailable { .. }) if reads < READS => reads += 1,
                done => return done,
            }
        }
    }

    pub(super) async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.s3.full(key, "replace")?;
        self.put(&self.s3, key, &body, false)
            .await
            .map(drop)
            .map_err(|e| answer::refused(self.s3.at(key, "replace"), e))
    }

    /// One PUT through `s3`, which decides how often it is tried; with `only_new`, the server is asked to refuse it when the key is there.
    async fn put(&self, s3: &S3, key: &str, body: &Bytes, only_new: bool) -> Result<PutObjectOutput, PutRefused> {
        let request = s3.client.put_object().bucket(&*s3.bucket).key(format!("{}{key}", s3.prefix));
        let request = request.set_if_none_match(only_new.then(|| "*".to_owned())).content_md5(md5_base64(body));
        request.body(ByteStream::from(body.clone())).send().await
    }

    /// What the server makes of a conditional PUT over a key that is there: whether it refused.
    pub(in crate::store) async fn refuses_overwriting(&self, key: &str, body: &Bytes) -> Result<bool, StoreError> {
        match self.put(&self.s3, key, body, true).await {
            Ok(_) => Ok(false),
            Err(error) if [409, 412].contains(&answer::code(&error).0) => Ok(true),
            Err(error) => Err(answer::refused(self.s3.at(key, "create"), error)),
        }
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        if self.is_versioned().await? {
            return self.list_oldest(prefix).await;
        }
        let listed = self.s3.below(prefix).list(None);
        listed.and_then(async |listed| self.named(prefix, listed)).try_collect().await
    }

    /// An entry of the listing below `prefix`.
    fn named(&self, prefix: &str, listed: Listed) -> Result<ListedKey, StoreError> {
        let at = self.s3.at(prefix, "list");
        match listed {
            Listed::Object { key, version } => {
                listed_key(at, format!("{prefix}{key}"), version.size, version.modified_ns)
            }
            // Whoever asked judges the name; it is none of ours.
            Listed::Skipped(skipped) => listed_key(at, skipped.name, 0, 0),
        }
    }

    pub(super) async fn first(&self, prefix: &str, count: u16) -> Result<Vec<ListedKey>, StoreError> {
        if self.is_versioned().await? {
            return self.first_oldest(prefix, count).await;
        }
        let (below, mut from) = (self.s3.below(prefix), Some(Cursor::Start));
        while let Some(cursor) = from {
            let page = below.patient_page(&cursor, count).await?;
            if !page.listed.is_empty() {
                return page.listed.into_iter().map(|listed| self.named(prefix, listed)).collect();
            }
            from = page.next;
        }
        Ok(Vec::new())
    }

    async fn first_oldest(&self, prefix: &str, count: u16) -> Result<Vec<ListedKey>, StoreError> {
        let full = format!("{}{prefix}", self.s3.prefix);
        let (mut keys, mut from) = (Vec::<ListedKey>::new(), Some(Marker::default()));
        while let Some(marker) = from {
            let (page, next) = self.s3.versions(&full, marker).await?;
            self.add_oldest(prefix, page, &mut keys)?;
            from = next;
            // The last key of a page may have older versions on the next one.
            if keys.len() > 1 && from.is_some() {
                keys.pop();
                break;
            }
        }
        keys.truncate(usize::from(count));
        Ok(keys)
    }

    async fn list_oldest(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let full = format!("{}{prefix}", self.s3.prefix);
        let (mut keys, mut from) = (Vec::<ListedKey>::new(), Some(Marker::default()));
        while let Some(marker) = from {
            let (page, next) = self.s3.versions(&full, marker).await?;
            self.add_oldest(prefix, page, &mut keys)?;
            from = next;
        }
        Ok(keys)
    }

    /// Adds the keys of a page of versions, each with its oldest version so far.
    fn add_oldest(&self, prefix: &str, page: Vec<Version>, keys: &mut Vec<ListedKey>) -> Result<(), StoreError> {
        for version in page.into_iter().filter(|version| !version.is_marker) {
            let key = version.key.strip_prefix(&*self.s3.prefix).unwrap_or(&version.key).to_owned();
            let listed = listed_key(self.s3.at(prefix, "list"), key, version.size, version.modified_ns)?;
            match keys.last_mut() {
                // Newest first: what comes later of the same key is older.
                Some(last) if last.key == listed.key => *last = listed,
                _ => keys.push(listed),
            }
        }
        Ok(())
    }

    /// By listing, which a credential may be granted for names it cannot read; by HEAD where it may not list.
    pub(super) async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let listed = match self.is_versioned().await? {
            true => self.oldest(key).await.map(|found| found.is_some()),
            false => self.is_listed(key).await,
        };
        match listed {
            Err(StoreError::Denied { .. }) => match self.s3.head(key).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(false),
                Err(error) => Err(error),
            },
            answer => answer,
        }
    }

    async fn is_listed(&self, key: &str) -> Result<bool, StoreError> {
        let full = self.s3.full(key, "look up")?;
        let request = self.s3.client.list_objects_v2().bucket(&*self.s3.bucket).prefix(&full).max_keys(1);
        let page = request.send().await.map_err(|e| answer::refused(self.s3.at(key, "look up"), e))?;
        Ok(page.contents().iter().any(|object| object.key() == Some(&full)))
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if !self.is_versioned().await? {
            return self.delete_version(key, None).await;
        }
        for version in self.versions_of(key).await? {
            self.delete_version(key, Some(version.id)).await?;
        }
        Ok(())
    }

    /// Removes one version, or, without one, what the server makes of a plain delete.
    pub(in crate::store) async fn delete_version(&self, key: &str, version: Option<String>) -> Result<(), StoreError> {
        let full = self.s3.full(key, "delete")?;
        let request = self.s3.client.delete_object().bucket(&*self.s3.bucket).key(full).set_version_id(version);
        match request.send().await.map_err(|e| answer::refused(self.s3.at(key, "delete"), e)) {
            Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(()),
            done => done.map(drop),
        }
    }
}

impl Attempts for S3Keys {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.is_versioned().await.map(drop)
    }

    async fn put_new(&self, key: &str, body: &Bytes) -> Result<Attempt, StoreError> {
        self.s3.full(key, "create")?;
        let versioned = self.is_versioned().await?;
        let written = match self.put(&self.once, key, body, true).await {
            Ok(written) => written,
            Err(error) => {
                let (status, code) = answer::code(&error);
                return match (status, code.as_str()) {
                    (412, _) => Ok(Attempt::Taken),
                    // 400 without a code: Ceph 16 reads the rest of a body that it refused before as a request.
                    (409, _) | (404, "NoSuchKey") | (400, "") => Ok(Attempt::Contended),
                    _ => Err(answer::refused(self.at(key), error)),
                };
            }
        };
        if !versioned {
            return Ok(Attempt::New);
        }
        match (self.oldest(key).await?, written.version_id()) {
            (Some(oldest), Some(ours)) if oldest.id == ours => Ok(Attempt::New),
            (Some(_), Some(_)) => Ok(Attempt::Taken),
            _ => Err(StoreError::other(self.at(key), "the bucket keeps versions, but does not say which one it wrote")),
        }
    }

    async fn holds(&self, key: &str, body: &Bytes) -> Result<Option<bool>, StoreError> {
        match self.get_oldest(key, body.len() as u64).await {
            Ok(found) => return Ok(Some(found == *body)),
            Err(StoreError::TooLarge { .. }) => return Ok(Some(false)),
            Err(StoreError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        // What may not be read may perhaps be listed: the ETag of an object that was put in one piece is its MD5, unless
        // the server encrypts it with a key of its own. Only a match says something.
        match self.oldest(key).await {
            Ok(Some(found)) if found.size != body.len() as u64 => Ok(Some(false)),
            Ok(Some(found)) => Ok((found.etag.as_deref() == Some(&md5_hex(body))).then_some(true)),
            Ok(None) | Err(StoreError::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn at(&self, key: &str) -> Place {
        self.s3.at(key, "create")
    }
}

fn listed_key(at: Place, key: String, size: u64, modified_ns: i128) -> Result<ListedKey, StoreError> {
    let modified = Timestamp::from_nanosecond(modified_ns);
    let modified = modified.map_err(|e| StoreError::Other { at, source: e.into() })?;
    Ok(ListedKey { key, size, modified })
}

async fn collect(answer: GetObjectOutput, at: Place, limit_bytes: u64) -> Result<Bytes, StoreError> {
    let size_bytes = answer.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { at, size_bytes, limit_bytes });
    }
    let mut content = BytesMut::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
    let mut blocks = std::pin::pin!(blocks(answer.body, at.clone()));
    while let Some(block) = blocks.next().await {
        content.extend_from_slice(&block?);
        if content.len() as u64 > limit_bytes {
            return Err(StoreError::TooLarge { at, size_bytes: content.len() as u64, limit_bytes });
        }
    }
    Ok(content.freeze())
}

/// As `Content-MD5` wants it: what every server checks, unlike the newer checksums.
fn md5_base64(body: &Bytes) -> String {
    base64::engine::general_purpose::STANDARD.encode(Md5::digest(body))
}

pub(in crate::store) fn md5_hex(body: &Bytes) -> String {
    Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}
