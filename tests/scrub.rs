//! `verify --only bucket.NAME`: what the spare's bucket has lost is named and brought again, and nothing newer is touched.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{get, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

const VERIFY: [&str; 3] = ["verify", "--only", "bucket.artifacts"];
const VERIFY_ALL: [&str; 4] = ["verify", "--only", "bucket.artifacts", "--all"];

/// Changes a byte as a bad disk does: neither size nor times show it.
fn rot(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut content = fs::read(path).unwrap();
    content[0] ^= 1;
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Every fault as `key outcome`.
fn faults(report: &Value) -> Vec<String> {
    let outcome = |fault: &Value| match &fault["outcome"] {
        Value::String(outcome) => outcome.clone(),
        outcome => outcome["settled"].as_str().unwrap().to_owned(),
    };
    let faults = report["faults"].as_array().unwrap();
    faults.iter().map(|fault| format!("{} {}", fault["key"].as_str().unwrap(), outcome(fault))).collect()
}

fn filled(sites: &BucketSites, keys: &[&str]) {
    for (n, key) in keys.iter().enumerate() {
        sites.put(key, &noise(n as u8, 1_000 + n));
    }
    sites.ended("ams", &["capture"], 0);
}

/// What the mirror takes for unchanged has to be older than its racily-clean time.
fn capture_later(sites: &BucketSites) -> Value {
    sites.json("ams", &["capture"], 0)
}

#[test]
fn a_rotten_object_is_named_by_the_spare_and_mended_by_the_next_capture() {
    let sites = BucketSites::folders();
    filled(&sites, &["a", "b/private name", "c"]);
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["reread"], 3);
    let spare = sites.bucket("fra").join("b/private name");
    rot(&spare);
    fs::remove_file(sites.bucket("fra").join("c")).unwrap();

    let dry = sites.json("fra", &["verify", "--only", "bucket.artifacts", "--all", "--dry-run"], 4);
    assert_eq!(faults(&dry), ["b/private name found", "c found"]);
    let status = || fs::read_to_string(sites.path().join("vault/systems/app/status/fra.json")).unwrap();
    assert!(status().contains("\"suspects\":[]"), "a dry run tells nobody: {}", status());

    let report = sites.json("fra", &VERIFY_ALL, 4);
    assert_eq!((faults(&report), &report["counts"]["told"]), (faults(&dry), &json!(2)));
    assert!(!status().contains("private"), "the status is clear, and keys are nobody's business: {}", status());
    let words = sites.words("fra", &VERIFY, 4);
    assert!(words.contains("FAULT \"b/private name\" has another content than was recorded"), "{words}");
    assert!(words.contains("Run a capture at ams"), "what was wrong is read again in any share: {words}");

    let point = capture_later(&sites);
    let summary = point["sources"][0]["summary"].as_str().unwrap();
    assert!(summary.contains("2 mended that the other site had lost"), "{summary}");
    assert_eq!(fs::read(&spare).unwrap(), fs::read(sites.bucket("ams").join("b/private name")).unwrap());
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["faults"], 0);
    let again = capture_later(&sites);
    assert!(!again.to_string().contains("mended"), "it was done once: {again}");
}

#[test]
fn what_neither_site_has_is_a_class_of_its_own_and_leaves_the_manifest() {
    let sites = BucketSites::folders();
    filled(&sites, &["kept", "lost", "newer"]);
    for (key, at) in [("lost", "ams"), ("lost", "fra"), ("newer", "fra")] {
        fs::remove_file(sites.bucket(at).join(key)).unwrap();
    }
    sites.put("newer", b"another version");
    let report = sites.json("ams", &VERIFY, 4);
    assert_eq!(faults(&report), ["lost missing-at-source", "newer changed-at-source"]);
    assert!(!sites.bucket("fra").join("newer").exists(), "the next pass brings it");
    // The manifest names neither any more. What is lost is no longer missed by a listing, and what is newer counts twice.
    assert_eq!(sites.json("ams", &["report"], 0)["loss"]["objects"], 3, "no object of the point is forgotten");
    capture_later(&sites);
    assert_eq!(fs::read(sites.bucket("fra").join("newer")).unwrap(), b"another version");
    let report = sites.json("fra", &VERIFY_ALL, 0);
    assert_eq!(report["counts"]["objects"], 2, "the point names what is there: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_did_to_an_s3_bucket_is_undone_and_nothing_else_is_touched() {
    let ceph = Ceph::shared();
    let name = ceph.bucket();
    let (sites, spare) = (BucketSites::folder_and_s3(&ceph, &name), s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)));
    filled(&sites, &["cut", "gone", "overwritten", "sound"]);
    assert_eq!(sites.json("ams", &VERIFY, 0)["counts"]["objects"], 4);
    put(&spare, "cut", noise(0, 500)).await.unwrap();
    ceph.plain_delete(&name, "gone");
    put(&spare, "overwritten", noise(99, 1_002)).await.unwrap();
    put(&spare, "theirs", "not in the manifest").await.unwrap();

    // By HEAD alone: another size, none, another tag.
    let share = ["verify", "--only", "bucket.artifacts", "--share", "1/1000"];
    let words = sites.words("fra", &share, 4);
    assert!(
        words.contains("NEWER \"overwritten\" has another content than was recorded; it was written since then"),
        "{words}"
    );
    let report = sites.json("ams", &share, 0);
    assert_eq!(faults(&report), ["cut mended", "gone mended", "overwritten mended"]);
    for key in ["cut", "gone", "overwritten", "sound"] {
        assert_eq!(get(&spare, key).await.unwrap(), fs::read(sites.bucket("ams").join(key)).unwrap(), "{key}");
    }
    assert_eq!(get(&spare, "theirs").await.unwrap(), "not in the manifest");
    assert_eq!(sites.json("ams", &VERIFY_ALL, 0)["counts"]["reread"], 4);
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["faults"], 0);
}

#[test]
fn an_object_that_a_pass_has_brought_since_is_not_overwritten() {
    let sites = BucketSites::folders();
    filled(&sites, &["a", "b"]);
    // A pass was killed after it had brought the new version and before it wrote that down.
    for site in ["ams", "fra"] {
        fs::write(sites.bucket(site).join("a"), "new").unwrap();
    }
    let spare = fs::metadata(sites.bucket("fra").join("a")).unwrap().modified().unwrap();
    let report = sites.json("ams", &VERIFY, 4);
    assert_eq!(faults(&report), ["a changed-at-source"]);
    assert_eq!(fs::metadata(sites.bucket("fra").join("a")).unwrap().modified().unwrap(), spare, "it was left alone");
    capture_later(&sites);
    assert_eq!(sites.json("fra", &VERIFY_ALL, 0)["counts"]["objects"], 2);
}

#[test]
fn as_many_runs_as_there_are_shares_read_every_object_once() {
    let sites = BucketSites::folders();
    let keys: Vec<String> = (0..40).map(|n| format!("k{n:02}")).collect();
    filled(&sites, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let runs = |site: &str| {
        (0..4).map(|_| sites.json(site, &["verify", "--only", "bucket.artifacts", "--share", "1/4"], 0)).collect()
    };
    for site in ["fra", "ams"] {
        let reports: Vec<Value> = runs(site);
        let read: Vec<u64> = reports.iter().map(|report| report["counts"]["reread"].as_u64().unwrap()).collect();
        assert_eq!(read.iter().sum::<u64>(), 40, "{site}: {read:?}");
        assert!(read.iter().all(|read| (1..25).contains(read)), "{site}: {read:?}");
        assert!(reports.iter().all(|report| report["counts"]["objects"] == 40), "all are looked for each time");
    }
}

#[test]
fn a_wrong_bucket_behind_the_right_name_is_not_filled() {
    let sites = BucketSites::folders();
    let keys: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
    filled(&sites, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let away = sites.path().join("away");
    fs::rename(sites.bucket("fra"), &away).unwrap();
    fs::create_dir(sites.bucket("fra")).unwrap();
    let words = sites.words("ams", &VERIFY, 3);
    assert!(words.contains("20 of the 20 objects looked for in SITES/fra/bucket are missing"), "{words}");
    assert!(words.contains("its disk is mounted") && words.contains("Nothing was copied"), "{words}");
    assert_eq!(fs::read_dir(sites.bucket("fra")).unwrap().count(), 0);
    fs::remove_dir(sites.bucket("fra")).unwrap();
    fs::rename(&away, sites.bucket("fra")).unwrap();
    assert_eq!(sites.json("ams", &VERIFY_ALL, 0)["counts"]["faults"], 0, "the disk is mounted again");
}

#[test]
fn what_cannot_be_done_is_refused_with_words() {
    let sites = BucketSites::folders();
    sites.put("a", b"a");
    let words = sites.words("ams", &VERIFY, 1);
    assert!(words.contains("nothing of bucket.artifacts has been mirrored"), "{words}");
    sites.ended("ams", &["capture"], 0);
    for (site, arguments, code, expected) in [
        ("ams", ["--only", "bucket.other"].as_slice(), 2, "has no bucket `other` (there are: artifacts)"),
        ("ams", &["--only", "export.configs"], 2, "export.configs is no bucket"),
        ("ams", &["--only", "bucket.artifacts", "--point", "0-1"], 2, "Run it at fra, or leave --point away"),
        ("fra", &["--only", "bucket.artifacts", "--point", "0-7"], 2, "there is no recovery point 0-7"),
    ] {
        let arguments: Vec<&str> = ["verify"].iter().chain(arguments).copied().collect();
        let words = sites.words(site, &arguments, code);
        assert!(words.contains(expected), "{arguments:?}: {words}");
    }
    let busy = sites.state("ams").join("mirror/artifacts/lock");
    let _pass = warmspare::durable::FileLock::try_take(&busy, "a pass").unwrap().unwrap();
    fs::remove_file(sites.bucket("fra").join("a")).unwrap();
    let words = sites.words("ams", &VERIFY, 3);
    assert!(words.contains("1 object(s) of SITES/fra/bucket are not as recorded, the first \"a\"; a pass"), "{words}");
    drop(_pass);
    assert_eq!(faults(&sites.json("ams", &VERIFY, 0)), ["a mended"], "it was not forgotten");
}

/// The keys of what the report at the live site says of the spare's look at its bucket.
fn alarms(sites: &BucketSites) -> Vec<String> {
    let report = sites.json("ams", &["report", "--without-objects"], 0);
    let lines = report["lines"].as_array().unwrap().iter().map(|line| line["key"].as_str().unwrap().to_owned());
    lines.filter(|key| key.starts_with("site.fra.bucket.")).collect()
}

#[test]
fn the_job_verify_finds_what_a_mirrored_bucket_has_lost_and_the_next_capture_mends_it() {
    let sites = BucketSites::folders();
    filled(&sites, &["a", "b", "private name"]);
    let job = ["jobs", "run", "verify"];
    assert_eq!(sites.json("fra", &job, 0)["what"], "done");
    // At the live site the vault alone is looked at: what the other site has lies across the line.
    assert_eq!(sites.json("ams", &job, 0)["what"], "done");
    fs::remove_file(sites.bucket("fra").join("a")).unwrap();
    rot(&sites.bucket("fra").join("private name"));
    let ran: Vec<Value> = (0..7).map(|_| sites.json("fra", &job, 4)).collect();
    let what = "bucket.artifacts: 2 objects are not as the newest point says";
    assert_eq!(ran[6]["what"], what, "what one run has found the next one reads again: {ran:#?}");
    assert_eq!(alarms(&sites), ["site.fra.bucket.artifacts.faults"]);
    let without = sites.json("fra", &["verify", "--without-buckets"], 0);
    assert_eq!(without["buckets"], json!([]), "the vault is whole");

    capture_later(&sites);
    let whole = sites.json("fra", &["verify", "--all"], 0);
    assert_eq!(
        (&whole["buckets"][0]["source"], &whole["buckets"][0]["counts"]["reread"]),
        (&json!("bucket.artifacts"), &json!(3))
    );
    assert_eq!(sites.json("fra", &job, 0)["what"], "done");
    assert_eq!(alarms(&sites), [] as [String; 0]);
}

#[test]
fn what_a_pass_has_brought_since_the_point_is_no_alarm_and_is_looked_at_again() {
    let sites = BucketSites::folders();
    filled(&sites, &["a", "b"]);
    // A pass that is under way has brought it, or somebody else has written it: only the live site can tell.
    fs::write(sites.bucket("fra").join("a"), "another").unwrap();
    let report = sites.json("fra", &["verify"], 0);
    let bucket = &report["buckets"][0];
    assert_eq!(
        (faults(bucket), &bucket["wrong"], &bucket["counts"]["told"]),
        (vec!["a newer-than-point".to_owned()], &json!(0), &json!(1))
    );
    assert_eq!(alarms(&sites), [] as [String; 0]);
    assert!(sites.words("fra", &VERIFY, 0).contains("NEWER \"a\" has "));
    let point = capture_later(&sites);
    assert!(point["sources"][0]["summary"].as_str().unwrap().contains("1 mended"), "it was somebody else: {point}");
    let bucket = sites.json("fra", &VERIFY, 0);
    assert_eq!(
        (&bucket["counts"]["faults"], bucket["counts"]["reread"].as_u64() > Some(0)),
        (&json!(0), true),
        "{bucket}"
    );
}

#[test]
fn a_bucket_that_cannot_be_looked_at_hides_nothing_of_the_others() {
    let sites = BucketSites::folders();
    for site in ["ams", "fra"] {
        let (bucket, more) = (sites.bucket(site), sites.bucket(site).with_file_name("more"));
        fs::create_dir(&more).unwrap();
        let address = |name: &str, at: &Path| format!("buckets.{name} = {{ url = \"{}\" }}\n", at.display());
        let both = address("artifacts", &bucket) + &address("more", &more);
        sites.edit_configuration(&address("artifacts", &bucket), &both);
    }
    fs::write(sites.bucket("ams").with_file_name("more").join("m"), "m").unwrap();
    filled(&sites, &["a"]);
    assert_eq!(sites.json("fra", &["verify"], 0)["buckets"].as_array().unwrap().len(), 2);
    let lock = sites.state("fra").join("verify/bucket.artifacts.lock");
    let _busy = warmspare::durable::FileLock::try_take(&lock, "a look").unwrap().unwrap();
    let words = sites.words("fra", &["verify"], 3);
    assert!(words.contains("error: another run is looking at this bucket"), "{words}");
    fs::remove_file(sites.bucket("fra").with_file_name("more").join("m")).unwrap();
    let words = sites.words("fra", &["verify"], 4);
    assert!(
        words.contains("bucket.artifacts was not looked at") && words.contains("FAULT \"m\" is missing"),
        "{words}"
    );
}

#[test]
fn what_was_overwritten_since_an_older_point_is_looked_for_where_a_restore_finds_it() {
    let sites = BucketSites::folders();
    filled(&sites, &["overwritten", "same"]);
    sites.put("overwritten", &noise(9, 3_000));
    sites.ended("ams", &["capture"], 0);
    let at = ["verify", "--only", "bucket.artifacts", "--point", "0-1"];
    let report = sites.json("fra", &at, 0);
    assert_eq!(
        (&report["counts"]["objects"], &report["counts"]["kept"], &report["counts"]["faults"]),
        (&json!(2), &json!(1), &json!(0))
    );
    assert!(sites.words("fra", &at, 0).is_empty());
    // Rotten or gone there, it is a fault as before.
    let attic = sites.bucket("fra").with_extension("attic").join("objects");
    let kept = fs::read_dir(&attic).unwrap().next().unwrap().unwrap().path();
    rot(&fs::read_dir(kept).unwrap().next().unwrap().unwrap().path());
    assert_eq!(faults(&sites.json("fra", &at, 4)), ["overwritten newer-than-point"]);
    fs::remove_dir_all(attic).unwrap();
    assert_eq!(faults(&sites.json("fra", &at, 4)), ["overwritten newer-than-point"]);
}

#[test]
fn a_dry_run_of_a_capture_says_what_the_mirror_would_do_and_why() {
    let sites = BucketSites::folders();
    for key in ["changed", "gone", "same"] {
        sites.put(key, b"1234");
    }
    // No tool can set back when a file's status changed: until then it is racily clean.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    sites.ended("ams", &["capture"], 0);
    sites.put("changed", b"12345");
    sites.put("new", b"123456");
    fs::remove_file(sites.bucket("ams").join("gone")).unwrap();
    let dry = sites.json("ams", &["capture", "--dry-run"], 0);
    let planned = &dry["mirrors"]["bucket.artifacts"];
    let copies =
        json!([{ "key": "changed", "bytes": 5, "why": "changed" }, { "key": "new", "bytes": 6, "why": "new" }]);
    assert_eq!(planned["copies"]["first"], copies, "{dry}");
    assert_eq!((&planned["unchanged"], &planned["gone"], &planned["copied_bytes"]), (&json!(1), &json!(1), &json!(11)));
    let words = sites.words("ams", &["capture", "--dry-run"], 0);
    assert!(words.contains("bucket.artifacts: would read 2 of 3 objects (11 B; what the other site has is not sent), 1 unchanged, 1 gone"), "{words}");
    assert!(!sites.bucket("fra").join("new").exists());
}

#[cfg(feature = "failpoints")]
#[test]
fn a_look_that_is_killed_goes_on_where_it_was_and_forgets_no_fault() {
    let sites = BucketSites::folders();
    let keys: Vec<String> = (0..600).map(|n| format!("k{n:03}")).collect();
    filled(&sites, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let rotten = ["k010", "k300", "k599"];
    let rot_all = || rotten.map(|key| rot(&sites.bucket("fra").join(key)));
    let killed_at = |site: &str, moment: &str| {
        let output = sites.command(site, &VERIFY_ALL).env("WARMSPARE_FAILPOINT", moment).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{moment} at {site}");
    };
    rot_all();
    killed_at("fra", "verify.bucket:2");
    let report = sites.json("fra", &VERIFY_ALL, 4);
    assert_eq!(report["resumed_after"], "k511");
    assert_eq!((&report["counts"]["objects"], &report["counts"]["reread"]), (&json!(600), &json!(600)));
    assert_eq!(faults(&report), rotten.map(|key| format!("{key} found")));
    for moment in ["verify.bucket:2", "mirror.mend.contents", "mirror.manifest", "mirror.mend", "verify.bucket:4"] {
        killed_at("ams", moment);
        let report = sites.json("ams", &VERIFY_ALL, 0);
        assert_eq!((&report["counts"]["objects"], &report["counts"]["faults"]), (&json!(600), &json!(3)), "{moment}");
        for key in rotten {
            let [live, spare] = ["ams", "fra"].map(|site| fs::read(sites.bucket(site).join(key)).unwrap());
            assert_eq!(spare, live, "{key} after {moment}");
        }
        rot_all();
    }
}
