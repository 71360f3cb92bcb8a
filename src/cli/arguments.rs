//! What a person can type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::jobs::JobsCommand;
use super::operating::{FailoverCommand, GateCommand, LeaseCommand, ReleaseCommand, SwitchoverCommand};
use crate::config::SourceName;
use crate::point::Share;
use crate::units::{Bytes, Percent};
use crate::verify::bucket::PointId;

/// Warm-spare disaster recovery for self-hosted artifact registries.
///
/// Takes recovery points of a PostgreSQL database, artifact buckets and secrets at the live site, and brings
/// them back, proven equal, at the spare. Without a command it says the next sensible step.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 refused for safety, 4 stale or incomplete, 5 witness unusable.
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

impl Arguments {
    /// Whether the command listens for the signals that end it, and ends what it has begun itself.
    pub fn ends_in_order(&self) -> bool {
        match &self.command {
            Some(Command::Run | Command::Demo(_)) => true,
            Some(Command::Capture(command)) => command.try_url.is_some(),
            _ => false,
        }
    }
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
    /// Shows the whole job on this machine: two sites, two points, a disaster, a failover to what was proven equal.
    Demo(DemoCommand),
    /// Makes the keys of a site, or of the escrow, and says who holds what.
    Keygen(KeygenCommand),
    /// Writes a commented configuration file to fill in.
    Init(InitCommand),
    /// Proves this site's half against the world: would the next capture, or a restore, work?
    Check(CheckCommand),
    /// Takes a recovery point now. Live site only. With --try, tries it on any database and leaves nothing.
    Capture(CaptureCommand),
    /// Lists the recovery points, or shows one.
    Points(PointsCommand),
    /// Seals epochs that are over and removes points that have expired. Spare only.
    Prune(PruneCommand),
    /// Restores a recovery point at this site and proves it equal.
    Restore(RestoreCommand),
    /// What load balancers ask, to send traffic to the live site alone.
    #[command(subcommand)]
    Gate(GateCommand),
    /// What the mirror keeps for a person to look at.
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Makes the vault, finds out what protects it, seals its secrets to new recipients.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Looks whether the vault, and at the spare every mirrored bucket, still holds what the points need, and names what it does not.
    Verify(VerifyCommand),
    /// The third place, which says who is live: sets it up, tries it, shows what it says.
    #[command(subcommand)]
    Witness(WitnessCommand),
    /// How fresh the recovery points are against their targets, and what is wrong; works at either site and at a third place.
    Report(ReportCommand),
    /// Whom this site tells of alarms.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// The daemon of this site: runs the jobs of the schedule, and with a witness holds the lease and keeps the gate, until it is
    /// told to end.
    Run,
    /// Lists the jobs of the schedule: when each ran last, what came of it, when it runs next, why not.
    Jobs(JobsCommand),
    /// Makes this site the live one: restores and proves the newest point, takes the lease, opens the gate.
    Failover(FailoverCommand),
    /// Hands over from this live site: closes the gate, takes the final point, lets go of the lease for the other site.
    Switchover(SwitchoverCommand),
    /// As `switchover`, but for whichever site takes the lease, this one too.
    Release(ReleaseCommand),
    /// How this site stands, and the steps out of the states that need a person.
    #[command(subcommand)]
    Lease(LeaseCommand),
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

    /// With --escrow: read a page that was typed back (`-`: standard input) and say whether it is whole and whose it is.
    /// With --out, write it as an identity file.
    #[arg(long, value_name = "FILE", requires = "escrow")]
    pub verify: Option<PathBuf>,

    /// The folder the keys of a site go into, or the file of the escrow.
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// Print the public halves and file names as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitCommand {
    /// The file to write [default: --config, or /etc/warmspare/warmspare.toml]. One that is there is left alone.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// The name of the system to protect.
    #[arg(long, value_name = "NAME", default_value = "app")]
    pub system: String,

    /// What a recovery point consists of: a built-in profile, or a folder (with a slash).
    #[arg(long, value_name = "PROFILE", default_value = "minimal")]
    pub profile: String,

    /// Print the file instead of writing it.
    #[arg(long)]
    pub stdout: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckCommand {
    /// Write nothing: neither the status record in the vault, which the other site reads, nor what a bucket is tried with.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Sends a message that says that it is a test, and tells which sinks took it.
    Test(NotifyTest),
}

#[derive(Debug, Args)]
pub(super) struct NotifyTest {
    /// The sink, as [notify.NAME] calls it [default: all of them].
    #[arg(value_name = "NAME")]
    pub sink: Option<String>,

    /// Print what became of each as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReportCommand {
    /// Exit with 4 when a target is missed, or when it cannot be known whether it is: a check for Nagios, Icinga or cron.
    #[arg(long)]
    pub strict: bool,

    /// Write it as metrics to FILE, too, whole or not at all: for node_exporter's textfile collector.
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,

    /// List no bucket: how many objects were written since a point is not counted then. Otherwise each report at the live site lists
    /// every bucket that is mirrored, for 15 seconds at the most.
    #[arg(long)]
    pub without_objects: bool,

    /// Print the report as JSON; docs/report.schema.json describes it.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CaptureCommand {
    /// Try it: capture the database at URL read-only into a temporary vault, restore and prove it if PostgreSQL is installed
    /// here, tell sizes and times, and remove everything. Needs no configuration; TMPDIR says where. The password is found as
    /// psql finds it (PGPASSWORD, ~/.pgpass).
    #[arg(long = "try", value_name = "URL")]
    pub try_url: Option<String>,

    #[command(flatten)]
    pub trial: TryArguments,

    /// Read from each database no more than so many bytes a second, like 50MiB, whatever the configuration says.
    #[arg(long, value_name = "SIZE", value_parser = crate::config::rate)]
    pub rate: Option<Bytes>,

    /// Believe that so many objects of a bucket were really changed, or really deleted, at once. It holds for this capture, and is
    /// written down.
    #[arg(long, value_name = "COUNT", default_value_t = 0, conflicts_with = "try_url")]
    pub accept_changes: u64,

    /// Say what would be captured, and from where; change nothing.
    #[arg(long, conflicts_with = "try_url")]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TryArguments {
    /// With --try: where its password is (file:/path, env:NAME, command:PROGRAM).
    #[arg(long, value_name = "REFERENCE", requires = "try_url")]
    pub password: Option<String>,

    /// With --try: restore into a new database of this scratch server, and drop it again.
    #[arg(long, value_name = "URL", requires = "try_url", conflicts_with = "no_restore")]
    pub into: Option<String>,

    /// With --try --into: where that server's password is.
    #[arg(long, value_name = "REFERENCE", requires = "into")]
    pub into_password: Option<String>,

    /// With --try: capture only.
    #[arg(long, requires = "try_url")]
    pub no_restore: bool,
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

    /// Believe that so many objects of a bucket were really deleted at the live site, and hide them here.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub accept_hides: u64,

    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    /// Look at one bucket instead: whether the spare's has every object, and in a share of them, another at each
    /// run, the recorded content. At the live site what is wrong is copied again; at the spare it is named to the live site.
    #[arg(long, value_name = "bucket.NAME", conflicts_with = "streams")]
    pub only: Option<SourceName>,

    /// With --only, at the spare: hold the bucket against this point and not the newest.
    #[arg(long, value_name = "ID", requires = "only")]
    pub point: Option<PointId>,

    /// Read and hash n of t shares of the packs (or of the bucket's objects); the shares of a run follow those of the one before.
    #[arg(long, value_name = "N/T", default_value_t = Share::default())]
    pub share: Share,

    /// Open as many streams of the newest point and read them to the end; each time the next ones.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub streams: u64,

    /// Read every pack, every stream and every object of the buckets. Only this takes back that an epoch is damaged.
    #[arg(long, conflicts_with_all = ["share", "streams"])]
    pub all: bool,

    /// Look at the vault alone, and not at the spare's mirrored buckets after it.
    #[arg(long, conflicts_with = "only")]
    pub without_buckets: bool,

    /// Look, and leave this site's status in the vault as it is; of a bucket, mend nothing and remember nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// Only if the newest point was not restored here before: a rehearsal. Where it was found different, exit code 4 again.
    #[arg(long, conflicts_with_all = ["kept", "undo", "promote", "point", "only", "into", "table", "on_live", "dry_run"])]
    pub if_new: bool,

    /// List the databases that restores have left at this site: in place, replaced, scratch, unfinished.
    #[arg(long, conflicts_with_all = ["point", "only", "into", "dry_run", "replace", "on_live"])]
    pub kept: bool,

    /// Swap the databases back that the last restore (or --only) replaced; its own are kept. Undone again, they swap again.
    #[arg(long, conflicts_with_all = ["kept", "point", "into", "replace"])]
    pub undo: bool,

    /// Make the restored databases (or --only) live ones: roles get their attributes, logins and passwords, and every sequence
    /// jumps its `sequence_gap`.
    #[arg(long, conflicts_with_all = ["kept", "undo", "point", "into", "replace", "table"])]
    pub promote: bool,

    /// The point to restore [default: the newest].
    #[arg(long, value_name = "ID")]
    pub point: Option<String>,

    /// Restore this source only (database.NAME, export.NAME, bucket.NAME); may be given again.
    #[arg(long, value_name = "SOURCE")]
    pub only: Vec<String>,

    /// Restore the one source named with --only beside what is there: a new database, or a folder.
    #[arg(long, value_name = "PLACE")]
    pub into: Option<String>,

    /// Bring only this table (SCHEMA.TABLE; may be given again) of the one database named with --only, into a schema
    /// warmspare_POINT of the database that is there. Touches nothing that exists, at the live site neither.
    #[arg(long, value_name = "TABLE", requires = "only", conflicts_with_all = ["into", "replace", "on_live", "undo"])]
    pub table: Vec<String>,

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

#[derive(Debug, Subcommand)]
pub(super) enum MirrorCommand {
    /// Brings the spare's buckets up to the live ones now, between two captures. Live site only.
    Run(MirrorRun),
    /// Lists the objects that only the old live site had when it came back as the spare, and where each lies.
    Rescued(RescuedCommand),
}

#[derive(Debug, Args)]
pub(super) struct MirrorRun {
    /// Say what would be copied; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RescuedCommand {
    /// Of this bucket alone.
    #[arg(value_name = "bucket.NAME")]
    pub only: Option<SourceName>,

    /// You have looked at the object of this key and need it no more: it is treated as one that was deleted. May be given again.
    #[arg(long, value_name = "KEY")]
    pub release: Vec<String>,

    /// The same, of all that are listed.
    #[arg(long, conflicts_with = "release")]
    pub release_all: bool,

    /// With --release or --release-all: change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Makes the vault's folder, or checks its bucket, and prints the rights to set there.
    Init(VaultInit),
    /// Finds out by trying what this site's credential may do at the vault, and what protects it.
    Probe(VaultProbe),
    /// Seals the secrets of every epoch to the recipients the configuration names now.
    Rekey(RekeyCommand),
}

#[derive(Debug, Args)]
pub(super) struct RekeyCommand {
    /// Where another identity is that opens the epochs (file:/path, env:NAME, command:PROGRAM): this site's old one, or
    /// the escrow's.
    #[arg(long, value_name = "REFERENCE")]
    pub identity: Option<String>,

    /// Say what would be sealed anew; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VaultInit {
    /// The live site's user, as the policy of the bucket names it.
    #[arg(long, value_name = "ARN")]
    pub live_arn: Option<String>,

    /// The spare's user.
    #[arg(long, value_name = "ARN")]
    pub spare_arn: Option<String>,

    /// The keeper's user, who alone deletes.
    #[arg(long, value_name = "ARN")]
    pub keeper_arn: Option<String>,

    /// Say what would be made, and print the rights; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VaultProbe {
    /// Try the keeper's credential instead of the site's; the result is printed and not kept.
    #[arg(long)]
    pub keeper: bool,

    /// Say which objects would be written and deleted; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum WitnessCommand {
    /// Sets it up, once: tries it, and writes the first record, in which nobody is live.
    Init(WitnessInit),
    /// Tries whether it does what a witness must, away from the record.
    Selftest(WitnessSelftest),
    /// Shows the record: who is live, in which term.
    Status {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists what the record was, newest first, as far as its store remembers: a day, or what etcd has not compacted.
    History(HistoryCommand),
}

#[derive(Debug, Args)]
pub(super) struct HistoryCommand {
    /// List no more than so many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,

    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct WitnessInit {
    /// The last term there was: after the loss of a witness, at least the highest that either site has seen. The next site to
    /// become live gets the term after it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub term: u64,

    /// Say what would be set up; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct WitnessSelftest {
    /// Say what would be written and removed; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print what was tried as JSON.
    #[arg(long)]
    pub json: bool,
}
