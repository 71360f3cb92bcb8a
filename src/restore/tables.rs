//! Single tables of a point into a scratch schema of the database that is there: the rows that somebody deleted, to be looked at and
//! put back by hand. It replaces nothing, so that the live site may do it, too, if it has an identity that opens the point.

use serde::Serialize;

use super::error::RestoreError;
use super::plan::{PlannedStep, StepKind};
use super::step::{Step, Surroundings};
use super::steps::database::single::{self, SingleTable, TableName};
use crate::clock::Clock;
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::observe::Progress;
use crate::point;
use crate::postgres::quote::identifier;
use crate::vault::layout::PointId;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablesRequest {
    /// The point, as typed; the newest when absent.
    pub point: Option<String>,
    /// The database: exactly one source.
    pub only: Vec<String>,
    /// The tables, as typed: `SCHEMA.TABLE`.
    pub tables: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was brought, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TablesReport {
    /// The point.
    pub point: String,
    /// The instant it stands for.
    pub captured_at: jiff::Timestamp,
    /// The database they are in.
    pub database: String,
    /// The schema they are in.
    pub schema: String,
    /// Each table.
    pub tables: Vec<TableReport>,
}

/// One table of a [`TablesReport`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableReport {
    /// The table as captured, quoted.
    pub table: String,
    /// Where it is, quoted.
    pub into: String,
    /// Its rows.
    pub rows: u64,
    /// The length of their text in bytes.
    pub bytes: u64,
    /// Whether its rows were found equal to the captured ones; absent when nothing was done.
    pub equal: Option<bool>,
    /// Constraints and indexes that could not be made, and why.
    pub left_out: Vec<String>,
    /// A statement that would put the rows back that are missing.
    pub hint: String,
}

impl TableReport {
    fn of(table: &SingleTable) -> Self {
        let columns: Vec<String> = table.facts.columns.iter().map(|column| identifier(column)).collect();
        let columns = columns.join(", ");
        let (of, into) = (table.of.quoted(), table.to.quoted());
        let hint = format!(
            "INSERT INTO {of} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {into} ON CONFLICT DO NOTHING;"
        );
        let (rows, bytes) = (table.facts.rows, table.entry.bytes);
        TableReport { table: of, into, rows, bytes, equal: None, left_out: Vec::new(), hint }
    }
}

/// Brings them, or says what would be brought.
///
/// # Errors
/// When a table is not in the point or cannot stand alone, when the schema is there and is not ours, or something it needs is missing.
pub async fn tables(
    here: &Here,
    request: &TablesRequest,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<TablesReport, Error> {
    let _lock = if request.dry_run { None } else { Some(here.lock("warmspare restore --table")?) };
    let (planned, names) = asked(request)?;
    let (identity, (_, reader)) = (here.identity()?, point::open_vault(here).await?);
    let points = point::list(here).await?;
    let id = request.point.as_deref().map(str::parse::<PointId>).transpose()?;
    let point = points.choose(id)?;
    let around = Surroundings::beside(here, &reader, &identity, point, clock.now());
    let step = Step::new(&around, &planned)?;
    let (target, snapshot) = (step.target()?, step.snapshot().await?);
    let found = single::find(&target, &snapshot, &names).await?;
    single::refuse_taken(&target, &found).await?;
    let mut reports: Vec<TableReport> = found.iter().map(TableReport::of).collect();
    if !request.dry_run {
        for (table, report) in found.iter().zip(&mut reports) {
            // Boxed: a future that held that of every part would be deeper than the compiler looks.
            let brought = Box::pin(single::bring(&target, &snapshot, table, progress)).await?;
            (report.equal, report.left_out) = (Some(brought.equal), brought.left_out);
        }
    }
    Ok(TablesReport {
        point: point.id.to_string(),
        captured_at: point.record.captured_at,
        database: target.name().to_owned(),
        schema: single::scratch_schema(&target),
        tables: reports,
    })
}

/// The database asked for, and the tables.
fn asked(request: &TablesRequest) -> Result<(PlannedStep, Vec<TableName>), RestoreError> {
    let wrong = |what: String| RestoreError::Tables { what };
    let source = match request.only.as_slice() {
        [only] => only.parse::<SourceName>().ok().filter(|source| source.kind == SourceKind::Database),
        _ => None,
    };
    let source = source.ok_or_else(|| wrong("exactly one --only database.NAME says of which database".to_owned()))?;
    let named = |text: &String| {
        TableName::parse(text).ok_or_else(|| wrong(format!("`{text}` is not the name of a table with its schema")))
    };
    let names = request.tables.iter().map(named).collect::<Result<_, _>>()?;
    Ok((PlannedStep { id: "table".to_owned(), kind: StepKind::Database, source }, names))
}
