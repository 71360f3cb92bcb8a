//! Breadth-first search through every state that can be reached, to the shortest way to one that must not be.

#![cfg(test)]

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// Something that can go on in several ways.
pub trait Worlds: Copy + Hash {
    /// What is the same in all its states.
    type Rules;

    /// Each next state with what leads to it, or what must not be.
    fn next(&self, rules: &Self::Rules, each: &mut impl FnMut(&'static str, Result<Self, Wrong>));
}

/// A rule that the world broke.
pub type Wrong = &'static str;

/// What a search found.
pub struct Found {
    pub states: usize,
    pub took: Duration,
    /// What went wrong and the steps to it, if anything did.
    pub broken: Option<(Wrong, Vec<&'static str>)>,
    /// The steps that were taken somewhere.
    pub labels: HashSet<&'static str>,
}

/// So many states, and the numbers of what is kept, fit into the memory of any machine that runs tests.
const STATES_MAX: usize = 30_000_000;

/// Looks at every state reachable from `first`.
pub fn search<W: Worlds>(first: W, rules: &W::Rules) -> Found {
    let begun = Instant::now();
    // A state is known by 128 bits of hash; the way to it, by the number of the state before.
    let mut known = HashSet::from([fingerprint(&first)]);
    let mut way: Vec<(u32, &'static str)> = vec![(0, "")];
    let (mut now, mut next, mut labels) = (vec![(0_u32, first)], Vec::new(), HashSet::new());
    let mut broken = None;
    while broken.is_none() && !now.is_empty() {
        for (number, world) in &now {
            world.next(rules, &mut |label, world| {
                if broken.is_some() {
                    return;
                }
                match world {
                    Err(wrong) => broken = Some((wrong, steps(&way, *number, label))),
                    Ok(world) if known.insert(fingerprint(&world)) => {
                        labels.insert(label);
                        next.push((u32::try_from(way.len()).expect("few enough states"), world));
                        way.push((*number, label));
                    }
                    Ok(_) => {}
                }
            });
        }
        assert!(known.len() < STATES_MAX, "more than {STATES_MAX} states: the bounds are too wide");
        (now, next) = (next, now);
        next.clear();
    }
    Found { states: known.len(), took: begun.elapsed(), broken, labels }
}

fn steps(way: &[(u32, &'static str)], mut number: u32, last: &'static str) -> Vec<&'static str> {
    let mut steps = vec![last];
    while number > 0 {
        let (before, label) = way[number as usize];
        steps.push(label);
        number = before;
    }
    steps.reverse();
    steps
}

fn fingerprint(world: &impl Hash) -> u128 {
    let mut print = Fingerprint { low: 0, high: 0x9e37_79b9_7f4a_7c15 };
    world.hash(&mut print);
    u128::from(print.low.rotate_left(31) ^ print.high) << 64 | u128::from(print.high.wrapping_mul(MIX) ^ print.low)
}

const MIX: u64 = 0xff51_afd7_ed55_8ccd;

/// Two multiplicative hashes side by side: quick without an optimising compiler, and 128 bits do not collide by chance.
struct Fingerprint {
    low: u64,
    high: u64,
}

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        self.low = (self.low.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.high = (self.high ^ word).wrapping_mul(MIX);
        self.high ^= self.high >> 33;
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_u128(&mut self, word: u128) {
        self.mix(word as u64);
        self.mix((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        self.low
    }
}
