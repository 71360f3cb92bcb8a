//! What cannot be brought back yet, found by name before the first byte is captured.
//!
//! The rule of the house: what is not supported is refused, never lost in silence.

use std::fmt;

use super::catalog::OWN_RELATION;
use super::error::Error;
use super::quote;
use super::session::Session;

/// The oldest server a capture understands: 14 is the first that says since when a lock is waited for.
const VERSION_MIN: u32 = 140_000;

/// One object that cannot be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What it is: `foreign table`.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// What exactly stands in the way, if the kind does not say it.
    pub why: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}

/// Relations of the database's own that meet `condition`.
fn relations(condition: &str, kind: &str) -> String {
    format!(
        "SELECT {kind}, n.nspname || '.' || c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE ({condition}) AND {OWN_RELATION}"
    )
}

/// Each query yields kind and name; beside it, why.
fn queries() -> Vec<(String, &'static str)> {
    let mut all = kinds();
    all.extend(circumstances());
    all
}

/// Kinds of objects that are not carried.
fn kinds() -> Vec<(String, &'static str)> {
    vec![
        (
            "SELECT 'large object', min(oid)::text || CASE WHEN count(*) > 1 THEN ' and ' || count(*) - 1 || ' more' ELSE '' END \
             FROM pg_catalog.pg_largeobject_metadata HAVING count(*) > 0"
                .to_owned(),
            "",
        ),
        (relations("c.relkind = 'f'", "'foreign table'"), "its rows are another server's"),
        ("SELECT 'foreign server', srvname::text FROM pg_catalog.pg_foreign_server".to_owned(), ""),
        (
            "SELECT 'event trigger', e.evtname::text FROM pg_catalog.pg_event_trigger e WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
             WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = e.oid AND d.deptype = 'e')"
                .to_owned(),
            "",
        ),
        ("SELECT 'publication', pubname::text FROM pg_catalog.pg_publication".to_owned(), ""),
        (
            "SELECT 'subscription', s.subname::text FROM pg_catalog.pg_subscription s \
             JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()"
                .to_owned(),
            "",
        ),
        (
            "SELECT 'security label', coalesce(i.identity, s.objoid::text) FROM pg_catalog.pg_seclabel s, \
             LATERAL pg_identify_object(s.classoid, s.objoid, s.objsubid) i \
             UNION ALL SELECT 'security label', 'of the database' FROM pg_catalog.pg_shseclabel s \
             JOIN pg_catalog.pg_database d ON d.oid = s.objoid WHERE s.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass \
             AND d.datname = current_database()"
                .to_owned(),
            "",
        ),
    ]
}

/// Objects of a kind that is carried, but not where or as these are.
fn circumstances() -> Vec<(String, &'static str)> {
    vec![
        (
            relations(
                "c.reltablespace <> 0",
                "CASE WHEN c.relkind IN ('i', 'I') THEN 'index' ELSE 'table' END || ' in tablespace ' || \
                 (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace)",
            ),
            "only the default tablespace is supported",
        ),
        (
            // Only a superuser can put anything there, but some do; a dump takes it for the system's own (16384 is FirstNormalObjectId).
            "SELECT o.kind, pg_describe_object(o.class, o.oid, 0) FROM (\
             SELECT 'system schema''s relation', 'pg_catalog.pg_class'::pg_catalog.regclass, oid, relnamespace FROM pg_catalog.pg_class WHERE relkind <> 'i' \
             UNION ALL SELECT 'system schema''s function', 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, pronamespace FROM pg_catalog.pg_proc \
             UNION ALL SELECT 'system schema''s operator', 'pg_catalog.pg_operator'::pg_catalog.regclass, oid, oprnamespace FROM pg_catalog.pg_operator \
             UNION ALL SELECT 'system schema''s type', 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typnamespace FROM pg_catalog.pg_type \
             WHERE typrelid = 0 AND typelem = 0) o(kind, class, oid, namespace) \
             JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace AND n.nspname IN ('pg_catalog', 'information_schema') \
             WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')"
                .to_owned(),
            "no dump carries what was added to pg_catalog or information_schema: move it to a schema of its own",
        ),
        (
            "SELECT DISTINCT 'constraint', quote_ident(k.conname) || ' on ' || k.conrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger g \
             JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint WHERE g.tgisinternal AND g.tgenabled <> 'O'"
                .to_owned(),
            "DISABLE TRIGGER ALL switched its checks off, and a dump switches them on: ENABLE TRIGGER ALL, or drop it",
        ),
        (
            "SELECT 'database', d.datname::text FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace \
             WHERE d.datname = current_database() AND t.spcname <> 'pg_default'"
                .to_owned(),
            "it is in a tablespace of its own",
        ),
        (
            relations("c.relkind IN ('r', 'p') AND row_security_active(c.oid)", "'table'"),
            "its row security hides rows from our role: give it BYPASSRLS",
        ),
        (
            "SELECT 'database privilege', g.grantee::pg_catalog.regrole::text FROM pg_catalog.pg_database d, aclexplode(d.datacl) g \
             WHERE d.datname = current_database() AND g.grantor <> d.datdba"
                .to_owned(),
            "granted by somebody else than the owner",
        ),
        (
            "SELECT 'table of extension ' || x.extname, n.nspname || '.' || c.relname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e' \
             JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid WHERE c.relkind = 'm'"
                .to_owned(),
            "",
        ),
    ]
}

/// What a standby knows of but does not have: it refuses to read it.
fn unlogged() -> (String, &'static str) {
    let kind = "CASE c.relkind WHEN 'S' THEN 'unlogged sequence' ELSE 'unlogged table' END";
    (
        relations("c.relpersistence = 'u' AND c.relkind IN ('r', 'm', 'S')", kind),
        "a standby has nothing of it: let the URL point to the primary, or SET LOGGED",
    )
}

/// Refuses a server that cannot be a source.
///
/// # Errors
/// [`Error::ServerKind`] naming what is wrong with it.
pub async fn refuse_server(session: &Session) -> Result<(), Error> {
    if session.version() < VERSION_MIN {
        return Err(Error::ServerKind {
            place: session.place().clone(),
            what: format!("the server is PostgreSQL {}, too old to be captured", session.version() / 10_000),
            next: "Upgrade it to PostgreSQL 14 or newer.".to_owned(),
        });
    }
    Ok(())
}

/// Refuses a database that holds anything this release cannot bring back.
///
/// # Errors
/// [`Error::Unsupported`] with every such object.
pub async fn refuse_objects(session: &Session) -> Result<(), Error> {
    let doing = "looking for what cannot be captured";
    let mut list = Vec::new();
    let unlogged = if session.is_standby() { vec![unlogged()] } else { Vec::new() };
    for (sql, why) in queries().into_iter().chain(unlogged) {
        for row in session.rows(doing, &format!("{sql} ORDER BY 2"), &[]).await? {
            list.push(Unsupported { kind: session.cell(&row, 0)?, name: session.cell(&row, 1)?, why });
        }
    }
    list.extend(extension_rows(session).await?);
    if list.is_empty() { Ok(()) } else { Err(Error::Unsupported { place: session.place().clone(), list }) }
}

/// Tables of extensions that hold rows of the operator (`pg_extension_config_dump`).
async fn extension_rows(session: &Session) -> Result<Vec<Unsupported>, Error> {
    let doing = "looking into the tables of extensions";
    let sql = "SELECT x.extname::text, n.nspname::text, c.relname::text, t.condition FROM pg_catalog.pg_extension x, \
               unnest(x.extconfig, x.extcondition) AS t(oid, condition) JOIN pg_catalog.pg_class c ON c.oid = t.oid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2, 3";
    let mut found = Vec::new();
    for row in session.rows(doing, sql, &[]).await? {
        let (extension, schema, name, condition): (String, String, String, Option<String>) =
            (session.cell(&row, 0)?, session.cell(&row, 1)?, session.cell(&row, 2)?, session.cell(&row, 3)?);
        let table = quote::qualified(&schema, &name);
        let sql = format!("SELECT EXISTS (SELECT FROM ONLY {table} {})", condition.unwrap_or_default());
        let some = session.one(doing, &sql, &[]).await?;
        if session.cell(&some, 0)? {
            found.push(Unsupported {
                kind: format!("table of extension {extension}"),
                name: format!("{schema}.{name}"),
                why: "it holds rows of yours",
            });
        }
    }
    Ok(found)
}

/// Refuses, by name, what our role may not read.
///
/// # Errors
/// [`Error::Permission`] naming every relation.
pub async fn refuse_unreadable(session: &Session) -> Result<(), Error> {
    let sql = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' \
         AND {OWN_RELATION} AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')) ORDER BY 1"
    );
    let doing = "checking that every table and sequence can be read";
    let names = session.texts(doing, &sql).await?;
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::Permission {
        place: session.place().clone(),
        doing: doing.to_owned(),
        what: format!("no right to read {}", names.join(", ")),
    })
}
