//! Holds: points that stay whatever the rules say.
//!
//! Each site speaks for itself: a point is held as long as one of them has not taken its own hold back, so that a
//! compromised site can hold points and release none. What cannot be read is taken for a hold.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::VaultError;
use super::layout::{Layout, PointId};
use super::reader::{Damaged, READS_AT_ONCE, VaultReader};
use super::v1::{FORMAT, HoldRecord, Signed};
use super::writer::{SOFTWARE, put_once};
use crate::failpoint;
use crate::keys::SigningKey;
use crate::store::{Create, Read};

/// The holds of all points.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    records: BTreeMap<PointId, Vec<HoldRecord>>,
    /// Points of which a hold is missing or not to be believed.
    doubtful: BTreeSet<PointId>,
    /// The highest number of each point, believed or not.
    last: BTreeMap<PointId, u64>,
}

impl Holds {
    /// Why a point is held, and by which site; empty when it is not.
    pub fn of(&self, id: PointId) -> Vec<String> {
        let mut last: BTreeMap<&str, &HoldRecord> = BTreeMap::new();
        for record in self.records.get(&id).into_iter().flatten() {
            last.insert(&record.writer, record);
        }
        let held = last.values().filter(|record| record.held);
        let mut why: Vec<String> = held.map(|record| format!("{}: {}", record.writer, record.why)).collect();
        if self.doubtful.contains(&id) {
            why.push("a record of its holds is missing or damaged".to_owned());
        }
        why
    }

    /// Whether `site` itself holds the point.
    pub fn is_held_by(&self, id: PointId, site: &str) -> bool {
        let mut records = self.records.get(&id).into_iter().flatten();
        records.rfind(|record| record.writer == site).is_some_and(|record| record.held)
    }

    /// The number for the next record of a point.
    pub fn next(&self, id: PointId) -> u64 {
        self.last.get(&id).copied().unwrap_or(0) + 1
    }
}

impl<R: Read> VaultReader<R> {
    /// The holds of all points, and what should be one and is not to be believed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn holds(&self) -> Result<(Holds, Vec<Damaged>), VaultError> {
        let (mut holds, mut damaged) = (Holds::default(), Vec::new());
        let mut numbers: BTreeMap<PointId, Vec<u64>> = BTreeMap::new();
        for listed in self.keys.list(&self.layout.holds()).await? {
            match self.layout.parse_hold(&listed.key) {
                Some((id, seq)) => numbers.entry(id).or_default().push(seq),
                None => damaged.push(Damaged::new(&listed.key, "not the name of a hold")),
            }
        }
        for (id, numbers) in &numbers {
            let last = numbers.iter().copied().max().unwrap_or(0);
            holds.last.insert(*id, last);
            if last != numbers.len() as u64 {
                holds.doubtful.insert(*id);
                let key = self.layout.hold(*id, last);
                damaged.push(Damaged::new(&key, "one before it is missing"));
            }
        }
        let all: Vec<(PointId, u64)> =
            numbers.into_iter().flat_map(|(id, numbers)| numbers.into_iter().map(move |seq| (id, seq))).collect();
        let read = |(id, seq): (PointId, u64)| async move { (id, seq, self.hold(id, seq).await) };
        let mut reading = stream::iter(all).map(read).buffered(READS_AT_ONCE);
        while let Some((id, seq, hold)) = reading.next().await {
            match hold {
                Ok(record) => holds.records.entry(id).or_default().push(record),
                Err(VaultError::Store(error)) if !error.is_not_found() => return Err(error.into()),
                Err(error) => {
                    holds.doubtful.insert(id);
                    damaged.push(Damaged::of(&self.layout.hold(id, seq), error));
                }
            }
        }
        drop(reading);
        Ok((holds, damaged))
    }

    async fn hold(&self, id: PointId, seq: u64) -> Result<HoldRecord, VaultError> {
        let key = self.layout.hold(id, seq);
        let signed: Signed<HoldRecord> = self.record(&key, "hold").await?;
        let record = signed.record;
        let itself = (record.system.as_str(), record.point.as_str(), record.seq, &record.writer);
        if itself != (self.system(), id.to_string().as_str(), seq, &signed.signer) {
            return Err(VaultError::Mismatch { key, what: "it names another point or writer".to_owned() });
        }
        Ok(record)
    }
}

/// A hold, or its release, about to be signed.
pub struct NewHold<'a> {
    /// The system.
    pub system: &'a str,
    /// The point.
    pub point: PointId,
    /// [`Holds::next`].
    pub seq: u64,
    /// This site.
    pub site: &'a str,
    /// Whether the point is held from here on.
    pub held: bool,
    /// Why.
    pub why: &'a str,
    /// When.
    pub at: jiff::Timestamp,
}

/// Signs and puts a hold or its release.
///
/// # Errors
/// [`VaultError::OtherWriter`] when its number was taken meanwhile.
pub async fn put_hold<C: Create>(keys: &C, new: &NewHold<'_>, signer: &SigningKey) -> Result<HoldRecord, VaultError> {
    let record = HoldRecord {
        format: FORMAT,
        kind: "hold".to_owned(),
        system: new.system.to_owned(),
        point: new.point.to_string(),
        seq: new.seq,
        writer: new.site.to_owned(),
        held: new.held,
        why: new.why.to_owned(),
        at: new.at,
        software: SOFTWARE.to_owned(),
    };
    let key = Layout::new(new.system).hold(new.point, new.seq);
    let bytes = Signed::encode(&record, &key, new.site, signer).map_err(|e| VaultError::Machine(e.to_string()))?;
    put_once(keys, &key, bytes).await?;
    failpoint::hit("vault.hold");
    Ok(record)
}
