//! Puts an export back: files with their content, owner, mode and time, each replaced in one moment.
//!
//! The bundle is read twice. The first reading compares it with what is there, to its verified end, so that
//! nothing is touched for the sake of a bundle that is damaged, leads out of the root, or needs an account
//! that this host lacks; it is all a dry run does. The second reading stages what differs, and only when all
//! of it lies complete on the disk is each original kept and replaced. Killed anywhere and run again, it
//! gives the same, and the original that was kept first stays kept.
//!
//! What commands printed are no files of the system: they go into a folder of warmspare's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::export::accounts::Accounts;
use crate::capture::export::bundle::{self, BundleError, Kind, Member, Place};
use crate::capture::export::root::Root;
use crate::capture::export::stream_name;
use crate::config::address::ExportAddress;
use crate::failpoint;
use crate::observe::Progress;
use crate::stream::Source;
use crate::verify::files::by_seen_path;
use crate::verify::files::compare::{Comparison, Difference, compare, owners};
use crate::verify::files::feed::{Blocks, read_blocking};

mod error;
mod keep;
mod place;

pub use error::Error;

use place::{Rights, Spot, amend_folder, folder};

/// Rights of a folder that is missing and of which nothing was captured.
const FOLDER_MODE: u32 = 0o755;

/// Where a restore puts things.
#[derive(Clone, Debug)]
pub struct Places {
    /// A folder that stands for `/` instead of the export's own root: a scratch place.
    pub into: Option<PathBuf>,
    /// Where what is replaced is kept. Made for this user alone.
    pub kept: PathBuf,
    /// Where the outputs of commands go. Made for this user alone.
    pub commands: PathBuf,
}

/// Whether a restore changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Write,
    /// A dry run: it only says what it would write.
    List,
}

/// What a restore of an export did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesRestored {
    /// What was written: path, as the application sees it, and why.
    pub written: BTreeMap<PathBuf, Vec<Difference>>,
    /// How many captured paths were as captured.
    pub unchanged: u64,
    /// Where what was replaced is kept, by path.
    pub kept: BTreeMap<PathBuf, PathBuf>,
    /// The files that hold what commands printed.
    pub commands: Vec<PathBuf>,
}

/// Restores the export of that name from `source`.
///
/// # Errors
/// [`Error`], or what the source says. Until everything is staged, nothing has been replaced.
pub async fn restore<S: Source>(
    source: &S,
    export: &ExportAddress,
    places: &Places,
    effect: Effect,
    progress: &Progress,
) -> Result<FilesRestored, crate::error::Error> {
    let name = stream_name(&export.name);
    let root = open_root(export, places, effect)?.map(Arc::new);
    let meter = progress.begin(&format!("files {}: compare", export.name), None);
    let compared = root.clone();
    let stream = source.read(&name).await?;
    let mut comparison =
        read_blocking(stream, meter.as_ref(), move |blocks| compare(blocks, compared.as_deref())).await?;
    meter.finish(&format!("{} differ, {} do not", comparison.different.len(), comparison.same));
    refuse(&mut comparison)?;
    let restored = outcome(&comparison, places);
    let (Some(root), Effect::Write) = (root, effect) else { return Ok(restored) };

    let meter = progress.begin(&format!("files {}: write", export.name), None);
    let stream = source.read(&name).await?;
    let places = places.clone();
    let work = move |blocks| Restore::new(&root, &places, &comparison).run(blocks);
    let kept = read_blocking(stream, meter.as_ref(), work).await?;
    meter.finish(&format!("{} written, {} kept", restored.written.len(), kept.len()));
    Ok(FilesRestored { kept, ..restored })
}

/// A scratch place that is not there yet is made, in a dry run not even that.
fn open_root(export: &ExportAddress, places: &Places, effect: Effect) -> Result<Option<Root>, Error> {
    match (&places.into, effect) {
        (None, _) => Root::open(&export.root).map(Some).map_err(Error::io(&export.root, "opened")),
        (Some(into), Effect::Write) => Root::create(into).map(Some).map_err(Error::io(into, "made")),
        (Some(into), Effect::List) => match Root::open(into) {
            Err(rustix::io::Errno::NOENT) => Ok(None),
            root => root.map(Some).map_err(Error::io(into, "opened")),
        },
    }
}

/// What a person has to settle first. A file and a link may replace each other, nothing else may.
fn refuse(comparison: &mut Comparison) -> Result<(), Error> {
    let replaceable = ["file", "link"];
    for (path, differences) in &comparison.different {
        if let Some(Difference::Kind { expected, found }) = differences.first()
            && !(replaceable.contains(expected) && replaceable.contains(found))
        {
            return Err(Error::InTheWay { path: Root::seen(path), wanted: expected, found });
        }
    }
    comparison.strangers.drain(..).next().map_or(Ok(()), |stranger| Err(stranger.into()))
}

fn outcome(comparison: &Comparison, places: &Places) -> FilesRestored {
    FilesRestored {
        written: by_seen_path(comparison.different.clone()),
        unchanged: comparison.same,
        kept: BTreeMap::new(),
        commands: comparison.commands.iter().map(|name| places.commands.join(name)).collect(),
    }
}

/// The second reading: stages what differs, then puts it in its place.
struct Restore<'a> {
    root: &'a Root,
    places: &'a Places,
    comparison: &'a Comparison,
    accounts: Accounts,
    /// Files and links that lie complete beside their places.
    staged: BTreeSet<PathBuf>,
    /// Folders that were there, with other rights.
    amended: BTreeMap<PathBuf, Rights>,
    commands: BTreeSet<String>,
}

impl<'a> Restore<'a> {
    fn new(root: &'a Root, places: &'a Places, comparison: &'a Comparison) -> Self {
        Restore {
            root,
            places,
            comparison,
            accounts: Accounts::read(),
            staged: BTreeSet::new(),
            amended: BTreeMap::new(),
            commands: BTreeSet::new(),
        }
    }

    /// Returns where what was replaced is kept, by path.
    fn run(mut self, blocks: Blocks) -> Result<BTreeMap<PathBuf, PathBuf>, Error> {
        let folders = self.folder_rights()?;
        let rest = bundle::each(blocks, |member, content| self.stage(&folders, &member, content))?;
        rest.verified_end().map_err(BundleError::Broken)?;
        self.settle_commands()?;
        let mut kept = BTreeMap::new();
        for path in &self.staged {
            kept.extend(self.settle(path)?.map(|copy| (Root::seen(path), copy)));
        }
        for (path, rights) in &self.amended {
            amend_folder(self.root, path, *rights)?;
        }
        Ok(kept)
    }

    fn folder_rights(&mut self) -> Result<BTreeMap<PathBuf, Rights>, Error> {
        let mut folders = BTreeMap::new();
        for (path, attributes) in &self.comparison.folders {
            let place = Place::Ancestor(path.clone());
            let member = Member { place, kind: Kind::Folder, attributes: attributes.clone() };
            // Folders that exist are left alone, so a stranger among their owners need not stop anything.
            if self.root.stat_followed(path).is_err() {
                folders.insert(path.clone(), self.rights(&member)?);
            }
        }
        Ok(folders)
    }

    fn rights(&mut self, member: &Member) -> Result<Rights, Error> {
        let (user, group) = owners(&mut self.accounts, member)?;
        let mtime = i64::try_from(member.attributes.mtime).ok();
        Ok(Rights { mode: member.attributes.mode, user, group, mtime })
    }

    fn stage(
        &mut self,
        folders: &BTreeMap<PathBuf, Rights>,
        member: &Member,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let path = match &member.place {
            Place::Ancestor(_) => return Ok(()),
            Place::Command(name) => return self.stage_command(name, member, content),
            Place::File(path) => path,
        };
        if !self.comparison.different.contains_key(path) {
            return match Spot::reach_if_any(self.root, path)? {
                Some(spot) => spot.discard(),
                None => Ok(()),
            };
        }
        let rights_of = |path: &Path| Ok(folders.get(path).copied().unwrap_or(Rights::private(FOLDER_MODE)));
        let rights = self.rights(member)?;
        match &member.kind {
            Kind::Folder if folders.contains_key(path) => return folder(self.root, path, &rights_of).map(drop),
            Kind::Folder => {
                self.amended.insert(path.clone(), rights);
                return Ok(());
            }
            Kind::File(size) => Spot::reach(self.root, path, &rights_of)?.stage_file(content, *size, rights)?,
            Kind::Link(target) => Spot::reach(self.root, path, &rights_of)?.stage_link(target, rights)?,
        }
        self.staged.insert(path.clone());
        Ok(())
    }

    fn stage_command(&mut self, name: &str, member: &Member, content: &mut dyn Read) -> Result<(), Error> {
        let Kind::File(size) = member.kind else { return Ok(()) };
        let spot = self.command_spot(name)?;
        spot.stage_file(content, size, Rights::private(0o600))?;
        self.commands.insert(name.to_owned());
        Ok(())
    }

    fn settle_commands(&self) -> Result<(), Error> {
        for name in &self.commands {
            self.command_spot(name)?.settle()?;
            failpoint::hit("restore.files.command");
        }
        Ok(())
    }

    fn command_spot(&self, name: &str) -> Result<Spot, Error> {
        let folder = &self.places.commands;
        let root = Root::create(folder).map_err(Error::io(folder, "made"))?;
        Spot::reach(&root, Path::new(name), &|_| Ok(Rights::private(0o700)))
    }

    fn settle(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let seen = Root::seen(path);
        let Some(spot) = Spot::reach_if_any(self.root, path)? else {
            return Err(Error::io(&seen, "replaced")(rustix::io::Errno::NOENT));
        };
        let there = self.root.stat_if_any(path).map_err(Error::io(&seen, "examined"))?;
        let kept = match there {
            Some(stat) => Some(keep::keep(self.root, path, &stat, &self.places.kept)?),
            None => None,
        };
        spot.settle()?;
        failpoint::hit("restore.files.placed");
        Ok(kept)
    }
}
