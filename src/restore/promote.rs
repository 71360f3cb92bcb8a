//! What turns the restored databases of this site into live ones: the roles get their attributes, logins and passwords,
//! and every sequence jumps a gap, so that no id is given out again that the lost live site may have given out. [`promote`] is for a
//! person, [`go_live`] for a takeover, which does it before its gate opens.
//!
//! It reads the roles from the point each database was restored from. How far each sequence goes is written down before the first
//! one goes, so that a promotion that was killed goes on and nothing jumps twice; a database that was promoted since it was
//! restored is left as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::engine::refuse_live;
use super::error::RestoreError;
use super::journal::{Entry, Journal, Phase};
use super::kept::server;
use super::plan::{PlannedStep, StepKind};
use super::step::{Step, Surroundings, owner};
use super::steps::database::{self, Part, Target, remaining};
use crate::capture::layout;
use crate::clock::Clock;
use crate::config::{Here, SourceKind, SourceName};
use crate::durable;
use crate::error::Error;
use crate::point;
use crate::postgres::sequence_gap::Advance;
use crate::vault::layout::PointId;

/// How the folder of a promotion begins, in `restores`.
const PROMOTION: &str = "promote-";
/// In it.
const JOURNAL: &str = "journal.jsonl";

/// What is asked of a promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromoteRequest {
    /// These databases only; else every one of this site that was restored.
    pub only: Vec<String>,
    /// The name of the live site, typed by a person who means to change live data.
    pub on_live: Option<String>,
}

/// What a promotion did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromoteReport {
    /// The site.
    pub site: String,
    /// Whether a killed promotion was gone on with.
    pub resumed: bool,
    /// The databases.
    pub databases: Vec<PromotedDatabase>,
    /// The folder with the journal; absent when nothing was done.
    pub folder: Option<PathBuf>,
}

/// A promotion that came to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promotion {
    /// When.
    pub at: Timestamp,
    /// What it could not do and a person has to, as the server's own administrator: each with its source.
    pub lacks: Vec<String>,
}

/// One database of a [`PromoteReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromotedDatabase {
    /// Its source.
    pub source: String,
    /// Its name.
    pub database: String,
    /// The point it was restored from.
    pub point: String,
    /// The roles that get what they had.
    pub roles: Vec<String>,
    /// Settings of theirs that this server does not have.
    pub unknown_settings: Vec<String>,
    /// What the server refused to our role, which is no superuser.
    pub refused: Vec<String>,
    /// Whether the point has no passwords of roles.
    pub without_passwords: bool,
    /// How far the sequences go; absent when they went since the database was restored.
    pub sequences: Option<Vec<Advance>>,
}

/// Promotes them. Run again after it was killed, it goes on; after it was done, only the roles are given the same once more.
///
/// # Errors
/// When it is refused (a live site, nothing restored), or the vault or a server fails; run again, it goes on.
pub async fn promote(here: &Here, request: &PromoteRequest, clock: &dyn Clock) -> Result<PromoteReport, Error> {
    let _lock = here.lock("warmspare restore --promote")?;
    refuse_live(here, here.live.as_deref(), request.on_live.as_deref(), false)?;
    let found = restored(here, request).await?;
    let mut run = PromoteRun::open(here, request, clock)?;
    for one in &found {
        // The role may have changed while this one waited.
        let live = here.live_again()?;
        refuse_live(here, live.as_deref(), request.on_live.as_deref(), false)?;
        run.promote(here, one, clock).await?;
    }
    run.finish(here, clock)
}

/// Promotes what was restored and not promoted since, and notes in each restored database the term in which it is live: a capture
/// in an earlier one is refused. What was live here before keeps its roles as they are. The report is empty when nothing
/// was restored.
///
/// # Errors
/// When another operation holds the lock, or the vault or a server fails; run again, it goes on.
pub async fn go_live(here: &Here, term: u64, clock: &dyn Clock) -> Result<PromoteReport, Error> {
    let _lock = here.lock("warmspare run, going live")?;
    let request = PromoteRequest::default();
    let all = restored_here(here, &request).await?;
    let mut found = Vec::new();
    for one in &all {
        if !one.is_promoted(here).await? {
            found.push(one);
        }
    }
    let report = if found.is_empty() {
        PromoteReport { site: here.site.name.clone(), resumed: false, databases: Vec::new(), folder: None }
    } else {
        let mut run = PromoteRun::open(here, &request, clock)?;
        for one in found {
            run.promote(here, one, clock).await?;
        }
        run.finish(here, clock)?
    };
    for one in &all {
        one.note_live(here, term).await?;
    }
    Ok(report)
}

/// The newest promotion that came to its end at the site with this state folder, by a person or a takeover.
///
/// # Errors
/// When the folder or a journal in it cannot be read.
pub fn newest_promotion(state: &Path) -> Result<Option<Promotion>, Error> {
    let all = state.join("restores");
    let wrong = |source| RestoreError::Folder { path: all.clone(), source };
    let found = match std::fs::read_dir(&all) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error).into()),
    };
    let mut newest: Option<Promotion> = None;
    for folder in found {
        let folder = folder.map_err(wrong)?;
        if !folder.file_name().to_string_lossy().starts_with(PROMOTION) {
            continue;
        }
        let Some(journal) = Journal::look(&folder.path().join(JOURNAL))? else { continue };
        let finished = journal.entries().iter().rfind(|entry| entry.phase == Phase::Finished);
        let Some(at) = finished.map(|entry| entry.at) else { continue };
        if newest.as_ref().is_none_or(|newest| newest.at < at) {
            newest = Some(Promotion { at, lacks: lacks(&journal)? });
        }
    }
    Ok(newest)
}

/// Of every database in the journal: the report of a promotion that was killed, or failed, and went on names the last ones only.
fn lacks(journal: &Journal) -> Result<Vec<String>, Error> {
    let promoted = journal.entries().iter().filter(|entry| entry.phase == Phase::Promoted);
    let sources: BTreeSet<&str> = promoted.map(|entry| entry.step.as_str()).collect();
    let mut lacks = Vec::new();
    for source in sources {
        let Some((one, _)) = journal.done::<PromotedDatabase>(source, Phase::Promoted)? else { continue };
        lacks.extend(one.refused.iter().map(|what| format!("{source}: {what}")));
        if one.without_passwords {
            lacks.push(format!("{source}: the roles have no passwords, its point has none"));
        }
    }
    Ok(lacks)
}

/// A promotion under way.
struct PromoteRun {
    folder: PathBuf,
    journal: Journal,
    resumed: bool,
    databases: Vec<PromotedDatabase>,
}

impl PromoteRun {
    /// The promotion of the same request that was killed, or a new one.
    fn open(here: &Here, request: &PromoteRequest, clock: &dyn Clock) -> Result<Self, Error> {
        let (folder, mut journal) = open(here, request)?;
        let resumed = !journal.entries().is_empty();
        if !resumed {
            write(&mut journal, "", Phase::Begun, clock, &request.only)?;
        }
        Ok(PromoteRun { folder, journal, resumed, databases: Vec::new() })
    }

    async fn promote(&mut self, here: &Here, one: &Restored, clock: &dyn Clock) -> Result<(), Error> {
        self.databases.push(one.promote(here, &mut self.journal, clock).boxed_local().await?);
        Ok(())
    }

    fn finish(mut self, here: &Here, clock: &dyn Clock) -> Result<PromoteReport, Error> {
        let (site, folder) = (here.site.name.clone(), Some(self.folder));
        let report = PromoteReport { site, resumed: self.resumed, databases: self.databases, folder };
        write(&mut self.journal, "", Phase::Finished, clock, &report)?;
        Ok(report)
    }
}

/// What [`promote`] would do, without doing it.
///
/// # Errors
/// When it would be refused.
pub async fn preview_promote(here: &Here, request: &PromoteRequest, clock: &dyn Clock) -> Result<PromoteReport, Error> {
    refuse_live(here, here.live.as_deref(), request.on_live.as_deref(), false)?;
    let mut databases = Vec::new();
    for one in restored(here, request).await? {
        databases.push(one.preview(here, clock).boxed_local().await?);
    }
    Ok(PromoteReport { site: here.site.name.clone(), resumed: false, databases, folder: None })
}

/// A database that bears its name since a restore.
struct Restored {
    source: SourceName,
    point: PointId,
    /// The run that put it there.
    run: String,
    gap: u64,
}

/// How far the sequences of a database go, of which one the journal says: a restore since then has put another in its place.
#[derive(Serialize, Deserialize)]
struct Advancing {
    run: String,
    plan: Vec<Advance>,
}

/// Those asked for, or all of this site; at least one.
async fn restored(here: &Here, request: &PromoteRequest) -> Result<Vec<Restored>, Error> {
    let found = restored_here(here, request).await?;
    if found.is_empty() { Err(not_restored(here, "any database")) } else { Ok(found) }
}

fn not_restored(here: &Here, source: &str) -> Error {
    RestoreError::NotRestored { source_name: source.to_owned(), site: here.site.name.clone() }.into()
}

async fn restored_here(here: &Here, request: &PromoteRequest) -> Result<Vec<Restored>, Error> {
    let named = |only: &String| here.site.databases.keys().any(|name| *only == format!("database.{name}"));
    if let Some(other) = request.only.iter().find(|only| !named(only)) {
        return Err(not_restored(here, other));
    }
    let mut found = Vec::new();
    for (name, address) in &here.site.databases {
        let source = SourceName::new(SourceKind::Database, name);
        let asked = request.only.contains(&source.to_string());
        if !asked && !request.only.is_empty() {
            continue;
        }
        let Some(server) = server(here, &source)? else { continue };
        let session = server.maintenance().await?;
        let all = remaining(&session, &owner(here, &source)).await?;
        session.close().await;
        let in_place = all.into_iter().find(|one| one.part == Part::InPlace && one.database == server.database());
        match in_place.and_then(|one| Some((one.point?, one.run))) {
            Some((point, run)) => {
                let (point, gap) = (point.parse()?, address.sequence_gap.into());
                found.push(Restored { source, point, run, gap });
            }
            None if asked => return Err(not_restored(here, &source.to_string())),
            None => {}
        }
    }
    Ok(found)
}

impl Restored {
    /// Whether it was promoted since it was restored.
    async fn is_promoted(&self, here: &Here) -> Result<bool, Error> {
        let Some(server) = server(here, &self.source)? else { return Ok(false) };
        Ok(database::is_promoted(&server).await?)
    }

    async fn note_live(&self, here: &Here, term: u64) -> Result<(), Error> {
        let Some(server) = server(here, &self.source)? else { return Ok(()) };
        Ok(database::note_live(&server, term).await?)
    }

    /// The point's snapshot of it, opened, and what it is at this site.
    async fn open<T>(
        &self,
        here: &Here,
        clock: &dyn Clock,
        work: impl AsyncFnOnce(&Step<'_>, Target, PromotedDatabase) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (identity, (_, reader)) = (here.identity()?, point::open_vault(here).await?);
        let points = point::list(here).await?;
        let point = points.choose(Some(self.point))?;
        let planned = PlannedStep { id: "promote".to_owned(), kind: StepKind::Database, source: self.source.clone() };
        let around = Surroundings::beside(here, &reader, &identity, point, clock.now());
        let step = Step::new(&around, &planned)?;
        let target = step.target()?;
        let promoted = PromotedDatabase {
            source: self.source.to_string(),
            database: target.name().to_owned(),
            point: self.point.to_string(),
            roles: Vec::new(),
            unknown_settings: Vec::new(),
            refused: Vec::new(),
            without_passwords: step.captured()?.without_passwords,
            sequences: None,
        };
        work(&step, target, promoted).await
    }

    async fn preview(&self, here: &Here, clock: &dyn Clock) -> Result<PromotedDatabase, Error> {
        self.open(here, clock, async |step, target, promoted| {
            let snapshot = step.snapshot().await?;
            let roles = layout::roles(&snapshot).await?.into_iter().map(|role| role.name).collect();
            let sequences = database::plan_advances(&target, self.gap).await?;
            Ok(PromotedDatabase { roles, sequences, ..promoted })
        })
        .await
    }

    async fn promote(&self, here: &Here, journal: &mut Journal, clock: &dyn Clock) -> Result<PromotedDatabase, Error> {
        let source = self.source.to_string();
        self.open(here, clock, async |step, target, promoted| {
            let snapshot = step.snapshot().await?;
            let roles = database::promote_roles(&target, &snapshot).boxed_local().await?;
            let begun = journal.done::<Advancing>(&source, Phase::Advancing)?.map(|(begun, _)| begun);
            let plan = match begun.filter(|begun| begun.run == self.run) {
                Some(begun) => Some(begun.plan),
                None => database::plan_advances(&target, self.gap).await?,
            };
            if let Some(plan) = &plan {
                let advancing = Advancing { run: self.run.clone(), plan: plan.clone() };
                write(journal, &source, Phase::Advancing, clock, &advancing)?;
                database::advance_sequences(&target, plan).await?;
            }
            let database::Promoted { roles, unknown_settings, refused } = roles;
            let promoted = PromotedDatabase { roles, unknown_settings, refused, sequences: plan, ..promoted };
            write(journal, &source, Phase::Promoted, clock, &promoted)?;
            Ok(promoted)
        })
        .await
    }
}

/// The promotion of the same request that was killed, or a new one.
fn open(here: &Here, request: &PromoteRequest) -> Result<(PathBuf, Journal), Error> {
    let all = here.site.state.join("restores");
    for number in 1u32.. {
        let folder = all.join(format!("{PROMOTION}{number:03}"));
        durable::private_folder(&folder).map_err(|source| RestoreError::Folder { path: folder.clone(), source })?;
        let journal = Journal::open(&folder.join(JOURNAL))?;
        let finished = journal.done::<serde_json::Value>("", Phase::Finished)?.is_some();
        let same = journal.done::<Vec<String>>("", Phase::Begun)?.is_none_or(|(only, _)| only == request.only);
        if !finished && same {
            return Ok((folder, journal));
        }
    }
    Err(RestoreError::Folder { path: all, source: std::io::ErrorKind::QuotaExceeded.into() }.into())
}

fn write<T: Serialize>(
    journal: &mut Journal,
    step: &str,
    phase: Phase,
    clock: &dyn Clock,
    value: &T,
) -> Result<(), Error> {
    let value = serde_json::to_value(value).map_err(RestoreError::Value)?;
    Ok(journal.write(Entry { step: step.to_owned(), phase, at: clock.now(), millis: 0, value })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promoted(source: &str, refused: &[&str]) -> serde_json::Value {
        let one = PromotedDatabase {
            source: source.to_owned(),
            database: "app".to_owned(),
            point: "0-3".to_owned(),
            roles: Vec::new(),
            unknown_settings: Vec::new(),
            refused: refused.iter().map(ToString::to_string).collect(),
            without_passwords: refused.is_empty(),
            sequences: None,
        };
        serde_json::to_value(one).unwrap()
    }

    /// Writes a journal; its entries are so many seconds after 1970.
    fn journal(state: &Path, name: &str, entries: &[(&str, Phase, serde_json::Value)], second: i64) {
        let folder = state.join("restores").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut journal = Journal::open(&folder.join(JOURNAL)).unwrap();
        for (step, phase, value) in entries.iter().cloned() {
            let at = Timestamp::from_second(second).unwrap();
            journal.write(Entry { step: step.to_owned(), phase, at, millis: 0, value }).unwrap();
        }
    }

    #[test]
    fn what_the_newest_promotion_lacks_is_told_of_every_database_also_of_those_before_it_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(newest_promotion(state).unwrap(), None, "a site where nothing was restored");
        let (a, b) = ("database.a", "database.b");
        let finished = (String::new(), Phase::Finished, serde_json::json!({ "databases": [promoted(b, &[])] }));
        let finished = || (finished.0.as_str(), finished.1, finished.2.clone());
        let older = [(a, Phase::Promoted, promoted(a, &["role old: no"])), finished()];
        journal(state, "promote-001", &older, 10);
        let refused_twice = [
            (a, Phase::Promoted, promoted(a, &["role x: no"])),
            (a, Phase::Promoted, promoted(a, &["role backup: no"])),
            (b, Phase::Promoted, promoted(b, &[])),
            finished(),
        ];
        journal(state, "promote-002", &refused_twice, 30);
        journal(state, "promote-003", &[(a, Phase::Promoted, promoted(a, &["role new: no"]))], 40);
        journal(state, "0-3-001", &older, 50);
        let newest = newest_promotion(state).unwrap().unwrap();
        assert_eq!(newest.at, Timestamp::from_second(30).unwrap(), "neither one that is not over, nor a restore");
        assert_eq!(
            newest.lacks,
            ["database.a: role backup: no", "database.b: the roles have no passwords, its point has none"]
        );

        std::fs::write(state.join("restores/promote-001").join(JOURNAL), "{torn\n").unwrap();
        let error = newest_promotion(state).unwrap_err().to_string();
        assert!(error.contains("promote-001/journal.jsonl: line 1 is damaged"), "{error}");
    }
}
