//! Statistics of everything that was loaded, so that the application's first queries after a failover are planned as they
//! were at the live site. Several tables at a time, the largest first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use super::Target;
use crate::error::Error;
use crate::postgres::{self, Session, catalog};

/// Runs `ANALYZE` on every table, but on none that would have to ask another server for its sample: that one may not be
/// reachable from here, least of all today.
///
/// # Errors
/// The server's.
pub(super) async fn gather(target: &Target, session: &Session) -> Result<(), Error> {
    let spread = catalog::parents_of_foreign_tables(session).await?;
    if !spread.is_empty() {
        tracing::info!("not analyzed, because parts of them are at other servers: {}", spread.join(", "));
    }
    let names = catalog::analyzable(session).await?.into_iter().filter(|name| !spread.contains(name));
    let queue = Mutex::new(names.collect());
    try_join_all((0..target.workers.max(1)).map(|_| worker(target, &queue))).await?;
    Ok(())
}

async fn worker(target: &Target, queue: &Mutex<VecDeque<String>>) -> Result<(), postgres::Error> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let Some(mut name) = next() else { return Ok(()) };
    let session = target.server.connect_to(&target.fresh()).await?;
    loop {
        session.execute(&format!("gathering statistics of {name}"), &format!("ANALYZE {name}")).await?;
        match next() {
            Some(following) => name = following,
            None => break,
        }
    }
    session.close().await;
    Ok(())
}
