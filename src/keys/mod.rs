//! The keys a person handles: recipients and identities, and the Ed25519 keys that sign records.
//!
//! A [`Recipient`] and its [`Identity`] are of one of three kinds: age's own X25519, SSH, or an age plugin's, which may
//! keep the key in hardware. What a person holds may be any of them; an epoch's own pair is always X25519, so that
//! packs open with nothing but the vault's secrets. [`seal_for`] and [`open_with`] know all kinds.
//!
//! Text forms: recipients and identities as the age tool reads them; `ed25519:<64 hex digits>` for a verifying key;
//! `WARMSPARE-SIGNING-KEY-1:<64 hex digits>` for a signing key (the RFC 8032 seed).
//!
//! Texts that hold a secret are built in one block of the right size: a string that grows leaves copies behind.

mod identity;
mod recipient;
mod sealing;
mod signing;

use secrecy::SecretString;
use zeroize::Zeroizing;

pub use identity::Identity;
pub use recipient::Recipient;
pub use sealing::{SealingError, open_with, seal_for, try_identity, try_recipients};
pub use signing::{SigningKey, VerifyingKey};

/// A key that could not be read. Never holds the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct KeyError {
    expected: &'static str,
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            digits.push(char::from(HEX_DIGITS.get(usize::from(half)).copied().unwrap_or(b'?')));
        }
    }
    digits
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

/// The `parts` one after the other, written once into a block of exactly their length.
pub fn secret_text(parts: &[&str]) -> SecretString {
    let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| text.push_str(part));
    SecretString::from(text)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn hexadecimal_digits_there_and_back() {
        assert_eq!(to_hex(&[0x00, 0xa5, 0xff]), "00a5ff");
        assert_eq!(from_hex::<3>("00a5Ff"), Some([0x00, 0xa5, 0xff]));
        assert_eq!(from_hex::<3>("00a5f"), None);
        assert_eq!(from_hex::<1>("+1"), None);
        assert_eq!(secret_text(&["a", "", "bc"]).expose_secret(), "abc");
    }
}
