//! Which server and which database this is, beyond its name.

use super::error::Error;
use super::session::Session;

/// The numbers PostgreSQL itself keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster, from initdb; the same on its physical copies.
    pub system_identifier: String,
    /// The timeline of its write-ahead log.
    pub timeline: u32,
    /// The database's object id.
    pub database_oid: u32,
}

/// Reads the identity of the database this session is in.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session) -> Result<Identity, Error> {
    let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()), \
               (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";
    let row = session.one("asking the server who it is", sql, &[]).await?;
    Ok(Identity {
        system_identifier: session.cell(&row, 0)?,
        timeline: session.cell::<i32>(&row, 1)?.unsigned_abs(),
        database_oid: session.cell(&row, 2)?,
    })
}
