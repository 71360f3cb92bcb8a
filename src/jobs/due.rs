//! What is due at a moment: a pure function of the schedule, the records of its jobs, the role of the site and the time.
//!
//! A record says up to when everything that was due has been run, or is not owed ([`JobRecord::counted_to`]). The first time a
//! line names after that is when the job is due; a run counts from its beginning, so what was missed is made up for once. In a
//! role in which a job does not run it is owed nothing; while a site is neither live nor spare what is owed stays. A clock that was set
//! back by more than a minute is counted from anew: else a job would wait until the old time comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Standing;
use super::history::{JobRecord, Run, RunVerdict, Running};
use crate::schedule::{Job, Role, Schedule};

/// Less is what a clock does that is kept right.
const SET_BACK_MIN: SignedDuration = SignedDuration::from_mins(1);

/// What a decision looks at besides the book.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When it is.
    pub now: Timestamp,
    /// What the site is.
    pub role: Role,
    /// Who has the site to itself, if somebody else than the jobs has: an operation that a person began.
    pub holder: Option<String>,
}

/// A run that begins now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The job.
    pub job: String,
    /// When it was due; absent when a person asked for it.
    pub due_at: Option<Timestamp>,
}

/// The records of the jobs of a schedule, and for which of them a person has asked.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// By name.
    pub records: BTreeMap<String, JobRecord>,
    /// What a person wants to be run, until it begins.
    pub asked: BTreeSet<String>,
}

/// When a job is due.
struct Due {
    at: Timestamp,
    /// What the run is noted under: for another try, when the first was due.
    due_at: Timestamp,
}

impl Book {
    /// Takes up what has changed besides the jobs: a clock that was set back, a role in which nothing is owed. Gives the names of the
    /// records that are to be written down for it.
    pub fn recount(&mut self, schedule: &Schedule, moment: &Moment) -> Vec<String> {
        let mut changed = Vec::new();
        for job in schedule.jobs() {
            let since = moment.now;
            let record = self.records.entry(job.name.clone()).or_insert_with(|| JobRecord::new(&job.name, since));
            let is_set_back = record.counted_from() > moment.now + SET_BACK_MIN;
            let is_owed = job.on.includes(moment.role) || moment.role == Role::Between;
            if is_set_back || !is_owed {
                record.counted_to = Some(moment.now);
            }
            if is_set_back {
                changed.push(job.name.clone());
            }
        }
        changed
    }

    /// The run that begins next, if one can begin now: asked again after [`Book::begin`], until there is none.
    pub fn next_start(&self, schedule: &Schedule, moment: &Moment) -> Option<Start> {
        let mut starts: Vec<(Timestamp, Start)> = Vec::new();
        for job in schedule.jobs() {
            let Some((since, start)) = self.wanted(schedule, job, moment) else { continue };
            if self.hindered(schedule, job, moment, start.due_at.is_none()).is_none() {
                starts.push((since, start));
            }
        }
        // What has waited longest goes first.
        starts.sort_by_key(|(since, _)| *since);
        starts.into_iter().next().map(|(_, start)| start)
    }

    /// Since when a run is wanted, if one is.
    fn wanted(&self, schedule: &Schedule, job: &Job, moment: &Moment) -> Option<(Timestamp, Start)> {
        let record = self.records.get(&job.name)?;
        if record.running.is_some() || !job.on.includes(moment.role) {
            return None;
        }
        if self.asked.contains(&job.name) {
            return Some((Timestamp::MIN, Start { job: job.name.clone(), due_at: None }));
        }
        let due = self.due(schedule, job, record, moment.role).filter(|due| due.at <= moment.now)?;
        let is_paused = record.paused_at(moment.now).is_some();
        (!is_paused).then(|| (due.at, Start { job: job.name.clone(), due_at: Some(due.due_at) }))
    }

    /// Why a run that is wanted cannot begin.
    fn hindered(&self, schedule: &Schedule, job: &Job, moment: &Moment, is_asked: bool) -> Option<String> {
        if job.kind.is_alone() {
            let runs = |other: &&Job| other.kind.is_alone() && self.is_running(&other.name);
            if let Some(other) = schedule.jobs().iter().find(runs) {
                return Some(format!("job {} is under way", other.name));
            }
            if let Some(holder) = &moment.holder {
                return Some(format!("another operation is under way: {holder}"));
            }
        }
        let before = job.after.iter().filter(|_| !is_asked).filter_map(|name| schedule.job(name));
        for before in before.filter(|before| before.on.includes(moment.role)) {
            let record = self.records.get(&before.name);
            let is_paused = record.is_some_and(|record| record.paused_at(moment.now).is_some());
            let due = record.and_then(|record| self.due(schedule, before, record, moment.role)).filter(|_| !is_paused);
            if self.is_running(&before.name) {
                return Some(format!("job {} goes before it, and is under way", before.name));
            }
            if due.is_some_and(|due| due.at <= moment.now || self.is_another_try(before)) {
                return Some(format!("job {} goes before it, and is due", before.name));
            }
        }
        None
    }

    fn is_running(&self, name: &str) -> bool {
        self.records.get(name).is_some_and(|record| record.running.is_some())
    }

    /// Whether the job has failed, and is to be tried again.
    fn is_another_try(&self, job: &Job) -> bool {
        self.records.get(&job.name).is_some_and(|record| retry(job, record).is_some())
    }

    /// When the job is due next: by its line or by those before it, or to be tried again if that is earlier.
    fn due(&self, schedule: &Schedule, job: &Job, record: &JobRecord, role: Role) -> Option<Due> {
        let regular = self.regular(schedule, job, record, role).map(|at| Due { at, due_at: at });
        [regular, retry(job, record)].into_iter().flatten().min_by_key(|due| due.at)
    }

    /// What comes before it and does not run in this role is nothing to wait for.
    fn regular(&self, schedule: &Schedule, job: &Job, record: &JobRecord, role: Role) -> Option<Timestamp> {
        let counted = record.counted_from();
        if job.at.is_some() {
            return job.next(counted);
        }
        let done = |before: &Job| self.records.get(&before.name)?.done_at.filter(|done| *done > counted);
        let before = job.after.iter().filter_map(|name| schedule.job(name)).filter(|before| before.on.includes(role));
        let done = before.map(done).collect::<Option<Vec<_>>>()?;
        done.into_iter().max()
    }

    /// Notes that a run begins.
    pub fn begin(&mut self, start: &Start, now: Timestamp) {
        self.asked.remove(&start.job);
        if let Some(record) = self.records.get_mut(&start.job) {
            record.running = Some(Running { due_at: start.due_at, started_at: now });
            record.counted_to = Some(record.counted_from().max(now));
        }
    }

    /// Notes that the run that is under way has ended so.
    pub fn end(
        &mut self,
        name: &str,
        verdict: RunVerdict,
        what: String,
        point: Option<String>,
        now: Timestamp,
    ) -> Option<Run> {
        let record = self.records.get_mut(name)?;
        let Running { due_at, started_at } = record.running.take()?;
        let run = Run { due_at, started_at, ended_at: now.max(started_at), verdict, what, point };
        record.ended(run.clone());
        Some(run)
    }

    /// Notes that runs whose process is gone are lost: they were under way when the one before this was killed.
    pub fn lose(&mut self, now: Timestamp) -> Vec<String> {
        let begun = self.records.values().filter(|record| record.running.is_some());
        let lost: Vec<String> = begun.map(|record| record.name.clone()).collect();
        for name in &lost {
            let what = "the daemon was ended while it was under way".to_owned();
            self.end(name, RunVerdict::Lost, what, None, now);
        }
        lost
    }

    /// How each job stands.
    pub fn standings(&self, schedule: &Schedule, moment: &Moment) -> Vec<Standing> {
        schedule.jobs().iter().map(|job| self.standing(schedule, job, moment)).collect()
    }

    fn standing(&self, schedule: &Schedule, job: &Job, moment: &Moment) -> Standing {
        let new = JobRecord::new(&job.name, moment.now);
        let record = self.records.get(&job.name).unwrap_or(&new);
        let runs_here = job.on.includes(moment.role);
        let pause = record.paused_at(moment.now).cloned();
        let is_free = runs_here && pause.is_none();
        let due = self.due(schedule, job, record, moment.role).filter(|_| is_free);
        let regular = self.regular(schedule, job, record, moment.role).filter(|_| is_free);
        let late = |due: &Timestamp| moment.now.duration_since(*due) > signed(job.late_after);
        let is_wanted = self.wanted(schedule, job, moment).is_some();
        let waits_for = is_wanted.then(|| self.hindered(schedule, job, moment, false)).flatten();
        Standing {
            name: job.name.clone(),
            kind: job.kind.to_string(),
            runs_here,
            running_since: record.running.as_ref().map(|running| running.started_at),
            last: record.runs.first().cloned(),
            done_at: record.done_at,
            failures: record.failures,
            failures_allowed: job.failures_allowed,
            next_at: due.filter(|_| waits_for.is_none()).map(|due| due.at.max(moment.now)),
            late_since: regular.filter(late),
            pause,
            waits_for,
        }
    }

    /// When something is due next, at the latest at `until`.
    pub fn wake_at(&self, schedule: &Schedule, moment: &Moment, until: Timestamp) -> Timestamp {
        let here = schedule.jobs().iter().filter(|job| job.on.includes(moment.role));
        let records = here.filter_map(|job| Some((job, self.records.get(&job.name)?)));
        let times = records.flat_map(|(job, record)| {
            let due = self.due(schedule, job, record, moment.role).map(|due| due.at);
            [due, record.pause.as_ref().map(|pause| pause.until)]
        });
        // What is due already waits for something that is told, or looked at again by `until`.
        times.flatten().filter(|at| *at > moment.now).fold(until, Timestamp::min)
    }
}

/// When a run that failed is to be tried again.
fn retry(job: &Job, record: &JobRecord) -> Option<Due> {
    let last = record.runs.first()?;
    let due_at = last.due_at?;
    let is_failure = |run: &&Run| !matches!(run.verdict, RunVerdict::Done | RunVerdict::Incomplete);
    let tries = record.runs.iter().take_while(|run| run.due_at == Some(due_at)).take_while(is_failure).count();
    let tries = u32::try_from(tries).unwrap_or(u32::MAX);
    if tries == 0 || tries > job.retries {
        return None;
    }
    Some(Due { at: last.ended_at.checked_add(signed(job.wait_after(tries))).ok()?, due_at })
}

fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Kind, On};
    use jiff::tz::TimeZone;

    fn job(name: &str, kind: Kind, at: Option<&str>, after: &[&str]) -> (String, Job) {
        let minute = Duration::from_secs(60);
        let job = Job {
            name: name.to_owned(),
            kind,
            at: at.map(|line| line.parse().unwrap()),
            zone: TimeZone::UTC,
            on: kind.only_on().unwrap_or(On::Both),
            after: after.iter().map(ToString::to_string).collect(),
            delay: Duration::ZERO,
            timeout: minute * 60,
            retries: 1,
            retry_after: minute,
            failures_allowed: 0,
            late_after: minute * 10,
            arguments: Vec::new(),
        };
        (name.to_owned(), job)
    }

    fn at(time: &str) -> Moment {
        let now = format!("2027-03-01T{time}:00Z").parse().unwrap();
        Moment { now, role: Role::Live, holder: None }
    }

    /// Begins whatever can, and says what.
    fn begun(book: &mut Book, schedule: &Schedule, moment: &Moment) -> Vec<String> {
        book.recount(schedule, moment);
        let mut names = Vec::new();
        while let Some(start) = book.next_start(schedule, moment) {
            book.begin(&start, moment.now);
            names.push(start.job);
        }
        names
    }

    fn standing(book: &Book, schedule: &Schedule, name: &str, moment: &Moment) -> Standing {
        book.standings(schedule, moment).into_iter().find(|standing| standing.name == name).unwrap()
    }

    #[test]
    fn what_waits_says_for_what_and_is_late_when_that_is_too_long() {
        let capture = job("capture", Kind::Capture, Some("0 * * * *"), &[]);
        let schedule = Schedule::new(BTreeMap::from([capture])).unwrap();
        let mut book = Book::default();
        assert!(begun(&mut book, &schedule, &at("11:59")).is_empty());
        let held = |time| Moment { holder: Some("warmspare restore, process 7".to_owned()), ..at(time) };
        assert!(begun(&mut book, &schedule, &held("12:00")).is_empty());
        let waits = standing(&book, &schedule, "capture", &held("12:05"));
        assert_eq!(waits.waits_for.as_deref(), Some("another operation is under way: warmspare restore, process 7"));
        assert_eq!((waits.late_since, waits.next_at), (None, None));
        let late = standing(&book, &schedule, "capture", &held("12:11"));
        assert_eq!(late.late_since, Some(at("12:00").now));
        assert_eq!(begun(&mut book, &schedule, &at("12:12")), ["capture"]);
        // One that hangs is late for its next time.
        assert_eq!(standing(&book, &schedule, "capture", &at("12:59")).late_since, None);
        assert_eq!(standing(&book, &schedule, "capture", &at("13:11")).late_since, Some(at("13:00").now));
    }

    #[test]
    fn what_comes_after_another_waits_for_its_end_and_its_other_tries() {
        let jobs = [
            job("check", Kind::Check, Some("0 * * * *"), &[]),
            job("verify", Kind::Verify, Some("0 * * * *"), &["check"]),
            job("report", Kind::Report, None, &["check", "verify"]),
        ];
        let schedule = Schedule::new(BTreeMap::from(jobs)).unwrap();
        let mut book = Book::default();
        let end = |book: &mut Book, name: &str, verdict, moment: &Moment| {
            book.end(name, verdict, String::new(), None, moment.now).unwrap();
        };
        begun(&mut book, &schedule, &at("11:59"));
        assert_eq!(begun(&mut book, &schedule, &at("12:00")), ["check"]);
        let waits = standing(&book, &schedule, "verify", &at("12:00")).waits_for;
        assert_eq!(waits.as_deref(), Some("job check goes before it, and is under way"));
        end(&mut book, "check", RunVerdict::Failed, &at("12:01"));
        assert!(begun(&mut book, &schedule, &at("12:01")).is_empty(), "it is tried again first");
        assert_eq!(begun(&mut book, &schedule, &at("12:02")), ["check"]);
        end(&mut book, "check", RunVerdict::Failed, &at("12:03"));
        assert_eq!(begun(&mut book, &schedule, &at("12:03")), ["verify"], "no try is left");
        end(&mut book, "verify", RunVerdict::Done, &at("12:04"));
        assert!(begun(&mut book, &schedule, &at("12:59")).is_empty(), "a report follows when both are good");
        assert_eq!(begun(&mut book, &schedule, &at("13:00")), ["check"]);
        end(&mut book, "check", RunVerdict::Done, &at("13:01"));
        assert_eq!(begun(&mut book, &schedule, &at("13:01")), ["verify"]);
        end(&mut book, "verify", RunVerdict::Done, &at("13:02"));
        assert_eq!(begun(&mut book, &schedule, &at("13:02")), ["report"]);
    }

    #[test]
    fn what_comes_after_a_job_of_each_site_runs_at_both_after_the_one_that_runs_there() {
        let jobs = [
            job("capture", Kind::Capture, Some("0 * * * *"), &[]),
            job("rehearse", Kind::Rehearse, Some("30 * * * *"), &[]),
            job("report", Kind::Report, None, &["capture", "rehearse"]),
        ];
        let schedule = Schedule::new(BTreeMap::from(jobs)).unwrap();
        let mut book = Book::default();
        let spare = |time| Moment { role: Role::Spare, ..at(time) };
        let end = |book: &mut Book, name: &str, moment: &Moment| {
            book.end(name, RunVerdict::Done, String::new(), None, moment.now).unwrap();
        };
        assert!(begun(&mut book, &schedule, &at("11:59")).is_empty());
        assert_eq!(begun(&mut book, &schedule, &at("12:00")), ["capture"]);
        end(&mut book, "capture", &at("12:01"));
        assert_eq!(begun(&mut book, &schedule, &at("12:02")), ["report"], "no rehearsal ever runs here");
        end(&mut book, "report", &at("12:02"));
        // It is the spare now.
        assert!(begun(&mut book, &schedule, &spare("12:29")).is_empty());
        assert_eq!(begun(&mut book, &schedule, &spare("12:30")), ["rehearse"]);
        let waits = standing(&book, &schedule, "report", &spare("12:30"));
        assert_eq!((waits.next_at, waits.late_since), (None, None));
        end(&mut book, "rehearse", &spare("12:31"));
        assert_eq!(standing(&book, &schedule, "report", &spare("12:31")).next_at, Some(at("12:31").now));
        assert_eq!(standing(&book, &schedule, "report", &spare("12:42")).late_since, Some(at("12:31").now));
        assert_eq!(book.wake_at(&schedule, &spare("12:30"), at("12:35").now), at("12:31").now);
        assert_eq!(begun(&mut book, &schedule, &spare("12:42")), ["report"]);
    }

    #[test]
    fn what_a_person_asks_for_is_run_at_once_also_while_it_is_paused() {
        let schedule = Schedule::new(BTreeMap::from([job("check", Kind::Check, Some("@yearly"), &[])])).unwrap();
        let mut book = Book::default();
        assert!(begun(&mut book, &schedule, &at("12:00")).is_empty());
        let (since, until) = (at("12:00").now, at("20:00").now);
        let pause = super::super::Pause { since, until, operator: String::new(), why: String::new() };
        book.records.get_mut("check").unwrap().pause = Some(pause);
        book.asked.insert("check".to_owned());
        assert_eq!(begun(&mut book, &schedule, &at("12:01")), ["check"]);
        assert!(book.asked.is_empty() && standing(&book, &schedule, "check", &at("12:01")).pause.is_some());
        assert_eq!(book.wake_at(&schedule, &at("12:01"), at("23:00").now), until, "the end of a pause is looked at");
    }
}
