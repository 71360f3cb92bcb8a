//! COPY out and in, one table at a time, in text form and in the database's own encoding.
//!
//! A table is one COPY, and so one sequential scan: it reads through PostgreSQL's small ring of buffers. Splitting it
//! into ctid ranges would push the application's pages out of the cache (a TID range scan has no ring), and could not
//! be faster, since the ranges end up one after the other in one stream anyway.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::{CopyInSink, CopyOutStream};

use super::error::Error;
use super::quote;
use super::session::Session;

/// Rows are handed on in pieces of about this size.
const BATCH_BYTES: usize = 256 << 10;

/// What a stream of rows amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Bytes, with each row's newline.
    pub bytes: u64,
    /// The sum, modulo 2^128, of the first 128 bits of each row's BLAKE3: the same for the same rows in any order.
    pub row_hash: u128,
}

impl Totals {
    /// Counts one row.
    fn add(&mut self, row: &[u8]) {
        let mut half = [0; 16];
        half.iter_mut().zip(blake3::hash(row).as_bytes()).for_each(|(to, from)| *to = *from);
        self.rows += 1;
        self.bytes += row.len() as u64;
        self.row_hash = self.row_hash.wrapping_add(u128::from_le_bytes(half));
    }

    /// The row hash as 32 hex digits.
    pub fn row_hash_hex(&self) -> String {
        format!("{:032x}", self.row_hash)
    }
}

/// The rows of one table, as COPY text.
pub struct Rows<'a> {
    session: &'a Session,
    table: String,
    stream: Pin<Box<CopyOutStream>>,
    totals: Totals,
    ended: bool,
}

/// Starts to read the rows of `table` (quoted), of its `columns` (not quoted) in that order.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_out<'a>(
    session: &'a Session,
    table: &str,
    columns: &[String],
    encoding: &str,
) -> Result<Rows<'a>, Error> {
    let sql = format!("COPY {table}{} TO STDOUT (ENCODING {})", list(columns), quote::literal(encoding));
    let stream = session
        .client()
        .copy_out(&sql)
        .await
        .map_err(|e| Error::of(session.place(), &format!("reading table {table}"), e))?;
    Ok(Rows { session, table: table.to_owned(), stream: Box::pin(stream), totals: Totals::default(), ended: false })
}

impl Rows<'_> {
    /// The next rows, whole ones, about 256 KiB of them; `None` after the last.
    ///
    /// # Errors
    /// The server's, sorted; a connection that breaks is an error, never an end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut batch = BytesMut::new();
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
                Some(Err(error)) => {
                    let doing = format!("reading table {}", self.table);
                    return Err(Error::of(self.session.place(), &doing, error));
                }
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

/// Starts to write the rows of `table` (quoted), in a transaction that empties it first: what a killed load left is gone,
/// and only into a table emptied by the same transaction does COPY append strictly in order (`TABLE_INSERT_SKIP_FSM`);
/// else a small row may go back to a page with room, and the restored table would not dump to the same bytes.
///
/// # Errors
/// The server's, sorted.
pub async fn copy_in<'a>(
    session: &'a Session,
    table: &str,
    columns: &[String],
    encoding: &str,
) -> Result<Loading<'a>, Error> {
    session.execute(&format!("emptying table {table}"), &format!("BEGIN; TRUNCATE ONLY {table}")).await?;
    let sql = format!("COPY {table}{} FROM STDIN (FREEZE, ENCODING {})", list(columns), quote::literal(encoding));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_hash_ignores_order_but_not_rows() {
        let totals = |rows: &[&[u8]]| {
            let mut totals = Totals::default();
            rows.iter().for_each(|row| totals.add(row));
            totals
        };
        assert_eq!(totals(&[b"1\n", b"2\n"]), totals(&[b"2\n", b"1\n"]));
        assert_ne!(totals(&[b"1\n", b"2\n"]).row_hash, totals(&[b"1\n", b"3\n"]).row_hash);
        assert_ne!(totals(&[b"1\n"]).row_hash, totals(&[b"1\n", b"1\n"]).row_hash);
        assert_eq!(totals(&[b"\n"]).row_hash_hex().len(), 32);
    }
}
