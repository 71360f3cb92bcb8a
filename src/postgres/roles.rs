//! Roles: they belong to the whole server, so no dump of a database carries them, yet without them nobody owns
//! anything or can log in.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::properties::{Label, setting_name, setting_value};
use super::quote::{identifier, literal};
use super::session::Session;

/// A role and its attributes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `SUPERUSER`.
    pub superuser: bool,
    /// `INHERIT`.
    pub inherit: bool,
    /// `CREATEROLE`.
    pub createrole: bool,
    /// `CREATEDB`.
    pub createdb: bool,
    /// `LOGIN`.
    pub login: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `BYPASSRLS`.
    pub bypassrls: bool,
    /// `CONNECTION LIMIT`; -1 is none.
    pub connection_limit: i32,
    /// `VALID UNTIL`.
    pub valid_until: Option<String>,
    /// The hash of its password as `pg_authid` holds it; `None` where we may not read it or there is none.
    pub password_hash: Option<String>,
    /// `ALTER ROLE … SET` in every database, as `name=value`.
    pub settings: Vec<String>,
    /// The roles it is a member of.
    pub member_of: Vec<Membership>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its security labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

/// A membership in another role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The other role.
    pub role: String,
    /// `WITH ADMIN OPTION`.
    pub admin: bool,
    /// Who granted it, where that was no superuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `WITH INHERIT`, which PostgreSQL 16 brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit: Option<bool>,
    /// `WITH SET`, which PostgreSQL 16 brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<bool>,
}

impl std::fmt::Debug for Role {
    /// Without the hash of the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role").field("name", &self.name).field("login", &self.login).finish_non_exhaustive()
    }
}

/// The roles this database needs: those that own anything in it, are granted anything, have settings for it or are in
/// `also`; their members, who inherit what they may; and the roles all of these are members of. PostgreSQL's own
/// (`pg_…`) are left out, memberships in them are not.
///
/// The hashes of their passwords come only `with_passwords`, for which our role must be able to
/// [read](super::access::reads_passwords) them.
///
/// # Errors
/// The server's, sorted.
pub async fn needed(session: &Session, also: &[String], with_passwords: bool) -> Result<Vec<Role>, Error> {
    let doing = "reading the roles";
    let password = if with_passwords {
        "(SELECT rolpassword FROM pg_catalog.pg_authid p WHERE p.oid = r.oid)"
    } else {
        "NULL::text"
    };
    let sql = format!(
        "WITH RECURSIVE here AS (SELECT oid, datdba FROM pg_catalog.pg_database WHERE datname = current_database()), \
         touched AS (SELECT s.refobjid AS oid FROM pg_catalog.pg_shdepend s, here \
         WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND (s.dbid = here.oid \
         OR s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND s.objid = here.oid) \
         UNION SELECT datdba FROM here \
         UNION SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \
         UNION SELECT relowner FROM pg_catalog.pg_class WHERE oid >= 16384 \
         UNION SELECT proowner FROM pg_catalog.pg_proc WHERE oid >= 16384 \
         UNION SELECT setrole FROM pg_catalog.pg_db_role_setting, here WHERE setdatabase = here.oid AND setrole <> 0 \
         UNION SELECT oid FROM pg_catalog.pg_roles WHERE rolname = ANY($1::text[])), \
         lower AS (SELECT oid FROM touched UNION SELECT m.member FROM lower JOIN pg_catalog.pg_auth_members m ON m.roleid = lower.oid \
         JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE g.rolname !~ '^pg_'), \
         wanted AS (SELECT oid FROM lower UNION SELECT v.oid FROM wanted JOIN pg_catalog.pg_auth_members m ON m.member = wanted.oid, \
         LATERAL (VALUES (m.roleid), (m.grantor)) v(oid) \
         WHERE v.oid = m.roleid OR NOT (SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.oid = v.oid)) \
         SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, \
         r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil::text, {password}, \
         coalesce((SELECT setconfig FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0), '{{}}'), \
         shobj_description(r.oid, 'pg_authid'), \
         coalesce((SELECT jsonb_agg(jsonb_build_object('role', pg_get_userbyid(m.roleid), 'admin', m.admin_option, \
         'by', (SELECT g.rolname FROM pg_catalog.pg_roles g WHERE g.oid = m.grantor AND NOT g.rolsuper), \
         'inherit', to_jsonb(m) -> 'inherit_option', 'set', to_jsonb(m) -> 'set_option') \
         ORDER BY pg_get_userbyid(m.roleid), pg_get_userbyid(m.grantor)) \
         FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid), '[]')::text, \
         ARRAY(SELECT l.provider FROM pg_catalog.pg_shseclabel l WHERE l.objoid = r.oid \
         AND l.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass ORDER BY 1), \
         ARRAY(SELECT l.label FROM pg_catalog.pg_shseclabel l WHERE l.objoid = r.oid \
         AND l.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass ORDER BY l.provider) \
         FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT oid FROM wanted) AND r.rolname !~ '^pg_' ORDER BY 1"
    );
    let rows = session.rows(doing, &sql, &[&also]).await?;
    rows.iter().map(|row| role(session, row)).collect()
}

fn role(session: &Session, row: &tokio_postgres::Row) -> Result<Role, Error> {
    let memberships: String = session.cell(row, 13)?;
    let member_of = serde_json::from_str(&memberships).map_err(|error| Error::Answer {
        place: session.place().clone(),
        doing: "reading the memberships of roles".to_owned(),
        what: error.to_string(),
    })?;
    Ok(Role {
        name: session.cell(row, 0)?,
        superuser: session.cell(row, 1)?,
        inherit: session.cell(row, 2)?,
        createrole: session.cell(row, 3)?,
        createdb: session.cell(row, 4)?,
        login: session.cell(row, 5)?,
        replication: session.cell(row, 6)?,
        bypassrls: session.cell(row, 7)?,
        connection_limit: session.cell(row, 8)?,
        valid_until: session.cell(row, 9)?,
        password_hash: session.cell(row, 10)?,
        settings: session.cell(row, 11)?,
        comment: session.cell(row, 12)?,
        member_of,
        labels: Label::pairs(session.cell(row, 14)?, session.cell(row, 15)?),
    })
}

/// The names of all roles of this server, out of `names`.
///
/// # Errors
/// The server's, sorted.
pub async fn existing(session: &Session, names: &[String]) -> Result<Vec<String>, Error> {
    let sql = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY($1::text[]) ORDER BY 1";
    let rows = session.rows("looking for the roles", sql, &[&names]).await?;
    rows.iter().map(|row| session.cell(row, 0)).collect()
}

/// A statement that makes a role a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The statement.
    pub sql: String,
    unsigned: String,
    by: Option<String>,
    admin: bool,
}

impl Joining {
    /// Makes it one. A role that is no superuser may not grant in another's name, and does it in its own; where it may not
    /// grant that membership at all, that is told in words.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn run(&self, session: &Session) -> Result<Option<String>, Error> {
        let doing = "making the new roles members";
        let may_help = |error: &Error| !session.is_superuser() && matches!(error, Error::Permission { .. });
        match session.execute(doing, &self.sql).await {
            Err(error) if may_help(&error) => {}
            done => return done.map(|()| None),
        }
        match session.execute(doing, &self.unsigned).await {
            Err(Error::Permission { what, .. }) => Ok(Some(format!("{} ({what})", self.unsigned))),
            done => done.map(|()| None),
        }
    }

    /// Who grants must have been granted before: superusers' grants first, then those that may be passed on.
    pub fn order(&self) -> impl Ord + use<> {
        (self.by.is_some(), !self.admin)
    }
}

impl Membership {
    fn sql(&self, member: &str, by: Option<&String>) -> String {
        let yes = |on: bool| if on { "TRUE" } else { "FALSE" };
        let mut options = Vec::new();
        if self.inherit.is_some() || self.set.is_some() {
            options.push(format!("ADMIN {}", yes(self.admin)));
            options.extend(self.inherit.map(|on| format!("INHERIT {}", yes(on))));
            options.extend(self.set.map(|on| format!("SET {}", yes(on))));
        } else if self.admin {
            options.push("ADMIN OPTION".to_owned());
        }
        let mut sql = format!("GRANT {} TO {}", identifier(&self.role), identifier(member));
        if !options.is_empty() {
            sql.push_str(&format!(" WITH {}", options.join(", ")));
        }
        if let Some(by) = by {
            sql.push_str(&format!(" GRANTED BY {}", identifier(by)));
        }
        sql
    }
}

impl Role {
    /// The statement that creates it for a rehearsal: without any right and without a login, so that its existence
    /// changes nothing.
    pub fn create(&self) -> String {
        let inherit = if self.inherit { "INHERIT" } else { "NOINHERIT" };
        format!("CREATE ROLE {} NOLOGIN {inherit}", identifier(&self.name))
    }

    /// The statements that make it a member of what it was a member of.
    pub fn join(&self) -> Vec<Joining> {
        let joining = |each: &Membership| Joining {
            sql: each.sql(&self.name, each.by.as_ref()),
            unsigned: each.sql(&self.name, None),
            by: each.by.clone(),
            admin: each.admin,
        };
        self.member_of.iter().map(joining).collect()
    }

    /// The names of its settings.
    pub fn setting_names(&self) -> Vec<String> {
        self.settings.iter().map(|pair| setting_of(pair).0.to_owned()).collect()
    }

    /// Takes out the settings of these names, which the server does not have.
    pub fn forget(&mut self, names: &[String]) {
        self.settings.retain(|pair| !names.iter().any(|name| name == setting_of(pair).0));
    }

    /// The attributes that PostgreSQL has words for.
    fn attributes(&self) -> [(&'static str, bool); 7] {
        [
            ("SUPERUSER", self.superuser),
            ("INHERIT", self.inherit),
            ("CREATEROLE", self.createrole),
            ("CREATEDB", self.createdb),
            ("LOGIN", self.login),
            ("REPLICATION", self.replication),
            ("BYPASSRLS", self.bypassrls),
        ]
    }

    /// The statements that give it, at promotion, all but its password that the role of the same name does not have, one
    /// thing each, so that one that is refused holds up no other. The first changes nothing for a role that has it all.
    pub fn promote_from(&self, there: &Role) -> Vec<String> {
        let name = identifier(&self.name);
        let mut sql = vec![format!("ALTER ROLE {name} CONNECTION LIMIT {}", self.connection_limit)];
        for ((word, here), (_, there)) in self.attributes().into_iter().zip(there.attributes()) {
            if here != there {
                sql.push(format!("ALTER ROLE {name} {}{word}", if here { "" } else { "NO" }));
            }
        }
        if let Some(until) = self.valid_until.as_ref().filter(|until| there.valid_until.as_ref() != Some(until)) {
            sql.push(format!("ALTER ROLE {name} VALID UNTIL {}", literal(until)));
        }
        sql.extend(self.set_settings(&there.settings));
        if self.comment != there.comment {
            sql.extend(self.comment.iter().map(|comment| format!("COMMENT ON ROLE {name} IS {}", literal(comment))));
        }
        sql.extend(
            self.labels.iter().filter(|label| !there.labels.contains(label)).map(|l| l.sql(&format!("ROLE {name}"))),
        );
        sql
    }

    /// The statement that gives it its password, if that is known.
    pub fn password(&self) -> Option<String> {
        let hash = self.password_hash.as_ref()?;
        Some(format!("ALTER ROLE {} PASSWORD {}", identifier(&self.name), literal(hash)))
    }

    /// The statements that set its settings, but those it has.
    fn set_settings(&self, there: &[String]) -> Vec<String> {
        let missing = self.settings.iter().filter(|setting| !there.contains(setting));
        let set = |setting: &String| {
            let (key, value) = setting_of(setting);
            format!("ALTER ROLE {} SET {} = {}", identifier(&self.name), setting_name(key), setting_value(key, value))
        };
        missing.map(set).collect()
    }

    /// The statements that give it, at promotion, its attributes, password and settings. They may hold the password's
    /// hash, so the session that runs them must keep them out of the server's log.
    pub fn promote(&self) -> Vec<String> {
        let name = identifier(&self.name);
        let word = |(word, on): (&str, bool)| if on { word.to_owned() } else { format!("NO{word}") };
        let mut attributes: Vec<String> = self.attributes().into_iter().map(word).collect();
        attributes.push(format!("CONNECTION LIMIT {}", self.connection_limit));
        attributes.extend(self.password_hash.iter().map(|hash| format!("PASSWORD {}", literal(hash))));
        attributes.extend(self.valid_until.iter().map(|until| format!("VALID UNTIL {}", literal(until))));
        let mut sql = vec![format!("ALTER ROLE {name} {}", attributes.join(" "))];
        sql.extend(self.set_settings(&[]));
        sql.extend(self.comment.iter().map(|comment| format!("COMMENT ON ROLE {name} IS {}", literal(comment))));
        sql.extend(self.labels.iter().map(|label| label.sql(&format!("ROLE {name}"))));
        sql
    }

    /// How the role of the same name on the spare differs, for a person; nothing if it does not, as far as it matters
    /// before a promotion. `passwords`: whether those of both could be read.
    pub fn differs_from(&self, there: &Role, passwords: bool) -> Option<String> {
        let mut words = Vec::new();
        for ((word, here), (_, there)) in self.attributes().into_iter().zip(there.attributes()) {
            if here != there {
                words.push(format!("{word} was {}, is {}", yes(here), yes(there)));
            }
        }
        if passwords && self.password_hash.is_some() && self.password_hash != there.password_hash {
            words.push("its password is another".to_owned());
        }
        let same = |(one, other): (&Membership, &Membership)| one.is_same(other);
        if self.member_of.len() != there.member_of.len() || !self.member_of.iter().zip(&there.member_of).all(same) {
            words.push("its memberships are others".to_owned());
        }
        if self.settings != there.settings {
            words.push("its settings are others".to_owned());
        }
        if words.is_empty() { None } else { Some(format!("role {}: {}", self.name, words.join("; "))) }
    }
}

impl Membership {
    /// Whether it is the same membership, as far as both servers know its options.
    fn is_same(&self, other: &Membership) -> bool {
        let same = |one: Option<bool>, other: Option<bool>| one.is_none() || other.is_none() || one == other;
        self.role == other.role
            && self.admin == other.admin
            && same(self.inherit, other.inherit)
            && same(self.set, other.set)
    }
}

/// `name=value`, as `pg_db_role_setting` holds it.
fn setting_of(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn yes(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
