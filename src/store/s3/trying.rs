//! What an S3 server does with the requests that others ignore, refuse or get wrong: see [`crate::store::abilities`].

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Tag, Tagging};
use base64::Engine;
use md5::{Digest, Md5};

use super::{S3, answer};
use crate::store::abilities::{Abilities, Ability, CANARY, CANARY_COPY, TriedBy};
use crate::store::error::{Place, StoreError};
use crate::store::object::Versioning;
use crate::store::object::{Cursor, Listed};
use crate::store::probe::Versions;

const CONTENT: &[u8] = b"a canary of `warmspare check`; it means nothing\n";
/// A tag that nothing has.
const NO_TAG: &str = "0123456789abcdef0123456789abcdef";
/// A CRC-32 that the canary has not.
const NO_CRC32: &str = "AAAAAA==";

/// How a request ended.
enum Ended<T> {
    Done(T),
    /// By status and code.
    Refused(u16, String),
}

/// What it means that a request ended so which a careful server refuses.
fn refusal<T>(ended: &Ended<T>) -> Ability {
    match ended {
        Ended::Done(_) | Ended::Refused(501, _) => Ability::No,
        Ended::Refused(401 | 403, _) => Ability::Denied,
        Ended::Refused(..) => Ability::Yes,
    }
}

/// What it means of one that an able server does.
fn success<T>(ended: &Ended<T>) -> Ability {
    match ended {
        Ended::Done(_) => Ability::Yes,
        Ended::Refused(401 | 403, _) => Ability::Denied,
        Ended::Refused(..) => Ability::No,
    }
}

/// The canary as it was written: its versions, to be taken away again.
#[derive(Default)]
struct Written(Vec<(&'static str, Option<String>)>);

impl S3 {
    pub(in crate::store) async fn try_abilities(&self, by: TriedBy) -> Result<Abilities, StoreError> {
        let mut found = self.by_reading().await?;
        if by == TriedBy::Writing {
            let mut written = Written::default();
            let tried = self.by_writing(&mut found, &mut written).await;
            found.left = self.take_away(written).await?;
            tried?;
        }
        Ok(found)
    }

    async fn by_reading(&self) -> Result<Abilities, StoreError> {
        let versions = match self.versioning().await {
            Ok(Versioning::On) => Versions::Kept,
            Ok(Versioning::Suspended) => Versions::Suspended,
            Ok(Versioning::Off) => Versions::Off,
            Err(StoreError::Denied { .. }) => Versions::Unknown,
            Err(error) => return Err(error),
        };
        let page = self.page(&Cursor::Start, None).await?;
        let keys: Vec<&str> = page.listed.iter().filter_map(key_of).collect();
        let mut found = Abilities { versions, ..Abilities::default() };
        if keys.len() > 1 {
            found.sorted = if keys.is_sorted() { Ability::Yes } else { Ability::No };
        }
        if let Some(key) = keys.first() {
            let full = self.full(key, "look up")?;
            let read = self.client.get_object().bucket(&*self.bucket).key(&full).range("bytes=0-0");
            let read = self.ended(read.if_match(format!("\"{NO_TAG}\"")).send().await)?;
            found.read_if_match = match &read {
                // An empty object has no such range: the condition was not looked at.
                Ended::Refused(416, _) => Ability::No,
                Ended::Refused(404, _) => Ability::Untried,
                read => refusal(read),
            };
            let tags = self.client.get_object_tagging().bucket(&*self.bucket).key(&full).send().await;
            found.tags = match tags {
                Err(error) if answer::is_empty_success(&error) => Ability::Yes,
                tags => match self.ended(tags)? {
                    Ended::Refused(404, _) => Ability::Untried,
                    tags => success(&tags),
                },
            };
        }
        Ok(found)
    }

    async fn by_writing(&self, found: &mut Abilities, written: &mut Written) -> Result<(), StoreError> {
        // The first one may meet what an earlier trial had to leave behind.
        let first = self.put(written, |put| put.if_none_match("*")).await?;
        found.create_only = refusal(&self.put(written, |put| put.if_none_match("*")).await?);
        if success(&first) == Ability::Denied {
            return Ok(());
        }
        let plain = self.put(written, |put| put).await?;
        if success(&plain) != Ability::Yes {
            return Ok(());
        }
        found.if_match = self.try_if_match(written).await?;
        found.tags = self.try_tags().await?;
        found.parts = self.try_parts().await?;
        found.copies = self.try_copy(written).await?;
        let wrong = base64::engine::general_purpose::STANDARD.encode(Md5::digest(b"something else"));
        found.checks_md5 = refusal(&self.put(written, |put| put.content_md5(&wrong)).await?);
        found.checks_crc32 = refusal(&self.put(written, |put| put.checksum_crc32(NO_CRC32)).await?);
        Ok(())
    }

    async fn try_if_match(&self, written: &mut Written) -> Result<Ability, StoreError> {
        let wrong = refusal(&self.put(written, |put| put.if_match(format!("\"{NO_TAG}\""))).await?);
        if wrong != Ability::Yes {
            return Ok(wrong);
        }
        let Some(etag) = self.head(CANARY).await?.version.etag else { return Ok(Ability::No) };
        if success(&self.put(written, |put| put.if_match(format!("\"{etag}\""))).await?) == Ability::Yes {
            return Ok(Ability::Yes);
        }
        Ok(match success(&self.put(written, |put| put.if_match(&etag)).await?) {
            Ability::Yes => Ability::Unquoted,
            other => other,
        })
    }

    async fn try_tags(&self) -> Result<Ability, StoreError> {
        let full = self.full(CANARY, "tag")?;
        let wrong = |e: aws_sdk_s3::error::BuildError| StoreError::other(self.at(CANARY, "tag"), e.to_string());
        let tag = Tag::builder().key("canary").value("yes").build().map_err(wrong)?;
        let tagging = Tagging::builder().tag_set(tag).build().map_err(wrong)?;
        let request = self.client.put_object_tagging().bucket(&*self.bucket).key(&full).tagging(tagging);
        let set = success(&self.ended(request.send().await)?);
        if set != Ability::Yes {
            return Ok(set);
        }
        let request = self.client.get_object_tagging().bucket(&*self.bucket).key(full);
        Ok(match self.ended(request.send().await)? {
            Ended::Done(answer) if answer.tag_set.iter().any(|tag| tag.key() == "canary") => Ability::Yes,
            Ended::Done(_) => Ability::No,
            refused => success(&refused),
        })
    }

    async fn try_parts(&self) -> Result<Ability, StoreError> {
        let full = self.full(CANARY, "write")?;
        let begun = self.client.create_multipart_upload().bucket(&*self.bucket).key(&full).send().await;
        let begun = match self.ended(begun)? {
            Ended::Done(begun) => begun,
            refused => return Ok(success(&refused)),
        };
        let part = self.client.upload_part().bucket(&*self.bucket).key(&full).part_number(1);
        let part = part.set_upload_id(begun.upload_id.clone()).body(ByteStream::from_static(CONTENT));
        let sent = success(&self.ended(part.send().await)?);
        let abort = self.client.abort_multipart_upload().bucket(&*self.bucket).key(&full);
        let abort = abort.set_upload_id(begun.upload_id).send().await;
        abort.map_err(|e| answer::refused(self.at(CANARY, "abort the upload of"), e))?;
        Ok(sent)
    }

    async fn try_copy(&self, written: &mut Written) -> Result<Ability, StoreError> {
        let source = format!("{}/{}", self.bucket, super::tags::encoded(&self.full(CANARY, "copy")?, b"/"));
        let request = self.client.copy_object().bucket(&*self.bucket).key(self.full(CANARY_COPY, "copy to")?);
        let ended = self.ended(request.copy_source(source).send().await)?;
        let Ended::Done(copied) = &ended else { return Ok(success(&ended)) };
        written.0.push((CANARY_COPY, copied.version_id().map(str::to_owned)));
        Ok(match self.head(CANARY_COPY).await {
            Ok(head) if head.version.size == CONTENT.len() as u64 => Ability::Yes,
            Ok(_) | Err(StoreError::NotFound { .. }) => Ability::No,
            Err(error) => return Err(error),
        })
    }

    /// One PUT of the canary, with what `with` adds to it.
    async fn put(
        &self,
        written: &mut Written,
        with: impl Fn(PutObjectFluentBuilder) -> PutObjectFluentBuilder,
    ) -> Result<Ended<()>, StoreError> {
        let full = self.full(CANARY, "write")?;
        let put = self.client.put_object().bucket(&*self.bucket).key(&full).body(ByteStream::from_static(CONTENT));
        // Ceph 16 leaves the body of what it refused in the connection and reads it as the next request: nobody is to use it again.
        let closing = |request: &mut HttpRequest| drop(request.headers_mut().try_insert("connection", "close"));
        match self.ended(with(put).customize().mutate_request(closing).send().await)? {
            Ended::Done(put) => {
                written.0.push((CANARY, put.version_id().map(str::to_owned)));
                Ok(Ended::Done(()))
            }
            Ended::Refused(status, code) => Ok(Ended::Refused(status, code)),
        }
    }

    /// What was answered; no answer, and one that says to come back, are errors.
    fn ended<T, E>(&self, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<Ended<T>, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let error = match answer {
            Ok(done) => return Ok(Ended::Done(done)),
            Err(error) => error,
        };
        let (status, code) = answer::code(&error);
        match status {
            // The loser of a race with what is there is told 500 by Ceph 16.
            500 if code == "UnknownError" => Ok(Ended::Refused(status, code)),
            400..=499 | 501 if status != 408 && status != 429 && code != "NoSuchBucket" => {
                Ok(Ended::Refused(status, code))
            }
            _ => Err(answer::refused(Place::store(self.name(), "try out"), error)),
        }
    }

    /// Removes what was written, version by version where there are some; what may not be removed is named.
    async fn take_away(&self, written: Written) -> Result<Vec<String>, StoreError> {
        let mut left: Vec<String> = Vec::new();
        let mut seen: Vec<(&str, Option<String>)> = Vec::new();
        for (key, id) in written.0 {
            // Without versions it is one object, however often it was written.
            if seen.contains(&(key, id.clone())) || left.iter().any(|left| left == key) {
                continue;
            }
            let request = self.client.delete_object().bucket(&*self.bucket).key(self.full(key, "delete")?);
            match self.ended(request.set_version_id(id.clone()).send().await)? {
                Ended::Done(_) | Ended::Refused(404, _) => seen.push((key, id)),
                Ended::Refused(..) => left.push(key.to_owned()),
            }
        }
        Ok(left)
    }
}

fn key_of(listed: &Listed) -> Option<&str> {
    match listed {
        Listed::Object { key, .. } => Some(key),
        Listed::Skipped(_) => None,
    }
}
