//! What the rows of a table come to, in whatever order they are read.
//!
//! The sum, modulo 2^128, of a hash of each row. It says that two tables hold the same rows where their order may differ: the
//! partitions of a table whose rows are shared out otherwise at the spare, a materialized view. Whether a stream is what was
//! captured, and a restored table equal to the last byte, is said by BLAKE3 over all of it, in order.
//!
//! A row is hashed alone, and most are short: there XXH3 costs a tenth of BLAKE3, which summed up would be no harder to forge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// Which hash is taken of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowHasher {
    /// XXH3, 128 bits.
    #[default]
    Xxh3,
    /// The first 128 bits of BLAKE3: points captured before there was another.
    Blake3,
}

impl RowHasher {
    fn hash(self, row: &[u8]) -> u128 {
        match self {
            RowHasher::Xxh3 => XxHash3_128::oneshot(row),
            RowHasher::Blake3 => {
                let mut half = [0; 16];
                half.iter_mut().zip(blake3::hash(row).as_bytes()).for_each(|(to, from)| *to = *from);
                u128::from_le_bytes(half)
            }
        }
    }
}

/// The hash of some rows. Its text is 32 hex digits, after `xxh3:` unless they are sums of BLAKE3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowHash {
    hasher: RowHasher,
    sum: u128,
}

impl RowHash {
    /// The hash of no rows.
    pub fn new(hasher: RowHasher) -> Self {
        RowHash { hasher, sum: 0 }
    }

    /// Which hash is taken of each row.
    pub fn hasher(self) -> RowHasher {
        self.hasher
    }

    /// With one more row.
    pub fn add(&mut self, row: &[u8]) {
        self.sum = self.sum.wrapping_add(self.hasher.hash(row));
    }

    /// With the rows of another table, taken alike.
    #[must_use]
    pub fn plus(self, other: RowHash) -> RowHash {
        RowHash { sum: self.sum.wrapping_add(other.sum), ..self }
    }
}

impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hasher {
            RowHasher::Xxh3 => write!(f, "xxh3:{:032x}", self.sum),
            RowHasher::Blake3 => write!(f, "{:032x}", self.sum),
        }
    }
}

/// The text is no row hash, or one of a newer release.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no row hash that this release knows")]
pub struct UnknownRowHash(String);

impl FromStr for RowHash {
    type Err = UnknownRowHash;

    fn from_str(text: &str) -> Result<Self, UnknownRowHash> {
        let (hasher, digits) = match text.split_once(':') {
            Some(("xxh3", digits)) => (RowHasher::Xxh3, digits),
            _ => (RowHasher::Blake3, text),
        };
        let plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sum = u128::from_str_radix(digits, 16).ok().filter(|_| plain);
        sum.map(|sum| RowHash { hasher, sum }).ok_or_else(|| UnknownRowHash(text.to_owned()))
    }
}

impl TryFrom<String> for RowHash {
    type Error = UnknownRowHash;

    fn try_from(text: String) -> Result<Self, UnknownRowHash> {
        text.parse()
    }
}

impl From<RowHash> for String {
    fn from(hash: RowHash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hasher: RowHasher, rows: &[&[u8]]) -> RowHash {
        let mut hash = RowHash::new(hasher);
        rows.iter().for_each(|row| hash.add(row));
        hash
    }

    #[test]
    fn it_ignores_order_but_not_rows() {
        for hasher in [RowHasher::Xxh3, RowHasher::Blake3] {
            let of = |rows: &[&[u8]]| of(hasher, rows);
            assert_eq!(of(&[b"1\n", b"2\n"]), of(&[b"2\n", b"1\n"]));
            assert_ne!(of(&[b"1\n", b"2\n"]), of(&[b"1\n", b"3\n"]));
            assert_ne!(of(&[b"1\n"]), of(&[b"1\n", b"1\n"]));
            assert_eq!(of(&[b"1\n"]).plus(of(&[b"2\n"])), of(&[b"2\n", b"1\n"]));
        }
    }

    #[test]
    fn its_text_is_the_same_in_every_release() {
        // Both are in vaults: if one changes, tables whose rows may come in another order are proven no longer.
        let texts = ["xxh3:cb6c04db1313190efccd8333627ccda7", "4e1e71b3d203ca5cc10158efee9d06b2"];
        for (hasher, text) in [RowHasher::Xxh3, RowHasher::Blake3].into_iter().zip(texts) {
            let hash = of(hasher, &[b"1\tone\n", &[b'x'; 300]]);
            assert_eq!(hash.to_string(), text);
            assert_eq!(text.parse::<RowHash>().unwrap(), hash);
        }
        for text in ["", "xxh3:", "sha256:00000000000000000000000000000000", "+0000000000000000000000000000000"] {
            assert!(text.parse::<RowHash>().is_err(), "{text}");
        }
    }
}
