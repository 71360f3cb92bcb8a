//! What opens an epoch: its identity and chunk-id key, as a text that is sealed to people.
//!
//! `secrets-0` is written by the site that opens the epoch, each further one by a re-key. Anybody who may create keys
//! can put something under such a name, so an object counts only if it holds the identity of the recipient that the
//! signed `epoch.json` names: whoever can make such a text can open the epoch anyway. What does not count is skipped
//! and named.

use secrecy::{ExposeSecret, SecretString};

use super::VaultError;
use super::layout::EpochId;
use super::reader::VaultReader;
use super::v1::{EpochRecord, FORMAT, Unverified};
use crate::error::Error;
use crate::keys::{Identity, Recipient, SealingError, open_with, seal_for, secret_text};
use crate::pipeline::ChunkIdKey;
use crate::store::{Read, StoreError};

/// A re-key adds one; more than this many are not looked for.
pub(super) const SECRETS_MAX: u32 = 64;

/// No object of secrets is larger: a few hundred bytes, and a header line for each recipient.
const SECRETS_BYTES_MAX: u64 = 1 << 20;

const FIRST_LINE: &str = "# warmspare epoch secrets, format ";
const KEY_LINE: &str = "# chunk-id-key: ";
const SEALED_TO_LINE: &str = "# sealed to: ";

/// The secrets of a new epoch, sealed: this site has forgotten its identity when it holds one of these.
pub(super) struct SealedSecrets {
    pub recipient: Recipient,
    pub chunk_id_key: ChunkIdKey,
    pub sealed: Vec<u8>,
}

/// Makes the secrets of epoch `id` and seals them to `sealed_to`. The identity exists in here only.
pub(super) async fn new_secrets(
    system: &str,
    id: EpochId,
    name: &str,
    sealed_to: &[Recipient],
) -> Result<SealedSecrets, VaultError> {
    let machine = |e: getrandom::Error| VaultError::Machine(e.to_string());
    let chunk_id_key = ChunkIdKey::new(*crate::keys::random::<32>().map_err(machine)?);
    let (line, recipient) = Identity::mint().map_err(machine)?;
    let text = text(system, id, &chunk_id_key, &[], &Identity::file_text(&recipient, &line));
    drop(line);
    let sealed = seal_for(sealed_to, &text).await;
    let sealed = sealed.map_err(|source| VaultError::Secrets { key: name.to_owned(), source })?;
    Ok(SealedSecrets { recipient, chunk_id_key, sealed })
}

/// An age identity file that also says the chunk-id key, so that `age -d -i` can use it as it is. `sealed_to` is
/// written by a re-key; of the first secrets `epoch.json` says it.
fn text(system: &str, id: EpochId, key: &ChunkIdKey, sealed_to: &[Recipient], identity: &SecretString) -> SecretString {
    let about = format!("{FORMAT}\n# system: {system}\n# epoch: {id}\n");
    let recipients: Vec<String> = sealed_to.iter().map(|to| format!("{SEALED_TO_LINE}{to}\n")).collect();
    let digits = key.to_hex();
    let recipients = recipients.concat();
    secret_text(&[FIRST_LINE, &about, KEY_LINE, &digits, "\n", &recipients, identity.expose_secret()])
}

/// What opens an epoch.
pub(super) struct EpochSecrets {
    pub identity: Identity,
    pub chunk_id_key: ChunkIdKey,
    /// Whom this copy is sealed to, where it says so itself.
    pub sealed_to: Option<Vec<String>>,
}

impl EpochSecrets {
    /// The same secrets as a re-key writes them for `sealed_to`.
    pub fn text_for(&self, system: &str, id: EpochId, sealed_to: &[Recipient]) -> SecretString {
        text(system, id, &self.chunk_id_key, sealed_to, &self.identity.to_file_text())
    }
}

fn parse(text: &SecretString) -> Result<EpochSecrets, Unverified> {
    let damaged = |what: &str| Unverified::Damaged(what.to_owned());
    let lines = || text.expose_secret().lines();
    let format = lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
    match format.and_then(|format| format.parse().ok()) {
        Some(FORMAT) => {}
        Some(newer) => return Err(Unverified::Unsupported(newer)),
        None => return Err(damaged("it holds no epoch secrets")),
    }
    let chunk_id_key = lines().find_map(|line| line.strip_prefix(KEY_LINE)).and_then(ChunkIdKey::from_hex);
    let chunk_id_key = chunk_id_key.ok_or_else(|| damaged("it holds no chunk-id key"))?;
    let sealed_to: Vec<String> =
        lines().filter_map(|line| line.strip_prefix(SEALED_TO_LINE)).map(str::to_owned).collect();
    let identity = Identity::from_file_text(text).map_err(|_| damaged("it holds no identity"))?;
    Ok(EpochSecrets { identity, chunk_id_key, sealed_to: (!sealed_to.is_empty()).then_some(sealed_to) })
}

/// Why an object with the name of secrets does not count.
pub(super) enum Skipped {
    /// Sealed to others, as the secrets of before and after a re-key are.
    NotForUs(String),
    /// Damaged, or not this epoch's: somebody put it there.
    Wrong(String),
}

impl<R: Read> VaultReader<R> {
    /// The first secrets of `epoch` that open with `identity` and belong to the epoch's recipient, as far as its record is there to tell.
    ///
    /// # Errors
    /// [`VaultError::NotForUs`] names what was found instead; a plugin that is missing or fails is an error of its own.
    pub(super) async fn epoch_secrets(
        &self,
        id: EpochId,
        epoch: Option<&EpochRecord>,
        identity: &Identity,
    ) -> Result<EpochSecrets, VaultError> {
        let mut skipped = Vec::new();
        for n in 0..SECRETS_MAX {
            let key = self.layout.secrets(id, n);
            match self.secrets_at(id, n, epoch, std::slice::from_ref(identity)).await? {
                Some(Ok(secrets)) => return Ok(secrets),
                Some(Err(Skipped::NotForUs(why))) => skipped.push(format!("{key}: {why}")),
                Some(Err(Skipped::Wrong(why))) => {
                    tracing::warn!("{key} does not count: {why}");
                    skipped.push(format!("{key}: {why}"));
                }
                // The first must be there; a later one exists only after a re-key.
                None if n == 0 => {
                    tracing::warn!("{key} is gone");
                    skipped.push(format!("{key} is gone"));
                }
                None => break,
            }
        }
        Err(VaultError::NotForUs { epoch: id, why: skipped.join("; ") })
    }

    /// What `secrets-<n>` says to the first of `identities` that opens it; `None` when there is no such object.
    pub(super) async fn secrets_at(
        &self,
        id: EpochId,
        n: u32,
        epoch: Option<&EpochRecord>,
        identities: &[Identity],
    ) -> Result<Option<Result<EpochSecrets, Skipped>>, VaultError> {
        let key = self.layout.secrets(id, n);
        let sealed = match self.keys.get_limited(&key, SECRETS_BYTES_MAX).await {
            Ok(sealed) => sealed,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error @ StoreError::TooLarge { .. }) => {
                return Ok(Some(Err(Skipped::Wrong(Error::from(error).to_string()))));
            }
            Err(error) => return Err(error.into()),
        };
        let mut skipped = Skipped::NotForUs("there is no identity to open it with".to_owned());
        for identity in identities {
            match open_with(identity, &sealed).await {
                Ok(text) => match belonging(&text, epoch) {
                    Err(source @ Unverified::Unsupported(_)) => return Err(VaultError::Record { key, source }),
                    Err(Unverified::Damaged(what)) => return Ok(Some(Err(Skipped::Wrong(what)))),
                    found => return Ok(Some(found.map_err(|error| Skipped::Wrong(error.to_string())))),
                },
                Err(error @ SealingError::NotForUs { .. }) => skipped = Skipped::NotForUs(error.to_string()),
                Err(error @ SealingError::Damaged(_)) => skipped = Skipped::Wrong(error.to_string()),
                // The program failed, not the object: nothing says that the secrets are not there.
                Err(source) => return Err(VaultError::Secrets { key, source }),
            }
        }
        Ok(Some(Err(skipped)))
    }
}

/// The secrets in `text`, if they are of the recipient that the epoch's packs are sealed to. Where `epoch.json` is lost
/// they are tried as they are: a body opens with the right ones alone.
fn belonging(text: &SecretString, epoch: Option<&EpochRecord>) -> Result<EpochSecrets, Unverified> {
    let secrets = parse(text)?;
    let recipient = secrets.identity.recipient().to_string();
    match epoch.filter(|epoch| epoch.recipient != recipient) {
        None => Ok(secrets),
        Some(epoch) => {
            let what = format!("its identity is of {recipient}, but epoch.json is signed for {}", epoch.recipient);
            Err(Unverified::Damaged(what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_their_text_form() {
        let id = EpochId { term: 3, epoch: 2 };
        let (identity, to) = (Identity::generate(), [Identity::generate().recipient()]);
        let key = ChunkIdKey::new([0xa5; 32]);
        let first = parse(&text("app", id, &key, &[], &identity.to_file_text())).unwrap();
        assert_eq!(first.sealed_to, None);
        let again = parse(&first.text_for("app", id, &to)).unwrap();
        assert_eq!(again.identity.recipient(), identity.recipient());
        assert_eq!(again.chunk_id_key.id(b"x"), key.id(b"x"));
        assert_eq!(again.sealed_to, Some(vec![to[0].to_string()]));
        assert!(parse(&identity.to_file_text()).is_err());
    }
}
