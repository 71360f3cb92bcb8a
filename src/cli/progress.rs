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
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let shape = match total {
            Some(_) => "{msg:32} [{bar:30}] {binary_bytes:>10} of {binary_total_bytes} {eta:>4}",
            None => "{msg:32} {spinner} {binary_bytes:>10} {elapsed:>4}",
        };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label.to_owned());
        Box::new(Bar(self.0.add(bar)))
    }
}

impl Meter for Bar {
    fn advance(&self, amount: u64) {
        self.0.inc(amount);
    }

    fn finish(&self, summary: &str) {
        self.0.finish_with_message(summary.to_owned());
    }
}

struct Lines;

struct Line {
    label: String,
    total: Option<u64>,
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
        match self.total.filter(|total| *total > 0 && done > 0) {
            None => format!("{}: {} in {since}", self.label, Bytes(done)),
            Some(total) => {
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
            total,
            done: AtomicU64::new(0),
            begun: Instant::now(),
            told: AtomicU64::new(0),
        };
        let told = |total, done| line(total).told(done, Duration::from_secs(60));
        assert_eq!(told(Some(4 << 20), 1 << 20), "mirror: 1.0 MiB of 4.0 MiB in 1m 00s, about 3m 00s left");
        assert_eq!(told(None, 1 << 20), "mirror: 1.0 MiB in 1m 00s");
        assert_eq!(told(Some(0), 0), "mirror: 0 B in 1m 00s");
    }
}
