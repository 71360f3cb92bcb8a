//! `warmspare restore`.

use super::arguments::RestoreCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::restore::{
    self, NothingNew, Part, PromoteRequest, PromotedDatabase, RestoreRequest, TablesRequest, UndoRequest,
};
use crate::units::Bytes;
use crate::vault::v1::Verdict;

pub(super) async fn run(here: Here, command: RestoreCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let RestoreCommand { if_new, kept, undo, promote, table, point, only, into, dry_run, replace, on_live, json } =
        command;
    if kept {
        return list(&here, json).await;
    }
    if undo {
        return Box::pin(swap_back(&here, &UndoRequest { only, on_live }, dry_run, json, clock)).await;
    }
    if promote {
        return Box::pin(make_live(&here, &PromoteRequest { only, on_live }, dry_run, json, clock)).await;
    }
    if !table.is_empty() {
        let request = TablesRequest { point, only, tables: table, dry_run };
        return Box::pin(tables(&here, &request, json, clock)).await;
    }
    if if_new
        && !here.is_live()
        && let Some(found) = restore::nothing_new(&here).await?
    {
        return Ok(nothing_new(&found, json));
    }
    let request = RestoreRequest { point, only, into, on_live, replace, rehearsal: if_new, accept: 0 };
    if dry_run {
        return preview(&here, &request, json).await;
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

/// Says why nothing is restored.
fn nothing_new(found: &NothingNew, json: bool) -> Option<Class> {
    if json {
        words::json(found);
    }
    match (&found.point, found.equal) {
        (None, _) => words::say("nothing new: there is no recovery point yet"),
        (Some(point), true) => words::say(&format!("nothing new: point {point} is proven here")),
        (Some(point), false) => words::say(&format!(
            "error: point {point} was restored here and found different; it is not tried again, a newer one is\nnext:  See its report: \
             warmspare points show {point}"
        )),
    }
    (!found.equal).then_some(Class::Incomplete)
}

/// Says what would be done.
async fn preview(here: &Here, request: &RestoreRequest, json: bool) -> Result<Option<Class>, Error> {
    let preview = restore::preview(here, request).await?;
    if json {
        words::json(&preview);
        return Ok(None);
    }
    let mut rows = vec![["STEP", "BYTES", "PLACE"].map(str::to_owned).to_vec()];
    for step in &preview.steps {
        rows.push(vec![step.step.clone(), Bytes(step.bytes).to_string(), step.place.clone()]);
    }
    words::data(&words::table(&rows));
    for (step, name) in preview.steps.iter().flat_map(|step| step.drops.iter().map(move |name| (step, name))) {
        words::say(&format!("{} would drop database {name}, of an earlier restore", step.step));
    }
    let at = words::instant(preview.captured_at);
    words::say(&format!("point {}, captured {at}; nothing was changed", preview.point));
    Ok(None)
}

/// Lists what restores have left.
async fn list(here: &Here, json: bool) -> Result<Option<Class>, Error> {
    let found = restore::kept(here).await?;
    if json {
        words::json(&found);
        return Ok(None);
    }
    if found.is_empty() {
        words::say(&format!("no restore has left a database at {}", here.site.name));
        return Ok(None);
    }
    let head = ["DATABASE", "SOURCE", "IS", "OF POINT", "REPLACED BY", "SINCE", "SIZE", "GOES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in &found {
        let goes = match (one.part, one.goes) {
            (Part::Unfinished, _) => "when the next restore begins",
            (_, true) => "when the next restore is proven",
            (Part::Replaced, false) if one.written => "when you drop it: written to while live",
            (Part::InPlace, false) => "",
            (_, false) => "when you drop it",
        };
        rows.push(vec![
            one.database.clone(),
            one.source.clone(),
            one.part.to_string(),
            one.point.clone().unwrap_or_else(|| "none".to_owned()),
            one.replaced_by.clone().unwrap_or_default(),
            one.since.parse().map_or_else(|_| one.since.clone(), words::instant),
            one.bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default(),
            goes.to_owned(),
        ]);
    }
    words::data(&words::table(&rows));
    words::say("one that you rename (ALTER DATABASE … RENAME TO …) is yours: nothing here touches it any more");
    Ok(None)
}

/// Undoes the last restore, or says what that would do.
async fn swap_back(
    here: &Here,
    request: &UndoRequest,
    dry_run: bool,
    json: bool,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    let report = match dry_run {
        true => restore::preview_undo(here, request).await?,
        false => restore::undo(here, request, clock).await?,
    };
    if json {
        words::json(&report);
        return Ok(None);
    }
    let would = if dry_run { "would: " } else { "" };
    for one in &report.databases {
        words::data(&format!("{would}{}: {}\n", one.source, one.words()));
    }
    if report.files.is_empty() {
        words::say("files and buckets are not undone; the restore replaced no file");
    } else {
        words::say(
            "files and buckets are not undone; these files the restore replaced, and what they were lies there:",
        );
        report.files.iter().for_each(|file| words::say(&format!("  {file}")));
    }
    words::say(if dry_run {
        "nothing was changed"
    } else {
        "next:  look at it, then start the application; the same command swaps them again"
    });
    Ok(None)
}

/// Makes the restored databases live ones, or says what that would do.
async fn make_live(
    here: &Here,
    request: &PromoteRequest,
    dry_run: bool,
    json: bool,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    let report = match dry_run {
        true => restore::preview_promote(here, request, clock).await?,
        false => restore::promote(here, request, clock).await?,
    };
    let lacking = report.databases.iter().any(|one| !one.refused.is_empty());
    let class = lacking.then_some(Class::Incomplete);
    if json {
        words::json(&report);
        return Ok(class);
    }
    report.databases.iter().for_each(|one| words::data(&promoted(one, dry_run)));
    words::say(if dry_run {
        "nothing was changed"
    } else {
        "next:  set the passwords that are missing, write the site as `live` at both sites, start the application, look at it"
    });
    Ok(class)
}

fn promoted(one: &PromotedDatabase, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let mut lines = vec![
        format!("{}, database {} of point {}", one.source, one.database, one.point),
        format!("  {would}given what they had: roles {}", one.roles.join(", ")),
    ];
    if one.without_passwords {
        lines.push("  NOT given: passwords, of which the point has none".to_owned());
    }
    if !one.unknown_settings.is_empty() {
        lines.push(format!("  not set, this server does not have them: {}", one.unknown_settings.join(", ")));
    }
    lines.extend(one.refused.iter().map(|refused| format!("  REFUSED  {refused}")));
    match &one.sequences {
        None => lines.push("  sequences jumped their gap before, since the restore".to_owned()),
        Some(all) => lines.extend(all.iter().map(|advance| format!("  {would}advanced: sequence {advance}"))),
    }
    lines.join("\n") + "\n"
}

/// Brings single tables, or says what that would do.
async fn tables(here: &Here, request: &TablesRequest, json: bool, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let report = restore::tables(here, request, clock, &progress::progress()).await?;
    let different = report.tables.iter().any(|table| table.equal == Some(false));
    if json {
        words::json(&report);
        return Ok(different.then_some(Class::Incomplete));
    }
    for table in &report.tables {
        let verdict = match table.equal {
            None => "would be made",
            Some(true) => "EQUAL",
            Some(false) => "DIFFERENT: its rows are not those that were captured",
        };
        let (rows, bytes) = (table.rows, Bytes(table.bytes));
        words::data(&format!("{} in {}: {rows} rows ({bytes}), {verdict}\n", table.into, report.database));
        table.left_out.iter().for_each(|left_out| words::data(&format!("  left out  {left_out}\n")));
        words::say(&format!("to put back what is missing:  {}", table.hint));
    }
    if request.dry_run {
        words::say("nothing was changed");
    } else {
        let schema = &report.schema;
        words::say(&format!(
            "when you need them no more, and before the next capture:  DROP SCHEMA \"{schema}\" CASCADE;"
        ));
    }
    Ok(different.then_some(Class::Incomplete))
}
