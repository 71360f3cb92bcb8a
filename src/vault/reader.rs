//! Reading the clear records: points, headers, proofs. Nothing is believed that a pinned signer did not sign.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;

use super::VaultError;
use super::layout::{self, EpochId, Layout, PointId, SnapshotId, Term};
use super::removals::Removals;
use super::v1::{self, EpochRecord, PointRecord, ProofRecord, Signed, SnapshotHeader, Unverified};
use crate::config::{Signers, SourceName};
use crate::store::{Read, StoreError};

/// A clear record larger than this is not one of ours.
pub(super) const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Clear records are small and many: so many are asked for at once, and given out in order.
pub(super) const READS_AT_ONCE: usize = 16;

/// Reads one system's part of a vault.
#[derive(Clone)]
pub struct VaultReader<R> {
    pub(super) keys: R,
    pub(super) layout: Layout,
    system: String,
    pub(super) signers: Signers,
    pub(super) spool: Option<PathBuf>,
}

/// A recovery point whose signature, and whose headers, hold.
#[derive(Clone, Debug)]
pub struct ListedPoint {
    /// Its number.
    pub id: PointId,
    /// The record.
    pub record: PointRecord,
    /// BLAKE3 of the point object.
    pub blake3: blake3::Hash,
    /// The headers of its snapshots.
    pub headers: Vec<(SourceName, SnapshotId, SnapshotHeader)>,
}

/// A record that is there but not to be believed, or missing where a chain says it was.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The object that is wrong: the record itself, or one it names.
    pub object: String,
    /// What kind of wrong.
    pub fault: Fault,
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Changed, cut short, gone, or not to be believed.
    Damaged,
    /// Written by a newer release: nothing is wrong with it.
    Unsupported,
}

impl Damaged {
    /// What `error` says of the object under `key`.
    pub(super) fn of(key: &str, error: VaultError) -> Self {
        let object = error.object().unwrap_or(key).to_owned();
        let fault = if error.is_unsupported() { Fault::Unsupported } else { Fault::Damaged };
        Damaged { key: key.to_owned(), what: said(error), object, fault }
    }

    /// The object under `key` is not what it has to be.
    pub(super) fn new(key: &str, what: &str) -> Self {
        Damaged { key: key.to_owned(), what: what.to_owned(), object: key.to_owned(), fault: Fault::Damaged }
    }
}

/// All points of a system.
#[derive(Clone, Debug, Default)]
pub struct PointListing {
    /// In order of (term, number).
    pub points: Vec<ListedPoint>,
    /// What should be a point and is not.
    pub damaged: Vec<Damaged>,
    /// Those of them that have a point's key.
    pub damaged_points: BTreeSet<PointId>,
    /// Those of the damaged points that a newer release would read.
    pub unsupported_points: BTreeSet<PointId>,
    /// What the keeper has removed.
    pub removals: Removals,
}

impl PointListing {
    fn damage(&mut self, id: PointId, damaged: Damaged) {
        self.damaged_points.insert(id);
        if damaged.fault == Fault::Unsupported {
            self.unsupported_points.insert(id);
        }
        self.damaged.push(damaged);
    }

    fn forget(&mut self, id: PointId, key: &str) {
        self.damaged.retain(|damaged| damaged.key != key);
        self.damaged_points.remove(&id);
    }
}

/// An epoch that has committed headers.
#[derive(Debug)]
pub struct EpochHead {
    /// The epoch.
    pub epoch: EpochId,
    /// Its headers, as a listing shows them: number → source.
    pub headers: BTreeMap<u64, SourceName>,
    /// Its last header; what is wrong with its chain concerns only a writer that would go on with it.
    pub last: Result<LastHeader, VaultError>,
}

/// The last committed header of one epoch.
#[derive(Clone, Debug)]
pub struct LastHeader {
    /// The header's number.
    pub seq: u64,
    /// BLAKE3 of the header object.
    pub blake3: blake3::Hash,
    /// Its key.
    pub key: String,
}

impl<R: Read> VaultReader<R> {
    /// A reader of `system` that believes `signers` alone.
    pub fn new(keys: R, system: &str, signers: impl Into<Signers>) -> Self {
        let (layout, system, signers) = (Layout::new(system), system.to_owned(), signers.into());
        VaultReader { keys, layout, system, signers, spool: None }
    }

    /// The same reader; sealed packs of what it reads are kept in `folder` meanwhile, in files without names.
    #[must_use]
    pub fn spooling_in(self, folder: PathBuf) -> Self {
        VaultReader { spool: Some(folder), ..self }
    }

    /// Checks that the vault is of a format this release reads; an empty vault is fine. A damaged `vault.json` is no
    /// error: every object names its own format, and a restore needs nothing of it.
    ///
    /// # Errors
    /// When `vault.json` names another format or features, or the store fails.
    pub async fn check_format(&self) -> Result<(), VaultError> {
        match self.vault_record().await {
            Err(VaultError::Record { key, source }) if !source.is_unsupported() => {
                tracing::warn!("{key}: {source}; `warmspare verify` tells what else is");
                Ok(())
            }
            Err(VaultError::Store(error)) if error.is_of_object() => Ok(()),
            checked => checked,
        }
    }

    /// Checks that `vault.json` is what is written there in format 1.
    ///
    /// # Errors
    /// When it is missing or anything else.
    pub(super) async fn vault_record(&self) -> Result<(), VaultError> {
        let key = layout::VAULT;
        let wrong = |source| VaultError::Record { key: key.to_owned(), source };
        let bytes = self.keys.get_limited(key, RECORD_BYTES_MAX).await?;
        let record: v1::VaultRecord =
            serde_json::from_slice(&bytes).map_err(|e| wrong(Unverified::Damaged(e.to_string())))?;
        if record.format != v1::FORMAT {
            return Err(wrong(Unverified::Unsupported(record.format)));
        }
        if record.kind != "vault" {
            return Err(wrong(Unverified::Kind(record.kind)));
        }
        if let Some(feature) = record.features.first() {
            return Err(wrong(Unverified::Feature(feature.clone())));
        }
        // Format 1 has one such file, and nothing signs it: byte for byte.
        if record.to_bytes().is_ok_and(|written| written == bytes) {
            return Ok(());
        }
        Err(wrong(Unverified::Damaged("not what is written there in format 1".to_owned())))
    }

    /// The system it reads.
    pub fn system(&self) -> &str {
        &self.system
    }

    pub(super) async fn record<T: DeserializeOwned>(&self, key: &str, kind: &str) -> Result<Signed<T>, VaultError> {
        self.believed(&self.keys.get_limited(key, RECORD_BYTES_MAX).await?, key, kind)
    }

    /// As [`Self::record`], of a key that is overwritten: where the store keeps versions, the newest one.
    pub(super) async fn newest_record<T: DeserializeOwned>(
        &self,
        key: &str,
        kind: &str,
    ) -> Result<Signed<T>, VaultError> {
        self.believed(&self.keys.get_newest(key, RECORD_BYTES_MAX).await?, key, kind)
    }

    /// The record that `bytes`, which are stored under `key`, are.
    pub(super) fn believed<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        key: &str,
        kind: &str,
    ) -> Result<Signed<T>, VaultError> {
        Signed::decode(bytes, key, kind, |signer| self.signers.of(signer).to_vec())
            .map_err(|source| VaultError::Record { key: key.to_owned(), source })
    }

    /// Every recovery point, each checked with its headers, their seals and its chain.
    ///
    /// # Errors
    /// When the store fails. What is wrong with single points is in the listing.
    pub async fn points(&self) -> Result<PointListing, VaultError> {
        let mut listing = PointListing::default();
        let mut ids = Vec::new();
        for listed in self.keys.list(&self.layout.points()).await? {
            match self.layout.parse_point(&listed.key) {
                Some(id) => ids.push(id),
                None => listing.damaged.push(Damaged::new(&listed.key, "not the name of a point")),
            }
        }
        let mut gone = BTreeSet::new();
        let read = |id: PointId| async move { (id, self.point(id).await) };
        let mut reading = stream::iter(ids).map(read).buffered(READS_AT_ONCE);
        while let Some((id, point)) = reading.next().await {
            match point {
                Ok(point) => listing.points.push(point),
                Err(VaultError::Store(error)) if !error.is_of_object() => return Err(error.into()),
                Err(error) => {
                    if matches!(&error, VaultError::Store(error) if error.is_not_found()) {
                        gone.insert(id);
                    }
                    listing.damage(id, Damaged::of(&self.layout.point(id), error));
                }
            }
        }
        drop(reading);
        self.ignore_late(&mut listing).await?;
        // Read after the points: what a pass removes while they are read is named by its record.
        let (removals, damaged) = self.removals().await?;
        listing.removals = removals;
        listing.damaged.extend(damaged);
        for id in gone {
            if listing.removals.name_point(id) && !self.keys.exists(&self.layout.point(id)).await? {
                listing.forget(id, &self.layout.point(id));
            }
        }
        let gaps = self.point_gaps(&listing);
        listing.damaged.extend(gaps);
        Ok(listing)
    }

    /// Takes points out that were added to an epoch after the keeper had sealed it.
    async fn ignore_late(&self, listing: &mut PointListing) -> Result<(), VaultError> {
        let named = listing.points.iter().flat_map(|point| point.headers.iter().map(|(_, id, _)| id.epoch));
        let (seals, damaged) = self.seals(named.collect::<BTreeSet<EpochId>>()).await?;
        listing.damaged.extend(damaged);
        let late = |point: &ListedPoint| {
            let mut found = point.headers.iter().filter_map(|(_, id, header)| seals.against(*id, header));
            found.next().map(|what| (point.id, what))
        };
        let late: BTreeMap<PointId, String> = listing.points.iter().filter_map(late).collect();
        listing.points.retain(|point| !late.contains_key(&point.id));
        for (id, what) in late {
            listing.damage(id, Damaged::new(&self.layout.point(id), &what));
        }
        Ok(())
    }

    /// Points that a later one names as its predecessor, that are not what it says, and that no pass has removed.
    fn point_gaps(&self, listing: &PointListing) -> Vec<Damaged> {
        let by_id: BTreeMap<PointId, &ListedPoint> = listing.points.iter().map(|point| (point.id, point)).collect();
        let gap = |point: &ListedPoint| {
            let previous = point.record.previous.as_ref()?;
            let id = PointId { term: point.id.term, seq: previous.seq };
            // One that is there and damaged was named already.
            if listing.damaged_points.contains(&id) || listing.removals.explain_point(id, &previous.blake3) {
                return None;
            }
            let what = match by_id.get(&id) {
                Some(found) if found.blake3.to_hex().as_str() == previous.blake3 => return None,
                Some(_) => format!("not the point that {} was taken after", point.id),
                None => format!("missing: point {} was taken after it", point.id),
            };
            Some(Damaged::new(&self.layout.point(id), &what))
        };
        listing.points.iter().filter_map(gap).collect()
    }

    /// One recovery point with its headers.
    ///
    /// # Errors
    /// When it, or a header it names, is missing or not to be believed.
    pub async fn point(&self, id: PointId) -> Result<ListedPoint, VaultError> {
        let key = self.layout.point(id);
        let signed: Signed<PointRecord> = self.record(&key, "point").await?;
        let record = signed.record;
        let itself = (record.system.as_str(), record.term, record.seq, record.writer.as_str());
        if itself != (self.system.as_str(), id.term, id.seq, signed.signer.as_str()) {
            return Err(VaultError::Mismatch { key, what: "it names another point or writer".to_owned() });
        }
        let mut headers = Vec::new();
        for snapshot in &record.snapshots {
            let (source, id, header) = self.header_of(&key, snapshot).await?;
            if header.writer != record.writer {
                let what = format!("it is of {}, but snapshot {id} of {}", record.writer, header.writer);
                return Err(VaultError::Mismatch { key, what });
            }
            headers.push((source, id, header));
        }
        Ok(ListedPoint { id, record, blake3: signed.blake3, headers })
    }

    async fn header_of(
        &self,
        point: &str,
        snapshot: &v1::PointSnapshot,
    ) -> Result<(SourceName, SnapshotId, SnapshotHeader), VaultError> {
        let wrong = |what: String| VaultError::Mismatch { key: point.to_owned(), what };
        let source: SourceName = snapshot.source.parse().map_err(|e| wrong(format!("{e}")))?;
        let epoch = EpochId { term: snapshot.term, epoch: snapshot.epoch };
        let id = SnapshotId { epoch, seq: snapshot.seq };
        let (header, blake3) = self.header(&source, id).await?;
        if blake3.to_hex().as_str() != snapshot.blake3 {
            let what = format!("point {point} names another header");
            return Err(VaultError::Mismatch { key: self.layout.header(&source, id), what });
        }
        Ok((source, id, header))
    }

    /// One snapshot's header and the BLAKE3 of its bytes.
    ///
    /// # Errors
    /// When it is missing or not to be believed.
    pub async fn header(
        &self,
        source: &SourceName,
        id: SnapshotId,
    ) -> Result<(SnapshotHeader, blake3::Hash), VaultError> {
        let key = self.layout.header(source, id);
        let signed: Signed<SnapshotHeader> = self.record(&key, "snapshot").await?;
        let header = signed.record;
        let itself = (header.system.as_str(), header.source.clone(), header.term, header.epoch, header.seq);
        let named = (self.system.as_str(), source.to_string(), id.epoch.term, id.epoch.epoch, id.seq);
        if itself != named || header.writer != signed.signer {
            return Err(VaultError::Mismatch { key, what: "it names another snapshot or writer".to_owned() });
        }
        Ok((header, signed.blake3))
    }

    /// The last committed header of each epoch of `term`, after checking the newest epoch's chain.
    ///
    /// # Errors
    /// When the store fails. What is wrong with an epoch's headers is in its head.
    pub async fn heads(&self, term: Term) -> Result<Vec<EpochHead>, VaultError> {
        let mut newest: BTreeMap<EpochId, Vec<(SourceName, SnapshotId)>> = BTreeMap::new();
        for listed in self.keys.list(&self.layout.snapshots()).await? {
            if let Some((source, id)) = self.layout.parse_header(&listed.key).filter(|(_, id)| id.epoch.term == term) {
                newest.entry(id.epoch).or_default().push((source, id));
            }
        }
        let last_epoch = newest.keys().next_back().copied();
        let mut heads = Vec::new();
        for (epoch, mut headers) in newest {
            headers.sort_by_key(|(_, id)| id.seq);
            let last = match self.last_header(&headers, Some(epoch) == last_epoch).await {
                Err(VaultError::Store(error)) if !error.is_of_object() => return Err(error.into()),
                last => last,
            };
            let headers = headers.into_iter().map(|(source, id)| (id.seq, source)).collect();
            heads.push(EpochHead { epoch, headers, last });
        }
        Ok(heads)
    }

    /// The headers of one epoch, as a listing shows them: number → source. Nothing is read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn header_numbers(&self, epoch: EpochId) -> Result<BTreeMap<u64, SourceName>, VaultError> {
        let listed = self.keys.list(&self.layout.snapshots()).await?;
        let parsed = listed.iter().filter_map(|listed| self.layout.parse_header(&listed.key));
        Ok(parsed.filter(|(_, id)| id.epoch == epoch).map(|(source, id)| (id.seq, source)).collect())
    }

    /// Whether the keeper has sealed the epoch: nothing may be added to it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_sealed(&self, epoch: EpochId) -> Result<bool, VaultError> {
        Ok(self.keys.exists(&self.layout.sealed(epoch)).await?)
    }

    async fn last_header(
        &self,
        headers: &[(SourceName, SnapshotId)],
        whole_chain: bool,
    ) -> Result<LastHeader, VaultError> {
        if whole_chain {
            self.check_chain(headers).await?;
        }
        let (source, id) = headers.last().ok_or_else(|| VaultError::Machine("an epoch without headers".to_owned()))?;
        let (_, blake3) = self.header(source, *id).await?;
        Ok(LastHeader { seq: id.seq, blake3, key: self.layout.header(source, *id) })
    }

    async fn check_chain(&self, headers: &[(SourceName, SnapshotId)]) -> Result<(), VaultError> {
        let mut before: Option<v1::Link> = None;
        let (removals, _) = self.removals().await?;
        let read = |(source, id): (SourceName, SnapshotId)| async move { (self.header(&source, id).await, source, id) };
        let mut reading = stream::iter(headers.to_vec()).map(read).buffered(READS_AT_ONCE);
        while let Some((read, source, id)) = reading.next().await {
            let (header, blake3) = read?;
            let removed = header.previous.as_ref().is_some_and(|link| removals.explain_header(&link.blake3));
            if header.previous != before && !removed {
                let what = "the header before it in its chain is missing or was replaced".to_owned();
                return Err(VaultError::Mismatch { key: self.layout.header(&source, id), what });
            }
            before = Some(v1::Link { seq: id.seq, blake3: blake3.to_hex().to_string() });
        }
        Ok(())
    }

    /// The record of an epoch.
    ///
    /// # Errors
    /// When it is missing or not to be believed.
    pub async fn epoch(&self, id: EpochId) -> Result<EpochRecord, VaultError> {
        let key = self.layout.epoch(id);
        let signed: Signed<EpochRecord> = self.record(&key, "epoch").await?;
        let record = signed.record;
        if (record.system.as_str(), record.term, record.epoch) != (self.system.as_str(), id.term, id.epoch) {
            return Err(VaultError::Mismatch { key, what: "it names another epoch".to_owned() });
        }
        Ok(record)
    }

    /// Whether the vault still holds what opens the epoch `id`, whose packs are sealed to `recipient`.
    ///
    /// # Errors
    /// [`VaultError::Chain`] when not: nobody could read what is written into it.
    pub async fn check_epoch(&self, id: EpochId, recipient: &str) -> Result<(), VaultError> {
        let key = self.layout.epoch(id);
        let broken = |key: String, what: String| VaultError::Chain { key, what };
        match self.epoch(id).await {
            Ok(record) if record.recipient == recipient => {}
            Ok(_) => return Err(broken(key, "it is of another epoch than the state folder's".to_owned())),
            Err(VaultError::Store(error)) if !error.is_of_object() => return Err(error.into()),
            Err(error) => return Err(broken(key, said(error))),
        }
        let secrets = self.layout.secrets(id, 0);
        match self.keys.exists(&secrets).await {
            // A credential that may not even ask: the spare, which reads them, tells of damaged epochs in its status.
            Ok(true) | Err(StoreError::Denied { .. }) => Ok(()),
            Ok(false) => Err(broken(secrets, "it is gone, and nothing else opens the epoch".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// The proofs of all points, and what should be a proof and is not to be believed.
    ///
    /// # Errors
    /// When the store fails. A wrong proof must not stand between anybody and a restore.
    pub async fn proofs(&self) -> Result<(Vec<(PointId, ProofRecord)>, Vec<Damaged>), VaultError> {
        let (mut proofs, mut damaged) = (Vec::new(), Vec::new());
        let listed = self.keys.list(&self.layout.proofs()).await?;
        let read = |key: String| async move { (self.proof(&key).await, key) };
        let mut reading = stream::iter(listed).map(|listed| read(listed.key)).buffered(READS_AT_ONCE);
        while let Some((proof, key)) = reading.next().await {
            match proof {
                Ok(proof) => proofs.push(proof),
                // Removed with its point while it was read.
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(VaultError::Store(error)) if !error.is_of_object() => return Err(error.into()),
                Err(error) => damaged.push(Damaged::of(&key, error)),
            }
        }
        drop(reading);
        Ok((proofs, damaged))
    }

    async fn proof(&self, key: &str) -> Result<(PointId, ProofRecord), VaultError> {
        let wrong = |what: &str| VaultError::Mismatch { key: key.to_owned(), what: what.to_owned() };
        let (point, site, seq) = self.layout.parse_proof(key).ok_or_else(|| wrong("not the name of a proof"))?;
        let signed: Signed<ProofRecord> = self.record(key, "proof").await?;
        let record = signed.record;
        let itself = (record.point.as_str(), &record.site, record.seq, &signed.signer);
        if itself != (point.to_string().as_str(), &site, seq, &site) {
            return Err(wrong("it names another point or site"));
        }
        Ok((point, record))
    }

    /// The highest number among the proofs of `point` by `site`, believed or not; 0 when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_proof(&self, point: PointId, site: &str) -> Result<u64, VaultError> {
        let listed = self.keys.list(&self.layout.proofs()).await?;
        let parsed = listed.iter().filter_map(|listed| self.layout.parse_proof(&listed.key));
        Ok(parsed.filter(|(of, by, _)| *of == point && by == site).map(|(_, _, seq)| seq).max().unwrap_or(0))
    }
}

/// An error with its causes.
pub(super) fn said(error: VaultError) -> String {
    crate::error::Error::from(error).to_string()
}
