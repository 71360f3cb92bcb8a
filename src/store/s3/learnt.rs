//! What writing to a server shows of it. Nothing is asked for; what it cannot show is done the slow way.
//!
//! Content is not hashed for the signature, as it is by default: SHA-256 costs both sides more than everything else that is done
//! with a byte. What is sent in one request has its MD5 with it, signed, and the server refuses anything else. So has each part of
//! a large object, unless the object's own tag will prove it: when it is sent in the parts in which it came, a server that makes
//! tags as S3 does gives it the tag that it has at the source. Whether this one does is seen at the first such objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;

const UNSEEN: u8 = 0;
const PROVE: u8 = 1;
const DIFFER: u8 = 2;

/// Shared by all who write to one bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Learnt(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    wants_signed: AtomicBool,
    tags: AtomicU8,
}

impl Learnt {
    /// Whether content is to be hashed for the signature: a policy of the bucket may want it.
    pub(super) fn wants_signed(&self) -> bool {
        self.0.wants_signed.load(Ordering::Relaxed)
    }

    /// Whether a request that was refused so is worth another attempt, signed in full.
    pub(super) fn may_want_signed<E>(error: &SdkError<E, HttpResponse>) -> bool {
        error.raw_response().is_some_and(|answer| answer.status().as_u16() == 403)
    }

    /// A request was refused, and taken when it was signed in full.
    pub(super) fn wanted_signed(&self) {
        self.0.wants_signed.store(true, Ordering::Relaxed);
    }

    /// Whether the tag of an object that is sent in the parts in which it came proves its content.
    pub(super) fn tags_prove(&self) -> bool {
        self.0.tags.load(Ordering::Relaxed) == PROVE
    }

    /// An object sent in those parts has got the tag that it has at the source, or another one. That it has is believed until one has
    /// not, and never again after that.
    pub(super) fn tag_came(&self, is_same: bool) {
        match is_same {
            // It fails where something is known already.
            true => drop(self.0.tags.compare_exchange(UNSEEN, PROVE, Ordering::Relaxed, Ordering::Relaxed)),
            false => self.0.tags.store(DIFFER, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_once_was_another_proves_nothing_any_more() {
        let learnt = Learnt::default();
        assert!(!learnt.tags_prove());
        for (is_same, expected) in [(true, true), (true, true), (false, false), (true, false)] {
            learnt.clone().tag_came(is_same);
            assert_eq!(learnt.tags_prove(), expected);
        }
    }
}
