//! One step for one source: where it goes, what it loads, what it proves, what it swaps.
//!
//! Every act can be done twice: a run that is killed repeats the act it was in.

use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};

use super::error::RestoreError;
use super::plan::{PlannedStep, StepKind};
use super::steps::bucket_check;
use super::steps::bucket_rebuild::Rebuild;
use super::steps::database::{self, Dropped, Lived, Origin, Owner, Prepared, Sessions, Standing, Target};
use super::steps::files::{self, Effect, Places};
use crate::capture::database::DatabaseFacts;
use crate::config::address::{BucketAddress, BucketUrl, DatabaseAddress, ExportAddress, Topology};
use crate::config::{Here, SourceName};
use crate::durable;
use crate::error::Error;
use crate::keys::Identity;
use crate::mirror::published_rows;
use crate::observe::Progress;
use crate::point::spare;
use crate::store::{Bucket, Keys};
use crate::stream::{Source, StreamKind, StreamName};
use crate::units::Bytes;
use crate::vault::layout::{PointId, SnapshotId};
use crate::vault::v1::SnapshotHeader;
use crate::vault::{ListedPoint, SnapshotReader, VaultReader};
use crate::verify;
use crate::verify::object::{ObjectDifference, ObjectFault};

/// Differences kept of one step; the count is always complete.
const DIFFERENCES_KEPT: usize = 200;

/// What a step loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// In words and counts.
    pub summary: String,
    /// What was kept of what stood there before.
    pub kept: Vec<String>,
    /// Nothing was: what stands there was restored from the same snapshot, and only a proof is needed.
    #[serde(default)]
    pub held: bool,
}

impl Loaded {
    /// What stands there need not be loaded again.
    pub fn already() -> Self {
        Loaded { summary: "held already, nothing was loaded".to_owned(), kept: Vec::new(), held: true }
    }

    /// With what an earlier attempt of the same run kept.
    pub fn with_kept(mut self, mut kept: Vec<String>) -> Self {
        kept.append(&mut self.kept);
        Loaded { kept, ..self }
    }
}

/// What a step found when it compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Compared {
    /// In words and counts.
    pub summary: String,
    /// The first differences.
    pub differences: Vec<String>,
    /// How many there are.
    pub total: u64,
    /// What the server refused to a role that is no superuser, and is therefore not as it was captured.
    #[serde(default)]
    pub refused: Vec<String>,
}

impl Compared {
    fn new(summary: String, differences: impl ExactSizeIterator<Item = String>) -> Self {
        let total = differences.len() as u64;
        Compared { summary, differences: differences.take(DIFFERENCES_KEPT).collect(), total, refused: Vec::new() }
    }
}

/// What was loaded, in words and counts.
fn words_of(prepared: &Prepared, loaded: &database::Loaded, without_passwords: bool) -> String {
    let mut words = format!("{} rows in {} tables ({})", loaded.rows, loaded.tables, Bytes(loaded.bytes));
    let mut tell = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            words += &format!("; {what}: {}", names.join(", "));
        }
    };
    fn all(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    // The application cannot log in with them until a person lets it.
    tell("roles made here without login", all(&prepared.created_roles));
    tell(
        "memberships of roles that the server refused to ours, which is no superuser",
        all(&prepared.refused_memberships),
    );
    let joined = prepared.joined_roles.iter().chain(&loaded.allowance.joined).map(String::as_str).collect();
    tell("our role, which is no superuser, became a member of the roles that own something", joined);
    tell("settings this server does not have, and which were not set", all(&loaded.unknown_settings));
    if without_passwords {
        words += "; the point has NO passwords of roles: set them before these roles are to log in";
    }
    words
}

/// What took whose place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Swapped {
    /// In words, where something did.
    pub summary: Option<String>,
    /// What was kept of what stood there before.
    pub kept: Vec<String>,
}

/// Which databases that restores have left are those of the source at this site.
pub(super) fn owner(here: &Here, source: &SourceName) -> Owner {
    Owner { system: here.config.system.clone(), site: here.site.name.clone(), source: source.to_string() }
}

/// Which of the databases that earlier restores have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Those never swapped in.
    Unfinished,
    /// Those that were replaced, before the one that this run replaced.
    Replaced,
}

/// All that is the same for every step of a run.
pub(super) struct Surroundings<'a> {
    pub here: &'a Here,
    pub into: Option<&'a str>,
    pub reader: &'a VaultReader<Keys>,
    pub identity: &'a Identity,
    pub point: &'a ListedPoint,
    /// When this site has been the live one.
    pub lived: Option<Lived>,
    /// Whether what is newer or foreign may be replaced.
    pub replace: bool,
    /// Whether single sources were asked for: a bucket is rebuilt only then.
    pub asked: bool,
    /// Whether the live site goes on meanwhile: what it has changed since in a bucket is no difference, if it is kept.
    pub rehearsal: bool,
    /// The run's own folder.
    pub folder: &'a Path,
    /// When the run began.
    pub since: jiff::Timestamp,
}

impl<'a> Surroundings<'a> {
    /// Those of a step that is looked at, or done by itself, beside any run: in its own place, replacing nothing.
    pub fn beside(
        here: &'a Here,
        reader: &'a VaultReader<Keys>,
        identity: &'a Identity,
        point: &'a ListedPoint,
        since: jiff::Timestamp,
    ) -> Self {
        let (into, lived, replace, asked, folder) = (None, None, false, false, Path::new(""));
        Surroundings { here, into, reader, identity, point, lived, replace, asked, rehearsal: false, folder, since }
    }
}

/// A step and what it works on.
pub(super) struct Step<'a> {
    around: &'a Surroundings<'a>,
    planned: &'a PlannedStep,
    id: SnapshotId,
    pub header: &'a SnapshotHeader,
}

impl<'a> Step<'a> {
    /// The step `planned` of the run.
    ///
    /// # Errors
    /// When the point has no snapshot of its source.
    pub fn new(around: &'a Surroundings<'a>, planned: &'a PlannedStep) -> Result<Self, RestoreError> {
        let found = around.point.headers.iter().find(|(source, _, _)| *source == planned.source);
        let missing = || RestoreError::NotInPoint { point: around.point.id, source_name: planned.source.to_string() };
        let (_, id, header) = found.ok_or_else(missing)?;
        Ok(Step { around, planned, id: *id, header })
    }

    fn no_place(&self) -> RestoreError {
        let (source_name, site) = (self.planned.source.to_string(), self.around.here.site.name.clone());
        RestoreError::NoPlace { point: self.around.point.id, source_name, site }
    }

    fn database_address(&self) -> Result<&DatabaseAddress, RestoreError> {
        self.around.here.site.databases.get(&self.planned.source.name).ok_or_else(|| self.no_place())
    }

    fn export_address(&self) -> Result<&ExportAddress, RestoreError> {
        self.around.here.site.exports.get(&self.planned.source.name).ok_or_else(|| self.no_place())
    }

    fn bucket_address(&self) -> Result<&BucketAddress, RestoreError> {
        self.around.here.site.buckets.get(&self.planned.source.name).ok_or_else(|| self.no_place())
    }

    /// Its snapshot, open.
    ///
    /// # Errors
    /// When the vault or the identity does not open it.
    pub async fn snapshot(&self) -> Result<SnapshotReader<Keys>, Error> {
        let Surroundings { reader, identity, .. } = self.around;
        Ok(reader.open_snapshot(&self.planned.source, self.id, self.header, identity).await?)
    }

    /// The database it is of, at this site.
    ///
    /// # Errors
    /// When this site names no place for it, or one that cannot be used.
    pub fn target(&self) -> Result<Target, Error> {
        let address = self.database_address()?;
        let here = self.around.here;
        let password = here.resolve(&format!("databases.{}.password", address.name), address.password.as_ref())?;
        let PointId { term, .. } = self.around.point.id;
        let (point, workers) = (self.around.point.id.to_string(), here.config.capture.workers);
        let target = Target::new(address, password, self.around.into, term, &point, workers)?;
        Ok(target.made_by(self.origin()))
    }

    fn origin(&self) -> Origin {
        let Surroundings { here, into, lived, folder, since, .. } = self.around;
        Origin {
            owner: owner(here, &self.planned.source),
            run: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            since: since.to_string(),
            snapshot: format!("{} {}", self.id, self.header.body.blake3),
            scratch: into.is_some(),
            lived: *lived,
        }
    }

    /// What its capture wrote down of the database.
    ///
    /// # Errors
    /// When this release does not understand it.
    pub fn captured(&self) -> Result<DatabaseFacts, Error> {
        Ok(serde_json::from_value(self.header.facts.clone()).map_err(RestoreError::Value)?)
    }

    /// The bucket given with `--into`, reached as the site's own is; a folder that is not there is made, or is none.
    fn bucket_into(&self, make: bool) -> Result<Option<Bucket>, Error> {
        let Some(into) = self.around.into else { return Ok(None) };
        let wrong = |what: &str| RestoreError::Into { into: into.to_owned(), what: what.to_owned() };
        let url = BucketUrl::parse(into)
            .ok_or_else(|| wrong("a bucket goes into a folder, from the root, or s3://, gs:// or az://"))?;
        let own = self.bucket_address()?;
        if own.url.overlaps(&url) || own.attic_address().is_some_and(|attic| attic.url.overlaps(&url)) {
            return Err(wrong("it lies in the bucket itself or its attic, or around it").into());
        }
        if let (BucketUrl::Folder(path), true) = (&url, make) {
            durable::private_folder(path).map_err(|source| RestoreError::Folder { path: path.clone(), source })?;
        }
        if matches!(&url, BucketUrl::Folder(path) if !path.exists()) {
            return Ok(None);
        }
        let here = self.around.here;
        Ok(Some(spare::open(here, &here.site, &BucketAddress { url, ..own.clone() })?))
    }

    /// Whether a bucket is rebuilt, and not only looked at. Nothing of ours is written to one that we do not mirror.
    fn rebuilds(&self) -> Result<bool, RestoreError> {
        let is_ours = self.bucket_address()?.topology == Topology::Mirror;
        Ok(self.around.asked && (is_ours || self.around.into.is_some()))
    }

    /// Rebuilds the bucket from what is at this site.
    async fn rebuild(&self, progress: &Progress) -> Result<Loaded, Error> {
        let (here, address) = (self.around.here, self.bucket_address()?);
        let (bucket, attic) = spare::open_with_attic(here, &here.site, address, self.around.since).await?;
        let into = self.bucket_into(true)?;
        let rebuild = Rebuild {
            spare: &bucket,
            attic: &attic,
            into: into.as_ref(),
            replace: self.around.replace,
            now: self.around.since,
        };
        let snapshot = self.snapshot().await?;
        let manifest = snapshot.read(&StreamName::new(StreamKind::Manifest, &self.planned.source.name)).await?;
        let done = rebuild.run(published_rows(manifest), progress).await?;
        Ok(Loaded { summary: done.words(), kept: Vec::new(), held: false })
    }

    async fn prove_bucket(&self, snapshot: &SnapshotReader<Keys>, progress: &Progress) -> Result<Compared, Error> {
        let (name, here) = (&self.planned.source.name, self.around.here);
        let address = self.bucket_address()?;
        let own = spare::open(here, &here.site, address)?;
        let bucket = self.bucket_into(true)?.unwrap_or_else(|| own.clone());
        // The live site goes on writing while its point is rehearsed.
        let attic = match self.around.rehearsal && address.topology == Topology::Mirror {
            true => Some(spare::open_with_attic(here, &here.site, address, self.around.since).await?.1),
            false => None,
        };
        let found = bucket_check::check(&bucket, attic.as_ref(), snapshot, name, progress).await?;
        let mut summary = format!("{} objects re-read ({})", found.checked, Bytes(found.bytes));
        if found.beside > 0 {
            summary += &format!(
                ", {} of them in the attic or among the versions: the live site has changed them since",
                found.beside
            );
        }
        let told = |difference: &ObjectDifference| match difference.what {
            ObjectFault::Missing if self.around.asked => format!(
                "{difference}: nothing that can be read has its content, neither {} under its key or among its versions, nor the attic",
                own.name()
            ),
            _ => difference.to_string(),
        };
        let mut compared = Compared::new(summary, found.differences.first.iter().map(told));
        compared.total = found.differences.total;
        Ok(compared)
    }

    fn places(&self) -> Places {
        let name = &self.planned.source.name;
        Places {
            into: self.around.into.map(PathBuf::from),
            kept: self.around.folder.join("kept").join(name),
            commands: self.around.folder.join("commands").join(name),
        }
    }

    /// Where it goes and what stands there, for a person.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub async fn place(&self) -> Result<String, Error> {
        match self.planned.kind {
            StepKind::Database => {
                let target = self.target()?;
                let standing = match database::standing(&target).await? {
                    _ if self.holds().await? => "holds it already, loaded again only if it is different".to_owned(),
                    Standing::Absent => "new".to_owned(),
                    Standing::Ours { point, .. } => format!("replaces point {point}"),
                    Standing::Foreign { description } => format!("replaces {description}"),
                };
                Ok(format!("database {}: {standing}", target.name()))
            }
            StepKind::Files => {
                let snapshot = self.snapshot().await?;
                let address = self.export_address()?;
                let progress = Progress::silent();
                let would = files::restore(&snapshot, address, &self.places(), Effect::List, &progress).await?;
                let root = self.around.into.map_or(address.root.clone(), PathBuf::from);
                Ok(format!("{}: {} to write, {} as captured", root.display(), would.written.len(), would.unchanged))
            }
            StepKind::BucketCheck => Ok(match (self.around.into, self.bucket_address()?) {
                (Some(into), _) => format!("{into}: rebuilt there"),
                (None, address) if address.topology != Topology::Mirror => {
                    format!(
                        "{}: looked at where it is; nothing is written to a bucket that is not mirrored",
                        address.url
                    )
                }
                (None, address) if self.around.asked && self.around.replace => {
                    format!("{}: rebuilt; what is another, or too much, goes into the attic", address.url)
                }
                (None, address) if self.around.asked => format!("{}: what is missing is brought", address.url),
                (None, address) => format!("{}: looked at where it is", address.url),
            }),
        }
    }

    /// This site's name.
    pub fn site(&self) -> String {
        self.around.here.site.name.clone()
    }

    /// Whether what stands there was restored from this very snapshot, so that it is enough to prove it.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn holds(&self) -> Result<bool, Error> {
        match self.planned.kind {
            StepKind::Database if self.around.into.is_none() => database::holds(&self.target()?).await,
            _ => Ok(false),
        }
    }

    /// Whether what [`Step::load`] put in place is still there.
    ///
    /// # Errors
    /// When the snapshot or the server cannot be asked.
    pub async fn stands(&self) -> Result<bool, Error> {
        match self.planned.kind {
            StepKind::Database => database::stands(&self.target()?).await,
            StepKind::Files => {
                let (snapshot, into) = (self.snapshot().await?, self.around.into.map(Path::new));
                let found = verify::files::check(&snapshot, self.export_address()?, into).await;
                Ok(found.is_ok_and(|different| different.is_empty()))
            }
            StepKind::BucketCheck => Ok(true),
        }
    }

    /// A folder given with `--into` that this run did not make, if it is not empty.
    fn occupied(&self) -> Result<Option<(String, String)>, RestoreError> {
        let Some(into) = self.around.into.map(PathBuf::from) else { return Ok(None) };
        let first = match std::fs::read_dir(&into) {
            Ok(mut entries) => entries.next(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(RestoreError::Folder { path: into, source }),
        };
        let what = "files already; --into takes a new or empty folder".to_owned();
        Ok(first.map(|_| (format!("folder {}", into.display()), what)))
    }

    /// As [`Step::occupied`], of a bucket.
    async fn occupied_bucket(&self) -> Result<Option<(String, String)>, Error> {
        let Some(bucket) = self.bucket_into(false)? else { return Ok(None) };
        let what = "objects already; --into takes a new or empty bucket or folder".to_owned();
        Ok(bucket.list(None).next().await.transpose()?.map(|_| (bucket.name().to_owned(), what)))
    }

    /// What a restore without permission to replace must not replace: its name and what it holds. A run that is
    /// `resumed` finds what it put there itself.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub async fn would_replace(&self, may_replace: bool, resumed: bool) -> Result<Option<(String, String)>, Error> {
        match self.planned.kind {
            StepKind::Database => {}
            StepKind::Files if !resumed => return Ok(self.occupied()?),
            StepKind::BucketCheck if !resumed => return self.occupied_bucket().await,
            StepKind::Files | StepKind::BucketCheck => return Ok(None),
        }
        let target = self.target()?;
        let name = format!("database `{}`", target.name());
        let here = self.around.point.id;
        Ok(match database::standing(&target).await? {
            Standing::Absent => None,
            Standing::Ours { term, point } if resumed && term == here.term && point == here.to_string() => None,
            _ if self.around.into.is_some() => Some((name, "a database already; --into makes a new one".to_owned())),
            _ if may_replace => None,
            Standing::Ours { term, point } => {
                let standing: PointId = point.parse()?;
                let newer = (term, standing.seq) > (here.term, here.seq);
                newer.then(|| (name, format!("the newer point {point}")))
            }
            Standing::Foreign { description } => {
                Some((name, format!("what is not from a recovery point ({description})")))
            }
        })
    }

    /// Puts the step's data in place, beside what a swap replaces.
    ///
    /// # Errors
    /// What the place, the vault or the data says; done again, it goes on or starts over.
    pub async fn load(&self, progress: &Progress) -> Result<Loaded, Error> {
        match self.planned.kind {
            StepKind::Database => {
                let (snapshot, target, captured) = (self.snapshot().await?, self.target()?, self.captured()?);
                let prepared = database::prepare(&target, &snapshot, &captured).await?;
                for role in &prepared.differing_roles {
                    tracing::warn!("{role}");
                }
                for tablespace in &prepared.missing_tablespaces {
                    tracing::warn!("there is no tablespace {tablespace} here: what was in it goes to the default one");
                }
                let loaded = database::load(&target, &snapshot, progress).await?;
                let summary = words_of(&prepared, &loaded, captured.without_passwords);
                Ok(Loaded { summary, kept: Vec::new(), held: false })
            }
            StepKind::Files => {
                let snapshot = self.snapshot().await?;
                let address = self.export_address()?;
                let done = files::restore(&snapshot, address, &self.places(), Effect::Write, progress).await?;
                let commands = done.commands.len();
                let written = done.written.len();
                let summary = format!("{written} files written, {} as captured, {commands} outputs", done.unchanged);
                let kept = done.kept.iter().map(|(path, kept)| format!("{} as {}", path.display(), kept.display()));
                Ok(Loaded { summary, kept: kept.collect(), held: false })
            }
            StepKind::BucketCheck if self.rebuilds()? => self.rebuild(progress).boxed_local().await,
            StepKind::BucketCheck => {
                let count = |key: &str| self.header.facts.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
                let mut summary = format!("{} objects were mirrored before", count("objects"));
                let lacking = count("failed") + count("skipped");
                if lacking > 0 {
                    summary += &format!("; {lacking} MORE WERE NOT: the capture named them, and they are not here");
                    tracing::warn!("{}: {summary}", self.planned.source);
                }
                Ok(Loaded { summary, kept: Vec::new(), held: false })
            }
        }
    }

    /// Compares what stands in place with the point.
    ///
    /// # Errors
    /// When it cannot be compared. A difference is no error.
    pub async fn prove(&self, progress: &Progress) -> Result<Compared, Error> {
        let snapshot = self.snapshot().await?;
        match self.planned.kind {
            StepKind::Database => {
                let (target, captured) = (self.target()?, self.captured()?);
                let found = database::prove(&target, &snapshot, &captured, progress).await?;
                let mut summary =
                    format!("every row of {} tables, sequences, definitions, owners, grants", captured.tables);
                if !found.not_compared.is_empty() {
                    summary += &format!("; NOT compared: {}", found.not_compared.join("; "));
                }
                let mut compared = Compared::new(summary, found.differences.iter().map(ToString::to_string));
                compared.refused = found.refused.iter().map(ToString::to_string).collect();
                Ok(compared)
            }
            StepKind::Files => {
                let into = self.around.into.map(Path::new);
                let found = verify::files::check(&snapshot, self.export_address()?, into).await?;
                let summary = "content, mode and owner of every file".to_owned();
                Ok(Compared::new(summary, found.iter().map(ToString::to_string)))
            }
            StepKind::BucketCheck => self.prove_bucket(&snapshot, progress).await,
        }
    }

    /// Refuses when what a swap would replace is in use.
    ///
    /// # Errors
    /// That, naming the sessions; the server's.
    pub async fn refuse_in_use(&self) -> Result<(), Error> {
        match self.planned.kind {
            StepKind::Database => database::refuse_in_use(&self.target()?).await,
            StepKind::Files | StepKind::BucketCheck => Ok(()),
        }
    }

    /// Lets a proven database take the place of the one that stands there.
    ///
    /// # Errors
    /// When the database is in use and its sessions may not be ended.
    pub async fn swap(&self, end_sessions: bool) -> Result<Swapped, Error> {
        if self.planned.kind != StepKind::Database {
            return Ok(Swapped::default());
        }
        let target = self.target()?;
        let sessions = if end_sessions { Sessions::End } else { Sessions::Refuse };
        let done = database::swap(&target, sessions).await?;
        let summary = Some(format!("point {} is now database {}", self.around.point.id, target.name()));
        Ok(Swapped { summary, kept: done.kept.iter().map(|name| format!("the database before as {name}")).collect() })
    }

    /// The databases that earlier restores of this source have left and that this run drops.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn left(&self, which: Left) -> Result<Vec<String>, Error> {
        // What is restored into a scratch place touches nothing else.
        if self.planned.kind != StepKind::Database || self.around.into.is_some() {
            return Ok(Vec::new());
        }
        match which {
            Left::Unfinished => database::standing_unfinished(&self.target()?).await,
            Left::Replaced => database::replaced_before(&self.target()?).await,
        }
    }

    /// Drops those of `names` that [`Step::left`] names still.
    ///
    /// # Errors
    /// When the server cannot be asked. One that cannot be dropped is told, and stays.
    pub async fn drop_left(&self, which: Left, names: &[String]) -> Result<Vec<Dropped>, Error> {
        match which {
            Left::Unfinished => database::drop_unfinished(&self.target()?, names).await,
            Left::Replaced => database::drop_replaced(&self.target()?, names).await,
        }
    }
}
