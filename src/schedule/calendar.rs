//! From the fields of a line to instants: on the civil timeline by the `cron` crate, from there into a time zone by our own rule.
//!
//! That crate knows no crontab: it numbers Sunday 1, wants a day to fit both its fields, and in a time zone skips what lies in a
//! spring gap and runs twice in an autumn overlap. So it is given lists of numbers, one schedule for each kind of day, and only civil
//! times, as if they were UTC.
//!
//! The rule. A line that names hours says times of day: each runs once. One that a clock change leaves out runs at the first
//! instant after the gap; one that comes twice runs the first time. A line whose hour is `*` says minutes of every hour there is: it
//! runs whenever clocks show such a minute, twice where an hour comes twice, and not for an hour that there is not.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate, TimeZone as _, Timelike, Utc};
use cron::Schedule as CivilSchedule;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::field::Field;
use super::line::{Fields, Line};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The civil times of a line: of one schedule, or of two where a day of either kind will do.
#[derive(Clone, Debug)]
pub(super) struct Calendar(Vec<CivilSchedule>);

impl Calendar {
    /// Of these fields; not when none of their dates is in any calendar.
    pub(super) fn new(fields: &Fields) -> Result<Self, String> {
        let (day, weekday) = (&fields.day, &fields.weekday);
        let kinds: Vec<(Option<&Field>, Option<&Field>)> = match (day.has_star, weekday.has_star) {
            (false, false) => vec![(Some(day), None), (None, Some(weekday))],
            _ => vec![(Some(day), Some(weekday))],
        };
        let schedules = kinds.into_iter().map(|(day, weekday)| civil(fields, day, weekday));
        Ok(Calendar(schedules.collect::<Result<_, _>>()?))
    }

    /// The first civil time after `after`; years after 2100 are not looked at.
    fn next(&self, after: civil::DateTime) -> Option<civil::DateTime> {
        let date = |year, month, day| NaiveDate::from_ymd_opt(i32::from(year), month, day);
        let (month, day) = (u32::try_from(after.month()).ok()?, u32::try_from(after.day()).ok()?);
        let [hour, minute, second] =
            [after.hour(), after.minute(), after.second()].map(|part| u32::try_from(part).unwrap_or(0));
        let after = date(after.year(), month, day)?.and_hms_opt(hour, minute, second)?;
        let after = Utc.from_utc_datetime(&after);
        let next = self.0.iter().filter_map(|schedule| schedule.after(&after).next()).min()?;
        let small = |part: u32| i8::try_from(part).ok();
        let (month, day) = (small(next.month())?, small(next.day())?);
        let (hour, minute, second) = (small(next.hour())?, small(next.minute())?, small(next.second())?);
        civil::DateTime::new(i16::try_from(next.year()).ok()?, month, day, hour, minute, second, 0).ok()
    }
}

/// One schedule for the crate, or why there is no such date.
fn civil(fields: &Fields, day: Option<&Field>, weekday: Option<&Field>) -> Result<CivilSchedule, String> {
    let list = |values: &BTreeSet<u32>| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let plain = |field: &Field| if field.is_every { "*".to_owned() } else { list(&field.values) };
    let from_one = |field: &Field| match field.values.len() {
        7 => "*".to_owned(),
        _ => list(&field.values.iter().map(|weekday| weekday + 1).collect()),
    };
    let text = [
        plain(&fields.second),
        plain(&fields.minute),
        plain(&fields.hour),
        day.map_or("*".to_owned(), plain),
        plain(&fields.month),
        weekday.map_or("*".to_owned(), from_one),
    ]
    .join(" ");
    let schedule: CivilSchedule = text.parse().map_err(|error: cron::error::Error| error.to_string())?;
    let begin = Utc.with_ymd_and_hms(1999, 12, 31, 23, 59, 59).single();
    let is_possible = begin.is_some_and(|begin| schedule.after(&begin).next().is_some());
    if is_possible { Ok(schedule) } else { Err("no month has such a day".to_owned()) }
}

impl Line {
    /// The first instant after `after` at which it says to run; none after the year 2100.
    pub fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        if self.is_every_hour { self.next_shown(zone, after) } else { self.next_time_of_day(zone, after) }
    }

    /// The next instant at which clocks show such a time. Between two changes of the offset both timelines run alike.
    fn next_shown(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        // Whole seconds: the first after it.
        let mut begin = Timestamp::from_second(after.as_second()).ok()?;
        while begin <= after {
            begin = begin.checked_add(SECOND).ok()?;
        }
        loop {
            let offset = zone.to_offset(begin);
            let before = offset.to_datetime(begin).checked_sub(SECOND).ok()?;
            let shown = offset.to_timestamp(self.calendar.next(before)?).ok()?;
            match zone.following(begin).next().map(|change| change.timestamp()) {
                Some(change) if shown >= change => begin = change,
                _ => return Some(shown),
            }
        }
    }

    /// The next time of day.
    fn next_time_of_day(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut time = zone.to_datetime(after);
        loop {
            time = self.calendar.next(time)?;
            // Not when it comes the second time, and was run the first.
            let instant = instant(zone, time)?;
            if instant > after {
                return Some(instant);
            }
        }
    }
}

/// The one instant of a time of day.
fn instant(zone: &TimeZone, time: civil::DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(time).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(time).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // By the old offset it would be after the change, by the new one before it.
            let until = before.to_timestamp(time).ok()?;
            let from = after.to_timestamp(time).ok()?;
            let mut changes = zone.following(from).take_while(|change| change.timestamp() <= until);
            changes.find(|change| change.offset() == after).map(|change| change.timestamp())
        }
    }
}
