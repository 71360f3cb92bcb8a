//! Whose turn it is: which share of the packs, and which streams, the next run reads.
//!
//! Remembered, and not taken from the calendar: a job that runs each Sunday would find the same share every time. A run takes up
//! where the one before it has ended, whenever it comes, and what that one found wrong is read again whoever's turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Share;
use crate::durable;
use crate::failpoint;
use crate::vault::VaultError;

/// The format of this file.
const FORMAT: u32 = 1;

/// What a site remembers of its scrubs: `vault/scrub.json` of the state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    format: u32,
    /// How many runs with each share have come to their end.
    shares: BTreeMap<String, u64>,
    /// The place of the next stream among those of the newest point.
    stream: u64,
    /// The keys of packs that were wrong when they were read last.
    suspects: BTreeSet<String>,
}

impl Default for Turns {
    /// Of a site that has never scrubbed.
    fn default() -> Self {
        Turns { format: FORMAT, shares: BTreeMap::new(), stream: 0, suspects: BTreeSet::new() }
    }
}

impl Turns {
    /// Reads what is kept in the folder `vault/` of the state folder. What is lost or damaged begins anew: with the first share.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(state: &Path) -> Result<Self, VaultError> {
        let path = path(state);
        let wrong = |what: String| VaultError::State { path: path.clone(), what };
        let Some(content) = durable::read(&path).map_err(|e| wrong(e.to_string()))? else {
            return Ok(Turns::default());
        };
        let what = match serde_json::from_slice::<Turns>(&content) {
            Ok(turns) if turns.format == FORMAT => return Ok(turns),
            Ok(turns) => format!("it has format {}, which this release does not know", turns.format),
            Err(error) => format!("it is damaged: {error}"),
        };
        tracing::warn!("{}: {what}; verify begins again with the first share", path.display());
        Ok(Turns::default())
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, state: &Path) -> Result<(), VaultError> {
        let path = path(state);
        let wrong = |what: String| VaultError::State { path: path.clone(), what };
        let content = serde_json::to_vec(self).map_err(|e| wrong(e.to_string()))?;
        durable::private_folder(state).map_err(|e| wrong(e.to_string()))?;
        durable::replace(&path, &content).map_err(|e| wrong(e.to_string()))?;
        failpoint::hit("vault.scrub.turns");
        Ok(())
    }

    /// Whether the pack called `name`, at `key`, is to be read by a run with this share.
    pub(super) fn has(&self, share: Share, name: &blake3::Hash, key: &str) -> bool {
        let turn = self.shares.get(&share.to_string()).copied().unwrap_or(0);
        share.has(name, turn) || self.suspects.contains(key)
    }

    /// The place of the first stream to be read, of `count`.
    pub(super) fn first_stream(&self, count: u64) -> u64 {
        self.stream.checked_rem(count).unwrap_or(0)
    }

    /// The packs of this share were read, and these were wrong.
    pub(super) fn packs_were_read(&mut self, share: Share, wrong: BTreeSet<String>) {
        self.suspects = wrong;
        // Of everything there is no next share.
        if !share.is_whole() {
            let turn = self.shares.entry(share.to_string()).or_default();
            *turn = turn.wrapping_add(1);
        }
    }

    /// Streams were read up to the one before this place.
    pub(super) fn streams_were_read(&mut self, next: u64) {
        self.stream = next;
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("scrub.json")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::schedule::Line;

    /// Runs at the times of a calendar line, each a process of its own; which of many packs they read, run by run.
    fn runs(state: &Path, line: &str, share: Share, count: usize) -> Vec<BTreeSet<u32>> {
        let line: Line = line.parse().unwrap();
        let mut at: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let mut read = Vec::new();
        for _ in 0..count {
            at = line.next(&TimeZone::UTC, at).unwrap();
            let mut turns = Turns::load(state).unwrap();
            let has = |n: &u32| turns.has(share, &blake3::hash(&n.to_le_bytes()), &n.to_string());
            read.push((0..500).filter(has).collect());
            turns.packs_were_read(share, BTreeSet::new());
            turns.save(state).unwrap();
        }
        read
    }

    #[test]
    fn whenever_it_is_scheduled_as_many_runs_as_there_are_shares_read_every_pack_once() {
        let profile: toml::Table = toml::from_str(include_str!("../../../schedules/minimal.toml")).unwrap();
        let own = profile["jobs"]["verify"]["at"].as_str().unwrap();
        for line in [own, "0 6 * * Sun", "0 6 */2 * *", "0 6,18 * * *", "@monthly", "0 6 29 2 *"] {
            let state = tempfile::tempdir().unwrap();
            for _ in 0..2 {
                let read = runs(state.path(), line, Share::default(), 7);
                assert_eq!(read.iter().map(BTreeSet::len).sum::<usize>(), 500, "{line}: none twice");
                assert_eq!(read.iter().flatten().collect::<BTreeSet<_>>().len(), 500, "{line}: all of them");
            }
        }
    }

    #[test]
    fn by_its_profile_a_site_reads_everything_within_a_week() {
        let profile: toml::Table = toml::from_str(include_str!("../../../schedules/minimal.toml")).unwrap();
        let line: Line = profile["jobs"]["verify"]["at"].as_str().unwrap().parse().unwrap();
        let begin: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let mut at = begin;
        for _ in 0..7 {
            at = line.next(&TimeZone::UTC, at).unwrap();
        }
        assert!(at.duration_since(begin).as_hours() <= 7 * 24, "seven runs take until {at}");
    }

    #[test]
    fn runs_of_another_share_in_between_take_no_turn_away() {
        let state = tempfile::tempdir().unwrap();
        let halves: Share = "1/2".parse().unwrap();
        let mut read = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..7 {
            read.0.extend(runs(state.path(), "@daily", Share::default(), 1).swap_remove(0));
            read.1.extend(runs(state.path(), "@daily", halves, 1).swap_remove(0));
            runs(state.path(), "@daily", Share::WHOLE, 1);
        }
        assert_eq!((read.0.len(), read.1.len()), (500, 500));
    }

    #[test]
    fn what_was_lost_or_damaged_begins_anew_with_the_first_share() {
        let state = tempfile::tempdir().unwrap();
        let first = runs(state.path(), "@daily", Share::default(), 3).swap_remove(0);
        for content in [
            None,
            Some("{\"format\":1,\"shar"),
            Some("{\"format\":9,\"shares\":{\"1/7\":3},\"stream\":0,\"suspects\":[]}"),
        ] {
            match content {
                None => std::fs::remove_file(path(state.path())).unwrap(),
                Some(content) => std::fs::write(path(state.path()), content).unwrap(),
            }
            let read = runs(state.path(), "@daily", Share::default(), 7);
            assert_eq!(read[0], first, "{content:?}");
            assert_eq!(read.iter().flatten().collect::<BTreeSet<_>>().len(), 500, "{content:?}");
        }
    }

    #[test]
    fn a_pack_that_was_wrong_is_read_whoevers_turn_it_is_until_it_is_sound() {
        let (mut turns, pack) = (Turns::default(), blake3::hash(b"a pack"));
        let read = |turns: &Turns| turns.has(Share::default(), &pack, "key");
        while !read(&turns) {
            turns.packs_were_read(Share::default(), BTreeSet::new());
        }
        for _ in 0..3 {
            turns.packs_were_read(Share::default(), BTreeSet::from(["key".to_owned()]));
            assert!(read(&turns));
        }
        turns.packs_were_read(Share::default(), BTreeSet::new());
        assert!(!read(&turns));
    }
}
