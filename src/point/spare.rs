//! A site's bucket as this site opens it, with the attic beside it.

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;

use crate::config::address::{BucketAddress, BucketUrl};
use crate::config::{Here, Site};
use crate::error::Error;
use crate::mirror::MirrorError;
use crate::mirror::attic::{Attic, make_folder};
use crate::store::Bucket;

/// The bucket at `address` of `site`, with the credential that this host has for it.
///
/// # Errors
/// When the credential cannot be fetched or the folder is missing.
pub fn open(here: &Here, site: &Site, address: &BucketAddress) -> Result<Bucket, Error> {
    let key = format!("sites.{}.buckets.{}.credentials", site.name, address.name);
    let credentials = here.resolve(&key, address.credentials.as_ref())?;
    Ok(Bucket::open(address, credentials)?.under(&here.permit))
}

/// The same, and its attic. The folder of one is made when it is missing; where the one that a folder has by default cannot be,
/// nothing is kept, as on a store without versions and attic, and `check` says so.
///
/// # Errors
/// As [`open`], of either; see [`make_folder`].
pub async fn open_with_attic(
    here: &Here,
    site: &Site,
    address: &BucketAddress,
    now: Timestamp,
) -> Result<(Bucket, Attic), Error> {
    let bucket = open(here, site, address)?;
    let attic = match (address.attic_address(), &address.url) {
        (Some(attic), BucketUrl::Folder(mirrored)) => match &attic.url {
            BucketUrl::Folder(folder) if make_folder(folder, address.attic.is_none().then_some(mirrored))? => {
                Some(attic)
            }
            _ => None,
        },
        (attic, _) => attic,
    };
    let place = attic.map(|attic| open(here, site, &attic)).transpose()?;
    let attic = Attic::open(&bucket, place, now).await?;
    Ok((bucket, attic))
}

/// Writes down that a person let changes through, before they are: when, how many, and as whom.
///
/// # Errors
/// When the state folder cannot be written.
pub(super) fn write_down_accepted(state: &Path, accepted: u64, now: Timestamp) -> Result<(), Error> {
    let path = state.join("accepted.jsonl");
    let user = ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok());
    let line = serde_json::json!({ "at": now, "accept_changes": accepted, "user": user });
    let write = || {
        std::fs::create_dir_all(state)?;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        writeln!(file, "{line}")?;
        file.sync_all()
    };
    write().map_err(|source| MirrorError::State { path: path.clone(), source })?;
    Ok(())
}
