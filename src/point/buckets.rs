//! The buckets of a point: mirrored by us, shared by both sites, or replicated by their store. Whichever it is, the point gets
//! a manifest of what the live bucket holds, and says what the other site lacks of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::PointError;
use super::changed::FOLLOWED;
use super::mend::{lost, mended};
use super::sources::SealedSource;
use super::spare;
use super::take::Run;
use crate::config::address::{BucketAddress, Topology};
use crate::config::{Here, Site, SourceKind, SourceName};
use crate::error::Error;
use crate::mirror::attic::Attic;
use crate::mirror::direction::Rescued;
use crate::mirror::{self, Index, Planned, Replica, Sides};
use crate::store::{Bucket, ReadOnly};
use crate::stream::{Sink, SinkStream, StreamKind, StreamName};
use crate::units::{Bytes, Span};

/// What the first pass of a point did, most of the bytes.
pub(super) struct Bulk {
    begun: Instant,
    work: Work,
}

enum Work {
    Mirrored { fates: mirror::Fates, pass: Box<mirror::Pass>, doubt: Option<String> },
    Indexed(Index),
}

/// What is told of a bucket, once its manifest is final.
struct Told {
    facts: Value,
    summary: String,
    lacks: Vec<String>,
    misnamed: Vec<String>,
    rescued: Vec<Rescued>,
    unmirrored: mirror::Unmirrored,
}

impl Run<'_> {
    /// The first pass; before it, what the other site found wrong is mended.
    pub(super) async fn bulk(&self, source: &SourceName) -> Result<Bulk, Error> {
        let begun = Instant::now();
        let work = match self.topology(source)? {
            Topology::Mirror => {
                let direction = self.direct(source).boxed().await?;
                // The first pass of a direction looks at every object, and rescues before it writes.
                let fates = if direction.returning { mirror::Fates::new() } else { self.mend(source).await? };
                Work::Mirrored { fates, pass: Box::new(self.mirror(source).await?), doubt: direction.doubt }
            }
            Topology::Shared | Topology::External => Work::Indexed(self.index(source).await?),
        };
        Ok(Bulk { begun, work })
    }

    /// One pass and nothing else; none of a bucket that we do not mirror. The next capture finds less to do.
    pub(super) async fn mirror_only(&self, source: &SourceName) -> Result<Option<mirror::Pass>, Error> {
        if self.topology(source)? != Topology::Mirror {
            return Ok(None);
        }
        self.direct(source).boxed().await?;
        Ok(Some(self.mirror(source).await?))
    }

    /// The last pass of a point, and the manifest it leaves as a snapshot.
    pub(super) async fn manifest(&self, source: &SourceName, bulk: &Bulk) -> Result<SealedSource, Error> {
        let (told, captured_at) = match &bulk.work {
            Work::Mirrored { fates, pass, doubt } => {
                let delta = self.mirror(source).await?;
                let mut told = of_mirror(fates, pass, &delta, doubt.as_deref());
                // What the report counts from.
                if let (Some(facts), Some(followed)) =
                    (told.facts.as_object_mut(), mirror::followed(&self.manifest_folder(source))?)
                {
                    facts.insert(FOLLOWED.to_owned(), json!(followed));
                }
                (told, self.clock.now())
            }
            Work::Indexed(first) => {
                let last = self.index(source).await?;
                let captured_at = self.clock.now();
                let replica = match self.topology(source)? {
                    Topology::External => {
                        let other = ReadOnly::new(bucket_of(self.here, &self.here.other, source)?);
                        Some(mirror::compare(&self.manifest_folder(source), &other).await?)
                    }
                    Topology::Mirror | Topology::Shared => None,
                };
                (of_index(first, &last, replica.as_ref(), captured_at), captured_at)
            }
        };
        let sink = self.writer.begin(source);
        let mut stream = sink.open(StreamName::new(StreamKind::Manifest, &source.name)).await?;
        let with_digests = self.here.config.profile.digest_of(&source.name).is_some();
        for block in mirror::published_lines(&mirror::manifest_path(&self.manifest_folder(source)), with_digests)? {
            stream.write(block?).await?;
        }
        stream.finish(told.unmirrored.attribute()).await?;
        let sealed = sink.seal(captured_at, told.facts).await?;
        let mut sealed = SealedSource::new(source, sealed, captured_at, bulk.begun, told.summary);
        (sealed.summary.lacks, sealed.summary.misnamed) = (told.lacks, told.misnamed);
        sealed.summary.rescued = told.rescued;
        Ok(sealed)
    }

    /// Brings the other site's bucket up to this one's.
    async fn mirror(&self, source: &SourceName) -> Result<mirror::Pass, Error> {
        let (from, canary) = (self.live(source)?, self.address(&self.here.site, source)?.canary.as_deref());
        let (to, attic) = self.spare(source).await?;
        let sides = Sides { source: &from, canary, target: &to, attic: &attic };
        let state = self.manifest_folder(source);
        Ok(mirror::follow(&sides, &state, &self.options(source)?, &*self.clock, self.progress).boxed().await?)
    }

    /// Lists and hashes this site's bucket.
    async fn index(&self, source: &SourceName) -> Result<Index, Error> {
        let (bucket, state) = (self.live(source)?, self.manifest_folder(source));
        Ok(mirror::index(&bucket, &state, &self.options(source)?, &*self.clock, self.progress).await?)
    }

    fn topology(&self, source: &SourceName) -> Result<Topology, Error> {
        Ok(self.address(&self.here.site, source)?.topology)
    }

    pub(super) fn manifest_folder(&self, source: &SourceName) -> PathBuf {
        mirror_folder(self.here, source)
    }

    /// How a pass is to run; what a person lets through is written down before.
    fn options(&self, source: &SourceName) -> Result<mirror::PassOptions, Error> {
        if self.accepted > 0 {
            spare::write_down_accepted(&self.manifest_folder(source), self.accepted, self.clock.now())?;
        }
        let digest = self.here.config.profile.digest_of(&source.name).cloned();
        let options = mirror::PassOptions::default();
        Ok(mirror::PassOptions { limits: Arc::clone(&self.limits), accepted: self.accepted, digest, ..options })
    }

    /// This site's bucket.
    pub(super) fn live(&self, source: &SourceName) -> Result<ReadOnly, Error> {
        Ok(ReadOnly::new(bucket_of(self.here, &self.here.site, source)?))
    }

    /// The other site's, reached from here, and the attic beside it.
    pub(super) async fn spare(&self, source: &SourceName) -> Result<(Bucket, Attic), Error> {
        let address = self.address(&self.here.other, source)?;
        spare::open_with_attic(self.here, &self.here.other, address, self.clock.now()).await
    }

    fn address<'b>(&self, site: &'b Site, source: &SourceName) -> Result<&'b BucketAddress, Error> {
        address(site, source)
    }
}

pub(super) fn address<'a>(site: &'a Site, source: &SourceName) -> Result<&'a BucketAddress, Error> {
    let no_address = || PointError::NoAddress { source_name: source.to_string(), site: site.name.clone() };
    Ok(site.buckets.get(&source.name).ok_or_else(no_address)?)
}

pub(super) fn bucket_of(here: &Here, site: &Site, source: &SourceName) -> Result<Bucket, Error> {
    spare::open(here, site, address(site, source)?)
}

pub(super) fn mirror_folder(here: &Here, source: &SourceName) -> PathBuf {
    here.site.state.join("mirror").join(&source.name)
}

/// What the mirror of each bucket would do now, by the source's name. Both buckets are only asked, the other site's not even that.
///
/// # Errors
/// When this is not the live site, or a bucket cannot be listed.
pub async fn preview_mirrors(here: &Here) -> Result<BTreeMap<String, Planned>, Error> {
    let mut planned = BTreeMap::new();
    for source in here.config.sources().iter().filter(|source| source.kind == SourceKind::Bucket) {
        let mirrors = here.site.buckets.get(&source.name).is_some_and(|own| own.topology == Topology::Mirror);
        if !mirrors {
            continue;
        }
        let from = ReadOnly::new(bucket_of(here, &here.site, source)?);
        let to = bucket_of(here, &here.other, source)?;
        let limits = Arc::new(mirror::Limits::configured(here.config.mirror.limits.clone()));
        let digest = here.config.profile.digest_of(&source.name).cloned();
        let options = mirror::PassOptions { limits, digest, ..mirror::PassOptions::default() };
        let found = mirror::preview(&from, &to, &mirror_folder(here, source), &options).boxed().await?;
        planned.insert(source.to_string(), found);
    }
    Ok(planned)
}

fn of_mirror(fates: &mirror::Fates, bulk: &mirror::Pass, delta: &mirror::Pass, doubt: Option<&str>) -> Told {
    let facts = json!({
        "topology": Topology::Mirror.as_str(),
        "objects": delta.rows,
        "object_bytes": delta.bytes,
        "copied": bulk.copied + delta.copied,
        "copied_bytes": bulk.copied_bytes + delta.copied_bytes,
        "duplicated": bulk.duplicated + delta.duplicated,
        "sent_bytes": bulk.sent_bytes + delta.sent_bytes,
        "saved_bytes": bulk.saved_bytes + delta.saved_bytes,
        "adjusted": bulk.adjusted + delta.adjusted,
        "adjusted_unseen": bulk.adjusted_unseen + delta.adjusted_unseen,
        "audited": bulk.audited + delta.audited,
        "unsettled": bulk.unsettled.total + delta.unsettled.total,
        "mended": mended(fates),
        "gone": bulk.gone + delta.gone,
        "rescued": bulk.rescued.total + delta.rescued.total,
        "held_back": delta.held_back.deletes + delta.held_back.overwrites,
        "skipped": delta.skipped.total,
        "unlisted": delta.unlisted.total,
        "sorted_here": delta.sorted_here,
        "failed": delta.failed.total,
        "misnamed": delta.misnamed.total,
    });
    let mut summary = mirrored(bulk, delta);
    if mended(fates) > 0 {
        summary += &format!(", {} mended that the other site had lost", mended(fates));
    }
    let rescued: Vec<Rescued> = bulk.rescued.first.iter().chain(&delta.rescued.first).cloned().collect();
    if !rescued.is_empty() {
        summary += &format!(", {} rescued that only the other site had", bulk.rescued.total + delta.rescued.total);
    }
    if let Some(why) = doubt.filter(|_| !rescued.is_empty()) {
        summary += &format!(" (perhaps fewer: what its points name could not be read: {why})");
    }
    let (lacks, misnamed) = (lost(fates).chain(lacks(bulk, delta)).collect(), misnamed(&delta.misnamed));
    Told { facts, summary, lacks, misnamed, rescued, unmirrored: delta.unmirrored.clone() }
}

fn of_index(first: &Index, last: &Index, replica: Option<&Replica>, now: jiff::Timestamp) -> Told {
    let mut facts = json!({
        "topology": replica.map_or(Topology::Shared, |_| Topology::External).as_str(),
        "objects": last.rows,
        "object_bytes": last.bytes,
        "hashed": first.hashed + last.hashed,
        "hashed_bytes": first.hashed_bytes + last.hashed_bytes,
        "gone": first.gone + last.gone,
        "skipped": last.skipped.total,
        "unlisted": last.unlisted.total,
        "failed": last.failed.total,
        "misnamed": last.misnamed.total,
    });
    let (hashed, bytes) = (first.hashed + last.hashed, Bytes(first.hashed_bytes + last.hashed_bytes));
    let mut summary = format!("{} objects, {hashed} hashed ({bytes})", last.rows);
    let failed = last.failed.first.iter().map(|object| format!("{:?}: {}", object.key, object.why));
    let skipped = last.skipped.first.iter().map(|object| format!("{:?}: {}", object.name, object.why));
    let unlisted = last.unlisted.first.iter().map(mirror::Unlisted::to_string);
    let mut lacks: Vec<String> = unlisted.chain(failed).chain(skipped).collect();
    match replica {
        None => summary += "; both sites use this bucket, nothing was copied",
        Some(replica) => {
            let lag = replica.lag(now).and_then(|lag| lag.try_into().ok()).map(Span);
            summary += &match lag {
                None => "; its store has replicated all of them".to_owned(),
                Some(lag) => {
                    format!("; its store lacks {} at the other site, and is {lag} behind", replica.lacking.total)
                }
            };
            let lacking = replica.lacking.first.iter();
            lacks.extend(lacking.map(|object| format!("{:?}: not replicated: {}", object.key, object.why)));
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("lacking".to_owned(), json!(replica.lacking.total));
                facts.insert("lag_seconds".to_owned(), json!(replica.lag(now).map(|lag| lag.as_secs())));
            }
        }
    }
    let misnamed = misnamed(&last.misnamed);
    // Nothing is ever hidden in a bucket that is not mirrored.
    Told { facts, summary, lacks, misnamed, rescued: Vec::new(), unmirrored: mirror::Unmirrored::default() }
}

/// What could not be mirrored, object by object. What the last pass could copy the other site has; whose turn it was to be
/// looked at in the first is not looked at again in the last.
fn lacks(bulk: &mirror::Pass, pass: &mirror::Pass) -> Vec<String> {
    let failed = pass.failed.first.iter().map(|object| format!("{:?}: {}", object.key, object.why));
    let skipped = pass.skipped.first.iter().map(|object| format!("{:?}: {}", object.name, object.why));
    let unsettled = bulk.unsettled.first.iter().chain(&pass.unsettled.first);
    let unsettled = unsettled.map(|object| {
        format!("{:?}: its content is mirrored, its headers and tags are not looked after: {}", object.key, object.why)
    });
    let unlisted = pass.unlisted.first.iter().map(mirror::Unlisted::to_string);
    let unaborted = bulk.unaborted.first.iter();
    let unaborted =
        unaborted.map(|left| format!("{:?}: an unfinished upload stays at its server: {}", left.name, left.why));
    let held =
        [&bulk.held_back, &pass.held_back].into_iter().filter(|held| held.is_any()).max_by_key(|held| held.to_accept());
    let held = held.map(|held| format!("{}: {}. {}", pass.source, held.why, held.next_step(&pass.source)));
    held.into_iter().chain(unlisted).chain(failed).chain(skipped).chain(unsettled).chain(unaborted).collect()
}

/// What is mirrored as it is, and is not what its key says.
fn misnamed(objects: &mirror::Kept<mirror::FailedObject>) -> Vec<String> {
    objects.first.iter().map(|object| format!("{:?}: {}", object.key, object.why)).collect()
}

/// What both passes of a point did, in words.
fn mirrored(bulk: &mirror::Pass, delta: &mirror::Pass) -> String {
    let sum = |of: fn(&mirror::Pass) -> u64| of(bulk) + of(delta);
    let (copied, sent, saved) = (sum(|pass| pass.copied), sum(|pass| pass.sent_bytes), sum(|pass| pass.saved_bytes));
    let mut text = format!("{} objects, {copied} copied ({} sent", delta.rows, Bytes(sent));
    if saved > 0 {
        text += &format!(", {} the other site had", Bytes(saved));
    }
    text.push(')');
    if delta.sorted_here {
        text += ", its keys sorted here because its server does not";
    }
    let adjusted = sum(|pass| pass.adjusted);
    if adjusted > 0 {
        text += &format!(", headers or tags of {adjusted} changed");
    }
    let refused = sum(|pass| pass.not_duplicated.total);
    if refused > 0 {
        text += &format!(", {refused} sent because the other site's store would not copy them");
    }
    text
}
