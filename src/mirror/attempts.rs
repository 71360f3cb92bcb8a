//! How often one object is tried, and when it is given up without giving up the others.

use futures_util::StreamExt;

use super::copy::told;
use super::jitter::Patience;
use crate::store::{Bucket, StoreError, WriteError};

/// What to do after an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The same once more.
    Again,
    /// This object cannot be had there; others can. Why, unless it simply is not there.
    Leave(Option<String>),
}

/// The attempts at one object of `from`, which may be damaged while all others are well.
#[derive(Debug)]
pub(crate) struct Trying<'a> {
    from: &'a Bucket,
    patience: Patience,
    answers: bool,
}

impl<'a> Trying<'a> {
    pub(crate) fn of(from: &'a Bucket) -> Self {
        Trying { from, patience: Patience::of_one_object(), answers: false }
    }

    /// After a `fault`: of the body, the object's or its store's; or of whom it was written to.
    ///
    /// # Errors
    /// What would fail for every other object, too.
    pub(crate) async fn after(&mut self, fault: WriteError) -> Result<Then, StoreError> {
        let (error, is_ours) = match fault {
            WriteError::Body(error) => (error, true),
            WriteError::Store(error) => (error, false),
        };
        let is_silence = matches!(error, StoreError::Unavailable { .. });
        if self.patience.again(&error).await {
            return Ok(Then::Again);
        }
        if !is_ours {
            return Err(error);
        }
        if !is_silence {
            return of_object(error).map(Then::Leave);
        }
        if self.answers {
            return Ok(Then::Leave(Some(told(&error))));
        }
        // Is it this object, or all of them? And once more after that: until now the store may have been away.
        if self.from.list(None).next().await.transpose().is_err() {
            return Err(error);
        }
        self.answers = true;
        Ok(Then::Again)
    }
}

/// What an error says of its one object, if it says more than that it is not there; an error that it returns says something of
/// the store.
fn of_object(error: StoreError) -> Result<Option<String>, StoreError> {
    let names_object = error.place().key.is_some();
    match &error {
        StoreError::NotFound { .. } if names_object => Ok(None),
        StoreError::NotFound { .. }
        | StoreError::Unavailable { .. }
        | StoreError::NoSpace { .. }
        | StoreError::Withdrawn { .. }
        | StoreError::Authorities { .. } => Err(error),
        _ if names_object => Ok(Some(told(&error))),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::jitter::ATTEMPTS;
    use crate::store::Place;
    use crate::store::folder::Folder;

    fn silent() -> StoreError {
        StoreError::Unavailable { at: Place::key("s", "k", "read"), source: "reset".into() }
    }

    #[tokio::test]
    async fn an_object_is_given_up_where_its_store_answers_and_all_are_where_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let from = Bucket::Folder(Folder::open(folder.path()).unwrap());
        let mut trying = Trying::of(&from);
        for _ in 0..ATTEMPTS {
            assert_eq!(trying.after(WriteError::Body(silent())).await.unwrap(), Then::Again);
        }
        let Then::Leave(Some(why)) = trying.after(WriteError::Body(silent())).await.unwrap() else { panic!() };
        assert_eq!(why, "cannot read \"k\" in s: the store does not answer: reset");
        drop(folder);
        let mut trying = Trying::of(&from);
        for _ in 1..ATTEMPTS {
            assert_eq!(trying.after(WriteError::Body(silent())).await.unwrap(), Then::Again);
        }
        assert!(matches!(trying.after(WriteError::Body(silent())).await, Err(StoreError::Unavailable { .. })));
    }

    #[tokio::test]
    async fn what_concerns_one_object_is_left_and_what_concerns_the_store_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let from = Bucket::Folder(Folder::open(folder.path()).unwrap());
        let at = Place::key("s", "k", "read");
        let left = async |error| Trying::of(&from).after(WriteError::Body(error)).await;
        assert_eq!(left(StoreError::NotFound { at: at.clone() }).await.unwrap(), Then::Leave(None));
        let denied = |at| StoreError::Denied { at, why: "no".to_owned() };
        let why = "cannot read \"k\" in s: access denied (no)".to_owned();
        assert_eq!(left(denied(at.clone())).await.unwrap(), Then::Leave(Some(why)));
        assert!(left(denied(Place::store("s", "read"))).await.is_err());
        assert!(left(StoreError::NotFound { at: Place::store("s", "read") }).await.is_err());
        assert!(left(StoreError::NoSpace { at: at.clone() }).await.is_err());
        let written = Trying::of(&from).after(WriteError::Store(denied(at))).await;
        assert!(written.is_err(), "the place that is written to refuses the others, too");
    }
}
