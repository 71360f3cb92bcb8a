//! How long recovery points are kept: the rules as a person writes them, with their defaults.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place};
use crate::units::{Percent, Span};

/// A floor below this protects nobody who looks once a day.
const WITHIN_MIN: Duration = Duration::from_secs(86_400);

/// Which recovery points stay, and how much one pass of the keeper may remove.
///
/// A count is of periods that have points, the newest first, not of periods back from now: a site that took no
/// points for a year loses none by waiting. Each rule keeps the newest point of a period, and its newest proven one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Every point at most this much older than the newest stays.
    pub within: Duration,
    /// Hours of which a point stays.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks, beginning on Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
    /// The largest share of the points, or of the packs' bytes, that one pass may remove.
    pub share_max: Percent,
    /// For so long an object must be gone from the points before the keeper hides it at the spare.
    pub hide_after: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        RetentionConfig {
            within: Duration::from_secs(3 * 86_400),
            hourly: 48,
            daily: 14,
            weekly: 8,
            monthly: 12,
            yearly: 3,
            share_max: Percent(50),
            hide_after: Duration::from_secs(86_400),
        }
    }
}

pub(super) fn retention(place: &Place, raw: raw::Retention) -> Result<RetentionConfig, ConfigError> {
    let default = RetentionConfig::default();
    let within = match &raw.within {
        None => default.within,
        Some(text) => match parsed::<Span>(place, "within", text)?.0 {
            short if short < WITHIN_MIN => {
                let at = Some(text.span().start);
                let what = format!("`within` is `{}`, less than a day", text.get_ref());
                return Err(place.error(at, what, "Write at least \"1d\": points that new are what a restore wants."));
            }
            within => within,
        },
    };
    let share_max = match &raw.share_max {
        None => default.share_max,
        Some(text) => parsed(place, "share_max", text)?,
    };
    let hide_after = raw.hide_after.as_ref().map(|text| parsed::<Span>(place, "hide_after", text)).transpose()?;
    Ok(RetentionConfig {
        hide_after: hide_after.map_or(default.hide_after, |span| span.0),
        within,
        hourly: raw.hourly.unwrap_or(default.hourly),
        daily: raw.daily.unwrap_or(default.daily),
        weekly: raw.weekly.unwrap_or(default.weekly),
        monthly: raw.monthly.unwrap_or(default.monthly),
        yearly: raw.yearly.unwrap_or(default.yearly),
        share_max,
    })
}

fn parsed<T: FromStr<Err: Display>>(place: &Place, key: &str, text: &Spanned<String>) -> Result<T, ConfigError> {
    let at = Some(text.span().start);
    let wrong = |e: T::Err| place.error(at, format!("`{key}`: {e}"), "docs/CONFIGURATION.md shows how it is written.");
    text.get_ref().parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<RetentionConfig, ConfigError> {
        let place = Place { path: Path::new("w.toml"), text };
        retention(&place, toml::from_str(text).map_err(|e| place.toml_error(&e))?)
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        assert_eq!(read("").unwrap(), RetentionConfig::default());
        let read = read("within = \"36h\"\nhourly = 0\nshare_max = \"10%\"").unwrap();
        assert_eq!((read.within.as_secs(), read.hourly, read.share_max), (129_600, 0, Percent(10)));
        assert_eq!(read.yearly, RetentionConfig::default().yearly);
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_said_with_its_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        };
        check("within = \"2h\"", "w.toml:1: `within` is `2h`, less than a day");
        check("daily = 7\nshare_max = \"half\"", {
            "w.toml:2: `share_max`: `half` is not a share of 0% to 100%; write it like \"30%\""
        });
        check("\nminutely = 3", "w.toml:2: unknown key `minutely`");
    }
}
