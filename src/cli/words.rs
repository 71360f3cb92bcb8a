//! Data to standard output, words to standard error, and nothing lost when a pipe closes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub(super) use crate::report::text::{instant, table};
use crate::vault::Fault;

/// Set when data could not be written: the command did not do what was asked of it.
static LOST: AtomicBool = AtomicBool::new(false);

/// Whether data was lost on its way to standard output.
pub(super) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints lines of data.
pub(super) fn data(text: &str) {
    let mut out = io::stdout().lock();
    note_lost(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints `value` as JSON, indented; written as it is made, because a listing of a large vault is long.
pub(super) fn json<T: Serialize>(value: &T) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    note_lost(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
}

/// Remembers output that did not arrive. A closed pipe ends it quietly, as `warmspare points | head` expects.
fn note_lost(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        LOST.store(true, Ordering::Relaxed);
        tracing::error!("standard output cannot be written: {error}");
    }
}

/// Says something to the person, on standard error.
pub(super) fn say(text: &str) {
    // Standard error is where a failure would be told; there is no third place.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The word for what is wrong with an object.
pub(super) fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Damaged => "DAMAGED",
        Fault::Unsupported => "UNSUPPORTED",
    }
}

/// The same as it stands in JSON.
pub(super) fn fault_json(fault: Fault) -> &'static str {
    match fault {
        Fault::Damaged => "damaged",
        Fault::Unsupported => "unsupported",
    }
}

/// How long ago `at` was.
pub(super) fn age(now: jiff::Timestamp, at: jiff::Timestamp) -> String {
    match now.duration_since(at).try_into() {
        Ok(age) => crate::units::Span(age).to_string(),
        Err(_) => "in the future".to_owned(),
    }
}
