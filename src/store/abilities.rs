//! What a bucket can really do, found by trying. No header, no documentation and no version number is believed: there are
//! stores that take a condition and ignore it, and stores that take content whose checksum is another's.
//!
//! A bucket that is only read is tried by reading alone. One that is written to is tried on a canary of a few bytes under a name
//! that no listing of ours shows ([`is_canary`]); it is taken away again where the credential may.

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::error::StoreError;
use super::object::{Keeps, Names};
use super::probe::Versions;

/// The canary, and what it is copied to.
pub(super) const CANARY: &str = ".warmspare-probe";
pub(super) const CANARY_COPY: &str = ".warmspare-probe-copy";

/// Whether this is a key of ours that is no object of the bucket.
pub(super) fn is_canary(key: &str) -> bool {
    [CANARY, CANARY_COPY].contains(&key)
}

/// How a bucket is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriedBy {
    /// Nothing is changed.
    Reading,
    /// A canary is written, changed, copied and removed.
    Writing,
}

/// Whether a bucket does something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// It does.
    Yes,
    /// As long as a tag is sent without the quotes that RFC 9110 §8.8.3 wants around it.
    Unquoted,
    /// It does not, or takes the request and ignores what matters.
    No,
    /// This credential may not.
    Denied,
    /// It was not tried: for that something had to be written, or there was nothing to try it on.
    #[default]
    Untried,
}

impl Ability {
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Ability::Yes => "yes",
            Ability::Unquoted => "unquoted only",
            Ability::No => "no",
            Ability::Denied => "not allowed",
            Ability::Untried => "not tried",
        }
    }
}

/// What a bucket does, for one credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Whether versions are kept.
    pub versions: Versions,
    /// Whether it refuses to create (`If-None-Match: *`) what is there.
    pub create_only: Ability,
    /// Whether it refuses to write over another version than the one named (`If-Match`).
    pub if_match: Ability,
    /// Whether it refuses to give another version than the one named (`If-Match` of a read).
    pub read_if_match: Ability,
    /// Whether objects have tags.
    pub tags: Ability,
    /// Whether it takes objects in parts.
    pub parts: Ability,
    /// Whether it copies by itself.
    pub copies: Ability,
    /// Whether it refuses content that is not what its `Content-MD5` says.
    pub checks_md5: Ability,
    /// Whether it refuses content that is not what its CRC-32 says.
    pub checks_crc32: Ability,
    /// Whether the first page of its listing was in the order of the keys' bytes.
    pub sorted: Ability,
    /// What had to be left behind.
    pub left: Vec<String>,
}

impl Default for Abilities {
    /// Nothing was tried.
    fn default() -> Self {
        Abilities {
            versions: Versions::Unknown,
            create_only: Ability::Untried,
            if_match: Ability::Untried,
            read_if_match: Ability::Untried,
            tags: Ability::Untried,
            parts: Ability::Untried,
            copies: Ability::Untried,
            checks_md5: Ability::Untried,
            checks_crc32: Ability::Untried,
            sorted: Ability::Untried,
            left: Vec::new(),
        }
    }
}

impl Abilities {
    /// Each with its name, in the order in which a person is told.
    pub fn list(&self) -> [(&'static str, Ability); 9] {
        [
            ("create-only", self.create_only),
            ("if-match", self.if_match),
            ("if-match of reads", self.read_if_match),
            ("tags", self.tags),
            ("parts", self.parts),
            ("copies", self.copies),
            ("checks Content-MD5", self.checks_md5),
            ("checks CRC-32", self.checks_crc32),
            ("lists in order", self.sorted),
        ]
    }

    /// `versions off; create-only: yes, tags: no, …`: what was tried, in one line.
    pub fn words(&self) -> String {
        let tried = self.list().into_iter().filter(|(_, ability)| *ability != Ability::Untried);
        let tried: Vec<String> = tried.map(|(name, ability)| format!("{name}: {}", ability.word())).collect();
        let versions = format!("versions: {}", self.versions.word());
        [versions].into_iter().chain(tried).collect::<Vec<_>>().join(", ")
    }
}

impl Keeps {
    /// `content, headers and metadata, tags`: what an object consists of here.
    pub fn words(self) -> String {
        let headers = match (self.expires, self.metadata) {
            (true, _) => "headers and metadata",
            (false, Names::Any) => "headers but Expires, and metadata",
            (false, Names::Identifiers) => "headers but Expires, and metadata whose names are identifiers",
        };
        let parts = [(true, "content"), (self.headers, headers), (self.tags, "tags"), (self.mode, "modes")];
        parts.into_iter().filter(|(kept, _)| *kept).map(|(_, word)| word).collect::<Vec<_>>().join(", ")
    }
}

impl Bucket {
    /// Tries what the bucket can do. Nothing is to be tried at a folder: `None`.
    ///
    /// # Errors
    /// What the store answers, other than that it cannot or may not.
    pub async fn try_abilities(&self, by: TriedBy) -> Result<Option<Abilities>, StoreError> {
        match self {
            Bucket::Folder(_) => Ok(None),
            Bucket::Cloud(cloud) => cloud.try_abilities(by).boxed().await.map(Some),
            Bucket::S3(s3) => s3.try_abilities(by).boxed().await.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_tried_is_told() {
        let found = Abilities { versions: Versions::Kept, tags: Ability::Denied, ..Abilities::default() };
        assert_eq!(found.words(), "versions: kept, tags: not allowed");
        let keeps = Keeps { headers: true, expires: true, metadata: Names::Any, tags: false, mode: false };
        assert_eq!(keeps.words(), "content, headers and metadata");
    }
}
