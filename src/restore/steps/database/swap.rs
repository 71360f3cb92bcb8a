//! The loaded database takes the name, in one transaction; the one it replaces is kept.

use std::time::{Duration, Instant};

use super::marks::{self, LOADED, Origin, Part, STATE};
use super::{DatabaseError, Target};
use crate::error::Error;
use crate::failpoint;
use crate::postgres::marking::Marking;
use crate::postgres::quote::derived_name;
use crate::postgres::{self, Session, lifecycle};

/// What to do with sessions in the database that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Refuse, and name them.
    Refuse,
    /// End them.
    End,
}

/// What the swap did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The name under which the replaced database is kept; `None` when there was none.
    pub kept: Option<String>,
    /// An earlier run had done it already.
    pub already: bool,
}

/// How long ended sessions may take to be gone.
const SESSIONS_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// An autovacuum worker may be in a database for a moment; PostgreSQL ends it, but only after a while.
const RENAME_ATTEMPTS: u32 = 5;
/// How many replaced databases of one point may be kept.
const KEPT_MAX: u32 = 99;

/// Renames the loaded database to the name, and the one that bears it to `<name>__before_<point>`, in one transaction:
/// whenever we are killed, there is a database of that name.
///
/// # Errors
/// [`DatabaseError::InUse`] when there are sessions and they are not to be ended, [`DatabaseError::NotReady`] when
/// nothing is loaded, the server's.
pub async fn swap(target: &Target, sessions: Sessions) -> Result<Swapped, Error> {
    let session = target.server.maintenance().await?;
    let fresh = target.fresh();
    let loaded = lifecycle::marks(&session, &fresh)
        .await?
        .map(|marks| target.is_of_this_point(&marks) && marks.get(STATE).is_some_and(|state| state == LOADED));
    let standing = lifecycle::marks(&session, &target.name).await?;
    match loaded {
        Some(true) => {}
        // The renames are one transaction: no fresh one, and the name borne by this point, means that it is done.
        None if standing.as_ref().is_some_and(|marks| target.is_of_this_point(marks)) => {
            let kept = kept_by(&session, target).await?;
            return Ok(Swapped { kept, already: true });
        }
        _ => return Err(DatabaseError::NotReady { name: fresh, what: "is not loaded yet" }.into()),
    }
    // Nobody has business in the fresh one yet, but a monitor that finds every database by itself does not know that.
    lifecycle::terminate(&session, &fresh).await?;
    let kept = if standing.is_some() { Some(exchange(target, &session, sessions).await?) } else { None };
    if kept.is_none() {
        let mut statements = vec![lifecycle::rename(&fresh, &target.name)];
        statements.extend(target.origin.at_swap(Marking::of(&session), &target.name, &target.origin.run));
        rename(&session, &statements).await?;
    }
    failpoint::hit("database.swapped");
    session.close().await;
    Ok(Swapped { kept, already: false })
}

/// Takes the name from the database that bears it.
async fn exchange(target: &Target, session: &Session, sessions: Sessions) -> Result<String, Error> {
    let (fresh, name) = (target.fresh(), target.name.as_str());
    let kept = free_name(session, name, &format!("__before_{}", target.point)).await?;
    let taking = Taking { name, kept: &kept, by: &target.point, next: &fresh, swap: &target.origin.run };
    taking.take(session, &target.origin, sessions).await?;
    Ok(kept)
}

/// One database takes the name of another, which is kept.
pub(super) struct Taking<'a> {
    /// The name.
    pub name: &'a str,
    /// The name of what bore it, from then on.
    pub kept: &'a str,
    /// What replaces it, as its mark will say.
    pub by: &'a str,
    /// The name, so far, of what bears it from then on.
    pub next: &'a str,
    /// The swap that both are part of.
    pub swap: &'a str,
}

impl Taking<'_> {
    /// Does it, in one transaction. On any error the one that bears the name is open again.
    pub async fn take(&self, session: &Session, origin: &Origin, sessions: Sessions) -> Result<(), Error> {
        let name = self.name;
        if sessions == Sessions::Refuse {
            refuse_sessions(session, name).await?;
        }
        lifecycle::allow_connections(session, name, false).await?;
        failpoint::hit("database.closed");
        let done = self.take_closed(session, origin, sessions).await;
        if done.is_err()
            && let Err(error) = lifecycle::allow_connections(session, name, true).await
        {
            tracing::warn!(database = name, %error, "the database still takes no sessions; ALTER DATABASE … ALLOW_CONNECTIONS true opens it");
        }
        done
    }

    async fn take_closed(&self, session: &Session, origin: &Origin, sessions: Sessions) -> Result<(), Error> {
        let Taking { name, kept, by, next, swap } = self;
        let marking = Marking::of(session);
        match sessions {
            // One may have slipped in between the look and the closing.
            Sessions::Refuse => refuse_sessions(session, name).await?,
            Sessions::End => end_sessions(session, name).await?,
        }
        // What was replaced is found by its marks, not by its name, and shows no point of its own any more than it had.
        let mut statements = vec![lifecycle::rename(name, kept)];
        statements.extend(origin.at_replacement(marking, kept, by, swap));
        statements.push(lifecycle::rename(next, name));
        statements.extend(origin.at_swap(marking, name, swap));
        statements.push(lifecycle::allowing_connections(name, true));
        Ok(rename(session, &statements).await?)
    }
}

/// Object in use (55006): somebody, most likely autovacuum, is in one of the databases.
pub(super) async fn rename(session: &Session, statements: &[String]) -> Result<(), postgres::Error> {
    let mut attempt = 1;
    loop {
        match lifecycle::together(session, "swapping the names of the databases", statements).await {
            Err(error) if error.sqlstate() == Some("55006") && attempt < RENAME_ATTEMPTS => attempt += 1,
            done => return done,
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Refuses when a database that would be replaced is in use. Asked of all before the first one is swapped, so that not one
/// of several is new and another old because somebody is at work in it.
///
/// # Errors
/// [`DatabaseError::InUse`], the server's.
pub async fn refuse_in_use(target: &Target) -> Result<(), Error> {
    let session = target.server.maintenance().await?;
    refuse_sessions(&session, &target.name).await?;
    session.close().await;
    Ok(())
}

async fn refuse_sessions(session: &Session, name: &str) -> Result<(), Error> {
    let sessions = lifecycle::in_use(session, name).await?;
    if sessions.is_empty() { Ok(()) } else { Err(DatabaseError::InUse { name: name.to_owned(), sessions }.into()) }
}

async fn end_sessions(session: &Session, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + SESSIONS_TIMEOUT;
    loop {
        lifecycle::terminate(session, name).await?;
        let left = lifecycle::in_use(session, name).await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(DatabaseError::InUse { name: name.to_owned(), sessions: left }.into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// `<name><suffix>`, or the same with a number: the same point may be restored twice.
pub(super) async fn free_name(session: &Session, base: &str, suffix: &str) -> Result<String, Error> {
    let mut name = derived_name(base, suffix);
    for number in 2..=KEPT_MAX {
        if lifecycle::marks(session, &name).await?.is_none() {
            return Ok(name);
        }
        name = derived_name(base, &format!("{suffix}_{number}"));
    }
    Err(DatabaseError::Occupied { name }.into())
}

/// What an earlier attempt of the same run replaced.
async fn kept_by(session: &Session, target: &Target) -> Result<Option<String>, postgres::Error> {
    let mut all = marks::remaining(session, &target.origin.owner).await?;
    all.retain(|found| found.part == Part::Replaced && found.run == target.origin.run);
    Ok(all.pop().map(|found| found.database))
}
