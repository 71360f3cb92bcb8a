//! A spare that was mirrored before it kept versions: what stood there then is its version `null`, and no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use warmspare::observe::Progress;
use warmspare::restore::steps::bucket_rebuild::{Rebuild, Rebuilt};
use warmspare::store::{Bucket, Tags};
use warmspare::verify::object;

use crate::attic::{World, delete, rows};
use crate::support::buckets::{get, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

type Contents = BTreeMap<String, Vec<u8>>;

fn text(objects: &[(&str, &str)]) -> Contents {
    objects.iter().map(|(key, content)| ((*key).to_owned(), content.as_bytes().to_vec())).collect()
}

/// A spare that keeps no versions yet, its name, and the first point: `over`, `gone` and `still`.
async fn before_versions(ceph: &Arc<Ceph>) -> (World, String, Contents) {
    let names = [ceph.bucket(), ceph.bucket(), ceph.bucket()];
    let [live, spare, place] = names.each_ref().map(|name| s3(ceph.endpoint(), name, "", Some(CREDENTIALS)));
    let mut world = World::new(live, spare, Some(place), tempfile::tempdir().unwrap());
    let first = [("gone", "deleted later"), ("over", "one"), ("still", "still here")];
    for (key, content) in first {
        put(&world.live, key, content).await.unwrap();
    }
    world.live.write_tags("over", &tags("one")).await.unwrap();
    world.point().await.complete().unwrap();
    let [_, spare, _] = names;
    (world, spare, text(&first))
}

fn tags(value: &str) -> Tags {
    Tags::from([("of".to_owned(), value.to_owned())])
}

/// What a proof says of a point: how much of it stands beside the bucket, and what is wrong.
async fn proven(world: &World, point: usize) -> (u64, Vec<String>) {
    let (attic, progress) = (world.attic(Timestamp::now()).await, Progress::silent());
    let found = object::check(&world.spare, Some(&attic), rows(&world.points[point]), 4, &progress).await.unwrap();
    (found.beside, found.differences.first.iter().map(ToString::to_string).collect())
}

async fn in_place(world: &World, point: usize) -> Rebuilt {
    let (spare, attic) = (&world.spare, world.attic(Timestamp::now()).await);
    let rebuild = Rebuild { spare, attic: &attic, into: None, replace: true, now: Timestamp::now() };
    rebuild.run(rows(&world.points[point]), &Progress::silent()).await.unwrap()
}

/// Overwrites `over` and deletes `gone` at the live site, and hides it at the spare.
async fn overwritten_and_hidden(world: &mut World) {
    put(&world.live, "over", "the second").await.unwrap();
    delete(&world.live, "gone").await;
    for _ in 0..2 {
        world.point().await.complete().unwrap();
    }
    assert_eq!(world.hide().await, ["gone"]);
}

async fn tags_of(bucket: &Bucket, key: &str) -> Tags {
    bucket.tags(key, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_from_before_versioning_was_switched_on_come_back() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let (mut world, name, first) = before_versions(&ceph).await;
        ceph.set_versioning(&name, "Enabled");
        overwritten_and_hidden(&mut world).await;
        assert_eq!(proven(&world, 0).await, (2, Vec::new()));
        let (done, found) = world.rebuilt(0).await;
        assert!(done.lost == 0 && found == first, "{done:?}");
        let done = in_place(&world, 0).await;
        assert_eq!((done.lost, done.brought, done.replaced), (0, 2, 1), "{done:?}");
        assert_eq!(get(&world.spare, "over").await.unwrap(), "one");
        assert_eq!(get(&world.spare, "gone").await.unwrap(), "deleted later");
        assert_eq!(tags_of(&world.spare, "over").await, tags("one"));
        let (done, found) = world.rebuilt(1).await;
        assert!(done.lost == 0 && found == text(&[("over", "the second"), ("still", "still here")]), "{done:?}");
    }
}

/// Where versions are kept no more, what is written and what is deleted takes the place of the version `null`, wherever that
/// stands among the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_from_before_versioning_come_back_although_it_was_suspended_later() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let (mut world, name, first) = before_versions(&ceph).await;
        ceph.set_versioning(&name, "Enabled");
        overwritten_and_hidden(&mut world).await;
        ceph.set_versioning(&name, "Suspended");
        put(&world.live, "over", "and the third").await.unwrap();
        put(&world.live, "gone", "there again").await.unwrap();
        put(&world.live, "still", "changed").await.unwrap();
        world.point().await.complete().unwrap();
        for (point, expected) in [
            (0, first),
            (1, text(&[("over", "the second"), ("still", "still here")])),
            (3, text(&[("gone", "there again"), ("over", "and the third"), ("still", "changed")])),
        ] {
            assert_eq!(proven(&world, point).await.1, Vec::<String>::new(), "point {point}");
            let (done, found) = world.rebuilt(point).await;
            assert!(done.lost == 0 && found == expected, "point {point}: {done:?}");
        }
        assert_eq!(in_place(&world, 0).await.lost, 0);
        assert_eq!(tags_of(&world.spare, "over").await, tags("one"));
    }
}

/// What the keeper hides while versions are suspended takes the version `null` away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hiding_where_versioning_was_suspended_keeps_the_object_from_before_it() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let (mut world, name, first) = before_versions(&ceph).await;
        ceph.set_versioning(&name, "Enabled");
        put(&world.live, "over", "the second").await.unwrap();
        put(&world.live, "gone", "a second, too").await.unwrap();
        world.point().await.complete().unwrap();
        ceph.set_versioning(&name, "Suspended");
        for key in ["gone", "over", "still"] {
            delete(&world.live, key).await;
        }
        put(&world.live, "z", "z").await.unwrap();
        world.accepted = 10;
        for _ in 0..2 {
            world.point().await.complete().unwrap();
        }
        assert_eq!(world.hide().await, ["gone", "over", "still"]);
        let (done, found) = world.rebuilt(0).await;
        assert!(done.lost == 0 && found == first, "{done:?}");
        let second = text(&[("gone", "a second, too"), ("over", "the second"), ("still", "still here")]);
        let (done, found) = world.rebuilt(1).await;
        assert!(done.lost == 0 && found == second, "{done:?}");
    }
}
