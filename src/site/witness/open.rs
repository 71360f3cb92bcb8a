//! The witness that a configuration names, as one site reaches it, whatever it is made of.

use std::time::Duration;

use futures_util::FutureExt;
use secrecy::SecretString;

use super::{Numbered, Outcome, Reach, Record, Register, Rows, SelfTest, Witness, WitnessError, selftest};
use crate::config::address::{DatabaseAddress, VaultUrl};
use crate::config::reference::Reference;
use crate::config::{Config, EtcdAddress, Site, WitnessAddress, WitnessConfig};
use crate::postgres::Server;
use crate::site::lease::{Revision, Timing};
use crate::store::{Etcd, Keys};

/// By how much the clocks of the two sites may differ in their rate, in thousandths.
const DRIFT_PERMILLE: u32 = 100;
/// How much longer than it must a taker waits.
const SLACK: Duration = Duration::from_secs(1);
/// How long a command may take that asks more than once: a self-test, a history, the pruning.
const WORK_MAX: Duration = Duration::from_secs(60);

/// A witness, opened. Reads and writes are given up after the time the protocol has for one.
pub struct Opened {
    place: Place,
    request: Duration,
    reach: Reach,
    name: String,
}

enum Place {
    Numbered(Numbered<Keys>, Keys),
    Etcd(Register<Etcd>),
    Rows(Register<Rows>),
}

/// The spans both sites run by.
///
/// # Errors
/// [`WitnessError::Timing`] when they do not fit together, which the configuration has refused already.
pub fn timing(witness: &WitnessConfig) -> Result<Timing, WitnessError> {
    Ok(Timing::new(witness.ttl, witness.drain, DRIFT_PERMILLE, SLACK)?)
}

/// The witness of `config` as `site` reaches it. Secrets are fetched; the store is not asked yet.
///
/// # Errors
/// When there is none, a secret cannot be fetched or has another form, a folder is not there, or it lies at a server that has a
/// source of the system.
pub fn open(config: &Config, site: &Site) -> Result<Opened, WitnessError> {
    let (Some(witness), Some(address)) = (&config.witness, &site.witness) else {
        return Err(WitnessError::NotConfigured);
    };
    let request = timing(witness)?.request_timeout();
    let secret = |key: &'static str, reference: Option<&Reference>| {
        let wrong = |source| WitnessError::Secret { key, site: site.name.clone(), source };
        reference.map(Reference::resolve).transpose().map_err(wrong)
    };
    match address {
        WitnessAddress::Keys(keys) => {
            let keys = Keys::open(keys, secret("credentials", keys.credentials.as_ref())?)?;
            Ok(Opened::of_keys(keys, &witness.url.to_string(), request, reach(address)))
        }
        WitnessAddress::Etcd(etcd) => {
            let credentials = secret("credentials", etcd.credentials.as_ref())?;
            let key = secret("certificate_key", etcd.certificate.as_ref().map(|(_, key)| key))?;
            of_etcd(etcd, credentials.as_ref(), key.as_ref(), request)
        }
        WitnessAddress::Postgres(database) => {
            let password = secret("credentials", database.password.as_ref())?;
            of_rows(config, database, password, request)
        }
    }
}

/// The same; but a folder that is not there is made, and so are a database's tables.
///
/// # Errors
/// As [`open`], and what the folder or the database answers.
pub(super) async fn make(config: &Config, site: &Site) -> Result<Opened, WitnessError> {
    if let Some(WitnessAddress::Keys(keys)) = &site.witness
        && let VaultUrl::Folder(_) = keys.url
    {
        Keys::init(&keys.url)?;
    }
    let opened = open(config, site)?;
    if let Place::Rows(rows) = &opened.place {
        opened.within(WORK_MAX, rows.registers().make().boxed()).await??;
    }
    Ok(opened)
}

fn reach(address: &WitnessAddress) -> Reach {
    match address {
        WitnessAddress::Keys(keys) if matches!(keys.url, VaultUrl::Folder(_)) => Reach::OneMachine,
        _ => Reach::Everywhere,
    }
}

fn of_etcd(
    address: &EtcdAddress,
    credentials: Option<&SecretString>,
    key: Option<&SecretString>,
    request: Duration,
) -> Result<Opened, WitnessError> {
    Ok(Opened::of_etcd(Etcd::open(address, credentials, key, request)?, request))
}

fn of_rows(
    config: &Config,
    address: &DatabaseAddress,
    password: Option<SecretString>,
    request: Duration,
) -> Result<Opened, WitnessError> {
    let server = Server::new(address, password)?;
    let name = server.place(server.database()).to_string();
    for site in config.sites.values() {
        for source in site.databases.values() {
            // Its password is not needed to see where it is.
            let Ok(other) = Server::new(source, None) else { continue };
            if other.hosts().any(|host| server.hosts().any(|ours| ours == host)) {
                let (database, site) = (source.name.clone(), site.name.clone());
                return Err(WitnessError::AtSource { store: name, database, site });
            }
        }
    }
    Ok(Opened::of_server(server, request))
}

impl Opened {
    /// A witness of numbered objects in `keys`, which a person knows as `name`. No request takes longer than `request`.
    pub fn of_keys(keys: Keys, name: &str, request: Duration, reach: Reach) -> Self {
        let numbered = Numbered::new(name, keys.creating_once(), reach);
        Opened { place: Place::Numbered(numbered, keys), request, reach, name: name.to_owned() }
    }

    /// One in an etcd cluster.
    pub fn of_etcd(etcd: Etcd, request: Duration) -> Self {
        let name = etcd.name().to_owned();
        Opened { place: Place::Etcd(Register::new(etcd)), request, reach: Reach::Everywhere, name }
    }

    /// One in a row of a database.
    pub fn of_server(server: Server, request: Duration) -> Self {
        let name = server.place(server.database()).to_string();
        let rows = Register::new(Rows::new(server, request));
        Opened { place: Place::Rows(rows), request, reach: Reach::Everywhere, name }
    }

    /// The place as a person knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Between whom it can decide.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// How long one request may take.
    pub fn request_max(&self) -> Duration {
        self.request
    }

    /// What the record was, newest first, at most `count`, as far as it is remembered.
    ///
    /// # Errors
    /// As [`Witness::read`].
    pub async fn history(&self, count: usize) -> Result<Vec<(Revision, Record)>, WitnessError> {
        let asked = match &self.place {
            Place::Numbered(numbered, _) => numbered.history(count).boxed(),
            Place::Etcd(register) => register.history(count).boxed(),
            Place::Rows(register) => register.history(count).boxed(),
        };
        self.within(WORK_MAX, asked).await?
    }

    /// Tries from the site `site` whether it does what a witness must; `nonce` is a name nobody used yet. Due at start and every hour.
    ///
    /// # Errors
    /// When it does not answer, or refuses what is needed: that is no verdict.
    pub async fn selftest(&self, site: &str, nonce: &str) -> Result<SelfTest, WitnessError> {
        let asked = match &self.place {
            Place::Numbered(_, keys) => selftest(keys, site, nonce).boxed(),
            Place::Etcd(register) => register.selftest(site, nonce).boxed(),
            Place::Rows(register) => register.selftest(site, nonce).boxed(),
        };
        self.within(WORK_MAX, asked).await?
    }

    /// Lets go of records that have not been the record for a day: how many. Due now and then, beside the self-test.
    ///
    /// # Errors
    /// What the store answers; what was removed until then is gone.
    pub async fn prune(&self) -> Result<usize, WitnessError> {
        let asked = match &self.place {
            Place::Numbered(numbered, keys) => numbered.prune(keys).boxed(),
            Place::Etcd(register) => register.prune().boxed(),
            Place::Rows(register) => register.prune().boxed(),
        };
        self.within(WORK_MAX, asked).await?
    }

    async fn within<T>(&self, limit: Duration, asked: impl Future<Output = T>) -> Result<T, WitnessError> {
        let silent = |_| WitnessError::Silent { store: self.name.clone(), limit };
        tokio::time::timeout(limit, asked).await.map_err(silent)
    }
}

impl Witness for Opened {
    async fn read(&self) -> Result<Option<(Revision, Record)>, WitnessError> {
        let asked = match &self.place {
            Place::Numbered(numbered, _) => numbered.read().boxed(),
            Place::Etcd(register) => register.read().boxed(),
            Place::Rows(register) => register.read().boxed(),
        };
        self.within(self.request, asked).await?
    }

    async fn replace(&self, expected: Option<Revision>, record: &Record) -> Outcome {
        let asked = match &self.place {
            Place::Numbered(numbered, _) => numbered.replace(expected, record).boxed(),
            Place::Etcd(register) => register.replace(expected, record).boxed(),
            Place::Rows(register) => register.replace(expected, record).boxed(),
        };
        self.within(self.request, asked).await.unwrap_or_else(Outcome::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WitnessUrl;

    /// The configuration refuses by line and word what the protocol refuses; here the two are held together.
    #[test]
    fn what_the_configuration_lets_through_leaves_time_to_renew() {
        let timing = |ttl_ms: u64, drain_ms: u64| {
            let (ttl, drain) = (Duration::from_millis(ttl_ms), Duration::from_millis(drain_ms));
            let url = WitnessUrl::Keys(VaultUrl::Folder("/srv/witness".into()));
            timing(&WitnessConfig { url, ttl, drain })
        };
        for ttl_s in [6, 7, 60, 61, 3_600] {
            let ttl_ms = ttl_s * 1_000;
            assert!(timing(ttl_ms, ttl_ms / 6).is_ok(), "{ttl_s}: as it is unless said");
            assert!(timing(ttl_ms, ttl_ms * 2 / 3 - 1).is_ok(), "{ttl_s}: the most that is let through");
            assert!(timing(ttl_ms, ttl_ms * 2 / 3 + 1).is_err(), "{ttl_s}");
        }
        assert_eq!(timing(60_000, 10_000).unwrap(), Timing::default());
    }
}
