//! A service at each site, its database, HAProxy before both, and a client that writes all the time: whoever is live, what was
//! acknowledged was acknowledged by one site at a time, and a planned switch loses none of it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::daemons::{NAMES, Pair};
use crate::support::ports::free_port;
use crate::support::postgres::PostgresServer;
use crate::support::sites::Sites;
use crate::support::traffic::{At, Client, ENOUGH, Store, Unit, Written, turns};

/// What the service of a site needs to have in its database, and the role it logs in as.
const SERVICE: &str = "\
CREATE ROLE hab LOGIN PASSWORD 'hab';
CREATE TABLE public.writes (number bigint PRIMARY KEY, id bigserial);
GRANT INSERT, SELECT ON public.writes TO hab;
GRANT USAGE ON SEQUENCE public.writes_id_seq TO hab;";

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
    let port = |last: u8, port: u16| At::Port(SocketAddr::from(([127, 0, 0, last], port)));
    let _ams_unit = Unit::start("ams", &port(1, units), Store::database(&pair.sites.live)).await;
    let _fra_unit = Unit::start("fra", &port(2, units), Store::database(&pair.sites.spare)).await;
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    let _proxy = Proxy::start(&pair, listen, units);
    let client = Client::start(&port(1, listen));
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
