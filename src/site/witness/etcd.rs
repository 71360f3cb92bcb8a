//! The record in etcd: one key, whose revision is the cluster's by which it was written.
//!
//! One key and not numbered ones, as in a bucket: the transaction names the revision *and* the bytes it replaces, so that
//! neither pruning nor a cluster restored from a backup can make room for a write of somebody who slept; and nothing of ours
//! grows there. What the key was is the past that etcd keeps anyway, until it is compacted (`--auto-compaction-retention`).

use bytes::Bytes;

use super::WitnessError;
use super::register::{Entry, Registers};
use crate::site::lease::Revision;
use crate::store::Etcd;
use crate::store::etcd::{Expected, Kept};

fn entry(kept: Kept) -> Entry {
    (Revision(kept.revision), kept.value)
}

impl Registers for Etcd {
    fn name(&self) -> &str {
        Etcd::name(self)
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, WitnessError> {
        Ok(Etcd::get(self, key).await?.map(entry))
    }

    async fn put(
        &self,
        key: &str,
        expected: Option<(Revision, Option<Bytes>)>,
        value: Bytes,
    ) -> Result<Option<Revision>, WitnessError> {
        let expected = match expected {
            Some((revision, bytes)) => Expected::Revision(revision.0, bytes),
            None => Expected::Nothing,
        };
        Ok(Etcd::put(self, key, &expected, &value).await?.map(Revision))
    }

    async fn remove(&self, key: &str) -> Result<(), WitnessError> {
        Ok(self.delete(key).await?)
    }

    async fn earlier(&self, key: &str, count: usize) -> Result<Vec<Entry>, WitnessError> {
        let mut entries = Vec::new();
        let mut next = if count == 0 { None } else { Etcd::get(self, key).await? };
        while let Some(kept) = next {
            let before = kept.revision.saturating_sub(1);
            entries.push(entry(kept));
            next = if entries.len() < count && before > 0 { self.get_at(key, before).await? } else { None };
        }
        Ok(entries)
    }

    /// The cluster does so itself.
    async fn prune(&self, _: &str) -> Result<usize, WitnessError> {
        Ok(0)
    }

    async fn forgets(&self) -> Result<Option<String>, WitnessError> {
        Ok(None)
    }
}
