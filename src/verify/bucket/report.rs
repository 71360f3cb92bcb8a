//! What a look at a bucket came to.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::mirror::Fate;
use crate::verify::object::ObjectFault;

/// One object that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its key.
    pub key: String,
    /// In what it differs.
    pub what: ObjectFault,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing has been done about it at this site.
    Found,
    /// Likewise; it was written when the recovery point had been taken, or just before, by its store's clock: by a pass of the mirror since, or by
    /// somebody else.
    NewerThanPoint,
    /// The live site looked at it.
    Settled(Fate),
}

impl Outcome {
    /// Whether the spare has, by now, what is recorded of the object.
    pub fn is_well(&self) -> bool {
        matches!(self, Outcome::Settled(Fate::Mended | Fate::Sound))
    }

    /// As it is called before a fault that came to it.
    pub fn word(&self, awaits_next_point: bool) -> &'static str {
        match self {
            Outcome::Settled(Fate::Mended | Fate::Sound) => "MENDED",
            Outcome::NewerThanPoint if awaits_next_point => "NEWER",
            _ => "FAULT",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.key)?;
        match &self.what {
            ObjectFault::Missing => write!(f, "is missing")?,
            ObjectFault::NotCarried { why } => write!(f, "cannot be stored there: {why}")?,
            ObjectFault::Unreadable { why } => write!(f, "cannot be read: {why}")?,
            ObjectFault::Size { expected, found } => write!(f, "has {found} bytes instead of {expected}")?,
            ObjectFault::Content { .. } => write!(f, "has another content than was recorded")?,
        }
        match &self.outcome {
            Outcome::Found => Ok(()),
            Outcome::NewerThanPoint => write!(f, "; it was written since then"),
            Outcome::Settled(fate) => match fate {
                Fate::Sound => write!(f, "; looked at again, it is as recorded"),
                Fate::Mended => write!(f, "; copied again from the live site"),
                Fate::MissingAtSource => write!(f, "; the live site has it no more: what was recorded is lost"),
                Fate::ChangedAtSource => {
                    write!(
                        f,
                        "; the live site has a newer version, which the next capture brings: what was recorded is lost"
                    )
                }
                Fate::DamagedAtSource => {
                    write!(f, "; the live site's object looks unchanged and has another content than was recorded, too")
                }
                Fate::Failed { why } => write!(f, "; it could not be copied again: {why}"),
            },
        }
    }
}

/// What was looked at, and what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Objects that were looked for.
    pub objects: u64,
    /// Of those, read and hashed.
    pub reread: u64,
    /// The bytes of them.
    pub reread_bytes: u64,
    /// Objects that are not as recorded.
    pub faults: u64,
    /// Of those, the ones that are not there.
    pub missing: u64,
    /// Of the faults at the spare, written since the newest point: by a pass of the mirror for the next one, or by somebody else. The
    /// live site is told and can tell; the next run reads them again.
    #[serde(default)]
    pub newer: u64,
    /// Of an older point, overwritten or hidden since, and found whole in the attic or among the store's versions: no faults.
    #[serde(default)]
    pub kept: u64,
    /// Of the faults, looked at again and found as recorded.
    pub sound: u64,
    /// Of the faults, copied again.
    pub mended: u64,
    /// Of the faults, gone at the source, too.
    pub missing_at_source: u64,
    /// Of the faults, another version at the source.
    pub changed_at_source: u64,
    /// Of the faults, another content at the source in the version that was recorded.
    pub damaged_at_source: u64,
    /// Of the faults, not copied for another reason.
    pub failed: u64,
    /// Of the faults, named to the live site, whose next capture looks at them.
    pub told: u64,
}

impl Counts {
    pub(super) fn settle(&mut self, fate: &Fate) {
        let count = match fate {
            Fate::Sound => &mut self.sound,
            Fate::Mended => &mut self.mended,
            Fate::MissingAtSource => &mut self.missing_at_source,
            Fate::ChangedAtSource => &mut self.changed_at_source,
            Fate::DamagedAtSource => &mut self.damaged_at_source,
            Fate::Failed { .. } => &mut self.failed,
        };
        *count += 1;
    }

    /// How many objects are not as recorded by now, as far as this site can tell.
    pub fn wrong(&self) -> u64 {
        self.faults.saturating_sub(self.sound + self.mended + self.newer)
    }
}

/// What a look at one bucket came to.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketReport {
    /// The bucket looked at, as a person knows it.
    pub bucket: String,
    /// Against what: `manifest`, or `point 0-12`.
    pub against: String,
    /// How the other site comes to have its objects: `mirror`, `shared`, `external`.
    pub topology: &'static str,
    /// When the run began; one that was killed began before that.
    pub began: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// The key after which it went on, if it was stopped before.
    pub resumed_after: Option<String>,
    /// Of which share the content was read.
    pub share: String,
    /// Whether nothing was mended or remembered.
    pub dry_run: bool,
    /// How many of what.
    pub counts: Counts,
    /// The first thousand faults.
    pub faults: Vec<Fault>,
}
