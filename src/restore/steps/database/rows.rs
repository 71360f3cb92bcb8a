//! The rows of a snapshot into a fresh database, and the indexes that need no more than the rows of their own table: while one
//! worker still copies the largest table, another builds the indexes of the next.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use super::load::{Loaded, run};
use super::{DatabaseError, Target};
use crate::capture::layout::{self, TableFacts};
use crate::error::Error;
use crate::failpoint;
use crate::observe::{Meter, Progress};
use crate::postgres::allowance::Allowance;
use crate::postgres::copy::Selection;
use crate::postgres::early::{Parts, TableName};
use crate::postgres::{Session, copy};
use crate::stream::{Source, SourceStream, StreamEntry};

/// What all sessions that build indexes may use at the server, together, unless that is less than 64 MiB for each.
const INDEXING_MIB: usize = 512;
/// Steps of a stream, about 1 MiB each, that are read before the server asks for them.
const AHEAD: usize = 2;

struct Work<'a, S> {
    target: &'a Target,
    fresh: String,
    source: &'a S,
    encoding: &'a str,
    parts: &'a Parts<'a>,
    allowance: &'a Allowance,
    queue: Mutex<VecDeque<(StreamEntry, TableFacts)>>,
    meter: Box<dyn Meter>,
}

/// The tables whose rows are all here once their own stream is loaded.
pub(super) fn tables_of_their_own<S: Source>(source: &S) -> Result<Vec<TableName>, Error> {
    let tables = layout::tables(source)?.into_iter().map(|(_, facts)| facts);
    Ok(tables.filter(|facts| !is_shared(facts)).map(|facts| (facts.schema, facts.table)).collect())
}

/// An extension's table holds the extension's own rows; of one reached through its root a sibling may be on its way.
fn is_shared(facts: &TableFacts) -> bool {
    facts.condition.is_some() || facts.through.is_some()
}

/// The rows, several tables at a time, the largest first, each by one COPY so that its rows keep their order.
pub(super) async fn load<S: Source>(
    target: &Target,
    source: &S,
    encoding: &str,
    parts: &Parts<'_>,
    allowance: &Allowance,
    progress: &Progress,
) -> Result<Loaded, Error> {
    let tables = layout::tables(source)?;
    let bytes = tables.iter().map(|(entry, _)| entry.bytes).sum();
    let meter = progress.begin(&format!("load of database {}", target.name), Some(bytes));
    let queue = Mutex::new(tables.into());
    let work = Work { target, fresh: target.fresh(), source, encoding, parts, allowance, queue, meter };
    let parts = try_join_all((0..target.workers.max(1)).map(|_| worker(&work))).await?;
    let mut all = Loaded::default();
    for part in parts {
        all.tables += part.tables;
        all.rows += part.rows;
        all.bytes += part.bytes;
        all.allowance.extend(part.allowance);
    }
    work.meter.finish(&format!("{} rows, {}", all.rows, crate::units::Bytes(all.bytes)));
    Ok(all)
}

async fn worker<S: Source>(work: &Work<'_, S>) -> Result<Loaded, Error> {
    let next = || work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut loaded = Loaded { allowance: work.allowance.clone(), ..Loaded::default() };
    let Some(mut table) = next() else { return Ok(loaded) };
    let session = work.target.server.connect_to(&work.fresh).await?;
    let mut indexing = None;
    loop {
        let (entry, facts) = &table;
        fill(work, &session, entry, facts).await?;
        if let Some(statements) = work.parts.early.get(&(facts.schema.clone(), facts.table.clone())) {
            let session = match indexing.take() {
                Some(session) => session,
                None => indexing_session(work).await?,
            };
            run(indexing.insert(session), &work.fresh, statements, &mut loaded.allowance).await?;
            failpoint::hit("database.indexes");
        }
        loaded.tables += 1;
        loaded.rows += facts.rows;
        loaded.bytes += entry.bytes;
        match next() {
            Some(following) => table = following,
            None => break,
        }
    }
    session.close().await;
    if let Some(session) = indexing {
        session.close().await;
    }
    Ok(loaded)
}

/// Another session than the one that copies: a script's own settings are no good for that.
async fn indexing_session<S>(work: &Work<'_, S>) -> Result<Session, Error> {
    let session = work.target.server.connect_to(&work.fresh).await?;
    run(&session, &work.fresh, &work.parts.settings, &mut work.allowance.clone()).await?;
    let each = (INDEXING_MIB / work.target.workers.max(1)).max(64);
    let memory = format!("SET maintenance_work_mem = '{each}MB'");
    session.execute("preparing to build the indexes", &memory).await?;
    Ok(session)
}

async fn fill<S: Source>(
    work: &Work<'_, S>,
    session: &Session,
    entry: &StreamEntry,
    facts: &TableFacts,
) -> Result<(), Error> {
    let table = facts.destination();
    let selection = Selection { table: &table, columns: &facts.columns, condition: None };
    let mut stream = work.source.read(&entry.name).await?;
    let mut copying = if is_shared(facts) {
        copy::copy_more_in(session, selection, work.encoding).await?
    } else {
        copy::copy_in(session, selection, work.encoding).await?
    };
    let (ahead, mut read) = mpsc::channel(AHEAD);
    // Opened and decompressed while the server takes what came before.
    let reading = async move {
        while let Some(data) = stream.next().await.transpose() {
            let failed = data.is_err();
            if ahead.send(data).await.is_err() || failed {
                break;
            }
        }
        Ok::<_, Error>(())
    };
    let writing = async {
        while let Some(data) = read.recv().await {
            let data = data?;
            work.meter.advance(data.len() as u64);
            copying.write(data).await?;
        }
        Ok(copying)
    };
    let ((), copying) = tokio::try_join!(reading, writing)?;
    let found = copying.finish().await?;
    failpoint::hit("database.table");
    if found == facts.rows {
        return Ok(());
    }
    Err(DatabaseError::Rows { name: work.fresh.clone(), table, expected: facts.rows, found }.into())
}
