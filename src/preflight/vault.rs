//! The vault as this site sees it: it opens, its points can be listed and believed, and there is room in it.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::finding::Findings;
use super::limit::{self, ANSWER_MAX, READING_MAX, within};
use super::space;
use crate::clock::Clock;
use crate::config::Here;
use crate::config::address::VaultUrl;
use crate::point::{self, Points};
use crate::store::Keys;
use crate::units::Span;
use crate::vault::{ListedPoint, VaultReader};

/// Clocks that are further apart than this are a finding.
pub(super) const SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);
/// A newest point that is older than this is a finding.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Damaged records that are told one by one.
const DAMAGED_TOLD_MAX: usize = 20;

/// The vault, opened, with its points.
pub(super) struct Seen {
    pub keys: Keys,
    pub reader: VaultReader<Keys>,
    pub points: Points,
}

impl Seen {
    /// The newest point, if it can be restored.
    pub fn newest(&self) -> Option<&ListedPoint> {
        self.points.choose(None).ok()
    }
}

/// Opens the vault and lists its points; `None` when that fails, which is told.
pub(super) async fn look(here: &Here, clock: &dyn Clock, findings: &mut Findings) -> Option<Seen> {
    if let Some(folder) = folder(&here.config.vault.url) {
        findings.value("vault", "vault", limit::folder_answers("the vault", folder).await)?;
    }
    let opened = within(ANSWER_MAX, "the vault", point::open_vault(here)).await;
    let (keys, reader) = findings.value("vault", "vault", opened)?;
    let object = format!("vault {}", keys.name());
    let listed = within(READING_MAX, &object, point::list(here)).await;
    let points = findings.value("points", &object, listed)?;
    for damaged in points.listing.damaged.iter().take(DAMAGED_TOLD_MAX) {
        let next = "Find out who changed or removed it; `warmspare points` lists the points that are whole.";
        findings.warning("points", &damaged.key, format!("damaged: {}", damaged.what), next);
    }
    age(here, clock.now(), &points, &object, findings);
    let seen = Seen { keys, reader, points };
    if here.is_live() {
        room(here, &seen, &object, findings).await;
    }
    Some(seen)
}

fn age(here: &Here, now: Timestamp, points: &Points, object: &str, findings: &mut Findings) {
    let count = points.listing.points.len();
    let take = match here.is_live() {
        true => "Take one: `warmspare capture`".to_owned(),
        false => format!("Take one at {}: `warmspare capture`", here.other.name),
    };
    let Some(newest) = points.listing.points.last() else {
        if here.is_live() {
            findings.warning("points", object, "there is no recovery point yet", take);
        }
        // At the spare the restore says so.
        return;
    };
    let age = now.duration_since(newest.record.captured_at);
    if age < -SKEW_MAX {
        let found = format!("point {} was captured in the future: {}", newest.id, newest.record.captured_at);
        let next = format!("Compare the clocks of {} and {}; let NTP set both.", here.site.name, here.other.name);
        findings.warning("clock", &here.site.name, found, next);
        return;
    }
    let ago = Span(age.try_into().unwrap_or_default());
    let found = format!("{count} points; the newest, {}, was captured {ago} ago", newest.id);
    if age > AGE_MAX {
        findings.warning("points", object, format!("{found}: what came after it is in none"), take);
    } else {
        findings.ok("points", object, found);
    }
}

/// A new epoch, at least once a week, uploads everything once more.
async fn room(here: &Here, seen: &Seen, object: &str, findings: &mut Findings) {
    let Some(folder) = folder(&here.config.vault.url) else { return };
    let stored = |point: &ListedPoint| point.headers.iter().map(|(_, _, header)| header.stored_bytes).sum();
    let need = seen.points.listing.points.iter().map(stored).max();
    match need {
        Some(need) => space::judge(findings, object, folder, need, "the largest upload so far").await,
        None => {
            if let Some(free) = space::ask(findings, object, folder).await {
                let found = format!("{} free; how much a point needs is not known yet", crate::units::Bytes(free));
                findings.ok("space", object, found);
            }
        }
    }
}

/// The folder of this host that the vault is, if it is one.
pub(super) fn folder(url: &VaultUrl) -> Option<&Path> {
    match url {
        VaultUrl::Folder(folder) => Some(folder),
        VaultUrl::S3 { .. } | VaultUrl::Gcs { .. } | VaultUrl::Azure { .. } => None,
    }
}

/// Compares a clock of others with this host's.
pub(super) fn clocks(findings: &mut Findings, object: &str, theirs: Timestamp, ours: Timestamp) {
    let apart = theirs.duration_since(ours);
    let span = Span(apart.unsigned_abs());
    let word = if apart.is_negative() { "behind" } else { "ahead" };
    if apart.abs() > SKEW_MAX {
        let next = "Let NTP set both; epochs end and points are dated by the clock of the site that captures.";
        findings.warning("clock", object, format!("its clock is {span} {word} of this host's"), next);
    } else {
        findings.ok("clock", object, format!("within {span} of this host's"));
    }
}
