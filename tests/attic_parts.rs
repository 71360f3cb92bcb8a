//! A bucket, or an attic, that is larger than what the keeper looks after at once: nothing in it is out of its reach.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use warmspare::clock::SystemClock;
use warmspare::config::{Config, Here};
use warmspare::point::{AtOnce, BucketKeeping, PruneRequest, prune};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::read_plainly;

const PATIENCE: Duration = Duration::from_secs(90);

fn sites() -> BucketSites {
    let sites = BucketSites::folders();
    sites.edit_configuration("\n[vault]", "\n[retention]\nhide_after = \"0s\"\n\n[vault]");
    sites
}

/// A pass of the spare's keeper that looks after so little at once.
async fn pruned(sites: &BucketSites, extras: usize, contents: usize) -> BucketKeeping {
    let here = Here::new(Config::load(&sites.configuration()).unwrap(), "fra").unwrap();
    let request = PruneRequest { at_once: AtOnce { extras, contents }, ..PruneRequest::default() };
    prune(&here, request, &SystemClock).await.unwrap().buckets.remove(0)
}

fn keys(folder: &Path) -> BTreeSet<String> {
    read_plainly(folder).into_keys().collect()
}

#[tokio::test]
async fn what_was_deleted_is_hidden_behind_any_number_of_objects_that_the_mirror_did_not_bring() {
    for extras in [1, 2, 5] {
        let sites = sites();
        let (live, spare) = (sites.bucket("ams"), sites.bucket("fra"));
        for key in ["a-gone", "m-gone", "stays", "z-gone"] {
            sites.put(key, key.as_bytes());
        }
        sites.ended("ams", &["capture"], 0);
        let foreign: Vec<String> = (0..5).map(|n| format!("foreign-{n}")).chain(["t-foreign".to_owned()]).collect();
        foreign.iter().for_each(|key| fs::write(spare.join(key), key).unwrap());
        for key in ["a-gone", "m-gone", "z-gone"] {
            fs::remove_file(live.join(key)).unwrap();
        }
        let mut hidden = 0;
        let begun = Instant::now();
        while keys(&spare).iter().any(|key| key.ends_with("-gone")) {
            assert!(begun.elapsed() < PATIENCE, "{extras} at once: {:?} stay in sight", keys(&spare));
            sites.ended("ams", &["capture"], 0);
            hidden += pruned(&sites, extras, 5).await.hidden;
        }
        assert_eq!(hidden, 3, "{extras} at once");
        let expected = foreign.into_iter().chain(["stays".to_owned()]).collect();
        assert_eq!(keys(&spare), expected, "{extras} at once");
    }
}

#[tokio::test]
async fn an_attic_lets_go_of_what_no_point_names_behind_any_number_of_contents_that_stay() {
    for contents in [1, 2, 3, 100] {
        let sites = sites();
        let attic = sites.path().join("fra/bucket.attic");
        let content = |n: u32| format!("content {n}").into_bytes();
        (0..6).for_each(|n| sites.put(&format!("{n}"), &content(n)));
        sites.ended("ams", &["capture"], 0);
        // As they lay there a year ago: the first six are named by a point, each by two names; the last six by none; and some came today.
        let today = jiff::Timestamp::now().to_string();
        let (today, long_ago) =
            (today.split('T').next().unwrap(), SystemTime::now() - Duration::from_secs(400 * 86_400));
        let name = |n: u32, day: &str| {
            let hex = blake3::hash(&content(n)).to_hex();
            format!("objects/{}/{hex}.{day}", &hex[..2])
        };
        let put = |n: u32, day: &str, modified: Option<SystemTime>| {
            let path = attic.join(name(n, day));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content(n)).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            modified.into_iter().for_each(|modified| file.set_modified(modified).unwrap());
        };
        let days = ["2024-01-01", "2024-02-02"];
        for n in 0..12 {
            days.into_iter().for_each(|day| put(n, day, Some(long_ago)));
        }
        (20..30).for_each(|n| put(n, today, None));
        let keeping = pruned(&sites, 5, contents).await;
        assert_eq!(keeping.let_go, 6 + 12, "{contents} at once: {keeping:?}");
        let kept = (0..6).map(|n| name(n, days[1])).chain((20..30).map(|n| name(n, today)));
        let there = keys(&attic).into_iter().filter(|key| key.starts_with("objects/"));
        assert_eq!(there.collect::<BTreeSet<_>>(), kept.collect(), "{contents} at once");
        assert_eq!(pruned(&sites, 5, contents).await.let_go, 0, "{contents} at once");
    }
}
