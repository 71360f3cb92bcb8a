//! Leave to write that ends: no request starts whose time does not fit, and what was not confirmed is in no manifest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use warmspare::clock::{Clock, SystemClock};
use warmspare::config::{Config, Here};
use warmspare::error::{Class, Explain};
use warmspare::mirror::attic::Attic;
use warmspare::mirror::{self, MirrorError, Pass, PassOptions, Sides};
use warmspare::observe::Progress;
use warmspare::permit::{Grant, Permit};
use warmspare::point;
use warmspare::store::{Bucket, Create, Delete, Keys, Read, ReadOnly, Replace, StoreError};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{self, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::proxy::{Fault, Proxy};

const REQUEST_MAX: Duration = Duration::from_millis(700);

fn permit() -> (Grant, Permit) {
    permit_of(REQUEST_MAX)
}

fn permit_of(request_max: Duration) -> (Grant, Permit) {
    Permit::limited(Arc::new(SystemClock), request_max)
}

fn after(duration: Duration) -> Duration {
    SystemClock.boot() + duration
}

/// A live folder, and a spare bucket with its attic behind a proxy.
struct System {
    source: tempfile::TempDir,
    state: tempfile::TempDir,
    ceph: Arc<Ceph>,
    proxy: Proxy,
    spare: String,
    attic: String,
}

impl System {
    async fn new(delay: Duration) -> System {
        let ceph = Ceph::shared();
        let proxy = Proxy::start(ceph.endpoint(), Fault::DelaysReplies(delay)).await;
        let [source, state] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (spare, attic) = (ceph.bucket(), ceph.bucket());
        System { source, state, ceph, proxy, spare, attic }
    }

    fn write(&self, key: &str, content: &[u8]) {
        fs::write(self.source.path().join(key), content).unwrap();
    }

    async fn pass(&self, permit: &Permit) -> Result<Pass, MirrorError> {
        let open = |bucket| s3(self.proxy.endpoint(), bucket, "", Some(CREDENTIALS)).under(permit);
        let (target, source) = (open(&self.spare), ReadOnly::new(buckets::folder(self.source.path())));
        let attic = Attic::open(&target, Some(open(&self.attic)), SystemClock.now()).await.unwrap();
        let sides = Sides { source: &source, canary: None, target: &target, attic: &attic };
        let options = PassOptions::default();
        mirror::follow(&sides, self.state.path(), &options, &SystemClock, &Progress::silent()).boxed().await
    }

    /// What the spare has, asked without the proxy and its permit.
    async fn spare(&self) -> BTreeMap<String, Bytes> {
        buckets::contents(&s3(self.ceph.endpoint(), &self.spare, "", Some(CREDENTIALS))).await
    }

    /// Every row of the manifest, and of the pass that did not end, is of what the spare has.
    async fn check_manifest(&self) -> usize {
        let (spare, mut rows) = (self.spare().await, 0);
        for name in ["manifest", "manifest.next"] {
            let text = fs::read_to_string(self.state.path().join(name)).unwrap_or_default();
            for line in text.lines().skip(1).filter(|line| !line.starts_with("end\t")) {
                let fields: Vec<&str> = line.split('\t').collect();
                // What the spare got since is newer than the manifest of before; the pass that did not end wrote its row or none.
                let found = spare.get(fields[0]).map(|content| blake3::hash(content).to_hex().to_string());
                let is_overwritten = name == "manifest" && found.as_deref() != Some(fields[4]);
                assert!(is_overwritten || found.as_deref() == Some(fields[4]), "{name}: {line}");
                rows += usize::from(!is_overwritten);
            }
        }
        rows
    }
}

/// Numbers that look random and are the same every time.
fn numbers(seed: u8) -> impl Iterator<Item = u64> {
    noise(seed, 64).to_vec().into_iter().map(u64::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_starts_after_the_permit_was_withdrawn_wherever_the_pass_is() {
    let system = System::new(Duration::from_millis(5)).await;
    for n in 0..60_u8 {
        system.write(&format!("small-{n:02}"), &[n; 100]);
    }
    system.write("large", &noise(1, 20 << 20));
    system.write("large-copy", &noise(1, 20 << 20));
    for (round, number) in numbers(7).take(6).enumerate() {
        let (grant, permit) = permit_of(Duration::from_secs(10));
        grant.until(after(Duration::from_secs(60)));
        let pass = system.pass(&permit);
        let withdrawing = async {
            tokio::time::sleep(Duration::from_millis(40 + number * 2)).await;
            grant.withdraw();
            Instant::now()
        };
        let (pass, withdrawn) = tokio::join!(pass, withdrawing);
        if let Err(error) = pass {
            assert_eq!(error.class(), Class::Incomplete, "round {round}: {error}");
            assert!(matches!(error, MirrorError::Store(StoreError::Withdrawn { .. })), "round {round}: {error:?}");
        }
        // What was on its way to the proxy then is not late.
        let mut writes = system.proxy.writes();
        writes.retain(|write| write.began.saturating_duration_since(withdrawn) > Duration::from_millis(250));
        assert!(writes.is_empty(), "round {round}: {writes:?}");
        system.check_manifest().await;
        // Each round finds something to overwrite, and the attic something to keep.
        for n in 0..10_u8 {
            system.write(&format!("small-{n:02}"), format!("round {round} object {n}").as_bytes());
        }
    }
    let pass = system.pass(&Permit::unlimited()).await.unwrap();
    pass.complete().unwrap();
    assert_eq!(system.check_manifest().await, 62);
    assert_eq!(system.spare().await, buckets::contents(&buckets::folder(system.source.path())).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_time_does_not_fit_does_not_start_and_those_started_are_over_in_time() {
    // The server answers each write only after a third of what a request may take.
    let system = System::new(REQUEST_MAX / 3).await;
    for n in 0..200_u8 {
        system.write(&format!("small-{n:03}"), &[n; 100]);
    }
    let (grant, permit) = permit();
    let (begun, length) = (Instant::now(), Duration::from_secs(3));
    grant.until(after(length));
    let error = system.pass(&permit).await.unwrap_err();
    assert!(error.to_string().contains("this site may not write now"), "{error}");
    check_times(&system.proxy, begun, length).await;
    let rows = system.check_manifest().await;
    assert!(rows > 0 && rows < 200, "{rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_answered_in_time_is_given_up_and_not_taken_for_done() {
    let system = System::new(Duration::from_secs(20)).await;
    system.write("only", b"only");
    let (grant, permit) = permit();
    let (begun, length) = (Instant::now(), Duration::from_secs(3));
    grant.until(after(length));
    let error = system.pass(&permit).await.unwrap_err();
    check_times(&system.proxy, begun, length).await;
    assert_eq!(system.check_manifest().await, 0, "{error}");
    // Each attempt was a request of its own, and had its leave.
    assert!(system.proxy.writes().len() > 1, "{:?}", system.proxy.writes());
}

/// Every write began so early that it was over in time, and was.
async fn check_times(proxy: &Proxy, begun: Instant, length: Duration) {
    // The proxy sees a moment later that a client has closed.
    while begun.elapsed() < length && proxy.writes().iter().any(|write| write.ended.is_none()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (writes, slack) = (proxy.writes(), Duration::from_millis(300));
    for write in &writes {
        assert!(write.began <= begun + length - REQUEST_MAX + slack, "{write:?}, begun {begun:?}");
        assert!(write.ended.is_some_and(|ended| ended <= begun + length + slack), "{write:?}, begun {begun:?}");
    }
}

async fn refused(keys: &Keys) {
    let (grant, permit) = permit();
    let under = keys.under(&permit);
    let is_withdrawn = |done: Result<(), StoreError>| matches!(done, Err(StoreError::Withdrawn { .. }));
    assert!(is_withdrawn(under.create("a", "1".into()).await.map(drop)));
    assert!(is_withdrawn(under.replace("a", "1".into()).await));
    assert!(!under.exists("a").await.unwrap());
    grant.until(after(Duration::from_secs(60)));
    under.create("a", "1".into()).await.unwrap();
    under.replace("b", "2".into()).await.unwrap();
    grant.withdraw();
    assert!(is_withdrawn(under.delete("a").await));
    assert_eq!(under.get("a").await.unwrap(), "1");
    assert_eq!(under.list("").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_files_are_written_only_with_leave() {
    let folder = tempfile::tempdir().unwrap();
    refused(&Keys::folder(folder.path()).unwrap()).await;
    let ceph = Ceph::shared();
    let address = warmspare::config::address::VaultAddress {
        url: warmspare::config::address::VaultUrl::S3 { bucket: ceph.bucket(), prefix: String::new() },
        endpoint: Some(ceph.endpoint().to_owned()),
        region: "us-east-1".to_owned(),
        ca_file: None,
        credentials: None,
        keeper: None,
    };
    refused(&Keys::open(&address, Some(CREDENTIALS.into())).unwrap()).await;

    let place = tempfile::tempdir().unwrap();
    let (grant, permit) = permit();
    let bucket: Bucket = buckets::folder(place.path()).under(&permit);
    assert!(put(&bucket, "a", "1").await.is_err());
    grant.until(after(Duration::from_secs(60)));
    put(&bucket, "a", "1").await.unwrap();
    // Withdrawn while the body is on its way: nothing becomes visible.
    let body = async_body(grant);
    let written = bucket.write("b", &warmspare::store::Attributes::default(), 2, body).await;
    assert!(written.unwrap_err().to_string().contains("this site may not write now"));
    assert_eq!(plain(place.path()), ["a"]);
}

/// Two bytes; between them the grant is gone.
fn async_body(grant: Grant) -> warmspare::store::Body {
    let blocks = futures_util::stream::unfold((0, Some(grant)), |(n, grant)| async move {
        let grant = if n == 1 { None } else { grant };
        (n < 2).then(|| (Ok(Bytes::from_static(b"x")), (n + 1, grant)))
    });
    futures_util::StreamExt::boxed(blocks)
}

fn plain(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".warmspare-tmp").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_without_leave_takes_no_point_and_says_which_site_to_look_at() {
    let sites = BucketSites::folders();
    sites.put("a", b"1");
    let here = |permit| Here::new(Config::load(&sites.configuration()).unwrap(), "ams").unwrap().under(permit);
    let (grant, permit) = permit();
    let take = |here: Here| async move { point::take(&here, Arc::new(SystemClock), &Progress::silent()).await };
    let error = take(here(permit.clone())).boxed_local().await.unwrap_err();
    assert_eq!(error.class(), Class::Incomplete, "{error}");
    assert!(error.next_step().unwrap().contains("Find out which site is live now"), "{error}");
    assert!(fs::read_dir(sites.path().join("vault")).unwrap().next().is_none(), "{error}");
    grant.until(after(Duration::from_secs(60)));
    take(here(permit.clone())).boxed_local().await.unwrap();
    drop(grant);
    assert!(take(here(permit)).boxed_local().await.is_err());
    assert_eq!(sites.json("fra", &["points"], 0)["points"].as_array().map_or(1, Vec::len), 1);
}
