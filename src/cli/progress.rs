//! Bars on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::observe::{Meter, Progress, Reporter};

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
    done: AtomicU64,
}

impl Reporter for Lines {
    fn begin(&self, label: &str, _total: Option<u64>) -> Box<dyn Meter> {
        tracing::info!("{label}: begun");
        Box::new(Line { label: label.to_owned(), done: AtomicU64::new(0) })
    }
}

impl Meter for Line {
    fn advance(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }

    fn finish(&self, summary: &str) {
        tracing::info!(done = self.done.load(Ordering::Relaxed), "{}: {summary}", self.label);
    }
}
