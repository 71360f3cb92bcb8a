//! A create over a network, made again until it is known what came of it.
//!
//! A request that went unanswered may have been carried out: the next attempt then finds its own object and is told
//! that the key is taken. So what a taken key holds is looked at, if, and only if, an attempt before went unanswered.

use std::time::Duration;

use bytes::Bytes;

use super::Created;
use crate::store::error::{Place, StoreError};

/// How often a create is attempted in all.
const ATTEMPTS: u32 = 5;
/// How long to wait after the first attempt that failed; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// What one attempt to create a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Attempt {
    /// The key is new.
    New,
    /// There is such a key.
    Taken,
    /// Nothing was written, because somebody else is writing the key: try again.
    Contended,
}

/// A place where keys can be created.
pub(super) trait Attempts {
    /// Finds out what has to be known before the first attempt; what fails here has written nothing.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Tries once. [`StoreError::Unavailable`] means that it may or may not have been done.
    async fn put_new(&self, key: &str, body: &Bytes) -> Result<Attempt, StoreError>;

    /// Whether `key` holds exactly `body`, as a reader sees it; `None` when this credential cannot find out.
    async fn holds(&self, key: &str, body: &Bytes) -> Result<Option<bool>, StoreError>;

    fn at(&self, key: &str) -> Place;
}

/// How often a create is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    /// Once.
    One,
    /// Until it is known what came of it, within limits.
    Several,
}

/// See [`super::Create::create`].
pub(super) async fn create(place: &impl Attempts, tries: Tries, key: &str, body: Bytes) -> Result<Created, StoreError> {
    let attempts = if tries == Tries::One { 1 } else { ATTEMPTS };
    place.prepare().await?;
    let mut unanswered: Option<StoreError> = None;
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        }
        match place.put_new(key, &body).await {
            Ok(Attempt::New) => return Ok(Created::New),
            Ok(Attempt::Taken) => {
                let Some(error) = unanswered else { return Ok(Created::Taken) };
                return match place.holds(key, &body).await? {
                    Some(true) => Ok(Created::New),
                    Some(false) => Ok(Created::Taken),
                    None => Err(error),
                };
            }
            Ok(Attempt::Contended) => {}
            Err(error @ StoreError::Unavailable { .. }) => unanswered = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(unanswered.unwrap_or_else(|| {
        let why = "others write the same key all the time".into();
        StoreError::Unavailable { at: place.at(key), source: why }
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// Answers as it was told to.
    struct Told {
        answers: Mutex<VecDeque<Result<Attempt, &'static str>>>,
        holds: Option<bool>,
    }

    impl Attempts for Told {
        async fn prepare(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn put_new(&self, key: &str, _: &Bytes) -> Result<Attempt, StoreError> {
            let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Err("nobody there"));
            answer.map_err(|why| StoreError::Unavailable { at: self.at(key), source: why.into() })
        }

        async fn holds(&self, _: &str, _: &Bytes) -> Result<Option<bool>, StoreError> {
            Ok(self.holds)
        }

        fn at(&self, key: &str) -> Place {
            Place::key("told", key, "create")
        }
    }

    async fn told(answers: &[Result<Attempt, &'static str>], holds: Option<bool>) -> Option<Created> {
        let answers = Mutex::new(answers.iter().copied().collect());
        create(&Told { answers, holds }, Tries::Several, "k", Bytes::new()).await.ok()
    }

    #[tokio::test]
    async fn a_reply_that_was_lost_does_not_make_a_stranger_of_ourselves() {
        use Attempt::{Contended, New, Taken};
        let lost = Err("reset");
        assert_eq!(told(&[Ok(New)], None).await, Some(Created::New));
        assert_eq!(told(&[Ok(Taken)], None).await, Some(Created::Taken), "not looked at: it cannot be ours");
        assert_eq!(told(&[lost, Ok(Taken)], Some(true)).await, Some(Created::New));
        assert_eq!(told(&[lost, Ok(Taken)], Some(false)).await, Some(Created::Taken));
        assert_eq!(told(&[lost, Ok(Taken)], None).await, None, "not known");
        assert_eq!(told(&[lost, Ok(New)], None).await, Some(Created::New));
        assert_eq!(told(&[Ok(Contended), Ok(Taken)], None).await, Some(Created::Taken));
        assert_eq!(told(&[], None).await, None, "and it ends");
    }

    #[tokio::test]
    async fn where_one_attempt_was_asked_for_there_is_no_second() {
        for first in [Err("reset"), Ok(Attempt::Contended)] {
            let answers = Mutex::new(VecDeque::from([first, Ok(Attempt::New)]));
            let place = Told { answers, holds: Some(true) };
            assert!(create(&place, Tries::One, "k", Bytes::new()).await.is_err(), "{first:?}");
            assert_eq!(place.answers.lock().unwrap().len(), 1, "{first:?}");
        }
    }
}
