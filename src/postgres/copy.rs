//! COPY out and in, one table at a time, in text form and in the database's own encoding.
//!
//! A table is one COPY, and so one sequential scan: it reads through PostgreSQL's small ring of buffers. Splitting it
//! into ctid ranges would push the application's pages out of the cache (a TID range scan has no ring), and could not
//! be faster, since the ranges end up one after the other in one stream anyway.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::{CopyInSink, CopyOutStream};

use super::error::Error;
use super::quote;
use super::rate::Rate;
use super::row_hash::{RowHash, RowHasher};
use super::session::Session;

/// Rows are handed on in pieces of about this size: large enough for a step of the vault, small enough for a core's cache.
const BATCH_BYTES: usize = 512 << 10;
/// By so much the last row of a piece may go over it without the piece being copied.
const BATCH_SLACK_BYTES: usize = 32 << 10;

/// What a stream of rows amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Bytes, with each row's newline.
    pub bytes: u64,
    /// The same for the same rows in any order.
    pub row_hash: RowHash,
}

impl Totals {
    /// Counts one row.
    fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.bytes += row.len() as u64;
        self.row_hash.add(row);
    }
}

/// The rows of one table or query, as COPY text.
pub struct Rows<'a> {
    session: &'a Session,
    doing: String,
    stream: Pin<Box<CopyOutStream>>,
    totals: Totals,
    ended: bool,
    rate: Option<Arc<Rate>>,
}

/// Which rows of which table.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The table, quoted.
    pub table: &'a str,
    /// Its columns, not quoted, in the order in which they stand in the text.
    pub columns: &'a [String],
    /// `WHERE …`, where not all of the rows are meant.
    pub condition: Option<&'a str>,
}

/// Starts to read rows of a table.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_out<'a>(session: &'a Session, rows: Selection<'_>, encoding: &str) -> Result<Rows<'a>, Error> {
    let Selection { table, columns, condition } = rows;
    let quoted: Vec<String> = columns.iter().map(|column| quote::identifier(column)).collect();
    let from = match condition {
        Some(condition) => format!("(SELECT {} FROM ONLY {table} {condition})", quoted.join(", ")),
        None => format!("{table}{}", list(columns)),
    };
    begin(session, format!("reading table {table}"), &from, encoding).await
}

/// Starts to read the rows of a query; `doing` says what it is for.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_out_query<'a>(
    session: &'a Session,
    doing: &str,
    query: &str,
    encoding: &str,
) -> Result<Rows<'a>, Error> {
    begin(session, doing.to_owned(), &format!("({query})"), encoding).await
}

/// Reads a materialized view to its end, for what its rows amount to. `COPY` of a view itself is of PostgreSQL 18.
///
/// # Errors
/// The server's, sorted.
pub async fn count_view(
    session: &Session,
    view: &str,
    encoding: &str,
    rate: Option<Arc<Rate>>,
    hasher: RowHasher,
) -> Result<Totals, Error> {
    let doing = format!("reading materialized view {view}");
    let rows = copy_out_query(session, &doing, &format!("SELECT * FROM {view}"), encoding).await?;
    let mut rows = rows.at(rate).hashed_by(hasher);
    while rows.next().await?.is_some() {}
    Ok(rows.totals())
}

async fn begin<'a>(session: &'a Session, doing: String, from: &str, encoding: &str) -> Result<Rows<'a>, Error> {
    let sql = format!("COPY {from} TO STDOUT (ENCODING {})", quote::literal(encoding));
    let stream = session.client().copy_out(&sql).await.map_err(|e| session.error(&doing, e))?;
    Ok(Rows { session, doing, stream: Box::pin(stream), totals: Totals::default(), ended: false, rate: None })
}

impl Rows<'_> {
    /// The same rows, but no faster than that.
    pub fn at(mut self, rate: Option<Arc<Rate>>) -> Self {
        self.rate = rate;
        self
    }

    /// The same rows, hashed as some others were that they are compared with.
    pub fn hashed_by(mut self, hasher: RowHasher) -> Self {
        self.totals.row_hash = RowHash::new(hasher);
        self
    }

    /// The next rows, whole ones, about half a MiB of them, as fast as they may come; `None` after the last.
    ///
    /// # Errors
    /// The server's, sorted; a connection that breaks is an error, never an end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let batch = self.batch().await?;
        if let (Some(rate), Some(batch)) = (&self.rate, &batch) {
            rate.pay(batch.len() as u64).await;
        }
        Ok(batch)
    }

    async fn batch(&mut self) -> Result<Option<Bytes>, Error> {
        // Most tables are small; of the others, the first piece says that there is more.
        let mut batch = match self.totals.rows {
            0 => BytesMut::new(),
            _ => BytesMut::with_capacity(BATCH_BYTES + BATCH_SLACK_BYTES),
        };
        while !self.ended && batch.len() < BATCH_BYTES {
            match self.stream.next().await {
                // One message is one row (protocol documentation, "COPY Operations").
                Some(Ok(row)) => {
                    self.totals.add(&row);
                    if batch.is_empty() && row.len() >= BATCH_BYTES {
                        return Ok(Some(row));
                    }
                    batch.extend_from_slice(&row);
                }
                Some(Err(error)) => return Err(self.session.error(&self.doing, error).of_row()),
                None => self.ended = true,
            }
        }
        Ok(if batch.is_empty() { None } else { Some(batch.freeze()) })
    }

    /// What was read so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

/// Rows being written into one table.
pub struct Loading<'a> {
    session: &'a Session,
    table: String,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

/// Starts to write rows into a table that holds others which must stay, in a transaction.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_more_in<'a>(session: &'a Session, rows: Selection<'_>, encoding: &str) -> Result<Loading<'a>, Error> {
    session.execute("beginning", "BEGIN").await?;
    write(session, rows, &format!("ENCODING {}", quote::literal(encoding))).await
}

/// Starts to write all rows of a table, in a transaction that empties it first: what a killed load left is gone,
/// and only into a table emptied by the same transaction does COPY append strictly in order (`TABLE_INSERT_SKIP_FSM`);
/// else a small row may go back to a page with room, and the restored table would not dump to the same bytes.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_in<'a>(session: &'a Session, rows: Selection<'_>, encoding: &str) -> Result<Loading<'a>, Error> {
    let table = rows.table;
    session.execute(&format!("emptying table {table}"), &format!("BEGIN; TRUNCATE ONLY {table}")).await?;
    write(session, rows, &format!("FREEZE, ENCODING {}", quote::literal(encoding))).await
}

async fn write<'a>(session: &'a Session, rows: Selection<'_>, options: &str) -> Result<Loading<'a>, Error> {
    let table = rows.table;
    let sql = format!("COPY {table}{} FROM STDIN ({options})", list(rows.columns));
    let sink = session
        .client()
        .copy_in(&sql)
        .await
        .map_err(|e| Error::of(session.place(), &format!("writing table {table}"), e))?;
    Ok(Loading { session, table: table.to_owned(), sink: Box::pin(sink) })
}

impl Loading<'_> {
    /// Writes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.sink.feed(data).await.map_err(|e| self.fail(e))
    }

    /// Ends the COPY and commits; the number of rows the server took.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn finish(mut self) -> Result<u64, Error> {
        let rows = self.sink.as_mut().finish().await.map_err(|e| self.fail(e))?;
        self.session.execute(&format!("committing table {}", self.table), "COMMIT").await?;
        Ok(rows)
    }

    fn fail(&self, error: tokio_postgres::Error) -> Error {
        Error::of(self.session.place(), &format!("writing table {}", self.table), error)
    }
}

/// `(a, b)`, or nothing for a table without columns, for which COPY has no list.
fn list(columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = columns.iter().map(|column| quote::identifier(column)).collect();
    format!(" ({})", quoted.join(", "))
}
