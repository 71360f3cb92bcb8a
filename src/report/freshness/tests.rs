//! What an operator is told in each state, and what is never told.
#![cfg(test)]

use std::time::Duration;

use super::*;
use crate::jobs::{Pause, RunVerdict};
use crate::report::sample::{NOW, at, facts, point, proof, status, with_job, with_vault};
use crate::report::text::text;
use crate::vault::v1::{BucketVerdict, Verdict as ProofVerdict};

/// Verdict, then key and sentence of each line.
fn told(facts: &Facts) -> String {
    let report = judge(facts);
    let lines = report.lines.iter().map(|line| format!("\n{:?} {}: {}", line.grade, line.key, line.what));
    format!("{:?}{}", report.verdict, lines.collect::<String>())
}

#[test]
fn green_as_it_is_printed() {
    assert_eq!(
        text(&judge(&facts())),
        "FRESH  app: if ams died now, the last 43m 00s would be lost; the last whole restore took 4m 03s\n\
        \x20      seen from ams at 2026-11-22T04:00:00Z\n\
        \n\
        lost if ams died now  at most what came after 2026-11-22T03:17:00Z, 43m 00s; rows and objects are not counted here\n\
        newest point          3-12, captured 43m 00s ago; target 2h 00m\n\
        proven by a restore   3-11, captured 1h 43m ago; target 1d 02h\n\
        time to restore       4m 03s, point 3-11 at fra, equal, 2026-11-22T03:00:00Z\n\
        closure               not judged by this release: whole by its signed headers, and where proven, by a restore\n\
        \n\
        SOURCE            NEWEST  AGE      TARGET  PROVEN  AGE     TARGET\n\
        database.app      3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        bucket.artifacts  3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        \n\
        SITE  ROLE   SAID SOMETHING  READY\n\
        ams   live   2m 00s ago      yes, 2026-11-22T02:58:00Z\n\
        fra   spare  12m 00s ago     yes, 2026-11-22T02:48:00Z\n\
        \n\
        JOB      SITE  LAST RUN              VERDICT  NEXT\n\
        capture  ams   2026-11-22T03:30:00Z  done     2026-11-22T04:30:00Z\n"
    );
}

#[test]
fn what_came_after_the_newest_point_and_after_the_proven_one_is_printed_as_far_as_it_is_counted() {
    let check = |newest: (Option<u64>, Option<u64>), proven: (Option<u64>, Option<u64>), expected: [&str; 2]| {
        let report = text(&judge(&with_vault(|vault| {
            for (point, (rows, objects)) in vault.points.iter_mut().zip([proven, newest]) {
                (point.rows_since, point.objects_since) = (rows, objects);
            }
        })));
        for (line, expected) in ["lost if ams died now  ", "proven by a restore   "].into_iter().zip(expected) {
            let found = report.lines().find_map(|found| found.strip_prefix(line)).unwrap();
            assert_eq!(found, expected);
        }
    };
    let at_most = |counted: &str| format!("at most what came after 2026-11-22T03:17:00Z, 43m 00s; {counted}");
    let proven = |counted: &str| format!("3-11, captured 1h 43m ago; target 1d 02h{counted}");
    check(
        (Some(12), Some(3)),
        (Some(700), Some(0)),
        [
            &at_most("12 rows and 3 objects were written or deleted since"),
            &proven("; 700 rows and 0 objects were written or deleted since"),
        ],
    );
    check(
        (None, Some(3)),
        (Some(700), None),
        [
            &at_most("3 objects were written or deleted since; rows are not counted here"),
            &proven("; 700 rows were written or deleted since; objects are not counted here"),
        ],
    );
    check((None, None), (None, None), [&at_most("rows and objects are not counted here"), &proven("")]);
}

#[test]
fn of_the_looks_at_a_bucket_the_last_is_printed() {
    let look = |minutes: i64, faults: u64| BucketVerdict {
        source: "bucket.artifacts".to_owned(),
        at: at(NOW) - jiff::SignedDuration::from_mins(minutes),
        objects: 700,
        reread: 100,
        reread_bytes: 3 << 20,
        faults,
        suspects: Vec::new(),
    };
    let check = |live: i64, spare: i64, expected: &str| {
        let report = judge(&with_vault(|vault| {
            for (site, verdict) in [("ams", look(live, 0)), ("fra", look(spare, 2))] {
                vault.statuses.get_mut(site).unwrap().as_mut().unwrap().as_mut().unwrap().buckets = vec![verdict];
            }
            let mirrored = Mirrored { objects: 700, object_bytes: 21 << 20, ..Mirrored::default() };
            vault.points[1].buckets.insert("bucket.artifacts".parse().unwrap(), mirrored);
        }));
        let text = text(&report);
        assert_eq!(text.lines().find_map(|line| line.strip_prefix("read again            ")), Some(expected), "{text}");
    };
    let artifacts = "bucket.artifacts: 100 of 700 objects, 3.0 MiB of 21.0 MiB";
    check(30, 60, &format!("{artifacts}, all as recorded, by ams at 2026-11-22T03:30:00Z"));
    check(60, 30, &format!("{artifacts}, 2 NOT as recorded, by fra at 2026-11-22T03:30:00Z"));
}

#[test]
fn late_as_it_is_printed() {
    let mut facts = with_vault(|vault| {
        vault.points.pop();
    });
    facts.at = at("05:00:00");
    facts.site = "fra".to_owned();
    facts.other = "ams".to_owned();
    facts.jobs.clear();
    assert_eq!(
        text(&judge(&facts)),
        "STALE  app: the newest recovery point was captured 2h 43m ago (point 3-11); its target is 2h 00m, and 1 more\n\
        \x20      seen from fra at 2026-11-22T05:00:00Z\n\
        \n\
        lost if ams died now  at most what came after 2026-11-22T02:17:00Z, 2h 43m; rows and objects are not counted here\n\
        newest point          3-11, captured 2h 43m ago; target 2h 00m MISSED\n\
        proven by a restore   3-11, captured 2h 43m ago; target 1d 02h\n\
        time to restore       4m 03s, point 3-11 at fra, equal, 2026-11-22T03:00:00Z\n\
        closure               not judged by this release: whole by its signed headers, and where proven, by a restore\n\
        \n\
        SOURCE            NEWEST  AGE     TARGET         PROVEN  AGE     TARGET\n\
        database.app      3-11    2h 43m  2h 00m MISSED  3-11    2h 43m  1d 02h\n\
        bucket.artifacts  3-11    2h 43m  2h 00m MISSED  3-11    2h 43m  1d 02h\n\
        \n\
        SITE  ROLE   SAID SOMETHING  READY\n\
        fra   spare  1h 12m ago      yes, 2026-11-22T02:48:00Z\n\
        ams   live   1h 02m ago      yes, 2026-11-22T02:58:00Z\n\
        \n\
        JOBS  unknown here: this state folder has no history of them\n\
        \n\
        MISSED     the newest recovery point was captured 2h 43m ago (point 3-11); its target is 2h 00m\n\
        \x20          next: Find out why ams takes none, and take one there: `warmspare capture`\n\
        MISSED     ams has said nothing for 1h 02m; its limit is 1h 00m\n\
        \x20          next: See whether ams lives, reaches the vault, and runs its daemon: `warmspare check --site ams` there.\n"
    );
}

#[test]
fn failed_as_it_is_printed() {
    let failed = with_job(|job| {
        job.failures = 3;
        let last = job.last.as_mut().unwrap();
        (last.verdict, last.what) = (RunVerdict::Failed, "database app: connection refused".to_owned());
    });
    assert_eq!(
        text(&judge(&failed)),
        "ATTENTION  app: job capture FAILED, 3 times in a row: database app: connection refused\n\
        \x20      seen from ams at 2026-11-22T04:00:00Z\n\
        \n\
        lost if ams died now  at most what came after 2026-11-22T03:17:00Z, 43m 00s; rows and objects are not counted here\n\
        newest point          3-12, captured 43m 00s ago; target 2h 00m\n\
        proven by a restore   3-11, captured 1h 43m ago; target 1d 02h\n\
        time to restore       4m 03s, point 3-11 at fra, equal, 2026-11-22T03:00:00Z\n\
        closure               not judged by this release: whole by its signed headers, and where proven, by a restore\n\
        \n\
        SOURCE            NEWEST  AGE      TARGET  PROVEN  AGE     TARGET\n\
        database.app      3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        bucket.artifacts  3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        \n\
        SITE  ROLE   SAID SOMETHING  READY\n\
        ams   live   2m 00s ago      yes, 2026-11-22T02:58:00Z\n\
        fra   spare  12m 00s ago     yes, 2026-11-22T02:48:00Z\n\
        \n\
        JOB      SITE  LAST RUN              VERDICT  NEXT\n\
        capture  ams   2026-11-22T03:30:00Z  FAILED   2026-11-22T04:30:00Z\n\
        \n\
        ATTENTION  job capture FAILED, 3 times in a row: database app: connection refused\n\
        \x20          next: Mend what it says, then run it at ams, with `jobs run capture`.\n"
    );
}

#[test]
fn paused_as_it_is_printed() {
    let paused = with_job(|job| {
        let (operator, why) = ("root".to_owned(), "a migration".to_owned());
        job.pause = Some(Pause { since: at("03:00:00"), until: at("06:00:00"), operator, why });
    });
    assert_eq!(
        text(&judge(&paused)),
        "ATTENTION  app: job capture is PAUSED until 2026-11-22T06:00:00Z by root: a migration\n\
        \x20      seen from ams at 2026-11-22T04:00:00Z\n\
        \n\
        lost if ams died now  at most what came after 2026-11-22T03:17:00Z, 43m 00s; rows and objects are not counted here\n\
        newest point          3-12, captured 43m 00s ago; target 2h 00m\n\
        proven by a restore   3-11, captured 1h 43m ago; target 1d 02h\n\
        time to restore       4m 03s, point 3-11 at fra, equal, 2026-11-22T03:00:00Z\n\
        closure               not judged by this release: whole by its signed headers, and where proven, by a restore\n\
        \n\
        SOURCE            NEWEST  AGE      TARGET  PROVEN  AGE     TARGET\n\
        database.app      3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        bucket.artifacts  3-12    43m 00s  2h 00m  3-11    1h 43m  1d 02h\n\
        \n\
        SITE  ROLE   SAID SOMETHING  READY\n\
        ams   live   2m 00s ago      yes, 2026-11-22T02:58:00Z\n\
        fra   spare  12m 00s ago     yes, 2026-11-22T02:48:00Z\n\
        \n\
        JOB      SITE  LAST RUN              VERDICT  NEXT\n\
        capture  ams   2026-11-22T03:30:00Z  done     PAUSED until 2026-11-22T06:00:00Z\n\
        \n\
        ATTENTION  job capture is PAUSED until 2026-11-22T06:00:00Z by root: a migration\n\
        \x20          next: When it may run again, let it at ams, with `jobs resume capture`.\n"
    );
}

#[test]
fn never_rehearsed_as_it_is_printed() {
    let never = with_vault(|vault| vault.points.splice(.., [point(1, 27 * 60), point(12, 43)]).for_each(drop));
    assert_eq!(
        text(&judge(&never)),
        "STALE  app: no recovery point was ever proven by a restore; the target is 1d 02h\n\
        \x20      seen from ams at 2026-11-22T04:00:00Z\n\
        \n\
        lost if ams died now  at most what came after 2026-11-22T03:17:00Z, 43m 00s; rows and objects are not counted here\n\
        newest point          3-12, captured 43m 00s ago; target 2h 00m\n\
        proven by a restore   none; target 1d 02h\n\
        time to restore       unknown: no whole restore was recorded\n\
        closure               not judged by this release: whole by its signed headers, and where proven, by a restore\n\
        \n\
        SOURCE            NEWEST  AGE      TARGET  PROVEN  AGE  TARGET\n\
        database.app      3-12    43m 00s  2h 00m  none         1d 02h MISSED\n\
        bucket.artifacts  3-12    43m 00s  2h 00m  none         1d 02h MISSED\n\
        \n\
        SITE  ROLE   SAID SOMETHING  READY\n\
        ams   live   2m 00s ago      yes, 2026-11-22T02:58:00Z\n\
        fra   spare  12m 00s ago     yes, 2026-11-22T02:48:00Z\n\
        \n\
        JOB      SITE  LAST RUN              VERDICT  NEXT\n\
        capture  ams   2026-11-22T03:30:00Z  done     2026-11-22T04:30:00Z\n\
        \n\
        MISSED     no recovery point was ever proven by a restore; the target is 1d 02h\n\
        \x20          next: Restore the newest point at fra: `warmspare restore` there.\n"
    );
}

#[test]
fn a_job_that_failed_was_paused_or_did_not_run_is_told() {
    let failed = with_job(|job| {
        job.failures = 3;
        let last = job.last.as_mut().unwrap();
        (last.verdict, last.what) = (RunVerdict::Failed, "database app: connection refused".to_owned());
    });
    let sentence = "job capture FAILED, 3 times in a row: database app: connection refused";
    assert_eq!(told(&failed), format!("Attention\nAttention job.capture.failed: {sentence}"));
    let forgiven = with_job(|job| {
        (job.failures, job.failures_allowed) = (1, 1);
        job.last.as_mut().unwrap().verdict = RunVerdict::Lost;
    });
    let sentence = "job capture was under way when its process died (1 allowed in a row before it is an alarm): recovery point 3-12";
    assert_eq!(told(&forgiven), format!("Fresh\nNotice job.capture.failed: {sentence}"));
    let printed = text(&judge(&forgiven));
    assert!(printed.starts_with("FRESH") && printed.contains("NOTICE     job capture was under way"), "{printed}");
    let pause = |since: &str, until: &str| Pause {
        since: at(since),
        until: at(until),
        operator: "root".to_owned(),
        why: "a migration".to_owned(),
    };
    let sentence = "job capture is PAUSED until 2026-11-22T06:00:00Z by root: a migration";
    let paused = with_job(|job| job.pause = Some(pause("03:00:00", "06:00:00")));
    assert_eq!(told(&paused), format!("Attention\nAttention job.capture.paused: {sentence}"));
    assert!(
        text(&judge(&paused))
            .contains("capture  ams   2026-11-22T03:30:00Z  done     PAUSED until 2026-11-22T06:00:00Z")
    );
    let over = with_job(|job| job.pause = Some(pause("03:00:00", NOW)));
    assert_eq!(told(&over), "Fresh", "a pause ends by itself");

    let never = with_job(|job| {
        (job.last, job.done_at) = (None, None);
        job.late_since = Some(at("01:00:00"));
    });
    let sentence = "job capture was to run 3h 00m ago and did not; it NEVER ran";
    assert_eq!(told(&never), format!("Attention\nAttention job.capture.late: {sentence}"));
    let elsewhere = with_job(|job| (job.runs_here, job.late_since) = (false, Some(at("01:00:00"))));
    assert_eq!(told(&elsewhere), "Fresh", "in another role nothing is missed");
}

#[test]
fn what_was_never_rehearsed_is_forgiven_until_the_target_is_over() {
    let young = with_vault(|vault| vault.points[0].proofs.clear());
    assert_eq!(told(&young), "Attention\nAttention proof.late: no recovery point was proven by a restore yet");
    let old = with_vault(|vault| vault.points.splice(.., [point(1, 27 * 60), point(12, 43)]).for_each(drop));
    let sentence = "no recovery point was ever proven by a restore; the target is 1d 02h";
    assert_eq!(told(&old), format!("Stale\nMissed proof.late: {sentence}"));
    let shown = text(&judge(&old));
    assert!(shown.contains("proven by a restore   none; target 1d 02h\n"), "{shown}");
    assert!(shown.contains("time to restore       unknown: no whole restore was recorded\n"), "{shown}");
    assert!(shown.contains("next: Restore the newest point at fra: `warmspare restore` there.\n"), "{shown}");
}

#[test]
fn a_restore_that_differed_proves_nothing_and_is_told() {
    let differs = with_vault(|vault| {
        let newest = &mut vault.points[1];
        newest.proofs.push(proof(newest, 30, ProofVerdict::Equal));
        let mut later = proof(newest, 10, ProofVerdict::Different);
        later.seq = 2;
        newest.proofs.push(later);
    });
    let report = judge(&differs);
    assert_eq!(report.proven.point.as_deref(), Some("3-11"), "the last word counts");
    let sentence = "point 3-12 was restored, and is DIFFERENT from what was captured";
    assert_eq!(told(&differs), format!("Attention\nAttention proof.different: {sentence}"));
    let in_part = with_vault(|vault| {
        vault.points[0].proofs.clear();
        let mut part = proof(&vault.points[1], 10, ProofVerdict::Equal);
        part.complete = false;
        part.steps.truncate(1);
        vault.points[1].proofs.push(part);
    });
    let report = judge(&in_part);
    assert_eq!((report.proven.point, report.sources[0].proven.met), (None, Some(true)), "the database was restored");
    assert_eq!(report.sources[1].proven.point, None);
}

#[test]
fn a_point_that_lacks_a_source_is_no_newest_point() {
    let lacking = with_vault(|vault| {
        let bucket = "bucket.artifacts".parse().unwrap();
        vault.points.iter_mut().for_each(|point| point.sources.retain(|source| *source != bucket));
    });
    let said = told(&lacking);
    assert!(
        said.starts_with(
            "Stale\nMissed point.late: no recovery point is whole: the newest, 3-12, lacks bucket.artifacts"
        )
    );
    let open = with_vault(|vault| vault.points.iter_mut().for_each(|point| point.closure = "open".to_owned()));
    assert!(told(&open).contains("no recovery point is closed: the newest, 3-12, is `open`"));
    let none = with_vault(|vault| vault.points.clear());
    assert!(told(&none).starts_with("Stale\nMissed point.late: there is no recovery point yet"), "{}", told(&none));
}

#[test]
fn one_source_may_be_late_by_a_target_of_its_own() {
    let mut facts = facts();
    let raw = "[sources.\"bucket.artifacts\"]\npoint = \"30m\"\nproven = \"1h\"\n";
    facts.targets = crate::config::targets_of(raw);
    assert_eq!(
        told(&facts),
        "Stale\nMissed point.late.bucket.artifacts: bucket.artifacts was captured 43m 00s ago (point 3-12); its target is 30m 00s\n\
         Missed proof.late.bucket.artifacts: bucket.artifacts was captured for the newest proven point 1h 43m ago (point 3-11); \
         its target is 1h 00m"
    );
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_fresh() {
    let mut facts = facts();
    let next = Some("Mount it.".to_owned());
    facts.vault = Err(Unread { what: "cannot open /srv/vault".to_owned(), next });
    let report = judge(&facts);
    assert_eq!(told(&facts), "Unknown\nUnknown vault.unusable: the vault cannot be read: cannot open /srv/vault");
    assert_eq!((report.newest.met, report.points, report.vault_read), (None, None, false));
    assert!(text(&report).contains("lost if ams died now  unknown: the vault cannot be read\n"), "{}", text(&report));
    let put_back = with_vault(|vault| {
        let what = "it is number 1, but 2 was seen before".to_owned();
        vault.statuses.insert("fra".to_owned(), Err(Unread { what, next: None }));
    });
    assert!(
        told(&put_back).starts_with("Unknown\nUnknown site.fra.unbelieved: what fra says of itself"),
        "{}",
        told(&put_back)
    );
}

#[test]
fn a_site_that_says_nothing_any_more_is_told_by_the_other() {
    let quiet = |minutes: i64| {
        with_vault(|vault| drop(vault.statuses.insert("fra".to_owned(), Ok(Some(status("fra", minutes))))))
    };
    assert_eq!(told(&quiet(60)), "Fresh");
    assert_eq!(told(&quiet(61)), "Stale\nMissed site.fra.silent: fra has said nothing for 1h 01m; its limit is 1h 00m");
    let never = with_vault(|vault| drop(vault.statuses.insert("fra".to_owned(), Ok(None))));
    assert_eq!(told(&never), "Attention\nAttention site.fra.silent: fra has said nothing of itself yet");
    let own = with_vault(|vault| drop(vault.statuses.insert("ams".to_owned(), Ok(Some(status("ams", 600))))));
    assert_eq!(told(&own), "Fresh", "who looks lives");
}

/// A proven point of a clock that was three days ahead hid for three days that nothing was proven any more; so did the last word of a
/// site, that it had died.
#[test]
fn nothing_from_the_future_hides_what_is_late() {
    let three_days = 3 * 24 * 60;
    let proven = with_vault(|vault| {
        let mut ahead = point(11, -three_days);
        ahead.proofs.push(proof(&ahead, 60, ProofVerdict::Equal));
        vault.points = vec![ahead, point(12, 43)];
    });
    assert_eq!(
        told(&proven),
        "Unknown\nUnknown clock.apart: recovery point 3-11 was captured in the future: 2026-11-25T04:00:00Z"
    );
    for site in ["fra", "ams"] {
        let said =
            with_vault(|vault| drop(vault.statuses.insert(site.to_owned(), Ok(Some(status(site, -three_days))))));
        let what = format!("{site} has said something of itself in the future: 2026-11-25T04:00:00Z");
        assert_eq!(told(&said), format!("Unknown\nUnknown clock.apart: {what}"));
    }
    let both = with_vault(|vault| {
        vault.points.push(point(13, -three_days));
        vault.statuses.insert("fra".to_owned(), Ok(Some(status("fra", -three_days))));
    });
    assert_eq!(told(&both).matches("clock.apart").count(), 1, "one alarm, however much is wrong: {}", told(&both));
}

#[test]
fn a_point_from_the_future_is_not_taken_for_fresh_without_a_word() {
    let ahead = with_vault(|vault| vault.points.push(point(13, -10)));
    assert!(told(&ahead).starts_with("Unknown\nUnknown clock.apart: recovery point 3-13 was captured in the future"));
    let report = judge(&ahead);
    assert_eq!((report.newest.age_seconds, report.newest.met), (Some(0), None));
    assert!(text(&report).contains("newest point          unknown: 3-13 is from the future\n"), "{}", text(&report));
    assert_eq!(age(at(NOW), at("05:00:00")), Duration::ZERO);
}
