//! Which packs are read in a turn: shares of their names, so that as many turns as there are shares cover all of them, each exactly once.

use std::fmt;
use std::str::FromStr;

/// `n` of `t` shares of all packs a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    shares: u32,
    of: u32,
}

/// Text that is no share.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share; it is written like 1/7, at most 1/1000, and 1/1 is everything")]
pub struct ShareError(String);

/// More would leave turns in which nothing is read.
const SHARES_MAX: u32 = 1000;

impl Share {
    /// Everything, every time.
    pub const WHOLE: Share = Share { shares: 1, of: 1 };

    /// Whether it is everything.
    pub fn is_whole(self) -> bool {
        self.shares == self.of
    }

    /// Whether the pack called `name` is read in `turn`: its first four bytes, modulo the number of shares, is a share; the
    /// shares of a turn follow those of the turn before.
    pub fn has(self, name: &blake3::Hash, turn: u64) -> bool {
        let [a, b, c, d, ..] = *name.as_bytes();
        let share = u64::from(u32::from_be_bytes([a, b, c, d]) % self.of);
        let (shares, of) = (u64::from(self.shares), u64::from(self.of));
        let first = (turn % of) * shares % of;
        (share + of - first) % of < shares
    }
}

impl Default for Share {
    /// Everything in seven turns: in a week, where it runs daily.
    fn default() -> Self {
        Share { shares: 1, of: 7 }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shares, self.of)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let parsed = text.split_once('/').and_then(|(shares, of)| Some((shares.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((shares, of)) if 0 < shares && shares <= of && of <= SHARES_MAX => Ok(Share { shares, of }),
            _ => Err(ShareError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many of the turns from `first` each of many packs is read.
    fn readings(share: Share, first: u64, turns: u64) -> Vec<usize> {
        let packs = (0..2000u32).map(|n| blake3::hash(&n.to_le_bytes()));
        packs.map(|pack| (first..first + turns).filter(|turn| share.has(&pack, *turn)).count()).collect()
    }

    #[test]
    fn seven_turns_of_sevenths_read_every_pack_exactly_once_wherever_it_begins() {
        for first in [0, 20_000, 20_003, u64::MAX - 8] {
            assert!(readings(Share::default(), first, 7).iter().all(|read| *read == 1), "from turn {first}");
        }
        let quarters: Share = "2/8".parse().unwrap();
        assert!(readings(quarters, 5, 4).iter().all(|read| *read == 1));
        let uneven: Share = "3/7".parse().unwrap();
        assert!(readings(uneven, 5, 7).iter().all(|read| *read == 3));
        assert!(readings(Share::WHOLE, 9, 1).iter().all(|read| *read == 1));
    }

    #[test]
    fn a_turn_of_a_seventh_is_about_a_seventh() {
        let read: usize = readings(Share::default(), 20_000, 1).iter().sum();
        assert!((200..380).contains(&read), "{read} of 2000");
    }

    #[test]
    fn shares_as_people_write_them() {
        assert_eq!("1/7".parse(), Ok(Share::default()));
        assert_eq!("1/7".parse::<Share>().unwrap().to_string(), "1/7");
        assert!("5/5".parse::<Share>().unwrap().is_whole());
        for text in ["", "7", "0/7", "8/7", "1/0", "1/1001", "-1/7", "1/7/7", "a/b"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
