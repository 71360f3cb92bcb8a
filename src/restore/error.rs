//! What a restore refuses, and what it finds.

use crate::error::{Class, Explain};
use crate::vault::layout::PointId;
use crate::vault::v1::Verdict;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// This is the live site.
    #[error("{site} is the live site: a restore would replace live data")]
    LiveSite {
        /// This site.
        site: String,
    },
    /// The live site named on the command line is another one.
    #[error("--on-live names `{given}`, but this is {site}")]
    WrongSite {
        /// This site.
        site: String,
        /// What was typed.
        given: String,
    },
    /// What stands there is newer than the point, or not from a recovery point at all.
    #[error("{place} at {site} holds {standing}; point {point} would replace it")]
    WouldReplace {
        /// The database or folder.
        place: String,
        /// This site.
        site: String,
        /// What stands there.
        standing: String,
        /// The point asked for.
        point: PointId,
    },
    /// `--into` needs exactly one source, and one that can be restored elsewhere.
    #[error("--into {into}: {what}")]
    Into {
        /// The place given.
        into: String,
        /// What is wrong with it.
        what: String,
    },
    /// `--only` names a source that is not in the point.
    #[error("point {point} has no snapshot of {source_name}")]
    NotInPoint {
        /// The point.
        point: PointId,
        /// The source asked for.
        source_name: String,
    },
    /// The configuration has no place for a source of the point.
    #[error("point {point} has a snapshot of {source_name}, for which [sites.{site}] names no place")]
    NoPlace {
        /// The point.
        point: PointId,
        /// The source.
        source_name: String,
        /// This site.
        site: String,
    },
    /// The restore is done; only its record is missing.
    #[error(
        "point {point} {}, but the vault takes no proof of it; the report is {}: {cause}",
        done(*verdict), folder.join("report.txt").display()
    )]
    Unsigned {
        /// The point.
        point: PointId,
        /// What came of it.
        verdict: Verdict,
        /// The run's folder.
        folder: std::path::PathBuf,
        /// Why.
        cause: crate::error::Error,
    },
    /// Single tables are not asked for as they must be.
    #[error("--table: {what}")]
    Tables {
        /// What is wrong.
        what: String,
    },
    /// What is asked to be undone is no database of this site.
    #[error("{source_name} is no database of [sites.{site}]: only databases are swapped back")]
    NotUndone {
        /// The source asked for.
        source_name: String,
        /// This site.
        site: String,
    },
    /// There is nothing to swap back.
    #[error("nothing is kept at {site} that the last restore of {sources} has replaced")]
    NothingKept {
        /// This site.
        site: String,
        /// Of which sources.
        sources: String,
    },
    /// The database that bears the name is not one that a restore put there.
    #[error("{source_name} of {site} was not restored from a recovery point: there is nothing to promote")]
    NotRestored {
        /// The source asked for.
        source_name: String,
        /// This site.
        site: String,
    },
    /// The state folder failed.
    #[error("restore folder {path}")]
    Folder {
        /// The folder or file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A journaled value cannot be written.
    #[error("a step's result cannot be written down")]
    Value(#[from] serde_json::Error),
}

fn done(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "was restored here and found EQUAL",
        Verdict::Different => "was restored here and found DIFFERENT",
    }
}

impl Explain for RestoreError {
    fn class(&self) -> Class {
        match self {
            RestoreError::LiveSite { .. }
            | RestoreError::WrongSite { .. }
            | RestoreError::WouldReplace { .. }
            | RestoreError::NothingKept { .. }
            | RestoreError::NotRestored { .. } => Class::Refused,
            RestoreError::Into { .. }
            | RestoreError::NotInPoint { .. }
            | RestoreError::NoPlace { .. }
            | RestoreError::Tables { .. }
            | RestoreError::NotUndone { .. } => Class::Usage,
            RestoreError::Unsigned { verdict: Verdict::Different, .. } => Class::Incomplete,
            RestoreError::Unsigned { .. } | RestoreError::Folder { .. } | RestoreError::Value(_) => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            RestoreError::LiveSite { site } => format!(
                "Run it at the spare; or restore one source beside the live data with --only SOURCE --into PLACE; \
                 or, to replace live data, type the site's name: --on-live {site}."
            ),
            RestoreError::WrongSite { site, .. } => format!("Type the name of this site: --on-live {site}."),
            RestoreError::WouldReplace { .. } => {
                "Choose a newer point, or say --replace; what stands there is kept under another name.".to_owned()
            }
            RestoreError::Into { .. } => {
                "Use --only database.NAME --into NEW_DATABASE, --only export.NAME --into /new/folder, or --only bucket.NAME --into s3://NEW_BUCKET.".to_owned()
            }
            RestoreError::NotInPoint { point, .. } => format!("`warmspare points show {point}` lists what it has."),
            RestoreError::NoPlace { site, .. } => {
                format!("Add it under [sites.{site}], or leave it out with --only.")
            }
            RestoreError::Tables { .. } => {
                "Write it as `warmspare restore --only database.NAME --table SCHEMA.TABLE`, names quoted as in SQL.".to_owned()
            }
            RestoreError::NotUndone { .. } => {
                "Name one as database.NAME. The files that a restore replaced lie in `kept` of its folder.".to_owned()
            }
            RestoreError::NotRestored { .. } => {
                "`warmspare restore --kept` lists what restores have put where; restore a point first.".to_owned()
            }
            RestoreError::NothingKept { .. } => {
                "`warmspare restore --kept` lists what there is; an older point comes back with `warmspare restore --point ID --replace`."
                    .to_owned()
            }
            RestoreError::Unsigned { verdict: Verdict::Equal, .. } => {
                "What was restored is in place and can be used. Once the vault takes records again, run the same restore: \
                 it only puts the proof."
                    .to_owned()
            }
            RestoreError::Unsigned { .. } => "Read the report; no database was swapped in.".to_owned(),
            RestoreError::Folder { .. } => "Check the state folder's disk and rights, then run it again.".to_owned(),
            RestoreError::Value(_) => return None,
        })
    }
}
