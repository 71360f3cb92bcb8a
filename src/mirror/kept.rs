//! A list that is shown to a person: the first of it in full, the rest as a number, so that a bucket full of
//! them fits into memory.

use serde::Serialize;

/// How many are kept.
const KEPT_MAX: usize = 1_000;

/// The first thousand of something, and how many there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept<T> {
    /// The first of them.
    pub first: Vec<T>,
    /// How many there were in all.
    pub total: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { first: Vec::new(), total: 0 }
    }
}

impl<T> Kept<T> {
    /// Adds one.
    pub fn push(&mut self, item: T) {
        self.total += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(item);
        }
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_of_them_fit_and_are_counted() {
        let mut kept = Kept::default();
        (0..1_000_000).for_each(|n| kept.push(n));
        assert_eq!((kept.first.len(), kept.total), (KEPT_MAX, 1_000_000));
        assert!(!kept.is_empty());
    }
}
