//! This site itself: configuration, state folder, lock, keys, and every secret it refers to.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use secrecy::SecretString;

use super::finding::Findings;
use super::{limit, space};
use crate::config::reference::Reference;
use crate::config::{Here, HereError};
use crate::error::Error;
use crate::keys::{try_identity, try_recipients};

/// The secrets of this site by their key in the configuration; one that could not be fetched is not among them.
pub(super) struct Secrets(BTreeMap<String, Option<SecretString>>);

impl Secrets {
    /// The secret called `key`, if it is configured; `None` when it could not be fetched, which was told.
    pub fn get(&self, key: &str) -> Option<Option<SecretString>> {
        self.0.get(key).cloned()
    }
}

/// Looks at configuration, state folder and lock.
pub(super) async fn look(here: &Here, findings: &mut Findings) {
    let config = &here.config;
    let role = match &here.live {
        Some(_) if here.is_live() => "the live site",
        Some(_) => "the spare",
        None => "not live, nor is the other site",
    };
    let found = format!("system {}, profile {}; {} is {role}", config.system, config.profile.name, here.site.name);
    findings.ok("configuration", config.path.display().to_string(), found);
    if config.sources().is_empty() {
        let next = "Name databases, buckets or exports that the profile captures under both sites.";
        findings.failure("sources", config.system.clone(), "the profile captures none of them", next);
    }
    state_folder(here, findings).await;
}

async fn state_folder(here: &Here, findings: &mut Findings) {
    let folder = here.site.state.clone();
    let object = format!("state folder {}", folder.display());
    let site = here.clone();
    // Taking the lock shows that the folder can be made, entered and written.
    let taken = limit::blocking(&object, move || Ok::<_, HereError>(site.lock("warmspare check").map(drop))).await;
    match taken {
        Ok(Ok(())) => {}
        Ok(Err(busy @ HereError::Busy { .. })) => {
            let next = "Nothing, if it moves on; a capture or restore that is started now is refused.";
            findings.warning("lock", &object, Error::from(busy).to_string(), next);
        }
        Ok(Err(error)) => return findings.error("state folder", object, error),
        Err(error) => return findings.error("state folder", object, error),
    }
    let facts = std::fs::metadata(&folder).map_err(|source| HereError::State { path: folder.clone(), source });
    let Some(facts) = findings.value("state folder", &object, facts) else { return };
    let (owner, us, mode) = (facts.uid(), rustix::process::geteuid().as_raw(), facts.mode() & 0o777);
    if owner != us {
        let found =
            format!("it belongs to user {owner}, and this is user {us}: what is written now may be closed to it");
        findings.warning("state folder", &object, found, "Run warmspare as one user only, the owner of the folder.");
    } else if mode & 0o077 != 0 {
        let next = format!("Close it: chmod 700 {}", folder.display());
        findings.warning("state folder", &object, format!("others may look into it (mode {mode:03o})"), next);
    } else {
        findings.ok("state folder", &object, "writable, and closed to others");
    }
    space::judge_state(findings, &folder).await;
}

/// Looks at the keys this site needs: they are there, and they are the ones that are pinned. A test text is sealed to
/// whom everything is sealed, at the spare to its own identity and opened again: a plugin that lacks something says so now.
pub(super) async fn keys(here: &Here, findings: &mut Findings) {
    let key = "signing_key";
    let site = here.clone();
    let signing = limit::blocking(key, move || site.signing_key().map(|key| key.verifying_key())).await;
    if let Some(public) = findings.value("keys", key, signing) {
        findings.ok("keys", key, format!("{public}, as pinned"));
    }
    if here.is_live() {
        sealing(here, findings).await;
        return;
    }
    let key = "identity";
    let site = here.clone();
    let identity = limit::blocking(key, move || site.identity()).await;
    let Some(identity) = findings.value("keys", key, identity) else { return };
    if findings.value("keys", key, try_identity(&identity).await).is_some() {
        let recipient = identity.recipient();
        let whose = if recipient == here.site.recipient { "this site's" } else { "the escrow's" };
        findings.ok("keys", key, format!("of {recipient}, {whose}; a test text was opened with it"));
    }
}

async fn sealing(here: &Here, findings: &mut Findings) {
    let recipients = here.sealed_to();
    let object = format!("recipient of {} and {} of the escrow", here.other.name, recipients.len().saturating_sub(1));
    if findings.value("sealing", &object, try_recipients(&recipients).await).is_some() {
        findings.ok("sealing", object, "a test text was sealed to them");
    }
}

/// Fetches every secret this site refers to, so that the rest has them and a program that hangs holds up nothing.
pub(super) async fn secrets(here: &Here, findings: &mut Findings) -> Secrets {
    let mut fetched = BTreeMap::new();
    for (key, reference) in wanted(here) {
        let Some(reference) = reference else {
            fetched.insert(key, None);
            continue;
        };
        let (site, asked, name) = (here.clone(), reference.clone(), key.clone());
        let secret = limit::blocking(&key, move || site.resolve(&name, Some(&asked))).await;
        if let Some(secret) = findings.value("secret", &key, secret) {
            findings.ok("secret", key.clone(), format!("{reference} has one"));
            fetched.insert(key, secret);
        }
    }
    Secrets(fetched)
}

/// The references that are needed here. The live site writes into the other site's buckets.
fn wanted(here: &Here) -> Vec<(String, Option<Reference>)> {
    let databases = here.site.databases.values().map(|a| (database_key(&a.name), a.password.clone()));
    let buckets = here.site.buckets.values().map(|a| (bucket_key(&here.site.name, &a.name), a.credentials.clone()));
    let others = here.other.buckets.values().map(|a| (bucket_key(&here.other.name, &a.name), a.credentials.clone()));
    databases.chain(buckets).chain(others.filter(|_| here.is_live())).collect()
}

/// The key of a database's password, below the site.
pub(super) fn database_key(name: &str) -> String {
    format!("databases.{name}.password")
}

/// The key of a bucket's credentials.
pub(super) fn bucket_key(site: &str, name: &str) -> String {
    format!("sites.{site}.buckets.{name}.credentials")
}
