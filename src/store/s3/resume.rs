//! Going on with an upload in parts that a killed process, or a failed attempt, left behind.
//!
//! The server says which parts it has. One counts only if it has the length and the MD5 of what is read of the source now;
//! any other is sent again in its place. So nothing depends on what was believed when it was sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use md5::{Digest, Md5};

use super::notes::{self, StateFile};
use super::{S3, answer, bare_etag};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Attributes, Skipped};

/// The parts that a server has, by number.
#[derive(Debug, Default)]
pub(super) struct Parts(BTreeMap<i32, (u64, String)>);

impl Parts {
    /// The tag of part `number`, if the server has exactly this content.
    pub(super) fn tag(&self, number: i32, content: &[u8]) -> Option<String> {
        let (size, tag) = self.0.get(&number)?;
        let is_same = || hex(&Md5::digest(content)) == *tag;
        (*size == content.len() as u64 && is_same()).then(|| format!("\"{tag}\""))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl S3 {
    /// The upload to go on with, and its parts. One that is of another object by now, or that the server does not know any more, is
    /// given up.
    pub(super) async fn unfinished(
        &self,
        key: &str,
        at: &Place,
        attributes: &Attributes,
        size: u64,
        part_bytes: u64,
    ) -> Result<Option<(String, Parts)>, StoreError> {
        let Some(notes) = &self.notes else { return Ok(None) };
        let Some(note) = notes.find(&self.name, key)? else { return Ok(None) };
        if note.is_of(attributes, size, part_bytes) {
            match self.parts_of(&note, at).await {
                Ok(parts) => {
                    notes.touch(&self.name, key)?;
                    return Ok(Some((note.id, parts)));
                }
                Err(StoreError::NotFound { .. }) => {}
                // It may not be asked for its parts: then each is sent again, in its place.
                Err(StoreError::Denied { .. }) => {
                    notes.touch(&self.name, key)?;
                    return Ok(Some((note.id, Parts::default())));
                }
                Err(error) => return Err(error),
            }
        } else if let Err(error) = self.give_up(&note).await {
            tracing::warn!(upload = note.id, %error, "an upload of what the object was before could not be aborted");
        }
        notes.remove(&self.name, key)?;
        Ok(None)
    }

    async fn parts_of(&self, note: &StateFile, at: &Place) -> Result<Parts, StoreError> {
        let (mut parts, mut marker) = (Parts::default(), None);
        loop {
            let request = self.client.list_parts().bucket(&*self.bucket).key(&note.key).upload_id(&note.id);
            let page = request.set_part_number_marker(marker.take()).send().await;
            let page = page.map_err(|e| answer::refused(at.clone(), e))?;
            for part in page.parts() {
                let size = part.size().and_then(|size| u64::try_from(size).ok());
                if let (Some(number), Some(size), Some(tag)) = (part.part_number(), size, bare_etag(part.e_tag())) {
                    parts.0.insert(number, (size, tag));
                }
            }
            match page.next_part_number_marker() {
                Some(next) if page.is_truncated() == Some(true) => marker = Some(next.to_owned()),
                _ => return Ok(parts),
            }
        }
    }

    /// Notes down an upload that has just begun.
    pub(super) fn note(
        &self,
        key: &str,
        id: &str,
        attributes: &Attributes,
        size: u64,
        part_bytes: u64,
    ) -> Result<(), StoreError> {
        let Some(notes) = &self.notes else { return Ok(()) };
        let (bucket, key, id) = (self.name.to_string(), key.to_owned(), id.to_owned());
        notes.write(&StateFile { bucket, key, id, size, part_bytes, beside: notes::digest(attributes) })
    }

    /// Says that the server took one more part of the upload of a key.
    pub(super) fn note_progress(&self, key: &str) -> Result<(), StoreError> {
        self.notes.as_ref().map_or(Ok(()), |notes| notes.touch(&self.name, key))
    }

    /// Forgets the upload of a key: it is complete, or gone.
    pub(super) fn forget_upload(&self, key: &str) -> Result<(), StoreError> {
        self.notes.as_ref().map_or(Ok(()), |notes| notes.remove(&self.name, key))
    }

    /// Aborts the uploads that nobody has gone on with since `before`. Those that could not be, and why: who may write need not be
    /// allowed to abort.
    pub(in crate::store) async fn give_up_uploads(&self, before: Timestamp) -> Result<Vec<Skipped>, StoreError> {
        let Some(notes) = &self.notes else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for note in notes.older(&self.name, before)? {
            match self.give_up(&note).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(StoreError::Denied { at, why }) => {
                    let why = format!("upload {}: {}", note.id, StoreError::Denied { at, why });
                    left.push(Skipped { name: note.key.clone(), why });
                }
                Err(error) => return Err(error),
            }
            // Told once; a rule of the server's for unfinished uploads has to remove it.
            notes.remove(&self.name, &note.key)?;
        }
        Ok(left)
    }

    async fn give_up(&self, note: &StateFile) -> Result<(), StoreError> {
        let request = self.client.abort_multipart_upload().bucket(&*self.bucket).key(&note.key).upload_id(&note.id);
        let at = Place::key(&self.name, &note.key, "abort the upload of");
        request.send().await.map(drop).map_err(|e| answer::refused(at, e))
    }
}
