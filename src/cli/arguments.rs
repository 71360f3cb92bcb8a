//! What a person can type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units::Percent;

/// Warm-spare disaster recovery for self-hosted artifact registries.
///
/// Takes recovery points of a PostgreSQL database, artifact buckets and secrets at the live site, and brings
/// them back, proven equal, at the spare. Without a command it says the next sensible step.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused for safety, 4 stale or incomplete.
#[derive(Debug, Parser)]
#[command(name = "warmspare", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) place: Where,

    /// How log lines are written to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,

    /// Log more: what each step does.
    #[arg(long, short, global = true)]
    pub verbose: bool,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line, for a collector.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Where {
    /// The configuration file [default: /etc/warmspare/warmspare.toml].
    #[arg(long, global = true, env = "WARMSPARE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Which site this host is [default: the word in /etc/warmspare/site].
    #[arg(long, global = true, env = "WARMSPARE_SITE", value_name = "NAME")]
    pub site: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows the whole job on this machine: two sites, two points, a disaster, a proven restore.
    Demo(DemoCommand),
    /// Makes the keys of a site, or of the escrow, and says who holds what.
    Keygen(KeygenCommand),
    /// Takes a recovery point now. Live site only.
    Capture(CaptureCommand),
    /// Lists the recovery points, or shows one.
    Points(PointsCommand),
    /// Seals epochs that are over and removes points that have expired. Spare only.
    Prune(PruneCommand),
    /// Restores a recovery point at this site and proves it equal.
    Restore(RestoreCommand),
}

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// Leave everything the demo made in this folder (new or empty) to look at; its servers are stopped.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct KeygenCommand {
    /// Make an escrow identity instead; FILE (default: escrow.txt) is the page to print.
    #[arg(long)]
    pub escrow: bool,

    /// The folder the keys of a site go into, or the file of the escrow.
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// Print the public halves and file names as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CaptureCommand {
    /// Say what would be captured, and from where; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PointsCommand {
    #[command(subcommand)]
    pub show: Option<PointsShow>,

    /// Print the points as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum PointsShow {
    /// Shows one point: its snapshots, its facts, its proofs.
    Show {
        /// The point, as `warmspare points` lists it: 0-12.
        id: String,
    },
    /// Keeps a point whatever the retention rules say.
    Hold(HoldCommand),
    /// Takes this site's hold of a point back.
    Release(HoldCommand),
}

#[derive(Debug, Args)]
pub(super) struct HoldCommand {
    /// The point, as `warmspare points` lists it: 0-12.
    pub id: String,

    /// Why, for whoever finds the hold later.
    #[arg(long, value_name = "TEXT")]
    pub why: String,

    /// Say what would be written; change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct PruneCommand {
    /// Say what would be sealed and removed; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// The share of the points, and of the packs' bytes, that may go at once [default: `share_max`, 50%].
    #[arg(long, value_name = "PERCENT")]
    pub share: Option<Percent>,

    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// The point to restore [default: the newest].
    #[arg(long, value_name = "ID")]
    pub point: Option<String>,

    /// Restore this source only (database.NAME, export.NAME, bucket.NAME); may be given again.
    #[arg(long, value_name = "SOURCE")]
    pub only: Vec<String>,

    /// Restore the one source named with --only beside what is there: a new database, or a folder.
    #[arg(long, value_name = "PLACE")]
    pub into: Option<String>,

    /// Say what would be restored, and what stands there; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Replace what is newer than the point, or not from a point; it is kept under another name.
    #[arg(long)]
    pub replace: bool,

    /// Restore over the data of the live site; SITE is its name, typed out.
    #[arg(long, value_name = "SITE")]
    pub on_live: Option<String>,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}
