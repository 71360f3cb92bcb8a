//! Which way the mirror runs, as this site can tell it: by the points of the vault and by whether it was the spare since.

use std::path::PathBuf;

use futures_util::FutureExt;

use super::PointError;
use super::take::Run;
use crate::config::{Here, SourceName};
use crate::durable;
use crate::error::Error;
use crate::failpoint;
use crate::mirror::direction::{self, Since, Standing};
use crate::mirror::{Sides, published_rows};
use crate::stream::{Source, StreamKind, StreamName};
use crate::vault::{ListedPoint, PointListing, abandon_epoch, remembered_epoch};

/// What the first pass of a direction goes by.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Whether it is a first pass.
    pub returning: bool,
    /// Why it does not know what the other site's points name: then more is rescued than has to be.
    pub doubt: Option<String>,
}

fn newest_of<'a>(points: &'a PointListing, site: &str) -> Option<&'a ListedPoint> {
    points.points.iter().rev().find(|point| point.record.writer == site)
}

/// Since when this site is the live one.
fn since(here: &Here, points: &PointListing) -> Result<Since, Error> {
    let point = newest_of(points, &here.other.name).map(|point| point.id.to_string());
    Ok(Since { point, spare: here.times_spare()? })
}

/// What has become of this site's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It was the live one when it took its last point, and ever since.
    Same,
    /// It has been the spare since, or takes its first point.
    New,
}

/// What this site's role is, without changing anything.
///
/// # Errors
/// [`PointError::TwoLive`] when the other site has taken a point, and this one was never the spare.
pub(super) fn role(here: &Here, points: &PointListing) -> Result<Role, Error> {
    let (now, path) = (since(here, points)?, roles_path(here));
    let content = durable::read(&path).map_err(|source| PointError::State { path: path.clone(), source })?;
    let Some(content) = content else { return Ok(Role::New) };
    let failed = |error: serde_json::Error| PointError::State { path, source: error.into() };
    let known: Since = serde_json::from_slice(&content).map_err(failed)?;
    match now.newer_than(&known) {
        _ if known.spare != now.spare => Ok(Role::New),
        Some(point) => {
            let (site, other) = (here.site.name.clone(), here.other.name.clone());
            Err(PointError::TwoLive { site, other, point }.into())
        }
        None => Ok(Role::Same),
    }
}

/// The same; a new role is remembered, and the epoch of an earlier one forgotten: the other site has opened others since.
///
/// # Errors
/// As [`role`]; when the state folder cannot be written.
pub(super) fn take_role(here: &Here, points: &PointListing) -> Result<(), Error> {
    let path = roles_path(here);
    if role(here, points)? == Role::Same {
        return Ok(());
    }
    if here.times_spare()?.is_some() && remembered_epoch(&here.vault_state())?.is_some() {
        tracing::info!("this site was the spare since its last point: a new epoch is opened, one full upload follows");
        abandon_epoch(&here.vault_state())?;
    }
    let content = serde_json::to_vec(&since(here, points)?);
    let written = content.map_err(std::io::Error::from).and_then(|content| durable::replace(&path, &content));
    written.map_err(|source| PointError::State { path, source })?;
    failpoint::hit("point.role");
    Ok(())
}

fn roles_path(here: &Here) -> PathBuf {
    here.site.state.join("live.json")
}

impl Run<'_> {
    /// Makes sure that what the mirror of `source` remembers is of the direction of now.
    ///
    /// # Errors
    /// When the other site's bucket cannot be listed or the state folder not be used.
    pub(super) async fn direct(&self, source: &SourceName) -> Result<Direction, Error> {
        let (from, folder) = (self.live(source)?, self.manifest_folder(source));
        let (to, attic) = self.spare(source).await?;
        let since = since(self.here, &self.points)?;
        match direction::standing(&folder, &from, &to, &since)? {
            Standing::Settled => {
                direction::settle(&folder, &from, &to, &since)?;
                return Ok(Direction::default());
            }
            Standing::Returning => {}
            Standing::Turned => {
                tracing::info!(%source, "the roles were swapped: what is at {} is looked at first", to.name());
                let sides = Sides { source: &from, canary: None, target: &to, attic: &attic };
                direction::turn(&sides, &folder, &since, &self.limits).boxed().await?;
            }
        }
        // Without it nothing is lost: what a point names is rescued, too.
        let doubt = self.keep_reference(source).boxed().await.err().map(|error| error.to_string());
        Ok(Direction { returning: true, doubt })
    }

    /// Puts what the other site's newest point says of `source` beside the mirror's manifest.
    async fn keep_reference(&self, source: &SourceName) -> Result<(), Error> {
        let of_source = |point: &&ListedPoint| point.headers.iter().any(|(its, _, _)| its == source);
        let theirs = |point: &&ListedPoint| point.record.writer == self.here.other.name;
        let Some(point) = self.points.points.iter().rev().find(|point| theirs(point) && of_source(point)) else {
            return Ok(());
        };
        let newest = self.points.points.last().is_some_and(|newest| newest.id == point.id)
            && self.points.damaged_points.last().is_none_or(|damaged| *damaged < point.id);
        let found = point.headers.iter().find(|(its, _, _)| its == source);
        let (_, id, header) = found.ok_or(PointError::UnknownPoint { point: point.id })?;
        let identity = self.here.identity()?;
        let snapshot = self.reader.open_snapshot(source, *id, header, &identity).boxed().await?;
        let stream = snapshot.read(&StreamName::new(StreamKind::Manifest, &source.name)).boxed().await?;
        let folder = self.manifest_folder(source);
        direction::keep_point(&folder, point.id, newest, published_rows(stream)).boxed().await
    }
}
