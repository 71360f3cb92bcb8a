//! HTTP/1.1 as an S3 client needs it: connections that are kept, bodies of a known length.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::faults::{Fault, Refusal};
use super::listing::{Asked, page};
use super::objects::{content_of, etag_of, number_of};
use super::{MODIFIED_HTTP, Shared, Stored};

const HEAD_BYTES_MAX: usize = 64 << 10;

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// What follows the name of the bucket.
    fn key(&self) -> &str {
        self.path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn new(status: u16, body: impl Into<Bytes>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into() }
    }

    fn error(status: u16, code: &str) -> Answer {
        Answer::new(status, format!("<Error><Code>{code}</Code><Message>as told</Message></Error>"))
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

pub(super) async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        let shared = Arc::clone(&shared);
        // A connection that breaks is the client's to notice.
        tokio::spawn(async move { connection(stream, &shared).await.ok() });
    }
}

async fn connection(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    while let Some(request) = read(&mut stream).await? {
        let under_way = shared.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        shared.under_way_max.fetch_max(under_way, Ordering::Relaxed);
        let answer = answer(shared, &request, under_way).await;
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut head = format!("HTTP/1.1 {} As-Told\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
        if request.method == "HEAD" && answer.status == 200 {
            head = "HTTP/1.1 200 As-Told\r\n".to_owned();
        }
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        if request.method == "GET" && shared.state().faults.iter().any(|fault| fault.cuts(request.key())) {
            bytes.truncate(bytes.len() - answer.body.len() / 2);
            return stream.get_mut().write_all(&bytes).await;
        }
        stream.get_mut().write_all(&bytes).await?;
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut lines = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        length += line.len();
        assert!(length < HEAD_BYTES_MAX);
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    let header = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<_> = lines[1..].iter().map(header).collect();
    let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    let mut request = Request { method, path: decoded(path), query, headers, body: Bytes::new() };
    if request.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length: usize = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = body.into();
    Ok(Some(request))
}

async fn answer(shared: &Shared, request: &Request, under_way: u64) -> Answer {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let is_write = matches!(request.method.as_str(), "PUT" | "POST");
    let (refusal, pause) = {
        let state = shared.state();
        let slow = state.faults.iter().filter_map(|fault| match fault {
            Fault::Slow(pause) => Some(*pause),
            _ => None,
        });
        (
            state.faults.iter().find_map(|fault| fault.refuses(under_way, is_write, request.key())),
            slow.sum::<Duration>(),
        )
    };
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    match refusal {
        Some(Refusal::Error) => return Answer::error(500, "InternalError"),
        Some(Refusal::Told(status, code)) => return Answer::error(status, code),
        Some(Refusal::Conflict) => return Answer::error(409, "ConditionalRequestConflict"),
        Some(Refusal::SlowDown(None)) => return Answer::error(503, "SlowDown"),
        Some(Refusal::SlowDown(Some(seconds))) => {
            return Answer::error(503, "SlowDown").with("retry-after", seconds.to_string());
        }
        None => {}
    }
    match (request.method.as_str(), request.key()) {
        ("GET", "") if request.asked("versioning").is_some() => Answer::new(200, "<VersioningConfiguration/>"),
        ("GET", "") => listing(shared, request),
        ("GET", _) if request.asked("tagging").is_some() => Answer::new(200, "<Tagging><TagSet></TagSet></Tagging>"),
        ("GET" | "HEAD", key) => object(shared, request, key),
        ("POST" | "PUT" | "DELETE", key) => write(shared, request, key),
        _ => Answer::error(405, "MethodNotAllowed"),
    }
}

fn listing(shared: &Shared, request: &Request) -> Answer {
    let text = |name| request.asked(name).unwrap_or_default().to_owned();
    let asked = Asked {
        prefix: text("prefix"),
        start_after: text("start-after"),
        token: request.asked("continuation-token").map(str::to_owned),
        max_keys: request.asked("max-keys").map(|text| text.parse().unwrap()),
    };
    match page(shared, &asked) {
        Some(xml) => Answer::new(200, xml).with("content-type", "application/xml"),
        None => Answer::error(500, "InternalError"),
    }
}

fn object(shared: &Shared, request: &Request, key: &str) -> Answer {
    let state = shared.state();
    let found = match (state.stored.get(key), number_of(key, shared.keys)) {
        (Some(stored), _) => Some(stored.clone()),
        (None, Some(number)) => {
            let changed = state.changed.contains(&number);
            let (content, etag) = (content_of(number, changed), etag_of(number, changed));
            Some(Stored { content, etag, metadata: Vec::new() })
        }
        (None, None) => None,
    };
    let Some(Stored { content, etag, metadata }) = found else { return Answer::error(404, "NoSuchKey") };
    if request.header("if-match").is_some_and(|wanted| wanted.trim_matches('"') != etag) {
        return Answer::error(412, "PreconditionFailed");
    }
    let answer = Answer::new(200, content.clone()).with("etag", format!("\"{etag}\""));
    let answer = answer.with("last-modified", MODIFIED_HTTP).with("content-type", "application/octet-stream");
    let answer = metadata.into_iter().fold(answer, |answer, (name, value)| answer.with(&name, value));
    match request.method.as_str() {
        "HEAD" => answer.with("content-length", content.len().to_string()),
        _ => answer,
    }
}

fn write(shared: &Shared, request: &Request, key: &str) -> Answer {
    let mut state = shared.state();
    let metadata = || {
        let own = request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-"));
        own.cloned().collect::<Vec<_>>()
    };
    let content = match (request.method.as_str(), request.asked("uploadId")) {
        ("PUT", None) => request.body.clone(),
        ("POST", None) => {
            let id = format!("upload-{}", state.uploads.len());
            state.uploads.insert(id.clone(), Default::default());
            let xml =
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            return Answer::new(200, xml);
        }
        (method, Some(id)) => {
            let Some(parts) = state.uploads.get_mut(id) else { return Answer::error(404, "NoSuchUpload") };
            match method {
                "PUT" => {
                    let number = request.asked("partNumber").unwrap().parse().unwrap();
                    parts.insert(number, request.body.clone());
                    shared.written.fetch_add(request.body.len() as u64, Ordering::Relaxed);
                    return Answer::new(200, "").with("etag", format!("\"{}\"", digest(&request.body)));
                }
                "POST" => parts.values().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>().into(),
                _ => {
                    state.uploads.remove(id);
                    return Answer::new(204, "");
                }
            }
        }
        _ => return Answer::error(405, "MethodNotAllowed"),
    };
    shared.written.fetch_add(content.len() as u64, Ordering::Relaxed);
    let etag = digest(&content);
    state.stored.insert(key.to_owned(), Stored { content, etag: etag.clone(), metadata: metadata() });
    match request.method.as_str() {
        "POST" => Answer::new(
            200,
            format!("<CompleteMultipartUploadResult><ETag>\"{etag}\"</ETag></CompleteMultipartUploadResult>"),
        ),
        _ => Answer::new(200, "").with("etag", format!("\"{etag}\"")),
    }
}

fn digest(content: &[u8]) -> String {
    let mut hex = blake3::hash(content).to_hex().to_string();
    hex.truncate(32);
    hex
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
