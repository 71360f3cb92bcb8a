//! The jobs of a schedule as written, in the profile and over it in the configuration, become a [`Schedule`].

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place};
use super::profile::Profile;
use super::source_name::is_plain_name;
use crate::schedule::{Job, Kind, Schedule, ScheduleError, delay};
use crate::units::Span;

/// How often a job is tried again, and how long after the first failure, unless it says otherwise.
const RETRIES: u32 = 3;
const RETRY_AFTER: Span = Span(Duration::from_secs(60));
/// A job that may fail more often than this in a row would be broken for ever, and nobody would hear of it.
const FAILURES_ALLOWED_MAX: u32 = 100;
/// How long a run that is due may wait for others.
const LATE_AFTER: Span = Span(Duration::from_secs(3600));

/// Jobs that make no schedule.
#[derive(Debug)]
pub(super) struct JobsError {
    /// Of which one it is the fault; of several together when absent.
    pub(super) job: Option<String>,
    pub(super) what: String,
    pub(super) next: String,
}

impl From<ScheduleError> for JobsError {
    fn from(error: ScheduleError) -> Self {
        JobsError { job: None, what: error.to_string(), next: error.next_step() }
    }
}

/// The schedule of a system: the profile's jobs, with what the configuration says of each laid over it key by key.
pub(super) fn schedule(
    place: &Place,
    system: &str,
    profile: &Profile,
    written: &BTreeMap<Spanned<String>, raw::Job>,
) -> Result<Schedule, ConfigError> {
    let mut jobs = profile.jobs.clone();
    for (name, over) in written {
        let job = jobs.remove(name.get_ref()).unwrap_or_default();
        jobs.insert(name.get_ref().clone(), over.clone().over(job));
    }
    jobs_of(system, &jobs).map_err(|error| {
        let is_it = |name: &&Spanned<String>| error.job.as_ref().is_none_or(|job| job == name.get_ref());
        let at = written.keys().find(is_it).map(|name| name.span().start);
        place.error(at, error.what, &error.next)
    })
}

/// The schedule of these jobs.
pub(super) fn jobs_of(system: &str, written: &BTreeMap<String, raw::Job>) -> Result<Schedule, JobsError> {
    let mut jobs = BTreeMap::new();
    for (name, raw) in written.iter().filter(|(_, raw)| raw.enabled != Some(false)) {
        let job = job(system, name, raw);
        let wrong = |(what, next): (String, &str)| JobsError {
            job: Some(name.clone()),
            what: format!("job {name}: {what}"),
            next: next.to_owned(),
        };
        jobs.insert(name.clone(), job.map_err(wrong)?);
    }
    Ok(Schedule::new(jobs)?)
}

fn job(system: &str, name: &str, raw: &raw::Job) -> Result<Job, (String, &'static str)> {
    let known = "schedules/README.md shows how each key is written.";
    if !is_plain_name(name) {
        return Err(("that cannot be the name of a job".to_owned(), "Use lower-case letters, digits, `-` and `_`."));
    }
    let kind: Kind = match &raw.kind {
        Some(kind) => kind.parse().map_err(|what| (what, known))?,
        None => name.parse().map_err(|_| ("it has no `kind`".to_owned(), "Say what it does: kind = \"capture\"."))?,
    };
    let span = |key: &str, text: Option<&String>, default: Span| match text {
        Some(text) => parsed::<Span>(key, text).map_err(|what| (what, "Write it like \"15m\".")),
        None => Ok(default),
    };
    let at = raw.at.as_ref().map(|line| parsed("at", line)).transpose();
    let zone = raw.zone.as_deref().unwrap_or("UTC");
    let unknown = |error: jiff::Error| (format!("`zone` is `{zone}`: {error}"), "Write it like \"Europe/Berlin\".");
    let on = raw.on.as_ref().map(|on| parsed("on", on)).transpose().map_err(|what| (what, known))?;
    let jitter = span("jitter", raw.jitter.as_ref(), Span::default())?;
    let timeout = span("timeout", raw.timeout.as_ref(), timeout_of(kind))?;
    if timeout.0.is_zero() {
        return Err((
            "`timeout` is 0: it would never come to an end".to_owned(),
            "Write how long it may take, like \"6h\".",
        ));
    }
    let failures_allowed = raw.failures_allowed.unwrap_or(0);
    if failures_allowed > FAILURES_ALLOWED_MAX {
        return Err((
            format!("`failures_allowed` is {failures_allowed}: nobody would hear that it fails"),
            "Write how many runs in a row may fail before that is an alarm, 100 at most.",
        ));
    }
    Ok(Job {
        name: name.to_owned(),
        kind,
        at: at
            .map_err(|what| (what, "Write minute, hour, day of the month, month, day of the week: \"17 * * * *\"."))?,
        zone: TimeZone::get(zone).map_err(unknown)?,
        on: on.or(kind.only_on()).unwrap_or(crate::schedule::On::Both),
        after: raw.after.clone().unwrap_or_default(),
        delay: delay(system, name, jitter.0),
        timeout: timeout.0,
        retries: raw.retries.unwrap_or(RETRIES),
        retry_after: span("retry_after", raw.retry_after.as_ref(), RETRY_AFTER)?.0,
        failures_allowed,
        late_after: span("late_after", raw.late_after.as_ref(), LATE_AFTER)?.0,
        arguments: raw.arguments.clone().unwrap_or_default(),
    })
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("`{key}`: {error}"))
}

/// How long a job may take that does not say.
fn timeout_of(kind: Kind) -> Span {
    let hours = |hours: u64| Span(Duration::from_secs(hours * 3600));
    match kind {
        Kind::Capture | Kind::Mirror => hours(6),
        Kind::Rehearse | Kind::Verify => hours(12),
        Kind::Prune => hours(2),
        Kind::Check | Kind::Report => Span(Duration::from_secs(600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::On;

    fn jobs(text: &str) -> Result<Schedule, String> {
        let written = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        jobs_of("app", &written).map_err(|error| error.what)
    }

    #[test]
    fn a_job_says_little_and_has_the_rest_by_what_it_does() {
        let schedule = jobs(
            "[capture]\nat = \"@hourly\"\n[nightly]\nkind = \"verify\"\nat = \"0 3 * * *\"\nzone = \"Europe/Berlin\"\n\
                             after = [\"capture\"]\non = \"live\"\njitter = \"30m\"\nfailures_allowed = 2\n",
        );
        let schedule = schedule.unwrap();
        let names: Vec<&str> = schedule.jobs().iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["capture", "nightly"]);
        let (capture, nightly) = (schedule.job("capture").unwrap(), schedule.job("nightly").unwrap());
        assert_eq!((capture.kind, capture.on, capture.retries), (Kind::Capture, On::Live, 3));
        assert_eq!((nightly.kind, nightly.on), (Kind::Verify, On::Live));
        assert_eq!((capture.failures_allowed, nightly.failures_allowed), (0, 2));
        assert!(nightly.delay < Duration::from_secs(1800));
        assert_ne!(
            delay("app", "nightly", Duration::from_secs(1 << 40)),
            delay("app", "other", Duration::from_secs(1 << 40))
        );
        assert!(jobs("[capture]\nat = \"@hourly\"\nenabled = false\n").unwrap().jobs().is_empty());
    }

    #[test]
    fn what_cannot_run_is_refused_and_says_why() {
        let refused = |text: &str, why: &str| {
            let error = jobs(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        };
        refused(
            "[capture]\nat = \"0 0 30 2 *\"\n",
            "job capture: `at`: `0 0 30 2 *` is no calendar line: no month has such a day",
        );
        refused(
            "[capture]\nat = \"@daily\"\nzone = \"Europe/Berln\"\n",
            "`zone` is `Europe/Berln`: failed to find time zone",
        );
        refused("[capture]\nat = \"@daily\"\n[capture]\nat = \"@hourly\"\n", "duplicate key");
        refused("[capture]\nat = \"@daily\"\nafter = [\"capture\"]\n", "these jobs wait for each other: capture");
        refused("[verify]\nafter = [\"check\"]\n[check]\nafter = [\"verify\"]\n", "wait for each other: check, verify");
        refused(
            "[verify]\nafter = [\"chek\"]\n",
            "job verify comes after chek, which is no job, or none that is enabled",
        );
        refused("[capture]\n", "job capture has neither `at` nor `after`");
        refused("[capture]\nat = \"@daily\"\non = \"spare\"\n", "capture runs on live alone");
        refused("[capture]\nat = \"@daily\"\n[rehearse]\nafter = [\"capture\"]\n", "never runs at the same site");
        refused(
            "[capture]\nat = \"@daily\"\n[report]\nafter = [\"capture\"]\n",
            "job report is on both and has no `at`, but none of the jobs it comes after (capture) runs at the spare",
        );
        refused(
            "[rehearse]\nat = \"@daily\"\n[check]\nafter = [\"rehearse\"]\non = \"both\"\n",
            "but none of the jobs it comes after (rehearse) runs at the live site",
        );
        let runs = [
            "after = [\"capture\"]\non = \"live\"",
            "after = [\"capture\", \"rehearse\"]",
            "at = \"@daily\"\nafter = [\"capture\"]",
        ];
        for report in runs {
            jobs(&format!("[capture]\nat = \"@daily\"\n[rehearse]\nat = \"@daily\"\n[report]\n{report}\n")).unwrap();
        }
        refused("[nightly]\nat = \"@daily\"\n", "job nightly: it has no `kind`");
        refused("[nightly]\nkind = \"reherse\"\nat = \"@daily\"\n", "`reherse` is no kind of job");
        refused("[\"../x\"]\nkind = \"check\"\nat = \"@daily\"\n", "cannot be the name of a job");
        refused("[check]\nat = \"@daily\"\ntimeout = \"0s\"\n", "would never come to an end");
        refused(
            "[check]\nat = \"@daily\"\nfailures_allowed = 101\n",
            "job check: `failures_allowed` is 101: nobody would",
        );
        refused("[check]\nat = \"@daily\"\nfailures_allowed = -1\n", "invalid value: integer `-1`");
        refused("[check]\nat = \"@daily\"\nretry = 3\n", "unknown field `retry`");
    }
}
