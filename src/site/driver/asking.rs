//! One request to the witness, from its sending to its answer or the end of its time.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::alarm::Alarm;
use crate::site::lease::{Answer, BootInstant, RequestId, Revision};
use crate::site::witness::{Outcome, Record, Witness, WitnessError};

/// What came of a request.
pub(super) enum Reply {
    Read(Result<Option<(Revision, Record)>, WitnessError>),
    Wrote(Outcome, Record),
    /// Its time is over. It may still be done.
    Late,
}

/// The request under way; there is one at most.
pub(super) struct Asking {
    pub(super) id: RequestId,
    pub(super) reply: BoxFuture<'static, Reply>,
}

impl Asking {
    pub(super) fn read<W: Witness + 'static>(
        id: RequestId,
        witness: &Arc<W>,
        alarm: &dyn Alarm,
        until: BootInstant,
    ) -> Self {
        let witness = Arc::clone(witness);
        let read = async move { Reply::Read(witness.read().await) };
        Asking { id, reply: within(read.boxed(), alarm.at(until)) }
    }

    pub(super) fn write<W: Witness + 'static>(
        id: RequestId,
        witness: &Arc<W>,
        (expected, record): (Revision, Record),
        alarm: &dyn Alarm,
        until: BootInstant,
    ) -> Self {
        let witness = Arc::clone(witness);
        let write = async move {
            let outcome = witness.replace(Some(expected), &record).await;
            Reply::Wrote(outcome, record)
        };
        Asking { id, reply: within(write.boxed(), alarm.at(until)) }
    }
}

fn within(asked: BoxFuture<'static, Reply>, late: BoxFuture<'static, ()>) -> BoxFuture<'static, Reply> {
    let either = async move {
        tokio::select! {
            biased;
            reply = asked => reply,
            () = late => Reply::Late,
        }
    };
    either.boxed()
}

/// What the protocol makes of it, and what a person should know.
pub(super) struct Heard {
    pub(super) answer: Answer,
    pub(super) record: Option<Record>,
    pub(super) trouble: Option<String>,
}

impl Reply {
    /// As the site `us` of `system` takes it, whose other site is `them`.
    pub(super) fn heard(self, system: &str, us: &str, them: &str) -> Heard {
        let unknown = |error: WitnessError| Heard {
            answer: Answer::Unknown,
            record: None,
            trouble: Some(crate::error::chain(&error)),
        };
        let known = |answer, record| Heard { answer, record, trouble: None };
        match self {
            Reply::Read(Ok(Some((revision, record)))) => match record.seen_by(revision, system, us, them) {
                Ok(seen) => known(Answer::Record(seen), Some(record)),
                Err(error) => unknown(error),
            },
            Reply::Read(Ok(None)) => known(Answer::NoRecord, None),
            Reply::Read(Err(error)) | Reply::Wrote(Outcome::Unknown(error), _) => unknown(error),
            Reply::Wrote(outcome @ Outcome::Won(_), record) => known(outcome.answer(), Some(record)),
            Reply::Wrote(outcome, _) => known(outcome.answer(), None),
            Reply::Late => Heard {
                answer: Answer::Unknown,
                record: None,
                trouble: Some("the witness did not answer in time".to_owned()),
            },
        }
    }
}
