//! Taking a recovery point: the order, the lock, the commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use serde::Serialize;

use super::buckets::Bulk;
use super::direction::{Role, role, take_role};
use super::error::PointError;
use super::reload::Reload;
use super::sources::{PointSummary, SealedSource};
use super::{SharedClock, open_vault};
use crate::capture::database::disk_bytes;
use crate::capture::export;
use crate::clock::Clock;
use crate::config::address::Topology;
use crate::config::{ChunkSize, Here, SourceKind, SourceName};
use crate::error::Error;
use crate::failpoint;
use crate::keys::{Recipient, SigningKey};
use crate::mirror::{Limits, Pass};
use crate::observe::Progress;
use crate::pipeline::ChunkerParameters;
use crate::store::Keys;
use crate::vault::layout::PointId;
use crate::vault::v1::Link;
use crate::vault::{
    EpochKeeping, EpochWriter, NewPoint, SeenPoints, VaultError, VaultReader, abandon_epoch, check_resume, open_epoch,
    remembered_epoch,
};

/// What a capture would read, and where it would go.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The vault.
    pub vault: String,
    /// The sources.
    pub sources: Vec<PreviewSource>,
}

/// One source of a [`Preview`].
#[derive(Clone, Debug, Serialize)]
pub struct PreviewSource {
    /// The source.
    pub source: String,
    /// Where it is read.
    pub place: String,
}

/// What [`take`] would capture, without capturing it.
///
/// # Errors
/// When it would be refused at once: at the spare, without a vault, without keys, with another vault than before, or with
/// an epoch that cannot be gone on with.
pub async fn preview(here: &Here, clock: &dyn Clock) -> Result<Preview, Error> {
    let sources = refuse(here)?;
    let signer = here.signing_key()?;
    let (keys, reader) = open_vault(here).await?;
    let (sealed_to, state) = (here.sealed_to(), here.vault_state());
    let points = reader.points().await?;
    SeenPoints::load(&state)?.check(&points, &here.config.system)?;
    // One of an earlier role is left for a new one.
    let is_new = role(here, &points)? == Role::New && here.times_spare()?.is_some();
    let heads = reader.heads(here.term).await?;
    let keeping = keeping(here, &signer, &sealed_to, &state);
    // One that is lost is left for a new one.
    let lost = is_new || lost_epoch(here, &reader, &state).await?.is_some();
    let resumed = if lost { None } else { check_resume(&keeping, &heads, clock)? };
    if let Some((epoch, recipient)) = resumed {
        reader.check_epoch(epoch, &recipient).await?;
    }
    let place = |source: &SourceName| match source.kind {
        SourceKind::Database => here.site.databases.get(&source.name).map(|a| a.url.clone()),
        SourceKind::Bucket => here.site.buckets.get(&source.name).map(|own| match own.topology {
            Topology::Mirror if is_new => format!(
                "{}; the roles were swapped: what {} has is read and hashed first, and what only it has is rescued",
                own.url, here.other.name
            ),
            Topology::Mirror => own.url.to_string(),
            Topology::Shared => format!("{}, shared by both sites: listed and hashed, not copied", own.url),
            Topology::External => format!("{}, replicated by its store: listed and hashed, not copied", own.url),
        }),
        SourceKind::Export => here.site.exports.get(&source.name).map(|a| {
            let files = a.files.iter().cloned();
            let commands = a.commands.keys().map(|name| format!("command {name}"));
            files.chain(commands).collect::<Vec<_>>().join(", ")
        }),
    };
    let sources = sources
        .iter()
        .map(|source| PreviewSource { source: source.to_string(), place: place(source).unwrap_or_default() });
    Ok(Preview { vault: keys.name().to_owned(), sources: sources.collect() })
}

/// Only the live site captures, and only if there is something to capture.
fn refuse(here: &Here) -> Result<Vec<SourceName>, PointError> {
    if !here.is_live() {
        let site = here.site.name.clone();
        return Err(match here.live.clone() {
            Some(live) => PointError::NotLive { site, live },
            None => PointError::NobodyLive { site },
        });
    }
    let sources = here.config.sources();
    if sources.is_empty() {
        return Err(PointError::NoSources { profile: here.config.profile.name.clone() });
    }
    Ok(sources)
}

/// One run: what it was asked and what it holds.
pub(super) struct Run<'a> {
    pub here: &'a Here,
    pub clock: SharedClock,
    pub progress: &'a Progress,
    pub writer: EpochWriter<Keys>,
    /// How many overwrites and deletes of each bucket a person has said are no mistake.
    pub accepted: u64,
    /// What the mirror may take, now.
    pub limits: Arc<Limits>,
    _reload: Reload,
    pub reader: VaultReader<Keys>,
    /// The points that there are when it begins.
    pub points: crate::vault::PointListing,
}

/// Takes a recovery point of every source of the system.
///
/// # Errors
/// When it is refused, or anything fails; nothing of it is listed then, and running it again is always right.
pub async fn take(here: &Here, clock: SharedClock, progress: &Progress) -> Result<PointSummary, Error> {
    take_accepting(here, 0, clock, progress).await
}

/// As [`take`], but a person has said that so many overwritten, and so many deleted, objects of a bucket are no mistake.
///
/// # Errors
/// The same.
pub async fn take_accepting(
    here: &Here,
    accepted: u64,
    clock: SharedClock,
    progress: &Progress,
) -> Result<PointSummary, Error> {
    let begun = Instant::now();
    if !here.is_live() {
        // When it is live again, what it remembers of the other site's buckets is not believed.
        here.mark_spare()?;
    }
    let sources = refuse(here)?;
    let _lock = here.lock("warmspare capture")?;
    let started_at = clock.now();
    let (run, mut seen) = begin(here, &clock, progress).await?;
    let run = Run { accepted, ..run };

    let sealed = run.capture_all(&sources).await?;
    failpoint::hit("point.captured");

    let (id, previous) = seen.allocate(&run.points, here.term)?;
    let (record, sealed) = run.publish(id, previous, started_at, sealed).await?;
    tracing::info!(point = %id, "recovery point taken");
    Ok(PointSummary {
        system: record.system,
        point: id.to_string(),
        captured_at: record.captured_at,
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        closure: record.closure.verdict,
        sources: sealed,
    })
}

/// Brings the other site's buckets up to this one's, between two points. What a capture does first, and nothing else of it: no point
/// names what was brought until the next one is taken.
///
/// # Errors
/// When this is not the live site, another operation is under way, or a pass could not come to its end.
pub async fn mirror_now(here: &Here, clock: SharedClock, progress: &Progress) -> Result<Vec<Pass>, Error> {
    if !here.is_live() {
        here.mark_spare()?;
    }
    let sources = refuse(here)?;
    let _lock = here.lock("warmspare mirror run")?;
    let (run, _) = begin(here, &clock, progress).await?;
    let mut passes = Vec::new();
    for source in sources.iter().filter(|source| source.kind == SourceKind::Bucket) {
        passes.extend(run.mirror_only(source).await?);
    }
    Ok(passes)
}

/// Opens the vault and the epoch, after looking whether what was there before is still there.
async fn begin<'a>(
    here: &'a Here,
    clock: &SharedClock,
    progress: &'a Progress,
) -> Result<(Run<'a>, SeenPoints), Error> {
    let signer = Arc::new(here.signing_key()?);
    let (keys, reader) = open_vault(here).await?;
    let points = reader.points().await?;
    let mut seen = SeenPoints::load(&here.vault_state())?;
    seen.check(&points, &here.config.system)?;
    take_role(here, &points)?;
    let heads = reader.heads(here.term).await?;
    let (sealed_to, state) = (here.sealed_to(), here.vault_state());
    let mut keeping = keeping(here, &signer, &sealed_to, &state);
    if let Some(why) = lost_epoch(here, &reader, &state).await? {
        tracing::warn!("{why}; a new one is opened, one full upload follows");
        abandon_epoch(&state)?;
    }
    if keeping.chunker.is_none() && check_resume(&keeping, &heads, &**clock)?.is_none() {
        keeping.chunker = chunker_for_new(here).await?;
    }
    let epoch = open_epoch(&keys, &keeping, &heads, &**clock).await?;
    reader.check_epoch(epoch.id(), &epoch.recipient()).await?;
    let writer = EpochWriter::new(keys, &here.config.system, &here.site.name, epoch, signer, Arc::clone(clock));
    let limits = Arc::new(Limits::new(here.config.mirror.limits.clone(), Arc::clone(clock)));
    let reload = Reload::on_hangup(here.config.path.clone(), Arc::clone(&limits));
    let clock = Arc::clone(clock);
    let run = Run { here, clock, progress, writer, accepted: 0, limits, _reload: reload, reader, points };
    Ok((run, seen))
}

/// Why the epoch of the state folder is to be forgotten: the keeper has sealed it, or the other site calls it damaged.
/// The new one costs a full upload, and nothing else has to be repaired.
async fn lost_epoch(here: &Here, reader: &VaultReader<Keys>, state: &Path) -> Result<Option<String>, Error> {
    let Some(epoch) = remembered_epoch(state)? else { return Ok(None) };
    if reader.is_sealed(epoch).await? {
        return Ok(Some(format!("epoch {epoch} was sealed by the keeper")));
    }
    let status = match reader.status(&here.other.name, state).await {
        Ok(status) => status,
        Err(VaultError::Store(error)) => return Err(error.into()),
        // What the other site says only informs, and a capture must not wait for it to be mended.
        Err(error) => {
            tracing::warn!("the status of {} is not to be believed: {}", here.other.name, Error::from(error));
            None
        }
    };
    let mut damaged = status.into_iter().flat_map(|status| status.damaged_epochs);
    let found = damaged.find(|found| (found.term, found.epoch) == (epoch.term, epoch.epoch));
    Ok(found.map(|found| format!("{} calls epoch {epoch} damaged ({})", here.other.name, found.why)))
}

/// How a new epoch is cut where nobody said: as it suits the size that the databases have now.
async fn chunker_for_new(here: &Here) -> Result<Option<ChunkerParameters>, Error> {
    let mut bytes = 0;
    for address in here.site.databases.values() {
        let password = here.resolve(&format!("databases.{}.password", address.name), address.password.as_ref())?;
        match disk_bytes(address, password).await {
            Ok(more) => bytes += more,
            // The buckets are mirrored whatever its database does; its capture will fail, and say so.
            Err(error) => {
                tracing::warn!(
                    "the size of database {} is not known, and the new epoch not cut by it: {error}",
                    address.name
                );
                return Ok(None);
            }
        }
    }
    Ok(Some(ChunkerParameters::for_bytes(bytes)))
}

/// How this site keeps its epoch.
fn keeping<'a>(
    here: &'a Here,
    signer: &'a SigningKey,
    sealed_to: &'a [Recipient],
    state: &'a Path,
) -> EpochKeeping<'a> {
    let chunker = match here.config.capture.chunks {
        ChunkSize::Auto => None,
        ChunkSize::Fine => Some(ChunkerParameters::fine()),
        ChunkSize::Small => Some(ChunkerParameters::small()),
        ChunkSize::Large => Some(ChunkerParameters::large()),
    };
    EpochKeeping {
        system: &here.config.system,
        site: &here.site.name,
        term: here.term,
        sealed_to,
        chunker,
        signer,
        state,
    }
}

impl Run<'_> {
    /// All sources, in the order that makes them fit together.
    /// Each capture is boxed and its type forgotten: a future that held them all is too deep for the compiler.
    async fn capture_all(&self, sources: &[SourceName]) -> Result<Vec<SealedSource>, Error> {
        let of = |kind: SourceKind| sources.iter().filter(move |source| source.kind == kind);
        let mut mirrored: Vec<(&SourceName, Bulk)> = Vec::new();
        for source in of(SourceKind::Bucket) {
            mirrored.push((source, self.bulk(source).boxed_local().await?));
        }
        let mut exports = Vec::new();
        for source in of(SourceKind::Export) {
            let address = self.here.site.exports.get(&source.name).ok_or_else(|| self.no_address(source))?;
            exports.push((source, address, self.export(source, address).boxed_local().await?));
        }
        let mut sealed = Vec::new();
        for source in of(SourceKind::Database) {
            let address = self.here.site.databases.get(&source.name).ok_or_else(|| self.no_address(source))?;
            sealed.push(self.database(source, address).boxed_local().await?);
        }
        for (source, address, (captured, digest)) in exports {
            if export::digest(address).await? == digest {
                sealed.push(captured);
            } else {
                tracing::info!(%source, "it changed while the database was captured; captured once more");
                sealed.push(self.export(source, address).boxed_local().await?.0);
            }
        }
        for (source, bulk) in mirrored {
            sealed.push(self.manifest(source, &bulk).boxed_local().await?);
        }
        Ok(sealed)
    }

    /// Headers, then the point.
    async fn publish(
        &self,
        id: PointId,
        previous: Option<Link>,
        started_at: jiff::Timestamp,
        sealed: Vec<SealedSource>,
    ) -> Result<(crate::vault::v1::PointRecord, Vec<super::SourceSummary>), Error> {
        // The point stands for the instant of its first database snapshot; without a database, for its oldest part.
        let captured_at = sealed.iter().map(|source| source.captured_at).min().unwrap_or(started_at);
        let database = sealed.iter().find(|source| source.summary.source.starts_with(SourceKind::Database.as_str()));
        let captured_at = database.map_or(captured_at, |source| source.captured_at);
        // The chain goes by number, and an export that was captured once more has a later one.
        let mut sealed = sealed;
        sealed.sort_by_key(|source| source.sealed.seq());
        let mut snapshots = Vec::new();
        let mut summaries = Vec::new();
        for source in sealed {
            snapshots.push(self.writer.commit(source.sealed).await?);
            summaries.push(source.summary);
        }
        self.writer.check_alone(&self.reader.header_numbers(self.writer.epoch()).await?)?;
        let point = NewPoint { id, previous, started_at, captured_at, snapshots };
        Ok((self.writer.publish(point).await?, summaries))
    }

    pub(super) fn no_address(&self, source: &SourceName) -> PointError {
        PointError::NoAddress { source_name: source.to_string(), site: self.here.site.name.clone() }
    }
}
