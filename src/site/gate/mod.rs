//! The gate: what load balancers ask before they send traffic here.
//!
//! It answers for the site, not for a service: a balancer asks it *and* the service itself. It promises two things. An answer is
//! there at once, whatever else this process does: it has a thread of its own, reads nothing but the [sign](mod@sign), the clock and a
//! [page](mod@page) of metrics, and waits for no lock. And it says 200 only within the lease: the sign carries the end of it, and each request compares that with
//! CLOCK_BOOTTIME, so that a loop that hangs closes the gate by doing nothing. When the process is gone its port is, and balancers
//! call that down.
//!
//! It is plain HTTP without secrets, for a network between balancer and site that nobody else is in. Whoever is in it can
//! close the gate by taking all its connections; nobody can open it.

pub mod answer;
mod connection;
pub mod page;
pub mod sign;

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

pub use page::Page;
pub use sign::{Shown, Sign, SignWriter, sign};

use crate::clock::Clock;
use crate::error::Explain;
use crate::site::lease::BootInstant;

/// Connections at once to each of the two ports. Further ones are closed without an answer, which a balancer calls down.
const CONNECTIONS_MAX: usize = 512;
/// When the machine has no more descriptors, until one is tried for again.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(100);

/// The gate cannot be put up.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Its port.
    #[error("the gate cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Its thread.
    #[error("the gate gets no thread of its own")]
    Thread(#[source] std::io::Error),
}

impl Explain for GateError {
    fn next_step(&self) -> Option<String> {
        Some(match self {
            GateError::Listen { address, .. } => {
                format!(
                    "See who listens there (`ss -ltnp 'sport = {}'`), or write another address into `gate` under [sites.NAME].",
                    address.port()
                )
            }
            GateError::Thread(_) => {
                "See how many threads this user may have (`ulimit -u`), and end what is not needed.".to_owned()
            }
        })
    }
}

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For HTTP.
    pub http: SocketAddr,
    /// For HAProxy's agent-check.
    pub agent: Option<SocketAddr>,
}

/// What an answer is made of.
#[derive(Clone)]
struct Asked {
    sign: Sign,
    clock: Arc<dyn Clock>,
    page: Page,
}

impl Asked {
    fn now(&self) -> BootInstant {
        BootInstant(self.clock.boot())
    }
}

/// A gate that is up. Dropped, its ports are closed and all its connections are.
#[derive(Debug)]
pub struct Gate {
    /// Where it listens, for HTTP.
    pub http: SocketAddr,
    /// Where it listens, for agents.
    pub agent: Option<SocketAddr>,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gate {
    /// Puts it up.
    ///
    /// # Errors
    /// When a port is not free, or there is no thread.
    pub fn put_up(listen: &Listen, sign: Sign, clock: Arc<dyn Clock>) -> Result<Gate, GateError> {
        Gate::put_up_showing(listen, sign, clock, Page::default())
    }

    /// As [`Gate::put_up`], with what `/metrics` shows.
    ///
    /// # Errors
    /// As [`Gate::put_up`].
    pub fn put_up_showing(listen: &Listen, sign: Sign, clock: Arc<dyn Clock>, page: Page) -> Result<Gate, GateError> {
        let http = bind(listen.http)?;
        let agent = listen.agent.map(bind).transpose()?;
        let at = |listener: &StdListener, address| {
            listener.local_addr().map_err(|source| GateError::Listen { address, source })
        };
        let agent_at = match (&agent, listen.agent) {
            (Some(listener), Some(address)) => Some(at(listener, address)?),
            _ => None,
        };
        let http_at = at(&http, listen.http)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (ending, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GateError::Thread)?;
        let asked = Asked { sign, clock, page };
        let run = move || {
            let _ending = ending;
            // Ends when the other half of `stop` is dropped; what it has spawned ends with the runtime.
            let done = runtime.block_on(async {
                tokio::select! {
                    done = serve(http, agent, asked) => done,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = done {
                tracing::error!("the gate is down: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("gate".to_owned()).spawn(run).map_err(GateError::Thread)?;
        Ok(Gate { http: http_at, agent: agent_at, _stop: stop, ended: Some(ended), thread: Some(thread) })
    }

    /// Ready when the gate is down without having been told to: then the process should end, and be started anew.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.ended.take();
        async move {
            match ended {
                // It sends nothing; it is dropped with the thread.
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes it down, and returns when its ports are closed.
    pub fn take_down(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the gate's thread had died");
        }
    }
}

fn bind(address: SocketAddr) -> Result<StdListener, GateError> {
    let wrong = |source| GateError::Listen { address, source };
    let listener = StdListener::bind(address).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(listener)
}

async fn serve(http: StdListener, agent: Option<StdListener>, asked: Asked) -> std::io::Result<()> {
    let http = TcpListener::from_std(http)?;
    let agent = agent.map(TcpListener::from_std).transpose()?;
    let for_agents = asked.clone();
    let requests = accept(http, move |stream| {
        let asked = asked.clone();
        async move { connection::serve(stream, &asked).await }
    });
    let Some(agent) = agent else { return requests.await };
    let agents = accept(agent, move |stream| {
        let asked = for_agents.clone();
        async move { connection::tell_agent(stream, &asked).await }
    });
    tokio::try_join!(requests, agents).map(|_| ())
}

/// Takes connections for ever.
async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> std::io::Result<()>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Whoever it was is gone again, or there are no descriptors left: it is tried again, and is closed meanwhile.
            Err(error) => {
                tracing::warn!("the gate cannot take a connection: {error}");
                tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        // Small answers are to leave at once; without this they still do, later.
        drop(stream.set_nodelay(true));
        let served = serve(stream);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = served.await {
                tracing::debug!("a connection to the gate broke off: {error}");
            }
        });
    }
}
