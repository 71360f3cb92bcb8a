//! What a store really does with our keys, found by trying: no header, no documentation and no policy is believed.
//!
//! Small objects, the canaries, are created under names that look like those of the real ones, so that policies about
//! names apply to them, and then everything is done to them that an intruder with this credential would do: read,
//! list, overwrite, delete, purge. What readers still see afterwards decides. The canaries are removed where the credential
//! may; where it may not, they stay, one of each kind and site, of a few bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::keys::{Create, Delete, KeyPlace, Keys, Read, Replace};
use super::object::Versioning;
pub use super::s3::versions::Retention;

/// What a canary holds: the same for ever, so that one that was left behind says the same.
const CANARY: &[u8] = b"a canary of `warmspare vault probe`; it means nothing\n";
/// What is put over it.
const FORGED: &[u8] = b"something else\n";

/// One object to try everything on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// What it looks like: `record`, `pack`, `body`, `secrets`, `status`.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The folder that is listed for it, with its `/`.
    pub folder: String,
    /// Whether this credential has to be able to overwrite it: so with a site's own status.
    pub is_overwritten: bool,
}

/// Whether a credential may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// The server does it.
    Yes,
    /// The server refuses.
    No,
    /// The server does it, and readers still see what was there before: it keeps versions.
    Harmless,
    /// It could not be tried, or not be judged.
    Unknown,
}

impl Right {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Right::Yes => "yes",
            Right::No => "no",
            Right::Harmless => "harmless",
            Right::Unknown => "?",
        }
    }
}

/// What this credential may do with objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindRights {
    /// `record`, `pack`, `body`, `secrets`, `status`.
    pub kind: String,
    /// Write a new one.
    pub create: Right,
    /// Read its content.
    pub read: Right,
    /// List the folder it lies in.
    pub list: Right,
    /// Put something over it.
    pub overwrite: Right,
    /// Delete it the ordinary way.
    pub delete: Right,
    /// Remove its versions for good; the same as `delete` where none are kept.
    pub purge: Right,
}

/// Whether versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versions {
    /// Every write and delete keeps what was there.
    Kept,
    /// They were kept once; what is written now is not protected.
    Suspended,
    /// Not kept, or of a kind of store whose versions are not used.
    Off,
    /// The credential may not ask.
    Unknown,
}

impl Versions {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Versions::Kept => "kept",
            Versions::Suspended => "suspended",
            Versions::Off => "off",
            Versions::Unknown => "unknown",
        }
    }
}

/// What keeps written objects from being changed, as far as this credential can try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Versions are kept, and a retention keeps everybody from removing them.
    Lock,
    /// Versions are kept, and this credential cannot remove them.
    Versions,
    /// This credential can neither overwrite nor delete.
    CreateOnly,
    /// Nothing.
    Nothing,
}

impl Protection {
    /// In one word, as status records have it.
    pub fn word(self) -> &'static str {
        match self {
            Protection::Lock => "lock",
            Protection::Versions => "versions",
            Protection::CreateOnly => "create-only",
            Protection::Nothing => "nothing",
        }
    }
}

/// What was found at a store with one credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreProbe {
    /// The store, as a person knows it.
    pub store: String,
    /// The verdict.
    pub protection: Protection,
    /// Whether the server refuses a conditional create of a key that is there; absent when it could not be tried.
    pub create_only: Option<bool>,
    /// Whether versions are kept.
    pub versions: Versions,
    /// The retention every version gets; absent when there is none, or the credential may not ask.
    pub retention: Option<Retention>,
    /// How objects are tagged: `md5`, `other`, `none`; absent when it could not be seen.
    pub etag: Option<String>,
    /// What the credential may do, by kind of object.
    pub rights: Vec<KindRights>,
    /// Canaries that had to be left behind.
    pub left: Vec<String>,
}

impl StoreProbe {
    /// Which protection holds, and what to do where none does. Two sentences at most.
    pub fn sentence(&self) -> String {
        let lies = match self.create_only {
            Some(false) if self.versions != Versions::Kept => {
                " The store ignores the condition of a create: two machines that write the same key by mistake are not noticed."
            }
            _ => "",
        };
        let text = match (self.protection, self.versions) {
            (Protection::Lock, _) => {
                "Every version is locked for a time: nobody, whatever credential he holds, changes or removes what was written."
            }
            (Protection::Versions, _) => {
                "Versions are kept and this credential cannot remove them: what it overwrites or deletes is still read as it was."
            }
            (Protection::CreateOnly, _) => "This credential can neither overwrite nor delete what is there.",
            (Protection::Nothing, Versions::Kept) => {
                "This credential can remove versions for good: right for the keeper, wrong for a site. Set the policy that \
                 `warmspare vault init` prints."
            }
            (Protection::Nothing, _) => {
                "Whoever holds this credential can change or remove every recovery point. Keep versions in the bucket (and \
                 lock them), and set the policy that `warmspare vault init` prints; on a folder, keep a copy elsewhere."
            }
        };
        format!("{text}{lies}")
    }
}

/// Tries everything on `canaries`, with the credential that `keys` were opened with.
///
/// # Errors
/// What the store answers, other than that something is not allowed.
pub async fn probe(keys: &Keys, canaries: &[Canary]) -> Result<StoreProbe, StoreError> {
    let versions = versions(keys).await?;
    let retention = retention(keys).await?;
    let (mut create_only, mut etag) = (None, None);
    let (mut rights, mut left) = (Vec::new(), Vec::new());
    for canary in canaries {
        let found = try_everything(keys, canary, versions, &mut create_only, &mut etag).await?;
        if found.create != Right::No && !matches!(found.purge, Right::Yes) {
            left.push(canary.key.clone());
        }
        rights.push(found);
    }
    let kept = rights.iter().zip(canaries).filter(|(_, canary)| !canary.is_overwritten).map(|(rights, _)| rights);
    let protection = judge(kept, versions, retention.is_some());
    Ok(StoreProbe { store: keys.name().to_owned(), protection, create_only, versions, retention, etag, rights, left })
}

fn judge<'a>(rights: impl Iterator<Item = &'a KindRights>, versions: Versions, locked: bool) -> Protection {
    let rights: Vec<&KindRights> = rights.collect();
    let none = |is: fn(&KindRights) -> Right| rights.iter().all(|rights| is(rights) != Right::Yes);
    let unchanged = none(|rights| rights.overwrite) && none(|rights| rights.delete) && none(|rights| rights.purge);
    let refused = |is: fn(&KindRights) -> Right| rights.iter().all(|rights| is(rights) == Right::No);
    match versions {
        _ if !unchanged || rights.is_empty() => Protection::Nothing,
        Versions::Kept if locked => Protection::Lock,
        Versions::Kept => Protection::Versions,
        _ if refused(|rights| rights.overwrite) && refused(|rights| rights.delete) => Protection::CreateOnly,
        _ => Protection::Nothing,
    }
}

async fn versions(keys: &Keys) -> Result<Versions, StoreError> {
    let KeyPlace::S3(s3) = &keys.place else { return Ok(Versions::Off) };
    match s3.s3.versioning().await {
        Ok(Versioning::On) => Ok(Versions::Kept),
        Ok(Versioning::Suspended) => Ok(Versions::Suspended),
        Ok(Versioning::Off) => Ok(Versions::Off),
        Err(StoreError::Denied { .. }) => Ok(Versions::Unknown),
        Err(error) => Err(error),
    }
}

async fn retention(keys: &Keys) -> Result<Option<Retention>, StoreError> {
    let KeyPlace::S3(s3) = &keys.place else { return Ok(None) };
    match s3.s3.default_retention().await {
        Err(StoreError::Denied { .. }) => Ok(None),
        answer => answer,
    }
}

/// `yes` or `no` from whether it was denied; other failures stay failures.
fn allowed<T>(answer: Result<T, StoreError>) -> Result<Right, StoreError> {
    match answer {
        Ok(_) => Ok(Right::Yes),
        Err(StoreError::Denied { .. }) => Ok(Right::No),
        Err(error) => Err(error),
    }
}

async fn try_everything(
    keys: &Keys,
    canary: &Canary,
    versions: Versions,
    create_only: &mut Option<bool>,
    etag: &mut Option<String>,
) -> Result<KindRights, StoreError> {
    let key = canary.key.as_str();
    let list = allowed(keys.list(&canary.folder).await)?;
    let create = allowed(keys.create(key, Bytes::from_static(CANARY)).await)?;
    let mut found = KindRights {
        kind: canary.kind.clone(),
        create,
        list,
        read: Right::Unknown,
        overwrite: Right::Unknown,
        delete: Right::Unknown,
        purge: Right::Unknown,
    };
    if create == Right::No {
        // What cannot be made here cannot be put over either: it is the same request.
        return Ok(KindRights { overwrite: Right::No, delete: allowed(plain_delete(keys, key).await)?, ..found });
    }
    if create_only.is_none() {
        *create_only = refuses_overwriting(keys, key).await?;
        *etag = tagged(keys, key).await?;
    }
    found.read = match keys.get_newest(key, 1 << 10).await {
        Err(error) if error.is_not_found() => Right::Unknown,
        answer => allowed(answer)?,
    };
    found.overwrite = overwrite(keys, key, versions).await?;
    found.delete = match allowed(plain_delete(keys, key).await)? {
        Right::Yes if still_seen(keys, key, versions).await? => Right::Harmless,
        answer => answer,
    };
    found.purge = match found.delete {
        Right::Yes | Right::No if versions == Versions::Off => found.delete,
        _ => allowed(keys.delete(key).await)?,
    };
    Ok(found)
}

async fn refuses_overwriting(keys: &Keys, key: &str) -> Result<Option<bool>, StoreError> {
    let body = Bytes::from_static(CANARY);
    let answer = match &keys.place {
        KeyPlace::Objects(objects) => objects.refuses_overwriting(key, &body).await,
        KeyPlace::S3(s3) => s3.refuses_overwriting(key, &body).await,
    };
    match answer {
        Err(StoreError::Denied { .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The form of the tag that the canary got.
async fn tagged(keys: &Keys, key: &str) -> Result<Option<String>, StoreError> {
    let KeyPlace::S3(s3) = &keys.place else { return Ok(None) };
    let head = match s3.s3.head(key).await {
        Ok(head) => head,
        Err(StoreError::Denied { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let md5 = super::keys::md5_hex(&Bytes::from_static(CANARY));
    Ok(Some(match head.version.etag {
        None => "none".to_owned(),
        Some(etag) if etag == md5 => "md5".to_owned(),
        Some(_) => "other".to_owned(),
    }))
}

/// Puts something over the canary and looks what readers see.
async fn overwrite(keys: &Keys, key: &str, versions: Versions) -> Result<Right, StoreError> {
    if allowed(keys.replace(key, Bytes::from_static(FORGED)).await)? == Right::No {
        return Ok(Right::No);
    }
    match keys.get_limited(key, 1 << 10).await {
        Ok(seen) if seen == CANARY => Ok(Right::Harmless),
        Ok(_) => Ok(Right::Yes),
        // It may not be read back: then the bucket's word has to do.
        Err(StoreError::Denied { .. }) if versions == Versions::Kept => Ok(Right::Harmless),
        Err(StoreError::Denied { .. }) => Ok(Right::Yes),
        Err(error) => Err(error),
    }
}

/// Deletes as a program does that knows of no versions.
async fn plain_delete(keys: &Keys, key: &str) -> Result<(), StoreError> {
    match &keys.place {
        KeyPlace::Objects(_) => keys.delete(key).await,
        KeyPlace::S3(s3) => s3.delete_version(key, None).await,
    }
}

async fn still_seen(keys: &Keys, key: &str, versions: Versions) -> Result<bool, StoreError> {
    match keys.exists(key).await {
        Err(StoreError::Denied { .. }) => Ok(versions == Versions::Kept),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(overwrite: Right, delete: Right, purge: Right) -> Vec<KindRights> {
        let (create, read, list) = (Right::Yes, Right::No, Right::No);
        vec![KindRights { kind: "pack".to_owned(), create, read, list, overwrite, delete, purge }]
    }

    #[test]
    fn what_is_called_a_protection() {
        use Right::{Harmless, No, Yes};
        let check = |rights: Vec<KindRights>, versions: Versions, locked: bool, expected: Protection| {
            assert_eq!(judge(rights.iter(), versions, locked), expected, "{rights:?} {versions:?} {locked}");
        };
        check(rights(Harmless, Harmless, No), Versions::Kept, true, Protection::Lock);
        check(rights(Harmless, Harmless, No), Versions::Kept, false, Protection::Versions);
        check(rights(Harmless, No, No), Versions::Kept, false, Protection::Versions);
        check(rights(No, No, No), Versions::Off, false, Protection::CreateOnly);
        check(rights(No, No, No), Versions::Unknown, false, Protection::CreateOnly);
        check(rights(Harmless, Harmless, Yes), Versions::Kept, false, Protection::Nothing);
        check(rights(Yes, No, No), Versions::Off, false, Protection::Nothing);
        check(rights(Harmless, Harmless, No), Versions::Suspended, false, Protection::Nothing);
        check(rights(No, Yes, Yes), Versions::Off, false, Protection::Nothing);
        check(Vec::new(), Versions::Kept, true, Protection::Nothing);
    }

    #[tokio::test]
    async fn a_folder_protects_nothing_and_nothing_is_left_there() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::folder(folder.path()).unwrap();
        let key = "probe/ams/points/1.json".to_owned();
        let folder = "probe/ams/points/".to_owned();
        let canary = Canary { kind: "record".to_owned(), key, folder, is_overwritten: false };
        let found = probe(&keys, &[canary]).await.unwrap();
        assert_eq!((found.protection, found.create_only, found.left), (Protection::Nothing, Some(true), vec![]));
        assert!(keys.list("").await.unwrap().is_empty());
    }
}
