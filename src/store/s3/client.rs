//! Who talks to an S3 server: endpoint, credentials, patience.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use secrecy::{ExposeSecret, SecretString};

use super::pressure::Pressure;
use crate::store::error::{Place, StoreError};

/// How long a connection may take to be made.
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to begin its answer.
pub(in crate::store) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried in all.
const ATTEMPTS: u32 = 4;

/// A client for `endpoint` (AWS when absent). `name` is what an error calls the place; `pressure` hears what the server asks for.
///
/// # Errors
/// [`StoreError::Denied`] for credentials of another form.
pub(super) fn client(
    endpoint: Option<&str>,
    region: &str,
    credentials: Option<SecretString>,
    name: &str,
    pressure: Pressure,
) -> Result<Client, StoreError> {
    let credentials = credentials.map(|secret| parse_credentials(&secret, name)).transpose()?;
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region.to_owned()))
        .force_path_style(endpoint.is_some())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .timeout_config(timeouts)
        .interceptor(pressure)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    config.set_endpoint_url(endpoint.map(str::to_owned));
    let config = match credentials {
        Some(credentials) => config.credentials_provider(SharedCredentialsProvider::new(credentials)).build(),
        None => config.allow_no_auth().build(),
    };
    Ok(Client::from_conf(config))
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
