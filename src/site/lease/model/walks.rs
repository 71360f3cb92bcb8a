//! Long walks at random through a world in which everything may happen, any number of times.

#![cfg(test)]

use super::super::Timing;
use super::NOBODY;
use super::scenario::{People, Scenario};
use super::search::Worlds;
use super::world::World;

/// Everything, except what only a false word of a person makes possible.
fn anything(rates: [u64; 2]) -> Scenario {
    let people = People { hand_over: true, restore: true, early: true, take_back: true, switch_back: true, ..NOBODY };
    let people = People { take: true, fence: true, rejoin: true, give_up: true, ..people };
    let crashes = [u8::MAX; 2];
    let plain = Scenario::plain("anything").timing(Timing::small(6, 1, 200));
    plain.people(people).rates(rates).crashes(crashes).peers().writes().revisions(u64::MAX)
}

/// How often both sites were live in turn on a walk of `steps`; fails with the walk when something goes wrong.
pub fn walk(seed: u64, steps: usize) -> usize {
    let scenario = anything(super::RATES[seed as usize % 3]);
    let (mut world, mut random, mut switches) = (World::new(&scenario), seed ^ 0x9e37_79b9_7f4a_7c15, 0);
    let mut way = Vec::new();
    for _ in 0..steps {
        let mut next = Vec::new();
        world.next(&scenario, &mut |label, result| next.push((label, result)));
        // xorshift: whoever has the seed has the walk.
        for shift in [13_i32, -7, 17] {
            random ^= if shift > 0 { random << shift } else { random >> -shift };
        }
        // Kills and people are rare, or nothing ever comes to anything.
        if random >> 40 & 15 > 0 {
            next.retain(|(label, _)| {
                !["killed", "is told to fence", "give that up"].iter().any(|rare| label.contains(rare))
            });
        }
        let (label, result) = next.swap_remove((random % next.len() as u64) as usize);
        way.push(label);
        switches += usize::from(matches!(label, "A opens" | "B opens"));
        world = result.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}, after:\n  {}", way.join("\n  ")));
    }
    switches
}

#[test]
fn long_histories_of_everything_have_one_live_site() {
    let opened: usize = (0..60).map(|seed| walk(seed, 1000)).sum();
    println!("60 walks of 1000 steps: sites opened {opened} times");
    assert!(opened > 60, "the walks lead nowhere: {opened}");
}
