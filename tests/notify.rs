//! Alarms that reach people: each once, each recalled once, by real receivers, over a real vault, on a clock that the test moves.

mod faults;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use warmspare::clock::{Clock, SystemClock};
use warmspare::config::{Config, Here};
use warmspare::jobs::{Pause, Run, RunVerdict, Standing};
use warmspare::notify::Watch;
use warmspare::observe::Progress;
use warmspare::report::Verdict;

use crate::support::receiver::{Receiver, Taken};
use crate::support::sites::{Sites, shown};

/// A clock that a test moves.
#[derive(Clone)]
struct Moved(Arc<Mutex<Timestamp>>);

impl Moved {
    fn new() -> Self {
        Moved(Arc::new(Mutex::new(SystemClock.now())))
    }

    fn on(&self, minutes: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_mins(minutes);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Sites with these sinks, and `URL` files for them.
async fn sites(sinks: &[(&str, &str, String)]) -> Sites {
    let sites = Sites::filled().await;
    let mut text = fs::read_to_string(sites.configuration()).unwrap();
    for (name, more, url) in sinks {
        let file = sites.path().join(format!("{name}.url"));
        fs::write(&file, url).unwrap();
        text += &format!("\n[notify.{name}]\nurl = \"file:{}\"\n{more}\n", file.display());
    }
    fs::write(sites.configuration(), text).unwrap();
    sites
}

fn here(sites: &Sites, site: &str) -> Here {
    Here::new(Config::load(&sites.configuration()).unwrap(), site).unwrap()
}

fn job(name: &str, now: Timestamp) -> Standing {
    Standing {
        name: name.to_owned(),
        kind: name.to_owned(),
        runs_here: true,
        running_since: None,
        last: None,
        done_at: None,
        failures: 0,
        failures_allowed: 0,
        next_at: Some(now),
        late_since: None,
        pause: None,
        waits_for: None,
    }
}

/// The notices that a receiver has had, as `change key`.
fn notices(taken: Vec<Taken>) -> Vec<String> {
    let mut all = Vec::new();
    for (_, body) in taken {
        let message: Value = serde_json::from_str(&body).unwrap();
        let text = |notice: &Value, key: &str| notice[key].as_str().unwrap().to_owned();
        let notices = message["notices"].as_array().unwrap();
        all.extend(notices.iter().map(|notice| format!("{} {}", text(notice, "change"), text(notice, "key"))));
    }
    all
}

/// The other site lives; each look of the watched site then finds nothing wrong.
fn say_something(sites: &Sites) {
    sites.run("ams", &["check"]);
    sites.run("fra", &["check"]);
}

#[tokio::test]
async fn the_spare_alarms_when_the_live_site_is_dead_and_recalls_it_when_it_is_back() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"", receiver.url("/hook"))]).await;
    let clock = Moved::new();
    let (live, spare) = (here(&sites, "ams"), here(&sites, "fra"));
    let capture =
        || async { warmspare::point::take(&live, Arc::new(clock.clone()), &Progress::silent()).await.unwrap() };
    capture().await;
    sites.run("fra", &["restore"]);
    say_something(&sites);
    let mut watch = Watch::new(&spare, Arc::new(clock.clone())).unwrap();
    assert_eq!(watch.look(&spare, None, Vec::new()).await.verdict, Verdict::Fresh);
    assert_eq!(receiver.taken(), []);

    // The live site says nothing from here on.
    clock.on(61);
    watch.look(&spare, None, Vec::new()).await;
    let taken = receiver.taken();
    assert_eq!(taken[0].0, "/hook");
    assert_eq!(notices(taken), ["raised site.ams.silent"]);
    clock.on(60);
    watch.look(&spare, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["raised point.late"]);
    // A restart changes nothing, and an alarm that stands is told again a day after.
    let mut watch = Watch::new(&spare, Arc::new(clock.clone())).unwrap();
    watch.look(&spare, None, Vec::new()).await;
    assert_eq!(receiver.taken(), []);
    clock.on(24 * 60);
    capture().await;
    let said = watch.look(&spare, None, Vec::new()).await;
    assert_eq!(said.newest.met, Some(true));
    // Nobody has restored for more than a day, either.
    assert_eq!(notices(receiver.taken()), ["raised proof.late", "repeated site.ams.silent", "recovered point.late"]);
    watch.look(&spare, None, Vec::new()).await;
    assert_eq!(receiver.taken(), [], "once");
}

#[tokio::test]
async fn jobs_that_fail_never_ran_or_are_paused_are_told_once_and_recalled_once() {
    let (hook, slack, ping) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let sites = sites(&[
        ("hook", "kind = \"webhook\"", hook.url("/")),
        ("chat", "kind = \"slack\"\nwhen = [\"alarm\"]", slack.url("/T0/B0")),
        ("hc", "kind = \"ping\"\njob = \"capture\"", ping.url("/uuid")),
    ])
    .await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    say_something(&sites);
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let now = clock.now();
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    let run = |verdict: RunVerdict, what: &str, minutes: i64| Run {
        due_at: None,
        started_at: now,
        ended_at: now + SignedDuration::from_mins(minutes),
        verdict,
        what: what.to_owned(),
        point: None,
    };
    let mut capture = job("capture", now);
    (capture.failures, capture.last) = (1, Some(run(RunVerdict::Failed, "database app: connection refused", 1)));
    let mut verify = job("verify", now);
    verify.late_since = Some(now);
    let mut prune = job("prune", now);
    let (until, why) = (now + SignedDuration::from_hours(9), "a migration".to_owned());
    prune.pause = Some(Pause { since: now, until, operator: "root".to_owned(), why });
    let wrong = vec![capture.clone(), verify, prune];
    watch.look(&here, Some(Ok(wrong.clone())), Vec::new()).await;
    let raised = ["raised job.capture.failed", "raised job.prune.paused", "raised job.verify.late"];
    assert_eq!(notices(hook.taken()), raised);
    let chat = slack.taken().pop().unwrap();
    assert!(chat.1.contains("WARNING: job verify was to run") && chat.1.contains("it NEVER ran"), "{chat:?}");
    assert_eq!(ping.taken(), [("/uuid/fail".to_owned(), "database app: connection refused".to_owned())]);
    watch.look(&here, Some(Ok(wrong)), Vec::new()).await;
    assert_eq!((hook.taken(), slack.taken(), ping.taken()), (vec![], vec![], vec![]));

    let mut capture = job("capture", now);
    (capture.running_since, capture.last) = (Some(now), Some(run(RunVerdict::Done, "recovery point 0-2", 2)));
    let right = vec![capture, job("verify", now), job("prune", now)];
    watch.look(&here, Some(Ok(right)), Vec::new()).await;
    assert_eq!(notices(hook.taken()), raised.map(|raised| raised.replace("raised", "recovered")));
    assert_eq!(slack.taken(), [], "it wants to hear of alarms alone");
    let pings: Vec<String> = ping.taken().into_iter().map(|(path, _)| path).collect();
    assert_eq!(pings, ["/uuid", "/uuid/start"]);
}

#[tokio::test]
async fn a_sink_that_fails_holds_up_no_other_and_is_told_of_itself() {
    let (broken, works) = (Receiver::start().await, Receiver::start().await);
    let sites =
        sites(&[("broken", "kind = \"webhook\"", broken.url("/")), ("works", "kind = \"webhook\"", works.url("/"))])
            .await;
    broken.answer(500);
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert!(notices(works.taken()).contains(&"raised point.late".to_owned()));
    assert_eq!(broken.taken().len(), 1);
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(broken.taken(), [], "it is left alone for a while");
    for _ in 0..2 {
        clock.on(2);
        watch.look(&here, None, Vec::new()).await;
        assert_eq!(broken.taken().len(), 1);
    }
    clock.on(1);
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(works.taken()), ["raised notify.broken.failing"]);
    let text = sites.run("ams", &["report"]);
    let sentence =
        "nobody is told by sink broken, 3 times in a row: sink broken: 127.0.0.1:PORT does not take it: it answers 500";
    assert!(text.contains(&sentence.replace("PORT", &broken.port().to_string())), "{text}");

    broken.answer(200);
    clock.on(30);
    watch.look(&here, None, Vec::new()).await;
    let late = notices(broken.taken());
    assert!(late.contains(&"raised point.late".to_owned()), "{late:?}");
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(works.taken()), ["recovered notify.broken.failing"]);
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_told_and_nobody_is_told_twice() {
    let receiver = Receiver::start().await;
    let sites = sites(&[("ops", "kind = \"webhook\"", receiver.url("/"))]).await;
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    // As a full disk does it: the record cannot be replaced.
    fs::create_dir_all(sites.state("ams").join("alarms.json")).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert!(notices(receiver.taken()).contains(&"raised point.late".to_owned()));
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["raised state.unwritable"]);
    fs::remove_dir(sites.state("ams").join("alarms.json")).unwrap();
    watch.look(&here, None, Vec::new()).await;
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(notices(receiver.taken()), ["recovered state.unwritable"]);
    let mut watch = Watch::new(&here, Arc::new(clock)).unwrap();
    watch.look(&here, None, Vec::new()).await;
    assert_eq!(receiver.taken(), [], "it is remembered again");
}

#[tokio::test]
async fn a_secret_whose_program_hangs_holds_up_no_other_sink() {
    let works = Receiver::start().await;
    let sites = sites(&[("works", "kind = \"webhook\"", works.url("/"))]).await;
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let hangs = "\n[notify.hangs]\nkind = \"slack\"\nurl = \"command:/bin/sleep 15\"\n";
    fs::write(sites.configuration(), text + hangs).unwrap();
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock)).unwrap();
    let look = watch.look(&here, None, Vec::new());
    let told = async {
        while works.taken().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = look => panic!("the sink that works is told after the one that hangs was given up"),
        () = told => {}
    }
}

#[tokio::test]
async fn a_watch_reads_again_what_is_listed_anew_and_nothing_else() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let here = here(&sites, "fra");
    let mut watch = Watch::new(&here, Arc::new(SystemClock)).unwrap();
    let damaged = async |watch: &mut Watch| {
        let report = watch.look(&here, None, Vec::new()).await;
        assert!(report.vault_read);
        report.lines.iter().any(|line| line.key == "vault.damaged")
    };
    assert!(!damaged(&mut watch).await);
    let file = sites.vault().join("systems/app/points/00000000-00000001.json");
    let (written, at) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    let date = |at| fs::File::options().append(true).open(&file).unwrap().set_modified(at).unwrap();
    fs::write(&file, vec![b'x'; written.len()]).unwrap();
    date(at);
    assert!(!damaged(&mut watch).await, "it is listed as it was, and was not read");
    date(at + Duration::from_secs(1));
    assert!(damaged(&mut watch).await, "it is listed as another");
    fs::write(&file, &written).unwrap();
    date(at + Duration::from_secs(1));
    assert!(!damaged(&mut watch).await, "what cannot be believed is read every time");
    sites.run("ams", &["capture"]);
    let report = watch.look(&here, None, Vec::new()).await;
    assert_eq!(report.newest.point.as_deref(), Some("0-2"));
}

#[tokio::test]
async fn nothing_secret_leaves_in_a_notice() {
    let (hook, slack, ping) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let sites = sites(&[
        ("hook", "kind = \"webhook\"", hook.url("/services/T0SEED/B0SEEDED")),
        ("chat", "kind = \"slack\"", slack.url("/")),
        ("hc", "kind = \"ping\"\njob = \"capture\"", ping.url("/uuid")),
    ])
    .await;
    let out = sites.path().join("out.json");
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let command = format!("[\"/bin/sh\", \"-c\", \"cat > {}\"]", out.display());
    fs::write(sites.configuration(), format!("{text}\n[notify.program]\nkind = \"command\"\ncommand = {command}\n"))
        .unwrap();
    fs::write(sites.path().join("seeded"), "Seeded-Passw0rd\n").unwrap();
    let password = sites.live.cluster().password_file().display().to_string();
    sites.edit_configuration(&password, &sites.path().join("seeded").display().to_string());
    let (here, clock) = (here(&sites, "ams"), Moved::new());
    let mut watch = Watch::new(&here, Arc::new(clock.clone())).unwrap();
    let mut capture = job("capture", clock.now());
    let what = "postgresql://app:Other-Passw0rd@db/app: role app, Seeded-Passw0rd is wrong; /services/T0SEED/B0SEEDED token=abcdef";
    let (started_at, ended_at) = (clock.now(), clock.now());
    capture.failures = 1;
    capture.last = Some(Run {
        due_at: None,
        started_at,
        ended_at,
        verdict: RunVerdict::Failed,
        what: what.to_owned(),
        point: None,
    });
    watch.look(&here, Some(Ok(vec![capture])), Vec::new()).await;
    let program = fs::read_to_string(&out).unwrap();
    let taken = [hook.taken(), slack.taken(), ping.taken()].concat();
    assert_eq!(taken.len(), 3);
    for body in taken.iter().map(|(_, body)| body).chain([&program]) {
        for secret in ["Seeded-Passw0rd", "Other-Passw0rd", "B0SEEDED", "abcdef"] {
            assert!(!body.contains(secret), "{secret} in {body}");
        }
        assert!(body.contains("role app, … is wrong"), "the rest is told: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_webhook_is_named_with_what_to_do() {
    let receiver = Receiver::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sites = sites(&[("ops", "kind = \"slack\"", receiver.url("/T0/B0"))]).await;
    let file = sites.path().join("ops.url");
    let port = receiver.port();
    assert_eq!(sites.run("ams", &["notify", "test"]), "SINK  KIND   TEST\nops   slack  taken\n");
    assert!(receiver.taken()[0].1.contains("a test of this sink: nothing is wrong"));
    let check = |url: &str, expected: String| {
        fs::write(&file, url).unwrap();
        assert_eq!(sites.refused("ams", &["notify", "test", "ops"], 1), expected);
    };
    check(&format!("http://{nobody}/secret"), {
        format!(
            "error: sink ops: {nobody} cannot be reached: client error (Connect): tcp connect error: Connection refused (os error 111)\n\
             next:  See that it lives and that this host may reach it, then: `warmspare notify test ops`"
        )
    });
    receiver.answer(404);
    check(&receiver.url("/secret"), {
        format!(
            "error: sink ops: 127.0.0.1:{port} does not take it: it answers 404\n\
             next:  The address was changed or taken back: make a new one, and put it where `url` under [notify.ops] points to."
        )
    });
    receiver.answer(302);
    check(&receiver.url("/secret"), {
        format!(
            "error: sink ops: 127.0.0.1:{port} does not take it: it answers 302\n\
             next:  Name the address it redirects to under [notify.ops]; nothing is followed."
        )
    });
    check("hunter2", {
        "error: sink ops: what its `url` leads to is no http:// or https:// address\n\
         next:  Put the whole address, on one line, where `url` under [notify.ops] points to."
            .to_owned()
    });
    fs::remove_file(&file).unwrap();
    let message = sites.refused("ams", &["notify", "test"], 1);
    assert!(
        message.starts_with("error: sink ops: `url` under [notify.ops]: secret file SITES/ops.url cannot be read"),
        "{message}"
    );
    let message = sites.refused("ams", &["notify", "test", "nonesuch"], 2);
    assert!(message.starts_with("error: there is no sink `nonesuch` (there is: ops)"), "{message}");
}

/// A server whose certificate an authority signed that only the test knows.
fn tls_server(folder: &std::path::Path) -> (Child, u16) {
    crate::support::etcd::certificates(folder);
    let program = "import http.server, ssl, sys\n\
                   class Answer(http.server.BaseHTTPRequestHandler):\n\
                   \x20   def do_POST(self):\n\
                   \x20       self.rfile.read(int(self.headers['Content-Length']))\n\
                   \x20       self.send_response(204)\n\
                   \x20       self.end_headers()\n\
                   server = http.server.HTTPServer(('127.0.0.1', 0), Answer)\n\
                   context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
                   context.load_cert_chain('server.pem', 'server.key')\n\
                   server.socket = context.wrap_socket(server.socket, server_side=True)\n\
                   print(server.server_address[1], flush=True)\n\
                   server.serve_forever()\n";
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", program]).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = python.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap())
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_until_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, port) = tls_server(folder.path());
    let sites = sites(&[("ops", "kind = \"webhook\"", format!("https://127.0.0.1:{port}/secret"))]).await;
    let message = sites.refused("ams", &["notify", "test"], 1);
    assert!(
        message.starts_with(&format!("error: sink ops: the certificate of 127.0.0.1:{port} is not believed: ")),
        "{message}"
    );
    assert!(
        message.ends_with("next:  Name its authority under [notify.ops]: ca_file = \"/etc/warmspare/authority.pem\"."),
        "{message}"
    );
    assert!(!message.contains("/secret"), "{message}");
    let authority = format!("kind = \"webhook\"\nca_file = \"{}\"", folder.path().join("ca.pem").display());
    sites.edit_configuration("kind = \"webhook\"", &authority);
    sites.run("ams", &["notify", "test"]);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Debian's aiosmtpd, which prints what it takes.
struct MailServer {
    child: Child,
    printed: Arc<Mutex<String>>,
    port: u16,
}

impl MailServer {
    async fn start(more: &[&str]) -> MailServer {
        let port = crate::support::ports::free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut python = Command::new("/usr/bin/python3");
        python
            .args(["-u", "-m", "aiosmtpd", "-n", "-l", &listen])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = python.spawn().unwrap();
        let (printed, stdout) = (Arc::<Mutex<String>>::default(), child.stdout.take().unwrap());
        let shared = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        while tokio::net::TcpStream::connect(&listen).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "aiosmtpd ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        MailServer { child, printed, port }
    }

    /// What it has taken, once it has that.
    async fn has(&self, words: &str) -> String {
        loop {
            let printed = self.printed.lock().unwrap().clone();
            if printed.contains(words) {
                return printed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn mail(sites: &Sites, text: &str, port: u16, more: &str) {
    let sink = format!(
        "\n[notify.mail]\nkind = \"smtp\"\nserver = \"127.0.0.1:{port}\"\nfrom = \"warmspare <w@example.org>\"\n\
         to = [\"ops@example.org\"]\n{more}\n"
    );
    fs::write(sites.configuration(), format!("{text}{sink}")).unwrap();
}

#[tokio::test]
async fn mail_arrives_and_by_tls_only_at_a_server_that_is_believed() {
    let sites = Sites::filled().await;
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let server = MailServer::start(&[]).await;
    mail(&sites, &text, server.port, "tls = \"none\"");
    sites.run("ams", &["notify", "test", "mail"]);
    let printed = server.has("Nothing is to be done.").await;
    for line in [
        "From: warmspare <w@example.org>",
        "To: ops@example.org",
        "Auto-Submitted: auto-generated",
        "Message-ID: <warmspare-ams-",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    assert!(printed.contains("Subject: [app ams] TEST: a test of this sink: nothing is wrong"), "{printed}");
    mail(&sites, &text, server.port, "");
    let message = sites.refused("ams", &["notify", "test"], 1);
    assert!(
        message.contains("sink mail: the mail server 127.0.0.1:") && message.contains("STARTTLS"),
        "in clear it is not sent: {message}"
    );
    drop(server);

    let folder = tempfile::tempdir().unwrap();
    crate::support::etcd::certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    for (flags, tls) in [(["--tlscert", "--tlskey"], "starttls"), (["--smtpscert", "--smtpskey"], "tls")] {
        let (certificate, key) = (file("server.pem"), file("server.key"));
        let server = MailServer::start(&[flags[0], &certificate, flags[1], &key]).await;
        mail(&sites, &text, server.port, &format!("tls = \"{tls}\""));
        let message = sites.refused("ams", &["notify", "test"], 1);
        assert!(message.starts_with("error: sink mail: the certificate of 127.0.0.1:"), "{tls}: {message}");
        mail(&sites, &text, server.port, &format!("tls = \"{tls}\"\nca_file = \"{}\"", file("ca.pem")));
        sites.run("ams", &["notify", "test"]);
        server.has("Nothing is to be done.").await;
    }
    mail(&sites, &text, 1, "tls = \"none\"");
    let output = sites.command("ams", ["notify", "test", "--json"]).output().unwrap();
    let tested: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
    assert_eq!((&tested[0]["taken"], output.status.code()), (&Value::Bool(false), Some(1)));
    assert!(tested[0]["error"].as_str().unwrap().starts_with("sink mail: 127.0.0.1:1 cannot be reached: "), "{tested}");
}
