//! New keys, written into files only their owner can read, and never over old ones.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::durable;
use crate::error::{Class, Explain};
use crate::keys::{Identity, SigningKey};

/// What was made for a site. Holds public halves and file names only.
#[derive(Clone, Debug, Serialize)]
pub struct SiteKeys {
    /// The site.
    pub site: String,
    /// Its recipient, for the configuration.
    pub recipient: String,
    /// Its verifying key, for the configuration.
    pub verifying_key: String,
    /// The identity file.
    pub identity_file: PathBuf,
    /// The signing-key file.
    pub signing_key_file: PathBuf,
}

/// What was made for the escrow.
#[derive(Clone, Debug, Serialize)]
pub struct EscrowKey {
    /// Its recipient, for the configuration.
    pub recipient: String,
    /// The page to print and to keep away from both sites.
    pub paper_file: PathBuf,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// A file is there already.
    #[error("{path} is there already, and a key that seals backups is never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system gives no randomness.
    #[error("no randomness to make a key from: {0}")]
    Random(getrandom::Error),
}

impl Explain for KeygenError {
    fn class(&self) -> Class {
        match self {
            KeygenError::Exists { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            KeygenError::Exists { .. } => {
                "Name another folder with --out, or move the old file to a safe place.".to_owned()
            }
            KeygenError::Write { .. } => "Check the folder's rights and space.".to_owned(),
            KeygenError::Random(_) => return None,
        })
    }
}

/// Makes an identity and a signing key for `site` in `folder`: `identity.txt` and `signing.key`, mode 0600.
///
/// # Errors
/// [`KeygenError::Exists`] when either file is there.
pub fn site(site: &str, folder: &Path) -> Result<SiteKeys, KeygenError> {
    let identity = Identity::generate();
    let signing = SigningKey::generate().map_err(KeygenError::Random)?;
    let keys = SiteKeys {
        site: site.to_owned(),
        recipient: identity.recipient().to_string(),
        verifying_key: signing.verifying_key().to_string(),
        identity_file: folder.join("identity.txt"),
        signing_key_file: folder.join("signing.key"),
    };
    durable::private_folder(folder).map_err(|source| KeygenError::Write { path: folder.to_owned(), source })?;
    if let Some(path) = [&keys.identity_file, &keys.signing_key_file].into_iter().find(|path| path.exists()) {
        return Err(KeygenError::Exists { path: path.clone() });
    }
    write_new(&keys.identity_file, &identity.to_file_text())?;
    write_new(&keys.signing_key_file, &signing.to_file_text())?;
    Ok(keys)
}

/// Makes an escrow identity and writes the page to print into `paper`, mode 0600.
///
/// # Errors
/// [`KeygenError::Exists`] when the file is there.
pub fn escrow(paper: &Path) -> Result<EscrowKey, KeygenError> {
    let identity = Identity::generate();
    let recipient = identity.recipient().to_string();
    let key = identity.to_file_text();
    let page = SecretString::from(format!(
        "# warmspare escrow identity. Whoever holds this page can open every backup sealed to it.\n\
         # Print it, keep it away from both sites, then destroy this file (shred -u).\n\
         # To use it: type the line AGE-SECRET-KEY-1… into a file and name the file as `identity`,\n\
         # or give it to `age -d -i FILE`; docs/FORMAT.md says what opens with it.\n{}",
        key.expose_secret()
    ));
    write_new(paper, &page)?;
    Ok(EscrowKey { recipient, paper_file: paper.to_owned() })
}

fn write_new(path: &Path, text: &SecretString) -> Result<(), KeygenError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(text.expose_secret().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeygenError::Exists { path: path.to_owned() },
        _ => KeygenError::Write { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("keys");
        let keys = site("ams", &out).unwrap();
        for file in [&keys.identity_file, &keys.signing_key_file] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = SecretString::from(std::fs::read_to_string(&keys.identity_file).unwrap());
        assert_eq!(Identity::from_file_text(&text).unwrap().recipient().to_string(), keys.recipient);
        assert!(matches!(site("ams", &out), Err(KeygenError::Exists { .. })));
    }

    #[test]
    fn the_paper_copy_opens_what_is_sealed_to_the_escrow() {
        let folder = tempfile::tempdir().unwrap();
        let paper = folder.path().join("escrow.txt");
        let key = escrow(&paper).unwrap();
        let text = SecretString::from(std::fs::read_to_string(&paper).unwrap());
        assert_eq!(Identity::from_file_text(&text).unwrap().recipient().to_string(), key.recipient);
        assert!(matches!(escrow(&paper), Err(KeygenError::Exists { .. })));
    }
}
