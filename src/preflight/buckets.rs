//! The artifact buckets: they answer and can be listed, and the live site may write into the other site's. Nothing is
//! ever written into a live bucket.

use futures_util::StreamExt;
use jiff::Timestamp;

use super::Telling;
use super::abilities::{self, Trial, Tried};
use super::finding::Findings;
use super::limit::{self, ANSWER_MAX, LimitError, within};
use super::site::{Secrets, bucket_key};
use super::space;
use super::vault::Seen;
use crate::clock::Clock;
use crate::config::address::{BucketAddress, BucketUrl, Topology};
use crate::config::{Here, Site, SourceKind};
use crate::error::Error;
use crate::mirror::attic::{Attic, Protection, can_make};
use crate::store::{Bucket, StoreError, TriedBy};

const ABOUT: &str = "bucket";
/// `f_type` of `statfs(2)`: NFS, CIFS, SMB 2, Ceph, 9p, FUSE.
const NETWORK: [u64; 6] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997, 0x6573_5546];

/// What is looked at, and with what.
pub(super) struct Look<'a> {
    pub here: &'a Here,
    pub clock: &'a dyn Clock,
    pub secrets: &'a Secrets,
    pub seen: Option<&'a Seen>,
    pub telling: Telling,
}

impl Look<'_> {
    /// Looks at the buckets this site uses; what they can do comes back.
    pub async fn run(&self, findings: &mut Findings) -> Vec<Tried> {
        let mut tried = Vec::new();
        for address in self.here.site.buckets.values() {
            tried.extend(self.own(address, findings).await);
        }
        // The other site's way to a bucket that both share is its own to check.
        let others = self.here.other.buckets.values().filter(|address| address.topology != Topology::Shared);
        for address in others.filter(|_| self.here.is_live()) {
            tried.extend(self.other(address, findings).await);
        }
        tried
    }

    async fn own(&self, address: &BucketAddress, findings: &mut Findings) -> Option<Tried> {
        let (here, object) = (self.here, object(&self.here.site, address));
        let listed = listed(&here.site, address, self.secrets, &object, findings).await;
        if let Some(listed) = &listed {
            findings.ok(ABOUT, &object, listed.words);
        }
        if address.topology == Topology::Shared {
            shared(here, address, &object, findings).await;
        }
        self.tried(&here.site, address, &listed?.bucket, TriedBy::Reading, &object, findings).await
    }

    async fn other(&self, address: &BucketAddress, findings: &mut Findings) -> Option<Tried> {
        let (here, object) = (self.here, object(&self.here.other, address));
        let listed = listed(&here.other, address, self.secrets, &object, findings).await?;
        if address.topology == Topology::External {
            findings.ok(ABOUT, &object, format!("{}; its store replicates it, nothing is written there", listed.words));
            return self.tried(&here.other, address, &listed.bucket, TriedBy::Reading, &object, findings).await;
        }
        let tried = within(ANSWER_MAX, &object, listed.bucket.check_writable()).await;
        let is_writable = findings.value(ABOUT, &object, tried).is_some();
        if is_writable {
            findings.ok(ABOUT, &object, format!("{}, and takes objects", listed.words));
        }
        kept(address, self.secrets, &here.other, &listed.bucket, &object, findings).await;
        if let BucketUrl::Folder(folder) = &address.url {
            space::judge(findings, &object, folder, growth(self.seen, &address.name), "the last point copied").await;
        }
        let by = if is_writable && self.telling == Telling::Say { TriedBy::Writing } else { TriedBy::Reading };
        let tried = self.tried(&here.other, address, &listed.bucket, by, &object, findings).await;
        // What cannot be opened was told when it was listed.
        if let Some(own) = here.site.buckets.get(&address.name)
            && let Ok(own) = Bucket::open(own, self.secrets.get(&bucket_key(&here.site.name, &own.name)).flatten())
        {
            abilities::losses(&own, &listed.bucket, tried.as_ref(), &object, findings);
        }
        tried
    }

    async fn tried(
        &self,
        site: &Site,
        address: &BucketAddress,
        bucket: &Bucket,
        by: TriedBy,
        object: &str,
        findings: &mut Findings,
    ) -> Option<Tried> {
        let credential = self.secrets.get(&bucket_key(&site.name, &address.name))?;
        let keeps_notes = self.telling == Telling::Say;
        let trial = Trial { here: self.here, clock: self.clock, site, address, by, keeps_notes };
        trial.run(bucket, credential.as_ref(), object, findings).await
    }
}

/// What an operator has to know of a bucket that both sites use.
async fn shared(here: &Here, address: &BucketAddress, object: &str, findings: &mut Findings) {
    let next = format!(
        "Nothing here fences it yet: before one site becomes live, take the right to write there from the other one's application \
         (its credential, its export or mount) by hand. Keep versions or snapshots of it where neither site can remove them; \
         topology = \"mirror\" gives {} a copy of its own.",
        here.other.name
    );
    let found = "both sites use it: there is no second copy, and both can write to it";
    findings.warning(ABOUT, object, found, next);
    let BucketUrl::Folder(folder) = &address.url else { return };
    let asked = folder.clone();
    let answer = limit::blocking(object, move || Ok::<_, LimitError>(rustix::fs::statfs(&asked))).await;
    // What cannot be asked was told when it was listed.
    if let Ok(Ok(facts)) = answer {
        late(u64::try_from(facts.f_type).unwrap_or_default(), object, findings);
    }
}

/// What the other site's writes are like on a file system of that type.
fn late(f_type: u64, object: &str, findings: &mut Findings) {
    if !NETWORK.contains(&f_type) {
        return;
    }
    let next = "Mount it `hard`, with `sync` or `actimeo=0` where the application must see the other site's writes at once, and \
                expect that a server that hangs stops both sites.";
    let found =
        "it lies on a network file system: what one client wrote another may see late, and times are the server's";
    findings.warning(ABOUT, object, found, next);
}

/// Whether what captures overwrite in it stays reachable: without that, earlier points cannot be rebuilt.
async fn kept(
    address: &BucketAddress,
    secrets: &Secrets,
    site: &Site,
    bucket: &Bucket,
    object: &str,
    findings: &mut Findings,
) {
    let credentials = secrets.get(&bucket_key(&site.name, &address.name)).flatten();
    let work = async {
        let place = match (address.attic_address(), &address.url) {
            // The folder is made by the first capture.
            (Some(BucketAddress { url: BucketUrl::Folder(folder), .. }), BucketUrl::Folder(mirrored))
                if address.attic.is_none() && !folder.is_dir() =>
            {
                let made = can_make(&folder, mirrored);
                return Ok(if made { Protection::Attic } else { Protection::Nothing });
            }
            (attic, _) => attic.map(|attic| Bucket::open(&attic, credentials)).transpose()?,
        };
        let attic = Attic::open(bucket, place, Timestamp::UNIX_EPOCH).await?;
        if let Some(place) = attic.place() {
            place.check_writable().await?;
        }
        Ok::<_, StoreError>(attic.protection())
    };
    let protection: Result<Protection, Error> = within(ANSWER_MAX, object, work).await;
    match findings.value(ABOUT, object, protection) {
        Some(Protection::Versions) => findings.ok(ABOUT, object, "keeps versions of what is overwritten and hidden"),
        Some(Protection::Attic) => findings.ok(ABOUT, object, "what is overwritten and hidden goes into its attic"),
        Some(Protection::Nothing) => findings.warning(
            ABOUT,
            object,
            "keeps no versions and has no attic: what a capture overwrites is lost, earlier points cannot be rebuilt, and what \
             the live site deletes is never hidden",
            "Switch versioning on, or name a place on that server for it: attic = \"s3://OTHER\", or a folder on that disk (one \
             that is a mount of its own, or beside which nothing may be written, has none by itself).",
        ),
        None => {}
    }
}

/// `bucket.artifacts of fra, s3://artifacts at https://…`
pub(super) fn object(site: &Site, address: &BucketAddress) -> String {
    format!("{}.{} of {}, {}", SourceKind::Bucket.as_str(), address.name, site.name, address.url)
}

struct Listed {
    bucket: Bucket,
    words: &'static str,
}

/// Opens the bucket and lists what comes first in it.
async fn listed(
    site: &Site,
    address: &BucketAddress,
    secrets: &Secrets,
    object: &str,
    findings: &mut Findings,
) -> Option<Listed> {
    let credentials = secrets.get(&bucket_key(&site.name, &address.name))?;
    if let BucketUrl::Folder(folder) = &address.url {
        findings.value(ABOUT, object, limit::folder_answers(object, folder).await)?;
    }
    let work = async {
        let bucket = Bucket::open(address, credentials)?;
        let first = bucket.list(None).next().await.transpose()?;
        let words = if first.is_some() { "can be listed" } else { "can be listed; it is empty" };
        Ok::<_, StoreError>(Listed { bucket, words })
    };
    let done: Result<Listed, Error> = within(ANSWER_MAX, object, work).await;
    findings.value(ABOUT, object, done)
}

/// The bytes the newest point's passes copied into the bucket.
fn growth(seen: Option<&Seen>, name: &str) -> u64 {
    let newest = seen.and_then(Seen::newest);
    let header = newest.and_then(|point| {
        point.headers.iter().find(|(source, _, _)| source.kind == SourceKind::Bucket && source.name == name)
    });
    header.and_then(|(_, _, header)| header.facts.get("copied_bytes")?.as_u64()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    /// What is told of a bucket on a file system of that type.
    fn told(f_type: u64) -> Vec<String> {
        let mut findings = Findings::default();
        late(f_type, "bucket.artifacts", &mut findings);
        let told = findings.into_list().into_iter().map(|finding| {
            assert_eq!(
                (finding.level, finding.about, finding.object.as_str()),
                (Level::Warning, ABOUT, "bucket.artifacts")
            );
            format!("{}\n{}", finding.found, finding.next.unwrap())
        });
        told.collect()
    }

    #[test]
    fn a_shared_bucket_on_nfs_is_warned_of_and_one_on_a_disk_is_not() {
        let said = "it lies on a network file system: what one client wrote another may see late, and times are the server's\n\
                    Mount it `hard`, with `sync` or `actimeo=0` where the application must see the other site's writes at once, \
                    and expect that a server that hangs stops both sites.";
        assert_eq!(told(u64::try_from(rustix::fs::NFS_SUPER_MAGIC).unwrap()), [said]);
        // CIFS and SMB 2, whose numbers have the sign's bit; Ceph, 9p, FUSE.
        for network in [0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997, 0x6573_5546] {
            assert_eq!(told(network), [said], "{network:#x}");
        }
        // ext4, XFS, Btrfs, ZFS, tmpfs, overlayfs.
        for disk in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630] {
            assert_eq!(told(disk), [""; 0], "{disk:#x}");
        }
    }
}
