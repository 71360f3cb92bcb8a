//! Which recovery points stay: pure, and hard to steer.
//!
//! Two clocks say when a point is from: its writer's, which a compromised live site sets as it likes, and the
//! store's, which a copied vault has lost. Both can jump. So neither decides alone: a point goes only when no
//! reading of either clock keeps it. The order of points is (term, number) and no clock, and an honest clock never
//! falls along it; hence each clock is read twice, once with every point no later than any after it (which mends a
//! jump ahead) and once no earlier than any before it (which mends a fall). Where the clocks are right, all four
//! readings are the same; where one is wrong, the others still keep what they kept.
//!
//! The rules are those of restic and borg: a floor below which everything stays, then so many hours, days, weeks,
//! months and years. Periods are counted that have points, from the newest; nothing expires by mere waiting.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::layout::PointId;
use crate::config::RetentionConfig;

/// The newest point may lie this far ahead of the keeper's clock; beyond it one of the two is wrong.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// A point as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Its number: the only order there is.
    pub id: PointId,
    /// When it was captured, as its writer claims.
    pub captured_at: Timestamp,
    /// When its record was stored, by the store's clock.
    pub stored_at: Timestamp,
    /// Whether another site than its writer restored all of it and found it equal.
    pub proven: bool,
    /// Whether somebody asked for it to be kept.
    pub held: bool,
}

/// Why a point stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is the newest.
    Newest,
    /// It is the newest that was proven.
    NewestProven,
    /// Somebody holds it.
    Held,
    /// It is within the floor.
    Within,
    /// It is of one of the last hours that have points.
    Hourly,
    /// Likewise of days.
    Daily,
    /// Weeks.
    Weekly,
    /// Months.
    Monthly,
    /// Years.
    Yearly,
    /// Its clock tells what another's must be; it stays so that the next pass reads the same times.
    Clock,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Newest => "newest",
            Reason::NewestProven => "newest proven",
            Reason::Held => "held",
            Reason::Within => "within",
            Reason::Hourly => "hourly",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::Yearly => "yearly",
            Reason::Clock => "clock",
        })
    }
}

/// The newest point is from the future, so that no pass may decide by these clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromTheFuture {
    /// The point.
    pub point: PointId,
    /// Whose clock says so.
    pub whose: &'static str,
    /// The instant it says.
    pub at: Timestamp,
}

/// Why each of `points` stays; a point without a reason goes. `points` are in order of their ids.
///
/// # Errors
/// [`FromTheFuture`] when the newest point lies more than a day ahead of `now`.
pub fn decide(
    points: &[Aged],
    rules: &RetentionConfig,
    now: Timestamp,
) -> Result<Vec<BTreeSet<Reason>>, FromTheFuture> {
    if let Some(newest) = points.last() {
        refuse_the_future(newest, now)?;
    }
    let mut kept = vec![BTreeSet::new(); points.len()];
    keep_whatever_the_time(points, &mut kept);
    let claimed = || points.iter().map(|point| point.captured_at);
    let stored = || points.iter().map(|point| point.stored_at);
    let readings = [
        Reading::no_later_than_followers(claimed()),
        Reading::no_earlier_than_predecessors(claimed()),
        Reading::no_later_than_followers(stored()),
        Reading::no_earlier_than_predecessors(stored()),
    ];
    for reading in &readings {
        keep_within(reading, rules, now, &mut kept);
        for (reason, count, period) in periods(rules) {
            keep_periods(points, reading, reason, count, period, &mut kept);
        }
    }
    keep_clocks(&readings, &mut kept);
    Ok(kept)
}

fn refuse_the_future(newest: &Aged, now: Timestamp) -> Result<(), FromTheFuture> {
    for (whose, at) in [("its writer", newest.captured_at), ("the store", newest.stored_at)] {
        if at.duration_since(now) > AHEAD_MAX {
            return Err(FromTheFuture { point: newest.id, whose, at });
        }
    }
    Ok(())
}

fn keep_whatever_the_time(points: &[Aged], kept: &mut [BTreeSet<Reason>]) {
    let (mut newest, mut proven) = (true, true);
    for (point, reasons) in points.iter().zip(kept).rev() {
        if std::mem::take(&mut newest) {
            reasons.insert(Reason::Newest);
        }
        if point.proven && std::mem::take(&mut proven) {
            reasons.insert(Reason::NewestProven);
        }
        if point.held {
            reasons.insert(Reason::Held);
        }
    }
}

/// One way to read a clock: an instant for each point that never falls along their order.
struct Reading {
    /// The instant of each point.
    at: Vec<Timestamp>,
    /// The point whose clock says so: itself, unless its own is out of order.
    of: Vec<usize>,
}

impl Reading {
    fn no_later_than_followers(clock: impl DoubleEndedIterator<Item = Timestamp> + ExactSizeIterator) -> Self {
        let mut reading = Reading { at: Vec::with_capacity(clock.len()), of: Vec::with_capacity(clock.len()) };
        let mut bound: Option<(Timestamp, usize)> = None;
        for (place, at) in clock.enumerate().rev() {
            let (at, of) = bound.filter(|(follower, _)| *follower < at).unwrap_or((at, place));
            reading.at.push(at);
            reading.of.push(of);
            bound = Some((at, of));
        }
        reading.at.reverse();
        reading.of.reverse();
        reading
    }

    fn no_earlier_than_predecessors(clock: impl Iterator<Item = Timestamp>) -> Self {
        let mut reading = Reading { at: Vec::new(), of: Vec::new() };
        let mut bound: Option<(Timestamp, usize)> = None;
        for (place, at) in clock.enumerate() {
            let (at, of) = bound.filter(|(predecessor, _)| *predecessor > at).unwrap_or((at, place));
            reading.at.push(at);
            reading.of.push(of);
            bound = Some((at, of));
        }
        reading
    }
}

/// The floor is measured from the newest point, and from now where that is earlier: waiting expires nothing.
fn keep_within(reading: &Reading, rules: &RetentionConfig, now: Timestamp, kept: &mut [BTreeSet<Reason>]) {
    let Some(newest) = reading.at.last() else { return };
    let from = now.min(*newest);
    let within = SignedDuration::try_from(rules.within).unwrap_or(SignedDuration::MAX);
    for (at, reasons) in reading.at.iter().zip(kept) {
        if from.duration_since(*at) <= within {
            reasons.insert(Reason::Within);
        }
    }
}

/// Numbers the periods of a rule, so that two instants are of the same one exactly if the numbers are equal.
type Period = fn(Timestamp) -> i64;

fn periods(rules: &RetentionConfig) -> [(Reason, u32, Period); 5] {
    [
        (Reason::Hourly, rules.hourly, |at| at.as_second().div_euclid(3_600)),
        (Reason::Daily, rules.daily, day),
        // The first day of 1970 was a Thursday; weeks begin on Monday.
        (Reason::Weekly, rules.weekly, |at| (day(at) + 3).div_euclid(7)),
        (Reason::Monthly, rules.monthly, month),
        (Reason::Yearly, rules.yearly, |at| month(at).div_euclid(12)),
    ]
}

fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

fn month(at: Timestamp) -> i64 {
    let date = Offset::UTC.to_datetime(at);
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

/// Keeps the newest point, and the newest proven one, of the last `count` periods that have any.
fn keep_periods(
    points: &[Aged],
    reading: &Reading,
    reason: Reason,
    count: u32,
    period: Period,
    kept: &mut [BTreeSet<Reason>],
) {
    let mut left = count;
    let (mut current, mut proven) = (None, false);
    for ((point, at), reasons) in points.iter().zip(&reading.at).zip(kept).rev() {
        let of = Some(period(*at));
        if of != current {
            if left == 0 {
                return;
            }
            left -= 1;
            (current, proven) = (of, point.proven);
            reasons.insert(reason);
        } else if point.proven && !proven {
            proven = true;
            reasons.insert(reason);
        }
    }
}

/// A point that stays under a time that another's clock says keeps that other too. Without it the next pass would read
/// other times than this one did, and remove more although nothing happened.
fn keep_clocks(readings: &[Reading], kept: &mut [BTreeSet<Reason>]) {
    let mut grown = true;
    while std::mem::take(&mut grown) {
        for reading in readings {
            let needed: BTreeSet<usize> =
                reading.of.iter().zip(&*kept).filter(|(_, reasons)| !reasons.is_empty()).map(|(of, _)| *of).collect();
            for place in needed {
                if let Some(reasons) = kept.get_mut(place).filter(|reasons| reasons.is_empty()) {
                    reasons.insert(Reason::Clock);
                    grown = true;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
