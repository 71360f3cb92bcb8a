//! `warmspare vault`: where the recovery points are kept.

use serde::Serialize;

use super::arguments::{VaultCommand, VaultInit, VaultProbe};
use super::words;
use crate::clock::Clock;
use crate::config::Here;
use crate::error::{Class, Error};
use crate::point::vault;
use crate::vault::{DatedProbe, PolicyUsers};

#[derive(Serialize)]
struct InitJson<'a> {
    vault: &'a str,
    new: bool,
    probe: &'a DatedProbe,
    policy: Option<serde_json::Value>,
}

pub(super) async fn run(here: Here, command: VaultCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    match command {
        VaultCommand::Init(command) => init(here, command, clock).await,
        VaultCommand::Probe(command) => probe(here, command, clock).await,
        VaultCommand::Rekey(command) => super::rekey::run(here, command).await,
    }
}

async fn init(here: Here, command: VaultInit, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let users = PolicyUsers {
        live: command.live_arn.unwrap_or_else(|| "LIVE-ARN".to_owned()),
        spare: command.spare_arn.unwrap_or_else(|| "SPARE-ARN".to_owned()),
        keeper: command.keeper_arn.unwrap_or_else(|| "KEEPER-ARN".to_owned()),
    };
    let policy = vault::policy(&here, &users);
    if command.dry_run {
        words::say(&format!("would make the vault {} and probe it; nothing was done", here.config.vault.url));
        say_what_a_probe_touches(&here);
        print_policy(policy.as_deref());
        return Ok(None);
    }
    let made = vault::init_vault(&here, clock).await?;
    if command.json {
        let policy = policy.as_deref().and_then(|text| serde_json::from_str(text).ok());
        words::json(&InitJson { vault: &made.place, new: made.is_new, probe: &made.probe, policy });
        return Ok(None);
    }
    let state = if made.is_new { "is made" } else { "was a vault already; nothing in it was changed" };
    words::say(&format!("{} {state}", made.place));
    say_verdict(&made.probe);
    print_policy(policy.as_deref());
    Ok(None)
}

/// The policy is data, and goes into a file.
fn print_policy(policy: Option<&str>) {
    let Some(policy) = policy else {
        words::say(
            "rights: the live site's account creates and reads, and neither changes nor deletes what is there; the spare's \
             reads; the keeper's alone deletes. docs/THREATS.md says how on this kind of store.",
        );
        return;
    };
    words::say("rights: set this policy on the bucket, as its owner, who is none of the three users (docs/THREATS.md)");
    words::data(policy);
}

async fn probe(here: Here, command: VaultProbe, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    if command.dry_run {
        words::say("would try what this credential may do; nothing was done");
        say_what_a_probe_touches(&here);
        return Ok(None);
    }
    let probe = vault::probe(&here, command.keeper, clock).await?;
    if command.json {
        words::json(&probe);
    } else {
        words::data(&table(&probe));
        say_verdict(&probe);
    }
    // The keeper may delete: that is what it is for.
    let bare = probe.found.protection.word() == "nothing" && !command.keeper;
    Ok(bare.then_some(Class::Incomplete))
}

fn say_what_a_probe_touches(here: &Here) {
    words::say("a probe creates, reads, lists, overwrites and deletes these objects, and no others:");
    for key in vault::canary_keys(here) {
        words::say(&format!("  {key}"));
    }
}

fn table(probe: &DatedProbe) -> String {
    let head = ["KIND", "CREATE", "READ", "LIST", "OVERWRITE", "DELETE", "PURGE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for rights in &probe.found.rights {
        let may = [rights.create, rights.read, rights.list, rights.overwrite, rights.delete, rights.purge];
        let words = may.into_iter().map(|right| right.word().to_owned());
        rows.push(std::iter::once(rights.kind.clone()).chain(words).collect());
    }
    words::table(&rows)
}

fn say_verdict(probe: &DatedProbe) {
    let found = &probe.found;
    let create = match found.create_only {
        Some(true) => "refused if the key is there",
        Some(false) => "not refused if the key is there",
        None => "not tried",
    };
    let versions = found.versions.word();
    let lock = match &found.retention {
        Some(retention) => format!("{} for {} days", retention.mode, retention.days),
        None => "none".to_owned(),
    };
    let etag = found.etag.as_deref().unwrap_or("not seen");
    words::say(&format!("a conditional create is {create}; versions: {versions}; lock: {lock}; ETag: {etag}"));
    if !found.left.is_empty() {
        words::say(&format!("left behind, because they may not be removed: {}", found.left.join(", ")));
    }
    words::say(&format!("protection of {} as {} sees it: {}", found.store, probe.site, found.protection.word()));
    words::say(&found.sentence());
}
