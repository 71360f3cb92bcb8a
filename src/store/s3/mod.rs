//! A bucket of an S3 server, through aws-sdk-s3, with keys as raw as the protocol has them.
//!
//! What is peculiar here is so because some server needs it: path-style addresses whenever an endpoint is
//! given; no checksums of the SDK's own (other servers refuse them); what an upload became is asked for by
//! HEAD (Ceph answers a completed upload with an empty or unquoted ETag).

mod answer;
mod list;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use secrecy::{ExposeSecret, SecretString};

use super::error::{Place, StoreError};
use super::object::{Attributes, Body, Head, Listed, SourceVersion, WriteError};
use crate::config::address::BucketAddress;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to begin its answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The first length of a key, in bytes, that S3 does not take.
const KEY_BYTES_MAX: usize = 1_025;
/// How often a request is tried in all.
const ATTEMPTS: u32 = 4;

/// A bucket, or what starts with a prefix in one, of an S3 server.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: Arc<str>,
    prefix: Arc<str>,
    name: Arc<str>,
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
        let name = match &address.endpoint {
            Some(endpoint) => format!("s3://{bucket}/{prefix} at {endpoint}"),
            None => format!("s3://{bucket}/{prefix}"),
        };
        let credentials = credentials.map(|secret| parse_credentials(&secret, &name)).transpose()?;
        let client = Client::from_conf(client_config(address, credentials));
        Ok(S3 { client, bucket: bucket.into(), prefix: prefix.into(), name: name.into() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn carries(&self, key: &str) -> Result<(), StoreError> {
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

    pub(super) async fn write(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        body: Body,
    ) -> Result<Head, WriteError> {
        let full = self.full(key, "write")?;
        upload::upload(self, full, self.at(key, "write"), attributes, size, body).await?;
        crate::failpoint::hit("store.object.write");
        Ok(self.head(key).await?)
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

    fn at(&self, key: &str, operation: &'static str) -> Place {
        Place::key(&self.name, key, operation)
    }

    fn full(&self, key: &str, operation: &'static str) -> Result<String, StoreError> {
        let full = format!("{}{key}", self.prefix);
        let refused = |why: &str| StoreError::BadKey { at: self.at(key, operation), why: why.to_owned() };
        match full.len() {
            _ if key.is_empty() => Err(refused("it is empty")),
            KEY_BYTES_MAX.. => Err(refused("it is longer than the 1,024 bytes that S3 takes")),
            _ => Ok(full),
        }
    }
}

fn client_config(address: &BucketAddress, credentials: Option<Credentials>) -> Config {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(address.region.clone()))
        .force_path_style(address.endpoint.is_some())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    config.set_endpoint_url(address.endpoint.clone());
    match credentials {
        Some(credentials) => config.credentials_provider(SharedCredentialsProvider::new(credentials)).build(),
        None => config.allow_no_auth().build(),
    }
}

fn parse_credentials(secret: &SecretString, name: &str) -> Result<Credentials, StoreError> {
    let mut parts = secret.expose_secret().trim().splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(access), Some(secret), token) if !access.is_empty() && !secret.is_empty() => {
            Ok(Credentials::new(access, secret, token.map(str::to_owned), None, "configuration"))
        }
        _ => Err(StoreError::Denied {
            at: Place::store(name, "open"),
            why: "its credentials are not of the form ACCESS_KEY:SECRET_KEY or ACCESS_KEY:SECRET_KEY:SESSION_TOKEN"
                .to_owned(),
        }),
    }
}

fn blocks(body: ByteStream, at: Place) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::unfold(Some((body, at)), |state| async move {
        let (mut body, at) = state?;
        match body.next().await? {
            Ok(block) => Some((Ok(block), Some((body, at)))),
            Err(error) => Some((Err(StoreError::Unavailable { at, source: error.into() }), None)),
        }
    })
}

/// An ETag without its quotes: some servers quote it in some answers only.
fn bare_etag(etag: Option<&str>) -> Option<String> {
    let bare = etag?.trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn version_of(etag: Option<&str>, size: Option<i64>, modified: Option<&DateTime>) -> SourceVersion {
    SourceVersion {
        etag: bare_etag(etag),
        size: size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        modified_ns: modified.map_or(0, DateTime::as_nanos),
    }
}

fn sorted(metadata: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// GET and HEAD answer with the same headers in two types that have nothing in common.
macro_rules! head_of {
    ($name:ident, $answer:ty) => {
        fn $name(answer: &$answer) -> Head {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Head {
                version: version_of(answer.e_tag(), answer.content_length(), answer.last_modified()),
                attributes: Attributes {
                    content_type: text(answer.content_type()),
                    cache_control: text(answer.cache_control()),
                    content_disposition: text(answer.content_disposition()),
                    content_encoding: text(answer.content_encoding()),
                    content_language: text(answer.content_language()),
                    metadata: sorted(answer.metadata()),
                    mode: None,
                },
            }
        }
    };
}

head_of!(head_of_get, GetObjectOutput);
head_of!(head_of_head, HeadObjectOutput);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_another_form_are_refused_without_being_repeated() {
        for text in ["", "hunter2", ":hunter2", "hunter2:"] {
            let error = parse_credentials(&SecretString::from(text), "s3://b").unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let parsed = parse_credentials(&SecretString::from("a:b:c:d"), "s3://b").unwrap();
        assert_eq!((parsed.access_key_id(), parsed.secret_access_key()), ("a", "b"));
        assert_eq!(parsed.session_token(), Some("c:d"));
    }

    #[test]
    fn etags_lose_their_quotes() {
        assert_eq!(bare_etag(Some("\"abc-2\"")).as_deref(), Some("abc-2"));
        assert_eq!(bare_etag(Some("abc")).as_deref(), Some("abc"));
        assert_eq!(bare_etag(Some("\"\"")), None);
    }
}
