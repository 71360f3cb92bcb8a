//! How a database carries marks of ours: under its name for ever, moved by every rename in the same transaction, read from
//! any other database of the server.
//!
//! A superuser writes them as settings, `ALTER DATABASE … SET warmspare.point = …`. To everybody else PostgreSQL forbids
//! settings that no loaded module knows (`validate_option_array_item` in `guc.c`), and at a managed server (RDS, Cloud SQL,
//! Azure) nobody is superuser: there the last line of the database's comment carries them, as JSON behind [`LINE`]. What the
//! operator wrote above it stays, and is what is captured and compared.

use std::collections::BTreeMap;

use super::properties::OWN_SETTINGS;
use super::quote::{identifier, literal};
use super::session::Session;

/// The marks a database carries, without their prefix.
pub type Marks = BTreeMap<String, String>;

/// The mark that says in which term a site last went live with a database that was restored there.
pub const LIVE_TERM: &str = "live_term";

/// How the line of a comment that holds marks begins.
pub const LINE: &str = "[warmspare] ";

/// The comment of `database d` without our line, as an expression.
pub(super) const COMMENT: &str = "NULLIF(regexp_replace(shobj_description(d.oid, 'pg_database'), \
     '(^|\\n)\\[warmspare\\] \\{[^\\n]*\\}$', ''), '')";

/// The marks in the comment of `database d`, as an expression: JSON or NULL.
pub(super) const IN_COMMENT: &str =
    "substring(shobj_description(d.oid, 'pg_database') FROM '(?:^|\\n)\\[warmspare\\] (\\{[^\\n]*\\})$')";

/// Where our role writes marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// As settings of the database.
    Settings,
    /// Into its comment.
    Comment,
}

impl Marking {
    /// Where the session's role may write them.
    pub fn of(session: &Session) -> Marking {
        if session.is_superuser() { Marking::Settings } else { Marking::Comment }
    }

    /// The statement that sets a mark.
    pub fn set(self, database: &str, key: &str, value: &str) -> String {
        match self {
            Marking::Settings => {
                format!("ALTER DATABASE {} SET {OWN_SETTINGS}{key} = {};", identifier(database), literal(value))
            }
            Marking::Comment => {
                let change =
                    format!("marks || pg_catalog.jsonb_build_object({}, {}::text)", literal(key), literal(value));
                comment(database, &change, "words")
            }
        }
    }

    /// The statement that takes a mark away.
    pub fn unset(self, database: &str, key: &str) -> String {
        match self {
            Marking::Settings => format!("ALTER DATABASE {} RESET {OWN_SETTINGS}{key};", identifier(database)),
            Marking::Comment => comment(database, &format!("marks - {}", literal(key)), "words"),
        }
    }

    /// The statement that sets the operator's own comment and leaves the marks.
    pub fn comment(self, database: &str, words: Option<&str>) -> String {
        let words = words.map_or("NULL".to_owned(), literal);
        match self {
            Marking::Settings => format!("COMMENT ON DATABASE {} IS {words}", identifier(database)),
            Marking::Comment => comment(database, "marks", &format!("{words}::text")),
        }
    }

    /// The marks out of both places; what is written in ours counts where the two differ.
    pub(super) fn read(self, settings: &[String], comment: Option<&str>) -> Marks {
        let split = |pair: &String| {
            let (key, value) = pair.strip_prefix(OWN_SETTINGS)?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let settings: Marks = settings.iter().filter_map(split).collect();
        // Somebody else's words that only look like ours are no marks.
        let comment: Marks = comment.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let (mut under, over) = match self {
            Marking::Settings => (comment, settings),
            Marking::Comment => (settings, comment),
        };
        under.extend(over);
        under
    }
}

/// The statement that writes the comment of `database` anew, out of the `marks` and the operator's `words` that it has. It
/// reads them when it runs, so that it holds for the name the database bears by then.
fn comment(database: &str, marks: &str, words: &str) -> String {
    let name = literal(database);
    let body = format!(
        "DECLARE words text; marks jsonb; BEGIN \
         SELECT {COMMENT}, coalesce({IN_COMMENT}, '{{}}')::jsonb INTO words, marks FROM pg_catalog.pg_database d WHERE d.datname = {name}; \
         words := {words}; marks := {marks}; \
         EXECUTE format('COMMENT ON DATABASE %I IS %L', {name}, \
         NULLIF(concat_ws(E'\\n', words, CASE WHEN marks <> '{{}}' THEN '{LINE}' || marks::text END), '')); END"
    );
    format!("DO LANGUAGE plpgsql {};", literal(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_where_our_role_writes_counts() {
        let settings = ["work_mem=4MB".to_owned(), "warmspare.point=0-1".to_owned(), "warmspare.term=0".to_owned()];
        let read = |marking: Marking, comment| marking.read(&settings, comment).into_iter().collect::<Vec<_>>();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let json = Some("{\"point\": \"0-2\", \"state\": \"loaded\"}");
        let rest = [pair("state", "loaded"), pair("term", "0")];
        assert_eq!(read(Marking::Settings, json), [&[pair("point", "0-1")], &rest[..]].concat());
        assert_eq!(read(Marking::Comment, json), [&[pair("point", "0-2")], &rest[..]].concat());
        assert_eq!(read(Marking::Comment, Some("{\"point\": 7}")), [pair("point", "0-1"), pair("term", "0")]);
    }
}
