//! `warmspare run`, `failover`, `switchover`, `release`, `lease`, `gate`.

use std::io::{self, BufRead, IsTerminal};
use std::sync::Arc;

use futures_util::FutureExt;

use super::operating::SwitchoverCommand;
use super::operating::{Asked, FailoverCommand, LeaseCommand, MaintenanceCommand, ReleaseCommand};
use super::witness::history;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::daemon;
use crate::error::{Class, Error};
use crate::process::operator;
use crate::site::daemon::words::Wish;
use crate::site::driver::{By, StatusAt};
use crate::site::journal::Entry;
use crate::site::operate::{Chosen, Data, Opening, Operator, Outcome, Standing, Takeover, confirm};

pub(super) async fn run((config, site): (Config, String), clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    daemon::run(config, &site, clock).boxed_local().await.map(|()| None)
}

fn operator_of<'a>(config: &'a Config, site: &'a str, asked: &Asked, clock: Arc<dyn Clock>) -> Operator<'a> {
    let by = By { operator: operator(), reason: asked.why.clone() };
    Operator { config, site, by, clock, tell: &words::say, if_term: asked.if_term }
}

/// Has the name of this site typed, unless it was given.
fn confirmed(site: &str, what: &str, asked: &Asked) -> Result<(), Error> {
    let typed = || {
        if !io::stdin().is_terminal() {
            return None;
        }
        words::say(&format!("{what} Type the name of this site to go on:"));
        io::stdin().lock().lines().next()?.ok().map(|line| line.trim().to_owned())
    };
    Ok(confirm(site, asked.yes.as_deref(), typed)?)
}

fn printed(outcome: &Outcome, json: bool) {
    if json {
        words::json(outcome);
    } else {
        words::data(&format!("{} is {} in term {}\n", outcome.site, outcome.state, outcome.term));
    }
}

pub(super) async fn failover(
    (config, site): (Config, String),
    command: FailoverCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let FailoverCommand { first, point, replace, accept_different, asked } = command;
    let operator = operator_of(&config, &site, &asked, Arc::clone(&clock));
    let takeover = Takeover { first, replace, point, accept_different };
    let Opening { status, data } = operator.preview_takeover(&takeover).await?;
    let holder = status.record.as_ref().and_then(|record| record.holder.clone());
    let from = holder.map_or("nobody is live.".to_owned(), |holder| format!("{holder} holds the lease."));
    let term = status.record.as_ref().map_or(0, |record| record.term);
    let data = opened_with(&data, accept_different, clock.now());
    let what = format!("In term {term} {from} {site} is about to become live {data}.");
    if asked.dry_run {
        words::say(&format!("{what} Nothing was done."));
        return Ok(None);
    }
    confirmed(&site, &what, &asked)?;
    let outcome = Box::pin(operator.take_over(&takeover, &progress::progress())).await?;
    printed(&outcome, asked.json);
    Ok(None)
}

/// The data with which a site becomes live, how old they are, and what is lost.
fn opened_with(data: &Data, accept_different: u64, now: jiff::Timestamp) -> String {
    let Data::Point(Chosen { point, captured_at, is_final, newer, is_restored }) = data else {
        return "with the data that is here".to_owned();
    };
    let mut text = format!("with point {point}");
    if let Some(at) = captured_at {
        let ago = if *at <= now { " ago" } else { "" };
        text += &format!(", captured {}, {}{ago}", words::instant(*at), words::age(now, *at));
    }
    text += if *is_restored { ", which is restored and proven here" } else { ", restored and proven here" };
    if let (true, count) = (accept_different > 0, accept_different) {
        let (objects, others) = if count == 1 { ("object", "another") } else { ("objects", "others") };
        let are = if count == 1 { "is" } else { "are" };
        text += &format!(", though up to {count} {objects} of its buckets {are} missing or {others}");
    }
    text += match is_final {
        true => "; it has everything the last live site had",
        false => "; what was written since is lost",
    };
    if let Some(newer) = newer {
        text += &format!(". Point {newer} is newer, and is not taken");
    }
    text
}

pub(super) async fn switchover(
    here: (Config, String),
    command: SwitchoverCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    hand_over(here, Some(&command.to), command.asked, clock).await
}

pub(super) async fn release(
    here: (Config, String),
    command: ReleaseCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    hand_over(here, None, command.asked, clock).await
}

async fn hand_over(
    (config, site): (Config, String),
    to: Option<&str>,
    asked: Asked,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let operator = operator_of(&config, &site, &asked, clock);
    let status = operator.preview_handover(to).await?;
    let whom = to.unwrap_or("whoever has restored its final point");
    let what = format!("{site} is {} and is about to close and let go, for {whom}.", status.state);
    if asked.dry_run {
        words::say(&format!("{what} Nothing was done."));
        return Ok(None);
    }
    confirmed(&site, &what, &asked)?;
    let outcome = operator.hand_over(to).await?;
    printed(&outcome, asked.json);
    let point = outcome.point.map_or("no point was taken".to_owned(), |point| format!("the final point is {point}"));
    words::say(&format!("{point}; next:  `warmspare failover` at {}", to.unwrap_or("the other site")));
    Ok(None)
}

pub(super) async fn lease(
    (config, site): (Config, String),
    command: LeaseCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let (wish, asked, what) = match command {
        LeaseCommand::Status { json } => return status(&config, &site, json, clock).await,
        LeaseCommand::History(command) => {
            return history(&Here::led(config, &site, None)?, &command).await;
        }
        LeaseCommand::Cancel(asked) => (Wish::Cancel, asked, "gives up what was begun"),
        LeaseCommand::Fence(asked) => (Wish::Fence, asked, "closes, and stays closed"),
        LeaseCommand::Lift(asked) => (Wish::LiftFence, asked, "opens again, if the lease is still its own"),
        LeaseCommand::Rejoin(asked) => (Wish::Rejoin, asked, "becomes the spare, whatever data it has"),
    };
    let operator = operator_of(&config, &site, &asked, clock);
    let what = format!("{site} is {} and {what}.", operator.status().await?.state);
    if asked.dry_run {
        words::say(&format!("{what} Nothing was done."));
        return Ok(None);
    }
    confirmed(&site, &what, &asked)?;
    printed(&operator.order(wish).await?, asked.json);
    Ok(None)
}

async fn status(config: &Config, site: &str, json: bool, clock: Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    let by = By { operator: operator(), reason: String::new() };
    let asking = Operator { config, site, by, clock, tell: &words::say, if_term: None };
    let standing = asking.standing().await?;
    if json {
        words::json(&standing);
    } else {
        let mut rows = rows(&standing.status);
        rows.extend(lacks(&standing));
        let last = asking.last_step().map(|last| last.as_ref().map(operation)).unwrap_or_else(|e| Some(e.to_string()));
        rows.extend(last.map(|last| vec!["operation".to_owned(), last]));
        words::data(&words::table(&rows));
    }
    Ok(standing.status.witness_error.is_some().then_some(Class::Incomplete))
}

/// What the site is live without.
fn lacks(standing: &Standing) -> Vec<Vec<String>> {
    let row = |name: &str, told: String| vec![name.to_owned(), told];
    if let Some(error) = &standing.promotion_error {
        return vec![row("promotion", format!("what it lacks cannot be told: {error}"))];
    }
    let Some(promotion) = standing.promotion.as_ref().filter(|promotion| !promotion.lacks.is_empty()) else {
        return Vec::new();
    };
    let mut rows = vec![row("promotion", format!("{}, without what could not be done:", words::instant(promotion.at)))];
    rows.extend(promotion.lacks.iter().map(|lack| row("", lack.clone())));
    rows.push(row(
        "next",
        "Do that by hand, as the server's own administrator; the next promotion says what it lacks.".to_owned(),
    ));
    rows
}

fn operation(last: &Entry) -> String {
    let Entry { at, operation, step, operator, reason, error, .. } = last;
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{operation} by {operator} ({reason}), {}: {step}{error}", words::instant(*at))
}

fn rows(status: &StatusAt) -> Vec<Vec<String>> {
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let gate = match status.open {
        true => format!("open, for {} if nothing is renewed", seconds(status.open_for_ms)),
        false => "closed".to_owned(),
    };
    let holder = status.record.as_ref().map(|record| match &record.holder {
        Some(holder) => format!("{holder} holds term {}, by {}: {}", record.term, record.operator, record.reason),
        None => format!("nobody holds term {}, by {}: {}", record.term, record.operator, record.reason),
    });
    let still = status.still_for_ms.zip(status.wait_ms).map(|(still, wait)| {
        format!(
            "the record has stood still for {}; after {} a silent holder is waited out",
            seconds(still),
            seconds(wait)
        )
    });
    let maintenance = status.maintenance.as_ref();
    let failed = status.work_error.as_ref().map(|error| match status.work_failed_at {
        Some(at) => format!("{}: {error}", words::instant(at)),
        None => error.clone(),
    });
    let told = [
        ("state", Some(status.state.to_string())),
        ("why", status.why.clone()),
        ("term", Some(status.term.unwrap_or(status.highest_term).to_string())),
        ("gate", Some(gate)),
        (
            "maintenance",
            maintenance.map(|on| format!("since {}, by {}: {}", words::instant(on.since), on.operator, on.why)),
        ),
        ("record", holder),
        ("", still),
        (
            "witness",
            Some(match (&status.witness_error, status.witness_answered_ms) {
                (Some(error), _) => error.clone(),
                (None, Some(ms)) => format!("answered {} ago", seconds(ms)),
                (None, None) => "not asked yet".to_owned(),
            }),
        ),
        ("restored", status.restored.as_ref().map(|point| format!("point {point}, to be live with"))),
        ("given up", status.refusal.clone()),
        ("next", status.refusal_next.clone()),
        ("failed", failed),
        ("next", status.work_next.clone()),
    ];
    told.into_iter().filter_map(|(name, told)| Some(vec![name.to_owned(), told?])).collect()
}

pub(super) async fn maintain(
    (config, site): (Config, String),
    command: MaintenanceCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let (wish, why, dry_run, what) = match command {
        MaintenanceCommand::On { why, dry_run } => {
            (Wish::MaintenanceOn, why, dry_run, "refuses writes at the balancer")
        }
        MaintenanceCommand::Off { dry_run } => (Wish::MaintenanceOff, String::new(), dry_run, "takes writes again"),
    };
    if dry_run {
        words::say(&format!("{site} would say that it {what}; nothing was done"));
        return Ok(None);
    }
    let by = By { operator: operator(), reason: why };
    let asking = Operator { config: &config, site: &site, by, clock, tell: &words::say, if_term: None };
    asking.order(wish).await?;
    words::say(&format!("{site} says that it {what}"));
    Ok(None)
}
