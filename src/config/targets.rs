//! How old a recovery point, a proof and a word of the other site may be.
//!
//! The profile says it in its schedule file; the configuration may say otherwise, key by key.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use super::SourceName;
use super::as_written as raw;
use super::error::{ConfigError, Place};
use crate::units::Span;

/// How old things may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetsConfig {
    /// The newest recovery point.
    pub point: Duration,
    /// The newest recovery point that a restore has proven equal.
    pub proven: Duration,
    /// The last word of the other site.
    pub silent: Duration,
    /// What holds for single sources instead.
    sources: BTreeMap<SourceName, SourceTargets>,
}

/// What one source has instead, where it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SourceTargets {
    point: Option<Duration>,
    proven: Option<Duration>,
}

/// How old the points of one source may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetsOf {
    /// Its newest point.
    pub point: Duration,
    /// Its newest point that a restore has proven equal.
    pub proven: Duration,
}

impl Default for TargetsConfig {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        TargetsConfig { point: hours(2), proven: hours(26), silent: hours(1), sources: BTreeMap::new() }
    }
}

/// What is wrong with a target, and at which byte of the file.
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) what: String,
}

impl TargetsConfig {
    /// The targets of one source.
    pub fn of(&self, source: &SourceName) -> TargetsOf {
        let own = self.sources.get(source).copied().unwrap_or_default();
        TargetsOf { point: own.point.unwrap_or(self.point), proven: own.proven.unwrap_or(self.proven) }
    }

    /// The shortest target of all.
    pub fn shortest(&self) -> Duration {
        let own = self.sources.values().flat_map(|own| [own.point, own.proven]).flatten();
        own.chain([self.point, self.proven, self.silent]).min().unwrap_or(self.point)
    }

    /// The same, but with what `raw` says.
    pub(super) fn with(mut self, raw: &raw::Targets) -> Result<Self, Wrong> {
        self.point = span("point", raw.point.as_ref())?.unwrap_or(self.point);
        self.proven = span("proven", raw.proven.as_ref())?.unwrap_or(self.proven);
        self.silent = span("silent", raw.silent.as_ref())?.unwrap_or(self.silent);
        for (name, of) in &raw.sources {
            let source: SourceName = name.get_ref().parse().map_err(|_| Wrong {
                at: name.span().start,
                what: format!(
                    "`{}` under [targets.sources] is no source (database.app, bucket.artifacts)",
                    name.get_ref()
                ),
            })?;
            let own = self.sources.entry(source).or_default();
            own.point = span("point", of.point.as_ref())?.or(own.point);
            own.proven = span("proven", of.proven.as_ref())?.or(own.proven);
        }
        Ok(self)
    }
}

fn span(key: &str, text: Option<&Spanned<String>>) -> Result<Option<Duration>, Wrong> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |why: String| Wrong { at: text.span().start, what: format!("`{key}` under [targets]: {why}") };
    match text.get_ref().parse::<Span>() {
        Ok(Span(Duration::ZERO)) => Err(wrong("nothing is ever no older than that".to_owned())),
        Ok(Span(span)) => Ok(Some(span)),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The profile's targets, with what the configuration says instead.
pub(super) fn targets(
    place: &Place,
    profile: &TargetsConfig,
    raw: Option<&raw::Targets>,
    known: &[SourceName],
) -> Result<TargetsConfig, ConfigError> {
    let Some(raw) = raw else { return Ok(profile.clone()) };
    let next = "Write spans like \"2h\"; docs/CONFIGURATION.md shows each target.";
    let targets = profile.clone().with(raw).map_err(|wrong| place.error(Some(wrong.at), wrong.what, next))?;
    for name in raw.sources.keys() {
        if !known.iter().any(|source| source.to_string() == *name.get_ref()) {
            let what = format!("[targets.sources] names `{}`, which no recovery point has", name.get_ref());
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            return Err(place.error(Some(name.span().start), what, &format!("The sources are {}.", names.join(", "))));
        }
    }
    Ok(targets)
}

/// The defaults, with what `text` says instead.
#[cfg(test)]
pub(crate) fn targets_of(text: &str) -> TargetsConfig {
    let raw: raw::Targets = toml::from_str(text).unwrap();
    TargetsConfig::default().with(&raw).map_err(|wrong| wrong.what).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TargetsConfig, String> {
        let place = Place { path: "w.toml".as_ref(), text };
        let raw: raw::Targets = toml::from_str(text).map_err(|error| place.toml_error(&error).to_string())?;
        let known = ["database.app".parse().unwrap(), "export.configs".parse().unwrap()];
        targets(&place, &TargetsConfig::default(), Some(&raw), &known)
            .map_err(|error| format!("{error}\n{}", error.next))
    }

    #[test]
    fn a_source_has_the_systems_targets_unless_it_has_its_own() {
        let targets = read("point = \"90m\"\n[sources.\"export.configs\"]\npoint = \"2d\"\n").unwrap();
        let of = |source: &str| targets.of(&source.parse().unwrap());
        let hours = |of: TargetsOf| (of.point.as_secs() / 60, of.proven.as_secs() / 60);
        assert_eq!((hours(of("database.app")), hours(of("export.configs"))), ((90, 26 * 60), (48 * 60, 26 * 60)));
        assert_eq!(targets.silent, TargetsConfig::default().silent);
    }

    #[test]
    fn a_target_that_cannot_be_meant_is_said_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), expected);
        let next = "Write spans like \"2h\"; docs/CONFIGURATION.md shows each target.";
        check(
            "\nproven = \"daily\"",
            &format!("w.toml:2: `proven` under [targets]: `daily` is not a duration; write it like \"15m\"\n{next}"),
        );
        check(
            "point = \"0s\"",
            &format!("w.toml:1: `point` under [targets]: nothing is ever no older than that\n{next}"),
        );
        check("[sources.\"database.ap\"]\npoint = \"1h\"", {
            "w.toml:1: [targets.sources] names `database.ap`, which no recovery point has\n\
             The sources are database.app, export.configs."
        });
        check(
            "[sources.app]\npoint = \"1h\"",
            &format!("w.toml:1: `app` under [targets.sources] is no source (database.app, bucket.artifacts)\n{next}"),
        );
    }
}
