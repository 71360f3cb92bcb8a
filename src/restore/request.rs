//! What an operator asks of a restore.

use serde::{Deserialize, Serialize};

/// What is asked of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The point, as typed; the newest when absent.
    pub point: Option<String>,
    /// These sources only.
    pub only: Vec<String>,
    /// A scratch place: the name of a new database, or a folder.
    pub into: Option<String>,
    /// The name of the live site, typed by a person who means to replace live data.
    pub on_live: Option<String>,
    /// Replace what is newer or foreign.
    pub replace: bool,
    /// The live site goes on meanwhile: what it has changed since in a bucket is no difference, if it is kept in the attic.
    #[serde(default)]
    pub rehearsal: bool,
    /// So many objects of its buckets may be missing, or others: what else is equal is put in place all the same. The proof says DIFFERENT.
    #[serde(default)]
    pub accept: u64,
}

impl RestoreRequest {
    /// Whether `other` asks for the same data in the same place; what it may replace is asked anew each time.
    pub(super) fn is_of(&self, other: &RestoreRequest) -> bool {
        (&self.point, &self.only, &self.into) == (&other.point, &other.only, &other.into)
    }
}
