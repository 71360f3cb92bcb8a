//! What belongs to a database but to no schema in it: encoding, locale, owner, privileges, settings, comment.
//! `pg_dump` of the contents carries none of it.

use serde::{Deserialize, Serialize};

use super::catalog::Extension;
use super::constraint_triggers::ConstraintTrigger;
use super::error::Error;
use super::marking::{COMMENT, Marking};
use super::quote::{identifier, literal};
use super::session::Session;

/// Settings of a database under this prefix are ours and no part of what is captured or compared.
pub const OWN_SETTINGS: &str = "warmspare.";

/// The properties of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// The encoding's name: `UTF8`.
    pub encoding: String,
    /// `c` for the operating system's, `i` for ICU, `b` for PostgreSQL's own.
    pub locale_provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale of the providers `i` and `b`.
    pub locale: Option<String>,
    /// Rules of the operator's on top of the provider `i`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// Version of the collation as the database recorded it.
    pub collation_version: Option<String>,
    /// The role that owns it.
    pub owner: String,
    /// What is granted; `None` while nothing was ever changed.
    pub grants: Option<Vec<Grant>>,
    /// `ALTER DATABASE … SET`, and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<Setting>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its `CONNECTION LIMIT`; -1 is none.
    pub connection_limit: i32,
    /// The installed extensions.
    pub extensions: Vec<Extension>,
    /// The populated materialized views, quoted, in the order in which they can be refreshed.
    pub materialized_views: Vec<String>,
    /// The schema `public` of a server before PostgreSQL 15; see [`PublicSchema`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_schema: Option<PublicSchema>,
    /// The tablespace it is in, where that is not `pg_default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tablespace: Option<String>,
    /// Its security labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// Checks of constraints that are switched off or otherwise than usual; a dump switches them on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraint_triggers: Vec<ConstraintTrigger>,
}

/// A security label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Who gives it a meaning.
    pub provider: String,
    /// The label.
    pub label: String,
}

impl Label {
    /// Labels from two lists of the same length.
    pub(super) fn pairs(providers: Vec<String>, labels: Vec<String>) -> Vec<Label> {
        providers.into_iter().zip(labels).map(|(provider, label)| Label { provider, label }).collect()
    }

    /// The statement that puts it on `object`: `ROLE "x"`.
    pub(super) fn sql(&self, object: &str) -> String {
        format!("SECURITY LABEL FOR {} ON {object} IS {}", identifier(&self.provider), literal(&self.label))
    }
}

/// What pg_dump 14 leaves out of the schema `public`: its owner and comment always, its privileges where they are what
/// initdb gave it, which since PostgreSQL 15 is no longer `CREATE` for everybody (release notes of 15, E.19.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicSchema {
    /// The role that owns it.
    pub owner: String,
    /// What is granted.
    pub grants: Vec<Grant>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A privilege on the database or on its schema `public`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom; `None` is everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`; `CREATE` or `USAGE`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
    /// By whom, if not by the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The role it holds for; `None` is every role.
    pub role: Option<String>,
    /// The name of the setting.
    pub name: String,
    /// Its value, as `pg_db_role_setting` holds it.
    pub value: String,
}

const LABELS: &str =
    "pg_catalog.pg_shseclabel l WHERE l.objoid = d.oid AND l.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass";

/// Reads the properties of the database this session is in.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session) -> Result<Properties, Error> {
    let locale = match session.version() {
        ..150_000 => "'c'::text, NULL::text, NULL::text, NULL::text",
        150_000..160_000 => "d.datlocprovider::text, d.daticulocale, d.datcollversion, NULL::text",
        160_000..170_000 => "d.datlocprovider::text, d.daticulocale, d.datcollversion, d.daticurules",
        170_000.. => "d.datlocprovider::text, d.datlocale, d.datcollversion, d.daticurules",
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text, pg_get_userbyid(d.datdba)::text, \
         d.datacl IS NOT NULL, {COMMENT}, d.datconnlimit, {locale}, \
         (SELECT t.spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace AND t.spcname <> 'pg_default'), \
         ARRAY(SELECT l.provider FROM {LABELS} ORDER BY 1), ARRAY(SELECT l.label FROM {LABELS} ORDER BY l.provider) \
         FROM pg_catalog.pg_database d WHERE d.datname = current_database()"
    );
    let doing = "reading the database's properties";
    let row = session.one(doing, &sql, &[]).await?;
    let granted: bool = session.cell(&row, 4)?;
    Ok(Properties {
        encoding: session.cell(&row, 0)?,
        collate: session.cell(&row, 1)?,
        ctype: session.cell(&row, 2)?,
        owner: session.cell(&row, 3)?,
        grants: if granted { Some(grants(session, OF_DATABASE).await?) } else { None },
        comment: session.cell(&row, 5)?,
        connection_limit: session.cell(&row, 6)?,
        locale_provider: session.cell(&row, 7)?,
        locale: session.cell(&row, 8)?,
        collation_version: session.cell(&row, 9)?,
        icu_rules: session.cell(&row, 10)?,
        settings: settings(session).await?,
        extensions: super::catalog::extensions(session).await?,
        materialized_views: super::catalog::materialized_views(session).await?,
        tablespace: session.cell(&row, 11)?,
        labels: Label::pairs(session.cell(&row, 12)?, session.cell(&row, 13)?),
        constraint_triggers: super::constraint_triggers::read(session).await?,
        public_schema: if session.version() < 150_000 { public_schema(session).await? } else { None },
    })
}

async fn public_schema(session: &Session) -> Result<Option<PublicSchema>, Error> {
    let sql = "SELECT pg_get_userbyid(n.nspowner)::text, obj_description(n.oid, 'pg_namespace') \
               FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public'";
    let rows = session.rows("reading the schema public", sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let grants = grants(session, OF_PUBLIC).await?;
    Ok(Some(PublicSchema { owner: session.cell(row, 0)?, grants, comment: session.cell(row, 1)? }))
}

/// Owner and privileges of the database.
const OF_DATABASE: &str =
    "SELECT d.datdba, d.datacl FROM pg_catalog.pg_database d WHERE d.datname = current_database()";
/// And of its schema `public`.
const OF_PUBLIC: &str = "SELECT n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public'";

async fn grants(session: &Session, of: &str) -> Result<Vec<Grant>, Error> {
    // The owner's first: what others grant, they were granted before.
    let sql = format!(
        "SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable, \
         CASE WHEN a.grantor <> o.owner THEN pg_get_userbyid(a.grantor)::text END \
         FROM ({of}) o(owner, acl), aclexplode(o.acl) WITH ORDINALITY a \
         ORDER BY a.grantor <> o.owner, CASE WHEN a.grantor <> o.owner THEN a.ordinality END, 1 NULLS FIRST, 2"
    );
    let mut found = Vec::new();
    for row in session.rows("reading privileges", &sql, &[]).await? {
        found.push(Grant {
            grantee: session.cell(&row, 0)?,
            privilege: session.cell(&row, 1)?,
            grantable: session.cell(&row, 2)?,
            by: session.cell(&row, 3)?,
        });
    }
    Ok(found)
}

async fn settings(session: &Session) -> Result<Vec<Setting>, Error> {
    let sql = "SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole)::text END, c.pair \
               FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, \
               unnest(s.setconfig) WITH ORDINALITY c(pair, place) WHERE d.datname = current_database() \
               ORDER BY 1 NULLS FIRST, c.place";
    let mut found = Vec::new();
    for row in session.rows("reading the database's settings", sql, &[]).await? {
        let pair: String = session.cell(&row, 1)?;
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        if !name.starts_with(OWN_SETTINGS) {
            found.push(Setting { role: session.cell(&row, 0)?, name: name.to_owned(), value: value.to_owned() });
        }
    }
    Ok(found)
}

impl Properties {
    /// The statement that creates an empty database of this encoding and locale on a server of that version, in its
    /// tablespace if the server has it. The provider is
    /// always said: template0 has the one the server's administrator chose, under which texts may sort otherwise.
    pub fn create(&self, name: &str, version: u32, tablespaces: &[String]) -> String {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            identifier(name),
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype)
        );
        if let Some(tablespace) = self.tablespace.as_ref().filter(|wanted| tablespaces.contains(wanted)) {
            sql.push_str(&format!(" TABLESPACE {}", identifier(tablespace)));
        }
        if version < 150_000 {
            return sql;
        }
        let (provider, option) = match self.locale_provider.as_str() {
            "i" => ("icu", "ICU_LOCALE"),
            "b" => ("builtin", "BUILTIN_LOCALE"),
            _ => ("libc", ""),
        };
        sql.push_str(&format!(" LOCALE_PROVIDER {provider}"));
        if let Some(locale) = &self.locale {
            sql.push_str(&format!(" {option} {}", literal(locale)));
        }
        if let Some(rules) = &self.icu_rules {
            sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
        }
        sql
    }

    /// The statements that give the database `name` its owner, privileges, settings, limit and comment. Running them
    /// again changes nothing.
    pub fn apply(&self, name: &str, marking: Marking) -> Vec<String> {
        let database = identifier(name);
        let owner = identifier(&self.owner);
        let mut sql = vec![
            format!("ALTER DATABASE {database} OWNER TO {owner}"),
            format!("ALTER DATABASE {database} CONNECTION LIMIT {}", self.connection_limit),
            marking.comment(name, self.comment.as_deref()),
        ];
        if let Some(grants) = &self.grants {
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}"));
            sql.extend(grants.iter().map(|grant| grant.sql(&format!("DATABASE {database}"))));
        }
        sql.extend(self.settings.iter().map(|setting| setting.sql(&database)));
        sql.extend(self.labels.iter().map(|label| label.sql(&format!("DATABASE {database}"))));
        sql
    }

    /// Takes out the settings of these names, which the server does not have.
    #[must_use]
    pub fn without(mut self, settings: &[String]) -> Properties {
        self.settings.retain(|setting| !settings.contains(&setting.name));
        self
    }
}

impl PublicSchema {
    /// The statements, run in the database, that make the schema what it was. Running them again changes nothing.
    pub fn apply(&self) -> Vec<String> {
        let owner = identifier(&self.owner);
        let mut sql = vec![
            format!("ALTER SCHEMA public OWNER TO {owner}"),
            format!("COMMENT ON SCHEMA public IS {}", self.comment.as_deref().map_or("NULL".to_owned(), literal)),
            format!("REVOKE ALL ON SCHEMA public FROM PUBLIC, {owner}"),
        ];
        sql.extend(self.grants.iter().map(|grant| grant.sql("SCHEMA public")));
        sql
    }
}

/// Those of the settings `names` that this server does not have: PostgreSQL drops and renames some from one major version to
/// the next.
///
/// # Errors
/// The server's, sorted.
pub async fn unknown_settings(session: &Session, names: &[String]) -> Result<Vec<String>, Error> {
    // Two are hidden from who may not read every setting (GUC_SUPERUSER_ONLY); such a role may not set them either.
    // A name with a dot belongs to an extension and may be set before it is loaded.
    let sql = "SELECT DISTINCT n FROM unnest($1::text[]) n WHERE strpos(n, '.') = 0 \
               AND (pg_has_role('pg_read_all_settings', 'USAGE') OR lower(n) NOT IN ('dynamic_library_path', 'session_preload_libraries')) \
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings s WHERE lower(s.name) = lower(n)) ORDER BY 1";
    let rows = session.rows("looking which settings the server has", sql, &[&names]).await?;
    rows.iter().map(|row| session.cell(row, 0)).collect()
}

impl Grant {
    fn sql(&self, on: &str) -> String {
        let to = self.grantee.as_deref().map_or("PUBLIC".to_owned(), identifier);
        let option = if self.grantable { " WITH GRANT OPTION" } else { "" };
        let sql = format!("GRANT {} ON {on} TO {to}{option}", self.privilege);
        match &self.by {
            Some(by) => format!("SET ROLE {}; {sql}; RESET ROLE", identifier(by)),
            None => sql,
        }
    }
}

/// Settings whose value is a list of quoted names (`GUC_LIST_QUOTE`), as in pg_dump's `variable_is_guc_list_quote`.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl Setting {
    fn sql(&self, database: &str) -> String {
        let whose = match &self.role {
            Some(role) => format!("ROLE {} IN DATABASE {database}", identifier(role)),
            None => format!("DATABASE {database}"),
        };
        format!("ALTER {whose} SET {} = {}", setting_name(&self.name), setting_value(&self.name, &self.value))
    }
}

/// The name of a setting: `a.b` is two identifiers.
pub(super) fn setting_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// The value of a setting as `SET` takes it.
pub(super) fn setting_value(name: &str, value: &str) -> String {
    if !LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        return literal(value);
    }
    let items: Vec<String> = split_list(value).iter().map(|item| literal(item)).collect();
    if items.is_empty() { "''".to_owned() } else { items.join(", ") }
}

/// `"$user", public` → `$user` and `public`: names between commas, quoted or not.
fn split_list(value: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut quoted = false;
    let mut seen = false;
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => item.extend(chars.next()),
            '"' => (quoted, seen) = (!quoted, true),
            ',' if !quoted => {
                items.push(std::mem::take(&mut item));
                seen = false;
            }
            char if char.is_whitespace() && !quoted => {}
            char => {
                item.push(char);
                seen = true;
            }
        }
    }
    if seen || !items.is_empty() {
        items.push(item);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_setting_stays_a_list() {
        let check = |value: &str, sql: &str| assert_eq!(setting_value("search_path", value), sql);
        check("\"$user\", public", "'$user', 'public'");
        check("\"odd, \"\"name\"\"\",x", "'odd, \"name\"', 'x'");
        check("\"\"", "''");
        check("", "''");
        assert_eq!(setting_value("work_mem", "4MB, or"), "'4MB, or'");
        assert_eq!(setting_name("my.setting"), "\"my\".\"setting\"");
    }
}
