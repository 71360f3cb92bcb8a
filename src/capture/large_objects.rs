//! The large objects: a session of its own in the snapshot of all others.

use std::sync::Arc;

use super::layout;
use super::tables::Failure;
use crate::postgres::copy::{Rows, Totals};
use crate::postgres::rate::Rate;
use crate::postgres::snapshot::Leader;
use crate::postgres::{Server, large_objects, snapshot, watch};
use crate::stream::{Attributes, Sink, SinkStream, StreamName};

/// Writes both streams of the large objects, if there are any; how many, and the bytes of their text.
///
/// # Errors
/// The server's, the sink's.
pub async fn copy_all<S: Sink>(
    server: &Server,
    leader: &Leader,
    sink: &S,
    rate: Option<Arc<Rate>>,
) -> Result<Totals, Failure> {
    if large_objects::count(leader.session()).await? == 0 {
        return Ok(Totals::default());
    }
    let session = snapshot::join(server, &leader.id).await?;
    watch::mark(&session, leader.session().pid()).await?;
    let described = large_objects::describe(&session).await?.at(rate.clone());
    let described = write(sink, layout::large_objects(), described).await?;
    let contents = large_objects::contents(&session).await?.at(rate);
    let contents = write(sink, layout::large_object_contents(), contents).await?;
    session.close().await;
    Ok(Totals { rows: described.rows, bytes: described.bytes + contents.bytes, ..Totals::default() })
}

async fn write<S: Sink>(sink: &S, name: StreamName, mut rows: Rows<'_>) -> Result<Totals, Failure> {
    let mut stream = sink.open(name).await?;
    while let Some(batch) = rows.next().await? {
        stream.write(batch).await?;
    }
    let totals = rows.totals();
    stream.finish(Attributes::from([("rows".to_owned(), totals.rows.into())])).await?;
    Ok(totals)
}
