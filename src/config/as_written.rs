//! The configuration exactly as TOML says it. Every key a person can write stands here, and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub system: Spanned<String>,
    pub profile: Option<Spanned<String>>,
    pub live: Option<Spanned<String>>,
    pub vault: Vault,
    pub witness: Option<Spanned<Witness>>,
    pub sites: BTreeMap<Spanned<String>, Site>,
    pub capture: Option<Capture>,
    pub retention: Option<Retention>,
    pub mirror: Option<Mirror>,
    #[serde(default)]
    pub jobs: BTreeMap<Spanned<String>, Job>,
    pub targets: Option<Targets>,
    #[serde(default)]
    pub notify: BTreeMap<Spanned<String>, Notify>,
}

/// A job of the schedule: in a profile, and over it in the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// What it does; its name, when absent.
    pub kind: Option<String>,
    /// A calendar line.
    pub at: Option<String>,
    pub zone: Option<String>,
    /// `live`, `spare` or `both`.
    pub on: Option<String>,
    /// Jobs that go before it.
    pub after: Option<Vec<String>>,
    pub jitter: Option<String>,
    pub timeout: Option<String>,
    pub retries: Option<u32>,
    pub retry_after: Option<String>,
    pub failures_allowed: Option<u32>,
    pub late_after: Option<String>,
    pub enabled: Option<bool>,
    pub arguments: Option<Vec<String>>,
}

impl Job {
    /// This, and of what it does not say the `other`'s.
    pub fn over(self, other: Job) -> Job {
        Job {
            kind: self.kind.or(other.kind),
            at: self.at.or(other.at),
            zone: self.zone.or(other.zone),
            on: self.on.or(other.on),
            after: self.after.or(other.after),
            jitter: self.jitter.or(other.jitter),
            timeout: self.timeout.or(other.timeout),
            retries: self.retries.or(other.retries),
            retry_after: self.retry_after.or(other.retry_after),
            failures_allowed: self.failures_allowed.or(other.failures_allowed),
            late_after: self.late_after.or(other.late_after),
            enabled: self.enabled.or(other.enabled),
            arguments: self.arguments.or(other.arguments),
        }
    }
}

/// A place that alarms are told. Which keys it takes is a question of its kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notify {
    pub kind: Spanned<String>,
    pub when: Option<Vec<Spanned<String>>>,
    /// How often an alarm that stands is told again.
    pub repeat: Option<Spanned<String>>,
    pub url: Option<Spanned<String>>,
    /// The authorities to trust instead of this host's.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// The job whose runs a ping follows.
    pub job: Option<Spanned<String>>,
    pub server: Option<Spanned<String>>,
    /// `starttls`, `tls` or `none`.
    pub tls: Option<Spanned<String>>,
    pub from: Option<Spanned<String>>,
    #[serde(default)]
    pub to: Vec<Spanned<String>>,
    pub credentials: Option<Spanned<String>>,
    #[serde(default)]
    pub command: Vec<Spanned<String>>,
}

/// How old things may be: in a schedule file, and in the configuration.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Targets {
    /// The newest recovery point.
    pub point: Option<Spanned<String>>,
    /// The newest one that was proven by a restore.
    pub proven: Option<Spanned<String>>,
    /// The last word of the other site.
    pub silent: Option<Spanned<String>>,
    /// What holds for single sources instead.
    #[serde(default)]
    pub sources: BTreeMap<Spanned<String>, SourceTargets>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceTargets {
    pub point: Option<Spanned<String>>,
    pub proven: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    pub url: Spanned<String>,
    #[serde(default)]
    pub escrow: Vec<Spanned<String>>,
    /// A key or a list of keys. Not an enum: the spans of TOML do not come through one.
    pub signers: BTreeMap<String, Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    pub url: Spanned<String>,
    /// T: for how long a renewal holds.
    pub ttl: Option<Spanned<String>>,
    /// D: how long before that the gate closes.
    pub drain: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    /// Tables copied at once.
    pub workers: Option<Spanned<usize>>,
    /// Transactions that a database's snapshot may keep vacuum from.
    pub xmin_age_max: Option<Spanned<u64>>,
    /// Chunk size of new epochs: `small` or `large`.
    pub chunks: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    /// What it may take, by the time of day.
    #[serde(default)]
    pub limits: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    /// Every point this much older than the newest, or less, stays.
    pub within: Option<Spanned<String>>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
    /// The share of the points, or of the packs' bytes, that one pass may remove.
    pub share_max: Option<Spanned<String>>,
    /// For so long an object must be gone before it is hidden at the spare.
    pub hide_after: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Site {
    pub state: Option<Spanned<PathBuf>>,
    pub recipient: Spanned<String>,
    pub identity: Option<Spanned<String>>,
    pub signing_key: Option<Spanned<String>>,
    pub vault: Option<Spanned<SiteVault>>,
    pub witness: Option<Spanned<SiteWitness>>,
    pub gate: Option<Spanned<Gate>>,
    #[serde(default)]
    pub databases: BTreeMap<Spanned<String>, Database>,
    #[serde(default)]
    pub buckets: BTreeMap<Spanned<String>, Bucket>,
    #[serde(default)]
    pub exports: BTreeMap<Spanned<String>, Export>,
}

/// How one site reaches the vault.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteVault {
    pub endpoint: Option<Spanned<String>>,
    pub region: Option<String>,
    /// The authorities to trust instead of this host's.
    pub ca_file: Option<Spanned<PathBuf>>,
    pub credentials: Option<Spanned<String>>,
    pub keeper: Option<Spanned<String>>,
}

/// Where a site's gate listens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    pub listen: Spanned<String>,
    pub agent: Option<Spanned<String>>,
    /// Where load balancers reach it.
    pub url: Option<Spanned<String>>,
}

/// How one site reaches the witness.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteWitness {
    pub endpoint: Option<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    /// The authorities to trust instead of this host's.
    pub ca_file: Option<Spanned<PathBuf>>,
    pub credentials: Option<Spanned<String>>,
    /// Who we are, to an etcd that asks for it.
    pub certificate: Option<Spanned<PathBuf>>,
    pub certificate_key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub url: Spanned<String>,
    pub password: Option<Spanned<String>>,
    #[serde(default)]
    pub application_roles: Vec<String>,
    pub sequence_gap: Option<u32>,
    pub programs: Option<PathBuf>,
    /// Bytes a second that a capture reads from it.
    pub rate: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bucket {
    pub url: Spanned<String>,
    pub endpoint: Option<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    /// `path` or `virtual-host`.
    pub addressing: Option<Spanned<String>>,
    /// The authorities to trust instead of this host's.
    pub ca_file: Option<Spanned<PathBuf>>,
    pub credentials: Option<Spanned<String>>,
    /// `mirror`, `shared` or `external`.
    pub topology: Option<Spanned<String>>,
    /// Where what was overwritten or deleted is kept.
    pub attic: Option<Spanned<String>>,
    /// A key that is always there.
    pub canary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    pub root: Option<PathBuf>,
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub commands: BTreeMap<String, Vec<String>>,
}
