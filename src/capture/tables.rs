//! The rows: several sessions in one snapshot, each with its share of the tables.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::layout::TableFacts;
use crate::error::Error;
use crate::observe::Meter;
use crate::postgres::catalog::Table;
use crate::postgres::copy::{self, Selection, Totals};
use crate::postgres::gather::Share;
use crate::postgres::rate::Rate;
use crate::postgres::{self, Session};
use crate::stream::{Sink, SinkStream, StreamKind, StreamName};

/// The bytes a sink is given at once.
const PIECE_BYTES: usize = 1 << 20;

/// What the workers have in common.
pub struct Work<S> {
    /// Where the rows go.
    pub sink: Arc<S>,
    /// The encoding of the database.
    pub encoding: String,
    /// How fast they may be read, all sessions together.
    pub rate: Option<Arc<Rate>>,
    /// Told of every byte.
    pub meter: Box<dyn Meter>,
}

/// Why the rows could not be captured.
pub enum Failure {
    /// The server's fault, or the application's DDL.
    Server(postgres::Error),
    /// Ours, or the sink's.
    Ours(Error),
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Failure::Server(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

/// Copies every table of every share. Rows and bytes of all of them.
///
/// # Errors
/// The first worker's; the others are ended.
pub async fn copy_all<S: Sink + 'static>(work: Work<S>, shares: Vec<Share>) -> Result<Totals, Failure> {
    let work = Arc::new(work);
    let mut tasks = JoinSet::new();
    for share in shares {
        tasks.spawn(worker(work.clone(), share));
    }
    let mut all = Totals::default();
    while let Some(done) = tasks.join_next().await {
        let totals = match done {
            Ok(totals) => totals?,
            // A worker cannot panic by the rules of this house; if one does, it panics here.
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => continue,
            },
        };
        all.rows += totals.rows;
        all.bytes += totals.bytes;
    }
    work.meter.finish(&format!("{} rows, {}", all.rows, crate::units::Bytes(all.bytes)));
    Ok(all)
}

async fn worker<S: Sink>(work: Arc<Work<S>>, share: Share) -> Result<Totals, Failure> {
    let mut all = Totals::default();
    for table in &share.tables {
        let totals = copy_one(&work, &share.session, table).await?;
        all.rows += totals.rows;
        all.bytes += totals.bytes;
    }
    share.session.close().await;
    Ok(all)
}

/// A gigantic row in pieces of one memory: whoever takes it whole would make copies of it.
fn pieces(mut rows: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = rows.split_to(rows.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(piece)
    })
}

async fn copy_one<S: Sink>(work: &Work<S>, session: &Session, table: &Table) -> Result<Totals, Failure> {
    let name = table.qualified();
    let mut stream = work.sink.open(StreamName::new(StreamKind::Table, &name)).await?;
    let selection = Selection { table: &name, columns: &table.columns, condition: table.condition.as_deref() };
    let mut rows = copy::copy_out(session, selection, &work.encoding).await?.at(work.rate.clone());
    while let Some(batch) = rows.next().await? {
        work.meter.advance(batch.len() as u64);
        for piece in pieces(batch) {
            stream.write(piece).await?;
        }
    }
    let totals = rows.totals();
    let facts = TableFacts {
        schema: table.schema.clone(),
        table: table.name.clone(),
        columns: table.columns.clone(),
        rows: totals.rows,
        row_hash: totals.row_hash,
        condition: table.condition.clone(),
        through: table.through.clone(),
    };
    stream.finish(facts.attributes()).await?;
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_row_comes_in_pieces_and_nothing_is_lost() {
        let row = Bytes::from(vec![b'x'; 2 * PIECE_BYTES + 1]);
        assert_eq!(pieces(row.clone()).map(|piece| piece.len()).collect::<Vec<_>>(), [PIECE_BYTES, PIECE_BYTES, 1]);
        assert_eq!(pieces(row.clone()).flatten().count(), row.len());
        assert_eq!(pieces(Bytes::new()).count(), 0);
    }
}
