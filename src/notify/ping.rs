//! When a ping is due: a pure function of the jobs, the alarms and what was told last.
//!
//! Whoever is pinged alarms when no ping comes. So a ping with a job follows the runs of that job, and one without says at intervals that
//! this site lives and looks, and whether it has alarms.

use jiff::{SignedDuration, Timestamp};

use super::memory::SinkMemory;
use super::sink::Ping;
use crate::config::{SinkConfig, SinkKind, When};
use crate::jobs::{RunVerdict, Standing};
use crate::report::{Grade, Line, Subject};

/// How often a ping without a job says the same again.
const EVERY: SignedDuration = SignedDuration::from_mins(5);

/// A ping that is due, its text, and what to remember once it was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) ping: Ping,
    pub(super) text: String,
    pub(super) then: SinkMemory,
}

/// What `sink` is to be told, in this order.
pub(super) fn due(
    sink: &SinkConfig,
    jobs: Option<&[Standing]>,
    alarms: &[String],
    memory: &SinkMemory,
    now: Timestamp,
) -> Vec<Due> {
    let SinkKind::Ping { job, .. } = &sink.kind else { return Vec::new() };
    let due = match job {
        None => of_site(alarms, memory, now).into_iter().collect(),
        Some(name) => {
            let job = jobs.and_then(|jobs| jobs.iter().find(|job| job.name == *name));
            job.map(|job| of_job(job, memory)).unwrap_or_default()
        }
    };
    let wanted = |due: &Due| {
        sink.when.contains(match due.ping {
            Ping::Start => &When::Start,
            Ping::Success => &When::Success,
            Ping::Fail => &When::Fail,
        })
    };
    due.into_iter().filter(wanted).collect()
}

/// A line for each ping that follows a job which the schedule does not have: it would say nothing for ever, and nobody would know why.
pub(super) fn astray(site: &str, sinks: &[SinkConfig], jobs: Option<&[Standing]>) -> Vec<Line> {
    let Some(jobs) = jobs else { return Vec::new() };
    let is_there = |name: &String| jobs.iter().any(|job| job.name == *name);
    let line = |sink: &SinkConfig| match &sink.kind {
        SinkKind::Ping { job: Some(name), .. } if !is_there(name) => Some(Line {
            key: format!("notify.{}.no-job", sink.name),
            grade: Grade::Attention,
            what: format!("sink {} follows job {name}, which the schedule does not have", sink.name),
            next: format!("Name one of the schedule's as `job` under [notify.{}], or leave it out.", sink.name),
            subject: Subject::job(site, name),
        }),
        _ => None,
    };
    sinks.iter().filter_map(line).collect()
}

fn of_site(alarms: &[String], memory: &SinkMemory, now: Timestamp) -> Option<Due> {
    let failing = !alarms.is_empty();
    let recent = memory.ended.is_some_and(|at| now.duration_since(at).abs() < EVERY);
    if recent && failing == memory.failing {
        return None;
    }
    let (ping, text) = match failing {
        true => (Ping::Fail, alarms.join("\n")),
        false => (Ping::Success, "no alarms".to_owned()),
    };
    Some(Due { ping, text, then: SinkMemory { ended: Some(now), failing, ..memory.clone() } })
}

fn of_job(job: &Standing, memory: &SinkMemory) -> Vec<Due> {
    let mut due = Vec::new();
    let mut then = memory.clone();
    if let Some(last) = job.last.as_ref().filter(|last| then.ended != Some(last.ended_at)) {
        then.ended = Some(last.ended_at);
        let ping = if last.verdict == RunVerdict::Done { Ping::Success } else { Ping::Fail };
        // A failure that is allowed would be an alarm there; and a success it is not.
        if !job.is_forgiven() {
            due.push(Due { ping, text: last.what.clone(), then: then.clone() });
        }
    }
    if let Some(since) = job.running_since.filter(|since| then.started != Some(*since)) {
        then.started = Some(since);
        due.push(Due { ping: Ping::Start, text: format!("job {} begins", job.name), then });
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HttpSink;
    use crate::config::reference::Reference;
    use crate::report::sample::{at, job};

    fn sink(job: Option<&str>, when: &[When]) -> SinkConfig {
        let http = HttpSink { url: Reference::Env("X".to_owned()), ca_file: None };
        let kind = SinkKind::Ping { http, job: job.map(str::to_owned) };
        SinkConfig { name: "hc".to_owned(), kind, when: when.to_vec(), repeat: std::time::Duration::MAX }
    }

    const ALL: [When; 3] = [When::Start, When::Success, When::Fail];

    #[test]
    fn the_runs_of_a_job_are_followed_and_each_is_told_once() {
        let sink = sink(Some("capture"), &ALL);
        let mut memory = SinkMemory::default();
        let mut told = |job: &Standing| {
            let mut said = Vec::new();
            for due in due(&sink, Some(std::slice::from_ref(job)), &[], &memory.clone(), at("04:00:00")) {
                said.push((due.ping, due.text));
                memory = due.then;
            }
            said
        };
        let mut capture = job("capture");
        assert_eq!(told(&capture), [(Ping::Success, "recovery point 3-12".to_owned())]);
        assert_eq!(told(&capture), []);
        capture.running_since = Some(at("04:00:00"));
        assert_eq!(told(&capture), [(Ping::Start, "job capture begins".to_owned())]);
        assert_eq!(told(&capture), []);
        let last = capture.last.as_mut().unwrap();
        (last.ended_at, last.verdict, last.what) = (at("04:05:00"), RunVerdict::Failed, "refused".to_owned());
        // It has begun again by the next look.
        capture.running_since = Some(at("04:06:00"));
        assert_eq!(
            told(&capture),
            [(Ping::Fail, "refused".to_owned()), (Ping::Start, "job capture begins".to_owned())]
        );
        assert_eq!(told(&job("other")), [], "another job");
        let jobs = |name: &str| vec![job(name)];
        assert_eq!(astray("ams", std::slice::from_ref(&sink), Some(&jobs("capture"))), []);
        assert_eq!(astray("ams", std::slice::from_ref(&sink), None), [], "unknown here");
        let astray = astray("ams", &[sink], Some(&jobs("captured")));
        assert_eq!(astray[0].what, "sink hc follows job capture, which the schedule does not have");
    }

    #[test]
    fn a_site_says_that_it_lives_and_whether_it_has_alarms() {
        let sink = sink(None, &ALL);
        let mut memory = SinkMemory::default();
        let mut told = |alarms: &[String], now: &str| {
            let due = due(&sink, None, alarms, &memory.clone(), at(now)).pop();
            due.map(|due| {
                memory = due.then;
                due.ping
            })
        };
        let late = ["point.late".to_owned()];
        assert_eq!(told(&[], "04:00:00"), Some(Ping::Success));
        assert_eq!(told(&[], "04:04:59"), None);
        assert_eq!(told(&[], "04:05:00"), Some(Ping::Success));
        assert_eq!(told(&late, "04:05:30"), Some(Ping::Fail), "at once");
        assert_eq!(told(&late, "04:06:00"), None);
        assert_eq!(told(&[], "04:06:30"), Some(Ping::Success), "at once");
    }

    #[test]
    fn a_failure_that_is_allowed_is_no_ping_and_the_next_one_is() {
        let sink = sink(Some("capture"), &ALL);
        let mut capture = job("capture");
        capture.last.as_mut().unwrap().verdict = RunVerdict::Failed;
        let mut pings = |failures: u32| {
            (capture.failures, capture.failures_allowed) = (failures, 2);
            let due = due(&sink, Some(std::slice::from_ref(&capture)), &[], &SinkMemory::default(), at("04:00:00"));
            due.into_iter().map(|due| due.ping).collect::<Vec<_>>()
        };
        assert_eq!((pings(1), pings(2), pings(3)), (vec![], vec![], vec![Ping::Fail]));
    }
}
