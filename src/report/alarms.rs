//! What is raised: a pure function from a report to the alarms that hold at its instant.
//!
//! Each line of a report that is more than a notice is an alarm, under the key of the line. So whatever a report can say, somebody
//! is told of, and when the line goes the alarm is over. Who is told, and how often, is for `notify`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::freshness::{Grade, Line, Report, line};
use super::subject::Subject;

/// For so long what cannot be known must stay so before anybody is woken: a network that fails for a moment is no news.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(300);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look, in daylight.
    Warning,
    /// A target is missed, or it cannot be known whether one is.
    Critical,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its name, the same as long as it stands: `job.capture.failed`.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is the matter, in one line.
    pub what: String,
    /// What to do about it.
    pub next: String,
    /// For so long it must stand before anybody is told.
    pub patience: Duration,
    /// What it is about: while that cannot be seen, it stays as it is.
    pub subject: Subject,
}

/// The alarms of a report. The jobs of the other site are for its own daemon to tell of; that it says nothing any more is for this one.
pub fn alarms(report: &Report) -> Vec<Alarm> {
    let is_others = |line: &&Line| matches!(&line.subject, Subject::Job { site, .. } if *site != report.site);
    report.lines.iter().filter(|line| !is_others(line)).filter_map(alarm).collect()
}

fn alarm(line: &Line) -> Option<Alarm> {
    let (severity, patience) = match line.grade {
        Grade::Notice => return None,
        Grade::Missed => (Severity::Critical, Duration::ZERO),
        Grade::Unknown => (Severity::Critical, UNKNOWN_PATIENCE),
        Grade::Attention => (Severity::Warning, Duration::ZERO),
    };
    let Line { key, what, next, subject, .. } = line.clone();
    Some(Alarm { key, severity, what, next, patience, subject })
}

/// The line of a witness that cannot be used, because of `error`.
pub fn witness_unusable(error: &str) -> Line {
    let next = "See what it says: `warmspare witness status`; without it no site becomes or stays live.";
    let what = format!("the witness cannot be used: {error}");
    line("witness.unusable", Subject::Witness, Grade::Unknown, what, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Pause, RunVerdict};
    use crate::report::freshness::{Facts, Unread, judge};
    use crate::report::sample::{NOW, at, facts, point, proof, status, with_job, with_vault};
    use crate::vault::v1::{BucketVerdict, DamagedEpoch, ScrubVerdict, Verdict};

    fn keys(facts: &Facts) -> Vec<String> {
        let alarms = alarms(&judge(facts));
        alarms.iter().map(|alarm| format!("{} {}", alarm.severity.as_str(), alarm.key)).collect()
    }

    #[test]
    fn every_fault_raises_its_alarm_and_no_other() {
        assert_eq!(keys(&facts()), Vec::<String>::new());
        let failed = with_job(|job| {
            job.failures = 1;
            job.last.as_mut().unwrap().verdict = RunVerdict::TimedOut;
        });
        let forgiven = with_job(|job| {
            (job.failures, job.failures_allowed) = (2, 2);
            job.last.as_mut().unwrap().verdict = RunVerdict::TimedOut;
        });
        let once_too_often = with_job(|job| {
            (job.failures, job.failures_allowed) = (3, 2);
            job.last.as_mut().unwrap().verdict = RunVerdict::TimedOut;
        });
        let never_ran = with_job(|job| {
            (job.last, job.done_at, job.late_since) = (None, None, Some(at("03:00:00")));
        });
        let paused = with_job(|job| {
            let (operator, why) = ("root".to_owned(), "a migration".to_owned());
            job.pause = Some(Pause { since: at("03:00:00"), until: at("05:00:00"), operator, why });
        });
        let no_point = with_vault(|vault| vault.points.splice(.., [point(11, 121)]).for_each(drop));
        let no_proof = with_vault(|vault| {
            let mut old = point(1, 27 * 60);
            old.proofs.push(proof(&old, 26 * 60, Verdict::Equal));
            vault.points = vec![old, point(12, 43)];
        });
        let different = with_vault(|vault| {
            let proof = proof(&vault.points[1], 5, Verdict::Different);
            vault.points[1].proofs.push(proof);
        });
        let one_source = {
            let targets = "[sources.\"bucket.artifacts\"]\npoint = \"30m\"\nproven = \"1h\"\n";
            Facts { targets: crate::config::targets_of(targets), ..facts() }
        };
        let mut no_history = facts();
        no_history.jobs.insert("ams".to_owned(), Err(Unread { what: "no permission".to_owned(), next: None }));
        let ahead = with_vault(|vault| vault.points.push(point(13, -10)));
        let damaged = with_vault(|vault| vault.damaged.push("systems/app/points/x.json".to_owned()));
        let mut unread = facts();
        unread.vault = Err(Unread { what: "refused".to_owned(), next: None });
        let mut no_witness = facts();
        no_witness.others.lines.push(witness_unusable("refused"));
        for (fault, raised) in [
            (failed, vec!["warning job.capture.failed"]),
            (forgiven, vec![]),
            (once_too_often, vec!["warning job.capture.failed"]),
            (never_ran, vec!["warning job.capture.late"]),
            (paused, vec!["warning job.capture.paused"]),
            (no_point, vec!["critical point.late", "warning proof.late"]),
            (no_proof, vec!["critical proof.late"]),
            (different, vec!["warning proof.different"]),
            (one_source, vec!["critical point.late.bucket.artifacts", "critical proof.late.bucket.artifacts"]),
            (no_history, vec!["critical site.ams.jobs"]),
            (ahead, vec!["critical clock.apart"]),
            (damaged, vec!["warning vault.damaged"]),
            (unread, vec!["critical vault.unusable"]),
            (no_witness, vec!["critical witness.unusable"]),
        ] {
            assert_eq!(keys(&fault), raised);
        }
    }

    #[test]
    fn a_bucket_or_a_site_called_job_is_alarmed_and_a_job_of_the_other_site_is_not() {
        let bucket = with_vault(|vault| {
            let mut said = status("fra", 1);
            let (source, at) = ("bucket.job".to_owned(), at(NOW));
            let (objects, reread, reread_bytes, faults, suspects) = (3, 3, 300, 1, Vec::new());
            said.buckets = vec![BucketVerdict { source, at, objects, reread, reread_bytes, faults, suspects }];
            vault.statuses.insert("fra".to_owned(), Ok(Some(said)));
        });
        assert_eq!(keys(&bucket), ["warning site.fra.bucket.job.faults"]);
        let mut site = with_vault(|vault| drop(vault.statuses.insert("job".to_owned(), Ok(Some(status("job", 61))))));
        site.other = "job".to_owned();
        assert_eq!(keys(&site), ["critical site.job.silent"]);
        let mut jobs = with_job(|job| {
            job.failures = 1;
            job.last.as_mut().unwrap().verdict = RunVerdict::Failed;
        });
        assert_eq!(keys(&jobs), ["warning job.capture.failed"]);
        let failed = jobs.jobs.remove("ams").unwrap();
        jobs.jobs.insert("fra".to_owned(), failed);
        assert_eq!(keys(&jobs), [""; 0], "its own daemon tells it");
    }

    /// The keys of alarms that a look neither raises nor says of that they are over.
    fn kept(before: &[Facts], look: &Facts) -> Vec<String> {
        let (mut kept, now) = (Vec::new(), judge(look));
        let stood = before.iter().flat_map(|facts| alarms(&judge(facts)));
        kept.extend(stood.filter(|alarm| now.unseen.has(&alarm.subject)).map(|alarm| alarm.key));
        kept
    }

    #[test]
    fn what_a_look_cannot_see_is_not_said_to_be_over() {
        let late = with_vault(|vault| vault.points.splice(.., [point(1, 27 * 60)]).for_each(drop));
        let targets = crate::config::targets_of("[sources.\"bucket.artifacts\"]\npoint = \"30m\"\nproven = \"1h\"\n");
        let one_source = Facts { targets: targets.clone(), ..facts() };
        let records = with_vault(|vault| {
            let different = proof(&vault.points[1], 5, Verdict::Different);
            vault.points[1].proofs.push(different);
            vault.damaged.push("systems/app/points/x.json".to_owned());
            let mut said = status("fra", 61);
            said.check.as_mut().unwrap().ready = false;
            vault.statuses.insert("fra".to_owned(), Ok(Some(said)));
        });
        let failed = with_job(|job| {
            job.failures = 1;
            job.last.as_mut().unwrap().verdict = RunVerdict::Failed;
        });
        let before = [late, one_source, records, failed];
        assert_eq!(kept(&before, &facts()), [""; 0], "all was seen, and is well");

        let unread = || Unread { what: "refused".to_owned(), next: None };
        let points = ["point.late", "proof.late", "point.late.bucket.artifacts", "proof.late.bucket.artifacts"];
        let rest = ["site.fra.silent", "proof.different", "vault.damaged", "site.fra.not-ready"];
        let no_vault = Facts { vault: Err(unread()), ..facts() };
        let mut found = kept(&before, &no_vault);
        found.sort();
        let mut expected = [points, rest].concat();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let another = Facts { sources: vec!["database.app".parse().unwrap()], other: "waw".to_owned(), ..no_vault };
        let found = kept(&before, &another);
        assert_eq!(found, ["point.late", "proof.late", "proof.different", "vault.damaged"], "of what is configured");

        let no_status = with_vault(|vault| drop(vault.statuses.insert("fra".to_owned(), Err(unread()))));
        assert_eq!(kept(&before, &no_status), ["site.fra.silent", "site.fra.not-ready"]);
        let mut no_jobs = facts();
        no_jobs.jobs.insert("ams".to_owned(), Err(unread()));
        assert_eq!(kept(&before, &no_jobs), ["job.capture.failed"]);
        no_jobs.jobs.clear();
        assert_eq!(kept(&before, &no_jobs), ["job.capture.failed"]);
        let ahead = with_vault(|vault| vault.points.push(point(13, -10)));
        assert_eq!(kept(&before, &ahead), ["point.late", "point.late.bucket.artifacts"]);
        // The line of the system says it of every source.
        let whole = with_vault(|vault| vault.points.splice(.., [point(11, 121)]).for_each(drop));
        let whole = Facts { targets, ..whole };
        assert_eq!(kept(&before[1..2], &whole), ["point.late.bucket.artifacts", "proof.late.bucket.artifacts"]);
    }

    #[test]
    fn what_the_other_site_says_or_does_not_say_raises_its_alarm_and_no_other() {
        let silent = with_vault(|vault| drop(vault.statuses.insert("fra".to_owned(), Ok(Some(status("fra", 61))))));
        let not_ready = with_vault(|vault| {
            let mut said = status("fra", 1);
            said.check.as_mut().unwrap().ready = false;
            said.damaged_epochs.push(DamagedEpoch { term: 3, epoch: 1, why: "a pack is gone".to_owned() });
            vault.statuses.insert("fra".to_owned(), Ok(Some(said)));
        });
        let spoilt = with_vault(|vault| {
            let mut said = status("fra", 1);
            said.scrub = Some(ScrubVerdict {
                at: at(NOW),
                points: 2,
                packs: 3,
                hashed_packs: 3,
                hashed_bytes: 300,
                streams: 4,
                damaged: 1,
            });
            said.buckets = vec![BucketVerdict {
                source: "bucket.artifacts".to_owned(),
                at: at(NOW),
                objects: 3,
                reread: 3,
                reread_bytes: 300,
                faults: 1,
                suspects: Vec::new(),
            }];
            vault.statuses.insert("fra".to_owned(), Ok(Some(said)));
        });
        let unbelieved = with_vault(|vault| {
            vault.statuses.insert("fra".to_owned(), Err(Unread { what: "forged".to_owned(), next: None }));
        });
        for (fault, raised) in [
            (silent, vec!["critical site.fra.silent"]),
            (not_ready, vec!["warning site.fra.not-ready", "warning site.fra.damaged-epoch"]),
            (spoilt, vec!["warning site.fra.vault-damaged", "warning site.fra.bucket.artifacts.faults"]),
            (unbelieved, vec!["critical site.fra.unbelieved"]),
        ] {
            assert_eq!(keys(&fault), raised);
        }
    }
}
