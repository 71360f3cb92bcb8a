//! The record in a row of a database, at a primary.
//!
//! The server confirms only what is on its disk. A standby is refused: it shows what was, and takes no write. So is a server
//! that has a source of the system: it would be lost, or restored, together with what the witness decides about.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::WitnessError;
use super::register::{Entry, Registers};
use crate::postgres::row::{self, Kept};
use crate::postgres::{Server, Session};
use crate::site::lease::{KEPT_FOR, Revision};

/// The tables of a witness in a database.
pub struct Rows {
    name: String,
    server: Server,
    /// The session that was used last, if its last statement was answered.
    session: Mutex<Option<Session>>,
    /// How long one statement may take.
    patience: Duration,
}

fn entry(kept: Kept) -> Entry {
    (Revision(kept.revision), kept.value)
}

impl Rows {
    /// The tables in the database that `server` names. Nothing is asked yet. The server gives up what takes longer than three
    /// quarters of `request`, so that a statement whose answer nobody awaits does not run on.
    pub fn new(server: Server, request: Duration) -> Self {
        let name = server.place(server.database()).to_string();
        Rows { name, server, session: Mutex::new(None), patience: request * 3 / 4 }
    }

    /// Makes the tables, unless they are there.
    ///
    /// # Errors
    /// The server's; and when it is a standby.
    pub async fn make(&self) -> Result<(), WitnessError> {
        let session = self.connect().await?;
        row::make(&session).await?;
        session.close().await;
        Ok(())
    }

    async fn connect(&self) -> Result<Session, WitnessError> {
        let session = self.server.connect().await?;
        if session.is_standby() {
            let why = "it is a standby, which shows what was and takes no write".to_owned();
            return Err(WitnessError::Unsound { store: self.name.clone(), why });
        }
        row::pin(&session, self.patience).await?;
        Ok(session)
    }

    /// A session of its own for one statement. It is taken out, so that one whose answer was not awaited is never used again.
    async fn taken(&self) -> Result<Session, WitnessError> {
        if let Some(session) = self.session.lock().await.take() {
            return Ok(session);
        }
        let session = self.connect().await?;
        if !row::is_made(&session).await? {
            return Err(WitnessError::NotMade { store: self.name.clone() });
        }
        Ok(session)
    }

    async fn back<T>(&self, session: Session, done: Result<T, crate::postgres::Error>) -> Result<T, WitnessError> {
        if done.is_ok() {
            *self.session.lock().await = Some(session);
        }
        Ok(done?)
    }
}

impl Registers for Rows {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, WitnessError> {
        let session = self.taken().await?;
        let done = row::get(&session, key).await;
        // A session that was idle learns only now that the server was started anew. A read may be asked again.
        let (session, done) = match done {
            Err(crate::postgres::Error::Lost { .. }) => {
                let session = self.taken().await?;
                let done = row::get(&session, key).await;
                (session, done)
            }
            done => (session, done),
        };
        Ok(self.back(session, done).await?.map(entry))
    }

    async fn put(
        &self,
        key: &str,
        expected: Option<(Revision, Option<Bytes>)>,
        value: Bytes,
    ) -> Result<Option<Revision>, WitnessError> {
        let session = self.taken().await?;
        let done = match &expected {
            Some((revision, bytes)) => row::replace(&session, key, (revision.0, bytes.as_ref()), &value).await,
            None => row::create(&session, key, &value).await,
        };
        Ok(self.back(session, done).await?.map(Revision))
    }

    async fn remove(&self, key: &str) -> Result<(), WitnessError> {
        let session = self.taken().await?;
        let done = row::remove(&session, key).await;
        self.back(session, done).await
    }

    async fn earlier(&self, key: &str, count: usize) -> Result<Vec<Entry>, WitnessError> {
        let session = self.taken().await?;
        let done = row::earlier(&session, key, count).await;
        Ok(self.back(session, done).await?.into_iter().map(entry).collect())
    }

    async fn prune(&self, key: &str) -> Result<usize, WitnessError> {
        let session = self.taken().await?;
        let done = row::prune(&session, key, KEPT_FOR).await;
        self.back(session, done).await
    }

    async fn forgets(&self) -> Result<Option<String>, WitnessError> {
        let session = self.taken().await?;
        let done = row::forgets(&session).await;
        Ok(self.back(session, done).await?.map(str::to_owned))
    }
}
