//! Bare `warmspare`: the next sensible step.

use std::sync::Arc;

use super::arguments::Where;
use super::{config_path, here, words};
use crate::clock::Clock;
use crate::error::{Class, Error};
use crate::point;
use crate::site::daemon::Needs;
use crate::vault::v1::Verdict;

pub(super) async fn run(place: &Where, clock: &Arc<dyn Clock>) -> Result<Option<Class>, Error> {
    let path = config_path(place);
    if place.config.is_none() && !path.exists() {
        words::say(&format!(
            "There is no {} yet. See the whole job on this machine, or try it on a database of yours, which is only read:\n\n    \
             warmspare demo\n    warmspare capture --try postgresql://ROLE@HOST/DATABASE\n\n\
             Then write the file, with everything explained in it:\n\n    warmspare init",
            path.display()
        ));
        return Ok(None);
    }
    let here = here(place, Needs::Nothing, clock).await?;
    let points = point::list(&here).await?;
    let newest = points.listing.points.last();
    let last = newest.and_then(|point| points.proofs.get(&point.id)?.iter().max_by_key(|proof| proof.finished_at));
    let proven =
        last.is_some_and(|proof| proof.site == here.site.name && proof.verdict == Verdict::Equal && proof.complete);
    let (system, site) = (&here.config.system, &here.site.name);
    words::say(&match (here.is_live(), newest) {
        (true, None) => {
            format!(
                "{site} is the live site of {system} and has no recovery point yet:\n\n    warmspare check\n    warmspare capture"
            )
        }
        (true, Some(point)) => format!(
            "{site} is the live site of {system}; its newest recovery point is {}:\n\n    warmspare points",
            point.id
        ),
        (false, None) => {
            format!(
                "{site} is the spare of {system}. Take the first recovery point at {}; meanwhile:\n\n    warmspare check",
                here.other.name
            )
        }
        (false, Some(point)) if proven => {
            format!(
                "{site} is the spare of {system}; point {} was restored here and found equal:\n\n    warmspare points show {}",
                point.id, point.id
            )
        }
        (false, Some(point)) => format!(
            "{site} is the spare of {system}; point {} was not proven here. Prove it:\n\n    warmspare restore",
            point.id
        ),
    });
    for damaged in &points.listing.damaged {
        words::say(&format!("DAMAGED {}: {}", damaged.key, damaged.what));
    }
    Ok((!points.listing.damaged.is_empty()).then_some(Class::Incomplete))
}
