//! The merge-join of a sorted listing with the sorted rows of the past. Pure: what is listed and what was
//! recorded come in, what to do goes out.
//!
//! A version is compared with what was recorded of the same source, never with the target's: ETags and
//! clocks of two stores have nothing to say to each other.
//!
//! Where the listing has a hole, the rows of the past stay as they are: nothing is known of them, least of all that they are gone.

use std::cmp::Ordering;
use std::iter::Peekable;

use futures_util::{Stream, StreamExt, stream};

use super::MirrorError;
use super::list::{Part, Unlisted};
use super::manifest::{Line, Lines, ManifestError, Row, Stretch};
use crate::config::DigestAlgorithm;
use crate::store::{Listed, Skipped, SourceVersion};

/// How many rows that stand are given on at once. They are held in memory while an object before them is copied.
const STRETCH_ROWS: u64 = 256;

/// What became of a listed object since the last pass.
#[derive(Debug)]
pub enum Change {
    /// It was not there, or it is a first pass.
    New,
    /// It is another version, or it may be.
    Changed(Row),
    /// It is the version that the target has.
    Same(Line),
}

/// Two keys that a listing gave in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The first.
    pub before: String,
    /// The second, which should be greater.
    pub after: String,
}

/// A row held against an object.
enum Against {
    /// It comes before: its object is not listed.
    Gone(Row),
    Object(Change),
}

/// The join in progress.
pub struct Join {
    past: Peekable<std::iter::Flatten<std::option::IntoIter<Lines>>>,
    /// By which every object's content is to be known, besides BLAKE3.
    digest: Option<DigestAlgorithm>,
    last: Option<String>,
    known: u64,
    gone: u64,
}

impl Join {
    /// Starts with the rows of the last pass, if there was one. A row without the wanted `digest` does not stand.
    pub fn new(past: Option<Lines>, digest: Option<DigestAlgorithm>) -> Self {
        Join { past: past.into_iter().flatten().peekable(), digest, last: None, known: 0, gone: 0 }
    }

    /// What to do with the next object of the listing.
    ///
    /// # Errors
    /// The first error of the rows; or, inside, that the listing is not sorted: then it cannot be joined, and
    /// to go on would take objects for gone that are there.
    pub fn meet(&mut self, key: &str, version: &SourceVersion) -> Result<Result<Change, OutOfOrder>, ManifestError> {
        if let Err(keys) = self.follows(key) {
            return Ok(Err(keys));
        }
        loop {
            if let Against::Object(change) = self.against(key, version)? {
                return Ok(Ok(change));
            }
        }
    }

    /// Whether `key` comes after the last.
    fn follows(&mut self, key: &str) -> Result<(), OutOfOrder> {
        match &mut self.last {
            Some(last) if last.as_str() >= key => {
                return Err(OutOfOrder { before: last.clone(), after: key.to_owned() });
            }
            Some(last) => key.clone_into(last),
            None => self.last = Some(key.to_owned()),
        }
        Ok(())
    }

    /// The next row held against the next object of the listing.
    fn against(&mut self, key: &str, version: &SourceVersion) -> Result<Against, ManifestError> {
        let mut order = Ordering::Greater;
        let line = self.take_if(|line| {
            order = line.key().cmp(key.as_bytes());
            order.is_le()
        })?;
        Ok(match line {
            None => Against::Object(Change::New),
            Some(line) if order.is_lt() => {
                self.gone += 1;
                Against::Gone(line.row()?)
            }
            Some(line) if line.stands(version) && self.digest.is_none_or(|digest| line.has_digest(digest)) => {
                Against::Object(Change::Same(line))
            }
            Some(line) => Against::Object(Change::Changed(line.row()?)),
        })
    }

    /// The next row of the past when the listing is complete: its object is not listed.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn gone_at_last(&mut self) -> Result<Option<Row>, ManifestError> {
        self.gone_if(|_| true)
    }

    /// The next row of the past that comes before a hole which the listing has after the key `after`, likewise.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn gone_until(&mut self, after: Option<&str>) -> Result<Option<Row>, ManifestError> {
        self.gone_if(|line| after.is_some_and(|after| line.key() <= after.as_bytes()))
    }

    /// The next row of the hole that the listing has after `hole.after`, which belongs to the past; `None` at its end. To be asked
    /// when [`Join::gone_until`] has no more.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn unseen(&mut self, hole: &Unlisted) -> Result<Option<Row>, ManifestError> {
        let line = self.take_if(|line| hole.until.as_ref().is_none_or(|until| line.key() <= until.as_bytes()))?;
        if line.is_none() && self.last < hole.until {
            self.last.clone_from(&hole.until);
        }
        line.map(|line| line.row()).transpose()
    }

    /// The listing is complete: what is left of the past is gone. How many rows the past had, and how many of
    /// them are gone.
    ///
    /// # Errors
    /// The first error of the rows.
    pub fn end(mut self) -> Result<(u64, u64), ManifestError> {
        while self.take_if(|_| true)?.is_some() {
            self.gone += 1;
        }
        Ok((self.known, self.gone))
    }

    fn gone_if(&mut self, wanted: impl FnMut(&Line) -> bool) -> Result<Option<Row>, ManifestError> {
        let line = self.take_if(wanted)?;
        self.gone += u64::from(line.is_some());
        line.map(|line| line.row()).transpose()
    }

    /// The next row, if it is wanted. Those of what was gone already are passed over.
    fn take_if(&mut self, mut wanted: impl FnMut(&Line) -> bool) -> Result<Option<Line>, ManifestError> {
        loop {
            let next = self.past.next_if(|next| next.as_ref().map_or(true, |line| line.is_gone() || wanted(line)));
            match next.transpose()? {
                Some(line) if line.is_gone() => {}
                line => {
                    self.known += u64::from(line.is_some());
                    return Ok(line);
                }
            }
        }
    }
}

/// One step of a pass: an entry of the listing, or a row of the past that it does not show.
#[derive(Debug)]
pub(super) enum Met {
    /// Objects side by side that are as they were, and of which nobody wants to see more.
    Standing(Stretch),
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

/// A listing being joined, part by part.
struct Joining<'a, W> {
    join: &'a mut Join,
    /// Which bucket is listed.
    bucket: &'a str,
    /// Whether somebody wants to see an object that is as it was, of which this is the row. Asked once for each, in their order.
    is_wanted: W,
    /// What was listed and not met yet.
    listed: std::vec::IntoIter<Listed>,
    at: At,
    /// The rows that stand since what was given last.
    standing: Stretch,
    /// What comes after them.
    waiting: Option<Result<Met, MirrorError>>,
}

/// What a step of a join came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something waits to be given.
    Met,
    /// The object stands.
    Standing,
    /// Nothing yet.
    On,
    /// More has to be listed.
    More,
}

/// Joins a listing of `bucket` with the past. Every row and every entry comes once, in the order of the keys.
pub(super) fn joined<'a>(
    listing: impl Stream<Item = Result<Part, MirrorError>> + Send + 'a,
    join: &'a mut Join,
    bucket: &'a str,
    is_wanted: impl FnMut(&str, &Line) -> bool + Send + 'a,
) -> impl Stream<Item = Result<Met, MirrorError>> + Send + 'a {
    let (listed, standing) = (Vec::new().into_iter(), Stretch::default());
    let joining = Joining { join, bucket, is_wanted, listed, at: At::Listing, standing, waiting: None };
    stream::try_unfold((listing.boxed(), joining), async move |(mut listing, mut joining)| {
        loop {
            if let Some(met) = joining.next() {
                return Ok(Some((met?, (listing, joining))));
            }
            if matches!(joining.at, At::Complete) {
                return Ok(None);
            }
            match listing.next().await.transpose()? {
                Some(Part::Listed(listed)) => joining.listed = listed.into_iter(),
                Some(Part::Unlisted(hole)) => joining.at = At::Hole(hole),
                None => joining.at = At::Complete,
            }
        }
    })
}

impl<W: FnMut(&str, &Line) -> bool> Joining<'_, W> {
    /// What was met next; `None` when more has to be listed first. An error comes after all that was met before it.
    fn next(&mut self) -> Option<Result<Met, MirrorError>> {
        while self.waiting.is_none() {
            match self.step() {
                Ok(Step::Standing) if self.standing.rows >= STRETCH_ROWS => break,
                Ok(Step::More) => break,
                Ok(Step::Met | Step::Standing | Step::On) => {}
                Err(error) => self.waiting = Some(Err(error)),
            }
        }
        if self.standing.rows > 0 {
            return Some(Ok(Met::Standing(std::mem::take(&mut self.standing))));
        }
        self.waiting.take()
    }

    fn step(&mut self) -> Result<Step, MirrorError> {
        match std::mem::replace(&mut self.at, At::Listing) {
            At::Listing => match self.listed.next() {
                None => Ok(Step::More),
                Some(Listed::Skipped(skipped)) => Ok(self.meet(Met::Skipped(skipped))),
                Some(Listed::Object { key, version }) => self.object(key, version),
            },
            At::Object(key, version) => self.before(key, version),
            At::Hole(hole) => {
                let gone = self.join.gone_until(hole.after.as_deref())?;
                let met = gone.map_or_else(|| Met::Unlisted(hole.clone()), Met::Gone);
                self.at = if matches!(met, Met::Gone(_)) { At::Hole(hole) } else { At::Within(hole) };
                Ok(self.meet(met))
            }
            At::Within(hole) => {
                let Some(row) = self.join.unseen(&hole)? else { return Ok(Step::On) };
                self.at = At::Within(hole);
                Ok(self.meet(Met::Unseen(row)))
            }
            At::Complete => {
                self.at = At::Complete;
                let gone = self.join.gone_at_last()?;
                Ok(gone.map_or(Step::More, |row| self.meet(Met::Gone(row))))
            }
        }
    }

    fn meet(&mut self, met: Met) -> Step {
        self.waiting = Some(Ok(met));
        Step::Met
    }

    /// An object, after what is gone before it.
    fn before(&mut self, key: String, version: SourceVersion) -> Result<Step, MirrorError> {
        match self.join.against(&key, &version)? {
            Against::Gone(row) => {
                self.at = At::Object(key, version);
                Ok(self.meet(Met::Gone(row)))
            }
            Against::Object(Change::Same(line)) if !(self.is_wanted)(&key, &line) => {
                self.standing.add(&line, version.size)?;
                Ok(Step::Standing)
            }
            Against::Object(change) => Ok(self.meet(Met::Object { key, version, change })),
        }
    }

    /// An object of the listing, unless that is not sorted.
    fn object(&mut self, key: String, version: SourceVersion) -> Result<Step, MirrorError> {
        match self.join.follows(&key) {
            Ok(()) => self.before(key, version),
            Err(OutOfOrder { before, after }) => {
                Err(MirrorError::Unsorted { bucket: self.bucket.to_owned(), before, after })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::mirror::manifest::{Pair, Writer};

    fn version(size: u64) -> SourceVersion {
        SourceVersion { etag: Some("e\t".to_owned()), size, modified_ns: -7 }
    }

    fn row(key: &str, size: u64, racy: bool) -> Row {
        let blake3 = blake3::hash(b"");
        Row { key: key.to_owned(), source: version(size), blake3, target_etag: None, beside: None, digest: None, racy }
    }

    /// A manifest of these rows; cut after so many lines, if it is torn.
    fn past(rows: &[Row], torn: Option<usize>) -> Join {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        let pair = Pair { source: "s".to_owned(), target: "t".to_owned() };
        let mut writer = Writer::create(&folder.path().join("next"), &pair).unwrap();
        rows.iter().for_each(|row| writer.push(row).unwrap());
        writer.push_gone(&row("zz", 1, false)).unwrap();
        writer.finish(&path).unwrap();
        if let Some(lines) = torn {
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.split_inclusive('\n').take(lines).collect::<String>()).unwrap();
        }
        Join::new(Lines::open(&path).unwrap().map(|(_, lines)| lines), None)
    }

    /// Joins and writes one word per object: `+` new, `~` changed, `=` same; then the number that is gone.
    fn check(mut join: Join, listing: &[(&str, u64)], expected: &str) {
        let mut words = Vec::new();
        let torn = |error: ManifestError| {
            assert!(matches!(error, ManifestError::Unfinished { .. }), "{error}");
            "torn".to_owned()
        };
        for (key, size) in listing {
            match join.meet(key, &version(*size)) {
                Ok(Ok(Change::New)) => words.push(format!("+{key}")),
                Ok(Ok(Change::Changed(row))) => words.push(format!("~{}", row.key)),
                Ok(Ok(Change::Same(line))) => words.push(format!("={}", line.row().unwrap().key)),
                Ok(Err(keys)) => words.push(format!("{}>{}", keys.before, keys.after)),
                Err(error) => words.push(torn(error)),
            }
        }
        match join.end() {
            Ok((known, gone)) => words.push(format!("-{gone}/{known}")),
            Err(error) => words.push(torn(error)),
        }
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn new_changed_same_and_gone() {
        check(past(&[], None), &[("a", 1), ("b", 1)], "+a +b -0/0");
        check(Join::new(None, None), &[("a", 1), ("b", 1)], "+a +b -0/0");
        let past = || past(&[row("b", 1, false), row("c", 1, false), row("d", 1, true), row("f", 1, false)], None);
        check(past(), &[("a", 1), ("c", 1), ("d", 1), ("e", 1)], "+a =c ~d +e -2/4");
        check(past(), &[("b", 2), ("c", 1), ("d", 1), ("f", 1)], "~b =c ~d =f -0/4");
        check(past(), &[], "-4/4");
        // What was gone before and came back is new.
        check(past(), &[("b", 1), ("zz", 1)], "=b +zz -3/4");
    }

    #[test]
    fn keys_are_compared_by_their_bytes() {
        check(past(&[row("a-b", 1, false), row("a/b", 1, false)], None), &[("a-b", 1), ("a/b", 1)], "=a-b =a/b -0/2");
        check(past(&[row("Z", 1, false)], None), &[("Z", 1), ("a", 1), ("é", 1)], "=Z +a +é -0/1");
        // And not by those of a line, where a backslash stands for what is smaller.
        let odd = ["a\u{1}", "a\tb", "a b", "a\\", "ab"];
        check(
            past(&odd.map(|key| row(key, 1, false)), None),
            &odd.map(|key| (key, 1)),
            "=a\u{1} =a\tb =a b =a\\ =ab -0/5",
        );
    }

    #[test]
    fn whatever_differs_of_a_version_is_a_change() {
        let listed = version(1);
        let others = [
            SourceVersion { etag: None, ..listed.clone() },
            SourceVersion { etag: Some("e\\t".to_owned()), ..listed.clone() },
            SourceVersion { size: 2, ..listed.clone() },
            SourceVersion { modified_ns: 7, ..listed.clone() },
        ];
        let meets = |version: &SourceVersion| past(&[row("a", 1, false)], None).meet("a", version).unwrap().unwrap();
        assert!(matches!(meets(&listed), Change::Same(_)));
        for other in others {
            assert!(matches!(meets(&other), Change::Changed(_)), "{other:?}");
        }
    }

    #[test]
    fn a_listing_out_of_order_is_an_error_and_nothing_is_taken_for_gone() {
        check(past(&[], None), &[("b", 1), ("a", 1)], "+b b>a -0/0");
        check(past(&[], None), &[("b", 1), ("b", 1)], "+b b>b -0/0");
    }

    fn object(key: &str) -> Listed {
        Listed::Object { key: key.to_owned(), version: version(1) }
    }

    /// Joins with the past of these keys. `=` and how many stand side by side, `!` one that stands and is wanted.
    async fn words(past_keys: &[String], parts: Vec<Part>, wanted: &str) -> String {
        let mut join = past(&past_keys.iter().map(|key| row(key, 1, false)).collect::<Vec<_>>(), None);
        let parts = stream::iter(parts.into_iter().map(Ok));
        let met: Vec<Met> = joined(parts, &mut join, "s", |key, _| key == wanted).try_collect().await.unwrap();
        let word = |met: &Met| match met {
            Met::Standing(stretch) => format!("={}", stretch.rows),
            Met::Object { key, change: Change::Same(_), .. } => format!("!{key}"),
            Met::Object { key, .. } => format!("+{key}"),
            Met::Unseen(row) => format!("?{}", row.key),
            Met::Gone(row) => format!("-{}", row.key),
            Met::Unlisted(_) => "(".to_owned(),
            Met::Skipped(_) => unreachable!(),
        };
        let words: Vec<String> = met.iter().map(word).collect();
        let (known, gone) = join.end().unwrap();
        format!("{} -{gone}/{known}", words.join(" "))
    }

    #[tokio::test]
    async fn rows_in_a_hole_of_the_listing_stay_and_are_not_gone() {
        let check = async |after: Option<&str>, until: Option<&str>, expected: &str| {
            let own = |key: Option<&str>| key.map(str::to_owned);
            let hole = Part::Unlisted(Unlisted { after: own(after), until: own(until), why: "500".to_owned() });
            let before = ["a", "b"].into_iter().filter(|key| after.is_some_and(|after| *key <= after)).map(object);
            let behind = ["e", "f"].into_iter().filter(|key| until.is_some_and(|until| *key > until)).map(object);
            let parts = vec![Part::Listed(before.collect()), hole, Part::Listed(behind.collect())];
            let past = ["a", "b", "c", "d", "e"].map(str::to_owned);
            assert_eq!(words(&past, parts, "").await, expected);
        };
        check(None, None, "( ?a ?b ?c ?d ?e -0/5").await;
        check(Some("b"), Some("d"), "=2 ( ?c ?d =1 +f -0/5").await;
        check(Some("a"), Some("b"), "=1 ( ?b -c -d =1 +f -2/5").await;
        check(Some("bb"), Some("cc"), "=2 ( ?c -d =1 +f -1/5").await;
        check(Some("b"), None, "=2 ( ?c ?d ?e -0/5").await;
        check(Some("c"), Some("d"), "=2 -c ( ?d =1 +f -1/5").await;
    }

    #[tokio::test]
    async fn what_stands_is_given_on_together_in_its_place_and_in_limits() {
        let keys: Vec<String> = (0..1_000).map(|number| format!("{number:04}")).collect();
        let all = |without: &str| {
            vec![Part::Listed(keys.iter().filter(|key| *key != without).map(|key| object(key)).collect())]
        };
        assert_eq!(words(&keys, all(""), "").await, "=256 =256 =256 =232 -0/1000");
        assert_eq!(words(&keys, all(""), "0005").await, "=5 !0005 =256 =256 =256 =226 -0/1000");
        assert_eq!(words(&keys, all("0300"), "").await, "=256 =44 -0300 =256 =256 =187 -1/1000");
    }

    #[test]
    fn an_unreadable_past_is_an_error_and_not_an_empty_past() {
        check(past(&[row("a", 1, false)], Some(2)), &[("a", 1), ("b", 1)], "=a torn -0/1");
        check(past(&[], Some(1)), &[], "torn");
    }
}
