//! What must not be lost together must not lie together: the two sites and the vault, on disks and on S3 servers.
//!
//! Only what this host can see is compared: folders by the device they lie on, endpoints by their address.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Findings;
use super::limit::{self, LimitError};
use super::{buckets, vault};
use crate::config::address::{BucketUrl, Topology};
use crate::config::{Here, Site, WitnessAddress};

/// Something whose loss is one event, and whose it is.
struct Thing {
    owner: String,
    name: String,
}

/// Compares where things lie. `data` are the folders of this site's database servers, as far as they are on this host.
pub(super) async fn look(here: &Here, data: &[PathBuf], findings: &mut Findings) {
    let mut disks: BTreeMap<u64, Vec<Thing>> = BTreeMap::new();
    for (thing, folder) in things(here, data) {
        // What cannot be seen was told where it is used.
        let facts = limit::blocking(&thing.name, move || Ok::<_, LimitError>(std::fs::metadata(folder))).await;
        if let Ok(Ok(facts)) = facts {
            disks.entry(facts.dev()).or_default().push(thing);
        }
    }
    let mut apart = true;
    for things in disks.values() {
        if let Some(together) = together(things) {
            apart = false;
            let next = "Move one of them to another machine, at least to another disk.";
            findings.warning("apart", together, "lie on one disk: what takes it takes all of them", next);
        }
    }
    apart &= endpoints(here, findings);
    if apart {
        findings.ok("apart", "sites and vault", "share no disk and no S3 server, as far as this host can see");
    }
}

/// What of the sites and the vault is on this host.
fn things(here: &Here, data: &[PathBuf]) -> Vec<(Thing, PathBuf)> {
    let thing = |owner: &str, name: String, folder: &Path| (Thing { owner: owner.to_owned(), name }, folder.to_owned());
    let mut things = Vec::new();
    if let Some(folder) = vault::folder(&here.config.vault.url) {
        things.push(thing("the vault", format!("vault {}", folder.display()), folder));
    }
    let own = &here.site;
    for folder in data {
        things.push(thing(&own.name, format!("the database server of {} in {}", own.name, folder.display()), folder));
    }
    // The other site's folders are seen from the live site only, which writes into them.
    for site in [Some(own), here.is_live().then_some(&here.other)].into_iter().flatten() {
        // That both use the same one is meant, and told where the bucket is looked at.
        for address in site.buckets.values().filter(|address| address.topology != Topology::Shared) {
            if let BucketUrl::Folder(folder) = &address.url {
                things.push(thing(&site.name, buckets::object(site, address), folder));
            }
        }
    }
    things
}

/// The names of the things, if they are of more than one owner.
fn together(things: &[Thing]) -> Option<String> {
    let first = things.first()?;
    let shared = things.iter().any(|thing| thing.owner != first.owner);
    shared.then(|| things.iter().map(|thing| thing.name.as_str()).collect::<Vec<_>>().join("; "))
}

fn endpoints(here: &Here, findings: &mut Findings) -> bool {
    let mut apart = true;
    let of = |site: &Site| -> Vec<String> {
        site.buckets
            .values()
            .filter(|address| address.topology != Topology::Shared)
            .filter_map(|address| address.endpoint.as_deref().map(host))
            .collect()
    };
    let (own, theirs) = (of(&here.site), of(&here.other));
    if let Some(vault) = here.site.vault.endpoint.as_deref().map(host) {
        let sites = [(&here.site.name, &own), (&here.other.name, &theirs)];
        for (site, _) in sites.iter().filter(|(_, hosts)| hosts.contains(&vault)) {
            apart = false;
            let next = "Keep the vault on a server that holds no site's artifacts.";
            findings.warning(
                "apart",
                format!("S3 server {vault}"),
                format!("holds the vault and buckets of {site}"),
                next,
            );
        }
    }
    apart &= witness(here, &[own.as_slice(), theirs.as_slice()].concat(), findings);
    for host in own.iter().filter(|host| theirs.contains(host)) {
        apart = false;
        let found = format!("holds buckets of both {} and {}", here.site.name, here.other.name);
        let next = "Give each site an S3 server of its own: one that fails takes the artifacts of both.";
        findings.warning("apart", format!("S3 server {host}"), found, next);
    }
    apart
}

/// The witness decides when a site or the vault is lost: it must not be lost with it.
fn witness(here: &Here, of_sites: &[String], findings: &mut Findings) -> bool {
    let Some(WitnessAddress::Keys(witness)) = &here.site.witness else { return true };
    let Some(server) = witness.endpoint.as_deref().map(host) else { return true };
    let vault = here.site.vault.endpoint.as_deref().map(host);
    let holds = match (vault.as_ref() == Some(&server), of_sites.contains(&server)) {
        (true, _) => "holds the witness and the vault",
        (_, true) => "holds the witness and a site's buckets",
        (false, false) => return true,
    };
    let next = "Put the witness into a third place: when this server is lost, nobody may take over.";
    findings.warning("apart", format!("S3 server {server}"), holds, next);
    false
}

/// `https://10.1.0.6:9000/x` → `10.1.0.6:9000`.
fn host(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_things_of_different_owners_must_lie_apart() {
        let thing = |owner: &str, name: &str| Thing { owner: owner.to_owned(), name: name.to_owned() };
        assert_eq!(together(&[thing("ams", "a"), thing("ams", "b")]), None);
        assert_eq!(together(&[thing("ams", "a"), thing("the vault", "v")]), Some("a; v".to_owned()));
        assert_eq!(host("https://S3.example:9000/x"), "s3.example:9000");
        assert_eq!(host("10.1.0.6:9000"), "10.1.0.6:9000");
    }
}
