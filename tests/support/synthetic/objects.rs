//! The objects that are made from their numbers.

use bytes::Bytes;

/// Keys of one length each, so that they sort as their numbers do; ten thousand below each name.
pub fn key_of(number: u64) -> String {
    format!("origin-{:05}/package-{:04}.hart", number / 10_000, number % 10_000)
}

/// The number of the first key that comes after `key`.
pub(super) fn first_after(key: &str, keys: u64) -> u64 {
    let (mut low, mut high) = (0, keys);
    while low < high {
        let middle = low + (high - low) / 2;
        if key_of(middle).as_str() > key { high = middle } else { low = middle + 1 }
    }
    low
}

/// The number of a key that is made.
pub(super) fn number_of(key: &str, keys: u64) -> Option<u64> {
    let number = first_after(key, keys).checked_sub(1)?;
    (key_of(number) == key).then_some(number)
}

fn mixed(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A few bytes: what is listed costs nothing to hold.
pub fn size_of(number: u64) -> u64 {
    24 + 8 * (mixed(number) % 16)
}

pub fn etag_of(number: u64, changed: bool) -> String {
    let half = mixed(number ^ u64::from(changed) << 63);
    format!("{half:016x}{:016x}", mixed(half))
}

pub fn content_of(number: u64, changed: bool) -> Bytes {
    let eight = mixed(number ^ u64::from(changed) << 63).to_le_bytes();
    eight.repeat(usize::try_from(size_of(number) / 8).unwrap()).into()
}
