//! What a mirror overwrites, hides and brings back: after any history of edits both sides are equal, and every point that was
//! ever published can be rebuilt exactly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use jiff::{SignedDuration, Timestamp};
use warmspare::clock::{FixedClock, SystemClock};
use warmspare::error::Error;
use warmspare::mirror::attic::{Attic, Protection, make_folder};
use warmspare::mirror::hide::{Extras, Going};
use warmspare::mirror::let_go::{OldNames, let_go};
use warmspare::mirror::{self, AUDIT_PERIOD, Pass, PassOptions, PublishedRow, Sides};
use warmspare::observe::Progress;
use warmspare::restore::steps::bucket_rebuild::{Rebuild, Rebuilt};
use warmspare::store::{Bucket, ReadOnly, Removing, StoreError, Tags};

use crate::support::buckets::{contents, folder, get, keys, noise, published, put, read_plainly, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

/// Two sides, what lies between them, and what the points said.
pub struct World {
    pub live: Bucket,
    pub spare: Bucket,
    place: Option<Bucket>,
    root: tempfile::TempDir,
    /// What another client reads the two sides by: the server, and the buckets' names there. None where they are folders.
    plainly: Option<(Arc<Ceph>, [String; 2])>,
    canary: Option<&'static str>,
    pub accepted: u64,
    pub points: Vec<Vec<PublishedRow>>,
}

impl World {
    pub fn new(live: Bucket, spare: Bucket, place: Option<Bucket>, root: tempfile::TempDir) -> Self {
        World { live, spare, place, root, plainly: None, canary: None, accepted: 0, points: Vec::new() }
    }

    pub fn of_folders() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["live", "spare"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let (live, spare) = (root.path().join("live"), root.path().join("spare"));
        make_folder(&root.path().join("spare.attic"), Some(&spare)).unwrap();
        let place = folder(&root.path().join("spare.attic"));
        World::new(folder(&live), folder(&spare), Some(place), root)
    }

    fn of_s3(ceph: &Arc<Ceph>, versioned: bool) -> Self {
        let open = |name: &str| s3(ceph.endpoint(), name, "", Some(CREDENTIALS));
        let names = [ceph.bucket(), if versioned { ceph.versioned_bucket() } else { ceph.bucket() }];
        let [live, spare] = names.each_ref().map(|name| open(name));
        let world = World::new(live, spare, Some(open(&ceph.bucket())), tempfile::tempdir().unwrap());
        World { plainly: Some((Arc::clone(ceph), names)), ..world }
    }

    /// What is in the live bucket and in the spare one, read with nothing of ours.
    fn both_plainly(&self) -> [BTreeMap<String, Vec<u8>>; 2] {
        match &self.plainly {
            Some((ceph, names)) => names.each_ref().map(|name| ceph.read_all_plainly(name)),
            None => ["live", "spare"].map(|name| read_plainly(&self.root.path().join(name))),
        }
    }

    /// Where both sides lie, if they are folders: `live`, `spare` and `spare.attic`.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub async fn attic(&self, now: Timestamp) -> Attic {
        Attic::open(&self.spare, self.place.clone(), now).await.unwrap()
    }

    async fn pass_at(&self, now: Timestamp) -> Pass {
        let (source, attic) = (ReadOnly::new(self.live.clone()), self.attic(now).await);
        let sides = Sides { source: &source, canary: self.canary, target: &self.spare, attic: &attic };
        let options = PassOptions { accepted: self.accepted, ..PassOptions::default() };
        mirror::follow(&sides, &self.state(), &options, &FixedClock(now), &Progress::silent()).await.unwrap()
    }

    /// A pass now, and the point it leaves.
    pub async fn point(&mut self) -> Pass {
        let pass = self.pass_at(Timestamp::now()).await;
        self.points.push(published(&self.state()));
        pass
    }

    /// Hides what the last two points lack and an older one has, as the keeper does without a grace period.
    pub async fn hide(&self) -> Vec<String> {
        let [older @ .., recent, newest] = self.points.as_slice() else { return Vec::new() };
        let later = Timestamp::now() + SignedDuration::from_hours(1);
        let spare = Removing::new(self.spare.clone());
        let mut extras = Extras::find(&spare, rows(newest), None, usize::MAX).await.unwrap();
        extras.without(rows(recent)).await.unwrap();
        for point in older {
            extras.known_to(rows(point)).await.unwrap();
        }
        let (now, mut going) = (Timestamp::now(), Going::default());
        going.add(extras);
        going.hide(&spare, &self.attic(now).await, &SystemClock, later).await.unwrap()
    }

    /// Rebuilds the point in a new folder and reads it with nothing of ours.
    pub async fn rebuilt(&self, point: usize) -> (Rebuilt, BTreeMap<String, Vec<u8>>) {
        let place = tempfile::tempdir().unwrap();
        let (into, attic) = (folder(place.path()), self.attic(Timestamp::now()).await);
        let rebuild =
            Rebuild { spare: &self.spare, attic: &attic, into: Some(&into), replace: false, now: Timestamp::now() };
        let done = rebuild.run(rows(&self.points[point]), &Progress::silent()).await.unwrap();
        (done, read_plainly(place.path()))
    }
}

pub fn rows(point: &[PublishedRow]) -> impl Stream<Item = Result<PublishedRow, Error>> + Send + use<> {
    let rows: Vec<Result<PublishedRow, Error>> = point.iter().cloned().map(Ok).collect();
    stream::iter(rows)
}

/// Takes an object of the live bucket away, as its application does.
pub async fn delete(bucket: &Bucket, key: &str) {
    let head = bucket.head(key).await.unwrap();
    assert!(Removing::new(bucket.clone()).remove(key, &head).await.unwrap());
}

/// Renames an object of the live bucket: a file keeps its time, as `mv` leaves it.
async fn rename(world: &World, from: &str, to: &str, content: Bytes) {
    let (folder, same) = (world.root.path().join("live"), from == to);
    if folder.exists() {
        fs::create_dir_all(folder.join(to).parent().unwrap()).unwrap();
        fs::rename(folder.join(from), folder.join(to)).unwrap();
    } else if !same {
        delete(&world.live, from).await;
        put(&world.live, to, content).await.unwrap();
    }
}

/// What the live bucket holds, by the test's own account.
type Model = BTreeMap<String, Bytes>;

fn equal(recorded: &[PublishedRow], model: &Model) -> bool {
    let of = |row: &PublishedRow| (row.key.clone(), row.size, row.blake3);
    let is = |(key, content): (&String, &Bytes)| (key.clone(), content.len() as u64, blake3::hash(content));
    recorded.iter().map(of).eq(model.iter().map(is))
}

fn plain(model: &Model) -> BTreeMap<String, Vec<u8>> {
    model.iter().map(|(key, content)| (key.clone(), content.to_vec())).collect()
}

/// Numbers that look random and are the same for one seed: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn key(&mut self) -> String {
        format!("{}/{:02}", ["a", "a-b", "c d"][self.roll(3) as usize], self.roll(12))
    }

    /// Few contents of few sizes, so that they come back, and are shared by several keys.
    fn content(&mut self) -> Bytes {
        let size = [0, 1, 700, 700, 700, 9_000][self.roll(6) as usize];
        noise(self.roll(9) as u8, size)
    }

    fn any_of(&mut self, model: &Model) -> Option<String> {
        let at = self.roll(model.len().max(1) as u64) as usize;
        model.keys().nth(at).cloned()
    }
}

/// One edit at the live site.
async fn edit(world: &World, dice: &mut Dice, model: &mut Model) {
    let kind = dice.roll(10);
    let standing = dice.any_of(model);
    match (kind, standing) {
        (0..=2, Some(key)) => {
            delete(&world.live, &key).await;
            model.remove(&key);
        }
        (3..=4, Some(from)) => {
            let (to, content) = (dice.key(), model[&from].clone());
            rename(world, &from, &to, content.clone()).await;
            model.remove(&from);
            model.insert(to, content);
        }
        (5, Some(key)) if world.live.keeps().tags => {
            let tags = Tags::from([("n".to_owned(), dice.roll(5).to_string())]);
            world.live.write_tags(&key, &tags).await.unwrap();
        }
        (6, Some(key)) => {
            let content = noise(dice.roll(200) as u8, model[&key].len());
            put(&world.live, &key, content.clone()).await.unwrap();
            model.insert(key, content);
        }
        _ => {
            let (key, content) = (dice.key(), dice.content());
            put(&world.live, &key, content.clone()).await.unwrap();
            model.insert(key, content);
        }
    }
}

/// So many passes of so many edits each; all points are looked at in the end.
async fn a_history_comes_back(mut world: World, name: &str, passes: u64, edits: u64) {
    let seed = std::env::var("WARMSPARE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()));
    println!("{name}: WARMSPARE_SEED={seed}");
    let begun = std::time::Instant::now();
    let (mut dice, mut model, mut models) = (Dice(seed), Model::new(), Vec::new());
    let (mut hidden, mut duplicated) = (0, 0);
    for _ in 0..passes {
        for _ in 0..edits {
            edit(&world, &mut dice, &mut model).await;
        }
        world.accepted = 1_000;
        let pass = world.point().await;
        pass.complete().unwrap();
        duplicated += pass.duplicated;
        assert!(pass.not_duplicated.is_empty(), "{:?}", pass.not_duplicated);
        assert!(equal(world.points.last().unwrap(), &model), "the manifest is not what the live bucket has");
        let spare = contents(&world.spare).await;
        let differs = model.iter().find(|(key, content)| spare.get(*key) != Some(content));
        assert!(differs.is_none(), "{:?} at the spare", differs.map(|(key, _)| key));
        models.push(model.clone());
        if dice.roll(3) == 0 {
            hidden += world.hide().await.len();
        }
    }
    // One content under a second key: whatever the seed was, one at least is copied at the spare.
    for key in ["twice/first", "twice/second"] {
        let content = noise(201, 9_000);
        put(&world.live, key, content.clone()).await.unwrap();
        model.insert(key.to_owned(), content);
        let pass = world.point().await;
        pass.complete().unwrap();
        duplicated += pass.duplicated;
        models.push(model.clone());
    }
    // Without edits between, the spare comes to hold what the live site has and nothing else, tags among it.
    for _ in 0..2 {
        world.point().await.complete().unwrap();
        models.push(model.clone());
    }
    world.pass_at(Timestamp::now() + AUDIT_PERIOD).await.complete().unwrap();
    hidden += world.hide().await.len();
    assert_eq!(keys(&world.spare, None).await, keys(&world.live, None).await, "seed {seed}");
    assert!(contents(&world.spare).await == contents(&world.live).await, "seed {seed}");
    let [live, spare] = world.both_plainly();
    assert!(live == plain(&model) && spare == live, "seed {seed}: another client finds something else");
    for key in keys(&world.live, None).await {
        assert_eq!(world.spare.tags(&key, None).await.unwrap(), world.live.tags(&key, None).await.unwrap(), "{key}");
    }
    for (point, model) in models.iter().enumerate() {
        let (done, found) = world.rebuilt(point).await;
        assert!(done.lost == 0 && found == plain(model), "point {point} of seed {seed}: {done:?}");
    }
    let took = begun.elapsed().as_secs();
    println!("{name}: {} points rebuilt; {hidden} hidden, {duplicated} copied at the spare; {took} s", models.len());
    // Files written within one tick of the clock have one time, which nominates the last of them only.
    assert!(hidden > 0 && (duplicated > 0 || !world.live.keeps().tags));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_a_history_of_folders_is_rebuilt_exactly() {
    a_history_comes_back(World::of_folders(), "folders", 20, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_a_history_of_a_store_without_versions_is_rebuilt_exactly() {
    let ceph = Ceph::shared();
    a_history_comes_back(World::of_s3(&ceph, false), "without versions", 10, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_a_history_of_a_store_with_versions_is_rebuilt_exactly() {
    let ceph = Ceph::shared();
    a_history_comes_back(World::of_s3(&ceph, true), "with versions", 10, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10,000 edits on three kinds of store; make soak runs it"]
async fn every_point_of_a_long_history_is_rebuilt_exactly() {
    a_history_comes_back(World::of_folders(), "folders", 100, 100).await;
    let ceph = Ceph::shared();
    a_history_comes_back(World::of_s3(&ceph, false), "without versions", 100, 100).await;
    a_history_comes_back(World::of_s3(&ceph, true), "with versions", 100, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_comes_back_is_copied_from_the_attic_and_not_sent() {
    let ceph = Ceph::shared();
    for mut world in [World::of_folders(), World::of_s3(&ceph, false)] {
        put(&world.live, "k", noise(1, 5_000)).await.unwrap();
        put(&world.live, "other", "other").await.unwrap();
        assert_eq!(world.point().await.sent_bytes, 5_005);
        // A → B → A. A file that is written again has another time, so nothing nominates its content.
        let before = fs::metadata(world.root.path().join("live/k")).and_then(|found| found.modified());
        put(&world.live, "k", noise(2, 5_000)).await.unwrap();
        assert_eq!(world.point().await.sent_bytes, 5_000);
        put(&world.live, "k", noise(1, 5_000)).await.unwrap();
        if let Ok(before) = before {
            let file = fs::File::options().write(true).open(world.root.path().join("live/k")).unwrap();
            file.set_modified(before).unwrap();
        }
        let back = world.point().await;
        assert_eq!((back.sent_bytes, back.duplicated), (0, 1), "{back:?}");
        assert_eq!(get(&world.spare, "k").await.unwrap(), noise(1, 5_000));
        for (point, seed) in [(0, 1), (1, 2), (2, 1)] {
            assert_eq!(world.rebuilt(point).await.1["k"], noise(seed, 5_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_is_lost_is_made_anew_by_hashing_both_sides_and_nothing_is_sent() {
    let ceph = Ceph::shared();
    for mut world in [World::of_folders(), World::of_s3(&ceph, false), World::of_s3(&ceph, true)] {
        for n in 0..5u8 {
            put(&world.live, &format!("{n}"), noise(n, 2_000)).await.unwrap();
        }
        world.point().await.complete().unwrap();
        fs::remove_dir_all(world.state()).unwrap();
        put(&world.live, "0", noise(9, 2_000)).await.unwrap();
        let pass = world.point().await;
        pass.complete().unwrap();
        assert_eq!((pass.sent_bytes, pass.saved_bytes), (2_000, 8_000), "{pass:?}");
        assert_eq!(contents(&world.spare).await, contents(&world.live).await);
        for (point, seed) in [(0, 0), (1, 9)] {
            assert_eq!(world.rebuilt(point).await.1["0"], noise(seed, 2_000));
        }
        assert!(keys(world.place.as_ref().unwrap(), Some("objects/")).await.len() <= 1, "only what was overwritten");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_comes_back_while_the_keeper_hides_it_is_not_lost() {
    let mut world = World::of_folders();
    for key in ["a", "k", "z"] {
        put(&world.live, key, key).await.unwrap();
    }
    world.point().await.complete().unwrap();
    delete(&world.live, "k").await;
    world.point().await.complete().unwrap();
    world.point().await.complete().unwrap();
    // The keeper has looked, and written down what it is about to do; meanwhile the object is there again.
    let attic = world.place.clone().unwrap();
    let (numbers, _) = mirror::touched::begin(&attic, &["k".to_owned()], Timestamp::now()).await.unwrap();
    put(&world.live, "k", "k").await.unwrap();
    let pass = world.point().await;
    assert_eq!(pass.failed.first.iter().map(|failed| failed.key.as_str()).collect::<Vec<_>>(), ["k"]);
    assert_eq!(world.points.last().unwrap().len(), 2, "what may be hidden in a moment is not claimed");
    mirror::touched::end(&attic, &numbers).await.unwrap();
    let pass = world.point().await;
    pass.complete().unwrap();
    assert_eq!((pass.copied, world.points.last().unwrap().len()), (1, 3));
    // It was written anew, so a keeper that saw the old one leaves it alone; and it is no extra any more.
    assert_eq!(world.hide().await, Vec::<String>::new());
    assert_eq!(get(&world.spare, "k").await.unwrap(), "k");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_hidden_is_no_longer_in_sight_and_what_the_mirror_did_not_bring_stays() {
    let ceph = Ceph::shared();
    for mut world in [World::of_folders(), World::of_s3(&ceph, false), World::of_s3(&ceph, true)] {
        for key in ["gone", "here"] {
            put(&world.live, key, key).await.unwrap();
        }
        put(&world.spare, "foreign", "put there by somebody").await.unwrap();
        world.point().await.complete().unwrap();
        delete(&world.live, "gone").await;
        world.point().await.complete().unwrap();
        assert_eq!(world.hide().await, Vec::<String>::new(), "one point without it is not enough");
        world.point().await.complete().unwrap();
        assert_eq!(world.hide().await, ["gone"]);
        assert_eq!(keys(&world.spare, None).await, ["foreign", "here"]);
        assert_eq!(world.hide().await, Vec::<String>::new());
        assert_eq!(world.rebuilt(0).await.1["gone"], b"gone");
        // It comes back, with the content that it had.
        put(&world.live, "gone", "gone").await.unwrap();
        world.point().await.complete().unwrap();
        assert_eq!(get(&world.spare, "gone").await.unwrap(), "gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_since_the_newest_point_is_not_hidden_whatever_the_points_say() {
    let mut world = World::of_folders();
    for key in ["here", "k"] {
        put(&world.live, key, key).await.unwrap();
    }
    world.point().await.complete().unwrap();
    delete(&world.live, "k").await;
    for _ in 0..2 {
        world.point().await.complete().unwrap();
    }
    let stored = Timestamp::now();
    // It is there again, and a pass has written it; no point says so yet.
    put(&world.live, "k", "k").await.unwrap();
    world.pass_at(Timestamp::now()).await.complete().unwrap();
    let (spare, attic) = (Removing::new(world.spare.clone()), world.attic(stored).await);
    let mut extras = Extras::find(&spare, rows(&world.points[2]), None, usize::MAX).await.unwrap();
    extras.known_to(rows(&world.points[0])).await.unwrap();
    let mut going = Going::default();
    going.add(extras);
    assert_eq!(going.keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!(going.hide(&spare, &attic, &SystemClock, stored).await.unwrap(), Vec::<String>::new());
    assert_eq!(get(&world.spare, "k").await.unwrap(), "k");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attic_lets_go_only_of_what_no_point_names_and_not_before_a_week() {
    let mut world = World::of_folders();
    for content in ["one", "two", "three"] {
        put(&world.live, "k", content).await.unwrap();
        world.point().await.complete().unwrap();
    }
    let place = Removing::new(world.place.clone().unwrap());
    let names = || async { keys(place.bucket(), Some("objects/")).await.len() };
    assert_eq!(names().await, 2, "one and two");
    let now = Timestamp::now();
    let find = async |hours: i64| {
        let before = now + SignedDuration::from_hours(hours);
        OldNames::find(&place, before, None, usize::MAX).await.unwrap()
    };
    assert!(find(-1).await.is_empty());
    // As if a week had passed, and only the second point were kept.
    let mut old = find(48).await;
    old.named_by(rows(&world.points[1])).await.unwrap();
    let going = old.going();
    assert_eq!(going.len(), 1, "{going:?}");
    let_go(&place, &going).await.unwrap();
    assert_eq!(names().await, 1);
    assert_eq!(world.rebuilt(1).await.1["k"], b"two");
    assert_eq!(world.rebuilt(0).await.0.lost, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mass_deletes_and_mass_overwrites_wait_for_a_person_and_new_objects_do_not() {
    let mut world = World::of_folders();
    let live = world.root.path().join("live");
    fs::create_dir(live.join("d")).unwrap();
    for n in 0..1_100 {
        fs::write(live.join(format!("d/{n:04}")), [b'x']).unwrap();
    }
    world.point().await.complete().unwrap();
    // A sub-folder that is a disk of its own, and not mounted.
    fs::rename(live.join("d"), live.join("elsewhere")).unwrap();
    fs::rename(live.join("elsewhere"), world.root.path().join("elsewhere")).unwrap();
    fs::write(live.join("new"), "new").unwrap();
    let pass = world.point().await;
    assert_eq!((pass.held_back.deletes, pass.gone, pass.rows, pass.copied), (1_100, 0, 1_101, 1), "{pass:?}");
    assert!(pass.complete().unwrap_err().to_string().contains("1100 of 1100 objects are gone"), "{:?}", pass.held_back);
    assert_eq!(world.points.last().unwrap().len(), 1_101);
    // It is mounted again; and everything in it has changed.
    fs::rename(world.root.path().join("elsewhere"), live.join("d")).unwrap();
    for n in 0..1_100 {
        fs::write(live.join(format!("d/{n:04}")), [b'y']).unwrap();
    }
    fs::write(live.join("newer"), "newer").unwrap();
    let pass = world.point().await;
    assert_eq!(
        (pass.held_back.overwrites, pass.held_back.to_accept(), pass.gone),
        (100, 1_100, 0),
        "{:?}",
        pass.held_back
    );
    assert_eq!(get(&world.spare, "newer").await.unwrap(), "newer");
    let still_x = contents(&world.spare).await.values().filter(|content| content.as_ref() == b"x").count();
    assert_eq!(still_x, 100);
    world.accepted = 1_100;
    world.point().await.complete().unwrap();
    assert_eq!(world.rebuilt(0).await.0.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_canary_a_bucket_is_not_followed() {
    let mut world = World::of_folders();
    world.canary = Some("canary");
    for key in ["a", "b", "canary"] {
        put(&world.live, key, key).await.unwrap();
    }
    world.point().await.complete().unwrap();
    delete(&world.live, "canary").await;
    delete(&world.live, "a").await;
    put(&world.live, "b", "changed").await.unwrap();
    put(&world.live, "c", "c").await.unwrap();
    let pass = world.point().await;
    assert_eq!((pass.held_back.deletes, pass.held_back.overwrites, pass.copied), (2, 1, 1), "{pass:?}");
    assert!(pass.held_back.why.starts_with("the canary is not there"));
    assert_eq!(contents(&world.spare).await["b"], "b");
    put(&world.live, "canary", "canary").await.unwrap();
    world.point().await.complete().unwrap();
    assert_eq!(contents(&world.spare).await["b"], "changed");
}

#[tokio::test]
async fn a_store_that_keeps_nothing_is_told_and_a_mount_is_not_taken_for_a_place_beside() {
    let ceph = Ceph::shared();
    let spare = s3(ceph.endpoint(), &ceph.bucket(), "", Some(CREDENTIALS));
    let attic = Attic::open(&spare, None, Timestamp::now()).await.unwrap();
    assert_eq!(attic.protection(), Protection::Nothing);
    assert!(!make_folder(Path::new("/proc.attic"), Some(Path::new("/proc"))).unwrap());
    assert!(!Path::new("/proc.attic").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_takes_the_place_of_a_folder_that_was_emptied_and_a_folder_that_of_a_file() {
    let mut world = World::of_folders();
    let (live, spare) = (world.path().join("live"), world.path().join("spare"));
    for key in ["other", "x/deep/er/a", "x/b", "y"] {
        put(&world.live, key, key).await.unwrap();
    }
    world.point().await.complete().unwrap();
    fs::remove_dir_all(live.join("x")).unwrap();
    fs::remove_file(live.join("y")).unwrap();
    fs::write(live.join("x"), "a file").unwrap();
    put(&world.live, "y/c", "in a folder").await.unwrap();
    for _ in 0..2 {
        let pass = world.point().await;
        let said: Vec<String> =
            pass.skipped.first.iter().map(|skipped| format!("{}: {}", skipped.name, skipped.why)).collect();
        assert_eq!(said.len(), 2, "{said:?}, {:?}", pass.failed);
        assert!(said[0].starts_with("x: a folder of that name is there"), "{said:?}");
        assert!(said[1].starts_with("y/c: a file, y, stands where it needs a folder"), "{said:?}");
    }
    assert_eq!(world.hide().await, ["x/b", "x/deep/er/a", "y"]);
    assert!(spare.join("x/deep/er").is_dir(), "folders stay; that is what was in the way");
    world.point().await.complete().unwrap();
    assert_eq!(read_plainly(&spare), read_plainly(&live));
    // One in which somebody has put something is left as it is.
    let error = put(&folder(&spare), "y", "y").await.unwrap_err();
    assert!(matches!(error.any(), StoreError::BadKey { .. }));
    assert_eq!(fs::read(spare.join("y/c")).unwrap(), b"in a folder");
    for point in 0..world.points.len() {
        assert_eq!(world.rebuilt(point).await.0.lost, 0);
    }
}
