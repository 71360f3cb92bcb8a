//! Bringing one object from wherever its content still is. What is wrong with one copy says nothing of the next.

use crate::mirror::attic::{Attic, only_if};
use crate::mirror::{PublishedRow, Then, Trying};
use crate::observe::Meter;
use crate::store::{Body, Bucket, Head, Place, StoreError, WriteError};

/// Where objects come from, and where they go.
pub(super) struct Bringing<'a> {
    pub(super) spare: &'a Bucket,
    pub(super) attic: &'a Attic,
    /// Another bucket; the spare itself when absent.
    pub(super) into: Option<&'a Bucket>,
    pub(super) meter: &'a dyn Meter,
}

/// What came of one object.
pub(super) enum Brought {
    /// It is there; why its tags are not, where they are not.
    Done(Option<String>),
    /// The destination cannot carry it: why.
    NotCarried(String),
    /// It was nowhere; why copies that are there could not be read.
    Lost(Vec<String>),
}

/// One copy that may be there.
struct Copy<'c> {
    bucket: &'c Bucket,
    key: &'c str,
    /// Of which version; of what stands there when absent.
    id: Option<&'c str>,
}

/// What came of one copy.
enum Taken {
    Done(Option<String>),
    NotCarried(String),
    /// It has another content, or is not there; why, where it is there and cannot be read.
    No(Option<String>),
}

impl Bringing<'_> {
    fn destination(&self) -> &Bucket {
        self.into.unwrap_or(self.spare)
    }

    /// Brings one object from wherever its content is.
    ///
    /// # Errors
    /// What would fail for every other object, too.
    pub(super) async fn bring(&self, row: &PublishedRow) -> Result<Brought, StoreError> {
        if let Err(StoreError::BadKey { why, .. }) = self.destination().carries(&row.key) {
            return Ok(Brought::NotCarried(why));
        }
        let mut unread = Vec::new();
        let standing = Copy { bucket: self.spare, key: &row.key, id: None };
        if self.into.is_some()
            && let Some(brought) = self.take(row, standing, &mut unread).await?
        {
            return Ok(brought);
        }
        if let Some(place) = self.attic.place() {
            for name in self.names(row, &mut unread).await? {
                let (count, copy) = (unread.len(), Copy { bucket: place, key: &name, id: None });
                if let Some(brought) = self.take(row, copy, &mut unread).await? {
                    return Ok(brought);
                }
                if unread.len() == count {
                    unread.push(format!("{name:?} in {} is not what its name says", place.name()));
                }
            }
        }
        for id in self.versions(row).await? {
            let copy = Copy { bucket: self.spare, key: &row.key, id: Some(&id) };
            if let Some(brought) = self.take(row, copy, &mut unread).await? {
                return Ok(brought);
            }
        }
        Ok(Brought::Lost(unread))
    }

    /// What the attic should have of its content.
    async fn names(&self, row: &PublishedRow, unread: &mut Vec<String>) -> Result<Vec<String>, StoreError> {
        match self.attic.find(&row.blake3, row.size).await {
            Ok(found) => Ok(found.into_iter().map(|(name, _)| name).collect()),
            Err(error @ StoreError::Denied { .. }) => {
                unread.push(error.to_string());
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The versions of its size.
    async fn versions(&self, row: &PublishedRow) -> Result<Vec<String>, StoreError> {
        match self.spare.versions_of(&row.key).await {
            Ok(found) => Ok(found.into_iter().filter(|(_, size)| *size == row.size).map(|(id, _)| id).collect()),
            // A right of its own; without it, and of a key that no object there can have, they are as if they were not there.
            Err(StoreError::Denied { .. } | StoreError::BadKey { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Takes it from `copy`; `None` when it is not to be had there.
    async fn take(
        &self,
        row: &PublishedRow,
        copy: Copy<'_>,
        unread: &mut Vec<String>,
    ) -> Result<Option<Brought>, StoreError> {
        let mut trying = Trying::of(copy.bucket);
        loop {
            let fault = match self.attempt(row, &copy).await {
                Ok(Taken::Done(untagged)) => return Ok(Some(Brought::Done(untagged))),
                Ok(Taken::NotCarried(why)) => return Ok(Some(Brought::NotCarried(why))),
                Ok(Taken::No(why)) => {
                    unread.extend(why);
                    return Ok(None);
                }
                Err(fault) => fault,
            };
            if let Then::Leave(why) = trying.after(fault).await? {
                unread.extend(why);
                return Ok(None);
            }
        }
    }

    /// Writes what is in `copy`, if it is what the point has. Nothing is written if not.
    async fn attempt(&self, row: &PublishedRow, copy: &Copy<'_>) -> Result<Taken, WriteError> {
        let (head, body) = open(copy).await.map_err(WriteError::Body)?;
        if head.version.size != row.size {
            return Ok(Taken::No(None));
        }
        let body = only_if(row.blake3, body, Place::key(copy.bucket.name(), copy.key, "read"));
        match self.destination().write(&row.key, &head.attributes, row.size, body).await {
            Ok(_) => {}
            // It has another content.
            Err(WriteError::Body(StoreError::Changed { .. })) => return Ok(Taken::No(None)),
            Err(WriteError::Store(StoreError::BadKey { why, .. })) => return Ok(Taken::NotCarried(why)),
            Err(fault) => return Err(fault),
        }
        self.meter.advance(row.size);
        self.tag(row, copy, &head).await.map(Taken::Done)
    }

    /// Gives it the tags that the copy has; why it has them not.
    async fn tag(&self, row: &PublishedRow, copy: &Copy<'_>, head: &Head) -> Result<Option<String>, WriteError> {
        if head.tags.is_none_or(|count| count == 0) {
            return Ok(None);
        }
        let tagged = match copy.bucket.tags(copy.key, head.id.as_deref()).await {
            Ok(tags) => self.destination().write_tags(&row.key, &tags).await,
            Err(error) => Err(error),
        };
        match tagged {
            Ok(()) => Ok(None),
            // A right of its own.
            Err(error @ StoreError::Denied { .. }) => Ok(Some(error.to_string())),
            Err(error) => Err(WriteError::Store(error)),
        }
    }
}

async fn open(copy: &Copy<'_>) -> Result<(Head, Body), StoreError> {
    match copy.id {
        Some(id) => copy.bucket.read_version(copy.key, id).await,
        None => copy.bucket.read(copy.key, None).await,
    }
}
