//! The way back from a restore: each database it replaced takes its name again, and the restored one is kept in its place.
//!
//! Nothing is read from the vault: what comes back lies on this site's servers, and how far an undo has come is in its journal.
//! Files are not put back: since the restore the application may have changed them, or those that it added may be in use; where
//! the ones it replaced lie is told. Buckets were never touched.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::engine::refuse_live;
use super::error::RestoreError;
use super::journal::{Entry, Journal, Phase};
use super::kept::server;
use super::latest::{begun_last, latest, set_latest};
use super::step::{Loaded, owner};
use super::steps::database::{Exchange, Lived, Origin, Side, exchange_of};
use crate::clock::Clock;
use crate::config::{Here, SourceKind, SourceName};
use crate::durable;
use crate::error::Error;

/// What is asked of an undo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndoRequest {
    /// These databases only; else those of the last restore.
    pub only: Vec<String>,
    /// The name of the live site, typed by a person who means to replace live data.
    pub on_live: Option<String>,
}

/// What an undo did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoReport {
    /// The site.
    pub site: String,
    /// Whether a killed undo was gone on with.
    pub resumed: bool,
    /// The databases that trade places.
    pub databases: Vec<UndoneDatabase>,
    /// Files that the restore replaced and that were not put back: each, and where the one from before lies.
    pub files: Vec<String>,
    /// The folder with the journal; absent when nothing was done.
    pub folder: Option<PathBuf>,
}

/// A database that comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoneDatabase {
    /// Its source.
    pub source: String,
    /// What is done.
    pub exchange: Exchange,
}

impl UndoneDatabase {
    /// What is done, in words.
    pub fn words(&self) -> String {
        let Exchange { name, back, away, kept, .. } = &self.exchange;
        let of = |side: &Side| match &side.point {
            Some(point) => format!("of point {point}"),
            None => "from before any restore".to_owned(),
        };
        let mut text = format!("database {name} is again the one {}", of(back));
        if let (Some(away), Some(kept)) = (away, kept) {
            text += &format!("; the one {} is kept as {kept}", of(away));
        }
        text
    }
}

/// The value of an undo's first journal entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    only: Vec<String>,
    databases: Vec<UndoneDatabase>,
}

/// Swaps back what the last restore has replaced. Run again after it was killed, it goes on; after it was done, the two swap
/// once more.
///
/// # Errors
/// When it is refused (a live site, nothing kept), or a server fails; run again, it goes on where it stopped.
pub async fn undo(here: &Here, request: &UndoRequest, clock: &dyn Clock) -> Result<UndoReport, Error> {
    let _lock = here.lock("warmspare restore --undo")?;
    refuse_live(here, here.live.as_deref(), request.on_live.as_deref(), false)?;
    let (folder, mut journal) = open(here, request)?;
    let resumed = !journal.entries().is_empty();
    let (databases, since) = match journal.done::<Begun>("", Phase::Begun)? {
        Some((begun, _)) => (begun.databases, journal.entries().first().map_or_else(|| clock.now(), |entry| entry.at)),
        None => {
            let databases = decide(here, request).await?;
            set_latest(here, &folder)?;
            let begun = Begun { only: request.only.clone(), databases: databases.clone() };
            let at = clock.now();
            write(&mut journal, "", Phase::Begun, at, &begun)?;
            (databases, at)
        }
    };
    for one in &databases {
        // The role may have changed while this one waited, or was dead.
        let live = here.live_again()?;
        refuse_live(here, live.as_deref(), request.on_live.as_deref(), false)?;
        swap_back(here, one, &folder, since).await?;
        write(&mut journal, &one.source, Phase::Swapped, clock.now(), &one.exchange)?;
    }
    let files = files_replaced(here, &databases)?;
    let report = UndoReport { site: here.site.name.clone(), resumed, databases, files, folder: Some(folder) };
    write(&mut journal, "", Phase::Finished, clock.now(), &report)?;
    Ok(report)
}

/// What [`undo`] would do, without doing it.
///
/// # Errors
/// When it would be refused.
pub async fn preview_undo(here: &Here, request: &UndoRequest) -> Result<UndoReport, Error> {
    refuse_live(here, here.live.as_deref(), request.on_live.as_deref(), false)?;
    let begun = match begun_last(here)? {
        Some((_, journal)) => to_go_on_with(&journal, request)?,
        None => None,
    };
    let resumed = begun.is_some();
    let databases = match begun {
        Some(begun) => begun.databases,
        None => decide(here, request).await?,
    };
    let files = files_replaced(here, &databases)?;
    Ok(UndoReport { site: here.site.name.clone(), resumed, databases, files, folder: None })
}

async fn swap_back(here: &Here, one: &UndoneDatabase, folder: &Path, since: jiff::Timestamp) -> Result<(), Error> {
    let source: SourceName = one.source.parse().map_err(|_| not_undone(here, &one.source))?;
    let server = server(here, &source)?.ok_or_else(|| not_undone(here, &one.source))?;
    let run = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lived = here.is_live().then_some(Lived::Now);
    let origin = Origin { owner: owner(here, &source), run, since: since.to_string(), lived, ..Origin::default() };
    one.exchange.run(&server, &origin).await
}

fn not_undone(here: &Here, source: &str) -> RestoreError {
    RestoreError::NotUndone { source_name: source.to_owned(), site: here.site.name.clone() }
}

/// The exchanges: of the databases named, or of all that the last restore replaced.
async fn decide(here: &Here, request: &UndoRequest) -> Result<Vec<UndoneDatabase>, Error> {
    let all: Vec<SourceName> =
        here.site.databases.keys().map(|name| SourceName::new(SourceKind::Database, name)).collect();
    if let Some(other) = request.only.iter().find(|only| all.iter().all(|source| source.to_string() != **only)) {
        return Err(not_undone(here, other).into());
    }
    let asked = |source: &&SourceName| request.only.is_empty() || request.only.contains(&source.to_string());
    let mut found = Vec::new();
    let mut without = Vec::new();
    for source in all.iter().filter(asked) {
        let Some(server) = server(here, source)? else { continue };
        let origin = Origin { owner: owner(here, source), ..Origin::default() };
        match exchange_of(&server, &origin, server.database()).await? {
            Some(exchange) => found.push(UndoneDatabase { source: source.to_string(), exchange }),
            None => without.push(source.to_string()),
        }
    }
    // Part of what a person named is no answer; without a name it is the databases that were swapped last.
    if found.is_empty() || (!request.only.is_empty() && !without.is_empty()) {
        let sources = if without.is_empty() { "any database".to_owned() } else { without.join(", ") };
        return Err(RestoreError::NothingKept { site: here.site.name.clone(), sources }.into());
    }
    if request.only.is_empty() {
        let instant = |one: &UndoneDatabase| one.exchange.since.parse::<jiff::Timestamp>().ok();
        let last = found.iter().max_by_key(|one| instant(one)).map(|one| one.exchange.swap.clone());
        found.retain(|one| Some(&one.exchange.swap) == last.as_ref());
    }
    Ok(found)
}

/// The undo that was begun last, if it is of the same request and not finished, or a new one.
fn open(here: &Here, request: &UndoRequest) -> Result<(PathBuf, Journal), Error> {
    let all = here.site.state.join("restores");
    let latest = latest(here)?;
    for number in 1u32.. {
        let name = format!("undo-{number:03}");
        let folder = all.join(&name);
        durable::private_folder(&folder).map_err(|source| RestoreError::Folder { path: folder.clone(), source })?;
        let journal = Journal::open(&folder.join("journal.jsonl"))?;
        let goes_on = latest.as_ref() == Some(&name) && to_go_on_with(&journal, request)?.is_some();
        if journal.entries().is_empty() || goes_on {
            return Ok((folder, journal));
        }
    }
    Err(RestoreError::Folder { path: all, source: std::io::ErrorKind::QuotaExceeded.into() }.into())
}

/// What an undo was begun with, if it is of the same request and not finished.
fn to_go_on_with(journal: &Journal, request: &UndoRequest) -> Result<Option<Begun>, Error> {
    let is_undo = journal.entries().first().is_some_and(|entry| entry.value.get("databases").is_some());
    if !is_undo || journal.done::<serde_json::Value>("", Phase::Finished)?.is_some() {
        return Ok(None);
    }
    let begun = journal.done::<Begun>("", Phase::Begun)?.map(|(begun, _)| begun);
    Ok(begun.filter(|begun| begun.only == request.only))
}

/// What the restores that are undone have replaced of files, by their journals.
fn files_replaced(here: &Here, databases: &[UndoneDatabase]) -> Result<Vec<String>, Error> {
    let mut runs: Vec<&str> = databases.iter().map(|one| one.exchange.swap.as_str()).collect();
    runs.dedup();
    let mut files = Vec::new();
    for run in runs {
        let path = here.site.state.join("restores").join(run).join("journal.jsonl");
        // The state folder may be younger than the databases.
        let Some(journal) = Journal::look(&path)? else { continue };
        let steps: std::collections::BTreeSet<&str> =
            journal.entries().iter().map(|entry| entry.step.as_str()).collect();
        for step in steps {
            let loaded = journal.done::<Loaded>(step, Phase::Loaded)?;
            files.extend(loaded.into_iter().flat_map(|(loaded, _)| loaded.kept));
        }
    }
    Ok(files)
}

fn write<T: Serialize>(
    journal: &mut Journal,
    step: &str,
    phase: Phase,
    at: jiff::Timestamp,
    value: &T,
) -> Result<(), Error> {
    let value = serde_json::to_value(value).map_err(RestoreError::Value)?;
    Ok(journal.write(Entry { step: step.to_owned(), phase, at, millis: 0, value })?)
}
