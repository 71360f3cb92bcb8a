//! A script of `pg_dump` as single statements, and without what differs from run to run.
//!
//! The statements are run by ourselves and not by `psql`: it stops at the first error with the statement that failed,
//! and no backslash command that a hostile object name smuggled into a dump is ever interpreted (CVE-2025-8714).

use std::borrow::Cow;

/// The statements of a script, without comments between them, each without its semicolon.
pub fn statements(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = script;
    loop {
        rest = rest.get(blank(rest)..).unwrap_or_default();
        if rest.is_empty() {
            return found;
        }
        let end = statement_end(rest);
        let statement = rest.get(..end).unwrap_or_default().trim_end();
        if !statement.is_empty() {
            found.push(statement);
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

/// Whether the statement pins a setting that a server of this version does not have: a newer pg_dump writes it into every
/// script, also for an older server, and `psql` would run on after the error.
pub fn is_of_a_newer_server(statement: &str, version: u32) -> bool {
    version < 170_000 && statement == "SET transaction_timeout = 0"
}

/// The statement; of a subscription that does not stream, with words that say so: before 18 a dump leaves them out, and since 18
/// `CREATE SUBSCRIPTION` takes silence for the contrary.
pub fn with_streaming_said(statement: &str) -> Cow<'_, str> {
    let options = statement.rsplit_once(" WITH (connect = false").map(|(_, options)| options);
    match (options, statement.strip_suffix(')')) {
        (Some(options), Some(open))
            if statement.starts_with("CREATE SUBSCRIPTION ") && !options.contains("streaming = ") =>
        {
            Cow::Owned(format!("{open}, streaming = off)"))
        }
        _ => Cow::Borrowed(statement),
    }
}

/// The length of white space and comments at the start.
fn blank(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        match comment(trimmed) {
            0 => return at,
            length => at += length,
        }
    }
}

/// The length of the comment at the start; 0 if there is none.
fn comment(text: &str) -> usize {
    if text.starts_with("--") {
        return text.find('\n').map_or(text.len(), |end| end + 1);
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let (mut depth, mut at) = (0u32, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Where the statement at the start ends: the place of its semicolon, or the end of the text. A semicolon counts outside
/// of quotes, comments, parentheses and `BEGIN ATOMIC … END` (as psql's own lexer does it).
fn statement_end(text: &str) -> usize {
    let (mut at, mut parentheses, mut blocks) = (0usize, 0u32, 0u32);
    let mut words = Words::default();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let skipped = comment(rest).max(quoted(rest, text.get(..at).unwrap_or_default()));
        if skipped > 0 {
            at += skipped;
            continue;
        }
        let word = word(rest);
        if !word.is_empty() {
            blocks = words.depth(word, blocks);
            at += word.len();
            continue;
        }
        match rest.as_bytes().first() {
            Some(b'(') => parentheses += 1,
            Some(b')') => parentheses = parentheses.saturating_sub(1),
            Some(b';') if parentheses == 0 && blocks == 0 => return at,
            _ => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    }
    text.len()
}

/// The words of a statement, as far as they tell a function body in SQL from anything else.
#[derive(Default)]
struct Words {
    seen: Vec<String>,
}

impl Words {
    /// How many blocks are open after `word`.
    fn depth(&mut self, word: &str, blocks: u32) -> u32 {
        let word = word.to_ascii_lowercase();
        let previous = self.seen.last().cloned().unwrap_or_default();
        let routine = self.seen.first().is_some_and(|first| first == "create")
            && self.seen.iter().take(4).any(|word| word == "function" || word == "procedure");
        let depth = match word.as_str() {
            "atomic" if routine && previous == "begin" => blocks + 1,
            "case" if blocks > 0 => blocks + 1,
            "end" if blocks > 0 => blocks - 1,
            _ => blocks,
        };
        // Beyond the first few words only the one before matters.
        if self.seen.len() > 4 {
            self.seen.truncate(4);
        }
        self.seen.push(word);
        depth
    }
}

/// The identifier or keyword at the start; digits may follow, so `$1` and numbers are none.
fn word(text: &str) -> &str {
    let starts = |c: char| c.is_alphabetic() || c == '_';
    if !text.starts_with(starts) {
        return "";
    }
    let end = text.find(|c: char| !(starts(c) || c.is_numeric() || c == '$')).unwrap_or(text.len());
    // E'…' is a string, not a word.
    if end == 1 && text.get(1..).is_some_and(|rest| rest.starts_with('\'')) {
        return "";
    }
    text.get(..end).unwrap_or_default()
}

/// The length of the string, quoted identifier or dollar-quoted body at the start; 0 if there is none.
fn quoted(text: &str, before: &str) -> usize {
    let escapes = text.starts_with(['E', 'e']) && text.get(1..).is_some_and(|rest| rest.starts_with('\''));
    if escapes {
        return 1 + closing(text.get(1..).unwrap_or_default(), '\'', true);
    }
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => closing(text, quote, false),
        Some('$') if !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') => dollar(text),
        _ => 0,
    }
}

/// The length of a quoted text, its quotes included; a doubled quote does not end it, nor (`escapes`) one after a backslash.
fn closing(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if escapes && char == '\\' {
            chars.next();
        } else if char == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return at + quote.len_utf8();
            }
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`; 0 if the dollar starts no such tag.
fn dollar(text: &str) -> usize {
    let Some(end) = text.get(1..).and_then(|rest| rest.find('$')) else { return 0 };
    let tag = text.get(..end + 2).unwrap_or_default();
    let name = tag.trim_matches('$');
    let named = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !(name.is_empty() || named) {
        return 0;
    }
    let body = text.get(tag.len()..).unwrap_or_default();
    body.find(tag).map_or(text.len(), |at| tag.len() + at + tag.len())
}

/// The script without what differs between two runs over equal databases: the random `\restrict` token and the
/// versions in the header. Only the header and the last line are touched, never the text of an object.
pub fn stable(script: &str) -> String {
    let mut token = None;
    let mut header = true;
    let mut kept: Vec<&str> = Vec::new();
    // Not `lines`, which would take the carriage returns out of function bodies.
    for line in script.split('\n') {
        if header {
            if let Some(found) = line.strip_prefix("\\restrict ") {
                token = Some(found);
                continue;
            }
            if line.starts_with("-- Dumped ") {
                continue;
            }
            header = line.is_empty() || line.starts_with("--");
        }
        kept.push(line);
    }
    if let Some(token) = token
        && let Some(at) = kept.iter().rposition(|line| line.strip_prefix("\\unrestrict ") == Some(token))
    {
        kept.remove(at);
    }
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_that_does_not_stream_says_so() {
        let bare = "CREATE SUBSCRIPTION s CONNECTION 'x WITH (connect = false, streaming = on' PUBLICATION p WITH (connect = false, slot_name = 's')";
        assert!(with_streaming_said(bare).ends_with("slot_name = 's', streaming = off)"));
        let streams = bare.replace("slot_name = 's'", "slot_name = 's', streaming = parallel");
        assert_eq!(with_streaming_said(&streams), streams);
        assert_eq!(with_streaming_said("CREATE TABLE t (a int)"), "CREATE TABLE t (a int)");
    }

    #[test]
    fn a_semicolon_ends_a_statement_only_where_it_is_one() {
        let check = |script: &str, expect: &[&str]| assert_eq!(statements(script), expect, "{script}");
        check("", &[]);
        check("-- only words\n\n", &[]);
        check("SELECT 1;\n-- a; b\nSELECT 2;", &["SELECT 1", "SELECT 2"]);
        check("SELECT 'a;''b', E'\\';', \"x;\"\"y\";SELECT 2", &["SELECT 'a;''b', E'\\';', \"x;\"\"y\"", "SELECT 2"]);
        check("SELECT $$a;$b$;$$; SELECT $b$;$$;$b$", &["SELECT $$a;$b$;$$", "SELECT $b$;$$;$b$"]);
        check("SELECT a$b$c; SELECT $1;", &["SELECT a$b$c", "SELECT $1"]);
        check(
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);X",
            &["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "X"],
        );
        check("/* a; /* b; */ c; */ SELECT /*;*/ 1 ;", &["SELECT /*;*/ 1"]);
        check("SELECT 'ä;ö'; SELECT 'ü'", &["SELECT 'ä;ö'", "SELECT 'ü'"]);
    }

    #[test]
    fn a_function_body_in_sql_is_one_statement() {
        let body = "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        assert_eq!(statements(&format!("{body};\nSELECT 3;")), [body, "SELECT 3"]);
        assert_eq!(statements("SELECT \"begin\" atomic; SELECT 1"), ["SELECT \"begin\" atomic", "SELECT 1"]);
    }

    #[test]
    fn two_runs_over_equal_databases_give_equal_scripts() {
        let run = |token: &str, version: &str| {
            format!(
                "--\n-- PostgreSQL database dump\n--\n\n\\restrict {token}\n\n-- Dumped from database version {version}\n\n\
                 SET a = 0;\nCOMMENT ON TABLE t IS '\n\\restrict x\n-- Dumped from y';\n\n\\unrestrict {token}\n"
            )
        };
        assert_eq!(stable(&run("abc", "15.1")), stable(&run("def", "15.2")));
        assert!(stable(&run("abc", "15.1")).contains("'\n\\restrict x\n-- Dumped from y'"));
        assert!(!stable(&run("abc", "15.1")).contains("abc"));
    }
}
