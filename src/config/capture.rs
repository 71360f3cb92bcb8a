//! How the live site captures.

use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place};
use crate::units::Bytes;

const WORKERS_MAX: usize = 64;

/// A twentieth of what PostgreSQL lets pass before it vacuums at any price (`autovacuum_freeze_max_age`). At 1,000 writing
/// transactions a second it is nearly three hours; a registry writes so many in days.
pub const XMIN_AGE_MAX: u64 = 10_000_000;
/// Half of the numbers there are; a server that has used those up takes no more writes.
const XMIN_AGE_MAX_MAX: u64 = 1_000_000_000;

/// Less would be a capture that never ends.
const RATE_MIN: Bytes = Bytes(64 << 10);

/// How finely streams are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkSize {
    /// As it suits the size of the databases when an epoch is opened.
    Auto,
    /// 2 KiB on average.
    Fine,
    /// 4 KiB on average.
    Small,
    /// 16 KiB on average.
    Large,
}

/// How the live site captures.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Tables copied at once.
    pub workers: usize,
    /// How finely new epochs are cut.
    pub chunks: ChunkSize,
    /// A database's snapshot may keep vacuum from so many transactions; then its capture ends.
    pub xmin_age_max: u64,
}

pub(super) fn capture(place: &Place, raw: raw::Capture) -> Result<CaptureConfig, ConfigError> {
    let workers = match &raw.workers {
        None => std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
        Some(workers) => in_range(place, "workers", workers, 1, WORKERS_MAX)?,
    };
    let xmin_age_max = match &raw.xmin_age_max {
        None => XMIN_AGE_MAX,
        Some(age) => in_range(place, "xmin_age_max", age, 1, XMIN_AGE_MAX_MAX)?,
    };
    let chunks = match &raw.chunks {
        None => ChunkSize::Auto,
        Some(word) => match word.get_ref().as_str() {
            "auto" => ChunkSize::Auto,
            "fine" => ChunkSize::Fine,
            "small" => ChunkSize::Small,
            "large" => ChunkSize::Large,
            other => {
                let hint = "Write \"auto\", \"fine\", \"small\" or \"large\".";
                return Err(place.error(Some(word.span().start), format!("`chunks` is `{other}`"), hint));
            }
        },
    };
    Ok(CaptureConfig { workers, chunks, xmin_age_max })
}

fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    place: &Place,
    key: &str,
    number: &Spanned<T>,
    from: T,
    to: T,
) -> Result<T, ConfigError> {
    let value = *number.get_ref();
    if (from..=to).contains(&value) {
        return Ok(value);
    }
    let at = Some(number.span().start);
    Err(place.error(at, format!("`{key}` is {value}"), &format!("Use a number from {from} to {to}.")))
}

/// Bytes a second, from the configuration or the command line.
///
/// # Errors
/// In words, when it is no size or too small.
pub fn rate(text: &str) -> Result<Bytes, String> {
    let rate: Bytes = text.parse().map_err(|e: crate::units::UnitError| e.to_string())?;
    if rate < RATE_MIN { Err(format!("`{text}` a second is less than {RATE_MIN}")) } else { Ok(rate) }
}

pub(super) fn rate_of(
    place: &Place,
    section: &str,
    text: Option<&Spanned<String>>,
) -> Result<Option<Bytes>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |what| {
        let what = format!("`rate` under [{section}]: {what}");
        place.error(Some(text.span().start), what, "Write the bytes a second, like rate = \"50MiB\".")
    };
    rate(text.get_ref()).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<CaptureConfig, ConfigError> {
        let place = Place { path: Path::new("w.toml"), text };
        capture(&place, toml::from_str(text).map_err(|e| place.toml_error(&e))?)
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let config = read("").unwrap();
        assert!((2..=8).contains(&config.workers) && config.chunks == ChunkSize::Auto);
        assert_eq!(config.xmin_age_max, XMIN_AGE_MAX);
        assert_eq!(read("chunks = 'fine'").unwrap().chunks, ChunkSize::Fine);
        assert_eq!(read("xmin_age_max = 5000000").unwrap().xmin_age_max, 5_000_000);
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err().to_string(), expected);
        check("workers = 65", "w.toml:1: `workers` is 65");
        check("workers = 2\nxmin_age_max = 0", "w.toml:2: `xmin_age_max` is 0");
        check("xmin_age_max = 2000000000", "w.toml:1: `xmin_age_max` is 2000000000");
        check("chunks = \"tiny\"", "w.toml:1: `chunks` is `tiny`");
    }

    #[test]
    fn a_rate_is_a_size_and_no_trickle() {
        assert_eq!(rate("50MiB"), Ok(Bytes(50 << 20)));
        assert_eq!(rate("1000"), Err("`1000` a second is less than 64.0 KiB".to_owned()));
        assert!(rate("50MiB/s").unwrap_err().starts_with("`50MiB/s` is not a size"));
    }
}
