//! A line between a client and a server, of whatever protocol: it can be cut, fall silent, or lose what the server answers.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Passes,
    /// What the client sends arrives; what the server answers does not.
    LosesAnswers,
    /// Nothing arrives anywhere, and nobody is told.
    Hangs,
}

/// A running line; it ends when it is dropped.
pub struct Wire {
    port: u16,
    server: Arc<Mutex<String>>,
    /// What it does, and how often it was cut.
    line: watch::Sender<(Line, u64)>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A line to `server` (`HOST:PORT`).
    pub async fn to(server: &str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Mutex::new(server.to_owned()));
        let (line, state) = watch::channel((Line::Passes, 0));
        let leads = Arc::clone(&server);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (state, server) = (state.clone(), leads.lock().unwrap().clone());
                tokio::spawn(async move {
                    // A server that is not there is the client's to notice.
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (from, to) = client.into_split();
                    let (reply, request) = server.into_split();
                    let cut = state.clone();
                    tokio::select! {
                        () = carry(from, request, state.clone(), false) => {}
                        () = carry(reply, to, state, true) => {}
                        () = until_cut(cut) => {}
                    }
                });
            }
        });
        Wire { port, server, line, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does this from now on. Connections that were made before are cut when it passes again: they lack something.
    pub fn set(&self, line: Line) {
        self.line.send_modify(|(now, cuts)| {
            *cuts += u64::from(line == Line::Passes);
            *now = line;
        });
    }

    /// Ends every connection and leads the next ones to another server.
    pub fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.server.lock().unwrap());
        self.set(Line::Passes);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until_cut(mut state: watch::Receiver<(Line, u64)>) {
    let cuts = state.borrow().1;
    // The end of the wire cuts, too.
    let _ = state.wait_for(|(_, now)| *now != cuts).await;
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<(Line, u64)>,
    answers: bool,
) {
    let mut block = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut block).await {
        let line = state.borrow().0;
        if line == Line::Hangs {
            // Held until somebody cuts.
            let _ = state.wait_for(|_| false).await;
            return;
        }
        let is_lost = answers && line == Line::LosesAnswers;
        if !is_lost && to.write_all(&block[..read]).await.is_err() {
            return;
        }
    }
}
