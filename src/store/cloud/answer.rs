//! What an error of object_store means. It hides most of what matters in the causes of a "generic" error.

use std::io;

use object_store::client::HttpError;

use crate::store::error::{Place, StoreError};

/// Says an error of object_store in our words. It hides most of what matters in the causes of a "generic" error, so the
/// chain is searched: for the system's own error, for one of the network, for a status that says to come back.
pub(in crate::store) fn translate(at: Place, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    match error {
        E::NotFound { source, .. } if is_no_bucket(&source.to_string()) => {
            StoreError::NotFound { at: Place { key: None, ..at } }
        }
        E::NotFound { .. } => StoreError::NotFound { at },
        E::AlreadyExists { .. } => StoreError::Exists { at },
        E::Precondition { .. } => StoreError::Changed { at },
        E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
            StoreError::Denied { at, why: source.to_string() }
        }
        E::InvalidPath { source } => StoreError::BadKey { at, why: source.to_string() },
        other => match io_cause(&other) {
            Some(cause) => StoreError::of_io(at, cause),
            None if is_unanswered(&other) => StoreError::Unavailable { at, source: other.into() },
            None => StoreError::Other { at, source: other.into() },
        },
    }
}

/// What Google and Azure call it.
fn is_no_bucket(said: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|words| said.contains(words))
}

/// The links of a chain of causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |link| link.source())
}

/// The system's error in a chain of causes; made anew from its number, because a chain cannot be taken apart.
/// Below an error of the network it is the network's.
fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let number = |link: &(dyn std::error::Error + 'static)| link.downcast_ref::<io::Error>()?.raw_os_error();
    causes(error).take_while(|link| !link.is::<HttpError>()).find_map(number).map(io::Error::from_raw_os_error)
}

/// The status is in the text alone: the type that holds it is private to object_store.
fn is_unanswered(error: &(dyn std::error::Error + 'static)) -> bool {
    let comes_back = |said: &str| {
        let status = said.split_once("status code: ").map(|(_, status)| status);
        status.is_some_and(|status| status.starts_with('5') || status.starts_with("408") || status.starts_with("429"))
    };
    causes(error).any(|link| link.is::<HttpError>() || comes_back(&link.to_string()))
}
