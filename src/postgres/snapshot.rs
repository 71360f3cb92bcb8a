//! The snapshot that all sessions of a capture share. [`gather`](super::gather) takes it.

use super::catalog::Table;
use super::connect::Server;
use super::error::Error;
use super::quote;
use super::session::Session;

pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The session that holds the exported snapshot.
pub struct Leader {
    pub(super) session: Session,
    /// The identifier other sessions import.
    pub id: String,
    /// `pg_current_snapshot()`: xmin, xmax and the transactions in between.
    pub text: String,
    /// The end of the write-ahead log just before the snapshot was taken; at a standby, what it had replayed of it.
    pub lsn_before: String,
    /// And just after it. Equal: the snapshot is exactly that point; else a bracket.
    pub lsn_after: String,
    /// The tables of the snapshot, the largest first.
    pub tables: Vec<Table>,
}

impl Leader {
    /// The session that holds it. Closing it releases the snapshot.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Lets go of the tables, and of the views, which the server locks to spell them. The snapshot stays.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn let_go_of_tables(&self) -> Result<(), Error> {
        self.session.execute("letting go of the tables", "ROLLBACK TO SAVEPOINT before_locks").await
    }

    /// Releases the snapshot.
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
    import(&session, id).await?;
    Ok(session)
}

/// Lets the session, which has just begun, see what the leader sees.
pub(super) async fn import(session: &Session, id: &str) -> Result<(), Error> {
    let sql = format!("SET TRANSACTION SNAPSHOT {}", quote::literal(id));
    match session.execute("importing the snapshot", &sql).await {
        Err(Error::Server { place, what, .. }) => Err(Error::SnapshotGone { place, what }),
        other => other,
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
