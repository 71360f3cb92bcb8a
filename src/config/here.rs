//! Where this process runs: which of the two sites, and with which of its secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::reference::{Reference, ReferenceError};
use super::{Config, ConfigError, Site};
use crate::durable::{self, FileLock};
use crate::error::{Class, Explain};
use crate::keys::{Identity, KeyError, Recipient, SigningKey};
use crate::permit::Permit;
use crate::units::Bytes;

/// The configuration as seen from one site.
#[derive(Clone, Debug)]
pub struct Here {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// This site.
    pub site: Site,
    /// The other one.
    pub other: Site,
    /// The site that is live, as the configuration says, or the lease; nothing when the lease is nobody's.
    pub live: Option<String>,
    /// The term that what is written here is of; 0 without a witness.
    pub term: u64,
    /// Leave to write to what both sites share: without an end as long as there is no lease.
    pub permit: Permit,
}

/// What this site lacks or refuses.
#[derive(Debug, thiserror::Error)]
pub enum HereError {
    /// The site named is not in the configuration.
    #[error("`{site}` is not a site of {file} (there are: {known})")]
    UnknownSite {
        /// The name given.
        site: String,
        /// The configuration.
        file: String,
        /// The names there are.
        known: String,
    },
    /// Nothing says which site this is.
    #[error("nothing says which site this is")]
    NoSite,
    /// The lease decides who is live, and this command did not ask it.
    #[error("the witness decides whether {site} is live, and nothing that holds its lease runs here")]
    NoRole {
        /// The site.
        site: String,
    },
    /// A secret that is needed here is not configured for this site.
    #[error("`{key}` is not set under [sites.{site}]")]
    NotConfigured {
        /// The key.
        key: &'static str,
        /// The site.
        site: String,
    },
    /// A secret cannot be fetched.
    #[error("`{key}` under [sites.{site}]")]
    Reference {
        /// The key.
        key: String,
        /// The site.
        site: String,
        /// Why.
        source: ReferenceError,
    },
    /// A secret is not what it should be.
    #[error("`{key}` under [sites.{site}] ({reference})")]
    Key {
        /// The key.
        key: &'static str,
        /// The site.
        site: String,
        /// Where it came from.
        reference: String,
        /// What is wrong.
        source: KeyError,
    },
    /// An identity named on the command line cannot be used.
    #[error("the identity {reference}: {what}")]
    Given {
        /// Where it was to come from.
        reference: String,
        /// What is wrong.
        what: String,
    },
    /// What was given for an identity says no place; most likely it is the identity. It is not repeated.
    #[error("--identity takes the place of an identity, not an identity")]
    NotAReference,
    /// The key at hand is not the one the configuration pins.
    #[error("`{key}` of {site} belongs to {found}, but the configuration says {pinned}")]
    NotPinned {
        /// The key.
        key: &'static str,
        /// The site.
        site: String,
        /// The public half of what is at hand.
        found: String,
        /// The public half that is configured.
        pinned: String,
    },
    /// Another operation is under way.
    #[error("another operation is under way at {site}: {holder}")]
    Busy {
        /// The site.
        site: String,
        /// What its holder says of itself.
        holder: String,
    },
    /// The state folder cannot be used.
    #[error("the state folder {path} cannot be used")]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Explain for HereError {
    fn class(&self) -> Class {
        match self {
            HereError::UnknownSite { .. }
            | HereError::NoSite
            | HereError::NotConfigured { .. }
            | HereError::NotAReference => Class::Usage,
            HereError::Busy { .. } | HereError::NoRole { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            HereError::UnknownSite { .. } | HereError::NoSite => {
                "Name it with --site, with WARMSPARE_SITE, or in the file /etc/warmspare/site.".to_owned()
            }
            HereError::NoRole { .. } => {
                "Start `warmspare run` at this site; `warmspare witness status` says what the witness has.".to_owned()
            }
            HereError::NotConfigured { key, site } => {
                format!("Make one with `warmspare keygen --site {site}` and name its file there as `{key}`.")
            }
            HereError::Reference { .. } => "Make the secret readable for the user warmspare runs as.".to_owned(),
            HereError::Key { .. } => "Point it at the file `warmspare keygen` wrote for it.".to_owned(),
            HereError::Given { .. } => "Name the file the identity is in: --identity file:/path.".to_owned(),
            HereError::NotAReference => {
                "Write --identity file:/path, env:NAME or command:PROGRAM; others can see what \
                                         stands on a command line."
                    .to_owned()
            }
            HereError::NotPinned { key, .. } => {
                format!(
                    "Use the file whose public half is configured, or configure the one that belongs to this `{key}`."
                )
            }
            HereError::Busy { .. } => "Wait for it to end, then run the command again.".to_owned(),
            HereError::State { .. } => {
                "Check that it exists, is owned by the user warmspare runs as, and has space.".to_owned()
            }
        })
    }
}

/// The file of the state folder that says how often this site was seen to be the spare.
const SPARE_FILE: &str = "spare";
/// How long somebody who looks who holds the site may hold it, on a machine that is busy, and how often that is waited for.
const A_LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 10;
/// The file that says which site a host is.
const SITE_FILE: &str = "/etc/warmspare/site";

impl Here {
    /// Which site this host is: `given` on the command line or by environment, else the word in `/etc/warmspare/site`.
    ///
    /// # Errors
    /// [`HereError::NoSite`] when nothing says so.
    pub fn site_name(given: Option<String>) -> Result<String, HereError> {
        if let Some(name) = given {
            return Ok(name);
        }
        let path = Path::new(SITE_FILE);
        let content = durable::read(path).map_err(|source| HereError::State { path: path.to_owned(), source })?;
        let name = content.map(|name| String::from_utf8_lossy(&name).trim().to_owned());
        name.filter(|name| !name.is_empty()).ok_or(HereError::NoSite)
    }

    /// The configuration as seen from the site called `name`.
    ///
    /// # Errors
    /// [`HereError::UnknownSite`] when there is no such site, [`HereError::NoRole`] when a witness says who is live.
    pub fn new(config: Config, name: &str) -> Result<Self, HereError> {
        let live = config.live.clone();
        let here = Here::led(config, name, live)?;
        match &here.live {
            Some(_) => Ok(here),
            None => Err(HereError::NoRole { site: here.site.name }),
        }
    }

    /// The same, where the lease says that `live` is live, or that nobody is.
    ///
    /// # Errors
    /// [`HereError::UnknownSite`] when there is no such site.
    pub fn led(config: Config, name: &str, live: Option<String>) -> Result<Self, HereError> {
        let (site, other) = (config.site(name).cloned(), config.other(name).cloned());
        match (site, other) {
            (Some(site), Some(other)) => {
                Ok(Here { config: Arc::new(config), site, other, live, term: 0, permit: Permit::unlimited() })
            }
            _ => Err(HereError::UnknownSite {
                site: name.to_owned(),
                file: config.path.display().to_string(),
                known: config.sites.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The same, but what it writes is of `term`.
    pub fn in_term(self, term: u64) -> Self {
        Here { term, ..self }
    }

    /// The same, but it writes to vault and buckets only as `permit` says.
    pub fn under(self, permit: Permit) -> Self {
        Here { permit, ..self }
    }

    /// The same, but whatever this site's databases are asked for is limited to `rate` a second each.
    pub fn with_rate(mut self, rate: Bytes) -> Self {
        self.site.databases.values_mut().for_each(|database| database.rate = Some(rate));
        self
    }

    /// Whether this site takes live traffic.
    pub fn is_live(&self) -> bool {
        self.live.as_ref() == Some(&self.site.name)
    }

    /// Who is live now: what was looked at minutes ago may have changed. The file is read again; the lease changes hands at this
    /// site only under the operation lock, which the caller holds.
    ///
    /// # Errors
    /// When the file cannot be read any more, or is wrong now.
    pub fn live_again(&self) -> Result<Option<String>, ConfigError> {
        let config = Config::load(&self.config.path)?;
        Ok(config.live.or_else(|| self.live.clone()))
    }

    /// Whom everything written here is sealed to: the other site and the escrow, never this one.
    pub fn sealed_to(&self) -> Vec<Recipient> {
        self.readers_beside(&self.other)
    }

    /// Whom everything written at the site `writer` is sealed to; `None` when there is no such site.
    pub fn readers_of(&self, writer: &str) -> Option<Vec<Recipient>> {
        self.config.site(writer)?;
        self.config.other(writer).map(|reader| self.readers_beside(reader))
    }

    fn readers_beside(&self, reader: &Site) -> Vec<Recipient> {
        let escrow = self.config.vault.escrow.iter().filter(|recipient| **recipient != reader.recipient);
        std::iter::once(&reader.recipient).chain(escrow).cloned().collect()
    }

    /// The folder of the vault's bookkeeping at this site.
    pub fn vault_state(&self) -> PathBuf {
        self.site.state.join("vault")
    }

    /// Fetches a secret of this host; `key` says which one it is to a person.
    ///
    /// # Errors
    /// [`HereError::Reference`] when it cannot be fetched.
    pub fn resolve(&self, key: &str, reference: Option<&Reference>) -> Result<Option<SecretString>, HereError> {
        let Some(reference) = reference else { return Ok(None) };
        let wrong = |source| HereError::Reference { key: key.to_owned(), site: self.site.name.clone(), source };
        reference.resolve().map(Some).map_err(wrong)
    }

    fn required(&self, key: &'static str, reference: Option<&Reference>) -> Result<(SecretString, String), HereError> {
        let site = || self.site.name.clone();
        let reference = reference.ok_or_else(|| HereError::NotConfigured { key, site: site() })?;
        let secret = reference.resolve();
        let secret = secret.map_err(|source| HereError::Reference { key: key.to_owned(), site: site(), source })?;
        Ok((secret, reference.to_string()))
    }

    /// This site's signing key, which must be the first one pinned for it in `signers`.
    ///
    /// # Errors
    /// When it is not configured, not readable, or not the pinned one.
    pub fn signing_key(&self) -> Result<SigningKey, HereError> {
        let (key, site) = ("signing_key", self.site.name.clone());
        let (secret, reference) = self.required(key, self.site.signing_key.as_ref())?;
        let signing = SigningKey::from_file_text(&secret);
        let signing = signing.map_err(|source| HereError::Key { key, site: site.clone(), reference, source })?;
        let (found, pinned) = (signing.verifying_key(), self.config.vault.signers.of(&self.site.name));
        if pinned.first() != Some(&found) {
            let pinned = pinned.first().map_or("nothing".to_owned(), ToString::to_string);
            return Err(HereError::NotPinned { key, site, found: found.to_string(), pinned });
        }
        Ok(signing)
    }

    /// This site's identity, which must belong to its `recipient`, or, when that is lost, the escrow's.
    ///
    /// # Errors
    /// When it is not configured, not readable, or another one.
    pub fn identity(&self) -> Result<Identity, HereError> {
        let (key, site) = ("identity", self.site.name.clone());
        let (secret, reference) = self.required(key, self.site.identity.as_ref())?;
        let identity = Identity::from_file_text(&secret);
        let identity = identity.map_err(|source| HereError::Key { key, site: site.clone(), reference, source })?;
        let (found, pinned) = (identity.recipient(), &self.site.recipient);
        if found != *pinned && !self.config.vault.escrow.contains(&found) {
            return Err(HereError::NotPinned { key, site, found: found.to_string(), pinned: pinned.to_string() });
        }
        Ok(identity)
    }

    /// The identity that `reference` leads to, whosever it is: an old one, or the escrow's.
    ///
    /// # Errors
    /// When it is no reference, does not resolve, or is no identity.
    pub fn identity_at(&self, reference: &str) -> Result<Identity, HereError> {
        let wrong = |what: String| HereError::Given { reference: reference.to_owned(), what };
        let parsed = Reference::parse(reference).map_err(|_| HereError::NotAReference)?;
        let secret = parsed.resolve().map_err(|e| wrong(crate::error::chain(&e)))?;
        Identity::from_file_text(&secret).map_err(|e| wrong(e.to_string()))
    }

    /// How often this site was seen to be the spare; nothing when it never was. What a live site remembers of the other's buckets
    /// is of no use once this has changed.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn times_spare(&self) -> Result<Option<String>, HereError> {
        let path = self.site.state.join(SPARE_FILE);
        let content = durable::read(&path).map_err(|source| HereError::State { path, source })?;
        Ok(content.map(|content| String::from_utf8_lossy(&content).trim().to_owned()))
    }

    /// Writes down that this site is the spare now.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub fn mark_spare(&self) -> Result<(), HereError> {
        let path = self.site.state.join(SPARE_FILE);
        let times: u64 = self.times_spare()?.and_then(|times| times.parse().ok()).unwrap_or(0);
        let write = || {
            durable::private_folder(&self.site.state)?;
            durable::replace(&path, format!("{}\n", times.saturating_add(1)).as_bytes())
        };
        write().map_err(|source| HereError::State { path: path.clone(), source })
    }

    /// Takes this site's operation lock: one operation at a time. `what` tells others who holds it. Whoever looks who does holds it for
    /// a moment, too, and is waited for.
    ///
    /// # Errors
    /// [`HereError::Busy`] names the holder.
    pub fn lock(&self, what: &str) -> Result<FileLock, HereError> {
        let folder = &self.site.state;
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| HereError::State { path, source }
        };
        durable::private_folder(folder).map_err(wrong(folder))?;
        let path = folder.join("operation.lock");
        let note = format!("{what}, process {}", std::process::id());
        let mut lock = FileLock::try_take(&path, &note).map_err(wrong(&path))?;
        for _ in 0..LOOKS_MAX {
            if lock.is_some() {
                break;
            }
            std::thread::sleep(A_LOOK);
            lock = FileLock::try_take(&path, &note).map_err(wrong(&path))?;
        }
        if let Some(lock) = lock {
            // Where nobody knows who is live, this site may well be it.
            if self.live.is_some() && !self.is_live() {
                self.mark_spare()?;
            }
            return Ok(lock);
        }
        let holder = durable::read(&path).map_err(wrong(&path))?.unwrap_or_default();
        Err(HereError::Busy { site: self.site.name.clone(), holder: String::from_utf8_lossy(&holder).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::super::validate::tests::sample;
    use super::*;

    /// A capture that began while the daemon looked who holds the site was refused, and named a process that had ended long ago.
    #[test]
    fn a_look_at_who_holds_the_site_is_no_operation() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(Path::new("w.toml"), &sample()).unwrap();
        let live = config.live.clone().unwrap();
        let mut here = Here::new(config, &live).unwrap();
        here.site.state = folder.path().to_owned();
        drop(here.lock("capture").unwrap());
        let look = std::fs::File::open(folder.path().join("operation.lock")).unwrap();
        flock(&look, FlockOperation::NonBlockingLockShared).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            drop(look);
        });
        let held = here.lock("restore").unwrap();
        ends.join().unwrap();
        let busy = here.lock("verify").unwrap_err().to_string();
        assert!(busy.contains("another operation is under way") && busy.contains("restore, process"), "{busy}");
        drop(held);
    }
}
