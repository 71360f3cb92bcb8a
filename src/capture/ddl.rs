//! Everything of a database but its rows: definitions, sequences, roles, properties and the inventory a proof
//! compares.

use bytes::Bytes;

use super::layout::{self, ViewFacts};
use crate::error::Error;
use crate::postgres::catalog::{self, Sequence};
use crate::postgres::inventory::{self, Line};
use crate::postgres::programs::Definitions;
use crate::postgres::properties::{self, Properties};
use crate::postgres::roles::{self, Role};
use crate::postgres::server_wide::{self, ServerWide};
use crate::postgres::snapshot::Leader;
use crate::postgres::{self, Session};
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
    /// Scratch schemas, which are left out.
    pub left_out: Vec<String>,
    /// Everything that is compared.
    pub inventory: Vec<Line>,
}

/// Reads the description in the leader's snapshot, and lets its locks go. Sequences do not follow snapshots and are read first, so that
/// their values are at least what the rows use and no further ahead than need be. `passwords`: whether our role may read those of
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
    let description = Description {
        sequences,
        inventory: inventory::read(session).await?,
        server_wide: server_wide::read(session, &names).await?,
        left_out: catalog::scratch_schemas(session).await?,
        passwords,
        roles,
        properties: properties::read(session).await?,
    };
    leader.let_go_of_tables().await?;
    Ok(description)
}

/// The first object that changed since it was described. Views, functions and the like cannot be locked, and the server
/// spells their definitions as they are *now*, whatever the snapshot; an object that is only new is no matter. `session` is
/// in no snapshot, and holds the tables, which PostgreSQL locks to spell a view.
///
/// # Errors
/// The server's, sorted.
pub async fn changed_since(session: &Session, described: &[Line]) -> Result<Option<String>, postgres::Error> {
    Ok(first_gone(described.iter(), &inventory::read(session).await?))
}

/// The first object that changed since it was described, of those that the text of rows depends on: the server spells a value by its
/// type as that is *now*, whatever the snapshot, and a value that names an object (`regclass`) by the object's name.
///
/// # Errors
/// The server's, sorted.
pub async fn spelling_changed_since(session: &Session, described: &[Line]) -> Result<Option<String>, postgres::Error> {
    if described.iter().any(names_objects) {
        return changed_since(session, described).await;
    }
    let composite: Vec<&str> =
        described.iter().filter(|line| line.kind == "composite type").map(|line| line.name.as_str()).collect();
    let spells = |line: &&Line| is_of_type(line, &composite);
    Ok(first_gone(described.iter().filter(spells), &inventory::read_types(session).await?))
}

/// A column whose values are names of objects.
fn names_objects(line: &Line) -> bool {
    let is_name = |word: &str| word.starts_with("reg") && REGISTERED.contains(&word.trim_end_matches("[]"));
    line.kind == "column" && line.definition.split(' ').any(is_name)
}

/// The types whose values are object identifiers and are spelt as names (PostgreSQL documentation, "Object Identifier Types").
const REGISTERED: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// A type, or a part of one of the `composite` ones.
fn is_of_type(line: &Line, composite: &[&str]) -> bool {
    match line.kind.as_str() {
        "composite type" | "domain" | "enum" | "range" | "type" => true,
        "column" => {
            let is_part_of = |of: &&str| line.name.strip_prefix(of).is_some_and(|rest| rest.starts_with('.'));
            composite.iter().any(is_part_of)
        }
        _ => false,
    }
}

fn first_gone<'a>(mut described: impl Iterator<Item = &'a Line>, now: &[Line]) -> Option<String> {
    let gone = described.find(|line| now.binary_search(line).is_err());
    gone.map(|line| format!("{} {} was changed during the capture", line.kind, line.name))
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
