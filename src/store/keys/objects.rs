//! Our own keys in a folder, in Google Cloud Storage and in Azure: what object_store can do.
//!
//! All three refuse a conditional create of a key that is there, and none of them is asked for older versions here: where
//! an account allows overwriting, only its own retention rules stand against it, and `vault probe` says so.

use std::io;
use std::path::Path as FolderPath;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use secrecy::SecretString;

use super::attempt::{Attempt, Attempts};
use super::{ListedKey, entries};
use crate::config::address::VaultAddress;
use crate::permit::Permit;
use crate::store::authorities::Authorities;
use crate::store::cloud::answer::translate;
use crate::store::cloud::http::Connector;
use crate::store::cloud::open::{self, Way};
use crate::store::cloud::permitted::permitted;
use crate::store::error::{Place, StoreError};
use crate::store::s3::READ_TIMEOUT;

/// Keys below a prefix of one object_store.
#[derive(Clone)]
pub(in crate::store) struct Objects {
    name: Arc<str>,
    prefix: Arc<str>,
    store: Arc<dyn ObjectStore>,
    /// The same, but it tries once: whoever creates has to know about every attempt.
    once: Arc<dyn ObjectStore>,
    /// Where it is a folder: where that is.
    folder: Option<Arc<FolderPath>>,
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
    let (once, folder) = (Arc::clone(&store), Some(Arc::from(path)));
    Ok(Objects { name: name.into(), prefix: "".into(), once, store, folder, permit: Permit::unlimited() })
}

/// A bucket of Google Cloud Storage; `credentials` is a service account's JSON.
pub(super) fn gcs(
    address: &VaultAddress,
    bucket: &str,
    prefix: &str,
    credentials: Option<SecretString>,
) -> Result<Objects, StoreError> {
    let (name, connector) = (named(address), connector(address)?);
    if credentials.is_none() {
        return Err(open::denied(&address.url.to_string(), "there are no credentials"));
    }
    let way = way(address, &name, credentials.as_ref(), &connector);
    let (store, once) = (Arc::new(open::gcs(way, bucket, open::RETRIES)?), Arc::new(open::gcs(way, bucket, 0)?));
    Ok(Objects { name, prefix: prefix.into(), store, once, folder: None, permit: Permit::unlimited() })
}

/// A container of Azure Blob Storage; `credentials` is `ACCOUNT:KEY`.
pub(super) fn azure(
    address: &VaultAddress,
    container: &str,
    prefix: &str,
    credentials: Option<SecretString>,
) -> Result<Objects, StoreError> {
    let (name, connector) = (named(address), connector(address)?);
    let way = way(address, &name, credentials.as_ref(), &connector);
    let (store, _) = open::azure(way, container, open::RETRIES)?;
    let (once, _) = open::azure(way, container, 0)?;
    let (store, once) = (Arc::new(store), Arc::new(once));
    Ok(Objects { name, prefix: prefix.into(), store, once, folder: None, permit: Permit::unlimited() })
}

fn way<'a>(
    address: &'a VaultAddress,
    name: &'a str,
    credentials: Option<&'a SecretString>,
    connector: &'a Connector,
) -> Way<'a> {
    Way { name, endpoint: address.endpoint.as_deref(), credentials, connector }
}

fn connector(address: &VaultAddress) -> Result<Connector, StoreError> {
    let load = |file: &std::path::PathBuf| Authorities::load(file, &named(address));
    let authorities = address.ca_file.as_ref().map(load).transpose()?;
    Ok(Connector::trusting(authorities.map(|authorities| authorities.roots)))
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
        match permitted(&self.permit, &self.at(key), put).await? {
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

    pub(super) async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let path = self.path(key, "replace")?;
        let put = self.writer().put_opts(&path, PutPayload::from_bytes(body), PutOptions::default());
        let written = permitted(&self.permit, &self.place(key, "replace"), put).await?;
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
        let mut keys: Vec<ListedKey> = self.listing(prefix)?.try_collect().await?;
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(keys)
    }

    pub(super) async fn first(&self, prefix: &str, count: u16) -> Result<Vec<ListedKey>, StoreError> {
        match &self.folder {
            // A folder is listed in no order: all names are read, and of the first ones alone more is asked.
            Some(folder) => match entries::first(folder, prefix, count).await {
                Ok(Some(keys)) => Ok(keys),
                Ok(None) => self.list(prefix).await,
                Err(error) => Err(StoreError::of_io(self.place(prefix, "list"), error)),
            },
            // Both list in the order of the bytes, and the next page is asked for when this one is used up.
            None => self.listing(prefix)?.take(usize::from(count)).try_collect().await,
        }
    }

    /// Every key below `prefix`, as the store lists them.
    fn listing(&self, prefix: &str) -> Result<impl Stream<Item = Result<ListedKey, StoreError>> + Send, StoreError> {
        let folder = format!("{}{prefix}", self.prefix);
        let folder = folder.strip_suffix('/').unwrap_or(&folder);
        let at = self.place(prefix, "list");
        let refused = |why: object_store::path::Error| StoreError::BadKey { at: at.clone(), why: why.to_string() };
        let path = if folder.is_empty() { None } else { Some(Path::parse(folder).map_err(refused)?) };
        let listed = self.store.list(path.as_ref()).map_err(move |error| translate(at.clone(), error));
        Ok(listed.and_then(async |meta| self.listed(meta)))
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
        match permitted(&self.permit, &self.place(key, "delete"), self.writer().delete(&path)).await? {
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
