//! Uploading one object: small ones in one request, larger ones in parts, of which one is in memory at a time.

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join;
use md5::{Digest, Md5};

use super::attributes::with_attributes;
use super::learnt::Learnt;
use super::resume::hex;
use super::{S3, answer, bare_etag, resume};
use crate::store::alone::ABORT_TRIAL;
use crate::store::error::{Place, StoreError};
use crate::store::object::{Attributes, Body, Layout, WriteError, Written};
use crate::store::parts::Parts;

/// The size of a part, and of the largest object sent in one request.
const PART_BYTES: u64 = 8 << 20;
/// The parts that common programs send. An object that came in such parts gets them here, too, and with them the same tag at a server
/// that makes it as S3 does. Larger ones would not fit into memory many at a time.
const COMMON_PART_BYTES: [u64; 5] = [8 << 20, 5 << 20, 16 << 20, 15 << 20, 10 << 20];
/// S3 takes no more parts than that; larger parts make up for it (objects above 80 GB).
const PARTS_MAX: u64 = 10_000;

/// In which parts the object with this tag most likely came; `None` when in one piece, or when it cannot be told.
pub(super) fn layout(etag: Option<&str>, size: u64) -> Option<Layout> {
    let etag = etag?;
    let count: u64 = etag.rsplit_once('-')?.1.parse().ok()?;
    let fits = |part: &u64| count > 1 && size.div_ceil(*part) == count;
    COMMON_PART_BYTES.into_iter().find(fits).map(|part_bytes| Layout { part_bytes, etag: etag.to_owned() })
}

/// Uploads `body`, in the parts of `layout` if that is given.
pub(super) async fn upload(
    s3: &S3,
    key: &str,
    attributes: &Attributes,
    size: u64,
    layout: Option<Layout>,
    body: Body,
) -> Result<Written, WriteError> {
    let part_bytes = layout.as_ref().map_or_else(|| part_bytes(size), |layout| layout.part_bytes);
    let mut parts = Parts::new(body, part_bytes, size);
    let whole = size <= PART_BYTES && layout.is_none();
    let written = match whole {
        true => in_one(s3, key, attributes, size, &mut parts).await?,
        false => in_parts(s3, key, attributes, size, layout, &mut parts).await?,
    };
    match written {
        Some(written) => Ok(written),
        None => Ok(Written { was_looked_up: true, ..Written::of(s3.head(key).await?) }),
    }
}

/// What the server has then, if its answer proves it: the tag is the MD5 of what was sent.
async fn in_one(
    s3: &S3,
    key: &str,
    attributes: &Attributes,
    size: u64,
    parts: &mut Parts,
) -> Result<Option<Written>, WriteError> {
    let (full, at) = (s3.full(key, "write")?, s3.at(key, "write"));
    let content = parts.next().await?.unwrap_or_default();
    parts.ended(&at).await?;
    let md5 = Md5::digest(&content);
    let send = |is_signed: bool| {
        let request = s3.client.put_object().bucket(&*s3.bucket).key(&full).content_md5(base64(&md5));
        let request = with_attributes!(request.body(ByteStream::from(content.clone())), attributes);
        if is_signed { request } else { request.disable_payload_signing() }.send()
    };
    let is_signed = s3.learnt.wants_signed();
    let mut answer = send(is_signed).await;
    if !is_signed && answer.as_ref().err().is_some_and(Learnt::may_want_signed) {
        answer = send(true).await.inspect(|_| s3.learnt.wanted_signed());
    }
    let answer = answer.map_err(|e| answer::refused(at, e))?;
    crate::failpoint::hit("store.object.write");
    let etag = bare_etag(answer.e_tag()).filter(|etag| *etag == hex(&md5));
    Ok(etag.map(|etag| Written { size, etag: Some(etag), was_looked_up: false }))
}

/// What the server has then, if it was looked up.
async fn in_parts(
    s3: &S3,
    key: &str,
    attributes: &Attributes,
    size: u64,
    layout: Option<Layout>,
    parts: &mut Parts,
) -> Result<Option<Written>, WriteError> {
    let (full, at) = (s3.full(key, "write")?, s3.at(key, "write"));
    let mut upload = Upload::resume(s3, full, at, attributes, size, parts.part_bytes).await?;
    upload.is_proven_by_tag = layout.is_some() && s3.learnt.tags_prove();
    let mut waiting = parts.next().await?;
    while let Some(part) = waiting {
        // The next one is read while this one is sent.
        let (sent, next) = join(upload.part(part), parts.next()).await;
        sent?;
        waiting = next?;
    }
    parts.ended(&upload.at).await?;
    upload.complete().await?;
    crate::failpoint::hit("store.upload.complete");
    s3.forget_upload(&upload.key)?;
    crate::failpoint::hit("store.object.write");
    let Some(layout) = layout else { return Ok(None) };
    let head = s3.head(key).await?;
    let is_same = head.version.etag.as_ref() == Some(&layout.etag);
    s3.learnt.tag_came(is_same);
    if upload.is_proven_by_tag && !is_same {
        // Sent again, each part has its MD5 with it.
        let why = "its tag is not that of what was sent".into();
        return Err(StoreError::Unavailable { at: upload.at.clone(), source: why }.into());
    }
    Ok(Some(Written { was_looked_up: true, ..Written::of(head) }))
}

/// Begins an upload and ends it at once: the server says whether it takes objects, and keeps nothing.
pub(super) async fn begin_and_abort(s3: &S3, key: String, at: Place) -> Result<(), StoreError> {
    let begun = s3.client.create_multipart_upload().bucket(&*s3.bucket).key(&key).send().await;
    let begun = begun.map_err(|e| answer::refused(at.clone(), e))?;
    let request = s3.client.abort_multipart_upload().bucket(&*s3.bucket).key(key);
    let ended = request.set_upload_id(begun.upload_id).send().await;
    let at = Place { operation: ABORT_TRIAL, ..at };
    ended.map(drop).map_err(|e| answer::refused(at, e))
}

/// An upload in parts that was begun. Dropped before it is complete, it is aborted, unless it is noted down to be gone on with: a
/// server keeps, and may charge for, the parts of one that nobody ends.
pub(super) struct Upload<'a> {
    s3: &'a S3,
    key: String,
    id: String,
    at: Place,
    done: Vec<CompletedPart>,
    /// What the server has of it from before.
    there: resume::Parts,
    is_kept: bool,
    /// Whether the object's tag will prove what it has, and no part has to prove itself.
    is_proven_by_tag: bool,
}

impl<'a> Upload<'a> {
    pub(super) async fn begin(s3: &'a S3, key: String, at: Place, attributes: &Attributes) -> Result<Self, StoreError> {
        let request = s3.client.create_multipart_upload().bucket(&*s3.bucket).key(&key);
        let begun = with_attributes!(request, attributes).send().await.map_err(|e| answer::refused(at.clone(), e))?;
        match begun.upload_id {
            Some(id) => Ok(Upload {
                s3,
                key,
                id,
                at,
                done: Vec::new(),
                there: resume::Parts::default(),
                is_kept: false,
                is_proven_by_tag: false,
            }),
            None => Err(StoreError::other(at, "the server began an upload without giving it an id")),
        }
    }

    /// The upload of this object that is under way, or a new one.
    async fn resume(
        s3: &'a S3,
        key: String,
        at: Place,
        attributes: &Attributes,
        size: u64,
        part_bytes: u64,
    ) -> Result<Self, StoreError> {
        if let Some((id, there)) = s3.unfinished(&key, &at, attributes, size, part_bytes).await? {
            let (done, is_kept, is_proven_by_tag) = (Vec::new(), true, false);
            return Ok(Upload { s3, key, id, at, done, there, is_kept, is_proven_by_tag });
        }
        let mut upload = Upload::begin(s3, key, at, attributes).await?;
        s3.note(&upload.key, &upload.id, attributes, size, part_bytes)?;
        upload.is_kept = s3.notes.is_some();
        Ok(upload)
    }

    async fn part(&mut self, content: Bytes) -> Result<(), StoreError> {
        let number = self.number();
        if let Some(tag) = self.there.tag(number, &content) {
            self.done.push(CompletedPart::builder().part_number(number).e_tag(tag).build());
            return Ok(());
        }
        let md5 = (!self.is_proven_by_tag).then(|| base64(&Md5::digest(&content)));
        let send = |is_signed: bool| {
            let request = self.s3.client.upload_part().bucket(&*self.s3.bucket).key(&self.key).upload_id(&self.id);
            let request = request.part_number(number).set_content_md5(md5.clone());
            let request = request.body(ByteStream::from(content.clone())).customize();
            if is_signed { request } else { request.disable_payload_signing() }.send()
        };
        let is_signed = self.s3.learnt.wants_signed();
        let mut sent = send(is_signed).await;
        if !is_signed && sent.as_ref().err().is_some_and(Learnt::may_want_signed) {
            sent = send(true).await.inspect(|_| self.s3.learnt.wanted_signed());
        }
        let sent = sent.map_err(|e| self.refused(answer::refused(self.at.clone(), e)))?;
        self.done.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
        if self.is_kept {
            self.s3.note_progress(&self.key)?;
        }
        crate::failpoint::hit("store.upload.part");
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
        sent.map_err(|e| self.refused(answer::refused(self.at.clone(), e)))?;
        self.is_kept = true;
        Ok(())
    }

    /// What is missing is the upload, not the object: somebody aborted it, or a rule of the server's did. It is begun anew.
    fn refused(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::NotFound { at: Place { key: Some(_), .. } } => match self.s3.forget_upload(&self.key) {
                Ok(()) => {
                    let why = "the server does not know the upload any more";
                    StoreError::Unavailable { at: self.at.clone(), source: why.into() }
                }
                Err(error) => error,
            },
            error => error,
        }
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_kept {
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

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn part_bytes(size: u64) -> u64 {
    size.div_ceil(PARTS_MAX).max(PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_needs_more_parts_than_s3_takes() {
        for size in [PART_BYTES + 1, 80 << 30, 5 << 40] {
            assert!(size.div_ceil(part_bytes(size)) <= PARTS_MAX, "{size}");
        }
    }

    #[test]
    fn an_object_keeps_the_parts_it_came_in_if_they_are_common() {
        let check = |etag: &str, size: u64, expected: Option<u64>| {
            let found = layout(Some(etag), size);
            assert_eq!(found.as_ref().map(|found| found.part_bytes), expected.map(|mib| mib << 20), "{etag} {size}");
            assert!(found.is_none_or(|found| found.etag == etag));
        };
        check("d41d8cd98f00b204e9800998ecf8427e", 64 << 20, None);
        check("d41d8cd98f00b204e9800998ecf8427e-8", 64 << 20, Some(8));
        check("d41d8cd98f00b204e9800998ecf8427e-13", 64 << 20, Some(5));
        check("d41d8cd98f00b204e9800998ecf8427e-2", 6 << 20, Some(5));
        check("d41d8cd98f00b204e9800998ecf8427e-1", 64 << 20, None);
        check("d41d8cd98f00b204e9800998ecf8427e-2", 1 << 40, None);
        check("1700000000-1", 3, None);
    }
}
