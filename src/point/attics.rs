//! The keeper at the spare's buckets: what the live site has deleted is hidden, what no point names any more is let go.
//!
//! Recovery points alone are believed. If one of them cannot be read nothing is hidden and nothing let go: it may name anything. What
//! one of the grace period lacks only because it could not be mirrored ([`Unmirrored`]) is not taken for deleted.

use std::collections::{BTreeMap, HashSet};

use futures_util::{FutureExt, Stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::error::PointError;
use super::{Points, spare};
use crate::clock::Clock;
use crate::config::address::{BucketAddress, BucketUrl, Topology};
use crate::config::{Here, SourceKind, SourceName};
use crate::error::Error;
use crate::keys::Identity;
use crate::mirror::attic::{Attic, LET_GO_AFTER, Protection};
use crate::mirror::direction::{Record, records};
use crate::mirror::hide::{Extras, Going};
use crate::mirror::let_go::{OldNames, let_go};
use crate::mirror::{PublishedRow, Unmirrored, published_rows, touched};
use crate::store::{Keys, Removing};
use crate::stream::{Source, StreamKind, StreamName};
use crate::vault::layout::PointId;
use crate::vault::{ListedPoint, VaultReader};

/// So many objects may always be hidden in one pass; of large buckets one of [`HIDES_ONE_OF`].
const HIDES_ALWAYS: u64 = 1_000;
const HIDES_ONE_OF: u64 = 100;
/// So many names are shown.
const SHOWN_MAX: usize = 20;

/// What became of one bucket.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BucketKeeping {
    /// The source.
    pub bucket: String,
    /// How many objects were hidden, or would be.
    pub hidden: u64,
    /// The first of them.
    pub hidden_first: Vec<String>,
    /// How many objects were left although the newest points lack them: the live site may have them, and could not mirror them.
    pub left: u64,
    /// How many contents of the attic were let go, or would be.
    pub let_go: u64,
    /// What a person may wonder about.
    pub notes: Vec<String>,
    /// Why nothing was hidden although something should be; empty when it was.
    pub held_back: String,
}

/// How much of a bucket is looked after at once. Of larger ones the points are read several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// Objects that the newest point has not.
    pub extras: usize,
    /// Contents of the attic that are old enough to go.
    pub contents: usize,
}

impl Default for AtOnce {
    fn default() -> Self {
        AtOnce { extras: 100_000, contents: 500_000 }
    }
}

/// The points that say what is gone: the newest, those of the grace period, and those before.
struct Sayings<'a> {
    newest: &'a ListedPoint,
    recent: &'a [&'a ListedPoint],
    older: &'a [&'a ListedPoint],
}

/// A manifest, and what it leaves out although the live site may have it.
struct Recorded<R> {
    /// Absent when it was read before.
    rows: Option<R>,
    unmirrored: Unmirrored,
}

/// What the keeper knows.
pub(super) struct Keeper<'a> {
    pub here: &'a Here,
    pub reader: &'a VaultReader<Keys>,
    pub identity: &'a Identity,
    pub points: &'a Points,
    pub clock: &'a dyn Clock,
    /// When each point was stored, by this host's clock.
    pub stored: &'a BTreeMap<PointId, Timestamp>,
    pub dry_run: bool,
    /// How many hides a person has said are no mistake.
    pub accepted: u64,
    pub at_once: AtOnce,
}

impl Keeper<'_> {
    /// Looks after every bucket of this site that is mirrored: one that both sites use is the live site's, too, and in one that its
    /// store replicates nothing is ours.
    ///
    /// # Errors
    /// When a store or the vault does not answer. Run again, it goes on.
    pub async fn keep(&self) -> Result<Vec<BucketKeeping>, Error> {
        let mut all = Vec::new();
        let mirrored = |(_, address): &(&String, &BucketAddress)| address.topology == Topology::Mirror;
        for (name, address) in self.here.site.buckets.iter().filter(mirrored) {
            all.push(self.bucket(&SourceName::new(SourceKind::Bucket, name), address).boxed_local().await?);
        }
        Ok(all)
    }

    async fn bucket(&self, source: &SourceName, address: &BucketAddress) -> Result<BucketKeeping, Error> {
        let mut keeping = BucketKeeping { bucket: source.to_string(), ..BucketKeeping::default() };
        if let Some(BucketUrl::Folder(folder)) = address.attic_address().map(|attic| attic.url)
            && self.dry_run
            && !folder.is_dir()
        {
            // It would be made; nothing was ever mirrored here with it.
            return Ok(keeping);
        }
        let (bucket, attic) = spare::open_with_attic(self.here, &self.here.site, address, self.clock.now()).await?;
        let Some(place) = attic.place().filter(|_| attic.protection() != Protection::Nothing) else {
            keeping.notes.push(format!("{source} has no attic: what the live site deletes stays in sight at this one"));
            return Ok(keeping);
        };
        if !self.dry_run {
            // Those of a run that was killed: whatever it did, the mirror looks at those objects again.
            touched::end(place, &touched::unfinished(place).await?).await?;
        }
        if let Some(damaged) = self.points.listing.damaged_points.last() {
            keeping
                .notes
                .push(format!("{source}: point {damaged} cannot be read, so nothing is hidden and nothing let go"));
            return Ok(keeping);
        }
        let rescued = records(place).boxed().await?;
        let waiting = rescued.iter().filter(|record| !record.released).count();
        if waiting > 0 {
            keeping.notes.push(format!(
                "{source}: {waiting} rescued objects wait for somebody to look at them: `warmspare mirror rescued`"
            ));
        }
        let spare = Removing::new(bucket);
        self.hide(source, &spare, &attic, &rescued, &mut keeping).await?;
        self.let_go(source, &Removing::new(place.clone()), &rescued, &mut keeping).await?;
        Ok(keeping)
    }

    /// The points that have the source, the newest first.
    fn points_of<'a>(&'a self, source: &'a SourceName) -> impl Iterator<Item = &'a ListedPoint> {
        let has = move |point: &&ListedPoint| point.headers.iter().any(|(its, _, _)| its == source);
        self.points.listing.points.iter().rev().filter(has)
    }

    /// The manifest of `point`; without its rows when one of the same bytes is among those `read` before: a bucket that did not change
    /// has the same in point after point, and to read it takes packs from all of its epoch.
    async fn unread(
        &self,
        source: &SourceName,
        point: &ListedPoint,
        read: &mut HashSet<(u64, blake3::Hash)>,
    ) -> Result<Recorded<impl Stream<Item = Result<PublishedRow, Error>> + Send + use<>>, Error> {
        let found = point.headers.iter().find(|(its, _, _)| its == source);
        let (_, id, header) = found.ok_or(PointError::UnknownPoint { point: point.id })?;
        let snapshot = self.reader.open_snapshot(source, *id, header, self.identity).boxed().await?;
        let name = StreamName::new(StreamKind::Manifest, &source.name);
        let entry = snapshot.entries().iter().find(|entry| entry.name == name);
        // Two manifests of the same bytes may leave out different objects.
        let unmirrored = entry.map(|entry| Unmirrored::told(&entry.attributes)).unwrap_or_default();
        if entry.is_some_and(|entry| !read.insert((entry.bytes, entry.blake3))) {
            return Ok(Recorded { rows: None, unmirrored });
        }
        Ok(Recorded { rows: Some(published_rows(snapshot.read(&name).boxed().await?)), unmirrored })
    }

    async fn hide(
        &self,
        source: &SourceName,
        spare: &Removing,
        attic: &Attic,
        rescued: &[Record],
        keeping: &mut BucketKeeping,
    ) -> Result<(), Error> {
        let points: Vec<&ListedPoint> = self.points_of(source).collect();
        let since = before(self.clock.now(), self.here.config.retention.hide_after);
        // The youngest point that is old enough, and not the newest: between the two lies the grace period.
        let is_old = |point: &&ListedPoint| point.record.finished_at <= since;
        let Some(old) = points.iter().skip(1).position(is_old).map(|at| at + 1) else { return Ok(()) };
        let (recent, older) = points.split_at(old + 1);
        let Some((newest, recent)) = recent.split_first() else { return Ok(()) };
        let Some(stored) = self.stored.get(&newest.id) else {
            keeping.notes.push(format!("{source}: point {} was taken meanwhile; the next pass hides", newest.id));
            return Ok(());
        };
        let sayings = Sayings { newest, recent, older };
        let (mut going, mut after, mut is_cut) = (Going::default(), None::<String>, false);
        loop {
            let (extras, is_more) = self.extras(source, spare, &sayings, rescued, after.as_deref()).boxed().await?;
            after = extras.last().map(str::to_owned);
            going.add(extras);
            is_cut |= is_more;
            if after.is_none() {
                keeping.left = going.left;
                keeping.notes.extend(left_note(source, going.left, is_cut));
                break;
            }
        }
        let limit = HIDES_ALWAYS.max(going.recorded / HIDES_ONE_OF).max(self.accepted);
        if going.total > limit {
            let (count, all) = (going.total, going.recorded);
            keeping.held_back = format!(
                "{source}: {count} objects would be hidden, beside {all} that stay: more than {limit}. If that many were really \
                 deleted: `warmspare prune --accept-hides {count}`"
            );
            return Ok(());
        }
        let hidden = match self.dry_run {
            true => going.keys().map(str::to_owned).collect(),
            false if going.total == 0 => Vec::new(),
            false => going.hide(spare, attic, self.clock, *stored).boxed().await?,
        };
        keeping.hidden = hidden.len() as u64;
        keeping.hidden_first = hidden.into_iter().take(SHOWN_MAX).collect();
        Ok(())
    }

    /// What `spare` has after the key `after`, as far as it is looked after at once, and the newest point has not; what the others say
    /// of it; and whether a point leaves out more than it names.
    async fn extras(
        &self,
        source: &SourceName,
        spare: &Removing,
        sayings: &Sayings<'_>,
        rescued: &[Record],
        after: Option<&str>,
    ) -> Result<(Extras, bool), Error> {
        let newest = self.unread(source, sayings.newest, &mut HashSet::new()).boxed().await?;
        let rows = newest.rows.ok_or(PointError::UnknownPoint { point: sayings.newest.id })?;
        let mut extras = Extras::find(spare, rows, after, self.at_once.extras).boxed().await?;
        extras.leave(&newest.unmirrored);
        let (mut read, mut is_cut) = (HashSet::new(), newest.unmirrored.is_cut());
        for point in sayings.recent {
            if extras.is_empty() {
                break;
            }
            let recorded = self.unread(source, point, &mut read).await?;
            extras.leave(&recorded.unmirrored);
            is_cut |= recorded.unmirrored.is_cut();
            if let Some(rows) = recorded.rows {
                extras.without(rows).boxed().await?;
            }
        }
        // What one of the grace period has was left out: it tells nothing about the rest.
        extras.heed(rescued);
        for point in sayings.older {
            if extras.all_known() {
                break;
            }
            if let Some(rows) = self.unread(source, point, &mut read).await?.rows {
                extras.known_to(rows).boxed().await?;
            }
        }
        Ok((extras, is_cut))
    }

    async fn let_go(
        &self,
        source: &SourceName,
        place: &Removing,
        rescued: &[Record],
        keeping: &mut BucketKeeping,
    ) -> Result<(), Error> {
        let within = SignedDuration::try_from(self.here.config.retention.within).unwrap_or(SignedDuration::MAX);
        let since = self.clock.now().saturating_sub(within.max(LET_GO_AFTER)).unwrap_or(Timestamp::MIN);
        let mut after = None::<String>;
        loop {
            let mut old = OldNames::find(place, since, after.as_deref(), self.at_once.contents).boxed().await?;
            after = old.last().map(str::to_owned);
            let mut read = HashSet::new();
            old.heed(rescued);
            for point in self.points_of(source) {
                if old.is_empty() {
                    break;
                }
                if let Some(rows) = self.unread(source, point, &mut read).await?.rows {
                    old.named_by(rows).boxed().await?;
                }
            }
            let going = old.going();
            keeping.let_go += going.len() as u64;
            if !self.dry_run {
                let_go(place, &going).boxed().await?;
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// What is said of objects that were left; nothing where there are none.
fn left_note(source: &SourceName, left: u64, is_cut: bool) -> Option<String> {
    let (objects, are) = match left {
        0 => return None,
        1 => ("object", "is"),
        _ => ("objects", "are"),
    };
    let why = match is_cut {
        true => "a point left out more than it can name, and they may be among it",
        false => "the live site has them, or may have them, and could not mirror them",
    };
    Some(format!(
        "{source}: {left} {objects} that the newest points lack {are} not hidden: {why}. A capture there says what: NOT MIRRORED"
    ))
}

fn before(now: Timestamp, span: std::time::Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| now.saturating_sub(span).ok()).unwrap_or(Timestamp::MIN)
}
