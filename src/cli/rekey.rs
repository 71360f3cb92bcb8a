//! `warmspare vault rekey`.

use serde_json::{Value, json};

use super::arguments::RekeyCommand;
use super::words;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point;
use crate::vault::rekey::{self, Outcome, RekeyReport, RekeyedEpoch};

pub(super) async fn run(here: Here, command: RekeyCommand) -> Result<Option<Class>, Error> {
    let old = command.identity.as_deref().map(|reference| here.identity_at(reference)).transpose()?;
    let (keys, reader) = point::open_vault(&here).await?;
    let report = rekey::rekey(&here, &keys, &reader, old, command.dry_run).await?;
    if command.json {
        words::json(
            &json!({ "dry_run": command.dry_run, "epochs": report.epochs.iter().map(as_json).collect::<Vec<_>>() }),
        );
    } else {
        words::data(&rows(&report));
    }
    words::say(&said(&here, &report));
    Ok(if report.is_complete() { None } else { Some(Class::Incomplete) })
}

/// The outcome in a word, the object it is about, and more where there is more.
fn told(outcome: &Outcome) -> (&'static str, &str, &str) {
    match outcome {
        Outcome::Done { key, opened: true } => ("re-keyed", key, "opened again with a new identity"),
        Outcome::Done { key, opened: false } => ("re-keyed", key, "no new identity is here to open it with"),
        Outcome::Planned { key } => ("would be re-keyed", key, ""),
        Outcome::Nothing { key } => ("nothing to do", key, ""),
        Outcome::NotOpened { why } => ("NOT OPENED", "", why),
        Outcome::Damaged { what } => ("DAMAGED", "", what),
    }
}

fn rows(report: &RekeyReport) -> String {
    let head = ["EPOCH", "WRITTEN AT", "OUTCOME", "SECRETS", ""].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for epoch in &report.epochs {
        let (word, key, more) = told(&epoch.outcome);
        let object = key.rsplit('/').next().unwrap_or_default();
        rows.push(vec![epoch.id.to_string(), epoch.writer.clone(), word.into(), object.into(), more.into()]);
        for skipped in &epoch.skipped {
            let object = skipped.key.rsplit('/').next().unwrap_or_default().to_owned();
            rows.push(vec![epoch.id.to_string(), String::new(), "does not count".into(), object, skipped.what.clone()]);
        }
    }
    words::table(&rows)
}

fn as_json(epoch: &RekeyedEpoch) -> Value {
    let (word, key, more) = told(&epoch.outcome);
    let readers: Vec<String> = epoch.readers.iter().map(ToString::to_string).collect();
    let skipped: Vec<Value> = epoch.skipped.iter().map(|s| json!({ "key": s.key, "what": s.what })).collect();
    json!({
        "epoch": epoch.id.to_string(), "writer": epoch.writer, "readers": readers,
        "outcome": word, "key": key, "more": more, "skipped": skipped,
    })
}

/// Who can read what, now.
fn said(here: &Here, report: &RekeyReport) -> String {
    let mut text = String::new();
    for writer in here.config.sites.keys() {
        let is_current = |epoch: &&RekeyedEpoch| {
            epoch.writer == *writer && matches!(epoch.outcome, Outcome::Done { .. } | Outcome::Nothing { .. })
        };
        let mut current = report.epochs.iter().filter(is_current);
        let Some(first) = current.next() else { continue };
        text += &format!("\n{} epochs written at {writer} open with any of these identities:\n", current.count() + 1);
        for reader in &first.readers {
            let reader = reader.to_string();
            text += &format!("  {} ({reader})\n", whose(here, writer, &reader));
        }
    }
    text += "\nOld identities still open what they opened before: their objects stay in the vault, and a copy is a copy.\n\
             To shut one out of what comes, change the configuration at both sites; the next capture opens an epoch that is\n\
             sealed to the new ones alone. What the old one opens goes when retention removes those points.";
    if !report.is_complete() {
        text += "\n\nNot every epoch was opened. Run this again with --identity and the reference of the identity it was\n\
                 sealed to: this site's of that time, or the escrow's.";
    }
    text
}

fn whose(here: &Here, writer: &str, reader: &str) -> String {
    match here.config.other(writer) {
        Some(site) if site.recipient.to_string() == reader => site.name.clone(),
        _ => "escrow".to_owned(),
    }
}
