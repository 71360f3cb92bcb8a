//! Keeps what a restore replaces: `KEPT/<n>/<path>`, the n-th time that this path was replaced.
//!
//! A copy, so that no moment exists at which the path is empty; with mode, owner and time, in folders only
//! their owner may enter. What was kept once is never touched again: a run that was killed finds its own
//! copy and makes no second one.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::error::Error;
use super::place::{Rights, Spot};
use crate::capture::export::root::Root;
use crate::failpoint;
use crate::verify::files::compare::is_same_content;

/// More versions of one file than anybody can want.
const VERSIONS_MAX: u32 = 10_000;

/// Copies what stands at `path` below `kept`, unless it is there already; returns where.
///
/// # Errors
/// When it cannot be copied as it is.
pub fn keep(root: &Root, path: &Path, now: &Stat, kept: &Path) -> Result<PathBuf, Error> {
    for version in 1..=VERSIONS_MAX {
        let folder = kept.join(version.to_string());
        let versions = Root::create(&folder).map_err(Error::io(&folder, "made"))?;
        let place = folder.join(path);
        match versions.stat_if_any(path).map_err(Error::io(&place, "examined"))? {
            None => return copy(root, path, now, &versions).map(|()| place),
            Some(then) if is_same(root, path, now, &versions, &then)? => {
                // The run that made it may have been killed before it took the staged name away.
                Spot::reach_if_any(&versions, path)?.map_or(Ok(()), |spot| spot.discard())?;
                return Ok(place);
            }
            Some(_) => {}
        }
    }
    Err(Error::io(&kept.join(path), "kept once more")(rustix::io::Errno::EXIST))
}

fn copy(root: &Root, path: &Path, now: &Stat, versions: &Root) -> Result<(), Error> {
    let seen = Root::seen(path);
    let rights = Rights { mode: now.st_mode & 0o7777, user: now.st_uid, group: now.st_gid, mtime: Some(now.st_mtime) };
    let spot = Spot::reach(versions, path, &|_| Ok(Rights::private(0o700)))?;
    if FileType::from_raw_mode(now.st_mode) == FileType::Symlink {
        spot.stage_link(&root.link(path).map_err(Error::io(&seen, "read"))?, rights)?;
    } else {
        let mut file = root.file(path).map_err(Error::io(&seen, "opened"))?;
        spot.stage_file(&mut file, u64::try_from(now.st_size).unwrap_or_default(), rights)?;
    }
    spot.settle_anew()?;
    failpoint::hit("restore.files.kept");
    Ok(())
}

fn is_same(root: &Root, path: &Path, now: &Stat, versions: &Root, then: &Stat) -> Result<bool, Error> {
    let rights = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size);
    if rights(now) != rights(then) {
        return Ok(false);
    }
    let seen = Root::seen(path);
    if FileType::from_raw_mode(now.st_mode) == FileType::Symlink {
        let target = |root: &Root| root.link(path).map_err(Error::io(&seen, "read"));
        return Ok(target(root)? == target(versions)?);
    }
    let mut file = root.file(path).map_err(Error::io(&seen, "opened"))?;
    Ok(is_same_content(versions, path, u64::try_from(now.st_size).unwrap_or_default(), &mut file)?)
}
