//! What a server keeps for its superuser, and a restore by any other role can do without.
//!
//! At a managed server nobody is superuser. A statement of a snapshot that is refused there, for want of a right and nothing
//! else, is survived only if it is one of these, none of which holds rows or keeps them right: event triggers,
//! publications, subscriptions, casts, comments of extensions, privileges on what the system or an extension brought,
//! default privileges of roles, owners that are superusers, settings. Each is told by its name in the inventory, so that a
//! proof knows which difference is due to it, and finds every other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::inventory::Line;
use super::session::Session;

/// Something the server refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refused {
    /// What it is, as the inventory calls it: `event trigger`.
    pub kind: String,
    /// Which one; where the statement does not tell all of it, how its name begins.
    pub name: String,
    /// The server's words.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.kind, self.name.trim_end_matches(['(', ' ']), self.why)
    }
}

impl Refused {
    /// What `statement` would have made, if a restore can do without it and the server refused it to a role that is no
    /// superuser; else the error again.
    ///
    /// # Errors
    /// `error`.
    pub fn of(session: &Session, statement: &str, error: Error) -> Result<Refused, Error> {
        match (about(statement), error) {
            (Some((kind, name)), Error::Permission { what, .. }) if !session.is_superuser() => {
                Ok(Refused { kind, name, why: what })
            }
            (_, error) => Err(error),
        }
    }

    /// Whether an object that is not as it was captured is so because of this.
    pub fn explains(&self, kind: &str, object: &str) -> bool {
        let Refused { kind: refused, name, .. } = self;
        let named = |object: &str| object == name || name.ends_with(['(', ' ']) && object.starts_with(name.as_str());
        let said_of_it =
            kind == "comment" && object.strip_prefix(refused.as_str()).is_some_and(|rest| rest.trim_start() == name);
        // The inventory says of which schema a type of the system's is, a dump does not.
        let named = |object: &str| named(object) || kind == "cast" && named(&object.replace("pg_catalog.", ""));
        kind == refused && named(object) || said_of_it || self.is_entry(kind, object)
    }

    /// Whether `object` is the entry of it in a script of pg_dump: `not_seeing; Type: EVENT TRIGGER; Schema: -; Owner: app`,
    /// or what is said of it there: `EVENT TRIGGER not_seeing; Type: COMMENT; …`.
    fn is_entry(&self, kind: &str, object: &str) -> bool {
        let (entry, rest) = object.split_once("; Type: ").unwrap_or((object, ""));
        let entry_kind = rest.split(';').next().unwrap_or_default();
        let (what, name) = (self.kind.to_uppercase(), self.name.replace('"', ""));
        let own = entry == name
            && entry_kind.strip_prefix(what.as_str()).is_some_and(|more| more.is_empty() || more.starts_with(' '));
        // A publication's tables are entries of their own.
        let of_it = entry.strip_prefix(&format!("{name} ")).is_some() && entry_kind.starts_with(&format!("{what} "));
        let about_it = entry == format!("{what} {name}") && ["COMMENT", "SECURITY LABEL", "ACL"].contains(&entry_kind);
        kind.starts_with("ddl ") && (own || of_it || about_it)
    }
}

/// Whether PostgreSQL itself keeps the making of what `line` tells for its superuser. Managed servers let their administrators
/// make some of it.
pub fn may_be_refused(line: &Line) -> bool {
    match line.kind.as_str() {
        "event trigger" | "subscription" | "constraint trigger" => true,
        "publication" => ["all tables", " schemas "].iter().any(|part| line.definition.contains(part)),
        "changed privileges" => line.name.contains(" pg_catalog."),
        _ => false,
    }
}

/// Objects called `KIND name` in statements and `kind` in the inventory.
const NAMED: [&str; 3] = ["EVENT TRIGGER", "PUBLICATION", "SUBSCRIPTION"];

/// What a statement that can be done without is about, by kind and name in the inventory.
pub(super) fn about(statement: &str) -> Option<(String, String)> {
    let owned = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
    for kind in NAMED {
        for verb in ["CREATE", "ALTER", "COMMENT ON"] {
            if let Some(rest) = statement.strip_prefix(&format!("{verb} {kind} ")) {
                return owned(&kind.to_lowercase(), first_name(rest)?);
            }
        }
    }
    if let Some(rest) = statement.strip_prefix("COMMENT ON EXTENSION ") {
        return owned("comment", &format!("extension {}", first_name(rest)?));
    }
    if let Some(rest) = statement.strip_prefix("CREATE CAST ") {
        return owned("cast", rest.split_inclusive(')').next()?);
    }
    if let Some(rest) = statement.strip_prefix("ALTER DEFAULT PRIVILEGES FOR ROLE ") {
        return owned("default privileges", &format!("of {} ", unquoted(first_name(rest)?)));
    }
    setting(statement).or_else(|| privileges(statement))
}

/// `ALTER DATABASE x SET name = …`, `ALTER ROLE r IN DATABASE x SET name = …`.
fn setting(statement: &str) -> Option<(String, String)> {
    let plain = |name: &str| name.replace('"', "");
    let (rest, role) = match statement.strip_prefix("ALTER DATABASE ") {
        Some(rest) => (rest, None),
        None => {
            let rest = statement.strip_prefix("ALTER ROLE ")?;
            let role = first_name(rest)?;
            (rest.get(role.len()..)?.strip_prefix(" IN DATABASE ")?, Some(role))
        }
    };
    let setting = rest.get(first_name(rest)?.len()..)?.strip_prefix(" SET ")?;
    let name = plain(setting.split_once(" = ")?.0);
    let object = role.map_or(name.clone(), |role| format!("{name} of {}", unquoted(role)));
    Some(("database setting".to_owned(), object))
}

/// What can be granted on, and has lines of its own in the inventory where the system or an extension brought it.
const GRANTED_ON: [&str; 7] = ["FUNCTION", "TABLE", "TYPE", "LANGUAGE", "FOREIGN DATA WRAPPER", "SCHEMA", "SEQUENCE"];

/// What follows the kind in `GRANT … ON FUNCTION schema.name(…) TO …`, and in its contrary.
fn granted_on(statement: &str) -> Option<(&'static str, &str)> {
    if !["GRANT ", "REVOKE "].iter().any(|verb| statement.starts_with(verb)) {
        return None;
    }
    let (_, rest) = statement.split_once(" ON ")?;
    GRANTED_ON.into_iter().find_map(|kind| Some((kind, rest.strip_prefix(kind)?.strip_prefix(' ')?)))
}

fn privileges(statement: &str) -> Option<(String, String)> {
    let (kind, name) = granted_on(statement)?;
    let open = if kind == "FUNCTION" { "(" } else { "" };
    let kind = kind.to_lowercase().replace("foreign data wrapper", "foreign-data wrapper");
    let name = name.get(..first_qualified(name))?;
    Some(("changed privileges".to_owned(), format!("{kind} {name}{open}")))
}

/// The kind of what is granted on, its schema if it is in one, and its name.
pub(super) fn object_of(statement: &str) -> Option<(&'static str, (Option<String>, String))> {
    let (kind, text) = granted_on(statement)?;
    let first = first_name(text)?;
    let second = text.get(first.len()..)?.strip_prefix('.').and_then(first_name);
    Some(match second {
        Some(name) => (kind, (Some(unquoted(first)), unquoted(name))),
        None => (kind, (None, unquoted(first))),
    })
}

/// The identifier at the start, with its quotes.
fn first_name(text: &str) -> Option<&str> {
    let end = match text.strip_prefix('"') {
        None => text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len()),
        Some(_) => closing_quote(text)?,
    };
    text.get(..end).filter(|name| !name.is_empty())
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char == '"' && chars.next_if(|(_, next)| *next == '"').is_none() {
            return Some(at + 1);
        }
    }
    None
}

/// The length of `a.b` at the start.
fn first_qualified(text: &str) -> usize {
    let first = first_name(text).map_or(0, str::len);
    match text.get(first..).and_then(|rest| rest.strip_prefix('.')) {
        Some(rest) => first + 1 + first_name(rest).map_or(0, str::len),
        None => first,
    }
}

/// The schema of the object that `ALTER KIND schema.name … OWNER TO role` is about, with its quotes; `None` for an object that is in
/// none.
pub(super) fn schema_of(statement: &str) -> Option<&str> {
    let mut rest = statement;
    loop {
        let name = first_name(rest)?;
        let after = rest.get(name.len()..)?;
        if after.starts_with('.') {
            return Some(name);
        }
        rest = after.strip_prefix(' ')?;
    }
}

/// The role that a statement needs us to be: the new owner, who grants, or whose default privileges it changes.
pub(super) fn role_of(statement: &str) -> Option<String> {
    for start in ["SET ROLE ", "ALTER DEFAULT PRIVILEGES FOR ROLE "] {
        if let Some(rest) = statement.strip_prefix(start) {
            return first_name(rest).map(unquoted);
        }
    }
    let (_, role) = statement.rsplit_once(" OWNER TO ").filter(|_| statement.starts_with("ALTER "))?;
    first_name(role).filter(|name| name.len() == role.trim_end_matches(';').len()).map(unquoted)
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_statement_is_known_by_what_it_is_about_and_any_other_is_an_error() {
        let check = |statement: &str, kind: &str, name: &str| {
            assert_eq!(about(statement), Some((kind.to_owned(), name.to_owned())), "{statement}");
        };
        check("CREATE EVENT TRIGGER \"a b\" ON ddl_command_end", "event trigger", "\"a b\"");
        check("ALTER EVENT TRIGGER x DISABLE", "event trigger", "x");
        check("CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')", "publication", "p");
        check("COMMENT ON EXTENSION hstore IS 'x'", "comment", "extension hstore");
        check(
            "CREATE CAST (public.pair AS integer) WITH FUNCTION public.f(public.pair)",
            "cast",
            "(public.pair AS integer)",
        );
        check("ALTER DATABASE \"x\" SET \"log_statement\" = 'all'", "database setting", "log_statement");
        check("ALTER ROLE \"a\"\"b\" IN DATABASE \"x\" SET \"my\".\"own\" = 'y'", "database setting", "my.own of a\"b");
        check(
            "GRANT ALL ON FUNCTION pg_catalog.pg_ls_waldir(OUT name text) TO r",
            "changed privileges",
            "function pg_catalog.pg_ls_waldir(",
        );
        check(
            "ALTER DEFAULT PRIVILEGES FOR ROLE r IN SCHEMA public GRANT SELECT ON TABLES TO x",
            "default privileges",
            "of r ",
        );
        for other in
            ["CREATE TABLE t ()", "CREATE INDEX i ON t (a)", "ALTER TABLE t OWNER TO x", "SELECT 1", "GRANT a TO b"]
        {
            assert_eq!(about(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_difference_that_is_due_to_it_is_explained() {
        let refused = |kind: &str, name: &str| Refused { kind: kind.into(), name: name.into(), why: String::new() };
        let trigger = refused("event trigger", "seeing");
        assert!(trigger.explains("event trigger", "seeing") && trigger.explains("comment", "event trigger seeing"));
        assert!(trigger.explains("ddl post-data", "seeing; Type: EVENT TRIGGER; Schema: -; Owner: a"));
        assert!(trigger.explains("ddl post-data", "EVENT TRIGGER seeing; Type: COMMENT; Schema: -; Owner: a"));
        for (kind, object) in [
            ("event trigger", "seeing2"),
            ("trigger", "seeing"),
            ("comment", "trigger seeing"),
            ("ddl post-data", "t seeing; Type: TRIGGER; Schema: public; Owner: a"),
        ] {
            assert!(!trigger.explains(kind, object), "{kind} {object}");
        }
        let function = refused("changed privileges", "function pg_catalog.f(");
        assert!(function.explains("changed privileges", "function pg_catalog.f(text)"));
        assert!(!function.explains("changed privileges", "function pg_catalog.f2(text)"));
        let cast = refused("cast", "(public.pair AS text)");
        assert!(
            cast.explains("cast", "(public.pair AS pg_catalog.text)")
                && !cast.explains("cast", "(public.pair AS integer)")
        );
        let published = refused("publication", "p");
        assert!(published.explains("ddl post-data", "p t; Type: PUBLICATION TABLE; Schema: public; Owner: a"));
    }

    #[test]
    fn the_role_and_the_schema_a_statement_needs_are_found() {
        let owner = "ALTER TABLE \"odd, schema\".\"odd \"\"table\" OWNER TO \"x y\"";
        assert_eq!((role_of(owner), schema_of(owner)), (Some("x y".into()), Some("\"odd, schema\"")));
        let class = "ALTER OPERATOR CLASS public.pair_ops USING btree OWNER TO app";
        assert_eq!((role_of(class), schema_of(class)), (Some("app".into()), Some("public")));
        let schema = "ALTER SCHEMA keeps OWNER TO app";
        assert_eq!((role_of(schema), schema_of(schema)), (Some("app".into()), None));
        assert_eq!(role_of("SET ROLE \"x y\"; GRANT SELECT ON LARGE OBJECT 1 TO z; RESET ROLE"), Some("x y".into()));
        assert_eq!(role_of("COMMENT ON TABLE t IS 'see OWNER TO x'"), None);
        assert_eq!(role_of("ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO x"), Some("app".into()));
    }
}
