//! What must not be in the repository: large or binary files, secrets, and the machine it was written on.

use super::source::{Findings, files, line_of, top};

const FILE_BYTES_MAX: usize = 1 << 20;
/// Folders whose files need not be text, each with its reason.
const BINARY: [(&str, &str); 2] =
    [("tests/golden/format-1/vault/", "a vault as it lies in a store"), ("fuzz/corpus/", "inputs of parsers")];
/// Keys that are no secret, each with its reason.
const KEYS: [(&str, &str); 1] = [("tests/golden/format-1/keys.txt", "opens the golden vault, which holds nothing")];

/// Each file with its content.
fn contents() -> impl Iterator<Item = (String, Vec<u8>)> {
    files("").into_iter().map(|path| {
        let content = std::fs::read(top().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, content)
    })
}

#[test]
fn files_are_text_and_not_large() {
    let mut findings = Findings::default();
    for (path, content) in contents() {
        if content.len() > FILE_BYTES_MAX {
            findings.add(&path, 1, format!("{} bytes", content.len()));
        }
        let is_text = std::str::from_utf8(&content).is_ok() && !content.contains(&0);
        if !is_text && !BINARY.iter().any(|(folder, _)| path.starts_with(folder)) {
            findings.add(&path, 1, "is not text");
        }
    }
    findings.none("the repository holds text, at most 1 MiB a file");
}

#[test]
fn no_secret_key_is_in_the_repository() {
    // Put together here, so that this file does not find itself.
    let marks = [["AGE-SECRET-", "KEY-1"].concat(), ["-----BEGIN", " "].concat(), ["AKI", "A"].concat()];
    let is_secret = |mark: usize, after: &str| {
        let capitals = after.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit()).count();
        match mark {
            0 => capitals >= 50,
            1 => after.lines().next().is_some_and(|line| line.contains("PRIVATE")),
            _ => capitals == 16,
        }
    };
    let mut findings = Findings::default();
    for (path, content) in contents().filter(|(path, _)| !KEYS.iter().any(|(keys, _)| path == keys)) {
        let text = String::from_utf8_lossy(&content);
        for (number, mark) in marks.iter().enumerate() {
            for (at, _) in text.match_indices(mark) {
                if is_secret(number, &text[at + mark.len()..]) {
                    findings.add(&path, line_of(&text, at), mark);
                }
            }
        }
    }
    findings.none("keys are made where they are used, also in tests");
}

#[test]
fn nothing_tells_on_which_machine_it_was_written() {
    let places: Vec<String> = [
        ["/root/", ".cargo"],
        ["/root/", ".rustup"],
        ["/work", "/main"],
        ["/work", "/shared"],
        ["/tmp", "/wt"],
        ["/tmp", "/bare"],
        ["deb.debian", ".org"],
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["sand", "boxing"],
        ["10.255.", "255."],
    ]
    .map(|halves| halves.concat())
    .into();
    let mut findings = Findings::default();
    for (path, content) in contents() {
        let text = String::from_utf8_lossy(&content);
        for place in &places {
            for (at, _) in text.match_indices(place.as_str()) {
                findings.add(&path, line_of(&text, at), place);
            }
        }
    }
    findings.none("the repository is the same wherever it is built");
}
