//! What an S3 server's refusals mean. The error code is in the body, and a HEAD has none: then the status decides.

use std::error::Error;
use std::fmt::Write;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::permitted::withdrawn;
use crate::store::error::{Place, StoreError};

/// Says a failed request in our words.
pub(in crate::store) fn refused<E>(at: Place, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(source) = withdrawn(&error) {
        return StoreError::Withdrawn { at, source };
    }
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    let why = match error.message() {
        // None came, or one that cannot be understood.
        _ if status < 300 => causes(&error),
        Some(message) if !code.is_empty() => format!("HTTP {status}, {code}: {message}"),
        _ if !code.is_empty() => format!("HTTP {status}, {code}"),
        _ => format!("HTTP {status}"),
    };
    judge(at, status, &code, why)
}

/// The same for a request that names a version. One of a form that the server does not know is not there, either, and one that
/// is a delete marker is no object.
pub(in crate::store) fn no_such_version<E>(at: Place, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match code(&error) {
        (405, _) => StoreError::NotFound { at },
        (_, code) if ["NoSuchVersion", "InvalidArgument", "MethodNotAllowed"].contains(&code.as_str()) => {
            StoreError::NotFound { at }
        }
        _ => refused(at, error),
    }
}

/// Whether a request that failed did so because its answer, a success, had no content.
pub(in crate::store) fn is_empty_success<E>(error: &SdkError<E, HttpResponse>) -> bool {
    let answer = error.raw_response();
    answer.is_some_and(|answer| answer.status().is_success() && answer.body().bytes() == Some(b""))
}

/// The status (0 without an answer) and the error code of a failed request.
pub(in crate::store) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> (u16, String) {
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    (status, error.code().unwrap_or_default().to_owned())
}

/// `status` is 0 when there was no answer.
fn judge(at: Place, status: u16, code: &str, why: String) -> StoreError {
    match (code, status) {
        ("NoSuchBucket", _) => StoreError::NotFound { at: Place { key: None, ..at } },
        ("KeyTooLongError" | "InvalidObjectName" | "XMinioInvalidObjectName", _) => StoreError::BadKey { at, why },
        ("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage", _) | (_, 507) => StoreError::NoSpace { at },
        ("NoSuchKey" | "NoSuchUpload", _) | (_, 404) => StoreError::NotFound { at },
        // A 403, too, but no matter of rights.
        ("InvalidObjectState", _) => StoreError::Archived { at, why },
        (_, 401 | 403) => StoreError::Denied { at, why },
        (_, 412) => StoreError::Changed { at },
        // Asked again it will not know it either.
        (_, 501) => StoreError::other(at, why),
        // What came is not what was sent; or somebody else is at the same object just now (409).
        ("BadDigest" | "SlowDown" | "RequestTimeout", _) | (_, 0 | 408 | 409 | 429 | 500..) => {
            StoreError::Unavailable { at, source: why.into() }
        }
        _ => StoreError::other(at, why),
    }
}

/// The chain of causes in one line: the outermost alone says only "dispatch failure".
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(cause) = link {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {said}");
        }
        link = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means_for_the_caller() {
        let check = |code: &str, status: u16, expected: &str| {
            let error = judge(Place::key("s3://b", "k", "read"), status, code, "why".to_owned());
            let debug = format!("{error:?}");
            assert!(debug.starts_with(expected), "{status} {code}: {debug}");
        };
        check("NoSuchKey", 404, "NotFound { at: Place { store: \"s3://b\", key: Some(");
        check("NoSuchBucket", 404, "NotFound { at: Place { store: \"s3://b\", key: None");
        check("", 404, "NotFound");
        check("SignatureDoesNotMatch", 403, "Denied");
        check("", 403, "Denied");
        check("InvalidObjectState", 403, "Archived");
        check("QuotaExceeded", 403, "NoSpace");
        check("PreconditionFailed", 412, "Changed");
        check("SlowDown", 503, "Unavailable");
        check("BadDigest", 400, "Unavailable");
        check("OperationAborted", 409, "Unavailable");
        check("ConditionalRequestConflict", 409, "Unavailable");
        check("", 409, "Unavailable");
        check("", 0, "Unavailable");
        check("NotImplemented", 501, "Other");
        check("KeyTooLongError", 400, "BadKey");
        check("XMinioInvalidObjectName", 400, "BadKey");
        check("MetadataTooLarge", 400, "Other");
        check("PermanentRedirect", 301, "Other");
    }
}
