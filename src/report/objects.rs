//! What the live site has written into its buckets since a point, by the mirror's count of changes.
//!
//! A point has what the mirror had followed when it was taken; to what it has followed since comes what a listing shows that it has not.
//! Where one bucket cannot say, nothing is said: a sum without it would be too small.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::freshness::{Facts, PointFacts, VaultFacts, told_of};
use crate::config::{Here, SourceKind, SourceName};
use crate::point::{self, Changed};
use crate::units::Span;
use crate::vault::layout::PointId;

/// For one bucket.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Counts for each point what was written since. Nothing is counted where this is not the live site, or has no bucket that is mirrored.
pub(super) async fn objects(here: &Here, facts: &mut Facts) {
    if !here.is_live() || facts.vault.as_ref().map_or(true, |vault| vault.points.is_empty()) {
        return;
    }
    let sources = here.config.sources();
    let asked = sources.iter().filter(|source| source.kind == SourceKind::Bucket);
    let answers = join_all(asked.map(|source| ask(here, source).map(move |answer| (source.clone(), answer)))).await;
    let mut buckets = Vec::new();
    let mut is_known = true;
    for (source, answer) in answers {
        match answer {
            Ok(None) => {}
            Ok(Some(changed)) => buckets.push((source, changed)),
            Err(why) => {
                tracing::warn!("objects since a point cannot be counted: {source}: {why}");
                is_known = false;
            }
        }
    }
    if !is_known || buckets.is_empty() {
        return;
    }
    let told_of = told_of(facts);
    let Ok(vault) = &mut facts.vault else { return };
    for (point, why) in count(vault, &here.site.name, &buckets) {
        // Of the others nobody is told.
        if told_of.contains(&point) {
            tracing::warn!("objects since point {point} cannot be counted: {why}");
        }
    }
}

async fn ask(here: &Here, source: &SourceName) -> Result<Option<Changed>, String> {
    match tokio::time::timeout(ANSWER_MAX, point::changed(here, source)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it was not listed within {}", Span(ANSWER_MAX))),
    }
}

/// The sum of each point; the others come back, with why there is none.
fn count(vault: &mut VaultFacts, site: &str, buckets: &[(SourceName, Changed)]) -> Vec<(PointId, String)> {
    let mut uncounted = Vec::new();
    // What was written while another site was live nobody here has counted.
    let mut later_of_another = None;
    for point in vault.points.iter_mut().rev() {
        if point.writer != site && later_of_another.is_none() {
            later_of_another = Some((point.id, point.writer.clone()));
        }
        let sum = match &later_of_another {
            Some((id, writer)) => Err(format!("point {id} was taken by {writer}")),
            None => buckets.iter().try_fold(0_u64, |sum, (source, changed)| {
                since(point, source, changed).map(|more| sum.saturating_add(more))
            }),
        };
        match sum {
            Ok(sum) => point.objects_since = Some(sum),
            Err(why) => uncounted.push((point.id, why)),
        }
    }
    uncounted
}

fn since(point: &PointFacts, source: &SourceName, changed: &Changed) -> Result<u64, String> {
    let Some(followed) = point.followed.get(source) else {
        return Err(format!("it does not say what the mirror of {source} had followed"));
    };
    let since = changed.since(followed);
    since.ok_or_else(|| {
        format!("the mirror of {source} has begun to count anew since: its memory was lost, or put back")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::Followed;
    use crate::report::sample::point;

    fn name(text: &str) -> SourceName {
        text.parse().unwrap()
    }

    fn followed(of: &str, changes: u64) -> Followed {
        Followed { of: of.to_owned(), changes }
    }

    /// Points with what the mirrors of the buckets `a` and `b` had followed, and what is said of each: the newest last.
    fn check(points: &[(&str, Option<Followed>, Option<Followed>)], now: [(Followed, u64); 2], expected: &str) {
        let facts = points.iter().zip(1..).map(|((writer, a, b), seq)| {
            let of = [("bucket.a", a), ("bucket.b", b)].into_iter();
            let followed = of.filter_map(|(source, count)| Some((name(source), count.clone()?))).collect();
            PointFacts { writer: (*writer).to_owned(), followed, ..point(seq, 60) }
        });
        let mut vault = VaultFacts { points: facts.collect(), ..VaultFacts::default() };
        let [a, b] = now.map(|(followed, since_the_last)| Changed { followed, since_the_last });
        let uncounted = count(&mut vault, "ams", &[(name("bucket.a"), a), (name("bucket.b"), b)]);
        let words: Vec<String> = vault.points.iter().map(|point| format!("{:?}", point.objects_since)).collect();
        assert_eq!(words.join(" "), expected, "{uncounted:?}");
        let without = vault.points.iter().filter(|point| point.objects_since.is_none()).count();
        assert_eq!(uncounted.len(), without, "of each there is a reason: {uncounted:?}");
    }

    #[test]
    fn the_sum_is_of_what_passes_followed_and_of_what_a_listing_shows_in_every_bucket() {
        let two = |a: u64, b: u64| ("ams", Some(followed("a", a)), Some(followed("b", b)));
        let now = || [(followed("a", 10), 2), (followed("b", 7), 0)];
        check(&[two(0, 0), two(4, 7), two(10, 7)], now(), "Some(19) Some(8) Some(2)");
        check(&[], now(), "");
    }

    #[test]
    fn a_sum_that_would_be_too_small_is_none() {
        let (a, b) = (|changes| Some(followed("a", changes)), |changes| Some(followed("b", changes)));
        let now = || [(followed("a", 10), 2), (followed("b", 7), 0)];
        check(&[("ams", a(4), None), ("ams", a(10), b(7))], now(), "None Some(2)");
        check(&[("ams", a(4), Some(followed("lost", 7))), ("ams", a(10), b(7))], now(), "None Some(2)");
        check(&[("ams", a(11), b(7))], now(), "None");
        let swapped = [("ams", a(4), b(7)), ("fra", a(4), b(7)), ("ams", a(10), b(7))];
        check(&swapped, now(), "None None Some(2)");
        check(&swapped[..2], now(), "None None");
    }
}
