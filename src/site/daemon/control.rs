//! The control socket: commands on this machine ask the daemon how it stands, give it orders, and borrow its leave to write.
//!
//! It lies in the state folder, and is its owner's alone. A question is a line of JSON, so is its answer ([`words`](super::words)).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::Seat;
use super::words::{Ask, JobAsk, Lead, Told};
use crate::clock::Clock;
use crate::error::Explain;
use crate::site::driver::By;
use crate::site::lease::BootInstant;

const SOCKET: &str = "control.sock";
/// Longer than any question.
const QUESTION_BYTES_MAX: u64 = 16 << 10;
/// Commands that ask at once.
const CONNECTIONS_MAX: usize = 64;
/// For a question to arrive, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the socket of a state folder is.
pub fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// What a question is answered from.
#[derive(Clone)]
pub struct Desk {
    /// The clock of this process.
    pub clock: Arc<dyn Clock>,
    /// The lease; without a witness there is none.
    pub lease: Option<Seat>,
    /// Where questions about jobs go.
    pub jobs: mpsc::Sender<Asked>,
}

/// A question about jobs, and where its answers go: one, or for a run that is waited for two.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub ask: JobAsk,
    /// Its answers.
    pub answers: mpsc::Sender<Told>,
}

/// Opens the socket. Whoever holds the lock of the daemon may take the place of a socket that was left there.
///
/// # Errors
/// When the state folder takes none.
pub fn listen(state: &Path) -> io::Result<UnixListener> {
    let path = socket(state);
    // Never there with other rights: it gets its name when it has them.
    let new = state.join("control.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

/// Answers for ever.
pub async fn serve(listener: UnixListener, desk: Desk) -> io::Error {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let desk = desk.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = desk.answer(stream).await {
                tracing::debug!("a command hung up: {error}");
            }
        });
    }
}

impl Desk {
    async fn answer(self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut question = BufReader::new(read.take(QUESTION_BYTES_MAX));
        tokio::time::timeout(PATIENCE, question.read_line(&mut line)).await??;
        let told = match serde_json::from_str(&line) {
            Ok(Ask::Jobs { question }) => return self.jobs(question, &mut write).await,
            Ok(Ask::Status) => match &self.lease {
                Some(seat) => Told::Status { status: Box::new(seat.status.borrow().at(self.now())) },
                None => no_lease(),
            },
            Ok(Ask::Lead) => {
                let mut rest = question.into_inner().into_inner();
                let mut byte = [0; 1];
                // The other end says nothing more; what comes is its end.
                let Some(seat) = self.lease.clone() else { return say(&mut write, &no_lease()).await };
                return tokio::select! {
                    done = self.lead(seat, &mut write) => done,
                    _ = rest.read(&mut byte) => Ok(()),
                };
            }
            Ok(Ask::Order { order, operator, reason }) => match (&self.lease, order.ordered(&reason)) {
                (Some(seat), Some(ordered)) => match seat.orders.give(ordered, By { operator, reason }).await {
                    Ok(()) => Told::Done,
                    Err(error) => Told::Refused { what: error.to_string(), next: error.next_step() },
                },
                (None, _) => no_lease(),
                (_, None) => {
                    let next = "`warmspare points` lists those there are.";
                    Told::Refused { what: "that is not the name of a point".to_owned(), next: Some(next.to_owned()) }
                }
            },
            Err(error) => {
                let next = "Use the same release for commands and daemon; after an update, restart the daemon.";
                Told::Refused { what: format!("the daemon does not understand: {error}"), next: Some(next.to_owned()) }
            }
        };
        say(&mut write, &told).await
    }

    fn now(&self) -> BootInstant {
        BootInstant(self.clock.boot())
    }

    /// The end of a run may be long in coming; whoever waits for it may hang up.
    async fn jobs(self, ask: JobAsk, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let (answers, mut answered) = mpsc::channel(2);
        if self.jobs.send(Asked { ask, answers }).await.is_err() {
            let what = "this site's daemon is ending".to_owned();
            return say(write, &Told::Refused { what, next: None }).await;
        }
        while let Some(told) = answered.recv().await {
            say(write, &told).await?;
        }
        Ok(())
    }

    async fn lead(&self, mut seat: Seat, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut before = None;
        loop {
            let lead = seat.lead_now(self.now());
            let changed = Some((lead.until_ns, lead.state.clone(), lead.term));
            if changed != before {
                say(write, &Told::Lead { lead }).await?;
                before = changed;
            }
            if seat.status.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

fn no_lease() -> Told {
    let next = "Who is live is said by `live` in the configuration.".to_owned();
    Told::Refused { what: "there is no witness, and no lease".to_owned(), next: Some(next) }
}

impl Seat {
    /// Commands may write only while the site is live and open: once it drains, the final point alone is written, by this process.
    fn lead_now(&mut self, now: BootInstant) -> Lead {
        let status = self.status.borrow_and_update();
        let (name, nanos) =
            (status.lease.name(), |instant: BootInstant| u64::try_from(instant.0.as_nanos()).unwrap_or(0));
        Lead {
            live: super::live(&self.us, &status),
            state: name.to_string(),
            term: status.lease.term().unwrap_or(status.lease.highest()).0,
            until_ns: status.lease.open_until().map(nanos),
            now_ns: nanos(now),
        }
    }
}

async fn say(write: &mut OwnedWriteHalf, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, write.write_all(&line)).await?
}
