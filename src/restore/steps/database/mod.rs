//! The restore of one database, in functions between which the engine writes its journal.
//!
//! ```text
//! standing → prepare ──→ load ──→ prove ──→ swap ──→ (at promotion) promote_roles, advance_sequences
//!            <name>__<point>, empty  rows,   equal?   both renames in one transaction;
//!            from template0          objects          the old one stays as <name>__before_<point>
//! ```
//!
//! Nothing is ever written into the database that bears the name: the snapshot is loaded beside it and takes its name at
//! the end. Each function may be killed anywhere and run again: what it left half-done it finds by the marks every
//! database of ours carries (`warmspare.point`, `.term`, `.state`, …), and does over. What it leaves behind is listed, dropped
//! when its time has come, and swapped back, by marks as well.

mod large_objects;
mod load;
mod marks;
mod prepare;
mod promote;
mod remains;
mod rows;
pub mod single;
mod statistics;
mod swap;
mod undo;

pub use load::{Loaded, load};
pub use marks::{Lived, Origin, Owner, Part, Remaining, remaining};
pub use prepare::{Prepared, prepare};
pub use promote::{Promoted, advance_sequences, is_promoted, note_live, plan_advances, promote_roles};
pub use remains::{Dropped, drop_replaced, drop_unfinished, replaced_before, standing_unfinished};
pub use swap::{Sessions, Swapped, refuse_in_use, swap};
pub use undo::{Exchange, Side, exchange_of};

use marks::{LOADED, POINT, REFUSED, STATE, TERM};
use secrecy::SecretString;

use crate::capture::database::DatabaseFacts;
use crate::config::address::DatabaseAddress;
use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::postgres::lifecycle::{self, InUse};
use crate::postgres::marking::Marks;
use crate::postgres::quote::derived_name;
use crate::postgres::refused::Refused;
use crate::postgres::{self, Server, Session};
use crate::restore::RestoreError;
use crate::stream::Source;
use crate::verify::database::{Comparison, prove as compare};

/// What is restored, and where to.
#[derive(Clone, Debug)]
pub struct Target {
    address: DatabaseAddress,
    server: Server,
    name: String,
    point: String,
    term: u64,
    workers: usize,
    origin: Origin,
}

/// What bears the name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No database of that name.
    Absent,
    /// A database that an earlier restore put there.
    Ours {
        /// The term of the point it came from.
        term: u64,
        /// That point.
        point: String,
    },
    /// A database that warmspare did not make.
    Foreign {
        /// Owner and size, for a person.
        description: String,
    },
}

/// Why a database is not restored though the server works.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The target lacks extensions.
    #[error("{place}: the server lacks the extensions {} that the snapshot needs", missing.join(", "))]
    Extensions {
        /// Where.
        place: String,
        /// Which.
        missing: Vec<String>,
    },
    /// The target is older than the source was.
    #[error("{place}: the server is PostgreSQL {found}, but the snapshot is of PostgreSQL {captured}, which is newer")]
    Older {
        /// Where.
        place: String,
        /// The target's major version.
        found: u32,
        /// The source's.
        captured: u32,
    },
    /// A database has the name of our scratch database and is not ours.
    #[error("a database called {name} exists, is not empty, and was not made by warmspare")]
    Occupied {
        /// The name.
        name: String,
    },
    /// A function was called before its turn.
    #[error("database {name}, into which the snapshot is loaded, {what}")]
    NotReady {
        /// The fresh database.
        name: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The server took another number of rows than were captured.
    #[error("table {table} of database {name}: {expected} rows were captured but {found} were loaded")]
    Rows {
        /// The fresh database.
        name: String,
        /// The table.
        table: String,
        /// As captured.
        expected: u64,
        /// As loaded.
        found: u64,
    },
    /// A statement of the snapshot's definitions failed.
    #[error("database {name}: the statement `{statement}` of the snapshot failed: {source}")]
    Statement {
        /// The fresh database.
        name: String,
        /// How it begins.
        statement: String,
        /// What the server said.
        source: postgres::Error,
    },
    /// The database to be replaced is being used.
    #[error("database {name} is in use by {} sessions:{}", sessions.len(), lines(sessions))]
    InUse {
        /// The database.
        name: String,
        /// By whom.
        sessions: Vec<InUse>,
    },
    /// A single table cannot be brought.
    #[error("table {table} {what}")]
    NoTable {
        /// The table.
        table: String,
        /// Why not.
        what: String,
    },
    /// The scratch schema, or a table in it, is there and is somebody else's.
    #[error("{place}: {name} exists and was not made by warmspare for this")]
    Taken {
        /// Where.
        place: String,
        /// The schema or table.
        name: String,
    },
    /// A single table needs something that the database does not have.
    #[error("{place}: table {table} cannot be made here (`{statement}`)")]
    Lacks {
        /// Where.
        place: String,
        /// The table.
        table: String,
        /// How the statement begins.
        statement: String,
        /// What the server said, which names it.
        source: postgres::Error,
    },
    /// Since the undo was begun somebody has renamed or dropped one of its databases.
    #[error("database {name} is not where it was when the undo was begun")]
    Moved {
        /// The database.
        name: String,
    },
}

fn lines(sessions: &[InUse]) -> String {
    sessions.iter().map(|session| format!("\n  {session}")).collect()
}

impl Explain for DatabaseError {
    fn class(&self) -> Class {
        match self {
            DatabaseError::Rows { .. } => Class::Incomplete,
            DatabaseError::Statement { .. } | DatabaseError::Lacks { .. } => Class::Failed,
            DatabaseError::NoTable { .. } => Class::Usage,
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            DatabaseError::Extensions { .. } => {
                "Install the packages that provide them on the spare's database server; nothing was changed there."
            }
            DatabaseError::Older { .. } => {
                "Upgrade the spare's database server to at least the source's major version."
            }
            DatabaseError::Occupied { .. } => {
                "Rename or drop that database if it is not needed, then run the restore again."
            }
            DatabaseError::NotReady { .. } => "Run the whole restore again; it starts where it must.",
            DatabaseError::Rows { .. } => {
                "Run the restore again; if it happens twice, take an older point (`warmspare points`) and report the defect."
            }
            DatabaseError::Statement { .. } => {
                "The name it bears was not touched. If the statement needs something the server lacks (a library, a locale, a right), \
                 provide it and run the restore again."
            }
            DatabaseError::InUse { .. } => {
                "Stop the application at this site, or say --replace to end its sessions, and run the restore again; \
                 it goes on where it stopped."
            }
            DatabaseError::NoTable { .. } => {
                "Name another as SCHEMA.TABLE, or bring the whole database beside: \
                 `warmspare restore --only database.NAME --into NEW_DATABASE`."
            }
            DatabaseError::Taken { .. } => "Rename it, or drop it if it is not needed, then run the command again.",
            DatabaseError::Lacks { .. } => {
                "Make the type or function that the server names, or bring the whole database beside: \
                 `warmspare restore --only database.NAME --into NEW_DATABASE`."
            }
            DatabaseError::Moved { .. } => {
                "`warmspare restore --kept` shows what is where; `warmspare restore --undo --only SOURCE` begins anew from that."
            }
        };
        Some(text.to_owned())
    }
}

impl Target {
    /// The point `point` of `term` shall become the database that `address` names (or `into` instead of that name).
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn new(
        address: &DatabaseAddress,
        password: Option<SecretString>,
        into: Option<&str>,
        term: u64,
        point: &str,
        workers: usize,
    ) -> Result<Target, postgres::Error> {
        let server = Server::new(address, password)?;
        let name = into.unwrap_or(server.database()).to_owned();
        let (address, point, origin) = (address.clone(), point.to_owned(), Origin::default());
        Ok(Target { address, server, name, point, term, workers, origin })
    }

    /// The same, made by the run that `origin` names.
    #[must_use]
    pub fn made_by(self, origin: Origin) -> Target {
        Target { origin, ..self }
    }

    /// The name it shall bear.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name under which it is loaded and proven.
    pub fn fresh(&self) -> String {
        derived_name(&self.name, &format!("__{}", self.point))
    }

    /// Where, for messages.
    fn place(&self) -> String {
        self.server.place(&self.name).to_string()
    }

    fn is_of_this_point(&self, marks: &Marks) -> bool {
        marks.get(POINT) == Some(&self.point) && marks.get(TERM) == Some(&self.term.to_string())
    }
}

/// Tells what bears the name now.
///
/// # Errors
/// When the server cannot be asked.
pub async fn standing(target: &Target) -> Result<Standing, Error> {
    let session = target.server.maintenance().await?;
    let found = standing_of(&session, &target.name).await?;
    session.close().await;
    Ok(found)
}

/// Whether the snapshot is loaded, under the fresh name or, after the swap, under the name itself.
///
/// # Errors
/// When the server cannot be asked.
pub async fn stands(target: &Target) -> Result<bool, Error> {
    let session = target.server.maintenance().await?;
    let found = loaded_as(target, &session).await?;
    session.close().await;
    Ok(found.is_some())
}

/// Whether the database that bears the name was restored, at this site, from this very snapshot. What became of it since, only
/// a proof can tell.
///
/// # Errors
/// When the server cannot be asked.
pub async fn holds(target: &Target) -> Result<bool, Error> {
    let session = target.server.maintenance().await?;
    let marks = lifecycle::marks(&session, &target.name).await?;
    // One that a killed swap has closed cannot be looked into; it is replaced as ever.
    let open = lifecycle::takes_connections(&session, &target.name).await?;
    session.close().await;
    Ok(marks
        .filter(|_| open)
        .is_some_and(|marks| target.is_of_this_point(&marks) && target.origin.is_held_by(&target.name, &marks)))
}

async fn loaded_as(target: &Target, session: &Session) -> Result<Option<(String, Marks)>, postgres::Error> {
    for candidate in [&target.fresh(), &target.name] {
        let marks = lifecycle::marks(session, candidate).await?;
        let loaded = |marks: &Marks| target.is_of_this_point(marks) && marks.get(STATE).is_some_and(|s| s == LOADED);
        if let Some(marks) = marks.filter(loaded) {
            return Ok(Some((candidate.clone(), marks)));
        }
    }
    Ok(None)
}

async fn standing_of(session: &Session, name: &str) -> Result<Standing, postgres::Error> {
    let Some(marks) = lifecycle::marks(session, name).await? else { return Ok(Standing::Absent) };
    match (marks.get(POINT), marks.get(TERM).and_then(|term| term.parse().ok())) {
        (Some(point), Some(term)) => Ok(Standing::Ours { term, point: point.clone() }),
        _ => Ok(Standing::Foreign { description: lifecycle::describe(session, name).await? }),
    }
}

/// Compares what was loaded with the snapshot; after the swap, the database that bears the name.
///
/// # Errors
/// When server or snapshot cannot be read, or nothing was loaded. A difference is no error.
pub async fn prove<S: Source>(
    target: &Target,
    source: &S,
    captured: &DatabaseFacts,
    progress: &Progress,
) -> Result<Comparison, Error> {
    let session = target.server.maintenance().await?;
    let loaded = loaded_as(target, &session).await?;
    session.close().await;
    let not_ready = || DatabaseError::NotReady { name: target.fresh(), what: "is not loaded yet" };
    let (name, marks) = loaded.ok_or_else(not_ready)?;
    let refused: Vec<Refused> = match marks.get(REFUSED) {
        Some(json) => serde_json::from_str(json).map_err(RestoreError::Value)?,
        None => Vec::new(),
    };
    compare(&target.server, &name, &target.address, source, captured, target.workers, &refused, progress).await
}
