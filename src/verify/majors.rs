//! One database as two major versions tell it.
//!
//! A snapshot of PostgreSQL 15 that stands on 17 is the same database, and yet some lines of its inventory read otherwise.
//! Each such change of PostgreSQL's is written down here, so that it is taken for what it is and nothing else is:
//!
//! | since | what reads otherwise | how it is compared |
//! |---|---|---|
//! | 16 | columns of views and rules over one table lose the table's name | the name may be missing, and nothing else |
//! | 17 | a table has one privilege more, `MAINTAIN` | who had every privilege has every privilege |
//! | 17, 18 | `NOT NULL` of domains, then of columns, is a constraint with a name | by the domain or column, as before |
//! | any | an extension has the version that the server brings | by name and schema; the versions are told |
//!
//! Between equal majors nothing is forgiven.

use super::settled::settled;
use crate::postgres::inventory::Line;

/// The major version captured from, and the one the restored database runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Majors {
    captured: u32,
    here: u32,
}

/// Where both sides must be looked at to tell what could not be compared.
pub(super) struct Comparable {
    /// The captured lines as they read here.
    pub captured: Vec<Line>,
    /// The found lines without what the captured side could not tell.
    pub found: Vec<Line>,
    /// What was left out, for a person.
    pub not_compared: Vec<String>,
}

impl Majors {
    /// Of two `server_version_num`.
    pub const fn of(captured_num: u32, here_num: u32) -> Majors {
        Majors { captured: captured_num / 10_000, here: here_num / 10_000 }
    }

    /// Whether they are different ones.
    pub fn differ(self) -> bool {
        self.captured != self.here
    }

    /// Whether the change that came with the major `since` lies between them.
    fn crosses(self, since: u32) -> bool {
        self.captured < since && since <= self.here
    }

    /// Both inventories in terms that both versions know.
    pub fn comparable(self, mut captured: Vec<Line>, mut found: Vec<Line>) -> Comparable {
        let mut not_compared = Vec::new();
        if self.differ() {
            not_compared = extension_versions(&mut captured, &mut found);
        }
        if self.crosses(17) {
            captured.iter_mut().for_each(with_maintain);
        }
        if self.crosses(17) || self.crosses(18) {
            captured.retain(|line| !is_not_null(line));
            found.retain(|line| !is_not_null(line));
        }
        Comparable { captured, found, not_compared }
    }

    /// Whether two definitions are the same.
    pub fn same(self, captured: &str, found: &str) -> bool {
        if captured == found {
            return true;
        }
        let (captured, found) = (settled(captured), settled(found));
        captured == found || (self.crosses(16) && same_but_for_qualifiers(&captured, &found))
    }
}

impl std::fmt::Display for Majors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {} and {}", self.captured, self.here)
    }
}

/// `CREATE EXTENSION` takes the server's version, and a newer server brings newer ones. Tells which, and takes them out.
fn extension_versions(captured: &mut [Line], found: &mut [Line]) -> Vec<String> {
    let version = |line: &Line| line.definition.split(' ').next().unwrap_or_default().to_owned();
    let mut told = Vec::new();
    for line in captured.iter_mut().filter(|line| line.kind == "extension") {
        let Some(other) = found.iter_mut().find(|other| other.kind == line.kind && other.name == line.name) else {
            continue;
        };
        let (before, now) = (version(line), version(other));
        if before != now {
            told.push(format!("the version of extension {} ({before} captured, {now} here)", line.name));
            line.definition = line.definition.replacen(&before, &now, 1);
        }
    }
    told
}

/// `GRANT ALL` of before 17, which a dump writes as `ALL`, is one privilege more since.
fn with_maintain(line: &mut Line) {
    let of_tables = line.kind.ends_with("table privileges") || line.kind.ends_with("view privileges");
    if of_tables || (line.kind == "default privileges" && line.name.contains(" for r")) {
        let all = line.definition.replace("=arwdDxt/", "=arwdDxtm/");
        line.definition = all.replace("=a*r*w*d*D*x*t*/", "=a*r*w*d*D*x*t*m*/");
    }
}

fn is_not_null(line: &Line) -> bool {
    line.kind == "constraint" && line.definition.starts_with("NOT NULL")
}

/// Whether the texts are the same when names before a dot may be missing in `found`. A server leaves one out only where
/// there is a single table that it can mean, and which that is stands in both texts.
fn same_but_for_qualifiers(captured: &str, found: &str) -> bool {
    let (mut captured, mut found) = (captured, found);
    loop {
        if let Some(rest) = after_qualifier(captured)
            && after_qualifier(found).is_none()
            && name(found) > 0
        {
            captured = rest;
        }
        let (one, other) = (token(captured), token(found));
        if one.is_empty() || one != other {
            return one == other;
        }
        captured = captured.get(one.len()..).unwrap_or_default();
        found = found.get(other.len()..).unwrap_or_default();
    }
}

/// What follows `name.` at the start.
fn after_qualifier(text: &str) -> Option<&str> {
    let length = name(text);
    if length == 0 { None } else { text.get(length..)?.strip_prefix('.') }
}

/// The length of the name at the start, quoted or not; 0 if there is none.
fn name(text: &str) -> usize {
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len())
}

/// A name, a literal, or one character.
fn token(text: &str) -> &str {
    let length = match (name(text), text.chars().next()) {
        (0, Some('\'')) => quoted(text, '\''),
        (0, first) => first.map_or(0, char::len_utf8),
        (length, _) => length,
    };
    text.get(..length).unwrap_or_default()
}

/// The length of a quoted text, to its first closing quote: a doubled one begins another, which comes to the same.
fn quoted(text: &str, quote: char) -> usize {
    text.get(1..).and_then(|rest| rest.find(quote)).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, name: &str, definition: &str) -> Line {
        Line { kind: kind.into(), name: name.into(), definition: definition.into() }
    }

    #[test]
    fn a_name_before_a_dot_may_be_missing_on_the_newer_side_and_nothing_else_may() {
        let check = |expect: bool, captured: &str, found: &str| {
            assert_eq!(Majors::of(150_000, 170_000).same(captured, found), expect, "{captured} / {found}");
        };
        check(true, "SELECT t.a,\n t.a FROM public.t;", "SELECT a,\n a FROM public.t;");
        check(true, "SELECT a.a FROM s.a;", "SELECT a FROM s.a;");
        check(true, "SELECT (\"T t\".c).f, 'x.y' FROM \"T t\";", "SELECT (c).f, 'x.y' FROM \"T t\";");
        check(false, "SELECT a FROM public.t;", "SELECT t.a FROM public.t;");
        check(false, "SELECT t.a FROM public.t;", "SELECT b FROM public.t;");
        check(false, "SELECT t.a FROM public.t;", "SELECT u.a FROM public.t;");
        check(false, "SELECT t.a FROM public.t;", "SELECT a FROM other.t;");
        check(false, "SELECT 'x.y'", "SELECT 'y'");
        check(false, "SELECT 1.5", "SELECT 5");
        check(false, "SELECT t.a FROM t WHERE t.b", "SELECT a FROM t");
        let equal = Majors::of(170_004, 170_011);
        assert!(!equal.same("SELECT t.a FROM t", "SELECT a FROM t"), "between equal majors nothing is forgiven");
    }

    #[test]
    fn all_privileges_stay_all_privileges_and_part_of_them_gets_no_more() {
        let now = |kind: &str, name: &str, before: &str| {
            let lines = vec![line(kind, name, before)];
            let both = Majors::of(150_000, 180_000).comparable(lines, Vec::new());
            both.captured.into_iter().map(|line| line.definition).collect::<String>()
        };
        assert_eq!(
            now("table privileges", "t", "a=arwdDxt/a b=ar/a c=a*r*w*d*D*x*t*/a"),
            "a=arwdDxtm/a b=ar/a c=a*r*w*d*D*x*t*m*/a"
        );
        assert_eq!(now("default privileges", "of a for r in s", "a=arwdDxt/a"), "a=arwdDxtm/a");
        assert_eq!(now("sequence privileges", "s", "a=arwdDxt/a"), "a=arwdDxt/a");
    }

    #[test]
    fn the_versions_of_extensions_are_told_and_their_schemas_compared() {
        let captured = vec![line("extension", "x", "1.0 in public"), line("extension", "gone", "1.0 in public")];
        let found = vec![line("extension", "x", "1.1 in other")];
        let both = Majors::of(150_000, 160_000).comparable(captured, found);
        assert_eq!(both.captured[0].definition, "1.1 in public");
        assert_eq!(both.not_compared, ["the version of extension x (1.0 captured, 1.1 here)"]);
    }

    #[test]
    fn named_not_null_constraints_are_left_to_the_column_where_one_side_has_none() {
        let found =
            || vec![line("constraint", "t_a_not_null on t", "NOT NULL a"), line("constraint", "c on t", "CHECK a")];
        assert_eq!(Majors::of(150_000, 180_000).comparable(Vec::new(), found()).found.len(), 1);
        assert_eq!(Majors::of(180_000, 180_000).comparable(Vec::new(), found()).found.len(), 2);
    }
}
