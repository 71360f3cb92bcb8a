//! New keys, written into files only their owner can read, and never over old ones; and the escrow's page read back.

mod paper;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;

pub use paper::PaperError;

use crate::clock::Clock;
use crate::config::{Config, is_plain_name};
use crate::durable;
use crate::error::{Class, Error, Explain};
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

/// A page that was typed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedPage {
    /// Whose identity it is.
    pub recipient: String,
    /// What the configuration says of that recipient.
    pub configured: Configured,
    /// Where it was written as an identity file, if it was asked for.
    pub identity_file: Option<PathBuf>,
}

/// What the configuration says of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Configured {
    /// It is an escrow's.
    Escrow,
    /// It is a site's own: not the page of an escrow.
    Site,
    /// It is nobody's: what is captured now does not open with it.
    Nobody,
    /// There is no configuration here to compare with.
    NoConfiguration,
}

/// Why no key was made, or a page is not good.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// A file is there already.
    #[error("{path} is there already, and a key that seals backups is never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be a site's.
    #[error("`{site}` cannot be the name of a site")]
    SiteName {
        /// The name.
        site: String,
    },
    /// A page cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file; `-` is standard input.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A page was mistyped, or is none.
    #[error("the page {path} is not good")]
    Paper {
        /// The file; `-` is standard input.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PaperError,
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
            KeygenError::SiteName { .. } => Class::Usage,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            KeygenError::Exists { .. } => {
                "Name another folder with --out, or move the old file to a safe place.".to_owned()
            }
            KeygenError::SiteName { .. } => {
                "Use at most 40 lower-case letters, digits, `-` and `_`, beginning with a letter or digit.".to_owned()
            }
            KeygenError::Read { .. } => "Name the file with the typed lines, or `-` for standard input.".to_owned(),
            KeygenError::Paper { .. } => "Compare it with the paper, letter by letter, and try again.".to_owned(),
            KeygenError::Write { .. } => "Check the folder's rights and space.".to_owned(),
            KeygenError::Random(_) => return None,
        })
    }
}

/// Makes an identity and a signing key for `site` in `folder`: `identity.txt` and `signing.key`, mode 0600.
///
/// # Errors
/// [`KeygenError::Exists`] when either file is there, [`KeygenError::SiteName`] when no site can have that name.
pub fn site(site: &str, folder: &Path) -> Result<SiteKeys, KeygenError> {
    if !is_plain_name(site) {
        return Err(KeygenError::SiteName { site: site.to_owned() });
    }
    let (identity, recipient) = Identity::mint().map_err(KeygenError::Random)?;
    let signing = SigningKey::generate().map_err(KeygenError::Random)?;
    let keys = SiteKeys {
        site: site.to_owned(),
        recipient: recipient.to_string(),
        verifying_key: signing.verifying_key().to_string(),
        identity_file: folder.join("identity.txt"),
        signing_key_file: folder.join("signing.key"),
    };
    durable::private_folder(folder).map_err(|source| KeygenError::Write { path: folder.to_owned(), source })?;
    if let Some(path) = [&keys.identity_file, &keys.signing_key_file].into_iter().find(|path| path.exists()) {
        return Err(KeygenError::Exists { path: path.clone() });
    }
    write_new(&keys.identity_file, &Identity::file_text(&recipient, &identity))?;
    write_new(&keys.signing_key_file, &signing.to_file_text())?;
    Ok(keys)
}

/// Makes an escrow identity and writes the page to print into `paper`, mode 0600. `clock` dates it.
///
/// # Errors
/// [`KeygenError::Exists`] when the file is there.
pub fn escrow(paper: &Path, clock: &dyn Clock) -> Result<EscrowKey, KeygenError> {
    let (identity, recipient) = Identity::mint().map_err(KeygenError::Random)?;
    let made = clock.now().strftime("%Y-%m-%d").to_string();
    write_new(paper, &paper::page(&identity, &recipient, &made))?;
    Ok(EscrowKey { recipient: recipient.to_string(), paper_file: paper.to_owned() })
}

/// Reads a page that was typed back (`-`: standard input), says whose it is, and writes it as an identity file if
/// `out` is given. It is compared with the configuration `given`, or with `usual` if there is such a file.
///
/// # Errors
/// [`KeygenError::Paper`] names the line that is wrong.
pub fn verify(typed: &Path, out: Option<&Path>, given: Option<&Path>, usual: &Path) -> Result<VerifiedPage, Error> {
    let path = || typed.to_owned();
    let text = read_text(typed).map_err(|source| KeygenError::Read { path: path(), source })?;
    let (line, recipient) = paper::read(&text).map_err(|source| KeygenError::Paper { path: path(), source })?;
    let config = given.or_else(|| usual.exists().then_some(usual)).map(Config::load).transpose()?;
    let configured = match &config {
        None => Configured::NoConfiguration,
        Some(config) if config.vault.escrow.contains(&recipient) => Configured::Escrow,
        Some(config) if config.sites.values().any(|site| site.recipient == recipient) => Configured::Site,
        Some(_) => Configured::Nobody,
    };
    if let Some(out) = out {
        write_new(out, &Identity::file_text(&recipient, &line))?;
    }
    Ok(VerifiedPage { recipient: recipient.to_string(), configured, identity_file: out.map(Path::to_owned) })
}

/// More than any page has.
const PAGE_BYTES_MAX: usize = 64 << 10;

fn read_text(path: &Path) -> io::Result<SecretString> {
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path)?),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(PAGE_BYTES_MAX));
    source.take(PAGE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))?;
    Ok(SecretString::from(text))
}

/// Writes a file that is not there yet, so that it survives a power cut: whoever reads the public half may believe it.
fn write_new(path: &Path, text: &SecretString) -> Result<(), KeygenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(text.expose_secret().as_bytes())?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
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
    use crate::clock::FixedClock;

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
        let error = site("../ams", &folder.path().join("other")).unwrap_err();
        assert!(matches!(error, KeygenError::SiteName { .. }), "{error}");
        assert!(!folder.path().join("other").exists());
    }

    #[test]
    fn the_paper_copy_opens_what_is_sealed_to_the_escrow() {
        let folder = tempfile::tempdir().unwrap();
        let paper = folder.path().join("escrow.txt");
        let clock = FixedClock("2026-11-21T05:00:00Z".parse().unwrap());
        let key = escrow(&paper, &clock).unwrap();
        let text = SecretString::from(std::fs::read_to_string(&paper).unwrap());
        assert_eq!(Identity::from_file_text(&text).unwrap().recipient().to_string(), key.recipient);
        assert!(text.expose_secret().starts_with("# WARMSPARE ESCROW PAGE, made 2026-11-21\n"));
        assert!(matches!(escrow(&paper, &clock), Err(KeygenError::Exists { .. })));
        let nowhere = folder.path().join("none.toml");
        let out = folder.path().join("identity.txt");
        let page = verify(&paper, Some(&out), None, &nowhere).unwrap();
        assert_eq!((page.recipient, page.configured), (key.recipient, Configured::NoConfiguration));
        let written = SecretString::from(std::fs::read_to_string(&out).unwrap());
        assert!(Identity::from_file_text(&written).is_ok());
        assert!(
            verify(&paper, None, Some(&nowhere), &nowhere).is_err(),
            "a configuration that was named must be there"
        );
    }
}
