//! What people tell the driver, and how it answers.

use tokio::sync::{mpsc, oneshot};

use crate::error::{Class, Explain};
use crate::site::lease::{Command, Done, Refusal};

/// Orders that wait; more are held up where they are given.
const WAITING_MAX: usize = 16;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// A decision of the protocol.
    Command(Command),
    /// Work has ended that a person's command began beside this process: a restore.
    Done(Done),
    /// Writes are refused at the balancer from now on, for this reason.
    MaintenanceOn {
        /// Why, for whoever finds it so.
        why: String,
    },
    /// They are not any more.
    MaintenanceOff,
}

/// An order, and who gives it: the record and the log say so.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) what: Ordered,
    pub(super) by: By,
    pub(super) answer: oneshot::Sender<Result<(), OrderError>>,
}

/// Who wants it so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// A person's name.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The protocol refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would not outlive this process.
    #[error("nothing was changed, because it could not be kept: {why}")]
    NotKept {
        /// What the disk says.
        why: String,
    },
    /// Whoever should have carried it out has ended.
    #[error("this site's daemon is ending, and nothing was done")]
    Ended,
}

impl Explain for OrderError {
    fn class(&self) -> Class {
        match self {
            OrderError::Refused(refusal) => refusal.class(),
            OrderError::NotKept { .. } | OrderError::Ended => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            OrderError::Refused(refusal) => refusal.next_step(),
            OrderError::NotKept { .. } => Some(
                "See that the state folder is there, is this user's and has space, then try again. This site goes on as it is."
                    .to_owned(),
            ),
            OrderError::Ended => Some("See its log for the reason, and start it again: `warmspare run`.".to_owned()),
        }
    }
}

/// Where orders are given.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Order>);

pub(super) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    let (orders, received) = mpsc::channel(WAITING_MAX);
    (Orders(orders), received)
}

impl Orders {
    /// Gives an order: ready when it was taken up, or refused. What comes of it shows in the status.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn give(&self, what: Ordered, by: By) -> Result<(), OrderError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Order { what, by, answer }).await.map_err(|_| OrderError::Ended)?;
        answered.await.map_err(|_| OrderError::Ended)?
    }
}
