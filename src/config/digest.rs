//! What a profile says of the application's own digests: by which algorithm it knows its artifacts, and which keys are named by one.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

/// Where a pattern of keys has the digest.
const PLACE: &str = "{digest}";
/// How many digits of a digest at least name an object. MAAS, for one, shortens them as far as they stay unlike.
const DIGITS_MIN: usize = 7;

/// By which an application knows the content of its artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256: container registries, MAAS.
    Sha256,
    /// SHA-512.
    Sha512,
    /// BLAKE2b of 32 bytes: Habitat.
    Blake2b256,
    /// MD5.
    Md5,
}

impl DigestAlgorithm {
    /// All of them.
    pub const ALL: [DigestAlgorithm; 4] =
        [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512, DigestAlgorithm::Blake2b256, DigestAlgorithm::Md5];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha256 => "sha256",
            DigestAlgorithm::Sha512 => "sha512",
            DigestAlgorithm::Blake2b256 => "blake2b-256",
            DigestAlgorithm::Md5 => "md5",
        }
    }

    /// How many bytes its digests have.
    pub fn bytes(self) -> usize {
        match self {
            DigestAlgorithm::Sha256 | DigestAlgorithm::Blake2b256 => 32,
            DigestAlgorithm::Sha512 => 64,
            DigestAlgorithm::Md5 => 16,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DigestAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = DigestAlgorithm::ALL.map(DigestAlgorithm::as_str).join(", ");
        let found = DigestAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no digest that is known here (there is: {known})"))
    }
}

/// The application's digest of the objects of a bucket.
#[derive(Clone, Debug)]
pub struct DigestRule {
    /// By which it is computed, of every object.
    pub algorithm: DigestAlgorithm,
    /// The keys that are named by it.
    pub keys: Option<KeyPattern>,
}

impl DigestRule {
    /// Whether `key` names another digest than `hex`, which is that of its content.
    pub fn is_misnamed(&self, key: &str, hex: &str) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_misnamed(key, hex))
    }
}

/// Keys that have the digest of their content in them: `**/sha256/??/{digest}`.
///
/// `*` and `?` stand for what has no `/` in it, `**` for any folders. A key that fits, with at least 7 hexadecimal digits where
/// the digest belongs, is named by those digits; one that has something else there is not.
#[derive(Clone, Debug)]
pub struct KeyPattern {
    text: String,
    keys: GlobMatcher,
    /// How many parts of the key come after the one with the digest.
    after: usize,
    /// What stands before the digest in its part.
    prefix: String,
    /// And behind it.
    suffix: String,
}

impl PartialEq for KeyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl KeyPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` {why}, as in `**/sha256/??/{PLACE}`");
        let parts: Vec<&str> = text.split('/').collect();
        let mut places = parts.iter().enumerate().filter(|(_, part)| part.contains(PLACE));
        let (Some((at, part)), None) = (places.next(), places.next()) else {
            return Err(wrong(&format!("has to say once where the digest is, by {PLACE}")));
        };
        let (prefix, suffix) = part.split_once(PLACE).unwrap_or_default();
        if suffix.contains(PLACE) || [prefix, suffix].iter().any(|beside| beside.contains(['*', '?', '[', '{'])) {
            return Err(wrong("may have only letters and digits beside the digest"));
        }
        let after = parts.get(at + 1..).unwrap_or_default();
        if after.contains(&"**") {
            return Err(wrong("may have `**` only before the digest"));
        }
        let glob = GlobBuilder::new(&text.replacen(PLACE, "*", 1)).literal_separator(true).build();
        let keys = glob.map_err(|error| wrong(&format!("is no pattern ({})", error.kind())))?.compile_matcher();
        let (prefix, suffix) = (prefix.to_owned(), suffix.to_owned());
        Ok(KeyPattern { text: text.to_owned(), keys, after: after.len(), prefix, suffix })
    }

    fn is_misnamed(&self, key: &str, hex: &str) -> bool {
        let named = key.rsplit('/').nth(self.after);
        let named = named.and_then(|part| part.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix));
        let Some(named) = named.map(str::as_bytes) else { return false };
        let is_digest = (DIGITS_MIN..=hex.len()).contains(&named.len()) && named.iter().all(u8::is_ascii_hexdigit);
        let is_right = || hex.as_bytes().get(..named.len()).is_some_and(|digits| digits.eq_ignore_ascii_case(named));
        is_digest && !is_right() && self.keys.is_match(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

    fn misnamed(pattern: &str, key: &str) -> bool {
        KeyPattern::parse(pattern).unwrap().is_misnamed(key, HEX)
    }

    #[test]
    fn keys_that_are_named_by_a_digest() {
        let (registry, other) = ("**/sha256/??/{digest}", HEX.replace("a3ed", "b3ed"));
        assert!(!misnamed(registry, &format!("datastorage/registry/sha256/a3/{HEX}")));
        assert!(!misnamed(registry, &format!("sha256/a3/{}", HEX.to_uppercase())));
        assert!(misnamed(registry, &format!("datastorage/registry/sha256/b3/{other}")));
        // Named by something else.
        assert!(!misnamed(registry, "sharedimages/9b2f/layer"));
        assert!(!misnamed(registry, &format!("uploads/{other}")));
        assert!(!misnamed(registry, "sha256/a3/index.json"));
        assert!(!misnamed(registry, &format!("sha256/a3/{other}0")), "longer than any digest");
        // Shortened, within a name, and with something after it.
        assert!(!misnamed("{digest}", "a3ed95c"));
        assert!(misnamed("{digest}", "a3ed95d"));
        assert!(!misnamed("{digest}", "a3ed95"), "six digits name nothing");
        assert!(misnamed("blobs/sha256-{digest}.blob/data", "blobs/sha256-b3ed95ca.blob/data"));
        assert!(!misnamed("blobs/sha256-{digest}.blob/data", "blobs/sha256-a3ed95ca.blob/data"));
        assert!(!misnamed("*/{digest}", "a/b/b3ed95ca"), "one folder, not two");
    }

    #[test]
    fn patterns_that_say_nothing_are_refused() {
        for (pattern, why) in [
            ("**/sha256", "once where the digest is"),
            ("{digest}/{digest}", "once where the digest is"),
            ("{digest}{digest}", "only letters and digits"),
            ("x*{digest}", "only letters and digits"),
            ("{digest}/**", "only before the digest"),
            ("a[/{digest}", "is no pattern"),
        ] {
            let error = KeyPattern::parse(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        assert!("crc32".parse::<DigestAlgorithm>().unwrap_err().contains("sha256, sha512, blake2b-256, md5"));
    }
}
