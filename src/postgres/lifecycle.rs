//! Databases as wholes: which there are, which are ours, and how one takes the name of another.
//!
//! A database that warmspare made carries its origin as [marks](super::marking): they live and move with the database, in the
//! same transaction as a rename, and are no part of what is compared.

use std::collections::BTreeMap;

use super::connect::Server;
use super::error::Error;
use super::marking::{IN_COMMENT, Marking, Marks};
use super::quote::identifier;
use super::session::Session;

/// A session that keeps a database in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The server's process.
    pub pid: i32,
    /// The role.
    pub user: String,
    /// What it calls itself.
    pub application: String,
    /// Where it comes from; empty for a Unix socket.
    pub client: String,
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
        write!(
            f,
            "pid {} {} as {} from {}",
            self.pid,
            or(&self.application, "(unnamed)"),
            self.user,
            or(&self.client, "this host")
        )
    }
}

/// The marks of a database; `None` when there is no such database.
///
/// # Errors
/// The server's, sorted.
pub async fn marks(session: &Session, database: &str) -> Result<Option<Marks>, Error> {
    let sql = format!(
        "SELECT coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{{}}'), \
         {IN_COMMENT} FROM pg_catalog.pg_database d WHERE d.datname = $1"
    );
    let rows = session.rows("looking for the database", &sql, &[&database]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (settings, comment) = (session.cell::<Vec<String>>(row, 0)?, session.cell::<Option<&str>>(row, 1)?);
    Ok(Some(Marking::of(session).read(&settings, comment)))
}

/// The statement that gives a database another name.
pub fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {};", identifier(from), identifier(to))
}

/// The statement that lets new sessions into a database, or none, not even a superuser's.
pub fn allowing_connections(database: &str, allowed: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed};", identifier(database))
}

/// A database that carries marks of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// What it keeps under every name.
    pub oid: u32,
    /// Its name now.
    pub name: String,
    /// The marks.
    pub marks: Marks,
    /// Its size in bytes, if our role may ask.
    pub bytes: Option<u64>,
}

/// Every database that carries marks of ours, by name.
///
/// # Errors
/// The server's, sorted.
pub async fn marked(session: &Session) -> Result<Vec<Marked>, Error> {
    let sql = format!(
        "SELECT d.oid, d.datname::text, coalesce(s.setconfig, '{{}}'), CASE WHEN has_database_privilege(d.oid, 'CONNECT') \
         OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END, {IN_COMMENT} \
         FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0 \
         ORDER BY 2"
    );
    let mut found = Vec::new();
    for row in session.rows("listing the databases", &sql, &[]).await? {
        let settings: Vec<String> = session.cell(&row, 2)?;
        let marks = Marking::of(session).read(&settings, session.cell(&row, 4)?);
        if marks.is_empty() {
            continue;
        }
        let bytes = session.cell::<Option<i64>>(&row, 3)?.map(i64::unsigned_abs);
        found.push(Marked { oid: session.cell(&row, 0)?, name: session.cell(&row, 1)?, marks, bytes });
    }
    Ok(found)
}

/// The names that databases bear now; one that is gone is left out.
///
/// # Errors
/// The server's, sorted.
pub async fn names(session: &Session, oids: &[u32]) -> Result<BTreeMap<u32, String>, Error> {
    let sql = "SELECT oid, datname::text FROM pg_catalog.pg_database WHERE oid = ANY($1)";
    let rows = session.rows("looking for the databases", sql, &[&oids]).await?;
    rows.iter().map(|row| Ok((session.cell(row, 0)?, session.cell(row, 1)?))).collect()
}

/// A person's words for a database that is not ours: owner and size.
///
/// # Errors
/// The server's, sorted.
pub async fn describe(session: &Session, database: &str) -> Result<String, Error> {
    let sql =
        "SELECT pg_get_userbyid(datdba)::text, pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = $1";
    let row = session.one("looking at the database", sql, &[&database]).await?;
    let owner: String = session.cell(&row, 0)?;
    let size = crate::units::Bytes(session.cell::<i64>(&row, 1)?.unsigned_abs());
    Ok(format!("owned by {owner}, {size}"))
}

/// How many relations of its own the database of this session has.
///
/// # Errors
/// The server's, sorted.
pub async fn relations(session: &Session) -> Result<i64, Error> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384";
    let row = session.one("looking whether the database is empty", sql, &[]).await?;
    session.cell(&row, 0)
}

/// The sessions in a database that are no part of the server: of those of other roles, who may not read their statistics sees
/// no kind, and the server's own are then known by having no role.
const OF_CLIENTS: &str = "pid <> pg_backend_pid() AND (backend_type IN ('client backend', 'walsender') \
     OR backend_type IS NULL AND usesysid IS NOT NULL)";

/// The sessions of others in a database.
///
/// # Errors
/// The server's, sorted.
pub async fn in_use(session: &Session, database: &str) -> Result<Vec<InUse>, Error> {
    let sql = format!(
        "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(host(client_addr), '') \
         FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND {OF_CLIENTS} ORDER BY 1"
    );
    let mut found = Vec::new();
    for row in session.rows("listing the sessions", &sql, &[&database]).await? {
        found.push(InUse {
            pid: session.cell(&row, 0)?,
            user: session.cell(&row, 1)?,
            application: session.cell(&row, 2)?,
            client: session.cell(&row, 3)?,
        });
    }
    Ok(found)
}

/// Ends the sessions of others in a database, those that our role may end. The others are still [in use](in_use) of it.
///
/// # Errors
/// The server's, sorted.
pub async fn terminate(session: &Session, database: &str) -> Result<(), Error> {
    // One that may not be ended would be an error, and leave the rest alone, too.
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND {OF_CLIENTS} \
         AND (current_setting('is_superuser') = 'on' \
         OR NOT coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = usesysid), true) \
         AND (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))"
    );
    session.one("ending the sessions", &sql, &[&database]).await.map(drop)
}

/// Lets new sessions into a database, or none, not even a superuser's.
///
/// # Errors
/// The server's, sorted.
pub async fn allow_connections(session: &Session, database: &str, allowed: bool) -> Result<(), Error> {
    session.execute("opening or closing the database for sessions", &allowing_connections(database, allowed)).await
}

/// Whether there is such a database and it takes sessions.
///
/// # Errors
/// The server's, sorted.
pub async fn takes_connections(session: &Session, database: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1 AND datallowconn)";
    session.cell(&session.one("looking whether the database is open", sql, &[&database]).await?, 0)
}

/// Removes a database, its sessions first; a subscription in it, which would forbid it, goes with it and leaves what is
/// at the publisher alone.
///
/// # Errors
/// The server's, sorted.
pub async fn drop_database(server: &Server, session: &Session, database: &str) -> Result<(), Error> {
    drop_subscriptions(server, session, database).await?;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(database));
    session.execute(&format!("dropping database {database}"), &sql).await
}

async fn drop_subscriptions(server: &Server, session: &Session, database: &str) -> Result<(), Error> {
    let sql = "SELECT s.subname::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
               WHERE d.datname = $1 ORDER BY 1";
    let doing = "dropping the subscriptions of the database";
    let rows = session.rows(doing, sql, &[&database]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    // One that was replaced takes no sessions.
    allow_connections(session, database, true).await?;
    let inside = server.connect_to(database).await?;
    for row in &rows {
        let name = identifier(&session.cell::<String>(row, 0)?);
        for rest in ["DISABLE", "SET (slot_name = NONE)"] {
            inside.execute(doing, &format!("ALTER SUBSCRIPTION {name} {rest}")).await?;
        }
        inside.execute(doing, &format!("DROP SUBSCRIPTION {name}")).await?;
    }
    inside.close().await;
    Ok(())
}

/// Several statements in one transaction.
///
/// # Errors
/// The server's, sorted; none of the statements has happened then.
pub async fn together(session: &Session, doing: &str, statements: &[String]) -> Result<(), Error> {
    let sql = format!(
        "BEGIN; {} COMMIT",
        statements.iter().map(|s| format!("{};", s.trim_end_matches(';'))).collect::<String>()
    );
    match session.execute(doing, &sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The failed transaction block stays open in the session otherwise.
            if let Err(rollback) = session.execute("rolling back", "ROLLBACK").await {
                tracing::warn!(error = %rollback, "a failed transaction could not be rolled back; the server does it when we leave");
            }
            Err(error)
        }
    }
}
