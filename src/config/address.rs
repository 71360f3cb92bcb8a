//! Where the things of one site are: its database, its bucket, its exports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::reference::Reference;
use super::vault::{folder_of, is_plain_prefix, split_prefix};
use crate::units::Bytes;

/// The values each sequence jumps unless it is said: ten ids a second over the quarter of an hour between two captures are
/// 9,000. Of the two milliards of an `integer` a promotion a month uses a hundred-thousandth a year.
pub const SEQUENCE_GAP: u32 = 10_000;

/// One database at one site.
#[derive(Clone, Debug)]
pub struct DatabaseAddress {
    /// Its name in the configuration, the same at both sites.
    pub name: String,
    /// A connection URL or `key=value` string as libpq reads it, without the password.
    pub url: String,
    /// Its password, if one is needed.
    pub password: Option<Reference>,
    /// The roles the application logs in as.
    pub application_roles: Vec<String>,
    /// For how many values each sequence jumps when the database becomes live here.
    pub sequence_gap: u32,
    /// Folder of the PostgreSQL client programs (`pg_dump`); when absent, those on this host that suit the server best.
    pub programs: Option<PathBuf>,
    /// Bytes a second that a capture reads from it; without a limit when absent.
    pub rate: Option<Bytes>,
}

/// One artifact bucket at one site.
#[derive(Clone, Debug)]
pub struct BucketAddress {
    /// Its name in the configuration, the same at both sites.
    pub name: String,
    /// Where it is.
    pub url: BucketUrl,
    /// The endpoint, e.g. `https://10.1.0.6:9000`, with the path that leads to the buckets if there is one; the provider's own when
    /// absent.
    pub endpoint: Option<String>,
    /// The S3 region; `us-east-1` unless said.
    pub region: String,
    /// How a bucket of an S3 server is named in a request.
    pub addressing: Addressing,
    /// A file of the authorities to trust instead of this host's.
    pub ca_file: Option<PathBuf>,
    /// S3: `ACCESS_KEY:SECRET_KEY` or `ACCESS_KEY:SECRET_KEY:SESSION_TOKEN`; GCS: the service account's JSON; Azure: `ACCOUNT:KEY`.
    /// Anonymous when absent.
    pub credentials: Option<Reference>,
    /// How the other site comes to have its objects; the same at both sites.
    pub topology: Topology,
    /// Where what was overwritten or deleted in it is kept: a bucket of the same server, or a folder. A folder has one beside
    /// it unless it is said; an S3 bucket has none.
    pub attic: Option<BucketUrl>,
    /// A key that is always there: without it this is not the right bucket.
    pub canary: Option<String>,
}

/// How a bucket of an S3 server is named in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// As the first part of the path: every server understands it, AWS is about to forget it.
    Path,
    /// As the first label of the host's name: the server has to know its own name, and the certificate that of every bucket.
    VirtualHost,
}

/// How the other site comes to have the objects of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// We copy them into a bucket of its own.
    #[default]
    Mirror,
    /// Both sites use the same bucket, or the same network disk.
    Shared,
    /// The store replicates them into a bucket of its own.
    External,
}

impl Topology {
    /// As the configuration writes them.
    pub const WORDS: [(&'static str, Topology); 3] =
        [("mirror", Topology::Mirror), ("shared", Topology::Shared), ("external", Topology::External)];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Topology::Mirror => "mirror",
            Topology::Shared => "shared",
            Topology::External => "external",
        }
    }
}

impl BucketAddress {
    /// The bucket at `url`, mirrored, reached as is usual for its kind, without credentials.
    pub fn at(name: &str, url: BucketUrl) -> Self {
        BucketAddress {
            name: name.to_owned(),
            url,
            endpoint: None,
            region: REGION.to_owned(),
            addressing: Addressing::VirtualHost,
            ca_file: None,
            credentials: None,
            topology: Topology::Mirror,
            attic: None,
            canary: None,
        }
    }

    /// The same bucket at an S3 server, `https://HOST:PORT`, whose buckets are named in the path.
    #[must_use]
    pub fn on_server(self, endpoint: &str) -> Self {
        BucketAddress { endpoint: Some(endpoint.to_owned()), addressing: Addressing::Path, ..self }
    }

    /// The attic, reached as the bucket itself is; `None` where there is none.
    pub fn attic_address(&self) -> Option<BucketAddress> {
        // We overwrite nothing in the others.
        if self.topology != Topology::Mirror {
            return None;
        }
        let url = self.attic.clone().or_else(|| match &self.url {
            BucketUrl::Folder(folder) => {
                let mut name = folder.file_name()?.to_owned();
                name.push(ATTIC_SUFFIX);
                Some(BucketUrl::Folder(folder.with_file_name(name)))
            }
            BucketUrl::S3 { .. } | BucketUrl::Gcs { .. } | BucketUrl::Azure { .. } => None,
        })?;
        Some(BucketAddress { url, attic: None, canary: None, ..self.clone() })
    }
}

/// The region where none is said: every server but AWS takes it.
pub(super) const REGION: &str = "us-east-1";
/// What the name of a folder's attic has after that of the folder.
const ATTIC_SUFFIX: &str = ".attic";

/// The place of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketUrl {
    /// A folder of this host (`/path` or `file:///path`).
    Folder(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`; the prefix, when there is one, ends with `/`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key starts with; not part of the key in a manifest.
        prefix: String,
    },
    /// `gs://bucket` or `gs://bucket/prefix`: Google Cloud Storage; likewise.
    Gcs {
        /// The bucket.
        bucket: String,
        /// What every key starts with.
        prefix: String,
    },
    /// `az://container` or `az://container/prefix`: Azure Blob Storage; likewise.
    Azure {
        /// The container.
        container: String,
        /// What every key starts with.
        prefix: String,
    },
}

/// Secrets and configuration of one site that are captured together.
#[derive(Clone, Debug)]
pub struct ExportAddress {
    /// Its name in the configuration, the same at both sites.
    pub name: String,
    /// The folder that stands for `/` at this site; `/` unless said.
    pub root: PathBuf,
    /// Absolute paths or globs (`*`, `?`, `[…]`, `**`), as the application sees them: below `root`. A folder means all of it.
    pub files: Vec<String>,
    /// Programs whose standard output is captured: name → words. Started without a shell.
    pub commands: BTreeMap<String, Vec<String>>,
}

/// The place of our own keys: the vault, the witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultUrl {
    /// A folder of this host (`/path` or `file:///path`).
    Folder(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`; the prefix, when there is one, ends with `/`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key starts with.
        prefix: String,
    },
    /// `gs://bucket` or `gs://bucket/prefix`: Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// What every key starts with.
        prefix: String,
    },
    /// `az://container` or `az://container/prefix`: Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// What every key starts with.
        prefix: String,
    },
}

/// The vault as one site reaches it: the place is the same for both, the way there is each site's own.
#[derive(Clone, Debug)]
pub struct VaultAddress {
    /// Where it is.
    pub url: VaultUrl,
    /// The endpoint, e.g. `https://s3.example`; the provider's own when absent.
    pub endpoint: Option<String>,
    /// The S3 region; `us-east-1` unless said.
    pub region: String,
    /// A file of the authorities to trust instead of this host's.
    pub ca_file: Option<PathBuf>,
    /// What this site may do there. S3: `ACCESS_KEY:SECRET_KEY[:SESSION_TOKEN]`; GCS: the service account's JSON; Azure: `ACCOUNT:KEY`.
    pub credentials: Option<Reference>,
    /// The keeper's credential, which may delete; used for pruning alone. `credentials` when absent.
    pub keeper: Option<Reference>,
}

impl BucketUrl {
    /// Reads `/path`, `file:///path`, `s3://bucket`, `gs://bucket` or `az://container`, the last three with or without a
    /// prefix; nothing else. Of Google and Azure only prefixes that object_store can spell.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(folder) = folder_of(text) {
            return Some(BucketUrl::Folder(folder));
        }
        let (scheme, rest) = text.split_once("://")?;
        let (bucket, prefix) = split_prefix(rest)?;
        match scheme {
            "s3" => Some(BucketUrl::S3 { bucket, prefix }),
            "gs" if is_plain_prefix(&prefix) => Some(BucketUrl::Gcs { bucket, prefix }),
            "az" if is_plain_prefix(&prefix) => Some(BucketUrl::Azure { container: bucket, prefix }),
            _ => None,
        }
    }

    /// Whether one of the two lies within the other, so that what is in one would be taken for objects of the other.
    pub fn overlaps(&self, other: &BucketUrl) -> bool {
        match (self, other) {
            (BucketUrl::Folder(one), BucketUrl::Folder(two)) => one.starts_with(two) || two.starts_with(one),
            (BucketUrl::S3 { bucket: one, prefix: a }, BucketUrl::S3 { bucket: two, prefix: b })
            | (BucketUrl::Gcs { bucket: one, prefix: a }, BucketUrl::Gcs { bucket: two, prefix: b })
            | (BucketUrl::Azure { container: one, prefix: a }, BucketUrl::Azure { container: two, prefix: b }) => {
                one == two && (a.starts_with(b.as_str()) || b.starts_with(a.as_str()))
            }
            _ => false,
        }
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BucketUrl::Folder(path) => write!(f, "{}", path.display()),
            BucketUrl::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            BucketUrl::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            BucketUrl::Azure { container, prefix } => write!(f, "az://{container}/{prefix}"),
        }
    }
}

impl fmt::Display for VaultUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VaultUrl::Folder(path) => write!(f, "{}", path.display()),
            VaultUrl::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            VaultUrl::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            VaultUrl::Azure { container, prefix } => write!(f, "az://{container}/{prefix}"),
        }
    }
}
