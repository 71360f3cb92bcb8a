//! A calendar line as operators write it: crontab(5) with an optional field of seconds before the five.
//!
//! Weekdays are 0 to 7, Sunday being 0 and 7. Where both the day of the month and the day of the week are given, a day of either
//! kind will do; a field with a `*` in it gives nothing.

use std::fmt;
use std::str::FromStr;

use super::calendar::Calendar;
use super::field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, Unit, WEEKDAY};

/// Longer than any line that a person can read.
const LINE_CHARS_MAX: usize = 200;

/// A calendar line.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    pub(super) calendar: Calendar,
    /// Whether it runs in every hour there is, and not at times of day.
    pub(super) is_every_hour: bool,
}

/// A line that says no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no calendar line: {what}")]
pub struct LineError {
    text: String,
    what: String,
}

/// What a line says, field by field.
pub(super) struct Fields {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day: Field,
    pub(super) month: Field,
    pub(super) weekday: Field,
}

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let wrong = |what: String| LineError { text: text.chars().take(LINE_CHARS_MAX).collect(), what };
        if text.len() > LINE_CHARS_MAX {
            return Err(wrong(format!("it is longer than {LINE_CHARS_MAX} characters")));
        }
        let fields = match text.trim().strip_prefix('@') {
            Some(word) => named(word),
            None => written(text),
        };
        let fields = fields.map_err(wrong)?;
        let is_every_hour = fields.hour.is_every;
        let calendar = Calendar::new(&fields).map_err(wrong)?;
        Ok(Line { text: text.trim().to_owned(), calendar, is_every_hour })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Line {}

fn written(text: &str) -> Result<Fields, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (second, minute, hour, day, month, weekday) = match words.as_slice() {
        [minute, hour, day, month, weekday] => (&"0", minute, hour, day, month, weekday),
        [second, minute, hour, day, month, weekday] => (second, minute, hour, day, month, weekday),
        words => {
            return Err(format!(
                "it has {} fields; write minute, hour, day of the month, month, day of the week",
                words.len()
            ));
        }
    };
    Ok(Fields {
        second: Field::parse(SECOND, second)?,
        minute: Field::parse(MINUTE, minute)?,
        hour: Field::parse(HOUR, hour)?,
        day: Field::parse(DAY, day)?,
        month: Field::parse(MONTH, month)?,
        weekday: Field::parse(WEEKDAY, weekday)?,
    })
}

/// `@daily` and its like.
fn named(word: &str) -> Result<Fields, String> {
    let (hour, day, month, weekday) = match word {
        "yearly" | "annually" => (Some(0), Some(1), Some(1), None),
        "monthly" => (Some(0), Some(1), None, None),
        "weekly" => (Some(0), None, None, Some(0)),
        "daily" | "midnight" => (Some(0), None, None, None),
        "hourly" => (None, None, None, None),
        "reboot" => return Err("nothing runs because a machine was started: what was missed is made up for".to_owned()),
        _ => return Err(format!("`@{word}` is none of @hourly, @daily, @weekly, @monthly, @yearly")),
    };
    let of = |unit: Unit, value| Field::of(unit, value);
    Ok(Fields {
        second: of(SECOND, Some(0)),
        minute: of(MINUTE, Some(0)),
        hour: of(HOUR, hour),
        day: of(DAY, day),
        month: of(MONTH, month),
        weekday: of(WEEKDAY, weekday),
    })
}
