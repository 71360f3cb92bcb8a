//! Units as people write them: sizes (`64MiB`) and durations (`15m`), parsed at the edge and typed inside.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Written as `512`, `16KiB`, `64MiB`, `2GiB`, `1TiB`, or with the decimal `kB`, `MB`, `GB`, `TB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A unit that could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}; write it like {example}")]
pub struct UnitError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { text: text.to_owned(), kind: "size", example: "\"64MiB\"" };
        let (digits, factor) =
            BYTE_UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1));
        let number: u64 = digits.trim_end().parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    /// One decimal, binary units: `3.3 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match named.iter().find(|(_, factor)| self.0 >= *factor) {
            None => write!(f, "{} B", self.0),
            Some((unit, factor)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*factor);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
    }
}

/// A length of time. Written as `90s`, `15m`, `36h`, `7d`, or a sum such as `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { text: text.to_owned(), kind: "duration", example: "\"15m\"" };
        let mut seconds: u64 = 0;
        let mut rest = text;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (digits, tail) = rest.split_at(end);
            let mut units = tail.chars();
            let factor = match units.next() {
                Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3_600,
                Some('d') => 86_400,
                _ => return Err(wrong()),
            };
            let number: u64 = digits.parse().map_err(|_| wrong())?;
            let part = number.checked_mul(factor).ok_or_else(wrong)?;
            seconds = seconds.checked_add(part).ok_or_else(wrong)?;
            rest = units.as_str();
        }
        Ok(Span(Duration::from_secs(seconds)))
    }
}

impl fmt::Display for Span {
    /// Two leading units at most; below a minute with one decimal: `1h 05m`, `2m 03s`, `4.2 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{}.{} s", seconds, self.0.subsec_millis() / 100),
            60..3_600 => write!(f, "{}m {:02}s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
        }
    }
}

/// A share of a whole, in whole percent. Written as `30%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { text: text.to_owned(), kind: "share of 0% to 100%", example: "\"30%\"" };
        let number: u8 = text.strip_suffix('%').ok_or_else(wrong)?.trim_end().parse().map_err(|_| wrong())?;
        (number <= 100).then_some(Percent(number)).ok_or_else(wrong)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Percent {
    /// Whether `part` is more than this share of `whole`.
    pub fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 100 > u128::from(whole) * u128::from(self.0)
    }
}

/// The text forms are the stored forms too.
macro_rules! text_serde {
    ($type:ty, |$value:ident| $text:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                serializer.collect_str(&$text)
            }
        }
    };
}

text_serde!(Bytes, |value| value.0);
text_serde!(Percent, |value| value);
text_serde!(Span, |value| format_args!("{}s", value.0.as_secs()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        let check = |text: &str, bytes: Option<u64>| {
            assert_eq!(text.parse::<Bytes>().ok().map(|b| b.0), bytes, "{text}");
        };
        check("512", Some(512));
        check("16KiB", Some(16 << 10));
        check("64 MiB", Some(64 << 20));
        check("5GB", Some(5_000_000_000));
        check("7B", Some(7));
        check("", None);
        check("MiB", None);
        check("-1", None);
        check("99999999999TiB", None);
    }

    #[test]
    fn durations_as_people_write_them() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(text.parse::<Span>().ok().map(|s| s.0.as_secs()), seconds, "{text}");
        };
        check("90s", Some(90));
        check("1h30m", Some(5_400));
        check("7d", Some(604_800));
        check("", None);
        check("15", None);
        check("m", None);
        check("15 minutes", None);
    }

    #[test]
    fn shares_as_people_write_them() {
        let check = |text: &str, percent: Option<u8>| {
            assert_eq!(text.parse::<Percent>().ok().map(|share| share.0), percent, "{text}");
        };
        check("30%", Some(30));
        check("0%", Some(0));
        check("100 %", Some(100));
        check("101%", None);
        check("30", None);
        check("-1%", None);
        assert!(Percent(30).is_exceeded(31, 100) && !Percent(30).is_exceeded(30, 100));
        assert!(!Percent(100).is_exceeded(u64::MAX, u64::MAX) && !Percent(0).is_exceeded(0, 0));
    }

    #[test]
    fn printed_short_enough_for_a_table() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(3_461_000).to_string(), "3.3 MiB");
        assert_eq!(Span(Duration::from_millis(4_250)).to_string(), "4.2 s");
        assert_eq!(Span(Duration::from_secs(3_900)).to_string(), "1h 05m");
    }
}
