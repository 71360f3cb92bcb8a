//! The listers of a bucket, and the one sorted listing that comes of their pages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Part;
use super::board::{Board, Job, Taken};
use crate::mirror::jitter::Backoff;
use crate::mirror::{Limits, MirrorError};
use crate::store::{Cursor, Page, ReadOnly, StoreError};

/// How often a page is asked for in all; each time once.
const ATTEMPTS: usize = 8;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How many keys a page that failed has when it is asked for again. A Ceph server fails a page that ends with, or begins
/// after, a key with certain control characters; another size makes it end elsewhere, and two keys at a time step over such a one.
const OTHER_SIZES: [u16; 3] = [997, 61, 2];

struct Shared {
    source: ReadOnly,
    limits: Arc<Limits>,
    board: Mutex<State>,
    /// For the taker: a page came, or failed.
    came: Notify,
    /// For the listers: there may be something to do again.
    room: Notify,
}

struct State {
    board: Board,
    /// What ends the listing.
    error: Option<MirrorError>,
}

/// Lists `source` with so many listers, in ranges between `bounds` to begin with.
pub(super) fn listed(
    source: ReadOnly,
    limits: Arc<Limits>,
    bounds: Vec<String>,
    listers: usize,
) -> impl Stream<Item = Result<Part, MirrorError>> + Send {
    let state = Mutex::new(State { board: Board::new(bounds), error: None });
    let shared = Arc::new(Shared { source, limits, board: state, came: Notify::new(), room: Notify::new() });
    let start = move || {
        let mut tasks = JoinSet::new();
        (0..listers).for_each(|_| drop(tasks.spawn(Arc::clone(&shared).lister())));
        (shared, tasks)
    };
    // Begun when it is first asked for, and ended when it is dropped: the tasks go with their set.
    stream::once(async move { start() }).flat_map(taken)
}

fn taken(listing: (Arc<Shared>, JoinSet<()>)) -> impl Stream<Item = Result<Part, MirrorError>> + Send {
    stream::try_unfold(listing, |(shared, mut tasks)| async move {
        let part = shared.next(&mut tasks).await?;
        Ok::<_, MirrorError>(part.map(|part| (part, (shared, tasks))))
    })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next entries, in the order of the keys.
    async fn next(&self, listers: &mut JoinSet<()>) -> Result<Option<Part>, MirrorError> {
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            let (taken, error) = self.take();
            if let Some(error) = error {
                return Err(error);
            }
            match taken {
                Taken::Listed(listed) => return Ok(Some(Part::Listed(listed))),
                Taken::Hole(hole) => return Ok(Some(Part::Unlisted(hole))),
                Taken::End => return Ok(None),
                Taken::Wait => tokio::select! {
                    () = came => {}
                    Some(Err(stopped)) = listers.join_next() => return Err(MirrorError::Lister { source: stopped }),
                },
            }
        }
    }

    fn take(&self) -> (Taken, Option<MirrorError>) {
        let mut state = self.state();
        let error = state.error.take();
        let taken = state.board.take();
        drop(state);
        // There is room again, or another range is the first now, which always goes on.
        self.room.notify_waiters();
        (taken, error)
    }

    async fn lister(self: Arc<Self>) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let job = {
                let mut state = self.state();
                if state.error.is_some() || state.board.is_listed() {
                    return;
                }
                state.board.job()
            };
            match job {
                Some(job) => {
                    let page = self.page(&job).await;
                    self.came(job, page);
                    self.came.notify_waiters();
                    self.room.notify_waiters();
                }
                None => room.await,
            }
        }
    }

    fn came(&self, job: Job, page: Result<Page, StoreError>) {
        let mut state = self.state();
        let error = match page {
            Ok(page) => state.board.listed(job, page).err().map(|keys| MirrorError::Unsorted {
                bucket: self.source.name().to_owned(),
                before: keys.before,
                after: keys.after,
            }),
            Err(error) => state.board.failed(&job, error).err().map(MirrorError::from),
        };
        if error.is_some() {
            state.error = error;
        }
    }

    /// One page, however often that has to be asked for.
    async fn page(&self, job: &Job) -> Result<Page, StoreError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut attempt: usize = 0;
        loop {
            // By key and in another size: a token stands for what failed.
            let other = attempt.checked_sub(1).and_then(|number| OTHER_SIZES.get(number % OTHER_SIZES.len()));
            let by_key = other.and(job.after.clone()).map(Cursor::After);
            self.limits.request().await;
            let page = self.source.page(by_key.as_ref().unwrap_or(&job.from), other.copied()).await;
            attempt += 1;
            match page {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => return Ok(Page { listed: Vec::new(), next: None }),
                Err(StoreError::Unavailable { .. }) if attempt < ATTEMPTS => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }
}
