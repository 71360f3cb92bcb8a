//! Two sites, a witness and a client, each on a network of its own: links are cut, daemons stopped and killed, while a client writes
//! through a load balancer all the time. One site at a time acknowledges, and the one that must not, does not.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::daemons::{Daemon, NAMES, Pair};
use crate::support::etcd::EtcdServer;
use crate::support::network::{Door, Network, Program, address};
use crate::support::postgres::PostgresServer;
use crate::support::traffic::{At, Client, ENOUGH, Store, Unit, turns, until_refused};

/// What stands before both sites.
#[derive(Clone, Copy)]
enum Before {
    Haproxy,
    Nginx,
    Caddy,
}

/// Where the record of who is live lies: its lines in the configuration, each site's way there, and the port it has on this machine.
struct Third {
    witness: String,
    way: Option<String>,
    port: u16,
}

/// All of it. The daemons come first: they end first.
struct World {
    daemons: [Option<Daemon>; 2],
    client: Client,
    pair: Pair,
    network: Arc<Network>,
    ttl: Duration,
    _beside: (Vec<Program>, Vec<Door>, Vec<Unit>),
}

/// The port of the witness in its place.
const WITNESS_PORT: u16 = 4444;
/// Of the service: before it, and at the sites.
const LISTEN: u16 = 8080;
const UNITS: u16 = 80;

impl World {
    async fn start(third: &Third, before: Before, ttl: &str) -> World {
        let network = Arc::new(Network::start());
        let witness = format!("{}\nttl = \"{ttl}\"", third.witness);
        let pair = Pair::apart(Arc::clone(&network), &witness, third.way.as_deref());
        let path = |name: &str| pair.sites.path().join(name);
        let (mut programs, mut units) = (Vec::new(), Vec::new());
        let doors = vec![Door::open(path("witness.sock"), third.port)];
        let to = |name: &str| format!("unix@{}", path(name).display());
        let way = (format!("{}:{WITNESS_PORT}", address("witness")), to("witness.sock"));
        programs.push(network.pass_on("witness", &path("witness.cfg"), &[way]));
        for site in NAMES {
            let socket = format!("{site}.sock");
            units.push(Unit::start(site, &At::Socket(path(&socket)), Store::Folder(pair.sites.bucket(site))).await);
            let way = (format!("{}:{UNITS}", address(site)), to(&socket));
            programs.push(network.pass_on(site, &path(&format!("{site}.cfg")), &[way]));
        }
        let door = (to("door.sock"), format!("127.0.0.1:{LISTEN}"));
        programs.push(network.pass_on("client", &path("door.cfg"), &[door]));

        pair.does("ams", &["witness", "init"]);
        let daemons = NAMES.map(|site| Some(pair.start(site)));
        for site in NAMES {
            pair.until_state(site, "STANDBY");
        }
        programs.push(Program::start(&mut network.inside("client", &balancer(&pair, before))));
        let door = At::Socket(path("door.sock"));
        until_refused(&door).await;
        let client = Client::start(&door);
        let ttl = Duration::from_secs(ttl.trim_end_matches('s').parse().unwrap());
        World { daemons, client, pair, network, ttl, _beside: (programs, doors, units) }
    }

    fn daemon(&self, site: &str) -> &Daemon {
        let number = NAMES.iter().position(|name| *name == site).unwrap();
        self.daemons[number].as_ref().unwrap()
    }

    /// Waits until `site` serves, as the only one.
    async fn served_by(&self, site: &str) {
        self.client.until_served_by(site, self.client.by(site).len()).await;
    }

    /// What `hurt` does to the live `site` keeps it from the witness: it refuses within T, and serves again when all is well.
    async fn closes_within_its_lease(&self, site: &str, hurt: impl FnOnce()) {
        let before = self.client.now();
        hurt();
        self.pair.until(site, "is closed", |status| status["open"] == false);
        // Whoever closed it late would show in what was acknowledged afterwards.
        while self.client.now() < before + self.ttl * 3 / 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let last = self.client.by(site).last().unwrap().ended;
        let took = last.saturating_sub(before);
        println!("{site} acknowledged for {took:.1?} after it was cut off, with a lease of {:?}", self.ttl);
        assert!(took < self.ttl, "{took:?}");
        self.network.heal(site);
        self.served_by(site).await;
    }

    /// The live site `old` is cut off from everything: `new` takes over, and `old` refuses when it is there again.
    async fn is_taken_over(&self, old: &str, new: &str) {
        for other in ["witness", new, "client"] {
            self.network.cut(old, other);
        }
        self.pair.does(new, &["failover", "--replace", "--yes", new, "--why", "it does not answer"]);
        self.served_by(new).await;
        let known = self.client.by(old).len();
        self.network.heal(old);
        self.pair.until_state(old, "STALE");
        self.served_by(new).await;
        assert_eq!(self.client.by(old).len(), known, "{old} acknowledged something after it was there again");
        self.pair.does(old, &["lease", "rejoin", "--yes", old]);
        self.pair.until_state(old, "STANDBY");
    }

    /// Killed and started again without the witness, the live site stays closed; with it, it opens in its term.
    async fn comes_back_closed(&mut self, site: &str) {
        let number = NAMES.iter().position(|name| *name == site).unwrap();
        let term = self.pair.status(site)["term"].clone();
        self.network.cut(site, "witness");
        self.daemon(site).signal(Signal::KILL);
        drop(self.daemons[number].take());
        let killed = self.client.now();
        self.daemons[number] = Some(self.pair.start(site));
        let started = self.pair.status(site);
        assert_eq!((&started["state"], &started["open"]), (&"CLOSED".into(), &false.into()), "{started:#}");
        while self.client.now() < killed + self.ttl * 3 / 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A load balancer notices within D that nobody answers any more.
        let closed = killed + self.ttl / 6;
        let after = self.client.by(site).into_iter().filter(|written| written.begun > closed).count();
        assert_eq!(after, 0, "it opened without having asked the witness");
        self.network.heal(site);
        self.served_by(site).await;
        assert_eq!(self.pair.status(site)["term"], term);
    }

    /// The live site `old` is stopped for longer than its lease; `new` takes over, and `old` refuses when it goes on.
    async fn sleeps_through_its_lease(&self, old: &str, new: &str) {
        self.daemon(old).signal(Signal::STOP);
        self.pair.does(new, &["failover", "--replace", "--yes", new]);
        self.served_by(new).await;
        let known = self.client.by(old).len();
        self.daemon(old).signal(Signal::CONT);
        self.pair.until_state(old, "STALE");
        self.served_by(new).await;
        assert_eq!(self.client.by(old).len(), known, "{old} acknowledged something after it woke up");
    }

    /// Everything in a row, beginning with ams.
    async fn survives_everything(mut self) {
        self.pair.does("ams", &["failover", "--first", "--yes", "ams"]);
        self.served_by("ams").await;
        self.pair.does("ams", &["capture"]);
        self.closes_within_its_lease("ams", || self.network.cut("ams", "witness")).await;
        self.closes_within_its_lease("ams", || self.network.deafen("ams", "witness")).await;
        self.is_taken_over("ams", "fra").await;
        self.pair.does("fra", &["capture"]);
        self.comes_back_closed("fra").await;
        self.sleeps_through_its_lease("fra", "ams").await;
        let turns = turns(&self.client.end().await);
        println!("{turns:?}");
        assert_eq!(turns.iter().map(|(site, _)| site.as_str()).collect::<Vec<_>>(), ["ams", "fra", "ams"]);
        assert!(turns.iter().all(|(_, count)| *count >= ENOUGH));
    }
}

/// The program that stands before both, as `gate config` tells it.
fn balancer(pair: &Pair, before: Before) -> Command {
    let port = format!("{LISTEN}={UNITS}:http:/health");
    let name = match before {
        Before::Haproxy => "haproxy",
        Before::Nginx => "nginx",
        Before::Caddy => "caddy",
    };
    let units = NAMES.map(|site| format!("{site}={}", address(site)));
    let asked = ["gate", "config", name, "--unit", &units[0], "--unit", &units[1], "--port", &port];
    let snippet = String::from_utf8(pair.does("ams", &asked).stdout).unwrap();
    let (folder, file) = (pair.sites.path(), pair.sites.path().join(format!("{name}.cfg")));
    let mut command = Command::new(name);
    match before {
        Before::Haproxy => {
            std::fs::write(&file, format!("global\n    maxconn 200\n{snippet}")).unwrap();
            command.args(["-db", "-f"]).arg(&file);
        }
        Before::Nginx => {
            let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths = paths.map(|path| format!("{path}_temp_path {}/t;\n", folder.display())).concat();
            let head =
                format!("daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\n", folder.display());
            std::fs::write(&file, format!("{head}events {{}}\nhttp {{\naccess_log off;\n{paths}{snippet}}}\n"))
                .unwrap();
            command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(&file);
        }
        Before::Caddy => {
            std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{snippet}")).unwrap();
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
            command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
        }
    }
    command
}

fn of_etcd(etcd: &EtcdServer) -> Third {
    let witness = format!("url = \"etcd://{}:{WITNESS_PORT}/builder\"", address("witness"));
    Third { witness, way: None, port: etcd.port(0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn with_etcd_and_haproxy_one_site_at_a_time_acknowledges() {
    let etcd = EtcdServer::of(1, false).await;
    World::start(&of_etcd(&etcd), Before::Haproxy, "6s").await.survives_everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn with_a_row_of_postgresql_and_nginx_one_site_at_a_time_acknowledges() {
    let server = PostgresServer::with(&["fsync=on"]);
    let third = Third {
        witness: format!("url = \"postgresql://warmspare@{}:{WITNESS_PORT}/postgres\"", address("witness")),
        way: Some(format!("credentials = \"file:{}\"", server.cluster().password_file().display())),
        port: server.cluster().port(),
    };
    World::start(&third, Before::Nginx, "6s").await.survives_everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn with_a_bucket_and_caddy_one_site_at_a_time_acknowledges() {
    let ceph = Ceph::shared();
    let credentials = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(credentials.path(), CREDENTIALS).unwrap();
    let endpoint = format!("http://{}:{WITNESS_PORT}", address("witness"));
    let third = Third {
        witness: format!("url = \"s3://{}/builder\"", ceph.bucket()),
        way: Some(format!("endpoint = \"{endpoint}\", credentials = \"file:{}\"", credentials.path().display())),
        port: ceph.endpoint().rsplit(':').next().unwrap().parse().unwrap(),
    };
    World::start(&third, Before::Caddy, "6s").await.survives_everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "minutes: `make chaos`"]
async fn with_the_default_lease_one_site_at_a_time_acknowledges() {
    let etcd = EtcdServer::of(1, false).await;
    World::start(&of_etcd(&etcd), Before::Haproxy, "60s").await.survives_everything().await;
}
