//! An object larger than 5 GiB, which no server copies or takes in one request: sent, copied at the spare when it is renamed, kept
//! in the attic when it is overwritten, and brought back. `make soak` runs it.

use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use warmspare::clock::SystemClock;
use warmspare::mirror::attic::Attic;
use warmspare::mirror::{self, Pass, PassOptions, Sides};
use warmspare::observe::Progress;
use warmspare::restore::steps::bucket_rebuild::Rebuild;
use warmspare::store::{Attributes, Bucket, ReadOnly};

use crate::support::buckets::{body, published, s3};
use crate::support::ceph::{CREDENTIALS, Ceph};

const BLOCK_BYTES: usize = 512 << 20;
const BLOCKS: usize = 11;
const BYTES: u64 = (BLOCK_BYTES * BLOCKS) as u64;

/// Text that a disk stores in little room, and in which every part differs from the next.
fn block() -> Bytes {
    let mut text = String::with_capacity(BLOCK_BYTES + 64);
    for line in 0.. {
        text.push_str(&format!("{line:020} a line of an artifact that compresses well\n"));
        if text.len() >= BLOCK_BYTES {
            break;
        }
    }
    text.truncate(BLOCK_BYTES);
    text.into()
}

struct Buckets {
    ceph: Ceph,
    names: [String; 4],
    state: tempfile::TempDir,
}

impl Buckets {
    fn bucket(&self, number: usize) -> Bucket {
        s3(self.ceph.endpoint(), &self.names[number], "", Some(CREDENTIALS))
    }

    async fn attic(&self) -> Attic {
        Attic::open(&self.bucket(1), Some(self.bucket(2)), Timestamp::now()).await.unwrap()
    }

    async fn pass(&self, what: &str) -> Pass {
        let (source, target, attic) = (ReadOnly::new(self.bucket(0)), self.bucket(1), self.attic().await);
        let sides = Sides { source: &source, canary: None, target: &target, attic: &attic };
        let (options, begun) = (PassOptions::default(), Instant::now());
        let pass =
            mirror::follow(&sides, self.state.path(), &options, &SystemClock, &Progress::silent()).await.unwrap();
        pass.complete().unwrap();
        println!("{what}: {:.1} s, {} bytes sent", begun.elapsed().as_secs_f64(), pass.sent_bytes);
        pass
    }

    /// The BLAKE3 of an object as another client reads it.
    fn plain_hash(&self, bucket: usize, key: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        self.ceph.read_plainly(&self.names[bucket], key, |block| {
            hasher.update(block);
        });
        hasher.finalize()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "5.5 GiB, copied several times; make soak runs it"]
async fn an_object_above_five_gibibytes_is_mirrored_renamed_kept_and_brought_back() {
    let ceph = Ceph::with_a_disk();
    let names = [(); 4].map(|()| ceph.bucket());
    let buckets = Buckets { ceph, names, state: tempfile::tempdir().unwrap() };
    let (live, block) = (buckets.bucket(0), block());
    let mut hasher = blake3::Hasher::new();
    for _ in 0..BLOCKS {
        hasher.update(&block);
    }
    let expected = hasher.finalize();
    live.write("block", &Attributes::default(), block.len() as u64, body(block)).await.unwrap();
    buckets.ceph.assemble(&buckets.names[0], "large", "block", BLOCKS);
    assert_eq!(live.head("large").await.unwrap().version.size, BYTES);

    let first = buckets.pass("first copy").await;
    assert_eq!((first.copied, first.sent_bytes), (2, BYTES + BLOCK_BYTES as u64), "{first:?}");
    assert_eq!(buckets.plain_hash(1, "large"), expected);
    let row = |key: &str| published(buckets.state.path()).into_iter().find(|row| row.key == key).unwrap();
    assert_eq!((row("large").size, row("large").blake3), (BYTES, expected));

    // Renamed: the server at the spare copies it, in parts.
    buckets.ceph.assemble(&buckets.names[0], "renamed", "block", BLOCKS);
    buckets.ceph.plain_delete(&buckets.names[0], "large");
    let renamed = buckets.pass("renamed").await;
    assert_eq!((renamed.duplicated, renamed.sent_bytes, renamed.gone), (1, 0, 1), "{renamed:?}");
    assert_eq!(buckets.plain_hash(1, "renamed"), expected);
    let point = published(buckets.state.path());

    // Overwritten: what was there is in the attic, and the point has it still.
    live.write("renamed", &Attributes::default(), 3, body("new")).await.unwrap();
    let overwritten = buckets.pass("overwritten").await;
    assert_eq!((overwritten.copied, overwritten.sent_bytes), (1, 3), "{overwritten:?}");
    let (spare, into, attic) = (buckets.bucket(1), buckets.bucket(3), buckets.attic().await);
    let rebuild = Rebuild { spare: &spare, attic: &attic, into: Some(&into), replace: false, now: Timestamp::now() };
    let begun = Instant::now();
    let done = rebuild.run(stream::iter(point.into_iter().map(Ok)), &Progress::silent()).await.unwrap();
    println!("brought back: {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(done.lost, 0, "{done:?}");
    assert_eq!(buckets.plain_hash(3, "renamed"), expected);
}
