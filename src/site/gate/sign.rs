//! The sign on the gate: what the loop that holds the lease wrote on it last, read by whoever asks without waiting for that loop.
//!
//! Times on it are ends, by CLOCK_BOOTTIME, and the reader compares them with the clock itself. So a loop that hangs, is paused or
//! starved leaves a sign that says less and less as time goes by, and nothing that has to be taken down.
//!
//! Two slots: the writer fills the one that is not shown and then shows it. A reader that was overtaken meanwhile reads again. No
//! lock: a writer that was stopped half-way holds nobody up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::site::lease::{BootInstant, Name, Term};

/// A reader is overtaken when the sign is changed twice while it reads a few words; not so often.
const READS_MAX: usize = 64;

/// What the sign says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The state.
    pub name: Name,
    /// The term held, or else the highest seen; 0 before any was.
    pub term: Term,
    /// Until when the gate is open, if it is.
    pub open_until: Option<BootInstant>,
    /// Until when what the witness said last counts as fresh.
    pub witness_until: Option<BootInstant>,
    /// Until when the loop should have turned again.
    pub turning_until: Option<BootInstant>,
    /// Whether writes are refused at the balancer.
    pub maintenance: bool,
}

impl Shown {
    /// What is shown before anything was written, and after its writer is gone.
    pub const CLOSED: Shown = Shown {
        name: Name::Uninit,
        term: Term(0),
        open_until: None,
        witness_until: None,
        turning_until: None,
        maintenance: false,
    };

    /// Whether the site takes traffic at `now`.
    pub fn is_open(&self, now: BootInstant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// Whether it takes writes, too.
    pub fn takes_writes(&self, now: BootInstant) -> bool {
        self.is_open(now) && !self.maintenance
    }

    /// Whether this site could take over on an operator's word: it is no holder, nothing fences it, it may still have to restore,
    /// and it reads the witness.
    pub fn is_ready(&self, now: BootInstant) -> bool {
        let is_spare = matches!(self.name, Name::Standby | Name::Restoring | Name::Ready | Name::Waiting);
        is_spare && self.witness_until.is_some_and(|until| now < until) && self.is_turning(now)
    }

    /// Whether the loop turns.
    pub fn is_turning(&self, now: BootInstant) -> bool {
        self.turning_until.is_some_and(|until| now < until)
    }
}

/// What asks the sign.
#[derive(Clone, Debug)]
pub struct Sign(Arc<Slots>);

/// Who writes the sign: one.
#[derive(Debug)]
pub struct SignWriter(Arc<Slots>);

#[derive(Debug, Default)]
struct Slots {
    /// How often it was written; the slot shown is the remainder by two.
    written: AtomicU64,
    slots: [Slot; 2],
}

#[derive(Debug, Default)]
struct Slot {
    name: AtomicU8,
    maintenance: AtomicU8,
    term: AtomicU64,
    open_until: AtomicU64,
    witness_until: AtomicU64,
    turning_until: AtomicU64,
}

/// A new sign, which says closed, and who may write it.
pub fn sign() -> (SignWriter, Sign) {
    let slots = Arc::new(Slots::default());
    (SignWriter(Arc::clone(&slots)), Sign(slots))
}

impl SignWriter {
    /// Shows this from now on.
    pub fn show(&mut self, shown: Shown) {
        let written = self.0.written.load(Ordering::Relaxed).wrapping_add(1);
        // Whoever sees a word of what follows sees also that the slot it reads is not the one shown any more.
        fence(Ordering::Release);
        self.0.slot(written).put(shown);
        self.0.written.store(written, Ordering::Release);
    }
}

impl Drop for SignWriter {
    fn drop(&mut self) {
        self.show(Shown::CLOSED);
    }
}

impl Sign {
    /// What it says.
    pub fn read(&self) -> Shown {
        for _ in 0..READS_MAX {
            let written = self.0.written.load(Ordering::Acquire);
            let shown = self.0.slot(written).get();
            fence(Ordering::Acquire);
            if self.0.written.load(Ordering::Relaxed) == written {
                return shown;
            }
        }
        Shown::CLOSED
    }
}

impl Slots {
    fn slot(&self, written: u64) -> &Slot {
        let [even, odd] = &self.slots;
        if written.is_multiple_of(2) { even } else { odd }
    }
}

impl Slot {
    fn put(&self, shown: Shown) {
        let relaxed = Ordering::Relaxed;
        self.name.store(number(shown.name), relaxed);
        self.maintenance.store(u8::from(shown.maintenance), relaxed);
        self.term.store(shown.term.0, relaxed);
        self.open_until.store(nanos(shown.open_until), relaxed);
        self.witness_until.store(nanos(shown.witness_until), relaxed);
        self.turning_until.store(nanos(shown.turning_until), relaxed);
    }

    fn get(&self) -> Shown {
        let relaxed = Ordering::Relaxed;
        Shown {
            name: name(self.name.load(relaxed)),
            maintenance: self.maintenance.load(relaxed) != 0,
            term: Term(self.term.load(relaxed)),
            open_until: instant(self.open_until.load(relaxed)),
            witness_until: instant(self.witness_until.load(relaxed)),
            turning_until: instant(self.turning_until.load(relaxed)),
        }
    }
}

/// Nanoseconds since boot: enough for five centuries. None is 0.
fn nanos(instant: Option<BootInstant>) -> u64 {
    instant.map_or(0, |instant| u64::try_from(instant.0.as_nanos()).unwrap_or(0))
}

fn instant(nanos: u64) -> Option<BootInstant> {
    (nanos > 0).then(|| BootInstant(Duration::from_nanos(nanos)))
}

/// Every state, by its number on the sign.
const NAMES: [Name; 13] = [
    Name::Uninit,
    Name::Standby,
    Name::Restoring,
    Name::Ready,
    Name::Waiting,
    Name::Acquiring,
    Name::Starting,
    Name::Live,
    Name::Draining,
    Name::Released,
    Name::Closed,
    Name::Fenced,
    Name::Stale,
];

fn number(name: Name) -> u8 {
    NAMES.iter().position(|other| *other == name).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

fn name(number: u8) -> Name {
    NAMES.get(usize::from(number)).copied().unwrap_or(Name::Uninit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootInstant {
        BootInstant(Duration::from_millis(millis))
    }

    fn live(term: u64, until: u64) -> Shown {
        let until = Some(at(until));
        Shown {
            name: Name::Live,
            term: Term(term),
            open_until: until,
            witness_until: until,
            turning_until: until,
            maintenance: term.is_multiple_of(2),
        }
    }

    #[test]
    fn a_sign_closes_by_itself_and_when_its_writer_is_gone() {
        let (mut writer, sign) = sign();
        assert_eq!(sign.read(), Shown::CLOSED);
        writer.show(live(3, 50));
        assert_eq!(sign.read(), live(3, 50));
        assert!(sign.read().is_open(at(49)) && !sign.read().is_open(at(50)), "nobody has to close it");
        assert!(sign.read().is_turning(at(49)) && !sign.read().is_turning(at(50)));
        writer.show(live(4, 90));
        assert!(sign.read().is_open(at(80)) && !sign.read().takes_writes(at(80)), "maintenance");
        drop(writer);
        assert_eq!(sign.read(), Shown::CLOSED);
    }

    #[test]
    fn every_state_comes_back_from_the_sign() {
        for (at, known) in NAMES.into_iter().enumerate() {
            assert_eq!((usize::from(number(known)), name(number(known))), (at, known));
        }
    }

    #[test]
    fn a_spare_is_ready_only_while_it_reads_the_witness() {
        let spare = Shown { name: Name::Standby, open_until: None, ..live(3, 50) };
        assert!(spare.is_ready(at(49)) && !spare.is_ready(at(50)));
        assert!(!Shown { turning_until: None, ..spare }.is_ready(at(0)));
        for name in [Name::Uninit, Name::Live, Name::Draining, Name::Released, Name::Closed, Name::Fenced, Name::Stale]
        {
            assert!(!Shown { name, ..spare }.is_ready(at(0)), "{name}");
        }
    }

    /// Whoever reads while it is written reads one of the two, never a mixture.
    #[test]
    fn nobody_reads_half_a_sign() {
        let (mut writer, sign) = sign();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let sign = sign.clone();
                std::thread::spawn(move || {
                    let mut last = 0;
                    while last < 20_000 {
                        let shown = sign.read();
                        let term = shown.term.0;
                        if shown != Shown::CLOSED {
                            assert_eq!(shown, live(term, term), "mixed");
                            assert!(term >= last, "it went back");
                            last = term;
                        }
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for term in 1..=20_000 {
            writer.show(live(term, term));
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}
