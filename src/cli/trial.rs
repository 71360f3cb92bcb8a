//! `warmspare capture --try URL`.

use super::arguments::TryArguments;
use super::{progress, words};
use crate::config::reference::Reference;
use crate::error::{Class, Error};
use crate::point::SharedClock;
use crate::trial::{self, TrialOutcome, TrialReport, TrialRequest, TrialRestore};
use crate::units::{Bytes, Span};
use crate::vault::v1::Verdict;

pub(super) async fn run(
    url: String,
    command: TryArguments,
    rate: Option<Bytes>,
    json: bool,
    clock: SharedClock,
) -> Result<Option<Class>, Error> {
    let named = |text: Option<String>| text.as_deref().map(Reference::parse).transpose();
    let restore = match command.into {
        _ if command.no_restore => TrialRestore::No,
        Some(url) => {
            TrialRestore::Into { url, password: named(command.into_password).map_err(trial::TrialError::Password)? }
        }
        None => TrialRestore::OwnServer,
    };
    let password = named(command.password).map_err(trial::TrialError::Password)?;
    let request = TrialRequest { url, password, rate, restore };
    let report = trial::run(&request, clock, &progress::progress(), &words::say).await?;
    if json {
        words::json(&report)
    } else {
        words::data(&text(&report))
    }
    Ok(conclusion(&report.restore))
}

fn span(millis: u64) -> String {
    Span(std::time::Duration::from_millis(millis)).to_string()
}

fn text(report: &TrialReport) -> String {
    let TrialReport { database, database_bytes, captured_bytes, vault_bytes, captured, capture_millis, .. } = report;
    let row = |cells: [String; 3]| cells.to_vec();
    let mut rows = vec![row(["STEP", "TOOK", "WHAT"].map(str::to_owned))];
    rows.push(row(["capture".to_owned(), span(*capture_millis), format!("{captured}, {}", Bytes(*captured_bytes))]));
    let share = vault_bytes.saturating_mul(100) / (*captured_bytes).max(1);
    let stored = format!("{} in the vault, compressed and sealed: {share} % of what was captured", Bytes(*vault_bytes));
    rows.push(row(["store".to_owned(), String::new(), stored]));
    match &report.restore {
        TrialOutcome::NotTried { why } | TrialOutcome::Failed { why, .. } => {
            rows.push(row(["restore".to_owned(), String::new(), format!("NOT DONE: {why}")]));
        }
        TrialOutcome::Compared { loaded, load_millis, compared, prove_millis, differences, .. } => {
            rows.push(row(["restore".to_owned(), span(*load_millis), loaded.clone()]));
            rows.push(row(["prove".to_owned(), span(*prove_millis), compared.clone()]));
            rows.extend(differences.iter().map(|each| row(["DIFFERS".to_owned(), String::new(), each.clone()])));
        }
    }
    let version = format!("{}.{}", report.server_version_num / 10_000, report.server_version_num % 10_000);
    format!(
        "{database}: PostgreSQL {version}, {} on its disk. Nothing was written there.\n\n{}",
        Bytes(*database_bytes),
        words::table(&rows)
    )
}

/// Says what it means, and which exit code it is.
fn conclusion(outcome: &TrialOutcome) -> Option<Class> {
    match outcome {
        TrialOutcome::Compared { verdict: Verdict::Equal, .. } => {
            words::say(
                "\nIt came back, proven equal. Everything of the trial was removed. To protect it: warmspare init",
            );
            None
        }
        TrialOutcome::Compared { .. } => {
            words::say("\nIt came back DIFFERENT: this is a defect of warmspare; please report what differs.");
            Some(Class::Incomplete)
        }
        TrialOutcome::NotTried { .. } => {
            words::say("\nIt can be captured; that it comes back was not shown. Everything of the trial was removed.");
            None
        }
        TrialOutcome::Failed { next, class, .. } => {
            words::say("\nIt can be captured, but did not come back. Everything of the trial was removed.");
            if let Some(next) = next {
                words::say(&format!("next:  {next}"));
            }
            Some(*class)
        }
    }
}
