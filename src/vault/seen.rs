//! What this site remembers of the points: the highest it has seen, so that a cut tail is noticed, and the
//! highest number it ever gave out, so that a number is not used twice.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{PointId, Term};
use super::reader::PointListing;
use super::v1::Link;
use super::{VaultError, layout::Layout};
use crate::durable;
use crate::failpoint;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StateFile {
    highest: Option<Highest>,
    allocated: Option<Allocated>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Highest {
    term: Term,
    seq: u64,
    blake3: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Allocated {
    term: Term,
    seq: u64,
}

/// A site's memory of the points of its system.
pub struct SeenPoints {
    path: PathBuf,
    state: StateFile,
}

impl SeenPoints {
    /// Reads the memory kept in the folder `vault/` of the state folder.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(state_folder: &Path) -> Result<Self, VaultError> {
        let path = state_folder.join("seen.json");
        let wrong = |what: String| VaultError::State { path: path.clone(), what };
        let content = durable::read(&path).map_err(|e| wrong(e.to_string()))?;
        let state = match content {
            None => StateFile::default(),
            Some(content) => serde_json::from_slice(&content).map_err(|e| wrong(format!("damaged: {e}")))?,
        };
        Ok(SeenPoints { path, state })
    }

    /// Compares the vault's points with the memory and remembers the highest.
    ///
    /// # Errors
    /// As [`SeenPoints::compare`], and when the memory cannot be written.
    pub fn check(&mut self, listing: &PointListing, system: &str) -> Result<(), VaultError> {
        self.compare(listing, system)?;
        let seen = self.state.highest.as_ref();
        let highest_seen = seen.map(|seen| PointId { term: seen.term, seq: seen.seq });
        let Some(last) = listing.points.last().filter(|point| Some(point.id) > highest_seen) else { return Ok(()) };
        let highest =
            Highest { term: last.id.term, seq: last.id.seq, blake3: last.blake3.to_hex().as_str().to_owned() };
        self.save(StateFile { highest: Some(highest), ..self.state.clone() })
    }

    /// Compares the vault's points with the memory.
    ///
    /// # Errors
    /// [`VaultError::TailCut`] when the highest point seen before is gone, [`VaultError::Mismatch`] when it was replaced.
    /// One that is damaged is in the listing as such and is no error here.
    pub fn compare(&self, listing: &PointListing, system: &str) -> Result<(), VaultError> {
        let seen = self.state.highest.as_ref();
        if let Some((seen, id)) = seen.map(|seen| (seen, PointId { term: seen.term, seq: seen.seq })) {
            match listing.points.iter().find(|point| point.id == id) {
                Some(point) if point.blake3.to_hex().as_str() == seen.blake3 => {}
                Some(_) => {
                    let what = "it is not the point this site has seen before".to_owned();
                    return Err(VaultError::Mismatch { key: Layout::new(system).point(id), what });
                }
                None if listing.damaged_points.contains(&id) => {}
                // The keeper never takes the newest: one that it took has others after it.
                None if listing.removals.explain_point(id, &seen.blake3)
                    && listing.points.last().is_some_and(|last| last.id > id) => {}
                None => return Err(VaultError::TailCut { what: format!("recovery point {id}") }),
            }
        }
        Ok(())
    }

    /// A number for a new point under `term`, and the point before it. The number is burned even if the run fails.
    ///
    /// # Errors
    /// When the memory cannot be written.
    pub fn allocate(&mut self, listing: &PointListing, term: Term) -> Result<(PointId, Option<Link>), VaultError> {
        let last = listing.points.iter().rfind(|point| point.id.term == term);
        let given_out = self.state.allocated.as_ref().filter(|allocated| allocated.term == term);
        // A damaged point has its number too.
        let damaged = listing.damaged_points.iter().filter(|id| id.term == term).map(|id| id.seq).max();
        let used = [last.map(|point| point.id.seq), damaged, given_out.map(|allocated| allocated.seq)];
        let seq = used.into_iter().flatten().max().unwrap_or(0) + 1;
        self.save(StateFile { allocated: Some(Allocated { term, seq }), ..self.state.clone() })?;
        failpoint::hit("vault.point.allocate");
        let previous = last.map(|point| Link { seq: point.id.seq, blake3: point.blake3.to_hex().as_str().to_owned() });
        Ok((PointId { term, seq }, previous))
    }

    fn save(&mut self, state: StateFile) -> Result<(), VaultError> {
        if state == self.state {
            return Ok(());
        }
        let wrong = |what: String| VaultError::State { path: self.path.clone(), what };
        let content = serde_json::to_vec(&state).map_err(|e| wrong(e.to_string()))?;
        if let Some(folder) = self.path.parent() {
            durable::private_folder(folder).map_err(|e| wrong(e.to_string()))?;
        }
        durable::replace(&self.path, &content).map_err(|e| wrong(e.to_string()))?;
        self.state = state;
        Ok(())
    }
}
