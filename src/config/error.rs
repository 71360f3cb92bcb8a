//! What is wrong with a configuration file: where, what, and how to write it.

use std::path::{Path, PathBuf};

use crate::error::{Class, Explain};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {what}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where one can be named.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub next: String,
}

impl Explain for ConfigError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some(self.next.clone())
    }
}

/// Turns byte positions of one file into errors with lines.
pub(super) struct Place<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Place<'_> {
    pub fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }

    pub fn error(&self, at: Option<usize>, what: String, next: &str) -> ConfigError {
        ConfigError { path: self.path.to_owned(), line: at.map(|at| self.line(at)), what, next: next.to_owned() }
    }

    /// What the TOML reader complained about, with the nearest known key when one is unknown.
    pub fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map(|span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        // serde words it so: unknown field `a`, expected one of `b`, `c`
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match quoted.split_first() {
            Some((unknown, known)) if message.starts_with("unknown field") => {
                let next = match nearest(unknown, known) {
                    Some(key) => format!("Did you mean `{key}`?"),
                    None => format!("Known here: {}.", known.join(", ")),
                };
                self.error(at, format!("unknown key `{unknown}`"), &next)
            }
            Some((missing, _)) if message.starts_with("missing field") => self.error(
                at,
                format!("the key `{missing}` is missing"),
                "Add it; docs/CONFIGURATION.md shows each key.",
            ),
            _ => self.error(at, message, "docs/CONFIGURATION.md shows how each key is written."),
        }
    }
}

/// The known word closest to `unknown`, if it is close enough to be meant.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let (word, distance) = known.iter().map(|word| (*word, distance(unknown, word))).min_by_key(|(_, d)| *d)?;
    (distance <= 1 + unknown.chars().count() / 3).then_some(word)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = *cell;
            *cell = substituted.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["password", "url", "application_roles"];
        assert_eq!(nearest("pasword", &known), Some("password"));
        assert_eq!(nearest("application_role", &known), Some("application_roles"));
        assert_eq!(nearest("uri", &known), Some("url"));
        assert_eq!(nearest("kubernetes", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
