//! Scrub: is everything that the listed points need still in the vault, and still what was written?
//!
//! Every object is looked for on every run, and the clear records and the bodies are read; of the packs a share is
//! read and hashed (their names are the hashes, so this needs no key), another at each run, so that seven runs cover all of
//! them; and some streams are opened and read to their end, as a restore would. What is found is named and nothing is mended: the
//! spare says in its status which epochs are damaged, and the live site opens a new one and uploads everything once.
//!
//! At the live site no identity opens a body, and its credential lists no packs: there the records are checked, and
//! that the bodies are there.

mod objects;
mod records;
mod share;
mod turns;

use std::collections::BTreeMap;
use std::path::Path;

use super::VaultError;
use super::layout::{EpochId, Layout};
use super::reader::{Damaged, Fault, PointListing, VaultReader};
use super::v1::{DamagedEpoch, ScrubVerdict, StatusRecord};
use crate::keys::Identity;
use crate::observe::Progress;
use crate::store::Read;

pub use share::{Share, ShareError};
pub use turns::Turns;

/// How much of the vault is read.
#[derive(Clone, Copy, Debug)]
pub struct ScrubRequest {
    /// The packs that are read and hashed.
    pub share: Share,
    /// How many streams of the newest point are opened; every stream of every point when absent.
    pub streams: Option<u64>,
}

impl ScrubRequest {
    /// Everything there is.
    pub const FULL: ScrubRequest = ScrubRequest { share: Share::WHOLE, streams: None };

    fn is_full(&self) -> bool {
        self.share.is_whole() && self.streams.is_none()
    }
}

/// Who scrubs.
pub struct Scrubber<'a> {
    /// Opens the bodies; `None` at the live site, which looks at the clear records only.
    pub identity: Option<&'a Identity>,
    /// The folder `vault/` of the state folder: what this site remembers of the status records.
    pub state: &'a Path,
    /// Whose turn it is.
    pub turns: &'a Turns,
    /// The present.
    pub at: jiff::Timestamp,
}

/// What a scrub found.
#[derive(Clone, Debug)]
pub struct ScrubReport {
    /// When.
    pub at: jiff::Timestamp,
    /// What was asked.
    pub request: ScrubRequest,
    /// Points listed.
    pub points: u64,
    /// Their snapshots; the body of each was looked for.
    pub snapshots: u64,
    /// Bodies that were opened.
    pub bodies: u64,
    /// Packs that the bodies name; each was looked for.
    pub packs: u64,
    /// Packs that were read and hashed.
    pub hashed_packs: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Streams that were opened and read to their end.
    pub streams: u64,
    /// Their bytes.
    pub stream_bytes: u64,
    /// Epochs that are sealed to others: which packs their snapshots need is not known here.
    pub closed_epochs: Vec<EpochId>,
    /// What is wrong, one entry an object, by key.
    pub faults: Vec<Damaged>,
    /// Whose turn it is next, if this run was not for nothing.
    pub turns: Turns,
}

impl ScrubReport {
    /// Objects that are damaged; those of a newer format are not.
    pub fn damaged(&self) -> u64 {
        self.faults.iter().filter(|fault| fault.fault == Fault::Damaged).count() as u64
    }

    /// Whether all of the vault was read.
    pub fn is_full(&self) -> bool {
        self.request.is_full() && self.closed_epochs.is_empty() && self.bodies == self.snapshots
    }

    /// The epochs with damage, and the first damaged object of each.
    fn damaged_epochs(&self, layout: &Layout) -> BTreeMap<EpochId, String> {
        let mut epochs: BTreeMap<EpochId, Vec<&Damaged>> = BTreeMap::new();
        for fault in self.faults.iter().filter(|fault| fault.fault == Fault::Damaged) {
            if let Some(epoch) = layout.epoch_of(&fault.object) {
                epochs.entry(epoch).or_default().push(fault);
            }
        }
        let why = |faults: Vec<&Damaged>| {
            let (first, more) = (faults.first(), faults.len().saturating_sub(1));
            let first = first.map(|fault| format!("{}: {}", fault.object, fault.what)).unwrap_or_default();
            if more == 0 { first } else { format!("{first}; and {more} more of its objects") }
        };
        epochs.into_iter().map(|(epoch, faults)| (epoch, why(faults))).collect()
    }

    /// Writes what was found into a site's status.
    ///
    /// Epochs it found damaged are added. One that was damaged before is taken back only by a full scrub that found
    /// nothing wrong with it: what a share did not read may be what was wrong.
    pub fn tell(&self, system: &str, status: &mut StatusRecord) {
        status.scrub = Some(ScrubVerdict {
            at: self.at,
            points: self.points,
            packs: self.packs,
            hashed_packs: self.hashed_packs,
            hashed_bytes: self.hashed_bytes,
            streams: self.streams,
            damaged: self.damaged(),
        });
        let layout = Layout::new(system);
        let found = self.damaged_epochs(&layout);
        // A point that cannot be read hides what it needs.
        let all_seen = self.is_full() && self.faults.iter().all(|fault| layout.epoch_of(&fault.object).is_some());
        if all_seen {
            status.damaged_epochs.retain(|told| found.contains_key(&EpochId { term: told.term, epoch: told.epoch }));
        }
        for (EpochId { term, epoch }, why) in found {
            match status.damaged_epochs.iter_mut().find(|told| (told.term, told.epoch) == (term, epoch)) {
                Some(told) => told.why = why,
                None => status.damaged_epochs.push(DamagedEpoch { term, epoch, why }),
            }
        }
        status.damaged_epochs.sort_by_key(|told| (told.term, told.epoch));
    }
}

/// Looks at everything that the points of `listing` need.
///
/// # Errors
/// When the store or this machine fails. What is wrong with the vault is in the report.
pub async fn scrub<R: Read + Clone + 'static>(
    reader: &VaultReader<R>,
    listing: &PointListing,
    scrubber: &Scrubber<'_>,
    request: ScrubRequest,
    progress: &Progress,
) -> Result<ScrubReport, VaultError> {
    let mut faults = Faults::default();
    listing.damaged.iter().for_each(|damaged| faults.add(damaged.clone()));
    records::check(reader, listing, scrubber.state, &mut faults).await?;
    let mut scrub = objects::Scrub::new(reader, listing, scrubber.turns.clone(), faults, progress);
    scrub.look_for_bodies().await?;
    if let Some(identity) = scrubber.identity {
        scrub.look_for_packs(identity).await?;
        scrub.hash_packs(request.share).await?;
        scrub.read_streams(identity, request.streams).await?;
    }
    Ok(scrub.report(scrubber.at, request))
}

/// What is wrong, one entry an object: the first thing found is the cause of what is found later.
#[derive(Default)]
struct Faults(BTreeMap<String, Damaged>);

impl Faults {
    fn add(&mut self, fault: Damaged) {
        self.0.entry(fault.object.clone()).or_insert(fault);
    }

    fn has(&self, object: &str) -> bool {
        self.0.contains_key(object)
    }

    /// Takes an error that says something of an object, found while looking at `key`.
    ///
    /// # Errors
    /// The error itself, when the store or this machine failed.
    fn take(&mut self, key: &str, error: VaultError) -> Result<(), VaultError> {
        match error {
            VaultError::Store(error) if !error.is_of_object() => Err(error.into()),
            VaultError::State { .. } | VaultError::Machine(_) => Err(error),
            error => {
                self.add(Damaged::of(key, error));
                Ok(())
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Damaged> {
        self.0.values()
    }

    fn into_vec(self) -> Vec<Damaged> {
        self.0.into_values().collect()
    }
}
