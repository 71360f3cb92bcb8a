//! `warmspare capture`.

use std::sync::Arc;

use super::arguments::CaptureCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point;
use crate::units::Bytes;

pub(super) async fn run(here: Here, command: CaptureCommand, clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    if command.dry_run {
        let preview = point::preview(&here, &*clock).await?;
        if command.json {
            words::json(&preview);
        } else {
            let rows = preview.sources.iter().map(|source| vec![source.source.clone(), source.place.clone()]);
            let head = vec!["SOURCE".to_owned(), "FROM".to_owned()];
            words::data(&words::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
            words::say(&format!("into {}; nothing was changed", preview.vault));
        }
        return Ok(None);
    }
    let here = match command.rate {
        Some(rate) => here.with_rate(rate),
        None => here,
    };
    let summary = point::take(&here, clock, &progress::progress()).await?;
    let lacks: Vec<&String> = summary.sources.iter().flat_map(|source| &source.lacks).collect();
    let outcome = (!lacks.is_empty()).then_some(Class::Incomplete);
    for lack in lacks {
        words::say(&format!("NOT MIRRORED {lack}"));
    }
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
