//! The keys a person handles: age recipients and identities, and the Ed25519 keys that sign records.
//!
//! Text forms: `age1…` and `AGE-SECRET-KEY-1…` as the age tool writes them; `ed25519:<64 hex digits>` for a
//! verifying key; `WARMSPARE-SIGNING-KEY-1:<64 hex digits>` for a signing key (the RFC 8032 seed).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

/// A key that could not be read. Never holds the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct KeyError {
    expected: &'static str,
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `N` bytes that `2 N` hexadecimal digits write.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; N];
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// `N` random bytes from the operating system.
///
/// # Errors
/// When the operating system has no randomness to give; nothing may be sealed then.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0u8; N]);
    getrandom::fill(bytes.as_mut())?;
    Ok(bytes)
}

/// Whom a file is sealed to: the public half of an [`Identity`].
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    text: String,
    key: age::x25519::Recipient,
}

impl Recipient {
    /// The age recipient.
    pub fn as_age(&self) -> &age::x25519::Recipient {
        &self.key
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = text.parse().map_err(|_| KeyError { expected: "an age recipient (age1…)" })?;
        Ok(Recipient { text: text.to_owned(), key })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

/// What opens files sealed to its recipient. Zeroized by the age crate when dropped.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Identity(age::x25519::Identity::generate())
    }

    /// Reads an identity file: the first `AGE-SECRET-KEY-1…` line; `#` lines are comments.
    ///
    /// # Errors
    /// When no line holds an identity.
    pub fn from_file_text(text: &SecretString) -> Result<Self, KeyError> {
        let wrong = KeyError { expected: "an age identity file (a line AGE-SECRET-KEY-1…)" };
        let line = text.expose_secret().lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        line.and_then(|line| line.parse().ok()).map(Identity).ok_or(wrong)
    }

    /// The identity file `age -i` reads, with its recipient as a comment.
    pub fn to_file_text(&self) -> SecretString {
        let secret = self.0.to_string();
        SecretString::from(format!("# recipient: {}\n{}\n", self.0.to_public(), secret.expose_secret()))
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        let key = self.0.to_public();
        Recipient { text: key.to_string(), key }
    }

    /// The age identity.
    pub fn as_age(&self) -> &age::x25519::Identity {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.0.to_public())
    }
}

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
        let mut digits = to_hex(self.0.as_bytes());
        let text = format!("# verifying key: {}\n{SIGNING_KEY_PREFIX}{digits}\n", self.verifying_key());
        digits.zeroize();
        SecretString::from(text)
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

    #[test]
    fn keys_survive_their_text_form() {
        let identity = Identity::generate();
        let again = Identity::from_file_text(&identity.to_file_text()).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        assert_eq!(identity.recipient().to_string().parse(), Ok(identity.recipient()));

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
        assert!("age1nonsense".parse::<Recipient>().is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::generate();
        let secret = identity.0.to_string();
        assert!(!format!("{identity:?}").contains(secret.expose_secret()));
    }
}
