//! Nothing that is looked at may hold up the rest: each look has an end, and what has not answered by then is a finding.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Explain};
use crate::units::Span;

/// The longest a server, a store or a secret's program may take to answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// For work that blocks its thread: longer than a secret's program has, so that its own limit says which.
const BLOCKING_MAX: Duration = Duration::from_secs(35);
/// The longest a look may take that reads data: an export, what a restore would replace.
pub const READING_MAX: Duration = Duration::from_secs(120);

/// Why a look ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// It took too long.
    #[error("{what} did not answer within {limit}")]
    Late {
        /// What was asked.
        what: String,
        /// The limit.
        limit: Span,
    },
    /// The thread that asked ended without an answer.
    #[error("{what} could not be asked: {why}")]
    Stopped {
        /// What was asked.
        what: String,
        /// What became of the thread.
        why: String,
    },
}

impl Explain for LimitError {
    fn next_step(&self) -> Option<String> {
        Some(match self {
            LimitError::Late { .. } => {
                "Find out what it waits for (network, disk, a lock), then run `warmspare check` again.".to_owned()
            }
            LimitError::Stopped { .. } => "Report this as a defect of warmspare.".to_owned(),
        })
    }
}

/// What `work` comes to, if it does within `limit`.
///
/// # Errors
/// Its own, or [`LimitError::Late`] for `what`.
pub async fn within<T, E: Into<Error>>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(LimitError::Late { what: what.to_owned(), limit: Span(limit) }.into()),
    }
}

/// As [`within`], for work that blocks its thread: a secret's program, a folder on a network that is down.
///
/// # Errors
/// As [`within`].
pub async fn blocking<T: Send + 'static, E: Into<Error> + Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Error> {
    let ended = async {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(Into::into),
            Err(ended) => Err(LimitError::Stopped { what: what.to_owned(), why: ended.to_string() }.into()),
        }
    };
    within(BLOCKING_MAX, what, ended).await
}

/// Whether `folder` answers at all. Asked before anything else is: a folder on a network disk that is gone holds whoever
/// touches it, and no timeout reaches into that.
///
/// # Errors
/// [`LimitError::Late`]; that there is no such folder is for others to tell.
pub async fn folder_answers(what: &str, folder: &Path) -> Result<(), Error> {
    let folder = folder.to_owned();
    blocking(what, move || {
        let _there_or_not = std::fs::metadata(folder);
        Ok::<_, LimitError>(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_answers_is_named() {
        let never = std::future::pending::<Result<(), Error>>();
        let error = within(Duration::from_millis(1), "the vault", never).await.unwrap_err();
        assert_eq!(error.to_string(), "the vault did not answer within 0.0 s");
        assert!(error.next_step().unwrap().contains("run `warmspare check` again"));
    }
}
