//! What Google and Azure do with the requests that others ignore: see [`crate::store::abilities`].

use object_store::{PutMode, PutOptions, PutPayload};

use super::{Cloud, Provider, translate};
use crate::store::abilities::{Abilities, Ability, CANARY, CANARY_COPY, TriedBy};
use crate::store::error::StoreError;
use crate::store::object::{Attributes, Cursor, Listed, Original, SourceVersion};
use crate::store::probe::Versions;

const CONTENT: &[u8] = b"a canary of `warmspare check`; it means nothing\n";
/// A tag that nothing has.
const NO_TAG: &str = "0x0123456789ABCDEF";

/// What it means that a request ended so which a careful store refuses.
fn refusal<T>(answer: Result<T, StoreError>) -> Result<Ability, StoreError> {
    match answer {
        Ok(_) => Ok(Ability::No),
        Err(StoreError::Exists { .. } | StoreError::Changed { .. }) => Ok(Ability::Yes),
        Err(StoreError::Denied { .. }) => Ok(Ability::Denied),
        Err(error) => Err(error),
    }
}

impl Cloud {
    pub(in crate::store) async fn try_abilities(&self, by: TriedBy) -> Result<Abilities, StoreError> {
        let page = self.page(&Cursor::Start, None).await?;
        let keys = page.listed.iter().filter_map(|listed| match listed {
            Listed::Object { key, .. } => Some(key),
            Listed::Skipped(_) => None,
        });
        let keys: Vec<&String> = keys.collect();
        // Tags and versions are not asked of them: object_store has no words for either.
        let mut found = Abilities { versions: Versions::Off, tags: Ability::No, ..Abilities::default() };
        if keys.len() > 1 {
            found.sorted = if keys.is_sorted() { Ability::Yes } else { Ability::No };
        }
        if let Some(key) = keys.first() {
            let version = SourceVersion { etag: Some(NO_TAG.to_owned()), size: 0, modified_ns: 0 };
            found.read_if_match = self.try_read(key, &version).await?;
        }
        if by == TriedBy::Writing {
            self.by_writing(&mut found).await?;
        }
        Ok(found)
    }

    /// A store that ignores the condition answers with another version, which [`Cloud::read`] tells apart itself: so it is asked.
    async fn try_read(&self, key: &str, version: &SourceVersion) -> Result<Ability, StoreError> {
        let path = self.path(key, "read")?;
        let if_match = version.etag.as_ref().map(|etag| format!("\"{etag}\""));
        let options = object_store::GetOptions { if_match, ..object_store::GetOptions::default() };
        match self.store.get_opts(&path, options).await.map_err(|error| translate(self.at(key, "read"), error)) {
            Err(StoreError::NotFound { .. }) => Ok(Ability::Untried),
            answer => refusal(answer.map(drop)),
        }
    }

    async fn by_writing(&self, found: &mut Abilities) -> Result<(), StoreError> {
        let path = self.path(CANARY, "write")?;
        let create = async || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.store.put_opts(&path, PutPayload::from_static(CONTENT), options).await;
            put.map_err(|error| translate(self.at(CANARY, "create"), error))
        };
        // The first one may meet what an earlier trial had to leave behind.
        if refusal(create().await)? == Ability::Denied {
            found.create_only = Ability::Denied;
            return Ok(());
        }
        found.create_only = refusal(create().await)?;
        found.parts = match self.check_writable().await {
            Ok(()) => Ability::Yes,
            Err(StoreError::Denied { .. }) => Ability::Denied,
            Err(error) => return Err(error),
        };
        found.copies = match self.provider {
            Provider::Azure => Ability::No,
            Provider::Gcs => self.try_copy().await?,
        };
        for key in [CANARY, CANARY_COPY] {
            match self.remove(key).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(StoreError::Denied { .. }) => found.left.push(key.to_owned()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn try_copy(&self) -> Result<Ability, StoreError> {
        let head = self.head(CANARY).await?;
        let original = Original { key: CANARY, etag: head.version.etag.as_deref(), size: head.version.size };
        match self.copy_from(self, original, CANARY_COPY, &Attributes::default()).await {
            Ok(_) => Ok(Ability::Yes),
            Err(StoreError::Denied { .. }) => Ok(Ability::Denied),
            Err(StoreError::Unavailable { at, source }) => Err(StoreError::Unavailable { at, source }),
            Err(_) => Ok(Ability::No),
        }
    }
}
