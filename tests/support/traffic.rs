//! A service at each site, and a client that writes through a load balancer all the time and remembers what was acknowledged.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use warmspare::config::address::DatabaseAddress;
use warmspare::postgres::Server;

use super::postgres::PostgresServer;

const PATIENCE: Duration = Duration::from_secs(180);
/// Acknowledged writes that show that a site serves.
pub const ENOUGH: usize = 20;

/// Both directions of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where something listens.
#[derive(Clone, Debug)]
pub enum At {
    Port(SocketAddr),
    Socket(PathBuf),
}

impl At {
    async fn connect(&self) -> Option<Box<dyn Stream>> {
        Some(match self {
            At::Port(port) => Box::new(TcpStream::connect(port).await.ok()?),
            At::Socket(path) => Box::new(UnixStream::connect(path).await.ok()?),
        })
    }
}

enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

impl Listener {
    async fn bind(at: &At) -> Listener {
        match at {
            At::Port(port) => Listener::Port(TcpListener::bind(port).await.unwrap()),
            At::Socket(path) => Listener::Socket(UnixListener::bind(path).unwrap()),
        }
    }

    async fn accept(&self) -> Box<dyn Stream> {
        match self {
            Listener::Port(listener) => Box::new(listener.accept().await.unwrap().0),
            Listener::Socket(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

/// Where a site's service writes.
#[derive(Clone)]
pub enum Store {
    /// Rows of its database, as the application's role.
    Database(Server),
    /// Objects of its bucket.
    Folder(PathBuf),
}

impl Store {
    /// The table `writes` of a site's database, as the role `hab`.
    pub fn database(server: &PostgresServer) -> Store {
        let url = server.cluster().url("app");
        let (_, place) = url.split_once('@').unwrap();
        let address = DatabaseAddress { url: format!("postgresql://hab@{place}"), ..server.address("app") };
        Store::Database(Server::new(&address, Some("hab".into())).unwrap())
    }

    async fn write(&self, number: u64) -> Result<(), String> {
        match self {
            Store::Database(server) => {
                let session = server.connect().await.map_err(|error| error.to_string())?;
                let sql = format!("INSERT INTO public.writes (number) VALUES ({number})");
                let done = session.execute("writing", &sql).await;
                session.close().await;
                done.map_err(|error| error.to_string())
            }
            Store::Folder(folder) => std::fs::write(folder.join(format!("write-{number}")), number.to_string())
                .map_err(|error| error.to_string()),
        }
    }
}

/// The service of one site: what is posted to it is written to the site's own store.
pub struct Unit(JoinHandle<()>);

impl Unit {
    pub async fn start(site: &'static str, at: &At, store: Store) -> Unit {
        let listener = Listener::bind(at).await;
        Unit(tokio::spawn(async move {
            loop {
                let client = listener.accept().await;
                let store = store.clone();
                tokio::spawn(async move { serve(site, client, &store).await });
            }
        }))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(site: &str, mut client: Box<dyn Stream>, store: &Store) {
    while let Some(head) = head(&mut *client).await {
        let done = match head.strip_prefix("POST /").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            Some(number) => store.write(number).await,
            None => Ok(()),
        };
        let (status, words) = match done {
            Ok(()) => ("200 OK", site.to_owned()),
            Err(error) => ("503 Service Unavailable", error),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{words}", words.len());
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The head of a request or of an answer; nothing at the end of the connection.
async fn head(stream: &mut dyn Stream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Status and body of the answer to one request.
async fn ask(at: &At, request: &str) -> Option<(u16, String)> {
    let mut stream = at.connect().await?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.ok()?;
    let head = head(&mut *stream).await?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((status, String::from_utf8(body).ok()?))
}

/// Waits until a load balancer has noticed that nobody is live: HAProxy believes in servers until it has checked them.
pub async fn until_refused(at: &At) {
    let begun = Instant::now();
    while !matches!(ask(at, "GET /x").await, Some((503, _))) {
        assert!(begun.elapsed() < PATIENCE, "somebody serves, and nobody is live");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    pub number: u64,
    pub site: String,
    /// When it was sent, and when it was acknowledged, on the client's clock.
    pub begun: Duration,
    pub ended: Duration,
}

/// Writes through the balancer, several at a time, as long as it lives.
pub struct Client {
    since: Instant,
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<Written>>>,
    refused: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Client {
    pub fn start(at: &At) -> Client {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Written>>>::default());
        let (refused, numbers, since) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Instant::now());
        let tasks = (0..3).map(|_| {
            let (stop, written, at) = (Arc::clone(&stop), Arc::clone(&written), at.clone());
            let (refused, numbers) = (Arc::clone(&refused), Arc::clone(&numbers));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (number, sent) = (numbers.fetch_add(1, Ordering::Relaxed), since.elapsed());
                    let asked =
                        tokio::time::timeout(Duration::from_secs(5), ask(&at, &format!("POST /{number}"))).await;
                    match asked {
                        Ok(Some((200, site))) => {
                            let ended = since.elapsed();
                            written.lock().unwrap().push(Written { number, site, begun: sent, ended });
                        }
                        _ => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        });
        Client { since, tasks: tasks.collect(), stop, written, refused }
    }

    /// The client's clock.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    pub fn by(&self, site: &str) -> Vec<Written> {
        self.written.lock().unwrap().iter().filter(|written| written.site == site).cloned().collect()
    }

    /// Waits until `site` has acknowledged enough besides the `known` ones.
    pub async fn until_served_by(&self, site: &str, known: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.by(site).len() < known + ENOUGH {
            assert!(Instant::now() < deadline, "{site} does not serve: {} writes", self.by(site).len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that was acknowledged, once nothing more is written.
    pub async fn end(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let mut written = self.written.lock().unwrap().clone();
        written.sort_by_key(|written| written.begun);
        println!("{} writes acknowledged, {} not", written.len(), self.refused.load(Ordering::Relaxed));
        written
    }
}

/// Never was a write to one site under way when the other one, live before or after it, acknowledged one: the sites take turns.
pub fn turns(written: &[Written]) -> Vec<(String, usize)> {
    let mut turns: Vec<(String, usize)> = Vec::new();
    let mut latest: Option<&Written> = None;
    for one in written {
        match (turns.last_mut(), latest) {
            (Some((site, count)), _) if *site == one.site => *count += 1,
            (_, before) => {
                if let Some(before) = before {
                    assert!(before.ended <= one.begun, "{before:?} was not over when {one:?} began");
                }
                turns.push((one.site.clone(), 1));
            }
        }
        latest = latest.filter(|latest| latest.ended > one.ended).or(Some(one));
    }
    turns
}
