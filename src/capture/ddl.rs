//! Everything of a database but its rows: definitions, sequences, roles, properties and the inventory a proof
//! compares.

use std::time::Duration;

use bytes::Bytes;

use super::layout::{self, ViewFacts};
use crate::error::Error;
use crate::postgres::catalog::{self, Sequence};
use crate::postgres::inventory::{self, Line};
use crate::postgres::programs::{Definitions, Programs};
use crate::postgres::properties::{self, Properties};
use crate::postgres::roles::{self, Role};
use crate::postgres::server_wide::{self, ServerWide};
use crate::postgres::snapshot::Leader;
use crate::postgres::{self, Server, watch};
use crate::stream::{Attributes, Sink, SinkStream, StreamName};

/// What the leader's session says of the database.
pub struct Description {
    /// Where each sequence stands.
    pub sequences: Vec<Sequence>,
    /// The roles it needs.
    pub roles: Vec<Role>,
    /// Whether the hashes of their passwords could be read.
    pub passwords: bool,
    /// What belongs to the database itself.
    pub properties: Properties,
    /// What belongs to the whole server.
    pub server_wide: ServerWide,
    /// Everything that is compared.
    pub inventory: Vec<Line>,
}

/// Reads the description in the leader's snapshot. Sequences do not follow snapshots and are read first, so that their
/// values are at least what the rows use and no further ahead than need be. `passwords`: whether our role may read those of
/// roles.
///
/// # Errors
/// The server's, sorted.
pub async fn describe(
    leader: &Leader,
    application_roles: &[String],
    passwords: bool,
) -> Result<Description, postgres::Error> {
    let session = leader.session();
    let sequences = catalog::sequences(session).await?;
    let roles = roles::needed(session, application_roles, passwords).await?;
    let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
    Ok(Description {
        sequences,
        inventory: inventory::read(session).await?,
        server_wide: server_wide::read(session, &names).await?,
        passwords,
        roles,
        properties: properties::read(session).await?,
    })
}

/// The first object that changed since it was described. Views, functions and the like cannot be locked, and the server
/// spells their definitions as they are *now*, whatever the snapshot; an object that is only new is no matter.
///
/// # Errors
/// The server's, sorted.
pub async fn changed_since(
    server: &Server,
    described: &[Line],
    lock_timeout: Duration,
) -> Result<Option<String>, postgres::Error> {
    let session = server.connect().await?;
    session.wait_for_locks(lock_timeout).await?;
    let now = inventory::read(&session).await?;
    session.close().await;
    let gone = described.iter().find(|line| now.binary_search(line).is_err());
    Ok(gone.map(|line| format!("{} {} was changed during the capture", line.kind, line.name)))
}

/// Runs pg_dump on the leader's snapshot.
///
/// # Errors
/// [`postgres::Error::ProgramFailed`].
pub async fn define(
    programs: &Programs,
    server: &Server,
    leader: &Leader,
    lock_timeout: Duration,
) -> Result<Definitions, postgres::Error> {
    let label = watch::label(leader.session().pid());
    let lock_timeout_ms = u64::try_from(lock_timeout.as_millis()).unwrap_or(u64::MAX);
    programs.definitions(server, leader.session(), Some(&leader.id), &label, lock_timeout_ms).await
}

/// Writes the description as streams.
///
/// # Errors
/// The sink's.
pub async fn write_description<S: Sink>(sink: &S, description: &Description) -> Result<(), Error> {
    let properties = serde_json::to_string_pretty(&description.properties)
        .map_err(|e| layout::LayoutError::Unreadable { stream: layout::catalog("properties"), what: e.to_string() })?;
    let inventory: String = description.inventory.iter().map(|line| format!("{line}\n")).collect();
    write(sink, layout::catalog("properties"), properties).await?;
    write(sink, layout::catalog("server"), layout::to_lines("server", std::slice::from_ref(&description.server_wide))?)
        .await?;
    write(sink, layout::catalog("roles"), layout::to_lines("roles", &description.roles)?).await?;
    write(sink, layout::catalog("sequences"), layout::to_lines("sequences", &description.sequences)?).await?;
    write(sink, layout::catalog("inventory"), inventory).await
}

/// Writes what the materialized views held, if there are any.
///
/// # Errors
/// The sink's.
pub async fn write_views<S: Sink>(sink: &S, views: &[ViewFacts]) -> Result<(), Error> {
    if views.is_empty() {
        return Ok(());
    }
    write(sink, layout::catalog(layout::VIEWS), layout::to_lines(layout::VIEWS, views)?).await
}

/// Writes the definitions as streams.
///
/// # Errors
/// The sink's.
pub async fn write_definitions<S: Sink>(sink: &S, definitions: Definitions) -> Result<(), Error> {
    write(sink, layout::pre_data(), definitions.pre_data).await?;
    write(sink, layout::post_data(), definitions.post_data).await
}

async fn write<S: Sink>(sink: &S, name: StreamName, text: String) -> Result<(), Error> {
    let mut stream = sink.open(name).await?;
    if !text.is_empty() {
        stream.write(Bytes::from(text)).await?;
    }
    stream.finish(Attributes::new()).await.map(drop)
}
