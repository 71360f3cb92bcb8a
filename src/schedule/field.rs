//! One field of a calendar line: `*`, `17`, `1-5`, `*/10`, `8-18/2`, `Mon,Wed-Fri`, and lists of these.

use std::collections::BTreeSet;

/// Which of the fields it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// For a person.
    pub(super) name: &'static str,
    /// The lowest value that can be written.
    pub(super) min: u32,
    /// The highest.
    pub(super) max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(super) const SECOND: Unit = Unit { name: "second", min: 0, max: 59, names: &[] };
pub(super) const MINUTE: Unit = Unit { name: "minute", min: 0, max: 59, names: &[] };
pub(super) const HOUR: Unit = Unit { name: "hour", min: 0, max: 23, names: &[] };
pub(super) const DAY: Unit = Unit { name: "day of the month", min: 1, max: 31, names: &[] };
pub(super) const MONTH: Unit = Unit { name: "month", min: 1, max: 12, names: &MONTHS };
/// 0 and 7 are Sunday.
pub(super) const WEEKDAY: Unit = Unit { name: "day of the week", min: 0, max: 7, names: &DAYS };
const SUNDAY_TOO: u32 = 7;

/// What a field allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// The values, Sunday as 0.
    pub(super) values: BTreeSet<u32>,
    /// Whether it is `*`, or says the same.
    pub(super) is_every: bool,
    /// Whether there is a `*` in it: a day of such a field does not widen the other's (crontab(5)).
    pub(super) has_star: bool,
}

impl Field {
    /// Reads a field.
    pub(super) fn parse(unit: Unit, text: &str) -> Result<Self, String> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            values.extend(part_of(unit, part)?);
        }
        if unit == WEEKDAY && values.remove(&SUNDAY_TOO) {
            values.insert(0);
        }
        let has_star = text.contains('*');
        let is_every = has_star && values == Field::of(unit, None).values;
        Ok(Field { values, is_every, has_star })
    }

    /// The one field that `@hourly` and its like leave open, or close.
    pub(super) fn of(unit: Unit, value: Option<u32>) -> Self {
        match value {
            Some(value) => Field { values: BTreeSet::from([value]), is_every: false, has_star: false },
            None => {
                let max = if unit == WEEKDAY { SUNDAY_TOO - 1 } else { unit.max };
                Field { values: (unit.min..=max).collect(), is_every: true, has_star: true }
            }
        }
    }
}

fn part_of(unit: Unit, part: &str) -> Result<Vec<u32>, String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step_of(unit, part, step)?)),
        None => (part, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (unit.min, if unit == WEEKDAY { SUNDAY_TOO - 1 } else { unit.max }),
        Some((from, to)) => {
            let (from, to) = (value(unit, from)?, value(unit, to)?);
            // Sunday ends a range as 7: `Sat-Sun` is a weekend.
            (from, if unit == WEEKDAY && to == 0 && from > 0 { SUNDAY_TOO } else { to })
        }
        None if step.is_some() => {
            return Err(format!("`{part}`: a step follows a range, as in `*/10` or `{range}-{}/10`", unit.max));
        }
        None => {
            let one = value(unit, range)?;
            (one, one)
        }
    };
    if from > to {
        return Err(format!("`{part}` ends before it begins; write two ranges with a comma between them"));
    }
    Ok((from..=to).step_by(step.unwrap_or(1)).collect())
}

fn step_of(unit: Unit, part: &str, step: &str) -> Result<usize, String> {
    let number = digits(step).filter(|step| (1..=unit.max).contains(step));
    let number = number.and_then(|step| usize::try_from(step).ok());
    number.ok_or_else(|| format!("`{part}`: `{step}` is no step of a {}", unit.name))
}

fn value(unit: Unit, text: &str) -> Result<u32, String> {
    let named = unit.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|place| u32::try_from(place).ok()).map(|place| place + unit.min);
    let number = named.or_else(|| digits(text)).filter(|value| (unit.min..=unit.max).contains(value));
    number.ok_or_else(|| format!("`{text}` is no {}, which is one of {}-{}", unit.name, unit.min, unit.max))
}

/// A number without sign.
fn digits(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
