//! One page of a listing, made as it is asked for.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::faults::Fault;
use super::objects::{etag_of, first_after, key_of, size_of};
use super::{MODIFIED, Shared, Stored};

const PAGE_KEYS: usize = 1_000;
/// How many pages a listing in an order of its own goes on by.
const STRIDE: u64 = 7;

/// What a page was asked for.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) prefix: String,
    pub(super) start_after: String,
    pub(super) token: Option<String>,
    pub(super) max_keys: Option<usize>,
}

/// What faults make of a page.
#[derive(Default)]
struct Twists {
    fails_at: Option<u64>,
    wedged: Option<u64>,
    swaps: Option<u64>,
    empty_at: Option<u64>,
    empty: bool,
    unsorted: bool,
    ignores_start: bool,
}

impl Twists {
    fn of(faults: &[Fault]) -> Twists {
        let mut twists = Twists::default();
        for fault in faults {
            match fault {
                Fault::ListingFailsAt(number) => twists.fails_at = Some(*number),
                Fault::Wedged(number) => twists.wedged = Some(*number),
                Fault::Swaps(number) => twists.swaps = Some(*number),
                Fault::EmptyPage(number) => twists.empty_at = Some(*number),
                Fault::Empty => twists.empty = true,
                Fault::Unsorted => twists.unsorted = true,
                Fault::IgnoresStartAfter => twists.ignores_start = true,
                _ => {}
            }
        }
        twists
    }
}

/// One page as XML; `None` when it fails.
pub(super) fn page(shared: &Shared, asked: &Asked) -> Option<String> {
    let state = shared.state();
    let twists = Twists::of(&state.faults);
    let keys = if twists.empty { 0 } else { shared.keys };
    let want = asked.max_keys.unwrap_or(PAGE_KEYS).min(PAGE_KEYS);
    let place = asked.token.as_deref().unwrap_or(&asked.start_after);
    let start = match &asked.token {
        // An order of its own: the token is the number of the page.
        Some(token) if twists.unsorted => token.parse::<u64>().ok()?.wrapping_mul(PAGE_KEYS as u64),
        None if twists.ignores_start || twists.unsorted => 0,
        _ if place.is_empty() => 0,
        _ => first_after(place, keys),
    };
    let end = (start + want as u64).min(keys);
    let near = |number: Option<u64>| number.is_some_and(|number| (start..end).contains(&number));
    if near(twists.fails_at) || twists.wedged.is_some_and(|bad| start == bad + 1 || end == bad + 1) {
        return None;
    }
    let mut numbers: Vec<u64> = (start..end).collect();
    if near(twists.swaps) && numbers.len() > 1 {
        numbers.swap(0, 1);
    }
    // Once: the page after it begins at the same key, by token.
    if near(twists.empty_at) && !place.ends_with('~') {
        let token = format!("{}~", key_of(start.checked_sub(1)?));
        return Some(document("", true, &token));
    }
    let mut body = String::with_capacity(numbers.len() * 220);
    let floor = if twists.ignores_start { "" } else { place };
    let stored: Vec<(&String, &Stored)> = match (&asked.token, twists.unsorted) {
        (_, true) => Vec::new(),
        _ => {
            let last = (end < keys).then(|| key_of(end - 1));
            let from = state.stored.range::<str, _>((std::ops::Bound::Excluded(floor), std::ops::Bound::Unbounded));
            from.take_while(|(key, _)| last.as_ref().is_none_or(|last| *key <= last)).take(want + 1).collect()
        }
    };
    let mut merged = merge(&numbers, &stored, want);
    merged.entries.retain(|entry| entry.key(&stored).starts_with(&asked.prefix));
    for entry in &merged.entries {
        match entry {
            Entry::Made(number) => {
                let etag = etag_of(*number, state.changed.contains(number));
                contents(&mut body, &key_of(*number), &etag, size_of(*number));
            }
            Entry::Stored(at) => {
                let (key, stored) = stored[*at];
                contents(&mut body, key, &stored.etag, stored.content.len() as u64);
            }
        }
    }
    shared.listed.fetch_add(merged.entries.len() as u64, Ordering::Relaxed);
    if twists.unsorted {
        let pages = keys.div_ceil(PAGE_KEYS as u64);
        let next = (start / PAGE_KEYS as u64 + STRIDE) % pages;
        return Some(document(&body, next != 0, &next.to_string()));
    }
    let more = end < keys || merged.more;
    let token = merged.entries.last().map(|entry| entry.key(&stored)).unwrap_or_default();
    Some(document(&body, more, &token))
}

enum Entry {
    Made(u64),
    Stored(usize),
}

impl Entry {
    fn key(&self, stored: &[(&String, &Stored)]) -> String {
        match self {
            Entry::Made(number) => key_of(*number),
            Entry::Stored(at) => stored[*at].0.clone(),
        }
    }
}

struct Merged {
    entries: Vec<Entry>,
    more: bool,
}

fn merge(numbers: &[u64], stored: &[(&String, &Stored)], want: usize) -> Merged {
    if stored.is_empty() {
        return Merged { entries: numbers.iter().map(|number| Entry::Made(*number)).collect(), more: false };
    }
    let mut all: Vec<(String, Entry)> = numbers.iter().map(|number| (key_of(*number), Entry::Made(*number))).collect();
    all.retain(|(key, _)| !stored.iter().any(|(stored, _)| *stored == key));
    all.extend(stored.iter().enumerate().map(|(at, (key, _))| ((*key).clone(), Entry::Stored(at))));
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let more = all.len() > want;
    all.truncate(want);
    Merged { entries: all.into_iter().map(|(_, entry)| entry).collect(), more }
}

fn contents(body: &mut String, key: &str, etag: &str, size: u64) {
    let key = encoded(key);
    write!(
        body,
        "<Contents><Key>{key}</Key><LastModified>{MODIFIED}</LastModified><ETag>&quot;{etag}&quot;</ETag>\
         <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )
    .unwrap();
}

fn document(body: &str, more: bool, token: &str) -> String {
    let next = match more {
        true => format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        false => String::new(),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{next}{body}</ListBucketResult>"
    )
}

/// As `encoding-type=url` has it.
fn encoded(text: &str) -> std::borrow::Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if text.bytes().all(plain) {
        return text.into();
    }
    let each = text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    each.collect::<String>().into()
}
