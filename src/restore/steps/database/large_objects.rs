//! The large objects into the fresh database: first what each is, then their bytes.

use crate::capture::layout;
use crate::error::Error;
use crate::failpoint;
use crate::postgres::Session;
use crate::postgres::allowance::Allowance;
use crate::postgres::large_objects::{self, Becoming};
use crate::stream::{Source, SourceStream, StreamName};

/// Makes and fills the large objects of the snapshot, if it has any.
///
/// # Errors
/// The server's, the snapshot's.
pub(super) async fn load<S: Source>(session: &Session, source: &S, allowance: &mut Allowance) -> Result<(), Error> {
    if !layout::has(source, &layout::large_objects()) {
        return Ok(());
    }
    allowance.extend(fill(session, source, &layout::large_objects(), Becoming::Objects).await?);
    allowance.extend(fill(session, source, &layout::large_object_contents(), Becoming::Bytes).await?);
    failpoint::hit("database.large-objects");
    Ok(())
}

async fn fill<S: Source>(
    session: &Session,
    source: &S,
    name: &StreamName,
    becoming: Becoming,
) -> Result<Allowance, Error> {
    let mut stream = source.read(name).await?;
    let mut filling = large_objects::fill(session, becoming).await?;
    while let Some(data) = stream.next().await? {
        filling.write(data).await?;
    }
    Ok(filling.finish().await?)
}
