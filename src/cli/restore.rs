//! `warmspare restore`.

use super::arguments::RestoreCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::restore::{self, RestoreRequest};
use crate::units::Bytes;
use crate::vault::v1::Verdict;

pub(super) async fn run(here: Here, command: RestoreCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let RestoreCommand { point, only, into, dry_run, replace, on_live, json } = command;
    let request = RestoreRequest { point, only, into, on_live, replace };
    if dry_run {
        let preview = restore::preview(&here, &request).await?;
        if json {
            words::json(&preview);
            return Ok(None);
        }
        let mut rows = vec![["STEP", "BYTES", "PLACE"].map(str::to_owned).to_vec()];
        for step in &preview.steps {
            rows.push(vec![step.step.clone(), Bytes(step.bytes).to_string(), step.place.clone()]);
        }
        words::data(&words::table(&rows));
        words::say(&format!(
            "point {}, captured {}; nothing was changed",
            preview.point,
            words::instant(preview.captured_at)
        ));
        return Ok(None);
    }
    let report = restore::restore(&here, &request, clock, &progress::progress()).await?;
    if json {
        words::json(&report)
    } else {
        words::data(&report.to_text())
    }
    if report.verdict == Verdict::Different {
        words::say(&format!(
            "next:  No database was swapped in: {point}'s stands beside the one from before. Files were put in their places; \
             the report says where those they replaced are kept. If what DIFFERS can be done without, bring the database \
             alone: warmspare restore --point {point} --only database.NAME",
            point = report.point
        ));
        return Ok(Some(Class::Incomplete));
    }
    let age = words::age(report.finished_at, report.captured_at);
    words::say(&format!(
        "what was written after {} is not in it: {age} before now",
        words::instant(report.captured_at)
    ));
    Ok(None)
}
