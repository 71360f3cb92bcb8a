//! The clear records that the listing of points does not read: the vault's own, epochs, proofs, statuses, holds,
//! seals, and the keeper's passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::Faults;
use crate::store::Read;
use crate::vault::VaultError;
use crate::vault::layout::{self, EpochId, PointId};
use crate::vault::reader::{Damaged, PointListing, VaultReader};
use crate::vault::v1::{GcRecord, HoldRecord, ProofRecord, SealedRecord, Verdict};

/// Checks them all.
///
/// # Errors
/// When the store fails.
pub(super) async fn check<R: Read>(
    reader: &VaultReader<R>,
    listing: &PointListing,
    state: &Path,
    faults: &mut Faults,
) -> Result<(), VaultError> {
    if !listing.points.is_empty()
        && let Err(error) = reader.vault_record().await
    {
        faults.take(layout::VAULT, error)?;
    }
    let headers = listing.points.iter().flat_map(|point| &point.headers);
    let epochs: BTreeSet<EpochId> = headers.map(|(_, id, _)| id.epoch).collect();
    for epoch in epochs {
        if let Err(error) = reader.epoch(epoch).await {
            faults.take(&reader.layout.epoch(epoch), error)?;
        }
        let sealed = reader.layout.sealed(epoch);
        signed::<SealedRecord, R>(reader, &sealed, "sealed", faults).await?;
    }
    for held in reader.keys.list(&reader.layout.holds()).await? {
        signed::<HoldRecord, R>(reader, &held.key, "hold", faults).await?;
    }
    for pass in reader.keys.list(layout::GC).await? {
        signed::<GcRecord, R>(reader, &pass.key, "gc", faults).await?;
    }
    let (proofs, damaged) = reader.proofs().await?;
    missing_proofs(reader, &proofs, &damaged, faults);
    let mut there: BTreeSet<(PointId, String)> = BTreeSet::new();
    there.extend(
        damaged.iter().filter_map(|damaged| reader.layout.parse_proof(&damaged.key)).map(|(of, by, _)| (of, by)),
    );
    let green = proofs.into_iter().filter(|(_, proof)| proof.verdict == Verdict::Equal && proof.complete);
    there.extend(green.map(|(of, proof)| (of, proof.site)));
    damaged.into_iter().for_each(|damaged| faults.add(damaged));
    statuses(reader, listing, &there, state, faults).await
}

/// A record that need not be there, but is believed if it is.
async fn signed<T: DeserializeOwned, R: Read>(
    reader: &VaultReader<R>,
    key: &str,
    kind: &str,
    faults: &mut Faults,
) -> Result<(), VaultError> {
    match reader.record::<T>(key, kind).await {
        Ok(_) => Ok(()),
        Err(VaultError::Store(error)) if error.is_not_found() => Ok(()),
        Err(error) => faults.take(key, error),
    }
}

/// A site numbers its proofs of a point from 1 without gaps.
fn missing_proofs<R: Read>(
    reader: &VaultReader<R>,
    proofs: &[(PointId, ProofRecord)],
    damaged: &[Damaged],
    faults: &mut Faults,
) {
    let mut numbers: BTreeMap<(PointId, String), BTreeSet<u64>> = BTreeMap::new();
    let believed = proofs.iter().map(|(point, proof)| (*point, proof.site.clone(), proof.seq));
    let there = damaged.iter().filter_map(|damaged| reader.layout.parse_proof(&damaged.key));
    for (point, site, seq) in believed.chain(there) {
        numbers.entry((point, site)).or_default().insert(seq);
    }
    for ((point, site), numbers) in numbers {
        let mut expected = 1;
        for number in numbers {
            if number > expected {
                let key = reader.layout.proof(point, &site, expected);
                faults.add(Damaged::new(&key, &format!("missing: {site} has proven point {point} again after it")));
            }
            expected = number + 1;
        }
    }
}

/// What the sites say of themselves, compared with what this site has seen before and with `proofs`: the points and sites
/// that have a green one, or one that cannot be read, which is named for itself.
async fn statuses<R: Read>(
    reader: &VaultReader<R>,
    listing: &PointListing,
    proofs: &BTreeSet<(PointId, String)>,
    state: &Path,
    faults: &mut Faults,
) -> Result<(), VaultError> {
    for (site, _) in reader.signers.iter() {
        let key = reader.layout.status(site);
        let status = match reader.status(site, state).await {
            Ok(Some(status)) => status,
            Ok(None) => continue,
            Err(error) => {
                faults.take(&key, error)?;
                continue;
            }
        };
        let Some(point) = status.newest_proven.as_deref().and_then(|point| point.parse::<PointId>().ok()) else {
            continue;
        };
        if listing.points.iter().any(|listed| listed.id == point) && !proofs.contains(&(point, site.to_owned())) {
            let key = format!("{}{site}-", reader.layout.proofs_of(point));
            faults.add(Damaged::new(&key, &format!("missing: the status of {site} says that it has proven {point}")));
        }
    }
    Ok(())
}
