//! Rescue: what only the old live site has goes into the attic, and is told, before anything is put in its place.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::Named;
use super::rescued::{Lies, Rescued, rescued_here, tell, write_down};
use crate::mirror::attic::{Attic, Protection, hash_of};
use crate::mirror::{Kept, MirrorError};
use crate::store::{Bucket, Head, NULL_VERSION, Original, Place, SourceVersion, StoreError};

/// The rescue of one pass.
pub(in crate::mirror) struct Rescue<'a> {
    folder: PathBuf,
    target: &'a Bucket,
    attic: &'a Attic,
    now: Timestamp,
    /// What is known of the keys that are being looked at.
    expected: Mutex<HashMap<String, Named>>,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// The ids of those that the state folder lists.
    ids: HashSet<String>,
    found: Kept<Rescued>,
    /// Whether something lies where it was: there is nothing to put it into.
    in_place: bool,
}

/// A key that is being looked at.
pub(in crate::mirror) struct Expected<'a> {
    of: &'a Mutex<HashMap<String, Named>>,
    key: String,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// What stands at the target, once it is safe.
pub(in crate::mirror) struct Stood {
    pub(in crate::mirror) version: SourceVersion,
    pub(in crate::mirror) blake3: blake3::Hash,
}

impl Stood {
    /// As it is believed when it is put away.
    pub(in crate::mirror) fn believed<'k>(&'k self, key: &'k str) -> (blake3::Hash, Original<'k>) {
        (self.blake3, Original { key, etag: self.version.etag.as_deref(), size: self.version.size })
    }
}

impl<'a> Rescue<'a> {
    /// For the mirror that remembers in `folder`.
    pub(in crate::mirror) fn open(
        folder: PathBuf,
        target: &'a Bucket,
        attic: &'a Attic,
        now: Timestamp,
    ) -> Result<Self, MirrorError> {
        let ids = rescued_here(&folder)?.iter().map(Rescued::id).collect();
        let list = Mutex::new(List { ids, ..List::default() });
        Ok(Rescue { folder, target, attic, now, expected: Mutex::default(), list })
    }

    /// What is known of `key`, as long as what comes back is held.
    pub(in crate::mirror) fn looks_at(&self, key: &str, named: Named) -> Expected<'_> {
        self.expected().insert(key.to_owned(), named);
        Expected { of: &self.expected, key: key.to_owned() }
    }

    /// Whether the newest point names `key`: then the keeper, who goes by it, leaves the object alone until a newer one is taken,
    /// and it may be taken for there without being written anew.
    pub(in crate::mirror) fn stays(&self, key: &str) -> bool {
        self.expected().get(key).is_some_and(|named| named.stays)
    }

    /// Whether the newest point does not name `key`: the keeper may be about to hide what is there, so it is written anew.
    pub(in crate::mirror) fn goes(&self, key: &str) -> bool {
        self.expected().get(key).is_some_and(|named| named.goes)
    }

    /// Makes sure that what stands under `key` of the target is in a point, or rescued. `own` is what is believed to stand there.
    ///
    /// # Errors
    /// When it could not be: then it must not be overwritten.
    pub(in crate::mirror) async fn before(
        &self,
        key: &str,
        own: Option<(blake3::Hash, Original<'_>)>,
    ) -> Result<Option<Stood>, MirrorError> {
        let head = match self.target.head(key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(None),
            answer => answer?,
        };
        let blake3 = match own {
            Some((blake3, original)) if original.is(&head.version) => blake3,
            _ => hash_of(self.target, key, &head.version).await?,
        };
        let named = self.expected().get(key).copied().unwrap_or_default();
        if !named.knows(&blake3) {
            if self.attic.protection() == Protection::Nothing {
                let at = Place::key(self.target.name(), key, "overwrite");
                let why = "no recovery point has what stands there, and there is no attic to put it into";
                return Err(StoreError::other(at, why).into());
            }
            self.rescue(key, &head, blake3).await?;
        }
        Ok(Some(Stood { version: head.version, blake3 }))
    }

    /// Puts what stands under `key` of the target into the attic, and tells of it.
    pub(in crate::mirror) async fn rescue(
        &self,
        key: &str,
        head: &Head,
        blake3: blake3::Hash,
    ) -> Result<(), MirrorError> {
        let lies = match (self.attic.put_aside(self.target, key, head, &blake3).await?, &head.id) {
            (Some(name), _) => Lies::Attic(name),
            (None, Some(id)) => Lies::Version(id.clone()),
            // From before the store kept versions.
            (None, None) if self.attic.protection() == Protection::Versions => Lies::Version(NULL_VERSION.to_owned()),
            (None, None) => Lies::Bucket,
        };
        let rescued = Rescued {
            key: key.to_owned(),
            bytes: head.version.size,
            modified: Timestamp::from_nanosecond(head.version.modified_ns).unwrap_or(Timestamp::UNIX_EPOCH),
            blake3: blake3.to_hex().to_string(),
            bucket: self.target.name().to_owned(),
            lies,
            found: self.now,
        };
        {
            let mut list = self.list();
            list.in_place |= rescued.lies == Lies::Bucket;
            if list.ids.contains(&rescued.id()) {
                return Ok(());
            }
        }
        if let Some(place) = self.attic.place() {
            tell(place, &rescued).await?;
        }
        let mut list = self.list();
        if list.ids.insert(rescued.id()) {
            write_down(&self.folder, &rescued)?;
            tracing::warn!(key, "only the old live site has it; rescued");
            list.found.push(rescued);
        }
        Ok(())
    }

    /// Whether something that was found lies where it was, so that nothing may ever be put there.
    pub(in crate::mirror) fn is_in_place(&self) -> bool {
        self.list().in_place
    }

    /// What was rescued so far.
    pub(in crate::mirror) fn found(&self) -> Kept<Rescued> {
        self.list().found.clone()
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<String, Named>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
