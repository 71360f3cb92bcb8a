//! The gap that sequences jump when a spare becomes live.
//!
//! What the application did after the last capture is lost, but the ids it gave out then may be known elsewhere: in a lock
//! file, an order, another system. A sequence that stands as captured would give them out again, to other things. So each is
//! advanced as if `nextval` had been asked `gap` times more, by sessions that each took a whole `CACHE` of values.
//!
//! Sequences end. One that does not go round is left where it gives out its last value once more, and that is told; one that
//! goes round has always given out values again, and goes round.

use serde::{Deserialize, Serialize};

use super::catalog::{self, Sequence};
use super::error::Error;
use super::quote;
use super::session::Session;

/// What a sequence was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    increment: i64,
    min: i64,
    max: i64,
    cycles: bool,
    cache: i64,
}

/// How a sequence is advanced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Where it stood.
    pub from: Sequence,
    /// Where it stands then.
    pub to: Sequence,
    /// Whether the gap went beyond its end.
    pub clamped: bool,
}

impl std::fmt::Display for Advance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sequence { schema, name, last_value, .. } = &self.from;
        let (name, to) = (quote::qualified(schema, name), self.to.last_value);
        match (self.clamped, self.from == self.to) {
            (false, _) => write!(f, "{name}: {last_value} → {to}"),
            (true, false) => write!(f, "{name}: {last_value} → {to}, its LAST value: the gap goes beyond its end"),
            (true, true) => write!(f, "{name}: {last_value}, where it ENDS"),
        }
    }
}

impl Course {
    /// The last value it gives out before it ends or goes round, from `value` on.
    fn end(self, value: i128) -> i128 {
        let (increment, bound) = (i128::from(self.increment), i128::from(self.bound()));
        value + (bound - value) / increment * increment
    }

    fn bound(self) -> i64 {
        if self.increment > 0 { self.max } else { self.min }
    }

    fn first(self) -> i64 {
        if self.increment > 0 { self.min } else { self.max }
    }

    /// The last value given out after `gap` more, and whether that was given out; `None` when it ends before.
    fn after(self, last_value: i64, is_called: bool, gap: u64) -> Option<i64> {
        let (increment, last) = (i128::from(self.increment), i128::from(last_value));
        // One that was never used gives out the value it stands at first.
        let steps = i128::from(gap) * i128::from(self.cache.max(1)) - i128::from(!is_called);
        let end = self.end(last);
        let left = (end - last) / increment;
        if steps <= left {
            return i64::try_from(last + steps * increment).ok();
        }
        let first = i128::from(self.first());
        let round = (self.end(first) - first) / increment + 1;
        self.cycles
            .then_some(first + (steps - left - 1) % round * increment)
            .and_then(|value| i64::try_from(value).ok())
    }

    fn advance(self, from: &Sequence, gap: u64) -> Advance {
        let at = |last_value, is_called| Sequence { last_value, is_called, ..from.clone() };
        if gap == 0 {
            return Advance { from: from.clone(), to: from.clone(), clamped: false };
        }
        if let Some(value) = self.after(from.last_value, from.is_called, gap) {
            return Advance { from: from.clone(), to: at(value, true), clamped: false };
        }
        let end = i64::try_from(self.end(i128::from(from.last_value))).unwrap_or(self.bound());
        // One that has given out its last value already has none left.
        let to = if from.last_value == end { from.clone() } else { at(end, false) };
        Advance { from: from.clone(), to, clamped: true }
    }
}

/// How each sequence of the database would be advanced by `gap`.
///
/// # Errors
/// The server's, sorted.
pub async fn plan(session: &Session, gap: u64) -> Result<Vec<Advance>, Error> {
    let sql = "SELECT n.nspname::text, c.relname::text, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, s.seqcache \
               FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";
    let mut courses = std::collections::BTreeMap::new();
    for row in session.rows("reading what the sequences were made with", sql, &[]).await? {
        let course = Course {
            increment: session.cell(&row, 2)?,
            min: session.cell(&row, 3)?,
            max: session.cell(&row, 4)?,
            cycles: session.cell(&row, 5)?,
            cache: session.cell(&row, 6)?,
        };
        courses.insert((session.cell::<String>(&row, 0)?, session.cell::<String>(&row, 1)?), course);
    }
    let mut all = Vec::new();
    for sequence in catalog::sequences(session).await? {
        let key = (sequence.schema.clone(), sequence.name.clone());
        let gone = || Error::Answer {
            place: session.place().clone(),
            doing: "reading the sequences".to_owned(),
            what: format!("sequence {} vanished", quote::qualified(&key.0, &key.1)),
        };
        let course = courses.get(&key).ok_or_else(gone)?;
        all.push(course.advance(&sequence, gap));
    }
    Ok(all)
}

/// Advances a sequence, if it has not come as far since it was planned.
///
/// # Errors
/// The server's, sorted.
pub async fn apply(session: &Session, advance: &Advance) -> Result<(), Error> {
    let Advance { from, to, .. } = advance;
    let name = quote::qualified(&from.schema, &from.name);
    let (start, end) = (from.last_value, to.last_value);
    let on_the_way = match end > start {
        true => format!("last_value >= {start} AND last_value < {end}"),
        false => format!("last_value <= {start} AND last_value > {end}"),
    };
    let sql = format!(
        "SELECT pg_catalog.setval({}, {end}, {}) FROM {name} WHERE {on_the_way} OR (last_value, is_called) = ({start}, {})",
        quote::literal(&name),
        to.is_called,
        from.is_called
    );
    session.execute(&format!("advancing sequence {name}"), &sql).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sequence(last_value: i64, is_called: bool) -> Sequence {
        Sequence { schema: "public".into(), name: "s".into(), last_value, is_called }
    }

    /// `nextval`, as PostgreSQL documents it, asked so many times; `None` where it is an error.
    fn asked(course: Course, mut at: Sequence, times: u64) -> Option<Sequence> {
        for _ in 0..times {
            let value = i128::from(at.last_value) + if at.is_called { i128::from(course.increment) } else { 0 };
            let beyond = value > i128::from(course.max) || value < i128::from(course.min);
            let value = match (beyond, course.cycles) {
                (false, _) => value,
                (true, true) => i128::from(course.first()),
                (true, false) => return None,
            };
            at = sequence(i64::try_from(value).unwrap(), true);
        }
        Some(at)
    }

    prop_compose! {
        fn courses()(min in -40i64..40, length in 1i64..60, step in 1i64..9, down in any::<bool>(), cycles in any::<bool>(), cache in 1i64..4)
            -> Course {
            Course { increment: if down { -step } else { step }, min, max: min + length, cycles, cache }
        }
    }

    proptest! {
        #[test]
        fn a_gap_is_what_asking_so_many_times_comes_to(
            course in courses(), at in 0i64..60, is_called in any::<bool>(), gap in 1u64..200,
        ) {
            let from = sequence((course.min + at).min(course.max), is_called);
            let Advance { to, clamped, .. } = course.advance(&from, gap);
            match asked(course, from.clone(), gap * course.cache.unsigned_abs()) {
                Some(expect) => prop_assert_eq!((to, clamped), (expect, false)),
                None => {
                    prop_assert!(clamped && !course.cycles);
                    let next = asked(course, to.clone(), 1);
                    // One value is left, the last one, unless that was given out already.
                    let given_out = asked(course, from.clone(), 1).is_none();
                    prop_assert_eq!(next.is_none(), given_out);
                    prop_assert!(asked(course, to, 2).is_none());
                }
            }
        }

        #[test]
        fn no_sequence_leaves_its_bounds_however_large_they_and_the_gap_are(
            min in any::<i64>(), other in any::<i64>(), at in any::<i64>(), increment in any::<i64>(),
            cycles in any::<bool>(), cache in 1..=i64::MAX, gap in any::<u64>(), is_called in any::<bool>(),
        ) {
            prop_assume!(increment != 0 && min != other);
            let course = Course { increment, min: min.min(other), max: min.max(other), cycles, cache };
            let from = sequence(at.clamp(course.min, course.max), is_called);
            let Advance { to, clamped, .. } = course.advance(&from, gap);
            prop_assert!((course.min..=course.max).contains(&to.last_value));
            prop_assert!(!(clamped && cycles));
            prop_assert!(gap > 0 || to == from);
        }
    }
}
