//! A finding: what was looked at, what was found, what it means for the next capture or restore, and what to do.

use serde::Serialize;

use crate::error::Error;

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it must be.
    Ok,
    /// The next capture or restore works, but something deserves a look.
    Warning,
    /// The next capture (at the live site) or restore (at the spare) would fail.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it means.
    pub level: Level,
    /// What was looked at, in a word or two: `connections`.
    pub about: &'static str,
    /// Of which object: `database app at 10.1.0.5:5432`.
    pub object: String,
    /// What was found.
    pub found: String,
    /// What to do about it; absent where all is well.
    pub next: Option<String>,
}

/// Findings as they are made, in the order in which things were looked at.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// It is as it must be.
    pub fn ok(&mut self, about: &'static str, object: impl Into<String>, found: impl Into<String>) {
        self.add(Level::Ok, about, object.into(), found.into(), None);
    }

    /// It works, but deserves a look.
    pub fn warning(
        &mut self,
        about: &'static str,
        object: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(Level::Warning, about, object.into(), found.into(), Some(next.into()));
    }

    /// It stands against the next capture or restore.
    pub fn failure(
        &mut self,
        about: &'static str,
        object: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(Level::Failure, about, object.into(), found.into(), Some(next.into()));
    }

    /// An error that a capture or restore would meet, too, unless it was told already.
    pub fn error(&mut self, about: &'static str, object: impl Into<String>, error: impl Into<Error>) {
        let error = error.into();
        let found = one_line(&error.to_string());
        if !self.0.iter().any(|finding| finding.level == Level::Failure && finding.found == found) {
            self.add(Level::Failure, about, object.into(), found, error.next_step());
        }
    }

    /// What `result` holds; an error becomes a failure.
    pub fn value<T>(
        &mut self,
        about: &'static str,
        object: impl Into<String>,
        result: Result<T, impl Into<Error>>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(about, object, error);
                None
            }
        }
    }

    /// How many there are of a level.
    pub fn count(&self, level: Level) -> u64 {
        self.0.iter().filter(|finding| finding.level == level).count() as u64
    }

    /// All of them, in order.
    pub fn into_list(self) -> Vec<Finding> {
        self.0
    }

    fn add(&mut self, level: Level, about: &'static str, object: String, found: String, next: Option<String>) {
        self.0.push(Finding { level, about, object, found, next });
    }
}

/// `2 objects:\n  table a\n  table b` as `2 objects: table a; table b`.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let head = lines.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = lines.collect();
    if rest.is_empty() { head } else { format!("{head} {}", rest.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HereError;

    #[test]
    fn an_error_is_told_once_and_on_one_line() {
        let mut findings = Findings::default();
        findings.error("site", "ams", HereError::NoSite);
        findings.error("restore", "0-1", HereError::NoSite);
        findings.warning("clock", "ams", "late", "set it");
        assert_eq!((findings.count(Level::Failure), findings.count(Level::Warning)), (1, 1));
        assert!(findings.into_list()[0].next.as_ref().unwrap().contains("--site"));
        assert_eq!(one_line("2 objects:\n  table a\n  table b"), "2 objects: table a; table b");
    }
}
