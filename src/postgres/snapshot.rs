//! The snapshot that all sessions of a capture share, and the order in which it is taken.
//!
//! `LOCK TABLE` takes no snapshot, so it may come first in the transaction, and must: a TRUNCATE between snapshot and lock
//! makes a COPY return 0 rows without an error. So: list, begin, lock all, export the snapshot, list again; a difference
//! between the two lists is somebody's DDL in between, and the attempt is repeated.

use std::collections::HashSet;

use super::catalog::{self, Sizes, Table};
use super::connect::Server;
use super::error::Error;
use super::quote;
use super::session::Session;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Tables locked by one statement; a statement has to be parsed.
const TABLES_PER_LOCK: usize = 500;

/// The session that holds the locks and the exported snapshot.
pub struct Leader {
    session: Session,
    /// The identifier other sessions import.
    pub id: String,
    /// `pg_current_snapshot()`: xmin, xmax and the transactions in between.
    pub text: String,
    /// The end of the write-ahead log just before the snapshot was taken; at a standby, what it had replayed of it.
    pub lsn_before: String,
    /// And just after it. Equal: the snapshot is exactly that point; else a bracket.
    pub lsn_after: String,
    /// The tables of the snapshot, all of them locked, the largest first.
    pub tables: Vec<Table>,
}

/// The outcome of an attempt to lock and take the snapshot.
pub enum Taken {
    /// Done.
    Snapshot(Box<Leader>),
    /// The application changed tables meanwhile; what exactly.
    Overtaken(String),
}

/// Locks every table and takes the snapshot. The session must be one that does not wait for locks for ever.
///
/// # Errors
/// The server's, sorted: [`Error::LockTimeout`] when a table is locked exclusively, SQLSTATE 42P01 when one vanishes.
pub async fn take(session: Session) -> Result<Taken, Error> {
    let before = catalog::tables(&session, Sizes::Unasked).await?;
    let doing = "taking the snapshot";
    // Any statement in the transaction but LOCK takes its snapshot, so the position "before" is read outside of it.
    let position = if session.is_standby() {
        "SELECT pg_last_wal_replay_lsn()::text"
    } else {
        "SELECT pg_current_wal_insert_lsn()::text"
    };
    let lsn_before = session.text(doing, position).await?;
    session.execute("beginning the capture", BEGIN).await?;
    for part in before.chunks(TABLES_PER_LOCK) {
        let names: Vec<String> = part.iter().map(|table| format!("ONLY {}", table.qualified())).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        session.execute("locking the tables against changes of their definition", &sql).await?;
    }
    let id = session.text(doing, "SELECT pg_export_snapshot()").await?;
    let lsn_after = session.text(doing, position).await?;
    let text = session.text(doing, "SELECT pg_current_snapshot()::text").await?;
    let tables = catalog::tables(&session, Sizes::OnDisk).await?;
    match overtaken(&before, &tables) {
        Some(what) => {
            session.close().await;
            Ok(Taken::Overtaken(what))
        }
        None => Ok(Taken::Snapshot(Box::new(Leader { session, id, text, lsn_before, lsn_after, tables }))),
    }
}

/// The first difference between the tables that were locked and those in the snapshot.
fn overtaken(locked: &[Table], found: &[Table]) -> Option<String> {
    let identities = |tables: &'_ [Table]| -> HashSet<Identity> { tables.iter().map(identity).collect() };
    let (there, here) = (identities(locked), identities(found));
    let appeared = found.iter().find(|table| !there.contains(&identity(table)));
    let vanished = locked.iter().find(|table| !here.contains(&identity(table)));
    appeared
        .or(vanished)
        .map(|table| format!("table {} was changed while the tables were being locked", table.qualified()))
}

type Identity = (u32, String, Vec<String>);

/// What must not have changed between the lock and the snapshot: which table bears the name, and its columns.
fn identity(table: &Table) -> Identity {
    (table.oid, table.qualified(), table.columns.clone())
}

impl Leader {
    /// The session that holds it all. Closing it releases the locks.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Releases the locks and the snapshot.
    pub async fn release(self) {
        self.session.close().await;
    }
}

/// A further session that sees exactly what the leader sees.
///
/// # Errors
/// [`Error::SnapshotGone`] when the leader's session ended.
pub async fn join(server: &Server, id: &str) -> Result<Session, Error> {
    let session = server.connect().await?;
    session.execute("beginning", BEGIN).await?;
    let sql = format!("SET TRANSACTION SNAPSHOT {}", quote::literal(id));
    match session.execute("importing the snapshot", &sql).await {
        Ok(()) => Ok(session),
        Err(Error::Server { place, what, .. }) => Err(Error::SnapshotGone { place, what }),
        Err(other) => Err(other),
    }
}

/// A session in a read-only snapshot of its own, for a proof.
///
/// # Errors
/// The server's, sorted.
pub async fn alone(server: &Server, database: &str) -> Result<Session, Error> {
    let session = server.connect_to(database).await?;
    session.execute("beginning", BEGIN).await?;
    Ok(session)
}
