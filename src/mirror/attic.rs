//! The attic: where what is overwritten or hidden at the spare goes, so that every kept recovery point can be rebuilt.
//!
//! A spare that keeps versions keeps them itself. Elsewhere the attic is a bucket or folder of its own, on the same server and
//! outside of what is mirrored, and an object is copied there, and the copy confirmed, before anything is put over it:
//!
//! ```text
//! objects/<aa>/<BLAKE3 of the content>.<day>    aa: the first two digits; day: 2026-11-21, by the clock of who put it there
//! touched/<number>, touched/<number>.done       what others than the mirror change at the spare: see `touched`
//! rescued/<id>, rescued/<id>.released           what only this site had when it came back as the spare: see `direction`
//! ```
//!
//! The day is what lets the keeper work without a lock. Who puts something away relies only on a name of today, and writes it
//! anew when there is none; the keeper lets go only of names that are [`LET_GO_AFTER`] old. So neither ever meets the other,
//! and a content that several points name may lie here under several days until the keeper has passed.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::jitter::Patience;
use crate::store::{
    Body, Bucket, Head, Listed, NULL_VERSION, Original, Place, SourceVersion, StoreError, Tags, Versioning, WriteError,
};

/// How old a name in the attic is at least before it may be let go.
pub const LET_GO_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How what is overwritten at a spare stays reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The store keeps versions.
    Versions,
    /// It is copied into the attic before.
    Attic,
    /// It does not.
    Nothing,
}

/// The attic of one spare bucket, as one pass or one command uses it.
#[derive(Clone, Debug)]
pub struct Attic {
    versioning: Versioning,
    place: Option<Bucket>,
    day: String,
}

/// What stood at the spare where something is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    Kept,
}

impl Attic {
    /// A spare of which nothing is kept.
    pub fn none() -> Self {
        Attic { versioning: Versioning::Off, place: None, day: String::new() }
    }

    /// The attic of `spare` at `place`, where one is configured.
    ///
    /// # Errors
    /// When the server does not say whether it keeps versions. A credential that may not ask is answered with no.
    pub async fn open(spare: &Bucket, place: Option<Bucket>, now: Timestamp) -> Result<Self, StoreError> {
        let versioning = match spare.versioning().await {
            Err(StoreError::Denied { .. }) => Versioning::Off,
            answer => answer?,
        };
        Ok(Attic { versioning, place, day: day_of(now) })
    }

    /// What protects the spare.
    pub fn protection(&self) -> Protection {
        match (self.versioning, &self.place) {
            (Versioning::On, _) => Protection::Versions,
            (_, Some(_)) => Protection::Attic,
            (_, None) => Protection::Nothing,
        }
    }

    /// Where it is; `None` where there is only what the store keeps by itself, or nothing.
    pub fn place(&self) -> Option<&Bucket> {
        self.place.as_ref()
    }

    /// Whether it has to be asked what stands under a key before that is written.
    pub(super) fn has_to_look(&self) -> bool {
        self.protection() == Protection::Attic
    }

    /// Whether the spare may hold objects that stand nowhere, and that a write or a delete would destroy nevertheless.
    pub(super) fn has_older(&self) -> bool {
        self.has_to_look() && self.versioning == Versioning::Suspended
    }

    /// Makes sure that what stands under `key` of `spare` stays reachable when it is overwritten. `known` is what is believed to
    /// stand there: its BLAKE3 counts only if it still does.
    ///
    /// # Errors
    /// When it could not be kept: then it must not be overwritten.
    pub(super) async fn keep(
        &self,
        spare: &Bucket,
        key: &str,
        known: Option<(blake3::Hash, Original<'_>)>,
    ) -> Result<Standing, StoreError> {
        let Some(place) = self.place.as_ref().filter(|_| self.has_to_look()) else { return Ok(Standing::Nothing) };
        let head = match spare.head(key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => {
                self.keep_older(spare, key, None).await?;
                return Ok(Standing::Nothing);
            }
            answer => answer?,
        };
        self.keep_older(spare, key, Some(&head)).await?;
        let blake3 = match known {
            Some((blake3, original)) if original.is(&head.version) => blake3,
            _ => hash_of(spare, key, &head.version).await?,
        };
        self.put_away(place, spare, key, &head, &blake3).await?;
        Ok(Standing::Kept)
    }

    /// Makes sure that what is written or deleted under `key` of `spare` destroys nothing but what `stands` there. Where
    /// versions are kept no more it takes the place of the version that is there from the time before they were, wherever that is.
    ///
    /// # Errors
    /// When it could not be kept: then nothing must be written there.
    pub async fn keep_older(&self, spare: &Bucket, key: &str, stands: Option<&Head>) -> Result<(), StoreError> {
        // An object with an id tells of versions also to whoever may not ask the bucket.
        let may_be = self.has_older() || (self.has_to_look() && stands.is_some_and(|head| head.id.is_some()));
        let Some(place) = self.place.as_ref().filter(|_| may_be) else { return Ok(()) };
        if stands.is_some_and(|stands| stands.id.is_none()) {
            // That one it is, and it is kept as what stands there.
            return Ok(());
        }
        let opened = || async {
            match spare.read_version(key, NULL_VERSION).await {
                Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(None),
                answer => answer.map(Some),
            }
        };
        let Some((head, body)) = opened().await? else { return Ok(()) };
        let blake3 = whole_hash(body).await?;
        let name = name_of(&blake3, &self.day);
        if is_there(place, &name, head.version.size).await? {
            return Ok(());
        }
        let Some((head, body)) = opened().await? else { return Ok(()) };
        let body = only_if(blake3, body, Place::key(spare.name(), key, "read"));
        place.write(&name, &head.attributes, head.version.size, body).await.map_err(WriteError::any)?;
        if head.tags.is_some_and(|count| count > 0) {
            place.write_tags(&name, &spare.tags(key, Some(NULL_VERSION)).await?).await?;
        }
        crate::failpoint::hit("mirror.attic.older");
        Ok(())
    }

    /// Copies what stands under `key` of `spare` and has that BLAKE3 into the attic, unless it was today.
    async fn put_away(
        &self,
        place: &Bucket,
        spare: &Bucket,
        key: &str,
        head: &Head,
        blake3: &blake3::Hash,
    ) -> Result<(), StoreError> {
        let name = name_of(blake3, &self.day);
        if is_there(place, &name, head.version.size).await? {
            return Ok(());
        }
        let tags = match head.tags {
            Some(1..) => spare.tags(key, head.id.as_deref()).await?,
            _ => Tags::new(),
        };
        let original = Original { key, etag: head.version.etag.as_deref(), size: head.version.size };
        place.copy_from(spare, original, &name, &head.attributes, &tags).await?;
        crate::failpoint::hit("mirror.attic");
        Ok(())
    }

    /// Copies what stands under `key` of `spare` and has that BLAKE3 into the attic, whatever else protects it; under which name.
    /// `None` where there is no attic.
    pub(super) async fn put_aside(
        &self,
        spare: &Bucket,
        key: &str,
        head: &Head,
        blake3: &blake3::Hash,
    ) -> Result<Option<String>, StoreError> {
        let Some(place) = &self.place else { return Ok(None) };
        self.put_away(place, spare, key, head, blake3).await?;
        Ok(Some(name_of(blake3, &self.day)))
    }

    /// Keeps what stands under `key`, hashed now whatever is believed of it. What stood there, its BLAKE3 and where it is kept;
    /// `None` when nothing did.
    ///
    /// # Errors
    /// When it could not be kept, and [`StoreError::Other`] where there is neither an attic nor versions.
    pub async fn keep_surely(&self, spare: &Bucket, key: &str) -> Result<Option<Head>, StoreError> {
        let head = match spare.head(key).await {
            Err(StoreError::NotFound { at }) if at.key.is_some() => return Ok(None),
            answer => answer?,
        };
        self.keep_older(spare, key, Some(&head)).await?;
        match (self.protection(), &self.place) {
            (Protection::Versions, _) => {}
            (_, Some(place)) => {
                let blake3 = hash_of(spare, key, &head.version).await?;
                self.put_away(place, spare, key, &head, &blake3).await?;
            }
            (_, None) => {
                let at = Place::key(spare.name(), key, "keep");
                return Err(StoreError::other(at, "the spare keeps no versions and has no attic"));
            }
        }
        Ok(Some(head))
    }

    /// The objects of the attic that should have this content, by their names: one for each day on which it was put there, until
    /// the keeper has passed.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn find(&self, blake3: &blake3::Hash, size: u64) -> Result<Vec<(String, SourceVersion)>, StoreError> {
        let (Some(place), mut found) = (&self.place, Vec::new()) else { return Ok(Vec::new()) };
        let start = name_of(blake3, "");
        let mut listed = place.list(Some(&start));
        while let Some(Listed::Object { key, version }) = listed.next().await.transpose()? {
            if !key.starts_with(&start) {
                break;
            }
            if version.size == size {
                found.push((key, version));
            }
        }
        Ok(found)
    }
}

/// `objects/ab/ab….2026-11-21`
fn name_of(blake3: &blake3::Hash, day: &str) -> String {
    let hex = blake3.to_hex();
    format!("{OBJECTS}{}/{hex}.{day}", hex.get(..2).unwrap_or_default())
}

/// Where the contents lie.
pub(super) const OBJECTS: &str = "objects/";

/// The content and the day that a name of the attic stands for; `None` for what is no such name.
pub(super) fn parse_name(name: &str) -> Option<(blake3::Hash, &str)> {
    let (hex, day) = name.strip_prefix(OBJECTS)?.split_once('/')?.1.split_once('.')?;
    let blake3 = blake3::Hash::from_hex(hex).ok()?;
    (name_of(&blake3, day) == name).then_some((blake3, day))
}

/// `2026-11-21`, in UTC.
pub(super) fn day_of(now: Timestamp) -> String {
    now.to_string().split('T').next().unwrap_or_default().to_owned()
}

/// The BLAKE3 of what stands under `key`, if it is that version to the end.
pub(super) async fn hash_of(bucket: &Bucket, key: &str, version: &SourceVersion) -> Result<blake3::Hash, StoreError> {
    let (head, body) = bucket.read(key, None).await?;
    if (&head.version.etag, head.version.size) != (&version.etag, version.size) {
        return Err(StoreError::Changed { at: Place::key(bucket.name(), key, "read") });
    }
    whole_hash(body).await
}

/// Whether the attic has that name already.
async fn is_there(place: &Bucket, name: &str, size: u64) -> Result<bool, StoreError> {
    match place.head(name).await {
        Ok(found) => Ok(found.version.size == size),
        Err(StoreError::NotFound { at }) if at.key.is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn whole_hash(mut body: Body) -> Result<blake3::Hash, StoreError> {
    let mut hasher = blake3::Hasher::new();
    while let Some(block) = body.try_next().await? {
        hasher.update(&block);
    }
    Ok(hasher.finalize())
}

/// The same body; it ends in an error if its BLAKE3 is another.
pub(crate) fn only_if(expected: blake3::Hash, body: Body, at: Place) -> Body {
    let state = Some((body, blake3::Hasher::new(), at));
    stream::unfold(state, move |state| async move {
        let (mut body, mut hasher, at) = state?;
        match body.next().await {
            Some(Ok(block)) => {
                hasher.update(&block);
                Some((Ok(block), Some((body, hasher, at))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if hasher.finalize() == expected => None,
            None => Some((Err(StoreError::Changed { at }), None)),
        }
    })
    .boxed()
}

/// As [`hash_of`], tried as often as a copy is: for whoever does not try again himself.
pub(super) async fn hash_patiently(
    bucket: &Bucket,
    key: &str,
    version: &SourceVersion,
) -> Result<blake3::Hash, StoreError> {
    let mut patience = Patience::of_one_object();
    loop {
        match hash_of(bucket, key, version).await {
            Err(error) if patience.again(&error).await => {}
            hashed => return hashed,
        }
    }
}

/// Makes the folder of an attic if it is missing, and says whether it is there. With `mirrored` it is the one that a mirrored
/// folder has by default: then it may be impossible, and nothing is kept ([`can_make`]).
///
/// # Errors
/// Of one that a person has named: when the folder above is missing or does not let us in.
pub fn make_folder(attic: &Path, mirrored: Option<&Path>) -> Result<bool, StoreError> {
    let failed = |error| StoreError::of_io(Place::store(&attic.display().to_string(), "make the attic"), error);
    if attic.is_dir() {
        return Ok(true);
    }
    if mirrored.is_some_and(|mirrored| !can_make(attic, mirrored)) {
        return Ok(false);
    }
    match std::fs::create_dir(attic) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(true),
        made => made.map_err(failed)?,
    }
    let parent = attic.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    Ok(true)
}

/// Whether the default attic of the folder `mirrored` is there or can be made. It cannot where we may not write beside it, nor
/// where the folder is a mount of its own: beside it is another disk then, most likely of another machine.
pub fn can_make(attic: &Path, mirrored: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Some(parent) = attic.parent() else { return false };
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let may_write = rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok();
    attic.is_dir() || (may_write && device(parent).is_some() && device(parent) == device(mirrored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_holds_and_since_when() {
        let (hash, day) = (blake3::hash(b"x"), day_of(Timestamp::UNIX_EPOCH));
        assert_eq!(day, "1970-01-01");
        let name = name_of(&hash, &day);
        assert_eq!(parse_name(&name), Some((hash, "1970-01-01")));
        for other in ["objects/zz", "touched/1", &name.replace("objects/", "objects/x"), &name.replace('.', "/")] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
