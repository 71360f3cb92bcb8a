//! What the spare found wrong with its bucket, mended before the mirror runs.
//!
//! The spare may not read the live bucket, so its `verify --only bucket.NAME` names what it found in its status record. That
//! is only a hint: a name is a hash that fits an object of our own manifest or fits nothing, and each object is read at the
//! spare again before anything is done. What was named once is looked at once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::PointError;
use super::take::Run;
use crate::config::SourceName;
use crate::durable;
use crate::error::Error;
use crate::mirror::{self, Fate, Fates, Sides};
use crate::vault::VaultError;
use crate::vault::v1::BucketVerdict;

/// `told.json` of the mirror's folder.
#[derive(Serialize, Deserialize)]
struct StateFile {
    /// Of when the last verdict was that was looked at.
    at: Timestamp,
}

impl Run<'_> {
    /// Looks at the objects of `source` that the other site named, and mends them; what became of each.
    pub(super) async fn mend(&self, source: &SourceName) -> Result<Fates, Error> {
        let Some(verdict) = self.told(source).await? else { return Ok(Fates::new()) };
        let path = self.told_path(source);
        let failed = |source| PointError::State { path: path.clone(), source };
        let content = durable::read(&path).map_err(failed)?;
        // One that cannot be read costs a second look.
        let last = content.and_then(|content| serde_json::from_slice::<StateFile>(&content).ok());
        if last.is_some_and(|last| last.at == verdict.at) {
            return Ok(Fates::new());
        }
        let folder = self.manifest_folder(source);
        let suspects: BTreeSet<String> = verdict.suspects.into_iter().collect();
        let keys = mirror::suspected(&folder, suspects).await?;
        let mut fates = Fates::new();
        if !keys.is_empty() {
            let from = self.live(source)?;
            let (to, attic) = self.spare(source).await?;
            let sides = Sides { source: &from, canary: None, target: &to, attic: &attic };
            fates = mirror::mend(&sides, &folder, keys, &self.limits, &*self.clock, self.progress).await?;
        }
        durable::private_folder(&folder).map_err(failed)?;
        let content = serde_json::to_vec(&StateFile { at: verdict.at }).map_err(|error| failed(error.into()))?;
        durable::replace(&path, &content).map_err(failed)?;
        crate::failpoint::hit("point.mended");
        Ok(fates)
    }

    /// What the other site says of the bucket, if it found something wrong with it.
    async fn told(&self, source: &SourceName) -> Result<Option<BucketVerdict>, Error> {
        let status = match self.reader.status(&self.here.other.name, &self.here.vault_state()).await {
            Ok(status) => status,
            Err(VaultError::Store(error)) => return Err(error.into()),
            // It only informs, and that it cannot be believed was told when the epoch was opened.
            Err(_) => None,
        };
        let verdicts = status.into_iter().flat_map(|status| status.buckets);
        let source = source.to_string();
        Ok(verdicts.into_iter().find(|verdict| verdict.source == source && !verdict.suspects.is_empty()))
    }

    fn told_path(&self, source: &SourceName) -> PathBuf {
        self.manifest_folder(source).join("told.json")
    }
}

/// How many objects were mended.
pub(super) fn mended(fates: &Fates) -> usize {
    fates.values().filter(|fate| **fate == Fate::Mended).count()
}

/// What cannot be mended, object by object.
pub(super) fn lost(fates: &Fates) -> impl Iterator<Item = String> {
    fates.iter().filter_map(|(key, fate)| {
        let why = match fate {
            Fate::Sound | Fate::Mended => return None,
            Fate::MissingAtSource => "damaged or lost at the other site, and removed from this one".to_owned(),
            Fate::ChangedAtSource => {
                "damaged or lost at the other site, and another version at this one: that one is mirrored".to_owned()
            }
            Fate::DamagedAtSource => {
                "damaged or lost at the other site, and not what was recorded at this one: look at its disk".to_owned()
            }
            Fate::Failed { why } => format!("damaged or lost at the other site, and could not be copied again: {why}"),
        };
        Some(format!("{key:?}: {why}"))
    })
}
