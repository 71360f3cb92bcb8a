//! The listing of an S3 bucket, page by page.
//!
//! Keys travel percent-encoded: XML cannot hold most control characters, and a server that puts one there
//! makes the whole page unreadable.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use futures_util::{Stream, TryStreamExt, stream};

use super::page::{Entries, Sent};
use super::{S3, answer, client, version_of};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Cursor, Listed, Page, Skipped, SourceVersion};

pub(super) fn list(s3: S3, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
    let start = after.map_or(Cursor::Start, |after| Cursor::After(after.to_owned()));
    stream::try_unfold((s3, Some(start)), |(s3, cursor)| async move {
        let Some(cursor) = cursor else { return Ok(None) };
        let page = s3.ask(&cursor, None, true).await?;
        Ok(Some((stream::iter(page.listed.into_iter().map(Ok)), (s3, page.next))))
    })
    .try_flatten()
}

impl S3 {
    /// Asks for a page once: whoever lists in pages asks again, and perhaps for another.
    pub(in crate::store) async fn page(&self, from: &Cursor, keys: Option<u16>) -> Result<Page, StoreError> {
        self.ask(from, keys, false).await
    }

    /// Asks for a page of so many keys, and again if no answer comes.
    pub(in crate::store) async fn patient_page(&self, from: &Cursor, keys: u16) -> Result<Page, StoreError> {
        self.ask(from, Some(keys), true).await
    }

    async fn ask(&self, from: &Cursor, keys: Option<u16>, patiently: bool) -> Result<Page, StoreError> {
        let request = self.client.list_objects_v2().bucket(&*self.bucket).encoding_type(EncodingType::Url);
        let request = request.set_prefix((!self.prefix.is_empty()).then(|| self.prefix.to_string()));
        let request = match from {
            Cursor::Start => request,
            Cursor::After(after) => request.start_after(format!("{}{after}", self.prefix)),
            Cursor::Token(token) => request.continuation_token(token),
        };
        let entries = Entries::default();
        let request = request.set_max_keys(keys.map(i32::from)).customize().interceptor(entries.clone());
        let request = if patiently { request } else { request.config_override(client::once()) };
        let page = request.send().await.map_err(|e| answer::refused(Place::store(&self.name, "list"), e))?;
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let of_sdk = || page.contents().iter().map(sent).collect();
        let sent = entries.take().unwrap_or_else(of_sdk);
        let listed = sent.into_iter().map(|(key, version)| self.listed(key, version, encoded));
        let listed = listed.filter(|listed| !is_ours(listed)).collect();
        Ok(Page { listed, next: self.next(&page)? })
    }

    /// A page that is cut short without a way to go on must not pass for the end: the rest would look deleted.
    fn next(&self, page: &ListObjectsV2Output) -> Result<Option<Cursor>, StoreError> {
        match (page.is_truncated(), page.next_continuation_token()) {
            (Some(true), Some(token)) => Ok(Some(Cursor::Token(token.to_owned()))),
            (Some(true), None) => {
                let at = Place::store(&self.name, "list");
                Err(StoreError::other(at, "the listing was cut short without a continuation token"))
            }
            _ => Ok(None),
        }
    }

    fn listed(&self, sent: String, version: SourceVersion, encoded: bool) -> Listed {
        let skipped = |name: &str, why: &str| Listed::Skipped(Skipped { name: name.to_owned(), why: why.to_owned() });
        let is_plain = !encoded || memchr::memchr2(b'%', b'+', sent.as_bytes()).is_none();
        let full = match if is_plain { Ok(sent) } else { decoded(&sent).ok_or(sent) } {
            Ok(full) => full,
            Err(sent) => return skipped(&sent, "its key is not UTF-8"),
        };
        match full.strip_prefix(&*self.prefix) {
            // The prefix itself may be an object: the marker that some browsers of buckets write.
            None | Some("") => skipped(&full, "it is the marker of the prefix itself"),
            Some(_) if self.prefix.is_empty() => Listed::Object { key: full, version },
            Some(key) => Listed::Object { key: key.to_owned(), version },
        }
    }
}

/// An entry that the SDK read.
pub(super) fn sent(object: &Object) -> Sent {
    let version = version_of(object.e_tag(), object.size(), object.last_modified());
    (object.key().unwrap_or_default().to_owned(), version)
}

/// What a trial of the bucket may have left behind is no object of it.
fn is_ours(listed: &Listed) -> bool {
    matches!(listed, Listed::Object { key, .. } if crate::store::abilities::is_canary(key))
}

/// Undoes the encoding of `encoding-type=url`: percent, and `+` for a space. What is not encoded well is taken as it is.
pub(in crate::store) fn decoded(text: &str) -> Option<String> {
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
