//! The witness as this site sees it: it can be reached in time, does what it must, and has a record of this system.

use super::Telling;
use super::finding::Findings;
use super::limit::{ANSWER_MAX, within};
use crate::config::{Config, Here, HereError};
use crate::site::witness::{self, Mode, Opened, Status, Witness};

/// The configuration as seen from the site called `name`; where a witness decides, with whom it names as the live one. A witness that
/// cannot be asked names nobody here: [`check`](super::check) tells why.
///
/// # Errors
/// [`HereError::UnknownSite`] when there is no such site.
pub async fn from_witness(config: Config, name: &str) -> Result<Here, HereError> {
    let Some(site) = config.site(name).filter(|_| config.witness.is_some()) else {
        return Here::led(config.clone(), name, config.live);
    };
    let read = match witness::open(&config, site) {
        Ok(opened) => opened.read().await.ok().flatten(),
        Err(_) => None,
    };
    let live = read.and_then(|(_, record)| record.holder.filter(|_| record.mode == Mode::Live));
    Here::led(config, name, live)
}

/// Looks at the witness, if there is one.
pub(super) async fn look(here: &Here, telling: Telling, findings: &mut Findings) {
    let Some(configured) = &here.config.witness else { return };
    let object = format!("witness {}", configured.url);
    let opened = witness::open(&here.config, &here.site);
    let Some(opened) = findings.value("witness", &object, opened) else { return };
    if opened.reach() == witness::Reach::OneMachine {
        let next = "Use a bucket, etcd or a database in a third place, once two machines take part.";
        findings.warning("witness", &object, "a folder decides between processes of this one machine only", next);
    }
    let asked = within(ANSWER_MAX, &object, witness::status(&here.config, (&here.site, &here.other))).await;
    let Some(status) = findings.value("witness", &object, asked) else { return };
    said(here, &object, &status, findings);
    if telling == Telling::Say {
        tried(here, &opened, &object, findings).await;
    }
}

fn said(here: &Here, object: &str, status: &Status, findings: &mut Findings) {
    let record = &status.record;
    let who = record.holder.as_ref().map_or("nobody is live".to_owned(), |holder| format!("{holder} is live"));
    let found = format!("{who} in term {}", record.term);
    match &record.holder {
        Some(_) => findings.ok("witness", object, found),
        None => {
            let next = "Let one site take the lease: until then neither takes traffic, nor captures.";
            findings.warning("witness", object, found, next);
        }
    }
    let (took, limit) = (status.answered_in_ms, status.request_max_ms);
    if took > limit / 2 {
        let found = format!("it took {took} ms to answer, of {limit} ms that a request may take");
        let next = format!(
            "Find out what is slow between {} and the witness, or make the `ttl` under [witness] longer.",
            here.site.name
        );
        findings.warning("witness", object, found, next);
    } else {
        findings.ok("witness", object, format!("it answers in time: within half of the {limit} ms a request may take"));
    }
}

async fn tried(here: &Here, opened: &Opened, object: &str, findings: &mut Findings) {
    let tried = within(ANSWER_MAX, object, witness::try_out(opened, &here.site)).await;
    let Some(tried) = findings.value("witness", object, tried) else { return };
    let count = tried.checks.len();
    if findings.value("witness", object, tried.verdict(opened.name())).is_some() {
        findings.ok("witness", object, format!("it does what a witness must: all of {count} trials"));
    }
    for left in &tried.left {
        let next = format!("Let {} remove what it made there, or remove it yourself.", here.site.name);
        findings.warning("witness", object, format!("a key of the trial is left behind: {left}"), next);
    }
}
