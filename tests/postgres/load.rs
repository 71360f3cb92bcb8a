//! The application at work while it is captured: pgbench over tables with foreign keys, and a migration that never ends. What the
//! application feels of it is measured three ways: pgbench's own log of every transaction, the time of every statement of the
//! migration, and a session that asks several times a second who waits for us, directly or behind somebody who does.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use warmspare::capture::layout;
use warmspare::postgres::Session;
use warmspare::stream::{StreamKind, StreamName};

use super::{bring_back, differences, take, target, words};
use crate::support::memory::MemorySource;
use crate::support::postgres::PostgresServer;

/// What nobody of the application may ever wait, whatever we do.
pub(super) const FELT_MAX: Duration = Duration::from_secs(6);

/// One round of what migrations do, each line a statement or a transaction. Each touches one table that pgbench writes, so
/// that it can be in no deadlock with pgbench.
const MIGRATION: [&str; 17] = [
    "ALTER TABLE public.pgbench_accounts ADD COLUMN note text",
    "CREATE INDEX tellers_of_branch ON public.pgbench_tellers (bid)",
    "ALTER TABLE public.pgbench_branches ADD CONSTRAINT sane CHECK (bbalance < 2000000000) NOT VALID",
    "CREATE TABLE public.releases (id int PRIMARY KEY, bid int REFERENCES public.pgbench_branches)",
    "INSERT INTO public.releases VALUES (1, 1)",
    "CREATE OR REPLACE VIEW public.balances AS SELECT sum(bbalance) AS all_of_them FROM public.pgbench_branches",
    "ALTER TABLE public.pgbench_branches VALIDATE CONSTRAINT sane",
    "ALTER TABLE public.releases RENAME TO shipped",
    "BEGIN; ALTER TABLE public.pgbench_history ADD COLUMN why text DEFAULT 'unknown'; \
     COMMENT ON COLUMN public.pgbench_history.why IS 'asked for'; COMMIT",
    "CREATE INDEX CONCURRENTLY history_of_account ON public.pgbench_history (aid)",
    "ALTER TABLE public.pgbench_branches DROP CONSTRAINT sane",
    "DROP INDEX public.tellers_of_branch",
    "CREATE OR REPLACE VIEW public.balances AS SELECT sum(tbalance) AS all_of_them FROM public.pgbench_tellers",
    "DROP INDEX CONCURRENTLY public.history_of_account",
    "ALTER TABLE public.pgbench_history DROP COLUMN why",
    "DROP TABLE public.shipped",
    "ALTER TABLE public.pgbench_accounts DROP COLUMN note",
];

/// Who waits for a capture, or behind somebody who does: the longest, in milliseconds.
const WAITING: &str = "WITH RECURSIVE ours AS MATERIALIZED (SELECT coalesce(array_agg(pid), '{}') AS pids FROM pg_stat_activity \
    WHERE application_name LIKE 'warmspare capture %'), \
    waiting AS MATERIALIZED (SELECT l.pid, min(l.waitstart) AS since, pg_blocking_pids(l.pid) AS behind FROM pg_locks l, ours \
    WHERE NOT l.granted AND l.waitstart IS NOT NULL AND l.pid <> ALL (ours.pids) GROUP BY l.pid), \
    held AS (SELECT w.* FROM waiting w, ours WHERE w.behind && ours.pids \
    UNION SELECT w.* FROM waiting w JOIN held h ON h.pid = ANY (w.behind)) \
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - since) * 1000), 0)::int8::text FROM held";

/// Accounts, branches, tellers and history of a database, which agree.
pub(super) const SUMS: &str = "SELECT concat_ws(' ', (SELECT sum(abalance) FROM public.pgbench_accounts), \
    (SELECT sum(bbalance) FROM public.pgbench_branches), (SELECT sum(tbalance) FROM public.pgbench_tellers), \
    (SELECT sum(delta) FROM public.pgbench_history))";

/// What the application felt.
#[derive(Debug, Default)]
pub(super) struct Felt {
    pub transactions: u64,
    pub longest_transaction: Duration,
    pub statements: u64,
    pub longest_statement: Duration,
    pub slowest: &'static str,
    pub longest_wait_for_us: Duration,
}

impl std::fmt::Display for Felt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_millis();
        write!(
            f,
            "{} application transactions, the longest {} ms; {} statements of migrations, the longest {} ms ({}); longest wait for us {} ms",
            self.transactions,
            ms(self.longest_transaction),
            self.statements,
            ms(self.longest_statement),
            self.slowest.get(..40).unwrap_or(self.slowest),
            ms(self.longest_wait_for_us)
        )
    }
}

impl Felt {
    pub(super) fn assert_bearable(&self) {
        let longest = self.longest_transaction.max(self.longest_statement).max(self.longest_wait_for_us);
        assert!(longest < FELT_MAX, "the application was held up: {self}");
    }
}

/// Fills a database for it.
pub(super) fn fill(server: &PostgresServer, database: &str, scale: u32) {
    let mut filling = server.program("pgbench", database);
    filling.args(["-i", "-q", "--foreign-keys", "-s", &scale.to_string()]).stderr(Stdio::null());
    assert!(filling.status().unwrap().success());
}

/// The application, working until it is told to stop.
pub(super) struct Load {
    pgbench: Running,
    log: tempfile::TempDir,
    ending: Session,
    stop: Arc<AtomicBool>,
    migrating: JoinHandle<Felt>,
    watching: JoinHandle<Duration>,
}

impl Load {
    /// Starts `clients` of pgbench and the migration, which pauses up to `pause` between two statements.
    pub(super) async fn start(server: &PostgresServer, database: &str, clients: u32, pause: Duration) -> Load {
        let log = tempfile::tempdir().unwrap();
        let mut command = server.program("pgbench", database);
        command.args(["-n", "-c", &clients.to_string(), "-T", "3600", "-l"]);
        command.arg(format!("--log-prefix={}/transactions", log.path().display()));
        let pgbench = Running::spawn(&mut command);
        let stop = Arc::new(AtomicBool::new(false));
        let migrating = tokio::spawn(migrate(server.session(database).await, pause, stop.clone()));
        let watching = tokio::spawn(watch(server.session(database).await, stop.clone()));
        while server.value(database, "SELECT count(*)::text FROM public.pgbench_history").await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Load { pgbench, log, ending: server.session(database).await, stop, migrating, watching }
    }

    /// Ends it all; a migration's round is brought to its end.
    pub(super) async fn stop(mut self) -> Felt {
        assert!(self.pgbench.is_running(), "pgbench wrote all the time");
        self.stop.store(true, Ordering::SeqCst);
        let mut felt = self.migrating.await.unwrap();
        felt.longest_wait_for_us = self.watching.await.unwrap();
        // It ends by itself when its sessions do, and then what it logs is written.
        self.ending
            .execute("", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'")
            .await
            .unwrap();
        self.ending.close().await;
        self.pgbench.0.wait().unwrap();
        for entry in std::fs::read_dir(self.log.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            // client, transaction, microseconds, script, second, microsecond. The last line may be cut.
            let times = text.lines().filter(|line| line.split(' ').count() >= 6);
            for micros in times.map(|line| line.split(' ').nth(2).unwrap().parse().unwrap()) {
                felt.transactions += 1;
                felt.longest_transaction = felt.longest_transaction.max(Duration::from_micros(micros));
            }
        }
        felt
    }
}

async fn migrate(session: Session, pause: Duration, stop: Arc<AtomicBool>) -> Felt {
    let (mut felt, mut step) = (Felt::default(), 0_u64);
    while !stop.load(Ordering::SeqCst) {
        for statement in MIGRATION {
            // Not waiting for anything: migrations do not come in step with us.
            tokio::time::sleep(pause.mul_f64((step * 7 % 16) as f64 / 16.0)).await;
            step += 1;
            let begun = Instant::now();
            // Several statements at once would be one transaction; CONCURRENTLY is alone.
            session.execute("", statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            felt.statements += 1;
            if begun.elapsed() > felt.longest_statement {
                (felt.longest_statement, felt.slowest) = (begun.elapsed(), statement);
            }
        }
    }
    session.close().await;
    felt
}

async fn watch(session: Session, stop: Arc<AtomicBool>) -> Duration {
    let mut longest_ms = 0;
    while !stop.load(Ordering::SeqCst) {
        longest_ms = session.text("", WAITING).await.unwrap().parse::<u64>().unwrap().max(longest_ms);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    session.close().await;
    Duration::from_millis(longest_ms)
}

/// A child that does not outlive its test.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn spawn(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sum of a column in the captured bytes of a table.
fn sum(source: &MemorySource, table: &str, column: &str) -> i64 {
    let name = StreamName::new(StreamKind::Table, format!("\"public\".\"{table}\""));
    let tables = layout::tables(source).unwrap();
    let (_, facts) = tables.iter().find(|(entry, _)| entry.name == name).unwrap();
    let at = facts.columns.iter().position(|known| known == column).unwrap();
    let bytes = source.bytes(&name).unwrap();
    let mut sum = 0;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let cells: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        assert_eq!(cells.len(), facts.columns.len(), "{table}: the rows are of the captured columns");
        sum += std::str::from_utf8(cells[at]).unwrap().parse::<i64>().unwrap();
    }
    sum
}

/// Every transaction of pgbench adds one number to an account, a teller and a branch, and writes it into the history.
fn assert_consistent(source: &MemorySource) {
    let accounts = sum(source, "pgbench_accounts", "abalance");
    let [tellers, branches, history] = [("tellers", "tbalance"), ("branches", "bbalance"), ("history", "delta")]
        .map(|(table, column)| sum(source, &format!("pgbench_{table}"), column));
    assert_eq!([accounts; 3], [tellers, branches, history], "accounts, tellers, branches and history agree");
}

const CAPTURES: u32 = 3;
/// 200,000 accounts; `make soak` has more of both.
const SCALE: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn under_load_and_endless_migrations_captures_end_are_consistent_and_hold_nobody_up_for_six_seconds() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("bench", "SELECT 1").await;
    fill(&live, "bench", SCALE);
    let load = Load::start(&live, "bench", 4, Duration::from_millis(100)).await;
    let (mut attempts, mut last) = (0, None);
    for run in 1..=CAPTURES {
        let begun = Instant::now();
        let captured = take(&live, "bench").await.unwrap();
        println!("capture {run}: {} attempts, {:.1} s", captured.facts.attempts, begun.elapsed().as_secs_f64());
        attempts += captured.facts.attempts;
        assert_consistent(&captured.sink.source());
        last = Some(captured);
    }
    let felt = load.stop().await;
    println!("{} captures in {attempts} attempts; {felt}", CAPTURES);
    felt.assert_bearable();
    let captured = last.unwrap();
    let target = target(&spare, "bench");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
}
