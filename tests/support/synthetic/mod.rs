//! An S3 server that holds nothing: it makes millions of keys from a seed while it lists them, and fails as it is told.
//!
//! It is there for what a real server cannot give within a test: ten million keys, and faults at a chosen key. What real
//! servers do is tested on real ones. Signatures are not looked at. It has a thread of its own, and ends when it is dropped.

mod faults;
mod http;
mod listing;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub use faults::Fault;
pub use objects::{content_of, etag_of, key_of, size_of};

/// What every object made from the seed says it was last modified: seconds since 1970, and the same as listings say it.
pub const MODIFIED_SECONDS: i64 = 1_767_225_600;
pub const MODIFIED: &str = "2026-01-01T00:00:00.000Z";
const MODIFIED_HTTP: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// A running server, and the way to change what it holds and does.
pub struct Synthetic {
    endpoint: String,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What all connections see.
struct Shared {
    /// Keys 0 to this one are made from their numbers.
    keys: u64,
    state: Mutex<State>,
    requests: AtomicU64,
    listed: AtomicU64,
    written: AtomicU64,
    under_way: AtomicU64,
    under_way_max: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Of which numbers the content is another than it was.
    changed: BTreeSet<u64>,
    /// What was written: it comes before what is made.
    stored: BTreeMap<String, Stored>,
    faults: Vec<Fault>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
}

#[derive(Clone)]
struct Stored {
    content: Bytes,
    etag: String,
    metadata: Vec<(String, String)>,
}

impl Synthetic {
    /// A server of one bucket, whatever its name, with so many keys.
    pub fn start(keys: u64) -> Synthetic {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            keys,
            state: Mutex::default(),
            requests: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            under_way_max: AtomicU64::new(0),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::select! { () = http::serve(listener, serving) => {}, _ = stopped => {} }
            });
        });
        Synthetic { endpoint, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Gives these numbers another content.
    pub fn change(&self, numbers: impl IntoIterator<Item = u64>) {
        self.shared.state().changed.extend(numbers);
    }

    /// From now on it has this fault, too.
    pub fn fail(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// From now on it has none.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// What was written to it.
    pub fn written(&self) -> BTreeMap<String, Bytes> {
        self.shared.state().stored.iter().map(|(key, stored)| (key.clone(), stored.content.clone())).collect()
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many keys it has sent in listings.
    pub fn listed(&self) -> u64 {
        self.shared.listed.load(Ordering::Relaxed)
    }

    /// How many bytes were written to it.
    pub fn bytes_written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// The most requests that were under way at once.
    pub fn under_way_max(&self) -> u64 {
        self.shared.under_way_max.swap(0, Ordering::Relaxed)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
