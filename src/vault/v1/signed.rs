//! A signed record: two lines of JSON, the record and its signature.
//!
//! ```text
//! {"format":1,"kind":"point",…}
//! {"signer":"ams","key":"ed25519:…","signature":"<128 hex digits>"}
//! ```
//!
//! The signature is over `warmspare-v1`, a newline, the object's key name, a newline, and the first line
//! without its newline: the bytes as stored are what is signed, and a record under another name is no record.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::keys::{SigningKey, VerifyingKey, from_hex, to_hex};

/// The second line.
#[derive(Serialize, Deserialize)]
struct SignatureLine {
    signer: String,
    key: String,
    signature: String,
}

/// The two fields every record has, read before anything else so that a newer format is told from damage.
#[derive(Deserialize)]
struct Preamble {
    format: u32,
    kind: String,
}

/// Why bytes are not a record to believe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Not two lines of JSON, or fields are missing.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Written by a newer release.
    #[error("its format {0} is not supported by this release")]
    Unsupported(u32),
    /// It has a feature that a newer release gave it.
    #[error("its feature `{0}` is not supported by this release")]
    Feature(String),
    /// A record of another kind.
    #[error("it is a {0} record")]
    Kind(String),
    /// Signed by a site whose key is not pinned in the configuration.
    #[error("its signer `{0}` is not among `signers`")]
    UnknownSigner(String),
    /// The signature does not hold under any pinned key.
    #[error("the signature of `{0}` does not hold")]
    Signature(String),
}

impl Unverified {
    /// Whether a newer release would read it: it is not damaged.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Unverified::Unsupported(_) | Unverified::Feature(_))
    }
}

/// A record whose signature holds.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    /// The record.
    pub record: T,
    /// The site that signed it.
    pub signer: String,
    /// BLAKE3 of the whole object.
    pub blake3: blake3::Hash,
}

fn message(key_name: &str, line: &[u8]) -> Vec<u8> {
    [b"warmspare-v1\n", key_name.as_bytes(), b"\n", line].concat()
}

impl<T: Serialize> Signed<T> {
    /// The bytes to store under `key_name`.
    ///
    /// # Errors
    /// When the record cannot be written as JSON.
    pub fn encode(record: &T, key_name: &str, signer: &str, key: &SigningKey) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(record)?;
        let signature = key.sign(&message(key_name, &bytes));
        let line = SignatureLine {
            signer: signer.to_owned(),
            key: key.verifying_key().to_string(),
            signature: to_hex(&signature),
        };
        bytes.push(b'\n');
        bytes.extend(serde_json::to_vec(&line)?);
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl<T: DeserializeOwned> Signed<T> {
    /// Reads the bytes stored under `key_name`; `signer_keys` gives the pinned keys of a site.
    ///
    /// # Errors
    /// [`Unverified`] says why the bytes are not a `kind` record to believe.
    pub fn decode(
        bytes: &[u8],
        key_name: &str,
        kind: &str,
        signer_keys: impl Fn(&str) -> Vec<VerifyingKey>,
    ) -> Result<Self, Unverified> {
        let damaged = |what: &str| Unverified::Damaged(what.to_owned());
        let body = bytes.strip_suffix(b"\n").ok_or_else(|| damaged("the last line does not end"))?;
        let mut lines = body.split(|&byte| byte == b'\n');
        let (Some(line), Some(signature), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(damaged("not two lines"));
        };
        let preamble: Preamble = serde_json::from_slice(line).map_err(|e| damaged(&e.to_string()))?;
        if preamble.format != FORMAT {
            return Err(Unverified::Unsupported(preamble.format));
        }
        let written = signature;
        let signature: SignatureLine = serde_json::from_slice(written).map_err(|e| damaged(&e.to_string()))?;
        let keys = signer_keys(&signature.signer);
        if keys.is_empty() {
            return Err(Unverified::UnknownSigner(signature.signer));
        }
        let message = message(key_name, line);
        let believed = from_hex::<64>(&signature.signature)
            .and_then(|digits| Some((keys.iter().find(|key| key.verifies(&message, &digits))?, digits)));
        let Some((key, digits)) = believed else {
            return Err(Unverified::Signature(signature.signer));
        };
        if preamble.kind != kind {
            return Err(Unverified::Kind(preamble.kind));
        }
        // The signature does not cover its own line. Every byte of a record counts all the same, so that a flipped one
        // is found where it is and not by the next record of the chain.
        let SignatureLine { signer, .. } = signature;
        let line_of_ours = SignatureLine { signer, key: key.to_string(), signature: to_hex(&digits) };
        if serde_json::to_vec(&line_of_ours).is_ok_and(|ours| ours != written) {
            return Err(damaged("its signature line is not as it was written"));
        }
        let record = serde_json::from_slice(line).map_err(|e| damaged(&e.to_string()))?;
        Ok(Signed { record, signer: line_of_ours.signer, blake3: blake3::hash(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::VaultRecord;
    use super::*;

    fn record() -> VaultRecord {
        VaultRecord { format: 1, kind: "vault".into(), features: vec![] }
    }

    fn decode(bytes: &[u8], name: &str, key: &SigningKey) -> Result<VaultRecord, Unverified> {
        let pinned = |signer: &str| if signer == "ams" { vec![key.verifying_key()] } else { vec![] };
        Signed::decode(bytes, name, "vault", pinned).map(|signed| signed.record)
    }

    #[test]
    fn a_record_is_believed_under_its_own_name_and_signer_only() {
        let key = SigningKey::generate().unwrap();
        let bytes = Signed::encode(&record(), "a.json", "ams", &key).unwrap();
        assert_eq!(decode(&bytes, "a.json", &key), Ok(record()));
        assert_eq!(decode(&bytes, "b.json", &key), Err(Unverified::Signature("ams".into())));
        let other = SigningKey::generate().unwrap();
        assert_eq!(decode(&bytes, "a.json", &other), Err(Unverified::Signature("ams".into())));
        let foreign = Signed::encode(&record(), "a.json", "eve", &other).unwrap();
        assert_eq!(decode(&foreign, "a.json", &key), Err(Unverified::UnknownSigner("eve".into())));
    }

    #[test]
    fn a_record_signed_before_the_keys_were_exchanged_is_believed_while_the_old_key_is_pinned() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bytes = Signed::encode(&record(), "a.json", "ams", &old).unwrap();
        let pinned = |keys: &[&SigningKey]| keys.iter().map(|key| key.verifying_key()).collect::<Vec<_>>();
        let decode = |keys: &[&SigningKey]| {
            Signed::<VaultRecord>::decode(&bytes, "a.json", "vault", |_| pinned(keys)).map(|_| ())
        };
        assert_eq!(decode(&[&new, &old]), Ok(()));
        assert_eq!(decode(&[&new]), Err(Unverified::Signature("ams".into())));
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let key = SigningKey::generate().unwrap();
        let bytes = Signed::encode(&record(), "a.json", "ams", &key).unwrap();
        for at in 0..bytes.len() {
            for flipped in [0x01, 0x20, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flipped;
                assert!(decode(&damaged, "a.json", &key).is_err(), "byte {at} ^ {flipped:02x}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_unsupported_and_not_damaged() {
        let key = SigningKey::generate().unwrap();
        let newer = VaultRecord { format: 2, ..record() };
        let bytes = Signed::encode(&newer, "a.json", "ams", &key).unwrap();
        assert_eq!(decode(&bytes, "a.json", &key), Err(Unverified::Unsupported(2)));
    }
}
