//! A row that is replaced only if it is still of the revision that was read, with its past beside it: what a witness needs of
//! a database. One statement each, which the server either does or does not.
//!
//! Two tables in a schema of their own, made by [`make`]: `record` has a row for each name, `history` what was in it.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::Error;
use super::session::Session;

/// The schema of both tables.
pub const SCHEMA: &str = "warmspare_witness";

/// Rows of history that one statement returns at most.
const ROWS_MAX: i64 = 100_000;

/// A row as it is, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How often it was written, and once more after each write.
    pub revision: u64,
    /// What is in it.
    pub value: Bytes,
}

/// Has the server confirm only what is on its disk, and give up by itself what takes longer than `at_most`.
///
/// # Errors
/// The server's, sorted.
pub async fn pin(session: &Session, at_most: Duration) -> Result<(), Error> {
    let sql = format!("SET synchronous_commit = on; SET statement_timeout = {}", at_most.as_millis().max(1));
    session.execute("pinning what a commit means", &sql).await
}

/// Makes schema and tables; those that are there stay.
///
/// # Errors
/// The server's, sorted.
pub async fn make(session: &Session) -> Result<(), Error> {
    let sql = format!(
        "BEGIN; CREATE SCHEMA IF NOT EXISTS {SCHEMA}; \
         CREATE TABLE IF NOT EXISTS {SCHEMA}.record (\
         name text PRIMARY KEY, revision bigint NOT NULL, value text NOT NULL); \
         CREATE TABLE IF NOT EXISTS {SCHEMA}.history (\
         name text NOT NULL, revision bigint NOT NULL, value text NOT NULL, \
         written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()); \
         CREATE INDEX IF NOT EXISTS history_by_name ON {SCHEMA}.history (name, revision); COMMIT"
    );
    session.execute("making the tables of the witness", &sql).await
}

/// The rows of one statement, which goes to the server in one piece: parsed and carried out, or not arrived.
async fn asked(
    session: &Session,
    doing: &str,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    session.client().query_typed(sql, parameters).await.map_err(|e| session.error(doing, e))
}

/// Whether the tables are there.
///
/// # Errors
/// The server's, sorted.
pub async fn is_made(session: &Session) -> Result<bool, Error> {
    let sql =
        format!("SELECT to_regclass('{SCHEMA}.record') IS NOT NULL AND to_regclass('{SCHEMA}.history') IS NOT NULL");
    let row = session.one("looking for the tables of the witness", &sql, &[]).await?;
    session.cell(&row, 0)
}

/// The row called `name`.
///
/// # Errors
/// The server's, sorted.
pub async fn get(session: &Session, name: &str) -> Result<Option<Kept>, Error> {
    let sql = format!("SELECT revision, value FROM {SCHEMA}.record WHERE name = $1");
    let rows = asked(session, "reading the row of the witness", &sql, &[(&name, Type::TEXT)]).await?;
    rows.first().map(|row| kept(session, row)).transpose()
}

/// What was in the row called `name`, the newest first, at most `count`, as far as it was not pruned.
///
/// # Errors
/// The server's, sorted.
pub async fn earlier(session: &Session, name: &str, count: usize) -> Result<Vec<Kept>, Error> {
    let count = i64::try_from(count).unwrap_or(ROWS_MAX).min(ROWS_MAX);
    let sql = format!(
        "SELECT revision, value FROM {SCHEMA}.history WHERE name = $1 ORDER BY written_at DESC, revision DESC LIMIT $2"
    );
    let rows = asked(session, "reading the history of the witness", &sql, &[(&name, Type::TEXT), (&count, Type::INT8)])
        .await?;
    rows.iter().map(|row| kept(session, row)).collect()
}

/// Makes the row called `name`, unless it is there: its revision; nothing when it is.
///
/// # Errors
/// The server's, sorted; when the connection was lost it is not known whether it was done.
pub async fn create(session: &Session, name: &str, value: &Bytes) -> Result<Option<u64>, Error> {
    let sql = format!(
        "WITH done AS (INSERT INTO {SCHEMA}.record (name, revision, value) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING \
         RETURNING name, revision, value) \
         INSERT INTO {SCHEMA}.history (name, revision, value) SELECT * FROM done RETURNING revision"
    );
    let value = String::from_utf8_lossy(value).into_owned();
    let rows =
        asked(session, "setting up the row of the witness", &sql, &[(&name, Type::TEXT), (&value, Type::TEXT)]).await?;
    revision(session, &rows)
}

/// Replaces the row called `name` if it is of `revision_expected` and, where the caller knows it, has `value_expected`: its new
/// revision; nothing when it is not.
///
/// # Errors
/// As [`create`].
pub async fn replace(
    session: &Session,
    name: &str,
    (revision_expected, value_expected): (u64, Option<&Bytes>),
    value: &Bytes,
) -> Result<Option<u64>, Error> {
    let sql = format!(
        "WITH done AS (UPDATE {SCHEMA}.record SET revision = revision + 1, value = $2 \
         WHERE name = $1 AND revision = $3 AND value = coalesce($4, value) RETURNING name, revision, value) \
         INSERT INTO {SCHEMA}.history (name, revision, value) SELECT * FROM done RETURNING revision"
    );
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let expected = i64::try_from(revision_expected).unwrap_or(i64::MAX);
    let (value, known) = (text(value), value_expected.map(text));
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&name, Type::TEXT), (&value, Type::TEXT), (&expected, Type::INT8), (&known, Type::TEXT)];
    let rows = asked(session, "replacing the row of the witness", &sql, &parameters).await?;
    revision(session, &rows)
}

/// Removes the row called `name` and its past.
///
/// # Errors
/// The server's, sorted.
pub async fn remove(session: &Session, name: &str) -> Result<(), Error> {
    let sql = format!(
        "WITH gone AS (DELETE FROM {SCHEMA}.record WHERE name = $1) DELETE FROM {SCHEMA}.history WHERE name = $1"
    );
    asked(session, "removing a row of the witness", &sql, &[(&name, Type::TEXT)]).await.map(drop)
}

/// Removes what was replaced longer than `age` ago by the server's clock: how many rows.
///
/// # Errors
/// The server's, sorted.
pub async fn prune(session: &Session, name: &str, age: Duration) -> Result<usize, Error> {
    let sql = format!(
        "DELETE FROM {SCHEMA}.history WHERE name = $1 AND written_at < pg_catalog.clock_timestamp() - $2 * interval '1 s' \
         AND revision < (SELECT revision FROM {SCHEMA}.record WHERE name = $1) RETURNING revision"
    );
    let age_s = age.as_secs_f64();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&age_s, Type::FLOAT8)];
    Ok(asked(session, "pruning the history of the witness", &sql, &parameters).await?.len())
}

/// Whether the server keeps through a crash what it confirmed; else the setting because of which it does not.
///
/// # Errors
/// The server's, sorted.
pub async fn forgets(session: &Session) -> Result<Option<&'static str>, Error> {
    let sql = format!(
        "SELECT current_setting('fsync') = 'off', \
         EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass('{SCHEMA}.record') AND relpersistence <> 'p')"
    );
    let row = session.one("asking what survives a crash", &sql, &[]).await?;
    Ok(match (session.cell(&row, 0)?, session.cell(&row, 1)?) {
        (true, _) => Some("`fsync` is off: a crash of the server forgets what it confirmed"),
        (_, true) => Some("its table is unlogged: a crash of the server empties it"),
        _ => None,
    })
}

fn revision(session: &Session, rows: &[Row]) -> Result<Option<u64>, Error> {
    rows.first().map(|row| Ok(session.cell::<i64>(row, 0)?.unsigned_abs())).transpose()
}

fn kept(session: &Session, row: &Row) -> Result<Kept, Error> {
    let value: String = session.cell(row, 1)?;
    Ok(Kept { revision: session.cell::<i64>(row, 0)?.unsigned_abs(), value: Bytes::from(value) })
}
