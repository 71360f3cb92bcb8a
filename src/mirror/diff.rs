//! The merge-join of a sorted listing with the sorted rows of the past. Pure: what is listed and what was
//! recorded come in, what to do goes out.
//!
//! A version is compared with what was recorded of the same source, never with the target's: ETags and
//! clocks of two stores have nothing to say to each other.
//!
//! Where the listing has a hole, the rows of the past stay as they are: nothing is known of them, least of all that they are gone.

use std::iter::Peekable;

use futures_util::{Stream, StreamExt, stream};

use super::MirrorError;
use super::list::{Entry, Unlisted};
use super::manifest::{ManifestError, Row};
use crate::store::{Listed, Skipped, SourceVersion};

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

    /// The next row of the past that comes before `key`, the next of the listing, or, when the listing is complete, before nothing:
    /// its object is not listed. To be asked until there is none, before `key` is met.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn gone_before(&mut self, key: Option<&str>) -> Result<Option<Row>, E> {
        let row = self.take_if(|row| key.is_none_or(|key| row.key.as_str() < key))?;
        self.gone += u64::from(row.is_some());
        Ok(row)
    }

    /// As [`Join::gone_before`], for a hole that the listing has after the key `after`.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn gone_until(&mut self, after: Option<&str>) -> Result<Option<Row>, E> {
        let row = self.take_if(|row| after.is_some_and(|after| row.key.as_str() <= after))?;
        self.gone += u64::from(row.is_some());
        Ok(row)
    }

    /// The next row of the hole that the listing has after `hole.after`, which belongs to the past; `None` at its end. To be asked
    /// when [`Join::gone_until`] has no more.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn unseen(&mut self, hole: &Unlisted) -> Result<Option<Row>, E> {
        let row = self.take_if(|row| hole.until.as_ref().is_none_or(|until| row.key <= *until))?;
        if row.is_none() && self.last < hole.until {
            self.last.clone_from(&hole.until);
        }
        Ok(row)
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

/// One step of a pass: an entry of the listing, or a row of the past that it does not show.
#[derive(Debug)]
pub(super) enum Met {
    Object {
        key: String,
        version: SourceVersion,
        change: Change,
    },
    /// A row whose object is not listed where it should be.
    Gone(Row),
    Skipped(Skipped),
    /// A hole begins.
    Unlisted(Unlisted),
    /// A row in it.
    Unseen(Row),
}

/// Where the join of a listing stands.
enum At {
    /// Before whatever the listing says next.
    Listing,
    /// Before this object, and after all that was listed before it.
    Object(String, SourceVersion),
    /// Before this hole.
    Hole(Unlisted),
    /// In it.
    Within(Unlisted),
    /// After the last entry of a listing that came to its end.
    Complete,
}

/// Joins a listing of `bucket` with the past. Every row and every entry comes once, in the order of the keys.
pub(super) fn joined<'a, P>(
    listing: impl Stream<Item = Result<Entry, MirrorError>> + Send + 'a,
    join: &'a mut Join<P>,
    bucket: &'a str,
) -> impl Stream<Item = Result<Met, MirrorError>> + Send + 'a
where
    P: Iterator<Item = Result<Row, ManifestError>> + Send,
{
    let state = (listing.boxed(), join, At::Listing);
    stream::try_unfold(state, move |(mut listing, join, mut at)| async move {
        loop {
            let (met, next) = match at {
                At::Listing => match listing.next().await.transpose()? {
                    None => (None, At::Complete),
                    Some(Entry::Unlisted(hole)) => (None, At::Hole(hole)),
                    Some(Entry::Listed(Listed::Skipped(skipped))) => (Some(Met::Skipped(skipped)), At::Listing),
                    Some(Entry::Listed(Listed::Object { key, version })) => (None, At::Object(key, version)),
                },
                At::Object(key, version) => match join.gone_before(Some(&key))? {
                    Some(row) => (Some(Met::Gone(row)), At::Object(key, version)),
                    None => (Some(object(join, bucket, key, version)?), At::Listing),
                },
                At::Hole(hole) => match join.gone_until(hole.after.as_deref())? {
                    Some(row) => (Some(Met::Gone(row)), At::Hole(hole)),
                    None => (Some(Met::Unlisted(hole.clone())), At::Within(hole)),
                },
                At::Within(hole) => match join.unseen(&hole)? {
                    Some(row) => (Some(Met::Unseen(row)), At::Within(hole)),
                    None => (None, At::Listing),
                },
                At::Complete => match join.gone_before(None)? {
                    Some(row) => (Some(Met::Gone(row)), At::Complete),
                    None => return Ok(None),
                },
            };
            at = next;
            if let Some(met) = met {
                return Ok(Some((met, (listing, join, at))));
            }
        }
    })
}

fn object<P>(join: &mut Join<P>, bucket: &str, key: String, version: SourceVersion) -> Result<Met, MirrorError>
where
    P: Iterator<Item = Result<Row, ManifestError>>,
{
    match join.meet(&key, &version)? {
        Ok(change) => Ok(Met::Object { key, version, change }),
        Err(OutOfOrder { before, after }) => Err(MirrorError::Unsorted { bucket: bucket.to_owned(), before, after }),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

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

    #[tokio::test]
    async fn rows_in_a_hole_of_the_listing_stay_and_are_not_gone() {
        let check = async |after: Option<&str>, until: Option<&str>, expected: &str| {
            let past = ["a", "b", "c", "d", "e"].map(|key| row(key, 1, false).map_err(|_| unreachable!()));
            let mut join = Join::new(past.into_iter());
            let object = |key: &str| Entry::Listed(Listed::Object { key: key.to_owned(), version: version(1) });
            let own = |key: Option<&str>| key.map(str::to_owned);
            let hole = Entry::Unlisted(Unlisted { after: own(after), until: own(until), why: "500".to_owned() });
            let before = ["a", "b"].into_iter().filter(|key| after.is_some_and(|after| *key <= after)).map(object);
            let behind = ["e", "f"].into_iter().filter(|key| until.is_some_and(|until| *key > until)).map(object);
            let entries: Vec<_> = before.chain([hole]).chain(behind).map(Ok).collect();
            let met: Vec<Met> = joined(stream::iter(entries), &mut join, "s").try_collect().await.unwrap();
            let word = |met: &Met| match met {
                Met::Object { key, change: Change::Same(_), .. } => format!("={key}"),
                Met::Object { key, .. } => format!("+{key}"),
                Met::Unseen(row) => format!("?{}", row.key),
                Met::Gone(row) => format!("-{}", row.key),
                Met::Unlisted(_) => "(".to_owned(),
                Met::Skipped(_) => unreachable!(),
            };
            let words: Vec<String> = met.iter().map(word).collect();
            let (known, gone) = join.end().unwrap();
            assert_eq!(format!("{} -{gone}/{known}", words.join(" ")), expected);
        };
        check(None, None, "( ?a ?b ?c ?d ?e -0/5").await;
        check(Some("b"), Some("d"), "=a =b ( ?c ?d =e +f -0/5").await;
        check(Some("a"), Some("b"), "=a ( ?b -c -d =e +f -2/5").await;
        check(Some("bb"), Some("cc"), "=a =b ( ?c -d =e +f -1/5").await;
        check(Some("b"), None, "=a =b ( ?c ?d ?e -0/5").await;
        check(Some("c"), Some("d"), "=a =b -c ( ?d =e +f -1/5").await;
    }

    #[test]
    fn an_unreadable_past_is_an_error_and_not_an_empty_past() {
        check(vec![row("a", 1, false), Err("torn".to_owned())], &[("a", 1), ("b", 1)], "=a torn -0/1");
        check(vec![Err("torn".to_owned())], &[], "torn");
    }
}
