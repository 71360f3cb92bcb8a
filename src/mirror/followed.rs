//! How many changes of a source the passes of its mirror have followed: a count that only grows, as a database's of its rows.
//!
//! It stands in the last line of the manifest, so that whoever opens that has the count which belongs to its rows, whatever pass is
//! under way. A recovery point records what it was, and the difference to what it is now is what passes have followed since: those of
//! a point, of `mirror run`, of captures that failed or were killed. Each object that was new, changed or gone counts in each pass that
//! found it so; one that changed twice between two passes counts once.

use serde::{Deserialize, Serialize};

/// Bytes of the name of a count.
const NAME_BYTES: usize = 8;

/// How many changes were followed since a count began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The count's name, of 16 hexadecimal digits. Another one has nothing to do with this: the mirror's memory was lost, or the roles
    /// were swapped.
    pub of: String,
    /// Objects found new, changed or gone.
    pub changes: u64,
}

impl Followed {
    /// A count that begins; `None` on a machine without random numbers, where nothing is counted.
    pub(super) fn begin() -> Option<Self> {
        let mut name = [0; NAME_BYTES];
        getrandom::fill(&mut name).ok()?;
        Some(Followed { of: name.iter().map(|byte| format!("{byte:02x}")).collect(), changes: 0 })
    }

    /// The same count, so many changes later.
    pub(super) fn and(self, changes: u64) -> Self {
        Followed { changes: self.changes.saturating_add(changes), ..self }
    }

    /// Changes since `earlier`; nothing where that is of another count, or a later one: then the state folder was put back.
    pub fn since(&self, earlier: &Followed) -> Option<u64> {
        (self.of == earlier.of).then(|| self.changes.checked_sub(earlier.changes))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_have_nothing_to_do_with_each_other_say_nothing() {
        let count = |of: &str, changes: u64| Followed { of: of.to_owned(), changes };
        assert_eq!(count("a", 12).since(&count("a", 5)), Some(7));
        assert_eq!(count("a", 12).since(&count("b", 5)), None, "the mirror's memory was lost");
        assert_eq!(count("a", 4).since(&count("a", 5)), None, "the state folder was put back");
        let (one, other) = (Followed::begin().unwrap(), Followed::begin().unwrap());
        assert_eq!(one.clone().and(3).since(&one), Some(3));
        assert_eq!(other.since(&one), None);
    }
}
