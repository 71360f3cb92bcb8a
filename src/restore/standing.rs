//! Whether what a restore put here is still what stands here.

use super::journal::Phase;
use super::kept::kept;
use super::latest::begun_last;
use super::report::RestoreReport;
use super::request::RestoreRequest;
use super::steps::database::Part;
use crate::config::{Here, SourceKind};
use crate::error::Error;
use crate::vault::layout::PointId;
use crate::vault::v1::Verdict;

/// Whether the whole of `point` was restored here last and found equal, nothing was begun since, and its databases are those that bear
/// the names. What somebody wrote into them, or changed in a bucket, is not looked for.
///
/// # Errors
/// When the journal cannot be read, or a server cannot be asked.
pub async fn stands(here: &Here, point: PointId) -> Result<bool, Error> {
    let Some((_, journal)) = begun_last(here)? else { return Ok(false) };
    // An undo has a journal of the same form, with other values.
    let value = |phase: Phase| {
        let found = journal.entries().iter().rfind(|entry| entry.step.is_empty() && entry.phase == phase);
        found.map(|entry| entry.value.clone())
    };
    let request: Option<RestoreRequest> = value(Phase::Begun).and_then(|value| serde_json::from_value(value).ok());
    let report: Option<RestoreReport> = value(Phase::Finished).and_then(|value| serde_json::from_value(value).ok());
    let (Some(request), Some(report)) = (request, report) else { return Ok(false) };
    let is_whole = report.complete && report.verdict == Verdict::Equal;
    if request.into.is_some() || !is_whole || report.point != point.to_string() {
        return Ok(false);
    }
    let kept = kept(here).await?;
    let kind = format!("{}.", SourceKind::Database.as_str());
    let sources = report.steps.iter().filter_map(|step| step.step.split_once('/'));
    let mut databases = sources.map(|(_, source)| source).filter(|source| source.starts_with(&kind));
    Ok(databases.all(|source| {
        kept.iter().any(|one| {
            one.source == source && one.part == Part::InPlace && one.point.as_deref() == Some(report.point.as_str())
        })
    }))
}
