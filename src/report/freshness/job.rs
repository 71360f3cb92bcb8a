//! Jobs: what failed, what did not run, and what somebody has paused. A job that did not run is as loud as one that failed.

use super::{Facts, Grade, Line, Subject, age, line, span};
use crate::jobs::{RunVerdict, Standing};

pub(super) fn look(facts: &Facts, site: &str, jobs: &[Standing], lines: &mut Vec<Line>) {
    for job in jobs.iter().filter(|job| job.runs_here) {
        let (key, whose) = match site == facts.site {
            true => (format!("job.{}", job.name), format!("job {}", job.name)),
            false => (format!("site.{site}.job.{}", job.name), format!("job {} of {site}", job.name)),
        };
        of_job(facts, site, &key, &whose, job, lines);
    }
}

fn of_job(facts: &Facts, site: &str, key: &str, whose: &str, job: &Standing, lines: &mut Vec<Line>) {
    let subject = || Subject::job(site, &job.name);
    let attention =
        |end: &str, what: String, next: String| line(format!("{key}.{end}"), subject(), Grade::Attention, what, next);
    if let Some(pause) = job.pause.as_ref().filter(|pause| facts.at < pause.until) {
        let what = format!("{whose} is PAUSED until {} by {}: {}", pause.until, pause.operator, pause.why);
        let next = format!("When it may run again, let it at {site}, with `jobs resume {}`.", job.name);
        lines.push(attention("paused", what, next));
    }
    if job.failures > 0
        && let Some(last) = &job.last
    {
        let times = if job.failures > 1 { format!(", {} times in a row", job.failures) } else { String::new() };
        let (grade, allowed) = match job.is_forgiven() {
            true => (Grade::Notice, format!(" ({} allowed in a row before it is an alarm)", job.failures_allowed)),
            false => (Grade::Attention, String::new()),
        };
        // The other site tells its verdicts, and not what its runs said.
        let said = if last.what.is_empty() { String::new() } else { format!(": {}", last.what) };
        let what = format!("{whose} {}{times}{allowed}{said}", words(last.verdict));
        let next = format!("Mend what it says, then run it at {site}, with `jobs run {}`.", job.name);
        lines.push(line(format!("{key}.failed"), subject(), grade, what, next));
    }
    if let Some(since) = job.late_since {
        let ran = match &job.last {
            None => "it NEVER ran".to_owned(),
            Some(last) => format!("it ran last {} ago", span(age(facts.at, last.ended_at).as_secs())),
        };
        let why = job.waits_for.as_ref().map(|why| format!(", and waits: {why}")).unwrap_or_default();
        let late = span(age(facts.at, since).as_secs());
        let what = format!("{whose} was to run {late} ago and did not; {ran}{why}");
        let next = format!("See at {site} whether its daemon runs, and what holds the job up.");
        lines.push(attention("late", what, next));
    }
}

fn words(verdict: RunVerdict) -> &'static str {
    match verdict {
        RunVerdict::Done => "is done",
        RunVerdict::Incomplete => "came to an end that is incomplete",
        RunVerdict::Failed => "FAILED",
        RunVerdict::Refused => "was REFUSED",
        RunVerdict::TimedOut => "took too long and was ended",
        RunVerdict::Lost => "was under way when its process died",
    }
}
