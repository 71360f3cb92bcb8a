//! The vault as one site opens it, makes it and probes it.

use crate::blocking;
use crate::clock::Clock;
use crate::config::Here;
use crate::config::address::VaultUrl;
use crate::config::reference::Reference;
use crate::error::Error;
use crate::store::{Created, Keys};
use crate::vault::{
    DatedProbe, PolicyUsers, StatusKeeping, VaultReader, bucket_policy, canaries, last_probe, probe_vault,
    put_vault_record,
};

/// A reader of the configuration's system in its vault, with this site's access.
///
/// # Errors
/// When the vault cannot be opened, or is of a format this release does not read.
pub async fn open_vault(here: &Here) -> Result<(Keys, VaultReader<Keys>), Error> {
    open_with(here, "vault.credentials", here.site.vault.credentials.as_ref()).await
}

/// As [`open_vault`], with the keeper's credential where one is configured: the one that may delete.
///
/// # Errors
/// See [`open_vault`].
pub async fn open_vault_as_keeper(here: &Here) -> Result<(Keys, VaultReader<Keys>), Error> {
    match here.site.vault.keeper.as_ref() {
        None => open_vault(here).await,
        keeper => open_with(here, "vault.keeper", keeper).await,
    }
}

async fn open_with(
    here: &Here,
    key: &str,
    credentials: Option<&Reference>,
) -> Result<(Keys, VaultReader<Keys>), Error> {
    let config = &here.config;
    let keys = opened(here, key, credentials).await?;
    let reader = VaultReader::new(keys.clone(), &config.system, config.vault.signers.clone());
    let reader = reader.spooling_in(here.site.state.clone());
    reader.check_format().await?;
    Ok((keys, reader))
}

/// A secret's program and a folder on a network disk may take for ever: whoever waits can give up, and go on with what else there is.
async fn opened(here: &Here, key: &str, credentials: Option<&Reference>) -> Result<Keys, Error> {
    let (asked, key, credentials) = (here.clone(), key.to_owned(), credentials.cloned());
    let runtime = tokio::runtime::Handle::current();
    let open = move || {
        let _entered = runtime.enter();
        let credentials = asked.resolve(&key, credentials.as_ref())?;
        Ok::<_, Error>(Keys::open(&asked.site.vault, credentials)?.under(&asked.permit))
    };
    blocking::apart(&format!("the vault at {}", here.config.vault.url), open).await
}

/// What `vault init` came to.
#[derive(Debug)]
pub struct MadeVault {
    /// The vault, as a person knows it.
    pub place: String,
    /// Whether `vault.json` is new: nobody used this place as a vault before.
    pub is_new: bool,
    /// What this site's credential may do there.
    pub probe: DatedProbe,
}

/// Makes the vault: its folder if it is one, `vault.json`, and a first probe.
///
/// # Errors
/// When the place cannot be made or reached, or is a vault of a format this release does not read.
pub async fn init_vault(here: &Here, clock: &dyn Clock) -> Result<MadeVault, Error> {
    let _lock = here.lock("vault init")?;
    if matches!(here.config.vault.url, VaultUrl::Folder(_)) {
        Keys::init(&here.config.vault.url)?;
    }
    let (keys, reader) = open_vault(here).await?;
    let is_new = put_vault_record(&keys).await? == Created::New;
    let probe = probed(here, &keys, &reader, clock).await?;
    Ok(MadeVault { place: keys.name().to_owned(), is_new, probe })
}

/// Finds out what this site's credential (or the keeper's) may really do at the vault, and says so in the site's status.
///
/// # Errors
/// When the vault cannot be reached, or the status not be written.
pub async fn probe(here: &Here, as_keeper: bool, clock: &dyn Clock) -> Result<DatedProbe, Error> {
    let _lock = here.lock("vault probe")?;
    if as_keeper {
        // The keeper's rights are no verdict on the site: nothing is remembered of them.
        let (keys, _) = open_vault_as_keeper(here).await?;
        let found = crate::store::probe::probe(&keys, &probe_canaries(here)).await?;
        return Ok(DatedProbe { at: clock.now(), site: here.site.name.clone(), found });
    }
    let (keys, reader) = open_vault(here).await?;
    probed(here, &keys, &reader, clock).await
}

async fn probed(here: &Here, keys: &Keys, reader: &VaultReader<Keys>, clock: &dyn Clock) -> Result<DatedProbe, Error> {
    let signer = here.signing_key()?;
    let keeping = StatusKeeping {
        system: &here.config.system,
        site: &here.site.name,
        signer: &signer,
        state: &here.vault_state(),
    };
    Ok(probe_vault(keys, reader, &keeping, clock).await?)
}

fn probe_canaries(here: &Here) -> Vec<crate::store::Canary> {
    canaries(&here.config.system, &here.site.name)
}

/// The keys that a probe writes, reads and deletes.
pub fn canary_keys(here: &Here) -> Vec<String> {
    probe_canaries(here).into_iter().map(|canary| canary.key).collect()
}

/// What this site's last probe found; nothing before the first.
///
/// # Errors
/// When the record in the state folder cannot be read.
pub fn last(here: &Here) -> Result<Option<DatedProbe>, Error> {
    Ok(last_probe(&here.vault_state())?)
}

/// The bucket policy that gives both sites and the keeper what they need and no more; nothing where rights are no bucket's.
pub fn policy(here: &Here, users: &PolicyUsers) -> Option<String> {
    let config = &here.config;
    let live = here.live.as_deref()?;
    let spare = config.other(live).map(|site| site.name.as_str())?;
    bucket_policy(&config.vault.url, &config.system, live, spare, users)
}
