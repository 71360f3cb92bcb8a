//! The watcher: the application's DDL wins.
//!
//! An ALTER that waits for a lock we hold makes every SELECT behind it wait too, and when `pg_dump` or a worker of ours
//! waits behind the ALTER, nobody moves any more and PostgreSQL sees no deadlock. So a session of its own asks a few times
//! a second who waits for us, and for how long. Beyond the limit it ends all our sessions at once; the capture starts over.
//!
//! And vacuum wins: what is updated or deleted while a snapshot lasts cannot be cleaned up, in no database of the server. The session
//! also asks how many transactions have begun since; beyond that limit it ends the capture for good, for the next attempt would
//! last as long.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
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
    limits: Limits,
    horizon: Mutex<Option<Horizon>>,
    reason: OnceLock<Tripped>,
}

/// What the application bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Waiting for us so long.
    pub blocked: Duration,
    /// So many transactions while our snapshot lasts.
    pub xmin_age: u64,
}

/// How far vacuum may clean up while our snapshot lasts, as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Horizon {
    /// `backend_xmin` of the leader.
    xmin: String,
    /// How many transactions had begun since that one. Not 0 where others, older than we are, hold vacuum back as well.
    age: u64,
}

/// Why the attempt was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tripped {
    /// Somebody waited too long for us.
    Waited {
        /// The process of the application's session.
        pid: i32,
        /// What it wanted to do.
        query: String,
        /// How long it had waited, in milliseconds.
        waited_ms: u64,
    },
    /// Too many transactions began while our snapshot lasted.
    HeldBack {
        /// How many.
        transactions: u64,
        /// How old the snapshot was.
        lasted: Duration,
    },
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
        match self {
            Tripped::Waited { pid, query, waited_ms } => {
                let seconds = Duration::from_millis(*waited_ms).as_secs_f32();
                let query: String = query.chars().take(200).collect();
                write!(f, "a session of the application (pid {pid}) had waited {seconds:.1} s for us, with: {query}")
            }
            Tripped::HeldBack { transactions, lasted } => {
                write!(f, "{transactions} transactions had begun in the {:.1} s of our snapshot", lasted.as_secs_f32())
            }
        }
    }
}

impl Watcher {
    /// Will watch, by `session`, over the attempt whose first session is the process `leader`.
    pub fn new(session: Session, leader: i32, limits: Limits) -> Watcher {
        Watcher { session, leader, limits, horizon: Mutex::new(None), reason: OnceLock::new() }
    }

    /// Returns when a limit is exceeded, after ending all sessions of the attempt.
    ///
    /// # Errors
    /// The server's, sorted: the watcher cannot see any more, so the capture must not go on.
    pub async fn tripped(&self) -> Result<Tripped, Error> {
        loop {
            let tripped = match self.who_waits().await? {
                Some(tripped) => Some(tripped),
                None => self.what_is_held_back().await?,
            };
            if let Some(tripped) = tripped {
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

    async fn who_waits(&self) -> Result<Option<Tripped>, Error> {
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
        if Duration::from_millis(waited_ms) < self.limits.blocked {
            return Ok(None);
        }
        Ok(Some(Tripped::Waited { pid: self.session.cell(row, 0)?, query: self.session.cell(row, 1)?, waited_ms }))
    }

    /// The leader's snapshot is the one all others share. What counts is what has begun since it was taken: an older transaction of
    /// somebody else makes it look older than it is, and holds vacuum back without us.
    async fn what_is_held_back(&self) -> Result<Option<Tripped>, Error> {
        let sql = "SELECT backend_xmin::text, age(backend_xmin)::int8, \
                   (extract(epoch FROM clock_timestamp() - coalesce(xact_start, clock_timestamp())) * 1000)::int8 \
                   FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND backend_xmin IS NOT NULL";
        let rows = self.session.rows("looking how old our snapshot is", sql, &[&self.leader]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let count = |at| Ok::<_, Error>(self.session.cell::<i64>(row, at)?.max(0).unsigned_abs());
        let now = Horizon { xmin: self.session.cell(row, 0)?, age: count(1)? };
        let lasted = Duration::from_millis(count(2)?);
        let mut first = self.horizon.lock().unwrap_or_else(PoisonError::into_inner);
        let transactions = now.since(&mut first);
        Ok((transactions > self.limits.xmin_age).then_some(Tripped::HeldBack { transactions, lasted }))
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

impl Horizon {
    /// How many transactions have begun since the horizon stands where it stands.
    fn since(self, first: &mut Option<Horizon>) -> u64 {
        match first {
            Some(first) if first.xmin == self.xmin => self.age.saturating_sub(first.age),
            _ => {
                *first = Some(self);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_hold_back_is_not_ours() {
        let mut first = None;
        let mut since = |xmin: &str, age| Horizon { xmin: xmin.to_owned(), age }.since(&mut first);
        // A prepared transaction of last year is the horizon.
        assert_eq!(since("700", 90_000_000), 0);
        assert_eq!(since("700", 90_000_123), 123);
        // The snapshot was taken anew.
        assert_eq!(since("90000700", 4), 0);
        assert_eq!(since("90000700", 10), 6);
    }
}
