//! What a person reads when something of `site` is refused or fails, at 4 a.m.: every variant of every error, with its exit code, its
//! message and the next step. Each table has a line for each variant, or it does not compile.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use warmspare::config::reference::ReferenceError;
use warmspare::error::{Explain, chain};
use warmspare::postgres::{self, error::Place as Server};
use warmspare::site::balancer::BalancerError;
use warmspare::site::daemon::{DaemonError, RunError};
use warmspare::site::driver::{DriverError, MemoryError, OrderError};
use warmspare::site::gate::GateError;
use warmspare::site::lease::{Command, Name, Pace, Refusal, Revision, Term, TimingError};
use warmspare::site::operate::OperateError;
use warmspare::site::witness::WitnessError;
use warmspare::store::{Place, StoreError};

/// A test of the type, from a list of errors with exit code, message and next step each. The match that is never called makes the
/// list complete.
macro_rules! says {
    ($test:ident, $type:ident: $({ $variant:ident $($fields:tt)* } => $code:literal $message:literal $next:literal;)*) => {
        #[test]
        fn $test() {
            #[allow(unreachable_patterns, reason = "lines may share a variant")]
            let _ = |error: &$type| match error {
                $($type::$variant { .. } => (),)*
            };
            $(is_told(&$type::$variant $($fields)*, $code, $message, $next);)*
        }
    };
}

fn is_told(error: &dyn Explain, code: u8, message: &str, next: &str) {
    let told = (error.class().exit_code(), chain(&error), error.next_step().unwrap_or_default());
    assert_eq!((told.0, told.1.as_str(), told.2.as_str()), (code, message, next));
}

const ACQUIRE: Command = Command::Acquire { if_term: None, pace: Pace::Wait };
const RELEASE: Command = Command::Release { to: None };
const FAILOVER: &str = "failover";
const HAND_OVER: &str = "a handing over";

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn ams() -> String {
    "ams".to_owned()
}

fn store() -> String {
    "s3://dr-witness/app".to_owned()
}

fn file() -> PathBuf {
    PathBuf::from("/s/lease.json")
}

fn gate() -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 2], 7777))
}

fn unreachable() -> Box<postgres::Error> {
    let place = Server { database: "w".to_owned(), host: "10.3.0.5:5432".to_owned() };
    Box::new(postgres::Error::Unreachable { place, what: "refused".to_owned() })
}

says! { what_the_protocol_refuses_names_the_way_out, Refusal:
    { NotWhile { state: Name::Uninit, asked: RELEASE } } => 3
        "this site is UNINIT: it has nothing to hand over now"
        "See that this site reaches the witness, and that `warmspare witness init` was run once.";
    { NotWhile { state: Name::Standby, asked: Command::Cancel } } => 3
        "this site is STANDBY: nothing is under way that can be given up"
        "Nothing to do here; `warmspare lease status` at the other site says whether something is under way there.";
    { NotWhile { state: Name::Standby, asked: Command::Fence } } => 3
        "this site is STANDBY: it is not live, so there is nothing to fence"
        "Nothing to do: its gate is closed, and stays so until a person makes this site live.";
    { NotWhile { state: Name::Standby, asked: Command::LiftFence } } => 3
        "this site is STANDBY: there is no fence to lift"
        "It is the spare. To make it live: `warmspare failover`.";
    { NotWhile { state: Name::Standby, asked: Command::Rejoin } } => 3
        "this site is STANDBY: only a site that is FENCED or STALE rejoins"
        "Nothing to do: it is the spare. To make it live: `warmspare failover`.";
    { NotWhile { state: Name::Restoring, asked: Command::Restore } } => 3
        "this site is RESTORING: only a spare begins to restore, in order to take over"
        "A restore is under way here: wait until it has ended, or give it up with `warmspare lease cancel`.";
    { NotWhile { state: Name::Restoring, asked: ACQUIRE } } => 3
        "this site is RESTORING: nothing is restored here that it could become live with"
        "A restore is under way here: wait until it has ended, or give it up with `warmspare lease cancel`.";
    { NotWhile { state: Name::Ready, asked: Command::Join } } => 3
        "this site is READY: it takes part already"
        "It is restored: `warmspare failover` goes on and takes the lease, `warmspare lease cancel` gives it up.";
    { NotWhile { state: Name::Waiting, asked: Command::Drill } } => 3
        "this site is WAITING: no drill begins during a takeover"
        "A takeover is under way here: wait until it has ended, or give it up with `warmspare lease cancel`.";
    { NotWhile { state: Name::Acquiring, asked: Command::Cancel } } => 3
        "this site is ACQUIRING: nothing is under way that can be given up"
        "A takeover is under way here and cannot be given up any more: `warmspare lease status` says how far it is.";
    { NotWhile { state: Name::Starting, asked: Command::Rejoin } } => 3
        "this site is STARTING: only a site that is FENCED or STALE rejoins"
        "A takeover is under way here and cannot be given up any more: `warmspare lease status` says how far it is.";
    { NotWhile { state: Name::Live, asked: Command::Rejoin } } => 3
        "this site is LIVE: only a site that is FENCED or STALE rejoins"
        "It is live. To make it the spare, hand over to the other site: `warmspare switchover --to SITE`.";
    { NotWhile { state: Name::Live, asked: Command::LiftFence } } => 3
        "this site is LIVE: there is no fence to lift"
        "Nothing to do: it is live already.";
    { NotWhile { state: Name::Draining, asked: Command::Cancel } } => 3
        "this site is DRAINING: nothing is under way that can be given up"
        "It has let go already, or is about to: wait until it is RELEASED, then `warmspare failover` takes the lease back.";
    { NotWhile { state: Name::Draining, asked: Command::LiftFence } } => 3
        "this site is DRAINING: there is no fence to lift"
        "It is handing over: wait until it has ended, or give that up with `warmspare lease cancel`.";
    { NotWhile { state: Name::Released, asked: Command::Rejoin } } => 3
        "this site is RELEASED: only a site that is FENCED or STALE rejoins"
        "It has let go: `warmspare failover` takes the lease, at the other site or here.";
    { NotWhile { state: Name::Closed, asked: Command::LiftFence } } => 3
        "this site is CLOSED: there is no fence to lift"
        "It holds the lease: it opens by itself when it reaches the witness, or hands over with `warmspare release`.";
    { NotWhile { state: Name::Fenced, asked: Command::Fence } } => 3
        "this site is FENCED: it is not live, so there is nothing to fence"
        "Nothing to do: its gate is closed, and stays so until a person makes this site live.";
    { NotWhile { state: Name::Fenced, asked: Command::Restore } } => 3
        "this site is FENCED: only a spare begins to restore, in order to take over"
        "Find out why: `warmspare lease status`. Then `warmspare lease lift`, if it is to be live again, or `warmspare lease rejoin`, which makes it the spare.";
    { NotWhile { state: Name::Stale, asked: Command::LiftFence } } => 3
        "this site is STALE: there is no fence to lift"
        "Another site was live since: `warmspare lease rejoin` makes this one its spare.";
    { NotRestoring(Name::Standby) } => 3
        "this site is STANDBY: no restore is awaited here"
        "Run `warmspare failover` again: it goes on from what it finds here.";
    { WitnessUnread } => 1
        "the witness has not been read yet"
        "See that this site reaches the witness (`warmspare witness status`), then try again.";
    { WitnessPutBack { shown: Term(3), seen: Term(5) } } => 3
        "the witness shows term 3, but this site has seen term 5: the witness was put back"
        "It was restored from a backup, or is another one. Close both sites (`warmspare lease fence` at the live one), write another place into `url` under [witness], and set that up: `warmspare witness init --term 6`.";
    { OtherTerm { expected: Term(1), is: Term(2) } } => 3
        "the term is 2, not 1"
        "Somebody was faster: `warmspare lease status` says who is live in term 2. Then decide again.";
    { OtherTerm { expected: Term(4), is: Term(2) } } => 3
        "the term is 2, not 4"
        "Term 4 has not been yet: look at `warmspare lease status`, then decide again.";
    { OldRestore { restored: Term(1), is: Term(2) } } => 3
        "what is restored is of term 1, but the lease is at term 2"
        "Another site was live after that point. Run `warmspare failover` again: it restores a point of term 2 first.";
    { NotTheFinalPoint("2-7".parse().unwrap()) } => 3
        "what is restored is not the final point 2-7"
        "Run `warmspare failover` again: it restores 2-7 first, which was taken after the other site had closed.";
    { ForTheOther } => 3
        "the lease was released for the other site"
        "Run `warmspare failover` at the other site: only that one can take it.";
    { NotFenced(Name::Live) } => 3
        "the other site says that it is LIVE"
        "Run `warmspare lease fence` at the other site first, or `warmspare failover` here, which waits until it is closed.";
    { Unproven } => 3
        "it is not proven that the other site is fenced"
        "Switch the other site off, then try again; or run `warmspare failover`, which waits until it is closed.";
}

says! { spans_that_do_not_fit_name_the_key_to_change, TimingError:
    { NoTimeToRenew { ttl: Duration::from_secs(60), renew: Duration::from_secs(10), request: Duration::from_secs(5), drain: Duration::from_secs(40) } } => 2
        "a lease of 60s leaves no time to renew it: a renewal every 10s and two requests of 5s do not end before the gate closes, 40s ahead of the lease"
        "Make `ttl` under [witness] longer, or `drain` there shorter.";
    { Drift { permille: 500 } } => 2
        "clocks that differ by 500 ‰ of their rate cannot be waited for; at most 499 ‰ can"
        "Let the clocks of both machines be disciplined, and allow for 100 ‰.";
}

says! { what_an_operation_refuses_names_the_site_and_the_command_to_run, OperateError:
    { NotFrom { site: ams(), state: Name::Uninit, operation: FAILOVER } } => 3
        "ams is UNINIT: failover does not begin here"
        "See that this site reaches the witness, and that `warmspare witness init` was run once.";
    { NotFrom { site: ams(), state: Name::Live, operation: FAILOVER } } => 3
        "ams is LIVE: failover does not begin here"
        "Nothing to do: it is live already.";
    { NotFrom { site: ams(), state: Name::Draining, operation: FAILOVER } } => 3
        "ams is DRAINING: failover does not begin here"
        "It is handing over: wait until it has ended, or give that up with `warmspare lease cancel`.";
    { NotFrom { site: ams(), state: Name::Closed, operation: FAILOVER } } => 3
        "ams is CLOSED: failover does not begin here"
        "It holds the lease: it opens by itself when it reaches the witness, or hands over with `warmspare release`.";
    { NotFrom { site: ams(), state: Name::Fenced, operation: HAND_OVER } } => 3
        "ams is FENCED: a handing over does not begin here"
        "Find out why: `warmspare lease status`. Then `warmspare lease lift`, if it is to be live again, or `warmspare lease rejoin`, which makes it the spare.";
    { NotFrom { site: ams(), state: Name::Stale, operation: FAILOVER } } => 3
        "ams is STALE: failover does not begin here"
        "Another site was live since: `warmspare lease rejoin` makes this one its spare.";
    { NotFrom { site: ams(), state: Name::Released, operation: HAND_OVER } } => 3
        "ams is RELEASED: a handing over does not begin here"
        "It has let go: `warmspare failover` takes the lease, at the other site or here.";
    { NotFrom { site: ams(), state: Name::Waiting, operation: HAND_OVER } } => 3
        "ams is WAITING: a handing over does not begin here"
        "It holds no lease: run it at the live site.";
    { OtherTerm { expected: 1, is: 2 } } => 3
        "the term is 2, not 1"
        "Somebody was faster: `warmspare lease status` says who is live in term 2. Then decide again.";
    { NotTheOther { given: ams(), site: ams() } } => 2
        "`ams` is not the other site of ams"
        "Name the site it is handed over to; it is run at the one that is live.";
    { NotFirst { site: ams(), term: 3, operator: "ann".to_owned() } } => 3
        "ams would not be the first: the witness has term 3, written by ann"
        "Leave --first out: the newest point is restored and proven here, then taken live.";
    { NoRecord { site: ams() } } => 5
        "the witness answers ams, and has no record"
        "If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give `--term` a number above every term there was.";
    { Different { point: "1-2".to_owned(), is_named: false, site: ams(), sources: vec!["database.app".to_owned()], count: 3, folder: "/s/restores/1-2-001".into() } } => 4
        "point 1-2 is restored and not proven equal: ams does not become live with it"
        "See what differs: /s/restores/1-2-001/report.txt. An older point: `warmspare failover --point ID`, of those that `warmspare points` lists. This site is a spare until then.";
    { Different { point: "1-2".to_owned(), is_named: true, site: ams(), sources: vec!["bucket.a".to_owned()], count: 3, folder: "/s/restores/1-2-001".into() } } => 4
        "point 1-2 is restored and not proven equal: ams does not become live with it"
        "See what differs: /s/restores/1-2-001/report.txt. What its attic or its versions still have comes back with `warmspare restore --only bucket.a --point 1-2 --replace`; then run this again. An older point: `warmspare failover --point ID`, of those that `warmspare points` lists. Without those 3: `warmspare failover --point 1-2 --accept-different 3`. This site is a spare until then.";
    { FinalPoint { last: "1-2".parse().unwrap(), asked: "1-1".parse().unwrap() } } => 3
        "the last live site let go with point 1-2, which has everything it had, and 1-1 was asked for"
        "Leave --point out: 1-2 is restored and proven here.";
    { TooLate { site: ams(), state: Name::Waiting, asked: "1-1".parse().unwrap() } } => 3
        "ams is WAITING: point 1-1 cannot be chosen any more"
        "Leave --point out. A takeover is under way here: wait until it has ended, or give it up with `warmspare lease cancel`.";
    { Unlisted { site: ams(), restored: "1-2".parse().unwrap(), why: "the vault is silent".to_owned() } } => 1
        "which point is the newest cannot be told: the vault is silent"
        "Mend the way to the vault. ams has restored and proven 1-2: without the vault `warmspare failover --point 1-2` goes on with that. The roles of its databases come from the vault before the gate opens.";
    { NotAwaited { site: ams(), point: "1-2".to_owned(), state: Name::Standby, why: "its daemon was started anew meanwhile".to_owned() } } => 3
        "point 1-2 is restored and proven at ams, and ams is STANDBY: its daemon was started anew meanwhile"
        "Run `warmspare failover` again: it goes on with what is restored, which is proven once more.";
    { GivenUp { operation: FAILOVER, site: ams(), state: Name::Fenced, why: ": an operator fenced this site".to_owned(), next: None } } => 1
        "failover came to nothing: ams is FENCED: an operator fenced this site"
        "See `warmspare lease status` and the daemon's log, then run it again.";
    { GivenUp { operation: FAILOVER, site: ams(), state: Name::Ready, why: ": fra is live".to_owned(), next: Some("Hand over from there.".to_owned()) } } => 1
        "failover came to nothing: ams is READY: fra is live"
        "Hand over from there.";
    { Lock { path: "/state/operation.lock".into(), source: std::io::Error::from(std::io::ErrorKind::PermissionDenied) } } => 1
        "the lock /state/operation.lock cannot be looked at: permission denied"
        "Check the state folder: it has to be there, and this user's.";
    { NotConfirmed { site: ams(), given: "fra".to_owned() } } => 3
        "this is ams, and `fra` was typed: nothing was done"
        "Type ams, if this is the site you mean.";
    { NobodyToConfirm { site: ams() } } => 3
        "this changes who takes traffic, and nobody is here to confirm it"
        "Run it on a terminal, or add --yes ams.";
}

says! { a_command_without_its_daemon_says_where_it_went, DaemonError:
    { None { site: ams() } } => 3
        "with a witness the role of ams is that of its daemon, and none runs here"
        "Start it: `warmspare run`. What the witness itself says is shown by `warmspare witness status`.";
    { Gone { site: ams() } } => 1
        "the daemon of ams ended while this command waited for it"
        "See its log, start it again (`warmspare run`), and look where it stands (`warmspare lease status`). Run this again: it goes on from there.";
    { Silent { socket: PathBuf::from("/s/control.sock"), what: "it hung up".to_owned() } } => 1
        "the daemon at /s/control.sock does not answer: it hung up"
        "See its log: it may be ending, or hang. What it was told before goes on; its gate closes with the lease, whatever it does.";
    { Refused { site: ams(), what: "this site is STANDBY".to_owned(), next: Some("Wait.".to_owned()) } } => 3
        "ams refuses: this site is STANDBY"
        "Wait.";
    { NotLive { site: ams(), state: "STANDBY".to_owned(), term: 2 } } => 3
        "ams is STANDBY in term 2: nothing may be captured or mirrored here"
        "Run it at the live site; `warmspare lease status` says how this one stands.";
    { OtherClock } => 1
        "the daemon's CLOCK_BOOTTIME is not that of this process"
        "Run the command where the daemon runs, outside of a container with a time namespace of its own.";
}

says! { an_order_that_was_not_carried_out_says_so, OrderError:
    { Refused(Refusal::ForTheOther) } => 3
        "the lease was released for the other site"
        "Run `warmspare failover` at the other site: only that one can take it.";
    { NotKept { why: "the disk is full".to_owned() } } => 1
        "nothing was changed, because it could not be kept: the disk is full"
        "See that the state folder is there, is this user's and has space, then try again. This site goes on as it is.";
    { Ended } => 1
        "this site's daemon is ending, and nothing was done"
        "See its log for the reason, and start it again: `warmspare run`.";
}

says! { a_daemon_that_cannot_run_says_what_it_lacks, RunError:
    { NoWitness { file: PathBuf::from("/etc/warmspare.toml") } } => 2
        "/etc/warmspare.toml has no [witness]: there is no lease to hold"
        "Write [witness] with its `url`, and take `live` out; docs/CONFIGURATION.md shows it.";
    { NoGate { site: ams() } } => 2
        "`gate` is not set under [sites.ams]"
        "Write under [sites.ams] where load balancers reach this host: gate = { listen = \"10.1.0.2:7777\" }.";
    { Runs { site: ams(), holder: "warmspare run, process 7".to_owned() } } => 3
        "a daemon of ams runs already: warmspare run, process 7"
        "Leave it, or end it first: two would fight for one lease.";
    { Machine { what: "/s/daemon.lock".to_owned(), source: denied() } } => 1
        "/s/daemon.lock cannot be used: permission denied"
        "If it is of the state folder: that has to be there, this user's, and its path short. Else see what this user may use (`ulimit -a`).";
    { Ended { part: "the gate" } } => 1
        "the gate has ended, and this site is closed"
        "Start it again: it goes on where it was. See its log for the reason.";
}

says! { a_gate_that_cannot_be_put_up_says_what_is_in_its_way, GateError:
    { Listen { address: gate(), source: denied() } } => 1
        "the gate cannot listen on 10.1.0.2:7777: permission denied"
        "See who listens there (`ss -ltnp 'sport = 7777'`), or write another address into `gate` under [sites.NAME].";
    { Thread(denied()) } => 1
        "the gate gets no thread of its own: permission denied"
        "See how many threads this user may have (`ulimit -u`), and end what is not needed.";
}

says! { a_site_that_cannot_remember_stays_closed_and_says_so, MemoryError:
    { Disk { path: file(), source: denied() } } => 1
        "what this site was cannot be kept in /s/lease.json: permission denied"
        "See that the state folder is there, is this user's and has space: until then this site is closed.";
    { Damaged { path: file(), what: "EOF".to_owned() } } => 3
        "/s/lease.json does not say what this site was: EOF"
        "Find out who is live by the witness. Then move /s/lease.json away: this site starts anew as a spare, and has to restore before it is live again.";
    { Other { path: file(), found: "app/fra".to_owned(), expected: "app/ams".to_owned() } } => 3
        "/s/lease.json is of the site `app/fra`, not of `app/ams`"
        "Give each site a folder of its own: `state` under [sites.NAME].";
}

says! { what_ends_the_loop_of_the_lease_says_why, DriverError:
    { Memory(MemoryError::Disk { path: file(), source: denied() }) } => 1
        "this site cannot remember what it is: what this site was cannot be kept in /s/lease.json: permission denied"
        "See that the state folder is there, is this user's and has space: until then this site is closed.";
    { Random("ENOSYS".to_owned()) } => 1
        "the machine gives no random numbers: ENOSYS"
        "See why getrandom(2) fails; without it no write can be told from another.";
}

says! { a_witness_that_cannot_be_used_says_which_and_what_not_to_do, WitnessError:
    { NotConfigured } => 2
        "the configuration names no witness"
        "Write [witness] with its `url` and take `live` out; docs/CONFIGURATION.md shows where one can be.";
    { Timing(TimingError::Drift { permille: 500 }) } => 2
        "the witness cannot be used with these spans: clocks that differ by 500 ‰ of their rate cannot be waited for; at most 499 ‰ can"
        "Let the clocks of both machines be disciplined, and allow for 100 ‰.";
    { Secret { key: "credentials", site: ams(), source: ReferenceError::Env("AMS_S3".to_owned()) } } => 5
        "`credentials` under [sites.ams.witness]: environment variable AMS_S3 is not set (or is not UTF-8)"
        "Make the secret readable for the user warmspare runs as.";
    { Store(StoreError::NotFound { at: Place::store("s3://dr-witness/app", "list") }) } => 5
        "the witness cannot be used: cannot list s3://dr-witness/app: it is not there"
        "Check that s3://dr-witness/app is the right place, that it exists, and, if it is a folder, that its disk is mounted.";
    { Database(unreachable()) } => 5
        "the witness cannot be used: database w at 10.3.0.5:5432: the server cannot be reached: refused"
        "Check that PostgreSQL runs there, that host and port in the configuration are right, and that no firewall is in between; where the URL asks for a primary, wait until one is promoted.";
    { Silent { store: store(), limit: Duration::from_secs(5) } } => 5
        "s3://dr-witness/app gave no answer within 5.0 s"
        "Look whether s3://dr-witness/app works and how far it is away. What was asked of it may have been done, or be done yet: `warmspare witness status` says what is there.";
    { AtSource { store: store(), database: "app".to_owned(), site: ams() } } => 5
        "the witness is in s3://dr-witness/app, the server of database.app of ams"
        "Give it a server of its own, away from both sites: where its database is restored, an old record comes back, and two sites can be live at once.";
    { NotMade { store: store() } } => 5
        "s3://dr-witness/app has not the tables of a witness"
        "If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give `--term` a number above every term there was.";
    { NotSetUp { store: store() } } => 5
        "the witness s3://dr-witness/app was never set up: it has no record"
        "If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give `--term` a number above every term there was.";
    { Exists { store: store(), record: "ams is live in term 1".to_owned() } } => 3
        "s3://dr-witness/app is set up already: ams is live in term 1"
        "Leave it: `warmspare witness status` shows all of it. A new witness is another place: another `url` under [witness].";
    { NoRecord { store: store(), key: "lease/1".to_owned(), what: "EOF".to_owned() } } => 5
        "lease/1 in s3://dr-witness/app is no record of a witness: EOF"
        "Look at what lies there. A witness needs a place of its own; nothing else may write into s3://dr-witness/app.";
    { Unsupported { store: store(), key: "lease/1".to_owned(), format: 9 } } => 5
        "lease/1 in s3://dr-witness/app is a record of format 9, which this release does not know"
        "Install the release that wrote it, at both sites.";
    { OtherSystem { found: "quay".to_owned(), expected: "app".to_owned() } } => 5
        "the witness is of the system `quay`, not of `app`"
        "Give each system a witness of its own: another folder, bucket or prefix.";
    { UnknownSite { site: "ber".to_owned(), us: ams(), them: "fra".to_owned() } } => 5
        "the witness names the site `ber`, which is not one of `ams` and `fra`"
        "Use the same names of sites in the configuration of both.";
    { WentBack { store: store(), shown: "revision 7".to_owned(), read: Revision(9) } } => 5
        "s3://dr-witness/app shows revision 7, but 9 was there before"
        "Somebody deleted records, or put the store back: fence both sites before anything else, and never restore a witness from a backup. Then set up a new one, with `warmspare witness init --term N`, N at least the highest term there was, and start both daemons anew.";
    { NoRandom { what: "ENOSYS".to_owned() } } => 5
        "this machine gives no random numbers: ENOSYS"
        "Look at this machine's /dev/urandom.";
    { Unsound { store: store(), why: "it takes every condition".to_owned() } } => 5
        "s3://dr-witness/app is no witness: it takes every condition"
        "Use another store as the witness: with this one, two sites can be live at once.";
}

says! { a_load_balancer_that_cannot_be_told_says_what_to_write, BalancerError:
    { Word { what: "port", text: "80".to_owned(), why: "it does not say what is spoken" } } => 2
        "port `80` cannot be used: it does not say what is spoken"
        "Write --port 443:tcp, --port 80:http:/health, or with another port at the units --port 80=8080:http:/health.";
    { Word { what: "unit", text: "ber=x".to_owned(), why: "it names no site of the configuration" } } => 2
        "unit `ber=x` cannot be used: it names no site of the configuration"
        "Name each site's gate and units: --gate ams=10.1.0.2:7777 --unit ams=10.1.0.11, and the same for the other one.";
    { Lacks { site: "fra".to_owned(), lacks: "gate" } } => 2
        "fra has no gate"
        "Write under [sites.fra] where load balancers reach its gate: gate = { listen = \"0.0.0.0:7777\", url = \"http://10.1.0.2:7777\" }, or name it: --gate fra=10.1.0.2:7777.";
    { Lacks { site: "fra".to_owned(), lacks: "unit" } } => 2
        "fra has no unit"
        "Name each site's gate and units: --gate ams=10.1.0.2:7777 --unit ams=10.1.0.11, and the same for the other one.";
    { Twice { port: 80 } } => 2
        "port 80 is there twice"
        "Name each port once.";
    { Word { what: "address", text: "10.1.0.100".to_owned(), why: "it is no address with the length of its prefix" } } => 2
        "address `10.1.0.100` cannot be used: it is no address with the length of its prefix"
        "Write --address 10.1.0.100/24 --interface eth0, and --router with a number that no other group of the network has.";
    { DrainTooShort { drain: Duration::from_secs(1), least: Duration::from_secs(5) } } => 2
        "keepalived checks in whole seconds, and two checks do not fit into D, which is 1s"
        "Make `drain` under [witness] at least 5s; `ttl` has to be longer with it.";
    { NoTcp { program: "Caddy", port: 443 } } => 2
        "Caddy cannot ask a gate before it passes TCP through (port 443)"
        "Use HAProxy for it (`warmspare gate config haproxy`), or end TLS at Caddy and name the port as http.";
}
