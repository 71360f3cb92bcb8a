//! The stored types of vault format 1. Bytes that were ever written are read by these types for ever;
//! a change of meaning is a new format beside them, never an edit here. docs/FORMAT.md describes each.

pub mod body;
mod signed;

use serde::{Deserialize, Serialize};

pub use signed::{Signed, Unverified};

use crate::pipeline::ChunkerParameters;

/// The format number every record carries.
pub const FORMAT: u32 = 1;

/// `vault.json`. It informs; nothing in it is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `vault`.
    pub kind: String,
    /// Features a reader must know; none in format 1.
    pub features: Vec<String>,
}

/// `epoch.json`: how an epoch's packs were made. Signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `epoch`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The term.
    pub term: u64,
    /// The number within the term.
    pub epoch: u64,
    /// The site that writes it.
    pub writer: String,
    /// How streams are cut.
    pub chunker: ChunkerParameters,
    /// The age recipient packs and bodies are sealed to.
    pub recipient: String,
    /// The age recipients its secrets are sealed to.
    pub sealed_to: Vec<String>,
    /// When it was opened, by the writer's clock.
    pub created_at: jiff::Timestamp,
    /// Nothing is committed in it after this instant of the writer's clock.
    pub not_after: jiff::Timestamp,
}

/// A record named by its key, with the BLAKE3 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The number of the record in its chain.
    pub seq: u64,
    /// BLAKE3 of the whole object, in hexadecimal digits.
    pub blake3: String,
}

/// The clear header of a snapshot: its commit. Signed, chained to the one before in its epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `snapshot`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The source captured: `database.builder`.
    pub source: String,
    /// The term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
    /// The number within the epoch.
    pub seq: u64,
    /// The header committed before this one in the epoch; absent in the first.
    pub previous: Option<Link>,
    /// The site that captured.
    pub writer: String,
    /// When the source was captured, by the writer's clock.
    pub captured_at: jiff::Timestamp,
    /// The sealed body.
    pub body: BodyLink,
    /// How many streams it has.
    pub streams: u64,
    /// The length of all its streams.
    pub bytes: u64,
    /// Bytes of packs that had to be written for it.
    pub stored_bytes: u64,
    /// What the capturer said of the source: versions, positions, counts.
    pub facts: serde_json::Value,
    /// The release that wrote it.
    pub software: String,
}

/// Where a snapshot's body is and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyLink {
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the sealed body, in hexadecimal digits.
    pub blake3: String,
}

/// A recovery point. Signed, chained to the one before in its term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `point`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The term.
    pub term: u64,
    /// The number within the term.
    pub seq: u64,
    /// The point before this one in the term; absent in the first.
    pub previous: Option<Link>,
    /// The site that took it.
    pub writer: String,
    /// When the run began, by the writer's clock.
    pub started_at: jiff::Timestamp,
    /// The instant the point stands for: when its database snapshot was taken, by the writer's clock.
    pub captured_at: jiff::Timestamp,
    /// When the run ended.
    pub finished_at: jiff::Timestamp,
    /// One snapshot of every source of the system.
    pub snapshots: Vec<PointSnapshot>,
    /// Whether everything the database references is at the spare.
    pub closure: Closure,
    /// The release that wrote it.
    pub software: String,
}

/// One snapshot of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSnapshot {
    /// The source: `database.builder`.
    pub source: String,
    /// The epoch's term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
    /// The snapshot's number within the epoch.
    pub seq: u64,
    /// BLAKE3 of the header object, in hexadecimal digits.
    pub blake3: String,
}

/// The closure verdict of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// `not judged` in this release.
    pub verdict: String,
}

/// What a proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Restored and found equal.
    Equal,
    /// Restored, but something differs.
    Different,
}

/// A restore of a point was proven, or found different. Signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `proof`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The point: `0-12`.
    pub point: String,
    /// BLAKE3 of the point object, in hexadecimal digits.
    pub point_blake3: String,
    /// The site that restored.
    pub site: String,
    /// The number among this site's proofs of the point, from 1.
    pub seq: u64,
    /// What came of it.
    pub verdict: Verdict,
    /// Whether every source of the point was restored; a proof of some says less.
    pub complete: bool,
    /// When the restore began, by the site's clock.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// The steps, in order.
    pub steps: Vec<ProofStep>,
    /// The release that wrote it.
    pub software: String,
}

/// One step of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStep {
    /// The step's id in the plan, with its source: `database/database.builder`.
    pub step: String,
    /// What it did, in words and counts.
    pub summary: String,
    /// How long it took.
    pub millis: u64,
    /// How many differences were found. Which ones stands in the report at the site: a proof is clear.
    pub differences: u64,
}
