//! How Google and Azure are opened, for our own keys and for buckets.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};
use secrecy::{ExposeSecret, SecretString};

use super::http::Connector;
use crate::store::error::{Place, StoreError};

/// How often a request is tried again.
pub(in crate::store) const RETRIES: usize = 3;
/// How long a request is tried again, in all.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The way to a store that its errors call `name`.
#[derive(Clone, Copy)]
pub(in crate::store) struct Way<'a> {
    pub name: &'a str,
    pub endpoint: Option<&'a str>,
    pub credentials: Option<&'a SecretString>,
    pub connector: &'a Connector,
}

/// A bucket of Google Cloud Storage, with a service account's JSON, or anonymously.
///
/// # Errors
/// [`StoreError::Denied`] for credentials of another form.
pub(in crate::store) fn gcs(way: Way<'_>, bucket: &str, retries: usize) -> Result<GoogleCloudStorage, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry(retries))
        .with_http_connector(way.connector.clone());
    builder = match way.credentials {
        Some(account) => builder.with_service_account_key(account.expose_secret()),
        // A write would ask this host's provider for a token all the same.
        None => {
            let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
            builder.with_skip_signature(true).with_credentials(Arc::new(nobody))
        }
    };
    if let Some(endpoint) = way.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    // What it says of a key it cannot parse may quote it.
    builder.build().map_err(|_| denied(way.name, "its credentials are not the JSON of a service account"))
}

/// A container of Azure Blob Storage with `ACCOUNT:KEY`, and the name of the account.
///
/// # Errors
/// [`StoreError::Denied`] for credentials of another form.
pub(in crate::store) fn azure(
    way: Way<'_>,
    container: &str,
    retries: usize,
) -> Result<(MicrosoftAzure, String), StoreError> {
    let wrong = || denied(way.name, "its credentials are not of the form ACCOUNT:KEY");
    let (account, key) =
        way.credentials.and_then(|text| text.expose_secret().trim().split_once(':')).ok_or_else(wrong)?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_account(account)
        .with_access_key(key)
        .with_allow_http(true)
        .with_retry(retry(retries))
        .with_http_connector(way.connector.clone());
    if let Some(endpoint) = way.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    Ok((builder.build().map_err(|_| wrong())?, account.to_owned()))
}

fn retry(max_retries: usize) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries, retry_timeout: RETRY_TIMEOUT }
}

pub(in crate::store) fn denied(name: &str, why: &str) -> StoreError {
    StoreError::Denied { at: Place::store(name, "open"), why: why.to_owned() }
}
