//! `warmspare demo`.

use super::arguments::DemoCommand;
use super::{progress, words};
use crate::demo::{self, DemoSummary};
use crate::error::{Class, Error};
use crate::point::{PointSummary, SharedClock};
use crate::units::{Bytes, Span};

pub(super) async fn run(command: DemoCommand, clock: SharedClock) -> Result<Option<Class>, Error> {
    let quiet = command.json;
    let tell = |sentence: &str| if quiet { words::say(sentence) } else { words::data(&format!("{sentence}\n")) };
    let summary = demo::run(command.keep.clone(), clock, &progress::progress(), &tell).await?;
    if command.json {
        words::json(&summary);
        return Ok(None);
    }
    words::data(&text(&summary));
    if let Some(folder) = command.keep {
        words::say(&format!("everything else was left in {}", folder.display()));
    }
    Ok(None)
}

fn span(millis: u64) -> String {
    Span(std::time::Duration::from_millis(millis)).to_string()
}

fn text(summary: &DemoSummary) -> String {
    let lost = summary.at_disaster.packages - summary.after.packages;
    let restored = summary.restore.finished_at.duration_since(summary.restore.started_at);
    let restored = Span(restored.try_into().unwrap_or_default());
    let mut text = format!(
        "\nfra holds {after}: everything of recovery point {point}, proven equal.\n\n\
         Lost: {lost} packages published in the {risk} between that point and the disaster.\n\
         Down: {down}; restore and proof took {restored}, the rest is the wait until ams could not believe to be live any more\n      \
         (its lease is 6 s here; 60 s is the default, and 74 s the wait).\n\
         Live: {served}. ams is {state}: {why}.\n\n",
        after = summary.after,
        point = summary.restore.point,
        risk = span(summary.millis_at_risk),
        down = span(summary.down_millis),
        served = summary.served_by,
        state = summary.old_site.state,
        why = summary.old_site.why,
    );
    let stored = |point: &PointSummary| Bytes(point.sources.iter().map(|source| source.stored_bytes).sum()).to_string();
    let took = |point: &PointSummary| span(point.millis);
    let mut rows = vec![["STEP", "TOOK", "WHAT"].map(str::to_owned).to_vec()];
    for (name, point) in [("first point", &summary.first), ("second point", &summary.second)] {
        rows.push(vec![name.to_owned(), took(point), format!("{} new in the vault", stored(point))]);
    }
    for step in &summary.restore.steps {
        rows.push(vec![format!("restore {}", step.step), span(step.load_millis), step.loaded.clone()]);
        rows.push(vec![format!("prove {}", step.step), span(step.prove_millis), step.compared.clone()]);
    }
    text.push_str(&words::table(&rows));
    text.push_str(&format!(
        "\nThe whole demo took {}. The restore's report: {}\n",
        span(summary.millis),
        summary.report.display()
    ));
    text
}
