//! Every key name of the vault, and back again. Nothing else in the house spells one.
//!
//! Numbers are zero-padded, so that the order of keys is the order of numbers; no name holds a clock.

use std::fmt;
use std::str::FromStr;

use crate::config::SourceName;

/// Number of the lease grant under which something was written; 0 while no witness exists.
pub type Term = u64;

/// One epoch of the vault: the writer's dedupe horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    /// The term it was opened under.
    pub term: Term,
    /// Its number within the term, from 1.
    pub epoch: u64,
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{:06}", self.term, self.epoch)
    }
}

/// One snapshot: its epoch and its number within it, counted over all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The epoch it was written in.
    pub epoch: EpochId,
    /// From 1; a number may be missing where a capture was interrupted.
    pub seq: u64,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08}", self.epoch, self.seq)
    }
}

/// One recovery point. Written `0-12`; ordered by term, then number, never by a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId {
    /// The term it was taken under.
    pub term: Term,
    /// From 1; a number may be missing where a run was interrupted.
    pub seq: u64,
}

impl PointId {
    fn padded(self) -> String {
        format!("{:08}-{:08}", self.term, self.seq)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term, self.seq)
    }
}

/// Text that is not the id of a recovery point.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of a recovery point; it is written like 0-12, as `warmspare points` lists it")]
pub struct PointIdError(String);

impl crate::error::Explain for PointIdError {
    fn class(&self) -> crate::error::Class {
        crate::error::Class::Usage
    }
}

impl FromStr for PointId {
    type Err = PointIdError;

    fn from_str(text: &str) -> Result<Self, PointIdError> {
        let numbers = text.split_once('-').and_then(|(term, seq)| Some((number(term)?, number(seq)?)));
        numbers.map(|(term, seq)| PointId { term, seq }).ok_or_else(|| PointIdError(text.to_owned()))
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `vault.json`: what the whole vault says of itself.
pub const VAULT: &str = "vault.json";

/// What the canaries of one site's `vault probe` start with. Below it they are named as if it were a vault of its own:
/// no reader looks there, and policies that are about the ends of names hold there too.
pub fn canaries(site: &str) -> String {
    format!("probe/{site}/")
}

/// What all records of the keeper's passes start with.
pub const GC: &str = "gc/";

/// The record of one pass of the keeper, over all systems of the vault; numbers from 1.
pub fn gc(pass: u64) -> String {
    format!("{GC}{pass:08}.json")
}

/// The number of the pass whose record has that key, if it is one.
pub fn parse_gc(key: &str) -> Option<u64> {
    let pass = number(key.strip_prefix(GC)?.strip_suffix(".json")?)?;
    (gc(pass) == key).then_some(pass)
}

/// A canary of the keeper at `site`, written to learn what time the store has.
pub fn clock(site: &str, nonce: &str) -> String {
    format!("{}clock-{nonce}", canaries(site))
}

/// Whether a key is such a canary.
pub fn is_clock(site: &str, key: &str) -> bool {
    key.strip_prefix(&canaries(site)).is_some_and(|name| name.starts_with("clock-"))
}

/// What lies in the folder of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochObject {
    /// `epoch.json`.
    Record,
    /// `sealed.json`.
    Seal,
    /// `secrets-<n>.age`.
    Secrets(u32),
    /// A pack, by its name.
    Pack(blake3::Hash),
}

/// The key names of one system.
#[derive(Clone, Debug)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// The names below `systems/<system>/`.
    pub fn new(system: &str) -> Self {
        Layout { prefix: format!("systems/{system}") }
    }

    /// `epoch.json`: the epoch's clear record.
    pub fn epoch(&self, epoch: EpochId) -> String {
        format!("{}/epochs/{epoch}/epoch.json", self.prefix)
    }

    /// `sealed.json`: the keeper's word that the epoch is closed.
    pub fn sealed(&self, epoch: EpochId) -> String {
        format!("{}/epochs/{epoch}/sealed.json", self.prefix)
    }

    /// What all keys of all epochs start with.
    pub fn epochs(&self) -> String {
        format!("{}/epochs/", self.prefix)
    }

    /// What all keys of an epoch start with.
    pub fn epoch_prefix(&self, epoch: EpochId) -> String {
        format!("{}/epochs/{epoch}/", self.prefix)
    }

    /// The epoch the object under `key` belongs to: its records, packs, bodies and headers.
    pub fn epoch_of(&self, key: &str) -> Option<EpochId> {
        let Some((name, _)) = key.strip_prefix(&self.epochs()).and_then(|rest| rest.split_once('/')) else {
            return self.parse_header(key).or_else(|| self.parse_body(key)).map(|(_, id)| id.epoch);
        };
        let (term, epoch) = name.split_once('-')?;
        let id = EpochId { term: number(term)?, epoch: number(epoch)? };
        key.starts_with(&self.epoch_prefix(id)).then_some(id)
    }

    /// The epoch whose `epoch.json` has that key, if it is one.
    pub fn parse_epoch(&self, key: &str) -> Option<EpochId> {
        let (term, epoch) = key.strip_prefix(&self.epochs())?.strip_suffix("/epoch.json")?.split_once('-')?;
        let id = EpochId { term: number(term)?, epoch: number(epoch)? };
        (self.epoch(id) == key).then_some(id)
    }

    /// The epoch and name of the pack that has that key, if it is one.
    pub fn parse_pack(&self, key: &str) -> Option<(EpochId, blake3::Hash)> {
        let (epoch, rest) = key.strip_prefix(&self.epochs())?.split_once("/packs/")?;
        let (term, epoch) = epoch.split_once('-')?;
        let id = EpochId { term: number(term)?, epoch: number(epoch)? };
        let (_, name) = rest.split_once('/')?;
        let hash = blake3::Hash::from_hex(name.strip_suffix(".age")?).ok()?;
        (self.pack(id, &hash) == key).then_some((id, hash))
    }

    /// The epoch a key below [`Layout::epochs`] belongs to, and which of its objects it is.
    pub fn parse_epoch_key(&self, key: &str) -> Option<(EpochId, EpochObject)> {
        if let Some((id, hash)) = self.parse_pack(key) {
            return Some((id, EpochObject::Pack(hash)));
        }
        let (numbers, name) = key.strip_prefix(&self.epochs())?.split_once('/')?;
        let (term, epoch) = numbers.split_once('-')?;
        let id = EpochId { term: number(term)?, epoch: number(epoch)? };
        let object = match name {
            "epoch.json" => EpochObject::Record,
            "sealed.json" => EpochObject::Seal,
            other => EpochObject::Secrets(
                other.strip_prefix("secrets-")?.strip_suffix(".age").and_then(number)?.try_into().ok()?,
            ),
        };
        let spelled = match object {
            EpochObject::Record => self.epoch(id),
            EpochObject::Seal => self.sealed(id),
            EpochObject::Secrets(n) => self.secrets(id, n),
            EpochObject::Pack(hash) => self.pack(id, &hash),
        };
        (spelled == key).then_some((id, object))
    }

    /// `secrets-<n>.age`: the epoch's identity and chunk-id key, sealed.
    pub fn secrets(&self, epoch: EpochId, n: u32) -> String {
        format!("{}/epochs/{epoch}/secrets-{n}.age", self.prefix)
    }

    /// A pack, named by the BLAKE3 of its ciphertext.
    pub fn pack(&self, epoch: EpochId, hash: &blake3::Hash) -> String {
        let name = hash.to_hex();
        let shelf: String = name.chars().take(2).collect();
        format!("{}/epochs/{epoch}/packs/{shelf}/{name}.age", self.prefix)
    }

    /// The sealed body of a snapshot.
    pub fn body(&self, source: &SourceName, id: SnapshotId) -> String {
        format!("{}/snapshots/{source}/{id}.body.age", self.prefix)
    }

    /// The clear header of a snapshot: its commit.
    pub fn header(&self, source: &SourceName, id: SnapshotId) -> String {
        format!("{}/snapshots/{source}/{id}.json", self.prefix)
    }

    /// What all snapshots' keys start with.
    pub fn snapshots(&self) -> String {
        format!("{}/snapshots/", self.prefix)
    }

    /// The snapshot whose header has that key, if it is one.
    pub fn parse_header(&self, key: &str) -> Option<(SourceName, SnapshotId)> {
        let (source, name) = key.strip_prefix(&self.snapshots())?.split_once('/')?;
        let mut numbers = name.strip_suffix(".json")?.splitn(3, '-').map(number);
        let (term, epoch, seq) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let found = (source.parse().ok()?, SnapshotId { epoch: EpochId { term, epoch }, seq });
        (self.header(&found.0, found.1) == key).then_some(found)
    }

    /// The snapshot whose sealed body has that key, if it is one.
    pub fn parse_body(&self, key: &str) -> Option<(SourceName, SnapshotId)> {
        let header = format!("{}.json", key.strip_suffix(".body.age")?);
        self.parse_header(&header)
    }

    /// A recovery point.
    pub fn point(&self, id: PointId) -> String {
        format!("{}{}.json", self.points(), id.padded())
    }

    /// What all points' keys start with.
    pub fn points(&self) -> String {
        format!("{}/points/", self.prefix)
    }

    /// The point that has that key, if it is one.
    pub fn parse_point(&self, key: &str) -> Option<PointId> {
        let id: PointId = key.strip_prefix(&self.points())?.strip_suffix(".json")?.parse().ok()?;
        (self.point(id) == key).then_some(id)
    }

    /// What a site says of itself: the only key that is overwritten.
    pub fn status(&self, site: &str) -> String {
        format!("{}{site}.json", self.statuses())
    }

    /// What all status records' keys start with.
    pub fn statuses(&self) -> String {
        format!("{}/status/", self.prefix)
    }

    /// One hold of a point, or its release; `seq` from 1.
    pub fn hold(&self, point: PointId, seq: u64) -> String {
        format!("{}{}-{seq:08}.json", self.holds(), point.padded())
    }

    /// What all holds' keys start with.
    pub fn holds(&self) -> String {
        format!("{}/holds/", self.prefix)
    }

    /// The point and number of the hold that has that key, if it is one.
    pub fn parse_hold(&self, key: &str) -> Option<(PointId, u64)> {
        let mut numbers = key.strip_prefix(&self.holds())?.strip_suffix(".json")?.splitn(3, '-').map(number);
        let (term, seq, hold) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let found = (PointId { term, seq }, hold);
        (self.hold(found.0, found.1) == key).then_some(found)
    }

    /// One proof of a point, written by a site; `seq` from 1.
    pub fn proof(&self, point: PointId, site: &str, seq: u64) -> String {
        format!("{}{site}-{seq:08}.json", self.proofs_of(point))
    }

    /// What all proofs' keys of a point start with.
    pub fn proofs_of(&self, point: PointId) -> String {
        format!("{}{}-", self.proofs(), point.padded())
    }

    /// What all proofs' keys start with.
    pub fn proofs(&self) -> String {
        format!("{}/proofs/", self.prefix)
    }

    /// The point, site and number of the proof that has that key, if it is one.
    pub fn parse_proof(&self, key: &str) -> Option<(PointId, String, u64)> {
        let name = key.strip_prefix(&self.proofs())?.strip_suffix(".json")?;
        let (term, rest) = name.split_once('-')?;
        let (point_seq, rest) = rest.split_once('-')?;
        let (site, seq) = rest.rsplit_once('-')?;
        let point = PointId { term: number(term)?, seq: number(point_seq)? };
        let found = (point, site.to_owned(), number(seq)?);
        (self.proof(found.0, &found.1, found.2) == key).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_names_of_format_1() {
        let layout = Layout::new("builder");
        let epoch = EpochId { term: 3, epoch: 2 };
        let id = SnapshotId { epoch, seq: 17 };
        let source: SourceName = "database.builder".parse().unwrap();
        let point = PointId { term: 3, seq: 9 };
        let hash = blake3::hash(b"");
        let names = [
            layout.epoch(epoch),
            layout.secrets(epoch, 0),
            layout.pack(epoch, &hash),
            layout.body(&source, id),
            layout.header(&source, id),
            layout.point(point),
            layout.proof(point, "fra-1", 4),
            layout.sealed(epoch),
            layout.status("fra"),
            layout.hold(point, 1),
            gc(12),
        ];
        assert_eq!(
            names.join("\n"),
            "systems/builder/epochs/00000003-000002/epoch.json\n\
             systems/builder/epochs/00000003-000002/secrets-0.age\n\
             systems/builder/epochs/00000003-000002/packs/af/\
             af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262.age\n\
             systems/builder/snapshots/database.builder/00000003-000002-00000017.body.age\n\
             systems/builder/snapshots/database.builder/00000003-000002-00000017.json\n\
             systems/builder/points/00000003-00000009.json\n\
             systems/builder/proofs/00000003-00000009-fra-1-00000004.json\n\
             systems/builder/epochs/00000003-000002/sealed.json\n\
             systems/builder/status/fra.json\n\
             systems/builder/holds/00000003-00000009-00000001.json\n\
             gc/00000012.json"
        );
        assert_eq!(layout.parse_epoch(&names[0]), Some(epoch));
        let of_the_epoch: Vec<bool> = names.iter().map(|name| layout.epoch_of(name) == Some(epoch)).collect();
        assert_eq!(of_the_epoch, [true, true, true, true, true, false, false, true, false, false, false]);
        let objects: Vec<_> = names.iter().filter_map(|name| layout.parse_epoch_key(name)).collect();
        let (secrets, pack) = (EpochObject::Secrets(0), EpochObject::Pack(hash));
        assert_eq!(objects, [EpochObject::Record, secrets, pack, EpochObject::Seal].map(|object| (epoch, object)));
        assert_eq!(layout.parse_pack(&names[2]), Some((epoch, hash)));
        assert_eq!(layout.parse_body(&names[3]), Some((source.clone(), id)));
        assert_eq!(layout.parse_body(&names[4]), None, "a header is not a body");
        assert_eq!(layout.parse_hold(&names[9]), Some((point, 1)));
        assert_eq!(parse_gc(&names[10]), Some(12));
        assert_eq!(layout.parse_header(&names[4]), Some((source, id)));
        assert_eq!(layout.parse_header(&names[3]), None, "a body is not a header");
        assert_eq!(layout.parse_point(&names[5]), Some(point));
        assert_eq!(layout.parse_proof(&names[6]), Some((point, "fra-1".into(), 4)));
    }

    #[test]
    fn names_that_are_not_exactly_ours_are_not_ours() {
        let layout = Layout::new("builder");
        assert_eq!(layout.parse_point("systems/builder/points/3-9.json"), None);
        assert_eq!(layout.parse_point("systems/builder/points/00000003-+0000009.json"), None);
        assert_eq!(layout.parse_point("systems/other/points/00000003-00000009.json"), None);
    }

    #[test]
    fn point_ids_as_people_write_them() {
        assert_eq!("0-12".parse(), Ok(PointId { term: 0, seq: 12 }));
        assert_eq!("00000000-00000012".parse(), Ok(PointId { term: 0, seq: 12 }));
        for text in ["", "12", "a-b", "0--1", "-1-2", "0-1-2"] {
            assert!(text.parse::<PointId>().is_err(), "{text}");
        }
        assert!(PointId { term: 1, seq: 1 } > PointId { term: 0, seq: 99 });
    }
}
