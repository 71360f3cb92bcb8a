//! What the live site has written since a point, by the counters of its own databases.
//!
//! A point has what the counters said when it was captured; the difference is what a disaster would take. Only the live site can ask, and
//! it reads no row for it. Where one database cannot say, nothing is said: a sum without it would be too small.

use std::time::Duration;

use serde::Deserialize;

use super::freshness::PointFacts;
use crate::capture::database::DatabaseFacts;
use crate::config::address::DatabaseAddress;
use crate::config::{Here, SourceKind};
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::counters::{self, RowChanges};
use crate::postgres::identity::{self, Identity};

/// For one database.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// What a database says now.
struct Now {
    name: String,
    identity: Identity,
    changes: RowChanges,
}

/// Asks every database that points have, and counts for each point what was written since. Nothing is counted where this is not the live site.
pub(super) async fn rows(here: &Here, points: &mut [PointFacts]) {
    if !here.is_live() {
        return;
    }
    let sources = here.config.sources();
    let names = sources.iter().filter(|source| source.kind == SourceKind::Database);
    let mut all = Vec::new();
    for address in names.filter_map(|source| here.site.databases.get(&source.name)) {
        match tokio::time::timeout(ANSWER_MAX, ask(here, address)).await {
            Ok(Ok(Some(now))) => all.push(now),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::warn!("rows since a point cannot be counted: {error}"),
            Err(_) => return tracing::warn!("rows since a point cannot be counted: {} does not answer", address.name),
        }
    }
    if all.is_empty() {
        return;
    }
    for point in points {
        point.rows_since = all.iter().map(|now| since(point, now)).sum();
    }
}

async fn ask(here: &Here, address: &DatabaseAddress) -> Result<Option<Now>, Error> {
    let key = format!("databases.{}.password", address.name);
    let password = here.resolve(&key, address.password.as_ref())?;
    let session = Server::new(address, password)?.connect().await?;
    let asked =
        async { Ok::<_, Error>((identity::read(&session).await?, counters::row_changes(&session).await?)) }.await;
    session.close().await;
    let (identity, changes) = asked?;
    Ok(changes.map(|changes| Now { name: address.name.clone(), identity, changes }))
}

/// Rows since the point; nothing where it was taken from another server, or by a release that did not count.
fn since(point: &PointFacts, now: &Now) -> Option<u64> {
    // An older release's has no counters, a newer one's may not be known.
    let captured = DatabaseFacts::deserialize(point.databases.get(&now.name)?).ok()?;
    let Identity { system_identifier, timeline, database_oid } = &now.identity;
    let is_it = (&captured.system_identifier, &captured.timeline, &captured.database_oid)
        == (system_identifier, timeline, database_oid);
    captured.row_changes.filter(|_| is_it).and_then(|earlier| now.changes.since(&earlier))
}
