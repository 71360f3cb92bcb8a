//! What cannot be brought back, found by name before the first byte is captured.
//!
//! The rule of the house: what is not supported is refused, never lost in silence.

use std::fmt;

use super::catalog::{OWN_RELATION, SCRATCH};
use super::error::Error;
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
    vec![
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
            // `CREATE LANGUAGE` without its handler looks for an extension of that name.
            "SELECT 'language', l.lanname::text FROM pg_catalog.pg_language l WHERE l.lanispl AND l.oid >= 16384 AND NOT EXISTS (\
             SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_language'::pg_catalog.regclass AND d.objid = l.oid AND d.deptype = 'e') \
             AND (l.lanplcallfoid < 16384 OR EXISTS (SELECT FROM pg_catalog.pg_depend d \
             WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = l.lanplcallfoid AND d.deptype = 'e'))"
                .to_owned(),
            "no dump carries its handler, which is an extension's or the system's own: ALTER EXTENSION … ADD LANGUAGE, or drop it",
        ),
        (
            "SELECT 'subscription', s.subname::text FROM pg_catalog.pg_subscription s \
             JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() \
             AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)"
                .to_owned(),
            "only a superuser sees how it connects: let warmspare connect as one, or drop it",
        ),
        (
            "SELECT 'user mapping', coalesce(u.usename, 'public') || ' on server ' || u.srvname FROM pg_catalog.pg_user_mappings u \
             WHERE u.umoptions IS NULL AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)"
                .to_owned(),
            "only a superuser, or the owner of its server, sees its options: let warmspare connect as one",
        ),
        (
            format!(
                "SELECT 'view', v.oid::pg_catalog.regclass::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
                 JOIN pg_catalog.pg_class v ON v.oid = r.ev_class JOIN pg_catalog.pg_class c ON c.oid = d.refobjid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                 AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND v.relnamespace <> n.oid AND {SCRATCH} \
                 UNION SELECT 'foreign key', quote_ident(k.conname) || ' on ' || k.conrelid::pg_catalog.regclass FROM pg_catalog.pg_constraint k \
                 JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 JOIN pg_catalog.pg_class o ON o.oid = k.conrelid AND o.relnamespace <> n.oid WHERE {SCRATCH}"
            ),
            "it needs a table of a scratch schema, which is not captured: move that table to a schema of the application's",
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
    if list.is_empty() { Ok(()) } else { Err(Error::Unsupported { place: session.place().clone(), list }) }
}
