//! The digests that the application knows its artifacts by: in the manifest, and held against the keys that name them.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use warmspare::clock::FixedClock;
use warmspare::config::{DigestAlgorithm, DigestRule, KeyPattern};
use warmspare::mirror::{self, MirrorError, Pass, PassOptions, PlannedWhy};
use warmspare::observe::Progress;
use warmspare::store::{Bucket, ReadOnly};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{folder, noise, published, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

fn rule(algorithm: DigestAlgorithm, keys: Option<&str>) -> Option<DigestRule> {
    Some(DigestRule { algorithm, keys: keys.map(|keys| KeyPattern::parse(keys).unwrap()) })
}

fn registry() -> Option<DigestRule> {
    rule(DigestAlgorithm::Sha256, Some("**/sha256/??/{digest}"))
}

fn options(digest: Option<DigestRule>) -> PassOptions {
    PassOptions { digest, ..PassOptions::default() }
}

/// An hour later than everything was written.
fn later() -> FixedClock {
    FixedClock(Timestamp::now() + SignedDuration::from_hours(1))
}

async fn pass(live: &Bucket, spare: &Bucket, state: &Path, digest: Option<DigestRule>) -> Pass {
    let source = ReadOnly::new(live.clone());
    mirror::pass(&source, spare, state, &options(digest), &later(), &Progress::silent()).await.unwrap()
}

/// What the machine's own program says.
fn sum(program: &str, content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let words: Vec<&str> = program.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn digests(state: &Path) -> Vec<(String, Option<String>)> {
    published(state).into_iter().map(|row| (row.key, row.digest.map(|digest| digest.to_string()))).collect()
}

fn layer(content: &[u8]) -> String {
    let hex = sum("sha256sum", content);
    format!("registry/sha256/{}/{hex}", &hex[..2])
}

/// From a registry whose keys are named by what is in them.
async fn tells_what_is_not_what_its_key_says(live: Bucket, spare: Bucket) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let (good, large, other) = (noise(1, 70_000), noise(2, 9 << 20), noise(3, 1_000));
    for content in [&good, &large] {
        put(&live, &layer(content), content.clone()).await.unwrap();
    }
    put(&live, "uploads/unnamed", other.clone()).await.unwrap();
    pass(&live, &spare, state, registry()).await.complete().unwrap();
    let mut expected: Vec<_> = [(layer(&good), &good), (layer(&large), &large), ("uploads/unnamed".to_owned(), &other)]
        .map(|(key, content)| (key, Some(format!("sha256:{}", sum("sha256sum", content)))))
        .into();
    expected.sort();
    assert_eq!(digests(state), expected);

    // Damaged: the server has other bytes under it by now.
    put(&live, &layer(&good), other.clone()).await.unwrap();
    for (what, copied) in [("found", 1), ("still told when nothing is copied any more", 0)] {
        let pass = pass(&live, &spare, state, registry()).await;
        assert_eq!((pass.copied, pass.reread, pass.misnamed.total), (copied, 0, 1), "{what}: {pass:?}");
        match pass.complete().unwrap_err() {
            MirrorError::Misnamed { objects: 1, first } => {
                assert_eq!(first.key, layer(&good), "{what}");
                assert!(first.why.ends_with(&sum("sha256sum", &other)), "{what}: {}", first.why);
            }
            error => panic!("{what}: {error}"),
        }
    }
    put(&live, &layer(&good), good.clone()).await.unwrap();
    pass(&live, &spare, state, registry()).await.complete().unwrap();
    assert_eq!(digests(state), expected);
}

#[tokio::test]
async fn an_object_that_is_not_what_its_key_says_is_told_at_every_pass_of_a_folder() {
    let sites = tempfile::tempdir().unwrap();
    let [live, spare] = ["live", "spare"].map(|name| sites.path().join(name));
    for path in [&live, &spare] {
        fs::create_dir(path).unwrap();
    }
    tells_what_is_not_what_its_key_says(folder(&live), folder(&spare)).await;
}

#[tokio::test]
async fn an_object_that_is_not_what_its_key_says_is_told_at_every_pass_of_an_s3_bucket() {
    let ceph = Ceph::shared();
    let bucket = || s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    tells_what_is_not_what_its_key_says(bucket(), bucket()).await;
}

#[tokio::test]
async fn a_profile_that_begins_to_name_a_digest_has_every_object_read_once_and_none_sent() {
    let ceph = Ceph::shared();
    let [live, spare] = [(); 2].map(|()| s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS)));
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    // More than a breaker lets be overwritten at once.
    let contents: Vec<_> = (0..40).map(|n| (format!("{n:02}"), noise(n, 500))).collect();
    for (key, content) in &contents {
        put(&live, key, content.clone()).await.unwrap();
    }
    pass(&live, &spare, state, None).await.complete().unwrap();
    assert!(digests(state).iter().all(|(_, digest)| digest.is_none()));

    for (algorithm, program) in [(DigestAlgorithm::Sha512, "sha512sum"), (DigestAlgorithm::Blake2b256, "b2sum -l 256")]
    {
        let source = ReadOnly::new(live.clone());
        let planned = mirror::preview(&source, &spare, state, &options(rule(algorithm, None))).await.unwrap();
        assert!(planned.copies.first.iter().all(|copy| copy.why == PlannedWhy::Digest), "{planned:?}");
        let first = pass(&live, &spare, state, rule(algorithm, None)).await;
        assert_eq!((first.reread, first.copied, first.sent_bytes), (40, 0, 0), "{first:?}");
        first.complete().unwrap();
        let expected: Vec<_> = contents
            .iter()
            .map(|(key, content)| (key.clone(), Some(format!("{algorithm}:{}", sum(program, content)))))
            .collect();
        assert_eq!(digests(state), expected);
        let second = pass(&live, &spare, state, rule(algorithm, None)).await;
        assert_eq!((second.reread, second.unchanged), (0, 40), "{second:?}");
    }
    // No longer named: what is known stays known, and nothing is read for it.
    let last = pass(&live, &spare, state, None).await;
    assert_eq!((last.reread, last.unchanged), (0, 40), "{last:?}");
}

#[test]
fn a_point_says_which_artifact_is_not_what_its_key_says() {
    let sites = BucketSites::folders();
    let profile = sites.path().join("profile");
    fs::create_dir(&profile).unwrap();
    let schedule = "format = 1\ndescription = \"a registry\"\n[point]\nsources = [\"bucket.*\"]\n\
                    [digests.artifacts]\nalgorithm = \"sha256\"\nkeys = \"**/sha256/??/{digest}\"\n";
    fs::write(profile.join("schedule.toml"), schedule).unwrap();
    fs::copy("restore/minimal.toml", profile.join("restore.toml")).unwrap();
    sites.edit_configuration("live = \"ams\"", &format!("live = \"ams\"\nprofile = \"{}\"", profile.display()));
    let key = layer(b"good");
    for topology in ["mirror", "shared"] {
        if topology == "shared" {
            let [ams, fra] = ["ams", "fra"].map(|site| format!("url = \"{}\"", sites.bucket(site).display()));
            let shared = format!("{ams}, topology = \"shared\"");
            sites.edit_configuration(&ams, &shared);
            sites.edit_configuration(&fra, &shared);
        }
        sites.put(&key, b"good");
        sites.ended("ams", &["capture"], 0);
        sites.put(&key, b"bad");
        for _ in 0..2 {
            let words = sites.words("ams", &["capture"], 4);
            let told = format!("DAMAGED, OR MISNAMED, AT THE SOURCE {key:?}: its key names another digest");
            assert!(words.contains(&told), "{topology}: {words}");
        }
    }
}
