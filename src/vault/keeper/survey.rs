//! What is there: every object of the system, sorted by what it belongs to. Names and sizes are kept, not records.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use crate::config::SourceName;
use crate::store::Read;
use crate::vault::VaultError;
use crate::vault::layout::{EpochId, EpochObject, PointId, SnapshotId};
use crate::vault::reader::{Damaged, PointListing, READS_AT_ONCE, VaultReader};
use crate::vault::v1::{BodyLink, EpochRecord, Link, SealedRecord, SnapshotHeader};

/// A header, or its body, within its epoch.
pub(super) type Place = (u64, SourceName);

/// What of a header counts here.
#[derive(Clone, Debug)]
pub(super) struct HeaderFacts {
    pub blake3: String,
    pub body: BodyLink,
    pub previous: Option<Link>,
    pub writer: String,
}

impl HeaderFacts {
    fn new(blake3: String, header: &SnapshotHeader) -> Self {
        let (body, previous) = (header.body.clone(), header.previous.clone());
        HeaderFacts { blake3, body, previous, writer: header.writer.clone() }
    }
}

/// One epoch.
#[derive(Debug, Default)]
pub(super) struct EpochObjects {
    /// Its record, and when the store made it; `None` when it is not there or not to be believed.
    pub record: Option<(EpochRecord, Timestamp)>,
    /// Whether there is an object of that name.
    pub has_record: bool,
    /// Its seal, and when the store made it; `None` when it is not there or not to be believed.
    pub seal: Option<(SealedRecord, Timestamp)>,
    /// Whether there is an object of that name.
    pub has_seal: bool,
    /// Numbers of its secrets.
    pub secrets: Vec<u32>,
    /// Name and size of each pack.
    pub packs: BTreeMap<[u8; 32], u64>,
    /// Its headers; `None` is one that is not to be believed.
    pub headers: BTreeMap<Place, Option<HeaderFacts>>,
    /// Its bodies.
    pub bodies: BTreeSet<Place>,
    stored_at: Option<Timestamp>,
    sealed_at: Option<Timestamp>,
}

/// The system's part of the vault.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub epochs: BTreeMap<EpochId, EpochObjects>,
    /// When the store made each point.
    pub points: BTreeMap<PointId, Timestamp>,
    /// Keys of proofs and holds, by point.
    pub attached: BTreeMap<PointId, Vec<String>>,
    pub alarms: Vec<Damaged>,
}

impl Survey {
    pub async fn of<R: Read>(reader: &VaultReader<R>, listing: &PointListing) -> Result<Self, VaultError> {
        let mut survey = Survey::default();
        survey.list_epochs(reader).await?;
        survey.list_snapshots(reader).await?;
        survey.list_points(reader).await?;
        survey.read_epochs(reader).await?;
        survey.read_headers(reader, listing).await?;
        Ok(survey)
    }

    async fn list_epochs<R: Read>(&mut self, reader: &VaultReader<R>) -> Result<(), VaultError> {
        for listed in reader.keys.list(&reader.layout.epochs()).await? {
            let Some((id, object)) = reader.layout.parse_epoch_key(&listed.key) else {
                self.strange(listed.key);
                continue;
            };
            let epoch = self.epochs.entry(id).or_default();
            match object {
                EpochObject::Record => (epoch.has_record, epoch.stored_at) = (true, Some(listed.modified)),
                EpochObject::Seal => (epoch.has_seal, epoch.sealed_at) = (true, Some(listed.modified)),
                EpochObject::Secrets(n) => epoch.secrets.push(n),
                EpochObject::Pack(name) => drop(epoch.packs.insert(*name.as_bytes(), listed.size)),
            }
        }
        Ok(())
    }

    async fn list_snapshots<R: Read>(&mut self, reader: &VaultReader<R>) -> Result<(), VaultError> {
        for listed in reader.keys.list(&reader.layout.snapshots()).await? {
            if let Some((source, id)) = reader.layout.parse_header(&listed.key) {
                self.epochs.entry(id.epoch).or_default().headers.insert((id.seq, source), None);
            } else if let Some((source, id)) = reader.layout.parse_body(&listed.key) {
                self.epochs.entry(id.epoch).or_default().bodies.insert((id.seq, source));
            } else {
                self.strange(listed.key);
            }
        }
        Ok(())
    }

    async fn list_points<R: Read>(&mut self, reader: &VaultReader<R>) -> Result<(), VaultError> {
        let layout = &reader.layout;
        for listed in reader.keys.list(&layout.points()).await? {
            // One of another name is in the listing of points already.
            if let Some(id) = layout.parse_point(&listed.key) {
                self.points.insert(id, listed.modified);
            }
        }
        for listed in reader.keys.list(&layout.proofs()).await? {
            if let Some((id, ..)) = layout.parse_proof(&listed.key) {
                self.attached.entry(id).or_default().push(listed.key);
            }
        }
        for listed in reader.keys.list(&layout.holds()).await? {
            if let Some((id, _)) = layout.parse_hold(&listed.key) {
                self.attached.entry(id).or_default().push(listed.key);
            }
        }
        Ok(())
    }

    async fn read_epochs<R: Read>(&mut self, reader: &VaultReader<R>) -> Result<(), VaultError> {
        for (id, epoch) in &mut self.epochs {
            if let Some(stored_at) = epoch.stored_at {
                match reader.epoch(*id).await {
                    Ok(record) => epoch.record = Some((record, stored_at)),
                    Err(error) => self.alarms.push(damage(reader.layout.epoch(*id), error)?),
                }
            }
            if let Some(sealed_at) = epoch.sealed_at {
                match reader.seal(*id).await {
                    Ok(seal) => epoch.seal = seal.map(|seal| (seal, sealed_at)),
                    Err(error) => self.alarms.push(damage(reader.layout.sealed(*id), error)?),
                }
            }
        }
        Ok(())
    }

    /// Facts of every header: of those that points name from the listing, of the others from the vault.
    async fn read_headers<R: Read>(
        &mut self,
        reader: &VaultReader<R>,
        listing: &PointListing,
    ) -> Result<(), VaultError> {
        for point in &listing.points {
            for ((source, id, header), named) in point.headers.iter().zip(&point.record.snapshots) {
                let epoch = self.epochs.get_mut(&id.epoch);
                if let Some(facts) = epoch.and_then(|epoch| epoch.headers.get_mut(&(id.seq, source.clone()))) {
                    *facts = Some(HeaderFacts::new(named.blake3.clone(), header));
                }
            }
        }
        let unread = |(id, epoch): (&EpochId, &EpochObjects)| {
            let places = epoch.headers.iter().filter(|(_, facts)| facts.is_none()).map(|(place, _)| place.clone());
            let epoch = *id;
            places.map(move |(seq, source)| (source, SnapshotId { epoch, seq })).collect::<Vec<_>>()
        };
        let unread: Vec<(SourceName, SnapshotId)> = self.epochs.iter().flat_map(unread).collect();
        let read =
            |(source, id): (SourceName, SnapshotId)| async move { (reader.header(&source, id).await, source, id) };
        let mut reading = stream::iter(unread).map(read).buffered(READS_AT_ONCE);
        while let Some((header, source, id)) = reading.next().await {
            match header {
                Ok((header, blake3)) => {
                    let facts = HeaderFacts::new(blake3.to_hex().to_string(), &header);
                    self.epochs.entry(id.epoch).or_default().headers.insert((id.seq, source), Some(facts));
                }
                Err(error) => self.alarms.push(damage(reader.layout.header(&source, id), error)?),
            }
        }
        Ok(())
    }

    fn strange(&mut self, key: String) {
        self.alarms.push(Damaged::new(&key, "not the name of anything of ours; it is left alone"));
    }
}

/// A record that is not to be believed is an alarm; a store that fails ends the pass.
pub(super) fn damage(key: String, error: VaultError) -> Result<Damaged, VaultError> {
    match error {
        VaultError::Store(error) if !error.is_not_found() => Err(error.into()),
        error => Ok(Damaged::of(&key, error)),
    }
}
