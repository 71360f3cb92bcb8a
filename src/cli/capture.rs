//! `warmspare capture`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::arguments::CaptureCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::{self, Planned, PlannedWhy, PointSummary, Preview};
use crate::units::Bytes;

/// How many objects of each bucket a dry run names; `--json` has the first thousand.
const COPIES_SHOWN: usize = 20;

#[derive(Serialize)]
struct PreviewJson<'a> {
    #[serde(flatten)]
    preview: &'a Preview,
    mirrors: &'a BTreeMap<String, Planned>,
}

fn why(why: PlannedWhy) -> &'static str {
    match why {
        PlannedWhy::New => "new",
        PlannedWhy::Changed => "changed",
        PlannedWhy::PerhapsChanged => "written just before the last pass: read again",
        PlannedWhy::Digest => "its digest is not known yet: read again",
    }
}

/// What a capture would do.
async fn preview(here: &Here, clock: &dyn Clock, json: bool) -> Result<(), Error> {
    let preview = point::preview(here, clock).await?;
    let mirrors = point::preview_mirrors(here).await?;
    if json {
        words::json(&PreviewJson { preview: &preview, mirrors: &mirrors });
    } else {
        let rows = preview.sources.iter().map(|source| vec![source.source.clone(), source.place.clone()]);
        let head = vec!["SOURCE".to_owned(), "FROM".to_owned()];
        words::data(&words::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        for (source, planned) in &mirrors {
            for copy in planned.copies.first.iter().take(COPIES_SHOWN) {
                words::data(&format!("{source}: {:?}, {}, {}\n", copy.key, Bytes(copy.bytes), why(copy.why)));
            }
            for hole in &planned.unlisted.first {
                words::say(&format!("{source}: {hole}"));
            }
            words::say(&format!(
                "{source}: would read {} of {} objects ({}; what the other site has is not sent), {} unchanged, {} gone at the \
                 source, {} that cannot be mirrored",
                planned.copies.total,
                planned.listed,
                Bytes(planned.copied_bytes),
                planned.unchanged,
                planned.gone,
                planned.skipped.total
            ));
        }
        words::say(&format!("into {}; nothing was changed", preview.vault));
    }
    Ok(())
}

pub(super) async fn run(here: Here, command: CaptureCommand, clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    if command.dry_run {
        preview(&here, &*clock, command.json).await?;
        return Ok(None);
    }
    let here = match command.rate {
        Some(rate) => here.with_rate(rate),
        None => here,
    };
    let summary = point::take_accepting(&here, command.accept_changes, clock, &progress::progress()).await?;
    let lacks: Vec<&String> = summary.sources.iter().flat_map(|source| &source.lacks).collect();
    let misnamed: Vec<&String> = summary.sources.iter().flat_map(|source| &source.misnamed).collect();
    let outcome = (!lacks.is_empty() || !misnamed.is_empty()).then_some(Class::Incomplete);
    for lack in lacks {
        words::say(&format!("NOT MIRRORED {lack}"));
    }
    for object in misnamed {
        words::say(&format!("DAMAGED, OR MISNAMED, AT THE SOURCE {object}"));
    }
    tell_rescued(&here, &summary);
    if command.json {
        words::json(&summary);
        return Ok(outcome);
    }
    let mut rows = vec![["SOURCE", "BYTES", "STORED", "TOOK", ""].map(str::to_owned).to_vec()];
    for source in &summary.sources {
        rows.push(vec![
            source.source.clone(),
            Bytes(source.bytes).to_string(),
            Bytes(source.stored_bytes).to_string(),
            crate::units::Span(std::time::Duration::from_millis(source.millis)).to_string(),
            source.summary.clone(),
        ]);
    }
    words::data(&words::table(&rows));
    words::data(&format!(
        "recovery point {} of {}, {}\n",
        summary.point,
        summary.system,
        words::instant(summary.captured_at)
    ));
    words::say(&format!("closure: {}. Prove it at {}: warmspare restore", summary.closure, here.other.name));
    Ok(outcome)
}

/// What only the other site had, and what to do about it.
fn tell_rescued(here: &Here, summary: &PointSummary) {
    for (source, rescued) in
        summary.sources.iter().flat_map(|source| source.rescued.iter().map(move |one| (source, one)))
    {
        words::say(&format!(
            "RESCUED {}: {:?}, {}, written {}: only {} had it",
            source.source,
            rescued.key,
            Bytes(rescued.bytes),
            words::instant(rescued.modified),
            here.other.name
        ));
    }
    if summary.sources.iter().any(|source| !source.rescued.is_empty()) {
        words::say(
            "next:  Look at them, and where each lies: `warmspare mirror rescued`. They stay until somebody has.",
        );
    }
}
