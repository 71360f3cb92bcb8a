//! What restores have left at this site: databases in place, replaced ones, scratch ones, unfinished ones.

use serde::Serialize;

use super::step::owner;
use super::steps::database::{self, Part, Remaining};
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::postgres::Server;

/// A database that a restore put where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptDatabase {
    /// The source it was restored from, or in whose place it stood.
    pub source: String,
    /// Its name.
    pub database: String,
    /// What it is.
    pub part: Part,
    /// The point it was restored from; absent for one that a restore replaced but did not make.
    pub point: Option<String>,
    /// Whether the application may have written to it what no point has, because this site was the live one with it.
    pub written: bool,
    /// What took its place: a point, or `undo`.
    pub replaced_by: Option<String>,
    /// The run of which it is, the name of a folder below `restores/` in the state folder.
    pub run: String,
    /// When that run began.
    pub since: String,
    /// Its size in bytes; absent where our role may not ask.
    pub bytes: Option<u64>,
    /// Whether it goes by itself: the next restore of the source that is proven, or begins, drops it.
    pub goes: bool,
}

/// Lists them, of every database of this site, by source and name.
///
/// # Errors
/// When a server cannot be asked.
pub async fn kept(here: &Here) -> Result<Vec<KeptDatabase>, Error> {
    let mut all = Vec::new();
    for name in here.site.databases.keys() {
        let source = SourceName::new(SourceKind::Database, name);
        let found = remaining(here, &source).await?;
        all.extend(found.into_iter().map(|found| told(&source, found)));
    }
    Ok(all)
}

async fn remaining(here: &Here, source: &SourceName) -> Result<Vec<Remaining>, Error> {
    let Some(server) = server(here, source)? else { return Ok(Vec::new()) };
    let session = server.maintenance().await?;
    let found = database::remaining(&session, &owner(here, source)).await?;
    session.close().await;
    Ok(found)
}

/// The server of a database of this site, if there is such a database.
pub(super) fn server(here: &Here, source: &SourceName) -> Result<Option<Server>, Error> {
    let Some(address) = here.site.databases.get(&source.name) else { return Ok(None) };
    let password = here.resolve(&format!("databases.{}.password", address.name), address.password.as_ref())?;
    Ok(Some(Server::new(address, password)?))
}

fn told(source: &SourceName, found: Remaining) -> KeptDatabase {
    let goes = found.goes();
    let Remaining { database, part, point, written, replaced_by, run, since, bytes, .. } = found;
    KeptDatabase { source: source.to_string(), database, part, point, written, replaced_by, run, since, bytes, goes }
}
