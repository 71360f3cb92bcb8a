//! A database of anybody's, tried: captured read-only into a temporary vault, restored and proven where a server is at hand,
//! measured, and everything removed again.
//!
//! Nothing in it is special: it writes a configuration file with two sites, makes keys, and calls the rooms that the
//! commands call. On the source nothing is written, which the server itself enforces.

mod place;
mod source;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::clock::Clock;
use crate::config::address::DatabaseAddress;
use crate::config::reference::{Reference, ReferenceError};
use crate::config::{Config, Here, is_plain_name};
use crate::demo::{cluster, interrupted};
use crate::error::{Class, Error, Explain};
use crate::keygen;
use crate::observe::Progress;
use crate::point::{self, PointSummary, SharedClock};
use crate::postgres::{condition, identity};
use crate::preflight::space;
use crate::restore::{self, RestoreRequest};
use crate::units::Bytes;
use crate::vault::v1::Verdict;
use place::Place;

/// What is tried.
#[derive(Clone, Debug)]
pub struct TrialRequest {
    /// The database.
    pub url: String,
    /// Its password; where libpq would find it when absent.
    pub password: Option<Reference>,
    /// Bytes a second that are read from it; without a limit when absent.
    pub rate: Option<Bytes>,
    /// What becomes of what was captured.
    pub restore: TrialRestore,
}

/// Where a trial restores to.
#[derive(Clone, Debug)]
pub enum TrialRestore {
    /// A server of its own, if one is installed here.
    OwnServer,
    /// A database of its own on this server, which is dropped again.
    Into {
        /// A database of the server.
        url: String,
        /// Its password.
        password: Option<Reference>,
    },
    /// Nowhere.
    No,
}

/// What a trial came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// The database.
    pub database: String,
    /// 150018 is 15.18.
    pub server_version_num: u32,
    /// Its size on its server's disk.
    pub database_bytes: u64,
    /// The length of what was captured.
    pub captured_bytes: u64,
    /// The size of everything in the vault: deduplicated, compressed, sealed.
    pub vault_bytes: u64,
    /// Rows and tables, in words.
    pub captured: String,
    /// How long the capture took.
    pub capture_millis: u64,
    /// What came of the restore.
    pub restore: TrialOutcome,
    /// How long it all took.
    pub millis: u64,
}

/// What came of a trial's restore.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum TrialOutcome {
    /// It was not tried.
    NotTried {
        /// Why not.
        why: String,
    },
    /// It was refused, or failed.
    Failed {
        /// How it is told.
        why: String,
        /// What to do.
        next: Option<String>,
        /// What the caller can do about it.
        #[serde(skip)]
        class: Class,
    },
    /// It was loaded and compared.
    Compared {
        /// What was loaded.
        loaded: String,
        /// How long that took.
        load_millis: u64,
        /// What was compared.
        compared: String,
        /// How long that took.
        prove_millis: u64,
        /// What is different; nothing when proven equal.
        differences: Vec<String>,
        /// What came of it.
        verdict: Verdict,
    },
}

/// Why a trial did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The password is not where it should be.
    #[error("the password")]
    Password(#[source] ReferenceError),
    /// The temporary folder cannot be used.
    #[error("the temporary folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database may not fit into the temporary folder.
    #[error("{folder} has {} free, and a trial of this database may need {}", Bytes(*free), Bytes(*need))]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// The bytes that are free.
        free: u64,
        /// The bytes that may be needed.
        need: u64,
    },
    /// The scratch server is the one that is tried.
    #[error("the server of --into is the server of the database that is tried, or a copy of it")]
    SameServer,
    /// The operating system gives no randomness.
    #[error("no randomness to make a name from: {0}")]
    Random(getrandom::Error),
    /// Something could not be removed.
    #[error("{what} was left behind")]
    Left {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody ended it.
    #[error("the trial was interrupted; nothing of it is left")]
    Interrupted,
}

impl Explain for TrialError {
    fn class(&self) -> Class {
        match self {
            TrialError::NoRoom { .. } | TrialError::SameServer => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            TrialError::Password(_) => {
                "Put it into PGPASSWORD or ~/.pgpass, or say where it is: --password file:/path (or env:NAME, command:PROGRAM)."
            }
            TrialError::Folder { .. } => "Check its owner and space, or name another folder in TMPDIR.",
            TrialError::NoRoom { .. } => {
                "Name a folder with more room in TMPDIR, or leave the restore out with --no-restore."
            }
            TrialError::SameServer => "Name a server where nothing can be lost.",
            TrialError::Random(_) => "Find out why this host has no randomness; nothing may be sealed without.",
            TrialError::Left { .. } => "Remove it by hand: it holds the database's data, sealed, beside its keys.",
            TrialError::Interrupted => "Run it again; it begins anew.",
        };
        Some(text.to_owned())
    }
}

/// Tries a database. Ctrl-C and SIGTERM end the trial in order. `tell` is given a sentence at the beginning.
///
/// # Errors
/// When the database cannot be captured, among it by name what would be refused; when something could not be removed.
/// A restore that fails is in the report.
pub async fn run(
    request: &TrialRequest,
    clock: SharedClock,
    progress: &Progress,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<TrialReport, Error> {
    let mut place = Place::make()?;
    tell(&format!("working in {}, which is removed at the end; only kill -9 leaves it", place.path().display()));
    let done = tokio::select! {
        biased;
        () = interrupted() => Err(TrialError::Interrupted.into()),
        done = whole(request, &mut place, clock, progress) => done,
    };
    let cleaned = place.clean().await;
    // What went wrong first is what matters; what was left behind is told even so.
    match (done, cleaned) {
        (Err(error), Err(left)) => {
            tell(&format!("besides: {left}"));
            Err(error)
        }
        (done, cleaned) => cleaned.and(done),
    }
}

const LIVE: &str = "source";
const SPARE: &str = "scratch";

/// What is known of the database before it is captured.
struct Known {
    version: u32,
    bytes: u64,
    system_identifier: String,
}

async fn whole(
    request: &TrialRequest,
    place: &mut Place,
    clock: SharedClock,
    progress: &Progress,
) -> Result<TrialReport, Error> {
    let begun = Instant::now();
    let tried = source::address("database", &request.url, request.password.clone(), request.rate)?;
    let server = source::server(&tried)?.read_only();
    let name = if is_plain_name(server.database()) { server.database() } else { "database" };
    let tried = DatabaseAddress { name: name.to_owned(), ..tried };
    let session = server.connect().await?;
    let known = Known {
        version: session.version(),
        bytes: condition::size(&session, server.database()).await?.unwrap_or(0),
        system_identifier: identity::read(&session).await?.system_identifier,
    };
    session.close().await;
    enough_room(place.path(), &known, &request.restore)?;
    let target = target(request, place, &tried, &known).await?;
    let config = configuration(place.path(), &tried, target.as_ref().ok(), &*clock)?;
    let point = point::take(&Here::new(config.clone(), LIVE)?, clock.clone(), progress).await?;
    let vault_bytes = files_below(&place.path().join("vault"))?;
    let restore = match target {
        Err(why) => TrialOutcome::NotTried { why },
        Ok(_) => match restore(Here::new(config, SPARE)?, place, clock, progress).await {
            Ok(outcome) => outcome,
            Err(e) => TrialOutcome::Failed { why: e.to_string(), next: e.next_step(), class: e.class() },
        },
    };
    Ok(report(&server.place(server.database()).to_string(), &known, &point, vault_bytes, restore, begun))
}

fn report(
    database: &str,
    known: &Known,
    point: &PointSummary,
    vault_bytes: u64,
    restore: TrialOutcome,
    begun: Instant,
) -> TrialReport {
    TrialReport {
        database: database.to_owned(),
        server_version_num: known.version,
        database_bytes: known.bytes,
        captured_bytes: point.sources.iter().map(|source| source.bytes).sum(),
        vault_bytes,
        captured: point.sources.iter().map(|source| source.summary.clone()).collect::<Vec<_>>().join("; "),
        capture_millis: point.millis,
        restore,
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// The vault takes the size of the database at most; a server of our own twice as much again.
fn enough_room(folder: &Path, known: &Known, restore: &TrialRestore) -> Result<(), TrialError> {
    let times = if matches!(restore, TrialRestore::OwnServer) { 3 } else { 1 };
    let (need, folder) = (known.bytes.saturating_mul(times), folder.to_owned());
    let free = space::free(&folder).map_err(|source| TrialError::Folder { path: folder.clone(), source })?;
    if free < need { Err(TrialError::NoRoom { folder, free, need }) } else { Ok(()) }
}

/// Where it is restored, or why nowhere.
async fn target(
    request: &TrialRequest,
    place: &mut Place,
    tried: &DatabaseAddress,
    known: &Known,
) -> Result<Result<DatabaseAddress, String>, Error> {
    match &request.restore {
        TrialRestore::No => Ok(Err("--no-restore was said".to_owned())),
        TrialRestore::Into { url, password } => {
            let address = source::address(&tried.name, url, password.clone(), None)?;
            let server = source::server(&address)?;
            let session = server.connect().await?;
            let itself = identity::read(&session).await?;
            session.close().await;
            if itself.system_identifier == known.system_identifier {
                return Err(TrialError::SameServer.into());
            }
            place.reserve(server)?;
            Ok(Ok(address))
        }
        TrialRestore::OwnServer => {
            let major = known.version / 10_000;
            let Some(programs) = cluster::programs_for(major) else {
                return Ok(Err(format!(
                    "no server of PostgreSQL {major} or newer is installed here; name one with --into"
                )));
            };
            let cluster = match place.start_cluster(programs) {
                Ok(cluster) => cluster,
                Err(error) => {
                    return Ok(Err(format!("no server could be started here: {error}; name one with --into")));
                }
            };
            let password = Some(Reference::File(cluster.password_file()));
            Ok(Ok(DatabaseAddress { url: cluster.url(&tried.name), password, ..tried.clone() }))
        }
    }
}

/// Writes the configuration of two sites, the tried database and the scratch one, and makes their keys.
fn configuration(
    folder: &Path,
    tried: &DatabaseAddress,
    target: Option<&DatabaseAddress>,
    clock: &dyn Clock,
) -> Result<Config, Error> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| TrialError::Folder { path, source }
    };
    let vault = folder.join("vault");
    crate::durable::private_folder(&vault).map_err(wrong(&vault))?;
    let escrow = keygen::escrow(&folder.join("escrow.txt"), clock)?;
    let (mut signers, mut sections) = (Vec::new(), String::new());
    for (site, address) in [(LIVE, tried), (SPARE, target.unwrap_or(tried))] {
        let keys = keygen::site(site, &folder.join(format!("{site}-keys")))?;
        signers.push(format!("{site} = {:?}", keys.verifying_key));
        sections += &format!(
            "\n[sites.{site}]\nstate = {state:?}\nrecipient = {recipient:?}\nidentity = \"file:{identity}\"\n\
             signing_key = \"file:{signing}\"\ndatabases.{name} = {{ url = {url} }}\n",
            state = folder.join(format!("{site}-state")),
            recipient = keys.recipient,
            identity = keys.identity_file.display(),
            signing = keys.signing_key_file.display(),
            name = address.name,
            // A JSON string is a TOML string.
            url = serde_json::Value::from(address.url.as_str()),
        );
    }
    let text = format!(
        "system = \"try\"\nlive = \"{LIVE}\"\n[vault]\nurl = {vault:?}\nescrow = [{:?}]\nsigners = {{ {} }}\n{sections}",
        escrow.recipient,
        signers.join(", ")
    );
    let path = folder.join("warmspare.toml");
    crate::durable::replace(&path, text.as_bytes()).map_err(wrong(&path))?;
    let mut config = Config::load(&path)?;
    // Where a password is found may have no written form, so it goes in by hand.
    for (site, address) in [(LIVE, Some(tried)), (SPARE, target)] {
        let database = config.sites.get_mut(site).and_then(|site| site.databases.get_mut(&tried.name));
        if let (Some(database), Some(address)) = (database, address) {
            database.password = address.password.clone();
        }
    }
    Ok(config)
}

async fn restore(
    here: Here,
    place: &mut Place,
    clock: SharedClock,
    progress: &Progress,
) -> Result<TrialOutcome, Error> {
    place.note_roles(&snapshot_roles(&here).await?).await?;
    let into = place.scratch_database();
    let only =
        point::list(&here).await?.choose(None)?.headers.iter().map(|(source, _, _)| source.to_string()).collect();
    let request = RestoreRequest { into, only, ..RestoreRequest::default() };
    let report = restore::restore(&here, &request, &*clock, progress).await?;
    let join =
        |of: fn(&restore::StepReport) -> &String| report.steps.iter().map(of).cloned().collect::<Vec<_>>().join("; ");
    Ok(TrialOutcome::Compared {
        loaded: join(|step| &step.loaded),
        load_millis: report.steps.iter().map(|step| step.load_millis).sum(),
        compared: join(|step| &step.compared),
        prove_millis: report.steps.iter().map(|step| step.prove_millis).sum(),
        differences: report.steps.iter().flat_map(|step| step.differences.clone()).collect(),
        verdict: report.verdict,
    })
}

/// The roles of what was captured: a restore makes those that the server lacks.
async fn snapshot_roles(here: &Here) -> Result<Vec<String>, Error> {
    let (_, reader) = point::open_vault(here).await?;
    let points = point::list(here).await?;
    let identity = here.identity()?;
    let mut names = Vec::new();
    for (source, id, header) in &points.choose(None)?.headers {
        let snapshot = reader.open_snapshot(source, *id, header, &identity).await?;
        names.extend(crate::capture::layout::roles(&snapshot).await?.into_iter().map(|role| role.name));
    }
    Ok(names)
}

/// The bytes of the files below `folder`.
fn files_below(folder: &Path) -> Result<u64, TrialError> {
    let wrong = |source| TrialError::Folder { path: folder.to_owned(), source };
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let facts = entry.metadata().map_err(wrong)?;
        bytes += if facts.is_dir() { files_below(&entry.path())? } else { facts.len() };
    }
    Ok(bytes)
}
