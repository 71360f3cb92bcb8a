//! The tags of an object: a request of their own, and a right of their own.

use aws_sdk_s3::types::{Tag, Tagging};

use super::{S3, answer};
use crate::store::error::StoreError;
use crate::store::object::Tags;

impl S3 {
    pub(in crate::store) async fn tags(&self, key: &str, id: Option<&str>) -> Result<Tags, StoreError> {
        let request = self.client.get_object_tagging().bucket(&*self.bucket).key(self.full(key, "read the tags of")?);
        let answer = request.set_version_id(id.map(str::to_owned)).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            // Ceph 16 has no words for an object without tags.
            Err(error) if answer::is_empty_success(&error) => return Ok(Tags::new()),
            Err(error) => return Err(answer::refused(self.at(key, "read the tags of"), error)),
        };
        Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    pub(in crate::store) async fn write_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        self.put_tags(key, tags).await?;
        self.settle_tags(key, tags).await
    }

    /// Makes sure that an object has `tags`. Not every server takes them together with the object: what it did not take is
    /// set once more.
    pub(super) async fn settle_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        for _ in 0..2 {
            if self.tags(key, None).await? == *tags {
                return Ok(());
            }
            self.put_tags(key, tags).await?;
        }
        match self.tags(key, None).await? == *tags {
            true => Ok(()),
            false => Err(StoreError::other(self.at(key, "tag"), "it has other tags than it was given")),
        }
    }

    async fn put_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        let at = self.at(key, "tag");
        let tag = |(name, value): (&String, &String)| Tag::builder().key(name).value(value).build();
        let set = tags.iter().map(tag).collect::<Result<Vec<_>, _>>();
        let set = set.and_then(|set| Tagging::builder().set_tag_set(Some(set)).build());
        let set = set.map_err(|e| StoreError::other(at.clone(), e.to_string()))?;
        let request = self.client.put_object_tagging().bucket(&*self.bucket).key(self.full(key, "tag")?);
        request.tagging(set).send().await.map_err(|e| answer::refused(at, e))?;
        Ok(())
    }
}

/// The tags as the header of a request that makes an object has them: `name=value&name=value`; `None` for none.
pub(super) fn in_one_header(tags: &Tags) -> Option<String> {
    let pair = |(name, value): (&String, &String)| format!("{}={}", encoded(name, b""), encoded(value, b""));
    (!tags.is_empty()).then(|| tags.iter().map(pair).collect::<Vec<_>>().join("&"))
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and `also`.
pub(super) fn encoded(text: &str, also: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_any_characters_fit_into_a_header() {
        let tags = Tags::from([("a b".to_owned(), "1+1=2&".to_owned()), ("ü/".to_owned(), String::new())]);
        assert_eq!(in_one_header(&tags).as_deref(), Some("a%20b=1%2B1%3D2%26&%C3%BC%2F="));
        assert_eq!(in_one_header(&Tags::new()), None);
        assert_eq!(encoded("a/b?c", b"/"), "a/b%3Fc");
    }
}
