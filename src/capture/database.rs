//! One database, captured natively in one snapshot while the application works.
//!
//! An attempt: refuse what cannot be brought back → lock every table, then take the snapshot → open a sink → rows by
//! several workers, definitions by pg_dump, the rest by catalog queries, all in that snapshot → nothing changed meanwhile →
//! done. A [watcher](crate::postgres::watch) ends the attempt when it makes the application wait; an attempt that the
//! application's DDL overtook is repeated after a pause, into a *new* sink, so that nothing of a broken one is ever kept.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::materialized_views::Reading;
use super::tables::{self, Failure, Work};
use super::{ddl, large_objects};
use crate::clock::Clock;
use crate::config::XMIN_AGE_MAX;
use crate::config::address::DatabaseAddress;
use crate::error::{Class, Error, Explain};
use crate::observe::Progress;
use crate::postgres::catalog::Extension;
use crate::postgres::copy::Totals;
use crate::postgres::counters::{self, RowChanges};
use crate::postgres::gather::{Dump, Gathered, Sessions, Taken};
use crate::postgres::identity::Identity;
use crate::postgres::marking::LIVE_TERM;
use crate::postgres::programs::Programs;
use crate::postgres::properties::Properties;
use crate::postgres::rate::Rate;
use crate::postgres::snapshot::Leader;
use crate::postgres::watch::{self, Limits, Tripped, Watcher};
use crate::postgres::{self, Server, Session, access, identity, lifecycle, unsupported};
use crate::stream::Sink;
use crate::units::Span;

/// How a database is captured.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Sessions that copy tables at the same time.
    pub workers: usize,
    /// How often it is tried to lock all tables at once, some 20 ms apart; nobody waits for us meanwhile.
    pub lock_tries: u32,
    /// How long pg_dump and whoever reads a view wait for a single lock. All tables are ours by then, so that they can only
    /// stand behind somebody who waits for us: waiting longer would help nobody.
    pub lock_timeout: Duration,
    /// Anybody who waits for us longer than this ends the attempt.
    pub blocked_max: Duration,
    /// The snapshot may keep vacuum from so many transactions; then the capture ends, and is not begun again.
    pub xmin_age_max: u64,
    /// A materialized view larger than this is not read: for the moment that takes, it cannot be refreshed.
    pub view_bytes_max: u64,
    /// How often it is attempted.
    pub attempts: u32,
    /// The pause after the first attempt, give or take a half; half as much again after each, up to [`PAUSE_MAX`].
    pub pause: Duration,
    /// The term of the live site; a database that a site went live with in a later one is not captured.
    pub term: Option<u64>,
}

/// The longest pause between two attempts.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            workers: 2,
            lock_tries: 500,
            lock_timeout: Duration::from_millis(300),
            blocked_max: Duration::from_secs(5),
            xmin_age_max: XMIN_AGE_MAX,
            view_bytes_max: 256 << 20,
            attempts: 20,
            pause: Duration::from_millis(250),
            term: None,
        }
    }
}

/// What is recorded of a capture, in the clear, in the snapshot's signed header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Of the cluster, from initdb.
    pub system_identifier: String,
    /// The timeline of the write-ahead log.
    pub timeline: u32,
    /// 150018 is 15.18.
    pub server_version_num: u32,
    /// The database's object id.
    pub database_oid: u32,
    /// Its name.
    pub database: String,
    /// `pg_current_snapshot()`.
    pub snapshot: String,
    /// Whether it was captured from a standby; the positions are then those it had replayed.
    #[serde(default)]
    pub standby: bool,
    /// Position of the log before the snapshot.
    pub lsn_before: String,
    /// And after it; equal means that the snapshot is exactly that point.
    pub lsn_after: String,
    /// The encoding.
    pub encoding: String,
    /// `c`, `i` or `b`: see [`Properties`].
    pub locale_provider: String,
    /// Version of the collation as the database recorded it.
    pub collation_version: Option<String>,
    /// The installed extensions.
    pub extensions: Vec<Extension>,
    /// Tables with rows of their own.
    pub tables: u64,
    /// Rows of all of them.
    pub rows: u64,
    /// Bytes of their COPY text and that of the large objects.
    pub bytes: u64,
    /// Large objects.
    #[serde(default)]
    pub large_objects: u64,
    /// Whether the hashes of the roles' passwords are missing, because our role may not read them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_passwords: bool,
    /// Scratch schemas of `restore --table`, which are no part of the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scratch_schemas: Vec<String>,
    /// What the server had counted of rows written, just before the snapshot; absent at a standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_changes: Option<RowChanges>,
    /// How many attempts it took.
    pub attempts: u32,
    /// What the pg_dump used calls itself.
    pub pg_dump: String,
    /// When the snapshot was taken, by this host's clock.
    pub captured_at: Timestamp,
}

/// A finished capture: the sink that took its streams, to be committed or dropped, and its facts.
#[derive(Debug)]
pub struct Captured<S> {
    /// Holds the streams of the attempt that succeeded, and only those.
    pub sink: S,
    /// What is recorded.
    pub facts: DatabaseFacts,
}

/// Why a database could not be captured though server and sink work.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The application changed its schema or waited for us, or a standby's replay did, in every attempt.
    #[error("database {database} was not captured in {attempts} attempts; the last one ended because {reason}")]
    Overtaken {
        /// Which database.
        database: String,
        /// How many.
        attempts: u32,
        /// What happened in the last one.
        reason: String,
    },
    /// The snapshot kept vacuum from too many transactions.
    #[error(
        "the capture of database {database} was ended: in {} its snapshot kept vacuum from what {transactions} transactions left \
         behind, and `capture.xmin_age_max` is {limit}",
        Span(*lasted)
    )]
    HeldBack {
        /// Which database.
        database: String,
        /// How many have begun since the snapshot was taken.
        transactions: u64,
        /// How many may.
        limit: u64,
        /// How old the snapshot was.
        lasted: Duration,
    },
    /// It is live in a later term than the capture.
    #[error("database {database} went live in term {found}, and this capture is of term {term}")]
    LaterTerm {
        /// Which database.
        database: String,
        /// The term of the capture.
        term: u64,
        /// The term it carries.
        found: u64,
    },
    /// The workers ended and still hold the sink: a defect of ours.
    #[error("the capture of database {database} ended but its sink is still in use")]
    SinkInUse {
        /// Which database.
        database: String,
    },
}

impl Explain for DatabaseError {
    fn class(&self) -> Class {
        match self {
            DatabaseError::LaterTerm { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            DatabaseError::Overtaken { .. } => {
                "Nothing was kept. If a schema migration is running, capture again when it is done; if a job keeps locking \
                 tables exclusively, schedule the capture beside it; if it is a standby's replay, set hot_standby_feedback = on there."
            }
            DatabaseError::HeldBack { .. } => {
                "Nothing was kept, and vacuum goes on. Capture when less is written, with more `workers` or a higher `rate`, or from a \
                 standby without hot_standby_feedback; or raise `xmin_age_max` under [capture] if the server's disk can bear it."
            }
            DatabaseError::LaterTerm { .. } => {
                "Find out which site is live (`warmspare lease status`, `warmspare witness status`): another one has used this database \
                 since. If it is truly yours, reset the setting `warmspare.live_term` of the database."
            }
            DatabaseError::SinkInUse { .. } => "Report this as a defect of warmspare, and run the capture again.",
        };
        Some(text.to_owned())
    }
}

/// How an attempt ended, if not well.
enum Ended {
    /// The application's DDL, or a standby's replay, wins: try again.
    Overtaken(String),
    /// Nothing an attempt more would change.
    Failed(Error),
}

impl From<postgres::Error> for Ended {
    fn from(error: postgres::Error) -> Self {
        if error.is_of_ddl() || error.is_of_replay() {
            Ended::Overtaken(error.to_string())
        } else {
            Ended::Failed(error.into())
        }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Server(error) => error.into(),
            Failure::Ours(error) => Ended::Failed(error),
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::Failed(error)
    }
}

/// Captures the database at `address`. `sinks` is asked for a new sink once an attempt has its snapshot, with the number of
/// the attempt (from 1); the sink of an attempt that fails is dropped.
///
/// # Errors
/// [`postgres::Error`] for what the server or pg_dump said, among it the refusal of unsupported objects;
/// [`DatabaseError::Overtaken`] when the application's DDL won every time; the sink's own.
pub async fn capture<S, F, Made>(
    address: &DatabaseAddress,
    password: Option<SecretString>,
    sinks: F,
    options: &DatabaseOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Captured<S>, Error>
where
    S: Sink + 'static,
    F: Fn(u32) -> Made,
    Made: Future<Output = Result<S, Error>>,
{
    let server = Server::new(address, password)?.read_only();
    let mut pause = options.pause;
    let mut attempt = 1;
    loop {
        match attempted(&server, address, attempt, &sinks, options, clock, progress).await {
            Ok(captured) => return Ok(captured),
            Err(Ended::Failed(error)) => return Err(error),
            Err(Ended::Overtaken(reason)) if attempt >= options.attempts => {
                return Err(
                    DatabaseError::Overtaken { database: address.name.clone(), attempts: attempt, reason }.into()
                );
            }
            Err(Ended::Overtaken(reason)) => {
                tracing::info!(database = %address.name, attempt, %reason, "the capture starts over");
                tokio::time::sleep(spread(pause)).await;
                pause = (pause * 3 / 2).min(PAUSE_MAX);
                attempt += 1;
            }
        }
    }
}

/// The size of the database at `address`, with its indexes, on its server's disk.
///
/// # Errors
/// The server's, sorted.
pub async fn disk_bytes(address: &DatabaseAddress, password: Option<SecretString>) -> Result<u64, Error> {
    let session = Server::new(address, password)?.read_only().connect().await?;
    let bytes = identity::disk_bytes(&session).await?;
    session.close().await;
    Ok(bytes)
}

/// Half to one and a half of it, at random: what the application does every so many seconds must not meet us every time.
fn spread(pause: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(0);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

/// One attempt, at whichever server of the address is there and wanted now; all its sessions are at that one.
async fn attempted<S, F, Made>(
    server: &Server,
    address: &DatabaseAddress,
    number: u32,
    sinks: &F,
    options: &DatabaseOptions,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<Captured<S>, Ended>
where
    S: Sink + 'static,
    F: Fn(u32) -> Made,
    Made: Future<Output = Result<S, Error>>,
{
    let session = server.connect().await?;
    let server = server.of(&session);
    let rate = address.rate.map(|rate| Arc::new(Rate::new(rate)));
    let run = Attempt { address, server: &server, options, rate, clock, progress, number };
    run.watched(session, sinks).await
}

struct Attempt<'a> {
    address: &'a DatabaseAddress,
    server: &'a Server,
    options: &'a DatabaseOptions,
    rate: Option<Arc<Rate>>,
    clock: &'a dyn Clock,
    progress: &'a Progress,
    number: u32,
}

impl Attempt<'_> {
    /// Runs the attempt under the watcher's eye.
    async fn watched<S, F, Made>(&self, session: Session, sinks: &F) -> Result<Captured<S>, Ended>
    where
        S: Sink + 'static,
        F: Fn(u32) -> Made,
        Made: Future<Output = Result<S, Error>>,
    {
        session.wait_for_locks(self.options.lock_timeout).await?;
        unsupported::refuse_server(&session).await?;
        self.refuse_later_term(&session).await?;
        access::refuse_unreadable(&session).await?;
        unsupported::refuse_objects(&session).await?;
        let programs = Programs::find(self.address.programs.as_deref(), &session).await?;
        watch::mark(&session, session.pid()).await?;
        let limits = Limits { blocked: self.options.blocked_max, xmin_age: self.options.xmin_age_max };
        let watcher = Watcher::new(self.server.connect().await?, session.pid(), limits);
        let done = tokio::select! {
            biased;
            tripped = watcher.tripped() => match tripped {
                Ok(tripped) => Err(self.ended(tripped)),
                Err(error) => Err(error.into()),
            },
            done = self.run(session, &programs, sinks) => done,
        };
        // Our sessions fail because the watcher ended them: then its reason is the true one.
        let done = match (done, watcher.reason()) {
            (Err(_), Some(tripped)) => Err(self.ended(tripped.clone())),
            (done, _) => done,
        };
        watcher.close().await;
        done
    }

    async fn refuse_later_term(&self, session: &Session) -> Result<(), Ended> {
        let Some(term) = self.options.term else { return Ok(()) };
        let marks = lifecycle::marks(session, self.server.database()).await?;
        let found = marks.and_then(|marks| marks.get(LIVE_TERM)?.parse().ok());
        match found {
            Some(found) if found > term => {
                let database = self.address.name.clone();
                Err(Ended::Failed(DatabaseError::LaterTerm { database, term, found }.into()))
            }
            _ => Ok(()),
        }
    }

    fn ended(&self, tripped: Tripped) -> Ended {
        match tripped {
            Tripped::Waited { .. } => Ended::Overtaken(tripped.to_string()),
            Tripped::HeldBack { transactions, lasted } => {
                let (database, limit) = (self.address.name.clone(), self.options.xmin_age_max);
                Ended::Failed(DatabaseError::HeldBack { database, transactions, limit, lasted }.into())
            }
        }
    }

    async fn run<S, F, Made>(&self, session: Session, programs: &Programs, sinks: &F) -> Result<Captured<S>, Ended>
    where
        S: Sink + 'static,
        F: Fn(u32) -> Made,
        Made: Future<Output = Result<S, Error>>,
    {
        let passwords = access::reads_passwords(&session).await?;
        // Before the snapshot: what is written in between is counted as not in it, rather than left out of both.
        let row_changes = counters::row_changes(&session).await?;
        let (workers, patience) = (self.options.workers, self.options.lock_timeout);
        let sessions = Sessions::connect(self.server, session, workers, programs.clone(), patience).await?;
        let Gathered { leader, shares, looking, dump } = match sessions.gather(self.options.lock_tries).await? {
            Taken::Snapshot(gathered) => *gathered,
            Taken::Overtaken(reason) => return Err(Ended::Overtaken(reason)),
        };
        let captured_at = self.clock.now();
        // Now and not at the end: a standby may be promoted meanwhile, and what we read is of before.
        let identity = identity::read(leader.session()).await?;
        // Again, now inside the snapshot: what was refused a moment ago may have been created since.
        unsupported::refuse_objects(leader.session()).await?;
        let description = ddl::describe(&leader, &self.address.application_roles, passwords).await?;
        let sink = Arc::new(sinks(self.number).await?);
        ddl::write_description(&*sink, &description).await?;
        let work = self.work(&leader, sink.clone(), &description.properties.encoding);
        let tables = async { tables::copy_all(work, shares).await.map_err(Ended::from) };
        let definitions = self.definitions(dump, looking, &description, &*sink);
        let objects = async {
            self.views(&leader, &*sink, &description.properties).await?;
            large_objects::copy_all(self.server, &leader, &*sink, self.rate.clone()).await.map_err(Ended::from)
        };
        let (totals, objects, ()) = tokio::try_join!(tables, objects, definitions)?;
        self.spelling(&description).await?;
        let facts = self.facts(&leader, identity, &description, programs, (totals, objects), captured_at);
        let facts = DatabaseFacts { row_changes, ..facts };
        leader.release().await;
        let sink =
            Arc::into_inner(sink).ok_or_else(|| DatabaseError::SinkInUse { database: self.address.name.clone() });
        Ok(Captured { sink: sink.map_err(Error::from)?, facts })
    }

    /// What pg_dump says, if by its end nothing described has changed; the tables are let go of as soon as that is known.
    async fn definitions<S: Sink>(
        &self,
        dump: Dump,
        looking: Arc<Session>,
        description: &ddl::Description,
        sink: &S,
    ) -> Result<(), Ended> {
        let definitions = dump.end().await?;
        if let Some(reason) = ddl::changed_since(&looking, &description.inventory).await? {
            return Err(Ended::Overtaken(reason));
        }
        if let Some(looking) = Arc::into_inner(looking) {
            looking.close().await;
        }
        Ok(ddl::write_definitions(sink, definitions).await?)
    }

    /// Whether all rows were spelt alike, to the last.
    async fn spelling(&self, description: &ddl::Description) -> Result<(), Ended> {
        let session = self.server.connect().await?;
        session.wait_for_locks(self.options.lock_timeout).await?;
        let changed = ddl::spelling_changed_since(&session, &description.inventory).await?;
        session.close().await;
        changed.map_or(Ok(()), |reason| Err(Ended::Overtaken(reason)))
    }

    async fn views<S: Sink>(&self, leader: &Leader, sink: &S, properties: &Properties) -> Result<(), Ended> {
        let reading = Reading {
            server: self.server,
            leader,
            encoding: &properties.encoding,
            rate: self.rate.clone(),
            lock_timeout: self.options.lock_timeout,
            bytes_max: self.options.view_bytes_max,
        };
        let views = reading.run(&properties.materialized_views).await?;
        Ok(ddl::write_views(sink, &views).await?)
    }

    fn work<S: Sink>(&self, leader: &Leader, sink: Arc<S>, encoding: &str) -> Work<S> {
        let bytes = leader.tables.iter().filter(|table| table.has_rows).map(|table| table.disk_bytes).sum();
        let meter = self.progress.begin(&format!("database {}", self.address.name), Some(bytes));
        Work { sink, encoding: encoding.to_owned(), rate: self.rate.clone(), meter }
    }

    fn facts(
        &self,
        leader: &Leader,
        identity: Identity,
        description: &ddl::Description,
        programs: &Programs,
        (totals, objects): (Totals, Totals),
        captured_at: Timestamp,
    ) -> DatabaseFacts {
        let session = leader.session();
        let properties = &description.properties;
        DatabaseFacts {
            system_identifier: identity.system_identifier,
            timeline: identity.timeline,
            server_version_num: session.version(),
            database_oid: identity.database_oid,
            database: self.server.database().to_owned(),
            snapshot: leader.text.clone(),
            standby: session.is_standby(),
            lsn_before: leader.lsn_before.clone(),
            lsn_after: leader.lsn_after.clone(),
            encoding: properties.encoding.clone(),
            locale_provider: properties.locale_provider.clone(),
            collation_version: properties.collation_version.clone(),
            extensions: properties.extensions.clone(),
            tables: leader.tables.iter().filter(|table| table.has_rows).count() as u64,
            rows: totals.rows,
            bytes: totals.bytes + objects.bytes,
            large_objects: objects.rows,
            without_passwords: !description.passwords,
            scratch_schemas: description.left_out.clone(),
            row_changes: None,
            attempts: self.number,
            pg_dump: programs.version().to_owned(),
            captured_at,
        }
    }
}
