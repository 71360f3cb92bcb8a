//! One connection to the gate: HTTP/1.1, as much of it as a load balancer's check speaks.
//!
//! No request has a body that is read: one that brings a body is answered, and the connection closed, so that nothing of it can be
//! taken for another request. Limits on everything: bytes and number of headers, time for a request, time between two.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Asked;
use super::answer::{Method, Request, Response, agent_line, answer};
use super::page::Found;

/// A request with its headers. A balancer's check has some 200.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// From the first byte of a request to its last, and for taking an answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two requests of a connection.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// What was read of a request.
enum Head {
    /// All of it; so many bytes.
    Whole(Request, usize),
    /// Not yet all.
    Partial,
    /// No request, with the status that says so.
    Wrong(u16),
}

/// Answers requests until the other end has no more, or breaks a rule.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, asked: &Asked) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let (request, response) = match next(&mut stream, &mut read).await? {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => {
                let response = metrics(&request, asked);
                let response = response.unwrap_or_else(|| answer(&request, &asked.sign.read(), asked.now()));
                (request, response)
            }
            Err(status) => {
                let closing = Request { method: Method::Get, target: String::new(), keeps_open: false };
                (closing, Response::refused(status))
            }
        };
        let bytes = response.bytes(&request, &asked.sign.read(), asked.clock.now());
        let sent = timeout(REQUEST_TIME_MAX, stream.write_all(&bytes)).await;
        sent.map_err(std::io::Error::from).flatten()?;
        if !request.keeps_open {
            return stream.shutdown().await;
        }
    }
}

/// The metrics, if they are asked for and there are some.
fn metrics(request: &Request, asked: &Asked) -> Option<Response> {
    if request.target != "/metrics" || request.method == Method::Other {
        return None;
    }
    match asked.page.read() {
        Found::Text(text) => Some(Response::metrics(&text)),
        Found::Busy => Some(Response::refused(503)),
        Found::Nothing => None,
    }
}

/// The next request; none when there is no more; the status that says what is wrong with it.
async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
) -> std::io::Result<Result<Option<Request>, u16>> {
    if read.is_empty() {
        match timeout(IDLE_TIME_MAX, stream.read_buf(read)).await {
            Err(_) | Ok(Ok(0)) => return Ok(Ok(None)),
            Ok(done) => done?,
        };
    }
    match timeout(REQUEST_TIME_MAX, whole(stream, read)).await {
        Ok(done) => done,
        Err(_) => Ok(Err(408)),
    }
}

async fn whole<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
) -> std::io::Result<Result<Option<Request>, u16>> {
    loop {
        match head(read) {
            Head::Whole(request, length) => {
                read.drain(..length);
                return Ok(Ok(Some(request)));
            }
            Head::Wrong(status) => return Ok(Err(status)),
            Head::Partial if read.len() >= HEAD_BYTES_MAX => return Ok(Err(431)),
            Head::Partial => {}
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(Ok(None));
        }
    }
}

/// The request at the beginning of `read`.
fn head(read: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(read) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Head::Wrong(431),
        Ok(httparse::Status::Partial) => return Head::Partial,
        Err(_) => return Head::Wrong(400),
    };
    let method = match parsed.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let mut keeps_open = parsed.version == Some(1);
    for header in parsed.headers.iter() {
        let value = header.value.trim_ascii();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let says =
            |word: &[u8]| value.split(|byte| *byte == b',').any(|said| said.trim_ascii().eq_ignore_ascii_case(word));
        let has_body = is("Transfer-Encoding") || is("Content-Length") && value != b"0";
        if has_body || is("Connection") && says(b"close") {
            keeps_open = false;
        }
    }
    let target = origin_form(parsed.path.unwrap_or_default()).to_owned();
    Head::Whole(Request { method, target, keeps_open }, length)
}

/// Path and query of a target, which a proxy may write with the host before it (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://") else { return target };
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// Tells HAProxy's agent-check what to do, and that is all. What it may send is not read.
pub(super) async fn tell_agent<S: AsyncWrite + Unpin>(mut stream: S, asked: &Asked) -> std::io::Result<()> {
    let line = agent_line(&asked.sign.read(), asked.now());
    let sent = timeout(REQUEST_TIME_MAX, async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await
    });
    sent.await.map_err(std::io::Error::from).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<(Method, String, bool)>, u16> {
        match head(text.as_bytes()) {
            Head::Whole(request, length) => {
                assert!(length <= text.len());
                Ok(Some((request.method, request.target, request.keeps_open)))
            }
            Head::Partial => Ok(None),
            Head::Wrong(status) => Err(status),
        }
    }

    #[test]
    fn requests_as_balancers_send_them() {
        let get = |target: &str, keeps_open| Ok(Some((Method::Get, target.to_owned(), keeps_open)));
        let head = |target: &str, keeps_open| Ok(Some((Method::Head, target.to_owned(), keeps_open)));
        let cases = [
            ("GET /live HTTP/1.1\r\nHost: a\r\n\r\n", get("/live", true)),
            ("HEAD /live HTTP/1.1\r\n\r\n", head("/live", true)),
            ("HEAD /live HTTP/1.0\r\n\r\n", head("/live", false)),
            ("GET /live?deny=403 HTTP/1.1\r\nConnection: keep-alive, Close\r\n\r\n", get("/live?deny=403", false)),
            ("GET http://10.1.0.2:7777/live HTTP/1.1\r\nHost: x\r\n\r\n", get("/live", true)),
            ("GET http://10.1.0.2 HTTP/1.1\r\n\r\n", get("/", true)),
            // nginx's auth_request passes the length of what it keeps to itself, unless told otherwise.
            ("GET /live HTTP/1.1\r\nContent-Length: 7\r\n\r\n", get("/live", false)),
            ("GET /live HTTP/1.1\r\nContent-Length: 0\r\n\r\n", get("/live", true)),
            ("GET /live HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", get("/live", false)),
            ("OPTIONS / HTTP/1.0\r\n\r\n", Ok(Some((Method::Other, "/".to_owned(), false)))),
            ("GET /live HTTP/1.1\r\nHost: a\r\n", Ok(None)),
            ("", Ok(None)),
            ("GET /live HTTP/2.0\r\n\r\n", Err(400)),
            ("\u{16}\u{3}\u{1}", Err(400)),
            ("GET /live HTTP/1.1\r\nno colon\r\n\r\n", Err(400)),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text), expected, "{text:?}");
        }
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(of(&format!("GET /live HTTP/1.1\r\n{many}\r\n")), Err(431));
        let long = "b".repeat(HEAD_BYTES_MAX);
        assert_eq!(of(&format!("GET /live HTTP/1.1\r\nA: {long}\r\n\r\n")), Err(431));
    }
}
