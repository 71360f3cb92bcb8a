//! `warmspare jobs`.

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::words;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::{Jobs, class_of, until};
use crate::error::{Class, Error};
use crate::jobs::Standing;
use crate::process::operator;

#[derive(Debug, Args)]
pub(super) struct JobsCommand {
    #[command(subcommand)]
    pub act: Option<JobsAct>,

    /// Print it as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum JobsAct {
    /// Runs a job now, or joins the run that is under way, and waits for its end.
    Run {
        /// The job, as `warmspare jobs` lists it.
        name: String,

        /// Say what would be run; run nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Has a job not run for a while. Everybody sees it, and it ends by itself.
    Pause {
        /// The job.
        name: String,

        /// For how long (4h), or until when (2027-03-01T06:00:00Z); 31 days at most.
        #[arg(long, value_name = "WHEN")]
        until: String,

        /// Why, for whoever finds it paused.
        #[arg(long, value_name = "TEXT")]
        why: String,

        /// Say what would be paused; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Ends a pause. What was missed meanwhile is made up for once.
    Resume {
        /// The job.
        name: String,

        /// Say what would be resumed; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(
    (config, site): (Config, String),
    command: JobsCommand,
    clock: Arc<dyn Clock>,
) -> Result<Option<Class>, Error> {
    let jobs = Jobs { config: &config, site: &site, clock: Arc::clone(&clock) };
    match command.act {
        None => list(&jobs, command.json, &*clock).await,
        Some(JobsAct::Run { name, dry_run }) => run_one(&jobs, &name, dry_run, command.json).await,
        Some(JobsAct::Pause { name, until: text, why, dry_run }) => {
            let end = until(&text, clock.now())?;
            if !dry_run {
                jobs.pause(&name, end, operator(), why).await?;
            }
            words::say(&format!("job {name} of {site} {} until {}", shown(dry_run, "is paused"), words::instant(end)));
            Ok(None)
        }
        Some(JobsAct::Resume { name, dry_run }) => {
            if !dry_run {
                jobs.resume(&name).await?;
            }
            words::say(&format!("job {name} of {site} {}", shown(dry_run, "runs again")));
            Ok(None)
        }
    }
}

fn shown(dry_run: bool, what: &str) -> String {
    if dry_run { format!("would be told that it {what}; nothing was changed:") } else { what.to_owned() }
}

async fn run_one(jobs: &Jobs<'_>, name: &str, dry_run: bool, json: bool) -> Result<Option<Class>, Error> {
    if dry_run {
        words::say(&format!("job {name} of {} would be run; nothing was", jobs.site));
        return Ok(None);
    }
    let run = jobs.run(name).await?;
    if json {
        words::json(&run);
    } else {
        words::data(&format!("job {name} is {}: {}\n", run.verdict.as_str(), run.what));
    }
    Ok(class_of(run.verdict))
}

async fn list(jobs: &Jobs<'_>, json: bool, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let (standings, is_told) = jobs.standings().await?;
    if json {
        words::json(&standings);
    } else {
        let head = ["JOB", "KIND", "LAST RUN", "VERDICT", "NEXT RUN", "WHY NOT"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(standings.iter().map(|standing| row(standing, clock)));
        words::data(&words::table(&rows));
        for (standing, last) in standings.iter().filter_map(|standing| Some((standing, standing.last.as_ref()?))) {
            if class_of(last.verdict).is_some() {
                let allowed = match standing.is_forgiven() {
                    true => {
                        format!(" ({} of {} failures that are no alarm)", standing.failures, standing.failures_allowed)
                    }
                    false => String::new(),
                };
                words::say(&format!("{}: {}{allowed}", standing.name, last.what));
            }
        }
    }
    if !is_told {
        words::say(&format!("no daemon runs at {}: nothing runs by itself. Start it: warmspare run", jobs.site));
    }
    Ok(None)
}

fn row(standing: &Standing, clock: &dyn Clock) -> Vec<String> {
    let last = match (&standing.running_since, &standing.last) {
        (Some(since), _) => format!("since {}", words::instant(*since)),
        (None, Some(last)) => format!("{} ago", words::age(clock.now(), last.ended_at)),
        (None, None) => "never".to_owned(),
    };
    let verdict = match (&standing.running_since, &standing.last) {
        (Some(_), _) => "under way".to_owned(),
        (None, Some(last)) => last.verdict.as_str().to_owned(),
        (None, None) => String::new(),
    };
    let next = standing.next_at.map(words::instant).unwrap_or_default();
    vec![standing.name.clone(), standing.kind.clone(), last, verdict, next, why_not(standing)]
}

fn why_not(standing: &Standing) -> String {
    let late = standing.late_since.map(|since| format!("late since {}", words::instant(since)));
    let pause = standing.pause.as_ref();
    let pause =
        pause.map(|pause| format!("paused until {} by {}: {}", words::instant(pause.until), pause.operator, pause.why));
    let elsewhere = (!standing.runs_here).then(|| "not in this site's role".to_owned());
    [late, pause, elsewhere, standing.waits_for.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
