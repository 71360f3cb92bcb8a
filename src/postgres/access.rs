//! What our role may not read of a database that is to be captured, and the statements that let it.
//!
//! Asked before the first byte, all at once: whoever grants it needs the whole list, not one object a night.

use super::catalog::{CONDITION, OWN_RELATION};
use super::error::Error;
use super::large_objects;
use super::quote::identifier;
use super::session::Session;

/// Lets our role read every table, view and sequence of the server, and with them the hashes of passwords.
fn read_all(role: &str) -> String {
    format!("GRANT pg_read_all_data TO {}", identifier(role))
}

/// Whether our role may read the hashes of the roles' passwords. Tried, not asked: a managed server may refuse it to a role whose
/// privileges say that it may. The session must be in no transaction.
///
/// # Errors
/// The server's, sorted.
pub async fn reads_passwords(session: &Session) -> Result<bool, Error> {
    let sql = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE false";
    match session.execute("asking whether passwords of roles can be read", sql).await {
        Ok(()) => Ok(true),
        Err(Error::Permission { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a database of which our role may not read everything.
///
/// # Errors
/// [`Error::Access`] naming every object, and the statements that help.
pub async fn refuse_unreadable(session: &Session) -> Result<(), Error> {
    let role = session.text("asking who we are", "SELECT current_user::text").await?;
    let (mut objects, mut statements) = (unreadable(session).await?, Vec::new());
    if !objects.is_empty() {
        statements.push(read_all(&role));
    }
    let hidden = hidden(session).await?;
    if !hidden.is_empty() {
        statements.push(format!("ALTER ROLE {} BYPASSRLS", identifier(&role)));
    }
    objects.extend(hidden.into_iter().map(|table| format!("{table} (its row security hides rows)")));
    let closed = large_objects::unreadable(session).await?;
    if !closed.is_empty() {
        // No role that PostgreSQL brings reads them all.
        statements.push(format!("ALTER ROLE {} SET lo_compat_privileges = on", identifier(&role)));
    }
    objects.extend(closed.into_iter().map(|number| format!("large object {number}")));
    if objects.is_empty() {
        return Ok(());
    }
    Err(Error::Access { place: session.place().clone(), role, objects, statements })
}

/// Relations that we may not select from, by kind and name.
async fn unreadable(session: &Session) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END || quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'S', 'm') AND c.relpersistence <> 't' AND (({CONDITION}) IS NOT NULL OR {OWN_RELATION}) \
         AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')) ORDER BY 1"
    );
    session.texts("checking that every table and sequence can be read", &sql).await
}

/// Tables whose rows are hidden from us, as far as policies say.
async fn hidden(session: &Session) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT 'table ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid) AND {OWN_RELATION} ORDER BY 1"
    );
    session.texts("checking that no row is hidden", &sql).await
}
