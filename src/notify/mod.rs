//! 9 TELL, and so that it is heard: alarms go to people, once when they are raised, again while they stand, once when they are over.
//!
//! What is an alarm is judged in `report`. Here is whom it was told ([`memory`]), in which words ([`message`]), without what is secret, and
//! how it gets there. A [`Watch`] does all of it, a look at a time. Sinks are told beside each other: one that fails holds up no other, is tried again
//! after a while, and is an alarm itself.

mod error;
pub mod memory;
pub mod message;
mod ping;
mod redact;
mod sink;
mod watch;

pub use error::NotifyError;
pub use watch::Watch;

use futures_util::future::join_all;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::{Here, SinkConfig};
use crate::error::Explain;
use crate::report::{Grade, Line, Subject};
use memory::Memory;
use message::Message;
use redact::Secrets;

/// A sink that failed so often in a row is told of.
const FAILURES_MIN: u32 = 3;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The sink.
    pub sink: String,
    /// Its kind.
    pub kind: &'static str,
    /// Whether it took the message.
    pub taken: bool,
    /// Why it did not.
    pub error: Option<String>,
    /// What to do about it.
    pub next: Option<String>,
}

/// Sends a message that says that it is a test to every sink, or to the one called `name`. Nothing of it is remembered.
///
/// # Errors
/// When there is no sink, or none of that name. What each came to is in the answer.
pub async fn test(here: &Here, name: Option<&str>, clock: &dyn Clock) -> Result<Vec<Tested>, NotifyError> {
    let all = &here.config.notify;
    if all.is_empty() {
        return Err(NotifyError::Nobody);
    }
    let chosen: Vec<&SinkConfig> = all.iter().filter(|sink| name.is_none_or(|name| sink.name == name)).collect();
    if let Some(name) = name.filter(|_| chosen.is_empty()) {
        let known: Vec<&str> = all.iter().map(|sink| sink.name.as_str()).collect();
        return Err(NotifyError::Unknown { name: name.to_owned(), known: known.join(", ") });
    }
    let message = Message::test(&here.config.system, &here.site.name, clock.now());
    let secrets = Secrets::of(here).await;
    let tried = chosen.into_iter().map(|sink| async {
        let error = sink::send(sink, &message).await.err();
        Tested {
            sink: sink.name.clone(),
            kind: sink.kind.as_str(),
            taken: error.is_none(),
            next: error.as_ref().and_then(Explain::next_step),
            error: error.map(|error| secrets.scrubbed(&crate::error::chain(&error))),
        }
    });
    Ok(join_all(tried).await)
}

/// What a report of this site has to say of its sinks. Nothing is changed.
pub fn lines(here: &Here) -> Vec<Line> {
    match Memory::peek(&here.site.state) {
        Ok(memory) => failing(&memory),
        Err(error) => {
            let next = error.next_step().unwrap_or_default();
            let what = crate::error::chain(&error);
            let subject = Subject::Looking;
            vec![Line { key: "notify.memory".to_owned(), grade: Grade::Attention, what, next, subject }]
        }
    }
}

/// The sinks that have failed for a while.
fn failing(memory: &Memory) -> Vec<Line> {
    let failing = memory.failing().filter(|(_, sink)| sink.failures >= FAILURES_MIN);
    let line = |(name, sink): (&String, &memory::SinkMemory)| Line {
        key: format!("notify.{name}.failing"),
        grade: Grade::Attention,
        what: format!(
            "nobody is told by sink {name}, {} times in a row: {}",
            sink.failures,
            sink.error.as_deref().unwrap_or_default()
        ),
        next: format!("Mend it, then: `warmspare notify test {name}`"),
        subject: Subject::Looking,
    };
    failing.map(line).collect()
}
