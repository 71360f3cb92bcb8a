//! A bucket of an S3 server, through aws-sdk-s3, with keys as raw as the protocol has them.
//!
//! What is peculiar here is so because some server needs it: path-style addresses unless another is asked for, or it is AWS; no
//! checksums of the SDK's own (other servers refuse them); what an upload became is asked for by HEAD (Ceph answers a completed
//! upload with an empty or unquoted ETag), unless the answer to it has the MD5 of what was sent.

pub(super) mod answer;
mod attributes;
mod client;
mod copy;
mod learnt;
mod list;
mod notes;
mod page;
mod permitted;
mod pressure;
mod resume;
mod tags;
mod trying;
mod upload;
pub(super) mod versions;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use secrecy::SecretString;

pub(super) use client::{CONNECT_TIMEOUT, READ_TIMEOUT};
pub(super) use list::decoded;
pub(super) use tags::encoded;

use super::error::{Place, StoreError};
use super::object::{
    Attributes, Body, Head, Keeps, Layout, Listed, NULL_VERSION, Names, SourceVersion, WriteError, Written,
};
use crate::config::address::{Addressing, BucketAddress};
use crate::permit::Permit;
use attributes::{head_of_get, head_of_head};
use learnt::Learnt;
use notes::Notes;
use pressure::Pressure;

/// The first length of a key, in bytes, that S3 does not take.
const KEY_BYTES_MAX: usize = 1_025;

/// What a server copies in one request where requests have to be over in time. With 10,000 parts objects of 640 GiB fit.
const PERMITTED_COPY_BYTES: u64 = 64 << 20;

/// What a bucket keeps besides content.
pub(super) const KEEPS: Keeps = Keeps { headers: true, expires: true, metadata: Names::Any, tags: true, mode: false };

/// A bucket, or what starts with a prefix in one, of an S3 server.
#[derive(Clone)]
pub struct S3 {
    pub(super) client: Client,
    endpoint: Option<Arc<str>>,
    pub(super) bucket: Arc<str>,
    pub(super) prefix: Arc<str>,
    name: Arc<str>,
    cut: copy::Cut,
    pressure: Pressure,
    notes: Option<Notes>,
    learnt: Learnt,
}

/// The way to a server.
pub(super) struct Access<'a> {
    pub endpoint: Option<&'a str>,
    pub region: &'a str,
    pub addressing: Addressing,
    /// The file of the authorities to trust instead of this host's.
    pub ca_file: Option<&'a Path>,
    pub credentials: Option<SecretString>,
}

impl fmt::Debug for S3 {
    /// The client knows the credentials; it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.name)
    }
}

impl S3 {
    pub(super) fn open(
        address: &BucketAddress,
        bucket: &str,
        prefix: &str,
        credentials: Option<SecretString>,
    ) -> Result<Self, StoreError> {
        let access = Access {
            endpoint: address.endpoint.as_deref(),
            region: &address.region,
            addressing: address.addressing,
            ca_file: address.ca_file.as_deref(),
            credentials,
        };
        S3::with(bucket, prefix, access)
    }

    /// A bucket of our own keys, which has no name in the configuration.
    pub(super) fn with(bucket: &str, prefix: &str, access: Access<'_>) -> Result<Self, StoreError> {
        let name = match &access.endpoint {
            Some(endpoint) => format!("s3://{bucket}/{prefix} at {endpoint}"),
            None => format!("s3://{bucket}/{prefix}"),
        };
        let pressure = Pressure::default();
        let (endpoint, cut) = (access.endpoint.map(Arc::from), copy::Cut::default());
        let client = client::client(access, &name, pressure.clone())?;
        let (bucket, prefix, name) = (bucket.into(), prefix.into(), name.into());
        Ok(S3 { client, endpoint, bucket, prefix, name, cut, pressure, notes: None, learnt: Learnt::default() })
    }

    /// The same, but objects larger than `bytes` are copied in parts of that size: for servers whose copies of one request
    /// end earlier than those of S3.
    #[must_use]
    pub fn copying_in_parts_of(self, bytes: u64) -> S3 {
        S3 { cut: copy::Cut::of(bytes), ..self }
    }

    /// The same, but uploads in parts are noted down in `folder` and gone on with, also by the next process.
    pub(super) fn noting_uploads(&self, folder: &Path) -> S3 {
        S3 { notes: Some(Notes::new(folder)), ..self.clone() }
    }

    /// The same, but what changes something asks `permit` first.
    pub(super) fn under(&self, permit: &Permit) -> S3 {
        // A copy by the server has to be over in time, too.
        let cut = permit.request_max().map_or(self.cut, |_| copy::Cut::of(PERMITTED_COPY_BYTES));
        S3 { client: permitted::under(&self.client, permit), cut, ..self.clone() }
    }

    pub(super) fn pressure(&self) -> u64 {
        self.pressure.felt()
    }

    /// What starts with `more` in it. It keeps its name.
    pub(super) fn below(&self, more: &str) -> S3 {
        S3 { prefix: format!("{}{more}", self.prefix).into(), ..self.clone() }
    }

    /// The same, but every request is tried once.
    pub(super) fn once(&self) -> S3 {
        S3 { client: client::that_tries_once(&self.client), ..self.clone() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn carries(&self, key: &str) -> Result<(), StoreError> {
        if super::abilities::is_canary(key) {
            let why = "that name is reserved for what `warmspare check` tries a bucket with".to_owned();
            return Err(StoreError::BadKey { at: self.at(key, "write"), why });
        }
        self.full(key, "write").map(drop)
    }

    pub(super) fn list(&self, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
        list::list(self.clone(), after)
    }

    pub(super) async fn read(&self, key: &str, wanted: Option<&SourceVersion>) -> Result<(Head, Body), StoreError> {
        let request = self.client.get_object().bucket(&*self.bucket).key(self.full(key, "read")?);
        // In quotes, as RFC 9110 §13.1.1 has it; every server tried takes them on a GET.
        let etag = wanted.and_then(|version| version.etag.as_ref()).map(|etag| format!("\"{etag}\""));
        let at = self.at(key, "read");
        let answer = request.set_if_match(etag).send().await.map_err(|e| answer::refused(at.clone(), e))?;
        let head = head_of_get(&answer);
        // A server that ignores the condition is caught here.
        let other = |wanted: &SourceVersion| wanted.etag != head.version.etag || wanted.size != head.version.size;
        if wanted.is_some_and(other) {
            return Err(StoreError::Changed { at });
        }
        Ok((head, blocks(answer.body, at).boxed()))
    }

    pub(super) async fn read_version(&self, key: &str, id: &str) -> Result<(Head, Body), StoreError> {
        let request = self.client.get_object().bucket(&*self.bucket).key(self.full(key, "read")?).version_id(id);
        let at = self.at(key, "read");
        let answer = request.send().await.map_err(|e| answer::no_such_version(at.clone(), e))?;
        // A server that does not know of versions answers with what is there now, and where there were never any that is right.
        if answer.version_id().filter(|said| !said.is_empty()).unwrap_or(NULL_VERSION) != id {
            return Err(StoreError::NotFound { at });
        }
        let head = Head { id: Some(id.to_owned()), ..head_of_get(&answer) };
        Ok((head, blocks(answer.body, at).boxed()))
    }

    pub(super) async fn write(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        layout: Option<Layout>,
        body: Body,
    ) -> Result<Written, WriteError> {
        upload::upload(self, key, attributes, size, layout, body).await
    }

    pub(super) async fn check_writable(&self) -> Result<(), StoreError> {
        let key = format!("{}.warmspare-check", self.prefix);
        upload::begin_and_abort(self, key, Place::store(&self.name, "write")).await
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, StoreError> {
        let request = self.client.head_object().bucket(&*self.bucket).key(self.full(key, "look up")?);
        let answer = request.send().await.map_err(|e| answer::refused(self.at(key, "look up"), e))?;
        Ok(head_of_head(&answer))
    }

    /// Whether the other is a bucket of the same server, so that this one can copy from it.
    pub(super) fn is_beside(&self, other: &S3) -> bool {
        self.endpoint == other.endpoint
    }

    /// Takes an object away as any program does: for good, or, where versions are kept, out of sight.
    pub(super) async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&*self.bucket).key(self.full(key, "delete")?);
        request.send().await.map(drop).map_err(|e| answer::refused(self.at(key, "delete"), e))
    }

    /// The versions of one object, delete markers left out, the newest first: id and size.
    pub(super) async fn versions_of(&self, key: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let full = self.full(key, "list the versions of")?;
        let (mut found, mut from) = (Vec::new(), versions::Marker::default());
        loop {
            let (page, next) = self.versions(&full, from).await?;
            // Sorted by key, and those that begin with this one come after it.
            let passed = page.iter().any(|version| version.key != full);
            let own = page.into_iter().filter(|version| version.key == full && !version.is_marker);
            found.extend(own.map(|version| (version.id, version.size)));
            match next {
                Some(next) if !passed => from = next,
                _ => return Ok(found),
            }
        }
    }

    pub(super) fn at(&self, key: &str, operation: &'static str) -> Place {
        Place::key(&self.name, key, operation)
    }

    pub(super) fn full(&self, key: &str, operation: &'static str) -> Result<String, StoreError> {
        let full = format!("{}{key}", self.prefix);
        let refused = |why: &str| StoreError::BadKey { at: self.at(key, operation), why: why.to_owned() };
        match full.len() {
            _ if key.is_empty() => Err(refused("it is empty")),
            KEY_BYTES_MAX.. => Err(refused("it is longer than the 1,024 bytes that S3 takes")),
            _ => Ok(full),
        }
    }
}

pub(super) fn blocks(body: ByteStream, at: Place) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::unfold(Some((body, at)), |state| async move {
        let (mut body, at) = state?;
        match body.next().await? {
            Ok(block) => Some((Ok(block), Some((body, at)))),
            Err(error) => Some((Err(StoreError::Unavailable { at, source: answer::causes(&error).into() }), None)),
        }
    })
}

/// An ETag without its quotes: some servers quote it in some answers only.
pub(super) fn bare_etag(etag: Option<&str>) -> Option<String> {
    let bare = etag?.trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// [`upload::layout`].
pub(super) fn layout(version: &SourceVersion) -> Option<Layout> {
    upload::layout(version.etag.as_deref(), version.size)
}

fn version_of(etag: Option<&str>, size: Option<i64>, modified: Option<&DateTime>) -> SourceVersion {
    SourceVersion {
        etag: bare_etag(etag),
        size: size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        modified_ns: modified.map_or(0, DateTime::as_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_their_quotes() {
        assert_eq!(bare_etag(Some("\"abc-2\"")).as_deref(), Some("abc-2"));
        assert_eq!(bare_etag(Some("abc")).as_deref(), Some("abc"));
        assert_eq!(bare_etag(Some("\"\"")), None);
    }
}
