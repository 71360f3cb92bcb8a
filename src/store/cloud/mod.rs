//! A bucket of Google Cloud Storage or a container of Azure, through object_store.
//!
//! It cannot do what the S3 client can, and says so: no tags, no versions, copies by the store only of Google and only as they are
//! (else the content goes through this host). Keys that object_store cannot spell (`a//b`, `dir/`, control characters) are
//! skipped by name. Metadata goes along as far as the store takes it: Azure wants names that are identifiers.

pub(super) mod answer;
pub(super) mod http;
mod list;
pub(super) mod open;
pub(super) mod permitted;
mod trying;
mod write;
mod xml;

use std::fmt;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::client::HttpConnector;
use object_store::path::Path;
use object_store::{Attribute, ClientOptions, GetOptions, GetResult, ObjectStore, ObjectStoreExt};
use secrecy::SecretString;

use super::authorities::Authorities;
use super::error::{Place, StoreError};
use super::object::{Attributes, Body, Head, Keeps, Listed, Names, SourceVersion};
use super::s3::{READ_TIMEOUT, bare_etag};
use crate::config::address::BucketAddress;
use crate::permit::Permit;
use answer::translate;
use http::Connector;
use list::{Asked, Lister, lister};
use open::Way;
use permitted::permitted;

/// Where the providers are unless an endpoint says otherwise.
const GOOGLE: &str = "https://storage.googleapis.com";
const AZURE_DOMAIN: &str = "blob.core.windows.net";

/// Azure counts characters; who counts bytes is never wrong.
const KEY_BYTES_MAX: usize = 1_024;

/// What is kept besides content.
const GCS_KEEPS: Keeps = Keeps { headers: true, expires: false, metadata: Names::Any, tags: false, mode: false };
const AZURE_KEEPS: Keeps = Keeps { metadata: Names::Identifiers, ..GCS_KEEPS };

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Gcs,
    Azure,
}

/// A bucket or container, or what starts with a prefix in one.
#[derive(Clone)]
pub struct Cloud {
    provider: Provider,
    endpoint: Option<Arc<str>>,
    bucket: Arc<str>,
    prefix: Arc<str>,
    name: Arc<str>,
    store: Arc<dyn ObjectStore>,
    /// The same, but it tries once.
    once: Arc<dyn ObjectStore>,
    permit: Permit,
    lister: Arc<Lister>,
}

impl fmt::Debug for Cloud {
    /// The client knows the credentials; it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cloud({})", self.name)
    }
}

impl Cloud {
    pub(super) fn open(
        address: &BucketAddress,
        provider: Provider,
        (bucket, prefix): (&str, &str),
        credentials: Option<&SecretString>,
    ) -> Result<Self, StoreError> {
        let name = match &address.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", address.url),
            None => address.url.to_string(),
        };
        let authorities = address.ca_file.as_deref().map(|file| Authorities::load(file, &name)).transpose()?;
        let connector = Connector::trusting(authorities.map(|authorities| authorities.roots));
        let endpoint = address.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/'));
        let way = Way { name: &name, endpoint, credentials, connector: &connector };
        let (store, once, asked): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>, Asked) = match provider {
            Provider::Gcs => {
                let store = open::gcs(way, bucket, open::RETRIES)?;
                let url = format!("{}/{bucket}", endpoint.unwrap_or(GOOGLE));
                let credentials = credentials.map(|_| Arc::clone(store.credentials()));
                (Arc::new(store), Arc::new(open::gcs(way, bucket, 0)?), Asked::Gcs { url, credentials })
            }
            Provider::Azure => {
                let (store, account) = open::azure(way, bucket, open::RETRIES)?;
                let own = || format!("https://{account}.{AZURE_DOMAIN}");
                let url = format!("{}/{bucket}", endpoint.map_or_else(own, str::to_owned));
                let credentials = Arc::clone(store.credentials());
                let (once, _) = open::azure(way, bucket, 0)?;
                (Arc::new(store), Arc::new(once), Asked::Azure { url, credentials, account })
            }
        };
        let failed = |error| translate(Place::store(&name, "open"), error);
        let http = connector.connect(&ClientOptions::new()).map_err(failed)?;
        let (endpoint, bucket, prefix) = (endpoint.map(Arc::from), bucket.into(), prefix.into());
        let (name, lister, permit) = (name.as_str().into(), lister(asked, http), Permit::unlimited());
        Ok(Cloud { provider, endpoint, bucket, prefix, name, store, once, permit, lister })
    }

    pub(super) fn under(&self, permit: &Permit) -> Cloud {
        Cloud { permit: permit.clone(), ..self.clone() }
    }

    /// The store to write to: under a permit that ends, one that tries once, for it does not ask before it tries again.
    fn writer(&self) -> &dyn ObjectStore {
        if self.permit.request_max().is_some() { &*self.once } else { &*self.store }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn keeps(&self) -> Keeps {
        match self.provider {
            Provider::Gcs => GCS_KEEPS,
            Provider::Azure => AZURE_KEEPS,
        }
    }

    /// Google begins a listing anywhere, Azure does not.
    pub(super) fn lists_in_pages(&self) -> bool {
        self.provider == Provider::Gcs
    }

    /// Google's tag of what was written in one piece is its MD5; Azure's is a time.
    pub(super) fn likeness(&self, version: &SourceVersion) -> Option<String> {
        version.etag.clone().filter(|_| self.provider == Provider::Gcs)
    }

    pub(super) fn is_beside(&self, other: &Cloud) -> bool {
        (self.provider, &self.endpoint) == (other.provider, &other.endpoint)
    }

    pub(super) fn carries(&self, key: &str) -> Result<(), StoreError> {
        if super::abilities::is_canary(key) {
            let why = "that name is reserved for what `warmspare check` tries a bucket with".to_owned();
            return Err(StoreError::BadKey { at: self.at(key, "write"), why });
        }
        self.path(key, "write").map(drop)
    }

    pub(super) fn list(&self, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
        list::list(self.clone(), after)
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, StoreError> {
        let path = self.path(key, "look up")?;
        let found = self.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await;
        found.map(|found| head_of(&found)).map_err(|error| translate(self.at(key, "look up"), error))
    }

    pub(super) async fn read(&self, key: &str, wanted: Option<&SourceVersion>) -> Result<(Head, Body), StoreError> {
        let (path, at) = (self.path(key, "read")?, self.at(key, "read"));
        let if_match = wanted.and_then(|version| version.etag.as_ref()).map(|etag| format!("\"{etag}\""));
        let found = self.store.get_opts(&path, GetOptions { if_match, ..GetOptions::default() }).await;
        let found = found.map_err(|error| translate(at.clone(), error))?;
        let head = head_of(&found);
        let other = |wanted: &SourceVersion| wanted.etag != head.version.etag || wanted.size != head.version.size;
        if wanted.is_some_and(other) {
            return Err(StoreError::Changed { at });
        }
        let size = head.version.size;
        Ok((head, counted(found, size, at).boxed()))
    }

    pub(super) fn no_version(&self, key: &str) -> StoreError {
        StoreError::NotFound { at: self.at(key, "read a version of") }
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let (path, at) = (self.path(key, "delete")?, self.at(key, "delete"));
        permitted(&self.permit, &at, self.writer().delete(&path)).await?.map_err(|error| translate(at, error))
    }

    fn at(&self, key: &str, operation: &'static str) -> Place {
        Place::key(&self.name, key, operation)
    }

    fn path(&self, key: &str, operation: &'static str) -> Result<Path, StoreError> {
        let refused = |why: String| StoreError::BadKey { at: self.at(key, operation), why };
        if key.is_empty() {
            return Err(refused("it is empty".to_owned()));
        }
        let full = format!("{}{key}", self.prefix);
        if full.len() > KEY_BYTES_MAX {
            return Err(refused("it is longer than the 1,024 bytes that Google and Azure take".to_owned()));
        }
        if self.provider == Provider::Azure && full.split('/').any(|name| name.ends_with('.')) {
            return Err(refused("a name in it ends with a dot, which Azure may take away".to_owned()));
        }
        path_of(&full).map_err(refused)
    }
}

/// The guard: the key as object_store spells it, if that is how it is spelt.
fn path_of(full: &str) -> Result<Path, String> {
    let path = Path::parse(full).map_err(|error| error.to_string())?;
    match path.as_ref() == full {
        true => Ok(path),
        false => Err(format!("it would become {:?}", path.as_ref())),
    }
}

fn head_of(found: &GetResult) -> Head {
    let mut attributes = Attributes::default();
    for (name, value) in &found.attributes {
        let value = value.as_ref().to_owned();
        match name {
            Attribute::ContentType => attributes.content_type = Some(value),
            Attribute::CacheControl => attributes.cache_control = Some(value),
            Attribute::ContentDisposition => attributes.content_disposition = Some(value),
            Attribute::ContentEncoding => attributes.content_encoding = Some(value),
            Attribute::ContentLanguage => attributes.content_language = Some(value),
            Attribute::Metadata(name) => drop(attributes.metadata.insert(name.to_string(), value)),
            _ => {}
        }
    }
    let modified = found.meta.last_modified;
    let modified = Timestamp::new(modified.timestamp(), 0).map_or(0, Timestamp::as_nanosecond);
    let version =
        SourceVersion { etag: bare_etag(found.meta.e_tag.as_deref()), size: found.meta.size, modified_ns: modified };
    Head { version, attributes, id: None, tags: Some(0), storage_class: None }
}

/// The content, which has `size` bytes or ends in an error. A body that stalls is an error too.
fn counted(found: GetResult, size: u64, at: Place) -> impl Stream<Item = Result<bytes::Bytes, StoreError>> + Send {
    let place = at.clone();
    let body = found.into_stream().map_err(move |error| translate(place.clone(), error)).boxed();
    stream::unfold(Some((body, 0_u64, at)), move |state| async move {
        let (mut body, taken, at) = state?;
        match tokio::time::timeout(READ_TIMEOUT, body.next()).await {
            Err(late) => Some((Err(StoreError::Unavailable { at, source: late.into() }), None)),
            Ok(Some(Ok(block))) => {
                let taken = taken + block.len() as u64;
                Some((Ok(block), Some((body, taken, at))))
            }
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) if taken == size => None,
            Ok(None) => {
                let why = format!("its content had {taken} bytes instead of {size}");
                Some((Err(StoreError::Unavailable { at, source: why.into() }), None))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_would_come_back_as_another_is_refused() {
        for key in ["a", "a b+c", "ünï/∞", "a/b.c", "100%", " leading", "trailing "] {
            assert!(path_of(key).is_ok(), "{key:?}: {:?}", path_of(key));
        }
        for key in ["a//b", "/a", "dir/", "a/../b", "a/./b", "..", "new\nline", "\u{1}"] {
            assert!(path_of(key).is_err(), "{key:?}");
        }
    }
}
