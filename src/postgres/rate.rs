//! A limit on the bytes a second a database is asked for, shared by every session that reads rows from it.
//!
//! It stands where rows come off the connection. Who does not take them leaves them in the buffers of the network, and when those
//! are full the server's process waits with its next row: it reads nothing from its disk that nobody has asked for.
//! Definitions (pg_dump, catalogs) are not counted: they are few.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::units::Bytes;

/// What was not used is made up for as far back as this: a pause that the scheduler made too long is no loss, and a session that
/// had nothing to read has not saved anything.
const BURST: Duration = Duration::from_millis(100);

/// The limit, at work.
#[derive(Debug)]
pub struct Rate {
    begun: Instant,
    bucket: Mutex<Bucket>,
}

impl Rate {
    /// A limit of so many bytes a second; of 0 nothing ever comes.
    pub fn new(a_second: Bytes) -> Rate {
        Rate { begun: Instant::now(), bucket: Mutex::new(Bucket { a_second: a_second.0.max(1), paid: Duration::ZERO }) }
    }

    /// Waits until `bytes`, which have just been read, are paid for.
    pub async fn pay(&self, bytes: u64) {
        let pause = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(self.begun.elapsed(), bytes)
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Counts in time: how far all that was taken is paid for. Whoever takes waits until then; so those who come at the same time
/// wait one after the other, and no byte is counted twice or not at all.
#[derive(Debug)]
struct Bucket {
    a_second: u64,
    paid: Duration,
}

impl Bucket {
    /// Takes `bytes` at `now`, both times counted from the beginning; how long to wait.
    fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.a_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now.saturating_sub(BURST)).saturating_add(cost);
        self.paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many workers read pieces until `seconds` are over, each as soon as it may; the bytes of all that was paid for by then.
    fn read(a_second: u64, workers: usize, piece: u64, late: Duration, seconds: u64) -> u64 {
        let mut bucket = Bucket { a_second, paid: Duration::ZERO };
        let (mut ready, mut bytes) = (vec![Duration::ZERO; workers], 0);
        loop {
            let next = (0..workers).min_by_key(|worker| ready[*worker]).unwrap();
            let now = ready[next];
            if now >= Duration::from_secs(seconds) {
                return bytes;
            }
            let pause = bucket.take(now, piece);
            ready[next] = now + pause + if pause.is_zero() { Duration::from_micros(10) } else { late };
            if ready[next] < Duration::from_secs(seconds) {
                bytes += piece;
            }
        }
    }

    #[test]
    fn however_many_read_they_get_what_is_allowed_within_five_percent() {
        for workers in [1, 2, 8] {
            for (mib, piece, late_ms) in
                [(50, 256 << 10, 0), (50, 256 << 10, 2), (4, 256 << 10, 5), (1000, 64 << 10, 1)]
            {
                let (late, seconds) = (Duration::from_millis(late_ms), 5);
                let got = read(mib << 20, workers, piece, late, seconds);
                let allowed = (mib << 20) * seconds;
                let share = got as f64 / allowed as f64;
                assert!((0.95..=1.05).contains(&share), "{workers} workers, {mib} MiB, {late_ms} ms late: {share}");
            }
        }
    }

    #[test]
    fn idleness_saves_nothing_and_a_gigantic_row_is_paid_for() {
        let mut bucket = Bucket { a_second: 1 << 20, paid: Duration::ZERO };
        assert_eq!(bucket.take(Duration::ZERO, 10 << 20), Duration::from_secs(10));
        // Somebody else right after it waits for that, too.
        assert_eq!(bucket.take(Duration::from_secs(1), 1 << 20), Duration::from_secs(10));
        // After a minute of nothing: at once, but only what a tenth of a second is worth.
        let later = Duration::from_secs(71);
        assert_eq!(bucket.take(later, 100 << 10), Duration::ZERO);
        assert_eq!(bucket.take(later, 1 << 20).as_millis(), 997);
    }
}
