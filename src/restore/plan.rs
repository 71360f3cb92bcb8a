//! The restore plan: the ordered steps of a system, as `restore/<profile>.toml` says them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{SourceKind, SourceName, SourcePattern};
use crate::error::{Class, Explain};

/// The format of a plan.
const FORMAT: u32 = 1;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Loads a database beside the one that stands there, proves it, swaps it in.
    Database,
    /// Puts the files of an export in their places, keeping those they replace.
    Files,
    /// Checks that the mirrored bucket holds every object of the point.
    BucketCheck,
}

impl StepKind {
    /// Whether what the step restores lies beside what stands there until it is swapped in, or replaces it at once.
    pub fn placing(self) -> Placing {
        match self {
            StepKind::Database | StepKind::BucketCheck => Placing::Beside,
            StepKind::Files => Placing::InPlace,
        }
    }

    fn takes(self) -> SourceKind {
        match self {
            StepKind::Database => SourceKind::Database,
            StepKind::Files => SourceKind::Export,
            StepKind::BucketCheck => SourceKind::Bucket,
        }
    }
}

/// Where a step puts what it restores, until everything is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Beside what stands there, which is not touched: done and proven first.
    Beside,
    /// In its place, the original kept: only when all that lies beside was found equal.
    InPlace,
}

impl Placing {
    /// The step passed when everything of the kind is loaded.
    pub fn failpoint(self) -> &'static str {
        match self {
            Placing::Beside => "restore.loaded",
            Placing::InPlace => "restore.placed",
        }
    }
}

/// One step for one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The step's id in the plan.
    pub id: String,
    /// What it does.
    pub kind: StepKind,
    /// What it restores.
    pub source: SourceName,
}

impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.source)
    }
}

/// A plan that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("restore plan of profile `{profile}`: {what}")]
pub struct PlanError {
    profile: String,
    what: String,
}

impl Explain for PlanError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some("restore/README.md explains every key of a plan.".to_owned())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    format: u32,
    #[serde(rename = "description")]
    _description: String,
    steps: Vec<StepAsWritten>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepAsWritten {
    id: String,
    kind: StepKind,
    sources: Vec<String>,
}

/// The steps of the plan `text` for the sources of a point, in the plan's order.
///
/// # Errors
/// When the plan cannot be read, a step cannot take its source, or a source is restored by no step or by two.
pub fn steps(profile: &str, text: &str, sources: &[SourceName]) -> Result<Vec<PlannedStep>, PlanError> {
    let wrong = |what: String| PlanError { profile: profile.to_owned(), what };
    let plan: PlanFile = toml::from_str(text).map_err(|e| wrong(e.message().to_owned()))?;
    if plan.format != FORMAT {
        return Err(wrong(format!("its format {} is not supported by this release", plan.format)));
    }
    let mut planned: Vec<PlannedStep> = Vec::new();
    for step in plan.steps {
        if planned.iter().any(|earlier| earlier.id == step.id) {
            return Err(wrong(format!("two steps have the id `{}`", step.id)));
        }
        for text in &step.sources {
            let pattern = SourcePattern::parse(text);
            let pattern = pattern.ok_or_else(|| wrong(format!("step `{}`: `{text}` is not a source", step.id)))?;
            for source in sources.iter().filter(|source| pattern.matches(source)) {
                if source.kind != step.kind.takes() {
                    return Err(wrong(format!("step `{}` cannot take {source}", step.id)));
                }
                if let Some(twice) = planned.iter().find(|earlier| earlier.source == *source) {
                    return Err(wrong(format!("{source} is restored by two steps, `{}` and `{}`", twice.id, step.id)));
                }
                planned.push(PlannedStep { id: step.id.clone(), kind: step.kind, source: source.clone() });
            }
        }
    }
    match sources.iter().find(|source| planned.iter().all(|step| step.source != **source)) {
        Some(forgotten) => Err(wrong(format!("no step restores {forgotten}"))),
        None => Ok(planned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<SourceName> {
        ["export.configs", "database.app", "bucket.artifacts"].map(|text| text.parse().unwrap()).into()
    }

    #[test]
    fn the_built_in_plan_restores_everything_in_its_order() {
        let text = include_str!("../../restore/minimal.toml");
        let steps = steps("minimal", text, &sources()).unwrap();
        let shown: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["artifacts/bucket.artifacts", "database/database.app", "files/export.configs"]);
    }

    #[test]
    fn a_wrong_plan_says_what_is_wrong() {
        let check = |steps_toml: &str, expected: &str| {
            let text = format!("format = 1\ndescription = \"\"\n{steps_toml}");
            assert_eq!(steps("p", &text, &sources()).unwrap_err().what, expected);
        };
        let step = |id: &str, kind: &str, source: &str| {
            format!("[[steps]]\nid = \"{id}\"\nkind = \"{kind}\"\nsources = [\"{source}\"]\n")
        };
        check(&step("a", "database", "database.*"), "no step restores export.configs");
        check(&step("a", "database", "bucket.*"), "step `a` cannot take bucket.artifacts");
        check(&(step("a", "files", "export.*") + &step("a", "files", "export.*")), "two steps have the id `a`");
        check(&(step("a", "files", "export.*") + &step("b", "files", "export.configs")), {
            "export.configs is restored by two steps, `a` and `b`"
        });
        check(&step("a", "files", "nonsense"), "step `a`: `nonsense` is not a source");
        check(&step("a", "dance", "export.*"), {
            "unknown variant `dance`, expected one of `database`, `files`, `bucket-check`"
        });
    }
}
