//! The sources of a point one by one: each captured into one sealed snapshot.

use serde::Serialize;
use serde_json::json;

use super::mend::{lost, mended};
use super::take::Run;
use crate::capture::database::{self, DatabaseOptions};
use crate::capture::export;
use crate::config::address::{DatabaseAddress, ExportAddress};
use crate::config::{CaptureConfig, SourceName};
use crate::error::Error;
use crate::mirror;
use crate::store::{Bucket, ReadOnly};
use crate::stream::{Attributes, Sink, SinkStream, StreamKind, StreamName};
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
}

/// What could not be mirrored, object by object. What the last pass could copy the other site has; whose turn it was to be
/// looked at in the first is not looked at again in the last.
fn lacks(bulk: &mirror::Pass, pass: &mirror::Pass) -> Vec<String> {
    let failed = pass.failed.first.iter().map(|object| format!("{:?}: {}", object.key, object.why));
    let skipped = pass.skipped.first.iter().map(|object| format!("{:?}: {}", object.name, object.why));
    let unsettled = bulk.unsettled.first.iter().chain(&pass.unsettled.first);
    let unsettled = unsettled.map(|object| {
        format!("{:?}: its content is mirrored, its headers and tags are not looked after: {}", object.key, object.why)
    });
    failed.chain(skipped).chain(unsettled).collect()
}

/// What both passes of a point did, in words.
fn mirrored(bulk: &mirror::Pass, delta: &mirror::Pass) -> String {
    let sum = |of: fn(&mirror::Pass) -> u64| of(bulk) + of(delta);
    let (copied, sent, saved) = (sum(|pass| pass.copied), sum(|pass| pass.sent_bytes), sum(|pass| pass.saved_bytes));
    let mut text = format!("{} objects, {copied} copied ({} sent", delta.rows, crate::units::Bytes(sent));
    if saved > 0 {
        text += &format!(", {} the other site had", crate::units::Bytes(saved));
    }
    text.push(')');
    let adjusted = sum(|pass| pass.adjusted);
    if adjusted > 0 {
        text += &format!(", headers or tags of {adjusted} changed");
    }
    let refused = sum(|pass| pass.not_duplicated.total);
    if refused > 0 {
        text += &format!(", {refused} sent because the other site's store would not copy them");
    }
    text
}

/// What the first pass of a point did, and what went before it.
pub(super) struct Bulk {
    begun: std::time::Instant,
    fates: mirror::Fates,
    pass: mirror::Pass,
}

/// A source captured and sealed, its header still to be committed.
pub(super) struct SealedSource {
    pub sealed: SealedSnapshot,
    pub captured_at: jiff::Timestamp,
    pub summary: SourceSummary,
}

impl SealedSource {
    fn new(
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
        };
        SealedSource { sealed, captured_at, summary }
    }
}

impl Run<'_> {
    pub(super) async fn database(&self, source: &SourceName, address: &DatabaseAddress) -> Result<SealedSource, Error> {
        let begun = std::time::Instant::now();
        let password = self.here.resolve(&format!("databases.{}.password", address.name), address.password.as_ref())?;
        let CaptureConfig { workers, xmin_age_max, .. } = self.here.config.capture;
        let options = DatabaseOptions { workers, xmin_age_max, ..DatabaseOptions::default() };
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

    /// The first pass of a point, most of the bytes; before it, what the other site found wrong is mended.
    pub(super) async fn bulk(&self, source: &SourceName) -> Result<Bulk, Error> {
        let begun = std::time::Instant::now();
        let fates = self.mend(source).await?;
        let pass = self.mirror(source).await?;
        Ok(Bulk { begun, fates, pass })
    }

    /// Brings the other site's bucket up to this one's.
    async fn mirror(&self, source: &SourceName) -> Result<mirror::Pass, Error> {
        let (from, to) = self.buckets(source)?;
        let state = self.manifest_folder(source);
        let options = mirror::PassOptions::default();
        Ok(mirror::pass(&from, &to, &state, &options, &*self.clock, self.progress).await?)
    }

    /// The last pass of a point, and the manifest it leaves as a snapshot.
    pub(super) async fn manifest(
        &self,
        source: &SourceName,
        Bulk { begun, fates, pass: bulk }: &Bulk,
    ) -> Result<SealedSource, Error> {
        let delta = self.mirror(source).await?;
        let captured_at = self.clock.now();
        let sink = self.writer.begin(source);
        let mut stream = sink.open(StreamName::new(StreamKind::Manifest, &source.name)).await?;
        for block in mirror::published_lines(&mirror::manifest_path(&self.manifest_folder(source)))? {
            stream.write(block?).await?;
        }
        stream.finish(Attributes::new()).await?;
        let facts = json!({
            "objects": delta.rows,
            "object_bytes": delta.bytes,
            "copied": bulk.copied + delta.copied,
            "copied_bytes": bulk.copied_bytes + delta.copied_bytes,
            "duplicated": bulk.duplicated + delta.duplicated,
            "sent_bytes": bulk.sent_bytes + delta.sent_bytes,
            "saved_bytes": bulk.saved_bytes + delta.saved_bytes,
            "adjusted": bulk.adjusted + delta.adjusted,
            "adjusted_unseen": bulk.adjusted_unseen + delta.adjusted_unseen,
            "audited": bulk.audited + delta.audited,
            "unsettled": bulk.unsettled.total + delta.unsettled.total,
            "mended": mended(fates),
            "gone": bulk.gone + delta.gone,
            "skipped": delta.skipped.total,
            "failed": delta.failed.total,
        });
        let mut summary = mirrored(bulk, &delta);
        if mended(fates) > 0 {
            summary += &format!(", {} mended that the other site had lost", mended(fates));
        }
        let sealed = sink.seal(captured_at, facts).await?;
        let mut sealed = SealedSource::new(source, sealed, captured_at, *begun, summary);
        sealed.summary.lacks = lost(fates).chain(lacks(bulk, &delta)).collect();
        Ok(sealed)
    }

    pub(super) fn manifest_folder(&self, source: &SourceName) -> std::path::PathBuf {
        self.here.site.state.join("mirror").join(&source.name)
    }

    /// This site's bucket and the other site's, both reached from here.
    pub(super) fn buckets(&self, source: &SourceName) -> Result<(ReadOnly, Bucket), Error> {
        let open = |site: &crate::config::Site| -> Result<Bucket, Error> {
            let address = site.buckets.get(&source.name).ok_or_else(|| self.no_address(source))?;
            let key = format!("sites.{}.buckets.{}.credentials", site.name, source.name);
            let credentials = self.here.resolve(&key, address.credentials.as_ref())?;
            Ok(Bucket::open(address, credentials)?)
        };
        Ok((ReadOnly::new(open(&self.here.site)?), open(&self.here.other)?))
    }
}
