//! Bodies, packs and streams: what the points' snapshots consist of.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, stream};

use super::{Faults, ScrubReport, ScrubRequest, Share, Turns};
use crate::config::SourceName;
use crate::keys::Identity;
use crate::observe::Progress;
use crate::store::{ListedKey, Read};
use crate::vault::VaultError;
use crate::vault::layout::{EpochId, PointId, SnapshotId};
use crate::vault::reader::{Damaged, Fault, PointListing, VaultReader};
use crate::vault::snapshot::{PACK_BYTES_MAX, SnapshotReader};
use crate::vault::v1::SnapshotHeader;
use crate::vault::v1::body::StoredStream;

/// Objects read at once. A pack is held whole while it is hashed: 32 MiB each.
const READS_MAX: usize = 4;
/// How many packs that were wrong are remembered, to be read again by the next run.
const SUSPECTS_MAX: usize = 1_000;

/// A snapshot that listed points name.
struct Named<'a> {
    source: &'a SourceName,
    id: SnapshotId,
    header: &'a SnapshotHeader,
    /// The newest point that names it.
    newest: PointId,
}

/// A pack that bodies name.
struct NamedPack {
    snapshots: u32,
    newest: PointId,
    /// Its size in the listing of the vault; `None` when it is not there.
    size: Option<u64>,
}

/// A scrub under way.
pub(super) struct Scrub<'a, R> {
    reader: &'a VaultReader<R>,
    progress: &'a Progress,
    /// What this run reads; then, what the next one does.
    turns: Turns,
    points: u64,
    newest: Option<PointId>,
    snapshots: Vec<Named<'a>>,
    /// Snapshots whose body was opened, as indices.
    opened: BTreeSet<usize>,
    packs: HashMap<(EpochId, blake3::Hash), NamedPack>,
    closed: BTreeSet<EpochId>,
    hashed: (u64, u64),
    read: (u64, u64),
    faults: Faults,
}

impl<'a, R: Read + Clone + 'static> Scrub<'a, R> {
    pub fn new(
        reader: &'a VaultReader<R>,
        listing: &'a PointListing,
        turns: Turns,
        faults: Faults,
        progress: &'a Progress,
    ) -> Self {
        let mut named: BTreeMap<(&SourceName, SnapshotId), Named<'a>> = BTreeMap::new();
        for point in &listing.points {
            for (source, id, header) in &point.headers {
                let (id, newest) = (*id, point.id);
                // In order of points: the last one stays.
                named.insert((source, id), Named { source, id, header, newest });
            }
        }
        Scrub {
            reader,
            progress,
            turns,
            points: listing.points.len() as u64,
            newest: listing.points.last().map(|point| point.id),
            snapshots: named.into_values().collect(),
            opened: BTreeSet::new(),
            packs: HashMap::new(),
            closed: BTreeSet::new(),
            hashed: (0, 0),
            read: (0, 0),
            faults,
        }
    }

    /// Every body is there, with the length its header says.
    pub async fn look_for_bodies(&mut self) -> Result<(), VaultError> {
        let listed = self.reader.keys.list(&self.reader.layout.snapshots()).await?;
        let sizes: HashMap<&str, u64> =
            listed.iter().map(|ListedKey { key, size, .. }| (key.as_str(), *size)).collect();
        for Named { source, id, header, newest } in &self.snapshots {
            let key = self.reader.layout.body(source, *id);
            let what = match sizes.get(key.as_str()) {
                Some(size) if *size == header.body.bytes => continue,
                Some(size) => format!("it has {size} bytes, and its header says {}", header.body.bytes),
                None => "it is not there".to_owned(),
            };
            self.faults.add(Damaged::new(&key, &format!("{what}; point {newest} needs it")));
        }
        Ok(())
    }

    /// Opens every body and looks for the packs it names.
    pub async fn look_for_packs(&mut self, identity: &Identity) -> Result<(), VaultError> {
        self.check_secrets(identity).await?;
        let meter = self.progress.begin("opening bodies", None);
        let (reader, snapshots) = (self.reader, &self.snapshots);
        let open = |(at, named): (usize, &Named<'a>)| {
            let (source, id, header) = (named.source, named.id, named.header);
            async move { (at, reader.open_snapshot(source, id, header, identity).await) }
        };
        let mut opening = stream::iter(snapshots.iter().enumerate().map(open)).buffer_unordered(READS_MAX);
        while let Some((at, opened)) = opening.next().await {
            let Some(Named { source, id, newest, .. }) = snapshots.get(at) else { continue };
            meter.advance(1);
            match opened {
                Ok(snapshot) => {
                    self.opened.insert(at);
                    name_packs(&mut self.packs, id.epoch, *newest, &snapshot.streams);
                }
                Err(VaultError::NotForUs { epoch, .. }) if self.faults.has(&reader.layout.secrets(epoch, 0)) => {}
                Err(VaultError::NotForUs { epoch, .. }) => {
                    self.closed.insert(epoch);
                }
                Err(error) => self.faults.take(&self.reader.layout.body(source, *id), error)?,
            }
        }
        drop(opening);
        meter.finish(&format!("{} opened, {} packs named", self.opened.len(), self.packs.len()));
        self.find_packs().await
    }

    /// The secrets of each epoch are the ones its signed record names.
    async fn check_secrets(&mut self, identity: &Identity) -> Result<(), VaultError> {
        let epochs: BTreeSet<EpochId> = self.snapshots.iter().map(|named| named.id.epoch).collect();
        for epoch in epochs {
            // What is wrong with the record itself was named with the other records.
            let Ok(record) = self.reader.epoch(epoch).await else { continue };
            let key = self.reader.layout.secrets(epoch, 0);
            match self.reader.epoch_secrets(epoch, Some(&record), identity).await {
                Ok(_) => {}
                // The signed record says whether it was sealed to us.
                Err(VaultError::NotForUs { .. }) if record.sealed_to.contains(&identity.recipient().to_string()) => {
                    self.faults.add(Damaged::new(&key, "it does not open with the identity it was sealed to"));
                }
                Err(VaultError::NotForUs { .. }) => {
                    self.closed.insert(epoch);
                }
                Err(error) => self.faults.take(&key, error)?,
            }
        }
        Ok(())
    }

    async fn find_packs(&mut self) -> Result<(), VaultError> {
        for listed in self.reader.keys.list(&self.reader.layout.epochs()).await? {
            if let Some(pack) = self.reader.layout.parse_pack(&listed.key).and_then(|name| self.packs.get_mut(&name)) {
                pack.size = Some(listed.size);
            }
        }
        for ((epoch, name), NamedPack { snapshots, newest, size }) in &self.packs {
            let what = match size {
                Some(size) if *size <= PACK_BYTES_MAX => continue,
                Some(size) => format!("it has {size} bytes, more than any pack"),
                None => "it is not there".to_owned(),
            };
            let key = self.reader.layout.pack(*epoch, name);
            self.faults.add(Damaged::new(&key, &format!("{what}; {}", needed(*snapshots, *newest))));
        }
        Ok(())
    }

    /// Reads the packs whose turn it is: each is what its name says.
    pub async fn hash_packs(&mut self, share: Share) -> Result<(), VaultError> {
        let (layout, turns) = (&self.reader.layout, &self.turns);
        let of_turn = |(epoch, name): &(EpochId, blake3::Hash)| turns.has(share, name, &layout.pack(*epoch, name));
        let there = self.packs.iter().filter(|(pack, _)| of_turn(pack)).filter_map(|(pack, named)| {
            let size = named.size.filter(|size| *size <= PACK_BYTES_MAX)?;
            Some((*pack, size, needed(named.snapshots, named.newest)))
        });
        let mut packs: Vec<_> = there.collect();
        packs.sort_unstable_by_key(|((epoch, name), ..)| (*epoch, *name.as_bytes()));
        let meter = self.progress.begin("hashing packs", Some(packs.iter().map(|(_, size, _)| size).sum()));
        let reader = self.reader;
        let hash = |((epoch, name), size, needed): ((EpochId, blake3::Hash), u64, String)| async move {
            let key = reader.layout.pack(epoch, &name);
            let sound = is_its_name(reader, &key, name).await;
            (key, size, needed, sound)
        };
        let mut hashing = stream::iter(packs.into_iter().map(hash)).buffer_unordered(READS_MAX);
        while let Some((key, size, needed, sound)) = hashing.next().await {
            meter.advance(size);
            match sound {
                Ok(true) => self.hashed = (self.hashed.0 + 1, self.hashed.1 + size),
                Ok(false) => self.faults.add(Damaged::new(&key, &format!("its BLAKE3 is not its name; {needed}"))),
                Err(error) => self.faults.take(&key, error)?,
            }
        }
        meter.finish(&format!("{} packs hashed", self.hashed.0));
        let is_pack = |fault: &&Damaged| fault.fault == Fault::Damaged && layout.parse_pack(&fault.object).is_some();
        let wrong = self.faults.iter().filter(is_pack).take(SUSPECTS_MAX).map(|fault| fault.object.clone()).collect();
        self.turns.packs_were_read(share, wrong);
        Ok(())
    }

    /// Opens `wanted` streams of the newest point, each time the next ones; or every stream of every point.
    pub async fn read_streams(&mut self, identity: &Identity, wanted: Option<u64>) -> Result<(), VaultError> {
        let meter = self.progress.begin("reading streams", None);
        let newest = |at: &usize| self.snapshots.get(*at).is_some_and(|named| Some(named.newest) == self.newest);
        let of: Vec<usize> = self.opened.iter().copied().filter(|at| wanted.is_none() || newest(at)).collect();
        // A stream that did not change since an earlier snapshot is the same extents of the same packs: read once.
        let (mut seen, mut streams) = (HashSet::new(), Vec::new());
        for at in of {
            let Some((epoch, snapshot)) = self.open_again(at, identity).await? else { continue };
            for (n, StoredStream { entry, extents }) in snapshot.streams.iter().enumerate() {
                if seen.insert(blake3::hash(format!("{epoch} {} {extents:?}", entry.blake3).as_bytes())) {
                    streams.push((at, n));
                }
            }
        }
        let mut current = None;
        let first = self.turns.first_stream(streams.len() as u64);
        for (at, n) in of_turn(&streams, first, wanted) {
            if current.as_ref().is_none_or(|(of, _)| *of != at) {
                current = self.open_again(at, identity).await?.map(|(_, snapshot)| (at, snapshot));
            }
            let Some((_, snapshot)) = &current else { continue };
            self.read_stream(at, snapshot, n).await?;
            meter.advance(1);
        }
        meter.finish(&format!("{} streams read", self.read.0));
        if let Some(next) = wanted.and_then(|wanted| first.saturating_add(wanted).checked_rem(streams.len() as u64)) {
            self.turns.streams_were_read(next);
        }
        Ok(())
    }

    /// Opens a snapshot that could be opened before.
    async fn open_again(
        &mut self,
        at: usize,
        identity: &Identity,
    ) -> Result<Option<(EpochId, SnapshotReader<R>)>, VaultError> {
        let Some(Named { source, id, header, .. }) = self.snapshots.get(at) else { return Ok(None) };
        match self.reader.open_snapshot(source, *id, header, identity).await {
            Ok(snapshot) => Ok(Some((id.epoch, snapshot))),
            Err(error) => self.faults.take(&self.reader.layout.body(source, *id), error).map(|()| None),
        }
    }

    async fn read_stream(&mut self, at: usize, snapshot: &SnapshotReader<R>, n: usize) -> Result<(), VaultError> {
        let Some((named, stored)) = self.snapshots.get(at).zip(snapshot.streams.get(n)) else { return Ok(()) };
        match snapshot.stream(stored).drain().await {
            Ok(bytes) => {
                self.read = (self.read.0 + 1, self.read.1 + bytes);
                Ok(())
            }
            Err(error) => self.faults.take(&self.reader.layout.body(named.source, named.id), error),
        }
    }

    pub fn report(self, at: jiff::Timestamp, request: ScrubRequest) -> ScrubReport {
        ScrubReport {
            at,
            request,
            points: self.points,
            snapshots: self.snapshots.len() as u64,
            bodies: self.opened.len() as u64,
            packs: self.packs.len() as u64,
            hashed_packs: self.hashed.0,
            hashed_bytes: self.hashed.1,
            streams: self.read.0,
            stream_bytes: self.read.1,
            closed_epochs: self.closed.into_iter().collect(),
            faults: self.faults.into_vec(),
            turns: self.turns,
        }
    }
}

/// Adds the packs of a body.
fn name_packs(
    packs: &mut HashMap<(EpochId, blake3::Hash), NamedPack>,
    epoch: EpochId,
    newest: PointId,
    streams: &[StoredStream],
) {
    let named: HashSet<blake3::Hash> =
        streams.iter().flat_map(|stream| &stream.extents).map(|extent| extent.pack).collect();
    for pack in named {
        let known = packs.entry((epoch, pack)).or_insert(NamedPack { snapshots: 0, newest, size: None });
        known.snapshots += 1;
        known.newest = known.newest.max(newest);
    }
}

fn needed(snapshots: u32, newest: PointId) -> String {
    match snapshots {
        1 => format!("point {newest} needs it"),
        more => format!("{more} snapshots need it, the newest that of point {newest}"),
    }
}

async fn is_its_name<R: Read>(reader: &VaultReader<R>, key: &str, name: blake3::Hash) -> Result<bool, VaultError> {
    let sealed = reader.keys.get_limited(key, PACK_BYTES_MAX).await?;
    let hashing = tokio::task::spawn_blocking(move || blake3::hash(&sealed) == name).await;
    hashing.map_err(|e| VaultError::Machine(e.to_string()))
}

/// As many of `streams` as are wanted, from the one at `first` on: they take turns, so that all are read in as many runs as it takes.
fn of_turn(streams: &[(usize, usize)], first: u64, wanted: Option<u64>) -> Vec<(usize, usize)> {
    let count = streams.len() as u64;
    let Some(wanted) = wanted.filter(|wanted| *wanted < count) else { return streams.to_vec() };
    let turn = (0..wanted).filter_map(|n| streams.get(usize::try_from((first + n) % count).ok()?).copied());
    let mut turn: Vec<_> = turn.collect();
    // Streams of one snapshot beside each other: it is opened once.
    turn.sort_unstable();
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_the_streams_from_its_first_on_and_none_twice() {
        let streams: Vec<(usize, usize)> = (0..5).map(|n| (n / 3, n)).collect();
        let read: BTreeSet<_> = (0..5).flat_map(|first| of_turn(&streams, first, Some(1))).collect();
        assert_eq!(read.len(), 5);
        assert_eq!(of_turn(&streams, 4, Some(2)), [(0, 0), (1, 4)]);
        assert_eq!(of_turn(&streams, 3, None).len(), 5);
        assert_eq!(of_turn(&streams, 3, Some(9)).len(), 5);
        assert_eq!(of_turn(&[], 0, Some(1)).len(), 0);
    }
}
