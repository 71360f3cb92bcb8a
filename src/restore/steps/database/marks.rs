//! The marks that tell a database of ours from anybody else's, and what restores have left by them.
//!
//! They live and move with the database, as settings under `warmspare.` or in its comment. A database is ours to list, to drop and to swap back
//! only if its marks name this system, this site and this source *and* it still bears the name we gave it: one that a person
//! has renamed is that person's, whatever it was, and so is one whose marks came along in somebody's dump.

use std::fmt;

use serde::Serialize;

use crate::postgres::lifecycle::{self, Marked};
use crate::postgres::marking::{Marking, Marks};
use crate::postgres::{self, Session};
use crate::vault::layout::PointId;

/// Which recovery point a database was restored from.
pub(super) const POINT: &str = "point";
/// At which term that was captured.
pub(super) const TERM: &str = "term";
/// Which snapshot was loaded, and the digest of its body.
pub(super) const SNAPSHOT: &str = "snapshot";
/// How far the load is: one of the three below.
pub(super) const STATE: &str = "state";
/// What the server refused of it to a role that is no superuser, as JSON.
pub(super) const REFUSED: &str = "refused";
/// That the sequences jumped their gap since it was restored.
pub(super) const ADVANCED: &str = "advanced";
/// On a database that was replaced: by which point, or [`UNDO`].
pub(super) const REPLACED_BY: &str = "replaced_by";
/// The run whose swap last gave it its name, or took it; the same on both sides of the swap.
pub(super) const SWAP: &str = "swap";
/// On a database that was replaced: until when the application may have written to it, [`NOW`] or the newest point taken here.
const LIVED: &str = "lived";
/// On a scratch database of `--into`.
const SCRATCH: &str = "scratch";
const SYSTEM: &str = "system";
const SITE: &str = "site";
const SOURCE: &str = "source";
/// The run that made it.
const RUN: &str = "run";
/// When the run that gave it its name began.
const SINCE: &str = "since";
/// The name we gave it.
const NAME: &str = "name";

pub(super) const CREATED: &str = "created";
pub(super) const LOADING: &str = "loading";
pub(super) const LOADED: &str = "loaded";
/// The site was the live one when the database was replaced.
const NOW: &str = "now";
/// What replaced a database that an undo took away.
pub(super) const UNDO: &str = "undo";

/// Whose a database is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The system.
    pub system: String,
    /// The site.
    pub site: String,
    /// The source: `database.builder`.
    pub source: String,
}

/// Which run makes a database, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Whose it is.
    pub owner: Owner,
    /// The run's folder: `0-12-001`.
    pub run: String,
    /// When the run began.
    pub since: String,
    /// The snapshot: its number and the digest of its body.
    pub snapshot: String,
    /// Whether it goes into a scratch place.
    pub scratch: bool,
    /// When this site has been the live one.
    pub lived: Option<Lived>,
}

/// When a site has been the live one, as far as it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lived {
    /// It is.
    Now,
    /// It was when it took this point, the newest it has taken.
    At(PointId),
}

impl fmt::Display for Lived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lived::Now => f.write_str(NOW),
            Lived::At(point) => point.fmt(f),
        }
    }
}

impl Owner {
    fn owns(&self, marks: &Marks) -> bool {
        let is = |key: &str, value: &String| marks.get(key) == Some(value);
        is(SYSTEM, &self.system) && is(SITE, &self.site) && is(SOURCE, &self.source)
    }
}

impl Origin {
    /// The statements that mark the fresh database `name`.
    pub(super) fn at_creation(&self, marking: Marking, name: &str) -> Vec<String> {
        let mut marks = self.named(marking, name);
        marks.extend([(RUN, self.run.as_str()), (SNAPSHOT, &self.snapshot)].map(|(k, v)| marking.set(name, k, v)));
        marks.extend(self.scratch.then(|| marking.set(name, SCRATCH, "yes")));
        marks
    }

    /// The statements that write into a database, which already bears it, that we gave it `name`.
    fn named(&self, marking: Marking, name: &str) -> Vec<String> {
        let Owner { system, site, source } = &self.owner;
        let marks = [(SYSTEM, system.as_str()), (SITE, site), (SOURCE, source), (NAME, name), (SINCE, &self.since)];
        marks.map(|(key, value)| marking.set(name, key, value)).into()
    }

    /// Whether the database `name`, with these marks, bears the application's name and was loaded whole from this very snapshot.
    pub(super) fn is_held_by(&self, name: &str, marks: &Marks) -> bool {
        let is = |key: &str, value: &str| marks.get(key).is_some_and(|found| found == value);
        let in_place = self.owner.owns(marks) && is(NAME, name) && marks.contains_key(SWAP);
        in_place && is(SNAPSHOT, &self.snapshot) && is(STATE, LOADED) && !marks.contains_key(REPLACED_BY)
    }

    /// The statements that mark `kept` as replaced by `by` in the swap `swap`.
    pub(super) fn at_replacement(&self, marking: Marking, kept: &str, by: &str, swap: &str) -> Vec<String> {
        let mut marks = self.named(marking, kept);
        marks.extend([marking.set(kept, REPLACED_BY, by), marking.set(kept, SWAP, swap)]);
        // Never taken off again: what was written stays in there, however often the two swap.
        marks.extend(self.lived.map(|lived| marking.set(kept, LIVED, &lived.to_string())));
        marks
    }

    /// The statements that mark `name` as what bears it since the swap `swap`.
    pub(super) fn at_swap(&self, marking: Marking, name: &str, swap: &str) -> Vec<String> {
        let mut marks = self.named(marking, name);
        marks.extend([marking.unset(name, REPLACED_BY), marking.set(name, SWAP, swap)]);
        marks
    }
}

/// What a database is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It bears the name the application uses.
    InPlace,
    /// It was replaced, by a restore or by an undo, and is kept.
    Replaced,
    /// It was restored beside everything, with `--into`.
    Scratch,
    /// Its restore never ended, or found it different: it was never swapped in.
    Unfinished,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::InPlace => "in place",
            Part::Replaced => "replaced",
            Part::Scratch => "scratch",
            Part::Unfinished => "unfinished",
        })
    }
}

/// A database of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// What it keeps under every name.
    pub oid: u32,
    /// Its name.
    pub database: String,
    /// What it is to us.
    pub part: Part,
    /// The point it was restored from; `None` for one that a restore replaced but did not make.
    pub point: Option<String>,
    /// Whether the application may have written to it what no point has, because this site was the live one with it.
    pub written: bool,
    /// What replaced it: a point, or `undo`.
    pub replaced_by: Option<String>,
    /// The run whose swap it was part of, or that made it.
    pub run: String,
    /// When that began.
    pub since: String,
    /// Its size in bytes, if our role may ask.
    pub bytes: Option<u64>,
}

impl Remaining {
    /// Whether it goes by itself: the next restore of the source that begins, or is proven, drops it.
    pub fn goes(&self) -> bool {
        match self.part {
            Part::Unfinished => true,
            Part::Replaced => self.point.is_some() && !self.written,
            Part::InPlace | Part::Scratch => false,
        }
    }
}

/// The databases of `owner` on the session's server, by name.
///
/// # Errors
/// The server's.
pub async fn remaining(session: &Session, owner: &Owner) -> Result<Vec<Remaining>, postgres::Error> {
    let all = lifecycle::marked(session).await?;
    Ok(all.into_iter().filter_map(|marked| read(marked, owner)).collect())
}

fn read(marked: Marked, owner: &Owner) -> Option<Remaining> {
    let Marked { oid, name, mut marks, bytes } = marked;
    if !owner.owns(&marks) || marks.get(NAME) != Some(&name) {
        return None;
    }
    let part = match (marks.contains_key(REPLACED_BY), marks.contains_key(SWAP), marks.contains_key(SCRATCH)) {
        (true, _, _) => Part::Replaced,
        (_, false, _) => Part::Unfinished,
        (_, _, true) => Part::Scratch,
        _ => Part::InPlace,
    };
    let run = marks.remove(SWAP).or_else(|| marks.remove(RUN)).unwrap_or_default();
    Some(Remaining {
        oid,
        database: name,
        part,
        written: is_written(&marks),
        point: marks.remove(POINT),
        replaced_by: marks.remove(REPLACED_BY),
        run,
        since: marks.remove(SINCE).unwrap_or_default(),
        bytes,
    })
}

/// A site that takes points is the live one: what is older than the newest of them was its database meanwhile.
fn is_written(marks: &Marks) -> bool {
    let point = |key: &str| marks.get(key).and_then(|text| text.parse::<PointId>().ok());
    match marks.get(LIVED) {
        // A promotion hands it to the application, whoever is called the live site.
        None => marks.contains_key(ADVANCED),
        Some(_) => {
            marks.contains_key(ADVANCED)
                || point(LIVED).is_none_or(|lived| point(POINT).is_none_or(|made| lived > made))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(name: &str, marks: &[(&str, &str)]) -> Marked {
        let ours = [(SYSTEM, "app"), (SITE, "fra"), (SOURCE, "database.app"), (NAME, "app__0-1")];
        let marks = ours.iter().chain(marks).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Marked { oid: 1, name: name.to_owned(), marks: marks.collect(), bytes: None }
    }

    fn part(name: &str, marks: &[(&str, &str)]) -> Option<Part> {
        let owner = Owner { system: "app".into(), site: "fra".into(), source: "database.app".into() };
        read(marked(name, marks), &owner).map(|found| found.part)
    }

    #[test]
    fn a_database_is_what_its_marks_say() {
        assert_eq!(part("app__0-1", &[]), Some(Part::Unfinished));
        assert_eq!(part("app__0-1", &[(SCRATCH, "yes")]), Some(Part::Unfinished));
        assert_eq!(part("app__0-1", &[(SWAP, "r")]), Some(Part::InPlace));
        assert_eq!(part("app__0-1", &[(SWAP, "r"), (SCRATCH, "yes")]), Some(Part::Scratch));
        assert_eq!(part("app__0-1", &[(SWAP, "r"), (REPLACED_BY, "0-2")]), Some(Part::Replaced));
    }

    #[test]
    fn what_the_live_site_may_have_written_to_is_known() {
        let written = |marks: &[(&str, &str)]| is_written(&marked("app", marks).marks);
        assert!(!written(&[(POINT, "0-4")]));
        assert!(written(&[(POINT, "0-4"), (ADVANCED, "yes")]), "it was promoted");
        assert!(!written(&[(POINT, "0-4"), (LIVED, "0-3")]), "it came here after the last point was taken here");
        assert!(written(&[(POINT, "0-4"), (LIVED, "0-5")]));
        assert!(written(&[(POINT, "0-4"), (LIVED, "1-1")]));
        assert!(written(&[(POINT, "0-4"), (LIVED, NOW)]));
        assert!(written(&[(LIVED, "0-5")]) && written(&[(POINT, "0-4"), (LIVED, "?")]), "in doubt it stays");
    }

    #[test]
    fn a_database_with_another_name_or_owner_is_not_ours() {
        assert_eq!(part("kept_for_the_lawyers", &[(REPLACED_BY, "0-2")]), None);
        for other in [(SYSTEM, "quay"), (SITE, "ams"), (SOURCE, "database.other")] {
            assert_eq!(part("app__0-1", &[other]), None);
        }
        let plain = Marked { marks: Marks::new(), ..marked("app__0-1", &[]) };
        assert_eq!(read(plain, &Owner::default()), None);
    }
}
