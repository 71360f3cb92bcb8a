//! The listing of an S3 bucket, page by page.
//!
//! Keys travel percent-encoded: XML cannot hold most control characters, and a server that puts one there
//! makes the whole page unreadable.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use futures_util::{Stream, TryStreamExt, stream};

use super::{S3, answer, version_of};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Listed, Skipped};

/// Where the next page begins.
enum Cursor {
    /// After this full key, or at the very start.
    After(Option<String>),
    /// Where the server says.
    Token(String),
    /// There is no next page.
    End,
}

pub(super) fn list(s3: S3, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
    let start = Cursor::After(after.map(|after| format!("{}{after}", s3.prefix)));
    stream::try_unfold((s3, start), |(s3, cursor)| async move {
        let Some(page) = s3.page(cursor).await? else { return Ok(None) };
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let listed: Vec<_> = page.contents().iter().map(|object| Ok(s3.listed(object, encoded))).collect();
        let next = s3.next(&page)?;
        Ok(Some((stream::iter(listed), (s3, next))))
    })
    .try_flatten()
}

impl S3 {
    async fn page(&self, cursor: Cursor) -> Result<Option<ListObjectsV2Output>, StoreError> {
        let request = self.client.list_objects_v2().bucket(&*self.bucket).encoding_type(EncodingType::Url);
        let request = request.set_prefix((!self.prefix.is_empty()).then(|| self.prefix.to_string()));
        let request = match cursor {
            Cursor::After(after) => request.set_start_after(after),
            Cursor::Token(token) => request.continuation_token(token),
            Cursor::End => return Ok(None),
        };
        request.send().await.map(Some).map_err(|e| answer::refused(Place::store(&self.name, "list"), e))
    }

    /// A page that is cut short without a way to go on must not pass for the end: the rest would look deleted.
    fn next(&self, page: &ListObjectsV2Output) -> Result<Cursor, StoreError> {
        match (page.is_truncated(), page.next_continuation_token()) {
            (Some(true), Some(token)) => Ok(Cursor::Token(token.to_owned())),
            (Some(true), None) => {
                let at = Place::store(&self.name, "list");
                Err(StoreError::other(at, "the listing was cut short without a continuation token"))
            }
            _ => Ok(Cursor::End),
        }
    }

    fn listed(&self, object: &Object, encoded: bool) -> Listed {
        let sent = object.key().unwrap_or_default();
        let skipped = |name: &str, why: &str| Listed::Skipped(Skipped { name: name.to_owned(), why: why.to_owned() });
        let full = if encoded { decoded(sent) } else { Some(sent.to_owned()) };
        let Some(full) = full else { return skipped(sent, "its key is not UTF-8") };
        match full.strip_prefix(&*self.prefix) {
            // The prefix itself may be an object: the marker that some browsers of buckets write.
            None | Some("") => skipped(&full, "it is the marker of the prefix itself"),
            Some(key) => Listed::Object {
                key: key.to_owned(),
                version: version_of(object.e_tag(), object.size(), object.last_modified()),
            },
        }
    }
}

/// Undoes the encoding of `encoding-type=url`: percent, and `+` for a space. What is not encoded well is taken as it is.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'+', tail @ ..] => {
                bytes.push(b' ');
                tail
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn keys_as_servers_encode_them() {
        let check = |sent: &str, key: Option<&str>| assert_eq!(decoded(sent).as_deref(), key, "{sent}");
        check("plain/key", Some("plain/key"));
        check("a%20b+c%2Bd", Some("a b c+d"));
        check("%E2%82%ac", Some("€"));
        check("100%", Some("100%"));
        check("%zz%0", Some("%zz%0"));
        check("%FF", None);
    }
}
