//! Bare `warmspare`: the next sensible step.

use super::arguments::Where;
use super::{config_path, here, words};
use crate::error::{Class, Error};
use crate::point;

pub(super) async fn run(place: &Where) -> Result<Option<Class>, Error> {
    let path = config_path(place);
    if place.config.is_none() && !path.exists() {
        words::say(&format!(
            "There is no {} yet. See the whole job on this machine first:\n\n    warmspare demo\n\n\
             Then make keys with `warmspare keygen --site NAME` and write the file; docs/CONFIGURATION.md shows it.",
            path.display()
        ));
        return Ok(None);
    }
    let here = here(place)?;
    let points = point::list(&here).await?;
    let newest = points.listing.points.last();
    let proven = newest.is_some_and(|point| points.proofs.contains_key(&point.id));
    let (system, site) = (&here.config.system, &here.site.name);
    words::say(&match (here.is_live(), newest) {
        (true, None) => {
            format!("{site} is the live site of {system} and has no recovery point yet:\n\n    warmspare capture")
        }
        (true, Some(point)) => format!(
            "{site} is the live site of {system}; its newest recovery point is {}:\n\n    warmspare points",
            point.id
        ),
        (false, None) => {
            format!("{site} is the spare of {system}. Take the first recovery point at {}.", here.other.name)
        }
        (false, Some(point)) if proven => {
            format!(
                "{site} is the spare of {system}; point {} was restored here:\n\n    warmspare points show {}",
                point.id, point.id
            )
        }
        (false, Some(point)) => format!(
            "{site} is the spare of {system}; point {} was never restored. Prove it:\n\n    warmspare restore",
            point.id
        ),
    });
    Ok(None)
}
