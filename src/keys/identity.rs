//! What opens what is sealed to its recipient.

use std::fmt;
use std::io::Cursor;

use bech32::{Bech32, Hrp};
use secrecy::{ExposeSecret, SecretString};
use x25519_dalek::{PublicKey, StaticSecret};

use super::recipient::Recipient;
use super::{KeyError, random, secret_text};
use crate::process::wipe_stack;

/// Opens files sealed to its recipient. Wiped when dropped.
#[derive(Clone)]
pub struct Identity {
    pub(super) key: IdentityKey,
    recipient: Recipient,
    /// The lines an identity file needs: the key itself, or what its plugin finds it by.
    text: SecretString,
}

/// The kinds of identities.
#[derive(Clone)]
pub(super) enum IdentityKey {
    X25519(age::x25519::Identity),
    Ssh(Box<age::ssh::Identity>),
    Plugin(age::plugin::Identity),
}

const X25519_MARK: &str = "AGE-SECRET-KEY-1";
const PLUGIN_MARK: &str = "AGE-PLUGIN-";
/// Letters of an X25519 identity: mark, 256 bits in groups of five, checksum (BIP 173).
const X25519_LETTERS: usize = X25519_MARK.len() + 52 + 6;

impl Identity {
    /// A new one, for tests and measurements; files are made from [`Identity::mint`].
    pub fn generate() -> Self {
        let key = age::x25519::Identity::generate();
        let recipient = Recipient::of_x25519(key.to_public());
        let text = key.to_string();
        Identity { key: IdentityKey::X25519(key), recipient, text }
    }

    /// The line `AGE-SECRET-KEY-1…` of a new X25519 identity, and its recipient. The line is the only copy there is:
    /// nothing else in this process has held it, and the stack is wiped.
    ///
    /// # Errors
    /// See [`random`].
    pub fn mint() -> Result<(SecretString, Recipient), getrandom::Error> {
        let minted = minted();
        wipe_stack();
        minted
    }

    /// Reads an identity file as `age -i` does: one line `AGE-SECRET-KEY-1…` or `AGE-PLUGIN-…`, or an OpenSSH private
    /// key. A plugin's identity does not tell its recipient; a comment `# recipient: age1NAME1…` must.
    ///
    /// # Errors
    /// When there is no identity, more than one, or one that needs a passphrase.
    pub fn from_file_text(text: &SecretString) -> Result<Self, KeyError> {
        let text = text.expose_secret();
        if text.contains("-----BEGIN AGE ENCRYPTED FILE-----") || text.starts_with("age-encryption.org/") {
            return Err(KeyError { expected: "usable as it is: the identity file is sealed with a passphrase" });
        }
        if text.lines().any(|line| line.starts_with("-----BEGIN ")) {
            return of_ssh(text);
        }
        let marked = |line: &&str| line.starts_with(X25519_MARK) || line.starts_with(PLUGIN_MARK);
        let mut lines = text.lines().map(str::trim).filter(marked);
        let expected = "an identity file (a line AGE-SECRET-KEY-1… or AGE-PLUGIN-…, or an OpenSSH private key)";
        let line = lines.next().ok_or(KeyError { expected })?;
        if lines.next().is_some() {
            return Err(KeyError { expected: "one identity but several; keep each in a file of its own" });
        }
        if line.starts_with(PLUGIN_MARK) {
            return of_plugin(text, line);
        }
        let key: age::x25519::Identity =
            line.parse().map_err(|_| KeyError { expected: "a whole age identity: a letter is wrong or missing" })?;
        let recipient = Recipient::of_x25519(key.to_public());
        Ok(Identity { key: IdentityKey::X25519(key), recipient, text: secret_text(&[line]) })
    }

    /// The identity file `age -i` reads, with its recipient as a comment.
    pub fn to_file_text(&self) -> SecretString {
        Identity::file_text(&self.recipient, &self.text)
    }

    /// The identity file of the line `identity`, whose recipient becomes a comment.
    pub fn file_text(recipient: &Recipient, identity: &SecretString) -> SecretString {
        secret_text(&["# recipient: ", &recipient.to_string(), "\n", identity.expose_secret(), "\n"])
    }

    /// Its public half; of a plugin's identity what its file says it is.
    pub fn recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    /// The age identity, if it is one of age's own kind: what opens packs and bodies.
    pub fn as_x25519(&self) -> Option<&age::x25519::Identity> {
        match &self.key {
            IdentityKey::X25519(key) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.recipient)
    }
}

/// Not through the age crate, whose conversions to text and back grow strings and vectors of key bytes.
#[inline(never)]
fn minted() -> Result<(SecretString, Recipient), getrandom::Error> {
    let seed = random::<32>()?;
    let secret = StaticSecret::from(*seed);
    let mut public = String::with_capacity(64);
    let mut line = String::with_capacity(X25519_LETTERS);
    let written = bech32::encode_lower_to_fmt::<Bech32, _>(
        &mut public,
        Hrp::parse_unchecked("age"),
        PublicKey::from(&secret).as_bytes(),
    )
    .and_then(|()| {
        let prefix = Hrp::parse_unchecked("AGE-SECRET-KEY-");
        bech32::encode_upper_to_fmt::<Bech32, _>(&mut line, prefix, seed.as_slice())
    });
    let line = SecretString::from(line);
    // Neither can fail: both texts are shorter than what Bech32 allows, and a string takes whatever is written to it.
    match (written, public.parse()) {
        (Ok(()), Ok(recipient)) => Ok((line, recipient)),
        _ => Err(getrandom::Error::UNEXPECTED),
    }
}

fn of_ssh(text: &str) -> Result<Identity, KeyError> {
    let kind = KeyError { expected: "a kind of private key that age uses (OpenSSH's ssh-ed25519 or ssh-rsa)" };
    let Ok(key) = age::ssh::Identity::from_buffer(Cursor::new(text), None) else { return Err(kind) };
    match &key {
        age::ssh::Identity::Encrypted(_) => {
            let expected = "usable as it is: the SSH key has a passphrase, and nobody is there to type it \
                            (`ssh-keygen -p -N ''` on a copy takes it away)";
            return Err(KeyError { expected });
        }
        age::ssh::Identity::Unsupported(_) => return Err(kind),
        age::ssh::Identity::Unencrypted(_) => {}
    }
    let Ok(recipient) = age::ssh::Recipient::try_from(key.clone()) else { return Err(kind) };
    Ok(Identity {
        key: IdentityKey::Ssh(Box::new(key)),
        recipient: Recipient::of_ssh(recipient),
        text: secret_text(&[text]),
    })
}

fn of_plugin(text: &str, line: &str) -> Result<Identity, KeyError> {
    let wrong = |_| KeyError { expected: "a whole plugin identity: a letter is wrong or missing" };
    let key: age::plugin::Identity = line.parse().map_err(wrong)?;
    let expected = "complete: a plugin's identity needs the line `# recipient: age1NAME1…` above it";
    let recipient = text.lines().find_map(named_recipient).ok_or(KeyError { expected })?;
    if recipient.plugin() != Some(format!("age-plugin-{}", key.plugin())) {
        return Err(KeyError { expected: "of one piece: its `# recipient:` belongs to another plugin" });
    }
    Ok(Identity { key: IdentityKey::Plugin(key), recipient, text: secret_text(&[line]) })
}

/// The recipient a comment names, in the two ways plugins write it.
fn named_recipient(line: &str) -> Option<Recipient> {
    let (word, value) = line.strip_prefix('#')?.split_once(':')?;
    let is_word = ["recipient", "public key"].contains(&word.trim().to_ascii_lowercase().as_str());
    if is_word { value.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        Identity::from_file_text(&SecretString::from(text)).unwrap_err().to_string()
    }

    #[test]
    fn identities_survive_their_text_form() {
        let identity = Identity::generate();
        let again = Identity::from_file_text(&identity.to_file_text()).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        assert_eq!(identity.recipient().to_string().parse(), Ok(identity.recipient()));
    }

    #[test]
    fn what_is_minted_is_what_age_reads() {
        let (line, recipient) = Identity::mint().unwrap();
        assert_eq!(line.expose_secret().len(), X25519_LETTERS);
        let read: age::x25519::Identity = line.expose_secret().parse().unwrap();
        assert_eq!(read.to_public().to_string(), recipient.to_string());
        assert_eq!(Identity::from_file_text(&Identity::file_text(&recipient, &line)).unwrap().recipient(), recipient);
        assert_ne!(Identity::mint().unwrap().1, recipient);
    }

    #[test]
    fn a_file_that_cannot_be_used_at_night_is_refused_by_day() {
        let line = |identity: Identity| identity.text.expose_secret().to_owned();
        let (one, two) = (line(Identity::generate()), line(Identity::generate()));
        assert!(said(&format!("{one}\n{two}\n")).starts_with("not one identity but several"));
        assert!(said(&one.replace("KEY-1", "KEY-1Q")).starts_with("not a whole age identity"));
        assert!(said("-----BEGIN AGE ENCRYPTED FILE-----\n").contains("passphrase"));
        assert!(said("-----BEGIN CERTIFICATE-----\n").starts_with("not a kind of private key"));
        assert!(said("AGE-PLUGIN-FOOBAR-1QVHULF\n").contains("needs the line `# recipient:"));
        assert!(said("# nothing\n").starts_with("not an identity file"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::generate();
        assert!(!format!("{identity:?}").contains(identity.text.expose_secret()));
    }
}
