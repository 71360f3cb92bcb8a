//! Who talks to an S3 server: endpoint, credentials, patience.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use secrecy::{ExposeSecret, SecretString};

use super::Access;
use super::pressure::Pressure;
use crate::config::address::Addressing;
use crate::store::authorities::Authorities;
use crate::store::error::{Place, StoreError};

/// How long a connection may take to be made.
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to begin its answer.
pub(in crate::store) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried in all.
const ATTEMPTS: u32 = 4;

/// A client for the server of `access`. `name` is what an error calls the place; `pressure` hears what the server asks for.
///
/// # Errors
/// [`StoreError::Denied`] for credentials of another form, [`StoreError::Authorities`] for a file that holds none.
pub(super) fn client(access: Access<'_>, name: &str, pressure: Pressure) -> Result<Client, StoreError> {
    let credentials = access.credentials.map(|secret| parse_credentials(&secret, name)).transpose()?;
    let authorities = access.ca_file.map(|file| Authorities::load(file, name)).transpose()?;
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client(authorities, name)?)
        .region(Region::new(access.region.to_owned()))
        .force_path_style(access.addressing == Addressing::Path)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .timeout_config(timeouts)
        .interceptor(pressure)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    // To the SDK a path without a slash at its end is the beginning of the bucket's name.
    config.set_endpoint_url(access.endpoint.map(|endpoint| format!("{}/", endpoint.trim_end_matches('/'))));
    let config = match credentials {
        Some(credentials) => config.credentials_provider(SharedCredentialsProvider::new(credentials)).build(),
        None => config.allow_no_auth().build(),
    };
    Ok(Client::from_conf(config))
}

fn http_client(authorities: Option<Authorities>, name: &str) -> Result<SharedHttpClient, StoreError> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let Some(Authorities { pem, .. }) = authorities else { return Ok(http.build_https()) };
    let trusted = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let context = context.map_err(|error| StoreError::other(Place::store(name, "open"), error.to_string()))?;
    Ok(http.tls_context(context).build_https())
}

/// The same client, but it tries once: for requests whose sender has to know about every attempt.
pub(super) fn that_tries_once(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().retry_config(RetryConfig::disabled()).build())
}

/// The same for one request.
pub(super) fn once() -> Builder {
    Config::builder().retry_config(RetryConfig::disabled())
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
}
