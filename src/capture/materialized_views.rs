//! What materialized views held, counted and hashed. Their rows are computed anew at the spare, so none are stored; but that
//! they came out the same is worth knowing.
//!
//! Each is read in a transaction of its own and let go at once: who holds a view for the length of a capture stops the
//! application's `REFRESH`. One that is too large to be read in a moment is not read, and that is recorded.

use std::sync::Arc;
use std::time::Duration;

use super::layout::{ViewContents, ViewFacts};
use crate::postgres::rate::Rate;
use crate::postgres::row_hash::RowHasher;
use crate::postgres::snapshot::{self, Leader};
use crate::postgres::{self, Server, Session, catalog, copy, watch};
use crate::units::Bytes;

/// How views are read.
pub struct Reading<'a> {
    /// Where they are.
    pub server: &'a Server,
    /// Whose snapshot is read.
    pub leader: &'a Leader,
    /// The encoding of the database.
    pub encoding: &'a str,
    /// How fast they may be read.
    pub rate: Option<Arc<Rate>>,
    /// How long to wait for the lock on one.
    pub lock_timeout: Duration,
    /// A larger one is not read, in bytes on disk.
    pub bytes_max: u64,
}

impl Reading<'_> {
    /// Reads the populated `views` (quoted names).
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn run(&self, views: &[String]) -> Result<Vec<ViewFacts>, postgres::Error> {
        let mut found = Vec::new();
        for view in views {
            let session = snapshot::join(self.server, &self.leader.id).await?;
            watch::mark(&session, self.leader.session().pid()).await?;
            session.wait_for_locks(self.lock_timeout).await?;
            found.push(ViewFacts { view: view.clone(), contents: self.contents(&session, view).await? });
            session.close().await;
        }
        Ok(found)
    }

    async fn contents(&self, session: &Session, view: &str) -> Result<ViewContents, postgres::Error> {
        if catalog::disk_bytes(session, view).await? > self.bytes_max {
            return Ok(ViewContents::NotRead { why: format!("was larger than {}", Bytes(self.bytes_max)) });
        }
        let totals = copy::count_view(session, view, self.encoding, self.rate.clone(), RowHasher::default()).await?;
        Ok(ViewContents::Read { rows: totals.rows, row_hash: totals.row_hash })
    }
}
