//! The shape of the code: how long things are, and what it never does.

use super::source::{Findings, Source, item_end, line_of, sources};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

fn everything() -> impl Iterator<Item = &'static Source> {
    sources("src/").chain(sources("tests/"))
}

#[test]
fn files_and_functions_are_short_enough_to_read() {
    let mut findings = Findings::default();
    for source in everything() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.add(&source.path, 1, format!("{lines} lines"));
        }
        for (line, name, length) in functions(&source.code) {
            if length > FUNCTION_LINES_MAX {
                findings.add(&source.path, line, format!("fn {name} has {length} lines"));
            }
        }
    }
    findings.none(&format!("functions have at most {FUNCTION_LINES_MAX} lines, files {FILE_LINES_MAX}"));
}

/// A file that no other names is not built: what it tests is not tested.
#[test]
fn every_file_is_somebodys_module() {
    let mut findings = Findings::default();
    for source in everything() {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((folder, name)) = path.rsplit_once('/').filter(|(_, name)| !["main", "lib"].contains(name)) else {
            continue;
        };
        let parents = ["main.rs", "lib.rs", "mod.rs"].map(|file| format!("{folder}/{file}"));
        let parents = parents.into_iter().chain([format!("{folder}.rs")]);
        let declared = format!("mod {name};");
        let is_declared =
            |parent: &str| everything().any(|other| other.path == parent && other.code.contains(&declared));
        if !parents.into_iter().any(|parent| is_declared(&parent)) {
            findings.add(&source.path, 1, "is no module of another file");
        }
    }
    findings.none("every file of src/ and tests/ is a module");
}

/// Line, name and number of lines of each function with a body.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if is_word && !name.is_empty() {
            let body = &code[at..item_end(code, at)];
            found.push((line_of(code, at), name, body.lines().count()));
        }
    }
    found
}

#[test]
fn nothing_that_ships_panics_on_purpose() {
    let panics = [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!(", "unreachable!(", "todo!("];
    let panics = panics.into_iter().chain(["unimplemented!(", "dbg!("]);
    let mut findings = Findings::default();
    for source in sources("src/") {
        for panic in panics.clone() {
            for (at, _) in source.shipped.match_indices(panic) {
                findings.add(&source.path, line_of(&source.shipped, at), panic);
            }
        }
    }
    findings.none("an error is returned and explained, never thrown");
}

#[test]
fn an_exception_from_a_lint_is_one_line_with_a_reason() {
    let mut findings = Findings::default();
    for source in everything() {
        for mark in ["[allow(", "[expect("] {
            for (at, _) in source.code.match_indices(mark) {
                let line = source.text[at..].lines().next().unwrap_or_default();
                if !(line.contains("reason = \"") && line.trim_end().ends_with(")]")) {
                    findings.add(&source.path, line_of(&source.code, at), line);
                }
            }
        }
    }
    findings.none("a lint is switched off for one thing, in one line, for a reason that is given");
}

#[test]
fn every_module_opens_with_its_story() {
    let mut findings = Findings::default();
    for source in everything() {
        if !source.text.starts_with("//! ") {
            findings.add(&source.path, 1, "no `//!` at the top");
        }
    }
    findings.none("a module begins with what it is for");
}

#[test]
fn names_say_what_a_thing_is() {
    let mut findings = Findings::default();
    for source in everything() {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        if ["util.rs", "utils.rs", "helpers.rs", "common.rs", "misc.rs"].contains(&file) {
            findings.add(&source.path, 1, "a name for anything");
        }
        for keyword in ["struct ", "enum ", "trait "] {
            for (at, _) in source.code.match_indices(keyword) {
                let name: String =
                    source.code[at + keyword.len()..].chars().take_while(|c| c.is_alphanumeric()).collect();
                if ["Manager", "Helper", "Handler", "Util", "Utils"].iter().any(|vague| name.ends_with(vague)) {
                    findings.add(&source.path, line_of(&source.code, at), name);
                }
            }
        }
    }
    findings.none("no Manager, Helper or Handler, and no file for everything else");
}

#[test]
fn lengths_are_counted_from_signature_to_brace() {
    let code = "trait T { fn a(&self); }\nfn b(\n    x: [u8; 4],\n) {\n    if true {\n    }\n}\n";
    assert_eq!(functions(code), [(1, "a".to_owned(), 1), (2, "b".to_owned(), 6)]);
}
