//! What `gate config` prints, in the real programs: traffic follows the gates, nobody serves while both are closed, and writes are
//! refused while maintenance is on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use warmspare::error::Explain;
use warmspare::site::balancer::{Outline, Port, caddy, haproxy, nginx};

use crate::support::bucket_sites::BucketSites;
use crate::support::ports::free_port;

/// D of these tests: within it the last connection to a closed site is gone.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to wait for what takes D, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tiny HTTP server, and everything that it was asked.
struct Tiny {
    port: u16,
    well: Arc<AtomicBool>,
    /// Of a gate: whether it says no to `/writes`.
    maintenance: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Tiny {
    /// Says `word` with 200 while it is well, else 503 (or 403, for who asks for it).
    async fn start(word: &'static str, is_well: bool) -> Tiny {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (well, asked) = (Arc::new(AtomicBool::new(is_well)), Arc::<Mutex<Vec<String>>>::default());
        let maintenance = Arc::<AtomicBool>::default();
        let shared = (Arc::clone(&well), Arc::clone(&maintenance), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (is_well, maintenance, log) = shared.clone();
                tokio::spawn(async move {
                    while let Some(head) = head(&mut client).await {
                        let is_refused = head.starts_with("GET /writes") && maintenance.load(Ordering::Relaxed);
                        let denied =
                            if head.contains("deny=403") { "403 Forbidden" } else { "503 Service Unavailable" };
                        let is_yes = is_well.load(Ordering::Relaxed) && !is_refused;
                        let status = if is_yes { "200 OK" } else { denied };
                        let mut body = vec![0; length_of(&head)];
                        if client.read_exact(&mut body).await.is_err() {
                            return;
                        }
                        let (length, text) = (word.len(), if head.starts_with("HEAD ") { "" } else { word });
                        log.lock().unwrap().push(head);
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}");
                        if client.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Tiny { port, well, maintenance, asked, task }
    }

    fn set(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
    }

    fn maintain(&self, on: bool) {
        self.maintenance.store(on, Ordering::Relaxed);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of a request or of an answer; nothing at the end of the connection.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// How long the body is that follows, in what has a head like this.
fn length_of(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0)
}

/// Two sites, and the program before them.
struct Service {
    gates: [Tiny; 2],
    units: [Tiny; 2],
    program: Child,
    http: u16,
    tcp: u16,
    folder: tempfile::TempDir,
}

impl Service {
    /// Neither gate is open. `start` writes the file and says how the program is checked and run with it.
    async fn start(with_tcp: bool, start: impl Fn(&Outline, &Path) -> [Command; 2]) -> Service {
        let gates = [Tiny::start("gate", false).await, Tiny::start("gate", false).await];
        let units = [Tiny::start("ams", true).await, Tiny::start("fra", true).await];
        let (http, tcp) = (free_port(), free_port());
        // Units of one system have one port; here they are on one address, so that each has its own name for it.
        let folder = tempfile::tempdir().unwrap();
        let mut ports: Vec<Port> = vec![format!("{http}={}:http:/health", units[0].port).parse().unwrap()];
        if with_tcp {
            ports.push(format!("{tcp}={}:tcp", units[0].port).parse().unwrap());
        }
        let gate = |number: usize, site: &str| format!("{site}=127.0.0.1:{}", gates[number].port);
        let named = [gate(0, "ams"), gate(1, "fra")];
        let hosts = ["ams=127.0.0.1".to_owned(), "fra=127.0.0.2".to_owned()];
        let outline = Outline::new(("app", &["ams", "fra"]), &named, &hosts, &ports, DRAIN).unwrap();
        let [mut check, mut run] = start(&outline, folder.path());
        let checked = check.output().expect("haproxy, nginx and caddy are installed");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let program = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Service { gates, units, program, http, tcp, folder }
    }

    /// What a client is answered: the status, and who served it.
    async fn get(&self) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.http)).await else { return "no answer".to_owned() };
        ask(&mut stream).await
    }

    /// A write, on a connection of its own.
    async fn post(&self) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.http)).await else { return "no answer".to_owned() };
        word(send(&mut stream, "POST").await)
    }

    async fn until(&self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        while Instant::now() < deadline {
            said = self.get().await;
            if said == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a client is answered `{said}`, not `{expected}`")
    }

    /// For the whole of D, in which a balancer has noticed whatever there is to notice.
    async fn stays(&self, read: &str, written: &str) {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until {
            assert_eq!([self.get().await.as_str(), self.post().await.as_str()], [read, written]);
        }
    }

    async fn until_posted(&self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        while Instant::now() < deadline {
            said = self.post().await;
            if said == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a write is answered `{said}`, not `{expected}`")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        assert!(self.folder.path().exists());
    }
}

/// One request on a connection that stays open.
async fn ask(stream: &mut TcpStream) -> String {
    word(send(stream, "GET").await)
}

/// Who served it, or the status of a refusal.
fn word(answer: Option<(String, String)>) -> String {
    match answer {
        None => "cut".to_owned(),
        Some((status, body)) if status == "200" => body,
        Some((status, _)) => status,
    }
}

/// One request on a connection that stays open: status and text of the answer, if there is one.
async fn send(stream: &mut TcpStream, method: &str) -> Option<(String, String)> {
    let length = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
    let asked = format!("{method} /x HTTP/1.1\r\nHost: app\r\nX-Forwarded-Proto: https\r\n{length}");
    stream.write_all(asked.as_bytes()).await.ok()?;
    let head = head(stream).await?;
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut body = vec![0; if method == "HEAD" { 0 } else { length_of(&head) }];
    stream.read_exact(&mut body).await.ok()?;
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

fn proxied(outline: &Outline, folder: &Path) -> [Command; 2] {
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, format!("global\n    maxconn 200\n{}", haproxy(outline))).unwrap();
    let mut check = Command::new("haproxy");
    check.arg("-c").arg("-f").arg(&file);
    let mut run = Command::new("setpriv");
    run.args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"]).arg(&file);
    [check, run]
}

fn fronted(outline: &Outline, folder: &Path) -> [Command; 2] {
    let file = folder.join("nginx.conf");
    let paths = ["client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path"];
    let paths = paths.map(|path| format!("{path} {}/t;\n", folder.display())).concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{1}}}\n",
        folder.display(),
        nginx(outline).unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let program = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("-e").arg(folder.join("error.log")).arg("-c").arg(&file);
        command
    };
    [program(&["nginx", "-t"]), program(&["setpriv", "--pdeathsig", "KILL", "nginx"])]
}

fn caddied(outline: &Outline, folder: &Path) -> [Command; 2] {
    let file = folder.join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{}", caddy(outline).unwrap())).unwrap();
    let program = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--adapter").arg("caddyfile").arg("--config").arg(&file);
        // What it would keep in the home folder.
        command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
        command
    };
    [program(&["caddy", "validate"]), program(&["setpriv", "--pdeathsig", "KILL", "caddy", "run"])]
}

/// The unit of `fra` listens at 127.0.0.2, at the same port as the one of `ams`.
async fn beside(service: &Service) -> Tiny {
    let listener = TcpListener::bind(("127.0.0.2", service.units[0].port)).await.unwrap();
    let port = service.units[1].port;
    let task = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut unit) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut unit).await;
            });
        }
    });
    Tiny { port, well: Arc::default(), maintenance: Arc::default(), asked: Arc::default(), task }
}

/// What all of them must do.
async fn follows_the_gates(service: &Service) {
    service.until("503").await;
    service.gates[1].set(true);
    service.until("fra").await;
    let mut kept = TcpStream::connect(("127.0.0.1", service.http)).await.unwrap();
    assert_eq!(ask(&mut kept).await, "fra");
    service.gates[1].set(false);
    service.until("503").await;
    let said = ask(&mut kept).await;
    assert!(["503", "cut"].contains(&said.as_str()), "a kept-alive session still reaches fra: {said}");
    service.gates[0].set(true);
    service.until("ams").await;
    let asked = service.units[0].asked();
    let request = asked.iter().rfind(|head| head.starts_with("GET /x ")).expect("a client was served");
    let proto: Vec<&str> =
        request.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-forwarded-proto")).collect();
    assert_eq!(proto.len(), 1, "{request}");
    assert!(proto[0].ends_with(": http"), "what the client said of TLS is dropped: {request}");
}

/// `gate maintenance on` at the site that is live: reads pass, writes do not, and above all not to the other site. ams is live.
async fn maintenance_stops_writes_alone(service: &Service) {
    service.until("ams").await;
    service.until_posted("ams").await;
    // The site that is not live changes nothing by being in maintenance.
    service.gates[1].maintain(true);
    service.stays("ams", "ams").await;
    service.gates[0].maintain(true);
    service.until_posted("503").await;
    let posted =
        || service.units.each_ref().map(|unit| unit.asked().iter().filter(|head| head.starts_with("POST")).count());
    let before = posted();
    let mut kept = TcpStream::connect(("127.0.0.1", service.http)).await.unwrap();
    for method in ["GET", "OPTIONS", "POST", "HEAD", "GET", "PUT", "DELETE", "PATCH", "BREW"] {
        let (status, text) = send(&mut kept, method).await.unwrap();
        let is_read = ["GET", "HEAD", "OPTIONS"].contains(&method);
        let served = if method == "HEAD" { "" } else { "ams" };
        let expected = if is_read {
            ("200", served)
        } else {
            ("503", "writes are refused for now: maintenance, or no site is live")
        };
        assert_eq!((status.as_str(), text.as_str()), expected, "{method}, on a session that is kept");
    }
    assert_eq!(posted(), before, "no write reached a unit of either site");
    service.gates[1].maintain(false);
    // Nor by being out of it, while its gate is closed.
    service.stays("ams", "503").await;
    service.gates[0].maintain(false);
    service.until_posted("ams").await;
    // On at a site that closes: it hinders the other one in nothing.
    service.gates[0].maintain(true);
    service.until_posted("503").await;
    service.gates[0].set(false);
    service.gates[1].set(true);
    service.until("fra").await;
    service.until_posted("fra").await;
    service.gates[1].set(false);
    service.gates[0].maintain(false);
    service.gates[0].set(true);
    service.until("ams").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_sends_traffic_where_the_gate_is_open_and_cuts_what_is_connected() {
    let service = Service::start(true, proxied).await;
    let _fra = beside(&service).await;
    follows_the_gates(&service).await;
    maintenance_stops_writes_alone(&service).await;
    let mut passed = TcpStream::connect(("127.0.0.1", service.tcp)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while ask(&mut passed).await != "ams" {
        assert!(Instant::now() < deadline, "TCP is not passed through");
        tokio::time::sleep(Duration::from_millis(20)).await;
        passed = TcpStream::connect(("127.0.0.1", service.tcp)).await.unwrap();
    }
    // A unit that is ill gets nothing, though the gate is open.
    service.units[0].set(false);
    service.until("503").await;
    service.units[0].set(true);
    service.until("ams").await;
    assert_eq!(ask(&mut passed).await, "ams", "TCP is not asked for the health of HTTP");
    service.gates[0].set(false);
    let mut byte = [0];
    let cut = tokio::time::timeout(PATIENCE, passed.read(&mut byte)).await.expect("what is connected is cut");
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    service.until("503").await;
    // A gate that is gone is closed, whatever its units say, and the other one counts.
    service.gates[0].set(true);
    service.until("ams").await;
    service.gates[0].task.abort();
    service.until("503").await;
    service.gates[1].set(true);
    service.until("fra").await;
    service.until_posted("fra").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_asks_the_gate_before_each_request() {
    let service = Service::start(false, fronted).await;
    let _fra = beside(&service).await;
    follows_the_gates(&service).await;
    maintenance_stops_writes_alone(&service).await;
    // A gate that is gone is closed, and the other one is asked.
    service.gates[0].task.abort();
    service.gates[1].set(true);
    service.until("fra").await;
    hears_nothing_of_the_client(&service).await;
}

/// A gate refuses a head that is too long: what a client sends must not decide whether a site is closed, nor be told to it.
async fn hears_nothing_of_the_client(service: &Service) {
    let mut stream = TcpStream::connect(("127.0.0.1", service.http)).await.unwrap();
    let cookie = "c".repeat(6000);
    let asked = format!("POST /x?y=1 HTTP/1.1\r\nHost: app\r\nCookie: {cookie}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let answered = head(&mut stream).await.expect("an answer");
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let of_units: Vec<String> = service.units.iter().flat_map(Tiny::asked).collect();
    assert!(of_units.iter().any(|head| head.starts_with("POST /x?y=1 ") && head.contains(&cookie)), "{of_units:?}");
    for asked in service.gates.iter().flat_map(Tiny::asked) {
        let is_question = asked.starts_with("GET /live") || asked.starts_with("GET /writes");
        assert!(is_question && !asked.contains("y=1") && asked.len() < 500, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_asks_the_gate_before_each_request() {
    let service = Service::start(false, caddied).await;
    let _fra = beside(&service).await;
    follows_the_gates(&service).await;
    maintenance_stops_writes_alone(&service).await;
    // A unit that is ill gets nothing, though the gate is open; nor does the other site, whose gate is closed.
    service.units[0].set(false);
    service.until("503").await;
    service.units[0].set(true);
    service.until("ams").await;
    // A gate that is gone is closed, and the other one is asked.
    service.gates[0].task.abort();
    service.gates[1].set(true);
    service.until("fra").await;
    hears_nothing_of_the_client(&service).await;
    service.gates[1].set(false);
    service.until("503").await;
}

#[test]
fn what_cannot_be_written_down_is_refused_with_words() {
    let said = |gates: &[&str], units: &[&str], ports: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let ports = ports.iter().map(|port| port.parse()).collect::<Result<Vec<Port>, _>>();
        let error = match ports {
            Ok(ports) => match Outline::new(("app", &["ams", "fra"]), &owned(gates), &owned(units), &ports, DRAIN) {
                Ok(outline) => nginx(&outline).unwrap_err(),
                Err(error) => error,
            },
            Err(error) => error,
        };
        assert_eq!(error.class().exit_code(), 2);
        assert!(
            error
                .next_step()
                .is_some_and(|next| next.contains("--") || next.contains("once") || next.contains("HAProxy"))
        );
        error.to_string()
    };
    let gates = ["ams=10.1.0.2:7777", "fra=[fd00::2]:7777"];
    let units = ["ams=10.1.0.11", "fra=u-1.fra.example"];
    let check = |said: String, expected: &str| assert_eq!(said, expected);
    check(said(&gates, &units, &["443:tcp"]), "nginx cannot ask a gate before it passes TCP through (port 443)");
    let outline = |port: &str| {
        Outline::new(
            ("app", &["ams", "fra"]),
            &gates.map(str::to_owned),
            &units.map(str::to_owned),
            &[port.parse().unwrap()],
            DRAIN,
        )
    };
    let refused = caddy(&outline("443:tcp").unwrap()).unwrap_err();
    assert_eq!(refused.to_string(), "Caddy cannot ask a gate before it passes TCP through (port 443)");
    check(said(&gates, &units, &["80:http:/", "80:tcp"]), "port 80 is there twice");
    check(said(&gates, &units[..1], &["80:http:/"]), "fra has no unit");
    check(said(&gates[..1], &units, &["80:http:/"]), "fra has no gate");
    check(
        said(&gates, &["ber=10.1.0.11"], &[]),
        "unit `ber=10.1.0.11` cannot be used: it names no site of the configuration",
    );
    check(said(&["ams=x; }:1"], &units, &[]), "gate `ams=x; }:1` cannot be used: it is no HOST:PORT");
    check(said(&gates, &["ams=a b"], &[]), "unit `ams=a b` cannot be used: it is no host; ports are named with --port");
    let path =
        "port `80:http:/a\nb` cannot be used: it is neither `tcp` nor `http:` and the path of a unit's health check";
    check(said(&gates, &units, &["80:http:/a\nb"]), path);
    check(said(&gates, &units, &["0:tcp"]), "port `0:tcp` cannot be used: a port is a number from 1 to 65535");
}

#[test]
fn the_gates_are_where_the_configuration_says_unless_they_are_named() {
    let sites = BucketSites::folders();
    let ams = "[sites.ams]\n";
    sites.edit_configuration(
        ams,
        &format!("{ams}gate = {{ listen = \"0.0.0.0:7777\", url = \"http://10.1.0.2:7777\" }}\n"),
    );
    let command =
        ["gate", "config", "haproxy", "--unit", "ams=10.1.0.11", "--unit", "fra=10.2.0.11", "--port", "80:http:/"];
    let words = sites.words("ams", &command, 2);
    assert!(words.contains("error: fra has no gate\nnext:  Write under [sites.fra] where"), "{words}");
    let named = |gates: &[&str]| {
        let words: Vec<&str> = command.iter().chain(gates).copied().collect();
        String::from_utf8(sites.ended("ams", &words, 0).stdout).unwrap()
    };
    let printed = named(&["--gate", "fra=10.2.0.2:7778"]);
    assert!(printed.contains("10.1.0.2") && printed.contains("7777") && printed.contains("7778"), "{printed}");
    let printed = named(&["--gate", "fra=10.2.0.2:7778", "--gate", "ams=10.9.9.9:7777"]);
    assert!(printed.contains("10.9.9.9") && !printed.contains("10.1.0.2"), "{printed}");
}
