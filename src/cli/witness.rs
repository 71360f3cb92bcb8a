//! `warmspare witness`: the third place, which says who is live.

use serde::Serialize;

use super::arguments::{HistoryCommand, WitnessCommand, WitnessInit, WitnessSelftest};
use super::words;
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::error::{Class, Error};
use crate::process::operator;
use crate::site::lease::Term;
use crate::site::witness::{self, Check, Reach, Record, SelfTest, Status};

#[derive(Serialize)]
struct InitJson<'a> {
    store: &'a str,
    revision: u64,
    record: &'a Record,
}

#[derive(Serialize)]
struct SelfTestJson<'a> {
    store: &'a str,
    sound: bool,
    checks: &'a [Check],
    left: &'a [String],
}

#[derive(Serialize)]
struct EntryJson<'a> {
    revision: u64,
    record: &'a Record,
}

pub(super) async fn run(
    (config, site): (Config, String),
    command: WitnessCommand,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    // Whoever is live: these ask the witness, and do not act on what it says.
    let here = Here::led(config, &site, None)?;
    match command {
        WitnessCommand::Init(command) => init(&here, &command, clock).await,
        WitnessCommand::Selftest(command) => selftest(&here, &command).await,
        WitnessCommand::Status { json } => status(&here, json, clock).await,
        WitnessCommand::History(command) => history(&here, &command).await,
    }
}

async fn init(here: &Here, command: &WitnessInit, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let sites = (&here.site, &here.other);
    if command.dry_run {
        let store = witness::preview_init(&here.config, &here.site).await?;
        words::say(&format!(
            "would try {store} and write the first record of {}, with term {}; nothing was done",
            here.config.system, command.term
        ));
        return Ok(None);
    }
    let operator = operator();
    let made = witness::init(&here.config, sites, (Term(command.term), &operator), clock.now()).await?;
    if command.json {
        words::json(&InitJson { store: &made.store, revision: made.revision.0, record: &made.record });
    }
    words::say(&format!(
        "{} is the witness of {}: it does what it must, and nobody is live yet. The first site to become live gets term {}.",
        made.store,
        here.config.system,
        command.term.saturating_add(1)
    ));
    say_left(&made.tried);
    say_reach(made.reach);
    Ok(None)
}

async fn selftest(here: &Here, command: &WitnessSelftest) -> Result<Option<Class>, Error> {
    let store = witness::open(&here.config, &here.site)?;
    if command.dry_run {
        words::say(&format!(
            "would write, replace and remove keys below selftest/{} in {}; nothing was done",
            here.site.name,
            store.name()
        ));
        return Ok(None);
    }
    let tried = witness::try_out(&store, &here.site).await?;
    let verdict = tried.verdict(store.name());
    if command.json {
        let (checks, left) = (tried.checks.as_slice(), tried.left.as_slice());
        words::json(&SelfTestJson { store: store.name(), sound: verdict.is_ok(), checks, left });
    } else {
        words::data(&tried_table(&tried));
    }
    say_left(&tried);
    say_reach(store.reach());
    verdict?;
    Ok(None)
}

fn tried_table(tried: &SelfTest) -> String {
    let row = |check: &Check| {
        let (word, found) = match &check.instead {
            None => ("ok", check.what.to_owned()),
            Some(instead) => ("FAILURE", format!("{}: {instead}", check.what)),
        };
        vec![word.to_owned(), found]
    };
    words::table(&tried.checks.iter().map(row).collect::<Vec<_>>())
}

async fn status(here: &Here, json: bool, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let status = witness::status(&here.config, (&here.site, &here.other)).await?;
    if json {
        words::json(&status);
        return Ok(None);
    }
    words::data(&status_table(&status, clock));
    if status.one_machine_only {
        say_reach(Reach::OneMachine);
    }
    Ok(None)
}

fn status_table(status: &Status, clock: &dyn Clock) -> String {
    let record = &status.record;
    let who = match (&record.holder, &record.to) {
        (Some(holder), _) => format!("{holder} is live"),
        (None, Some(to)) => format!("nobody is live; released to {to}"),
        (None, None) => "nobody is live".to_owned(),
    };
    let point = record.recovery_point.as_ref().map(|point| ["final point".to_owned(), point.clone()].to_vec());
    let written = words::age(clock.now(), record.wallclock);
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("witness", format!("{} (id {})", status.store, record.witness)),
        row("system", record.system.clone()),
        row("term", format!("{}: {who}", record.term)),
        row(
            "written",
            format!(
                "{} ({written} ago, by its writer's clock), number {} of the term",
                words::instant(record.wallclock),
                record.seq
            ),
        ),
        row("by", format!("{}: {}", record.operator, record.reason)),
        row("lease", format!("{} ms; a takeover waits {} ms from now on", record.ttl_ms, status.takeover_wait_ms)),
        row(
            "answered in",
            format!("{} ms, of {} ms that a request may take", status.answered_in_ms, status.request_max_ms),
        ),
    ];
    rows.extend(point);
    words::table(&rows)
}

/// What the record was, for `lease history`, too.
pub(super) async fn history(here: &Here, command: &HistoryCommand) -> Result<Option<Class>, Error> {
    let witness = witness::open(&here.config, &here.site)?;
    let entries = witness.history(command.limit).await?;
    if command.json {
        let entries = entries.iter().map(|(revision, record)| EntryJson { revision: revision.0, record });
        words::json(&entries.collect::<Vec<_>>());
        return Ok(None);
    }
    let head = ["REVISION", "TERM", "NUMBER", "LIVE", "WRITTEN", "BY", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (revision, record) in &entries {
        let live = record.holder.clone().unwrap_or_else(|| "nobody".to_owned());
        let written = words::instant(record.wallclock);
        let (by, why) = (record.operator.clone(), record.reason.clone());
        rows.push(vec![revision.to_string(), record.term.to_string(), record.seq.to_string(), live, written, by, why]);
    }
    words::data(&words::table(&rows));
    Ok(None)
}

fn say_left(tried: &SelfTest) {
    for left in &tried.left {
        words::say(&format!("WARNING  a key of the trial could not be removed: {left}"));
    }
}

fn say_reach(reach: Reach) {
    if reach == Reach::OneMachine {
        words::say(
            "WARNING  a folder decides between processes of one machine only, and is lost with it: for trials. Two sites need a \
             bucket, etcd or a database in a third place.",
        );
    }
}
