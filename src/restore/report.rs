//! What a restore came to: for the operator who waits, for the next one who asks, and for the proof.

use serde::{Deserialize, Serialize};

use super::plan::{PlannedStep, StepKind};
use super::steps::database::Dropped;
use crate::vault::v1::{ProofStep, Verdict};

/// The report of one restore, written as `report.json` beside its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The system.
    pub system: String,
    /// The point: `0-12`.
    pub point: String,
    /// The instant the point stands for.
    pub captured_at: jiff::Timestamp,
    /// The site that restored.
    pub site: String,
    /// When the restore began.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// Whether a killed run was continued.
    pub resumed: bool,
    /// Whether every source of the point was restored.
    pub complete: bool,
    /// What came of it.
    pub verdict: Verdict,
    /// How many differences a person accepted beforehand: all there are, or none.
    #[serde(default)]
    pub accepted: u64,
    /// The steps, in the plan's order.
    pub steps: Vec<StepReport>,
    /// The proof's key number at this site; absent when it went into a scratch place.
    pub proof: Option<u64>,
    /// The folder with the journal, this report, and the files that were replaced.
    pub folder: std::path::PathBuf,
}

/// One step of a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step and its source: `database/database.builder`.
    pub step: String,
    /// Whether it was restored at all: files are not touched when what comes before them is different.
    pub restored: bool,
    /// What was loaded, in words and counts.
    pub loaded: String,
    /// How long that took.
    pub load_millis: u64,
    /// What was compared, in words and counts.
    pub compared: String,
    /// How long that took.
    pub prove_millis: u64,
    /// What differs; empty when equal.
    pub differences: Vec<String>,
    /// How many differences there are; the list may be shorter.
    pub differences_total: u64,
    /// What the server refused to a role that is no superuser: the only things that are not as they were captured, or did not
    /// come back, though nothing differs.
    #[serde(default)]
    pub refused: Vec<String>,
    /// What took whose place, where something did.
    pub swapped: Option<String>,
    /// What was kept of what stood there before.
    pub kept: Vec<String>,
    /// The databases of earlier restores that were dropped, or would have been.
    pub dropped: Vec<Dropped>,
}

impl StepReport {
    /// The report of a step that nothing was done for yet.
    pub fn begin(step: &PlannedStep) -> Self {
        StepReport {
            step: step.to_string(),
            restored: false,
            loaded: "nothing: what is restored before it is different".to_owned(),
            load_millis: 0,
            compared: "nothing".to_owned(),
            prove_millis: 0,
            differences: Vec::new(),
            differences_total: 0,
            refused: Vec::new(),
            swapped: None,
            kept: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The step as the proof records it.
    pub fn to_proof(&self) -> ProofStep {
        let mut summary = format!("{}; {}", self.loaded, self.compared);
        if !self.refused.is_empty() {
            summary += &format!("; REFUSED by the server: {}", self.refused.join("; "));
        }
        ProofStep {
            step: self.step.clone(),
            summary,
            millis: self.load_millis + self.prove_millis,
            differences: self.differences_total,
        }
    }
}

impl RestoreReport {
    /// The report as a person reads it.
    pub fn to_text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Equal if self.steps.iter().any(|step| !step.refused.is_empty()) => {
                "EQUAL, but for what is REFUSED here: the server keeps it for its superuser"
            }
            Verdict::Equal => "EQUAL: what stands here is what was captured",
            Verdict::Different => "DIFFERENT: do not take this for a good restore",
        };
        let mut lines = vec![
            verdict.to_owned(),
            format!("point      {} of {}, captured {}", self.point, self.system, self.captured_at),
            format!("restored   at {}, {} to {}", self.site, self.started_at, self.finished_at),
        ];
        if self.accepted > 0 {
            lines.push(format!("accepted   by a person beforehand: the {} objects that DIFFER here", self.accepted));
        }
        for step in &self.steps {
            let seconds = |millis: u64| format!("{}.{:01} s", millis / 1000, millis % 1000 / 100);
            lines.push(step.step.clone());
            lines.push(format!("  loaded   {} in {}", step.loaded, seconds(step.load_millis)));
            lines.push(format!("  compared {} in {}", step.compared, seconds(step.prove_millis)));
            lines.extend(step.refused.iter().map(|refused| format!("  REFUSED  {refused}")));
            lines.extend(step.swapped.iter().map(|swapped| format!("  swapped  {swapped}")));
            lines.extend(step.kept.iter().map(|kept| format!("  kept     {kept}")));
            lines.extend(step.dropped.iter().map(|dropped| match &dropped.failed {
                None => format!("  dropped  database {}, of an earlier restore", dropped.database),
                Some(why) => format!("  NOT DROPPED, tried again next time: database {}: {why}", dropped.database),
            }));
            lines.extend(step.differences.iter().map(|difference| format!("  DIFFERS  {difference}")));
            let untold = step.differences_total.saturating_sub(step.differences.len() as u64);
            if untold > 0 {
                lines.push(format!("  DIFFERS  and {untold} more"));
            }
        }
        lines.push(format!("folder     {}", self.folder.display()));
        lines.join("\n") + "\n"
    }
}

/// What the steps come to.
pub(super) fn verdict_of(reports: &[StepReport]) -> Verdict {
    match reports.iter().all(|step| step.differences_total == 0) {
        true => Verdict::Equal,
        false => Verdict::Different,
    }
}

/// How many differences are accepted where `limit` may be: all there are, or none. Only those of buckets, whose objects lie where they
/// are whatever is restored: a database or a file that is not as it was captured is never put in place.
pub(super) fn accepted(steps: &[PlannedStep], reports: &[StepReport], limit: u64) -> u64 {
    let of = |is_bucket: bool| {
        let these =
            steps.iter().zip(reports).filter(move |(step, _)| (step.kind == StepKind::BucketCheck) == is_bucket);
        these.map(|(_, report)| report.differences_total).sum::<u64>()
    };
    if of(false) == 0 && of(true) <= limit { of(true) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceKind, SourceName};

    #[test]
    fn lost_objects_can_be_accepted_and_never_a_row_or_a_file() {
        let kinds = [StepKind::Database, StepKind::BucketCheck, StepKind::Files, StepKind::BucketCheck];
        let source = SourceName::new(SourceKind::Bucket, "artifacts");
        let steps = kinds.map(|kind| PlannedStep { id: "step".to_owned(), kind, source: source.clone() });
        let check = |differences: [u64; 4], limit: u64, expected: u64| {
            let reports: Vec<_> = steps
                .iter()
                .zip(differences)
                .map(|(step, differences_total)| StepReport { differences_total, ..StepReport::begin(step) })
                .collect();
            assert_eq!(accepted(&steps, &reports, limit), expected, "{differences:?} of {limit}");
        };
        check([0, 2, 0, 1], 3, 3);
        check([0, 2, 0, 1], 2, 0);
        check([0, 2, 0, 1], 0, 0);
        check([0, 0, 0, 0], 9, 0);
        check([1, 2, 0, 0], 9, 0);
        check([0, 2, 1, 0], 9, 0);
    }
}
