//! `warmspare check`.

use super::arguments::CheckCommand;
use super::words;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Class, Error};
use crate::preflight::{self, Finding, Level, Report, Telling};

pub(super) async fn run(
    (config, site): (Config, String),
    command: CheckCommand,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    let here = preflight::from_witness(config, &site).await?;
    let telling = if command.dry_run { Telling::KeepQuiet } else { Telling::Say };
    let report = preflight::check(&here, clock, telling).await;
    if command.json {
        words::json(&report)
    } else {
        words::data(&text(&report.findings))
    }
    words::say(&conclusion(&report));
    words::say(&format!("The other half: run `warmspare check --site {other}` at {other}.", other = here.other.name));
    Ok((!report.ready).then_some(Class::Failed))
}

/// One line a finding, and below it what to do.
fn text(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "WARNING",
            Level::Failure => "FAILURE",
        };
        let about = finding.about.to_owned();
        vec![level.to_owned(), about, format!("{}: {}", finding.object, finding.found)]
    };
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    let table = words::table(&rows);
    let lines = table.lines().zip(findings).map(|(line, finding)| match &finding.next {
        None => format!("{line}\n"),
        Some(next) => format!("{line}\n         next: {next}\n"),
    });
    lines.collect()
}

fn conclusion(report: &Report) -> String {
    let site = &report.site;
    let work = if report.live { "capture" } else { "restore" };
    let count = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let warnings = count(report.warnings, "warning");
    match report.ready {
        true => format!("\n{site} is ready: a {work} would work, as far as can be seen. {warnings}."),
        false => {
            let failures = count(report.failures, "failure");
            format!("\n{site} is NOT ready: a {work} would fail. {failures}, {warnings}.")
        }
    }
}
