//! Setting a witness up, once, and looking at it: what a person does with it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::open::make;
use super::{Author, Mode, Opened, Outcome, Reach, Record, SelfTest, Witness, WitnessError, open, timing};
use crate::config::{Config, Site};
use crate::site::lease::{Nonce, Proposal, Revision, Standing, Term, WitnessId};

/// A witness that was set up.
#[derive(Clone, Debug)]
pub struct SetUp {
    /// Its place.
    pub store: String,
    /// The revision of its first record.
    pub revision: Revision,
    /// That record.
    pub record: Record,
    /// What was tried before.
    pub tried: SelfTest,
    /// Between whom it can decide.
    pub reach: Reach,
}

/// What the witness says now.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its place.
    pub store: String,
    /// Whether it decides between machines, or only between processes of this one.
    pub one_machine_only: bool,
    /// The revision of the record.
    pub revision: u64,
    /// The record.
    pub record: Record,
    /// How long it took to answer.
    pub answered_in_ms: u64,
    /// How long one request may take.
    pub request_max_ms: u64,
    /// How long a taker would wait if the record stood still from now on.
    pub takeover_wait_ms: u64,
}

/// Sets up the witness of `config` from the site `site` (the other one is `other`): tries it, and writes the first record.
/// Nobody holds the lease then; the first to take it gets the term after `term`.
///
/// # Errors
/// [`WitnessError::Exists`] when there is a record, [`WitnessError::Unsound`] when it does not do what it must, and whatever
/// keeps it from being used.
pub async fn init(
    config: &Config,
    (site, other): (&Site, &Site),
    (term, operator): (Term, &str),
    at: Timestamp,
) -> Result<SetUp, WitnessError> {
    let witness = make(config, site).await?;
    refuse_existing(&witness).await?;
    let tried = try_out(&witness, site).await?;
    tried.verdict(witness.name())?;
    let author = Author {
        system: &config.system,
        us: &site.name,
        them: &other.name,
        witness: WitnessId(random()?),
        at,
        operator,
        reason: "set up",
    };
    let ttl = config.witness.as_ref().map_or(Duration::ZERO, |witness| witness.ttl);
    let standing = Standing::Released { to: None, point: None };
    let record = Record::new(&Proposal { term, standing, seq: 0, nonce: Nonce(random()?), ttl }, &author);
    let outcome = witness.replace(None, &record).await;
    // Whatever it answered: the record tells.
    match (witness.read().await?, outcome) {
        (Some((revision, there)), _) if there == record => {
            let (store, reach) = (witness.name().to_owned(), witness.reach());
            Ok(SetUp { store, revision, record, tried, reach })
        }
        (Some((revision, there)), _) => Err(exists(&witness, revision, &there)),
        (None, Outcome::Unknown(error)) => Err(error),
        (None, _) => {
            let (store, shown) = (witness.name().to_owned(), "no record".to_owned());
            Err(WitnessError::WentBack { store, shown, read: Revision(1) })
        }
    }
}

/// Whether [`init`] would begin: the place of the witness, which was only read.
///
/// # Errors
/// As [`init`], as far as reading tells.
pub async fn preview_init(config: &Config, site: &Site) -> Result<String, WitnessError> {
    let witness = match open(config, site) {
        // The folder would be made.
        Err(WitnessError::Store(error)) if error.is_not_found() => return Ok(error.place().store.clone()),
        opened => opened?,
    };
    match refuse_existing(&witness).await {
        // The tables would be made.
        Err(WitnessError::NotMade { .. }) | Ok(()) => Ok(witness.name().to_owned()),
        Err(error) => Err(error),
    }
}

/// What the witness of `config` says to the site `site`, whose other site is `other`.
///
/// # Errors
/// When it cannot be used, was never set up, or is of another system or other sites.
pub async fn status(config: &Config, (site, other): (&Site, &Site)) -> Result<Status, WitnessError> {
    let witness = open(config, site)?;
    let began = Instant::now();
    let read = witness.read().await?;
    let answered = began.elapsed();
    let (revision, record) = read.ok_or_else(|| WitnessError::NotSetUp { store: witness.name().to_owned() })?;
    let seen = record.seen_by(revision, &config.system, &site.name, &other.name)?;
    let timing = config.witness.as_ref().map(timing).transpose()?.ok_or(WitnessError::NotConfigured)?;
    Ok(Status {
        store: witness.name().to_owned(),
        one_machine_only: witness.reach() == Reach::OneMachine,
        revision: revision.0,
        record,
        answered_in_ms: ms(answered),
        request_max_ms: ms(witness.request_max()),
        takeover_wait_ms: ms(timing.wait_out(seen.ttl)),
    })
}

async fn refuse_existing(witness: &Opened) -> Result<(), WitnessError> {
    match witness.read().await? {
        Some((revision, record)) => Err(exists(witness, revision, &record)),
        None => Ok(()),
    }
}

fn exists(witness: &Opened, revision: Revision, record: &Record) -> WitnessError {
    let who = match (&record.holder, record.mode) {
        (Some(holder), Mode::Live) => format!("{holder} is live"),
        _ => "nobody is live".to_owned(),
    };
    let record = format!("{who} in term {} of {} (revision {revision})", record.term, record.system);
    WitnessError::Exists { store: witness.name().to_owned(), record }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// [`Opened::selftest`], with a name that nobody used yet.
///
/// # Errors
/// As that; and when the machine has no random numbers.
pub async fn try_out(witness: &Opened, site: &Site) -> Result<SelfTest, WitnessError> {
    witness.selftest(&site.name, &format!("{:032x}", random()?)).await
}

fn random() -> Result<u128, WitnessError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| WitnessError::NoRandom { what: error.to_string() })?;
    Ok(u128::from_le_bytes(bytes))
}
