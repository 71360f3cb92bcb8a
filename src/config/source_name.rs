//! `database.builder`: the name of one source of a system, as the configuration, the plan and the vault write it.

use std::fmt;
use std::str::FromStr;

/// What kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A PostgreSQL database.
    Database,
    /// An artifact bucket.
    Bucket,
    /// Secrets and configuration.
    Export,
}

impl SourceKind {
    /// All of them.
    pub const ALL: [SourceKind; 3] = [SourceKind::Database, SourceKind::Bucket, SourceKind::Export];

    /// The word before the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::Database => "database",
            SourceKind::Bucket => "bucket",
            SourceKind::Export => "export",
        }
    }
}

/// One source of a system. The same at both sites.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName {
    /// Its kind.
    pub kind: SourceKind,
    /// Its name in the configuration.
    pub name: String,
}

impl SourceName {
    /// A source's name from its two parts.
    pub fn new(kind: SourceKind, name: &str) -> Self {
        SourceName { kind, name: name.to_owned() }
    }
}

/// Text that is not the name of a source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a source; one is written like database.NAME, bucket.NAME or export.NAME")]
pub struct SourceNameError(String);

impl FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(text: &str) -> Result<Self, SourceNameError> {
        let wrong = || SourceNameError(text.to_owned());
        let (kind, name) = text.split_once('.').ok_or_else(wrong)?;
        let kind = SourceKind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(wrong)?;
        if !is_plain_name(name) {
            return Err(wrong());
        }
        Ok(SourceName::new(kind, name))
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind.as_str(), self.name)
    }
}

/// Whether `name` may name a system, a site or a source: it becomes part of key and file names.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= 40 && name.chars().all(plain) && !name.starts_with(['-', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        let name: SourceName = "bucket.artifacts-2".parse().unwrap();
        assert_eq!(name, SourceName::new(SourceKind::Bucket, "artifacts-2"));
        assert_eq!(name.to_string(), "bucket.artifacts-2");
        for text in ["", "bucket", "bucket.", "queue.x", "bucket.a/b", "bucket.A", "bucket.-a", "database.a.b"] {
            assert!(text.parse::<SourceName>().is_err(), "{text}");
        }
    }
}
