//! The registry's service at each site, small as it can be, and what a client sees behind a load balancer that asks the gates.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::DemoError;
use crate::postgres::{self, Server};

/// Of a gate as of a service.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Longer than any request or answer here.
const BYTES_MAX: u64 = 4 << 10;

/// The service of a site; it ends when this is dropped.
pub(super) struct Service {
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Says how many packages there are, by asking the site's own server as the application's own role.
    pub async fn start(server: Server) -> Result<Service, DemoError> {
        let wrong = |source| DemoError::Network { what: "the demo's service", source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(wrong)?;
        let at = listener.local_addr().map_err(wrong)?;
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(client, &server).await {
                        tracing::debug!("a client of the demo's service went away: {error}");
                    }
                });
            }
        });
        Ok(Service { at, task })
    }
}

async fn serve(mut client: TcpStream, server: &Server) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") && client.read_buf(&mut asked).await? > 0 {}
    let (status, words) = match packages(server).await {
        Ok(packages) => ("200 OK", format!("{packages} packages")),
        Err(error) => ("503 Service Unavailable", error.to_string()),
    };
    let length = words.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}");
    client.write_all(answer.as_bytes()).await
}

async fn packages(server: &Server) -> Result<String, postgres::Error> {
    let session = server.connect().await?;
    let count = session.text("counting packages", "SELECT count(*)::text FROM public.origin_packages").await;
    session.close().await;
    count
}

/// A site as a load balancer knows it.
pub(super) struct Behind {
    /// Its name.
    pub(super) site: &'static str,
    /// Where its gate is.
    pub(super) gate: SocketAddr,
    /// Its service.
    pub(super) service: Service,
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// By a site whose gate is open.
    Served {
        /// The site.
        site: String,
        /// What it says.
        says: String,
    },
    /// No gate is open.
    Nobody,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Served { site, says } => write!(f, "{site} answers: {says}"),
            Answer::Nobody => f.write_str("nobody answers"),
        }
    }
}

/// Asks the gates, and the service of the first site whose gate is open.
pub(super) async fn ask(sites: &[Behind]) -> Answer {
    for Behind { site, gate, service } in sites {
        if is_open(*gate).await {
            let says = get(service.at, "/").await.map_or("its service does not answer".to_owned(), |(_, words)| words);
            return Answer::Served { site: (*site).to_owned(), says };
        }
    }
    Answer::Nobody
}

/// Whether a gate says so.
pub(super) async fn is_open(gate: SocketAddr) -> bool {
    get(gate, "/live").await.is_some_and(|(status, _)| status == 200)
}

/// The status and the text of an answer that came in time.
async fn get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(BYTES_MAX).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(ANSWER_MAX, asked).await.ok()?.ok()?;
    let (head, words) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, words.trim_end().to_owned()))
}
