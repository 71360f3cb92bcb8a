//! How a server is, as one role sees it: what the role may do, which connections are left, how large a database is and
//! where it lies. Asked before a capture or a restore needs it; nothing stays changed.

use std::path::PathBuf;

use jiff::Timestamp;

use super::error::Error;
use super::properties::Properties;
use super::quote;
use super::session::Session;

/// What our role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: String,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Whether it may create databases.
    pub creates_databases: bool,
    /// Whether it may create roles.
    pub creates_roles: bool,
    /// Whether it may read the hashes of other roles' passwords.
    pub reads_password_hashes: bool,
}

/// Asks what our role may do.
///
/// # Errors
/// The server's, sorted.
pub async fn rights(session: &Session) -> Result<Rights, Error> {
    let sql = "SELECT rolname::text, rolsuper, rolcreatedb, rolcreaterole \
               FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.one("asking what our role may do", sql, &[]).await?;
    Ok(Rights {
        role: session.cell(&row, 0)?,
        superuser: session.cell(&row, 1)?,
        creates_databases: session.cell(&row, 2)?,
        creates_roles: session.cell(&row, 3)?,
        reads_password_hashes: super::access::reads_passwords(session).await?,
    })
}

/// How many connections are left to our role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many more sessions our role may open now, this one not counted.
    pub free: u64,
    /// What limits them: `max_connections = 100`.
    pub limit: String,
}

/// Asks how many more sessions our role may open to `database`.
///
/// # Errors
/// The server's, sorted.
pub async fn connections(session: &Session, database: &str) -> Result<Connections, Error> {
    // Who may not read the statistics of others sees their kind as NULL.
    let sql = "WITH open AS (SELECT a.datname, a.usesysid FROM pg_catalog.pg_stat_activity a WHERE a.datid IS NOT NULL \
               AND (a.backend_type IS NULL OR a.backend_type = 'client backend')) \
               SELECT current_setting('max_connections')::int8, (SELECT count(*) FROM open), r.rolsuper, \
               current_setting('superuser_reserved_connections')::int8 + coalesce(current_setting('reserved_connections', true), '0')::int8, \
               r.rolconnlimit::int8, (SELECT count(*) FROM open WHERE usesysid = r.oid), \
               coalesce((SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = $1), -1)::int8, \
               (SELECT count(*) FROM open WHERE datname = $1) \
               FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let row = session.one("counting the connections", sql, &[&database]).await?;
    let number = |at: usize| session.cell::<i64>(&row, at);
    let (most, open, reserved) = (number(0)?, number(1)?, number(3)?);
    let superuser: bool = session.cell(&row, 2)?;
    if superuser {
        return Ok(left(most - open, format!("max_connections = {most}")));
    }
    let mut limits = vec![(most - reserved - open, format!("max_connections = {most}, {reserved} of them reserved"))];
    let (of_role, by_role) = (number(4)?, number(5)?);
    if of_role >= 0 {
        limits.push((of_role - by_role, format!("the role's CONNECTION LIMIT {of_role}")));
    }
    let (of_database, in_database) = (number(6)?, number(7)?);
    if of_database >= 0 {
        limits.push((of_database - in_database, format!("the database's CONNECTION LIMIT {of_database}")));
    }
    let least = limits.into_iter().min_by_key(|(free, _)| *free);
    Ok(least.map_or_else(|| left(0, String::new()), |(free, limit)| left(free, limit)))
}

fn left(free: i64, limit: String) -> Connections {
    Connections { free: free.max(0).unsigned_abs(), limit }
}

/// The server's clock.
///
/// # Errors
/// The server's, sorted.
pub async fn clock(session: &Session) -> Result<Timestamp, Error> {
    let doing = "asking for the time";
    let row = session.one(doing, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", &[]).await?;
    Timestamp::from_millisecond(session.cell(&row, 0)?).map_err(|error| Error::Answer {
        place: session.place().clone(),
        doing: doing.to_owned(),
        what: error.to_string(),
    })
}

/// The size of a database on disk in bytes; `None` when there is no such database.
///
/// # Errors
/// The server's, sorted.
pub async fn size(session: &Session, database: &str) -> Result<Option<u64>, Error> {
    let sql = "SELECT pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = $1";
    let rows = session.rows("asking for the size of the database", sql, &[&database]).await?;
    let size = rows.first().map(|row| session.cell::<i64>(row, 0)).transpose()?;
    Ok(size.map(i64::unsigned_abs))
}

/// The server's data folder on its own host; `None` when our role may not know it.
///
/// # Errors
/// The server's, sorted.
pub async fn data_folder(session: &Session) -> Result<Option<PathBuf>, Error> {
    let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'";
    Ok(session.texts("asking where the data lies", sql).await?.into_iter().next().map(PathBuf::from))
}

/// The names of `wanted` that no role of this server has.
///
/// # Errors
/// The server's, sorted.
pub async fn missing_roles(session: &Session, wanted: &[String]) -> Result<Vec<String>, Error> {
    let existing = super::roles::existing(session, wanted).await?;
    Ok(wanted.iter().filter(|role| !existing.contains(role)).cloned().collect())
}

/// The roles of `wanted` for which ours, which is no superuser, neither may act nor may make itself able to. Superusers are left
/// out: for these nobody may.
///
/// # Errors
/// The server's, sorted.
pub async fn not_to_act_for(session: &Session, wanted: &[String]) -> Result<Vec<String>, Error> {
    // Since PostgreSQL 16 a role administers those it made; before, every role with CREATEROLE all of them.
    let may = match session.version() {
        160_000.. => {
            "pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid, 'SET') OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')"
        }
        _ => {
            "pg_has_role(r.oid, 'USAGE') OR (SELECT o.rolcreaterole FROM pg_catalog.pg_roles o WHERE o.rolname = current_user)"
        }
    };
    let sql = format!(
        "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname = ANY($1::text[]) AND NOT r.rolsuper AND NOT ({may}) \
         ORDER BY 1"
    );
    let rows = session.rows("asking for which roles ours may act", &sql, &[&wanted]).await?;
    rows.iter().map(|row| session.cell(row, 0)).collect()
}

/// The role that owns a database; `None` when there is no such database.
///
/// # Errors
/// The server's, sorted.
pub async fn owner(session: &Session, database: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database WHERE datname = $1";
    let rows = session.rows("looking whose the database is", sql, &[&database]).await?;
    rows.first().map(|row| session.cell(row, 0)).transpose()
}

/// Whether the server's host has the locale a database is to be created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locale {
    /// It has.
    There,
    /// It has not, in the server's words.
    Missing(String),
    /// It cannot be tried by this role, or from a database of another encoding.
    Untried,
}

/// Tries the locale of `properties`: only the operating system of the server knows its locales, and it is asked by a
/// temporary collation in a transaction that is rolled back.
///
/// # Errors
/// The server's, sorted.
pub async fn locale(session: &Session, properties: &Properties) -> Result<Locale, Error> {
    let doing = "trying the locale";
    if session.text(doing, "SELECT current_setting('server_encoding')").await? != properties.encoding {
        return Ok(Locale::Untried);
    }
    let sql = format!("BEGIN; CREATE COLLATION pg_temp.warmspare_check ({}); ROLLBACK", definition(properties));
    let Err(error) = session.execute(doing, &sql).await else { return Ok(Locale::There) };
    session.execute(doing, "ROLLBACK").await?;
    match error {
        // invalid_parameter_value, undefined_object: how it is told depends on the release.
        Error::Server { what, sqlstate, .. } if ["22023", "42704"].contains(&sqlstate.as_str()) => {
            Ok(Locale::Missing(what))
        }
        Error::Permission { .. } => Ok(Locale::Untried),
        other => Err(other),
    }
}

fn definition(properties: &Properties) -> String {
    let Properties { collate, ctype, locale, .. } = properties;
    let name = || quote::literal(locale.as_deref().unwrap_or(collate));
    match properties.locale_provider.as_str() {
        "i" => format!("provider = icu, locale = {}", name()),
        "b" => format!("provider = builtin, locale = {}", name()),
        _ => format!("provider = libc, lc_collate = {}, lc_ctype = {}", quote::literal(collate), quote::literal(ctype)),
    }
}
