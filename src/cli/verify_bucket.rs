//! `warmspare verify --only bucket.NAME`.

use super::arguments::VerifyCommand;
use super::{progress, words};
use crate::clock::Clock;
use crate::config::address::Topology;
use crate::config::{Here, SourceKind, SourceName};
use crate::error::{Class, Error};
use crate::point::Share;
use crate::units::Bytes;
use crate::verify::bucket::{self, BucketReport, BucketRequest, BucketVerifyError};

pub(super) async fn run(
    here: Here,
    source: &SourceName,
    command: &VerifyCommand,
    clock: &dyn Clock,
) -> Result<Option<Class>, Error> {
    if source.kind != SourceKind::Bucket {
        return Err(BucketVerifyError::NoBucketName { given: source.to_string() }.into());
    }
    let VerifyCommand { point, share, all, dry_run, json, .. } = *command;
    let share = if all { Share::WHOLE } else { share };
    let request = BucketRequest { name: source.name.clone(), point, share, dry_run };
    let report = bucket::verify(&here, &request, clock, &progress::progress()).await?;
    faults(&report);
    if json {
        words::json(&report);
    } else {
        table(&report);
    }
    say_next(&here, &report);
    Ok((report.counts.wrong() > 0).then_some(Class::Incomplete))
}

/// What is not as recorded, object by object.
pub(super) fn faults(report: &BucketReport) {
    for fault in &report.faults {
        words::say(&format!("{} {fault}", fault.outcome.word(report.counts.newer > 0)));
    }
    let named = report.faults.len() as u64;
    if report.counts.faults > named {
        words::say(&format!("and {} more", report.counts.faults - named));
    }
}

/// What to do about it.
pub(super) fn say_next(here: &Here, report: &BucketReport) {
    if report.counts.wrong() > 0 {
        words::say(&next(here, report));
    } else if report.counts.newer > 0 && !report.dry_run {
        words::say(&format!(
            "what is NEWER than the point is named to {}, whose next capture looks at it; the next run here reads it again",
            here.other.name
        ));
    }
}

pub(super) fn table(report: &BucketReport) {
    let counts = &report.counts;
    let row = |what: &str, number: u64, more: String| vec![what.to_owned(), number.to_string(), more];
    let read = format!("{} (share {})", Bytes(counts.reread_bytes), report.share);
    let mut rows = vec![
        row("objects looked for", counts.objects, format!("in {}, against the {}", report.bucket, report.against)),
        row("read and hashed", counts.reread, read),
        row("not as recorded", counts.faults, format!("{} of them missing", counts.missing)),
    ];
    let outcomes = [
        ("newer than the point", counts.newer, "by a pass of the mirror, or somebody else: the live site can tell"),
        ("kept elsewhere", counts.kept, "overwritten or hidden since, and whole in the attic or among versions"),
        ("copied again", counts.mended, "from the live site, and read back"),
        ("sound after all", counts.sound, "at a second look"),
        ("missing at source", counts.missing_at_source, "neither site has what was recorded"),
        ("changed at source", counts.changed_at_source, "the next capture brings the newer version"),
        ("damaged at source", counts.damaged_at_source, "look at the live site's disk"),
        ("not copied", counts.failed, "the next capture tries again"),
        ("named to the live site", counts.told, "its next capture looks at them"),
    ];
    let some = outcomes.into_iter().filter(|(_, number, _)| *number > 0);
    rows.extend(some.map(|(what, number, more)| row(what, number, more.to_owned())));
    words::data(&words::table(&rows));
    if let Some(after) = &report.resumed_after {
        words::say(&format!("went on after {after:?}, where a run begun {} stopped", words::instant(report.began)));
    }
}

fn next(here: &Here, report: &BucketReport) -> String {
    let is_ours = report.topology == Topology::Mirror.as_str();
    match (here.is_live(), report.dry_run) {
        _ if !is_ours => {
            "next:  Nothing here writes to this bucket: bring them back by the means of its store. What the application has \
             removed or overwritten since is named, too; the next capture writes a new manifest."
                .to_owned()
        }
        (_, true) => "next:  Nothing was done about them. Run it without --dry-run.".to_owned(),
        (true, false) => {
            "next:  Run a capture: it brings what the live site still has. Of what neither site has, look for another copy \
             before anything else is written there."
                .to_owned()
        }
        (false, false) => format!(
            "next:  Run a capture at {live}: it looks at what was named to it, and copies again what is wrong. Or run there: \
             warmspare verify --only bucket.NAME",
            live = here.other.name
        ),
    }
}
