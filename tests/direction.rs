//! The mirror after the roles of the sites were swapped: what only the old live site had is rescued, what both have is not sent,
//! and what was remembered before is not believed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use warmspare::store::Bucket;

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{self, read_plainly};
use crate::support::ceph::{CREDENTIALS, Ceph};
use crate::support::sites::shown;

type Contents = BTreeMap<String, Vec<u8>>;

/// Two folders. What is gone is hidden at once.
fn sites() -> BucketSites {
    let sites = BucketSites::folders();
    sites.edit_configuration("\n[vault]", "\n[retention]\nhide_after = \"0s\"\n\n[vault]");
    // A keeper opens the points of both sites: what a site writes is sealed to the other one and the escrow.
    let (page, escrow) = (sites.path().join("escrow.txt"), sites.path().join("escrow-identity.txt"));
    let words = ["keygen", "--escrow", "--verify", page.to_str().unwrap(), "--out", escrow.to_str().unwrap()];
    sites.ended("ams", &words, 0);
    let own = sites.path().join("ams-keys/identity.txt");
    sites.edit_configuration(&own.display().to_string(), &escrow.display().to_string());
    sites
}

fn put(sites: &BucketSites, site: &str, key: &str, content: &str) {
    let path = sites.bucket(site).join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn remove(sites: &BucketSites, site: &str, key: &str) {
    fs::remove_file(sites.bucket(site).join(key)).unwrap();
}

fn of(sites: &BucketSites, site: &str) -> Contents {
    read_plainly(&sites.bucket(site))
}

/// What was rescued, as `site` lists it: key → content, each read from the attic of `spare` where it is said to lie.
fn rescued(sites: &BucketSites, site: &str, spare: &str) -> BTreeMap<String, Vec<String>> {
    let listed = sites.json(site, &["mirror", "rescued"], 0);
    let attic = sites.path().join(spare).join("bucket.attic");
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for object in listed[0]["objects"].as_array().unwrap() {
        let content = fs::read(attic.join(object["lies"]["attic"].as_str().unwrap())).unwrap();
        assert_eq!(object["blake3"], blake3::hash(&content).to_hex().to_string(), "{object}");
        assert_eq!(object["bytes"], content.len(), "{object}");
        let key = object["key"].as_str().unwrap().to_owned();
        found.entry(key).or_default().push(String::from_utf8(content).unwrap());
    }
    found
}

fn summary(captured: &Value) -> String {
    captured["sources"][0]["summary"].as_str().unwrap().to_owned()
}

/// Makes `site` the live one, as an operator does: restored as the spare, then named in the configuration.
fn fail_over(sites: &BucketSites, from: &str, to: &str) {
    sites.ended(to, &["restore"], 0);
    sites.edit_configuration(&format!("live = \"{from}\""), &format!("live = \"{to}\""));
}

/// ams was live, and went away with objects that no point has; at fra the applications went on.
fn swapped() -> BucketSites {
    let sites = sites();
    for key in ["both", "edited", "deleted", "changed-late", "changed-late-and-deleted", "made-again", "pushed-again"] {
        put(&sites, "ams", key, &format!("{key} at first"));
    }
    sites.ended("ams", &["capture"], 0);
    remove(&sites, "ams", "made-again");
    sites.ended("ams", &["capture"], 0);
    // No pass has seen these.
    put(&sites, "ams", "late", "late at ams");
    put(&sites, "ams", "changed-late", "changed-late at ams");
    put(&sites, "ams", "changed-late-and-deleted", "changed-late-and-deleted at ams");
    put(&sites, "ams", "made-again", "made-again at ams");
    put(&sites, "ams", "pushed-again", "pushed-again at both");
    fail_over(&sites, "ams", "fra");
    put(&sites, "fra", "new", "new at fra");
    put(&sites, "fra", "edited", "edited at fra");
    put(&sites, "fra", "pushed-again", "pushed-again at both");
    remove(&sites, "fra", "deleted");
    remove(&sites, "fra", "changed-late-and-deleted");
    // It was deleted at ams, and nobody had hidden it yet.
    remove(&sites, "fra", "made-again");
    sites
}

const PATIENCE: Duration = Duration::from_secs(90);

const ONLY_AT_AMS: [&str; 4] = ["changed-late", "changed-late-and-deleted", "late", "made-again"];

fn expect_rescued(sites: &BucketSites) {
    for site in ["ams", "fra"] {
        let found = rescued(sites, site, "ams");
        let expected = ONLY_AT_AMS.map(|key| (key.to_owned(), vec![format!("{key} at ams")]));
        assert_eq!(found, BTreeMap::from(expected), "as {site} lists it");
    }
}

/// Takes points and lets the keeper work until the spare holds `expected` beside what the live site has.
fn hidden(sites: &BucketSites, live: &str, spare: &str, expected: &[&str]) {
    // What was written within the last seconds is not believed to be unchanged: on a quick machine twenty rounds are over before that.
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        sites.ended(spare, &["prune"], 0);
        let mut both = of(sites, spare);
        both.retain(|key, _| !expected.contains(&key.as_str()));
        if both == of(sites, live) {
            let there = of(sites, spare);
            assert!(expected.iter().all(|key| there.contains_key(*key)), "{:?}", there.keys());
            return;
        }
        sites.ended(live, &["capture"], 0);
    }
    panic!("{:?} is not {:?} and {expected:?}", of(sites, spare).keys(), of(sites, live).keys());
}

#[test]
fn objects_that_only_the_old_live_site_had_are_rescued_and_listed_and_what_both_have_is_not_sent() {
    let sites = swapped();
    let would = String::from_utf8(sites.ended("fra", &["capture", "--dry-run"], 0).stdout).unwrap();
    assert!(would.contains("the roles were swapped: what ams has is read and hashed first"), "{would}");
    let untouched = fs::metadata(sites.bucket("ams").join("both")).unwrap().modified().unwrap();
    let captured = sites.json("fra", &["capture"], 0);
    let rescued_now: Vec<&str> =
        captured["sources"][0]["rescued"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(rescued_now.len(), 4, "{captured}");
    expect_rescued(&sites);
    // Only what ams had not is sent: the two that fra wrote, and what no pass had brought it back to.
    let sent = "new at fra".len() + "edited at fra".len() + "changed-late at first".len();
    assert!(summary(&captured).contains(&format!("({sent} B sent")), "{captured}");
    assert_eq!(fs::metadata(sites.bucket("ams").join("both")).unwrap().modified().unwrap(), untouched);
    let (live, spare) = (of(&sites, "fra"), of(&sites, "ams"));
    assert!(live.iter().all(|(key, content)| spare.get(key) == Some(content)), "{:?}", spare.keys());
    // Nothing came back into the live bucket by itself.
    assert_eq!(live.len(), 5, "{:?}", live.keys());

    // What fra deleted is hidden, what only ams had is not, until a person has looked.
    hidden(&sites, "fra", "ams", &["late", "changed-late-and-deleted", "made-again"]);
    let words = sites.words("ams", &["prune"], 0);
    assert!(words.contains("4 rescued objects wait for somebody to look at them"), "{words}");
    sites.ended("fra", &["mirror", "rescued", "--release", "nonesuch"], 2);
    sites.ended("fra", &["mirror", "rescued", "--release", "late", "--dry-run"], 0);
    sites.ended("ams", &["mirror", "rescued", "--release", "made-again"], 0);
    hidden(&sites, "fra", "ams", &["late", "changed-late-and-deleted"]);
    sites.ended("fra", &["mirror", "rescued", "bucket.artifacts", "--release-all"], 0);
    hidden(&sites, "fra", "ams", &[]);
    expect_rescued(&sites);
    let again = sites.json("fra", &["capture"], 0);
    assert_eq!(again["sources"][0]["rescued"], Value::Array(vec![]), "each is told once");
}

#[test]
fn killed_anywhere_in_the_first_pass_of_the_return_nothing_is_lost_or_sent_again() {
    let steps = [
        "mirror.direction.turning",
        "mirror.direction.returning",
        "mirror.rescued",
        "mirror.rescued.listed",
        "mirror.attic",
        "store.object.write",
        "mirror.row",
        "mirror.manifest",
        "mirror.direction.settled",
    ];
    let killed = |step: &str| {
        let sites = swapped();
        let pushed = fs::metadata(sites.bucket("ams").join("pushed-again")).unwrap().modified().unwrap();
        let killed = sites.command("fra", &["capture"]).env("WARMSPARE_FAILPOINT", step).output().unwrap();
        assert_eq!(killed.status.code(), None, "{step}: {}", shown(&killed));
        sites.ended("fra", &["capture"], 0);
        expect_rescued(&sites);
        let (live, spare) = (of(&sites, "fra"), of(&sites, "ams"));
        assert!(live.iter().all(|(key, content)| spare.get(key) == Some(content)), "{step}: {:?}", spare.keys());
        for key in ["both", "pushed-again"] {
            let modified = fs::metadata(sites.bucket("ams").join(key)).unwrap().modified().unwrap();
            assert!(modified <= pushed, "{step}: {key} was sent again");
        }
    };
    std::thread::scope(|scope| {
        for part in steps.chunks(3) {
            scope.spawn(move || part.iter().for_each(|step| killed(step)));
        }
    });
}

#[test]
fn after_two_round_trips_nothing_that_was_remembered_of_an_earlier_direction_is_believed() {
    let sites = swapped();
    sites.ended("fra", &["capture"], 0);
    // fra goes away with an overwrite and an object that no point has. ams still has what its manifest of once says.
    put(&sites, "fra", "both", "both at fra");
    put(&sites, "fra", "fra-only", "fra-only");
    fail_over(&sites, "fra", "ams");
    assert_eq!(of(&sites, "ams")["both"], b"both at first");
    let verify = sites.words("ams", &["verify", "--only", "bucket.artifacts"], 3);
    assert!(verify.contains("of before the roles of the sites were swapped"), "{verify}");
    let captured = sites.json("ams", &["capture"], 0);
    let (live, spare) = (of(&sites, "ams"), of(&sites, "fra"));
    assert!(live.iter().all(|(key, content)| spare.get(key) == Some(content)), "{:?}", spare.keys());
    let expected = [("both", "both at fra"), ("fra-only", "fra-only")]
        .map(|(key, content)| (key.to_owned(), vec![content.into()]));
    assert_eq!(rescued(&sites, "ams", "fra"), BTreeMap::from(expected), "{captured}");
    sites.ended("ams", &["verify", "--only", "bucket.artifacts", "--all"], 0);

    // And once more there and back, with nothing lost on the way: nothing is rescued, and nothing sent.
    for (from, to) in [("ams", "fra"), ("fra", "ams")] {
        fail_over(&sites, from, to);
        let captured = sites.json(to, &["capture"], 0);
        assert_eq!(captured["sources"][0]["rescued"], Value::Array(vec![]), "{to}: {captured}");
        let live = of(&sites, to);
        let spare = of(&sites, from);
        assert!(live.iter().all(|(key, content)| spare.get(key) == Some(content)), "{:?}", spare.keys());
    }
    put(&sites, "ams", "both", "both at last");
    sites.ended("ams", &["capture"], 0);
    assert_eq!(of(&sites, "fra")["both"], b"both at last");
}

#[test]
fn an_old_live_site_that_believes_it_still_is_one_overwrites_nothing_once_the_other_takes_points() {
    let sites = swapped();
    sites.ended("fra", &["capture"], 0);
    put(&sites, "fra", "edited", "edited at fra again");
    // ams comes back with its old configuration.
    sites.edit_configuration("live = \"fra\"", "live = \"ams\"");
    let before = of(&sites, "fra");
    let words = sites.words("ams", &["capture"], 3);
    assert!(words.contains("fra has taken point 0-3 while ams was the live site: two sites are live"), "{words}");
    assert_eq!(of(&sites, "fra"), before);
    // A person says that ams is the live one after all: what fra wrote is rescued.
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    sites.ended("ams", &["prune"], 0);
    sites.edit_configuration("live = \"fra\"", "live = \"ams\"");
    sites.ended("ams", &["capture"], 0);
    assert_eq!(rescued(&sites, "ams", "fra")["edited"], ["edited at fra again"]);
}

/// Two buckets of one server; at the live site there is no right to delete at the other.
struct Buckets {
    sites: BucketSites,
    ceph: std::sync::Arc<Ceph>,
    ams: String,
    fra: String,
    mover: String,
}

impl Buckets {
    fn new(ams: String, attics: Option<[String; 2]>) -> Buckets {
        let (sites, ceph) = (BucketSites::folders(), Ceph::shared());
        let (fra, mover) = (ceph.bucket(), ceph.user("mover"));
        let everything = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::BUCKET","arn:aws:s3:::BUCKET/*"]},
            {"Effect":"Deny","Principal":{"AWS":["arn:aws:iam:::user/mover"]},"Action":["s3:DeleteObject","s3:DeleteObjectVersion"],
             "Resource":["arn:aws:s3:::BUCKET/*"]}]}"#;
        for bucket in [&ams, &fra].into_iter().chain(attics.iter().flatten()) {
            ceph.set_policy(bucket, &everything.replace("BUCKET", bucket));
        }
        let address = |bucket: &str, variable: &str, attic: Option<&String>| {
            let attic = attic.map_or(String::new(), |attic| format!(", attic = \"s3://{attic}\""));
            let endpoint = ceph.endpoint();
            format!("url = \"s3://{bucket}\", endpoint = \"{endpoint}\", credentials = \"env:{variable}\"{attic}")
        };
        let [ams_attic, fra_attic] = attics.map_or([None, None], |attics| attics.map(Some));
        // Written once more, over the folders.
        for file in ["escrow.txt", "ams-keys", "fra-keys"] {
            let path = sites.path().join(file);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        sites.configure(&address(&ams, "AMS", ams_attic.as_ref()), &address(&fra, "FRA", fra_attic.as_ref()));
        sites.edit_configuration("\n[vault]", "\n[retention]\nhide_after = \"0s\"\n\n[vault]");
        Buckets { sites, ceph, ams, fra, mover }
    }

    fn run(&self, site: &str, arguments: &[&str]) -> String {
        let own = |of: &str| if site == of { CREDENTIALS } else { &self.mover };
        let mut command = self.sites.command(site, arguments);
        let output = command.env("AMS", own("ams")).env("FRA", own("fra")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} at {site}: {}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn open(&self, bucket: &str) -> Bucket {
        buckets::s3(self.ceph.endpoint(), bucket, "", Some(CREDENTIALS))
    }

    async fn put(&self, bucket: &str, key: &str, content: &str) {
        buckets::put(&self.open(bucket), key, content.to_owned()).await.unwrap();
    }

    async fn of(&self, bucket: &str) -> BTreeMap<String, String> {
        let found = buckets::contents(&self.open(bucket)).await;
        found.into_iter().map(|(key, content)| (key, String::from_utf8(content.to_vec()).unwrap())).collect()
    }

    /// ams goes away with what no point has; at fra the applications go on; ams comes back as the spare. The first capture at fra.
    async fn returned(&self) -> Value {
        for key in ["both", "changed-late", "deleted", "edited"] {
            self.put(&self.ams, key, &format!("{key} at first")).await;
        }
        self.run("ams", &["capture"]);
        for key in ["changed-late", "late"] {
            self.put(&self.ams, key, &format!("{key} at ams")).await;
        }
        self.run("fra", &["restore"]);
        self.sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
        self.put(&self.fra, "edited", "edited at fra").await;
        self.ceph.plain_delete(&self.fra, "deleted");
        // Its time is told in whole seconds: what is written from now on has another one.
        let of_both = async || self.open(&self.ams).head("both").await.unwrap().version;
        let before = of_both().await;
        let written = Timestamp::from_nanosecond(before.modified_ns).unwrap();
        while Timestamp::now().as_second() <= written.as_second() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let captured = serde_json::from_str(&self.run("fra", &["capture", "--json"])).unwrap();
        assert_eq!(of_both().await, before, "what both sites have is not written anew");
        captured
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_bucket_that_comes_back_loses_nothing_to_a_credential_that_cannot_delete() {
    let ceph = Ceph::shared();
    let attics = [ceph.bucket(), ceph.bucket()];
    let buckets = Buckets::new(ceph.bucket(), Some(attics.clone()));
    let captured = buckets.returned().await;
    let sent = "edited at fra".len() + "changed-late at first".len();
    assert!(summary(&captured).contains(&format!("({sent} B sent")), "{captured}");
    let listed: Value = serde_json::from_str(&buckets.run("fra", &["mirror", "rescued", "--json"])).unwrap();
    let mut found = BTreeMap::new();
    for object in listed[0]["objects"].as_array().unwrap() {
        let name = object["lies"]["attic"].as_str().unwrap();
        let content = buckets::get(&buckets.open(&attics[0]), name).await.unwrap();
        found.insert(object["key"].as_str().unwrap().to_owned(), content);
    }
    let expected = ["changed-late", "late"].map(|key| (key.to_owned(), format!("{key} at ams").into()));
    assert_eq!(found, BTreeMap::from(expected));
    let spare = buckets.of(&buckets.ams).await;
    let live = buckets.of(&buckets.fra).await;
    assert!(live.iter().all(|(key, content)| spare.get(key) == Some(content)), "{spare:?}");
    assert_eq!(spare["late"], "late at ams");

    // And back: what fra wrote after its last point is rescued; the old manifest of ams is held against fra's tags.
    buckets.put(&buckets.fra, "both", "both at fra").await;
    buckets.run("ams", &["restore"]);
    buckets.sites.edit_configuration("live = \"fra\"", "live = \"ams\"");
    let captured: Value = serde_json::from_str(&buckets.run("ams", &["capture", "--json"])).unwrap();
    let rescued = captured["sources"][0]["rescued"].as_array().unwrap();
    assert_eq!(rescued.len(), 1, "{captured}");
    let content = buckets::get(&buckets.open(&attics[1]), rescued[0]["lies"]["attic"].as_str().unwrap()).await.unwrap();
    assert_eq!(content, "both at fra");
    assert_eq!(buckets.of(&buckets.fra).await["both"], "both at first");
    buckets.run("ams", &["verify", "--only", "bucket.artifacts", "--all"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_keeps_versions_and_there_is_no_attic_the_version_is_named() {
    let buckets = Buckets::new(Ceph::shared().versioned_bucket(), None);
    let captured = buckets.returned().await;
    let rescued = captured["sources"][0]["rescued"].as_array().unwrap();
    assert_eq!(rescued.len(), 2, "{captured}");
    for object in rescued {
        let (key, id) = (object["key"].as_str().unwrap(), object["lies"]["version"].as_str().unwrap());
        let (_, body) = buckets.open(&buckets.ams).read_version(key, id).await.unwrap();
        let content = futures_util::TryStreamExt::try_collect::<Vec<_>>(body).await.unwrap().concat();
        assert_eq!(String::from_utf8(content).unwrap(), format!("{key} at ams"));
    }
    assert_eq!(buckets.of(&buckets.ams).await["changed-late"], "changed-late at first");
    let listed = buckets.run("fra", &["mirror", "rescued"]);
    assert!(listed.contains("version "), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_keeps_it_what_only_the_old_live_site_has_is_not_overwritten() {
    let buckets = Buckets::new(Ceph::shared().bucket(), None);
    for key in ["both", "changed-late"] {
        buckets.put(&buckets.ams, key, &format!("{key} at first")).await;
    }
    buckets.run("ams", &["capture"]);
    buckets.put(&buckets.ams, "changed-late", "changed-late at ams").await;
    buckets.run("fra", &["restore"]);
    buckets.sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    let mut command = buckets.sites.command("fra", &["capture"]);
    let output = command.env("AMS", &buckets.mover).env("FRA", CREDENTIALS).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(shown(&output).contains("no recovery point has what stands there"), "{}", shown(&output));
    assert_eq!(buckets.of(&buckets.ams).await["changed-late"], "changed-late at ams");
}
