//! What only the old live site had when it came back as the spare: listed for a person, kept until he has looked.

use futures_util::FutureExt;
use serde::Serialize;

use super::{PointError, spare};
use crate::clock::Clock;
use crate::config::address::Topology;
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::mirror::direction::{self, Lies, Record};
use crate::store::Bucket;

/// The rescued objects of one bucket.
#[derive(Clone, Debug, Serialize)]
pub struct RescuedOf {
    /// The source.
    pub bucket: String,
    /// Where the attic is; absent when there is none, and only the site that found them lists them.
    pub attic: Option<String>,
    /// The objects, in the order of their keys.
    pub objects: Vec<Record>,
}

impl RescuedOf {
    /// Where the content of one of them lies, as a person fetches it.
    pub fn place_of(&self, record: &Record) -> String {
        match (&record.rescued.lies, &self.attic) {
            (Lies::Attic(name), Some(attic)) => format!("{name} in {attic}"),
            (Lies::Attic(name), None) => format!("{name} in its attic"),
            (Lies::Version(id), _) => format!("version {id} in {}", record.rescued.bucket),
            (Lies::Bucket, _) => format!("under its key in {}", record.rescued.bucket),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct RescuedRequest {
    /// Of this bucket alone.
    pub only: Option<SourceName>,
    /// Keys of objects that are needed no more.
    pub release: Vec<String>,
    /// Whether none is needed any more.
    pub release_all: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// Lists what was rescued at the spare, from either site; and releases what is named.
///
/// # Errors
/// When there is no such bucket, a key that is to be released is not among them, or a store does not answer.
pub async fn rescued(here: &Here, request: &RescuedRequest, clock: &dyn Clock) -> Result<Vec<RescuedOf>, Error> {
    let mut all = Vec::new();
    let spare_site = if here.is_live() { &here.other } else { &here.site };
    for (name, address) in spare_site.buckets.iter().filter(|(_, own)| own.topology == Topology::Mirror) {
        let source = SourceName::new(SourceKind::Bucket, name);
        if request.only.as_ref().is_some_and(|only| *only != source) {
            continue;
        }
        let (_, attic) = spare::open_with_attic(here, spare_site, address, clock.now()).boxed().await?;
        let state = here.site.state.join("mirror").join(name);
        let objects = match attic.place() {
            Some(place) => direction::records(place).boxed().await?,
            None => direction::rescued_here(&state)?
                .into_iter()
                .map(|rescued| Record { rescued, released: false })
                .collect(),
        };
        let mut of = RescuedOf {
            bucket: source.to_string(),
            attic: attic.place().map(|place| place.name().to_owned()),
            objects,
        };
        release(attic.place(), &mut of, request).await?;
        all.push(of);
    }
    if let Some(only) = request.only.as_ref().filter(|_| all.is_empty()) {
        let (source_name, site) = (only.to_string(), spare_site.name.clone());
        return Err(PointError::NoAddress { source_name, site }.into());
    }
    let known = |key: &String| all.iter().flat_map(|of| &of.objects).any(|record| record.rescued.key == *key);
    match request.release.iter().find(|key| !known(key)) {
        Some(key) => Err(PointError::NotRescued { key: key.clone() }.into()),
        None => Ok(all),
    }
}

async fn release(place: Option<&Bucket>, of: &mut RescuedOf, request: &RescuedRequest) -> Result<(), Error> {
    let Some(place) = place.filter(|_| !request.dry_run) else { return Ok(()) };
    let named = |record: &Record| request.release_all || request.release.contains(&record.rescued.key);
    for record in of.objects.iter_mut().filter(|record| !record.released && named(record)) {
        direction::release(place, &record.rescued).boxed().await?;
        record.released = true;
    }
    Ok(())
}
