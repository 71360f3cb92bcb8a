//! Whom a file is sealed to.

use std::fmt;
use std::str::FromStr;

use age::ssh::ParseRecipientKeyError;

use super::KeyError;

/// Whom a file is sealed to: the public half of an [`Identity`](super::Identity).
///
/// Two are equal when they name the same key: the comment of an SSH key does not count.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    pub(super) key: RecipientKey,
}

/// The kinds of recipients.
#[derive(Clone)]
pub(super) enum RecipientKey {
    X25519(age::x25519::Recipient),
    // Large beside the others: an RSA key.
    Ssh(Box<age::ssh::Recipient>),
    Plugin(age::plugin::Recipient),
}

impl Recipient {
    pub(super) fn of_x25519(key: age::x25519::Recipient) -> Self {
        Recipient { text: key.to_string(), key: RecipientKey::X25519(key) }
    }

    pub(super) fn of_ssh(key: age::ssh::Recipient) -> Self {
        Recipient { text: key.to_string(), key: RecipientKey::Ssh(Box::new(key)) }
    }

    /// The age recipient, if it is one of age's own kind: what packs and bodies are sealed to.
    pub fn as_x25519(&self) -> Option<&age::x25519::Recipient> {
        match &self.key {
            RecipientKey::X25519(key) => Some(key),
            _ => None,
        }
    }

    /// The program that seals to it, if it is a plugin's: `age-plugin-NAME`.
    pub fn plugin(&self) -> Option<String> {
        match &self.key {
            RecipientKey::Plugin(key) => Some(format!("age-plugin-{}", key.plugin())),
            _ => None,
        }
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("sk-") {
            return text.parse().map(Recipient::of_ssh).map_err(|error| KeyError { expected: ssh_expected(&error) });
        }
        if let Ok(key) = text.parse() {
            return Ok(Recipient::of_x25519(key));
        }
        let expected = "a recipient (age1…, a plugin's age1NAME1…, ssh-ed25519 … or ssh-rsa …)";
        let key = text.parse().map_err(|_| KeyError { expected })?;
        Ok(Recipient { text: text.to_owned(), key: RecipientKey::Plugin(key) })
    }
}

fn ssh_expected(error: &ParseRecipientKeyError) -> &'static str {
    match error {
        ParseRecipientKeyError::RsaModulusTooSmall => "safe to seal to: an ssh-rsa key needs at least 2048 bits",
        ParseRecipientKeyError::RsaModulusTooLarge => "supported: an ssh-rsa key may have at most 4096 bits",
        ParseRecipientKeyError::Unsupported(_) | ParseRecipientKeyError::Ignore => {
            "a kind of SSH key that age seals to (ssh-ed25519 or ssh-rsa)"
        }
        _ => "a whole SSH public key (one line: ssh-ed25519 or ssh-rsa, and the key)",
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

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

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

    #[test]
    fn the_comment_of_an_ssh_key_is_not_part_of_it() {
        let key: Recipient = format!("{ED25519} alice@rust\n").parse().unwrap();
        assert_eq!(key.to_string(), ED25519);
        assert_eq!(key, ED25519.parse().unwrap());
        assert!(key.as_x25519().is_none() && key.plugin().is_none());
    }

    #[test]
    fn what_cannot_be_sealed_to_is_said_by_kind() {
        let said = |text: &str| text.parse::<Recipient>().unwrap_err().to_string();
        assert!(said("age1nonsense").starts_with("not a recipient (age1…"));
        assert!(said("ssh-ed25519 AAAA").starts_with("not a whole SSH public key"));
        assert!(said(&format!("sk-{ED25519}")).starts_with("not a "));
    }
}
