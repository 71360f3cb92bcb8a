//! How objects reach the spare when servers, lines and processes do what they like: what was sent is not sent again, a server
//! that is asked too much is asked less, and a limit holds.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use warmspare::clock::FixedClock;
use warmspare::error::Explain;
use warmspare::mirror::{self, MirrorError, Pass, PassOptions};
use warmspare::observe::Progress;
use warmspare::store::{Attributes, Bucket, ReadOnly, StoreError, WriteError};

use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{body, contents, get, noise, published, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph, arn};
use crate::support::proxy::{Fault as LineFault, Proxy};
use crate::support::synthetic::{Fault, Synthetic, content_of, key_of};

async fn pass_at(source: &Bucket, target: &Bucket, state: &Path, days: i64) -> Result<Pass, MirrorError> {
    let clock = FixedClock(Timestamp::now() + SignedDuration::from_hours(24 * days));
    mirror::pass(&ReadOnly::new(source.clone()), target, state, &PassOptions::default(), &clock, &Progress::silent())
        .await
}

fn ceph_bucket(ceph: &Ceph, name: &str, credentials: &str) -> Bucket {
    s3(ceph.endpoint(), name, "", Some(credentials))
}

/// A capture at the live site, whose words are read.
fn capture(sites: &BucketSites) -> Command {
    let mut command = sites.command("ams", &["capture", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_large_upload_that_was_killed_goes_on_where_it_was() {
    use std::os::unix::process::ExitStatusExt;
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let source = ceph_bucket(&ceph, &live, CREDENTIALS);
    put(&source, "large", noise(3, 25 << 20)).await.unwrap();
    let sites = BucketSites::s3(&ceph, &live, &spare);
    let parts = |log: &Path| fs::read_to_string(log).unwrap().matches("store.upload.part").count();
    let killed_at = |step: &str| {
        let log = sites.path().join("log");
        let _ = fs::remove_file(&log);
        let output =
            capture(&sites).env("WARMSPARE_FAILPOINT", step).env("WARMSPARE_FAILPOINT_LOG", &log).output().unwrap();
        (output.status.signal(), parts(&log), said(&output))
    };
    let (signal, parts, said) = killed_at("store.upload.part:3");
    assert_eq!((signal, parts), (Some(9), 3), "{said}");
    // The upload is there and gone on with: the step of beginning one is not passed.
    let (signal, parts, said) = killed_at("store.upload.noted");
    assert_eq!((signal, parts), (None, 1), "{said}");
    put(&source, "large", noise(4, 25 << 20)).await.unwrap();
    for (step, expected) in [("store.upload.noted", 0), ("store.upload.complete", 4)] {
        let (signal, parts, said) = killed_at(step);
        assert_eq!((signal, parts), (Some(9), expected), "{said}");
    }
    let done = capture(&sites).output().unwrap();
    assert!(done.status.success(), "{}", self::said(&done));
    let target = ceph_bucket(&ceph, &spare, CREDENTIALS);
    assert_eq!(contents(&target).await, contents(&source).await);
    assert_eq!(fs::read_dir(sites.state("ams").join("mirror/artifacts/uploads")).unwrap().count(), 0);
}

/// Begins an upload of `content` and breaks off after so many parts.
async fn broken_off(target: &Bucket, key: &str, content: bytes::Bytes, bytes: usize) {
    use futures_util::StreamExt;
    let at = warmspare::store::Place::key("source", key, "read");
    let broken = warmspare::store::StoreError::Unavailable { at, source: "the line broke".into() };
    let body = body(content.slice(..bytes)).chain(futures_util::stream::iter([Err(broken)])).boxed();
    let written = target.write(key, &Attributes::default(), content.len() as u64, body).await;
    assert!(matches!(written, Err(WriteError::Body(_))));
}

#[tokio::test]
async fn parts_of_what_an_object_was_before_are_not_taken_for_what_it_is() {
    let ceph = Ceph::shared();
    let folder = tempfile::tempdir().unwrap();
    let target = ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS).noting_uploads(folder.path());
    let (old, new) = (noise(1, 20 << 20), noise(2, 20 << 20));
    broken_off(&target, "k", old.clone(), 17 << 20).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    put(&target, "k", new.clone()).await.unwrap();
    assert!(get(&target, "k").await.unwrap() == new);
    // Another size, and other headers: another upload.
    broken_off(&target, "k", old.clone(), 17 << 20).await;
    put(&target, "k", new.slice(..19 << 20)).await.unwrap();
    assert!(get(&target, "k").await.unwrap() == new.slice(..19 << 20));
    broken_off(&target, "k", old.clone(), 17 << 20).await;
    let typed = Attributes { content_type: Some("text/x-new".to_owned()), ..Attributes::default() };
    target.write("k", &typed, old.len() as u64, body(old.clone())).await.unwrap();
    let head = target.head("k").await.unwrap();
    assert_eq!(head.attributes.content_type.as_deref(), Some("text/x-new"));
    assert!(get(&target, "k").await.unwrap() == old);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_that_somebody_aborted_is_begun_anew() {
    let ceph = Ceph::shared();
    let folder = tempfile::tempdir().unwrap();
    let target = ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS).noting_uploads(folder.path());
    let content = noise(1, 20 << 20);
    broken_off(&target, "k", content.clone(), 17 << 20).await;
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let note = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let text = fs::read(&note).unwrap();
    assert!(target.give_up_uploads(later).await.unwrap().is_empty());
    fs::write(&note, text).unwrap();
    put(&target, "k", content.clone()).await.unwrap();
    assert!(get(&target, "k").await.unwrap() == content);
}

/// 5 TB at 5 MB a second take longer than a week. It was begun then, and nobody has given it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_goes_on_is_not_given_up_a_week_after_it_began() {
    use futures_util::StreamExt;
    const DAY: Duration = Duration::from_secs(86_400);
    let ceph = Ceph::shared();
    let folder = tempfile::tempdir().unwrap();
    let target = ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS).noting_uploads(folder.path());
    let content = noise(7, 40 << 20);
    let age = {
        let folder = folder.path().to_owned();
        move |days: u32| {
            let note = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
            let then = std::time::SystemTime::now() - DAY * days;
            fs::File::options().write(true).open(note).unwrap().set_modified(then).unwrap();
        }
    };
    let given_up = async || {
        let week_ago = Timestamp::now() - SignedDuration::from_hours(7 * 24);
        assert!(target.give_up_uploads(week_ago).await.unwrap().is_empty());
        fs::read_dir(folder.path()).unwrap().count() == 0
    };
    broken_off(&target, "k", content.clone(), 17 << 20).await;
    // Gone on with after six days, and again after eight.
    age(6);
    broken_off(&target, "k", content.clone(), 17 << 20).await;
    age(2);
    assert!(!given_up().await, "it was gone on with two days ago");
    age(8);
    broken_off(&target, "k", content.clone(), 17 << 20).await;
    assert!(!given_up().await, "a process has just gone on with it");
    // And without any restart: it is as old as that while the third part is read.
    let blocks: Vec<_> = content.slice(..38 << 20).chunks(100_000).map(bytes::Bytes::copy_from_slice).collect();
    let at = warmspare::store::Place::key("source", "k", "read");
    let broken = StoreError::Unavailable { at, source: "the line broke".into() };
    let blocks = blocks.into_iter().enumerate().map(move |(n, block)| {
        if n == 170 {
            age(8);
        }
        Ok(block)
    });
    let body = futures_util::stream::iter(blocks).chain(futures_util::stream::iter([Err(broken)])).boxed();
    let written = target.write("k", &Attributes::default(), content.len() as u64, body).await;
    assert!(matches!(written, Err(WriteError::Body(_))));
    assert!(!given_up().await, "parts were taken a moment ago");
    put(&target, "k", content.clone()).await.unwrap();
    assert!(get(&target, "k").await.unwrap() == content);
}

/// Copies one object more, and nothing else.
async fn copies_one(source: &Bucket, target: &Bucket, state: &Path, key: &str, bytes: usize) {
    put(source, key, noise(key.len() as u8, bytes)).await.unwrap();
    let done = pass_at(source, target, state, 0).await.unwrap();
    done.complete().unwrap();
    assert_eq!(done.copied, 1);
    assert!(get(target, key).await.unwrap() == get(source, key).await.unwrap(), "{key}");
}

#[tokio::test]
async fn what_the_line_spoils_is_noticed_in_one_piece_in_parts_and_where_only_the_tag_shows_it() {
    let ceph = Ceph::shared();
    let folder = tempfile::tempdir().unwrap();
    // In parts: three and a completion, and what was stored before is not sent again. Once the tag is known to prove them, they are
    // stored as they come, and all sent again.
    for (number, expected, bytes) in [(1, 2, 100_000), (2, 5, 20 << 20), (6, 12, 20 << 20)] {
        let proxy = Proxy::start(ceph.endpoint(), LineFault::SpoilsBody(number)).await;
        let (source, spare) = (ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS), ceph.bucket());
        let target = s3(proxy.endpoint(), &spare, "", Some(CREDENTIALS));
        let state = folder.path().join(number.to_string());
        copies_one(&source, &target, &state, "k", bytes).await;
        if number == 6 {
            copies_one(&source, &target, &state, "kk", bytes).await;
        }
        assert_eq!(proxy.counted(), expected, "body {number} was spoilt");
    }
}

#[tokio::test]
async fn a_bucket_that_wants_content_signed_gets_it_so_after_the_first_refusal() {
    let ceph = Ceph::shared();
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(ceph.endpoint(), LineFault::RefusesUnsigned).await;
    let (source, spare) = (ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS), ceph.bucket());
    let target = s3(proxy.endpoint(), &spare, "", Some(CREDENTIALS));
    for (key, bytes) in [("k", 100_000), ("kk", 20 << 20)] {
        copies_one(&source, &target, folder.path(), key, bytes).await;
    }
    assert_eq!(proxy.counted(), 1);
    let refused = ceph_bucket(&ceph, &spare, "nobody:wrong");
    let error = put(&refused, "k", "x").await.unwrap_err();
    assert!(matches!(error, WriteError::Store(StoreError::Denied { .. })), "{error:?}");
}

#[tokio::test]
async fn an_old_upload_that_may_not_be_aborted_is_told_of_once() {
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let pusher = ceph.user("pusher");
    ceph.set_policy(
        &spare,
        &format!(
            r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Principal":{{"AWS":["{who}"]}},"Action":["s3:PutObject","s3:GetObject","s3:ListBucket","s3:ListMultipartUploadParts"],"Resource":["arn:aws:s3:::{spare}","arn:aws:s3:::{spare}/*"]}},
            {{"Effect":"Deny","Principal":{{"AWS":["{who}"]}},"Action":["s3:AbortMultipartUpload"],"Resource":["arn:aws:s3:::{spare}/*"]}}]}}"#,
            who = arn("pusher")
        ),
    );
    let (source, target) = (ceph_bucket(&ceph, &live, CREDENTIALS), ceph_bucket(&ceph, &spare, &pusher));
    put(&source, "a", "a").await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let noting = target.noting_uploads(&state.path().join("uploads"));
    broken_off(&noting, "gone by now", noise(1, 20 << 20), 17 << 20).await;
    for (days, told) in [(1, 0), (8, 1), (8, 0)] {
        let pass = pass_at(&source, &target, state.path(), days).await.unwrap();
        pass.complete().unwrap();
        assert_eq!(pass.unaborted.total, told, "{:?}", pass.unaborted);
    }
}

#[tokio::test]
async fn a_server_that_is_asked_too_much_is_asked_less_and_gets_every_object() {
    let (live, spare) = (Synthetic::start(400), Synthetic::start(0));
    spare.fail(Fault::Slow(Duration::from_millis(5)));
    spare.fail(Fault::SlowDownAbove(3));
    let (source, target) = (s3(live.endpoint(), "b", "", Some("a:b")), s3(spare.endpoint(), "b", "", Some("a:b")));
    let state = tempfile::tempdir().unwrap();
    let pass = pass_at(&source, &target, state.path(), 0).await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.copied, spare.written().len()), (400, 400));
    assert!(target.pressure() > 0);
    assert_eq!(spare.written()[&key_of(399)], content_of(399, false));
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_left_alone_until_then() {
    let server = Synthetic::start(1);
    let bucket = s3(server.endpoint(), "b", "", Some("a:b"));
    // The first of a million requests.
    server.fail(Fault::slow_down(1_000_000, Some(2)));
    let begun = Instant::now();
    bucket.head(&key_of(0)).await.unwrap();
    assert!((1.9..20.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    assert_eq!((bucket.pressure(), server.requests()), (1, 2));
}

#[tokio::test]
async fn a_spare_that_fails_for_a_while_does_not_end_the_pass() {
    let (live, spare) = (Synthetic::start(50), Synthetic::start(0));
    let (source, target) = (s3(live.endpoint(), "b", "", Some("a:b")), s3(spare.endpoint(), "b", "", Some("a:b")));
    let state = tempfile::tempdir().unwrap();
    let failing = async {
        while spare.requests() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spare.fail(Fault::fails(30));
    };
    let (pass, ()) = tokio::join!(pass_at(&source, &target, state.path(), 0), failing);
    let pass = pass.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.copied, spare.written().len()), (50, 50));
}

#[tokio::test]
async fn a_spare_where_somebody_else_is_at_the_same_objects_gets_every_object() {
    let (live, spare) = (Synthetic::start(50), Synthetic::start(0));
    let (source, target) = (s3(live.endpoint(), "b", "", Some("a:b")), s3(spare.endpoint(), "b", "", Some("a:b")));
    let state = tempfile::tempdir().unwrap();
    // More than one object is tried, spread over those that are under way.
    spare.fail(Fault::conflicts(20));
    let pass = pass_at(&source, &target, state.path(), 0).await.unwrap();
    pass.complete().unwrap();
    assert_eq!((pass.copied, spare.written().len()), (50, 50));
}

/// What the spare has is what the manifest says, object by object, whatever came of the replies.
#[tokio::test]
async fn replies_that_are_lost_and_writes_that_are_done_and_said_to_have_failed_leave_no_doubt() {
    let ceph = Ceph::shared();
    for fault in [LineFault::LosesReplies(7), LineFault::SaysFailed(7)] {
        let proxy = Proxy::start(ceph.endpoint(), fault).await;
        let (source, spare) = (ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS), ceph.bucket());
        for n in 0..20u8 {
            put(&source, &format!("{n}"), noise(n, 1_000)).await.unwrap();
        }
        put(&source, "large", noise(99, 20 << 20)).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        let through = s3(proxy.endpoint(), &spare, "", Some(CREDENTIALS));
        let pass = pass_at(&source, &through, state.path(), 0).await.unwrap();
        pass.complete().unwrap();
        assert!(proxy.counted() > 7, "{fault:?}: {}", proxy.counted());
        let (found, rows) = (contents(&ceph_bucket(&ceph, &spare, CREDENTIALS)).await, published(state.path()));
        assert_eq!(found, contents(&source).await, "{fault:?}");
        let recorded: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.blake3)).collect();
        let standing: Vec<_> = found.iter().map(|(key, content)| (key.as_str(), blake3::hash(content))).collect();
        assert_eq!(recorded, standing, "{fault:?}");
    }
}

#[tokio::test]
async fn a_line_that_is_cut_ends_a_pass_with_a_word_and_the_next_one_goes_on() {
    let ceph = Ceph::shared();
    let (source, spare) = (ceph_bucket(&ceph, &ceph.bucket(), CREDENTIALS), ceph.bucket());
    for n in 0..20u8 {
        put(&source, &format!("{n:02}"), noise(n, 200_000)).await.unwrap();
    }
    let (folder, target) = (tempfile::tempdir().unwrap(), ceph_bucket(&ceph, &spare, CREDENTIALS));
    // In the midst of the first upload; then nobody is there any more.
    let proxy = Proxy::start(ceph.endpoint(), LineFault::DiesAfter(100_000)).await;
    let through = s3(proxy.endpoint(), &spare, "", Some(CREDENTIALS));
    let error = pass_at(&source, &through, folder.path(), 0).await.unwrap_err();
    let MirrorError::Store(StoreError::Unavailable { at, .. }) = &error else { panic!("{error:?}") };
    assert!(at.to_string().contains(&spare), "it names the bucket: {error}");
    assert!(error.next_step().is_some());
    let listed = warmspare::mirror::manifest_path(folder.path());
    let recorded = if listed.exists() { published(folder.path()) } else { Vec::new() };
    let there = contents(&target).await;
    assert!(recorded.iter().all(|row| there.contains_key(&row.key)), "what was not confirmed is not recorded");
    pass_at(&source, &target, folder.path(), 0).await.unwrap().complete().unwrap();
    assert_eq!(contents(&target).await, contents(&source).await);
}

/// The moment is drawn, not a step of ours: whatever was going on is torn.
#[tokio::test]
async fn captures_killed_at_random_moments_leave_a_mirror_that_the_next_one_completes() {
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let (source, target) = (ceph_bucket(&ceph, &live, CREDENTIALS), ceph_bucket(&ceph, &spare, CREDENTIALS));
    let sites = BucketSites::s3(&ceph, &live, &spare);
    let seed = std::env::var("WARMSPARE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()));
    println!("WARMSPARE_SEED={seed}");
    let written = async |round: u8| {
        for n in 0..10u8 {
            put(&source, &format!("{}", n * 3 % 10 + round), noise(round ^ n, 50_000)).await.unwrap();
        }
        put(&source, "large", noise(round, 18 << 20)).await.unwrap();
    };
    written(12).await;
    let begun = Instant::now();
    assert!(capture(&sites).status().unwrap().success(), "seed {seed}");
    let one = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let (mut draw, mut killed) = (seed, 0);
    for round in 0..12u8 {
        written(round).await;
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = capture(&sites).spawn().unwrap();
        // What a capture takes here, and some more: now and then one comes to its end.
        tokio::time::sleep(Duration::from_millis((draw >> 33) % (one + one / 4))).await;
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed > 2, "seed {seed}: only {killed} of twelve were killed before their end");
    let done = capture(&sites).output().unwrap();
    assert!(done.status.success(), "seed {seed}: {}", said(&done));
    let (found, meant) = (contents(&target).await, contents(&source).await);
    let wrong = meant.iter().find(|(key, content)| found.get(*key) != Some(content));
    assert!(wrong.is_none(), "seed {seed}: {:?} at the spare", wrong.map(|(key, _)| key));
    let rows = published(&sites.state("ams").join("mirror/artifacts"));
    let recorded: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.blake3)).collect();
    let standing: Vec<_> = meant.iter().map(|(key, content)| (key.as_str(), blake3::hash(content))).collect();
    assert_eq!(recorded, standing, "seed {seed}");
}

fn hang_up(child: &Child) {
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, Signal::HUP).unwrap();
}

/// Reads on until a line has `words`; all that was read.
fn read_until(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) -> String {
    let mut read = String::new();
    for line in lines {
        read += &line.unwrap();
        read.push('\n');
        if read.contains(words) {
            return read;
        }
    }
    panic!("it ended without saying {words:?}: {read}");
}

#[tokio::test]
async fn a_limit_holds_and_is_lifted_while_a_capture_runs() {
    let ceph = Ceph::shared();
    let (live, spare) = (ceph.bucket(), ceph.bucket());
    let source = ceph_bucket(&ceph, &live, CREDENTIALS);
    put(&source, "k", noise(1, 8 << 20)).await.unwrap();
    let sites = BucketSites::s3(&ceph, &live, &spare);
    sites.edit_configuration("live = \"ams\"\n", "live = \"ams\"\nmirror = { limits = [\"64 KiB/s\"] }\n");
    let begun = Instant::now();
    let mut child = capture(&sites).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    while !sites.state("ams").join("mirror").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it mirrored");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Two minutes at this rate. A wrong file changes nothing; a right one does.
    let text = fs::read_to_string(sites.configuration()).unwrap();
    fs::write(sites.configuration(), "wrong").unwrap();
    hang_up(&child);
    read_until(&mut said, "the limits stay as they are");
    assert!(child.try_wait().unwrap().is_none(), "it was limited, and lived through SIGHUP");
    fs::write(sites.configuration(), text.replace("64 KiB/s", "900 MiB/s")).unwrap();
    hang_up(&child);
    read_until(&mut said, "hold from now on");
    assert!(child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(contents(&ceph_bucket(&ceph, &spare, CREDENTIALS)).await, contents(&source).await);
}
