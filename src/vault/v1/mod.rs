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

impl VaultRecord {
    /// Its bytes as they are stored: one line.
    ///
    /// # Errors
    /// When JSON cannot hold it, which no value of this type is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
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

/// `sealed.json`: nothing is added to the epoch any more. Signed by the site whose keeper sealed it.
///
/// A header with a number above the last one counted here is ignored by every reader, and alarmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `sealed`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
    /// The site whose keeper sealed it.
    pub writer: String,
    /// When, by the keeper's clock; what counts is when the store says the object was made.
    pub sealed_at: jiff::Timestamp,
    /// The last header of the epoch; absent when it has none.
    pub last: Option<Link>,
    /// The release that wrote it.
    pub software: String,
}

/// `status/<site>.json`: what a site says of itself, now. The only key that is overwritten. Signed, its number only rises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `status`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The site.
    pub site: String,
    /// From 1, one more with every writing.
    pub seq: u64,
    /// When it was written, by the site's clock.
    pub written_at: jiff::Timestamp,
    /// The newest point this site has proven equal: `0-12`.
    pub newest_proven: Option<String>,
    /// Epochs of which something is missing or damaged: their writer opens a new one.
    pub damaged_epochs: Vec<DamagedEpoch>,
    /// The last `check` of this site.
    pub check: Option<CheckVerdict>,
    /// The last `verify` of this site.
    pub scrub: Option<ScrubVerdict>,
    /// The last `vault probe` of this site.
    pub probe: Option<ProbeVerdict>,
    /// What the last `verify` of each of its buckets found; absent before the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<BucketVerdict>,
    /// How the jobs of its schedule stand; absent where no daemon runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobStatus>,
    /// The release that wrote it.
    pub software: String,
}

/// How a job of a site stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name in the schedule.
    pub name: String,
    /// What it does: `capture`, `rehearse`.
    pub kind: String,
    /// Whether it runs in the role the site has.
    pub runs_here: bool,
    /// Since when it is under way.
    pub running_since: Option<jiff::Timestamp>,
    /// What its newest run came to: `done`, `incomplete`, `failed`, `refused`, `timed-out`, `lost`.
    pub verdict: Option<String>,
    /// When that ended.
    pub ended_at: Option<jiff::Timestamp>,
    /// The end of the newest run that did what it should.
    pub done_at: Option<jiff::Timestamp>,
    /// Runs in a row that did not.
    pub failures: u32,
    /// How many of them are no alarm.
    #[serde(default, skip_serializing_if = "is_none_allowed")]
    pub failures_allowed: u32,
    /// When it runs next.
    pub next_at: Option<jiff::Timestamp>,
    /// Since when a run is due that has not begun, once that is too long.
    pub late_since: Option<jiff::Timestamp>,
    /// Who does not want it to run, for now.
    pub pause: Option<PausedJob>,
}

fn is_none_allowed(failures: &u32) -> bool {
    *failures == 0
}

/// Somebody does not want a job to run for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedJob {
    /// It ends by itself.
    pub until: jiff::Timestamp,
    /// Who.
    pub operator: String,
    /// Why.
    pub why: String,
}

/// An epoch whose packs or secrets are not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedEpoch {
    /// The term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
    /// What was found, naming the object.
    pub why: String,
}

/// What a `check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckVerdict {
    /// When, by the site's clock.
    pub at: jiff::Timestamp,
    /// Whether a capture (at the live site) or a restore (at the spare) would work.
    pub ready: bool,
    /// How many findings stand against it.
    pub failures: u64,
    /// How many deserve a look.
    pub warnings: u64,
}

/// What a `verify` read and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubVerdict {
    /// When it ended, by the site's clock.
    pub at: jiff::Timestamp,
    /// Points whose objects were looked for.
    pub points: u64,
    /// Packs whose existence and size were checked.
    pub packs: u64,
    /// Packs whose ciphertext was read and hashed.
    pub hashed_packs: u64,
    /// Bytes of them.
    pub hashed_bytes: u64,
    /// Streams that were decrypted whole.
    pub streams: u64,
    /// Objects found missing or damaged.
    pub damaged: u64,
}

/// What a `verify` of one bucket read and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketVerdict {
    /// The bucket: `bucket.artifacts`.
    pub source: String,
    /// When it ended, by the site's clock.
    pub at: jiff::Timestamp,
    /// Objects that were looked for.
    pub objects: u64,
    /// Objects whose content was read and hashed.
    pub reread: u64,
    /// Bytes of them.
    pub reread_bytes: u64,
    /// Objects that are not as the recovery point says.
    pub faults: u64,
    /// Which of them, at most a thousand, so that the live site can mend them: 32 hexadecimal digits each, of the BLAKE3 of
    /// the BLAKE3 of its content and its key.
    pub suspects: Vec<String>,
}

/// What a `vault probe` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeVerdict {
    /// When, by the site's clock.
    pub at: jiff::Timestamp,
    /// What keeps written objects from being changed, in one word: `create-only`, `versions`, `lock`, `nothing`.
    pub protection: String,
}

/// Asks the keeper to keep a point whatever the rules say, or takes that back. Signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `hold`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The point: `0-12`.
    pub point: String,
    /// The number among the point's holds, from 1; the last one counts.
    pub seq: u64,
    /// The site that asked.
    pub writer: String,
    /// Whether the point is held from here on.
    pub held: bool,
    /// Why.
    pub why: String,
    /// When, by the site's clock.
    pub at: jiff::Timestamp,
    /// The release that wrote it.
    pub software: String,
}

/// `gc/<pass>.json`: what a pass of the keeper deletes. Signed, and written before the first delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Always `gc`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The number of the pass, from 1; one may be missing where another system of the vault used it.
    pub pass: u64,
    /// The site whose keeper it is.
    pub writer: String,
    /// When, by the keeper's clock.
    pub planned_at: jiff::Timestamp,
    /// The points that go, with their proofs and holds.
    pub points: Vec<RemovedPoint>,
    /// The headers that go, each with its body.
    pub headers: Vec<PointSnapshot>,
    /// The packs that go.
    pub packs: Vec<RemovedPacks>,
    /// Epochs of which nothing is left, so that their records and secrets go too.
    pub epochs: Vec<RemovedEpoch>,
    /// Keys of what nobody names: bodies without a header, and what an earlier pass that was killed left of what it
    /// names.
    pub leftovers: Vec<String>,
    /// The release that wrote it.
    pub software: String,
}

/// A point that a pass removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedPoint {
    /// The term.
    pub term: u64,
    /// The number within the term.
    pub seq: u64,
    /// BLAKE3 of the point object, in hexadecimal digits: what the point after it links to.
    pub blake3: String,
    /// BLAKE3 of the headers it named, in hexadecimal digits: they go once their epoch is sealed.
    pub headers: Vec<String>,
}

/// The packs of one epoch that a pass removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedPacks {
    /// The term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
    /// Their names.
    pub packs: Vec<String>,
}

/// An epoch that a pass removes whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedEpoch {
    /// The term.
    pub term: u64,
    /// The epoch within the term.
    pub epoch: u64,
}
