//! Our own keys in a folder, in Google Cloud Storage and in Azure: what object_store can do.
//!
//! All three refuse a conditional create of a key that is there, and none of them is asked for older versions here: where
//! an account allows overwriting, only its own retention rules stand against it, and `vault probe` says so.

use std::io;
use std::path::Path as FolderPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use secrecy::{ExposeSecret, SecretString};

use super::ListedKey;
use super::attempt::{Attempt, Attempts};
use super::http::Connector;
use crate::config::address::VaultAddress;
use crate::permit::Permit;
use crate::store::error::{Place, StoreError};
use crate::store::s3::READ_TIMEOUT;

/// How long a request is tried again, in all.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Keys below a prefix of one object_store.
#[derive(Clone)]
pub(in crate::store) struct Objects {
    name: Arc<str>,
    prefix: Arc<str>,
    store: Arc<dyn ObjectStore>,
    /// The same, but it tries once: whoever creates has to know about every attempt.
    once: Arc<dyn ObjectStore>,
    permit: Permit,
}

/// A folder that exists.
pub(super) fn folder(path: &FolderPath, name: &str) -> Result<Objects, StoreError> {
    let at = || Place::store(name, "open");
    let is_folder = std::fs::metadata(path).map_err(|e| StoreError::of_io(at(), e))?.is_dir();
    if !is_folder {
        return Err(StoreError::of_io(at(), io::ErrorKind::NotADirectory.into()));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|e| translate(at(), e))?.with_fsync(true);
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    Ok(Objects { name: name.into(), prefix: "".into(), once: Arc::clone(&store), store, permit: Permit::unlimited() })
}

/// A bucket of Google Cloud Storage; `credentials` is a service account's JSON.
pub(super) fn gcs(
    address: &VaultAddress,
    bucket: &str,
    prefix: &str,
    credentials: Option<SecretString>,
) -> Result<Objects, StoreError> {
    let at = || Place::store(&address.url.to_string(), "open");
    let account = credentials.ok_or_else(|| denied(at(), "there are no credentials"))?;
    let build = |retries: usize| {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_service_account_key(account.expose_secret())
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(retry(retries))
            .with_http_connector(Connector);
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        // What it says of a key it cannot parse may quote it.
        let why = "its credentials are not the JSON of a service account";
        builder.build().map_err(|_| denied(at(), why))
    };
    let (store, once) = (Arc::new(build(RETRIES)?), Arc::new(build(0)?));
    Ok(Objects { name: named(address), prefix: prefix.into(), store, once, permit: Permit::unlimited() })
}

/// A container of Azure Blob Storage; `credentials` is `ACCOUNT:KEY`.
pub(super) fn azure(
    address: &VaultAddress,
    container: &str,
    prefix: &str,
    credentials: Option<SecretString>,
) -> Result<Objects, StoreError> {
    let at = || Place::store(&address.url.to_string(), "open");
    let wrong = || denied(at(), "its credentials are not of the form ACCOUNT:KEY");
    let credentials = credentials.ok_or_else(wrong)?;
    let (account, key) = credentials.expose_secret().trim().split_once(':').ok_or_else(wrong)?;
    let build = |retries: usize| {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(container)
            .with_account(account)
            .with_access_key(key)
            .with_allow_http(true)
            .with_retry(retry(retries))
            .with_http_connector(Connector);
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder.build().map_err(|_| wrong())
    };
    let (store, once) = (Arc::new(build(RETRIES)?), Arc::new(build(0)?));
    Ok(Objects { name: named(address), prefix: prefix.into(), store, once, permit: Permit::unlimited() })
}

/// How often a request is tried again.
const RETRIES: usize = 3;

fn retry(max_retries: usize) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries, retry_timeout: RETRY_TIMEOUT }
}

fn denied(at: Place, why: &str) -> StoreError {
    StoreError::Denied { at, why: why.to_owned() }
}

fn named(address: &VaultAddress) -> Arc<str> {
    match &address.endpoint {
        Some(endpoint) => format!("{} at {endpoint}", address.url).into(),
        None => address.url.to_string().into(),
    }
}

impl Attempts for Objects {
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn put_new(&self, key: &str, body: &Bytes) -> Result<Attempt, StoreError> {
        let path = self.path(key, "create")?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.once.put_opts(&path, PutPayload::from_bytes(body.clone()), options);
        match self.permitted(self.at(key), put).await? {
            Ok(_) => Ok(Attempt::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Attempt::Taken),
            Err(error) => Err(translate(self.at(key), error)),
        }
    }

    async fn holds(&self, key: &str, body: &Bytes) -> Result<Option<bool>, StoreError> {
        match self.get(key, body.len() as u64).await {
            Ok(found) => Ok(Some(found == *body)),
            Err(StoreError::TooLarge { .. }) => Ok(Some(false)),
            Err(StoreError::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn at(&self, key: &str) -> Place {
        Place::key(&self.name, key, "create")
    }
}

impl Objects {
    pub(super) fn under(&self, permit: &Permit) -> Self {
        Objects { permit: permit.clone(), ..self.clone() }
    }

    /// The store to write to: under a permit that ends, one that tries once, for it does not ask before it tries again.
    fn writer(&self) -> &dyn ObjectStore {
        if self.permit.request_max().is_some() { &*self.once } else { &*self.store }
    }

    /// One write, if it may start, given up when it takes longer than the permit allows.
    async fn permitted<T>(&self, at: Place, write: impl Future<Output = T>) -> Result<T, StoreError> {
        let Some(longest) = self.permit.request_max() else { return Ok(write.await) };
        self.permit.may_start(longest).map_err(|source| StoreError::Withdrawn { at: at.clone(), source })?;
        let written = tokio::time::timeout(longest, write).await;
        written.map_err(|late| StoreError::Unavailable { at, source: late.into() })
    }

    pub(super) async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let path = self.path(key, "replace")?;
        let put = self.writer().put_opts(&path, PutPayload::from_bytes(body), PutOptions::default());
        let written = self.permitted(self.place(key, "replace"), put).await?;
        written.map(drop).map_err(|error| translate(self.place(key, "replace"), error))
    }

    /// What the store makes of a conditional create of a key that is there: whether it refused.
    pub(in crate::store) async fn refuses_overwriting(&self, key: &str, body: &Bytes) -> Result<bool, StoreError> {
        Ok(self.put_new(key, body).await? == Attempt::Taken)
    }

    pub(super) async fn get(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let path = self.path(key, "read")?;
        let failed = |error| translate(self.place(key, "read"), error);
        let found = self.store.get_opts(&path, GetOptions::default()).await.map_err(failed)?;
        let size_bytes = found.meta.size;
        if size_bytes > max_bytes {
            return Err(StoreError::TooLarge { at: self.place(key, "read"), size_bytes, limit_bytes: max_bytes });
        }
        let mut body = found.into_stream();
        let mut content = BytesMut::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
        // A body that stalls is an error too; a timeout over the whole of it would punish large ones.
        while let Some(block) = tokio::time::timeout(READ_TIMEOUT, body.next())
            .await
            .map_err(|late| StoreError::Unavailable { at: self.place(key, "read"), source: late.into() })?
        {
            content.extend_from_slice(&block.map_err(failed)?);
        }
        Ok(content.freeze())
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ListedKey>, StoreError> {
        let folder = format!("{}{prefix}", self.prefix);
        let folder = folder.strip_suffix('/').unwrap_or(&folder);
        let refused = |why: object_store::path::Error| StoreError::BadKey {
            at: self.place(prefix, "list"),
            why: why.to_string(),
        };
        let path = if folder.is_empty() { None } else { Some(Path::parse(folder).map_err(refused)?) };
        let failed = |error| translate(self.place(prefix, "list"), error);
        let listed = self.store.list(path.as_ref()).map_err(failed);
        let mut keys: Vec<ListedKey> = listed.and_then(async |meta| self.listed(meta)).try_collect().await?;
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(keys)
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let path = self.path(key, "look up")?;
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(error) => match translate(self.place(key, "look up"), error) {
                StoreError::NotFound { at } if at.key.is_some() => Ok(false),
                error => Err(error),
            },
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key, "delete")?;
        match self.permitted(self.place(key, "delete"), self.writer().delete(&path)).await? {
            Ok(()) => Ok(()),
            Err(error) => match translate(self.place(key, "delete"), error) {
                StoreError::NotFound { at } if at.key.is_some() => Ok(()),
                error => Err(error),
            },
        }
    }

    fn place(&self, key: &str, operation: &'static str) -> Place {
        Place::key(&self.name, key, operation)
    }

    /// Our keys are plain; one that the store would write differently is a mistake of ours, and is not written.
    fn path(&self, key: &str, operation: &'static str) -> Result<Path, StoreError> {
        let refused = |why: String| StoreError::BadKey { at: self.place(key, operation), why };
        let full = format!("{}{key}", self.prefix);
        let path = Path::parse(&full).map_err(|e| refused(e.to_string()))?;
        if path.as_ref() != full || key.is_empty() {
            return Err(refused(format!("it would become {:?}", path.as_ref())));
        }
        Ok(path)
    }

    fn listed(&self, meta: ObjectMeta) -> Result<ListedKey, StoreError> {
        let full = meta.location.as_ref();
        let key = full.strip_prefix(&*self.prefix).unwrap_or(full).to_owned();
        let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or(0);
        let modified = Timestamp::new(meta.last_modified.timestamp(), nanos)
            .map_err(|e| StoreError::Other { at: self.place(&key, "list"), source: e.into() })?;
        Ok(ListedKey { key, size: meta.size, modified })
    }
}

/// Says an error of object_store in our words. It hides most of what matters in the causes of a "generic" error, so the
/// chain is searched: for the system's own error, for one of the network, for a status that says to come back.
fn translate(at: Place, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    match error {
        E::NotFound { source, .. } if is_no_bucket(&source.to_string()) => {
            StoreError::NotFound { at: Place { key: None, ..at } }
        }
        E::NotFound { .. } => StoreError::NotFound { at },
        E::AlreadyExists { .. } => StoreError::Exists { at },
        E::Precondition { .. } => StoreError::Changed { at },
        E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
            StoreError::Denied { at, why: source.to_string() }
        }
        E::InvalidPath { source } => StoreError::BadKey { at, why: source.to_string() },
        other => match io_cause(&other) {
            Some(cause) => StoreError::of_io(at, cause),
            None if is_unanswered(&other) => StoreError::Unavailable { at, source: other.into() },
            None => StoreError::Other { at, source: other.into() },
        },
    }
}

/// What Google and Azure call it.
fn is_no_bucket(said: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|words| said.contains(words))
}

/// The links of a chain of causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |link| link.source())
}

/// The system's error in a chain of causes; made anew from its number, because a chain cannot be taken apart.
/// Below an error of the network it is the network's.
fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let number = |link: &(dyn std::error::Error + 'static)| link.downcast_ref::<io::Error>()?.raw_os_error();
    causes(error).take_while(|link| !link.is::<HttpError>()).find_map(number).map(io::Error::from_raw_os_error)
}

/// The status is in the text alone: the type that holds it is private to object_store.
fn is_unanswered(error: &(dyn std::error::Error + 'static)) -> bool {
    let comes_back = |said: &str| {
        let status = said.split_once("status code: ").map(|(_, status)| status);
        status.is_some_and(|status| status.starts_with('5') || status.starts_with("408") || status.starts_with("429"))
    };
    causes(error).any(|link| link.is::<HttpError>() || comes_back(&link.to_string()))
}
