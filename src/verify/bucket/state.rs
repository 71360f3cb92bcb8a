//! A run as it is remembered: where it is, what it has found, whose turn it is.
//!
//! It is written down every few hundred objects, and before anything is done about what was found. A run that was killed
//! looks again at what came after, and forgets nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::{BucketReport, Counts, Fault, Outcome};
use super::walk::Looked;
use super::{BucketVerifyError, WAITING_MAX};
use crate::config::SourceName;
use crate::durable::{self, FileLock};
use crate::mirror::{Fates, suspect};
use crate::point::Share;
use crate::vault::v1::BucketVerdict;
use crate::verify::object::ObjectFault;

/// After so many objects, or bytes read, it is written down.
const SAVED_AFTER: u64 = 256;
const SAVED_AFTER_BYTES: u64 = 256 << 20;
/// How many faults are named; the others are counted.
const FAULTS_MAX: usize = 1_000;

/// What is looked at, and against what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) at: String,
    pub(super) against: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StateFile {
    /// How many runs came to their end: whose turn it is.
    turn: u64,
    /// What was wrong at the end of the last one: objects that are read whoever's turn it is.
    suspects: BTreeSet<String>,
    /// The run under way.
    run: Option<RunFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RunFile {
    place: Place,
    share: String,
    began: Timestamp,
    after: Option<String>,
    counts: Counts,
    faults: Vec<Fault>,
    /// Keys of faults about which nothing has been done yet.
    waiting: BTreeSet<String>,
    /// The same objects as the other site is told of them.
    told: BTreeSet<String>,
}

/// A run under way.
pub(super) struct Begun {
    path: PathBuf,
    turn: u64,
    suspects: BTreeSet<String>,
    run: RunFile,
    resumed_after: Option<String>,
    share: Share,
    dry_run: bool,
    /// Whether the live site decides about what was written since.
    leaves_newer: bool,
    /// Objects and bytes since it was written down.
    unsaved: (u64, u64),
    _lock: Option<FileLock>,
}

impl Begun {
    /// Goes on with the run in the file `name` of `folder`, if it is of this place and share; begins one otherwise. A dry run
    /// begins its own and leaves nothing.
    pub(super) fn open(
        folder: &Path,
        name: &str,
        place: Place,
        share: Share,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Self, BucketVerifyError> {
        let path = folder.join(name);
        let failed = |source| BucketVerifyError::State { path: path.clone(), source };
        let lock = match dry_run {
            true => None,
            false => {
                durable::private_folder(folder).map_err(failed)?;
                let note = format!("verify, process {}", std::process::id());
                let lock = FileLock::try_take(&path.with_extension("lock"), &note).map_err(failed)?;
                Some(lock.ok_or_else(|| BucketVerifyError::Busy { path: path.clone() })?)
            }
        };
        let content = durable::read(&path).map_err(failed)?;
        let state: Option<StateFile> = match content.map(|content| serde_json::from_slice(&content)) {
            None => None,
            Some(Ok(state)) => Some(state),
            Some(Err(error)) => {
                tracing::warn!("{} is damaged; the bucket is looked at from its beginning: {error}", path.display());
                None
            }
        };
        let state = state.unwrap_or(StateFile { turn: 0, suspects: BTreeSet::new(), run: None });
        // A bucket is the same one whichever point it is held against: keys are in order in all of them.
        let goes_on = |run: &RunFile| run.place.at == place.at && run.share == share.to_string() && !dry_run;
        let begun = state.run.filter(goes_on).map(|run| RunFile { place: place.clone(), ..run });
        let resumed_after = begun.as_ref().and_then(|run| run.after.clone());
        let run = begun.unwrap_or_else(|| RunFile {
            place,
            share: share.to_string(),
            began: now,
            after: None,
            counts: Counts::default(),
            faults: Vec::new(),
            waiting: BTreeSet::new(),
            told: BTreeSet::new(),
        });
        let (turn, suspects) = (state.turn, state.suspects);
        let leaves_newer = false;
        Ok(Begun {
            path,
            turn,
            suspects,
            run,
            resumed_after,
            share,
            dry_run,
            leaves_newer,
            unsaved: (0, 0),
            _lock: lock,
        })
    }

    /// Objects written since the point are the next one's, unless the live site says otherwise.
    pub(super) fn leave_newer_to_live(&mut self) {
        self.leaves_newer = true;
    }

    pub(super) fn after(&self) -> Option<String> {
        self.run.after.clone()
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) fn suspects(&self) -> BTreeSet<String> {
        self.suspects.clone()
    }

    /// Faults about which nothing has been done yet.
    pub(super) fn waiting(&self) -> &BTreeSet<String> {
        &self.run.waiting
    }

    /// How many objects are missing, of how many that were looked for.
    pub(super) fn missing(&self) -> (u64, u64) {
        (self.run.counts.missing, self.run.counts.objects)
    }

    /// Takes what came of the next object.
    pub(super) fn take(&mut self, looked: Looked) -> Result<(), BucketVerifyError> {
        let counts = &mut self.run.counts;
        counts.objects += 1;
        if let Some(bytes) = looked.reread_bytes {
            counts.reread += 1;
            counts.reread_bytes += bytes;
        }
        counts.kept += u64::from(looked.is_kept);
        self.unsaved.0 += 1;
        self.unsaved.1 += looked.reread_bytes.unwrap_or(0);
        if let Some(what) = looked.fault {
            counts.faults += 1;
            counts.missing += u64::from(what == ObjectFault::Missing);
            counts.newer += u64::from(looked.is_newer && self.leaves_newer);
            if self.run.waiting.len() < WAITING_MAX {
                self.run.waiting.insert(looked.key.clone());
                self.run.told.insert(suspect(&looked.key, &looked.blake3));
            }
            if self.run.faults.len() < FAULTS_MAX {
                let outcome = if looked.is_newer { Outcome::NewerThanPoint } else { Outcome::Found };
                self.run.faults.push(Fault { key: looked.key.clone(), what, outcome });
            }
        }
        self.run.after = Some(looked.key);
        if self.unsaved.0 >= SAVED_AFTER || self.unsaved.1 >= SAVED_AFTER_BYTES {
            self.save()?;
        }
        Ok(())
    }

    /// Writes down how far it is.
    pub(super) fn save(&mut self) -> Result<(), BucketVerifyError> {
        self.unsaved = (0, 0);
        let state = StateFile { turn: self.turn, suspects: self.suspects.clone(), run: Some(self.run.clone()) };
        self.write(&state)?;
        crate::failpoint::hit("verify.bucket");
        Ok(())
    }

    /// Forgets the run: the next one begins anew.
    pub(super) fn forget(&self) -> Result<(), BucketVerifyError> {
        self.write(&StateFile { turn: self.turn, suspects: self.suspects.clone(), run: None })
    }

    /// Takes what was done about the faults that waited.
    pub(super) fn settle(&mut self, fates: Fates) -> Result<(), BucketVerifyError> {
        for fate in fates.values() {
            self.run.counts.settle(fate);
        }
        for fault in &mut self.run.faults {
            if let Some(fate) = fates.get(&fault.key) {
                fault.outcome = Outcome::Settled(fate.clone());
            }
        }
        self.run.waiting.clear();
        self.run.told.clear();
        self.save()
    }

    /// The other site is told of what waits.
    pub(super) fn tell(&mut self) -> Result<(), BucketVerifyError> {
        self.run.counts.told = self.run.waiting.len() as u64;
        self.save()
    }

    /// What the other site is told.
    pub(super) fn verdict(&self, source: &SourceName, at: Timestamp) -> BucketVerdict {
        let counts = &self.run.counts;
        BucketVerdict {
            source: source.to_string(),
            at,
            objects: counts.objects,
            reread: counts.reread,
            reread_bytes: counts.reread_bytes,
            faults: counts.wrong(),
            suspects: self.run.told.iter().cloned().collect(),
        }
    }

    /// Ends the run: the next one begins anew, with the next share.
    pub(super) fn finish(self, topology: &'static str, at: Timestamp) -> Result<BucketReport, BucketVerifyError> {
        // What is still wrong is read next time, too, whoever's turn it is.
        let suspects = self.run.waiting.clone();
        self.write(&StateFile { turn: self.turn.wrapping_add(1), suspects, run: None })?;
        crate::failpoint::hit("verify.bucket.done");
        let RunFile { place, began, counts, faults, .. } = self.run;
        Ok(BucketReport {
            bucket: place.at,
            against: place.against,
            topology,
            began,
            at,
            resumed_after: self.resumed_after,
            share: self.share.to_string(),
            dry_run: self.dry_run,
            counts,
            faults,
        })
    }

    fn write(&self, state: &StateFile) -> Result<(), BucketVerifyError> {
        if self.dry_run {
            return Ok(());
        }
        let failed = |source| BucketVerifyError::State { path: self.path.clone(), source };
        let content = serde_json::to_vec(state).map_err(|error| failed(error.into()))?;
        durable::replace(&self.path, &content).map_err(failed)
    }
}
