//! What the mirror may take of the line and of the servers, by the time of day.

use std::str::FromStr;

use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place};
use super::validate::parsed;
use crate::units::Bytes;

/// Less would be a mirror that never ends.
const BYTES_MIN: u64 = 64 << 10;
const MINUTES_A_DAY: u16 = 24 * 60;

/// The limits in the order in which they were written: of those that hold at a time, the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    lines: Vec<Line>,
}

/// What may be taken in a second; as much as there is where it is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of content.
    pub bytes: Option<u64>,
    /// Requests, to both sides together.
    pub requests: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The first minute of the day, and the first after it that is not in it; all day when absent.
    between: Option<(u16, u16)>,
    limit: Limit,
}

impl Line {
    fn holds(&self, minute: u16) -> bool {
        match self.between {
            None => true,
            Some((from, to)) if from <= to => (from..to).contains(&minute),
            // Over midnight.
            Some((from, to)) => minute >= from || minute < to,
        }
    }
}

impl LimitsConfig {
    /// What holds at a time, given in seconds since 1970. Days are those of UTC.
    pub fn at(&self, second: i64) -> Limit {
        let minute = u16::try_from(second.rem_euclid(86_400) / 60).unwrap_or(0);
        let holding = || self.lines.iter().filter(|line| line.holds(minute)).map(|line| line.limit);
        Limit { bytes: holding().find_map(|limit| limit.bytes), requests: holding().find_map(|limit| limit.requests) }
    }

    /// Limits from lines as a person writes them.
    ///
    /// # Errors
    /// In words, of the first line that is none.
    pub fn parse(lines: &[&str]) -> Result<Self, String> {
        Ok(LimitsConfig { lines: lines.iter().map(|line| line.parse()).collect::<Result<_, _>>()? })
    }

    /// Whether nothing is limited at any time.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// How the mirror of each bucket goes about it.
#[derive(Clone, Debug, Default)]
pub struct MirrorConfig {
    /// What it may take.
    pub limits: LimitsConfig,
}

pub(super) fn mirror(place: &Place, raw: raw::Mirror) -> Result<MirrorConfig, ConfigError> {
    let next = "Write \"50 MiB/s\", \"200 requests/s\", or for a part of the day, in UTC, \"08:00-18:00 = 20 MiB/s, 100 requests/s\".";
    let line = |text: &Spanned<String>| parsed(place, "limits", text, next);
    Ok(MirrorConfig { limits: LimitsConfig { lines: raw.limits.iter().map(line).collect::<Result<_, _>>()? } })
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (between, limits) = match text.split_once('=') {
            Some((hours, limits)) => (Some(hours_of(hours.trim())?), limits),
            None => (None, text),
        };
        let mut limit = Limit::default();
        for one in limits.split(',').map(str::trim) {
            let amount = one.strip_suffix("/s").ok_or_else(|| format!("`{one}`, which is not so much a second"))?;
            let taken = match amount.strip_suffix("requests").or_else(|| amount.strip_suffix("request")) {
                Some(number) => limit.requests.replace(requests_of(number.trim())?),
                None => limit.bytes.replace(bytes_of(amount.trim())?),
            };
            if taken.is_some() {
                return Err(format!("`{text}`, which limits one thing twice"));
            }
        }
        Ok(Line { between, limit })
    }
}

fn bytes_of(text: &str) -> Result<u64, String> {
    let Bytes(bytes) = text.parse().map_err(|error: crate::units::UnitError| error.to_string())?;
    if bytes < BYTES_MIN { Err(format!("`{text}` a second, less than {}", Bytes(BYTES_MIN))) } else { Ok(bytes) }
}

fn requests_of(text: &str) -> Result<u64, String> {
    let requests = text.parse().ok().filter(|requests| *requests > 0);
    requests.ok_or_else(|| format!("`{text}` requests a second"))
}

fn hours_of(text: &str) -> Result<(u16, u16), String> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60).then_some(hour.checked_mul(60)? + minute).filter(|minute| *minute <= MINUTES_A_DAY)
    };
    let hours = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let apart = hours.filter(|(from, to)| from != to && *from < MINUTES_A_DAY);
    apart.ok_or_else(|| format!("`{text}`, which is no part of a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lines: &[&str], time: &str) -> (Option<u64>, Option<u64>) {
        let limits = LimitsConfig::parse(lines).unwrap();
        let (hour, minute) = time.split_once(':').unwrap();
        let second = hour.parse::<i64>().unwrap() * 3_600 + minute.parse::<i64>().unwrap() * 60 + 59;
        let limit = limits.at(1_767_225_600 + second);
        (limit.bytes.map(|bytes| bytes >> 20), limit.requests)
    }

    #[test]
    fn of_the_limits_that_hold_at_a_time_the_first_counts() {
        let lines = ["08:00-18:00 = 20 MiB/s", "22:30 - 04:00 = 200MiB/s, 900 requests/s", "50 MiB/s", "1 request/s"];
        assert_eq!(at(&lines, "07:59"), (Some(50), Some(1)));
        assert_eq!(at(&lines, "08:00"), (Some(20), Some(1)));
        assert_eq!(at(&lines, "17:59"), (Some(20), Some(1)));
        assert_eq!(at(&lines, "18:00"), (Some(50), Some(1)));
        assert_eq!(at(&lines, "22:30"), (Some(200), Some(900)));
        assert_eq!(at(&lines, "03:59"), (Some(200), Some(900)));
        assert_eq!(at(&["08:00-24:00 = 1MiB/s"], "23:59"), (Some(1), None));
        assert_eq!(at(&[], "12:00"), (None, None));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "20",
            "20 MiB",
            "MiB/s",
            "1 KiB/s",
            "0 requests/s",
            "x requests/s",
            "8-18 = 1 MiB/s",
            "08:00-08:00 = 1 MiB/s",
            "08:60-09:00 = 1 MiB/s",
            "24:00-01:00 = 1 MiB/s",
            "1 MiB/s, 2 MiB/s",
            "08:00-18:00 =",
        ] {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
    }
}
