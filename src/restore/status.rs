//! What a proven restore says of this site in the vault, where the other site looks.

use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::keys::SigningKey;
use crate::store::Keys;
use crate::vault::layout::PointId;
use crate::vault::v1::StatusRecord;
use crate::vault::{StatusKeeping, VaultReader, update_status};

/// Says in this site's status that the point is proven, unless a newer one is. The other site sees it there without
/// reading every proof, and misses the proof if somebody takes it away.
///
/// # Errors
/// When the vault does not take it.
pub(super) async fn tell(
    here: &Here,
    keys: &Keys,
    reader: &VaultReader<Keys>,
    id: PointId,
    signer: &SigningKey,
    clock: &dyn Clock,
) -> Result<(), Error> {
    let (system, site, state) = (here.config.system.as_str(), here.site.name.as_str(), here.vault_state());
    let keeping = StatusKeeping { system, site, signer, state: &state };
    let change = |status: &mut StatusRecord| {
        let told: Option<PointId> = status.newest_proven.as_deref().and_then(|told| told.parse().ok());
        status.newest_proven = told.max(Some(id)).map(|newest| newest.to_string());
    };
    update_status(keys, reader, &keeping, clock, change).await?;
    Ok(())
}
