//! The HTTP client: the one of the rest of this program, which repeats nothing by itself.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::config::EtcdAddress;
use crate::https::{self, Connector};
use crate::store::authorities::Authorities;
use crate::store::error::{Cause, Place, StoreError};
use crate::store::s3::CONNECT_TIMEOUT;

/// Many times what an answer takes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(super) struct Http(Client<Connector, Full<Bytes>>);

impl Http {
    /// A client for the members of `address`, which errors call `name`.
    pub(super) fn new(
        address: &EtcdAddress,
        certificate_key: Option<&SecretString>,
        name: &str,
    ) -> Result<Self, StoreError> {
        let https = https::connector(tls(address, certificate_key, name)?, CONNECT_TIMEOUT);
        let mut client = Client::builder(TokioExecutor::new());
        client.retry_canceled_requests(false).pool_timer(TokioTimer::new());
        Ok(Http(client.build(https)))
    }

    /// The status and the body of the answer.
    pub(super) async fn post(
        &self,
        url: &str,
        request: &Value,
        token: Option<&SecretString>,
    ) -> Result<(u16, Bytes), Cause> {
        let mut post = Request::post(url).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose_secret())?;
            value.set_sensitive(true);
            post = post.header(header::AUTHORIZATION, value);
        }
        let answer = self.0.request(post.body(Full::from(request.to_string()))?).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    }
}

fn tls(
    address: &EtcdAddress,
    certificate_key: Option<&SecretString>,
    name: &str,
) -> Result<rustls::ClientConfig, StoreError> {
    let wrong = |why: String| StoreError::other(Place::store(name, "open"), why);
    let roots = match &address.ca_file {
        Some(file) => Authorities::load(file, name)?.roots,
        None if address.tls => https::host_authorities(),
        None => RootCertStore::empty(),
    };
    let tls = https::tls(roots).map_err(|e| wrong(e.to_string()))?;
    let (Some((file, _)), Some(key)) = (&address.certificate, certificate_key) else {
        return Ok(tls.with_no_client_auth());
    };
    let unusable =
        |what: &dyn std::fmt::Display| wrong(format!("the certificate {} cannot be used: {what}", file.display()));
    let pem = std::fs::read(file).map_err(|e| unusable(&e))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|e| unusable(&e))?;
    // What is wrong with a key is told without a word of it.
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
    let key = key.map_err(|_| wrong("its certificate_key is no private key in PEM".to_owned()))?;
    tls.with_client_auth_cert(chain, key).map_err(|e| unusable(&e))
}
