//! What may happen in one search, and how often.

#![cfg(test)]

use super::super::{Broken, Rule, Timing};

/// The bounds of one search, and the rules that are broken in it.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub timing: Timing,
    /// How far the clocks of A and B go while time passes once, in milliseconds.
    pub rates: [u64; 2],
    pub begins: Begins,
    pub broken: Broken,
    pub store: Store,
    /// How often the record may be written.
    pub revisions_max: u64,
    /// How often each site may be killed.
    pub crashes: [u8; 2],
    pub people: People,
    /// The sites ask and grant promises.
    pub peers: bool,
    /// A writes to the vault.
    pub writes: bool,
    /// A's clock may stand still: CLOCK_MONOTONIC in suspend.
    pub clock_stops: bool,
}

/// How a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// A is live, and B the spare.
    Held,
    /// B took over from A, which has not noticed yet.
    Taken,
    /// A let go for B, and has not noticed yet that B took it.
    Released,
}

/// What kind of place the witness is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It compares and sets, and tells contents by their hash.
    Compares,
    /// It writes whatever the revision is.
    IgnoresConditions,
    /// It compares and sets, and may be restored from a backup of an earlier term.
    IsPutBack,
    /// Objects that are only created, numbered; old ones are pruned. A create is believed after another listing.
    Numbered,
    /// The same, but a create is believed at once.
    NumberedListedOnce,
}

/// What people do, each once and whenever they like.
#[derive(Clone, Copy, Default)]
pub struct People {
    /// At B: take the lease by waiting.
    pub take: bool,
    /// At B: take it by force, with what A's gate says or after A was switched off.
    pub force: bool,
    /// At A: hand over to B.
    pub hand_over: bool,
    /// At B: restore, and take.
    pub restore: bool,
    /// Not only when B has read that A let go.
    pub early: bool,
    /// At A: take back what was released.
    pub take_back: bool,
    /// At B: hand over to A, after it took the lease.
    pub switch_back: bool,
    /// At either: give a handing over up.
    pub give_up: bool,
    /// At A: fence, and lift it; once.
    pub fence: bool,
    /// At A: rejoin as the spare, restore and take by waiting.
    pub rejoin: bool,
}

impl Scenario {
    /// A holder that renews, and a spare that does nothing; clocks run alike, and a lease is two ticks long.
    pub const fn plain(name: &'static str) -> Self {
        let people = People {
            take: false,
            force: false,
            hand_over: false,
            restore: false,
            early: false,
            take_back: false,
            switch_back: false,
            give_up: false,
            fence: false,
            rejoin: false,
        };
        Scenario {
            name,
            timing: Timing::small(4, 1, 0),
            rates: [2, 2],
            begins: Begins::Held,
            broken: Broken::none(),
            store: Store::Compares,
            revisions_max: 3,
            crashes: [0, 0],
            people,
            peers: false,
            writes: false,
            clock_stops: false,
        }
    }

    pub fn called(self, name: &'static str) -> Self {
        Scenario { name, ..self }
    }

    pub fn timing(self, timing: Timing) -> Self {
        Scenario { timing, ..self }
    }

    pub fn rates(self, rates: [u64; 2]) -> Self {
        Scenario { rates, ..self }
    }

    pub fn people(self, people: People) -> Self {
        Scenario { people, ..self }
    }

    pub fn store(self, store: Store) -> Self {
        Scenario { store, ..self }
    }

    pub fn revisions(self, revisions_max: u64) -> Self {
        Scenario { revisions_max, ..self }
    }

    pub fn taken(self) -> Self {
        Scenario { begins: Begins::Taken, ..self }
    }

    pub fn released(self) -> Self {
        Scenario { begins: Begins::Released, ..self }
    }

    pub fn crashes(self, crashes: [u8; 2]) -> Self {
        Scenario { crashes, ..self }
    }

    pub fn peers(self) -> Self {
        Scenario { peers: true, ..self }
    }

    pub fn writes(self) -> Self {
        Scenario { writes: true, ..self }
    }

    pub fn clock_stops(self) -> Self {
        Scenario { clock_stops: true, ..self }
    }

    pub fn broken(self, rules: &[Rule]) -> Self {
        Scenario { broken: Broken::these(rules), ..self }
    }
}
