//! What the daemons of two sites have told: a sink that writes each message into a file of the site that tells.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::sites::Sites;

const PATIENCE: Duration = Duration::from_secs(120);

/// The sink, as it stands in the configuration; its program lies in the sites' folder.
pub fn sink(folder: &Path) -> String {
    let (script, told) = (folder.join("tell"), folder.join("told"));
    // One configuration for both sites: the message says who tells.
    let site = "$(echo \"$message\" | sed 's/.*\"site\":\"\\([a-z]*\\)\".*/\\1/')";
    let text = format!("#!/bin/sh\nmessage=$(cat)\necho \"$message\" >>{}-{site}\n", told.display());
    fs::write(&script, text).unwrap();
    format!("[notify.file]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"{}\"]\n", script.display())
}

/// What a site has told: key and what has become of it, in order.
pub fn told(sites: &Sites, site: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(sites.path().join(format!("told-{site}"))).unwrap_or_default();
    let messages = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let notices = messages.flat_map(|message| message["notices"].as_array().unwrap().clone());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    notices.map(|notice| (word(&notice["key"]), word(&notice["change"]))).collect()
}

/// What has become of one alarm, in order.
pub fn of(sites: &Sites, site: &str, key: &str) -> Vec<String> {
    told(sites, site).into_iter().filter(|(told, _)| told == key).map(|(_, change)| change).collect()
}

/// Waits until `site` has told that, after so many other notices.
pub fn until_told_after(sites: &Sites, site: &str, known: usize, key: &str, change: &str) {
    let begun = Instant::now();
    let notice = (key.to_owned(), change.to_owned());
    while !told(sites, site).iter().skip(known).any(|told| *told == notice) {
        let log = || fs::read_to_string(sites.path().join(format!("{site}.log"))).unwrap_or_default();
        assert!(begun.elapsed() < PATIENCE, "{site} never told {notice:?}: {:?}\n{}", told(sites, site), log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `site` has told that.
pub fn until_told(sites: &Sites, site: &str, key: &str, change: &str) {
    until_told_after(sites, site, 0, key, change);
}

/// The alarms that a site has told of, each with how often; every one was told once each time it was raised, and recalled once.
pub fn told_and_recalled(sites: &Sites, site: &str) -> Vec<(String, usize)> {
    let mut keys: Vec<String> = told(sites, site).into_iter().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let count = |key: String| {
        let changes = of(sites, site, &key);
        let expected: Vec<&str> = ["raised", "recovered"].into_iter().cycle().take(changes.len()).collect();
        assert_eq!(changes, expected, "{key} at {site}");
        assert!(changes.len().is_multiple_of(2), "{key} at {site} stands still: {changes:?}");
        (key, changes.len() / 2)
    };
    keys.into_iter().map(count).collect()
}
