//! How the jobs of a site stand, as it told the other one in its status record: without what their runs said.

use crate::jobs::{Pause, Run, RunVerdict, Standing};
use crate::vault::v1::{JobStatus, StatusRecord};

/// The jobs of a record; nothing, where no daemon runs them.
pub(super) fn standings(record: &StatusRecord) -> Option<Vec<Standing>> {
    (!record.jobs.is_empty()).then(|| record.jobs.iter().map(|job| standing(job, record.written_at)).collect())
}

fn standing(job: &JobStatus, told_at: jiff::Timestamp) -> Standing {
    // A verdict that a later release knows is none of ours.
    let ended = job.ended_at.zip(job.verdict.as_deref().and_then(RunVerdict::parse));
    let last = ended.map(|(ended_at, verdict)| Run {
        due_at: None,
        started_at: ended_at,
        ended_at,
        verdict,
        what: String::new(),
        point: None,
    });
    let pause = job.pause.as_ref().map(|pause| Pause {
        since: told_at,
        until: pause.until,
        operator: pause.operator.clone(),
        why: pause.why.clone(),
    });
    Standing {
        name: job.name.clone(),
        kind: job.kind.clone(),
        runs_here: job.runs_here,
        running_since: job.running_since,
        last,
        done_at: job.done_at,
        failures: job.failures,
        failures_allowed: job.failures_allowed,
        next_at: job.next_at,
        late_since: job.late_since,
        pause,
        waits_for: None,
    }
}
