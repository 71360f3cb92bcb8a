//! Whether a rehearsal has anything to do: the newest point may be proven at this site already, or have been found different.

use serde::Serialize;

use crate::config::Here;
use crate::error::Error;
use crate::point;
use crate::vault::v1::Verdict;

/// Why no restore is needed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NothingNew {
    /// The newest point; absent before the first.
    pub point: Option<String>,
    /// Always true: tells this from the report of a restore.
    pub nothing_new: bool,
    /// Whether what was restored of it here was equal. When not, only a newer point can mend that: the same one is not tried again.
    pub equal: bool,
}

/// Whether the newest point has nothing that was not restored here, whole, before; nothing when it is to be restored.
///
/// # Errors
/// When the vault cannot be read, or its newest point is damaged.
pub async fn nothing_new(here: &Here) -> Result<Option<NothingNew>, Error> {
    let points = point::list(here).await?;
    if points.listing.points.is_empty() && points.listing.damaged_points.is_empty() {
        return Ok(Some(NothingNew { point: None, nothing_new: true, equal: true }));
    }
    let newest = points.choose(None)?.id;
    let ours = points.proofs.get(&newest).into_iter().flatten().filter(|proof| proof.site == here.site.name);
    let last = ours.filter(|proof| proof.complete || proof.verdict == Verdict::Different).max_by_key(|proof| proof.seq);
    let point = Some(newest.to_string());
    Ok(last.map(|last| NothingNew { point, nothing_new: true, equal: last.verdict == Verdict::Equal }))
}
