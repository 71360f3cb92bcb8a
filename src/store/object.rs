//! What a bucket holds, in words that fit a folder and an S3 bucket alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;

use super::error::StoreError;

/// What a store says of an object without its content being read: when two differ, the object changed.
///
/// To be compared only with an earlier answer of the *same* store: an ETag means something else at every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceVersion {
    /// The store's tag for this version, without quotes. A folder's is the time of the last change of content
    /// or status (ctime), which no tool can set back.
    pub etag: Option<String>,
    /// The size in bytes.
    pub size: u64,
    /// When it was last modified: nanoseconds since 1970, by the store's clock.
    pub modified_ns: i128,
}

/// What is stored beside an object's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, as it was sent: not every program that sets it writes a date.
    pub expires: Option<String>,
    /// User metadata (`x-amz-meta-…`), names without that prefix.
    pub metadata: BTreeMap<String, String>,
    /// A file's permission bits, `0o777` at most. An S3 bucket neither knows nor keeps them.
    pub mode: Option<u32>,
}

impl Attributes {
    /// Whether `found` is what a store makes of these: where no type is given, or no permission bits, it chooses some.
    pub fn are_in(&self, found: &Attributes) -> bool {
        let content_type = self.content_type.clone().or_else(|| found.content_type.clone());
        let mode = self.mode.or(found.mode);
        Attributes { content_type, mode, ..self.clone() } == *found
    }
}

/// The tags of an object: names and values that its store keeps apart from it, and changes without a new version.
pub type Tags = BTreeMap<String, String>;

/// All that is known of an object but its content and its tags, which are asked for on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which version it is.
    pub version: SourceVersion,
    /// What is stored beside it.
    pub attributes: Attributes,
    /// The id by which this very version can be asked for; absent where no versions are kept.
    pub id: Option<String>,
    /// How many tags it has; absent when the store does not say, which most take for none.
    pub tags: Option<u64>,
    /// The storage class, in the store's own word; absent for the ordinary one and in a folder.
    pub storage_class: Option<String>,
}

/// What there is under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An object, in this version.
    Object(SourceVersion),
    /// Something that is none, in its place or in that of a folder above it: what it is, in words.
    Other(&'static str),
    /// Nothing.
    Nothing,
}

/// The id of the version that an object has from a time when its bucket kept none, or kept none any more: every server's word.
///
/// What is written or deleted in such a time takes that one's place. So a [`Head`] of what stands there has no id then.
pub const NULL_VERSION: &str = "null";

/// Whether a bucket keeps what is overwritten and deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// Never did.
    Off,
    /// It does.
    On,
    /// It did once: older versions may be there, and what is written now takes the place of the version [`NULL_VERSION`].
    Suspended,
}

/// The parts in which an object came, most likely: where it is sent in the same ones, a server that makes tags as S3 does
/// gives it the same tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The size of each part but the last.
    pub part_bytes: u64,
    /// Its tag.
    pub etag: String,
}

/// What a store says that it has after a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length in bytes.
    pub size: u64,
    /// The tag it got, as [`SourceVersion::etag`] has it.
    pub etag: Option<String>,
    /// Whether the store had to be asked once more, because its answer to the write itself did not prove what it has.
    pub was_looked_up: bool,
}

impl Written {
    /// What the answer to the write itself says.
    pub(super) fn of(head: Head) -> Self {
        let SourceVersion { size, etag, .. } = head.version;
        Written { size, etag, was_looked_up: false }
    }
}

/// What a bucket keeps of an object besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// Content headers and user metadata.
    pub headers: bool,
    /// Of the headers, `Expires`.
    pub expires: bool,
    /// Of the user metadata, that of which names.
    pub metadata: Names,
    /// Tags.
    pub tags: bool,
    /// Permission bits.
    pub mode: bool,
}

/// Which names user metadata may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// All that a header may have.
    Any,
    /// Letters, digits and `_`, no digit first: Azure wants them to be identifiers of C#.
    Identifiers,
}

impl Names {
    fn has(self, name: &str) -> bool {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        self == Names::Any || (name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit()))
    }
}

impl Keeps {
    /// What is left of `attributes` where only this is kept.
    pub fn of(self, attributes: &Attributes) -> Attributes {
        let mode = attributes.mode.filter(|_| self.mode);
        if self.headers {
            let mut kept = Attributes { mode, ..attributes.clone() };
            kept.expires = kept.expires.filter(|_| self.expires);
            kept.metadata.retain(|name, _| self.metadata.has(name));
            kept
        } else {
            Attributes { mode, ..Attributes::default() }
        }
    }
}

/// An object to copy from, as it is remembered: the copy is of this one or it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original<'a> {
    /// Its key.
    pub key: &'a str,
    /// The tag it had, by its own store.
    pub etag: Option<&'a str>,
    /// Its size in bytes.
    pub size: u64,
}

impl Original<'_> {
    /// Whether this is what stands there.
    pub fn is(&self, found: &SourceVersion) -> bool {
        self.size == found.size && self.etag == found.etag.as_deref()
    }
}

/// Something in a bucket that is no object to us. It is reported, and does not fail the listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name, as well as text can show it.
    pub name: String,
    /// Why it is skipped.
    pub why: String,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Its key.
        key: String,
        /// Its version at the time of the listing.
        version: SourceVersion,
    },
    /// Something that cannot be mirrored.
    Skipped(Skipped),
}

/// Where a page of a listing begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// At the first key.
    Start,
    /// After this key, which need not exist.
    After(String),
    /// Where the store said, in its own words, that the page before ended.
    Token(String),
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its entries, in the order of the store.
    pub listed: Vec<Listed>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<Cursor>,
}

/// The content of an object, in order. A version that changes while it is read ends in [`StoreError::Changed`].
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// A write that failed, by whose fault.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The body ended in an error: its own.
    #[error(transparent)]
    Body(StoreError),
    /// The store written to refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WriteError {
    /// What happened, for whom it does not matter whose fault it is.
    pub fn any(self) -> StoreError {
        match self {
            WriteError::Body(error) | WriteError::Store(error) => error,
        }
    }
}
