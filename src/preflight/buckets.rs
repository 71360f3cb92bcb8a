//! The artifact buckets: they answer and can be listed, and the live site may write into the other site's. Nothing is
//! ever written into a live bucket.

use futures_util::StreamExt;

use super::finding::Findings;
use super::limit::{self, ANSWER_MAX, within};
use super::site::{Secrets, bucket_key};
use super::space;
use super::vault::Seen;
use crate::config::address::{BucketAddress, BucketUrl};
use crate::config::{Here, Site, SourceKind};
use crate::error::Error;
use crate::store::{Bucket, StoreError};

const ABOUT: &str = "bucket";

/// Looks at the buckets this site uses.
pub(super) async fn look(here: &Here, secrets: &Secrets, seen: Option<&Seen>, findings: &mut Findings) {
    for address in here.site.buckets.values() {
        let object = object(&here.site, address);
        if let Some(listed) = listed(&here.site, address, secrets, &object, findings).await {
            findings.ok(ABOUT, object, listed.words);
        }
    }
    for address in here.other.buckets.values().filter(|_| here.is_live()) {
        let object = object(&here.other, address);
        let Some(listed) = listed(&here.other, address, secrets, &object, findings).await else { continue };
        let tried = within(ANSWER_MAX, &object, listed.bucket.check_writable()).await;
        if findings.value(ABOUT, &object, tried).is_some() {
            findings.ok(ABOUT, &object, format!("{}, and takes objects", listed.words));
        }
        if let BucketUrl::Folder(folder) = &address.url {
            space::judge(findings, &object, folder, growth(seen, &address.name), "the last point copied").await;
        }
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
