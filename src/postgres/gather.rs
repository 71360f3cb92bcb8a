//! Gathering: every session of a capture gets its locks before anybody of the application can stand in between.
//!
//! Whoever asks for a lock on a table after an ALTER has begun to wait for one of us stands behind that ALTER, which stands behind us:
//! nobody moves, and the capture is lost. So all our locks are taken within a few milliseconds. pg_dump is the slowest, and goes
//! first: export a snapshot while nothing is held → start pg_dump in it and wait until it has its locks → each worker locks the tables
//! of its share, and those who read definitions lock all (the server locks tables and views to spell them), with `NOWAIT`. Where that is refused, all let go and try again:
//! nobody of us waits while he holds. (pg_dump may, a moment. Else a session that holds table a and waits for b, and a migration that
//! holds b and wants a, would be a deadlock, which PostgreSQL may end at the migration's cost.)
//!
//! The snapshot is older than the locks, and a table that was truncated or altered in between would be copied wrong, or as empty,
//! without an error. So the tables are compared, as the snapshot has them and as they are once they are locked: object id, name,
//! columns, and the file their rows are in, which every TRUNCATE and every ALTER that rewrites the table exchanges.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::task::{JoinError, JoinSet};

use super::catalog::{self, OWN_RELATION, Sizes, Table};
use super::connect::Server;
use super::error::{Error, Place};
use super::programs::{Definitions, Programs};
use super::session::Session;
use super::snapshot::{self, BEGIN, Leader};
use super::watch;

/// Tables locked by one statement; a statement has to be parsed.
const TABLES_PER_LOCK: usize = 500;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether pg_dump has its locks.
const POLL: Duration = Duration::from_millis(2);

/// What a table counts beside its size, in bytes, when work is shared out: thousands of empty ones are work, too.
const TABLE_BYTES: u64 = 64 << 10;

/// The sessions of a capture, connected and holding nothing.
pub struct Sessions {
    server: Server,
    leader: Session,
    workers: Vec<Session>,
    looking: Arc<Session>,
    programs: Programs,
    /// How long pg_dump waits for a single lock.
    lock_timeout: Duration,
}

/// A worker and the tables it is to copy, locked by it, the largest first.
pub struct Share {
    /// The worker's session, in the leader's snapshot.
    pub session: Session,
    /// Its tables.
    pub tables: VecDeque<Table>,
}

/// The sessions of a capture with all their locks, in one snapshot.
pub struct Gathered {
    /// Holds the snapshot, and every table until it has described them.
    pub leader: Leader,
    /// Who copies what.
    pub shares: Vec<Share>,
    /// Sees what is true now and not in the snapshot; holds every table.
    pub looking: Arc<Session>,
    /// What pg_dump says.
    pub dump: Dump,
}

/// pg_dump at work in the snapshot. Dropped, it is ended.
pub struct Dump {
    place: Place,
    task: JoinSet<Result<Definitions, Error>>,
    done: Option<Definitions>,
}

/// The outcome.
pub enum Taken {
    /// Done.
    Snapshot(Box<Gathered>),
    /// In the last try the application changed tables meanwhile; what exactly.
    Overtaken(String),
}

/// Why a try came to nothing.
enum Missed {
    Overtaken(String),
    Failed(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Missed::Failed(error)
    }
}

impl Sessions {
    /// Connects what is to work beside `leader`.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn connect(
        server: &Server,
        leader: Session,
        workers: usize,
        programs: Programs,
        lock_timeout: Duration,
    ) -> Result<Sessions, Error> {
        let connect = || async {
            let session = server.connect().await?;
            watch::mark(&session, leader.pid()).await?;
            session.wait_for_locks(lock_timeout).await?;
            Ok::<_, Error>(session)
        };
        let workers = try_join_all((0..workers.max(1)).map(|_| connect()));
        let (workers, looking) = tokio::try_join!(workers, connect())?;
        Ok(Sessions { server: server.clone(), leader, workers, looking: Arc::new(looking), programs, lock_timeout })
    }

    /// Takes the snapshot and locks every table in it, in at most `tries`.
    ///
    /// # Errors
    /// The server's, sorted: [`Error::LockTimeout`] when a table was locked exclusively every time.
    pub async fn gather(self, tries: u32) -> Result<Taken, Error> {
        let mut left = tries;
        loop {
            left = left.saturating_sub(1);
            match self.once().await {
                Ok((snapshot, shares, dump)) => {
                    return Ok(Taken::Snapshot(Box::new(self.gathered(snapshot, shares, dump))));
                }
                Err(Missed::Overtaken(reason)) if left == 0 => return Ok(Taken::Overtaken(reason)),
                Err(Missed::Failed(error)) if left == 0 || !error.is_of_ddl() => return Err(error),
                Err(_) => {}
            }
            self.let_go().await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self) -> Result<(Snapshot, Vec<Vec<Table>>, Dump), Missed> {
        if let Some(busy) = self.busy().await? {
            return Err(Missed::Failed(busy));
        }
        let snapshot = self.snapshot().await?;
        let mut dump = self.dump(&snapshot.id);
        // Of an extension's tables pg_dump locks only some.
        let own = snapshot.tables.iter().filter(|table| table.condition.is_none()).map(|table| table.oid).collect();
        self.until_locked(&mut dump, own).await?;
        let shares = shares(&snapshot.tables, self.workers.len());
        let joined = self.workers.iter().zip(&shares).map(|(session, share)| join(session, &snapshot.id, share));
        let looking = async {
            self.looking.execute("beginning", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").await?;
            lock(&self.looking, &snapshot.tables).await
        };
        let leader = async {
            self.leader.execute("beginning to lock", "SAVEPOINT before_locks").await?;
            lock(&self.leader, &snapshot.tables).await
        };
        tokio::try_join!(try_join_all(joined), looking, leader)?;
        let now = catalog::tables(&self.looking, Sizes::Unasked).await?;
        match overtaken(&snapshot.tables, &now) {
            Some(what) => Err(Missed::Overtaken(what)),
            None => Ok((snapshot, shares, dump)),
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (leader, doing) = (&self.leader, "taking the snapshot");
        // Any statement in the transaction takes its snapshot, so the position "before" is read outside of it.
        let position = if leader.is_standby() {
            "SELECT pg_last_wal_replay_lsn()::text"
        } else {
            "SELECT pg_current_wal_insert_lsn()::text"
        };
        let lsn_before = leader.text(doing, position).await?;
        leader.execute("beginning the capture", BEGIN).await?;
        let id = leader.text(doing, "SELECT pg_export_snapshot()").await?;
        let lsn_after = leader.text(doing, position).await?;
        let text = leader.text(doing, "SELECT pg_current_snapshot()::text").await?;
        let tables = catalog::tables(leader, Sizes::OnDisk).await?;
        Ok(Snapshot { id, text, lsn_before, lsn_after, tables })
    }

    /// Whoever holds a table exclusively, or waits to: then there is no point in starting pg_dump. Nor is there while a materialized
    /// view is refreshed: pg_dump and the inventory have the server spell it, for which the server locks it, and waits for the end.
    async fn busy(&self) -> Result<Option<Error>, Error> {
        let sql = format!(
            "SELECT l.relation::pg_catalog.regclass::text || CASE WHEN l.granted THEN ' is locked exclusively by' \
             ELSE ' is to be locked exclusively by' END || coalesce(' process ' || l.pid, ' a prepared transaction') \
             || coalesce(': ' || a.query, '') FROM pg_catalog.pg_locks l \
             JOIN pg_catalog.pg_class c ON c.oid = l.relation AND c.relpersistence <> 't' \
             AND c.relkind IN ('r', 'p', 'm') \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND {OWN_RELATION} \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' \
             AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) LIMIT 1"
        );
        let rows = self.looking.rows("looking who locks tables", &sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (place, doing) = (self.leader.place().clone(), LOCKING.to_owned());
        Ok(Some(Error::LockTimeout { place, doing, what: self.looking.cell(row, 0)? }))
    }

    fn dump(&self, id: &str) -> Dump {
        let (programs, server, session) = (self.programs.clone(), self.server.clone(), self.looking.clone());
        let (id, label) = (id.to_owned(), watch::label(self.leader.pid()));
        let lock_timeout_ms = u64::try_from(self.lock_timeout.as_millis()).unwrap_or(u64::MAX);
        let mut task = JoinSet::new();
        task.spawn(async move { programs.definitions(&server, &session, Some(&id), &label, lock_timeout_ms).await });
        Dump { place: self.leader.place().clone(), task, done: None }
    }

    /// Waits until pg_dump holds all of `oids`, or has ended.
    async fn until_locked(&self, dump: &mut Dump, oids: Vec<u32>) -> Result<(), Error> {
        let sql = "SELECT count(DISTINCT l.relation) FROM pg_catalog.pg_locks l \
                   JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE a.application_name = $1 \
                   AND l.locktype = 'relation' AND l.mode = 'AccessShareLock' AND l.granted AND l.relation = ANY($2) \
                   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";
        let label = watch::label(self.leader.pid());
        while !dump.has_ended()? {
            let row = self.looking.one("looking what pg_dump has locked", sql, &[&label, &oids]).await?;
            if self.looking.cell::<i64>(&row, 0)?.unsigned_abs() >= oids.len() as u64 {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends every transaction, and with it whatever is held.
    async fn let_go(&self) -> Result<(), Error> {
        let all = self.workers.iter().chain([&self.leader, &*self.looking]);
        try_join_all(all.map(|session| session.execute("letting go of all locks", "ROLLBACK"))).await.map(drop)
    }

    fn gathered(self, snapshot: Snapshot, shares: Vec<Vec<Table>>, dump: Dump) -> Gathered {
        let Snapshot { id, text, lsn_before, lsn_after, tables } = snapshot;
        let leader = Leader { session: self.leader, id, text, lsn_before, lsn_after, tables };
        let shares = self.workers.into_iter().zip(shares);
        let shares = shares.map(|(session, tables)| Share { session, tables: tables.into() }).collect();
        Gathered { leader, shares, looking: self.looking, dump }
    }
}

impl Dump {
    /// Whether it has ended, and well.
    fn has_ended(&mut self) -> Result<bool, Error> {
        if let Some(done) = self.task.try_join_next() {
            self.done = Some(self.result(done)?);
        }
        Ok(self.done.is_some())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::ProgramFailed`], [`Error::Lost`].
    pub async fn end(mut self) -> Result<Definitions, Error> {
        match self.done.take() {
            Some(done) => Ok(done),
            None => match self.task.join_next().await {
                Some(done) => self.result(done),
                None => Err(self.failed("it was never begun")),
            },
        }
    }

    fn result(&self, ended: Result<Result<Definitions, Error>, JoinError>) -> Result<Definitions, Error> {
        match ended.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            // It cannot panic by the rules of this house; if it does, it panics here.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Err(self.failed("it was given up")),
        }
    }

    fn failed(&self, what: &str) -> Error {
        Error::ProgramFailed { place: self.place.clone(), program: "pg_dump".to_owned(), what: what.to_owned() }
    }
}

struct Snapshot {
    id: String,
    text: String,
    lsn_before: String,
    lsn_after: String,
    tables: Vec<Table>,
}

const LOCKING: &str = "locking the tables against changes of their definition";

/// Locks `tables` against changes of their definition, at once or not at all.
async fn lock(session: &Session, tables: &[Table]) -> Result<(), Error> {
    for part in tables.chunks(TABLES_PER_LOCK) {
        let names: Vec<String> = part.iter().map(|table| format!("ONLY {}", table.qualified())).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT", names.join(", "));
        session.execute(LOCKING, &sql).await?;
    }
    Ok(())
}

/// A worker's locks, and the snapshot.
async fn join(session: &Session, id: &str, share: &[Table]) -> Result<(), Error> {
    session.execute("beginning", BEGIN).await?;
    lock(session, share).await?;
    snapshot::import(session, id).await
}

/// The tables with rows, shared out among so many workers: each in turn, the largest first, to whoever has the least.
fn shares(tables: &[Table], workers: usize) -> Vec<Vec<Table>> {
    let mut shares: Vec<(u64, Vec<Table>)> = vec![(0, Vec::new()); workers];
    for table in tables.iter().filter(|table| table.has_rows) {
        if let Some((bytes, share)) = shares.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += table.disk_bytes + TABLE_BYTES;
            share.push(table.clone());
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

/// The first of the snapshot's tables that is not any more what it was. One that is only new is not in the snapshot.
fn overtaken(snapshot: &[Table], now: &[Table]) -> Option<String> {
    let now: HashSet<Identity> = now.iter().map(identity).collect();
    let changed = snapshot.iter().find(|table| !now.contains(&identity(table)));
    changed.map(|table| format!("table {} was changed while the tables were being locked", table.qualified()))
}

type Identity<'a> = (u32, u32, &'a str, &'a str, &'a [String]);

/// What must not have changed between the snapshot and the locks.
fn identity(table: &Table) -> Identity<'_> {
    (table.oid, table.file, &table.schema, &table.name, &table.columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, mib: u64) -> Table {
        Table {
            oid: 1,
            file: 1,
            schema: "public".into(),
            name: name.into(),
            columns: Vec::new(),
            disk_bytes: mib << 20,
            has_rows: true,
            condition: None,
            through: None,
        }
    }

    #[test]
    fn the_work_is_shared_out_evenly_and_nothing_is_left_out() {
        let parent = Table { has_rows: false, ..table("parent", 0) };
        let mut tables = vec![table("a", 70), table("b", 40), table("c", 30), parent];
        tables.extend((0..10).map(|n| table(&format!("empty_{n}"), 0)));
        let shares = shares(&tables, 2);
        let names = |share: &[Table]| share.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&shares[0])[..2], ["a", "empty_0"]);
        assert_eq!(names(&shares[1])[..2], ["b", "c"]);
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), 13);
        assert!(super::shares(&tables, 40).iter().all(|share| share.len() <= 1));
    }

    #[test]
    fn a_table_that_was_truncated_altered_or_replaced_since_the_snapshot_is_noticed_and_a_new_one_is_no_matter() {
        let then = [table("a", 1), table("b", 1)];
        assert_eq!(overtaken(&then, &[table("b", 2), table("c", 1), table("a", 1)]), None);
        let truncated = Table { file: 2, ..table("b", 0) };
        let altered = Table { columns: vec!["new".into()], ..table("b", 1) };
        let replaced = Table { oid: 7, ..table("b", 1) };
        for other in [truncated, altered, replaced, table("renamed", 1)] {
            let what = overtaken(&then, &[table("a", 1), other]).unwrap();
            assert_eq!(what, "table \"public\".\"b\" was changed while the tables were being locked");
        }
    }
}
