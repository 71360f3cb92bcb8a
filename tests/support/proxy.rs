//! A proxy between a client and an HTTP server that does what networks and other stores do: lose replies, die in the
//! middle, ignore what they do not know.
//!
//! Every connection carries one request: the head is rewritten, the rest is passed on as it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How much of a reply passes before it is cut: its head, and something of the content.
const CUT_AFTER: u64 = 4 << 10;

/// What the proxy does.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Takes signature and conditions out of every request, so that the store behind it ignores both, as Garage ignores
    /// conditions. (They are signed; without them the signature would be wrong. The bucket has to be open to all.)
    IgnoresConditions,
    /// Speaks to S3 what was said to Google: condition, metadata and a copy's source by their other names, and no signature.
    SpeaksGoogle,
    /// The reply to this many requests with a body is lost after the server has sent it.
    LosesReplies(usize),
    /// Of this many requests with a body it says 500 after the server has done them.
    SaysFailed(usize),
    /// Answers every request to copy with this, and does not pass it on.
    AnswersCopiesItself(&'static str),
    /// Dies after so many bytes of the first upload.
    DiesAfter(usize),
    /// Changes the last byte of the body number so many, from 1.
    SpoilsBody(usize),
    /// Refuses whatever is not signed with its content, as a policy of AWS can.
    RefusesUnsigned,
    /// The replies to this many reads of a key that begins with `broken` end in the midst of the body.
    BreaksReads(usize),
    /// Refuses to give what is called `broken`, as a server does with what lies in an archive; `but` not where the request says that.
    Archives { but: &'static str },
    /// Breaks off in the middle of the content of every object whose path begins so.
    CutsBodies(&'static str),
    /// Keeps every reply to what changes something for so long.
    DelaysReplies(Duration),
}

/// A request that changes something, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Write {
    pub began: Instant,
    /// When it was answered, or the client gave it up.
    pub ended: Option<Instant>,
    pub line: String,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    endpoint: String,
    task: JoinHandle<()>,
    counted: Arc<AtomicUsize>,
    writes: Arc<Mutex<Vec<Write>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy before `server` (`http://HOST:PORT`).
    pub async fn start(server: &str, fault: Fault) -> Proxy {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let lost = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lost);
        let writes: Arc<Mutex<Vec<Write>>> = Arc::default();
        let log = Arc::clone(&writes);
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = Arc::clone(&lines);
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (server, lost) = (server.clone(), Arc::clone(&lost));
                // A connection that breaks is the client's to notice.
                let Ok(head) = head_of(&mut client).await else { continue };
                all.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                if is_write(&head) {
                    let line = head.lines().next().unwrap_or_default().to_owned();
                    log.lock().unwrap().push(Write { began: Instant::now(), ended: None, line });
                }
                let (log, number) = (Arc::clone(&log), log.lock().unwrap().len());
                let ended = move || {
                    let mut log = log.lock().unwrap();
                    let written = number.checked_sub(1).and_then(|number| log.get_mut(number));
                    written.map(|write| write.ended = Some(Instant::now()))
                };
                let is_copy = head.to_ascii_lowercase().contains("\r\nx-amz-copy-source:");
                match fault {
                    Fault::AnswersCopiesItself(answer) if is_copy => {
                        tokio::spawn(async move { client.write_all(answer.as_bytes()).await.ok() })
                    }
                    Fault::DiesAfter(bytes) if head.starts_with("PUT ") => return take(client, bytes).await,
                    Fault::Archives { but } if is_read_of_broken(&head) && !head.contains(but) => {
                        lost.fetch_add(1, Ordering::Relaxed);
                        let code = "InvalidObjectState";
                        tokio::spawn(async move { refuse(client, &head, code).await.ok() })
                    }
                    Fault::BreaksReads(times)
                        if is_read_of_broken(&head) && lost.fetch_add(1, Ordering::Relaxed) < times =>
                    {
                        tokio::spawn(async move { break_off(client, head, &server).await.ok() })
                    }
                    Fault::RefusesUnsigned if head.contains("UNSIGNED-PAYLOAD") => {
                        lost.fetch_add(1, Ordering::Relaxed);
                        tokio::spawn(async move { refuse(client, &head, "AccessDenied").await.ok() })
                    }
                    Fault::SpoilsBody(number) if length_of(&head) > 0 => {
                        let is_it = lost.fetch_add(1, Ordering::Relaxed) + 1 == number;
                        tokio::spawn(async move { spoil(client, head, &server, is_it).await.ok() })
                    }
                    _ if is_write(&head) => tokio::spawn(async move {
                        let _ = pass(client, head, &server, fault, &lost).await;
                        ended()
                    }),
                    _ => tokio::spawn(async move { pass(client, head, &server, fault, &lost).await.ok() }),
                };
            }
        });
        Proxy { endpoint, task, counted, writes, lines }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How many requests the fault was about.
    pub fn counted(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }

    /// The first line of each request since this was asked last.
    pub fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// The requests so far that change something.
    pub fn writes(&self) -> Vec<Write> {
        self.writes.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(mut client: TcpStream, mut bytes: usize) {
    let mut buffer = vec![0; 16 << 10];
    while bytes > 0 {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes = bytes.saturating_sub(read),
        }
    }
}

fn length_of(head: &str) -> usize {
    let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    head.lines().find_map(length).unwrap_or(0)
}

async fn body_of(client: &mut TcpStream, head: &str) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length_of(head)];
    client.read_exact(&mut body).await?;
    Ok(body)
}

fn is_read_of_broken(head: &str) -> bool {
    head.starts_with("GET ") && head.lines().next().is_some_and(|line| line.contains("/broken"))
}

async fn break_off(mut client: TcpStream, head: String, server: &str) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    server.write_all(rewritten(&head, Fault::BreaksReads(0)).as_bytes()).await?;
    let mut answer = Vec::new();
    while !answered(&answer) {
        answer.push(server.read_u8().await?);
    }
    client.write_all(&answer).await?;
    tokio::io::copy(&mut server.take(1_000), &mut client).await.map(drop)
}

async fn refuse(mut client: TcpStream, head: &str, code: &str) -> std::io::Result<()> {
    body_of(&mut client, head).await?;
    let said = format!("<Error><Code>{code}</Code><Message>explicit deny</Message></Error>");
    let answer = format!("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}", said.len());
    client.write_all(answer.as_bytes()).await
}

async fn spoil(mut client: TcpStream, head: String, server: &str, is_it: bool) -> std::io::Result<()> {
    let mut body = body_of(&mut client, &head).await?;
    if let Some(last) = body.last_mut().filter(|_| is_it) {
        *last ^= 1;
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_all(rewritten(&head, Fault::SpoilsBody(0)).as_bytes()).await?;
    server.write_all(&body).await?;
    tokio::io::copy(&mut server, &mut client).await.map(drop)
}

async fn head_of(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn pass(
    mut client: TcpStream,
    head: String,
    server: &str,
    fault: Fault,
    lost: &AtomicUsize,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    server.write_all(rewritten(&head, fault).as_bytes()).await?;
    if let Fault::LosesReplies(count) | Fault::SaysFailed(count) = fault
        && (head.starts_with("PUT ") || head.starts_with("POST /v3/kv/txn "))
        && lost.fetch_add(1, Ordering::Relaxed) < count
    {
        let (mut from, mut to) = client.split();
        let (mut reply, mut request) = server.split();
        let sending = tokio::io::copy(&mut from, &mut request);
        let mut answer = Vec::new();
        let answering = async {
            // The reply has come when the server has said its status, other than the one that asks for the body.
            while !answered(&answer) {
                let mut block = vec![0; 4 << 10];
                let read = reply.read(&mut block).await?;
                if answer.is_empty() && block.starts_with(b"HTTP/1.1 100") {
                    to.write_all(&block[..read]).await?;
                    continue;
                }
                if read == 0 {
                    break;
                }
                answer.extend_from_slice(&block[..read]);
            }
            std::io::Result::Ok(())
        };
        tokio::select! { _ = sending => {}, _ = answering => {} }
        if matches!(fault, Fault::SaysFailed(_)) {
            let failed = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            client.write_all(failed).await?;
        }
        return Ok(());
    }
    if let Fault::DelaysReplies(delay) = fault
        && is_write(&head)
    {
        let (mut from, mut to) = client.split();
        let (mut reply, mut request) = server.split();
        let answering = async {
            tokio::time::sleep(delay).await;
            tokio::io::copy(&mut reply, &mut to).await
        };
        tokio::select! {
            // A client that gives up closes.
            sent = tokio::io::copy(&mut from, &mut request) => { sent?; }
            answered = answering => { answered?; }
        }
        return Ok(());
    }
    if let Fault::CutsBodies(path) = fault
        && head.starts_with(&format!("GET {path}"))
    {
        let mut reply = server.take(CUT_AFTER);
        return tokio::io::copy(&mut reply, &mut client).await.map(drop);
    }
    if let Fault::SpeaksGoogle = fault {
        return answer_as_google(&mut client, &mut server).await;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn is_write(head: &str) -> bool {
    !head.starts_with("GET ") && !head.starts_with("HEAD ")
}

async fn answer_as_google(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = client.split();
    let (mut reply, mut request) = server.split();
    let sending = async {
        tokio::io::copy(&mut from, &mut request).await.ok();
        std::future::pending::<()>().await;
    };
    let answering = async {
        let mut head = Vec::new();
        while !answered(&head) {
            head.push(reply.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).replace("x-amz-meta-", "x-goog-meta-");
        to.write_all(head.as_bytes()).await?;
        tokio::io::copy(&mut reply, &mut to).await
    };
    tokio::select! { () = sending => Ok(()), done = answering => done.map(drop) }
}

fn answered(answer: &[u8]) -> bool {
    answer.windows(4).any(|end| end == b"\r\n\r\n")
}

fn rewritten(head: &str, fault: Fault) -> String {
    let dropped: &[&str] = match fault {
        Fault::IgnoresConditions => {
            &["if-none-match", "if-match", "authorization", "x-amz-date", "x-amz-content-sha256"]
        }
        Fault::SpeaksGoogle => &["authorization"],
        _ => &[],
    };
    let kept = head.trim_end().lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name != "connection" && !dropped.contains(&name.as_str())
    });
    let renamed = kept.map(|line| match fault {
        Fault::SpeaksGoogle if line.to_ascii_lowercase().starts_with("x-goog-if-generation-match: 0") => {
            "if-none-match: *".to_owned()
        }
        Fault::SpeaksGoogle if line.to_ascii_lowercase().starts_with("x-goog-meta-") => {
            format!("x-amz-meta-{}", &line["x-goog-meta-".len()..])
        }
        Fault::SpeaksGoogle if line.to_ascii_lowercase().starts_with("x-goog-copy-source:") => {
            format!("x-amz-copy-source:{}", &line["x-goog-copy-source:".len()..])
        }
        _ => line.to_owned(),
    });
    let lines: Vec<String> = renamed.chain(["connection: close".to_owned()]).collect();
    lines.join("\r\n") + "\r\n\r\n"
}
