//! The configuration is read again while both daemons run: whatever they do from then on is by what was read.

use rustix::process::Signal;

use crate::support::daemons::{Daemon, NAMES, Pair};
use crate::support::sites::Sites;

/// A database that comes later, and the role its service logs in as.
const SECOND: &str = "\
CREATE ROLE later LOGIN PASSWORD 'later';
CREATE TABLE public.notes (id int PRIMARY KEY);
GRANT SELECT ON public.notes TO later;
INSERT INTO public.notes VALUES (1);";

/// Names it at both sites.
fn name_second(sites: &Sites) {
    let text = std::fs::read_to_string(sites.configuration()).unwrap();
    let more = |line: &str| match line.starts_with("databases.app = ") {
        true => {
            format!("{line}\n{}\n", line.replace("databases.app", "databases.second").replace("/app\"", "/second\""))
        }
        false => format!("{line}\n"),
    };
    std::fs::write(sites.configuration(), text.lines().map(more).collect::<String>()).unwrap();
}

/// Tells a daemon to read it again, and waits until it says so.
fn read_again(pair: &Pair<Sites>, site: &str, daemon: &Daemon) {
    let times = || std::fs::read_to_string(&daemon.log).unwrap().matches("the configuration was read again").count();
    let before = times();
    daemon.signal(Signal::HUP);
    pair.until(site, "has read the configuration again", |_| times() > before);
}

#[tokio::test]
async fn a_database_that_was_named_while_the_daemons_ran_is_in_the_final_point_and_goes_live() {
    let pair = Pair::over(Sites::filled().await);
    pair.does("ams", &["witness", "init"]);
    let daemons = NAMES.map(|site| pair.start(site));
    for site in NAMES {
        pair.until_state(site, "STANDBY");
    }
    pair.does("ams", &["failover", "--first", "--yes", "ams"]);
    pair.does("ams", &["capture"]);

    pair.sites.live.create("second", SECOND).await;
    name_second(&pair.sites);
    for (site, daemon) in NAMES.iter().zip(&daemons) {
        read_again(&pair, site, daemon);
    }
    pair.does("ams", &["capture"]);
    pair.sites.live.sql("second", "INSERT INTO public.notes VALUES (2)").await;
    pair.does("ams", &["switchover", "--to", "fra", "--yes", "ams"]);
    pair.until("fra", "sees it released", |status| status["record"]["mode"] == "released");
    pair.does("fra", &["failover", "--yes", "fra"]);

    let count = "SELECT count(*)::text FROM public.notes";
    assert_eq!(pair.sites.spare.value("second", count).await, "2", "written after the last capture, and not at fra");
    let login = "SELECT concat(rolcanlogin, ' ', rolpassword IS NOT NULL) FROM pg_authid WHERE rolname = 'later'";
    assert_eq!(pair.sites.spare.value("postgres", login).await, "t t", "its role does not log in");
    drop(daemons);
}
