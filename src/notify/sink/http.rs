//! Webhooks and pings: one POST, no redirect is followed, and no error says more of the address than its host.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::{ExposeSecret, SecretString};

use crate::config::HttpSink;
use crate::error::chain;
use crate::https;
use crate::notify::NotifyError;

/// For a connection to stand.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For all of it.
const TIME_MAX: Duration = Duration::from_secs(10);

/// What a ping says (healthchecks.io, "Pinging API"; others take the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::notify) enum Ping {
    /// A job begins.
    Start,
    /// All is well.
    Success,
    /// It is not.
    Fail,
}

impl Ping {
    fn path(self) -> &'static str {
        match self {
            Ping::Start => "/start",
            Ping::Success => "",
            Ping::Fail => "/fail",
        }
    }
}

pub(super) async fn post(
    name: &str,
    sink: &HttpSink,
    ping: Option<Ping>,
    content: &'static str,
    body: Vec<u8>,
) -> Result<(), NotifyError> {
    let late = |_| NotifyError::Late { sink: name.to_owned(), seconds: TIME_MAX.as_secs() };
    tokio::time::timeout(TIME_MAX, posted(name, sink, ping, content, body)).await.map_err(late)?
}

async fn posted(
    name: &str,
    sink: &HttpSink,
    ping: Option<Ping>,
    content: &'static str,
    body: Vec<u8>,
) -> Result<(), NotifyError> {
    let url = super::secret(name, "url", &sink.url).await?;
    let uri = address(name, &url, ping)?;
    let host = uri.authority().map(|authority| authority.host()).unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{host}{port}");
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector(name, sink)?);
    let request = Request::post(uri).header(header::CONTENT_TYPE, content).header(header::USER_AGENT, "warmspare");
    let request = request.body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| NotifyError::Unfit { sink: name.to_owned(), what: error.to_string() })?;
    let status = client.request(request).await.map_err(|error| failed(name, &host, &error))?.status();
    if status.is_success() {
        return Ok(());
    }
    Err(NotifyError::Answered { sink: name.to_owned(), host, status: status.as_u16() })
}

/// The address, which is a secret; with what a ping puts at the end of its path.
fn address(name: &str, url: &SecretString, ping: Option<Ping>) -> Result<Uri, NotifyError> {
    let text = url.expose_secret().trim();
    let (path, query) = text.split_once('?').map_or((text, String::new()), |(path, query)| (path, format!("?{query}")));
    let end = ping.map_or("", Ping::path);
    let path = if ping.is_some() { path.trim_end_matches('/') } else { path };
    let uri: Option<Uri> = format!("{path}{end}{query}").parse().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some())
        .ok_or_else(|| NotifyError::NoUrl { sink: name.to_owned() })
}

fn connector(name: &str, sink: &HttpSink) -> Result<https::Connector, NotifyError> {
    let roots = match &sink.ca_file {
        None => https::host_authorities(),
        Some(file) => {
            let wrong = |what: String| NotifyError::Authorities { sink: name.to_owned(), file: file.clone(), what };
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            https::authorities(&pem).map_err(wrong)?
        }
    };
    let tls =
        https::tls(roots).map_err(|error| NotifyError::Unfit { sink: name.to_owned(), what: error.to_string() })?;
    Ok(https::connector(tls.with_no_client_auth(), CONNECT_MAX))
}

fn failed(name: &str, host: &str, error: &hyper_util::client::legacy::Error) -> NotifyError {
    let (sink, host, what) = (name.to_owned(), host.to_owned(), chain(error));
    match what.contains("certificate") {
        true => NotifyError::Untrusted { sink, host, what },
        false => NotifyError::Unreachable { sink, host, what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_ping_says_what_it_means_at_the_end_of_its_path() {
        let check = |url: &str, ping: Option<Ping>, expected: &str| {
            let url = SecretString::from(format!("{url}\n"));
            assert_eq!(address("ops", &url, ping).unwrap().to_string(), expected);
        };
        check("https://hc.example/u1", Some(Ping::Start), "https://hc.example/u1/start");
        check("https://hc.example/u1/", Some(Ping::Success), "https://hc.example/u1");
        check("https://hc.example/u1?rid=7", Some(Ping::Fail), "https://hc.example/u1/fail?rid=7");
        check("https://hooks.example/a/", None, "https://hooks.example/a/");
        for wrong in ["hunter2", "ftp://hooks.example/hunter2", "https:///hunter2", ""] {
            let error = address("ops", &SecretString::from(wrong), None).unwrap_err();
            assert!(matches!(error, NotifyError::NoUrl { .. }) && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
