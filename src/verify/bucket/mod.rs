//! `verify --only bucket.NAME`: whether the other copy of a bucket is still there, and whole.
//!
//! Every object that is recorded is looked for; of a share, in another share at each run, the content is read and hashed, so
//! that as many runs as there are shares read all of it. An object that shows signs of having been written by somebody else
//! is read in any case. A run that was killed goes on where it stopped.
//!
//! What is recorded, and what can be done about a fault, depends on the site:
//!
//! - The live site has the mirror's own manifest, which knows of every pass and how the spare's store answered, and both
//!   credentials. It brings the object again ([`mirror::mend`]).
//! - The spare has the recovery points, which the live site cannot open, and its bucket close at hand: it is the place to read
//!   much. It may not read the live bucket. It names what it found in its status record, and the live site's next capture
//!   looks at those objects and mends them. An object that was written after the point was taken is named, too: whether by a
//!   pass of the mirror or by somebody else, only the live site can tell, and so it is not wrong yet. Against an older point (`--point`) what was overwritten
//!   or hidden since is looked for where a restore of that point finds it.

pub(super) mod elsewhere;
mod error;
mod mirrored;
mod report;
mod state;
mod walk;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

pub use self::error::BucketVerifyError;
pub use self::mirrored::{Looked, verify_mirrored};
pub use self::report::{BucketReport, Counts, Fault, Outcome};
use self::state::{Begun, Place};
use self::walk::{Expected, Walk};
use crate::clock::Clock;
use crate::config::address::{BucketAddress, BucketUrl, Topology};
use crate::config::{Here, Site, SourceKind, SourceName};
use crate::error::Error;
use crate::mirror::attic::Attic;
use crate::mirror::direction::{self, Since, Standing};
use crate::mirror::{self, Limits, MirrorError, Sides, manifest::Rows, manifest_path, published_rows};
use crate::observe::Progress;
use crate::point::{self, Share, spare};
use crate::store::{Bucket, ReadOnly};
use crate::stream::{Source, StreamKind, StreamName};
pub use crate::vault::layout::PointId;
use crate::vault::v1::{BucketVerdict, StatusRecord};
use crate::vault::{StatusKeeping, update_status};

/// Objects looked at, or read, at a time.
const CONCURRENCY: usize = 16;
/// How many faults are remembered until something is done about them.
const WAITING_MAX: usize = 1_000;
/// So many missing objects may be an accident; if they are more than half of those looked for, it is another bucket, or a
/// disk that is not mounted.
const MISSING_MAX: u64 = 10;

/// What is asked.
#[derive(Clone, Debug)]
pub struct BucketRequest {
    /// The bucket's name.
    pub name: String,
    /// At the spare: against this point, and not the newest.
    pub point: Option<PointId>,
    /// Of which share the content is read.
    pub share: Share,
    /// Whether nothing is mended, told or remembered.
    pub dry_run: bool,
}

/// Looks at the spare's bucket, from the site that this is.
///
/// # Errors
/// When there is no such bucket, nothing is recorded of it, or a store does not answer. What was looked at until then is
/// remembered: the next run goes on there.
pub async fn verify(
    here: &Here,
    request: &BucketRequest,
    clock: &dyn Clock,
    progress: &Progress,
) -> Result<BucketReport, Error> {
    let job = Job { here, request, clock, progress };
    match here.is_live() {
        true => job.at_live().await,
        false => job.at_spare().await,
    }
}

struct Job<'a> {
    here: &'a Here,
    request: &'a BucketRequest,
    clock: &'a dyn Clock,
    progress: &'a Progress,
}

impl Job<'_> {
    /// From the mirror's manifest, mending what is wrong.
    async fn at_live(&self) -> Result<BucketReport, Error> {
        if self.request.point.is_some() {
            let (site, spare) = (self.here.site.name.clone(), self.here.other.name.clone());
            return Err(BucketVerifyError::PointAtLive { site, spare }.into());
        }
        // Of one that both sites share there is no other.
        let topology = self.topology()?;
        let target = match topology {
            Topology::Shared => self.open(&self.here.site)?,
            Topology::Mirror | Topology::External => self.open(&self.here.other)?,
        };
        let manifest = manifest_path(&self.mirror_folder());
        let source = self.source().to_string();
        let Some((pair, rows)) = Rows::open(&manifest)? else {
            return Err(BucketVerifyError::NeverMirrored { source_name: source }.into());
        };
        let described = match topology {
            Topology::Mirror | Topology::Shared => target.name().to_owned(),
            Topology::External => self.open(&self.here.site)?.name().to_owned(),
        };
        if pair.target != described {
            return Err(BucketVerifyError::NeverMirrored { source_name: source }.into());
        }
        if topology == Topology::Mirror {
            self.refuse_turned(&target)?;
        }
        let place = Place { at: target.name().to_owned(), against: "manifest".to_owned() };
        let mut run = self.begun(place)?;
        // The store that replicates gives tags of its own.
        let expected = if topology == Topology::External { Expected::of_source } else { Expected::of_row };
        let rows = stream::iter(rows.map(move |row| row.map(expected).map_err(Error::from)));
        let walk = self.walk(&target, None, None, &run)?;
        {
            let mut looks = std::pin::pin!(walk.looks(rows, run.after()));
            while let Some(looked) = looks.try_next().await? {
                run.take(looked)?;
                if topology == Topology::Mirror && run.waiting().len() >= WAITING_MAX {
                    self.mend(&target, &mut run).await?;
                }
            }
        }
        self.mend(&target, &mut run).await?;
        Ok(run.finish(topology.as_str(), self.clock.now())?)
    }

    /// After the roles were swapped the first pass of the mirror comes first: it rescues what this would overwrite.
    fn refuse_turned(&self, target: &Bucket) -> Result<(), Error> {
        let source = ReadOnly::new(self.open(&self.here.site)?);
        let since = Since { point: None, spare: self.here.times_spare()? };
        match direction::standing(&self.mirror_folder(), &source, target, &since)? {
            Standing::Settled => Ok(()),
            _ => Err(BucketVerifyError::Turned { bucket: target.name().to_owned() }.into()),
        }
    }

    /// Brings what waits again, unless it is too much to be an accident.
    async fn mend(&self, target: &Bucket, run: &mut Begun) -> Result<(), Error> {
        run.save()?;
        let waiting: BTreeSet<String> = run.waiting().clone();
        // Nothing of ours is written where we do not mirror.
        if waiting.is_empty() || self.request.dry_run || self.topology()? != Topology::Mirror {
            return Ok(());
        }
        let (missing, looked) = run.missing();
        if missing > MISSING_MAX && missing.saturating_mul(2) > looked {
            let bucket = target.name().to_owned();
            let manifest = manifest_path(&self.mirror_folder());
            // What was found in another place says nothing about the right one.
            run.forget()?;
            return Err(BucketVerifyError::MostlyMissing { bucket, missing, looked, manifest }.into());
        }
        let source = &ReadOnly::new(self.open(&self.here.site)?);
        let address = self.address(&self.here.other)?;
        let (target, attic) = spare::open_with_attic(self.here, &self.here.other, address, self.clock.now()).await?;
        let sides = Sides { source, canary: None, target: &target, attic: &attic };
        let limits = Arc::new(Limits::configured(self.here.config.mirror.limits.clone()));
        let folder = self.mirror_folder();
        let mended = mirror::mend(&sides, &folder, waiting, &limits, self.clock, self.progress).await;
        let fates = mended.map_err(|error| match error {
            MirrorError::Busy { .. } => {
                let (faults, first) = (run.waiting().len(), run.waiting().first().cloned().unwrap_or_default());
                Error::from(BucketVerifyError::MirrorRuns { bucket: target.name().to_owned(), faults, first })
            }
            error => error.into(),
        })?;
        run.settle(fates)?;
        Ok(())
    }

    /// From a recovery point, telling the live site what is wrong.
    async fn at_spare(&self) -> Result<BucketReport, Error> {
        let identity = self.here.identity()?;
        let signer = self.here.signing_key()?;
        let bucket = self.open(&self.here.site)?;
        let points = point::list(self.here).await?;
        let chosen = points.choose(self.request.point)?;
        let source = self.source();
        let found = chosen.headers.iter().find(|(of, _, _)| *of == source);
        let not_in = || BucketVerifyError::NotInPoint { point: chosen.id, source_name: source.to_string() };
        let (_, id, header) = found.ok_or_else(not_in)?;
        let (keys, reader) = point::open_vault(self.here).await?;
        let snapshot = reader.open_snapshot(&source, *id, header, &identity).await?;
        let manifest = snapshot.read(&StreamName::new(StreamKind::Manifest, &source.name)).await?;

        let place = Place { at: bucket.name().to_owned(), against: format!("point {}", chosen.id) };
        let mut run = self.begun(place)?;
        let is_mirrored = self.topology()? == Topology::Mirror;
        if self.request.point.is_none() && is_mirrored {
            run.leave_newer_to_live();
        }
        let rows = published_rows(manifest).map_ok(Expected::of_published);
        let attic = self.attic().await?;
        let walk = self.walk(&bucket, attic.as_ref(), Some(header.captured_at), &run)?;
        {
            let mut looks = std::pin::pin!(walk.looks(rows, run.after()));
            while let Some(looked) = looks.try_next().await? {
                run.take(looked)?;
            }
        }
        let tells = self.request.point.is_none() && !self.request.dry_run;
        if tells && is_mirrored {
            run.tell()?;
        }
        let (verdict, report) =
            (run.verdict(&source, self.clock.now()), run.finish(self.topology()?.as_str(), self.clock.now())?);
        if tells {
            let state = self.here.vault_state();
            let (system, site) = (self.here.config.system.as_str(), self.here.site.name.as_str());
            let keeping = StatusKeeping { system, site, signer: &signer, state: &state };
            update_status(&keys, &reader, &keeping, self.clock, |status| tell(status, verdict)).await?;
        }
        Ok(report)
    }

    /// Where what an older point names may be. Of the newest nothing is overwritten yet, but by a pass that runs. What is not there
    /// is not made.
    async fn attic(&self) -> Result<Option<Attic>, Error> {
        let address = self.address(&self.here.site)?;
        let is_missing = match address.attic_address().map(|attic| attic.url) {
            Some(BucketUrl::Folder(folder)) => !folder.is_dir(),
            _ => false,
        };
        if self.request.point.is_none() || is_missing || self.topology()? != Topology::Mirror {
            return Ok(None);
        }
        let opened = spare::open_with_attic(self.here, &self.here.site, address, self.clock.now()).await?;
        Ok(Some(opened.1))
    }

    fn topology(&self) -> Result<Topology, Error> {
        Ok(self.address(&self.here.site)?.topology)
    }

    fn source(&self) -> SourceName {
        SourceName::new(SourceKind::Bucket, &self.request.name)
    }

    fn mirror_folder(&self) -> PathBuf {
        self.here.site.state.join("mirror").join(&self.request.name)
    }

    fn begun(&self, place: Place) -> Result<Begun, BucketVerifyError> {
        let BucketRequest { point, share, dry_run, .. } = self.request;
        let file = match point {
            None => format!("{}.json", self.source()),
            Some(point) => format!("{}@{point}.json", self.source()),
        };
        let folder = self.here.site.state.join("verify");
        Begun::open(&folder, &file, place, *share, self.clock.now(), *dry_run)
    }

    fn walk<'a>(
        &self,
        bucket: &'a Bucket,
        attic: Option<&'a Attic>,
        written_by: Option<Timestamp>,
        run: &Begun,
    ) -> Result<Walk<'a>, Error> {
        let meter = self.progress.begin(&format!("verify {}", self.source()), None);
        Ok(Walk {
            bucket,
            attic,
            share: self.request.share,
            turn: run.turn(),
            suspects: run.suspects(),
            is_applications: self.topology()? == Topology::Shared,
            written_by_ns: written_by.map(Timestamp::as_nanosecond),
            meter,
            concurrency: CONCURRENCY,
        })
    }

    fn address<'b>(&self, site: &'b Site) -> Result<&'b BucketAddress, BucketVerifyError> {
        let name = &self.request.name;
        site.buckets.get(name).ok_or_else(|| BucketVerifyError::NoBucket {
            name: name.clone(),
            site: site.name.clone(),
            known: site.buckets.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The bucket of a site, reached from this one.
    fn open(&self, site: &Site) -> Result<Bucket, Error> {
        spare::open(self.here, site, self.address(site)?)
    }
}

/// Replaces what the status said of the bucket before.
fn tell(status: &mut StatusRecord, verdict: BucketVerdict) {
    status.buckets.retain(|told| told.source != verdict.source);
    status.buckets.push(verdict);
    status.buckets.sort_by(|one, other| one.source.cmp(&other.source));
}

/// Rows after `after`, in their order.
fn beyond<R>(rows: R, after: Option<String>) -> impl Stream<Item = Result<Expected, Error>> + Send
where
    R: Stream<Item = Result<Expected, Error>> + Send,
{
    rows.try_filter(move |row| std::future::ready(after.as_ref().is_none_or(|after| row.key > *after))).fuse()
}
