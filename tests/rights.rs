//! What the live site's credential, the spare's and the keeper's may do at a vault in a bucket with the policy that
//! `vault init` prints, on the two servers whose dialects lie furthest apart; and what `vault probe` finds where nobody set one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use warmspare::clock::SystemClock;
use warmspare::config::address::{VaultAddress, VaultUrl};
use warmspare::config::{Config, Here, RetentionConfig};
use warmspare::keygen;
use warmspare::point::{PruneRequest, prune};
use warmspare::store::{Create, Delete, Keys, Read, Replace, StoreError};
use warmspare::units::Percent;

use crate::support::ceph::{CREDENTIALS, Ceph, arn};
use crate::support::proxy::{Fault, Proxy};
use crate::support::sites::{Sites, shown};

const PREFIX: &str = "dr/app/";

/// Two sites, a bucket that keeps versions, three users and the policy.
struct Guarded {
    sites: Sites,
    ceph: Arc<Ceph>,
    bucket: String,
    live: String,
    spare: String,
    keeper: String,
}

impl Guarded {
    async fn new(ceph: Arc<Ceph>, bucket: String) -> Guarded {
        let sites = Sites::filled().await;
        let [live, spare, keeper] = ["live", "spare", "keeper"].map(|user| ceph.user(user));
        let url = format!("s3://{bucket}/{PREFIX}");
        sites.keep_vault_in(&url, ceph.endpoint(), &[("ams", &live, None), ("fra", &spare, Some(&keeper))]);
        let arns = ["live", "spare", "keeper"].map(arn);
        let [l, s, k] = &arns;
        let print = ["vault", "init", "--dry-run", "--live-arn", l, "--spare-arn", s, "--keeper-arn", k];
        ceph.set_policy(&bucket, &sites.run("ams", &print));
        Guarded { sites, ceph, bucket, live, spare, keeper }
    }

    fn keys(&self, credentials: &str) -> Keys {
        let url = VaultUrl::S3 { bucket: self.bucket.clone(), prefix: PREFIX.to_owned() };
        let endpoint = Some(self.ceph.endpoint().to_owned());
        let address = VaultAddress {
            url,
            endpoint,
            region: "us-east-1".to_owned(),
            ca_file: None,
            credentials: None,
            keeper: None,
        };
        Keys::open(&address, Some(SecretString::from(credentials))).unwrap()
    }

    async fn all(&self) -> Vec<String> {
        self.keys(CREDENTIALS).list("systems/").await.unwrap().into_iter().map(|listed| listed.key).collect()
    }

    /// The numbers of the points.
    async fn points(&self) -> Vec<u64> {
        let number = |key: String| key.split_once("/points/00000000-")?.1.strip_suffix(".json")?.parse().ok();
        self.all().await.into_iter().filter_map(number).collect()
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Denied { .. })), "{what}: {answer:?}");
}

fn is_sealed(key: &str) -> bool {
    key.contains("/packs/") || key.contains("/secrets-") || key.ends_with(".body.age")
}

/// The live site's own work, and everything else that somebody might try who has stolen its credential.
async fn live_creates_and_reads_clear_records_only(vault: &Guarded) {
    let sites = &vault.sites;
    sites.run("ams", &["vault", "init"]);
    sites.run("ams", &["capture"]);
    sites.run("ams", &["capture"]);
    assert_eq!(sites.points("ams").len(), 2);

    let probe: serde_json::Value = serde_json::from_str(&sites.run("ams", &["vault", "probe", "--json"])).unwrap();
    assert_eq!(probe["found"]["protection"], "versions", "{probe:#}");
    for rights in probe["found"]["rights"].as_array().unwrap() {
        let is_clear = ["record", "status"].contains(&rights["kind"].as_str().unwrap());
        assert_eq!(rights["create"], "yes", "{rights}");
        assert_eq!(rights["read"], if is_clear { "yes" } else { "no" }, "{rights}");
        assert_eq!((&rights["delete"], &rights["purge"]), (&"no".into(), &"no".into()), "{rights}");
        assert_eq!(rights["overwrite"], "harmless", "{rights}");
    }

    // The bucket's owner may not read what others put there; the spare may.
    let (live, spare) = (vault.keys(&vault.live), vault.keys(&vault.spare));
    let all = vault.all().await;
    for kind in ["/packs/", "/secrets-0.age", ".body.age", "/epoch.json", "/points/"] {
        assert!(all.iter().any(|key| key.contains(kind)), "{kind} in {all:?}");
    }
    for prefix in
        ["", "systems/", "systems/app/", "systems/app/epochs/", "systems/app/epochs/00000000-000001/packs/", "probe/"]
    {
        refused(prefix, live.list(prefix).await);
    }
    for key in &all {
        match is_sealed(key) {
            true => {
                refused(key, live.get(key).await);
                refused(key, live.get_newest(key, 1 << 30).await);
            }
            false => drop(live.get(key).await.unwrap()),
        }
        refused(key, live.delete(key).await);
        // Nothing can forbid a PUT over a key that is there without forbidding to create it: readers are what is safe.
        if !key.contains("/status/") {
            let before = spare.get(key).await.unwrap();
            live.replace(key, "forged".into()).await.unwrap();
            assert!(spare.get(key).await.unwrap() == before, "{key}");
        }
    }
    for key in ["systems/app/status/fra.json", "gc/00000001.json", "systems/app/epochs/00000000-000001/sealed.json"] {
        refused(key, live.replace(key, "forged".into()).await);
        refused(key, live.create(key, "forged".into()).await.map(drop));
    }
    // The rules themselves.
    for setting in ["policy=", "versioning=", "lifecycle="] {
        let code = vault.ceph.status_of(&vault.live, "PUT", &format!("{}?{setting}", vault.bucket), "{}");
        assert_eq!(code, "403", "{setting}");
    }
    assert_eq!(vault.ceph.status_of(&vault.live, "DELETE", &format!("{}?policy=", vault.bucket), ""), "403");
    assert_eq!(sites.points("ams").len(), 2, "and all of it is as it was");
}

async fn spare_restores_and_keeper_deletes(vault: &Guarded) {
    let sites = &vault.sites;
    sites.run("fra", &["restore"]);
    let points = sites.points("fra");
    assert_eq!(points[1]["proofs"][0]["verdict"], "equal", "{points:?}");
    let status = vault.keys(&vault.live).get_newest("systems/app/status/fra.json", 1 << 16).await.unwrap();
    assert!(String::from_utf8_lossy(&status).contains("\"newest_proven\":\"0-4\""), "{status:?}");
    sites.run("fra", &["vault", "probe"]);

    let (spare, keeper, owner) = (vault.keys(&vault.spare), vault.keys(&vault.keeper), vault.keys(CREDENTIALS));
    let all = vault.all().await;
    let pack = all.iter().find(|key| key.contains("/packs/")).unwrap();
    refused("delete", spare.delete(pack).await);
    refused("pack", spare.create("systems/app/epochs/00000000-000001/packs/00/new.age", "x".into()).await);
    refused("point", spare.replace("systems/app/points/00000000-00000001.json", "forged".into()).await);
    refused("a point of the keeper", keeper.create("systems/app/points/00000000-00000009.json", "x".into()).await);
    keeper.delete(pack).await.unwrap();
    assert!(!owner.exists(pack).await.unwrap(), "all its versions are gone");

    let output = sites.command("fra", ["vault", "probe", "--keeper", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(probe["found"]["left"], serde_json::json!([]), "the keeper removes what it tried on: {probe:#}");
}

/// What the spare does on its other days: it looks after the vault, holds points, seals the secrets anew, and its keeper
/// removes what has expired, each with the credential the policy names for it.
async fn spare_watches_holds_rekeys_and_prunes(vault: &Guarded) {
    let sites = &vault.sites;
    sites.run("ams", &["capture"]);
    sites.run("ams", &["verify"]);
    sites.run("fra", &["verify", "--all"]);

    let escrow = keygen::escrow(&sites.path().join("second.txt"), &SystemClock).unwrap();
    sites.edit_configuration("escrow = [", &format!("escrow = [\"{}\", ", escrow.recipient));
    sites.run("fra", &["vault", "rekey"]);
    let secrets = vault.all().await.into_iter().filter(|key| key.contains("/secrets-")).collect::<Vec<_>>();
    assert!(secrets.len() == 2 && secrets[1].ends_with("/secrets-1.age"), "{secrets:?}");
    refused("the new secrets", vault.keys(&vault.live).get(&secrets[1]).await);

    let mut config = Config::load(&sites.configuration()).unwrap();
    // No file may ask for so little: points of one minute could not expire.
    let none = RetentionConfig {
        within: Duration::ZERO,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        share_max: Percent(100),
        hide_after: Duration::ZERO,
    };
    config.retention = none;
    let here = Here::new(config, "fra").unwrap();
    for site in ["ams", "fra"] {
        sites.run(site, &["points", "hold", "0-1", "--why", "an audit"]);
    }
    let pass = prune(&here, PruneRequest::default(), &SystemClock).await.unwrap();
    assert!(pass.pass == Some(1) && pass.alarms.is_empty(), "{pass:#?}");
    assert_eq!(vault.points().await, [1, 3], "one is held, three is the newest");
    for site in ["ams", "fra"] {
        sites.run(site, &["points", "release", "0-1", "--why", "the audit is over"]);
    }
    let pass = prune(&here, PruneRequest::default(), &SystemClock).await.unwrap();
    assert!(pass.pass == Some(2) && pass.alarms.is_empty(), "{pass:#?}");
    assert_eq!(vault.points().await, [3]);
    assert!(!vault.all().await.iter().any(|key| key.contains("/holds/")));
    sites.run("ams", &["capture"]);
    for site in ["ams", "fra"] {
        assert_eq!(sites.points(site).len(), 2, "at {site} the gap is explained");
    }
    sites.run("fra", &["verify", "--all"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ceph_16_each_credential_does_its_work_and_no_more() {
    let ceph = Ceph::shared();
    let bucket = ceph.versioned_bucket();
    let vault = Guarded::new(ceph, bucket).await;
    live_creates_and_reads_clear_records_only(&vault).await;
    spare_watches_holds_rekeys_and_prunes(&vault).await;
    spare_restores_and_keeper_deletes(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_newest_ceph_each_credential_does_its_work_and_no_more() {
    let ceph = Ceph::newest();
    let bucket = ceph.versioned_bucket();
    let vault = Guarded::new(ceph, bucket).await;
    live_creates_and_reads_clear_records_only(&vault).await;
    spare_watches_holds_rekeys_and_prunes(&vault).await;
    spare_restores_and_keeper_deletes(&vault).await;
}

/// A vault's probe with a credential that may do everything.
async fn probed(endpoint: &str, bucket: &str) -> warmspare::store::StoreProbe {
    let url = VaultUrl::S3 { bucket: bucket.to_owned(), prefix: PREFIX.to_owned() };
    let (endpoint, region) = (Some(endpoint.to_owned()), "us-east-1".to_owned());
    let address = VaultAddress { url, endpoint, region, ca_file: None, credentials: None, keeper: None };
    let keys = Keys::open(&address, Some(SecretString::from(CREDENTIALS))).unwrap();
    let found = warmspare::store::probe::probe(&keys, &warmspare::vault::canaries("app", "ams")).await.unwrap();
    // Once more, over what the first may have left.
    let again = warmspare::store::probe::probe(&keys, &warmspare::vault::canaries("app", "ams")).await.unwrap();
    assert_eq!(again, found, "a second probe finds the same");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_finds_what_a_store_enforces_and_what_it_ignores() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let plain = probed(ceph.endpoint(), &ceph.bucket()).await;
        assert_eq!((plain.protection.word(), plain.create_only), ("nothing", Some(true)), "{plain:#?}");
        assert_eq!((plain.left.as_slice(), plain.etag.as_deref()), (&[][..], Some("md5")), "{plain:#?}");

        let versioned = probed(ceph.endpoint(), &ceph.versioned_bucket()).await;
        assert_eq!(
            (versioned.protection.word(), versioned.versions.word()),
            ("nothing", "kept"),
            "its owner may purge"
        );
        assert!(versioned.sentence().contains("wrong for a site"), "{}", versioned.sentence());

        let locked = probed(ceph.endpoint(), &ceph.locked_bucket()).await;
        assert_eq!(locked.protection.word(), "lock", "{locked:#?}");
        let retention = locked.retention.as_ref().map(|retention| (retention.mode.as_str(), retention.days));
        assert_eq!((retention, locked.left.len()), (Some(("compliance", 1)), 5), "{locked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_finds_a_store_that_takes_conditions_and_ignores_them() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    crate::keys::open_to_all(&ceph, &name);
    let liar = Proxy::start(ceph.endpoint(), Fault::IgnoresConditions).await;
    let found = probed(liar.endpoint(), &name).await;
    assert_eq!((found.protection.word(), found.create_only), ("nothing", Some(false)), "{found:#?}");
    assert!(found.sentence().contains("ignores the condition of a create"), "{}", found.sentence());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_nothing_protects_is_made_and_said_to_be_that() {
    let sites = Sites::empty().await;
    std::fs::remove_dir(sites.vault()).unwrap();
    let dry = sites.command("ams", ["vault", "init", "--dry-run"]).output().unwrap();
    assert!(dry.status.success() && !sites.vault().exists(), "{}", shown(&dry));
    let made = sites.command("ams", ["vault", "init"]).output().unwrap();
    assert!(made.status.success() && sites.vault().join("vault.json").exists(), "{}", shown(&made));
    assert!(sites.words(&made).contains("protection of SITES/vault as ams sees it: nothing"), "{}", shown(&made));
    let again = sites.command("ams", ["vault", "init"]).output().unwrap();
    assert!(sites.words(&again).contains("was a vault already"), "{}", shown(&again));
    let words = sites.refused("ams", &["vault", "probe"], 4);
    assert!(words.contains("Whoever holds this credential can change or remove every recovery point"), "{words}");
    assert!(!sites.vault().join("probe").exists() || std::fs::read_dir(sites.vault().join("probe")).is_ok());
    assert!(sites.state("ams").join("vault/probe.json").exists());
    let status = std::fs::read_to_string(sites.vault().join("systems/app/status/ams.json")).unwrap();
    assert!(status.contains("\"protection\":\"nothing\""), "{status}");
}
