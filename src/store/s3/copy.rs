//! Copying within a bucket: the server does it, and none of its answers is believed.
//!
//! A copy's status is sent before the copy is done, so that a 200 may carry an error; Ceph 16 and others ignore the
//! condition on the original. So the original is looked up before, and what was made is looked up afterwards. That it is
//! the original's content follows from one of three: a version was named that nobody can write over; both have one and the
//! same MD5 for a tag; or the original is after the copy what it was before.

use aws_sdk_s3::types::{MetadataDirective, TaggingDirective};

use super::attributes::with_attributes;
use super::tags::encoded;
use super::upload::Upload;
use super::{S3, answer};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Attributes, Head, Original, SourceVersion, Tags};

/// The largest object copied by one request. S3 takes 5 GiB; a server that answers only when it is done would need longer
/// for that than an answer is waited for.
const WHOLE_BYTES_MAX: u64 = 1 << 30;
/// The size of the parts of larger ones; with 10,000 of them the largest object there is (5 TiB) fits.
const PART_BYTES: u64 = 640 << 20;

/// How a copy is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    whole_bytes_max: u64,
    part_bytes: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Cut { whole_bytes_max: WHOLE_BYTES_MAX, part_bytes: PART_BYTES }
    }
}

impl Cut {
    /// Parts of `bytes`, for whatever is larger than one.
    pub(super) fn of(bytes: u64) -> Self {
        Cut { whole_bytes_max: bytes, part_bytes: bytes }
    }

    /// The first and the last byte of each part of an object of `size` bytes.
    fn ranges(self, size: u64) -> impl Iterator<Item = (u64, u64)> {
        let part = self.part_bytes.max(1);
        (0..size.div_ceil(part)).map(move |n| (n * part, ((n + 1) * part).min(size) - 1))
    }
}

impl S3 {
    /// Copies an object of `from`, a bucket of the same server, to `key` of this one.
    pub(in crate::store) async fn copy_from(
        &self,
        from: &S3,
        original: Original<'_>,
        key: &str,
        attributes: &Attributes,
        tags: &Tags,
    ) -> Result<Head, StoreError> {
        let changed = || StoreError::Changed { at: from.at(original.key, "copy") };
        let before = from.head(original.key).await?;
        if !original.is(&before.version) {
            return Err(changed());
        }
        self.ask_for_copy(from, original, before.id.as_deref(), key, attributes).await?;
        crate::failpoint::hit("store.object.copy");
        let made = self.head(key).await?;
        let at = self.at(key, "copy to");
        if made.version.size != original.size {
            let why = format!("it has {} bytes instead of the {} of its original", made.version.size, original.size);
            return Err(StoreError::other(at, why));
        }
        // Onto itself there is nothing to compare with: what was written over was the original.
        let is_itself = original.key == key && (&from.bucket, &from.prefix) == (&self.bucket, &self.prefix);
        let proven = before.id.is_some() || is_itself || is_same_md5(&made.version, &before.version);
        if !proven && from.head(original.key).await?.version != before.version {
            return Err(changed());
        }
        if !super::KEEPS.of(attributes).are_in(&made.attributes) {
            return Err(StoreError::other(
                at,
                "the server has given the copy other headers or metadata than it was told",
            ));
        }
        self.settle_tags(key, tags).await?;
        Ok(made)
    }

    async fn ask_for_copy(
        &self,
        from: &S3,
        original: Original<'_>,
        id: Option<&str>,
        key: &str,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let (full, at) = (self.full(key, "copy to")?, self.at(key, "copy to"));
        let mut source = format!("{}/{}", from.bucket, encoded(&from.full(original.key, "copy")?, b"/"));
        if let Some(id) = id {
            source.push_str("?versionId=");
            source.push_str(&encoded(id, b""));
        }
        let etag = original.etag.map(|etag| format!("\"{etag}\""));
        if original.size > self.cut.whole_bytes_max {
            return self.in_parts(&source, etag.as_deref(), original.size, full, at, attributes).await;
        }
        let request = self.client.copy_object().bucket(&*self.bucket).key(full).copy_source(source);
        let request =
            request.metadata_directive(MetadataDirective::Replace).tagging_directive(TaggingDirective::Replace);
        let request = request.set_copy_source_if_match(etag);
        with_attributes!(request, attributes).send().await.map_err(|e| answer::refused(at, e))?;
        Ok(())
    }

    async fn in_parts(
        &self,
        source: &str,
        etag: Option<&str>,
        size: u64,
        full: String,
        at: Place,
        attributes: &Attributes,
    ) -> Result<(), StoreError> {
        let mut upload = Upload::begin(self, full, at, attributes).await?;
        for (first, last) in self.cut.ranges(size) {
            upload.part_of(source, etag, format!("bytes={first}-{last}")).await?;
        }
        upload.complete().await
    }
}

/// Whether the tags of both are the MD5 of their content, and the same. Of an object in parts the tag is something else.
fn is_same_md5(one: &SourceVersion, other: &SourceVersion) -> bool {
    let md5 = |version: &SourceVersion| {
        let etag = version.etag.clone()?;
        (etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
    };
    matches!((md5(one), md5(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object_once_and_the_largest_needs_no_more_than_s3_takes() {
        let cut = Cut { whole_bytes_max: 0, part_bytes: 4 };
        assert_eq!(cut.ranges(9).collect::<Vec<_>>(), [(0, 3), (4, 7), (8, 8)]);
        assert_eq!(cut.ranges(8).collect::<Vec<_>>(), [(0, 3), (4, 7)]);
        assert!(Cut::default().ranges(5 << 40).count() <= 10_000);
    }

    #[test]
    fn the_tag_of_an_object_in_parts_proves_nothing() {
        let version = |etag: &str| SourceVersion { etag: Some(etag.to_owned()), size: 1, modified_ns: 0 };
        let (md5, parts) = ("d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e-2");
        assert!(is_same_md5(&version(md5), &version(md5)));
        assert!(!is_same_md5(&version(parts), &version(parts)));
        assert!(!is_same_md5(&version(md5), &version("d41d8cd98f00b204e9800998ecf8427f")));
    }
}
