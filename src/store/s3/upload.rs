//! Uploading one object: small ones in one request, larger ones in parts, of which one is in memory at a time.

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Fuse;

use super::attributes::with_attributes;
use super::{S3, answer};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Attributes, Body, WriteError};

/// The size of a part, and of the largest object sent in one request.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes no more parts than that; larger parts make up for it (objects above 80 GB).
const PARTS_MAX: u64 = 10_000;

/// Uploads `body` as the full key `key`.
pub(super) async fn upload(
    s3: &S3,
    key: String,
    at: Place,
    attributes: &Attributes,
    size: u64,
    body: Body,
) -> Result<(), WriteError> {
    let mut parts = Parts { body: body.fuse(), part_bytes: part_bytes(size), waiting: BytesMut::new(), taken: 0 };
    if size > PART_BYTES {
        return in_parts(s3, key, at, attributes, size, &mut parts).await;
    }
    let content = parts.next().await?.unwrap_or_default();
    parts.ended_at(size, &at).await?;
    let request = s3.client.put_object().bucket(&*s3.bucket).key(key).body(ByteStream::from(content));
    with_attributes!(request, attributes).send().await.map_err(|e| answer::refused(at, e))?;
    Ok(())
}

async fn in_parts(
    s3: &S3,
    key: String,
    at: Place,
    attributes: &Attributes,
    size: u64,
    parts: &mut Parts,
) -> Result<(), WriteError> {
    let mut upload = Upload::begin(s3, key, at, attributes).await?;
    while let Some(part) = parts.next().await? {
        upload.part(part).await?;
    }
    parts.ended_at(size, &upload.at).await?;
    upload.complete().await?;
    Ok(())
}

/// Begins an upload and ends it at once: the server says whether it takes objects, and keeps nothing.
pub(super) async fn begin_and_abort(s3: &S3, key: String, at: Place) -> Result<(), StoreError> {
    let begun = s3.client.create_multipart_upload().bucket(&*s3.bucket).key(&key).send().await;
    let begun = begun.map_err(|e| answer::refused(at.clone(), e))?;
    let request = s3.client.abort_multipart_upload().bucket(&*s3.bucket).key(key);
    let ended = request.set_upload_id(begun.upload_id).send().await;
    ended.map(drop).map_err(|e| answer::refused(at, e))
}

/// An upload in parts that was begun. Dropped before it is complete, it is aborted: a server keeps, and may
/// charge for, the parts of one that nobody ends.
pub(super) struct Upload<'a> {
    s3: &'a S3,
    key: String,
    id: String,
    at: Place,
    done: Vec<CompletedPart>,
    completed: bool,
}

impl<'a> Upload<'a> {
    pub(super) async fn begin(s3: &'a S3, key: String, at: Place, attributes: &Attributes) -> Result<Self, StoreError> {
        let request = s3.client.create_multipart_upload().bucket(&*s3.bucket).key(&key);
        let begun = with_attributes!(request, attributes).send().await.map_err(|e| answer::refused(at.clone(), e))?;
        match begun.upload_id {
            Some(id) => Ok(Upload { s3, key, id, at, done: Vec::new(), completed: false }),
            None => Err(StoreError::other(at, "the server began an upload without giving it an id")),
        }
    }

    async fn part(&mut self, content: Bytes) -> Result<(), StoreError> {
        let number = self.number();
        let request = self.s3.client.upload_part().bucket(&*self.s3.bucket).key(&self.key).upload_id(&self.id);
        let sent = request.part_number(number).body(ByteStream::from(content)).send().await;
        let sent = sent.map_err(|e| answer::refused(self.at.clone(), e))?;
        self.done.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
        Ok(())
    }

    /// Adds the bytes `range` (`bytes=FIRST-LAST`) of the object that `source` names to the server.
    pub(super) async fn part_of(&mut self, source: &str, etag: Option<&str>, range: String) -> Result<(), StoreError> {
        let number = self.number();
        let request = self.s3.client.upload_part_copy().bucket(&*self.s3.bucket).key(&self.key).upload_id(&self.id);
        let request = request.part_number(number).copy_source(source).copy_source_range(range);
        let request = request.set_copy_source_if_match(etag.map(str::to_owned)).customize();
        // A request without a body has no length unless it is told so, and Ceph 16 insists on one for a part.
        let sized = |request: &mut HttpRequest| drop(request.headers_mut().try_insert("content-length", "0"));
        let sent = request.mutate_request(sized).send().await;
        let sent = sent.map_err(|e| answer::refused(self.at.clone(), e))?;
        // The status is sent before the server is done: without a result there was none.
        let Some(etag) = sent.copy_part_result.and_then(|result| result.e_tag) else {
            let why = format!("the server said nothing of part {number} that it was to copy");
            return Err(StoreError::other(self.at.clone(), why));
        };
        self.done.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
        Ok(())
    }

    fn number(&self) -> i32 {
        i32::try_from(self.done.len() + 1).unwrap_or(i32::MAX)
    }

    pub(super) async fn complete(&mut self) -> Result<(), StoreError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.done.clone())).build();
        let request = self.s3.client.complete_multipart_upload().bucket(&*self.s3.bucket).key(&self.key);
        let sent = request.upload_id(&self.id).multipart_upload(parts).send().await;
        sent.map_err(|e| answer::refused(self.at.clone(), e))?;
        self.completed = true;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.completed {
            return;
        }
        let request = self.s3.client.abort_multipart_upload().bucket(&*self.s3.bucket);
        let request = request.key(&self.key).upload_id(&self.id);
        let (at, id) = (self.at.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(error) = request.send().await {
                let error = answer::refused(at, error);
                tracing::warn!(upload = id, %error, "an unfinished upload could not be aborted");
            }
        });
    }
}

fn part_bytes(size: u64) -> u64 {
    size.div_ceil(PARTS_MAX).max(PART_BYTES)
}

/// Cuts a body into parts of one size.
struct Parts {
    /// Fused: it is asked again after its end, once for the last part and once for what should not follow it.
    body: Fuse<Body>,
    part_bytes: u64,
    waiting: BytesMut,
    taken: u64,
}

impl Parts {
    /// The next part: `part_bytes` long unless it is the last; `None` after that.
    async fn next(&mut self) -> Result<Option<Bytes>, WriteError> {
        let wanted = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        while self.waiting.len() < wanted {
            let Some(block) = self.body.next().await else { break };
            self.waiting.extend_from_slice(&block.map_err(WriteError::Body)?);
        }
        let part = self.waiting.split_to(wanted.min(self.waiting.len())).freeze();
        self.taken += part.len() as u64;
        Ok((!part.is_empty()).then_some(part))
    }

    /// Makes sure that the body had `size` bytes, and that its end was no error.
    async fn ended_at(&mut self, size: u64, at: &Place) -> Result<(), WriteError> {
        let mut length = self.taken;
        while let Some(part) = self.next().await? {
            length += part.len() as u64;
        }
        if length == size {
            return Ok(());
        }
        let why = format!("the body had {length} bytes instead of {size}");
        Err(WriteError::Body(StoreError::other(at.clone(), why)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[test]
    fn no_object_needs_more_parts_than_s3_takes() {
        for size in [PART_BYTES + 1, 80 << 30, 5 << 40] {
            assert!(size.div_ceil(part_bytes(size)) <= PARTS_MAX, "{size}");
        }
    }

    #[tokio::test]
    async fn a_body_is_cut_into_parts_of_one_size_and_counted() {
        let blocks = ["abc", "defg", "h"].map(|text| Ok(Bytes::from(text)));
        let mut parts =
            Parts { body: stream::iter(blocks).boxed().fuse(), part_bytes: 3, waiting: BytesMut::new(), taken: 0 };
        let mut cut = Vec::new();
        while let Some(part) = parts.next().await.unwrap() {
            cut.push(part);
        }
        assert_eq!(cut, ["abc", "def", "gh"]);
        parts.ended_at(8, &Place::store("s", "write")).await.unwrap();
        assert!(parts.ended_at(9, &Place::store("s", "write")).await.is_err());
    }
}
