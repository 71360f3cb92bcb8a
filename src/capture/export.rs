//! Captures secrets and configuration: files, folders and the output of commands, as one stream.
//!
//! The stream is a tar file ([`bundle`]) that any `tar` opens. Nothing is followed, nothing is left out in
//! silence: a pattern without a match, a command that fails, a file that will not hold still, and rights that
//! a tar file cannot carry (ACLs, capabilities) are errors that name the thing; a socket in a captured folder
//! is a [`Remark`]. Memory does not grow with the size of a file; the list of paths is held.
//!
//! [`digest`] goes the same way without a sink, so that a recovery point can tell whether anything changed
//! while its database was captured.
//!
//! Not carried: SELinux labels (the spare's policy sets them by path) and hard links (each name is a file).

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::clock::Clock;
use crate::config::address::ExportAddress;
use crate::observe::Progress;
use crate::stream::{Attributes, Sink, SinkStream, StreamKind, StreamName};

pub mod accounts;
pub mod bundle;
mod command;
mod error;
mod produce;
pub mod root;
mod select;

pub use error::Error;

/// Blocks on their way from the files to the sink; each is at most [`produce::BLOCK_BYTES`] long.
const BLOCKS_MAX: usize = 4;

/// What an export held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFacts {
    /// Files and links.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of content of the files.
    pub bytes: u64,
    /// Commands whose output was captured.
    pub commands: u64,
    /// BLAKE3 over paths, kinds, modes, owners and content, not over times; the same as long as nothing changed.
    /// It would confirm a guess of a secret: it must not be stored in clear.
    #[serde(with = "hex")]
    pub digest: blake3::Hash,
    /// What was left out, and why.
    pub remarks: Vec<Remark>,
}

/// Something that is not in the export though it stands where the export was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Below the root; for a person to read, so bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What it is, so that `path what` reads as a sentence.
    pub what: String,
}

impl Remark {
    fn new(path: &Path, what: String) -> Self {
        Remark { path: root::Root::seen(path).to_string_lossy().into_owned(), what }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.what)
    }
}

/// The name of the stream of an export.
pub fn stream_name(export: &str) -> StreamName {
    StreamName::new(StreamKind::Export, export)
}

/// Captures `export` into `sink`.
///
/// # Errors
/// [`Error`], or what the sink says. The stream is then not finished.
pub async fn capture<S: Sink>(
    export: &ExportAddress,
    sink: &S,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<ExportFacts, crate::error::Error> {
    let meter = progress.begin(&format!("export {}", export.name), None);
    let mut stream = sink.open(stream_name(&export.name)).await?;
    let mut production = Production::start(export, clock.now());
    while let Some(block) = production.blocks.recv().await {
        let bytes = block.len() as u64;
        stream.write(block).await?;
        meter.advance(bytes);
    }
    let facts = production.facts().await?;
    stream.finish(facts.attributes()).await?;
    meter.finish(&format!("{} files, {} commands", facts.files, facts.commands));
    for remark in &facts.remarks {
        tracing::warn!(export = export.name, "{remark}");
    }
    Ok(facts)
}

/// The digest a capture of `export` would have now. Runs its commands, too.
///
/// # Errors
/// As [`capture`].
pub async fn digest(export: &ExportAddress) -> Result<blake3::Hash, Error> {
    // Times are not part of the digest, so any will do.
    let mut production = Production::start(export, Timestamp::UNIX_EPOCH);
    while production.blocks.recv().await.is_some() {}
    production.facts().await.map(|facts| facts.digest)
}

impl ExportFacts {
    /// What the stream's entry says of it: counts, and the digest (entries are sealed).
    fn attributes(&self) -> Attributes {
        let count = |name: &str, count: u64| (name.to_owned(), count.into());
        Attributes::from([
            count("files", self.files),
            count("folders", self.folders),
            count("bytes", self.bytes),
            count("commands", self.commands),
            ("digest".to_owned(), self.digest.to_hex().as_str().into()),
        ])
    }
}

/// A bundle being made in a thread of its own. Dropping `blocks` stops it.
struct Production {
    blocks: mpsc::Receiver<Bytes>,
    task: JoinHandle<Result<ExportFacts, Error>>,
}

impl Production {
    fn start(export: &ExportAddress, now: Timestamp) -> Self {
        let (sender, blocks) = mpsc::channel(BLOCKS_MAX);
        let (export, runtime) = (export.clone(), Handle::current());
        let task = tokio::task::spawn_blocking(move || produce::produce(&export, now, &runtime, sender));
        Production { blocks, task }
    }

    async fn facts(self) -> Result<ExportFacts, Error> {
        self.task.await.unwrap_or_else(|ended| Err(stopped(ended)))
    }
}

/// A panic goes on in the caller; otherwise the runtime is going down.
fn stopped(ended: JoinError) -> Error {
    match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Stopped,
    }
}

const STAGED: &str = ".warmspare-";

/// The name under which a restore prepares `name` in the same folder. Its length does not depend on that of
/// `name`, and it is the same every time, so that a restore finds what an earlier one left.
pub fn staged_name(name: &OsStr) -> PathBuf {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    PathBuf::from(format!("{STAGED}{}", hash.get(..16).unwrap_or_default()))
}

/// Whether a name is one of [`staged_name`]; such files are not captured.
pub fn is_staged(name: &OsStr) -> bool {
    let hash = name.as_bytes().strip_prefix(STAGED.as_bytes());
    hash.is_some_and(|hash| hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit))
}

/// A BLAKE3 hash as hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(hash: &blake3::Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<blake3::Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)
    }
}

/// The name of a command becomes the name of a file.
fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(name)) && !name.contains('\0')
}
