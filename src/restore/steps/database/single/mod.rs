//! Single tables of a snapshot, beside everything, in a schema of their own of the database that is there.
//!
//! Nothing that exists is touched, so this may be done at a live site. The tables come without what would reach out of them: foreign keys,
//! triggers, sequences. They are unlogged, and event triggers do not see them made. What a person then does with the rows is theirs.
//! Killed, it is simply run again: a table of ours is made anew.

mod statements;

pub use statements::TableName;
use statements::{Statements, of_table};

use super::{DatabaseError, Target};
use crate::capture::layout::{self, TableFacts};
use crate::error::Error;
use crate::failpoint;
use crate::observe::Progress;
use crate::postgres::catalog::{SCRATCH_COMMENT, SCRATCH_NAME};
use crate::postgres::copy::{self, Selection, Totals};
use crate::postgres::quote::{derived_name, identifier, literal};
use crate::postgres::{Session, script};
use crate::stream::{Source, SourceStream, StreamEntry};

/// A table of the snapshot and where it goes.
#[derive(Clone, Debug)]
pub struct SingleTable {
    /// The table as captured.
    pub of: TableName,
    /// Where it goes.
    pub to: TableName,
    /// Its stream.
    pub entry: StreamEntry,
    /// What is known of it.
    pub facts: TableFacts,
    statements: Statements,
}

/// What came of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Whether its rows are those that were captured.
    pub equal: bool,
    /// Constraints and indexes that could not be made, and why.
    pub left_out: Vec<String>,
}

/// The schema that single tables of the target's point go into.
pub fn scratch_schema(target: &Target) -> String {
    derived_name(SCRATCH_NAME, &target.point)
}

/// The tables `names` of the snapshot, ready to be brought.
///
/// # Errors
/// [`DatabaseError::NoTable`] when the snapshot has no such table, or it cannot stand alone.
pub async fn find<S: Source>(target: &Target, source: &S, names: &[TableName]) -> Result<Vec<SingleTable>, Error> {
    let schema = scratch_schema(target);
    let (pre_data, post_data) =
        (layout::text(source, &layout::pre_data()).await?, layout::text(source, &layout::post_data()).await?);
    let mut all = script::statements(&pre_data);
    all.extend(script::statements(&post_data));
    let tables = layout::tables(source)?;
    let mut found: Vec<SingleTable> = Vec::new();
    for of in names {
        let wrong = |what: &str| DatabaseError::NoTable { table: of.quoted(), what: what.to_owned() };
        let to = TableName { schema: schema.clone(), table: of.table.clone() };
        let statements = of_table(&all, of, &to);
        if let Some(hindrance) = statements.hindrance {
            return Err(wrong(hindrance).into());
        }
        let (entry, facts) = tables
            .iter()
            .find(|(_, facts)| (&facts.schema, &facts.table) == (&of.schema, &of.table))
            .ok_or_else(|| wrong("is not in the point"))?;
        if statements.create.is_none() || facts.condition.is_some() {
            return Err(wrong("belongs to an extension, which makes it itself").into());
        }
        if found.iter().any(|earlier| earlier.to == to) {
            return Err(wrong("has the name of another that is asked for; bring them one after the other").into());
        }
        found.push(SingleTable { of: of.clone(), to, entry: entry.clone(), facts: facts.clone(), statements });
    }
    Ok(found)
}

/// Refuses when the schema is there and not ours, or a table in it is another's.
///
/// # Errors
/// [`DatabaseError::Taken`], the server's.
pub async fn refuse_taken(target: &Target, tables: &[SingleTable]) -> Result<(), Error> {
    let session = target.server.connect_to(&target.name).await?;
    look(&session, target, tables).await?;
    session.close().await;
    Ok(())
}

async fn look(session: &Session, target: &Target, tables: &[SingleTable]) -> Result<(), Error> {
    let schema = scratch_schema(target);
    let taken = |name: String| DatabaseError::Taken { place: target.place(), name };
    let sql = format!(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace WHERE nspname = {}",
        literal(&schema)
    );
    let comments = session.texts("looking at the scratch schema", &sql).await?;
    if comments.iter().any(|comment| *comment != of_schema(target)) {
        return Err(taken(format!("schema {}", identifier(&schema))).into());
    }
    for table in tables {
        let sql = format!(
            "SELECT coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
            literal(&schema),
            literal(&table.to.table)
        );
        let comments = session.texts("looking at the scratch table", &sql).await?;
        if comments.iter().any(|comment| *comment != of_scratch(target, table)) {
            return Err(taken(format!("table {}", table.to.quoted())).into());
        }
    }
    Ok(())
}

/// The comment by which the schema is known as ours.
fn of_schema(target: &Target) -> String {
    let owner = &target.origin.owner;
    format!(
        "{SCRATCH_COMMENT}{} of {}, system {}; drop it when you need it no more",
        target.point, owner.source, owner.system
    )
}

/// The comment by which a table in it is known as ours.
fn of_scratch(target: &Target, table: &SingleTable) -> String {
    format!("warmspare: {} as of point {}", table.of.quoted(), target.point)
}

/// Brings one table: makes it, fills it, gives it its constraints and indexes, and compares its rows with what was captured.
///
/// # Errors
/// [`DatabaseError::Lacks`] when the table cannot be made here, [`DatabaseError::Taken`]; the server's, the snapshot's.
pub async fn bring<S: Source>(
    target: &Target,
    source: &S,
    table: &SingleTable,
    progress: &Progress,
) -> Result<Brought, Error> {
    let session = target.server.connect_to(&target.name).await?;
    // Event triggers of the application do to a new table what it wants done to its own.
    let quiet = "SELECT set_config('session_replication_role', 'replica', false)::text FROM pg_catalog.pg_roles \
                 WHERE rolname = current_user AND rolsuper";
    session.texts("keeping event triggers still", quiet).await?;
    make(&session, target, table).await?;
    failpoint::hit("table.made");
    let encoding = layout::properties(source).await?.encoding;
    let to = table.to.quoted();
    let selection = Selection { table: &to, columns: &table.facts.columns, condition: None };
    let meter = progress.begin(&format!("table {to}"), Some(table.entry.bytes));
    let mut stream = source.read(&table.entry.name).await?;
    let mut copying = copy::copy_in(&session, selection, &encoding).await?;
    while let Some(data) = stream.next().await? {
        meter.advance(data.len() as u64);
        copying.write(data).await?;
    }
    let rows = copying.finish().await?;
    meter.finish(&format!("{rows} rows"));
    failpoint::hit("table.filled");
    let mut left_out = Vec::new();
    for statement in &table.statements.rest {
        if let Err(error) = session.execute("making a constraint or index", statement).await {
            left_out.push(format!("{}: {error}", first_line(statement)));
        }
        failpoint::hit("table.constrained");
    }
    session.execute("gathering statistics", &format!("ANALYZE {to}")).await?;
    let found = read(&session, selection, &encoding).await?;
    session.close().await;
    let equal = (found.rows, found.row_hash) == (table.facts.rows, table.facts.row_hash);
    Ok(Brought { equal, left_out })
}

/// The empty table, in its schema, in one transaction.
async fn make(session: &Session, target: &Target, table: &SingleTable) -> Result<(), Error> {
    look(session, target, std::slice::from_ref(table)).await?;
    let (schema, to) = (identifier(&table.to.schema), table.to.quoted());
    let begin = format!(
        "BEGIN; CREATE SCHEMA IF NOT EXISTS {schema}; COMMENT ON SCHEMA {schema} IS {}; DROP TABLE IF EXISTS {to}",
        literal(&of_schema(target))
    );
    session.execute("making room in the scratch schema", &begin).await?;
    for statement in table.statements.create.iter().chain(&table.statements.defaults) {
        if let Err(source) = session.execute("making the table", statement).await {
            let (place, table) = (target.place(), table.of.quoted());
            return Err(DatabaseError::Lacks { place, table, statement: first_line(statement), source }.into());
        }
    }
    let defaults = format!(
        "SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', d.adrelid::regclass, a.attname) FROM pg_catalog.pg_attrdef d \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = {}::regclass AND EXISTS \
         (SELECT FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_class s ON s.oid = p.refobjid AND s.relkind = 'S' \
         WHERE p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::regclass)",
        literal(&to)
    );
    for statement in session.texts("looking for defaults from sequences", &defaults).await? {
        session.execute("leaving out a default from a sequence", &statement).await?;
    }
    let end = format!("COMMENT ON TABLE {to} IS {}; COMMIT", literal(&of_scratch(target, table)));
    Ok(session.execute("marking the table as ours", &end).await?)
}

async fn read(session: &Session, selection: Selection<'_>, encoding: &str) -> Result<Totals, Error> {
    let mut rows = copy::copy_out(session, selection, encoding).await?;
    while rows.next().await?.is_some() {}
    Ok(rows.totals())
}

fn first_line(statement: &str) -> String {
    statement.lines().next().unwrap_or_default().chars().take(200).collect()
}
