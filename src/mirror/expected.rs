//! How much a pass has to read in all, told while it reads: before it has listed everything it does not know.
//!
//! Whoever waits for a long copy wants to know how long it will take, and nobody wants to wait for that. So the source is listed once more,
//! beside the pass, once that has taken a while and has read something. A pass that reads nothing is not asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::list::Order;
use super::preview::held_against;
use super::{MirrorError, PassOptions, Sides};
use crate::observe::Meter;
use crate::store::{Bucket, ReadOnly};

/// A pass that is over sooner needs no word.
pub(super) const AFTER: Duration = Duration::from_secs(20);

/// Between which buckets a pass is, and by what memory.
#[derive(Clone)]
pub(super) struct Between {
    pub(super) source: ReadOnly,
    pub(super) target: Bucket,
    pub(super) state: PathBuf,
    pub(super) options: PassOptions,
}

impl Between {
    pub(super) fn of(sides: &Sides<'_>, state: &Path, options: &PassOptions) -> Self {
        let (source, target) = (sides.source.clone(), sides.target.clone());
        Between { source, target, state: state.to_owned(), options: options.clone() }
    }
}

/// A meter that knows what it was told.
pub(super) struct Counted {
    meter: Box<dyn Meter>,
    read: AtomicU64,
}

impl Counted {
    pub(super) fn new(meter: Box<dyn Meter>) -> Arc<Self> {
        Arc::new(Counted { meter, read: AtomicU64::new(0) })
    }
}

impl Meter for Counted {
    fn advance(&self, amount: u64) {
        self.read.fetch_add(amount, Ordering::Relaxed);
        self.meter.advance(amount);
    }

    fn set_total(&self, total: u64) {
        self.meter.set_total(total);
    }

    fn finish(&self, summary: &str) {
        self.meter.finish(summary);
    }
}

/// Tells `meter` how much a pass `between` two buckets will have read, not before it has taken so long; until what comes back is dropped.
pub(super) fn told(between: Between, meter: &Arc<Counted>, after: Duration) -> JoinSet<()> {
    let (meter, mut telling) = (Arc::clone(meter), JoinSet::new());
    telling.spawn(async move {
        while meter.read.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(after).await;
        }
        match expected(&between).await {
            Ok(Some(total)) => meter.set_total(total),
            Ok(None) => {}
            // The pass will meet it, and say so.
            Err(error) => tracing::debug!(%error, "how much there is to read is not known"),
        }
    });
    telling
}

/// The bytes of the objects that a pass begun now would read; nothing where only a pass can list the source.
async fn expected(between: &Between) -> Result<Option<u64>, MirrorError> {
    let Between { source, target, state, options } = between;
    if Order::remembered(state)? == Order::Unsorted {
        return Ok(None);
    }
    let planned = held_against(source, target, state, Order::Sorted, options).await?;
    Ok((planned.unlisted.total == 0).then_some(planned.copied_bytes))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::config::address::{BucketAddress, BucketUrl};

    struct Telling(UnboundedSender<u64>);

    impl Meter for Telling {
        fn advance(&self, _amount: u64) {}
        fn set_total(&self, total: u64) {
            self.0.send(total).unwrap();
        }
        fn finish(&self, _summary: &str) {}
    }

    #[tokio::test]
    async fn a_pass_that_reads_learns_how_much_there_is_to_read() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            Bucket::open(&BucketAddress::at(name, BucketUrl::Folder(folder)), None).unwrap()
        };
        let (source, target, state) = (ReadOnly::new(place("live")), place("spare"), root.path().join("state"));
        for (name, bytes) in [("a", 700), ("b", 30)] {
            std::fs::write(root.path().join("live").join(name), vec![0; bytes]).unwrap();
        }
        let (sender, mut told_of) = unbounded_channel();
        let meter = Counted::new(Box::new(Telling(sender)));
        let between = Between { source, target, state, options: PassOptions::default() };
        let _telling = told(between.clone(), &meter, Duration::from_millis(1));
        meter.advance(1);
        assert_eq!(told_of.recv().await, Some(730));
        std::fs::create_dir_all(&between.state).unwrap();
        Order::Unsorted.remember(&between.state).unwrap();
        assert_eq!(expected(&between).await.unwrap(), None, "it would be sorted on disk, where the pass does");
    }
}
