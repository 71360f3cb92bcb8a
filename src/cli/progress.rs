//! Bars on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::observe::{Meter, Progress, Reporter};
use crate::units::{Bytes, Span};

/// The reporter that suits standard error.
pub(super) fn progress() -> Progress {
    if std::io::stderr().is_terminal() { Progress::new(Bars(MultiProgress::new())) } else { Progress::new(Lines) }
}

struct Bars(MultiProgress);

struct Bar(ProgressBar);

impl Reporter for Bars {
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Meter> {
        let bar = Bar(self.0.add(total.map_or_else(ProgressBar::no_length, ProgressBar::new)));
        bar.shape(if total.is_some() { KNOWN } else { UNKNOWN });
        bar.0.set_message(label.to_owned());
        Box::new(bar)
    }
}

/// A bar whose length is known, and one of which it is not.
const KNOWN: &str = "{msg:32} [{bar:30}] {binary_bytes:>10} of {binary_total_bytes} {eta:>4}";
const UNKNOWN: &str = "{msg:32} {spinner} {binary_bytes:>10} {elapsed:>4}";

impl Bar {
    fn shape(&self, shape: &str) {
        if let Ok(style) = ProgressStyle::with_template(shape) {
            self.0.set_style(style.progress_chars("=> "));
        }
    }
}

impl Meter for Bar {
    fn advance(&self, amount: u64) {
        self.0.inc(amount);
    }

    fn set_total(&self, total: u64) {
        self.0.set_length(total);
        self.shape(KNOWN);
    }

    fn finish(&self, summary: &str) {
        self.0.finish_with_message(summary.to_owned());
    }
}

struct Lines;

struct Line {
    label: String,
    /// 0 where it is not known.
    total: AtomicU64,
    done: AtomicU64,
    begun: Instant,
    /// Of how many periods there was a line.
    told: AtomicU64,
}

/// A phase that lasts says so this often.
const PERIOD: Duration = Duration::from_secs(30);

impl Line {
    /// How far it is, with the time that is left where the whole is known.
    fn told(&self, done: u64, elapsed: Duration) -> String {
        let since = Span(Duration::from_secs(elapsed.as_secs()));
        match self.total.load(Ordering::Relaxed) {
            total if total == 0 || done == 0 => format!("{}: {} in {since}", self.label, Bytes(done)),
            total => {
                let left = elapsed.as_secs_f64() / done as f64 * total.saturating_sub(done) as f64;
                let left = Span(Duration::from_secs(left as u64));
                format!("{}: {} of {} in {since}, about {left} left", self.label, Bytes(done), Bytes(total))
            }
        }
    }
}

impl Reporter for Lines {
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Meter> {
        tracing::info!("{label}: begun");
        let (begun, zero) = (Instant::now(), || AtomicU64::new(0));
        let total = AtomicU64::new(total.unwrap_or(0));
        Box::new(Line { label: label.to_owned(), total, done: zero(), begun, told: zero() })
    }
}

impl Meter for Line {
    fn advance(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        let elapsed = self.begun.elapsed();
        let periods = elapsed.as_secs() / PERIOD.as_secs();
        if self.told.fetch_max(periods, Ordering::Relaxed) < periods {
            tracing::info!(done, "{}", self.told(done, elapsed));
        }
    }

    fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn finish(&self, summary: &str) {
        tracing::info!(done = self.done.load(Ordering::Relaxed), "{}: {summary}", self.label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_long_it_will_take_where_the_whole_is_known() {
        let line = |total| Line {
            label: "mirror".to_owned(),
            total: AtomicU64::new(total),
            done: AtomicU64::new(0),
            begun: Instant::now(),
            told: AtomicU64::new(0),
        };
        let minute = Duration::from_secs(60);
        let told = |total, done| line(total).told(done, minute);
        assert_eq!(told(4 << 20, 1 << 20), "mirror: 1.0 MiB of 4.0 MiB in 1m 00s, about 3m 00s left");
        assert_eq!(told(0, 1 << 20), "mirror: 1.0 MiB in 1m 00s");
        assert_eq!(told(0, 0), "mirror: 0 B in 1m 00s");
        let later = line(0);
        later.set_total(2 << 20);
        assert_eq!(later.told(1 << 20, minute), "mirror: 1.0 MiB of 2.0 MiB in 1m 00s, about 1m 00s left");
    }
}
