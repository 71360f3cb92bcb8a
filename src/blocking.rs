//! Questions that block the thread that asks: a secret's program, a folder on a network that is down.
//!
//! No timeout reaches into that. They are asked in a thread of their own, so that whoever waits can give up; and who was given up is
//! asked nothing more until it has answered, so that a daemon that looks every few minutes does not fill itself with threads that wait.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Explain;

/// What was given up and has not answered since.
static SILENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn silent() -> MutexGuard<'static, BTreeSet<String>> {
    // Nobody leaves it half changed.
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Somebody has waited long enough before.
    #[error("{what} was asked before, and has not answered since")]
    Silent {
        /// What was asked.
        what: String,
    },
    /// The thread that asked ended without one.
    #[error("{what} could not be asked: {why}")]
    Stopped {
        /// What was asked.
        what: String,
        /// What became of the thread.
        why: String,
    },
}

impl Explain for NoAnswer {
    fn next_step(&self) -> Option<String> {
        Some(match self {
            NoAnswer::Silent { .. } => {
                "Find out what it waits for: a network disk that is gone, a program that hangs.".to_owned()
            }
            NoAnswer::Stopped { .. } => "Report this as a defect of warmspare.".to_owned(),
        })
    }
}

/// A question under way.
struct Question {
    what: String,
    /// Set under the lock of [`SILENT`].
    is_answered: Arc<Mutex<bool>>,
}

impl Drop for Question {
    /// Nobody waits any more.
    fn drop(&mut self) {
        let mut silent = silent();
        if !*answered(&self.is_answered) {
            silent.insert(self.what.clone());
        }
    }
}

fn answered(is_answered: &Mutex<bool>) -> MutexGuard<'_, bool> {
    is_answered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` comes to. It may be given up at any time; `work` itself goes on, and `what` is not asked again before it has ended.
///
/// # Errors
/// Its own, or [`NoAnswer`] for `what`.
pub async fn apart<T, E>(what: &str, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<NoAnswer> + Send + 'static,
{
    if silent().contains(what) {
        return Err(NoAnswer::Silent { what: what.to_owned() }.into());
    }
    let question = Question { what: what.to_owned(), is_answered: Arc::default() };
    let (asked, is_answered) = (question.what.clone(), Arc::clone(&question.is_answered));
    let ended = tokio::task::spawn_blocking(move || {
        let _answered = Answered { what: asked, is_answered };
        work()
    });
    let ended = ended.await;
    drop(question);
    ended.unwrap_or_else(|ended| Err(NoAnswer::Stopped { what: what.to_owned(), why: ended.to_string() }.into()))
}

/// Says that there is an answer, also when the work has panicked.
struct Answered {
    what: String,
    is_answered: Arc<Mutex<bool>>,
}

impl Drop for Answered {
    fn drop(&mut self) {
        let mut silent = silent();
        *answered(&self.is_answered) = true;
        silent.remove(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn what_was_given_up_is_not_asked_again_before_it_has_answered() {
        let (answers, waits) = mpsc::channel::<()>();
        let hangs = move || {
            let _ended = waits.recv();
            Ok::<_, Error>(1)
        };
        let given_up = tokio::time::timeout(Duration::from_millis(50), apart("a disk", hangs)).await;
        assert!(given_up.is_err());
        let ask = || apart("a disk", || Ok::<_, Error>(2));
        assert_eq!(ask().await.unwrap_err().to_string(), "a disk was asked before, and has not answered since");
        assert_eq!(apart("another", || Ok::<_, Error>(3)).await.unwrap(), 3);
        drop(answers);
        while silent().contains("a disk") {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask().await.unwrap(), 2);
        let panics = apart("a disk", || -> Result<(), Error> { std::panic::panic_any(()) }).await;
        assert!(panics.unwrap_err().to_string().starts_with("a disk could not be asked: "));
        assert_eq!(ask().await.unwrap(), 2, "one that has panicked waits for nothing");
    }
}
