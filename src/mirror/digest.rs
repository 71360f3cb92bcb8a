//! What is computed of an object's content while it passes: BLAKE3 always, and the application's own digest where the profile names
//! one.

use std::fmt;

use blake2::{Blake2b, Digest};
use md5::Md5;
use sha2::digest::consts::U32;
use sha2::{Sha256, Sha512};

use super::FailedObject;
use super::manifest::Row;
use crate::config::{DigestAlgorithm, DigestRule};

/// The application's digest of an object: `sha256:a3ed…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDigest {
    algorithm: DigestAlgorithm,
    /// In lower case.
    hex: String,
}

impl ContentDigest {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let algorithm: DigestAlgorithm = algorithm.parse().ok()?;
        let is_hex =
            hex.len() == 2 * algorithm.bytes() && hex.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        is_hex.then(|| ContentDigest { algorithm, hex: hex.to_owned() })
    }

    /// By which it was computed.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Its digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

/// Both, of what has passed so far.
#[derive(Clone)]
pub(super) struct Hasher {
    blake3: blake3::Hasher,
    own: Option<Own>,
}

#[derive(Clone)]
enum Own {
    Sha256(Sha256),
    Sha512(Sha512),
    Blake2b256(Blake2b<U32>),
    Md5(Md5),
}

/// Both, of all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) blake3: blake3::Hash,
    pub(super) own: Option<ContentDigest>,
}

impl Hasher {
    pub(super) fn new(rule: Option<&DigestRule>) -> Self {
        let own = rule.map(|rule| match rule.algorithm {
            DigestAlgorithm::Sha256 => Own::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => Own::Sha512(Sha512::new()),
            DigestAlgorithm::Blake2b256 => Own::Blake2b256(Blake2b::new()),
            DigestAlgorithm::Md5 => Own::Md5(Md5::new()),
        });
        Hasher { blake3: blake3::Hasher::new(), own }
    }

    pub(super) fn update(&mut self, block: &[u8]) {
        self.blake3.update(block);
        match &mut self.own {
            None => {}
            Some(Own::Sha256(own)) => own.update(block),
            Some(Own::Sha512(own)) => own.update(block),
            Some(Own::Blake2b256(own)) => own.update(block),
            Some(Own::Md5(own)) => own.update(block),
        }
    }

    pub(super) fn finish(&self) -> Hashes {
        let own = self.own.clone().map(|own| match own {
            Own::Sha256(own) => digest(DigestAlgorithm::Sha256, &own.finalize()),
            Own::Sha512(own) => digest(DigestAlgorithm::Sha512, &own.finalize()),
            Own::Blake2b256(own) => digest(DigestAlgorithm::Blake2b256, &own.finalize()),
            Own::Md5(own) => digest(DigestAlgorithm::Md5, &own.finalize()),
        });
        Hashes { blake3: self.blake3.finalize(), own }
    }
}

fn digest(algorithm: DigestAlgorithm, bytes: &[u8]) -> ContentDigest {
    ContentDigest { algorithm, hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

/// What is to be told of the object of `row`, if its key names another digest than its content has.
pub(super) fn misnamed(rule: Option<&DigestRule>, row: &Row) -> Option<FailedObject> {
    let own = row.digest.as_ref()?;
    let is_misnamed = rule?.is_misnamed(&row.key, own.hex());
    is_misnamed.then(|| {
        let why = format!("its key names another digest than its content has, which is {own}");
        FailedObject { key: row.key.clone(), why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_of_abc_are_those_that_their_standards_say() {
        for (algorithm, hex) in [
            (DigestAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                DigestAlgorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (DigestAlgorithm::Blake2b256, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
            (DigestAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        ] {
            let mut hasher = Hasher::new(Some(&DigestRule { algorithm, keys: None }));
            hasher.update(b"a");
            hasher.update(b"bc");
            let hashes = hasher.finish();
            assert_eq!(hashes.blake3, blake3::hash(b"abc"));
            let own = hashes.own.unwrap();
            assert_eq!(own.hex(), hex, "{algorithm}");
            assert_eq!(ContentDigest::parse(&own.to_string()), Some(own));
        }
    }

    #[test]
    fn what_is_no_digest_is_not_read_as_one() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:900150983cd24fb0d6963f7d28e17f7",
            "crc32:00000000",
            "md5:900150983CD24FB0D6963F7D28E17F72",
        ] {
            assert_eq!(ContentDigest::parse(text), None, "{text}");
        }
    }
}
