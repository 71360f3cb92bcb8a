//! A profile: what a recovery point of a kind of system consists of, and the plan by which it comes back.
//!
//! Built in are the files of `schedules/` and `restore/`; a profile written with a slash is a folder of the
//! operator's own that holds `schedule.toml` and `restore.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::as_written as raw;
use super::digest::{DigestRule, KeyPattern};
use super::jobs::jobs_of;
use super::source_name::{SourceKind, SourceName};
use super::targets::TargetsConfig;

/// The format both files are written in.
const FORMAT: u32 = 1;

/// The built-in profiles: name, schedule, plan.
const BUILT_IN: [(&str, &str, &str); 1] =
    [("minimal", include_str!("../../schedules/minimal.toml"), include_str!("../../restore/minimal.toml"))];

/// What is captured, and the text of the plan by which it is restored.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name or folder.
    pub name: String,
    /// What a recovery point consists of.
    pub sources: Vec<SourcePattern>,
    /// How the application knows the objects of its buckets: by the bucket's name, or `*` for all others.
    digests: BTreeMap<String, DigestRule>,
    /// The jobs as written: the configuration may change them before they are a schedule.
    pub(super) jobs: BTreeMap<String, raw::Job>,
    /// How old things may be, unless the configuration says otherwise.
    pub targets: TargetsConfig,
    /// The restore plan as written; the restore room reads it.
    pub plan: String,
}

/// `database.builder`, or `database.*` for every database the sites name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePattern {
    kind: SourceKind,
    name: Option<String>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No profile of that name is built in.
    #[error("no profile `{name}` is built in (there is: {known})")]
    Unknown {
        /// The name.
        name: String,
        /// Those that are.
        known: String,
    },
    /// A file of it cannot be read or understood.
    #[error("profile {file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    format: u32,
    #[serde(rename = "description")]
    _description: String,
    point: Point,
    #[serde(default)]
    digests: BTreeMap<String, Digests>,
    #[serde(default)]
    jobs: BTreeMap<String, raw::Job>,
    #[serde(default)]
    targets: raw::Targets,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    sources: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    algorithm: String,
    keys: Option<String>,
}

impl Digests {
    fn rule(&self) -> Result<DigestRule, String> {
        let keys = self.keys.as_deref().map(KeyPattern::parse).transpose()?;
        Ok(DigestRule { algorithm: self.algorithm.parse()?, keys })
    }
}

impl SourcePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('.') {
            Some((kind, "*")) => {
                let kind = SourceKind::ALL.into_iter().find(|k| k.as_str() == kind)?;
                Some(SourcePattern { kind, name: None })
            }
            _ => {
                let source: SourceName = text.parse().ok()?;
                Some(SourcePattern { kind: source.kind, name: Some(source.name) })
            }
        }
    }

    /// Whether `source` is meant.
    pub fn matches(&self, source: &SourceName) -> bool {
        self.kind == source.kind && self.name.as_ref().is_none_or(|name| *name == source.name)
    }
}

impl Profile {
    /// The profile called `name`; a name with a slash is a folder.
    ///
    /// # Errors
    /// When there is no such profile, or its schedule cannot be understood.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        if name.contains('/') {
            let read = |file: &str| {
                let path = Path::new(name).join(file);
                let shown = path.display().to_string();
                let text = std::fs::read_to_string(&path);
                text.map(|text| (shown.clone(), text))
                    .map_err(|e| ProfileError::File { file: shown, what: e.to_string() })
            };
            let ((file, schedule), (_, plan)) = (read("schedule.toml")?, read("restore.toml")?);
            return Profile::parse(name, &file, &schedule, plan);
        }
        let known = || BUILT_IN.map(|(name, _, _)| name).join(", ");
        let found = BUILT_IN.iter().find(|(built_in, _, _)| *built_in == name);
        let (_, schedule, plan) =
            found.ok_or_else(|| ProfileError::Unknown { name: name.to_owned(), known: known() })?;
        Profile::parse(name, &format!("schedules/{name}.toml"), schedule, (*plan).to_owned())
    }

    fn parse(name: &str, file: &str, schedule: &str, plan: String) -> Result<Self, ProfileError> {
        let wrong = |what: String| ProfileError::File { file: file.to_owned(), what };
        let schedule: ScheduleFile = toml::from_str(schedule).map_err(|e| wrong(e.message().to_owned()))?;
        if schedule.format != FORMAT {
            return Err(wrong(format!("its format {} is not supported by this release", schedule.format)));
        }
        let parse = |text: &String| {
            SourcePattern::parse(text)
                .ok_or_else(|| wrong(format!("`{text}` is not a source (database.*, bucket.artifacts)")))
        };
        let sources = schedule.point.sources.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let rule = |(bucket, written): (String, Digests)| {
            let rule = written.rule().map_err(|why| wrong(format!("digests.{bucket}: {why}")))?;
            Ok((bucket, rule))
        };
        let digests = schedule.digests.into_iter().map(rule).collect::<Result<_, ProfileError>>()?;
        jobs_of("", &schedule.jobs).map_err(|error| wrong(format!("{}. {}", error.what, error.next)))?;
        let targets = TargetsConfig::default().with(&schedule.targets).map_err(|error| wrong(error.what))?;
        let jobs = schedule.jobs;
        Ok(Profile { name: name.to_owned(), sources, digests, jobs, targets, plan })
    }

    /// Whether a recovery point has a snapshot of `source`.
    pub fn captures(&self, source: &SourceName) -> bool {
        self.sources.iter().any(|pattern| pattern.matches(source))
    }

    /// How the application knows the objects of the bucket of that name, if the profile says.
    pub fn digest_of(&self, bucket: &str) -> Option<&DigestRule> {
        self.digests.get(bucket).or_else(|| self.digests.get("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_understood() {
        for (name, _, _) in BUILT_IN {
            let profile = Profile::load(name).unwrap();
            assert!(profile.captures(&"database.any".parse().unwrap()), "{name}");
        }
        assert!(matches!(Profile::load("nonesuch"), Err(ProfileError::Unknown { .. })));
    }

    #[test]
    fn a_folder_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let schedule = "format = 1\ndescription = \"x\"\n[point]\nsources = [\"bucket.b\"]\n";
        std::fs::write(folder.path().join("schedule.toml"), schedule).unwrap();
        let name = folder.path().to_str().unwrap();
        let error = Profile::load(name).unwrap_err().to_string();
        assert!(error.contains("restore.toml"), "{error}");
        std::fs::write(folder.path().join("restore.toml"), "").unwrap();
        let profile = Profile::load(name).unwrap();
        assert!(profile.captures(&"bucket.b".parse().unwrap()));
        assert!(!profile.captures(&"bucket.c".parse().unwrap()));
        let digests =
            "[digests.\"*\"]\nalgorithm = \"sha256\"\n[digests.b]\nalgorithm = \"md5\"\nkeys = \"{digest}\"\n";
        let profile = Profile::parse("x", "x", &format!("{schedule}{digests}"), String::new()).unwrap();
        let of = |bucket| profile.digest_of(bucket).map(|rule| rule.algorithm.as_str());
        assert_eq!((of("b"), of("other")), (Some("md5"), Some("sha256")));
        let wrong = format!("{schedule}{}", digests.replace("{digest}", "x"));
        let error = Profile::parse("x", "x", &wrong, String::new()).unwrap_err().to_string();
        assert!(error.contains("digests.b: `x` has to say once"), "{error}");
        let newer = schedule.replace("format = 1", "format = 2");
        assert!(Profile::parse("x", "x", &newer, String::new()).unwrap_err().to_string().contains("format 2"));
    }
}
