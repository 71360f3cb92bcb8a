//! The merge-join of a sorted listing with the sorted rows of the past. Pure: what is listed and what was
//! recorded come in, what to do goes out.
//!
//! A version is compared with what was recorded of the same source, never with the target's: ETags and
//! clocks of two stores have nothing to say to each other.

use std::iter::Peekable;

use super::manifest::Row;
use crate::store::SourceVersion;

/// What became of a listed object since the last pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there, or it is a first pass.
    New,
    /// It is another version, or it may be.
    Changed(Row),
    /// It is the version that the target has.
    Same(Row),
}

/// Two keys that a listing gave in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The first.
    pub before: String,
    /// The second, which should be greater.
    pub after: String,
}

/// The join in progress.
pub struct Join<P: Iterator> {
    past: Peekable<P>,
    last: Option<String>,
    known: u64,
    gone: u64,
}

impl<P, E> Join<P>
where
    P: Iterator<Item = Result<Row, E>>,
{
    /// Starts with the rows of the last pass, sorted by key.
    pub fn new(past: P) -> Self {
        Join { past: past.peekable(), last: None, known: 0, gone: 0 }
    }

    /// What to do with the next object of the listing.
    ///
    /// # Errors
    /// The first error of the rows; or, inside, that the listing is not sorted: then it cannot be joined, and
    /// to go on would take objects for gone that are there.
    pub fn meet(&mut self, key: &str, version: &SourceVersion) -> Result<Result<Change, OutOfOrder>, E> {
        if let Some(before) = self.last.as_ref().filter(|last| last.as_str() >= key) {
            return Ok(Err(OutOfOrder { before: before.clone(), after: key.to_owned() }));
        }
        self.last = Some(key.to_owned());
        while self.take_if(|row| row.key.as_str() < key)?.is_some() {
            self.gone += 1;
        }
        Ok(Ok(match self.take_if(|row| row.key == key)? {
            None => Change::New,
            Some(row) if row.source == *version && !row.racy => Change::Same(row),
            Some(row) => Change::Changed(row),
        }))
    }

    /// The listing is complete: what is left of the past is gone. How many rows the past had, and how many of
    /// them are gone.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn end(mut self) -> Result<(u64, u64), E> {
        while self.take_if(|_| true)?.is_some() {
            self.gone += 1;
        }
        Ok((self.known, self.gone))
    }

    fn take_if(&mut self, wanted: impl Fn(&Row) -> bool) -> Result<Option<Row>, E> {
        let row = self.past.next_if(|next| next.as_ref().map_or(true, &wanted)).transpose()?;
        self.known += u64::from(row.is_some());
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(size: u64) -> SourceVersion {
        SourceVersion { etag: None, size, modified_ns: 0 }
    }

    fn row(key: &str, size: u64, racy: bool) -> Result<Row, String> {
        let blake3 = blake3::hash(b"");
        Ok(Row { key: key.to_owned(), source: version(size), blake3, target_etag: None, beside: None, racy })
    }

    /// Joins and writes one word per object: `+` new, `~` changed, `=` same; then the number that is gone.
    fn check(past: Vec<Result<Row, String>>, listing: &[(&str, u64)], expected: &str) {
        let mut join = Join::new(past.into_iter());
        let mut words = Vec::new();
        for (key, size) in listing {
            match join.meet(key, &version(*size)) {
                Ok(Ok(Change::New)) => words.push(format!("+{key}")),
                Ok(Ok(Change::Changed(row))) => words.push(format!("~{}", row.key)),
                Ok(Ok(Change::Same(row))) => words.push(format!("={}", row.key)),
                Ok(Err(keys)) => words.push(format!("{}>{}", keys.before, keys.after)),
                Err(error) => words.push(error),
            }
        }
        match join.end() {
            Ok((known, gone)) => words.push(format!("-{gone}/{known}")),
            Err(error) => words.push(error),
        }
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn new_changed_same_and_gone() {
        check(vec![], &[("a", 1), ("b", 1)], "+a +b -0/0");
        let past = || vec![row("b", 1, false), row("c", 1, false), row("d", 1, true), row("f", 1, false)];
        check(past(), &[("a", 1), ("c", 1), ("d", 1), ("e", 1)], "+a =c ~d +e -2/4");
        check(past(), &[("b", 2), ("c", 1), ("d", 1), ("f", 1)], "~b =c ~d =f -0/4");
        check(past(), &[], "-4/4");
    }

    #[test]
    fn keys_are_compared_by_their_bytes() {
        check(vec![row("a-b", 1, false), row("a/b", 1, false)], &[("a-b", 1), ("a/b", 1)], "=a-b =a/b -0/2");
        check(vec![row("Z", 1, false)], &[("Z", 1), ("a", 1), ("é", 1)], "=Z +a +é -0/1");
    }

    #[test]
    fn a_listing_out_of_order_is_an_error_and_nothing_is_taken_for_gone() {
        check(vec![], &[("b", 1), ("a", 1)], "+b b>a -0/0");
        check(vec![], &[("b", 1), ("b", 1)], "+b b>b -0/0");
    }

    #[test]
    fn an_unreadable_past_is_an_error_and_not_an_empty_past() {
        check(vec![row("a", 1, false), Err("torn".to_owned())], &[("a", 1), ("b", 1)], "=a torn -0/1");
        check(vec![Err("torn".to_owned())], &[], "torn");
    }
}
