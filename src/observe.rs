//! How a long command tells a person how far it is: bars on a terminal, lines elsewhere.
//!
//! Rooms report through [`Progress`] and do not know which of the two it is.

use std::sync::Arc;

/// Shows the progress of phases.
pub trait Reporter: Send + Sync {
    /// A phase begins; `total` is its size in bytes (or items), if known.
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Meter>;
}

/// Shows the progress of one phase.
pub trait Meter: Send + Sync {
    /// That many more bytes (or items) are done.
    fn advance(&self, amount: u64);
    /// It has become known how much there is in all, with what is done.
    fn set_total(&self, total: u64);
    /// The phase is over; `summary` says what came of it in a few words.
    fn finish(&self, summary: &str);
}

/// A handle on the reporter of this command.
#[derive(Clone)]
pub struct Progress(Arc<dyn Reporter>);

impl Progress {
    /// Reports to `reporter`.
    pub fn new(reporter: impl Reporter + 'static) -> Self {
        Progress(Arc::new(reporter))
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Progress::new(Silent)
    }

    /// See [`Reporter::begin`].
    pub fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Meter> {
        self.0.begin(label, total)
    }
}

struct Silent;

impl Reporter for Silent {
    fn begin(&self, _label: &str, _total: Option<u64>) -> Box<dyn Meter> {
        Box::new(Silent)
    }
}

impl Meter for Silent {
    fn advance(&self, _amount: u64) {}
    fn set_total(&self, _total: u64) {}
    fn finish(&self, _summary: &str) {}
}
