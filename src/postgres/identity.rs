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

/// The size of the database this session is in, with its indexes, on disk.
///
/// # Errors
/// The server's, sorted.
pub async fn disk_bytes(session: &Session) -> Result<u64, Error> {
    let sql = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())";
    let row = session.one("asking for the size of the database", sql, &[]).await?;
    Ok(session.cell::<i64>(&row, 0)?.unsigned_abs())
}

/// Reads the identity of the database this session is in.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session) -> Result<Identity, Error> {
    // The last checkpoint may be of the timeline before a promotion; the file being written, or the end that recovery
    // must reach, is not.
    let timeline = if session.is_standby() {
        "(SELECT greatest(c.timeline_id, r.min_recovery_end_timeline) FROM pg_control_checkpoint() c, pg_control_recovery() r)"
    } else {
        "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4"
    };
    let sql = format!(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), {timeline}, \
         (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
    );
    let row = session.one("asking the server who it is", &sql, &[]).await?;
    Ok(Identity {
        system_identifier: session.cell(&row, 0)?,
        timeline: session.cell::<i32>(&row, 1)?.unsigned_abs(),
        database_oid: session.cell(&row, 2)?,
    })
}
