//! A web server that takes what it is sent, remembers it, and answers what it is told to.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Path and body of a request.
pub type Taken = (String, String);

/// It ends when it is dropped.
pub struct Receiver {
    address: std::net::SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// One that answers 200.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, status) = (Arc::default(), Arc::new(AtomicU16::new(200)));
        let (shared, answer) = (Arc::clone(&taken), Arc::clone(&status));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&answer)));
            }
        });
        Receiver { address, taken, status, task }
    }

    /// The address of `path` on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What was sent since this was asked last.
    pub fn taken(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, taken: Arc<Mutex<Vec<Taken>>>, status: Arc<AtomicU16>) {
    let mut read = Vec::new();
    loop {
        let head = match read.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => at + 4,
            None if stream.read_buf(&mut read).await.unwrap_or(0) == 0 => return,
            None => continue,
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap();
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        let end = head + length.unwrap_or(0);
        while read.len() < end {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the body is cut");
        }
        let path = text.split_whitespace().nth(1).unwrap().to_owned();
        let body = String::from_utf8(read[head..end].to_vec()).unwrap();
        taken.lock().unwrap().push((path, body));
        read.drain(..end);
        let status = status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} Answer\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
