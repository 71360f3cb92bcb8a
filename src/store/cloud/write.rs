//! Writing and copying objects of Google and Azure: small ones in one request, larger ones in parts of which one is in memory.

use bytes::Bytes;
use object_store::{
    Attribute, Attributes as Sent, CopyOptions, MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload,
};

use super::answer::translate;
use super::permitted::permitted;
use super::{Cloud, Provider};
use crate::store::alone::ABORT_TRIAL;
use crate::store::error::{Place, StoreError};
use crate::store::object::{Attributes, Body, Head, Original, WriteError};
use crate::store::parts::Parts;

/// The size of a part, and of the largest object sent in one request.
const PART_BYTES: u64 = 8 << 20;
/// Google takes no more parts than that.
const PARTS_MAX: u64 = 10_000;
/// The largest object that the store is asked to copy by itself: a larger one may take longer than an answer is waited for.
const COPY_BYTES_MAX: u64 = 1 << 30;

impl Cloud {
    pub(in crate::store) async fn write(
        &self,
        key: &str,
        attributes: &Attributes,
        size: u64,
        body: Body,
    ) -> Result<Head, WriteError> {
        let (path, at) = (self.path(key, "write")?, self.at(key, "write"));
        let sent = self.sent(attributes, &at)?;
        let mut parts = Parts::new(body, size.div_ceil(PARTS_MAX).max(PART_BYTES), size);
        let failed = |error| translate(at.clone(), error);
        if size <= PART_BYTES {
            let content = parts.next().await?.unwrap_or_default();
            parts.ended(&at).await?;
            let options = PutOptions { attributes: sent, ..PutOptions::default() };
            let put = self.writer().put_opts(&path, PutPayload::from_bytes(content), options);
            permitted(&self.permit, &at, put).await?.map_err(failed)?;
        } else {
            let options = PutMultipartOptions { attributes: sent, ..PutMultipartOptions::default() };
            let begun = self.writer().put_multipart_opts(&path, options);
            let begun = permitted(&self.permit, &at, begun).await?.map_err(failed)?;
            let mut upload = Upload(Some(begun));
            while let Some(part) = parts.next().await? {
                permitted(&self.permit, &at, upload.part(part)).await?.map_err(failed)?;
            }
            parts.ended(&at).await?;
            permitted(&self.permit, &at, upload.complete()).await?.map_err(failed)?;
        }
        crate::failpoint::hit("store.object.write");
        Ok(self.head(key).await?)
    }

    /// Begins an upload, sends a part, and gives it up: the store says whether it takes objects, and shows nothing of it.
    pub(in crate::store) async fn check_writable(&self) -> Result<(), StoreError> {
        let (path, at) = (self.path(".warmspare-check", "write")?, Place::store(&self.name, "write"));
        let failed = |error| translate(at.clone(), error);
        let begun = permitted(&self.permit, &at, self.writer().put_multipart(&path)).await?;
        let mut upload = begun.map_err(failed)?;
        let sent = upload.put_part(PutPayload::from_static(b"x")).await;
        let aborted = upload.abort().await;
        sent.map_err(failed)?;
        aborted.map_err(|error| translate(Place { operation: ABORT_TRIAL, ..at.clone() }, error))
    }

    /// Google copies by itself within one bucket what is to stay as it is; everything else goes through this host.
    pub(in crate::store) async fn copy_from(
        &self,
        from: &Cloud,
        original: Original<'_>,
        key: &str,
        attributes: &Attributes,
    ) -> Result<Head, StoreError> {
        let before = from.head(original.key).await?;
        if !original.is(&before.version) {
            return Err(StoreError::Changed { at: from.at(original.key, "copy") });
        }
        let wanted = self.keeps().of(attributes);
        let is_plain = wanted.are_in(&before.attributes) && original.size <= COPY_BYTES_MAX;
        let is_here = self.provider == Provider::Gcs
            && self.bucket == from.bucket
            && (original.key, &from.prefix) != (key, &self.prefix);
        if !(is_plain && is_here) {
            let (head, body) = from.read(original.key, Some(&before.version)).await?;
            let written = self.write(key, attributes, head.version.size, body).await;
            return written.map_err(WriteError::any);
        }
        let (source, path, at) =
            (from.path(original.key, "copy")?, self.path(key, "copy to")?, self.at(key, "copy to"));
        let copied = self.writer().copy_opts(&source, &path, CopyOptions::default());
        permitted(&self.permit, &at, copied).await?.map_err(|error| translate(at.clone(), error))?;
        crate::failpoint::hit("store.object.copy");
        let made = self.head(key).await?;
        if from.head(original.key).await?.version != before.version {
            return Err(StoreError::Changed { at: from.at(original.key, "copy") });
        }
        if made.version.size != original.size || !wanted.are_in(&made.attributes) {
            return Err(StoreError::other(at, "the store has made something else of it than its original"));
        }
        Ok(made)
    }

    /// The headers and metadata of `attributes` that are kept here.
    fn sent(&self, attributes: &Attributes, at: &Place) -> Result<Sent, StoreError> {
        let Attributes {
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            metadata,
            ..
        } = self.keeps().of(attributes);
        let headers = [
            (Attribute::ContentType, content_type),
            (Attribute::CacheControl, cache_control),
            (Attribute::ContentDisposition, content_disposition),
            (Attribute::ContentEncoding, content_encoding),
            (Attribute::ContentLanguage, content_language),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let metadata = metadata.into_iter().map(|(name, value)| (Attribute::Metadata(name.into()), value));
        let mut sent = Sent::new();
        for (name, value) in headers.chain(metadata) {
            // One that is no header's value would fail the request, and with it everything else.
            if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
                let why = format!("its {name:?} has characters that no header takes");
                return Err(StoreError::BadKey { at: at.clone(), why });
            }
            sent.insert(name, value.into());
        }
        Ok(sent)
    }
}

/// An upload that was begun. Dropped before it is complete, it is aborted: a store keeps the parts of one that nobody ends.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    async fn part(&mut self, content: Bytes) -> object_store::Result<()> {
        match &mut self.0 {
            Some(upload) => upload.put_part(PutPayload::from_bytes(content)).await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::warn!(%error, "an unfinished upload could not be aborted");
            }
        });
    }
}
