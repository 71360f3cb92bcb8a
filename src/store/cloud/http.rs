//! The HTTP client of object_store: the one that the rest of this program uses (hyper, rustls, ring), with our timeouts,
//! instead of a second stack of its own.

use std::error::Error as _;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientOptions, HeaderValue};
use rustls::RootCertStore;

use crate::https;
use crate::store::s3::{CONNECT_TIMEOUT, READ_TIMEOUT};

/// Gives object_store its client.
#[derive(Clone, Debug)]
pub(in crate::store) struct Connector {
    /// Instead of this host's.
    roots: Option<RootCertStore>,
}

impl Connector {
    /// Clients that believe `roots`, or this host's authorities.
    pub(in crate::store) fn trusting(roots: Option<RootCertStore>) -> Self {
        Connector { roots }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let wrong =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "TLS", source };
        let roots = self.roots.clone().unwrap_or_else(https::host_authorities);
        let tls = https::tls(roots).map_err(|e| wrong(e.into()))?.with_no_client_auth();
        let https = https::connector(tls, CONNECT_TIMEOUT);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(https);
        Ok(HttpClient::new(Hyper(client)))
    }
}

#[derive(Debug)]
struct Hyper(Client<https::Connector, HttpRequestBody>);

#[async_trait]
impl HttpService for Hyper {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Google unpacks what is stored with `Content-Encoding: gzip` unless the reader says that he takes it so; then size and
        // content would not be those of the object. Nothing here unpacks.
        if request.uri().query().is_none() {
            request.headers_mut().entry("accept-encoding").or_insert(HeaderValue::from_static("gzip"));
        }
        let answer = tokio::time::timeout(READ_TIMEOUT, self.0.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
        let (head, body) = answer.map_err(of_hyper)?.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

fn of_hyper(error: hyper_util::client::legacy::Error) -> HttpError {
    let sent = error.source().is_some_and(|cause| cause.to_string().contains("before message completed"));
    let kind = match error.is_connect() {
        true => HttpErrorKind::Connect,
        false if sent => HttpErrorKind::Interrupted,
        false => HttpErrorKind::Request,
    };
    HttpError::new(kind, error)
}
