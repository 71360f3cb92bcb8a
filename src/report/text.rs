//! A report as a person reads it: the verdict first, one screen, no colour needed.

use jiff::Timestamp;

use super::freshness::{Grade, Line, Loss, Measure, Rehearsal, Report, Reread, SiteAt, SourceAt, Verdict, span};
use crate::jobs::{RunVerdict, Standing};
use crate::units::Bytes;

/// Lines that are told one by one; a screen has no more room.
const LINES_MAX: usize = 8;

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}  {}: {}\n", word(report.verdict), report.system, report.summary);
    text += &format!("       seen from {} at {}\n\n", report.site, instant(report.at));
    text += &facts(report);
    text += "\n";
    text += &table(&sources(report));
    text += "\n";
    text += &table(&sites(report));
    if let Some(rows) = jobs(report) {
        text += "\n";
        text += &table(&rows);
    }
    if !report.lines.is_empty() {
        text += "\n";
        text += &lines(&report.lines);
    }
    text
}

/// The verdict, in five letters or more that stand out in a log.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fresh => "FRESH",
        Verdict::Attention => "ATTENTION",
        Verdict::Unknown => "UNKNOWN",
        Verdict::Stale => "STALE",
    }
}

fn facts(report: &Report) -> String {
    let live = report.live.as_deref().unwrap_or("the live site");
    let lost = match (report.loss.since, report.loss.seconds) {
        (Some(since), Some(seconds)) => {
            let counted = counted(report, &report.loss);
            format!("at most what came after {}, {}{counted}", instant(since), span(seconds))
        }
        _ if report.vault_read => "everything: there is no recovery point".to_owned(),
        _ => "unknown: the vault cannot be read".to_owned(),
    };
    let mut rows = vec![
        (format!("lost if {live} died now"), lost),
        ("newest point".to_owned(), measured(&report.newest)),
        ("proven by a restore".to_owned(), proven(report)),
        ("time to restore".to_owned(), restore(report.rehearsals.iter().find(|done| done.complete))),
        ("closure".to_owned(), closure(report.closure.as_deref())),
    ];
    for source in &report.sources {
        rows.extend(source.reread.iter().map(|look| ("read again".to_owned(), reread(source, look))));
    }
    table(&rows.into_iter().map(|(what, found)| vec![what, found]).collect::<Vec<_>>())
}

/// The last look at a bucket's copy. One run reads a share of it, and the next one another.
fn reread(source: &SourceAt, look: &Reread) -> String {
    let of = source.mirrored.map(|mirrored| format!(" of {}", Bytes(mirrored.object_bytes))).unwrap_or_default();
    let faults = match look.faults {
        0 => "all as recorded".to_owned(),
        faults => format!("{faults} NOT as recorded"),
    };
    format!(
        "{}: {} of {} objects, {}{of}, {faults}, by {} at {}",
        source.source,
        look.reread,
        look.objects,
        Bytes(look.reread_bytes),
        look.site,
        instant(look.at)
    )
}

/// What is known besides the time.
fn counted(report: &Report, loss: &Loss) -> String {
    let has = |kind: &str| report.sources.iter().any(|source| source.source.starts_with(kind));
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (kind, what, count) in [("database.", "rows", loss.rows), ("bucket.", "objects", loss.objects)] {
        match count {
            Some(count) => known.push(format!("{count} {what}")),
            None if has(kind) => unknown.push(what),
            None => {}
        }
    }
    let known = (!known.is_empty()).then(|| format!("{} were written or deleted since", known.join(" and ")));
    let unknown = (!unknown.is_empty()).then(|| format!("{} are not counted here", unknown.join(" and ")));
    known.into_iter().chain(unknown).map(|told| format!("; {told}")).collect()
}

/// What came after it, too, where that is counted and the newest point is another.
fn proven(report: &Report) -> String {
    let (proven, loss) = (&report.proven, &report.loss_proven);
    let is_told = (loss.rows.is_some() || loss.objects.is_some()) && proven.point != report.newest.point;
    match is_told {
        true => measured(proven) + &counted(report, loss),
        false => measured(proven),
    }
}

fn measured(measure: &Measure) -> String {
    let target = span(measure.target_seconds);
    match (&measure.point, measure.age_seconds, measure.met) {
        (Some(point), Some(age), Some(true)) => format!("{point}, captured {} ago; target {target}", span(age)),
        (Some(point), Some(age), Some(false)) => format!("{point}, captured {} ago; target {target} MISSED", span(age)),
        (Some(point), _, None) => format!("unknown: {point} is from the future"),
        (None, _, None) => "unknown".to_owned(),
        _ => format!("none; target {target}"),
    }
}

fn restore(done: Option<&Rehearsal>) -> String {
    match done {
        None => "unknown: no whole restore was recorded".to_owned(),
        Some(done) => {
            let verdict = if done.equal { "equal" } else { "DIFFERENT" };
            format!(
                "{}, point {} at {}, {verdict}, {}",
                span(done.seconds),
                done.point,
                done.site,
                instant(done.finished_at)
            )
        }
    }
}

/// A point is called whole here by its signed headers; that what the database names is in the buckets is another question.
fn closure(verdict: Option<&str>) -> String {
    match verdict {
        None => "unknown".to_owned(),
        Some("not judged") => {
            "not judged by this release: whole by its signed headers, and where proven, by a restore".to_owned()
        }
        Some(other) => other.to_owned(),
    }
}

fn sources(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![row(["SOURCE", "NEWEST", "AGE", "TARGET", "PROVEN", "AGE", "TARGET"])];
    for source in &report.sources {
        let mut cells = vec![source.source.clone()];
        for measure in [&source.newest, &source.proven] {
            let nothing = if measure.met.is_none() { "unknown" } else { "none" };
            let missed = if measure.met == Some(false) { " MISSED" } else { "" };
            cells.push(measure.point.clone().unwrap_or_else(|| nothing.to_owned()));
            cells.push(measure.age_seconds.map(|age| span(age).to_string()).unwrap_or_default());
            cells.push(format!("{}{missed}", span(measure.target_seconds)));
        }
        rows.push(cells);
    }
    rows
}

fn sites(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![row(["SITE", "ROLE", "SAID SOMETHING", "READY"])];
    for SiteAt { site, role, said_age_seconds, ready, checked_at, .. } in &report.sites {
        let said = match said_age_seconds {
            Some(age) => format!("{} ago", span(*age)),
            None if report.vault_read => "never, or not to be believed".to_owned(),
            None => "unknown".to_owned(),
        };
        let ready = match (ready, checked_at) {
            (Some(ready), Some(at)) => format!("{}, {}", if *ready { "yes" } else { "NO" }, instant(*at)),
            _ => "unknown".to_owned(),
        };
        rows.push(vec![site.clone(), (*role).to_owned(), said, ready]);
    }
    rows
}

fn jobs(report: &Report) -> Option<Vec<Vec<String>>> {
    let mut rows = vec![row(["JOB", "SITE", "LAST RUN", "VERDICT", "NEXT"])];
    for site in &report.sites {
        for job in site.jobs.iter().flatten().filter(|job| job.runs_here) {
            rows.push(vec![job.name.clone(), site.site.clone(), last(job), verdict(job), next(job, report.at)]);
        }
    }
    if rows.len() == 1 {
        let unknown = report.sites.iter().all(|site| site.jobs.is_none());
        return unknown.then(|| vec![row(["JOBS", "unknown here: this state folder has no history of them"])]);
    }
    Some(rows)
}

fn last(job: &Standing) -> String {
    match (&job.running_since, &job.last) {
        (Some(since), _) => format!("runs since {}", instant(*since)),
        (None, Some(run)) => instant(run.ended_at),
        (None, None) => "never".to_owned(),
    }
}

fn verdict(job: &Standing) -> String {
    let word = match job.last.as_ref().map(|run| run.verdict) {
        None => "",
        Some(RunVerdict::Done) => "done",
        Some(RunVerdict::Incomplete) => "INCOMPLETE",
        Some(RunVerdict::Failed) => "FAILED",
        Some(RunVerdict::Refused) => "REFUSED",
        Some(RunVerdict::TimedOut) => "TOOK TOO LONG",
        Some(RunVerdict::Lost) => "LOST",
    };
    word.to_owned()
}

fn next(job: &Standing, now: Timestamp) -> String {
    if let Some(pause) = job.pause.as_ref().filter(|pause| now < pause.until) {
        return format!("PAUSED until {}", instant(pause.until));
    }
    let late = if job.late_since.is_some() { "LATE " } else { "" };
    let next = match (&job.next_at, &job.waits_for) {
        (_, Some(why)) => why.clone(),
        (Some(at), None) => instant(*at),
        (None, None) => "unknown".to_owned(),
    };
    format!("{late}{next}")
}

fn lines(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines.iter().take(LINES_MAX) {
        let grade = match line.grade {
            Grade::Missed => "MISSED   ",
            Grade::Unknown => "UNKNOWN  ",
            Grade::Attention => "ATTENTION",
            Grade::Notice => "NOTICE   ",
        };
        text += &format!("{grade}  {}\n           next: {}\n", line.what, line.next);
    }
    match lines.len().saturating_sub(LINES_MAX) {
        0 => text,
        more => text + &format!("and {more} more; --json has all of them\n"),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Rows in columns; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// An instant to the second.
pub fn instant(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["POINT", "AGE"]), row(["0-1", ""])]), "POINT  AGE\n0-1\n");
        assert_eq!(table(&[]), "");
    }
}
