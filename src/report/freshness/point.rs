//! Points and what was proven of them, against their targets.

use jiff::Timestamp;

use super::{
    Facts, Grade, Line, Loss, Measure, PointFacts, Rehearsal, Reread, SourceAt, Subject, Unseen, VaultFacts, age,
    apart, is_future, line, measure, span,
};
use crate::config::SourceName;
use crate::vault::v1::{BucketVerdict, ProofRecord, Verdict};

/// Restores that are told of.
const REHEARSALS_MAX: usize = 5;
/// What is to be said of points.
pub(super) struct Points {
    pub(super) newest: Measure,
    pub(super) proven: Measure,
    pub(super) closure: Option<String>,
    pub(super) sources: Vec<SourceAt>,
    pub(super) loss: Loss,
    pub(super) loss_proven: Loss,
    pub(super) rehearsals: Vec<Rehearsal>,
}

pub(super) fn look(
    facts: &Facts,
    vault: &VaultFacts,
    known: bool,
    lines: &mut Vec<Line>,
    unseen: &mut Unseen,
) -> Points {
    let now = facts.at;
    let targets = &facts.targets;
    let (newest, proven) = (newest(facts, vault), proven(vault));
    let as_found = |point: &PointFacts| (point.id, point.captured_at);
    let points = Points {
        newest: measure(now, newest.map(as_found), targets.point, known),
        proven: measure(now, proven.map(as_found), targets.proven, known),
        closure: newest.map(|point| point.closure.clone()),
        sources: facts.sources.iter().map(|source| of_source(facts, vault, source, known)).collect(),
        loss: loss(now, newest),
        loss_proven: loss(now, proven),
        rehearsals: rehearsals(vault),
    };
    if known {
        told(facts, vault, &points, lines);
    }
    untold(facts, &points, unseen);
    points
}

/// The newest point that may count.
pub(super) fn newest<'a>(facts: &Facts, vault: &'a VaultFacts) -> Option<&'a PointFacts> {
    vault.points.iter().rev().find(|point| is_whole(facts, point) && may_be_closed(point))
}

/// The newest that a restore has proven equal, whole.
pub(super) fn proven(vault: &VaultFacts) -> Option<&PointFacts> {
    vault.points.iter().rev().find(|point| is_proven(point))
}

/// Whether it has every source that it is to have.
fn is_whole(facts: &Facts, point: &PointFacts) -> bool {
    facts.sources.iter().all(|source| point.sources.contains(source))
}

/// A release that judges closure says so; what was not judged is not held against a point.
fn may_be_closed(point: &PointFacts) -> bool {
    matches!(point.closure.as_str(), "closed" | "not judged")
}

/// What was said last of the point by a restore for which `counts`.
fn last(point: &PointFacts, counts: impl Fn(&ProofRecord) -> bool) -> Option<&ProofRecord> {
    point.proofs.iter().filter(|proof| counts(proof)).max_by_key(|proof| (proof.finished_at, proof.seq))
}

/// Whether the last restore of the whole point found it equal.
fn is_proven(point: &PointFacts) -> bool {
    last(point, |proof| proof.complete).is_some_and(|proof| proof.verdict == Verdict::Equal)
}

/// Whether the last restore that had this source found it equal.
fn proves(point: &PointFacts, source: &SourceName) -> bool {
    let of_it = |step: &str| step.rsplit_once('/').is_some_and(|(_, of)| of == source.to_string());
    let has = |proof: &ProofRecord| proof.steps.iter().any(|step| of_it(&step.step));
    let equal =
        |proof: &ProofRecord| proof.steps.iter().filter(|step| of_it(&step.step)).all(|step| step.differences == 0);
    point.sources.contains(source) && last(point, has).is_some_and(equal)
}

fn of_source(facts: &Facts, vault: &VaultFacts, source: &SourceName, known: bool) -> SourceAt {
    let target = facts.targets.of(source);
    let found = |counts: &dyn Fn(&PointFacts) -> bool| {
        let mut newest_first = vault.points.iter().rev().filter(|point| point.sources.contains(source));
        newest_first.find(|point| counts(point)).map(|point| (point.id, point.captured_at))
    };
    let mirrored = vault.points.iter().rev().find_map(|point| point.buckets.get(source).copied());
    SourceAt {
        mirrored,
        reread: reread(vault, source),
        source: source.to_string(),
        newest: measure(facts.at, found(&may_be_closed), target.point, known),
        proven: measure(facts.at, found(&|point| proves(point, source)), target.proven, known),
    }
}

/// What either site said last of its look at the bucket.
fn reread(vault: &VaultFacts, source: &SourceName) -> Option<Reread> {
    let name = source.to_string();
    let statuses = vault.statuses.iter().filter_map(|(site, said)| Some((site, said.as_ref().ok()?.as_ref()?)));
    let looks = statuses.filter_map(|(site, status)| {
        let BucketVerdict { at, objects, reread, reread_bytes, faults, .. } =
            status.buckets.iter().find(|bucket| bucket.source == name)?;
        let (objects, reread, reread_bytes, faults) = (*objects, *reread, *reread_bytes, *faults);
        Some(Reread { site: site.clone(), at: *at, objects, reread, reread_bytes, faults })
    });
    looks.max_by_key(|look| look.at)
}

fn loss(now: Timestamp, point: Option<&PointFacts>) -> Loss {
    let since = point.map(|point| point.captured_at);
    let rows = point.and_then(|point| point.rows_since);
    let objects = point.and_then(|point| point.objects_since);
    Loss { since, seconds: since.map(|since| age(now, since).as_secs()), rows, objects }
}

fn rehearsals(vault: &VaultFacts) -> Vec<Rehearsal> {
    let proofs = vault.points.iter().flat_map(|point| point.proofs.iter());
    let mut done: Vec<Rehearsal> = proofs
        .map(|proof| Rehearsal {
            point: proof.point.clone(),
            site: proof.site.clone(),
            finished_at: proof.finished_at,
            seconds: age(proof.finished_at, proof.started_at).as_secs(),
            equal: proof.verdict == Verdict::Equal,
            complete: proof.complete,
        })
        .collect();
    done.sort_by_key(|rehearsal| std::cmp::Reverse(rehearsal.finished_at));
    done.truncate(REHEARSALS_MAX);
    done
}

/// Of which ages no line says that they are as they should be. What a line of the system says of all of its sources is no news of one
/// of them: its own line is neither over by that nor another when it comes back.
fn untold(facts: &Facts, points: &Points, unseen: &mut Unseen) {
    let system = [(Subject::Newest(None), &points.newest), (Subject::Proven(None), &points.proven)];
    system.into_iter().filter(|(_, age)| age.met.is_none()).for_each(|(subject, _)| unseen.add(subject));
    for (source, at) in facts.sources.iter().zip(&points.sources) {
        let ages = [(Subject::newest(source), &at.newest), (Subject::proven(source), &at.proven)];
        ages.into_iter().filter(|(_, age)| age.met != Some(true)).for_each(|(subject, _)| unseen.add(subject));
    }
}

/// The sentences.
fn told(facts: &Facts, vault: &VaultFacts, points: &Points, lines: &mut Vec<Line>) {
    let live = facts.live.as_deref().unwrap_or("the live site");
    let capture = format!("Find out why {live} takes none, and take one there: `warmspare capture`");
    late_point(facts, vault, points, &capture, lines);
    late_proof(facts, vault, points, lines);
    for (name, source) in facts.sources.iter().zip(&points.sources) {
        let (newest, proven) = (&source.newest, &source.proven);
        if points.newest.met == Some(true) && newest.met == Some(false) {
            let key = format!("point.late.{}", source.source);
            let what = format!("{} {}", source.source, missed(newest, "is in no recovery point", "was captured"));
            lines.push(line(key, Subject::newest(name), Grade::Missed, what, capture.clone()));
        }
        // Nothing was proven yet, and nothing had to be: that is one line of the system, not one of each source.
        if points.proven.met == Some(true) && proven.met == Some(false) {
            let key = format!("proof.late.{}", source.source);
            let never = "was never proven by a restore";
            let what =
                format!("{} {}", source.source, missed(proven, never, "was captured for the newest proven point"));
            lines.push(line(key, Subject::proven(name), Grade::Missed, what, rehearse(facts)));
        }
    }
    from_the_future(facts, vault, points, lines);
}

/// Nothing is said of the age of a point from the future, so that it is said that there is one.
fn from_the_future(facts: &Facts, vault: &VaultFacts, points: &Points, lines: &mut Vec<Line>) {
    let measured = points.sources.iter().flat_map(|source| [&source.newest, &source.proven]);
    let measured = [&points.newest, &points.proven].into_iter().chain(measured);
    let measured = measured.filter_map(|measure| Some((measure.point.clone()?, measure.captured_at?)));
    let newest = vault.points.last().map(|point| (point.id.to_string(), point.captured_at));
    let mut dated = newest.into_iter().chain(measured);
    if let Some((point, at)) = dated.find(|(_, at)| is_future(facts.at, *at)) {
        apart(facts, format!("recovery point {point} was captured in the future: {at}"), lines);
    }
}

fn missed(measure: &Measure, none: &str, words: &str) -> String {
    let target = span(measure.target_seconds);
    match (measure.age_seconds, &measure.point) {
        (Some(age), Some(point)) => format!("{words} {} ago (point {point}); its target is {target}", span(age)),
        _ => none.to_owned(),
    }
}

fn late_point(facts: &Facts, vault: &VaultFacts, points: &Points, capture: &str, lines: &mut Vec<Line>) {
    if points.newest.met != Some(false) {
        return;
    }
    let what = match (vault.points.last(), &points.newest.point) {
        (None, _) => "there is no recovery point yet".to_owned(),
        (Some(last), None) => {
            let lacking = facts.sources.iter().filter(|source| !last.sources.contains(source));
            let lacking: Vec<String> = lacking.map(ToString::to_string).collect();
            match lacking.is_empty() {
                true => format!("no recovery point is closed: the newest, {}, is `{}`", last.id, last.closure),
                false => format!("no recovery point is whole: the newest, {}, lacks {}", last.id, lacking.join(", ")),
            }
        }
        (Some(_), Some(_)) => missed(&points.newest, "", "the newest recovery point was captured"),
    };
    lines.push(line("point.late", Subject::Newest(None), Grade::Missed, what, capture));
}

fn rehearse(facts: &Facts) -> String {
    let spare = match &facts.live {
        Some(live) if *live == facts.site => facts.other.as_str(),
        Some(_) => facts.site.as_str(),
        None => "the spare",
    };
    format!("Restore the newest point at {spare}: `warmspare restore` there.")
}

fn late_proof(facts: &Facts, vault: &VaultFacts, points: &Points, lines: &mut Vec<Line>) {
    if let Some(point) = vault
        .points
        .iter()
        .rev()
        .take_while(|point| !is_proven(point))
        .find(|point| last(point, |_| true).is_some_and(|proof| proof.verdict == Verdict::Different))
    {
        let what = format!("point {} was restored, and is DIFFERENT from what was captured", point.id);
        let next = format!(
            "See what differs: `warmspare points show {}`, and the report at the site that restored it.",
            point.id
        );
        lines.push(line("proof.different", Subject::Records, Grade::Attention, what, next));
    }
    let Some(oldest) = vault.points.first() else { return };
    if points.proven.met != Some(false) {
        return;
    }
    let target = facts.targets.proven;
    let (grade, what) = match &points.proven.point {
        Some(_) => (
            Grade::Missed,
            missed(&points.proven, "", "the newest recovery point that was proven by a restore was captured"),
        ),
        None if age(facts.at, oldest.captured_at) > target => {
            let target = span(target.as_secs());
            (Grade::Missed, format!("no recovery point was ever proven by a restore; the target is {target}"))
        }
        None => (Grade::Attention, "no recovery point was proven by a restore yet".to_owned()),
    };
    lines.push(line("proof.late", Subject::Proven(None), grade, what, rehearse(facts)));
}
