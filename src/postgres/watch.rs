//! The watcher: the application's DDL wins.
//!
//! An ALTER that waits for a lock we hold makes every SELECT behind it wait too, and when `pg_dump` or a worker of ours
//! waits behind the ALTER, nobody moves any more and PostgreSQL sees no deadlock. So a session of its own asks a few times
//! a second who waits for us, and for how long. Beyond the limit it ends all our sessions at once; the capture starts over.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::connect::APPLICATION_NAME;
use super::error::Error;
use super::quote;
use super::session::Session;

/// How often it asks. Limit + this + the time to end our sessions is what an application session may be blocked.
const POLL: Duration = Duration::from_millis(250);

/// Watches over the sessions of one capture attempt.
pub struct Watcher {
    session: Session,
    leader: i32,
    limit: Duration,
    reason: OnceLock<Tripped>,
}

/// Somebody waited too long for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// The process of the application's session.
    pub pid: i32,
    /// What it wanted to do.
    pub query: String,
    /// How long it had waited, in milliseconds.
    pub waited_ms: u64,
}

/// What our sessions of the attempt led by the process `leader` are called.
pub fn label(leader: i32) -> String {
    format!("{APPLICATION_NAME} capture {leader}")
}

/// Gives this session the name under which the watcher finds it.
///
/// # Errors
/// The server's, sorted.
pub async fn mark(session: &Session, leader: i32) -> Result<(), Error> {
    let sql = format!("SET application_name = {}", quote::literal(&label(leader)));
    session.execute("naming the session", &sql).await
}

impl fmt::Display for Tripped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_millis(self.waited_ms).as_secs_f32();
        let query: String = self.query.chars().take(200).collect();
        write!(f, "a session of the application (pid {}) had waited {seconds:.1} s for us, with: {query}", self.pid)
    }
}

impl Watcher {
    /// Will watch, by `session`, over the attempt whose first session is the process `leader`.
    pub fn new(session: Session, leader: i32, limit: Duration) -> Watcher {
        Watcher { session, leader, limit, reason: OnceLock::new() }
    }

    /// Returns when somebody waited for us longer than the limit, after ending all sessions of the attempt.
    ///
    /// # Errors
    /// The server's, sorted: the watcher cannot see any more, so the capture must not go on.
    pub async fn tripped(&self) -> Result<Tripped, Error> {
        loop {
            if let Some(tripped) = self.look().await? {
                let reason = self.reason.get_or_init(|| tripped);
                self.end_all().await?;
                return Ok(reason.clone());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Why the sessions of the attempt were ended, if they were.
    pub fn reason(&self) -> Option<&Tripped> {
        self.reason.get()
    }

    async fn look(&self) -> Result<Option<Tripped>, Error> {
        let sql = "WITH ours AS (SELECT array_agg(pid) AS pids FROM pg_catalog.pg_stat_activity \
                   WHERE application_name = $1 OR pid = $2), \
                   waiting AS (SELECT l.pid, min(l.waitstart) AS since FROM pg_catalog.pg_locks l WHERE NOT l.granted GROUP BY l.pid) \
                   SELECT w.pid, coalesce(a.query, ''), (extract(epoch FROM clock_timestamp() - w.since) * 1000)::int8 \
                   FROM waiting w JOIN ours ON NOT w.pid = ANY(ours.pids) AND pg_blocking_pids(w.pid) && ours.pids \
                   LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = w.pid \
                   WHERE w.since IS NOT NULL ORDER BY 3 DESC LIMIT 1";
        let name = label(self.leader);
        let rows = self.session.rows("looking who waits for us", sql, &[&name, &self.leader]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let waited_ms = self.session.cell::<i64>(row, 2)?.max(0).unsigned_abs();
        if Duration::from_millis(waited_ms) < self.limit {
            return Ok(None);
        }
        Ok(Some(Tripped { pid: self.session.cell(row, 0)?, query: self.session.cell(row, 1)?, waited_ms }))
    }

    /// Ends every session of the attempt. A session cancelled by its client could still hold its locks for seconds.
    async fn end_all(&self) -> Result<(), Error> {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
                   WHERE (application_name = $1 OR pid = $2) AND pid <> pg_backend_pid()";
        let name = label(self.leader);
        self.session.one("ending our sessions", sql, &[&name, &self.leader]).await?;
        Ok(())
    }

    /// Stops watching.
    pub async fn close(self) {
        self.session.close().await;
    }
}
