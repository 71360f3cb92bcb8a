//! A guess at the middle of two keys. Where the keys are is not known; a wrong guess costs one request.

/// The highest character that is guessed at. Keys are mostly of letters and digits; those beyond lie in the half above.
const HIGHEST: u32 = 0x7f;
/// The lowest: a control character in a request upsets some servers.
const LOWEST: u32 = 0x20;
/// How far two keys are looked at.
const CHARACTERS_MAX: usize = 200;

/// A key between `low` and `high` (the end of all keys when absent), other than either; `None` when there is no simple one.
pub(super) fn between(low: &str, high: Option<&str>) -> Option<String> {
    let mut middle = String::new();
    let (mut lows, mut highs) = (low.chars().map(u32::from), high.map(|high| high.chars().map(u32::from)));
    for _ in 0..CHARACTERS_MAX {
        let below = lows.next().unwrap_or(LOWEST);
        let above = highs.as_mut().map_or(HIGHEST, |highs| highs.next().unwrap_or(LOWEST));
        let half = below.midpoint(above.min(HIGHEST + 1));
        if half > below && half < above {
            middle.push(char::from_u32(half)?);
            return is_between(&middle, low, high).then_some(middle);
        }
        if below < above {
            // The next characters of `low` alone decide: all that begins as it does lies below `high`.
            highs = None;
        }
        middle.push(char::from_u32(below)?);
    }
    None
}

fn is_between(middle: &str, low: &str, high: Option<&str>) -> bool {
    low < middle && high.is_none_or(|high| middle < high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_lies_between_and_halves_what_is_left() {
        let check = |low: &str, high: Option<&str>, expected: Option<&str>| {
            let found = between(low, high);
            assert_eq!(found.as_deref(), expected, "{low:?} {high:?}");
            assert!(found.is_none_or(|found| is_between(&found, low, high)));
        };
        check("", None, Some("O"));
        check("a", None, Some("p"));
        check("a", Some("c"), Some("b"));
        check("origin-00017/p", Some("origin-00050/p"), Some("origin-0003"));
        check("origin-00010/p", Some("origin-00020/p"), Some("origin-0001W"));
        check("a", Some("b"), Some("aO"));
        check("az", Some("b"), Some("a|"));
        check("ü", Some("ü1"), Some("ü("));
        check("a", Some("a "), None);
        check("a", Some("a"), None);
    }

    #[test]
    fn guesses_come_to_an_end() {
        let (mut low, mut steps) = ("origin-00017/package".to_owned(), 0);
        while let Some(middle) = between(&low, Some("origin-00017/packagf")) {
            assert!(middle > low && middle.as_str() < "origin-00017/packagf");
            (low, steps) = (middle, steps + 1);
            if steps > 10_000 {
                break;
            }
        }
        assert!(steps > 1);
    }
}
