//! Keys that part a manifest into equal shares, without reading it: a line here and a line there.
//!
//! A key that is wrong, or missing, makes a range larger or smaller and nothing else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::mirror::line::unescape;

/// The share of one range: some ten thousand rows.
const SHARE_BYTES: u64 = 2 << 20;
/// No more ranges than that, however large the manifest.
const SHARES_MAX: u64 = 4_096;
/// Within so many bytes a line begins; there may be a longer one, and then there is no key.
const LOOK_BYTES: u64 = 16 << 10;

/// Sorted keys of the manifest at `path`; none when it is small, is not there, or cannot be read: whoever reads it whole says why.
pub(super) fn keys(path: &Path) -> Vec<String> {
    sampled(path, SHARE_BYTES).unwrap_or_default()
}

fn sampled(path: &Path, share: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let shares = (length / share.max(1)).min(SHARES_MAX);
    let mut keys: Vec<String> = Vec::new();
    for number in 1..shares {
        file.seek(SeekFrom::Start(length / shares * number))?;
        let key = next_key(&mut file)?;
        keys.extend(key.filter(|key| !key.is_empty() && keys.last().is_none_or(|last| last < key)));
    }
    Ok(keys)
}

/// The first field of the first line that begins from here on.
fn next_key(file: &mut File) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(LOOK_BYTES).read_to_end(&mut bytes)?;
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    let field = lines.next().and_then(|line| line.split(|byte| *byte == b'\t').next());
    let whole = bytes.iter().filter(|byte| **byte == b'\n').count() > 1;
    Ok(field.filter(|_| whole).and_then(|field| std::str::from_utf8(field).ok()).and_then(unescape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_a_manifest_that_is_small_or_gone_is_one_share() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        assert!(keys(&path).is_empty());
        let lines: Vec<String> =
            (0..1_000).map(|number| format!("{number:04}\\x01\tetag\t{number}\tcheck\n")).collect();
        std::fs::write(&path, lines.concat()).unwrap();
        assert!(keys(&path).is_empty());
        let found = sampled(&path, lines.concat().len() as u64 / 10).unwrap();
        assert_eq!(found.len(), 9);
        for (number, key) in found.iter().enumerate() {
            let row: usize = key.strip_suffix('\u{1}').unwrap().parse().unwrap();
            assert!(row.abs_diff((number + 1) * 100) <= 10, "{key:?}");
        }
    }
}
