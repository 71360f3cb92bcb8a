//! The way back: a database that was replaced takes its name again, and the one that had taken it is kept in its place.
//!
//! Which two belong together the mark of their swap says. They are told apart by what no rename changes, the number PostgreSQL
//! gave each, so that an exchange that was killed is seen to be done or not done, whatever the names are. The two stay a pair:
//! undone once more they swap again.

use serde::{Deserialize, Serialize};

use super::DatabaseError;
use super::marks::{self, Origin, Part, Remaining, UNDO};
use super::swap::{Sessions, Taking, free_name, rename};
use crate::error::Error;
use crate::failpoint;
use crate::postgres::marking::Marking;
use crate::postgres::{Server, Session, lifecycle};

/// One side of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What the database keeps under every name.
    pub oid: u32,
    /// Its name before the exchange.
    pub database: String,
    /// The point it was restored from; `None` when no restore made it.
    pub point: Option<String>,
}

/// Two databases that trade places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The name the application uses.
    pub name: String,
    /// What takes it back.
    pub back: Side,
    /// What bears it until then; `None` when nothing does.
    pub away: Option<Side>,
    /// What that one is called afterwards.
    pub kept: Option<String>,
    /// What it is then said to be replaced by: a point, or `undo`.
    pub by: String,
    /// The run that had swapped them, the name of its folder.
    pub swap: String,
    /// When that run, or the last undo of it, began.
    pub since: String,
}

impl From<&Remaining> for Side {
    fn from(found: &Remaining) -> Side {
        Side { oid: found.oid, database: found.database.clone(), point: found.point.clone() }
    }
}

/// The exchange that would undo the last swap of the database `name`, whose marks say `origin`'s owner; `None` when nothing is
/// kept that could come back.
///
/// # Errors
/// The server's.
pub async fn exchange_of(server: &Server, origin: &Origin, name: &str) -> Result<Option<Exchange>, Error> {
    let session = server.maintenance().await?;
    let found = marks::remaining(&session, &origin.owner).await?;
    let exchange = match pair(&found, name) {
        // One that warmspare knows nothing of bears the name now: nobody's swap can be undone over it.
        Some((_, None)) if lifecycle::marks(&session, name).await?.is_some() => None,
        Some((back, away)) => Some(describe(&session, name, back, away).await?),
        None => None,
    };
    session.close().await;
    Ok(exchange)
}

/// The kept database that comes back, and what bears the name.
fn pair<'a>(found: &'a [Remaining], name: &str) -> Option<(&'a Remaining, Option<&'a Remaining>)> {
    let away = found.iter().find(|one| one.part == Part::InPlace && one.database == name);
    let mut kept = found.iter().filter(|one| one.part == Part::Replaced);
    let back = match away {
        Some(away) => kept.rfind(|one| one.run == away.run),
        None => kept.max_by_key(|one| &one.since),
    };
    back.map(|back| (back, away))
}

async fn describe(
    session: &Session,
    name: &str,
    back: &Remaining,
    away: Option<&Remaining>,
) -> Result<Exchange, Error> {
    let (by, suffix) = match (back.replaced_by.as_deref(), &back.point) {
        // It comes back as if its restore swapped it in once more.
        (Some(UNDO), Some(point)) => (point.as_str(), format!("__before_{point}")),
        _ => (UNDO, format!("__undone_{}", away.and_then(|away| away.point.as_deref()).unwrap_or("none"))),
    };
    let kept = match away {
        Some(_) => Some(free_name(session, name, &suffix).await?),
        None => None,
    };
    Ok(Exchange {
        name: name.to_owned(),
        back: back.into(),
        away: away.map(Side::from),
        kept,
        by: by.to_owned(),
        swap: back.run.clone(),
        since: back.since.clone(),
    })
}

impl Exchange {
    /// Does it, ending whatever sessions are in the way; `origin` says on whose behalf and since when. Done again, it changes
    /// nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Moved`] when one of the two is not where it was, [`DatabaseError::InUse`], the server's. Until the one
    /// transaction of the renames, nothing has changed.
    pub async fn run(&self, server: &Server, origin: &Origin) -> Result<(), Error> {
        let session = server.maintenance().await?;
        if !self.is_done(&session).await? {
            // A monitor may have found its way in while it was open to nobody's use.
            lifecycle::terminate(&session, &self.back.database).await?;
            self.exchange(&session, origin).await?;
            failpoint::hit("database.swapped-back");
        }
        session.close().await;
        Ok(())
    }

    async fn is_done(&self, session: &Session) -> Result<bool, Error> {
        let sides = [Some(&self.back), self.away.as_ref()];
        let oids: Vec<u32> = sides.iter().flatten().map(|side| side.oid).collect();
        let names = lifecycle::names(session, &oids).await?;
        if names.get(&self.back.oid) == Some(&self.name) {
            return Ok(true);
        }
        match sides.into_iter().flatten().find(|side| names.get(&side.oid) != Some(&side.database)) {
            Some(moved) => Err(DatabaseError::Moved { name: moved.database.clone() }.into()),
            None => Ok(false),
        }
    }

    async fn exchange(&self, session: &Session, origin: &Origin) -> Result<(), Error> {
        let (name, back) = (self.name.as_str(), self.back.database.as_str());
        let Some(kept) = &self.kept else {
            let mut statements = vec![lifecycle::rename(back, name)];
            statements.extend(origin.at_swap(Marking::of(session), name, &self.swap));
            statements.push(lifecycle::allowing_connections(name, true));
            return Ok(rename(session, &statements).await?);
        };
        let taking = Taking { name, kept, by: &self.by, next: back, swap: &self.swap };
        taking.take(session, origin, Sessions::End).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(database: &str, part: Part, run: &str, since: &str) -> Remaining {
        Remaining {
            oid: 1,
            database: database.into(),
            part,
            point: None,
            written: false,
            replaced_by: None,
            run: run.into(),
            since: since.into(),
            bytes: None,
        }
    }

    #[test]
    fn what_comes_back_is_what_the_one_in_place_has_replaced() {
        let found = [
            one("app", Part::InPlace, "0-2-001", "2"),
            one("app__0-9", Part::Unfinished, "0-9-001", "9"),
            one("app__before_0-1", Part::Replaced, "0-1-001", "3"),
            one("app__before_0-2", Part::Replaced, "0-2-001", "1"),
        ];
        let names = |found: &[Remaining]| {
            pair(found, "app").map(|(back, away)| (back.database.clone(), away.map(|away| away.database.clone())))
        };
        assert_eq!(names(&found), Some(("app__before_0-2".into(), Some("app".into()))));
        assert_eq!(names(&found[1..]), Some(("app__before_0-1".into(), None)), "the newest, when the name is free");
        assert_eq!(names(&found[..3]), None, "never one that another swap replaced");
        assert_eq!(names(&found[..2]), None);
    }
}
