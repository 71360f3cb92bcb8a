//! A report as Prometheus reads it: the text format 0.0.4 (prometheus.io, "Exposition formats").
//!
//! Ages are told as instants, so that they grow by themselves when nobody looks any more; `warmspare_report_timestamp_seconds` says when
//! somebody did. What is unknown is absent, never 0: `absent()` finds it.

use jiff::Timestamp;

use super::alarms::alarms;
use super::freshness::{Loss, Measure, Mirrored, Report, Reread, SiteAt, Verdict};
use crate::jobs::Standing;

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The metrics of a report.
pub fn text(report: &Report) -> String {
    let mut page = Page { system: &report.system, text: String::new() };
    page.of_system(report);
    page.of_sources(report);
    page.of_sites(report);
    page.of_jobs(report);
    page.of_alarms(report);
    page.text
}

struct Page<'a> {
    system: &'a str,
    text: String,
}

impl Page<'_> {
    /// A family with a sample for each value that is known.
    fn family<'b>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'b>, Option<f64>)>) {
        let mut lines = String::new();
        for (labels, value) in samples {
            let Some(value) = value else { continue };
            let labels = std::iter::once(("system", self.system)).chain(labels);
            let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            lines += &format!("warmspare_{name}{{{}}} {value}\n", labels.join(","));
        }
        if !lines.is_empty() {
            self.text += &format!("# HELP warmspare_{name} {help}\n# TYPE warmspare_{name} gauge\n{lines}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, help, [(Vec::new(), value)]);
    }

    fn of_system(&mut self, report: &Report) {
        self.one("report_timestamp_seconds", "When the report was made.", Some(seconds(report.at)));
        self.one("vault_readable", "Whether the vault could be read.", Some(flag(report.vault_read)));
        let verdicts = [Verdict::Fresh, Verdict::Attention, Verdict::Unknown, Verdict::Stale];
        let verdicts =
            verdicts.map(|verdict| (vec![("verdict", word(verdict))], Some(flag(verdict == report.verdict))));
        self.family("verdict", "The verdict of the report: 1 for the one that holds.", verdicts);
        self.one("points", "Recovery points in the vault.", report.points.map(number));
        let (newest, proven) = (&report.newest, &report.proven);
        self.one(
            "newest_point_timestamp_seconds",
            "When the newest recovery point was captured.",
            newest.captured_at.map(seconds),
        );
        let help = "When the newest recovery point was captured that a restore has proven equal.";
        self.one("proven_point_timestamp_seconds", help, proven.captured_at.map(seconds));
        let targets = [("point", newest), ("proven", proven)];
        let of = |value: fn(&Measure) -> Option<f64>| {
            targets.map(|(target, measure)| (vec![("target", target)], value(measure)))
        };
        self.family(
            "target_seconds",
            "How old the newest point, and the newest proven one, may be.",
            of(|m| Some(number(m.target_seconds))),
        );
        self.family("target_met", "Whether it is no older; absent when that is unknown.", of(|m| m.met.map(flag)));
        let losses = [("point", &report.loss), ("proven", &report.loss_proven)];
        let of = |value: fn(&Loss) -> Option<u64>| {
            losses.map(|(target, loss)| (vec![("target", target)], value(loss).map(number)))
        };
        let help = "Rows the live site has written since the newest point, and since the newest proven one; absent where nobody counts.";
        self.family("loss_rows", help, of(|loss| loss.rows));
        let help =
            "Objects it has written, changed or deleted since, as often as that was seen; absent where nobody counts.";
        self.family("loss_objects", help, of(|loss| loss.objects));
        let last = report.rehearsals.iter().find(|rehearsal| rehearsal.complete);
        let value = |of: fn(&super::freshness::Rehearsal) -> f64| last.map(of);
        self.one(
            "last_restore_timestamp_seconds",
            "When the last whole restore ended.",
            value(|last| seconds(last.finished_at)),
        );
        self.one("last_restore_duration_seconds", "How long it took.", value(|last| number(last.seconds)));
        self.one("last_restore_equal", "Whether what it brought was found equal.", value(|last| flag(last.equal)));
    }

    fn of_sources(&mut self, report: &Report) {
        let of = |value: fn(&super::freshness::SourceAt) -> Option<f64>| {
            report.sources.iter().map(move |source| (vec![("source", source.source.as_str())], value(source)))
        };
        let help = "When the source was captured for the newest point that has it.";
        self.family("source_newest_timestamp_seconds", help, of(|source| source.newest.captured_at.map(seconds)));
        let help = "When it was captured for the newest point of which a restore has shown it equal.";
        self.family("source_proven_timestamp_seconds", help, of(|source| source.proven.captured_at.map(seconds)));
        let of = |value: fn(&Mirrored) -> u64| {
            let buckets =
                report.sources.iter().filter_map(|source| Some((source.source.as_str(), source.mirrored.as_ref()?)));
            buckets.map(move |(source, mirrored)| (vec![("source", source)], Some(number(value(mirrored)))))
        };
        self.family("bucket_objects", "Objects of the bucket in its newest point.", of(|bucket| bucket.objects));
        self.family("bucket_bytes", "Their bytes.", of(|bucket| bucket.object_bytes));
        self.family("bucket_copied_objects", "Objects that were copied for that point.", of(|bucket| bucket.copied));
        self.family(
            "bucket_sent_bytes",
            "Bytes that were sent to the other site for it.",
            of(|bucket| bucket.sent_bytes),
        );
        let help = "Bytes that were not sent, because the other site had them.";
        self.family("bucket_saved_bytes", help, of(|bucket| bucket.saved_bytes));
        self.family("bucket_gone_objects", "Objects that the live site has no more.", of(|bucket| bucket.gone));
        self.family("bucket_failed_objects", "Objects that could not be mirrored.", of(|bucket| bucket.failed));
        let of = |value: fn(&Reread) -> f64| {
            let looks =
                report.sources.iter().filter_map(|source| Some((source.source.as_str(), source.reread.as_ref()?)));
            looks.map(move |(source, look)| (vec![("source", source)], Some(value(look))))
        };
        let help = "When the other site's copy of the bucket was last looked at.";
        self.family("bucket_verified_timestamp_seconds", help, of(|look| seconds(look.at)));
        let help = "Objects whose content was read and hashed by that look, which reads a share.";
        self.family("bucket_reread_objects", help, of(|look| number(look.reread)));
        self.family("bucket_reread_bytes", "Their bytes.", of(|look| number(look.reread_bytes)));
        let help = "Objects that it found to be not as recorded.";
        self.family("bucket_faulty_objects", help, of(|look| number(look.faults)));
    }

    fn of_sites(&mut self, report: &Report) {
        let of = |value: fn(&SiteAt) -> Option<f64>| {
            report.sites.iter().map(move |site| (vec![("site", site.site.as_str())], value(site)))
        };
        let live = |site: &SiteAt| (site.role != "unknown").then(|| flag(site.role == "live"));
        self.family("site_live", "Whether the site is live; absent when nobody here can tell.", of(live));
        self.family(
            "site_said_timestamp_seconds",
            "When the site said something of itself last.",
            of(|site| site.said_at.map(seconds)),
        );
        self.family("site_ready", "Whether its last check found it ready.", of(|site| site.ready.map(flag)));
        self.family("site_checked_timestamp_seconds", "When that check was.", of(|site| site.checked_at.map(seconds)));
    }

    fn of_jobs(&mut self, report: &Report) {
        let of = |value: fn(&Standing, Timestamp) -> Option<f64>| {
            let jobs = report.sites.iter().flat_map(|site| site.jobs.iter().flatten().map(move |job| (site, job)));
            jobs.filter(|(_, job)| job.runs_here).map(move |(site, job)| {
                (vec![("site", site.site.as_str()), ("job", job.name.as_str())], value(job, report.at))
            })
        };
        let help = "When the job last did what it should.";
        self.family("job_done_timestamp_seconds", help, of(|job, _| job.done_at.map(seconds)));
        let help = "When it last ended, however it did.";
        self.family(
            "job_ended_timestamp_seconds",
            help,
            of(|job, _| job.last.as_ref().map(|last| seconds(last.ended_at))),
        );
        self.family(
            "job_failures",
            "Runs in a row that did not do what they should.",
            of(|job, _| Some(f64::from(job.failures))),
        );
        let help = "How many of them are allowed before that is an alarm.";
        self.family("job_failures_allowed", help, of(|job, _| Some(f64::from(job.failures_allowed))));
        self.family("job_running", "Whether it runs.", of(|job, _| Some(flag(job.running_since.is_some()))));
        self.family(
            "job_late",
            "Whether it was to run and did not.",
            of(|job, _| Some(flag(job.late_since.is_some()))),
        );
        let paused =
            |job: &Standing, now: Timestamp| Some(flag(job.pause.as_ref().is_some_and(|pause| now < pause.until)));
        self.family("job_paused", "Whether somebody has paused it.", of(paused));
    }

    fn of_alarms(&mut self, report: &Report) {
        let alarms = alarms(report);
        let labels = alarms
            .iter()
            .map(|alarm| (vec![("alarm", alarm.key.as_str()), ("severity", alarm.severity.as_str())], Some(1.0)));
        self.family("alarm", "The alarms that hold.", labels);
        self.one("alarms", "How many alarms hold.", Some(number(u64::try_from(alarms.len()).unwrap_or(u64::MAX))));
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fresh => "fresh",
        Verdict::Attention => "attention",
        Verdict::Unknown => "unknown",
        Verdict::Stale => "stale",
    }
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// Exact up to 2^53: nothing here is counted that far.
#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn number(number: u64) -> f64 {
    number as f64
}

/// Seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::freshness::{Unread, judge};
    use crate::report::sample::{facts, with_job, with_vault};

    #[test]
    fn what_is_unknown_is_absent_and_what_is_known_has_its_instant() {
        let known = text(&judge(&facts()));
        for line in [
            "warmspare_newest_point_timestamp_seconds{system=\"app\"} 1795317420\n",
            "warmspare_target_met{system=\"app\",target=\"proven\"} 1\n",
            "warmspare_verdict{system=\"app\",verdict=\"fresh\"} 1\n",
            "warmspare_job_done_timestamp_seconds{system=\"app\",site=\"ams\",job=\"capture\"} 1795318200\n",
            "warmspare_last_restore_duration_seconds{system=\"app\"} 243\n",
            "warmspare_alarms{system=\"app\"} 0\n",
        ] {
            assert!(known.contains(line), "{line} in\n{known}");
        }
        assert!(!known.contains("warmspare_alarm{"), "{known}");
        assert!(!known.contains("warmspare_loss_"), "nobody has counted: {known}");
        let counted = text(&judge(&with_vault(|vault| {
            (vault.points[0].rows_since, vault.points[0].objects_since) = (Some(700), Some(12));
            vault.points[1].objects_since = Some(0);
        })));
        for line in [
            "warmspare_loss_rows{system=\"app\",target=\"proven\"} 700\n",
            "warmspare_loss_objects{system=\"app\",target=\"point\"} 0\n",
            "warmspare_loss_objects{system=\"app\",target=\"proven\"} 12\n",
        ] {
            assert!(counted.contains(line), "{line} in\n{counted}");
        }
        assert!(!counted.contains("warmspare_loss_rows{system=\"app\",target=\"point\"}"), "{counted}");
        let mut blind = facts();
        blind.vault = Err(Unread { what: "refused".to_owned(), next: None });
        let unknown = text(&judge(&blind));
        assert!(!unknown.contains("newest_point") && !unknown.contains("target_met"), "{unknown}");
        assert!(
            unknown.contains("warmspare_alarm{system=\"app\",alarm=\"vault.unusable\",severity=\"critical\"} 1\n"),
            "{unknown}"
        );
        let odd = text(&judge(&with_job(|job| job.name = "a\"b\\c\nd".to_owned())));
        assert!(odd.contains("job=\"a\\\"b\\\\c\\nd\"} "), "{odd}");
    }
}
