//! Keys of an etcd cluster (version 3), each replaced only if it is still of the revision that was read.
//!
//! Spoken is the JSON form of its API (`/v3/kv/txn`, etcd documentation, "gRPC gateway"), over the HTTP client that is here
//! anyway. Every read is linearizable: a member that is cut off from the others does not answer one. A read is tried at one
//! member after the other. A write is one transaction, sent once, to the member that answered last; if nothing is heard of it
//! nobody here knows whether it was done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::error::{Place, StoreError};
use crate::config::EtcdAddress;
use crate::failpoint;

mod answer;
mod http;

use answer::{Refused, kept, number};
use http::Http;

/// Keys below a prefix of one cluster.
pub struct Etcd {
    name: String,
    prefix: String,
    http: Http,
    /// Where each member is, and which of them answered last.
    members: Vec<String>,
    answered: AtomicUsize,
    /// How long one member may take.
    patience: Duration,
    user: Option<(String, SecretString)>,
    token: Mutex<Option<SecretString>>,
    /// The cluster that answered first; 0 before that.
    cluster: AtomicU64,
}

/// A key as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The revision of the cluster by which it was written.
    pub revision: u64,
    /// Its bytes.
    pub value: Bytes,
}

/// What a key must be, to be replaced.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Not there.
    Nothing,
    /// Of this revision and, where the caller knows them, with these bytes: a cluster that was restored from a backup counts
    /// its revisions anew.
    Revision(u64, Option<Bytes>),
}

impl Etcd {
    /// The cluster at `address`, with the secrets its references yield. Nothing is asked yet. A whole read takes no longer than
    /// `patience`, however many members there are.
    ///
    /// # Errors
    /// [`StoreError::Denied`] for credentials of another form, [`StoreError::Authorities`] and [`StoreError::Other`] for files
    /// that hold no certificate or no key.
    pub fn open(
        address: &EtcdAddress,
        credentials: Option<&SecretString>,
        certificate_key: Option<&SecretString>,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let scheme = if address.tls { "https" } else { "http" };
        let name = format!("etcd at {}", address.members.join(", "));
        let wrong = || StoreError::Denied {
            at: Place::store(&name, "open"),
            why: "its credentials are not of the form USER:PASSWORD".to_owned(),
        };
        let user = credentials.map(|text| {
            let (user, password) = text.expose_secret().trim().split_once(':').ok_or_else(wrong)?;
            Ok((user.to_owned(), SecretString::from(password)))
        });
        let members: Vec<String> = address.members.iter().map(|member| format!("{scheme}://{member}")).collect();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
        Ok(Etcd {
            http: Http::new(address, certificate_key, &name)?,
            user: user.transpose()?,
            prefix: address.prefix.clone(),
            members,
            answered: AtomicUsize::new(0),
            patience: patience / count,
            token: Mutex::new(None),
            cluster: AtomicU64::new(0),
            name,
        })
    }

    /// The cluster as a person knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `key` is now.
    ///
    /// # Errors
    /// What the cluster answers, or that no member does.
    pub async fn get(&self, key: &str) -> Result<Option<Kept>, StoreError> {
        self.range(key, json!({ "key": self.full(key) })).await
    }

    /// What `key` was at `revision`; nothing when it was not there, or the cluster has compacted its past meanwhile.
    ///
    /// # Errors
    /// As [`Etcd::get`].
    pub async fn get_at(&self, key: &str, revision: u64) -> Result<Option<Kept>, StoreError> {
        self.range(key, json!({ "key": self.full(key), "revision": revision.to_string() })).await
    }

    async fn range(&self, key: &str, request: Value) -> Result<Option<Kept>, StoreError> {
        let at = Place::key(&self.name, key, "read");
        match self.read("/v3/kv/range", &request, &at).await {
            Ok(answer) => kept(&answer, &at),
            Err(Refused::Compacted) => Ok(None),
            Err(refused) => Err(refused.told(at)),
        }
    }

    /// Writes `value` as `key` if it is what is `expected`: its new revision; nothing when it is not.
    ///
    /// # Errors
    /// When it was not written, or when it is not known whether it was: this is asked once.
    pub async fn put(&self, key: &str, expected: &Expected, value: &Bytes) -> Result<Option<u64>, StoreError> {
        let at = Place::key(&self.name, key, "write");
        let full = self.full(key);
        let is = |target: &str, field: &str, value: Value| json!({ "key": full, "target": target, "result": "EQUAL", field: value });
        let compare = match expected {
            Expected::Nothing => vec![is("CREATE", "create_revision", "0".into())],
            Expected::Revision(revision, bytes) => {
                let same = bytes.as_ref().map(|bytes| is("VALUE", "value", STANDARD.encode(bytes).into()));
                std::iter::once(is("MOD", "mod_revision", revision.to_string().into())).chain(same).collect()
            }
        };
        let put = json!({ "requestPut": { "key": full, "value": STANDARD.encode(value) } });
        let request = json!({ "compare": compare, "success": [put] });
        let answer = self.write("/v3/kv/txn", &request).await.map_err(|refused| refused.told(at.clone()))?;
        if answer.get("succeeded") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        failpoint::hit("store.etcd.put");
        number(&answer, "/header/revision", &at).map(Some)
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let at = Place::key(&self.name, key, "delete");
        let request = json!({ "key": self.full(key) });
        self.write("/v3/kv/deleterange", &request).await.map(drop).map_err(|refused| refused.told(at))
    }

    fn full(&self, key: &str) -> String {
        STANDARD.encode(format!("{}{key}", self.prefix))
    }

    /// Asks one member after the other, beginning with the one that answered last. What a member answers counts; only where
    /// none is given, or one that says to come back later, the next is asked.
    async fn read(&self, path: &str, request: &Value, at: &Place) -> Result<Value, Refused> {
        let first = self.answered.load(Ordering::Relaxed);
        let mut last = Refused::Silent("it has no members".into());
        for number in 0..self.members.len() {
            let member = (first + number) % self.members.len();
            let mut answer = self.ask(member, path, request).await;
            if matches!(answer, Err(Refused::Token)) {
                // The token has expired, or users were changed: nothing was read.
                answer = self.ask(member, path, request).await;
            }
            match answer {
                Err(Refused::Silent(why)) => {
                    tracing::debug!(%at, member = self.members.get(member), "no answer: {why}");
                    last = Refused::Silent(why);
                }
                answer => {
                    self.answered.store(member, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last)
    }

    async fn write(&self, path: &str, request: &Value) -> Result<Value, Refused> {
        self.ask(self.answered.load(Ordering::Relaxed), path, request).await
    }

    /// One request to one member, within its time.
    async fn ask(&self, member: usize, path: &str, request: &Value) -> Result<Value, Refused> {
        let asked = async {
            let token = self.token(member).await?;
            let answer = self.post(member, path, request, token.as_ref()).await;
            if matches!(answer, Err(Refused::Token)) {
                *self.held() = None;
            }
            let answer = answer?;
            self.is_same_cluster(&answer)?;
            Ok(answer)
        };
        match tokio::time::timeout(self.patience, asked).await {
            Ok(answer) => answer,
            Err(late) => Err(Refused::Silent(late.into())),
        }
    }

    async fn post(
        &self,
        member: usize,
        path: &str,
        request: &Value,
        token: Option<&SecretString>,
    ) -> Result<Value, Refused> {
        let base = self.members.get(member).map_or("", String::as_str);
        let (status, body) = self.http.post(&format!("{base}{path}"), request, token).await.map_err(Refused::Silent)?;
        answer::read(status, &body)
    }

    /// What says to the cluster who asks, where it wants to know.
    async fn token(&self, member: usize) -> Result<Option<SecretString>, Refused> {
        let Some((user, password)) = &self.user else { return Ok(None) };
        if let Some(token) = self.held().clone() {
            return Ok(Some(token));
        }
        let request = json!({ "name": user, "password": password.expose_secret() });
        let answer = match self.post(member, "/v3/auth/authenticate", &request, None).await {
            Err(Refused::NoUsers) => return Ok(None),
            answer => answer?,
        };
        let token = answer.get("token").and_then(Value::as_str).map(SecretString::from);
        (*self.held()).clone_from(&token);
        Ok(token)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<SecretString>> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Two clusters behind one address, or one set up anew, would be two witnesses.
    fn is_same_cluster(&self, answer: &Value) -> Result<(), Refused> {
        let told = answer.pointer("/header/cluster_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let Some(id) = told.filter(|id| *id != 0) else { return Ok(()) };
        match self.cluster.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(known) if known == id => Ok(()),
            Err(known) => Err(Refused::OtherCluster { known, told: id }),
        }
    }
}
