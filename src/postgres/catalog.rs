//! What a database consists of, as a capture needs it: tables with rows, sequences with values, materialized views in
//! the order in which they can be refreshed, extensions.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::quote;
use super::session::Session;

/// How the name of a scratch schema begins, and how its comment does: by both it is known. It holds single tables of a point, beside
/// what the application has (`restore --table`).
pub const SCRATCH_NAME: &str = "warmspare_";
/// See [`SCRATCH_NAME`].
pub const SCRATCH_COMMENT: &str = "warmspare: single tables of point ";

/// Rows of `pg_namespace n` that are scratch schemas; a test compares it with the two words above.
macro_rules! scratch {
    () => {
        "(pg_catalog.starts_with(n.nspname::text, 'warmspare_') AND EXISTS (SELECT FROM pg_catalog.pg_description m \
         WHERE m.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND m.objoid = n.oid AND m.objsubid = 0 \
         AND pg_catalog.starts_with(m.description, 'warmspare: single tables of point ')))"
    };
}

/// Rows of `pg_namespace n` that hold the operator's own: not the system's, and no copies that warmspare made.
macro_rules! user_schema {
    () => {
        concat!("n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT ", scratch!())
    };
}

/// Rows of `pg_namespace n` that are scratch schemas.
pub(super) const SCRATCH: &str = scratch!();

/// Rows of `pg_namespace n` that hold the operator's own.
pub(super) const USER_SCHEMA: &str = user_schema!();

/// Rows of `pg_class c` joined with `pg_namespace n` that are the operator's own: not the system's, not an extension's.
pub(super) const OWN_RELATION: &str = concat!(
    user_schema!(),
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     AND e.objid = c.oid AND e.deptype = 'e')"
);

/// A relation that holds rows of its own, or the partitioned parent of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its object id; valid only in the database it was read from.
    pub oid: u32,
    /// The number of the file its rows are in, 0 where it has none: every TRUNCATE and every rewrite gives it another.
    pub file: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns a COPY carries, in their order: generated ones are left out.
    pub columns: Vec<String>,
    /// Its size on disk in bytes, to begin with the largest.
    pub disk_bytes: u64,
    /// Whether it has rows of its own; a partitioned parent has not, and is only locked.
    pub has_rows: bool,
    /// It is an extension's, which keeps rows of the operator in it: the `WHERE …` (or nothing) that tells them from its
    /// own (`pg_extension_config_dump`).
    pub condition: Option<String>,
    /// Schema and name of the partitioned table through which its rows go back: where they belong is told by the numbers
    /// of an enum's values, which are others in every database.
    pub through: Option<(String, String)>,
}

impl Table {
    /// `"schema"."name"`.
    pub fn qualified(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }
}

/// A partition whose place among its siblings a restore cannot keep: by hash of an enum, as pg_dump has it
/// (`getPartitioningInfo`). Yields the root, through which its rows must be loaded.
const THROUGH: &str = "\
CASE WHEN c.relispartition AND EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a \
JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.relid JOIN pg_catalog.pg_opclass o ON o.oid = ANY(p.partclass) \
JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod WHERE m.amname = 'hash' AND o.opcname = 'enum_ops') \
THEN pg_partition_root(c.oid) END";

/// The condition of a table that an extension keeps rows of the operator in.
pub(super) const CONDITION: &str = "\
SELECT coalesce(t.condition, '') FROM pg_catalog.pg_extension x, unnest(x.extconfig, x.extcondition) AS t(oid, condition) \
WHERE t.oid = c.oid LIMIT 1";

/// A sequence and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The last value given out, or the first to give out.
    pub last_value: i64,
    /// Whether `last_value` was given out already.
    pub is_called: bool,
}

/// An installed extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Whether the sizes of tables are looked up. Asking for the size takes a lock on the table, and so waits for whoever
/// holds it exclusively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Left at 0.
    Unasked,
    /// As the files are on disk.
    OnDisk,
}

/// Every table of the database, the largest first (if their sizes are looked up).
///
/// # Errors
/// The server's, sorted.
pub async fn tables(session: &Session, sizes: Sizes) -> Result<Vec<Table>, Error> {
    let size = match sizes {
        Sizes::Unasked => "0::int8",
        // NULL for a table that vanishes while we look.
        Sizes::OnDisk => "CASE WHEN c.relkind = 'r' THEN coalesce(pg_table_size(c.oid), 0) ELSE 0 END",
    };
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'r', \
         {size}, \
         ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY (SELECT r.attnum FROM pg_catalog.pg_attribute r \
         WHERE r.attrelid = w.root AND r.attname = a.attname), a.attnum), \
         e.condition, (SELECT s.nspname::text FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace WHERE r.oid = w.root), \
         (SELECT relname::text FROM pg_catalog.pg_class WHERE oid = w.root), c.relfilenode \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         CROSS JOIN LATERAL (SELECT ({CONDITION}) AS condition) e CROSS JOIN LATERAL (SELECT {THROUGH} AS root) w \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND (e.condition IS NOT NULL OR {OWN_RELATION}) \
         ORDER BY 5 DESC, 2, 3"
    );
    let rows = session.rows("listing the tables", &sql, &[]).await?;
    let read = |row| {
        Ok(Table {
            oid: session.cell(row, 0)?,
            schema: session.cell(row, 1)?,
            name: session.cell(row, 2)?,
            has_rows: session.cell(row, 3)?,
            disk_bytes: session.cell::<i64>(row, 4)?.unsigned_abs(),
            columns: session.cell(row, 5)?,
            condition: session.cell(row, 6)?,
            through: session.cell::<Option<String>>(row, 7)?.zip(session.cell(row, 8)?),
            file: session.cell(row, 9)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Sequences asked in one query; each costs an entry in the range table.
const SEQUENCES_PER_QUERY: usize = 200;

/// Every sequence with its value *now*: sequences do not follow snapshots, so this is called after one was taken, and
/// the values are then at least what the snapshot's rows used.
///
/// # Errors
/// The server's, sorted; one that vanishes in between is SQLSTATE 42P01.
pub async fn sequences(session: &Session) -> Result<Vec<Sequence>, Error> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND (({CONDITION}) IS NOT NULL OR {OWN_RELATION}) ORDER BY 1, 2"
    );
    let mut names: Vec<(String, String)> = Vec::new();
    for row in session.rows("listing the sequences", &sql, &[]).await? {
        names.push((session.cell(&row, 0)?, session.cell(&row, 1)?));
    }
    let mut found = Vec::with_capacity(names.len());
    for part in names.chunks(SEQUENCES_PER_QUERY) {
        let each = part.iter().enumerate().map(|(at, (schema, name))| {
            format!("SELECT {at}, last_value, is_called FROM {}", quote::qualified(schema, name))
        });
        let sql = format!("{} ORDER BY 1", each.collect::<Vec<_>>().join(" UNION ALL "));
        let rows = session.rows("reading the sequences", &sql, &[]).await?;
        for ((schema, name), row) in part.iter().zip(&rows) {
            found.push(Sequence {
                schema: schema.clone(),
                name: name.clone(),
                last_value: session.cell(row, 1)?,
                is_called: session.cell(row, 2)?,
            });
        }
    }
    Ok(found)
}

/// Sets sequences to the values captured.
///
/// # Errors
/// The server's, sorted.
pub async fn set_sequences(session: &Session, sequences: &[Sequence]) -> Result<(), Error> {
    let mut sql = String::new();
    for each in sequences {
        let name = quote::literal(&quote::qualified(&each.schema, &each.name));
        sql.push_str(&format!("SELECT pg_catalog.setval({name}, {}, {});", each.last_value, each.is_called));
    }
    session.execute("setting the sequences", &sql).await
}

/// The populated materialized views, quoted, each after those it reads (also through plain views).
///
/// # Errors
/// The server's, sorted.
pub async fn materialized_views(session: &Session) -> Result<Vec<String>, Error> {
    let sql = "WITH RECURSIVE reads AS (\
         SELECT DISTINCT r.ev_class AS reader, d.refobjid AS read FROM pg_catalog.pg_rewrite r \
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class), \
         depth AS (SELECT c.oid, 0 AS level FROM pg_catalog.pg_class c WHERE c.relkind IN ('v', 'm') \
         UNION SELECT reads.reader, depth.level + 1 FROM depth JOIN reads ON reads.read = depth.oid WHERE depth.level < 1000) \
         SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN depth ON depth.oid = c.oid \
         WHERE c.relkind = 'm' AND c.relispopulated AND ";
    let sql = format!("{sql}{USER_SCHEMA} GROUP BY 1, 2 ORDER BY max(depth.level), 1, 2");
    let mut names = Vec::new();
    for row in session.rows("ordering the materialized views", &sql, &[]).await? {
        names.push(quote::qualified(&session.cell::<String>(&row, 0)?, &session.cell::<String>(&row, 1)?));
    }
    Ok(names)
}

/// The scratch schemas, which are no part of a database: not captured, not compared.
///
/// # Errors
/// The server's, sorted.
pub async fn scratch_schemas(session: &Session) -> Result<Vec<String>, Error> {
    let sql = format!("SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE {SCRATCH} ORDER BY 1");
    session.texts("looking for scratch schemas", &sql).await
}

/// The bytes of a relation's rows on disk; `name` is quoted.
///
/// # Errors
/// The server's, sorted.
pub async fn disk_bytes(session: &Session, name: &str) -> Result<u64, Error> {
    let sql = "SELECT pg_table_size($1::text::pg_catalog.regclass)";
    let row = session.one(&format!("asking for the size of {name}"), sql, &[&name]).await?;
    Ok(session.cell::<i64>(&row, 0)?.unsigned_abs())
}

/// The installed extensions.
///
/// # Errors
/// The server's, sorted.
pub async fn extensions(session: &Session) -> Result<Vec<Extension>, Error> {
    let sql = "SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY 1";
    let mut found = Vec::new();
    for row in session.rows("listing the extensions", sql, &[]).await? {
        found.push(Extension { name: session.cell(&row, 0)?, version: session.cell(&row, 1)? });
    }
    Ok(found)
}

/// Those of `wanted` that this server has no files for.
///
/// # Errors
/// The server's, sorted.
pub async fn missing_extensions(session: &Session, wanted: &[Extension]) -> Result<Vec<String>, Error> {
    let names: Vec<&str> = wanted.iter().map(|extension| extension.name.as_str()).collect();
    let sql = "SELECT w FROM unnest($1::text[]) w WHERE w NOT IN (SELECT name::text FROM pg_catalog.pg_available_extensions) ORDER BY 1";
    let doing = "listing the extensions this server has";
    let mut missing = Vec::new();
    for row in session.rows(doing, sql, &[&names]).await? {
        let name: String = session.cell(&row, 0)?;
        // The list leaves out what lies in a further folder (`extension_destdir` of Debian); this looks there too.
        let sql = "SELECT count(*) FROM pg_extension_update_paths($1)";
        match session.one(doing, sql, &[&name]).await {
            Ok(_) => {}
            Err(Error::Server { .. }) => missing.push(name),
            Err(other) => return Err(other),
        }
    }
    Ok(missing)
}

/// The tablespaces of this server that our role may put something into.
///
/// # Errors
/// The server's, sorted.
pub async fn tablespaces(session: &Session) -> Result<Vec<String>, Error> {
    let sql =
        "SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE') ORDER BY 1";
    session.texts("listing the tablespaces", sql).await
}

/// The tables that have parts at other servers: to sample them, `ANALYZE` would go there.
///
/// # Errors
/// The server's, sorted.
pub async fn parents_of_foreign_tables(session: &Session) -> Result<Vec<String>, Error> {
    let sql = "WITH RECURSIVE above AS (SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i \
               JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'f' \
               UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid) \
               SELECT oid::pg_catalog.regclass::text FROM above ORDER BY 1";
    session.texts("looking for tables with parts at other servers", sql).await
}

/// What `ANALYZE` of the whole database would go through, quoted where needed; what takes longest first.
///
/// # Errors
/// The server's, sorted.
pub async fn analyzable(session: &Session) -> Result<Vec<String>, Error> {
    let sql = "SELECT oid::pg_catalog.regclass::text FROM pg_catalog.pg_class \
               WHERE relkind IN ('r', 'p', 'm') AND relpersistence <> 't' \
               ORDER BY relkind = 'p' DESC, pg_catalog.pg_relation_size(oid) DESC, 1";
    session.texts("listing what has statistics", sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_schema_is_known_by_the_words_it_is_made_with() {
        for words in [SCRATCH_NAME, SCRATCH_COMMENT] {
            assert!(SCRATCH.contains(&format!(", '{words}')")), "{words}");
        }
    }
}
