//! A restored database against its snapshot: every row, sequence and object.
//!
//! Rows are read out again by the same COPY in the same order, so equal tables are equal bytes. Everything else is in the
//! inventory, compared line by line, so that each difference names the object; and where both sides run the
//! same major version, pg_dump's own words are compared too. Nothing is ever repaired here: a proof looks. What it could not
//! compare this time (two major versions, another pg_dump) it says.
//!
//! Never compared: the attributes of roles (they belong to the server, and are held back until promotion).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use super::excused::Excused;
use super::large_objects;
use super::majors::Majors;
use super::materialized_views;
use super::settled::settled;
use crate::capture::database::DatabaseFacts;
use crate::capture::layout::{self, TableFacts};
use crate::config::address::DatabaseAddress;
use crate::error::Error;
use crate::observe::{Meter, Progress};
use crate::postgres::catalog::{self, Sequence};
use crate::postgres::copy::Selection;
use crate::postgres::inventory::{self, Line};
use crate::postgres::programs::Programs;
use crate::postgres::properties::unknown_settings;
use crate::postgres::refused::Refused;
use crate::postgres::row_hash::RowHash;
use crate::postgres::{self, Server, Session, access, copy, snapshot};
use crate::stream::{Source, StreamEntry};

/// One thing that is not as it was captured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// What it is: `table`, `sequence value`, `index`, …
    pub kind: String,
    /// Which one.
    pub object: String,
    /// As captured; `None` if it was not there.
    pub expected: Option<String>,
    /// As found; `None` if it is not there.
    pub found: Option<String>,
}

/// The characters of a definition that are shown.
const SHOWN_CHARS_MAX: usize = 200;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { kind, object, .. } = self;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => {
                let (expected, found) = (expected.trim(), found.trim());
                let from = shown_from(expected, found);
                write!(f, "{kind} {object}: captured `{}`, found `{}`", short(expected, from), short(found, from))
            }
            (Some(expected), None) => write!(f, "{kind} {object} is missing: captured `{}`", short(expected.trim(), 0)),
            (None, Some(found)) => write!(f, "{kind} {object} was not captured: found `{}`", short(found.trim(), 0)),
            (None, None) => write!(f, "{kind} {object}"),
        }
    }
}

/// From which character on two long texts are shown, so that where they part is seen.
fn shown_from(one: &str, other: &str) -> usize {
    let common = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    if common < SHOWN_CHARS_MAX { 0 } else { common - SHOWN_CHARS_MAX / 4 }
}

fn short(text: &str, from: usize) -> String {
    let start = if from > 0 { "…" } else { "" };
    let shown: String = text.chars().skip(from).take(SHOWN_CHARS_MAX).collect();
    let end = if text.chars().count() > from + SHOWN_CHARS_MAX { "…" } else { "" };
    format!("{start}{shown}{end}")
}

/// What came of comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is not as it was captured; empty means proven.
    pub differences: Vec<Difference>,
    /// What could not be compared between these two servers, each in words.
    pub not_compared: Vec<String>,
    /// What the server refused to the role that restored, which is no superuser: it did not come back, or came back
    /// otherwise.
    pub refused: Vec<Refused>,
}

/// Compares the database called `name` at `address` with the snapshot. No difference means proven. What the restore wrote down as
/// `refused` is no difference, and told beside.
///
/// # Errors
/// When the server or the snapshot cannot be read. A difference is no error.
#[expect(clippy::too_many_arguments, reason = "two sides, and what is known of both")]
pub async fn prove<S: Source>(
    server: &Server,
    name: &str,
    address: &DatabaseAddress,
    source: &S,
    captured: &DatabaseFacts,
    workers: usize,
    refused: &[Refused],
    progress: &Progress,
) -> Result<Comparison, Error> {
    let session = snapshot::alone(server, name).await?;
    access::refuse_unreadable(&session).await?;
    let excused = Excused::of(&session, refused).await?;
    let majors = Majors::of(captured.server_version_num, session.version());
    let mut differences = tables(server, name, source, workers, progress).await?;
    differences.extend(large_objects::compare(&session, source).await?);
    differences.extend(sequences(&layout::sequences(source).await?, &catalog::sequences(&session).await?, majors));
    let mut objects = majors.comparable(layout::inventory(source).await?, inventory::read(&session).await?);
    let unknown = unknown(&session, source).await?;
    let lacking = lacking(&objects.captured, &catalog::tablespaces(&session).await?);
    // What this server does not have was left out on purpose.
    objects.captured.retain(|line| !sets_one_of(line, &unknown) && !is_in_one_of(line, &lacking));
    let mut not_compared = objects.not_compared;
    not_compared.extend(excused.unseen(&mut objects.captured, &mut objects.found));
    differences.extend(lines(&objects.captured, &objects.found, majors));
    not_compared.extend(unknown.iter().map(|name| format!("setting {name}, which this server does not have")));
    not_compared.extend(lacking.iter().map(|name| format!("tablespace {name}, which this server does not have")));
    let encoding = layout::properties(source).await?.encoding;
    not_compared.extend(materialized_views::compare(&session, source, &encoding).await?);
    let words = match excused.has_other_owners() {
        true => Words::Others("pg_dump's own words, which name the owners".to_owned()),
        false => definitions(server, &session, address, source, captured, majors).await?,
    };
    match words {
        Words::Compared(different) => differences.extend(different),
        Words::Others(why) => not_compared.push(why),
    }
    session.close().await;
    differences.retain(|difference| !excused.excuses(difference));
    differences.sort();
    Ok(Comparison { differences, not_compared, refused: excused.into_refused() })
}

/// Settings of the captured database that this server does not have; a restore leaves them out and says so.
async fn unknown<S: Source>(session: &Session, source: &S) -> Result<Vec<String>, Error> {
    let settings = layout::properties(source).await?.settings;
    let names: Vec<String> = settings.into_iter().map(|setting| setting.name).collect();
    Ok(unknown_settings(session, &names).await?)
}

/// Whether the line tells the value of one of the settings `names`, of the database or of a role in it.
fn sets_one_of(line: &Line, names: &[String]) -> bool {
    line.kind == "database setting" && names.iter().any(|name| line.name.split(' ').next() == Some(name))
}

/// The tablespaces of the captured database that are none of `here`.
fn lacking(captured: &[Line], here: &[String]) -> BTreeSet<String> {
    let used = captured.iter().filter(|line| line.kind == inventory::TABLESPACE).map(|line| &line.definition);
    used.filter(|name| !here.contains(name)).cloned().collect()
}

/// Whether the line tells that something is in one of these tablespaces.
fn is_in_one_of(line: &Line, tablespaces: &BTreeSet<String>) -> bool {
    line.kind == inventory::TABLESPACE && tablespaces.contains(&line.definition)
}

struct Work<'a> {
    server: &'a Server,
    name: &'a str,
    encoding: String,
    queue: Mutex<VecDeque<(StreamEntry, TableFacts)>>,
    spread: Mutex<BTreeMap<String, Sides>>,
    meter: Box<dyn Meter>,
}

/// Rows of a table whose partitions share them otherwise in every database: only their sum is compared.
#[derive(Clone, Copy, Default)]
struct Sides {
    captured: Option<(u64, RowHash)>,
    found: Option<(u64, RowHash)>,
}

impl Sides {
    fn difference(self, root: &str) -> Option<Difference> {
        let words = |side: Option<(u64, RowHash)>| {
            side.map(|(rows, hash)| format!("{rows} rows in all partitions, row hash {hash}"))
        };
        (self.captured != self.found).then(|| difference("table", root, words(self.captured), words(self.found)))
    }
}

/// The rows of one more partition.
fn with(others: Option<(u64, RowHash)>, (rows, hash): (u64, RowHash)) -> Option<(u64, RowHash)> {
    Some(others.map_or((rows, hash), |(before, sum)| (before + rows, sum.plus(hash))))
}

async fn tables<S: Source>(
    server: &Server,
    name: &str,
    source: &S,
    workers: usize,
    progress: &Progress,
) -> Result<Vec<Difference>, Error> {
    let tables = layout::tables(source)?;
    let bytes = tables.iter().map(|(entry, _)| entry.bytes).sum();
    let meter = progress.begin(&format!("proof of database {name}"), Some(bytes));
    let encoding = layout::properties(source).await?.encoding;
    let work = Work { server, name, encoding, queue: Mutex::new(tables.into()), spread: Mutex::default(), meter };
    let found = try_join_all((0..workers.max(1)).map(|_| worker(&work))).await?;
    let mut differences: Vec<Difference> = found.into_iter().flatten().collect();
    let spread = work.spread.lock().unwrap_or_else(PoisonError::into_inner).clone();
    differences.extend(spread.into_iter().filter_map(|(root, sides)| sides.difference(&root)));
    work.meter.finish(&format!("{} different tables", differences.len()));
    Ok(differences)
}

async fn worker(work: &Work<'_>) -> Result<Vec<Difference>, postgres::Error> {
    let next = || work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut differences = Vec::new();
    let Some(mut table) = next() else { return Ok(differences) };
    let session = snapshot::alone(work.server, work.name).await?;
    loop {
        let (entry, facts) = &table;
        // A table that is gone would spoil the transaction; the inventory names it.
        session.execute("comparing", "SAVEPOINT before_table").await?;
        match compare(work, &session, entry, facts).await {
            Ok(difference) => differences.extend(difference),
            Err(error) if error.is_of_ddl() => {
                session.execute("comparing", "ROLLBACK TO before_table").await?;
                differences.push(difference(
                    "table",
                    &entry.name.name,
                    Some(format!("{} rows", facts.rows)),
                    Some(error.to_string()),
                ));
            }
            Err(error) => return Err(error),
        }
        match next() {
            Some(following) => table = following,
            None => break,
        }
    }
    session.close().await;
    Ok(differences)
}

async fn compare(
    work: &Work<'_>,
    session: &Session,
    entry: &StreamEntry,
    facts: &TableFacts,
) -> Result<Option<Difference>, postgres::Error> {
    let name = postgres::quote::qualified(&facts.schema, &facts.table);
    let selection = Selection { table: &name, columns: &facts.columns, condition: facts.condition.as_deref() };
    let rows = copy::copy_out(session, selection, &work.encoding).await?;
    let mut rows = rows.hashed_by(facts.row_hash.hasher());
    let mut hasher = blake3::Hasher::new();
    while let Some(batch) = rows.next().await? {
        hasher.update(&batch);
        work.meter.advance(batch.len() as u64);
    }
    let totals = rows.totals();
    if facts.through.is_some() {
        let mut spread = work.spread.lock().unwrap_or_else(PoisonError::into_inner);
        let sides = spread.entry(facts.destination()).or_default();
        sides.captured = with(sides.captured, (facts.rows, facts.row_hash));
        sides.found = with(sides.found, (totals.rows, totals.row_hash));
        return Ok(None);
    }
    if totals.bytes == entry.bytes && hasher.finalize() == entry.blake3 {
        return Ok(None);
    }
    if totals.rows == facts.rows && totals.row_hash == facts.row_hash {
        if facts.condition.is_some() {
            // They went among the extension's own rows, wherever there was room.
            return Ok(None);
        }
        let (expected, found) = ("rows in the captured order".to_owned(), "the same rows in another order".to_owned());
        return Ok(Some(difference("table", &name, Some(expected), Some(found))));
    }
    let words = |rows: u64, bytes: u64, hash: RowHash| format!("{rows} rows, {bytes} bytes, row hash {hash}");
    let expected = words(facts.rows, entry.bytes, facts.row_hash);
    let found = words(totals.rows, totals.bytes, totals.row_hash);
    Ok(Some(difference("table", &name, Some(expected), Some(found))))
}

fn difference(kind: &str, object: &str, expected: Option<String>, found: Option<String>) -> Difference {
    Difference { kind: kind.to_owned(), object: object.to_owned(), expected, found }
}

fn sequences(captured: &[Sequence], found: &[Sequence], majors: Majors) -> Vec<Difference> {
    let line = |sequence: &Sequence| Line {
        kind: "sequence value".to_owned(),
        name: postgres::quote::qualified(&sequence.schema, &sequence.name),
        definition: format!("{}{}", sequence.last_value, if sequence.is_called { "" } else { " (not given out)" }),
    };
    lines(&captured.iter().map(line).collect::<Vec<_>>(), &found.iter().map(line).collect::<Vec<_>>(), majors)
}

/// The differences of two inventories. What has the same kind and name on both sides is one difference, not two.
fn lines(captured: &[Line], found: &[Line], majors: Majors) -> Vec<Difference> {
    type Sides = (Vec<String>, Vec<String>);
    let mut objects: BTreeMap<(&str, &str), Sides> = BTreeMap::new();
    for line in captured {
        objects.entry((&line.kind, &line.name)).or_default().0.push(line.definition.clone());
    }
    for line in found {
        objects.entry((&line.kind, &line.name)).or_default().1.push(line.definition.clone());
    }
    let joined = |side: Vec<String>| if side.is_empty() { None } else { Some(side.join("\n")) };
    let differing = objects.into_iter().filter_map(|((kind, name), (mut captured, mut found))| {
        captured.sort();
        found.sort();
        let same = captured.len() == found.len()
            && captured.iter().zip(&found).all(|(captured, found)| majors.same(captured, found));
        (!same).then(|| difference(kind, name, joined(captured), joined(found)))
    });
    differing.collect()
}

/// pg_dump's words for both sides.
enum Words {
    /// They were compared.
    Compared(Vec<Difference>),
    /// They cannot be, and why.
    Others(String),
}

/// Compares pg_dump's words for both, object by object, where the same major version of it wrote both of the same major
/// version of a server.
async fn definitions<S: Source>(
    server: &Server,
    session: &Session,
    address: &DatabaseAddress,
    source: &S,
    captured: &DatabaseFacts,
    majors: Majors,
) -> Result<Words, Error> {
    if majors.differ() {
        return Ok(Words::Others(format!("pg_dump's own words, which differ between {majors}")));
    }
    let programs = Programs::find(address.programs.as_deref(), session).await?;
    if Programs::major_of(&captured.pg_dump) != Programs::major_of(programs.version()) {
        // The inventory has compared every object; only this second witness is missing.
        let (there, here) = (&captured.pg_dump, programs.version());
        return Ok(Words::Others(format!("pg_dump's own words, which were {there} there and are {here} here")));
    }
    let found = programs.definitions(server, session, None, "warmspare proof", LOCK_TIMEOUT_MS).await?;
    let mut differences = Vec::new();
    for (name, found) in [(layout::pre_data(), found.pre_data), (layout::post_data(), found.post_data)] {
        let (captured, found) = (comparable(&layout::text(source, &name).await?), comparable(&found));
        if settled(&captured) == settled(&found) {
            continue;
        }
        let blocks = lines(&blocks(&name.to_string(), &captured), &blocks(&name.to_string(), &found), majors);
        if blocks.is_empty() {
            let (expected, found) =
                ("in the captured order".to_owned(), "the same objects in another order".to_owned());
            differences.push(difference(&name.to_string(), "order of objects", Some(expected), Some(found)));
        }
        differences.extend(blocks);
    }
    Ok(Words::Compared(differences))
}

/// A script without its tablespaces, which the inventory compares.
fn comparable(script: &str) -> String {
    let mut text = String::with_capacity(script.len());
    let mut skipped = false;
    for line in script.split_inclusive('\n') {
        // With the blank line behind it.
        let skip = line.starts_with("SET default_tablespace = ") || (skipped && line == "\n");
        match line.split_once("; Tablespace: ") {
            _ if skip => {}
            Some((name, _)) if line.starts_with("-- Name: ") => text.extend([name, "\n"]),
            _ => text.push_str(line),
        }
        skipped = skip && line != "\n";
    }
    text
}

/// Objects whose definition may hold a password; a difference shows only that there is one.
const SECRET: [&str; 2] = ["; Type: USER MAPPING;", "; Type: SUBSCRIPTION;"];

/// Nobody else is in the database; waiting long for a lock would mean that somebody is.
const LOCK_TIMEOUT_MS: u64 = 10_000;

/// A script of pg_dump as one line of an inventory per object: each begins with `-- Name: …`.
fn blocks(kind: &str, script: &str) -> Vec<Line> {
    let mut blocks = vec![Line { kind: kind.to_owned(), name: "header".to_owned(), definition: String::new() }];
    for line in script.lines() {
        if let Some(name) = line.strip_prefix("-- Name: ") {
            blocks.push(Line { kind: kind.to_owned(), name: name.to_owned(), definition: String::new() });
        } else if line == "--" || line.is_empty() || line.starts_with("-- PostgreSQL database dump") {
            // Frame of an entry, not part of it: the last entry of a script has another one.
        } else if let Some(block) = blocks.last_mut() {
            block.definition.push_str(line);
            block.definition.push('\n');
        }
    }
    for block in blocks.iter_mut().filter(|block| SECRET.iter().any(|kind| block.name.contains(kind))) {
        block.definition = format!("(not shown) BLAKE3 {}", blake3::hash(block.definition.as_bytes()));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Majors = Majors::of(150_018, 150_018);

    fn line(kind: &str, name: &str, definition: &str) -> Line {
        Line { kind: kind.into(), name: name.into(), definition: definition.into() }
    }

    #[test]
    fn a_difference_names_the_object_and_both_sides() {
        let captured = [
            line("index", "public.a", "CREATE INDEX a"),
            line("trigger", "t on public.x", "O"),
            line("view", "v", "1"),
        ];
        let found = [line("trigger", "t on public.x", "O disabled"), line("view", "v", "1"), line("view", "w", "2")];
        let words: Vec<String> = lines(&captured, &found, SAME).iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "index public.a is missing: captured `CREATE INDEX a`",
                "trigger t on public.x: captured `O`, found `O disabled`",
                "view w was not captured: found `2`",
            ]
        );
    }

    #[test]
    fn a_script_differs_by_object() {
        let script = |comment: &str| {
            format!("SET a;\n-- Name: t; Type: TABLE\nCREATE TABLE t;\n-- Name: x; Type: COMMENT\n{comment}\n")
        };
        let found = lines(&blocks("ddl pre-data", &script("one")), &blocks("ddl pre-data", &script("two")), SAME);
        let objects: Vec<&str> = found.iter().map(|difference| difference.object.as_str()).collect();
        assert_eq!(objects, ["x; Type: COMMENT"]);
    }
}
