//! The source tree as these tests read it: files, their code without words, the paths that code names.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// One Rust file.
pub struct Source {
    /// From the top of the repository: `src/vault/writer.rs`.
    pub path: String,
    pub text: String,
    /// The text with comments and the contents of literals blanked; lines stay where they were.
    pub code: String,
    /// The code without what is `#[cfg(test)]`: what a release consists of.
    pub shipped: String,
    /// Every path that shipped code names.
    pub named: Vec<Named>,
}

/// A path as code names it, `use` groups spelled out: `std::fs::File`.
pub struct Named {
    pub line: usize,
    pub path: String,
}

/// What is wrong, one line each; empty when all is well.
#[derive(Default)]
pub struct Findings(Vec<String>);

impl Findings {
    pub fn add(&mut self, path: &str, line: usize, what: impl AsRef<str>) {
        self.0.push(format!("{path}:{line}: {}", what.as_ref()));
    }

    /// Fails the test with all of them and the rule they break.
    #[track_caller]
    pub fn none(mut self, rule: &str) {
        self.0.sort();
        assert!(self.0.is_empty(), "{rule}\n{}", self.0.join("\n"));
    }
}

/// The files of the repository with that ending: those git knows, and new ones it does not ignore.
pub fn files(ending: &str) -> Vec<String> {
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(git).current_dir(top()).output().expect("git lists the repository");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let mut names: Vec<String> =
        listed.split('\0').filter(|name| !name.is_empty() && name.ends_with(ending)).map(str::to_owned).collect();
    // A file that was removed and not yet committed is still in git's list.
    names.retain(|name| top().join(name).is_file());
    names.dedup();
    names
}

/// The text of a file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
pub fn sources(folder: &'static str) -> impl Iterator<Item = &'static Source> {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| files(".rs").into_iter().map(Source::read).collect());
    assert!(ALL.iter().any(|source| source.path.starts_with(folder)), "no sources in {folder}");
    ALL.iter().filter(move |source| source.path.starts_with(folder))
}

impl Source {
    fn read(path: String) -> Source {
        let text = read(&path);
        let code = without_words(&text);
        // A module of tests in a file of its own says so inside.
        let shipped = if code.contains("#![cfg(test)]") { String::new() } else { without_tests(&code) };
        let named = named(&shipped);
        Source { path, text, code, shipped, named }
    }

    /// The module path: `["vault", "writer"]`; empty for the root.
    pub fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let mut parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
            parts.pop();
        }
        parts
    }

    /// Whether it is the module at `place` or below it.
    pub fn is_in(&self, place: &str) -> bool {
        let place: Vec<&str> = place.split('/').collect();
        self.module().starts_with(&place)
    }

    /// The top-level module it belongs to.
    pub fn room(&self) -> &str {
        self.module().first().copied().unwrap_or_default()
    }
}

/// The line, from 1, of a byte of `text`.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn blank(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments and the contents of string and character literals.
fn without_words(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let (skip, length) = if rest.starts_with(b"//") {
            (0, rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()))
        } else if rest.starts_with(b"/*") {
            (0, block_comment(rest))
        } else if let Some((open, length)) = raw_string(rest).filter(|_| !is_word(before) || before == b'b') {
            (open, length)
        } else if rest[0] == b'"' {
            (1, quoted(rest, b'"'))
        } else if rest[0] == b'\'' && is_character(rest) {
            (1, quoted(rest, b'\''))
        } else {
            at += 1;
            continue;
        };
        blank(&mut code, at + skip..at + length - skip.min(1));
        at += length;
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the content of a raw string begins, and the length of the whole.
fn raw_string(rest: &[u8]) -> Option<(usize, usize)> {
    let hashes = rest.strip_prefix(b"r")?.iter().take_while(|byte| **byte == b'#').count();
    let open = hashes + 2;
    if rest.get(open - 1) != Some(&b'"') {
        return None;
    }
    let close = ["\"", &"#".repeat(hashes)].concat();
    let length = rest[open..].windows(close.len()).position(|window| window == close.as_bytes())?;
    Some((open, open + length + close.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Tells `'a'` from the lifetime `'a`.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) if first.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

/// Blanks every item under `#[cfg(test)]`, and the module that exists with failpoints only, which no release has.
fn without_tests(code: &str) -> String {
    let mut shipped = code.as_bytes().to_vec();
    for mark in ["#[cfg(test)]", "mod armed {"] {
        for (at, _) in code.match_indices(mark) {
            let end = item_end(code, at + mark.trim_end_matches('{').len());
            blank(&mut shipped, at..end);
        }
    }
    String::from_utf8(shipped).expect("code is ASCII where it was blanked, or whole characters were")
}

/// Where the item that follows `from` ends: after its block, or its semicolon.
pub fn item_end(code: &str, from: usize) -> usize {
    let (mut depth, mut inside) = (0usize, 0usize);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => inside += 1,
            b')' | b']' => inside = inside.saturating_sub(1),
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 && inside == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path in `code`, groups spelled out.
pub fn named(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&begins) = code.as_bytes().get(at) {
        let mut paths = Vec::new();
        let end = if begins.is_ascii_alphabetic() || begins == b'_' { path(code, at, "", &mut paths) } else { at + 1 };
        found.extend(paths.into_iter().filter(|path| path.contains("::")).map(|path| Named { line, path }));
        line += code.as_bytes()[at..end].iter().filter(|byte| **byte == b'\n').count();
        at = end;
    }
    found
}

/// Reads one path, or a group of them, after `prefix`; returns where it ends.
fn path(code: &str, from: usize, prefix: &str, paths: &mut Vec<String>) -> usize {
    let bytes = code.as_bytes();
    let word = bytes[from..].iter().take_while(|byte| is_word(**byte) || **byte == b'*').count();
    let end = from + word;
    let whole = format!("{prefix}{}", &code[from..end]);
    if !code[end..].starts_with("::") {
        paths.push(whole);
        return end;
    }
    let next = end + 2;
    match bytes.get(next) {
        Some(b'{') => group(code, next + 1, &format!("{whole}::"), paths),
        Some(byte) if is_word(*byte) || *byte == b'*' => path(code, next, &format!("{whole}::"), paths),
        _ => {
            paths.push(whole);
            next
        }
    }
}

fn group(code: &str, from: usize, prefix: &str, paths: &mut Vec<String>) -> usize {
    let mut at = from;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b'}' => return at + 1,
            byte if is_word(*byte) || *byte == b'*' => at = path(code, at, prefix, paths),
            _ => at += 1,
        }
    }
    at
}

#[test]
fn words_are_no_code_and_groups_are_spelled_out() {
    let text =
        "use a::{b, c::{self, D}, e::*}; // x::y\nfn f<'a>() -> char { let _ = (\"p::q\", r#\"r\"::s\"#); '{' }\n";
    let code = without_words(text);
    let paths: Vec<String> = named(&code).into_iter().map(|named| named.path).collect();
    assert_eq!(paths, ["a::b", "a::c::self", "a::c::D", "a::e::*"]);
    assert_eq!(item_end(&code, code.find("fn").unwrap()), code.trim_end().len());
    let with_tests = "fn a() {}\n#[cfg(test)]\nmod tests { use x::y; fn b() {} }\nfn c() {}";
    assert_eq!(
        without_tests(with_tests).split_whitespace().collect::<Vec<_>>(),
        ["fn", "a()", "{}", "fn", "c()", "{}"]
    );
}
