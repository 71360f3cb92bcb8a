//! Ed25519: who wrote a record.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{KeyError, from_hex, random, secret_text, to_hex};

const SIGNING_KEY_PREFIX: &str = "WARMSPARE-SIGNING-KEY-1:";
const VERIFYING_KEY_PREFIX: &str = "ed25519:";

/// Signs the records of one site. Zeroized when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// See [`random`].
    pub fn generate() -> Result<Self, getrandom::Error> {
        let seed = random::<32>()?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads a signing-key file; `#` lines are comments.
    ///
    /// # Errors
    /// When no line holds a signing key.
    pub fn from_file_text(text: &SecretString) -> Result<Self, KeyError> {
        let wrong = KeyError { expected: "a signing key (a line WARMSPARE-SIGNING-KEY-1:…)" };
        let mut lines = text.expose_secret().lines();
        let digits = lines.find_map(|line| line.trim().strip_prefix(SIGNING_KEY_PREFIX));
        let seed = digits.and_then(from_hex::<32>).map(Zeroizing::new).ok_or(wrong)?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// The signing-key file.
    pub fn to_file_text(&self) -> SecretString {
        let digits = Zeroizing::new(to_hex(self.0.as_bytes()));
        let public = self.verifying_key().to_string();
        secret_text(&["# verifying key: ", &public, "\n", SIGNING_KEY_PREFIX, &digits, "\n"])
    }

    /// Its public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// The Ed25519 signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Tells whether a record was signed by the holder of the matching [`SigningKey`].
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Whether `signature` is this key's over `message` (strict: no malleable signatures).
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix(VERIFYING_KEY_PREFIX).and_then(from_hex::<32>);
        let key = digits.and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok());
        key.map(VerifyingKey).ok_or(KeyError { expected: "a verifying key (ed25519: and 64 hexadecimal digits)" })
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERIFYING_KEY_PREFIX}{}", to_hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Identity;

    #[test]
    fn keys_survive_their_text_form() {
        let signing = SigningKey::generate().unwrap();
        let again = SigningKey::from_file_text(&signing.to_file_text()).unwrap();
        assert_eq!(again.verifying_key(), signing.verifying_key());
        assert_eq!(signing.verifying_key().to_string().parse(), Ok(signing.verifying_key()));
    }

    #[test]
    fn a_signature_holds_for_its_message_only() {
        let key = SigningKey::generate().unwrap();
        let signature = key.sign(b"message");
        assert!(key.verifying_key().verifies(b"message", &signature));
        assert!(!key.verifying_key().verifies(b"massage", &signature));
        assert!(!SigningKey::generate().unwrap().verifying_key().verifies(b"message", &signature));
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_refused_and_not_repeated() {
        let secret = Identity::generate().to_file_text();
        let error = SigningKey::from_file_text(&secret).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "not a signing key (a line WARMSPARE-SIGNING-KEY-1:…)");
        assert!("ed25519:00".parse::<VerifyingKey>().is_err());
    }
}
