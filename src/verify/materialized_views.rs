//! The contents of materialized views against what they held at the source.
//!
//! They are computed anew by a restore, from rows that are proven. Where they come out otherwise that is no fault of the
//! restore: the view had not been refreshed since its tables changed, or what it says depends on the time or on chance. It
//! is told among what could not be compared, with the number of rows.

use crate::capture::layout::{self, ViewContents};
use crate::error::Error;
use crate::postgres::row_hash::RowHash;
use crate::postgres::{self, Session, copy};
use crate::stream::Source;

/// Compares the views the session sees with the snapshot's; what is not the same, in words.
///
/// # Errors
/// When the server or the snapshot cannot be read.
pub(super) async fn compare<S: Source>(session: &Session, source: &S, encoding: &str) -> Result<Vec<String>, Error> {
    let mut told = Vec::new();
    for facts in layout::materialized_views(source).await? {
        let view = &facts.view;
        let difference = match &facts.contents {
            ViewContents::NotRead { why } => Some(format!("which {why}")),
            ViewContents::Read { rows, row_hash } => differs(session, view, encoding, *rows, *row_hash).await?,
        };
        told.extend(difference.map(|words| format!("the contents of materialized view {view}, {words}")));
    }
    Ok(told)
}

async fn differs(
    session: &Session,
    view: &str,
    encoding: &str,
    rows: u64,
    row_hash: RowHash,
) -> Result<Option<String>, postgres::Error> {
    // One that is gone would spoil the transaction; the inventory names it.
    session.execute("comparing", "SAVEPOINT before_view").await?;
    let totals = match copy::count_view(session, view, encoding, None, row_hash.hasher()).await {
        Ok(totals) => totals,
        Err(error) if error.is_of_ddl() || error.sqlstate() == Some(NOT_POPULATED) => {
            session.execute("comparing", "ROLLBACK TO before_view").await?;
            return Ok(Some("which cannot be read".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let same = totals.rows == rows && totals.row_hash == row_hash;
    let counts = format!("rows captured: {rows}, here: {}", totals.rows);
    Ok((!same).then(|| format!("which came out otherwise ({counts}): it was not fresh, or depends on the time")))
}

/// `object_not_in_prerequisite_state`: a view `WITH NO DATA`.
const NOT_POPULATED: &str = "55000";
