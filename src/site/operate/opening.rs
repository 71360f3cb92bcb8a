//! With what data a site becomes live: the point that is taken, how old it is, and whether it stands here already.
//!
//! A site that is READY may have been so for days, while the live site went on: what it has restored counts only while it is the point
//! that would be restored now, and nothing else was put in its place.

use std::sync::Arc;

use jiff::Timestamp;

use super::Operator;
use super::error::OperateError;
use super::takeover::Takeover;
use crate::config::Here;
use crate::error::Error;
use crate::point::{self, PointError, Points};
use crate::restore;
use crate::site::daemon::{Needs, here};
use crate::site::driver::StatusAt;
use crate::site::lease::Name;
use crate::vault::layout::PointId;

/// With what a site becomes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// With what is here: nobody was live before, or it let go itself, or what it has is beyond choosing.
    Here,
    /// With a point.
    Point(Chosen),
}

/// The point with which a site becomes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which.
    pub point: PointId,
    /// The instant it stands for; absent when the vault cannot be asked, and the point is restored here.
    pub captured_at: Option<Timestamp>,
    /// Whether it was taken when the last live site had closed, and has everything.
    pub is_final: bool,
    /// The newest point, if this is an older one.
    pub newer: Option<PointId>,
    /// Whether it is restored and proven here, and stands.
    pub is_restored: bool,
}

/// The points that there are, or why that cannot be told.
type Listed = Result<Points, Error>;

impl Operator<'_> {
    /// With what this site would become live now.
    pub(super) async fn data(&self, status: &StatusAt, takeover: &Takeover) -> Result<Data, Error> {
        if takeover.first {
            return Ok(Data::Here);
        }
        let asked = takeover.point.as_deref().map(str::parse::<PointId>).transpose()?;
        let restored = status.restored.as_deref().map(str::parse::<PointId>).transpose()?;
        let last = status.record.as_ref().and_then(|record| record.recovery_point.as_deref());
        let last = last.map(str::parse::<PointId>).transpose()?;
        let is_under_way = !matches!(status.state, Name::Standby | Name::Restoring | Name::Ready);
        if is_under_way {
            return match asked.filter(|asked| Some(*asked) != restored) {
                Some(asked) => Err(self.too_late(status, asked)),
                None => self.under_way(restored, last).await,
            };
        }
        if let (Some(asked), Some(last)) = (asked, last)
            && asked != last
        {
            return Err(OperateError::FinalPoint { last, asked }.into());
        }
        let role = here(self.config.clone(), self.site, Needs::Role, Arc::clone(&self.clock)).await?;
        let listed = point::list(&role).await;
        let restored = restored.filter(|_| status.state == Name::Ready);
        let mut chosen = self.chosen(listed, asked.or(last), restored)?;
        chosen.is_final = last.is_some();
        chosen.is_restored = restored == Some(chosen.point) && restore::stands(&role, chosen.point).await?;
        Ok(Data::Point(chosen))
    }

    fn too_late(&self, status: &StatusAt, asked: PointId) -> Error {
        OperateError::TooLate { site: self.site.to_owned(), state: status.state, asked }.into()
    }

    /// What a takeover that is under way brings.
    async fn under_way(&self, restored: Option<PointId>, last: Option<PointId>) -> Result<Data, Error> {
        let Some(point) = restored else { return Ok(Data::Here) };
        let listed = match Here::led(self.config.clone(), self.site, None) {
            Ok(here) => point::list(&here).await,
            Err(error) => Err(error.into()),
        };
        let chosen = self.chosen(listed, Some(point), Some(point))?;
        Ok(Data::Point(Chosen { is_final: last.is_some(), is_restored: true, ..chosen }))
    }

    /// The point `wanted`, or the newest. One that is restored here can be taken also when the vault cannot be asked for it any more.
    fn chosen(&self, listed: Listed, wanted: Option<PointId>, restored: Option<PointId>) -> Result<Chosen, Error> {
        let as_restored = |point| Chosen { point, captured_at: None, is_final: false, newer: None, is_restored: false };
        let points = match (listed, wanted, restored) {
            (Ok(points), ..) => points,
            (Err(_), Some(wanted), Some(restored)) if wanted == restored => return Ok(as_restored(restored)),
            (Err(cause), _, Some(restored)) => {
                let (site, why) = (self.site.to_owned(), cause.to_string());
                return Err(OperateError::Unlisted { site, restored, why }.into());
            }
            (Err(cause), _, None) => return Err(cause),
        };
        let found = match points.choose(wanted) {
            Ok(found) => found,
            // Damaged or removed since it was restored: it is whole here.
            Err(error) => match error {
                PointError::Damaged { point }
                | PointError::NewestDamaged { point, .. }
                | PointError::UnknownPoint { point }
                    if restored == Some(point) =>
                {
                    return Ok(as_restored(point));
                }
                error => return Err(error.into()),
            },
        };
        let damaged = points.listing.damaged_points.last().copied();
        let newest = points.listing.points.last().map(|last| last.id).max(damaged);
        let newer = newest.filter(|newest| *newest > found.id);
        Ok(Chosen { newer, captured_at: Some(found.record.captured_at), ..as_restored(found.id) })
    }
}
