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
            // A server that knows no tags keeps none.
            Err(error) if answer::code(&error).0 == 501 => return Ok(Tags::new()),
            // Ceph 16 has no words for an object without tags.
            Err(error) if answer::is_empty_success(&error) => return Ok(Tags::new()),
            Err(error) => return Err(answer::refused(self.at(key, "read the tags of"), error)),
        };
        Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    pub(in crate::store) async fn write_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        self.put_tags(key, tags).await?;
        match self.tags(key, None).await? == *tags {
            true => Ok(()),
            false => Err(StoreError::other(self.at(key, "tag"), "it has other tags than it was given")),
        }
    }

    /// Makes sure that an object has `tags`: a copy may bring those of its original.
    pub(super) async fn settle_tags(&self, key: &str, tags: &Tags) -> Result<(), StoreError> {
        match self.tags(key, None).await? == *tags {
            true => Ok(()),
            false => self.write_tags(key, tags).await,
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
        crate::failpoint::hit("store.object.tags");
        Ok(())
    }
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and `also`.
pub(in crate::store) fn encoded(text: &str, also: &[u8]) -> String {
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
    fn keys_and_ids_of_any_characters_fit_into_a_header() {
        assert_eq!(encoded("a b+ü/?", b"/"), "a%20b%2B%C3%BC/%3F");
        assert_eq!(encoded("a/b?c", b""), "a%2Fb%3Fc");
    }
}
