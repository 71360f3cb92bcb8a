//! What etcd says, sorted. Numbers of 64 bits are texts in its JSON, and what is 0, false or empty is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::Kept;
use crate::store::error::{Cause, Place, StoreError};

/// Why there is no answer that says something about the key.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nothing came, or "come back later". A write may have been done all the same.
    Silent(Cause),
    /// The token is not taken any more; nothing was done.
    Token,
    /// Nobody has to say who he is; whoever does is refused.
    NoUsers,
    /// The revision asked for is gone.
    Compacted,
    /// Not with these credentials.
    Denied(String),
    /// The cluster takes no more bytes.
    Full,
    /// This is not the cluster that answered before.
    OtherCluster { known: u64, told: u64 },
    /// Something else.
    Other(String),
}

impl Refused {
    pub(super) fn told(self, at: Place) -> StoreError {
        match self {
            Refused::Silent(source) => StoreError::Unavailable { at, source },
            // The next read fetches another token.
            Refused::Token => StoreError::Unavailable { at, source: "its token is not taken any more".into() },
            Refused::NoUsers => {
                StoreError::Denied { at, why: "credentials are configured, and it asks for none".to_owned() }
            }
            Refused::Denied(why) => StoreError::Denied { at, why },
            Refused::Full => StoreError::NoSpace { at },
            Refused::Compacted => StoreError::NotFound { at },
            Refused::OtherCluster { known, told } => {
                let why = format!("another cluster answers there now: {told:x} instead of {known:x}");
                StoreError::other(at, why)
            }
            Refused::Other(why) => StoreError::other(at, why),
        }
    }
}

/// What an answer with this status and body is.
pub(super) fn read(status: u16, body: &[u8]) -> Result<Value, Refused> {
    if status == 200 {
        return serde_json::from_slice(body).map_err(|e| Refused::Other(format!("what it answers is no JSON: {e}")));
    }
    // As the gateway writes it; `code` is that of gRPC.
    let fault: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = fault.get("error").or_else(|| fault.get("message")).and_then(Value::as_str);
    let words = words.map_or_else(|| format!("it answers with HTTP {status}{}", plain(body)), str::to_owned);
    let code = fault.get("code").and_then(Value::as_u64).unwrap_or_default();
    Err(match (status, code) {
        _ if words.contains("compacted") => Refused::Compacted,
        _ if is_of_the_token(&words) => Refused::Token,
        _ if words.contains("authentication is not enabled") => Refused::NoUsers,
        _ if words.contains("database space exceeded") => Refused::Full,
        // "user name is empty", "user name not found"; and of a certificate that names somebody, where users are asked for.
        _ if words.contains("user name") || words.contains("CommonName") => Refused::Denied(words),
        _ if words.contains("authentication failed") => Refused::Denied(words),
        (401 | 403, _) | (_, 7 | 16) => Refused::Denied(words),
        // Deadline, aborted, unavailable.
        (500.., _) | (429 | 408, _) | (_, 4 | 10 | 14) => Refused::Silent(words.into()),
        _ => Refused::Other(words),
    })
}

/// A signed token (JWT) says for which revision of users and roles it is, and any change of one makes it an old one. In the words of etcd 3.4
/// and later, and in those of its inside, which some answers have.
fn is_of_the_token(words: &str) -> bool {
    let old = ["invalid auth token", "revision of auth store is old", "revision in header is old"];
    old.iter().any(|told| words.contains(told))
}

/// The words of an answer that is no JSON, as far as a person may want to read them.
fn plain(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() || text.contains('<') { String::new() } else { format!(": {text}") }
}

/// The one key of an answer to a read.
pub(super) fn kept(answer: &Value, at: &Place) -> Result<Option<Kept>, StoreError> {
    let Some(key) = answer.pointer("/kvs/0") else { return Ok(None) };
    let value = key.get("value").and_then(Value::as_str).unwrap_or_default();
    let value =
        STANDARD.decode(value).map_err(|e| StoreError::other(at.clone(), format!("its value is no base64: {e}")))?;
    Ok(Some(Kept { revision: number(key, "/mod_revision", at)?, value: Bytes::from(value) }))
}

pub(super) fn number(answer: &Value, pointer: &str, at: &Place) -> Result<u64, StoreError> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    let missing = || StoreError::other(at.clone(), format!("it answers without {pointer}"));
    text.and_then(|text| text.parse().ok()).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_told_from_what_was_not() {
        let told =
            |status: u16, body: &str| read(status, body.as_bytes()).unwrap_err().told(Place::key("etcd", "k", "write"));
        let fault = |words: &str, code: u32| format!(r#"{{"error":"{words}","message":"{words}","code":{code}}}"#);
        for (status, words, code) in [
            (503, "etcdserver: leader changed", 14),
            (504, "etcdserver: request timed out", 4),
            (500, "etcdserver: request timed out, possibly due to previous leader failure", 2),
        ] {
            let error = told(status, &fault(words, code));
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        }
        assert!(matches!(told(502, "<html>"), StoreError::Unavailable { .. }));
        assert!(matches!(told(400, &fault("etcdserver: user name is empty", 3)), StoreError::Denied { .. }));
        assert!(matches!(told(403, &fault("etcdserver: permission denied", 7)), StoreError::Denied { .. }));
        let full = fault("etcdserver: mvcc: database space exceeded", 8);
        assert!(matches!(told(429, &full), StoreError::NoSpace { .. }));
        for (status, words, code) in [
            (401, "etcdserver: invalid auth token", 16),
            (400, "etcdserver: revision of auth store is old", 3),
            (500, "auth: revision in header is old", 2),
        ] {
            let refused = read(status, fault(words, code).as_bytes());
            assert!(matches!(refused, Err(Refused::Token)), "{words}: {refused:?}");
        }
        let named = "CommonName of client sending a request against gateway will be ignored and not used as expected\n";
        let error = told(400, named);
        assert!(matches!(&error, StoreError::Denied { why, .. } if why.contains("HTTP 400: CommonName")), "{error}");
        assert!(matches!(told(404, "Not Found"), StoreError::Other { .. }));
    }

    #[test]
    fn a_key_is_read_with_the_revision_that_wrote_it() {
        let at = Place::key("etcd", "k", "read");
        let answer = serde_json::json!({ "header": { "revision": "9" }, "count": "1",
            "kvs": [{ "key": "aw==", "create_revision": "3", "mod_revision": "7", "version": "2", "value": "djE=" }] });
        assert_eq!(kept(&answer, &at).unwrap(), Some(Kept { revision: 7, value: "v1".into() }));
        assert_eq!(kept(&serde_json::json!({ "header": {} }), &at).unwrap(), None);
        assert!(kept(&serde_json::json!({ "kvs": [{ "value": "?" }] }), &at).is_err());
        assert!(kept(&serde_json::json!({ "kvs": [{ "value": "djE=" }] }), &at).is_err(), "no revision");
    }
}
