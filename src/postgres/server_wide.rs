//! What belongs to the whole server but is part of how an application works: settings of all roles and privileges on
//! settings. Like the attributes of roles it is applied only at promotion, for other databases live there too.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::properties::{setting_name, setting_value};
use super::quote::identifier;
use super::session::Session;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerWide {
    /// `ALTER ROLE ALL SET`, as `name=value`.
    pub settings: Vec<String>,
    /// `GRANT … ON PARAMETER`, to roles that the database needs.
    pub parameter_grants: Vec<ParameterGrant>,
}

/// A privilege on a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterGrant {
    /// The setting.
    pub parameter: String,
    /// To whom; `None` is everybody.
    pub grantee: Option<String>,
    /// `SET` or `ALTER SYSTEM`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
    /// By whom, where that was no superuser.
    pub by: Option<String>,
}

/// Reads it; of the privileges those of `roles` and of everybody.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session, roles: &[String]) -> Result<ServerWide, Error> {
    let doing = "reading what belongs to the whole server";
    let sql =
        "SELECT unnest(setconfig) FROM pg_catalog.pg_db_role_setting WHERE setrole = 0 AND setdatabase = 0 ORDER BY 1";
    let settings = session.texts(doing, sql).await?;
    let mut parameter_grants = Vec::new();
    if session.version() >= 150_000 {
        let sql = "SELECT p.parname, (SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid = g.grantee), g.privilege_type, \
                   g.is_grantable, (SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid = g.grantor AND NOT r.rolsuper) \
                   FROM pg_catalog.pg_parameter_acl p, aclexplode(p.paracl) g WHERE g.grantee = 0 \
                   OR pg_get_userbyid(g.grantee) = ANY($1::text[]) ORDER BY 1, 5 NULLS FIRST, 2 NULLS FIRST, 3";
        for row in session.rows(doing, sql, &[&roles]).await? {
            parameter_grants.push(ParameterGrant {
                parameter: session.cell(&row, 0)?,
                grantee: session.cell(&row, 1)?,
                privilege: session.cell(&row, 2)?,
                grantable: session.cell(&row, 3)?,
                by: session.cell(&row, 4)?,
            });
        }
    }
    Ok(ServerWide { settings, parameter_grants })
}

impl ServerWide {
    /// The statements that apply it. Running them again changes nothing.
    pub fn apply(&self) -> Vec<String> {
        let set = |pair: &String| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("ALTER ROLE ALL SET {} = {}", setting_name(name), setting_value(name, value))
        };
        self.settings.iter().map(set).chain(self.parameter_grants.iter().map(ParameterGrant::sql)).collect()
    }
}

impl ParameterGrant {
    fn sql(&self) -> String {
        let to = self.grantee.as_deref().map_or("PUBLIC".to_owned(), identifier);
        let option = if self.grantable { " WITH GRANT OPTION" } else { "" };
        let sql = format!("GRANT {} ON PARAMETER {} TO {to}{option}", self.privilege, setting_name(&self.parameter));
        match &self.by {
            Some(by) => format!("SET ROLE {}; {sql}; RESET ROLE", identifier(by)),
            None => sql,
        }
    }
}
