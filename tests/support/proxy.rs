//! A proxy between a client and an HTTP server that does what networks and other stores do: lose replies, die in the
//! middle, ignore what they do not know.
//!
//! Every connection carries one request: the head is rewritten, the rest is passed on as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the proxy does.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Takes signature and conditions out of every request, so that the store behind it ignores both, as Garage ignores
    /// conditions. (They are signed; without them the signature would be wrong. The bucket has to be open to all.)
    IgnoresConditions,
    /// Speaks to S3 what was said to Google: the condition by its other name, and no signature.
    SpeaksGoogle,
    /// The reply to this many requests with a body is lost after the server has sent it.
    LosesReplies(usize),
    /// Of this many requests with a body it says 500 after the server has done them.
    SaysFailed(usize),
    /// Dies after so many bytes of the first upload.
    DiesAfter(usize),
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    endpoint: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `server` (`http://HOST:PORT`).
    pub async fn start(server: &str, fault: Fault) -> Proxy {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let lost = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (server, lost) = (server.clone(), Arc::clone(&lost));
                // A connection that breaks is the client's to notice.
                let Ok(head) = head_of(&mut client).await else { continue };
                match fault {
                    Fault::DiesAfter(bytes) if head.starts_with("PUT ") => return take(client, bytes).await,
                    _ => tokio::spawn(async move { pass(client, head, &server, fault, &lost).await.ok() }),
                };
            }
        });
        Proxy { endpoint, task }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
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
        && head.starts_with("PUT ")
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
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
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
        _ => line.to_owned(),
    });
    let lines: Vec<String> = renamed.chain(["connection: close".to_owned()]).collect();
    lines.join("\r\n") + "\r\n\r\n"
}
