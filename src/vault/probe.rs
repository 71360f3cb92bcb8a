//! What this site's credential may really do at the vault: canaries under the names of real objects, a dated record of what
//! came of them in the state folder, and its verdict in the site's status.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{self, EpochId, Layout, PointId, SnapshotId};
use super::status::{StatusKeeping, update_status};
use super::v1::ProbeVerdict;
use super::{VaultError, VaultReader};
use crate::clock::Clock;
use crate::config::{SourceKind, SourceName};
use crate::durable;
use crate::failpoint;
use crate::store::{Canary, Keys, StoreProbe};

/// A probe with its date: `probe.json` of the state folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatedProbe {
    /// When, by this site's clock.
    pub at: jiff::Timestamp,
    /// The site.
    pub site: String,
    /// What was found.
    pub found: StoreProbe,
}

/// The canaries of `site`: fixed names, so that those which cannot be removed do not pile up. Epoch 0 and point 0 exist nowhere.
pub fn canaries(system: &str, site: &str) -> Vec<Canary> {
    let (layout, below) = (Layout::new(system), layout::canaries(site));
    let epoch = EpochId { term: 0, epoch: 0 };
    let source = SourceName::new(SourceKind::Database, "probe");
    let snapshot = SnapshotId { epoch, seq: 0 };
    let zeros = blake3::Hash::from_bytes([0; 32]);
    let canary = |kind: &str, key: String, folder: String| Canary {
        kind: kind.to_owned(),
        key: format!("{below}{key}"),
        folder: format!("{below}{folder}"),
        is_overwritten: kind == "status",
    };
    vec![
        canary("record", layout.point(PointId { term: 0, seq: 0 }), layout.points()),
        canary("pack", layout.pack(epoch, &zeros), layout.epoch_prefix(epoch)),
        canary("body", layout.body(&source, snapshot), layout.snapshots()),
        canary("secrets", layout.secrets(epoch, 0), layout.epochs()),
        canary("status", layout.status(site), layout.statuses()),
    ]
}

/// Probes the vault, keeps what was found, and says the verdict in this site's status.
///
/// # Errors
/// When the store fails other than by refusing, or the state folder or the status cannot be written.
pub async fn probe_vault(
    keys: &Keys,
    reader: &VaultReader<Keys>,
    keeping: &StatusKeeping<'_>,
    clock: &dyn Clock,
) -> Result<DatedProbe, VaultError> {
    let found = crate::store::probe::probe(keys, &canaries(keeping.system, keeping.site)).await?;
    let dated = DatedProbe { at: clock.now(), site: keeping.site.to_owned(), found };
    keep(keeping.state, &dated)?;
    let verdict = ProbeVerdict { at: dated.at, protection: dated.found.protection.word().to_owned() };
    update_status(keys, reader, keeping, clock, |record| record.probe = Some(verdict)).await?;
    Ok(dated)
}

fn keep(state: &Path, dated: &DatedProbe) -> Result<(), VaultError> {
    let path = state.join("probe.json");
    let wrong = |what: String| VaultError::State { path: path.clone(), what };
    let content = serde_json::to_vec_pretty(dated).map_err(|e| wrong(e.to_string()))?;
    durable::private_folder(state).map_err(|e| wrong(e.to_string()))?;
    durable::replace(&path, &content).map_err(|e| wrong(e.to_string()))?;
    failpoint::hit("vault.probe.state");
    Ok(())
}

/// The last probe of this site; nothing before the first.
///
/// # Errors
/// [`VaultError::State`] when the file is there and cannot be read.
pub fn last_probe(state: &Path) -> Result<Option<DatedProbe>, VaultError> {
    let path = state.join("probe.json");
    let wrong = |what: String| VaultError::State { path: path.clone(), what };
    let Some(content) = durable::read(&path).map_err(|e| wrong(e.to_string()))? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|e| wrong(format!("damaged: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reader_takes_a_canary_for_an_object() {
        let layout = Layout::new("builder");
        for canary in canaries("builder", "ams") {
            let key = canary.key.as_str();
            assert!(key.starts_with("probe/ams/systems/builder/") && key.starts_with(canary.folder.as_str()), "{key}");
            assert!(layout.parse_point(key).is_none() && layout.parse_pack(key).is_none(), "{key}");
            assert!(layout.parse_header(key).is_none() && layout.parse_body(key).is_none(), "{key}");
        }
    }
}
