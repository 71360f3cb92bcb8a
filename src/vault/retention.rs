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
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOURS: usize = 3 * 365 * 24;

    fn hour(n: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + n * 3_600).unwrap()
    }

    /// Hourly points whose clocks are right; every seventh is proven.
    fn history(hours: usize) -> Vec<Aged> {
        let point = |n: usize| {
            let at = hour(i64::try_from(n).unwrap());
            let id = PointId { term: 0, seq: n as u64 + 1 };
            Aged { id, captured_at: at, stored_at: at, proven: n % 7 == 3, held: false }
        };
        (0..hours).map(point).collect()
    }

    /// The rules said plainly, for one clock that is right: periods are cut from the text of the time.
    fn plain(points: &[Aged], clock: fn(&Aged) -> Timestamp, rules: &RetentionConfig) -> BTreeSet<PointId> {
        let Some(last) = points.last() else { return BTreeSet::new() };
        let mut kept = BTreeSet::from([last.id]);
        kept.extend(points.iter().filter(|point| point.held).map(|point| point.id));
        kept.extend(points.iter().rfind(|point| point.proven).map(|point| point.id));
        let within = SignedDuration::try_from(rules.within).unwrap();
        kept.extend(points.iter().filter(|p| clock(last).duration_since(clock(p)) <= within).map(|p| p.id));
        let week = |at: Timestamp| {
            let week = Offset::UTC.to_datetime(at).date().iso_week_date();
            format!("{:06}-{:02}", week.year(), week.week())
        };
        let cut = |at: Timestamp, length: usize| at.to_string()[..length].to_owned();
        type Name<'a> = &'a dyn Fn(Timestamp) -> String;
        let named: [(u32, Name); 5] = [
            (rules.hourly, &|at| cut(at, 13)),
            (rules.daily, &|at| cut(at, 10)),
            (rules.weekly, &week),
            (rules.monthly, &|at| cut(at, 7)),
            (rules.yearly, &|at| cut(at, 4)),
        ];
        for (count, name) in named {
            let mut periods: BTreeMap<String, Vec<&Aged>> = BTreeMap::new();
            for point in points {
                periods.entry(name(clock(point))).or_default().push(point);
            }
            for of in periods.values().rev().take(count as usize) {
                kept.extend(of.last().map(|point| point.id));
                kept.extend(of.iter().rfind(|point| point.proven).map(|point| point.id));
            }
        }
        kept
    }

    fn kept(points: &[Aged], rules: &RetentionConfig, now: Timestamp) -> BTreeSet<PointId> {
        let reasons = decide(points, rules, now).unwrap();
        points.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty()).map(|(point, _)| point.id).collect()
    }

    /// A clock that is wrong for a while: from which point, for how many, by how many hours.
    type Jump = (usize, usize, i64);

    fn jump(points: &mut [Aged], set: fn(&mut Aged, Timestamp), (from, length, hours): Jump) {
        for (n, point) in points.iter_mut().enumerate().skip(from).take(length) {
            set(point, hour(i64::try_from(n).unwrap() + hours));
        }
    }

    fn set_claimed(point: &mut Aged, at: Timestamp) {
        point.captured_at = at;
    }

    fn set_stored(point: &mut Aged, at: Timestamp) {
        point.stored_at = at;
    }

    fn some_jump() -> impl Strategy<Value = Jump> {
        (0..HOURS, 1..2_000usize, -300_000..300_000i64)
    }

    fn some_rules() -> impl Strategy<Value = RetentionConfig> {
        (1..10u64, 0..60u32, 0..20u32, 0..10u32, 0..14u32, 0..4u32).prop_map(
            |(days, hourly, daily, weekly, monthly, yearly)| {
                let within = std::time::Duration::from_secs(days * 86_400);
                RetentionConfig { within, hourly, daily, weekly, monthly, yearly, ..RetentionConfig::default() }
            },
        )
    }

    #[test]
    fn three_years_of_hourly_points_come_down_to_what_the_rules_say() {
        let points = history(HOURS);
        let rules = RetentionConfig::default();
        let now = hour(i64::try_from(HOURS).unwrap());
        let kept = kept(&points, &rules, now);
        assert_eq!(kept, plain(&points, |point| point.captured_at, &rules));
        assert!((100..200).contains(&kept.len()), "{} points stay", kept.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever one clock says, forged point by point: what the other one's rules keep stays.
        #[test]
        fn forged_times_take_nothing_from_what_the_other_clock_keeps(
            rules in some_rules(), seed: u64, forge_the_store: bool,
        ) {
            let mut points = history(HOURS);
            let set = if forge_the_store { set_stored } else { set_claimed };
            let mut lie = seed | 1;
            for (n, point) in points.iter_mut().enumerate().rev().skip(1) {
                // Marsaglia's xorshift64: quicker than 26,000 drawn values.
                lie ^= lie << 13;
                lie ^= lie >> 7;
                lie ^= lie << 17;
                set(point, hour(i64::try_from(n).unwrap() + i64::try_from(lie % 330_000).unwrap() - 300_000));
            }
            let honest: fn(&Aged) -> Timestamp =
                if forge_the_store { |point| point.captured_at } else { |point| point.stored_at };
            let now = hour(i64::try_from(HOURS).unwrap());
            prop_assert!(kept(&points, &rules, now).is_superset(&plain(&points, honest, &rules)));
        }

        /// Both clocks jump, ahead or back, at different times: what the rules keep of the true times stays.
        #[test]
        fn a_jump_of_each_clock_takes_nothing(rules in some_rules(), one in some_jump(), other in some_jump()) {
            let clear = one.0 + one.1 < other.0 || other.0 + other.1 < one.0;
            prop_assume!(clear && one.0 + one.1 < HOURS && other.0 + other.1 < HOURS);
            let truth = history(HOURS);
            let mut points = truth.clone();
            jump(&mut points, set_claimed, one);
            jump(&mut points, set_stored, other);
            let now = hour(i64::try_from(HOURS).unwrap());
            prop_assert!(kept(&points, &rules, now).is_superset(&plain(&truth, |p| p.captured_at, &rules)));
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

        /// A pass a day for three years, one clock jumping meanwhile: at every year's end there is everything that
        /// the rules keep of the whole history.
        #[test]
        fn passes_day_by_day_keep_what_one_pass_over_everything_keeps(
            rules in some_rules(), jumps in prop::collection::vec(some_jump(), 0..4), the_store_jumps: bool,
        ) {
            let truth = history(HOURS);
            let mut disturbed = truth.clone();
            let set = if the_store_jumps { set_stored } else { set_claimed };
            jumps.into_iter().for_each(|one| jump(&mut disturbed, set, one));
            let mut left: Vec<Aged> = Vec::new();
            for (day, new) in disturbed.chunks(24).enumerate() {
                left.extend_from_slice(new);
                let now = hour(i64::try_from(day * 24 + 24).unwrap());
                // A pass that is refused removes nothing.
                let Ok(reasons) = decide(&left, &rules, now) else { continue };
                let mut reasons = reasons.into_iter();
                left.retain(|_| reasons.next().is_some_and(|reasons| !reasons.is_empty()));
                if day % 364 == 363 {
                    let ids: BTreeSet<PointId> = left.iter().map(|point| point.id).collect();
                    prop_assert!(ids.is_superset(&plain(&truth[..day * 24 + new.len()], |p| p.captured_at, &rules)));
                }
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Clocks of any kind: a second pass at the same instant removes nothing more.
        #[test]
        fn a_second_pass_at_once_removes_nothing(
            rules in some_rules(),
            times in prop::collection::vec((-3_000..1i64, -3_000..1i64, prop::bool::weighted(0.1)), 1..400),
            held in 0..400usize,
        ) {
            let points: Vec<Aged> = times.into_iter().enumerate().map(|(n, (claimed, stored, proven))| {
                let id = PointId { term: (n / 100) as u64, seq: n as u64 };
                Aged { id, captured_at: hour(claimed), stored_at: hour(stored), proven, held: n == held }
            }).collect();
            let once = kept(&points, &rules, hour(0));
            let left: Vec<Aged> = points.into_iter().filter(|point| once.contains(&point.id)).collect();
            prop_assert_eq!(kept(&left, &rules, hour(0)), once);
        }
    }

    #[test]
    fn a_copied_vault_whose_store_times_are_all_equal_loses_nothing_the_rules_keep() {
        let mut points = history(2_000);
        points.iter_mut().for_each(|point| point.stored_at = hour(2_000));
        let rules = RetentionConfig::default();
        assert!(kept(&points, &rules, hour(2_001)).is_superset(&plain(&points, |point| point.captured_at, &rules)));
    }

    #[test]
    fn points_from_the_future_stop_the_pass_and_waiting_expires_nothing() {
        let mut points = history(200);
        let rules = RetentionConfig::default();
        assert_eq!(kept(&points, &rules, hour(200)), kept(&points, &rules, hour(20_000)), "a year later");
        points[199].captured_at = hour(225);
        let refused = decide(&points, &rules, hour(200)).unwrap_err();
        assert_eq!((refused.point, refused.whose), (points[199].id, "its writer"));
        points[199].captured_at = hour(199);
        points[100].captured_at = hour(90_000);
        assert!(decide(&points, &rules, hour(200)).is_ok(), "one that later points prove wrong stops nothing");
    }

    #[test]
    fn nothing_to_decide_is_decided() {
        assert_eq!(decide(&[], &RetentionConfig::default(), hour(0)), Ok(Vec::new()));
    }
}
