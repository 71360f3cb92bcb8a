//! What is told: a message with one notice or more, in each form that a sink takes. Pure.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::report::alarms::Severity;
use crate::report::text::instant;

/// The format of a message as JSON.
const FORMAT: u32 = 1;

/// What has become of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was raised.
    Raised,
    /// It still stands.
    Repeated,
    /// It is over.
    Recovered,
    /// It is none: somebody tries whether this arrives.
    Test,
}

/// One alarm and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its name, the same from message to message.
    pub key: String,
    /// What has become of it.
    pub change: Change,
    /// How bad it is.
    pub severity: Severity,
    /// What is, or was, the matter.
    pub what: String,
    /// What to do about it.
    pub next: String,
    /// Since when it stands.
    pub since: Timestamp,
    /// Until when it stood, if it is over.
    pub until: Option<Timestamp>,
}

/// What a sink is told at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    format: u32,
    kind: &'static str,
    /// The system.
    pub system: String,
    /// The site that tells.
    pub site: String,
    /// When.
    pub at: Timestamp,
    /// What; the worst first.
    pub notices: Vec<Notice>,
}

impl Message {
    /// A message of `site`, the worst first, what is over last.
    pub fn new(system: &str, site: &str, at: Timestamp, mut notices: Vec<Notice>) -> Self {
        notices.sort_by_key(|notice| (notice.change == Change::Recovered, std::cmp::Reverse(notice.severity)));
        Message { format: FORMAT, kind: "notices", system: system.to_owned(), site: site.to_owned(), at, notices }
    }

    /// One that says that it is none.
    pub fn test(system: &str, site: &str, at: Timestamp) -> Self {
        let notice = Notice {
            key: "notify.test".to_owned(),
            change: Change::Test,
            severity: Severity::Warning,
            what: "a test of this sink: nothing is wrong".to_owned(),
            next: "Nothing is to be done.".to_owned(),
            since: at,
            until: None,
        };
        Message::new(system, site, at, vec![notice])
    }

    /// One line.
    pub fn subject(&self) -> String {
        let (first, more) = match self.notices.split_first() {
            None => return format!("[{} {}] nothing", self.system, self.site),
            Some((first, more)) => (first, more.len()),
        };
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        format!("[{} {}] {}{more}", self.system, self.site, first.line())
    }

    /// Lines for a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}, seen from {} at {}\n", self.system, self.site, instant(self.at));
        for notice in &self.notices {
            text += &format!("\n{}\n", notice.line());
            match notice.until {
                Some(until) => text += &format!("  from {} to {}\n", instant(notice.since), instant(until)),
                None => {
                    text += &format!("  since {} ({})\n  next: {}\n", instant(notice.since), notice.key, notice.next)
                }
            }
        }
        text
    }

    /// What an incoming webhook of Slack takes, and those of others that take the same (Mattermost, Rocket.Chat).
    pub fn slack(&self) -> Value {
        // Slack's three control characters (docs: formatting text for app surfaces, escaping).
        let text = self.text().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        json!({ "text": text })
    }
}

impl Notice {
    fn line(&self) -> String {
        let word = match (self.change, self.severity) {
            (Change::Recovered, _) => "OVER",
            (Change::Test, _) => "TEST",
            (_, Severity::Critical) => "CRITICAL",
            (_, Severity::Warning) => "WARNING",
        };
        let still = if self.change == Change::Repeated { "still: " } else { "" };
        format!("{word}: {still}{}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(key: &str, change: Change, severity: Severity) -> Notice {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = (change == Change::Recovered).then(|| at("2026-11-22T03:30:00Z"));
        let (what, next) = (format!("{key} <broke> & burns"), "Mend it.".to_owned());
        Notice { key: key.to_owned(), change, severity, what, next, since: at("2026-11-22T03:00:00Z"), until }
    }

    #[test]
    fn a_message_as_a_person_reads_it() {
        let notices = vec![
            notice("old", Change::Recovered, Severity::Critical),
            notice("job", Change::Raised, Severity::Warning),
            notice("point", Change::Repeated, Severity::Critical),
        ];
        let message = Message::new("app", "fra", "2026-11-22T04:00:00.5Z".parse().unwrap(), notices);
        assert_eq!(message.subject(), "[app fra] CRITICAL: still: point <broke> & burns (and 2 more)");
        assert_eq!(
            message.text(),
            "app, seen from fra at 2026-11-22T04:00:01Z\n\n\
             CRITICAL: still: point <broke> & burns\n  since 2026-11-22T03:00:00Z (point)\n  next: Mend it.\n\n\
             WARNING: job <broke> & burns\n  since 2026-11-22T03:00:00Z (job)\n  next: Mend it.\n\n\
             OVER: old <broke> & burns\n  from 2026-11-22T03:00:00Z to 2026-11-22T03:30:00Z\n"
        );
        assert!(message.slack()["text"].as_str().unwrap().contains("job &lt;broke&gt; &amp; burns"));
    }
}
