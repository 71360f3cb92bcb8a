//! What each site says of itself in the vault: one record a site, overwritten, signed, its number only rising.
//!
//! The live site learns from the spare's which epochs are damaged; both learn how the other fares. A record whose
//! number is lower than one seen before was put back by somebody and is not believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::v1::{FORMAT, Signed, StatusRecord, Unverified};
use super::writer::SOFTWARE;
use super::{VaultError, VaultReader};
use crate::clock::Clock;
use crate::durable::{self, FileLock};
use crate::failpoint;
use crate::keys::SigningKey;
use crate::store::{Read, Replace};

/// A status is written in one put and no more: a minute is long.
const LOCK_ATTEMPTS_MAX: u32 = 600;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// `status.json` of the state folder: the highest number seen of each site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StateFile {
    seen: BTreeMap<String, u64>,
}

/// This site's memory of the status records.
struct Memory {
    path: PathBuf,
    state: StateFile,
}

impl Memory {
    fn load(state_folder: &Path) -> Result<Self, VaultError> {
        let path = state_folder.join("status.json");
        let wrong = |what: String| VaultError::State { path: path.clone(), what };
        let state = match durable::read(&path).map_err(|e| wrong(e.to_string()))? {
            None => StateFile::default(),
            Some(content) => serde_json::from_slice(&content).map_err(|e| wrong(format!("damaged: {e}")))?,
        };
        Ok(Memory { path, state })
    }

    fn highest(&self, site: &str) -> u64 {
        self.state.seen.get(site).copied().unwrap_or(0)
    }

    fn remember(&mut self, site: &str, seq: u64) -> Result<(), VaultError> {
        if self.highest(site) >= seq {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.seen.insert(site.to_owned(), seq);
        let wrong = |what: String| VaultError::State { path: self.path.clone(), what };
        let content = serde_json::to_vec(&state).map_err(|e| wrong(e.to_string()))?;
        if let Some(folder) = self.path.parent() {
            durable::private_folder(folder).map_err(|e| wrong(e.to_string()))?;
        }
        durable::replace(&self.path, &content).map_err(|e| wrong(e.to_string()))?;
        self.state = state;
        Ok(())
    }
}

impl<R: Read> VaultReader<R> {
    /// What `site` says of itself; nothing before it said anything. `state_folder` is the folder `vault/` of this
    /// site's state folder.
    ///
    /// # Errors
    /// [`VaultError::Record`] when it is not to be believed, [`VaultError::Mismatch`] when it is older than one seen before
    /// or of another site, [`VaultError::TailCut`] when one was seen before and it is gone.
    pub async fn status(&self, site: &str, state_folder: &Path) -> Result<Option<StatusRecord>, VaultError> {
        let mut memory = Memory::load(state_folder)?;
        let found = self.status_after(site, &memory).await?;
        if let Some(record) = &found {
            memory.remember(site, record.seq)?;
        }
        Ok(found)
    }

    /// As [`Self::status`], for who only looks: the state folder is read, and nothing is written to it.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn peek_status(&self, site: &str, state_folder: &Path) -> Result<Option<StatusRecord>, VaultError> {
        self.status_after(site, &Memory::load(state_folder)?).await
    }

    async fn status_after(&self, site: &str, memory: &Memory) -> Result<Option<StatusRecord>, VaultError> {
        let highest = memory.highest(site);
        let key = self.layout.status(site);
        let record = match self.status_record(&key).await {
            Ok(signed) => signed,
            Err(VaultError::Store(error)) if error.is_not_found() && highest == 0 => return Ok(None),
            Err(VaultError::Store(error)) if error.is_not_found() => {
                return Err(VaultError::TailCut { what: format!("the status of {site}") });
            }
            Err(error) => return Err(error),
        };
        let itself = (record.record.system.as_str(), record.record.site.as_str(), record.signer.as_str());
        if itself != (self.system(), site, site) {
            return Err(VaultError::Mismatch { key, what: "it is of another site".to_owned() });
        }
        if record.record.seq < highest {
            let what = format!("it is number {}, but {highest} was seen before", record.record.seq);
            return Err(VaultError::Mismatch { key, what });
        }
        Ok(Some(record.record))
    }

    async fn status_record(&self, key: &str) -> Result<Signed<StatusRecord>, VaultError> {
        self.newest_record(key, "status").await
    }
}

/// Who says something of itself.
pub struct StatusKeeping<'a> {
    /// The system.
    pub system: &'a str,
    /// This site.
    pub site: &'a str,
    /// This site's signing key.
    pub signer: &'a SigningKey,
    /// The folder `vault/` of the state folder.
    pub state: &'a Path,
}

/// Changes this site's status record, or writes its first. What `change` leaves alone stays as it was said last.
///
/// One that is there and is not to be believed is replaced by a new one: what it held cannot be known.
///
/// # Errors
/// When the vault cannot be read or written, or the state folder not.
pub async fn update_status<K: Read + Replace>(
    keys: &K,
    reader: &VaultReader<K>,
    keeping: &StatusKeeping<'_>,
    clock: &dyn Clock,
    change: impl FnOnce(&mut StatusRecord),
) -> Result<StatusRecord, VaultError> {
    let _alone = alone(keeping.state).await?;
    let mut memory = Memory::load(keeping.state)?;
    let said = match reader.status(keeping.site, keeping.state).await {
        Ok(said) => said,
        Err(VaultError::Record { key, source: source @ Unverified::Unsupported(_) }) => {
            return Err(VaultError::Record { key, source });
        }
        Err(error @ (VaultError::Record { .. } | VaultError::Mismatch { .. } | VaultError::TailCut { .. })) => {
            tracing::warn!("this site's status record is written anew: {error}");
            None
        }
        Err(error) => return Err(error),
    };
    let last = said.as_ref().map_or(0, |record| record.seq).max(memory.highest(keeping.site));
    let mut record = said.unwrap_or_else(|| first(keeping, clock));
    change(&mut record);
    let record = StatusRecord { seq: last + 1, written_at: clock.now(), software: SOFTWARE.to_owned(), ..record };
    let key = reader.layout.status(keeping.site);
    let bytes = Signed::encode(&record, &key, keeping.site, keeping.signer);
    let bytes = bytes.map_err(|e| VaultError::Machine(e.to_string()))?;
    keys.replace(&key, Bytes::from(bytes)).await?;
    failpoint::hit("vault.status");
    memory.remember(keeping.site, record.seq)?;
    Ok(record)
}

/// Two commands of one site may have something to say at the same time; what one says must not undo the other's.
async fn alone(state_folder: &Path) -> Result<FileLock, VaultError> {
    let path = state_folder.join("status.lock");
    let wrong = |what: String| VaultError::State { path: path.clone(), what };
    durable::private_folder(state_folder).map_err(|e| wrong(e.to_string()))?;
    for _ in 0..LOCK_ATTEMPTS_MAX {
        let note = format!("status, process {}", std::process::id());
        if let Some(lock) = FileLock::try_take(&path, &note).map_err(|e| wrong(e.to_string()))? {
            return Ok(lock);
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Err(wrong("another command of this site is still writing its status".to_owned()))
}

fn first(keeping: &StatusKeeping, clock: &dyn Clock) -> StatusRecord {
    StatusRecord {
        format: FORMAT,
        kind: "status".to_owned(),
        system: keeping.system.to_owned(),
        site: keeping.site.to_owned(),
        seq: 0,
        written_at: clock.now(),
        newest_proven: None,
        damaged_epochs: Vec::new(),
        check: None,
        scrub: None,
        probe: None,
        buckets: Vec::new(),
        jobs: Vec::new(),
        software: SOFTWARE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::address::VaultUrl;
    use crate::store::{Delete, Keys};

    struct Site {
        folder: tempfile::TempDir,
        keys: Keys,
        signer: SigningKey,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let keys = Keys::init(&VaultUrl::Folder(folder.path().join("vault"))).unwrap();
            Site { folder, keys, signer: SigningKey::generate().unwrap() }
        }

        fn reader(&self) -> VaultReader<Keys> {
            let signers = BTreeMap::from([("fra".to_owned(), self.signer.verifying_key())]);
            VaultReader::new(self.keys.clone(), "builder", signers)
        }

        async fn say(&self, newest: &str) -> Result<StatusRecord, VaultError> {
            let keeping =
                StatusKeeping { system: "builder", site: "fra", signer: &self.signer, state: &self.state("fra") };
            let newest = Some(newest.to_owned());
            let change = |record: &mut StatusRecord| record.newest_proven = newest;
            update_status(&self.keys, &self.reader(), &keeping, &SystemClock, change).await
        }

        fn state(&self, site: &str) -> PathBuf {
            self.folder.path().join(site)
        }
    }

    #[tokio::test]
    async fn what_was_said_stays_and_the_number_rises() {
        let site = Site::new();
        assert_eq!(site.reader().status("fra", &site.state("ams")).await.unwrap(), None);
        assert_eq!(site.say("0-1").await.unwrap().seq, 1);
        let second = site.say("0-2").await.unwrap();
        assert_eq!((second.seq, second.newest_proven.as_deref()), (2, Some("0-2")));
        assert_eq!(site.reader().status("fra", &site.state("ams")).await.unwrap(), Some(second));
    }

    #[tokio::test]
    async fn a_status_that_was_put_back_or_removed_is_noticed_and_the_site_goes_on() {
        let site = Site::new();
        let key = site.reader().layout.status("fra");
        site.say("0-1").await.unwrap();
        let old = site.keys.get(&key).await.unwrap();
        site.say("0-2").await.unwrap();
        site.reader().status("fra", &site.state("ams")).await.unwrap();

        site.keys.replace(&key, old).await.unwrap();
        let error = site.reader().status("fra", &site.state("ams")).await.unwrap_err();
        assert!(error.to_string().contains("number 1, but 2 was seen"), "{error}");

        site.keys.delete(&key).await.unwrap();
        let error = site.reader().status("fra", &site.state("ams")).await.unwrap_err();
        assert!(matches!(error, VaultError::TailCut { .. }), "{error}");

        assert_eq!(site.say("0-3").await.unwrap().seq, 3);
        let said = site.reader().status("fra", &site.state("ams")).await.unwrap().unwrap();
        assert_eq!(said.newest_proven.as_deref(), Some("0-3"));
    }

    #[tokio::test]
    async fn a_status_that_another_signed_is_not_believed() {
        let mut site = Site::new();
        site.say("0-1").await.unwrap();
        site.signer = SigningKey::generate().unwrap();
        let error = site.reader().status("fra", &site.state("ams")).await.unwrap_err();
        assert!(matches!(error, VaultError::Record { source: Unverified::Signature(_), .. }), "{error}");
    }
}
