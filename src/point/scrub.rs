//! `warmspare verify`: the scrub of the vault, seen from a site, and what the site then says in its status.

use super::open_vault;
use crate::clock::Clock;
use crate::config::Here;
use crate::error::Error;
use crate::observe::Progress;
use crate::store::Keys;
use crate::vault::layout::PointId;
use crate::vault::{PointListing, Scrubber, SeenPoints, StatusKeeping, Turns, VaultReader, scrub, update_status};

pub use crate::vault::{ScrubReport, ScrubRequest, Share};

/// A scrub during which points were removed is done again, at most this often.
const ATTEMPTS_MAX: u32 = 3;

/// What the scrub is asked.
#[derive(Clone, Copy, Debug)]
pub struct VerifyRequest {
    /// How much is read.
    pub scrub: ScrubRequest,
    /// Whether this site's status record is left as it is.
    pub dry_run: bool,
}

/// Scrubs the vault as this site can, and says in this site's status what came of it.
///
/// It takes no operation lock: a restore must not wait for it.
///
/// # Errors
/// When the vault cannot be read, its tail was cut, this site's keys are not at hand, or the status cannot be written.
pub async fn verify(
    here: &Here,
    request: VerifyRequest,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<ScrubReport, Error> {
    let identity = if here.is_live() { None } else { Some(here.identity()?) };
    let signer = here.signing_key()?;
    let (keys, reader) = open_vault(here).await?;
    let state = here.vault_state();
    let mut listing = listed(here, &reader).await?;
    let turns = Turns::load(&state)?;
    let mut attempt = 1;
    let report = loop {
        let scrubber = Scrubber { identity: identity.as_ref(), state: &state, turns: &turns, at: clock.now() };
        let report = scrub(&reader, &listing, &scrubber, request.scrub, progress).await?;
        // What the keeper removed meanwhile, with the points that needed it, is not missing.
        let again = listed(here, &reader).await?;
        if report.faults.is_empty() || attempt == ATTEMPTS_MAX || ids(&listing).all(|id| ids(&again).any(|i| i == id)) {
            break report;
        }
        listing = again;
        attempt += 1;
    };
    if !request.dry_run {
        let (system, site) = (here.config.system.as_str(), here.site.name.as_str());
        let keeping = StatusKeeping { system, site, signer: &signer, state: &state };
        update_status(&keys, &reader, &keeping, clock, |status| report.tell(system, status)).await?;
        // After what was found is told: a run that is killed in between is done again.
        if report.turns != turns {
            report.turns.save(&state)?;
        }
    }
    Ok(report)
}

async fn listed(here: &Here, reader: &VaultReader<Keys>) -> Result<PointListing, Error> {
    let listing = reader.points().await?;
    SeenPoints::load(&here.vault_state())?.check(&listing, &here.config.system)?;
    Ok(listing)
}

fn ids(listing: &PointListing) -> impl Iterator<Item = PointId> {
    listing.points.iter().map(|point| point.id)
}
