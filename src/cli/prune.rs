//! `warmspare prune`.

use super::arguments::PruneCommand;
use super::words;
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::{self, PruneReport, PruneRequest};
use crate::units::Bytes;

pub(super) async fn run(here: Here, command: PruneCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let PruneCommand { dry_run, share, accept_hides, json } = command;
    let request = PruneRequest { dry_run, share, accepted_hides: accept_hides, ..PruneRequest::default() };
    let report = point::prune(&here, request, clock).await?;
    if json {
        words::json(&report);
    } else {
        table(&report);
    }
    for note in &report.notes {
        words::say(note);
    }
    for alarm in &report.alarms {
        words::say(&format!("DAMAGED {alarm}"));
    }
    let held: Vec<&str> =
        report.buckets.iter().map(|one| one.held_back.as_str()).filter(|why| !why.is_empty()).collect();
    for why in &held {
        words::say(&format!("NOT HIDDEN {why}"));
    }
    for note in report.buckets.iter().flat_map(|one| &one.notes) {
        words::say(note);
    }
    Ok((!report.alarms.is_empty() || !held.is_empty()).then_some(Class::Incomplete))
}

fn table(report: &PruneReport) {
    let mut rows = vec![["POINT", "CAPTURED", "STORED", "STAYS"].map(str::to_owned).to_vec()];
    for fate in &report.points {
        let stays = if fate.stays.is_empty() { "GOES".to_owned() } else { fate.stays.join(", ") };
        rows.push(vec![fate.point.clone(), words::instant(fate.captured_at), words::instant(fate.stored_at), stays]);
    }
    words::data(&words::table(&rows));
    let gone = report.points.iter().filter(|fate| fate.stays.is_empty()).count();
    words::data(&format!(
        "{gone} of {} points, {} snapshots, {} packs ({} of {}), {} epochs; {} objects in all\n",
        report.points.len(),
        report.headers,
        report.packs,
        Bytes(report.pack_bytes),
        Bytes(report.pack_bytes_all),
        report.epochs.len(),
        report.objects,
    ));
    if !report.sealed.is_empty() {
        words::data(&format!("epochs over: {}\n", report.sealed.join(", ")));
    }
    for one in report.buckets.iter().filter(|one| one.hidden + one.let_go > 0) {
        let would = if report.dry_run { "would be " } else { "" };
        let first = if one.hidden > 0 { format!(", the first {:?}", one.hidden_first) } else { String::new() };
        words::data(&format!(
            "{}: {} deleted at the live site {would}hidden{first}; {} contents of the attic {would}let go\n",
            one.bucket, one.hidden, one.let_go
        ));
    }
    if report.waiting > 0 {
        words::say(&format!("{} objects wait for the next pass: run it again", report.waiting));
    }
    words::say(&match (report.dry_run, report.pass) {
        (true, _) => "nothing was changed".to_owned(),
        (false, None) => "nothing had to go".to_owned(),
        (false, Some(pass)) => format!("removed by pass {pass}; its record in the vault names everything"),
    });
}
