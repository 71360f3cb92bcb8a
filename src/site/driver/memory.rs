//! What a site remembers over a restart: what it was, the highest term it saw, and whether maintenance is on. Never a validity.
//!
//! One file, replaced whole. Who cannot read it does not start: a site that forgot a term could believe an old record.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Class, Explain};
use crate::failpoint;
use crate::site::lease::{Durable, Name, Term, WitnessId};

const FORMAT: u32 = 1;
const FILE: &str = "lease.json";

/// Reads pass, writes are refused at the balancer: since when, on whose word and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// By the wall clock, for people.
    pub since: Timestamp,
    /// Who.
    pub operator: String,
    /// Why.
    pub why: String,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The protocol's.
    pub durable: Durable,
    /// Whether maintenance is on.
    pub maintenance: Option<Maintenance>,
}

impl Kept {
    /// Of a site that never took part.
    pub const NOTHING: Kept =
        Kept { durable: Durable { highest: Term(0), last: Name::Uninit, witness: None }, maintenance: None };
}

/// Where it is kept.
pub trait Memory: Send {
    /// What was saved last; nothing, if nothing ever was.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was saved.
    fn load(&self) -> Result<Option<Kept>, MemoryError>;

    /// Saves it: once this returns it is what [`Memory::load`] finds, whatever happens to the machine.
    ///
    /// # Errors
    /// When it may not be so.
    fn save(&mut self, kept: &Kept) -> Result<(), MemoryError>;
}

/// A site cannot remember.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The disk.
    #[error("what this site was cannot be kept in {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error("{path} does not say what this site was: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is another site's.
    #[error("{path} is of the site `{found}`, not of `{expected}`")]
    Other {
        /// The file.
        path: PathBuf,
        /// System and site it is of.
        found: String,
        /// System and site of this configuration.
        expected: String,
    },
}

impl Explain for MemoryError {
    fn class(&self) -> Class {
        match self {
            MemoryError::Disk { .. } => Class::Failed,
            _ => Class::Refused,
        }
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            MemoryError::Disk { .. } => {
                "See that the state folder is there, is this user's and has space: until then this site is closed."
                    .to_owned()
            }
            MemoryError::Damaged { path, .. } => format!(
                "Find out who is live by the witness. Then move {} away: this site starts anew as a spare, and has to restore before \
                 it is live again.",
                path.display()
            ),
            MemoryError::Other { .. } => "Give each site a folder of its own: `state` under [sites.NAME].".to_owned(),
        })
    }
}

/// The file of a state folder.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    /// System and site.
    of: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    /// System and site.
    of: String,
    highest_term: u64,
    last: Name,
    witness: Option<String>,
    maintenance: Option<Maintenance>,
    /// The hash of this record with an empty check.
    check: String,
}

impl Stored {
    fn sum(&self) -> Result<String, serde_json::Error> {
        let mut whole = self.clone();
        whole.check.clear();
        Ok(blake3::hash(&serde_json::to_vec(&whole)?).to_hex().to_string())
    }
}

impl StateFile {
    /// Of `site` of `system`, in the folder `state`.
    pub fn new(state: &Path, system: &str, site: &str) -> Self {
        StateFile { path: state.join(FILE), of: format!("{system}/{site}") }
    }

    fn damaged(&self, what: &str) -> MemoryError {
        MemoryError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }

    fn parse(&self, content: &[u8]) -> Result<Kept, MemoryError> {
        let stored: Stored = serde_json::from_slice(content).map_err(|error| self.damaged(&error.to_string()))?;
        if stored.format != FORMAT {
            return Err(self.damaged(&format!("it is of format {}, which this release does not know", stored.format)));
        }
        if stored.sum().ok().as_ref() != Some(&stored.check) {
            return Err(self.damaged("its check does not fit its content"));
        }
        if stored.of != self.of {
            let (path, expected) = (self.path.clone(), self.of.clone());
            return Err(MemoryError::Other { path, found: stored.of, expected });
        }
        let number = |text: &String| u128::from_str_radix(text, 16).map_err(|_| self.damaged("`witness` is no number"));
        let witness = stored.witness.as_ref().map(number).transpose()?.map(WitnessId);
        let durable = Durable { highest: Term(stored.highest_term), last: stored.last, witness };
        Ok(Kept { durable, maintenance: stored.maintenance })
    }

    fn text(&self, kept: &Kept) -> Result<Vec<u8>, serde_json::Error> {
        let Durable { highest, last, witness } = kept.durable;
        let witness = witness.map(|witness| format!("{:032x}", witness.0));
        let (maintenance, of) = (kept.maintenance.clone(), self.of.clone());
        let check = String::new();
        let mut stored = Stored { format: FORMAT, of, highest_term: highest.0, last, witness, maintenance, check };
        stored.check = stored.sum()?;
        let mut text = serde_json::to_vec_pretty(&stored)?;
        text.push(b'\n');
        Ok(text)
    }
}

impl Memory for StateFile {
    fn load(&self) -> Result<Option<Kept>, MemoryError> {
        let content = durable::read(&self.path);
        let content = content.map_err(|source| MemoryError::Disk { path: self.path.clone(), source })?;
        content.map(|content| self.parse(&content)).transpose()
    }

    fn save(&mut self, kept: &Kept) -> Result<(), MemoryError> {
        let write = || {
            let text = self.text(kept)?;
            if let Some(folder) = self.path.parent() {
                durable::private_folder(folder)?;
            }
            durable::replace(&self.path, &text)
        };
        write().map_err(|source| MemoryError::Disk { path: self.path.clone(), source })?;
        failpoint::hit("site.save");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let durable = Durable { highest: Term(7), last: Name::Live, witness: Some(WitnessId(0xabc)) };
        let since = "2026-11-21T04:00:00Z".parse().unwrap();
        let maintenance = Some(Maintenance { since, operator: "eva".to_owned(), why: "upgrade".to_owned() });
        Kept { durable, maintenance }
    }

    #[test]
    fn a_site_remembers_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(&folder.path().join("new"), "builder", "ams");
        assert_eq!(file.load().unwrap(), None);
        for kept in [Kept::NOTHING, kept(), Kept { maintenance: None, ..kept() }] {
            file.save(&kept).unwrap();
            assert_eq!(file.load().unwrap(), Some(kept));
        }
    }

    #[test]
    fn a_file_that_is_torn_changed_or_another_sites_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(folder.path(), "builder", "ams");
        file.save(&kept()).unwrap();
        let path = folder.path().join(FILE);
        let whole = std::fs::read_to_string(&path).unwrap();
        for (from, to, why) in [
            ("\"highest_term\": 7", "\"highest_term\": 6", "its check does not fit"),
            ("LIVE", "READY", "its check does not fit"),
            ("\"format\": 1", "\"format\": 2", "format 2"),
            ("upgrade", "nothing", "its check does not fit"),
            ("\n}\n", "\n", "EOF"),
        ] {
            std::fs::write(&path, whole.replace(from, to)).unwrap();
            let error = file.load().unwrap_err();
            assert!(error.to_string().contains(why), "{from} → {to}: {error}");
            assert_eq!(error.class(), Class::Refused);
        }
        for length in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(file.load().is_err(), "torn at {length}");
        }
        std::fs::write(&path, &whole).unwrap();
        let other = StateFile::new(folder.path(), "builder", "fra").load().unwrap_err();
        assert_eq!(other.to_string(), format!("{} is of the site `builder/ams`, not of `builder/fra`", path.display()));
    }
}
