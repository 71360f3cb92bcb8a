//! `warmspare report`.

use std::sync::Arc;

use super::arguments::ReportCommand;
use super::words;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::Jobs;
use crate::error::{Class, Error};
use crate::report::Counting;
use crate::{notify, preflight, report};

pub(super) async fn run(
    (config, site): (Config, String),
    command: ReportCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let (jobs, mut others) = Jobs { config: &config, site: &site, clock: Arc::clone(&clock) }.known().await;
    let here = preflight::from_witness(config, &site).await?;
    let counting = if command.without_objects { Counting::Rows } else { Counting::RowsAndObjects };
    others.extend(notify::lines(&here));
    let report = report::make(&here, &*clock, jobs, others, counting).await;
    if let Some(file) = &command.prometheus {
        report::write_metrics(&report, file)?;
    }
    if command.json {
        words::json(&report)
    } else {
        words::data(&report::text::text(&report))
    }
    if !report.vault_read {
        return Ok(Some(Class::Failed));
    }
    Ok((command.strict && !report.verdict.meets_targets()).then_some(Class::Incomplete))
}
