//! Statements of a snapshot, run by a role that may be no superuser.
//!
//! A superuser's run or are errors. Any other role, above all the administrator of a managed server, meets refusals (SQLSTATE
//! 42501) that it can help itself out of, in this order:
//!
//! 1. It becomes a member of the role that is to own the object or that grants (a role with CREATEROLE may, since PostgreSQL
//!    16 in roles that it administers, which are those it made). It stays one: it must read, rename and drop what is theirs.
//! 2. An owner needs `CREATE` on the schema of what it is given, unless a superuser gives it: it is lent for one transaction.
//! 3. An owner that is a superuser at this server cannot be acted for: the object stays ours, and that is told.
//! 4. What a restore can do [without](super::refused) is left out, and that is told.
//!
//! Everything else is an error, as it is for a superuser.

use std::collections::BTreeSet;

use super::error::Error;
use super::lifecycle;
use super::quote::{identifier, literal};
use super::refused::{Refused, about, object_of, role_of, schema_of};
use super::session::Session;

/// The kind of [`Refused`] that names an owner for whom our role cannot act.
pub const OWNER: &str = "owner";

/// What our role was allowed, where it is no superuser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// What the server refused, and the restore does without.
    pub refused: BTreeSet<Refused>,
    /// The roles that ours became a member of.
    pub joined: BTreeSet<String>,
}

impl Allowance {
    /// With another's.
    pub fn extend(&mut self, other: Allowance) {
        self.refused.extend(other.refused);
        self.joined.extend(other.joined);
    }

    /// Runs a statement, as far as our role is allowed to.
    ///
    /// # Errors
    /// The server's, sorted; [`Error::NotMember`] when a role that is no superuser does not let us act for it.
    pub async fn run(&mut self, session: &Session, doing: &str, statement: &str) -> Result<(), Error> {
        if session.is_superuser() {
            return session.execute(doing, statement).await;
        }
        if about(statement).is_some_and(|(kind, name)| self.is_refused(&kind, &name)) {
            return Ok(());
        }
        let mut statement = as_role(statement);
        if is_about_privileges(&statement) {
            if let Some(refused) = not_ours_to_grant(session, &statement).await? {
                self.refused.insert(refused);
                return Ok(());
            }
            let ours = session.text("asking who we are", OURS).await?;
            let owners = self.refused.iter().filter(|refused| refused.kind == OWNER);
            statement = owners.fold(statement, |statement, owner| granted_to(&statement, &owner.name, &ours));
        }
        match session.execute(doing, &statement).await {
            Err(error @ Error::Permission { .. }) => self.help(session, doing, &statement, error).await,
            done => done,
        }
    }

    /// Lets our role act for the owner of a database, so that it can rename and close it.
    ///
    /// # Errors
    /// [`Error::NotMember`] when it may not, the server's.
    pub async fn act_for_owner(&mut self, session: &Session, database: &str) -> Result<(), Error> {
        let doing = "looking whose the database is";
        let sql = format!(
            "SELECT pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database WHERE datname = {} AND NOT pg_has_role(datdba, 'USAGE')",
            literal(database)
        );
        let Some(role) = session.texts(doing, &sql).await?.pop() else { return Ok(()) };
        if self.join(session, &role).await? {
            return Ok(());
        }
        let what = format!("database {database} is theirs");
        self.not_member(session, &role, what).await
    }

    async fn not_member(&self, session: &Session, role: &str, what: String) -> Result<(), Error> {
        let (place, role) = (session.place().clone(), identifier(role));
        let ours = identifier(&session.text("asking who we are", OURS).await?);
        let grant = format!("GRANT {role} TO {ours}{}", options(session));
        Err(Error::NotMember { place, role, grant, what })
    }

    fn is_refused(&self, kind: &str, name: &str) -> bool {
        self.refused.iter().any(|refused| refused.kind == kind && refused.name == name)
    }

    async fn help(&mut self, session: &Session, doing: &str, statement: &str, error: Error) -> Result<(), Error> {
        let Some(role) = role_of(statement) else {
            self.refused.insert(Refused::of(session, statement, error)?);
            return Ok(());
        };
        if self.is_refused(OWNER, &role) {
            // What others make later gets no privileges by them; an owner alone changes nothing else.
            if statement.starts_with("ALTER DEFAULT PRIVILEGES ") {
                self.refused.insert(Refused::of(session, statement, error)?);
            }
            return Ok(());
        }
        let joined = self.join(session, &role).await?;
        if joined && self.attempt(session, doing, statement, &role).await? {
            return Ok(());
        }
        let Error::Permission { place, what, .. } = error else { return Err(error) };
        let sql = format!("SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = {}", literal(&role));
        if session.texts("looking at the role", &sql).await? == ["true"] {
            self.refused.insert(Refused { kind: OWNER.to_owned(), name: role, why: what });
            return Ok(());
        }
        if joined {
            return Err(Error::Permission { place, doing: doing.to_owned(), what });
        }
        self.not_member(session, &role, what).await
    }

    /// Makes our role a member of `role`, so that it can act for it; false if it may not.
    async fn join(&mut self, session: &Session, role: &str) -> Result<bool, Error> {
        let doing = "becoming a member of the role that owns what is restored";
        let is = format!(
            "SELECT pg_has_role(oid, 'USAGE')::text FROM pg_catalog.pg_roles WHERE rolname = {}",
            literal(role)
        );
        let before = session.texts(doing, &is).await?;
        let sql = format!("GRANT {} TO CURRENT_USER{}", identifier(role), options(session));
        match session.execute(doing, &sql).await {
            Ok(()) if before == ["true"] => Ok(true),
            Ok(()) => {
                self.joined.insert(role.to_owned());
                Ok(true)
            }
            // Some administrators are members already without being allowed to say so again.
            Err(Error::Permission { .. }) => Ok(before == ["true"]),
            // invalid_grant_operation: it is a member of ours.
            Err(error) if error.sqlstate() == Some("0LP01") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs the statement again, lending the new owner the right to create where it is given something.
    async fn attempt(&self, session: &Session, doing: &str, statement: &str, role: &str) -> Result<bool, Error> {
        match session.execute(doing, statement).await {
            Ok(()) => return Ok(true),
            Err(Error::Permission { .. }) => {}
            Err(error) => return Err(error),
        }
        if !statement.starts_with("ALTER ") || statement.starts_with("ALTER DATABASE ") {
            return Ok(false);
        }
        let place = match schema_of(statement) {
            Some(schema) => format!("SCHEMA {schema}"),
            None => format!("DATABASE {}", identifier(&session.place().database)),
        };
        let role = identifier(role);
        let all = [
            format!("GRANT CREATE ON {place} TO {role}"),
            statement.to_owned(),
            format!("REVOKE CREATE ON {place} FROM {role}"),
        ];
        match lifecycle::together(session, doing, &all).await {
            Ok(()) => Ok(true),
            Err(Error::Permission { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

const OURS: &str = "SELECT current_user::text";

fn is_about_privileges(statement: &str) -> bool {
    ["GRANT ", "REVOKE "].iter().any(|verb| statement.starts_with(verb))
}

/// The statement with our role's name in the place of an owner's for whom we stand in: it is ours now what its owner may do.
fn granted_to(statement: &str, owner: &str, ours: &str) -> String {
    let Some((at, word)) = [" TO ", " FROM "].iter().filter_map(|word| Some((statement.rfind(word)?, *word))).max()
    else {
        return statement.to_owned();
    };
    let (start, names) = statement.split_at(at + word.len());
    let (names, option) = names.split_at(names.find(" WITH ").unwrap_or(names.len()));
    let is_owner = |name: &str| name == owner || name == identifier(owner);
    let names = names.split(", ").map(|name| if is_owner(name) { identifier(ours) } else { name.to_owned() });
    format!("{start}{}{option}", names.collect::<Vec<_>>().join(", "))
}

/// What a statement about privileges on something of the system's or of an extension would do, if that is not ours: whoever has a
/// privilege on it himself gets no error then, but a warning that nothing was granted. Whom we act for was let grant it.
async fn not_ours_to_grant(session: &Session, statement: &str) -> Result<Option<Refused>, Error> {
    let Some((kind, (schema, name))) = object_of(statement) else { return Ok(None) };
    let of = |catalog: &str, prefix: &str| {
        let named = format!("{prefix}name = {}", literal(&name));
        let joined = match &schema {
            Some(schema) => format!(
                "JOIN pg_catalog.pg_namespace n ON n.oid = o.{prefix}namespace AND n.nspname = {}",
                literal(schema)
            ),
            None => String::new(),
        };
        format!(
            "SELECT pg_get_userbyid({prefix}owner)::text FROM pg_catalog.{catalog} o {joined} WHERE {named} \
             AND NOT pg_has_role({prefix}owner, 'USAGE') AND current_user = session_user LIMIT 1"
        )
    };
    let sql = match kind {
        "FUNCTION" => of("pg_proc", "pro"),
        "TABLE" | "SEQUENCE" => of("pg_class", "rel"),
        "TYPE" => of("pg_type", "typ"),
        "LANGUAGE" => of("pg_language", "lan"),
        "SCHEMA" => of("pg_namespace", "nsp"),
        _ => of("pg_foreign_data_wrapper", "fdw"),
    };
    let owners = session.texts("looking whose it is", &sql).await?;
    let Some((owner, (kind, name))) = owners.into_iter().next().zip(about(statement)) else { return Ok(None) };
    Ok(Some(Refused { kind, name, why: format!("only its owner, {owner}, may grant or revoke") }))
}

/// The options that let a member act for the role: before PostgreSQL 16 every member does.
fn options(session: &Session) -> &'static str {
    if session.version() >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" }
}

/// pg_dump lets the session be another role's to grant in its name, which only a superuser may; a member may act for it.
fn as_role(statement: &str) -> String {
    match statement.strip_prefix("SET SESSION AUTHORIZATION ") {
        Some("DEFAULT") => "RESET ROLE".to_owned(),
        Some(role) => format!("SET ROLE {role}"),
        None if statement == "RESET SESSION AUTHORIZATION" => "RESET ROLE".to_owned(),
        None => statement.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_an_owners_becomes_ours_and_nobody_elses_does() {
        let check = |statement: &str, expect: &str| assert_eq!(granted_to(statement, "boss", "admin"), expect);
        check("REVOKE ALL ON TABLE boss.t FROM boss", "REVOKE ALL ON TABLE boss.t FROM \"admin\"");
        check(
            "REVOKE ALL ON DATABASE \"x\" FROM PUBLIC, \"boss\"",
            "REVOKE ALL ON DATABASE \"x\" FROM PUBLIC, \"admin\"",
        );
        check(
            "GRANT SELECT ON TABLE t TO boss WITH GRANT OPTION",
            "GRANT SELECT ON TABLE t TO \"admin\" WITH GRANT OPTION",
        );
        check("GRANT SELECT ON TABLE \"a TO boss\" TO bossy", "GRANT SELECT ON TABLE \"a TO boss\" TO bossy");
    }
}
