//! A service at each site, its database, HAProxy before both, and a client that writes all the time: whoever is live, what was
//! acknowledged was acknowledged by one site at a time, and a planned switch loses none of it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use warmspare::config::address::DatabaseAddress;
use warmspare::postgres::{self, Server};

use crate::support::daemons::{NAMES, Pair};
use crate::support::postgres::PostgresServer;
use crate::support::sites::Sites;

const PATIENCE: Duration = Duration::from_secs(60);
/// Acknowledged writes that show that a site serves.
const ENOUGH: usize = 20;

/// What the service of a site needs to have in its database, and the role it logs in as.
const SERVICE: &str = "\
CREATE ROLE hab LOGIN PASSWORD 'hab';
CREATE TABLE public.writes (number bigint PRIMARY KEY, id bigserial);
GRANT INSERT, SELECT ON public.writes TO hab;
GRANT USAGE ON SEQUENCE public.writes_id_seq TO hab;";

/// The service of one site: what is posted to it is a row of the site's own database, written as the application's role.
struct Unit {
    task: JoinHandle<()>,
}

impl Unit {
    async fn start(site: &'static str, at: SocketAddr, server: &PostgresServer) -> Unit {
        let url = server.cluster().url("app");
        let (_, place) = url.split_once('@').unwrap();
        let address = DatabaseAddress { url: format!("postgresql://hab@{place}"), ..server.address("app") };
        let server = Server::new(&address, Some("hab".into())).unwrap();
        let listener = TcpListener::bind(at).await.unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = server.clone();
                tokio::spawn(async move { serve(site, client, &server).await });
            }
        });
        Unit { task }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(site: &str, mut client: TcpStream, server: &Server) {
    while let Some(head) = head(&mut client).await {
        let done = match head.strip_prefix("POST /").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            Some(number) => write(server, number).await,
            None => Ok(()),
        };
        let (status, words) = match done {
            Ok(()) => ("200 OK", site.to_owned()),
            Err(error) => ("503 Service Unavailable", error.to_string()),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{words}", words.len());
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn write(server: &Server, number: u64) -> Result<(), postgres::Error> {
    let session = server.connect().await?;
    let done = session.execute("writing", &format!("INSERT INTO public.writes (number) VALUES ({number})")).await;
    session.close().await;
    done
}

/// The head of a request or of an answer; nothing at the end of the connection.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Status and body of the answer to one request.
async fn ask(at: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).await.ok()?;
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: app\r\n\r\n").as_bytes()).await.ok()?;
    let head = head(&mut stream).await?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((status, String::from_utf8(body).ok()?))
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
struct Written {
    number: u64,
    site: String,
    begun: Duration,
    ended: Duration,
}

/// Writes through the balancer, several at a time, as long as it lives.
struct Client {
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<Written>>>,
    refused: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Client {
    fn start(at: SocketAddr) -> Client {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Written>>>::default());
        let (refused, numbers, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Instant::now());
        let tasks = (0..3).map(|_| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let (refused, numbers) = (Arc::clone(&refused), Arc::clone(&numbers));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (number, sent) = (numbers.fetch_add(1, Ordering::Relaxed), begun.elapsed());
                    let asked = tokio::time::timeout(Duration::from_secs(5), ask(at, &format!("POST /{number}"))).await;
                    match asked {
                        Ok(Some((200, site))) => {
                            let ended = begun.elapsed();
                            written.lock().unwrap().push(Written { number, site, begun: sent, ended });
                        }
                        _ => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        });
        Client { tasks: tasks.collect(), stop, written, refused }
    }

    fn by(&self, site: &str) -> Vec<Written> {
        self.written.lock().unwrap().iter().filter(|written| written.site == site).cloned().collect()
    }

    /// Waits until `site` has acknowledged enough besides the `known` ones.
    async fn until_served_by(&self, site: &str, known: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.by(site).len() < known + ENOUGH {
            assert!(Instant::now() < deadline, "{site} does not serve: {} writes", self.by(site).len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that was acknowledged, once nothing more is written.
    async fn end(self) -> Vec<Written> {
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
fn turns(written: &[Written]) -> Vec<(String, usize)> {
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

/// HAProxy, told what `gate config` prints.
struct Proxy(Child);

impl Proxy {
    fn start(pair: &Pair<Sites>, listen: u16, units: u16) -> Proxy {
        let port = format!("{listen}={units}:http:/health");
        let asked =
            ["gate", "config", "haproxy", "--unit", "ams=127.0.0.1", "--unit", "fra=127.0.0.2", "--port", &port];
        let snippet = String::from_utf8(pair.does("ams", &asked).stdout).unwrap();
        let file = pair.sites.path().join("haproxy.cfg");
        std::fs::write(&file, format!("global\n    maxconn 200\n{snippet}")).unwrap();
        let mut run = Command::new("setpriv");
        run.args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"]).arg(&file);
        Proxy(run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The numbers that are not in a server's database.
async fn lost(server: &PostgresServer, written: &[Written]) -> Vec<u64> {
    let session = server.session("app").await;
    let there = session.texts("reading", "SELECT number::text FROM public.writes").await.unwrap();
    session.close().await;
    let there: std::collections::BTreeSet<u64> = there.iter().map(|number| number.parse().unwrap()).collect();
    written.iter().map(|written| written.number).filter(|number| !there.contains(number)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn writes_go_to_one_site_at_a_time_and_a_planned_switch_loses_none() {
    let sites = Sites::filled().await;
    sites.live.sql("app", SERVICE).await;
    let pair = Pair::over(sites);
    pair.does("ams", &["witness", "init"]);
    let daemons = NAMES.map(|site| pair.start(site));
    let [_ams, fra] = &daemons;
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    let (listen, units) = (free_port(), free_port());
    let at = [SocketAddr::from(([127, 0, 0, 1], units)), SocketAddr::from(([127, 0, 0, 2], units))];
    let _units =
        [Unit::start("ams", at[0], &pair.sites.live).await, Unit::start("fra", at[1], &pair.sites.spare).await];
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    let _proxy = Proxy::start(&pair, listen, units);
    let client = Client::start(SocketAddr::from(([127, 0, 0, 1], listen)));
    client.until_served_by("ams", 0).await;
    pair.does("ams", &["capture"]);

    pair.does("ams", &["switchover", "--to", "fra", "--yes", "ams"]);
    let by_ams = client.by("ams");
    pair.until("fra", "sees it released", |status| status["record"]["mode"] == "released");
    pair.does("fra", &["failover", "--yes", "fra"]);
    client.until_served_by("fra", 0).await;
    assert_eq!(client.by("ams").len(), by_ams.len(), "ams acknowledged nothing after it had released");
    assert_eq!(lost(&pair.sites.spare, &by_ams).await, [0; 0], "acknowledged by ams, and not at fra");
    let term = "SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase \
                WHERE datname = 'app' AND setrole = 0";
    let settings = pair.sites.spare.value("postgres", term).await;
    assert!(settings.contains("warmspare.live_term=2"), "{settings}");
    let apart = "SELECT (max(id) - min(id) > 900)::text FROM public.writes";
    assert_eq!(pair.sites.spare.value("app", apart).await, "true", "sequences jump before the first write");

    // And back, not planned: fra says nothing any more, and ams, whose database was never restored, takes over.
    let before = client.by("fra");
    pair.does("fra", &["capture"]);
    fra.signal(Signal::STOP);
    pair.until_state("ams", "STANDBY");
    let known = client.by("ams").len();
    pair.does("ams", &["failover", "--replace", "--yes", "ams", "--why", "fra does not answer"]);
    client.until_served_by("ams", known).await;
    let at_fra = client.by("fra").len();
    fra.signal(Signal::CONT);
    pair.until_state("fra", "STALE");
    client.until_served_by("ams", known + ENOUGH).await;
    assert_eq!(client.by("fra").len(), at_fra, "fra acknowledged nothing after it woke up");
    assert_eq!(lost(&pair.sites.live, &before).await, [0; 0], "acknowledged before the last point, and not at ams");
    let turns = turns(&client.end().await);
    println!("{turns:?}");
    assert_eq!(turns.iter().map(|(site, _)| site.as_str()).collect::<Vec<_>>(), ["ams", "fra", "ams"]);

    pair.sites.live.sql("postgres", "ALTER DATABASE app SET warmspare.live_term = '9'").await;
    let refused = pair.refused("ams", &["capture"], 3);
    assert!(
        refused.contains("error: database app went live in term 9, and this capture is of term 3\nnext:"),
        "{refused}"
    );
    drop(daemons);
}
