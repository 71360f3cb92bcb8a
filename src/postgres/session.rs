//! One connection, with every setting pinned that could change a byte of what we read or how long we wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::error::{Error, Place};

/// The same at capture, restore and proof, or equal data would not be equal bytes. `search_path` is empty so that every
/// name we read is qualified; `synchronize_seqscans` off keeps heap order; `client_connection_check_interval` makes the
/// server notice within seconds that we are gone, even while it waits for a lock.
const PINS: &str = "\
SET search_path = ''; SET synchronize_seqscans = off; SET row_security = off; SET extra_float_digits = 3; \
SET datestyle = 'ISO, MDY'; SET intervalstyle = postgres; SET timezone = 'UTC'; SET lc_monetary = 'C'; \
SET lc_numeric = 'C'; SET bytea_output = hex; SET xmloption = content; SET xmlbinary = base64; \
SET standard_conforming_strings = on; SET quote_all_identifiers = off; SET statement_timeout = 0; SET lock_timeout = 0; \
SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning; \
SET client_connection_check_interval = '2s'; SET default_transaction_read_only = off; \
SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off";

/// Limits only newer servers have; set where they exist.
const NEWER_PINS: &str = "\
SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s \
WHERE s.name IN ('idle_session_timeout', 'transaction_timeout')";

/// A connection to one database.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    place: Place,
    /// What the server said when it ended the connection while nobody waited for an answer.
    ending: Arc<OnceLock<tokio_postgres::Error>>,
    pid: i32,
    version: u32,
    standby: bool,
    superuser: bool,
}

impl Session {
    pub(super) async fn pinned(
        client: Client,
        connection: JoinHandle<()>,
        ending: Arc<OnceLock<tokio_postgres::Error>>,
        place: Place,
    ) -> Result<Session, Error> {
        let mut session =
            Session { client, connection, place, ending, pid: 0, version: 0, standby: false, superuser: false };
        let doing = "pinning the session's settings";
        session.execute(doing, PINS).await?;
        session.execute(doing, NEWER_PINS).await?;
        let sql = "SELECT pg_backend_pid(), current_setting('server_version_num')::int4, pg_is_in_recovery(), \
                   current_setting('is_superuser') = 'on'";
        let row = session.one("asking the server's version", sql, &[]).await?;
        session.pid = session.cell(&row, 0)?;
        session.version = session.cell::<i32>(&row, 1)?.unsigned_abs();
        session.standby = session.cell(&row, 2)?;
        session.superuser = session.cell(&row, 3)?;
        Ok(session)
    }

    /// Where it is connected to.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The server's process that serves this session.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The server's version: 150018 is 15.18.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether the server was a standby (in recovery) when the session began.
    pub fn is_standby(&self) -> bool {
        self.standby
    }

    /// Whether our role may do everything. At a managed server nobody's may.
    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Sorts an error of the driver. An idle session learns only by the next question that it was ended; why, the server had
    /// said before.
    pub(super) fn error(&self, doing: &str, error: tokio_postgres::Error) -> Error {
        match self.ending.get().filter(|ending| error.is_closed() && ending.as_db_error().is_some()) {
            Some(ending) => Error::of(&self.place, doing, ending),
            None => Error::of(&self.place, doing, error),
        }
    }

    /// Waits for a single lock no longer than this from now on; for ever is the default.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn wait_for_locks(&self, at_most: Duration) -> Result<(), Error> {
        let sql = format!("SET lock_timeout = {}", at_most.as_millis());
        self.execute("limiting the wait for locks", &sql).await
    }

    /// Runs one or more statements that return nothing.
    ///
    /// # Errors
    /// The server's, sorted; `doing` says what it was for.
    pub async fn execute(&self, doing: &str, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await.map_err(|e| self.error(doing, e))
    }

    /// The rows of a query.
    pub(super) async fn rows(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.client.query(sql, parameters).await.map_err(|e| self.error(doing, e))
    }

    /// The only row of a query.
    pub(super) async fn one(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        self.client.query_one(sql, parameters).await.map_err(|e| self.error(doing, e))
    }

    /// One cell of a row.
    pub(super) fn cell<'a, T: tokio_postgres::types::FromSql<'a>>(&self, row: &'a Row, at: usize) -> Result<T, Error> {
        row.try_get(at).map_err(|e| Error::of(&self.place, "reading an answer", e))
    }

    /// The first column of every row, which must be text.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn texts(&self, doing: &str, sql: &str) -> Result<Vec<String>, Error> {
        self.rows(doing, sql, &[]).await?.iter().map(|row| self.cell(row, 0)).collect()
    }

    /// The only cell of a query, which must be text.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn text(&self, doing: &str, sql: &str) -> Result<String, Error> {
        let row = self.one(doing, sql, &[]).await?;
        self.cell(&row, 0)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Says goodbye, so that the server's log shows no broken connection.
    pub async fn close(mut self) {
        // The connection task ends when its client is gone; both live in `self`, so the client is replaced by its end.
        let connection = std::mem::replace(&mut self.connection, tokio::spawn(async {}));
        drop(self);
        if let Err(error) = connection.await
            && !error.is_cancelled()
        {
            tracing::warn!(%error, "the task of a database connection ended oddly");
        }
    }
}

impl Drop for Session {
    /// Cuts the connection. Without this a dropped COPY would be read to its end, with all its locks held.
    fn drop(&mut self) {
        self.connection.abort();
    }
}
