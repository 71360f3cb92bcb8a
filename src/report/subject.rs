//! What a line of a report is about, and what a look could not see.
//!
//! A line that is not there says that what it would tell is not so, but only of what could be seen. Of a vault that does not answer no line
//! tells how old its points are: they have not become young by that. So a look says what it could not see, where its lines are
//! made, and an alarm about such a subject stays as it is. What is configured no more is no subject, and its alarm ends.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::SourceName;

/// What a line is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// What every look sees: whether the vault can be read at all, how a sink fares.
    #[default]
    Looking,
    /// The witness.
    Witness,
    /// The records of the vault: which of them can be believed, what they say.
    Records,
    /// The age of the newest point; of one source, where one is named.
    Newest(Option<String>),
    /// The age of the newest point that a restore has proven; likewise.
    Proven(Option<String>),
    /// What a site says of itself.
    Status(String),
    /// A job of a site.
    Job {
        /// The site.
        site: String,
        /// The job.
        job: String,
    },
}

impl Subject {
    /// The age of the newest point that has the source.
    pub fn newest(source: &SourceName) -> Self {
        Subject::Newest(Some(source.to_string()))
    }

    /// The age of the newest of them of which a restore has shown it equal.
    pub fn proven(source: &SourceName) -> Self {
        Subject::Proven(Some(source.to_string()))
    }

    /// What `site` says of itself.
    pub fn status(site: &str) -> Self {
        Subject::Status(site.to_owned())
    }

    /// The job of that name at `site`.
    pub fn job(site: &str, job: &str) -> Self {
        Subject::Job { site: site.to_owned(), job: job.to_owned() }
    }
}

/// What of what is configured a look could not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    subjects: BTreeSet<Subject>,
    /// Sites of which not even the names of their jobs are known.
    jobs_of: BTreeSet<String>,
}

impl Unseen {
    /// Nothing can be said of this one.
    pub fn add(&mut self, subject: Subject) {
        self.subjects.insert(subject);
    }

    /// Nothing can be said of any job of `site`.
    pub fn add_jobs_of(&mut self, site: &str) {
        self.jobs_of.insert(site.to_owned());
    }

    /// Whether nothing can be said of it.
    pub fn has(&self, subject: &Subject) -> bool {
        let is_unknown_job = matches!(subject, Subject::Job { site, .. } if self.jobs_of.contains(site));
        is_unknown_job || self.subjects.contains(subject)
    }
}
