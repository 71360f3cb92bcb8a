//! The sources of a point one by one: each captured into one sealed snapshot.

use serde::Serialize;
use serde_json::json;

use super::take::Run;
use crate::capture::database::{self, DatabaseOptions};
use crate::capture::export;
use crate::config::address::{DatabaseAddress, ExportAddress};
use crate::config::{CaptureConfig, SourceName};
use crate::error::Error;
use crate::mirror::direction::Rescued;
use crate::vault::SealedSnapshot;

/// What a recovery point came to.
#[derive(Clone, Debug, Serialize)]
pub struct PointSummary {
    /// The system.
    pub system: String,
    /// Its id: `0-12`.
    pub point: String,
    /// The instant it stands for.
    pub captured_at: jiff::Timestamp,
    /// How long the run took.
    pub millis: u64,
    /// The closure verdict.
    pub closure: String,
    /// Its sources.
    pub sources: Vec<SourceSummary>,
}

/// What became of one source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceSummary {
    /// The source.
    pub source: String,
    /// The length of its streams.
    pub bytes: u64,
    /// Bytes of packs that had to be written.
    pub stored_bytes: u64,
    /// How long it took.
    pub millis: u64,
    /// In words and counts.
    pub summary: String,
    /// What the other site lacks of it, in words; empty when it lacks nothing.
    pub lacks: Vec<String>,
    /// What it has of it as the live site has it, and is not what its name says: damaged there, or written under a wrong name.
    pub misnamed: Vec<String>,
    /// What only the other site had when the roles were swapped.
    pub rescued: Vec<Rescued>,
}

/// A source captured and sealed, its header still to be committed.
pub(super) struct SealedSource {
    pub sealed: SealedSnapshot,
    pub captured_at: jiff::Timestamp,
    pub summary: SourceSummary,
}

impl SealedSource {
    pub(super) fn new(
        source: &SourceName,
        sealed: SealedSnapshot,
        captured_at: jiff::Timestamp,
        begun: std::time::Instant,
        summary: String,
    ) -> Self {
        let summary = SourceSummary {
            source: source.to_string(),
            bytes: sealed.bytes(),
            stored_bytes: sealed.stored_bytes(),
            millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            summary,
            lacks: Vec::new(),
            misnamed: Vec::new(),
            rescued: Vec::new(),
        };
        SealedSource { sealed, captured_at, summary }
    }
}

impl Run<'_> {
    pub(super) async fn database(&self, source: &SourceName, address: &DatabaseAddress) -> Result<SealedSource, Error> {
        let begun = std::time::Instant::now();
        let password = self.here.resolve(&format!("databases.{}.password", address.name), address.password.as_ref())?;
        let CaptureConfig { workers, xmin_age_max, .. } = self.here.config.capture;
        let term = Some(self.here.term);
        let options = DatabaseOptions { workers, xmin_age_max, term, ..DatabaseOptions::default() };
        let sinks = |_attempt: u32| async { Ok(self.writer.begin(source)) };
        let captured = database::capture(address, password, sinks, &options, &*self.clock, self.progress).await?;
        let facts = captured.facts;
        let mut summary = format!("{} rows in {} tables", facts.rows, facts.tables);
        if facts.without_passwords {
            summary += ", but NO passwords of roles: ours may not read them";
        }
        if !facts.scratch_schemas.is_empty() {
            summary += &format!(", without the scratch schema {}", facts.scratch_schemas.join(", "));
        }
        let captured_at = facts.captured_at;
        let sealed = captured.sink.seal(captured_at, json!(facts)).await?;
        Ok(SealedSource::new(source, sealed, captured_at, begun, summary))
    }

    /// Captures an export; its digest comes back so that it can be looked at again after the database.
    pub(super) async fn export(
        &self,
        source: &SourceName,
        address: &ExportAddress,
    ) -> Result<(SealedSource, blake3::Hash), Error> {
        let begun = std::time::Instant::now();
        let captured_at = self.clock.now();
        let sink = self.writer.begin(source);
        let facts = export::capture(address, &sink, &*self.clock, self.progress).await?;
        let summary = format!("{} files, {} commands", facts.files, facts.commands);
        // Counts only: the header is clear, and a digest of secrets would confirm a guess of them.
        let counts = json!({
            "files": facts.files,
            "folders": facts.folders,
            "bytes": facts.bytes,
            "commands": facts.commands,
            "left_out": facts.remarks.len(),
        });
        let sealed = sink.seal(captured_at, counts).await?;
        Ok((SealedSource::new(source, sealed, captured_at, begun, summary), facts.digest))
    }
}
