//! The configuration file: TOML as written becomes validated types here and nowhere else.
//!
//! One file serves both sites. What a person may write is in `as_written`; what the rest of the house sees are
//! the types below, with every default filled in, every key parsed and every secret still a reference.

pub mod address;
mod apart;
mod as_written;
mod capture;
mod digest;
mod error;
mod gate;
mod here;
mod jobs;
mod limits;
mod notify;
pub mod password_file;
mod profile;
mod reach;
pub mod reference;
mod retention;
mod signers;
mod source_name;
mod targets;
mod validate;
mod vault;
mod witness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use capture::{CaptureConfig, ChunkSize, XMIN_AGE_MAX, rate};
pub use digest::{DigestAlgorithm, DigestRule, KeyPattern};
pub use error::ConfigError;
pub use gate::GateAddress;
pub use here::{Here, HereError};
pub use limits::{Limit, LimitsConfig, MirrorConfig};
pub use notify::{HttpSink, SinkConfig, SinkKind, SmtpSink, SmtpTls, When};
pub use profile::{Profile, ProfileError, SourcePattern};
pub use retention::RetentionConfig;
pub use signers::Signers;
pub use source_name::{SourceKind, SourceName, SourceNameError, is_plain_name};
#[cfg(test)]
pub(crate) use targets::targets_of;
pub use targets::{TargetsConfig, TargetsOf};
pub use witness::{EtcdAddress, WitnessAddress, WitnessConfig, WitnessUrl};

use crate::keys::Recipient;
use crate::schedule::Schedule;
use address::{BucketAddress, DatabaseAddress, ExportAddress, VaultAddress, VaultUrl};
use reference::Reference;

/// The configuration of one system.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// The system's name.
    pub system: String,
    /// What a recovery point consists of, and how it comes back.
    pub profile: Profile,
    /// The site that is live, unless a witness says so.
    pub live: Option<String>,
    /// The witness, unless `live` says it. One of both is there.
    pub witness: Option<WitnessConfig>,
    /// The vault.
    pub vault: VaultConfig,
    /// How the live site captures.
    pub capture: CaptureConfig,
    /// Which points stay.
    pub retention: RetentionConfig,
    /// How buckets are mirrored.
    pub mirror: MirrorConfig,
    /// What runs by itself, and when.
    pub schedule: Schedule,
    /// How old a point, a proof, a word of the other site may be.
    pub targets: TargetsConfig,
    /// Whom alarms are told, in order of names.
    pub notify: Vec<SinkConfig>,
    /// The two sites by name.
    pub sites: BTreeMap<String, Site>,
}

/// The vault, as both sites see it.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Where it is.
    pub url: VaultUrl,
    /// Recipients whose identities are on neither site.
    pub escrow: Vec<Recipient>,
    /// The verifying keys of each site.
    pub signers: Signers,
}

/// One of the two places.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// The folder of its state.
    pub state: PathBuf,
    /// Its recipient: what the other site writes is sealed to it.
    pub recipient: Recipient,
    /// Its identity; needed where it restores.
    pub identity: Option<Reference>,
    /// Its signing key; needed where it captures or proves.
    pub signing_key: Option<Reference>,
    /// How it reaches the vault.
    pub vault: VaultAddress,
    /// How it reaches the witness, if there is one.
    pub witness: Option<WitnessAddress>,
    /// Where its gate listens, if it has one.
    pub gate: Option<GateAddress>,
    /// Its databases by name.
    pub databases: BTreeMap<String, DatabaseAddress>,
    /// Its buckets by name.
    pub buckets: BTreeMap<String, BucketAddress>,
    /// Its exports by name.
    pub exports: BTreeMap<String, ExportAddress>,
}

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line where there is one, what is wrong and how to write it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            path: path.to_owned(),
            line: None,
            what: format!("it cannot be read: {e}"),
            next: "Name the configuration file with --config or WARMSPARE_CONFIG, or write one with `warmspare init`."
                .to_owned(),
        })?;
        Config::parse(path, &text)
    }

    /// Validates `text`, which was read from `path`.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        validate::config(path, text)
    }

    /// The site called `name`.
    pub fn site(&self, name: &str) -> Option<&Site> {
        self.sites.get(name)
    }

    /// The site that is not `name`.
    pub fn other(&self, name: &str) -> Option<&Site> {
        self.sites.values().find(|site| site.name != name)
    }

    /// The sources of a recovery point, in order of kind and name.
    pub fn sources(&self) -> Vec<SourceName> {
        validate::captured(&self.profile, &self.sites)
    }
}

impl Site {
    /// Every source this site has.
    pub fn sources(&self) -> Vec<SourceName> {
        let databases = self.databases.keys().map(|name| SourceName::new(SourceKind::Database, name));
        let buckets = self.buckets.keys().map(|name| SourceName::new(SourceKind::Bucket, name));
        let exports = self.exports.keys().map(|name| SourceName::new(SourceKind::Export, name));
        databases.chain(buckets).chain(exports).collect()
    }
}
