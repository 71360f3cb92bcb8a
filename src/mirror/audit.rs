//! The rolling audit: which of the objects that a listing shows unchanged are looked at all the same.
//!
//! A listing shows no tags, and some stores do not show changed headers either. So each pass looks at a share of the rows
//! by HEAD and tags, in the order of the keys, from where the pass before stopped. The share follows the time that went by:
//! all rows are looked at once in [`PERIOD`], however often passes run.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::MirrorError;
use crate::durable;

/// How long a round takes.
pub const PERIOD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is remembered from one pass to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    /// The key looked at last; absent at the beginning of a round.
    after: Option<String>,
    /// When the last pass began.
    at: Timestamp,
    /// How many rows that pass should have looked at and did not, because a round ended.
    owed: u64,
    /// How many rows it left.
    rows: u64,
}

/// The audit of one pass.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    after: Option<String>,
    at: Timestamp,
    /// How many rows are still to be looked at.
    left: u64,
    /// The last row that was taken, if any was.
    taken: Option<String>,
    /// Whether a row came after that.
    more: bool,
}

impl Audit {
    /// What a pass that begins `now` has to look at. A file that cannot be read begins a new round.
    pub(super) fn open(folder: &Path, now: Timestamp) -> Result<Self, MirrorError> {
        let path = folder.join("audit.json");
        let content = durable::read(&path).map_err(|source| MirrorError::State { path: path.clone(), source })?;
        let past: Option<StateFile> = match content.map(|content| serde_json::from_slice(&content)) {
            None => None,
            Some(Ok(past)) => Some(past),
            Some(Err(error)) => {
                tracing::warn!("{} is damaged; the audit begins anew: {error}", path.display());
                None
            }
        };
        let left = past.as_ref().map_or(0, |past| due(past, now));
        // Whose turn it is matters only if it is not everybody's.
        let after = past.filter(|past| left < past.rows).and_then(|past| past.after);
        Ok(Audit { path, after, at: now, left, taken: None, more: false })
    }

    /// Whether the row of `key` is to be looked at. Asked for every row that shows no change, in their order.
    pub(super) fn takes(&mut self, key: &str) -> bool {
        let passed = self.after.as_ref().is_some_and(|after| key <= after.as_str());
        if passed || self.left == 0 {
            self.more |= !passed;
            return false;
        }
        self.left -= 1;
        self.taken = Some(key.to_owned());
        true
    }

    /// Remembers where the next pass goes on, after this one left `rows` rows.
    pub(super) fn finish(self, rows: u64) -> Result<(), MirrorError> {
        let round_ended = self.left > 0 || (self.taken.is_some() && !self.more);
        let after = if round_ended { None } else { self.taken.or(self.after) };
        let state = StateFile { after, at: self.at, owed: self.left.min(rows), rows };
        let failed = |source: io::Error| MirrorError::State { path: self.path.clone(), source };
        let content = serde_json::to_vec(&state).map_err(|error| failed(error.into()))?;
        durable::replace(&self.path, &content).map_err(failed)?;
        crate::failpoint::hit("mirror.audit");
        Ok(())
    }
}

/// How many rows are due at `now`: the share of the period that went by, and what was owed; all of them at most. A clock
/// that was set back owes nothing.
fn due(past: &StateFile, now: Timestamp) -> u64 {
    let elapsed = u128::try_from(now.duration_since(past.at).as_millis()).unwrap_or(0);
    let period = u128::try_from(PERIOD.as_millis()).unwrap_or(u128::MAX).max(1);
    let share = u64::try_from((u128::from(past.rows) * elapsed).div_ceil(period)).unwrap_or(u64::MAX);
    share.saturating_add(past.owed).min(past.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a pass over `rows` keys `hours` after the one before; which it took.
    fn pass(folder: &Path, now: &mut Timestamp, hours: i64, rows: u64) -> Vec<String> {
        *now += SignedDuration::from_hours(hours);
        let mut audit = Audit::open(folder, *now).unwrap();
        let taken = (0..rows).map(|n| format!("{n:03}")).filter(|key| audit.takes(key)).collect();
        audit.finish(rows).unwrap();
        taken
    }

    #[test]
    fn every_row_is_looked_at_within_the_period_however_often_passes_run() {
        for hours in [5, 24, 100, 120, 168, 1_000] {
            let (folder, mut now) = (tempfile::tempdir().unwrap(), Timestamp::UNIX_EPOCH);
            assert_eq!(pass(folder.path(), &mut now, 0, 168), Vec::<String>::new());
            let mut looked: Vec<i64> = vec![0; 168];
            let mut at = 0;
            while at < 600 {
                at += hours;
                for key in pass(folder.path(), &mut now, hours, 168) {
                    let n: usize = key.parse().unwrap();
                    // A row may wait for the pass in which its turn comes, and for the one in which a round ends.
                    assert!(at - looked[n] <= 168 + 2 * hours, "{key} was not looked at from {} to {at}", looked[n]);
                    looked[n] = at;
                }
            }
            assert!(looked.iter().all(|last| at - last <= 168 + 2 * hours), "{hours}: {looked:?}");
        }
    }

    #[test]
    fn a_share_is_taken_from_where_the_last_pass_stopped() {
        let (folder, mut now) = (tempfile::tempdir().unwrap(), Timestamp::UNIX_EPOCH);
        pass(folder.path(), &mut now, 0, 168);
        assert_eq!(pass(folder.path(), &mut now, 2, 168), ["000", "001"]);
        assert_eq!(pass(folder.path(), &mut now, 1, 168), ["002"]);
        assert_eq!(pass(folder.path(), &mut now, 0, 168), Vec::<String>::new());
        assert_eq!(pass(folder.path(), &mut now, -5, 168), Vec::<String>::new(), "the clock was set back");
        assert_eq!(pass(folder.path(), &mut now, 167, 168).len(), 165, "the rest of the round");
        assert_eq!(pass(folder.path(), &mut now, 0, 168), ["000", "001"], "and what is owed of the next");
        assert_eq!(pass(folder.path(), &mut now, 10_000, 168).len(), 168, "all are due");
    }
}
