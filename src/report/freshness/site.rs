//! What each site says of itself, and whether it says anything.

use std::time::Duration;

use super::{
    Facts, Grade, Line, SiteAt, Subject, Unseen, VaultFacts, age, apart, is_future, job, line, span, unread_line,
};
use crate::vault::v1::StatusRecord;

/// The line of a site at which a daemon has run once, and none does.
pub fn daemon_absent(site: &str) -> Line {
    let what = format!("no daemon runs at {site}: nothing runs by itself");
    let next = "Start it: `warmspare run`; see its log for why it ended.";
    line("daemon.absent", Subject::Looking, Grade::Attention, what, next)
}

pub(super) fn look(
    facts: &Facts,
    vault: &VaultFacts,
    known: bool,
    lines: &mut Vec<Line>,
    unseen: &mut Unseen,
) -> Vec<SiteAt> {
    let sites = [&facts.site, &facts.other];
    sites.into_iter().map(|site| of_site(facts, vault, known, site, lines, unseen)).collect()
}

fn of_site(
    facts: &Facts,
    vault: &VaultFacts,
    known: bool,
    site: &str,
    lines: &mut Vec<Line>,
    unseen: &mut Unseen,
) -> SiteAt {
    let is_here = site == facts.site;
    let status = match vault.statuses.get(site) {
        Some(Ok(status)) => status.as_ref(),
        Some(Err(unread)) => {
            let what = format!("what {site} says of itself is not to be believed");
            lines.push(unread_line(format!("site.{site}.unbelieved"), Subject::status(site), &what, unread));
            None
        }
        None => None,
    };
    let was_read = matches!(vault.statuses.get(site), Some(Ok(_)));
    if !was_read {
        unseen.add(Subject::status(site));
    }
    let ahead = status.filter(|status| is_future(facts.at, status.written_at));
    if let Some(status) = ahead.filter(|_| known) {
        let what = format!("{site} has said something of itself in the future: {}", status.written_at);
        apart(facts, what, lines);
    }
    // Who looks lives, unless it is a person who does.
    let may_be_dead = !is_here || facts.others.lines.iter().any(|line| line.key == "daemon.absent");
    if known && was_read && may_be_dead && ahead.is_none() {
        silent(facts, site, status, lines);
    }
    if let Some(status) = status {
        said(site, status, lines);
    }
    let jobs = match facts.jobs.get(site) {
        Some(Ok(jobs)) => {
            job::look(facts, site, jobs, lines);
            Some(jobs.clone())
        }
        Some(Err(unread)) => {
            let what = format!("how the jobs of {site} stand");
            lines.push(unread_line(format!("site.{site}.jobs"), Subject::Looking, &what, unread));
            unseen.add_jobs_of(site);
            None
        }
        None => {
            unseen.add_jobs_of(site);
            None
        }
    };
    let check = status.and_then(|status| status.check.as_ref());
    SiteAt {
        site: site.to_owned(),
        role: match &facts.live {
            None => "unknown",
            Some(live) if live == site => "live",
            Some(_) => "spare",
        },
        said_at: status.map(|status| status.written_at),
        said_age_seconds: status.map(|status| age(facts.at, status.written_at).as_secs()),
        ready: check.map(|check| check.ready),
        checked_at: check.map(|check| check.at),
        jobs,
    }
}

/// A site whose daemon and whose jobs are all dead says nothing: that is what the other one notices.
fn silent(facts: &Facts, site: &str, status: Option<&StatusRecord>, lines: &mut Vec<Line>) {
    let limit: Duration = facts.targets.silent;
    let what = match status.map(|status| age(facts.at, status.written_at)) {
        Some(old) if old <= limit => return,
        Some(old) => {
            format!("{site} has said nothing for {}; its limit is {}", span(old.as_secs()), span(limit.as_secs()))
        }
        None => format!("{site} has said nothing of itself yet"),
    };
    let grade = if status.is_some() { Grade::Missed } else { Grade::Attention };
    let next = format!(
        "See whether {site} lives, reaches the vault, and runs its daemon: `warmspare check --site {site}` there."
    );
    lines.push(line(format!("site.{site}.silent"), Subject::status(site), grade, what, next));
}

fn said(site: &str, status: &StatusRecord, lines: &mut Vec<Line>) {
    if let Some(check) = status.check.as_ref().filter(|check| !check.ready) {
        let what = format!("{site} is not ready, says its last check: {} failures", check.failures);
        let next = format!("Run there: `warmspare check --site {site}`");
        lines.push(line(format!("site.{site}.not-ready"), Subject::status(site), Grade::Attention, what, next));
    }
    if let Some(damaged) = status.damaged_epochs.first() {
        let what = format!("{site} calls epoch {}-{} damaged: {}", damaged.term, damaged.epoch, damaged.why);
        let next = "Points of that epoch may not come back; take a new one at the live site: `warmspare capture`";
        lines.push(line(format!("site.{site}.damaged-epoch"), Subject::status(site), Grade::Attention, what, next));
    }
    if let Some(scrub) = status.scrub.as_ref().filter(|scrub| scrub.damaged > 0) {
        let what = format!("{site} found {} objects of the vault missing or damaged", scrub.damaged);
        let next = format!("Run there: `warmspare verify --site {site}`; it names them.");
        lines.push(line(format!("site.{site}.vault-damaged"), Subject::status(site), Grade::Attention, what, next));
    }
    for bucket in status.buckets.iter().filter(|bucket| bucket.faults > 0) {
        let what = format!(
            "{site} found {} objects of {} that are not as a recovery point says",
            bucket.faults, bucket.source
        );
        let next = "The next capture at the live site mends what it can; `warmspare verify` at that site names them.";
        lines.push(line(
            format!("site.{site}.{}.faults", bucket.source),
            Subject::status(site),
            Grade::Attention,
            what,
            next,
        ));
    }
}
