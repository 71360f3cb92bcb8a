//! Each alarm that the code can raise fires in a test on its fault.

use super::source::{Findings, line_of, read, sources};

/// Where alarms are raised by their faults: from facts, by a watch over a real vault, by real daemons.
const TESTS: [&str; 4] = ["src/report/alarms.rs", "tests/notify.rs", "tests/notify/faults.rs", "tests/watch.rs"];
/// What stands right before a key where a line gets it.
const BEFORE: [&str; 4] = ["line(", "attention(", "key: ", "key = "];
/// Keys that are no alarm, each with its reason.
const NONE: [(&str, &str); 3] = [
    ("daemon.absent", "is of the command `report`, which no daemon makes"),
    ("notify.test", "says that it is a test"),
    ("databases.{}.password", "is a key of the configuration"),
];

/// What stands in the quotes that begin here, if it looks like a key or the end of one.
fn key_at(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let text = text.strip_prefix("format!(").unwrap_or(text).trim_start();
    let (key, _) = text.strip_prefix('"')?.split_once('"')?;
    key.chars().all(|c| c.is_ascii_lowercase() || ".-{}_".contains(c)).then_some(key)
}

/// Whether a word is that key: braces stand for anything.
fn fits(key: &str, word: &str) -> bool {
    let Some((start, rest)) = key.split_once('{') else { return key == word };
    let (_, rest) = rest.split_once('}').expect("a brace that is open is closed");
    let Some(word) = word.strip_prefix(start) else { return false };
    (1..=word.len()).any(|length| word.is_char_boundary(length) && fits(rest, &word[length..]))
}

/// The alarms that tests see raised.
fn raised() -> Vec<String> {
    let mut raised = Vec::new();
    for text in TESTS.map(read) {
        for quoted in text.split('"') {
            let words = ["warning ", "critical ", "attention ", "raised "].iter();
            raised.extend(words.filter_map(|word| quoted.strip_prefix(word)).map(str::to_owned));
        }
        let told = text.match_indices("\", \"raised\"").filter_map(|(at, _)| text[..at].rsplit_once('"'));
        raised.extend(told.map(|(_, key)| key.to_owned()));
    }
    raised
}

#[test]
fn each_alarm_is_raised_by_a_test() {
    let (raised, mut findings, mut found) = (raised(), Findings::default(), 0);
    for source in sources("src/").filter(|source| ["report", "notify"].contains(&source.room())) {
        // Words are blanked in what is shipped, so the key itself is read from the text.
        for (at, before) in BEFORE.iter().flat_map(|before| source.shipped.match_indices(before)) {
            let Some(key) = key_at(&source.text[at + before.len()..]) else { continue };
            // The ends of a job's keys.
            let key = if before == "attention(" { format!("job.{{}}.{key}") } else { key.to_owned() };
            if !key.contains('.') || NONE.iter().any(|(none, _)| *none == key) {
                continue;
            }
            found += 1;
            if !raised.iter().any(|word| fits(&key, word)) {
                findings.add(&source.path, line_of(&source.text, at), format!("no test raises {key}"));
            }
        }
    }
    assert!(found >= 20, "only {found} keys were found");
    findings.none("each alarm fires in a test on its fault");
}

#[test]
fn a_key_fits_what_it_stands_for() {
    for (key, word, expected) in [
        ("point.late", "point.late", true),
        ("point.late", "point.late.bucket.a", false),
        ("point.late.{}", "point.late", false),
        ("point.late.{}", "point.late.bucket.a", true),
        ("site.{site}.{}.faults", "site.fra.bucket.a.faults", true),
        ("site.{site}.{}.faults", "site.fra.silent", false),
    ] {
        assert_eq!(fits(key, word), expected, "{key} {word}");
    }
}
