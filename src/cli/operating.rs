//! What a person can type about who is live.

use clap::{Args, Subcommand};

/// What every operation takes.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Why, for whoever reads the record in the witness and the log later.
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub why: String,

    /// Only from this term: somebody else may have been faster.
    #[arg(long, value_name = "TERM")]
    pub if_term: Option<u64>,

    /// Confirm it with the name of this site, where nobody can be asked.
    #[arg(long, value_name = "SITE")]
    pub yes: Option<String>,

    /// Say what would be done; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FailoverCommand {
    /// Restore nothing: this site becomes the first one that is live under a witness that was just set up.
    #[arg(long)]
    pub first: bool,

    /// Restore this point, and not the newest: where that is damaged, or not equal. What was written after it is lost. Who let go with a
    /// final point is taken over with that one.
    #[arg(long, value_name = "ID", conflicts_with = "first")]
    pub point: Option<String>,

    /// Let the restore replace what is newer than the point, or foreign.
    #[arg(long, conflicts_with = "first")]
    pub replace: bool,

    /// Go live though so many objects of the point's buckets are missing here, or are others. Never with rows or files that differ; the
    /// proof stays DIFFERENT, and the report of the restore names each.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "first")]
    pub accept_different: u64,

    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Args)]
pub(super) struct SwitchoverCommand {
    /// The site it is handed over to.
    #[arg(long, value_name = "SITE")]
    pub to: String,

    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseCommand {
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    /// Shows how this site stands: its state, its gate, the record, what hinders it. Exit code 4 when the witness does not answer.
    Status {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists what the record of the witness was, newest first: who was live in which term, by whose word. No daemon is asked.
    History(super::arguments::HistoryCommand),
    /// Gives up a takeover or a handing over that was begun, as long as nothing was asked of the witness.
    Cancel(Asked),
    /// Closes this site, and keeps it closed until a person lifts that.
    Fence(Asked),
    /// Lets a fenced site be live again, if the lease is still its own.
    Lift(Asked),
    /// Makes a site that is fenced or stale a spare. Nothing of its data is looked at: it restores before it is live again.
    Rejoin(Asked),
}

#[derive(Debug, Subcommand)]
pub(super) enum GateCommand {
    /// Prints the part of a load balancer's configuration that lets the gates of both sites decide.
    Config(super::gate_config::GateConfig),
    /// Lets balancers pass reads and refuse writes, as long as it is on: `/writes` says 503, `/live` goes on saying 200. The HTTP ports of
    /// what `gate config` prints do so; TCP that is passed through, and keepalived, go on with both.
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum MaintenanceCommand {
    /// Switches it on.
    On {
        /// Why, for whoever finds it on.
        #[arg(long, value_name = "TEXT")]
        why: String,

        /// Say what would be done; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Switches it off.
    Off {
        /// Say what would be done; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}
