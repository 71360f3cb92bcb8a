//! Which range of keys is listed by whom. Pure: pages come in, what to ask for next goes out.
//!
//! The ranges lie side by side and cover all keys. The first is what the taker waits for, so listers take the earliest
//! that nobody is busy with. When all are being listed, a lister *probes*: it lists from a guessed key in the middle of the
//! earliest range on; what it finds becomes a range of its own, and where it finds nothing the guess becomes the end.
//! Once enough waits to be taken, only the first range goes on.

use std::collections::VecDeque;

use super::Unlisted;
use super::midpoint::between;
use crate::mirror::diff::OutOfOrder;
use crate::store::{Cursor, Listed, Page, StoreError};

/// How many entries may wait to be taken; a page of each lister may come on top. Enough for each lister to have a range of a
/// manifest's keys behind the first: with less, all would have to wait while one lists the rest of it page by page.
const WAITING_MAX: usize = 80_000;
/// A range is worth being halved when it gave so many pages.
const PAGES_BEFORE_PROBE: u64 = 2;
/// How often a store may give the same empty page.
const STUCK_MAX: u32 = 3;
/// So many holes, and the rest of the listing is one.
const HOLES_MAX: usize = 3;

/// What a lister has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Of which range.
    pub(super) range: u64,
    /// Where the page begins.
    pub(super) from: Cursor,
    /// The last key that is known before it.
    pub(super) after: Option<String>,
    /// The key that was guessed at; absent when the range is simply gone on with.
    pub(super) probe: Option<String>,
}

/// What the taker gets.
pub(super) enum Taken {
    Listed(Vec<Listed>),
    Hole(Unlisted),
    /// Nothing yet.
    Wait,
    /// Every range was listed.
    End,
}

struct Range {
    id: u64,
    /// The last key that was listed; before the first, the key after which it begins.
    last: Option<String>,
    /// Its last key, which need not exist.
    until: Option<String>,
    /// Where its next page begins; none when it is listed to its end.
    next: Option<Cursor>,
    /// The pages to be taken.
    pages: VecDeque<Vec<Listed>>,
    listed: u64,
    /// How often the page before came again without keys.
    stuck: u32,
    busy: bool,
    probing: bool,
    /// No key between its last and its end could be guessed.
    indivisible: bool,
    failed: Option<String>,
}

impl Range {
    fn new(id: u64, last: Option<String>, until: Option<String>) -> Self {
        let next = Some(last.clone().map_or(Cursor::Start, Cursor::After));
        let pages = VecDeque::new();
        let (listed, stuck, busy, probing, indivisible, failed) = (0, 0, false, false, false, None);
        Range { id, last, until, next, pages, listed, stuck, busy, probing, indivisible, failed }
    }

    /// Adds a page, cut where the range ends. Whether anything was in it.
    fn add(&mut self, page: Page, from: &Cursor) -> Result<bool, OutOfOrder> {
        let Page { mut listed, next } = page;
        // What lies beyond belongs to the next range.
        let (mut beyond, mut last) = (None, self.last.as_deref());
        for (number, entry) in listed.iter().enumerate() {
            let Listed::Object { key, .. } = entry else { continue };
            if let Some(before) = last.filter(|last| *last >= key.as_str()) {
                return Err(OutOfOrder { before: before.to_owned(), after: key.clone() });
            }
            // The order of what lies beyond is checked, too: an unsorted page says nothing about where it ends.
            if beyond.is_none() && self.until.as_ref().is_some_and(|until| key > until) {
                beyond = Some(number);
            }
            last = Some(key);
        }
        self.last = last.map(str::to_owned);
        if let Some(first) = beyond {
            listed.truncate(first);
            self.last = self.until.clone();
        }
        self.listed += 1;
        self.next = next.filter(|_| beyond.is_none());
        let is_same = self.next.as_ref() == Some(from) && listed.is_empty();
        self.stuck = if is_same { self.stuck + 1 } else { 0 };
        if self.stuck >= STUCK_MAX {
            self.failed = Some("the store gives the same empty page again and again".to_owned());
            self.next = None;
        }
        let any = !listed.is_empty();
        if any {
            self.pages.push_back(listed);
        }
        Ok(any)
    }
}

/// All ranges that are not yet taken.
pub(super) struct Board {
    ranges: VecDeque<Range>,
    next_id: u64,
    waiting: usize,
    pages: u64,
    holes: usize,
}

impl Board {
    /// Ranges between these keys, which are sorted and differ.
    pub(super) fn new(bounds: Vec<String>) -> Self {
        let mut board = Board { ranges: VecDeque::new(), next_id: 0, waiting: 0, pages: 0, holes: 0 };
        let mut last = None;
        for bound in bounds {
            board.push(last, Some(bound.clone()));
            last = Some(bound);
        }
        board.push(last, None);
        board
    }

    fn push(&mut self, last: Option<String>, until: Option<String>) {
        self.ranges.push_back(Range::new(self.next_id, last, until));
        self.next_id += 1;
    }

    fn at(&self, id: u64) -> Option<usize> {
        self.ranges.iter().position(|range| range.id == id)
    }

    /// What to do next; `None` when there is nothing just now.
    pub(super) fn job(&mut self) -> Option<Job> {
        let full = self.waiting >= WAITING_MAX;
        for (number, range) in self.ranges.iter_mut().enumerate() {
            if full && number > 0 {
                return None;
            }
            if let Some(from) = range.next.clone().filter(|_| !range.busy) {
                range.busy = true;
                return Some(Job { range: range.id, from, after: range.last.clone(), probe: None });
            }
        }
        self.probe()
    }

    fn probe(&mut self) -> Option<Job> {
        for range in &mut self.ranges {
            let worth = range.listed >= PAGES_BEFORE_PROBE && range.next.is_some();
            if !worth || range.probing || range.indivisible {
                continue;
            }
            let guess = range.last.as_ref().and_then(|last| between(last, range.until.as_deref()));
            range.indivisible = guess.is_none();
            if let Some(guess) = guess {
                range.probing = true;
                let (from, probe) = (Cursor::After(guess.clone()), Some(guess.clone()));
                return Some(Job { range: range.id, from, after: Some(guess), probe });
            }
        }
        None
    }

    /// A page came.
    ///
    /// # Errors
    /// When it shows that the store does not sort.
    pub(super) fn listed(&mut self, job: Job, page: Page) -> Result<(), OutOfOrder> {
        self.pages += 1;
        let Some(at) = self.at(job.range) else { return Ok(()) };
        if let Some(guess) = job.probe {
            return self.probed(at, guess, &job.from, page);
        }
        let Some(range) = self.ranges.get_mut(at) else { return Ok(()) };
        range.busy = false;
        let before = range.pages.len();
        range.add(page, &job.from)?;
        self.waiting += range.pages.iter().skip(before).map(Vec::len).sum::<usize>();
        self.note_hole(at);
        Ok(())
    }

    fn probed(&mut self, at: usize, guess: String, from: &Cursor, page: Page) -> Result<(), OutOfOrder> {
        let Some(halved) = self.ranges.get_mut(at) else { return Ok(()) };
        halved.probing = false;
        // Meanwhile it was listed to that key: the guess came too late.
        if halved.next.is_none() || halved.last.as_ref().is_some_and(|last| *last >= guess) {
            return Ok(());
        }
        let mut half = Range::new(self.next_id, Some(guess.clone()), halved.until.clone());
        let any = half.add(page, from)?;
        halved.until = Some(guess);
        if !any && half.next.is_none() && half.failed.is_none() {
            return Ok(());
        }
        self.next_id += 1;
        self.waiting += half.pages.iter().map(Vec::len).sum::<usize>();
        self.ranges.insert(at + 1, half);
        self.note_hole(at + 1);
        Ok(())
    }

    /// A page does not come: the range is a hole, from its last key on. A probe is only given up.
    ///
    /// # Errors
    /// The error itself when it is not one of that page: nothing was listed at all, or the store refuses.
    pub(super) fn failed(&mut self, job: &Job, error: StoreError) -> Result<(), StoreError> {
        let is_of_page = matches!(error, StoreError::Unavailable { .. } | StoreError::Other { .. });
        if !is_of_page || self.pages == 0 {
            return Err(error);
        }
        let Some(at) = self.at(job.range) else { return Ok(()) };
        let Some(range) = self.ranges.get_mut(at) else { return Ok(()) };
        if job.probe.is_some() {
            (range.probing, range.indivisible) = (false, true);
            return Ok(());
        }
        range.busy = false;
        range.next = None;
        range.failed = Some(crate::mirror::copy::told(&error));
        self.note_hole(at);
        Ok(())
    }

    /// With too many holes the store is not well: what is not begun yet is not begun.
    fn note_hole(&mut self, at: usize) {
        let Some(why) = self.ranges.get(at).and_then(|range| range.failed.clone()) else { return };
        self.holes += 1;
        if self.holes < HOLES_MAX {
            return;
        }
        for range in self.ranges.iter_mut().filter(|range| !range.busy && range.next.is_some()) {
            range.next = None;
            range.failed = Some(why.clone());
        }
    }

    /// What was listed, in the order of the keys.
    pub(super) fn take(&mut self) -> Taken {
        while let Some(first) = self.ranges.front_mut() {
            if let Some(page) = first.pages.pop_front() {
                self.waiting -= page.len();
                return Taken::Listed(page);
            }
            if first.busy || (first.next.is_some() && first.failed.is_none()) {
                return Taken::Wait;
            }
            let Some(done) = self.ranges.pop_front() else { break };
            if let Some(why) = done.failed {
                return Taken::Hole(Unlisted { after: done.last, until: done.until, why });
            }
        }
        Taken::End
    }

    /// Whether no lister is needed any more.
    pub(super) fn is_listed(&self) -> bool {
        self.ranges.iter().all(|range| range.next.is_none() && !range.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Place, SourceVersion};

    fn object(key: &str) -> Listed {
        let version = SourceVersion { etag: None, size: 1, modified_ns: 0 };
        Listed::Object { key: key.to_owned(), version }
    }

    /// A store of numbered keys.
    struct Store {
        keys: Vec<String>,
        page: usize,
    }

    impl Store {
        fn of(keys: usize, page: usize) -> Self {
            Store { keys: (0..keys).map(|number| format!("origin-{number:06}")).collect(), page }
        }

        fn page(&self, from: &Cursor) -> Page {
            let start = match from {
                Cursor::Start => 0,
                Cursor::After(key) | Cursor::Token(key) => self.keys.partition_point(|found| found <= key),
            };
            let end = (start + self.page).min(self.keys.len());
            let next = (end < self.keys.len()).then(|| Cursor::Token(self.keys[end - 1].clone()));
            Page { listed: self.keys[start..end].iter().map(|key| object(key)).collect(), next }
        }
    }

    /// Lists with so many listers, which answer in an order drawn from `seed`. The keys as they were taken, the holes, and how many
    /// pages were asked for.
    fn run(
        board: &mut Board,
        store: &Store,
        listers: usize,
        seed: u64,
        bad: &str,
    ) -> (Vec<String>, Vec<Unlisted>, usize) {
        let (mut keys, mut holes, mut pages, mut draw) = (Vec::new(), Vec::new(), 0, seed);
        let mut under_way: Vec<Job> = Vec::new();
        loop {
            while under_way.len() < listers
                && let Some(job) = board.job()
            {
                under_way.push(job);
            }
            loop {
                match board.take() {
                    Taken::Listed(page) => keys.extend(page.into_iter().map(|listed| match listed {
                        Listed::Object { key, .. } => key,
                        Listed::Skipped(_) => unreachable!(),
                    })),
                    Taken::Hole(hole) => holes.push(hole),
                    Taken::Wait => break,
                    Taken::End => return (keys, holes, pages),
                }
            }
            if under_way.is_empty() {
                continue;
            }
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let job = under_way.swap_remove((draw >> 33) as usize % under_way.len());
            let page = store.page(&job.from);
            pages += 1;
            if page.listed.contains(&object(bad)) {
                board.failed(&job, StoreError::other(Place::store("s", "list"), "as told")).unwrap();
            } else {
                board.listed(job, page).unwrap();
            }
        }
    }

    #[test]
    fn every_key_comes_once_and_in_order_whatever_the_bounds_and_whoever_answers_first() {
        let store = Store::of(3_000, 10);
        for seed in 0..40 {
            for bounds in [vec![], vec!["origin-000100"], vec!["a", "origin-0005", "origin-001", "origin-001500", "z"]]
            {
                let mut board = Board::new(bounds.iter().map(|bound| (*bound).to_owned()).collect());
                let (keys, holes, pages) = run(&mut board, &store, 1 + seed as usize % 9, seed, "");
                assert_eq!(keys, store.keys, "seed {seed}, {bounds:?}");
                assert!(holes.is_empty() && board.is_listed() && board.waiting == 0);
                assert!(pages < 500, "{pages} pages for 300");
            }
        }
    }

    #[test]
    fn without_a_manifest_listers_share_one_range() {
        let (store, mut board) = (Store::of(3_000, 10), Board::new(vec![]));
        let mut shared = 0;
        for _ in 0..PAGES_BEFORE_PROBE {
            let job = board.job().unwrap();
            let page = store.page(&job.from);
            board.listed(job, page).unwrap();
        }
        let _busy = board.job().unwrap();
        for _ in 0..60 {
            let Some(job) = board.job() else { break };
            shared += usize::from(job.probe.is_none());
            let page = store.page(&job.from);
            board.listed(job, page).unwrap();
        }
        assert!(shared > 0 && board.ranges.len() > 1);
    }

    #[test]
    fn what_waits_to_be_taken_is_limited_and_the_first_range_always_goes_on() {
        let (store, mut board) = (Store::of(200_000, 1_000), Board::new(vec!["origin-100000".to_owned()]));
        let (mut first, mut jobs) = (0, 0);
        while let Some(job) = board.job() {
            (first, jobs) = (first + u64::from(job.range == 0), jobs + 1);
            let page = store.page(&job.from);
            board.listed(job, page).unwrap();
            if board.waiting >= WAITING_MAX && jobs > 70 {
                break;
            }
        }
        assert!(board.ranges.iter().skip(1).map(|range| range.listed).sum::<u64>() <= WAITING_MAX as u64 / 1_000 + 1);
        assert_eq!(first, jobs);
    }

    #[test]
    fn ranges_of_a_manifest_are_listed_by_all_listers_side_by_side_to_the_end() {
        const LISTERS: usize = 8;
        let store = Store::of(400_000, 1_000);
        let bounds = store.keys.iter().skip(9_999).step_by(10_000).cloned();
        let (mut board, mut rounds, mut taken) = (Board::new(bounds.collect()), 0, 0);
        // Every page takes as long as every other.
        while !board.is_listed() {
            let jobs: Vec<Job> = std::iter::from_fn(|| board.job()).take(LISTERS).collect();
            for job in jobs {
                let page = store.page(&job.from);
                board.listed(job, page).unwrap();
            }
            rounds += 1;
            while let Taken::Listed(page) = board.take() {
                taken += page.len();
            }
        }
        // A page of each range lies mostly behind its end.
        let pages = store.keys.len() / 1_000 + board.next_id as usize;
        assert!(taken == store.keys.len() && rounds <= pages / LISTERS * 11 / 10, "{rounds} for {pages} pages");
    }

    #[test]
    fn a_page_that_fails_is_a_hole_to_the_end_of_its_range_and_no_more() {
        let store = Store::of(300, 10);
        let bounds: Vec<String> = ["origin-000100", "origin-000200"].map(str::to_owned).into();
        for listers in [1, 4] {
            let (keys, holes, _) = run(&mut Board::new(bounds.clone()), &store, listers, 7, "origin-000150");
            let [hole] = &holes[..] else { panic!("{holes:?}") };
            assert_eq!(hole.until.as_deref(), Some("origin-000200"));
            let lost = |key: &String| *key > *hole.after.as_ref().unwrap() && *key <= *hole.until.as_ref().unwrap();
            let expected: Vec<_> = store.keys.iter().filter(|key| !lost(key)).cloned().collect();
            assert_eq!(keys, expected);
            assert!(hole.after.as_deref() >= Some("origin-000100"), "{hole:?}");
        }
    }

    #[test]
    fn a_store_that_is_away_or_refuses_is_an_error_and_not_a_hole() {
        let away = || StoreError::Unavailable { at: Place::store("s", "list"), source: "gone".into() };
        let mut board = Board::new(vec![]);
        let job = board.job().unwrap();
        assert!(board.failed(&job, away()).is_err());
        let mut board = Board::new(vec!["b".to_owned()]);
        let (one, other) = (board.job().unwrap(), board.job().unwrap());
        board.listed(one, Page { listed: vec![object("a")], next: None }).unwrap();
        let refused = StoreError::Denied { at: Place::store("s", "list"), why: "no".to_owned() };
        assert!(board.failed(&other, refused).is_err());
        assert!(board.failed(&other, away()).is_ok());
    }

    #[test]
    fn a_page_out_of_order_or_one_that_begins_too_early_is_noticed() {
        let check = |bounds: &[&str], skip: usize, keys: &[&str]| {
            let mut board = Board::new(bounds.iter().map(|bound| (*bound).to_owned()).collect());
            let jobs: Vec<Job> = (0..=skip).map(|_| board.job().unwrap()).collect();
            let page = Page { listed: keys.iter().map(|key| object(key)).collect(), next: None };
            board.listed(jobs.into_iter().next_back().unwrap(), page)
        };
        assert!(check(&[], 0, &["a", "b"]).is_ok());
        assert!(check(&[], 0, &["b", "a"]).is_err());
        assert!(check(&[], 0, &["a", "a"]).is_err());
        // Beyond the end of the range, too; and a store that begins at the first key wherever it is told to begin.
        assert!(check(&["b"], 0, &["a", "d", "c"]).is_err());
        assert!(check(&["b"], 1, &["a", "c"]).is_err());
    }

    #[test]
    fn an_empty_page_is_not_the_end_and_the_same_one_for_ever_is_a_hole() {
        let mut board = Board::new(vec![]);
        let token = |text: &str| Some(Cursor::Token(text.to_owned()));
        for (keys, next) in
            [(vec!["a"], "1"), (vec![], "2"), (vec!["b"], "3"), (vec![], "3"), (vec![], "3"), (vec![], "3")]
        {
            let job = board.job().unwrap();
            board.listed(job, Page { listed: keys.into_iter().map(object).collect(), next: token(next) }).unwrap();
        }
        assert!(matches!((board.take(), board.take()), (Taken::Listed(_), Taken::Listed(_))));
        let Taken::Hole(hole) = board.take() else { panic!() };
        assert_eq!((hole.after.as_deref(), hole.until), (Some("b"), None));
        assert!(matches!(board.take(), Taken::End));
    }
}
