//! The streams of a database snapshot: what they are called, and how each is read back.
//!
//! | stream | holds |
//! |---|---|
//! | `table "schema"."name"` | the table's rows, COPY text in the database's encoding; its attributes are a [`TableFacts`] |
//! | `large-objects description`, `large-objects contents` | COPY text of the large objects; only if there are any |
//! | `ddl pre-data`, `ddl post-data` | SQL before and after the rows, as pg_dump wrote it, stable from run to run |
//! | `catalog sequences` | one JSON [`Sequence`] a line |
//! | `catalog roles` | one JSON [`Role`] a line, with the hashes of their passwords |
//! | `catalog server` | one JSON [`ServerWide`] |
//! | `catalog properties` | one JSON [`Properties`] |
//! | `catalog materialized-views` | one JSON [`ViewFacts`] a line; only if there are any |
//! | `catalog inventory` | one [`Line`] a line |

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Class, Error, Explain};
use crate::postgres::catalog::Sequence;
use crate::postgres::inventory::Line;
use crate::postgres::properties::Properties;
use crate::postgres::quote;
use crate::postgres::roles::Role;
use crate::postgres::row_hash::RowHash;
use crate::postgres::server_wide::ServerWide;
use crate::stream::{Attributes, Source, SourceStream, StreamEntry, StreamKind, StreamName};

/// Definitions and catalogs are read into memory; none may be larger than this.
const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// `ddl pre-data`.
pub fn pre_data() -> StreamName {
    StreamName::new(StreamKind::Ddl, "pre-data")
}

/// `ddl post-data`.
pub fn post_data() -> StreamName {
    StreamName::new(StreamKind::Ddl, "post-data")
}

/// `large-objects description`.
pub fn large_objects() -> StreamName {
    StreamName::new(StreamKind::LargeObjects, "description")
}

/// `large-objects contents`.
pub fn large_object_contents() -> StreamName {
    StreamName::new(StreamKind::LargeObjects, "contents")
}

/// The name of the catalog of materialized views.
pub const VIEWS: &str = "materialized-views";

/// Whether the snapshot has that stream.
pub fn has<S: Source>(source: &S, name: &StreamName) -> bool {
    source.entries().iter().any(|entry| entry.name == *name)
}

/// `catalog NAME`.
pub fn catalog(name: &str) -> StreamName {
    StreamName::new(StreamKind::Catalog, name)
}

/// What is known of a table beside its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns of its rows, in order.
    pub columns: Vec<String>,
    /// How many rows.
    pub rows: u64,
    /// The hash of its rows, in any order.
    pub row_hash: RowHash,
    /// The table is an extension's, and of its rows only those are here that this `WHERE …` (or nothing) selects.
    #[serde(default)]
    pub condition: Option<String>,
    /// Schema and name of the partitioned table through which the rows must be loaded: in another database they belong
    /// to other partitions.
    #[serde(default)]
    pub through: Option<(String, String)>,
}

/// What is known of a materialized view beside its definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewFacts {
    /// Schema and name, quoted.
    pub view: String,
    /// What it held.
    #[serde(flatten)]
    pub contents: ViewContents,
}

/// What a materialized view held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewContents {
    /// So many rows.
    Read {
        /// How many.
        rows: u64,
        /// Their hash, in any order.
        row_hash: RowHash,
    },
    /// It was not read.
    NotRead {
        /// Why not: `was larger than 256 MiB`.
        why: String,
    },
}

/// A stream that is not there or not what its name says.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The snapshot lacks a stream every database snapshot has.
    #[error("the snapshot has no stream `{0}`")]
    Missing(StreamName),
    /// The stream is not what it should be.
    #[error("stream `{stream}` of the snapshot cannot be read: {what}")]
    Unreadable {
        /// Which one.
        stream: StreamName,
        /// What is wrong with it.
        what: String,
    },
}

impl Explain for LayoutError {
    fn class(&self) -> Class {
        Class::Incomplete
    }

    fn next_step(&self) -> Option<String> {
        Some("Use another recovery point; `warmspare points` lists them.".to_owned())
    }
}

impl TableFacts {
    /// As attributes of the table's stream.
    pub fn attributes(&self) -> Attributes {
        let columns: Vec<serde_json::Value> = self.columns.iter().cloned().map(Into::into).collect();
        let mut attributes = Attributes::from([
            ("schema".to_owned(), self.schema.clone().into()),
            ("table".to_owned(), self.table.clone().into()),
            ("columns".to_owned(), columns.into()),
            ("rows".to_owned(), self.rows.into()),
            ("row_hash".to_owned(), self.row_hash.to_string().into()),
        ]);
        if let Some(condition) = &self.condition {
            attributes.insert("condition".to_owned(), condition.clone().into());
        }
        if let Some((schema, table)) = &self.through {
            attributes.insert("through".to_owned(), vec![schema.clone(), table.clone()].into());
        }
        attributes
    }

    /// The name of the table the rows go back into, quoted.
    pub fn destination(&self) -> String {
        let (schema, table) = self.through.as_ref().map_or((&self.schema, &self.table), |(s, t)| (s, t));
        quote::qualified(schema, table)
    }
}

/// The tables of a snapshot with their facts, the largest first.
///
/// # Errors
/// [`LayoutError::Unreadable`] when a table's attributes are not a [`TableFacts`].
pub fn tables<S: Source>(source: &S) -> Result<Vec<(StreamEntry, TableFacts)>, Error> {
    let mut found = Vec::new();
    for entry in source.entries().iter().filter(|entry| entry.name.kind == StreamKind::Table) {
        let value = serde_json::Value::Object(entry.attributes.clone().into_iter().collect());
        let facts = serde_json::from_value(value).map_err(|e| unreadable(&entry.name, e))?;
        found.push((entry.clone(), facts));
    }
    found.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.bytes));
    Ok(found)
}

/// A stream of text, whole.
///
/// # Errors
/// When it is missing, damaged, too large or not UTF-8.
pub async fn text<S: Source>(source: &S, name: &StreamName) -> Result<String, Error> {
    let entry = source.entries().iter().find(|entry| entry.name == *name);
    let entry = entry.ok_or_else(|| LayoutError::Missing(name.clone()))?;
    if entry.bytes > WHOLE_BYTES_MAX {
        return Err(unreadable(name, "it is too large").into());
    }
    let mut stream = source.read(name).await?;
    let mut data = Vec::new();
    while let Some(part) = stream.next().await? {
        data.extend_from_slice(&part);
    }
    Ok(String::from_utf8(data).map_err(|e| unreadable(name, e))?)
}

/// The sequences.
///
/// # Errors
/// As [`text`], and when a line is not a sequence.
pub async fn sequences<S: Source>(source: &S) -> Result<Vec<Sequence>, Error> {
    json_lines(source, "sequences").await
}

/// The roles.
///
/// # Errors
/// As [`text`], and when a line is not a role.
pub async fn roles<S: Source>(source: &S) -> Result<Vec<Role>, Error> {
    json_lines(source, "roles").await
}

/// What belongs to the whole server.
///
/// # Errors
/// As [`text`], and when it is not readable.
pub async fn server_wide<S: Source>(source: &S) -> Result<ServerWide, Error> {
    Ok(json_lines(source, "server").await?.pop().unwrap_or_default())
}

/// The database's properties.
///
/// # Errors
/// As [`text`], and when they are not readable.
pub async fn properties<S: Source>(source: &S) -> Result<Properties, Error> {
    let name = catalog("properties");
    let text = text(source, &name).await?;
    Ok(serde_json::from_str(&text).map_err(|e| unreadable(&name, e))?)
}

/// The materialized views; none in a snapshot of before they were read.
///
/// # Errors
/// As [`text`], and when a line is not one.
pub async fn materialized_views<S: Source>(source: &S) -> Result<Vec<ViewFacts>, Error> {
    if has(source, &catalog(VIEWS)) { json_lines(source, VIEWS).await } else { Ok(Vec::new()) }
}

/// The inventory.
///
/// # Errors
/// As [`text`], and when a line is not one of an inventory.
pub async fn inventory<S: Source>(source: &S) -> Result<Vec<Line>, Error> {
    let name = catalog("inventory");
    let text = text(source, &name).await?;
    let lines =
        text.lines().map(|line| Line::parse(line).ok_or_else(|| unreadable(&name, "a line has no three parts").into()));
    lines.collect()
}

async fn json_lines<S: Source, T: DeserializeOwned>(source: &S, name: &str) -> Result<Vec<T>, Error> {
    let name = catalog(name);
    let text = text(source, &name).await?;
    // The parser's message may quote the line, which may hold a password's hash: only the place is told.
    let read = |(at, line)| {
        serde_json::from_str(line).map_err(|_| unreadable(&name, format!("line {} is not understood", at + 1)).into())
    };
    text.lines().enumerate().map(read).collect()
}

/// One JSON value a line.
///
/// # Errors
/// Never for the types of this room; serde says otherwise in its signature.
pub fn to_lines<T: Serialize>(name: &str, values: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for value in values {
        text.push_str(&serde_json::to_string(value).map_err(|e| unreadable(&catalog(name), e))?);
        text.push('\n');
    }
    Ok(text)
}

fn unreadable(stream: &StreamName, what: impl ToString) -> LayoutError {
    LayoutError::Unreadable { stream: stream.clone(), what: what.to_string() }
}
