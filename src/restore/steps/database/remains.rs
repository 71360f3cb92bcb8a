//! What restores leave on a server, and when it goes.
//!
//! The database that a restore replaces is kept until the next restore is proven: that one drops it, never the one it has
//! just replaced itself. What a run made and never swapped in goes when the next run of its source begins, which needs the
//! room. A scratch database of `--into` stays until a person drops it, and so does a database that a restore replaced but did not
//! make: no point of ours could bring that one back. And so does one with which this site was the live one: the
//! application may have written to it what no point has.

use serde::{Deserialize, Serialize};

use super::Target;
use super::marks::{self, Part, Remaining};
use crate::error::Error;
use crate::failpoint;
use crate::postgres::{self, lifecycle};

/// What became of a database that was to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub database: String,
    /// Why it is still there, if it is.
    pub failed: Option<String>,
}

/// The names of what earlier runs of this source made and never swapped in.
///
/// # Errors
/// The server's.
pub async fn standing_unfinished(target: &Target) -> Result<Vec<String>, Error> {
    named(target, |found| is_unfinished(target, found)).await
}

/// The names of what restores before this one replaced and are proven to need no more.
///
/// # Errors
/// The server's.
pub async fn replaced_before(target: &Target) -> Result<Vec<String>, Error> {
    named(target, |found| is_replaced_before(target, found)).await
}

/// Drops of `names` those that [`standing_unfinished`] would name.
///
/// # Errors
/// The server's, when it cannot be asked; a database that cannot be dropped stays, and is told.
pub async fn drop_unfinished(target: &Target, names: &[String]) -> Result<Vec<Dropped>, Error> {
    drop_each(target, names, |found| is_unfinished(target, found)).await
}

/// Drops of `names` those that [`replaced_before`] would name.
///
/// # Errors
/// As [`drop_unfinished`].
pub async fn drop_replaced(target: &Target, names: &[String]) -> Result<Vec<Dropped>, Error> {
    drop_each(target, names, |found| is_replaced_before(target, found)).await
}

fn is_unfinished(target: &Target, found: &Remaining) -> bool {
    found.part == Part::Unfinished && found.run != target.origin.run
}

fn is_replaced_before(target: &Target, found: &Remaining) -> bool {
    found.goes() && found.part == Part::Replaced && found.run != target.origin.run
}

async fn named(target: &Target, wanted: impl Fn(&Remaining) -> bool) -> Result<Vec<String>, Error> {
    let session = target.server.maintenance().await?;
    let all = marks::remaining(&session, &target.origin.owner).await?;
    session.close().await;
    Ok(all.into_iter().filter(|found| wanted(found)).map(|found| found.database).collect())
}

/// A restore that is in its place has not failed because an old database resists: that is told and tried again next time.
async fn drop_each(
    target: &Target,
    names: &[String],
    wanted: impl Fn(&Remaining) -> bool,
) -> Result<Vec<Dropped>, Error> {
    let session = target.server.maintenance().await?;
    // Looked at again: the names may have been written down by a run that was killed long ago.
    let all = marks::remaining(&session, &target.origin.owner).await?;
    let mut dropped = Vec::new();
    for database in names {
        let goes = all.iter().any(|found| found.database == *database && wanted(found));
        let done: Result<(), postgres::Error> = match goes {
            true => lifecycle::drop_database(&target.server, &session, database).await,
            false => Ok(()),
        };
        failpoint::hit("database.left-dropped");
        let failed = done.err().map(|error| error.to_string());
        dropped.push(Dropped { database: database.clone(), failed });
    }
    session.close().await;
    Ok(dropped)
}
